"""
Forms: how a kind of value is taken apart into simpler values, and made again from them.

Both codecs write None, bool, int, float, str, bytes, list and dict by themselves, as far as their format can. Every
other type has a `Form`, which turns a value into either one text, or a list of parts that are encodable values again.
The codecs only differ in how they mark the result; `Tag` is the mark, and the one table of them.

MessagePack writes a text as an extension of type ``tag`` that holds it, and parts as an array whose first element is
an extension of type ``tag`` that holds the class name (empty for built-in types). JSON writes ``{"$tag": text}`` and
``{"$tag": [class name, *parts]}`` (no class name for built-in types).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, ClassVar


class Tag(IntEnum):
    """The MessagePack extension types. Journals hold these numbers: never change or reuse one."""

    INT = 1  # text: hexadecimal digits, for integers that do not fit the format's own
    BYTEARRAY = 2  # the bytes (JSON: base64)
    TUPLE = 3  # parts: the items
    SET = 4  # parts: the items, in an order that depends only on them
    FROZENSET = 5  # parts: as SET
    DATE = 6  # text: ISO 8601
    TIME = 7  # text: ISO 8601; or parts: ISO 8601 without zone, zone, fold
    DATETIME = 8  # text: ISO 8601; or parts: ISO 8601 without zone, zone, fold
    TIMEDELTA = 9  # text: days, seconds and microseconds with a space between
    DECIMAL = 10  # text: as ``str`` writes it
    UUID = 11  # text: as ``str`` writes it
    ZONE = 12  # text: key of a ZoneInfo
    OFFSET = 13  # parts: offset and, if it has one, name of a `datetime.timezone`
    PATH = 14  # text: name of the pathlib class, colon, path

    ENUM = 32  # class; parts: name of the member, or value of a combination of flags
    OBJECT = 33  # class; parts: attributes by name (dataclass, attrs class, registered class)
    NAMED_TUPLE = 34  # class; parts: items by name
    SUBCLASS = 35  # class; parts: value of the built-in base, attributes (registered subclasses of built-in types)
    EXCEPTION = 36  # class; parts: args, attributes, built-in fields, cause
    PYDANTIC = 37  # class; parts: what pydantic's ``__getstate__`` returns
    PYDANTIC_ZONE = 38  # class; parts: offset in seconds of a fixed-offset zone made by pydantic
    PROTOBUF = 39  # class; parts: serialized message

    @property
    def label(self) -> str:
        """How JSON names this tag."""
        return "$" + self.name.lower()


class Form(ABC):
    """How one type is taken apart and made again. ``name`` is the class as journals name it, empty if built in."""

    unordered: ClassVar[bool] = False  # True if the parts are to be sorted by the codec

    def __init__(self, tag: Tag, name: str = "") -> None:
        self.tag = tag
        self.code = int(tag)
        self.name = name
        self.name_bytes = name.encode("utf-8", "surrogatepass")

    @abstractmethod
    def take(self, value: Any) -> str | list[Any]:
        """Return *value* as one text or as a new list of parts; `EncodeError` with the reason if it cannot be."""

    @abstractmethod
    def make(self, part: Any) -> Any:
        """Return the value *part* was taken from; any exception if it was not taken by this form."""

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        """Each part, with what is appended to the path of the value to name it in an error."""
        return ((f"[{index}]", part) for index, part in enumerate(parts))


def attributes(state: Any) -> Iterable[tuple[str, Any]]:
    """The values of *state*, labelled as attributes; for `Form.children`."""
    return ((f".{name}", value) for name, value in state.items())
