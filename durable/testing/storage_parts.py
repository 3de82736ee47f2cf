"""
What `storage_contract` is written with: a clock, short ways to say what is written, and objects that get closed.

Public as far as a provider's own tests may want the same words. What is promised is tested elsewhere, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from durable.journal import Kind, Record
from durable.storage import (
    Batch,
    BatchResult,
    Claim,
    Creation,
    End,
    InboxItem,
    JournalStorage,
    Mail,
    MailKind,
    ProcessRow,
    Status,
)

QUEUE = "default"


class Clock:
    """Seconds that pass only when a test says so; the lease clock of a store under test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


# --- short ways to say what is written -----------------------------------------------------------------------


def started(time: int = 1) -> Record:
    """The first record of a journal."""
    return Record(1, Kind.STARTED, "definition", b"arguments", time)


def step(seq: int, payload: bytes = b"value") -> Record:
    """Any record after the first."""
    return Record(seq, Kind.VALUE, f"step {seq}", payload, seq)


def last(seq: int, kind: Kind = Kind.COMPLETED) -> Record:
    """A record that ends a journal."""
    return Record(seq, kind, "", b"result", seq)


def creation(key: int, owned: bool = True, wake_at: int | None = None, **other: Any) -> Creation:
    """A new process; its id is its key unless said otherwise."""
    values = {"id": f"id {key}", "definition": "definition", "queue": QUEUE, "record": started(), **other}
    return Creation(key=key, owned=owned, wake_at=wake_at, **values)


def event(key: int, kind: MailKind = MailKind.EVENT, time: int = 50, payload: bytes = b"mail") -> Mail:
    """A mail to the process with the id of `creation`."""
    return Mail(f"id {key}", kind, "event name", None, payload, time)


def ending(key: int, status: Status = Status.COMPLETED, *, seq: int = 2, mail: int = 0) -> End:
    """The end of a process whose last record is number *seq*; `ended_at` is that number."""
    return End(key, status, None, last(seq), mail)


@dataclass(slots=True)
class Host:
    """A storage object with a session, and the number of its next batch."""

    storage: JournalStorage
    session: int
    number: int = 0

    async def commit(self, **parts: Any) -> BatchResult:
        """Write one batch of this session."""
        self.number += 1
        return await self.storage.commit(Batch(self.session, self.number, **parts))

    async def claim(self, now: int = 10**6, limit: int = 1000, queues: Sequence[str] = (QUEUE,)) -> Sequence[Claim]:
        """Claim for this session."""
        return await self.storage.claim(self.session, queues, limit, now)

    async def collect(self) -> Sequence[InboxItem]:
        """Collect for this session."""
        return await self.storage.collect(self.session)

    async def row(self, key: int) -> ProcessRow:
        """The row of the process with the id of `creation`, which has to be there."""
        row = await self.storage.row(f"id {key}")
        assert row is not None, f"process {key} is not there"
        return row


@dataclass(slots=True)
class Stores:
    """What a test has of one place: opens storage objects on it, and closes them when the test is over."""

    make: Callable[[], JournalStorage]
    lease: float
    clock: Clock
    opened: list[JournalStorage] = field(default_factory=list)

    async def open(self) -> JournalStorage:
        """One more storage object on the same data."""
        storage = self.make()
        await storage.open()
        self.opened.append(storage)
        return storage

    async def host(self, storage: JournalStorage | None = None) -> Host:
        """One more session, on a storage object of its own unless one is given."""
        storage = storage or await self.open()
        return Host(storage, await storage.begin_session("host", self.lease))
