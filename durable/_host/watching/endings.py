"""
Waiting for processes to end or change: told at once by the host that owns them, found by looking otherwise.

Belongs here: who waits for which process, and what they get. When the store is asked stands in `looks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from durable._host.failures import unexpected
from durable._host.watching.changes import Changes
from durable._host.watching.looks import Looks
from durable._host.watching.watch import Watch
from durable.errors import CorruptJournal, DurableError, HostClosed, ProcessNotFound, StorageError
from durable.journal import Record
from durable.storage import ENDED, JournalStorage, ProcessRow


class Awaited:
    """A process somebody waits for: *results* for its end, *watches* for every change."""

    __slots__ = ("results", "watches")

    def __init__(self) -> None:
        self.results: set[asyncio.Future[Record]] = set()
        self.watches: set[Watch] = set()

    def settle(self, record: Record) -> None:
        """It has ended, with this record."""
        for result in self.results:
            if not result.done():
                result.set_result(record)

    def fail(self, error: DurableError) -> None:
        """Its results will not come."""
        for result in self.results:
            if not result.done():
                result.set_exception(error)


class Endings:
    """Who waits for which process; `Looks` looks for all whose host does not tell, this one."""

    def __init__(self, storage: JournalStorage) -> None:
        self.changes = Changes(storage)
        self.owned: Callable[[str], bool] = lambda id: False
        self._storage = storage
        self._awaited: dict[str, Awaited] = {}
        self._looks = Looks(storage, self.changes, self)
        self._ended: dict[str, ProcessRow] = {}  # results are awaited, and their records not read yet
        self._reading: asyncio.Task[None] | None = None
        self._is_closed = False

    async def wait(self, id: str) -> Record:
        """The last record of process *id*, once it has one. Raises `ProcessNotFound`."""
        if self._is_closed:  # while whoever comes now was asking for something else first
            raise _closed(id)
        result: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        awaited = self._awaited_of(id)
        awaited.results.add(result)
        try:
            if not self.owned(id):
                self._looks.look_for(id)
            return await result
        finally:
            awaited.results.discard(result)
            self._forget(id, awaited)

    @contextmanager
    def watching(self, id: str) -> Iterator[Watch]:
        """Who watches process *id*, told of each change as long as this context lasts."""
        awaited = self._awaited_of(id)
        watch = Watch(lambda: self._recheck(id, watch))
        awaited.watches.add(watch)
        self._looks.add(id)
        try:
            yield watch
        finally:
            awaited.watches.discard(watch)
            self._forget(id, awaited)

    def tell(self, id: str, record: Record | None) -> None:
        """A process changed or left this host; it has ended if there is a *record*."""
        awaited = self._awaited.get(id)
        if awaited is None:
            return
        if record is not None:
            awaited.settle(record)
        if self.owned(id):
            for watch in awaited.watches:
                watch.wake()
        elif awaited.watches or record is None:
            for watch in awaited.watches:
                watch.await_row()
            self._looks.look_for(id)

    async def close(self) -> None:
        """Nobody will be told any more."""
        self._is_closed = True
        for id, awaited in self._awaited.items():
            awaited.fail(_closed(id))
            for watch in awaited.watches:
                watch.fail(_closed(id))
        async with AsyncExitStack() as closing:  # each is done, also if who closes is cancelled in one before
            closing.push_async_callback(self.changes.close)
            closing.push_async_callback(self._looks.close)
            if self._reading is not None:
                self._reading.cancel()
                await asyncio.wait([self._reading])

    # --- what looks ask and tell ---

    def needs_look(self, id: str) -> bool:
        """Whether this host does not tell how process *id* stands, or did not tell it all."""
        awaited = self._awaited[id]
        return not self.owned(id) or any(watch.is_outdated for watch in awaited.watches)

    def passed(self, id: str) -> None:
        """The process is here. What it waits for changes without a word, so who watches looks at that."""
        watches = self._awaited[id].watches
        if not watches:
            self._looks.forget(id)  # until it leaves
        for watch in watches:
            watch.wake_from_time_to_time()

    def failed(self, id: str, error: DurableError) -> None:
        """How the process stands cannot be read."""
        awaited = self._awaited.get(id)
        if awaited is not None:
            awaited.fail(error)
            for watch in awaited.watches:
                watch.fail(error)

    def looked(self, id: str, row: ProcessRow | None) -> None:
        """This is how the process stands; those learn it to whom it is news."""
        awaited = self._awaited.get(id)
        if awaited is None:
            return
        if row is None:
            awaited.fail(not_found(id))
            for watch in awaited.watches:
                if watch.has_begun:
                    watch.fail(not_found(id))
            return
        for watch in awaited.watches:
            watch.show(row)
        if awaited.results and row.status in ENDED:
            self._read_last(row, awaited)

    # --- inside ---

    def _awaited_of(self, id: str) -> Awaited:
        awaited = self._awaited.get(id)
        if awaited is None:
            awaited = self._awaited[id] = Awaited()
        return awaited

    def _forget(self, id: str, awaited: Awaited) -> None:
        if not awaited.results and not awaited.watches:
            del self._awaited[id]
            self._looks.forget(id)

    def _recheck(self, id: str, watch: Watch) -> None:
        if self.owned(id):
            watch.is_outdated = True
            self._looks.look_for(id)

    def _read_last(self, row: ProcessRow, awaited: Awaited) -> None:
        self._ended[row.id] = row
        if not awaited.watches:
            self._looks.forget(row.id)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._keep_reading(), name="durable: results")

    async def _keep_reading(self) -> None:
        # Apart from the looks, which nobody's results should hold up, and one after the other: there may be thousands.
        while self._ended:
            id = next(iter(self._ended))
            row = self._ended.pop(id)
            awaited = self._awaited.get(id)
            if awaited is None or not awaited.results:
                continue
            try:
                last = await self._last_record(row)
            except StorageError as error:
                if isinstance(error, CorruptJournal):
                    awaited.fail(error)
                last = None
            except Exception as error:
                awaited.fail(unexpected(error))
                last = None
            if last is not None:
                awaited.settle(last)
            if id in self._awaited:  # the store is away, the process was purged, or somebody else has come to wait
                self._looks.add(id)

    async def _last_record(self, row: ProcessRow) -> Record | None:
        """The last record of a process that has ended; None if it has just been purged."""
        if records := await self._storage.journal(row.key):
            return records[-1]
        if row in await self._storage.rows_by_id([row.id]):
            raise CorruptJournal(f"The journal of process {row.id!r} is empty", key=row.key)
        return None


def not_found(id: str) -> ProcessNotFound:
    """The error of who asks for a process that does not exist."""
    return ProcessNotFound(f"There is no process {id!r} in this store")


def _closed(id: str) -> HostClosed:
    return HostClosed(f"The host or client was closed while process {id!r} was waited for")
