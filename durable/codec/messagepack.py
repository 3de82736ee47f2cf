"""
The default codec: MessagePack with extension types.

What MessagePack writes exactly by itself stays as it is; everything else goes through its `Form`. A text becomes an
extension, parts become an array led by an extension (see `durable.codec.form`), so neither side recurses in Python, and
a value may be as deep as the C packer allows.

Two traps of the packer shape this module. It packs bytearray, memoryview and its own ExtType and Timestamp natively,
that is, inexactly, so every list and dict is looked through for them first, at C speed. And a Packer is neither
re-entrant nor thread-safe, so idle ones are kept in a list, from which taking is atomic.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

from msgpack import ExtType, Packer, Timestamp, unpackb  # type: ignore[import-untyped]

from durable.codec.faults import explain
from durable.codec.form import Tag
from durable.codec.forms import PLAIN_BY_CODE, find_form, form_of, form_of_name
from durable.codec.plain import arrange
from durable.errors import DecodeError, EncodeError

DEPTH = 500  # levels; the C packer gives up at about a thousand, before its unpacker would

_INEXACT = frozenset({bytearray, memoryview, ExtType, Timestamp})
_LOOK_AT = _INEXACT | {list, dict}
_COMPOUND = frozenset((*range(0x80, 0xA0), *range(0xC7, 0xCA), *range(0xD4, 0xD9), *range(0xDC, 0xE0)))  # first bytes
_BYTEARRAY = int(Tag.BYTEARRAY)
_KEPT = 1 << 20  # bytes; a packer that has packed more is not kept, since its buffer never shrinks
# Makes an ExtType of (code, payload): its own `__new__` checks both, which costs more than packing them.
_extension = partial(tuple.__new__, ExtType)


class _Inexact(Exception):
    """A container holds something that the packer would pack natively as something else."""


class MessagePackCodec:
    """
    The default codec: compact, exact, for tens of thousands of small values a second.

    Values may be nested 500 levels deep, where an object counts as two or three levels. Safe to use from several
    threads, and from inside methods that it calls.
    """

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._idle_careful: list[Any] = []

    def encode(self, value: Any) -> bytes:
        """Return *value* as MessagePack bytes; see `Codec.encode`."""
        try:
            kind = type(value)
            if kind is dict or kind is list:
                _check_exact(value)
            elif kind in _INEXACT:
                raise _Inexact
            return self._pack(self._idle, self._default, value)
        except _Inexact:
            pass
        except Exception as error:
            raise explain(value, error, DEPTH) from error
        try:
            return self._pack(self._idle_careful, self._default_careful, _spelled_out(value))
        except Exception as error:
            raise explain(value, error, DEPTH) from error

    def decode(self, data: bytes) -> Any:
        """Return the value in *data*; see `Codec.decode`."""
        try:
            if data[0] not in _COMPOUND:
                return unpackb(data)
            reader = _Reader()
            value = unpackb(data, ext_hook=reader.extension, list_hook=reader.array, strict_map_key=False)
        except DecodeError:
            raise
        except Exception as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from error
        if reader.open:
            raise _unreadable("a mark of a form stands where a value belongs")
        return value

    def _pack(self, idle: list[Any], default: Any, value: Any) -> bytes:
        try:
            packer = idle.pop()
        except IndexError:
            packer = Packer(default=default, strict_types=True)
        data: bytes = packer.pack(value)
        if len(data) <= _KEPT:
            idle.append(packer)  # one that failed is not kept either: half a value is in its buffer
        return data

    def _default(self, value: Any) -> Any:
        form = find_form(type(value)) or form_of(type(value))
        part = form.take(value)
        if isinstance(part, str):
            return _extension((form.code, part.encode()))
        _check_exact(part)
        if form.unordered:
            arrange(part, self.encode)
        part.insert(0, _extension((form.code, form.name_bytes)))
        return part

    def _default_careful(self, value: Any) -> Any:
        form = form_of(type(value))
        part = form.take(value)
        if isinstance(part, str):
            return _extension((form.code, part.encode()))
        if form.unordered:
            arrange(part, self.encode)
        return [_extension((form.code, form.name_bytes)), *_spelled_out(part)]


class _Reader:
    """One decoding: restores forms, and counts the marks that no array has used up."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = 0

    def extension(self, code: int, payload: bytes) -> Any:
        form = PLAIN_BY_CODE.get(code)
        if form is not None:
            if payload:
                return form.make(payload.decode())
        elif code == _BYTEARRAY:
            return bytearray(payload)
        else:
            form = form_of_name(code, payload.decode())
        self.open += 1
        return form.make

    def array(self, items: list[Any]) -> Any:
        if items and type(items[0]) is MethodType:  # never a value, so it is the mark of a form
            self.open -= 1
            return items.pop(0)(items)
        return items


def _check_exact(value: list[Any] | dict[Any, Any]) -> None:
    """Raise `_Inexact` if *value*, or a list or dict in it, holds an inexact type."""
    if type(value) is dict:
        if _LOOK_AT.isdisjoint(map(type, value.values())) and _INEXACT.isdisjoint(map(type, value)):
            return
    elif _LOOK_AT.isdisjoint(map(type, value)):
        return
    level: list[Any] = [value]
    for _ in range(DEPTH):
        if not _INEXACT.isdisjoint(map(type, level)):
            raise _Inexact
        below: list[Any] = []
        for container in level:
            parts = container
            if type(container) is dict:
                if not _INEXACT.isdisjoint(map(type, container)):
                    raise _Inexact
                parts = container.values()
            if not _LOOK_AT.isdisjoint(map(type, parts)):
                below.extend(part for part in parts if type(part) in _LOOK_AT)
        if not below:
            return
        level = below
    raise _too_deep()


def _spelled_out(value: Any, depth: int = 0) -> Any:
    """A copy of the lists and dicts in *value* in which each bytearray is an extension."""
    if depth > DEPTH:
        raise _too_deep()
    kind = type(value)
    if kind is list:
        return [_spelled_out(part, depth + 1) for part in value]
    if kind is dict:
        return {_spelled_out(key): _spelled_out(part, depth + 1) for key, part in value.items()}
    if kind is bytearray:
        return _extension((_BYTEARRAY, bytes(value)))
    if kind in _INEXACT:
        raise EncodeError(f"{kind.__name__} is not a type that the codec restores exactly")
    return value


def _too_deep() -> EncodeError:
    return EncodeError(f"it is nested more than {DEPTH} levels deep", fix="flatten it")


def _unreadable(reason: str) -> DecodeError:
    return DecodeError(
        f"These bytes are not a value written by MessagePackCodec ({reason})",
        fix="use the codec the journal was written with; if it is the same, the bytes are damaged",
    )
