"""How code outside a process sees it: a handle, and the small read-only pictures a handle gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from durable.storage import ENDED, Status

R = TypeVar("R", covariant=True)


@dataclass(frozen=True, slots=True)
class Progress:
    """A progress report: *done* of *total* (None: not known), and a word on what is being done."""

    done: float
    total: float | None
    message: str


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """
    How a process stands.

    Attributes:
        status: ``running`` covers waiting; ``stalled`` cannot go on with the code there is, and ``reason`` says why.
        waits_for: What it waits for, as "event 'email verified'", if it is in the memory of the host that was asked.
        resident: Whether it is in the memory of some host now.
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


class Connection(Protocol):
    """What a handle needs of the client or host that made it."""

    async def _result(self, id: str, timeout: timedelta | None) -> Any: ...
    async def _status(self, id: str) -> ProcessStatus: ...
    async def _history(self, id: str) -> list[HistoryEntry]: ...
    def _watch(self, id: str) -> AsyncIterator[ProcessStatus]: ...
    async def cancel(self, id: str, reason: str = ...) -> None: ...


class Handle(Generic[R]):
    """A process, by its id. Cheap to make, valid as long as the client or host it came from is open."""

    __slots__ = ("_connection", "id")

    def __init__(self, connection: Connection, id: str) -> None:
        self._connection = connection
        self.id = id

    def __repr__(self) -> str:
        return f"<handle of process {self.id!r}>"

    async def result(self, timeout: timedelta | None = None) -> R:
        """
        Wait until the process has ended, and return what its function returned. A stalled one is waited for.

        Args:
            timeout: Longest wait; the process itself goes on.

        Raises:
            Exception: What the function raised, as its own type if that survives the journal, else `ProcessFailed`.
            ProcessCancelled: It was cancelled (`ProcessTimedOut`: by its own timeout).
            ProcessTerminated: It was terminated.
            ProcessNotFound: There is no process with this id.
            TimeoutError: *timeout* is over.
        """
        result: R = await self._connection._result(self.id, timeout)
        return result

    async def status(self) -> ProcessStatus:
        """How it stands now. Raises `ProcessNotFound`."""
        return await self._connection._status(self.id)

    async def history(self) -> list[HistoryEntry]:
        """Its journal, decoded, oldest record first. Raises `ProcessNotFound`."""
        return await self._connection._history(self.id)

    async def cancel(self, reason: str = "cancelled") -> None:
        """
        Ask it to stop: `asyncio.CancelledError` at the line where it waits; it may compensate, and may take its time.

        Durability: The request is on storage at return. A second one changes nothing.
        Raises:
            ProcessNotFound, ProcessEnded: There is nothing to cancel.
        """
        await self._connection.cancel(self.id, reason)

    def watch(self) -> AsyncIterator[ProcessStatus]:
        """
        Every change of status or progress, as it comes, until the process has ended; the first is how it stands now.

        Reports that follow each other quickly may be seen as one. Raises `ProcessNotFound`.
        """
        return self._connection._watch(self.id)
