"""
A process in memory as the writer of its journal: every outcome becomes a record, and comes back when it is durable.

A record is made here (sequence number, time), becomes durable in the writer, and is fed to the kernel after that.
Nothing else reaches the kernel, so a process never sees what a crash could take back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from durable._host.actions.actions import Actions
from durable._host.clock import Clock
from durable._host.payloads import Payloads
from durable._host.reports import Reports
from durable._host.timers import Timers
from durable._host.watchdog import Watchdog
from durable._host.writing.writer import Writer
from durable._kernel.commands import StartChild
from durable._kernel.execution import Execution
from durable.codec import Codec
from durable.errors import DurableError
from durable.journal import Kind, Record
from durable.observer import Observer
from durable.storage import Creation, Restart


class Surroundings(Protocol):
    """What a resident needs of the engine it lives in."""

    clock: Clock
    codec: Codec
    writer: Writer
    timers: Timers
    actions: Actions
    watchdog: Watchdog
    payloads: Payloads
    reports: Reports
    observer: Observer | None
    wanted: Callable[[], object]

    def create_child(self, command: StartChild) -> Creation: ...
    def child_created(self, creation: Creation) -> object: ...
    def child_dropped(self, creation: Creation) -> object: ...
    def may_start(self, resident: Any) -> bool: ...
    def consider(self, resident: Any) -> None: ...
    def ended(self, resident: Any, record: Record, held: bool) -> None: ...
    def stalled(self, resident: Any, reason: str, held: bool) -> None: ...
    def restarted(self, before: Any, restart: Restart) -> object: ...
    def released(self, resident: Any, held: bool) -> None: ...
    def discard(self, resident: Any, error: DurableError) -> None: ...


class Appending(ABC):
    """
    Appends to one journal; `Resident` builds on it.

    ``pending``: records on their way to storage. ``leaving``: a park, stall or end is on its way; until that is settled
    nothing else may be written for it. ``departed``: none of its code may run any more here; it waits to be terminated
    or given back.
    """

    __slots__ = ("_seq", "_time", "departed", "engine", "execution", "id", "key", "leaving", "pending")

    def __init__(self, engine: Surroundings, key: int, id: str, execution: Execution) -> None:
        self.engine = engine
        self.key = key
        self.id = id
        self.execution = execution
        self.pending = 0
        self.leaving = False
        self.departed = False
        self._seq = 0
        self._time = 0

    @property
    def definition(self) -> str:
        """The durable name of its process function."""
        return self.execution.definition

    def life(self) -> int:
        """Which life of the process it is."""
        return self.execution.lineage.life

    def append(self, kind: Kind, name: str, payload: bytes = b"") -> int:
        """Write one record; it is fed when durable. Its sequence number."""
        self._seq += 1
        self._time = max(self._time, self.engine.clock.now())
        self.pending += 1
        self.engine.writer.append(self, Record(self._seq, kind, name, payload, self._time))
        return self._seq

    @abstractmethod
    def feed(self, record: Record) -> None:
        """A record of ours is durable: let the process see it."""

    @abstractmethod
    def try_leave(self) -> None:
        """End, or leave as was decided, if nothing is in the way any more."""

    @abstractmethod
    def release(self) -> None:
        """Drop what is in memory without running any of its code, and give it back, to be claimed afresh."""

    def refused(self, error: DurableError) -> None:
        """The store will not have our records: this process cannot go on here, and nothing of it is lost."""
        self.engine.discard(self, error)

    def _now(self) -> int:
        """The time of a record that is made now: it never goes back."""
        return max(self._time, self.engine.clock.now())
