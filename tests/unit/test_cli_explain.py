"""`wf explain`: offline, readable, and JSON for programs."""

import json

import pytest

from wf.cli.main import main

FILE = """
document: {dsl: 1.0.3, namespace: default, name: pay, version: 1.0.0}
do:
  - charge: {call: charge_card, with: {amount: "${ .amount }"}, export: {as: "{paid: .}"}}
  - rest: {wait: PT1H}
  - tell: {if: .loud, call: mail}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pay.yaml"
    path.write_text(FILE)
    return str(path)


def test_every_task_is_shown_with_its_data(file, capsys):
    assert (
        main(["explain", file, "--input", '{"amount": 5}', "--stub", 'charge_card={"ok": 1}']) == 0
    )
    out = capsys.readouterr().out
    for line in ("pay 1.0.0", "charge  call  completed  /do/0/charge", '{"amount":5}', "skipped"):
        assert line in out
    assert "completed after 1h of its own time" in out


def test_json_for_programs_and_notes_beside_it(file, capsys):
    assert main(["explain", file, "--input", '{"amount": 5, "loud": true}', "--json"]) == 0
    printed = capsys.readouterr()
    shape = json.loads(printed.out)
    assert [task["name"] for task in shape["tasks"]] == ["charge", "rest", "tell"]
    assert "no stub for charge_card" in printed.err


def test_stubs_from_a_file_and_the_command_line_over_them(file, tmp_path, capsys):
    stubs = tmp_path / "stubs.yaml"
    stubs.write_text("charge_card: {$error: {status: 402, title: Declined}}\nmail: 1\n")
    assert main(["explain", file, "--stubs", str(stubs), "--input", '{"amount": 1}']) == 1
    assert "Declined" in capsys.readouterr().out
    more = ["--stub", "charge_card=2", "--json"]
    assert main(["explain", file, "--stubs", str(stubs), "--input", '{"amount": 1}', *more]) == 1
    assert json.loads(capsys.readouterr().out)["tasks"][0]["output"] == 2


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["--stub", "charge_card"], 2, "write NAME=JSON"),
        (["--stub", "charge_card={"], 2, "not JSON"),
        (["--stubs", "nowhere.yaml"], 2, "cannot read it"),
        (["--stub", 'charge_card={"$outputs": 1}'], 1, "/charge_card/$outputs"),
    ],
)
def test_what_cannot_be_read_says_what_to_type(file, arguments, status, complaint, capsys):
    assert main(["explain", file, *arguments]) == status
    assert complaint in capsys.readouterr().err


def test_a_definition_with_problems_is_refused_as_validate_does(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text(FILE.replace("wait:", "wiat:"))
    assert main(["explain", str(path)]) == 1
    assert 'did you mean "wait"?' in capsys.readouterr().err
