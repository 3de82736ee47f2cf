"""
The readable codec: JSON, for people who want to read a journal by eye.

None, bool, finite float, str, list, dict with text keys and all but huge ints are plain JSON. Everything else is an
object with one key that starts with ``$`` (see `durable.codec.form`), and a user's dict that looks like one is written
as ``$dict``. Three labels exist only here, since MessagePack needs none for them: ``$bytes``, ``$float``, ``$dict``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from math import isfinite
from typing import Any

from durable.codec.faults import explain
from durable.codec.form import Tag
from durable.codec.forms import CODE_BY_LABEL, PLAIN_BY_CODE, form_of, form_of_name
from durable.codec.plain import arrange
from durable.errors import DecodeError, EncodeError

DEPTH = 100  # levels; both this module and the json module recurse

_PLAIN = frozenset({type(None), bool, str})
_PLAIN_BITS = 2000  # longer ints are written in hexadecimal: the interpreter limits decimal digits, to 640 at the least
_BYTEARRAY = Tag.BYTEARRAY.label


class JsonCodec:
    """
    JSON text in UTF-8, one line, as exact as the default codec, larger and slower.

    Values may be nested 100 levels deep, where an object counts as two or three levels.
    """

    def encode(self, value: Any) -> bytes:
        """Return *value* as one line of JSON; see `Codec.encode`."""
        try:
            return _ENCODER.encode(self._plain(value, 0)).encode()
        except Exception as error:
            raise explain(value, error, DEPTH) from error

    def decode(self, data: bytes) -> Any:
        """Return the value in *data*; see `Codec.decode`."""
        try:
            return _DECODER.decode(bytes(data).decode())
        except DecodeError:
            raise
        except Exception as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from error

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if depth > DEPTH:
            raise EncodeError("nested too deep")
        if kind is int and value.bit_length() <= _PLAIN_BITS:
            return value
        if kind is float:
            return value if isfinite(value) else {"$float": str(value)}
        if kind is list:
            return [self._plain(part, depth + 1) for part in value]
        if kind is dict:
            return self._plain_dict(value, depth)
        if kind is bytes or kind is bytearray:
            return {"$bytes" if kind is bytes else _BYTEARRAY: b64encode(value).decode()}
        form = form_of(kind)
        part = form.take(value)
        if isinstance(part, str):
            return {Tag(form.code).label: part}
        if form.unordered:
            arrange(part, self.encode)
        parts = [self._plain(child, depth + 1) for child in part]
        return {Tag(form.code).label: [form.name, *parts] if form.name else parts}

    def _plain_dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        tag_like = len(value) == 1 and next(iter(value)).__class__ is str and next(iter(value)).startswith("$")
        if not tag_like and all(type(key) is str for key in value):
            return {key: self._plain(part, depth + 1) for key, part in value.items()}
        return {"$dict": [[self._plain(key, depth + 1), self._plain(part, depth + 1)] for key, part in value.items()]}


def _restored(found: dict[str, Any]) -> Any:
    """Restore one JSON object; those inside it have been restored already."""
    if len(found) != 1:
        return found
    ((label, part),) = found.items()
    if not label.startswith("$"):
        return found
    if label == "$dict":
        return dict(_list(part))
    if label == "$bytes":
        return b64decode(part, validate=True)
    if label == _BYTEARRAY:
        return bytearray(b64decode(part, validate=True))
    if label == "$float":
        return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}[part]
    code = CODE_BY_LABEL[label]
    form = PLAIN_BY_CODE.get(code)
    if form is None:
        name, *parts = _list(part)
        return form_of_name(code, name).make(parts)
    return form.make(part)


def _list(part: Any) -> list[Any]:
    if type(part) is not list:
        raise TypeError("a list belongs here")
    return part


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_DECODER = json.JSONDecoder(object_hook=_restored, parse_constant=_refuse)


def _unreadable(reason: str) -> DecodeError:
    return DecodeError(
        f"These bytes are not a value written by JsonCodec ({reason})",
        fix="use the codec the journal was written with; if it is the same, the bytes are damaged",
    )
