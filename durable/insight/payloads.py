"""
Payloads without the classes they were made of: readable structure for whoever looks from outside.

`reader_for` gives a function from bytes to the form that `JsonCodec` writes: plain JSON where JSON is exact, else an
object with one key that starts with ``$``, as ``{"$object": ["shop.orders:Order", {"id": 7}]}``. The codec decides how
the bytes are read, never how the answer looks, and no class is looked up, so nothing has to be imported.

`in_words` writes such a form as a person would: ``Order(id=7)``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from copy import copy
from math import isfinite
from typing import Any, NamedTuple

from msgpack import unpackb  # type: ignore[import-untyped]

from durable.codec import Codec, JsonCodec, MessagePackCodec
from durable.codec.form import Tag
from durable.errors import DecodeError, DurableError

Reader = Callable[[bytes], Any]

_LARGEST_INT_BITS = 2000  # longer ones stay hexadecimal: the interpreter limits decimal digits
_FAILURE = {"type", "message", "arguments", "traceback"}  # what every recorded failure has
_LABELS = {int(tag): tag.label for tag in Tag}


def reader_for(codec: Codec) -> Reader:
    """
    A function that makes payloads written by *codec* readable.

    What cannot be read is ``{"$unreadable": [why, base64]}``.
    Wrapped codecs are unwrapped by themselves, so an encrypted journal needs the codec with its key.
    """
    structural = _structural(codec)

    def read(payload: bytes) -> Any:
        if not payload:
            return None
        try:
            return structural.decode(payload)
        except Exception as error:
            why = str(error.args[0]) if isinstance(error, DurableError) and error.args else repr(error)
            return {"$unreadable": [why, b64encode(payload).decode()]}

    return read


def _structural(codec: Codec) -> Codec:
    inner = getattr(codec, "inner", None)
    if inner is not None:
        wrapper = copy(codec)
        wrapper.inner = _structural(inner)  # type: ignore[attr-defined]  # what every wrapper has, see `Codec`
        return wrapper
    if isinstance(codec, MessagePackCodec):
        return _MessagePackForms()
    if isinstance(codec, JsonCodec):
        return _JsonForms()
    return _FormsOfValues(codec)


class _Forms:
    """A codec that only reads, and gives forms instead of values."""

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError("payloads are only read here")  # a `Codec` has it, and nobody here calls it


class _JsonForms(_Forms):
    def decode(self, data: bytes) -> Any:
        return json.loads(data)


class _FormsOfValues(_Forms):
    """For a codec we know nothing of: its value, as `JsonCodec` writes it."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def decode(self, data: bytes) -> Any:
        return json.loads(JsonCodec().encode(self._codec.decode(data)))


class _Mark(NamedTuple):
    """The first element of an array that is an object: which form, and the class."""

    label: str
    name: str


class _MessagePackForms(_Forms):
    def decode(self, data: bytes) -> Any:
        hooks = {"ext_hook": _extension, "list_hook": _array, "object_pairs_hook": _map}
        form = _leaf(unpackb(data, strict_map_key=False, **hooks))
        if isinstance(form, _Mark):
            raise DecodeError("a mark of a form stands where a value belongs")
        return form


def _extension(code: int, payload: bytes) -> Any:
    if code == Tag.BYTEARRAY:
        return {Tag.BYTEARRAY.label: b64encode(payload).decode()}
    label, text = _LABELS.get(code, f"$extension_{code}"), payload.decode()
    if not text or code >= Tag.ENUM:
        return _Mark(label, text)
    if code == Tag.INT and len(text) * 4 <= _LARGEST_INT_BITS:
        return int(text, 16)
    return {label: text}


def _array(items: list[Any]) -> Any:
    if items and isinstance(items[0], _Mark):
        mark, *parts = items
        plain = [_leaf(part) for part in parts]
        return {mark.label: [mark.name, *plain] if mark.name else plain}
    return [_leaf(item) for item in items]


def _map(pairs: list[tuple[Any, Any]]) -> Any:
    plain = [[_leaf(key), _leaf(value)] for key, value in pairs]
    looks_like_a_form = len(plain) == 1 and isinstance(plain[0][0], str) and plain[0][0].startswith("$")
    if not looks_like_a_form and all(isinstance(key, str) for key, _ in plain):
        return dict(plain)
    return {"$dict": plain}


def _leaf(value: Any) -> Any:
    """What MessagePack has and JSON has not."""
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, float) and not isfinite(value):
        return {"$float": str(value)}
    return value


# --- taking forms apart ----------------------------------------------------------------------------------------


def items_of(form: Any, count: int) -> list[Any]:
    """The first *count* items of a tuple in readable form; None for each if it is something else, or unreadable."""
    items = form.get("$tuple") if isinstance(form, dict) else None
    return items[:count] if isinstance(items, list) and len(items) >= count else [None] * count


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
