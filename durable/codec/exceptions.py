"""
Form of exceptions: what it takes to make one again without running any code of its class.

An exception is its ``args``, its attributes (notes are among them), the fields that built-in classes keep apart
(``OSError.filename``, ``UnicodeError.start``), slots, and its cause. Tracebacks and ``__context__`` are not part of the
value. Whether that is all there is to it cannot be known for classes written in C or Rust, so the exception is made
again on the spot, and refused if it does not say the same: the answer given then is the answer for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from durable.codec.form import Form, Tag, attributes
from durable.codec.objects import built_in_base
from durable.errors import EncodeError

NOTES = "__notes__"
TRACEBACK_NOTE = "Traceback from the journal:\n"  # starts the note that says where a restored exception was raised


class ExceptionForm(Form):
    """``[args, attributes, built-in fields and slots, cause]``; the cause is left to who asks for `take_own`."""

    def __init__(self, kind: type[BaseException], name: str) -> None:
        super().__init__(Tag.EXCEPTION, name)
        self._kind = kind
        self._base: Any = built_in_base(kind)
        self._fields = _fields_of(kind)

    def take(self, value: Any) -> list[Any]:
        return [*self.take_own(value), cause_of(value)]

    def make(self, part: Any) -> BaseException:
        *own, cause = part
        error = self.make_own(own)
        error.__cause__ = cause
        return error

    def take_own(self, error: BaseException) -> list[Any]:
        """
        All of *error* but its cause.

        Raises:
            EncodeError: It would not come back as the same type saying the same.
        """
        try:
            args = BaseException.args.__get__(error)  # type: ignore[attr-defined]
            own = [args, _without_tracebacks(error.__dict__), self._get_fields(error)]
            again = self.make_own(own)
            same = type(again) is type(error) and again.args == args and str(again) == str(error)
        except BaseException as reason:  # not only Exception: a broken __str__ may raise anything
            raise EncodeError(
                f"{self.name} cannot be made again from what it holds ({type(reason).__name__})"
            ) from reason
        if not same:
            raise EncodeError(f"{self.name} made again from what it holds does not say the same")
        return own

    def _get_fields(self, error: BaseException) -> dict[str, Any]:
        fields = {}
        for name, field in self._fields.items():
            try:
                part = field.__get__(error)
            except AttributeError:  # never assigned
                continue
            if part is not None:
                fields[name] = part
        return fields

    def make_own(self, own: list[Any]) -> BaseException:
        """Make the exception again, without its cause and without running `__init__` or `__new__` of a user."""
        args, state, fields = own
        group = issubclass(self._kind, BaseExceptionGroup)
        error: BaseException = self._base.__new__(self._kind, *args) if group else self._base.__new__(self._kind)
        error.args = args
        if state:
            error.__dict__.update(state)
        for name, part in fields.items():
            self._fields[name].__set__(error, part)
        return error

    def children(self, parts: list[Any]) -> Iterable[tuple[str, Any]]:
        args, state, fields, cause = parts
        return ((".args", args), *attributes(state), *attributes(fields), (".__cause__", cause))


def cause_of(error: BaseException) -> BaseException | None:
    """The cause of *error*, past any override of a user."""
    return BaseException.__cause__.__get__(error)  # type: ignore[no-any-return,union-attr]


def _fields_of(kind: type[BaseException]) -> dict[str, Any]:
    """Fields of built-in exception classes and slots of others, by name."""
    fields: dict[str, Any] = {}
    for base in kind.__mro__:
        if base in (BaseExceptionGroup, BaseException):  # the rest is args, or made by the interpreter while raising
            break
        for name, field in vars(base).items():
            known = isinstance(field, MemberDescriptorType | GetSetDescriptorType)
            if known and not name.startswith("__") and name not in fields:
                fields[name] = field
    fields.pop("obj", None)  # of AttributeError: the very object that lacks the attribute; pickle leaves it out too
    return fields


def _without_tracebacks(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an exception, without the notes that `decode_error` added to it."""
    notes = state.get(NOTES, [])
    if type(notes) is not list:
        raise TypeError("its notes are not a list")
    own = [note for note in notes if not (type(note) is str and note.startswith(TRACEBACK_NOTE))]
    return {name: part for name, part in state.items() if name != NOTES} | ({NOTES: own} if own else {})
