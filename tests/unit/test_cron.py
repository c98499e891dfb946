"""Cron expressions: what they mean, when they fire, and what is wrong with a bad one."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wf.protocol.cron import CronError, parse


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(text, after, count=3, zone=UTC):
    cron, moment, found = parse(text), at(after), []
    for _ in range(count):
        moment = cron.next_after(moment, zone)
        found.append(moment.strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("30 2 * * *", "0 30 2 * * *"),
        ("*/20 * * * * *", "0,20,40 * * * * *"),
        ("0 9-17/4 ? * MON-FRI", "0 0 9,13,17 * * 1,2,3,4,5"),
        ("0 0 1 jan,JUL *", "0 0 0 1 1,7 *"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * 0-7", "0 0 0 * * *"),
        ("50/5 * * * *", "0 50,55 * * * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("@hourly", "0 0 * * * *"),
    ],
)
def test_all_forms_come_down_to_six_fields_of_numbers(text, numbers):
    assert str(parse(text)) == numbers
    assert parse(numbers) == parse(text)


def test_it_fires_at_the_next_times():
    assert fires("30 2 * * *", "2026-03-01T02:30:00") == [
        "2026-03-02 02:30:00",
        "2026-03-03 02:30:00",
        "2026-03-04 02:30:00",
    ]
    assert fires("0 12 29 2 *", "2024-03-01T00:00:00", 1) == ["2028-02-29 12:00:00"]


def test_either_of_two_restricted_days_counts():
    assert fires("0 0 13 * FRI", "2026-02-01T00:00:00") == [
        "2026-02-06 00:00:00",
        "2026-02-13 00:00:00",
        "2026-02-20 00:00:00",
    ]
    assert fires("0 0 1 * MON", "2026-02-22T00:00:00", 2) == [
        "2026-02-23 00:00:00",
        "2026-03-01 00:00:00",
    ]


def test_a_time_zone_has_its_own_midnight_and_what_its_clocks_skip_comes_later():
    berlin = ZoneInfo("Europe/Berlin")
    assert fires("0 2 * * *", "2026-01-10T00:00:00", 1, berlin) == ["2026-01-10 01:00:00"]
    assert fires("30 2 * * *", "2026-03-28T02:00:00", 2, berlin) == [
        "2026-03-29 01:30:00",  # half past three by the clocks
        "2026-03-30 00:30:00",
    ]
    assert fires("30 * * * *", "2026-03-29T00:00:00", 3, berlin) == [
        "2026-03-29 00:30:00",
        "2026-03-29 01:30:00",
        "2026-03-29 02:30:00",
    ]
    assert fires("30 * * * *", "2026-10-25T00:00:00", 3, berlin) == [
        "2026-10-25 00:30:00",
        "2026-10-25 01:30:00",
        "2026-10-25 02:30:00",
    ]
    assert fires("30 2 * * *", "2026-10-24T12:00:00", 2, berlin) == [
        "2026-10-25 00:30:00",  # the clocks show it twice
        "2026-10-26 01:30:00",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * *", "has 3 fields: write five fields"),
        ("", "has 0 fields"),
        ("60 * * * *", '"60" cannot be a minute: use 0 to 59'),
        ("0 0 0 * *", '"0" cannot be a day of the month: use 1 to 31'),
        ("0 0 * FOO *", '"FOO" cannot be a month: use 1 to 12, or JAN to DEC'),
        ("0 0 * * 8", "use 0 to 7, or SUN to SAT"),
        ("*/0 * * * *", "the step of the minute must be a number from 1 up"),
        ("5-1 * * * *", "the range of the minute runs backwards"),
        ("0 0 L * *", '"L" cannot be a day of the month'),
        ("0 0 30 2 *", "never fires"),
        ("@reboot", '"@reboot" is not one of @yearly'),
        ("1,,2 * * * *", '"" cannot be a minute'),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(text, words):
    with pytest.raises(CronError, match=re.escape(words)):
        parse(text)


@given(
    st.tuples(
        st.sets(st.integers(0, 59), min_size=1, max_size=4),
        st.sets(st.integers(0, 23), min_size=1, max_size=4),
        st.sets(st.integers(0, 6), max_size=4),
    ),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),
)
def test_nothing_fires_between_now_and_the_next_time(sets, moment):
    minutes, hours, weekdays = (",".join(map(str, sorted(values))) for values in sets)
    cron = parse(f"{minutes} {hours} * * {weekdays or '*'}")
    moment = moment.replace(tzinfo=UTC)
    found = cron.next_after(moment)
    assert found > moment
    assert found.minute in cron.minutes
    assert found.hour in cron.hours
    assert cron.fires_on(found.date())
    before = cron.next_after(found - timedelta(seconds=1))
    assert before == found


@given(st.text(alphabet="0123456789*/-,? LMON@", max_size=20))
def test_any_text_is_read_or_refused(text):
    try:
        cron = parse(text)
    except CronError:
        return
    assert parse(str(cron)) == cron
