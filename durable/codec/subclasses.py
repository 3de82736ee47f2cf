"""
Form of registered subclasses of built-in types: ``class UserId(int)``, ``class Row(dict)``, `collections.Counter`.

A subclass of a built-in type is refused unless it is registered: that its content and its attributes are all there is
to it is for its author to say. The content is read and written by the methods of the built-in type itself, never by
overridden ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from durable.codec.form import Form, Tag, attributes
from durable.codec.objects import State, built_in_base
from durable.errors import EncodeError


class _Base(NamedTuple):
    """How the content of a built-in type is read from a subclass instance, and put into one."""

    read: Callable[[Any], Any]
    fill: Callable[[Any, Any], None] | None = None  # None: immutable, its `__new__` takes the content


_BASES: dict[type, _Base] = {
    int: _Base(int.__int__),
    float: _Base(float.__float__),
    str: _Base(str.__str__),
    bytes: _Base(bytes.__bytes__),
    tuple: _Base(lambda value: tuple(tuple.__iter__(value))),
    frozenset: _Base(lambda value: frozenset(frozenset.__iter__(value))),
    list: _Base(lambda value: list(list.__iter__(value)), list.extend),
    set: _Base(lambda value: set(set.__iter__(value)), set.update),
    dict: _Base(lambda value: dict(dict.items(value)), dict.update),
}


class SubclassForm(Form):
    """The content of the built-in base, and the attributes beside it."""

    def __init__(self, kind: type, name: str) -> None:
        super().__init__(Tag.SUBCLASS, name)
        self._base: Any = built_in_base(kind)
        if self._base not in _BASES:
            raise EncodeError(
                f"class {name} inherits from {self._base.__name__}, whose content the codec does not know",
                fix="keep that value in a field of a dataclass instead of inheriting it",
            )
        self._kind = kind
        self._read, self._write = _BASES[self._base]
        self._state = State(kind)

    def take(self, value: Any) -> list[Any]:
        return [self._read(value), self._state.get(value)]

    def make(self, part: Any) -> Any:
        content, state = part
        if self._write is None:
            value = self._base.__new__(self._kind, content)
        else:
            value = self._base.__new__(self._kind)
            self._write(value, content)
        self._state.set(value, state)
        return value

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        return (("", parts[0]), *attributes(parts[1]))
