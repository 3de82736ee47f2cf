"""
The processes a process has started: which of them have ended, and who waits for them.

A child is started under the name of a checkpoint, and known by it. How it ended comes from its inbox, as an event does,
but belongs to that one checkpoint; so it needs no record of who took it. An attached child (the normal one) does not
outlive its parent: whoever waits for it passes a cancellation on to it, and the end of the function does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from durable._kernel.checkpoints import Ask, LastingAsk
from durable._kernel.commands import CancelChild
from durable._kernel.outcomes import outcome
from durable._kernel.started import NO_LINEAGE, Lineage
from durable.codec import Codec
from durable.journal import Kind


class Next(NamedTuple):
    """What the next life of a process begins with; *payload* is that of its first record."""

    definition: str
    queue: str
    payload: bytes


class ChildState:
    """
    One child.

    ``ended``: kind of its end and what that says, kept for whoever asks again unless it is wanted ``once``. ``reason``:
    why it is to be cancelled, if it is.
    """

    __slots__ = ("detached", "ended", "id", "is_seen", "name", "once", "reason", "waiters")

    def __init__(self, name: str, id: str, detached: bool) -> None:
        self.name = name
        self.id = id
        self.detached = detached
        self.ended: tuple[Kind, Any] | None = None
        self.reason: str | None = None
        self.is_seen = False  # how it ended has reached somebody
        self.once = False
        self.waiters: list[Ask] = []

    def is_left(self) -> bool:
        """Whether it must end before its parent can."""
        return self.ended is None and not self.detached

    def settle(self, ask: Ask, codec: Codec) -> None:
        """Tell *ask* how the child has ended."""
        assert self.ended is not None
        if isinstance(ask, LastingAsk) and ask.given_up:
            ask.deliver_cancellation()
            return
        self.is_seen = True
        try:
            ask.set_result(outcome(*self.ended, codec, self.id))
        except Exception as error:
            error.add_note(f"It is how child process {self.id!r} ended.")
            ask.set_exception(error)
            ask.exception()  # a waiter that was cancelled in the same step never looks: no warning about that
        if self.once:
            self.ended = self.ended[0], None


class Kin:
    """
    The kin of one process: where it comes from, whom it has started, and what comes after it.

    Most processes have none, so this is made when there is something to know. ``next``: what the next life begins with,
    once the process has asked for it.
    """

    __slots__ = ("_children", "lineage", "next")

    def __init__(self, lineage: Lineage = NO_LINEAGE) -> None:
        self.lineage = lineage
        self.next: Next | None = None
        self._children: dict[str, ChildState] = {}

    def __iter__(self) -> Iterator[ChildState]:
        return iter(self._children.values())

    def __getitem__(self, name: str) -> ChildState:
        return self._children[name]

    def add(self, name: str, id: str, detached: bool) -> None:
        """A child was started."""
        self._children.setdefault(name, ChildState(name, id, detached))

    def end(self, name: str, id: str, kind: Kind, content: Any) -> ChildState | None:
        """A child has ended; None if it is not one of this life, or has ended before."""
        child = self._children.get(name)
        if child is None or child.id != id or child.ended is not None:
            return None
        child.ended = kind, content
        return child

    def waits(self) -> list[tuple[str, str, str | None]]:
        """As `Execution.waits`."""
        return [("child", child.name, None) for child in self if any(not ask.done() for ask in child.waiters)]

    def cancellations(self) -> list[CancelChild]:
        """Requests that may not have reached their child yet."""
        return [
            CancelChild(child.name, child.id, child.reason)
            for child in self
            if child.reason is not None and child.ended is None
        ]

    def notes(self) -> list[str]:
        """Failures that nobody has seen."""
        return [
            f"child process {child.id!r} failed, and nobody awaited it"
            for child in self
            if child.ended is not None and child.ended[0] is Kind.ERRED and not child.is_seen and not child.detached
        ]
