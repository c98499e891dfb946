"""Where secrets come from, and how they are taken out of what leaves a worker."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from wf.builtin.common.redaction import Mask
from wf.builtin.common.secrets import SecretUnusable, read


def put(directory: Path, name: str, text: str, mode: int = 0o600) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    (directory / name).chmod(mode)


def test_the_directory_comes_first_then_the_credentials_then_the_environment(
    tmp_path: Path,
) -> None:
    own, credentials = tmp_path / "own", tmp_path / "credentials"
    environ = {"WF_SECRET_API_KEY": "third"}
    assert read("api-key", None, environ) == "third"
    put(credentials, "api-key", "second\n")
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert read("api-key", None, environ) == "second"
    put(own, "api-key", "first\n")
    assert read("api-key", own, environ) == "first"


def test_an_object_is_read_as_one_and_what_only_looks_like_it_is_text(tmp_path: Path) -> None:
    put(tmp_path, "login", '{"username": "ada", "password": "p"}\n')
    put(tmp_path, "odd", "{not json")
    assert read("login", tmp_path, {}) == {"username": "ada", "password": "p"}
    assert read("odd", tmp_path, {}) == "{not json"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    put(tmp_path, "key", "value-of-it", mode)
    with pytest.raises(SecretUnusable, match="chmod 600") as caught:
        read("key", tmp_path, {})
    assert "value-of-it" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_files_as_systemd_makes_them_are_fine(tmp_path: Path, mode: int) -> None:
    put(tmp_path, "key", "value", mode)
    assert read("key", tmp_path, {}) == "value"


def test_a_name_never_leads_out_of_the_directory(tmp_path: Path) -> None:
    with pytest.raises(SecretUnusable, match="cannot name a secret"):
        read("../key", tmp_path, {})


def test_a_mask_hides_secrets_and_their_disguises() -> None:
    mask = Mask()
    mask.add({"password": 'a"b c/d', "pin": 123456, "short": "abc", "flag": True})
    coded = base64.b64encode(b'a"b c/d').decode()
    given = {"x": ['1 a"b c/d 2', coded, "a%22b%20c%2Fd", "a%22b+c%2Fd"], "pin 123456": "abc true"}
    assert mask.data(given) == {"x": ["1 *** 2", "***", "***", "***"], "pin ***": "abc true"}


def test_the_longer_of_two_secrets_is_hidden_whole() -> None:
    mask = Mask()
    mask.add(["token", "token-and-more"])
    assert mask.text("token-and-more token") == "*** ***"
