"""
Looking at processes of which nobody here tells: one loop, and one question for all that are waited for.

Belongs here: when the store is asked. Who waits, and what a row means to them, stands in `endings`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

from durable._host.failures import unexpected
from durable._host.watching.changes import Changes
from durable.errors import CorruptJournal, DurableError, StorageError
from durable.storage import JournalStorage, ProcessRow

logger = logging.getLogger("durable.host")

_EVERY = 0.5  # longest seconds between two rounds, where no change is noticed
_SPACING = 0.005
_REST = 4  # a pause is so many times as long as the round before: a busy store is looked at for a fifth of the time
_AT_ONCE = 500  # ids in one question


class Asking(Protocol):
    """For whom is looked."""

    def needs_look(self, id: str) -> bool:
        """Whether only the store can tell how process *id* stands."""

    def passed(self, id: str) -> None:
        """It was the turn of *id*, and it needed no look."""

    def looked(self, id: str, row: ProcessRow | None) -> None:
        """This is the row of process *id*; None: there is no such process."""

    def failed(self, id: str, error: DurableError) -> None:
        """The row of process *id* cannot be read."""


class Looks:
    """Looks at the ids it was given: at all of them when the store may have changed, and at single ones when asked."""

    def __init__(self, storage: JournalStorage, changes: Changes, asking: Asking) -> None:
        self._storage = storage
        self._changes = changes
        self._asking = asking
        self._ids: dict[str, None] = {}
        self._new: dict[str, None] = {}  # of these: wanted at once
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time
        self._seen = 0  # changes, when the last round began
        self._looked = 0.0  # when it ended
        self._pause = 0.0  # and how long after it there is to be none
        self._failing = False

    def add(self, id: str) -> None:
        """From now on look at *id* with the others."""
        self._ids[id] = None
        if self._task is None or self._task.done():
            self._seen, self._looked = self._changes.count, self._time()
            self._task = asyncio.create_task(self._keep_looking(), name="durable: looks")

    def look_for(self, id: str) -> None:
        """Look at *id* as soon as possible, and from now on with the others."""
        self._new[id] = None
        self._asked.set()
        self.add(id)

    def forget(self, id: str) -> None:
        """Look at *id* no more."""
        self._ids.pop(id, None)
        self._new.pop(id, None)

    async def close(self) -> None:
        """Look at nothing any more; call it before the store is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_looking(self) -> None:
        while self._ids:
            self._asked.clear()
            if self._is_due():
                await self._look_at_all()
            else:
                await self._look_at_new()
            await asyncio.sleep(_SPACING)
            await self._wait()

    def _is_due(self) -> bool:
        since = self._time() - self._looked
        return since >= self._pause and (since >= _EVERY or self._changes.count != self._seen)

    async def _look_at_all(self) -> None:
        began = self._time()
        self._seen = self._changes.count  # before the look: what changes during it is looked at again
        self._new.update(self._ids)
        await self._look_at_new()
        self._looked = self._time()
        self._pause = _EVERY if self._failing else (self._looked - began) * _REST

    async def _look_at_new(self) -> None:
        try:
            while self._new:
                # When thousands of results are awaited right after a start, most of those processes are here before
                # the turn of their question comes, and need none.
                await self._ask(self._next_ids())
        except StorageError as error:
            if not self._failing:
                logger.warning("The store fails, and %d processes are waited for: trying on. %s", len(self._ids), error)
            self._failing = True
            self._new.clear()
        else:
            self._failing = False

    async def _ask(self, ids: Sequence[str]) -> None:
        try:
            rows = {row.id: row for row in await self._storage.rows_by_id(ids)} if ids else {}
        except Exception as error:
            if isinstance(error, StorageError) and not isinstance(error, CorruptJournal):
                raise
            # Something is wrong with one of them, and that is not the business of the others.
            if len(ids) == 1:
                self._asking.failed(ids[0], error if isinstance(error, StorageError) else unexpected(error))
            else:
                for id in ids:
                    await self._ask([id])
            return
        for id in ids:
            self._asking.looked(id, rows.get(id))

    def _next_ids(self) -> list[str]:
        ids: list[str] = []
        while self._new and len(ids) < _AT_ONCE:
            id = next(iter(self._new))
            del self._new[id]
            if self._asking.needs_look(id):
                ids.append(id)
            else:
                self._asking.passed(id)
        return ids

    async def _wait(self) -> None:
        """Return when somebody asks, or when the next round is due."""
        asked = asyncio.ensure_future(self._asked.wait())
        due = asyncio.ensure_future(self._next_round())
        both: tuple[asyncio.Future[Any], ...] = (asked, due)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            due.cancel()
            await asyncio.wait(both)

    async def _next_round(self) -> None:
        await asyncio.sleep(self._looked + self._pause - self._time())
        await self._changes.after(self._seen, max(0.0, self._looked + _EVERY - self._time()))
