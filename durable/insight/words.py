"""
Payloads in words: a readable form, as `durable.codec.reader_for` gives it, the way a person would write it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from durable.journal import Kind
from durable.times import moment

_FAILURE = {"type", "message", "arguments", "traceback"}  # what every recorded failure has


def failure_in_words(form: Any) -> str:
    """A recorded failure as the last line of its traceback: ``ValueError: the message``."""
    if not isinstance(form, dict) or "type" not in form:
        return in_words(form)
    module, _, name = str(form["type"]).partition(":")
    kind = name if module == "builtins" else f"{module}.{name}"
    return f"{kind}: {form['message']}" if form.get("message") else kind


def in_words(form: Any) -> str:
    """A readable form as a person would write it, on one line: ``Order(id=7, due=2026-11-23T10:00:00)``."""
    if isinstance(form, list):
        return f"[{', '.join(map(in_words, form))}]"
    if not isinstance(form, dict):
        return repr(form)
    if len(form) == 1:
        ((label, part),) = form.items()
        if label.startswith("$"):
            return _form_in_words(label, part)
    if form.keys() >= _FAILURE:
        return failure_in_words(form)
    return f"{{{', '.join(f'{key!r}: {in_words(value)}' for key, value in form.items())}}}"


def record_in_words(kind: str, form: Any) -> str:
    """The payload of a record of this *kind* as `in_words`; what stands there as a number for a time, as that time."""
    parts = form.get("$tuple") if isinstance(form, dict) else None
    special = _NUMBERS.get(kind)
    if special is None or not isinstance(parts, list):
        return in_words(form)
    written = [
        special[position](part) if position in special and isinstance(part, int) else in_words(part)
        for position, part in enumerate(parts)
    ]
    return f"({', '.join(written)})"


def _moment_in_words(microseconds: int) -> str:
    return moment(microseconds).isoformat()


def _length_in_words(microseconds: int) -> str:
    return str(timedelta(microseconds=microseconds))


def _kind_in_words(number: int) -> str:
    try:
        return Kind(number).name
    except ValueError:  # of a newer version
        return str(number)


# Numbers in payloads of the library's own that are something else, by kind of record and position.
_NUMBERS: Mapping[str, Mapping[int, Callable[[int], str]]] = {
    Kind.STARTED.name: {4: _length_in_words},
    Kind.ATTEMPT.name: {1: _moment_in_words},
    Kind.TIMER.name: {1: _moment_in_words},
    Kind.RETURNED.name: {1: _kind_in_words},
}


def _form_in_words(label: str, part: Any) -> str:
    match label, part:
        case "$unreadable", [why, _]:
            return f"(unreadable: {why})"
        case "$dict", list():
            return f"{{{', '.join(f'{in_words(key)}: {in_words(value)}' for key, value in part)}}}"
        case "$tuple", list():
            return f"({', '.join(map(in_words, part))}{',' if len(part) == 1 else ''})"
        case "$bytes" | "$bytearray", str():
            return repr(b64decode(part))
        case "$set" | "$frozenset", list():
            return f"{{{', '.join(map(in_words, part))}}}" if part else "set()"
        case "$enum", [str() as name, member]:
            return f"{_class(name)}.{member}" if isinstance(member, str) else f"{_class(name)}({in_words(member)})"
        case _, [str() as name, dict() as fields] if ":" in name:
            return f"{_class(name)}({', '.join(f'{key}={in_words(value)}' for key, value in fields.items())})"
        case _, [str() as name, *parts] if ":" in name:
            return f"{_class(name)}({', '.join(map(in_words, parts))})"
        case "$datetime" | "$time", [str() as text, zone, _]:
            return f"{text} {in_words(zone)}"
        case "$path", str():
            return part.partition(":")[2]
        case _, str():
            return part
        case _:
            return f"{label[1:]} {in_words(part)}"


def _class(name: str) -> str:
    return name.rpartition(":")[2]
