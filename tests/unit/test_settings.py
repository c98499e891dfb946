"""Settings: sources and their strength, units, and errors that name the place and the remedy."""

from pathlib import Path

import pytest

from wf.errors import ConfigError
from wf.settings import NatsSettings, PoolSettings, find_config, load

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "pool.toml"
        path.write_text(text)
        return path

    return written


def problems(path: Path | None, overrides=None, environ=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides, environ or {})
    return caught.value.problems


def only_problem(path: Path | None, overrides=None, environ=None) -> str:
    found = problems(path, overrides, environ)
    assert len(found) == 1, found
    return found[0]


# Sources


def test_a_table_without_a_key_gives_the_defaults(write):
    settings = load(write("[supervisor]"), environ={})
    assert settings.worker_defaults == PoolSettings()
    assert settings.nats.embedded
    assert settings.orchestrator.batch == 500
    assert settings.pools == {}


NOT_WRITTEN = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\t\n", "is empty"),
    "comments": (b"# [supervisor]\n# name = 'x'\n", "holds only comments"),
    "a mark alone": (b"\xef\xbb\xbf", "is empty"),
    "cut in a key": (b"[nats]\npo", "not valid TOML"),
    "cut in a header": (b"[supervisor]\nname = 'x'\n[wor", "not valid TOML"),
    "cut in a character": ("name = 'é".encode()[:-1], "not UTF-8 text (byte 8)"),
    "zeros": (b"\0" * 512, "holds NUL bytes (byte 0)"),
    "zeros at the end": (b"[nats]\nport = 1\n" + b"\0" * 9, "holds NUL bytes (byte 16)"),
    "latin-1": (b"[supervisor]\nname = 'caf\xe9'\n", "save it as UTF-8"),
    "utf-16": ("[nats]\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
    "utf-16 without a mark": ("[nats]\n".encode("utf-16-le"), "holds NUL bytes"),
}


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_what_was_written_in_part_or_not_at_all_is_refused(name, write):
    content, why = NOT_WRITTEN[name]
    path = write("")
    path.write_bytes(content)
    assert why in only_problem(path)


def test_a_directory_is_no_file(tmp_path):
    assert "cannot be read: Is a directory" in only_problem(tmp_path)


def test_a_byte_order_mark_is_passed_over(write):
    path = write("")
    path.write_bytes(b"\xef\xbb\xbf[supervisor]\r\nname = 'windows'\r\n")
    assert load(path, environ={}).supervisor.name == "windows"


def test_without_a_file_paths_start_at_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(None, environ={}).activities_dir == tmp_path / "activities"


def test_the_environment_beats_the_file_and_the_command_line_beats_both(write):
    path = write("[nats]\nport = 1111\n[supervisor]\nname = 'file'\ngrace = 1")
    environ = {"WF_NATS__PORT": "2222", "WF_SUPERVISOR__NAME": "environment"}
    settings = load(path, {"nats.port": 3333}, environ)
    assert settings.nats.port == 3333
    assert settings.supervisor.name == "environment"
    assert settings.supervisor.grace == 1.0


def test_an_unset_option_or_an_empty_variable_changes_nothing(write):
    path = write("[nats]\nport = 1111")
    settings = load(path, {"nats.port": None, "supervisor": {"name": None}}, {"WF_NATS__PORT": ""})
    assert settings.nats.port == 1111
    assert settings.supervisor.name == "wf"


def test_the_command_line_may_nest_its_keys(write):
    settings = load(write("[supervisor]"), {"orchestrator": {"limits": {"jumps": 7}}}, {})
    assert settings.orchestrator.limits.jumps == 7


def test_the_environment_reaches_defaults_pools_and_deep_tables(write):
    path = write("[workers.Charge-Card]\nprocesses = 4")
    settings = load(
        path,
        environ={
            "WF_WORKERS__PROCESSES": "3",
            "WF_WORKERS__CHARGE_CARD__TIMEOUT": "9s",
            "WF_WORKERS__MAIL__ACTIVITIES": "send_mail, send_sms",
            "WF_WORKERS__RETRY__MAX_ATTEMPTS": "5",
            "WF_ORCHESTRATOR__LIMITS__SNAPSHOT": "1MiB",
            "WF_ACTIVITIES_DIR": "plugins",
        },
    )
    assert settings.worker_defaults.processes == 3
    assert settings.pool("Charge-Card").timeout == 9.0
    assert settings.pool("Charge-Card").processes == 4
    assert settings.pool("mail").activities == ["send_mail", "send_sms"]
    assert settings.pool("mail").retry.max_attempts == 5
    assert settings.orchestrator.limits.snapshot == 1024**2
    assert settings.activities_dir == path.parent / "plugins"


def test_a_list_in_the_environment_is_json_or_parted_by_commas(write):
    path = write("[supervisor]")
    for text in ('["nats://a:1", "nats://b:2"]', "nats://a:1,nats://b:2"):
        settings = load(path, environ={"WF_NATS__SERVERS": text})
        assert settings.nats.servers == ["nats://a:1", "nats://b:2"]


def test_wf_config_and_variables_of_others_are_no_settings(write):
    load(write("[supervisor]"), environ={"WF_CONFIG": "x", "WF_BENCHMARK": "1", "PATH": "/bin"})


# Pools


def test_a_pool_inherits_the_defaults_key_by_key(write):
    settings = load(
        write(
            """
            [workers]
            processes = 2
            ack_wait = "1m"
            [workers.retry]
            max_attempts = 4
            delay = "2s"
            [workers.mail]
            activities = ["send_mail"]
            processes = 8
            retry = { delay = "5s" }
            """
        ),
        environ={},
    )
    mail = settings.pool("mail")
    assert (mail.processes, mail.ack_wait) == (8, 60.0)
    assert (mail.retry.max_attempts, mail.retry.delay) == (4, 5.0)
    assert settings.worker_defaults.retry.delay == 2.0


def test_settings_know_what_a_pools_own_table_states(write):
    settings = load(write("[workers]\ntimeout = 9\n[workers.mail]\nprocesses = 8"), environ={})
    assert settings.states("mail", "processes")
    assert not settings.states("mail", "timeout")
    assert not settings.states("other", "processes")
    assert settings.pools["mail"].model_fields_set == {"processes"}
    assert settings.worker_defaults.model_fields_set == {"timeout"}


def test_an_activity_without_a_table_gets_the_defaults(write):
    settings = load(write("[workers]\nconcurrency = 3"), environ={})
    assert settings.pool("anything") is settings.worker_defaults


def test_a_pool_cannot_be_named_retry(write):
    problem = only_problem(write("[workers.retry]\nprocesses = 4"))
    assert "default retry policy" in problem
    assert 'activities = ["retry"]' in problem


def test_a_pool_cannot_be_named_like_a_key(write):
    problem = only_problem(write("[workers.timeout]\nprocesses = 4"))
    assert "a pool cannot be named `timeout`" in problem


def test_activities_belong_in_the_table_of_a_pool(write):
    problem = only_problem(write('[workers]\nactivities = ["a"]'))
    assert "`activities` belongs in the table of a pool" in problem


def test_one_activity_in_two_pools_is_an_error_that_names_both(write):
    problem = only_problem(
        write('[workers.mail]\nactivities = ["send"]\n[workers.sms]\nactivities = ["send"]')
    )
    assert "[workers.mail]" in problem
    assert "[workers.sms]" in problem


def test_a_pools_own_name_counts_as_its_activity(write):
    problem = only_problem(write('[workers.mail]\nactivities = ["send"]\n[workers.send]'))
    assert "activity `send` is in two pools" in problem


def test_an_activity_listed_twice_is_an_error(write):
    assert "listed twice" in only_problem(write('[workers.mail]\nactivities = ["a", "a"]'))


@pytest.mark.parametrize("name", ["send.mail", "send mail", "é", "x" * 65])
def test_pool_and_activity_names_follow_the_wire_protocol(write, name):
    assert "not a valid pool name" in only_problem(write(f'[workers."{name}"]'))
    problem = only_problem(write(f'[workers.mail]\nactivities = ["{name}"]'))
    assert "not a valid name: use 1 to 64 characters" in problem


# Paths


def test_relative_paths_start_at_the_file(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    path = folder / "pool.toml"
    path.write_text(
        'activities_dir = "../activities"\n[supervisor]\nstate_dir = "../.state"\n'
        '[nats]\nstore_dir = "/srv/store"'
    )
    settings = load(path, environ={})
    assert settings.path == path
    assert settings.activities_dir == tmp_path / "activities"
    assert settings.workflows_dir == folder / "workflows"
    assert settings.supervisor.state_dir == tmp_path / ".state"
    assert settings.nats.store_dir == Path("/srv/store")


def test_the_store_is_in_the_state_directory_unless_stated(write, tmp_path):
    settings = load(write('[supervisor]\nstate_dir = "here"'), environ={})
    assert settings.nats.store_dir == tmp_path / "here" / "jetstream"


def test_a_path_of_the_command_line_starts_at_the_current_directory(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = load(write("[supervisor]"), {"activities_dir": Path("mine")}, {})
    assert settings.activities_dir == elsewhere / "mine"


def test_every_path_is_absolute_even_when_the_file_is_named_relatively(write, monkeypatch):
    path = write("[supervisor]")
    monkeypatch.chdir(path.parent)
    settings = load(Path("pool.toml"), environ={})
    assert settings.path == path
    assert settings.workflows_dir.is_absolute()
    assert settings.supervisor.state_dir.is_absolute()


# Errors


def test_every_error_is_reported_at_once_with_file_line_and_key(write):
    path = write(
        """activties_dir = "x"
[supervisor]
grace = "30 parsecs"
[nats]
port = 99999
[workers]
proceses = 4
[workers.mail]
concurency = 4
[orchestrator]
completed_ttl = "1m"
"""
    )
    found = problems(path, environ={"WF_NATS__REPLICAS": "9"})
    for expected in (
        f"{path}:1: activties_dir: unknown key; did you mean `activities_dir`?",
        f"{path}:3: supervisor.grace: expected a duration",
        f"{path}:5: nats.port: must be at most 65535; found 99999",
        f"{path}:7: workers.proceses: unknown key; did you mean `processes`? Allowed in [workers]:",
        f"{path}:9: workers.mail.concurency: unknown key; did you mean `concurrency`?",
        f"{path}:11: orchestrator.completed_ttl: must be at least 1h",
        "environment WF_NATS__REPLICAS: nats.replicas: must be at most 5; found '9'",
    ):
        assert any(problem.startswith(expected) for problem in found), (expected, found)
    assert len(found) == 7


def test_a_wrong_default_is_reported_once_however_many_pools_inherit_it(write):
    path = write("[workers]\nprocesses = -1\n[workers.a]\n[workers.b]\n[workers.c]\nprocesses = -2")
    found = problems(path)
    assert [problem.split(": ")[1] for problem in found] == [
        "workers.processes",
        "workers.c.processes",
    ]


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one(write):
    assert "it belongs in [supervisor]" in only_problem(write('[nats]\nlog_level = "INFO"'))


def test_an_unknown_key_lists_what_is_allowed(write):
    problem = only_problem(write("[nats]\nzzz = 1"))
    assert "Allowed in [nats]: embedded, store_dir, port" in problem


def test_an_unknown_key_in_a_nested_table_is_found(write):
    problem = only_problem(write("[workers.mail]\nretry = { atempts = 3 }"))
    assert "workers.mail.retry.atempts" in problem
    assert "[workers.mail.retry]" in problem


def test_a_syntax_error_has_its_line(write):
    path = write("[nats]\nport = = 3")
    assert only_problem(path).startswith(f"{path}:2: not valid TOML (column 8)")


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    path = tmp_path / "pool.toml"
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in only_problem(path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    assert "cannot be read" in only_problem(tmp_path / "absent.toml")


def test_a_value_where_a_table_belongs_is_an_error(write):
    assert "workers: expected a table; found 3" in only_problem(write("workers = 3"))
    assert "nats: expected a table; found 'x'" in only_problem(write("nats = 'x'"))


def test_a_variable_with_one_underscore_gets_the_right_name(write):
    problem = only_problem(write("[supervisor]"), environ={"WF_NATS_PORT": "1"})
    assert problem.startswith("environment WF_NATS_PORT:")
    assert "`WF_NATS__PORT`" in problem


def test_an_unknown_variable_of_a_section_is_an_error(write):
    problem = only_problem(write("[supervisor]"), environ={"WF_NATS__PROT": "1"})
    assert problem.startswith("environment WF_NATS__PROT: nats.prot: unknown key;")
    assert "did you mean `port`?" in problem


def test_a_wrong_option_names_the_command_line(write):
    problem = only_problem(write("[nats]\nport = 1"), {"nats.port": "many"}, {})
    assert problem == "command line: nats.port: expected a whole number; found 'many'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[workers]\nprocesses = true",
            "expected a whole number, or { min = 1, max = 8 }; found true",
        ),
        (
            "[workers]\nprocesses = 1.5",
            "expected a whole number, or { min = 1, max = 8 }; found 1.5",
        ),
        (
            "[workers]\nprocesses = 'many'",
            "expected a whole number, or { min = 1, max = 8 }; found 'many'",
        ),
        ("[workers]\nprocesses = { min = 1 }", "max is missing"),
        ("[workers]\nprocesses = { min = 1, most = 8 }", "found `most`"),
        ("[workers]\nprocesses = { min = 9, max = 8 }", "min must not be above max"),
        ("[workers]\nprocesses = { max = 0 }", "max at least 1"),
        ("[workers]\nprocesses = { max = 2000 }", "must be at most 1024"),
        ("[workers]\nprefetch = 'much'", 'expected "auto" or a whole number'),
        ("[workers]\nprefetch = -1", 'expected "auto" or a whole number'),
        ("[workers]\ntimeout = true", "expected a duration"),
        ("[workers]\ntimeout = 0", "must be above 0"),
        ("[workers]\nmax_deliver = 1", "must be at least 2"),
        ("[workers]\nmax_memory = '512M'", "expected a size"),
        ("[workers]\nretry = { jitter = 2 }", "must be at most 1"),
        ("[workers]\nretry = { backoff = 'fibonacci' }", "expected one of 'constant', 'linear'"),
        ("[workers.mail]\nactivities = [1]", "not a valid name"),
        ("[supervisor]\nlog_format = 'xml'", "expected one of 'text' or 'json'"),
        ("[supervisor]\nname = 'a.b'", "not a valid name"),
        ("[supervisor]\nstate_dir = 3", "expected a path"),
        ("[orchestrator]\nprocesses = 17", "must be at most 16"),
        ("[orchestrator]\nbatch = 1001", "must be at most 1000"),
        ("[orchestrator.limits]\nsnapshot = '9MB'", "must be at most 8000000"),
        ("[nats]\nembedded = 'perhaps'", "expected true or false"),
        ("[nats]\nsync = 'never'", "expected one of 'always' or 'interval'"),
        ("[nats]\nservers = 3", "expected a list"),
    ],
)
def test_a_wrong_value_is_explained_in_plain_words(write, text, expected):
    assert expected in only_problem(write(text))


def test_levels_may_be_written_small(write):
    settings = load(write("[supervisor]\nlog_level = 'debug'"), environ={})
    assert settings.supervisor.log_level == "DEBUG"


# Rules between settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[nats]\nembedded = true\nservers = ['nats://h']", "exclude each other"),
        ("[nats]\nembedded = false", "embedded = false needs servers"),
        ("[nats]\nservers = ['http://h']", "is not a server's address"),
        ("[nats]\nservers = ['nats://h:99999']", "is not a server's address"),
        ("[nats]\nservers = ['nats://h']\nuser = 'u'", "nats.user: needs password"),
        ("[nats]\nservers = ['nats://h']\npassword = 'p'", "nats.password: needs user"),
        ("[nats]\nreplicas = 3", "holds 1 replica; found 3"),
        ("[nats]\nnkey = 'x'", "only for servers"),
        ("[nats]\nservers = ['h']\ntls_ca = 'absent.pem'", "there is no readable file at /"),
        ("[orchestrator]\ncompleted_ttl = '59m'", "at least 1h"),
        ("[orchestrator]\ncompleted_ttl = '2d'\nfaulted_ttl = '1d'", "at least completed_ttl (2d)"),
        ("[orchestrator]\nhistory_max_age = '29d'", "as long as the snapshots stay (30d)"),
        ("[workers]\nmax_ack_pending = 9", "processes × concurrency = 10"),
        ("[workers]\nretry = { delay = '2m' }", "must be at least delay (2m); found 1m"),
        ("[workers]\nretry = { max_delay = '2d' }", "orchestrator.limits.retry_delay (1d)"),
        (
            "[workers.slow]\nack_wait = '7m'\n[orchestrator]\ncompleted_ttl = '1h'",
            "at least 10 × workers.slow.ack_wait (1h10m); found 1h",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(write, text, expected):
    assert expected in only_problem(write(text))


def test_servers_alone_turn_the_embedded_broker_off(write):
    assert not load(write("[nats]\nservers = ['nats://h:4222']"), environ={}).nats.embedded


def test_two_ways_to_log_in_are_refused(write, tmp_path):
    for name in ("a.creds", "b.nk"):
        (tmp_path / name).write_text("x")
    path = write("[nats]\nservers = ['h']\ncredentials = 'a.creds'\nnkey = 'b.nk'")
    assert "choose one way to log in; found credentials and nkey" in only_problem(path)


def test_this_host_may_run_only_workers(write):
    assert load(write("[orchestrator]\nprocesses = 0"), environ={}).orchestrator.processes == 0


# Secrets


def test_a_password_is_shown_nowhere(write):
    path = write("[nats]\nservers = ['h']\nuser = 'u'")
    settings = load(path, environ={"WF_NATS__PASSWORD": "hunter2"})
    assert settings.nats.password == "hunter2"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.nats)
    assert "hunter2" not in repr(NatsSettings(password="hunter2"))


def test_a_wrong_password_is_not_repeated(write):
    assert "4711" not in only_problem(write("[nats]\nservers = ['h']\nuser='u'\npassword = 4711"))


def test_an_address_with_a_password_is_refused_without_repeating_it(write):
    for address in ("nats://u:hunter2@h", "nats://hunter2@h"):
        problem = only_problem(write(f"[nats]\nservers = ['{address}']"))
        assert "must not hold a password or token" in problem
        assert "hunter2" not in problem


# Finding the file


def test_the_argument_beats_wf_config_which_beats_the_usual_places(tmp_path):
    for name in ("a.toml", "b.toml", "pool.toml"):
        (tmp_path / name).touch()
    environ = {"WF_CONFIG": str(tmp_path / "b.toml")}
    assert find_config("a.toml", environ, tmp_path).name == "a.toml"
    assert find_config(None, environ, tmp_path).name == "b.toml"
    assert find_config(None, {}, tmp_path).name == "pool.toml"


def test_config_pool_toml_is_found_below_the_current_directory(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pool.toml").touch()
    assert find_config(None, {}, tmp_path) == tmp_path / "config" / "pool.toml"


def test_a_named_file_that_is_absent_is_an_error_that_says_who_named_it(tmp_path):
    with pytest.raises(ConfigError, match="--config: there is no file absent"):
        find_config("absent", {}, tmp_path)
    with pytest.raises(ConfigError, match="WF_CONFIG: there is no file absent"):
        find_config(None, {"WF_CONFIG": "absent"}, tmp_path)
    with pytest.raises(ConfigError, match=r"is a directory: name the file, pool\.toml"):
        find_config(tmp_path, {}, tmp_path)


def test_the_error_lists_every_place_looked_at(tmp_path):
    if Path("/etc/wf-supervisor/pool.toml").exists():
        pytest.skip("this machine has a pool of its own")
    with pytest.raises(ConfigError) as caught:
        find_config(None, {}, tmp_path)
    for place in ("--config", "WF_CONFIG", "./pool.toml", "./config/pool.toml", "/etc/wf-superv"):
        assert place in str(caught.value)


# The file that comes with the project


def test_the_annotated_pool_toml_is_accepted():
    settings = load(PROJECT / "config" / "pool.toml", environ={})
    assert settings.activities_dir == PROJECT / "activities"
    assert settings.workflows_dir == PROJECT / "config" / "workflows"
    assert settings.supervisor.state_dir == PROJECT / ".state"
    assert (settings.pool("office").activities or [])[:2] == ["send_mail", "send_sms"]


def test_a_pool_may_have_a_range_of_processes(write):
    path = write("[workers]\nprocesses = { min = 0, max = 8 }\n[workers.mail]\nprocesses = 3")
    settings = load(path, environ={"WF_WORKERS__MAIL__PROCESSES__MAX": "4"})
    assert (settings.worker_defaults.fewest, settings.worker_defaults.most) == (0, 8)
    assert str(settings.pool("mail").processes) == "0 to 4"
    assert (load(path, environ={}).pool("mail").most) == 3
