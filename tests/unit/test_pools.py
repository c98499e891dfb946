"""Which pools there are: the tables of pool.toml, and one per activity without a table."""

import pytest

from wf.errors import ConfigError
from wf.settings import load
from wf.settings.pools import fingerprints, pools_for


@pytest.fixture
def settings(tmp_path):
    def loaded(text: str):
        path = tmp_path / "pool.toml"
        path.write_text(text + "\n[builtin.http]\nenabled = false")
        return load(path, environ={})

    return loaded


def problems(settings, found) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        pools_for(settings, found)
    return caught.value.problems


def test_tables_come_first_then_a_default_pool_per_activity(settings):
    given = settings('[workers.mail]\nactivities = ["send_sms", "send_mail"]\nprocesses = 3')
    found = [("send_mail", "m.py"), ("send_sms", "s.py"), ("b", "x.py"), ("a", "x.py")]
    mail, a, b = pools_for(given, found)
    assert (mail.name, mail.activities) == ("mail", ("send_mail", "send_sms"))
    assert mail.modules == ("m.py", "s.py")
    assert mail.settings.processes == 3
    assert (a.name, a.activities, a.modules) == ("a", ("a",), ("x.py",))
    assert b.settings is given.worker_defaults


def test_a_table_without_activities_is_for_the_activity_of_its_name(settings):
    (pool,) = pools_for(settings("[workers.charge]\nprocesses = 4"), [("charge", "c.py")])
    assert pool.activities == ("charge",)
    assert pool.settings.processes == 4


def test_no_activities_and_no_tables_make_no_pools(settings):
    assert pools_for(settings(""), []) == []


def test_a_table_for_an_activity_that_nothing_provides_lists_what_was_found(settings):
    (problem,) = problems(settings("[workers.chrage]"), [("charge", "a.py"), ("mail", "b.py")])
    assert "workers.chrage: no module in" in problem
    assert "did you mean `charge`?" in problem
    assert "Found: charge (a.py), mail (b.py)" in problem


def test_an_empty_directory_is_named_as_such(settings):
    (problem,) = problems(settings("[workers.charge]"), [])
    assert "no activity at all" in problem


def test_two_modules_that_provide_one_activity_are_both_named(settings):
    (problem,) = problems(settings(""), [("charge", "b.py"), ("charge", "a.py")])
    assert "activity `charge` is provided by a.py and by b.py" in problem


def test_one_module_found_twice_is_no_conflict(settings):
    assert len(pools_for(settings(""), [("charge", "a.py"), ("charge", "a.py")])) == 1


def test_an_activity_whose_pool_name_is_taken_is_an_error(settings):
    given = settings('[workers.mail]\nactivities = ["send"]')
    (problem,) = problems(given, [("send", "a.py"), ("mail", "b.py")])
    assert "add it to the pool's activities, or rename the table" in problem


def test_every_problem_is_reported_at_once(settings):
    given = settings("[workers.absent]")
    assert len(problems(given, [("a", "1.py"), ("a", "2.py"), ("b c", "1.py")])) == 3


@pytest.fixture
def with_http(tmp_path):
    def loaded(text: str):
        path = tmp_path / "pool.toml"
        path.write_text(text or "[supervisor]")  # an empty file is refused
        return load(path, environ={})

    return loaded


def test_built_in_calls_have_a_pool_of_their_own(with_http):
    (pool,) = pools_for(with_http(""), [])
    assert (pool.name, pool.modules) == ("wf-http", ("wf.builtin.http_calls",))
    assert "wf-http" in pool.activities
    assert pool.settings.processes == 1


def test_a_table_scales_the_pool_of_built_in_calls(with_http):
    (pool,) = pools_for(with_http("[workers.wf-http]\nprocesses = 3"), [])
    assert pool.settings.processes == 3
    assert "wf-http" in pool.activities


def test_a_table_for_a_built_in_call_that_is_switched_off_says_how_to_switch_it_on(settings):
    (problem,) = problems(settings("[workers.wf-http]"), [])
    assert "enabled = true in [builtin.http]" in problem


def test_names_of_built_in_activities_are_taken(settings):
    (problem,) = problems(settings(""), [("wf-mine", "mine.py")])
    assert "mine.py" in problem
    assert "give it another" in problem


def test_workers_of_built_in_calls_are_replaced_when_their_settings_change(with_http):
    def prints(text):
        return fingerprints(with_http(text))["wf.builtin.http_calls"]

    assert prints("") == prints("[workers]\nprocesses = 2")
    assert prints("") != prints("[builtin.http]\nmax_response = '1MiB'")
    assert prints("") != prints("[secrets]\ndir = 'other'")
