"""
What a process asked for and has not got yet, what it was given before it asked, and the events nobody took.

Everything is found by name. A record whose checkpoint has not been asked for is held until it is; a name is asked for
once. The rules for events: first in first out per event name; taking is recorded, so that code inserted later cannot
steal an event from an older waiter; until then it stays in its queue, so a waiter that gives up leaves it where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from durable._kernel.commands import Command
from durable._kernel.loop import ProcessLoop
from durable.journal import Kind, Record

# Which records may answer which kind of checkpoint.
ANSWERS: dict[str, frozenset[Kind]] = {
    "get": frozenset({Kind.VALUE, Kind.FAILED}),
    "do": frozenset({Kind.DONE, Kind.FAILED, Kind.ATTEMPT, Kind.INTENT}),
    "delay": frozenset({Kind.TIMER, Kind.FIRED}),
    "event": frozenset({Kind.TIMER, Kind.FIRED, Kind.TAKEN}),
    "timeout": frozenset({Kind.TIMER, Kind.FIRED}),
    "start": frozenset({Kind.CHILD, Kind.FAILED}),
}


class Ask(asyncio.Future[Any]):
    """
    A checkpoint that waits for its record: the future its waiter awaits.

    It takes no number in the process, as other futures do: a replay that does not suspend here makes no ask, and the
    numbers of all tasks after it must be the same.

    ``command``: what the host was asked to do for it and has not answered yet. ``event``: the name of the event it
    waits for; ``promised``: number of the event that shall be its own once TAKEN is recorded, and is the first in line
    again if it gives up before that; ``due``: of its timer.
    """

    __slots__ = ("command", "due", "event", "name", "promised", "what")

    given_up: bool = False  # see `LastingAsk`

    def __init__(self, loop: ProcessLoop, what: str, name: str) -> None:
        super().__init__(loop=loop)
        self.what = what
        self.name = name
        self.command: Command | None = None
        self.event: str | None = None
        self.promised: int | None = None
        self.due: int | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        if not super().cancel(msg):
            return False
        loop = self.get_loop()
        assert isinstance(loop, ProcessLoop)
        loop.owner.withdraw(self)
        return True


class LastingAsk(Ask):
    """
    An ask that outlasts the patience of its waiter: what was begun must be known before anybody goes on.

    If its waiter is cancelled, that stays undelivered until the record has come, as with a task that is awaited and
    takes its time to clean up; the waiter gets `asyncio.CancelledError` then, whatever the record says.
    """

    __slots__ = ("_message", "given_up")

    def __init__(self, loop: ProcessLoop, what: str, name: str) -> None:
        super().__init__(loop, what, name)
        self.given_up = False
        self._message: Any = None

    def cancel(self, msg: Any | None = None) -> bool:
        if self.done():
            return False
        if not self.given_up:
            self.given_up = True
            self._message = msg
            loop = self.get_loop()
            assert isinstance(loop, ProcessLoop)
            loop.owner.withdraw(self)
        return True

    def deliver_cancellation(self) -> None:
        """The record has come: now its waiter hears that it was cancelled."""
        asyncio.Future.cancel(self, self._message)


class ArrivedEvent(NamedTuple):
    """An event in the journal: its number is the sequence number of its EVENT record."""

    number: int
    name: str
    payload: bytes


class Mailbox:
    """Events that arrived and have not reached a waiter, in the order they would be taken."""

    __slots__ = ("_arrived", "_queues", "keys")

    def __init__(self) -> None:
        self._arrived: dict[int, ArrivedEvent] = {}
        self._queues: dict[str, list[int]] = {}  # by event name; an event the journal gave to a later ask is in none
        self.keys: set[tuple[str, str]] = set()  # (event name, de-duplication key) of every event that had one

    def arrive(self, event: ArrivedEvent) -> None:
        self._arrived[event.number] = event
        self._queues.setdefault(event.name, []).append(event.number)

    def queue(self, event: str) -> Sequence[int]:
        """Numbers of the events of one name that are there for whoever waits first."""
        return self._queues.get(event, ())

    def find(self, number: int) -> ArrivedEvent | None:
        """Event *number*, in its queue or reserved; None if it has reached a waiter or never arrived."""
        return self._arrived.get(number)

    def reserve(self, number: int) -> None:
        """Take event *number* out of its queue, if it is there."""
        event = self._arrived.get(number)
        if event is not None and number in (queue := self._queues.get(event.name, [])):
            queue.remove(number)
            if not queue:
                del self._queues[event.name]

    def consume(self, number: int) -> None:
        """Forget an event that is on its way to its waiter."""
        self.reserve(number)
        del self._arrived[number]

    def untaken(self) -> Iterator[ArrivedEvent]:
        """Events still in their queues, in the order of arrival."""
        left = sorted(number for queue in self._queues.values() for number in queue)
        return (self._arrived[number] for number in left)


class Checkpoints:
    """The names of one process: asked for, waiting, and recorded before they were asked for."""

    __slots__ = ("asked", "held", "mailbox", "waiting")

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}  # every name ever asked for, and as what kind of checkpoint
        self.waiting: dict[str, Ask] = {}  # in the order asked
        self.held: dict[str, list[Record]] | None = None
        self.mailbox: Mailbox | None = None

    def hold(self, name: str, record: Record) -> None:
        """Keep a record until its checkpoint is asked for."""
        if self.held is None:
            self.held = {}
        self.held.setdefault(name, []).append(record)

    def release(self, name: str) -> list[Record]:
        """The records held for *name*, in journal order; they are no longer held."""
        if self.held is None:
            return []
        return self.held.pop(name, [])

    def mail(self) -> Mailbox:
        """The mailbox, made when it is needed first."""
        if self.mailbox is None:
            self.mailbox = Mailbox()
        return self.mailbox

    def first_waiter(self, event: str) -> Ask | None:
        """The oldest waiter for *event* that is not promised one yet."""
        return next((ask for ask in self.waiting.values() if ask.event == event and ask.promised is None), None)

    def promised_to(self, number: int) -> Ask | None:
        """The waiter that was promised event *number*."""
        return next((ask for ask in self.waiting.values() if ask.promised == number), None)

    def match(self, event: str) -> Ask | None:
        """Promise the first free event of this name to the oldest waiter without one; None when there is no pair."""
        queue = () if self.mailbox is None else self.mailbox.queue(event)
        ask = self.first_waiter(event) if queue else None
        if ask is None:
            return None
        promised = {waiter.promised for waiter in self.waiting.values()}
        ask.promised = next((number for number in queue if number not in promised), None)
        return None if ask.promised is None else ask
