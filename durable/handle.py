"""How code outside a process sees it: a handle, and the small read-only pictures a handle gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from durable.codec import Codec
from durable.errors import DurableError
from durable.journal import ENDS, Record
from durable.storage import ENDED, ProcessRow, Status
from durable.times import moment

R = TypeVar("R", covariant=True)

NO_REASON = "on request"  # why a process was cancelled, if nobody says more


@dataclass(frozen=True, slots=True)
class Progress:
    """
    A progress report: *done* of *total* (None: not known), and a word on what is being done.

    The report of a process is what it or one of its actions said last; ``steps`` has what each action that runs says of
    itself, by checkpoint name.
    """

    done: float
    total: float | None
    message: str
    steps: Mapping[str, Progress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """
    How a process stands.

    Attributes:
        key: Grows in the order of creation, and stays the same for life; what ``list(before=…)`` takes. Up to 63 bits:
            more than a number of JavaScript holds, so write it into JSON as a string.
        status: ``running`` covers waiting; ``stalled`` cannot go on with the code there is, and ``reason`` says why.
        waits_for: What it waits for, as "event 'email verified'", if it is in the memory of the host that was asked.
        resident: Whether some session holds it. It is in the memory of the host of that session, or waits for another
            host if that one has stopped: which of these, the store does not tell here.
    """

    id: str
    definition: str
    status: Status
    created_at: datetime
    ended_at: datetime | None
    reason: str | None
    progress: Progress | None
    resident: bool
    waits_for: tuple[str, ...] = ()
    key: int = 0

    @property
    def ended(self) -> bool:
        """Whether it is over, in whatever way."""
        return self.status in ENDED

    def seen_from_inside(
        self, waits: Sequence[tuple[str, str, str | None]], progress: Progress | None
    ) -> ProcessStatus:
        """The same, with what only the host that has it in memory knows."""
        waits_for = tuple(f"{what} {name!r}" for what, name, _event in waits)
        return replace(self, waits_for=waits_for, progress=progress)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One record of a journal, readable: ``value`` is its payload decoded, or bytes where that is not possible."""

    seq: int
    kind: str
    name: str
    time: datetime
    value: Any


def picture(row: ProcessRow, codec: Codec) -> ProcessStatus:
    """How a process stands, as its row says."""
    return ProcessStatus(
        id=row.id,
        definition=row.definition,
        status=row.status,
        created_at=moment(row.created_at),
        ended_at=None if row.ended_at is None else moment(row.ended_at),
        reason=row.reason,
        progress=None if row.progress is None else read_progress(row.progress, codec),
        resident=row.owner is not None,
        key=row.key,
    )


def read_progress(report: bytes, codec: Codec) -> Progress:
    """A progress report as it is kept."""
    done, total, message, *more = codec.decode(report)
    steps = {name: Progress(*step) for name, step in more[0].items()} if more else {}
    return Progress(done, total, message, steps)


def history_entry(record: Record, codec: Codec) -> HistoryEntry:
    """One record, readable."""
    return HistoryEntry(record.seq, record.kind.name, record.name, moment(record.time), _value(record, codec))


def _value(record: Record, codec: Codec) -> Any:
    if not record.payload:
        return None
    try:
        value = codec.decode(record.payload)
    except DurableError:
        return record.payload
    if record.kind in ENDS and isinstance(value, tuple):
        return value[0]
    return value


class Connection(Protocol):
    """What a handle needs of the client or host that made it."""

    async def _result(self, id: str, timeout: timedelta | None) -> Any: ...
    async def _status(self, id: str) -> ProcessStatus: ...
    async def _history(self, id: str) -> list[HistoryEntry]: ...
    def _watch(self, id: str) -> AsyncIterator[ProcessStatus]: ...
    async def cancel(self, id: str, reason: str = ...) -> None: ...


class Handle(Generic[R]):
    """
    A process, by its id. Cheap to make, valid as long as the client or host it came from is open.

    Attributes:
        id: The id of the process.
        created: Whether the call of `start` that gave this handle has created the process.
    """

    __slots__ = ("_connection", "_created", "id")

    def __init__(self, connection: Connection, id: str, *, created: bool = False) -> None:
        self._connection = connection
        self._created = created
        self.id = id

    def __repr__(self) -> str:
        return f"<handle of process {self.id!r}>"

    @property
    def created(self) -> bool:
        """
        Whether the very call of `start` that gave this handle has created the process.

        False if it was there already, and for handles from `get`. Of any number of calls with one id it is True for
        one; for none if the call that created it was never answered, because the program or its store failed.
        """
        return self._created

    async def result(self, timeout: timedelta | None = None) -> R:
        """
        Wait until the process has ended, and return what its function returned. A stalled one is waited for.

        Args:
            timeout: Longest wait; the process itself goes on. None waits for as long as it takes, zero or less only
                looks. While the store is away this waits on.

        Raises:
            Exception: What the function raised, as its own type if that survives the journal, else `ProcessFailed`.
            ProcessCancelled: It was cancelled (`ProcessTimedOut`: by its own timeout).
            ProcessTerminated: It was terminated.
            ProcessNotFound: There is no process with this id.
            ResultNotReady: *timeout* is over. A plain `TimeoutError` is what the function raised.
            HostClosed: The client or host this handle came from is closed, or closes meanwhile.
            InvalidDefinition: *timeout* is not a timedelta.
        """
        result: R = await self._connection._result(self.id, timeout)
        return result

    async def status(self) -> ProcessStatus:
        """
        How it stands now: whether it runs, has ended or is stalled, and since when.

        What it waits for is known of a process in the memory of the very host the handle came from.

        Raises:
            ProcessNotFound: There is no process with this id, or none any more.
            StorageError: The store could not be read; it is not tried again.
            HostClosed: The client or host this handle came from is closed.
        """
        return await self._connection._status(self.id)

    async def history(self) -> list[HistoryEntry]:
        """
        Its journal, decoded, oldest record first: everything it has learned from the outside, for looking into it.

        A payload that this codec or program cannot decode is given as bytes. Of a process that restarts itself it is
        the journal of its present life. The whole journal is read into memory.

        Raises:
            ProcessNotFound: There is no process with this id, or none any more.
            StorageError: The store could not be read; it is not tried again.
            HostClosed: The client or host this handle came from is closed.
        """
        return await self._connection._history(self.id)

    async def cancel(self, reason: str = NO_REASON) -> None:
        """
        Ask it to stop: `asyncio.CancelledError` at the line where it waits; it may compensate, and may take its time.

        Durability: The request is on storage at return. A second one changes nothing.
        Raises:
            ProcessNotFound, ProcessEnded: There is nothing to cancel.
            StorageError: The request could not be written, to a process that is not in the memory of this host.
            PayloadTooLarge: *reason* is longer than the payload limit.
        """
        await self._connection.cancel(self.id, reason)

    def watch(self) -> AsyncIterator[ProcessStatus]:
        """
        Every change of status or progress, as it comes, until the process has ended; the first is how it stands now.

        Reports that follow each other quickly may be seen as one. Once it has begun it waits on while the store is
        away, and tells what has become of the process when the store is back.

        Raises:
            ProcessNotFound: At the first step: there is no process with this id; later: it was purged.
            StorageError: At the first step: the store could not be read; later, as `CorruptJournal`: the row of the
                process cannot be read any more.
            HostClosed: The client or host this handle came from is closed, or closes meanwhile.
        """
        return self._connection._watch(self.id)
