"""
Forms of user classes: enums, dataclasses, attrs classes, named tuples, and registered classes.

An object is its attributes: what is in its ``__dict__`` and its slots, whole, so that values set in ``__post_init__``
and cached properties are exact too. It is made without running ``__init__``, ``__new__`` or validators. Attributes are
stored by name, so that a class may gain fields that have a default, lose fields, and change their order while
processes wait.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from enum import Flag
from types import MemberDescriptorType
from typing import Any

from durable.codec.form import Form, Tag, attributes
from durable.errors import DecodeError, EncodeError

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set on classes written in Python
_TYPING_NOTE = "__orig_class__"  # left on instances by `Box[int](…)`; not part of the value
_CACHED_HASH = "_attrs_cached_hash"  # attrs keeps it in the instance; hashes of strings differ between interpreters


def built_in_base(kind: type) -> type:
    """The nearest base of *kind* that is not written in Python: it decides what memory an instance has."""
    return next(base for base in kind.__mro__ if not base.__flags__ & _HEAP_TYPE)


def slots_of(kind: type) -> dict[str, MemberDescriptorType]:
    """The slots that *kind* and its bases declare, by name."""
    slots: dict[str, MemberDescriptorType] = {}
    for base in kind.__mro__:
        if base.__flags__ & _HEAP_TYPE:
            slots |= {n: s for n, s in vars(base).items() if type(s) is MemberDescriptorType and n not in slots}
    return slots


# Makes the value of a field that a journal lacks, given the unfinished object; None where only a journal could.
Default = Callable[[Any], Any] | None


class State:
    """Reads and writes the attributes of instances of one class behind the back of the class's own methods."""

    def __init__(self, kind: type) -> None:
        self._slots = slots_of(kind)
        self._has_dict = bool(kind.__dictoffset__)

    def get(self, value: Any) -> dict[str, Any]:
        """The attributes of *value*; not a copy where that can be helped."""
        state: dict[str, Any] = value.__dict__ if self._has_dict else {}
        if _TYPING_NOTE in state:
            state = {name: part for name, part in state.items() if name != _TYPING_NOTE}
        if self._slots:
            state = dict(state)
            for name, slot in self._slots.items():
                try:
                    state[name] = slot.__get__(value)
                except AttributeError:  # never assigned, and will not be in the restored object either
                    continue
        if _CACHED_HASH in state:
            state = state | {_CACHED_HASH: None}
        return state

    def set(self, value: Any, state: dict[str, Any]) -> None:
        """Give *value* the attributes in *state*."""
        if self._has_dict:
            value.__dict__.update({n: p for n, p in state.items() if n not in self._slots} if self._slots else state)
        for name, slot in self._slots.items():
            if name in state:
                slot.__set__(value, state[name])


class ObjectForm(Form):
    """A dataclass, attrs class or registered class; *defaults* makes the fields that a journal may not have yet."""

    def __init__(self, kind: type, name: str, defaults: dict[str, Default]) -> None:
        super().__init__(Tag.OBJECT, name)
        if built_in_base(kind) is not object:
            raise EncodeError(
                f"class {name} inherits from {built_in_base(kind).__name__}, whose content is not in its fields",
                fix="keep that value in a field instead of inheriting it",
            )
        self._kind = kind
        self._state = State(kind)
        self._defaults = defaults
        self._names = frozenset(defaults)

    def take(self, value: Any) -> list[Any]:
        return [self._state.get(value)]

    def make(self, part: Any) -> Any:
        (state,) = part
        value: Any = object.__new__(self._kind)
        self._state.set(value, state)
        if not self._names <= state.keys():
            self._fill(value, state)
        return value

    def _fill(self, value: Any, state: dict[str, Any]) -> None:
        for name, default in self._defaults.items():
            if name not in state:
                if default is None:
                    raise missing_field(self.name, name)
                self._state.set(value, {name: default(value)})

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        return attributes(parts[0])


class EnumForm(Form):
    """A member of an enum, by name; a combination of flags that has no name of its own, by value."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(Tag.ENUM, name)
        self._kind = kind

    def take(self, value: Any) -> list[Any]:
        if self._kind._member_map_.get(value._name_) is value:
            return [value._name_]
        if isinstance(value, Flag):
            return [value._value_]
        raise EncodeError(f"{value!r} is not among the members of {self.name}", fix="use a member of the enum")

    def make(self, part: Any) -> Any:
        (key,) = part
        member = self._kind._member_map_.get(key) if type(key) is str else self._kind._value2member_map_.get(key)
        if member is not None:
            return member
        if type(key) is int and issubclass(self._kind, Flag):
            return Flag._missing_.__func__(self._kind, key)  # type: ignore[attr-defined]  # not a user's `_missing_`
        raise DecodeError(f"Enum {self.name} has no member {key!r}", fix="keep the members that journals may name")


class NamedTupleForm(Form):
    """A named tuple, its items by name; a field that a journal does not have yet takes its default."""

    def __init__(self, kind: Any, name: str) -> None:
        super().__init__(Tag.NAMED_TUPLE, name)
        self._kind = kind
        self._fields: tuple[str, ...] = kind._fields
        self._defaults: dict[str, Any] = getattr(kind, "_field_defaults", {})

    def take(self, value: Any) -> list[Any]:
        if getattr(value, "__dict__", None):
            raise EncodeError("a named tuple with attributes beside its fields", fix="use a dataclass")
        return [dict(zip(self._fields, tuple.__iter__(value), strict=True))]

    def make(self, part: Any) -> Any:
        state = self._defaults | part[0]
        for name in self._fields:
            if name not in state:
                raise missing_field(self.name, name)
        return tuple.__new__(self._kind, [state[name] for name in self._fields])

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        return attributes(parts[0])


def missing_field(name: str, field: str) -> DecodeError:
    """The error for a field that the class has now, but had not when the value was journaled."""
    return DecodeError(
        f"The journaled {name} has no field {field!r}",
        fix=f"give the field {field!r} a default",
        name=name,
        field=field,
    )


def dataclass_defaults(kind: Any) -> dict[str, Default]:
    """The fields of a dataclass that a value must have, and their defaults."""
    defaults: dict[str, Default] = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = _called(field.default_factory)
        elif field.init:  # a field that neither `__init__` nor a default sets may rightly be absent
            defaults[field.name] = None
    return defaults


def attrs_defaults(kind: Any) -> dict[str, Default]:
    """The same for an attrs class."""
    attr = sys.modules["attr"]
    defaults: dict[str, Default] = {}
    for field in kind.__attrs_attrs__:
        default = field.default
        if isinstance(default, attr.Factory):
            defaults[field.name] = default.factory if default.takes_self else _called(default.factory)
        elif default is not attr.NOTHING:
            defaults[field.name] = _constant(default)
        elif field.init:
            defaults[field.name] = None
    return defaults


def _constant(value: Any) -> Default:
    return lambda _: value


def _called(factory: Callable[[], Any]) -> Default:
    return lambda _: factory()
