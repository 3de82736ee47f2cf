"""
`FaultyStorage`: a store that fails when a test wants it to, as a full or broken disk or network does, and recovers.

Everything else is the real store. What happens below a store, to its files, is in `durable.testing.disk_faults`; for
kills see `durable.testing.crash`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from durable.errors import StorageError
from durable.storage import JournalStorage
from durable.testing.storage_proxy import Operation, StorageProxy

T = TypeVar("T")


class _Fault(NamedTuple):
    """What happens to one call: it is sent *sent* times, and then fails unless *error* is None."""

    error: StorageError | None
    sent: int


class FaultyStorage(StorageProxy):
    """
    Passes every call on to *storage*, except where a fault was asked for.

    ``storage.fail(StorageFull("…"))`` lets the next commit fail, ``times=`` so many in a row, ``operation=`` another
    method than ``commit``. A call that fails has written nothing, as the protocol says; with ``applied=True`` it has,
    and only the answer is lost. ``storage.repeat()`` lets the next commit reach the store twice, `steal_lease` takes a
    session away from its host. ``failed`` holds what has failed so far; `has_failed` waits for it.

    Source: the fault layer of FoundationDB's simulation, reduced to what one host can see of its store.
    """

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.failed: list[Operation] = []
        self._faults: dict[str, list[_Fault]] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def fail(self, error: StorageError, *, operation: str = "commit", times: int = 1, applied: bool = False) -> None:
        """
        Let the next *times* calls of *operation* raise *error*.

        Args:
            operation: A method of `JournalStorage` that may write: ``open``, ``begin_session``, ``commit``, …
            times: How many calls fail, at least 1.
            applied: The call does its work before it fails.
        """
        self._faults.setdefault(operation, []).extend([_Fault(error, int(applied))] * times)

    def repeat(self, *, operation: str = "commit") -> None:
        """
        Let the next call of *operation* be done twice, as by a layer that sends again when an answer is late.

        The caller gets the second answer, or the error of the second time.
        """
        self._faults.setdefault(operation, []).append(_Fault(None, 2))

    async def steal_lease(self, session: int) -> None:
        """
        Take *session* away from its host: it writes nothing any more, and others may claim what it owns at once.

        For the host it is what happens when it was paused for longer than its lease and then buried.
        """
        await self.storage.end_session(session)

    def recover(self) -> None:
        """Forget every fault that has not happened yet."""
        self._faults.clear()

    async def has_failed(self, times: int = 1) -> None:
        """Return once *times* calls in all have failed."""
        if len(self.failed) < times:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((times, future))
            await future

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        faults = self._faults.get(operation.name)
        if not faults:
            return await call()
        fault = faults.pop(0)
        for _ in range(fault.sent - (fault.error is None)):
            await call()
        if fault.error is None:
            return await call()
        self._note(operation)
        raise fault.error

    def _note(self, operation: Operation) -> None:
        self.failed.append(operation)
        for times, future in self._waiting:
            if len(self.failed) >= times and not future.done():
                future.set_result(None)
