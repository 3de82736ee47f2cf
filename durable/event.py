"""External events: what raises one and what waits for it meet under its name and type."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from durable.journal import check_name

T = TypeVar("T")
_ANYTHING: type[Any] = object


class Event(Generic[T]):
    """
    The name and type of an external event: ``EmailVerified = Event("email verified", str)``.

    Args:
        name: 1–200 characters; what `raise_event` and `Process.event` meet under.
        type: The type of its payload, for type checkers and, where it is a class, checked when the event is raised.
    """

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: type[T] = _ANYTHING) -> None:
        self.name = check_name(name, "event name")
        self.type = type

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {getattr(self.type, '__qualname__', self.type)})"
