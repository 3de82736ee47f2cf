"""
Which form a class has: one table for built-in types, one look at every other class, remembered.

This is also where `register` lives, since registering a class changes the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, overload

from durable.codec.exceptions import ExceptionForm
from durable.codec.foreign import foreign_form
from durable.codec.form import Form, Tag
from durable.codec.names import check_name, find_class, is_registered, name_of, remember
from durable.codec.objects import (
    EnumForm,
    NamedTupleForm,
    ObjectForm,
    attrs_defaults,
    built_in_base,
    dataclass_defaults,
)
from durable.codec.plain import PLAIN_FORMS
from durable.codec.subclasses import SubclassForm
from durable.errors import DecodeError, EncodeError

AnyClass = TypeVar("AnyClass", bound=type)

PLAIN_BY_CODE: dict[int, Form] = {form.code: form for form in PLAIN_FORMS.values()}
CODE_BY_LABEL: dict[str, int] = {tag.label: int(tag) for tag in Tag}

_forms: dict[type, Form] = dict(PLAIN_FORMS)
find_form = _forms.get  # the form of a class that has been met before, else None


def form_of(kind: type) -> Form:
    """
    The form of class *kind*.

    Raises:
        EncodeError: Values of this class cannot be restored exactly; the message says why.
    """
    form = _forms.get(kind)
    if form is None:
        form = _forms[kind] = _look_at(kind)
    return form


def form_of_name(code: int, name: str) -> Form:
    """
    The form with number *code* of the class that journals call *name*.

    Raises:
        UnknownClass: No registered or loaded class has this name.
        DecodeError: There is one, but not one that may be restored, or not in this form any more.
    """
    kind = find_class(name)
    try:
        form = form_of(kind)
    except EncodeError as error:
        raise DecodeError(f"Class {name!r} cannot be restored: {error.args[0]}", fix=error.fix, name=name) from None
    if form.code != code or not form.name:
        raise DecodeError(
            f"Class {name!r} was journaled as another kind of class ({code}) than it is now ({form.code})",
            fix="keep the class as it was for the journals that hold it, and give the new one another name",
            name=name,
        )
    return form


def _look_at(kind: Any) -> Form:
    name = name_of(kind)
    form = _form_by_base(kind, name)
    if form is None:
        raise EncodeError(
            f"{name.removeprefix('builtins:')} is not a class that the codec restores exactly",
            fix="use plain values, a dataclass, an attrs class or a pydantic model; or `register` the class",
        )
    check_name(kind, name)
    return form


def _form_by_base(kind: Any, name: str) -> Form | None:
    if issubclass(kind, Enum):
        return EnumForm(kind, name)
    if issubclass(kind, BaseException):
        return ExceptionForm(kind, name)
    if form := foreign_form(kind, name):
        return form
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return NamedTupleForm(kind, name)
    if hasattr(kind, "__dataclass_fields__"):
        return ObjectForm(kind, name, dataclass_defaults(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return ObjectForm(kind, name, attrs_defaults(kind))
    if is_registered(kind):
        return ObjectForm(kind, name, {}) if built_in_base(kind) is object else SubclassForm(kind, name)
    return None


@overload
def register(kind: AnyClass, /, *, old: str | None = None) -> AnyClass: ...
@overload
def register(*, old: str | None = None) -> Callable[[AnyClass], AnyClass]: ...
def register(kind: Any = None, /, *, old: str | None = None) -> Any:
    """
    Let journals restore values as class *kind*; usable as a decorator, with or without *old*.

    Needed for three things: a class that was moved or renamed, a class that is not found by its name (one defined
    inside a function), and a class that the codec does not know by itself, such as a plain class or a subclass of a
    built-in type. The last is restored from its content and attributes, without running any of its code.

    Args:
        kind: The class.
        old: Its name in older journals, ``pkg.module.Name``. Register once for each old name.

    Durability: Nothing is stored; register where the class is defined, so that every start does it.
    Raises:
        TypeError: *kind* is not a class.
    """
    if kind is None:
        return lambda decorated: register(decorated, old=old)
    if not isinstance(kind, type):
        raise TypeError(f"register takes a class, not {kind!r:.80}")
    remember(kind, name_of(kind))
    if old is not None:
        remember(kind, old)
    _forms.clear()  # a name may lead to another class now
    _forms.update(PLAIN_FORMS)
    return kind
