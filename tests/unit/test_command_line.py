"""Which program a `run: shell` starts: words as a shell reads them, and nothing that needs one."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.builtin.programs.command_line import (
    Program,
    Refused,
    environment,
    program,
    texts,
    words,
)

ALLOWED = ("/usr/bin/jq", "/bin/cat")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("jq -r .name", ["jq", "-r", ".name"]),
        ("  a   b ", ["a", "b"]),
        ("a 'b c' d", ["a", "b c", "d"]),
        ('a "b c" d', ["a", "b c", "d"]),
        ("a 'x|y;$z`*'", ["a", "x|y;$z`*"]),
        ('a "x|y;*"', ["a", "x|y;*"]),
        (r"a b\ c \$d", ["a", "b c", "$d"]),
        (r'a "b\"c\\d\n"', ["a", 'b"c\\d\\n']),
        ("a '' \"\"", ["a", "", ""]),
        ("a x'y'z", ["a", "xyz"]),
    ],
)
def test_words(command: str, found: list[str]) -> None:
    assert words(command) == found
    assert shlex.split(command) == found


@pytest.mark.parametrize(
    "command",
    [
        "cat a | sh",
        "cat; rm x",
        "cat & rm x",
        "cat > x",
        "cat < x",
        "cat $HOME",
        'cat "$HOME"',
        "cat `id`",
        'cat "`id`"',
        "cat $(id)",
        "cat *",
        "cat ~",
        "cat {a,b}",
        "cat\nrm x",
        "(cat)",
        "cat #x",
    ],
)
def test_what_needs_a_shell_is_refused_with_the_remedy(command: str) -> None:
    with pytest.raises(Refused, match="single quotes or into `arguments`"):
        program(command, (), ALLOWED)


@pytest.mark.parametrize(
    ("command", "words_of"), [("", "empty"), ("  ", "empty"), ("a 'b", "quote")]
)
def test_no_command_is_refused(command: str, words_of: str) -> None:
    with pytest.raises(Refused, match=words_of):
        words(command)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_whatever_is_quoted_comes_out_as_it_was(given_words: list[str]) -> None:
    assert words(shlex.join(given_words)) == given_words


@given(st.text(st.sampled_from("ab '\"\\|;&$`<>()\n*"), max_size=12))
def test_no_text_becomes_other_words_than_a_shell_makes_of_it(command: str) -> None:
    try:
        found = words(command)
    except Refused:
        return
    assert found == shlex.split(command)


def test_only_what_is_allowed_by_path_or_name() -> None:
    assert program("jq .", (), ALLOWED) == Program("/usr/bin/jq", (".",))
    assert program("/bin/cat", ("x; y",), ALLOWED) == Program("/bin/cat", ("x; y",))
    for other in ("rm", "/tmp/jq", "./jq", "../bin/cat", "/bin/../bin/cat", "JQ", "jq/"):
        with pytest.raises(Refused, match="not allowed on this host"):
            program(other, (), ALLOWED)


def test_where_all_is_allowed_a_shell_runs_it() -> None:
    found = program("cat | wc -l", ("x",), ("*",))
    assert found == Program("/bin/sh", ("-c", "cat | wc -l", "/bin/sh", "x"))


def test_arguments_are_texts_and_numbers() -> None:
    assert texts(["a", 1, 1.5, True]) == ("a", "1", "1.5", "true")
    for wrong in ([None], [{}], [[]], ["a\0b"], "a", {"a": 1}):
        with pytest.raises(Refused):
            texts(wrong)


def test_the_environment_gives_no_way_around_the_list() -> None:
    given = {"FIRST_NAME": "Ann", "N": 1}
    assert environment(given, ("N", "FIRST_NAME")) == {"FIRST_NAME": "Ann", "N": "1"}
    for name in ("LD_PRELOAD", "TAR_OPTIONS", "PATH", "FIRST_NAME"):
        with pytest.raises(Refused, match=r"\[builtin.shell\] environment"):
            environment({name: "x"}, ("N",))
        assert environment({name: "x"}, None)
    for name in ("a=b", "a b", "", "1a"):
        with pytest.raises(Refused, match="cannot name a variable"):
            environment({name: "x"}, None)


def test_a_command_is_a_text_without_nul() -> None:
    assert program(5, (), ("/bin/5",)) == Program("/bin/5", ())
    for wrong in (None, {}, ["cat"], "cat\0 x"):
        with pytest.raises(Refused, match="the command"):
            program(wrong, (), ("*",))
