"""Waiting for processes to end or change: told at once by the host that owns them, found by looking otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from durable._host.changes import Changes
from durable.errors import DurableError, HostClosed, StorageError
from durable.journal import Record
from durable.storage import JournalStorage

_LOOK_EVERY = 0.5  # longest seconds between two looks while somebody waits for a process owned elsewhere
_SPACING = 0.005

Look = Callable[[str], Awaitable[Record | None]]


class Endings:
    """Who waits for which process; one loop looks for all of them."""

    def __init__(self, storage: JournalStorage) -> None:
        self.changes = Changes(storage)
        self._waiters: dict[str, list[asyncio.Future[Record]]] = {}
        self._elsewhere: set[str] = set()  # of those waited for: nobody will tell, so look
        self._unseen: dict[str, None] = {}  # of these: not looked at yet
        self._asked = asyncio.Event()
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._look: Look = _look_nowhere
        self.owned: Callable[[str], bool] = lambda id: False

    async def wait(self, id: str, look: Look) -> Record:
        """The last record of process *id*, once it has one. *look* reads it, or raises if there is no such process."""
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(id, []).append(future)
        self._look = look
        try:
            if not self.owned(id):
                self._look_for(id)
            return await future
        finally:
            waiters = self._waiters[id]
            waiters.remove(future)
            if not waiters:
                del self._waiters[id]
                self._elsewhere.discard(id)
                self._unseen.pop(id, None)

    def tell(self, id: str, record: Record | None) -> None:
        """A process changed or left this host; it has ended if there is a *record*."""
        if record is not None:
            for future in self._waiters.get(id, ()):
                if not future.done():
                    future.set_result(record)
        elif id in self._waiters and not self.owned(id):
            self._look_for(id)
        for event in self._watchers.get(id, ()):
            event.set()

    @contextmanager
    def watching(self, id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever this host changes process *id*."""
        event = asyncio.Event()
        self._watchers.setdefault(id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[id].discard(event)
            if not self._watchers[id]:
                del self._watchers[id]

    async def change(self, event: asyncio.Event, seen: int) -> None:
        """Return when *event* is set or the store may have changed since `changes` counted *seen*."""
        told = asyncio.ensure_future(event.wait())
        noticed = asyncio.ensure_future(self.changes.after(seen, _LOOK_EVERY))
        both: tuple[asyncio.Future[Any], ...] = (told, noticed)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            noticed.cancel()
            await asyncio.wait(both)

    async def close(self) -> None:
        """Nobody will be told any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.changes.close()
        for id in self._waiters:
            self._fail(id, HostClosed(f"The host or client was closed while the result of process {id!r} was awaited"))

    def _look_for(self, id: str) -> None:
        self._elsewhere.add(id)
        self._unseen[id] = None
        self._asked.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_looking(), name="durable: results")

    async def _keep_looking(self) -> None:
        # One look at a time: when thousands of results are awaited right after a start, most of those processes are
        # here before their turn comes, and need none.
        seen = self.changes.count
        while self._elsewhere:
            while self._unseen:
                await self._look_at(next(iter(self._unseen)))
            self._asked.clear()
            await asyncio.sleep(_SPACING)
            await self.change(self._asked, seen)
            if self.changes.count != seen or not self._asked.is_set():
                seen = self.changes.count
                self._unseen.update(dict.fromkeys(self._elsewhere))

    async def _look_at(self, id: str) -> None:
        self._unseen.pop(id, None)
        if self.owned(id):
            self._elsewhere.discard(id)  # it has come here, and this host will tell
            return
        try:
            record = await self._look(id)
        except StorageError:
            self._unseen.clear()  # the store is away: the wait goes on when it is back
        except DurableError as error:
            self._fail(id, error)
        else:
            if record is not None:
                self.tell(id, record)

    def _fail(self, id: str, error: DurableError) -> None:
        for future in self._waiters.get(id, ()):
            if not future.done():
                future.set_exception(error)


async def _look_nowhere(id: str) -> Record | None:
    raise HostClosed(f"Nobody has asked for process {id!r} yet")
