"""
What `Insight` answers: frozen data, ready for a table, a page or JSON.

Values (arguments, results, payloads) are in the readable form of `durable.codec.reader_for`: what `json.dumps` takes,
whatever classes they were made of. Times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from durable.handle import Progress
from durable.storage import Status


class Place(StrEnum):
    """Where a process is, as far as its row tells."""

    CLAIMABLE = "claimable"  # due, and no host has taken it yet
    PARKED = "parked"  # only in the journal, until its time or mail comes
    HELD = "held"  # a session owns it; whether that session still lives, the row does not tell
    STALLED = "stalled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ProcessSummary:
    """
    A process as its row tells, without its journal.

    Attributes:
        session: The session that holds it, or None. It stays here after its host has stopped, until another one comes.
        wake_at: When it wants to be claimed by itself; None also while a session holds it.
        reason: Why it is stalled, cancelled or terminated.
    """

    id: str
    definition: str
    queue: str
    status: Status
    place: Place
    session: int | None
    created_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    reason: str | None
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some processes, newest first, of *total* that were asked for."""

    processes: tuple[ProcessSummary, ...]
    total: int


class WaitKind(StrEnum):
    """What a process can wait for."""

    VALUE = "value"  # of a `get`, which is about to be taken
    ACTION = "action"
    EVENT = "event"
    DELAY = "delay"
    TIMEOUT = "timeout"  # a limit around something else
    TIMER = "timer"  # an unnamed one of asyncio
    DEADLINE = "deadline"  # the longest life of the process
    CHILD = "child"  # the end of a process that this one has started
    OTHER = "other"  # a kind of checkpoint that this version does not know by name


@dataclass(frozen=True, slots=True)
class Wait:
    """
    One thing a process waits for.

    Attributes:
        name: The checkpoint, or the task of an unnamed timer.
        event: Name of the event, if that is known.
        until: When the timer fires, or when the action is tried again.
        attempt: Number of the attempt that runs or comes next.
        child: Id of the process that is waited for, if that is known.
    """

    kind: WaitKind
    name: str = ""
    event: str | None = None
    until: datetime | None = None
    attempt: int | None = None
    child: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """
    Where a process stands and why, as one plain *sentence*, and what it was made from.

    ``exact`` says that the process was replayed, so that *waits* is complete. Otherwise it is what the journal tells
    by itself: waiting for an event without a timeout, for instance, leaves no record, and what has one may have been
    given up since.
    """

    sentence: str
    waits: tuple[Wait, ...] = ()
    exact: bool = False


class CheckpointState(StrEnum):
    """How a checkpoint stands in the journal."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """
    A checkpoint that has left a record.

    Attributes:
        kind: "get", "do", "delay", "event", "timeout", "child", or "timer" for an unnamed one of asyncio.
        record: Sequence number of its first record.
        started_at: When it was asked for: its first record if that says so (timers, intents), else the record before,
            which is exact unless several branches run side by side.
        duration: From asked for to recorded; None while it is open.
        due: When its timer fires, or its next attempt starts.
        attempts: How often the action has been tried, as far as recorded.
        error: "ValueError: the message" of the failure, or of the last attempt.
        child: Id of the process that was started here, for a child.
    """

    name: str
    kind: str
    state: CheckpointState
    record: int
    started_at: datetime
    ended_at: datetime | None
    duration: timedelta | None
    due: datetime | None
    attempts: int
    value: Any
    error: str | None
    child: str | None = None


@dataclass(frozen=True, slots=True)
class EventView:
    """An event in the journal; ``taken_by`` is the checkpoint that took it."""

    record: int
    name: str
    key: str | None
    time: datetime
    value: Any
    taken_by: str | None


@dataclass(frozen=True, slots=True)
class MailView:
    """What lies in the inbox and has not been moved into the journal yet."""

    number: int
    kind: str
    name: str
    key: str | None
    time: datetime
    value: Any


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record, its payload readable."""

    seq: int
    kind: str
    name: str
    time: datetime
    value: Any


@dataclass(frozen=True, slots=True)
class ProcessView:
    """
    A process with all that its journal and inbox tell.

    Attributes:
        arguments, keywords: What it was started with.
        deadline: When its own timeout cancels it.
        cancel_requested: Why it was asked to stop, if it was.
        error: "ValueError: the message", if it failed.
        notes: What its end record notes: drift, failures nobody saw, events nobody took.
    """

    summary: ProcessSummary
    waiting: WaitingFor
    records: int
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    deadline: datetime | None
    cancel_requested: str | None
    result: Any
    error: str | None
    notes: tuple[str, ...]
    checkpoints: tuple[CheckpointView, ...]
    events: tuple[EventView, ...]
    inbox: tuple[MailView, ...]
