"""Finding activities in module files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wf.authoring import module_probe
from wf.authoring.module_probe import conflicts, fingerprint, load, module_files, probe, scan
from wf.errors import ConfigError

GOOD = """
from wf import activity

@activity
def one() -> int:
    "Gives one."
    return 1

@activity(name="two-b", timeout="5s")
async def two() -> int:
    return 2

def helper(): ...
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_load_gives_the_marked_functions_of_a_module(tmp_path: Path) -> None:
    one, two = load(write(tmp_path, "good.py", GOOD))
    assert (one.name, one.is_async, one.doc, one.line) == ("one", False, "Gives one.", 4)
    assert (two.name, two.is_async, two.options.timeout_s) == ("two-b", True, 5.0)
    assert one.function() == 1


def test_a_helper_beside_the_module_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "shared_helper.py", GOOD.replace("one", "of_the_helper"))
    module = "from shared_helper import of_the_helper\n" + GOOD
    names = [d.name for d in load(write(tmp_path, "uses.py", module))]
    assert names == ["one", "two-b"], "imported activities belong to the other module"


def test_a_module_does_not_hide_the_standard_library(tmp_path: Path) -> None:
    write(tmp_path, "colorsys.py", "raise RuntimeError('hidden')")
    sys.modules.pop("colorsys", None)
    load(write(tmp_path, "uses.py", "import colorsys\ncolorsys.rgb_to_hsv\n" + GOOD))


def test_a_second_module_of_the_same_name_is_refused_and_both_are_named(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "same.py", GOOD.replace("one", f"one_{folder}"))
    load(tmp_path / "a" / "same.py")
    with pytest.raises(ConfigError, match=r"b/same\.py: `import same` means .*a/same\.py: rename"):
        load(tmp_path / "b" / "same.py")


def test_one_name_twice_in_a_module_is_refused_with_both_lines(tmp_path: Path) -> None:
    twice = GOOD + '\n@activity(name="one")\ndef again(): ...\n'
    with pytest.raises(ConfigError, match=r"twice\.py:4 and by .*twice\.py:15"):
        load(write(tmp_path, "twice.py", twice))


def test_all_unsupported_signatures_of_a_module_are_named(tmp_path: Path) -> None:
    text = "from wf import activity\n@activity\ndef a(x, /): ...\n@activity\ndef b(*y): ...\n"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "bad.py", text))
    assert len(caught.value.problems) == 2


def test_a_failing_import_leaves_no_module_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        load(write(tmp_path, "broken.py", "1 / 0"))
    assert "broken" not in set(sys.modules) - before


def test_scan_reads_names_without_importing(tmp_path: Path) -> None:
    text = """
import wf as workflows
from wf import activity as act, Retry
raise SystemExit("never imported")

@act
def plain(): ...

@act(retry=Retry(), name="named")
async def with_name(): ...

@workflows.activity(timeout=3)
def by_module(): ...

@other.activity
def not_ours(): ...
"""
    assert scan(write(tmp_path, "m.py", text)) == ["plain", "named", "by_module"]


def test_scan_of_what_cannot_be_parsed_gives_nothing(tmp_path: Path) -> None:
    assert scan(write(tmp_path, "bad.py", "def (")) == []
    assert scan(tmp_path / "missing.py") == []


def test_module_files_skips_hidden_and_private_ones(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "_helper.py", ".hidden.py", "notes.txt"):
        write(tmp_path, name, "")
    assert [p.name for p in module_files(tmp_path)] == ["a.py", "b.py"]


def test_probe_reports_good_and_bad_modules_and_outlives_them(tmp_path: Path) -> None:
    head = "from wf import activity\n@activity\ndef named_in_source(): ...\n"
    write(tmp_path, "crashes.py", head + "import os\nos.kill(os.getpid(), 9)")
    write(tmp_path, "exits.py", head + "import sys\nsys.exit(3)")
    write(tmp_path, "good.py", GOOD)
    write(tmp_path, "hangs.py", head + "import time\ntime.sleep(60)")
    write(tmp_path, "raises.py", head + "import no_such_module")
    crashes, exits, good, hangs, raises = probe(tmp_path, 2.0)
    assert (good.activities, good.error) == (("one", "two-b"), None)
    assert "SIGKILL" in str(crashes.error)
    assert "SystemExit: 3" in str(exits.error)
    assert "not done in 2 s" in str(hangs.error)
    assert [one.late for one in (crashes, exits, good, hangs, raises)] == [0, 0, 0, 1, 0]
    assert "No module named 'no_such_module'" in str(raises.error)
    for broken in (crashes, exits, hangs, raises):
        assert broken.activities == ("named_in_source",)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # everything is reaped


def test_imports_that_wait_keep_nobody_waiting_and_all_of_them_have_a_bound(
    tmp_path: Path,
) -> None:
    for number in range(13):
        write(tmp_path, f"a{number}.py", "import time\ntime.sleep(60)")
    write(tmp_path, "good.py", GOOD)
    begun = time.monotonic()
    *late, good = probe(tmp_path, 30.0, 4.0)
    assert time.monotonic() - begun < 10.0
    assert good.activities == ("one", "two-b")
    assert all(one.late for one in late)


def test_a_module_for_which_no_time_was_left_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_probe, "MOST", 1)
    write(tmp_path, "a.py", "import time\ntime.sleep(60)")
    write(tmp_path, "b.py", GOOD)
    first, second = probe(tmp_path, 0.3, 0.3)
    assert first.late
    assert second.late
    assert "not imported" in str(second.error)
    assert second.activities == ("one", "two-b")


def test_probe_is_not_held_up_by_processes_that_a_module_starts(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    text = (
        "import os, time\n"
        "pid = os.fork()\n"  # inherits the answer's pipe, unlike an executed program
        "if pid == 0:\n    time.sleep(60)\n    os._exit(0)\n"
        f"open({str(pid_file)!r}, 'w').write(str(pid))\n" + GOOD
    )
    (report,) = probe(write(tmp_path, "forks.py", text).parent, 10.0)
    assert report.error is None
    status = Path(f"/proc/{pid_file.read_text()}/status")
    limit = time.monotonic() + 10
    while status.exists() and "zombie" not in status.read_text():
        assert time.monotonic() < limit, "what the module started goes on"


def test_two_modules_with_one_name_are_a_conflict_that_names_both(tmp_path: Path) -> None:
    write(tmp_path, "a.py", GOOD)
    write(tmp_path, "b.py", GOOD.replace("two-b", "other"))
    (sentence,) = conflicts(probe(tmp_path, 10.0))
    assert "activity 'one' is provided by" in sentence
    assert "a.py and by" in sentence
    assert "b.py" in sentence


def test_the_fingerprint_follows_the_module_and_what_it_reads(tmp_path: Path) -> None:
    module = write(tmp_path, "m.py", GOOD)
    data, other = write(tmp_path, "rates.json", "1"), write(tmp_path, "other.py", "")
    read = [str(module), str(data)]
    first = fingerprint(module, read)
    other.write_text("x = 1")
    assert fingerprint(module, read) == first
    data.write_text("2")
    second = fingerprint(module, read)
    module.write_text(GOOD + "\n")
    assert len({first, second, fingerprint(module, read)}) == 3


def test_without_knowing_what_it_reads_the_helpers_beside_it_count(tmp_path: Path) -> None:
    module = write(tmp_path, "m.py", GOOD)
    first = fingerprint(module)
    write(tmp_path, "_helper.py", "x = 1")
    assert fingerprint(module) != first


def test_probe_tells_what_each_module_reads(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", "tax.py", "FACTOR = 1")
    write(tmp_path, "pricing.py", "RATE = 10")
    write(tmp_path, "rates.json", "[1]")
    write(tmp_path, "unused.json", "[1]")
    text = "import json, pathlib, pricing\nfrom lib import tax\n"
    text += "json.loads((pathlib.Path(__file__).parent / 'rates.json').read_text())\n" + GOOD
    write(tmp_path, "quote.py", text)
    write(tmp_path, "wrong.py", "import pricing\nimport rubbish\n" + GOOD.replace("one", "w"))
    write(tmp_path, "rubbish.py", "def (")
    found = {Path(report.path).name: report for report in probe(tmp_path, 20.0)}
    read = {name: [os.path.relpath(f, tmp_path) for f in found[name].files] for name in found}
    assert read["quote.py"] == ["lib/tax.py", "pricing.py", "quote.py", "rates.json"]
    assert read["wrong.py"] == ["pricing.py", "rubbish.py", "wrong.py"]
    assert read["pricing.py"] == ["pricing.py"]
