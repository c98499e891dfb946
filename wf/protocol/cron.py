"""Cron expressions: read, checked, written with numbers alone, and when they fire next. Pure.

Five fields (minute, hour, day of month, month, day of week) or six (with the second first), names
for months and days, `*`, `?`, lists, ranges, steps, and the `@daily` kind of words. When both days
are restricted, a day that is either of them counts, as cron has always had it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

RULE = (
    "write five fields (minute hour day month weekday) or six (second first), such as '30 2 * * *' "
    "for half past two every day"
)
_HORIZON_DAYS = 366 * 9  # 29 February comes at least every eight years

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronError(ValueError):
    """The expression is none; the text is a sentence with its remedy."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first: int = 0  # what the first name stands for


_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS, 1),
    _Field("day of the week", 0, 7, _DAYS, 0),  # 7 is Sunday too
)


@dataclass(frozen=True, slots=True)
class Cron:
    """When it fires: the values of each field; a day field that allows every day is None."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...] | None
    months: tuple[int, ...]
    weekdays: tuple[int, ...] | None

    def __str__(self) -> str:
        """Six fields of plain numbers: equal for what fires at the same times."""
        fields = (
            (self.seconds, 60),
            (self.minutes, 60),
            (self.hours, 24),
            (self.days, 31),
            (self.months, 12),
            (self.weekdays, 7),
        )
        return " ".join(
            "*" if values is None or len(values) == count else ",".join(map(str, values))
            for values, count in fields
        )

    def fires_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        weekday = (day.weekday() + 1) % 7  # cron's week begins on Sunday
        by_month = self.days is None or day.day in self.days
        by_week = self.weekdays is None or weekday in self.weekdays
        if self.days is not None and self.weekdays is not None:
            return by_month or by_week
        return by_month and by_week

    def next_after(self, moment: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time after `moment` (aware), in UTC; None when there is none in nine years.

        A time that the clocks of `zone` skip comes as much later as they are put forward. One that
        they show twice comes once, unless it is to come in every hour.
        """
        first = moment.astimezone(zone).date()
        for number in range(_HORIZON_DAYS):
            day = first + timedelta(days=number)
            if not self.fires_on(day):
                continue
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            # The day's times follow each other, unless the clocks are changed on it.
            same = midnight.utcoffset() == (midnight + timedelta(days=1)).utcoffset()
            folds = (0,) if same or len(self.hours) < 24 else (0, 1)
            instants = (
                midnight.replace(hour=hour, minute=minute, second=second, fold=fold).astimezone(UTC)
                for hour, minute, second in self._times()
                for fold in folds
            )
            later = (instant for instant in instants if instant > moment)
            found = next(later, None) if same else min(later, default=None)
            if found is not None:
                return found
        return None

    def _times(self) -> Iterable[tuple[int, int, int]]:
        return (
            (hour, minute, second)
            for hour in self.hours
            for minute in self.minutes
            for second in self.seconds
        )


def parse(text: str) -> Cron:
    """Raises CronError with a sentence that says what is wrong and what to write."""
    words = text.split()
    if len(words) == 1 and words[0].startswith("@"):
        known = _WORDS.get(words[0].lower())
        if known is None:
            raise CronError(f'"{text}" is not one of {", ".join(_WORDS)}; or {RULE}')
        words = known.split()
    if len(words) == 5:
        words = ["0", *words]
    if len(words) != 6:
        raise CronError(f'"{text[:60]}" has {len(words)} fields: {RULE}')
    values = [_values(word, field) for word, field in zip(words, _FIELDS, strict=True)]
    weekdays = sorted({day % 7 for day in values[5]})
    cron = Cron(
        seconds=tuple(values[0]),
        minutes=tuple(values[1]),
        hours=tuple(values[2]),
        days=None if len(values[3]) == 31 else tuple(values[3]),
        months=tuple(values[4]),
        weekdays=None if len(weekdays) == 7 else tuple(weekdays),
    )
    if cron.next_after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
        raise CronError(f'"{text[:60]}" never fires: no such month has that day')
    return cron


def _values(text: str, field: _Field) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        found.update(_part(part, field))
    return sorted(found)


def _part(text: str, field: _Field) -> range:
    """One element of a list: `*`, `5`, `1-5`, each perhaps with `/step`."""
    span, slash, step_text = text.partition("/")
    step = 1
    if slash:
        if not step_text.isdecimal() or int(step_text) == 0:
            raise CronError(f'"{text}": the step of the {field.name} must be a number from 1 up')
        step = int(step_text)
    if span in ("*", "?"):
        low, high = field.low, field.high
    else:
        first, dash, last = span.partition("-")
        low = _value(first, field)
        high = _value(last, field) if dash else (field.high if slash else low)
    if low > high:
        raise CronError(f'"{text}": the range of the {field.name} runs backwards')
    return range(low, high + 1, step)


def _value(text: str, field: _Field) -> int:
    if text.upper() in field.names:
        return field.names.index(text.upper()) + field.first
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        names = f", or {field.names[0]} to {field.names[-1]}" if field.names else ""
        raise CronError(
            f'"{text[:20]}" cannot be a {field.name}: use {field.low} to {field.high}{names}'
        )
    return int(text)
