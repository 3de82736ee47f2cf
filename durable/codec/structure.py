"""
Payloads without the classes they were made of: for whoever looks from outside, or must go on though a class is gone.

`reader_for` gives a function from bytes to the form that `JsonCodec` writes: plain JSON where JSON is exact, else an
object with one key that starts with ``$``, as ``{"$object": ["shop.orders:Order", {"id": 7}]}``. The codec decides how
the bytes are read, never how the answer looks, and no class is looked up, so nothing has to be imported.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from copy import copy
from math import isfinite
from typing import Any, NamedTuple

from msgpack import unpackb  # type: ignore[import-untyped]

from durable.codec.form import Tag
from durable.codec.messagepack import MessagePackCodec
from durable.codec.protocol import Codec
from durable.codec.readable import JsonCodec
from durable.errors import DecodeError, DurableError

Reader = Callable[[bytes], Any]

_LARGEST_INT_BITS = 2000  # longer ones stay hexadecimal: the interpreter limits decimal digits
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


def items_of(form: Any, count: int) -> list[Any]:
    """The first *count* items of a tuple in readable form; None for each if it is something else, or unreadable."""
    items = form.get("$tuple") if isinstance(form, dict) else None
    return items[:count] if isinstance(items, list) and len(items) >= count else [None] * count
