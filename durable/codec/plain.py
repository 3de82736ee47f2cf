"""
Forms of the built-in and standard-library types: big integers, containers, dates and times, Decimal, UUID, paths.

Texts are chosen so that a person can read them in a JSON journal or a hex dump, and so that the standard library
itself reads them back exactly. Only exact types are here: a subclass of one of these is another class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from durable.codec.form import Form, Tag
from durable.errors import EncodeError


class TextForm(Form):
    """A type whose value is one text."""

    def __init__(self, tag: Tag, take: Callable[[Any], str], make: Callable[[str], Any]) -> None:
        super().__init__(tag)
        self._take = take
        self._make = make

    def take(self, value: Any) -> str:
        return self._take(value)

    def make(self, part: Any) -> Any:
        return self._make(part)


class SequenceForm(Form):
    """A tuple: its parts are its items."""

    def __init__(self, tag: Tag, kind: type) -> None:
        super().__init__(tag)
        self._kind = kind

    def take(self, value: Any) -> list[Any]:
        return list(value)

    def make(self, part: Any) -> Any:
        if type(part) is not list:
            raise TypeError(f"{self._kind.__name__} needs a list of items")
        return self._kind(part)


class SetForm(SequenceForm):
    """A set: as a tuple, in an order that equal sets share."""

    unordered = True

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        return (("{…}", part) for part in parts)


class ClockForm(Form):
    """A datetime or time: one text where ISO 8601 says all; else text, zone and fold apart, because it has no fold."""

    def __init__(self, tag: Tag, kind: type[datetime] | type[time]) -> None:
        super().__init__(tag)
        self._read = kind.fromisoformat

    def take(self, value: Any) -> str | list[Any]:
        zone = value.tzinfo
        if not value.fold and (zone is None or zone is UTC or (type(zone) is timezone and _is_plain(zone))):
            return value.isoformat()  # type: ignore[no-any-return]
        return [value.replace(tzinfo=None, fold=0).isoformat(), zone, value.fold]

    def make(self, part: Any) -> Any:
        if type(part) is str:
            return self._read(part)
        text, zone, fold = part
        return self._read(text).replace(tzinfo=zone, fold=fold)

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        return zip(("", ".tzinfo", ".fold"), parts, strict=True)


class OffsetForm(Form):
    """A fixed offset from UTC, on its own or with a name."""

    def take(self, value: Any) -> list[Any]:
        return list(value.__getinitargs__())

    def make(self, part: Any) -> timezone:
        return timezone(*part)


def _is_plain(zone: timezone) -> bool:
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return not name and not offset.microseconds  # `fromisoformat` takes +00:00:00.000001 for UTC


def _take_timedelta(value: timedelta) -> str:
    return f"{value.days} {value.seconds} {value.microseconds}"


def _make_timedelta(text: str) -> timedelta:
    days, seconds, microseconds = text.split(" ")
    return timedelta(int(days), int(seconds), int(microseconds))


def _take_zone(value: ZoneInfo) -> str:
    if not value.key:
        raise EncodeError("a ZoneInfo without a key cannot be found again", fix="make it with ZoneInfo(key)")
    return value.key


def _make_path(text: str) -> PurePosixPath | PureWindowsPath:
    kind, _, path = text.partition(":")
    return _PATHS[kind](path)


def _take_path(value: PurePosixPath | PureWindowsPath) -> str:
    return f"{type(value).__name__}:{value}"


_PATHS = {kind.__name__: kind for kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)}
_PATH = TextForm(Tag.PATH, _take_path, _make_path)

PLAIN_FORMS: dict[type, Form] = {
    int: TextForm(Tag.INT, lambda value: format(value, "x"), lambda text: int(text, 16)),
    tuple: SequenceForm(Tag.TUPLE, tuple),
    set: SetForm(Tag.SET, set),
    frozenset: SetForm(Tag.FROZENSET, frozenset),
    date: TextForm(Tag.DATE, date.isoformat, date.fromisoformat),
    time: ClockForm(Tag.TIME, time),
    datetime: ClockForm(Tag.DATETIME, datetime),
    timedelta: TextForm(Tag.TIMEDELTA, _take_timedelta, _make_timedelta),
    Decimal: TextForm(Tag.DECIMAL, str, Decimal),
    UUID: TextForm(Tag.UUID, str, UUID),
    ZoneInfo: TextForm(Tag.ZONE, _take_zone, ZoneInfo),
    timezone: OffsetForm(Tag.OFFSET),
    **dict.fromkeys(_PATHS.values(), _PATH),
}

_SORTABLE = frozenset({str, int, bytes})


def arrange(items: list[Any], encode: Callable[[Any], bytes]) -> None:
    """Sort the *items* of a set in place: by themselves if that is a total order, else by their encoded bytes."""
    kinds = set(map(type, items))
    if len(kinds) == 1 and kinds <= _SORTABLE:
        items.sort()
    elif len(items) > 1:
        items.sort(key=encode)
