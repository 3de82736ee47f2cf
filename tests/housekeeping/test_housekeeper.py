"""Housekeeping beside a host: it comes back, bears failures, and stops when told."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from durable.errors import StorageError
from durable.housekeeping import Housekeeper, Report, Retention, read_archive
from durable.storage import JournalStorage
from durable.testing.storage_proxy import StorageProxy
from tests.housekeeping.stores import DAY, LONG_AGO, NOW, START, end_some, everything

OFTEN = timedelta(milliseconds=5)


async def test_it_comes_back_again_and_again(storage: JournalStorage) -> None:
    """What grows old while a host runs is archived while it runs, by the clock of the host."""
    archive, watched = f"memory://{uuid4()}", Watched(storage)
    await end_some(storage, 6, apart=DAY)
    before = await everything(storage)
    time = [START + 3 * DAY + DAY // 2 + 30 * DAY]
    keeper = Housekeeper(watched, Retention(LONG_AGO, archive, every=OFTEN), now=lambda: time[0])
    keeper.start()
    await watched.has_purged(3)
    assert {row.id for row in await storage.rows()} == {"order-4", "order-5", "order-6"}
    time[0] = NOW
    await watched.has_purged(6)
    await watched.looked_again()
    await keeper.stop()
    assert {process.entry.id: process.snapshot async for process in read_archive(archive)} == before
    assert (keeper.report.archived, keeper.report.purged, keeper.report.objects) == (6, 6, 6)


async def test_failures_are_logged_and_tried_again(storage: JournalStorage, caplog: pytest.LogCaptureFixture) -> None:
    """A store or archive that fails for a while, even in a way it should not, only delays housekeeping."""
    watched = Watched(storage)
    watched.failures = [StorageError("The disk is gone"), RuntimeError("A bug"), StorageError("And again")]
    await end_some(storage, 4)
    keeper = Housekeeper(watched, Retention(LONG_AGO, None, every=OFTEN), now=lambda: NOW)
    with caplog.at_level(logging.WARNING, "durable.housekeeping"):
        keeper.start()
        await watched.has_purged(4)
        await keeper.stop()
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "WARNING"]
    assert "The disk is gone" in caplog.text


async def test_it_stops_in_the_middle_and_another_goes_on(storage: JournalStorage) -> None:
    """Stopped between put and purge it lets go at once, and a second one finishes what was begun."""
    archive, watched = f"memory://{uuid4()}", Watched(storage)
    retention = Retention(LONG_AGO, archive, every=OFTEN)
    await end_some(storage, 4)
    before = await everything(storage)
    watched.hangs = True
    keeper = Housekeeper(watched, retention, now=lambda: NOW)
    keeper.start()
    await watched.purging.wait()
    await keeper.stop()
    assert keeper.report == Report()
    watched.hangs = False
    keeper = Housekeeper(watched, retention, now=lambda: NOW)
    keeper.start()
    await watched.has_purged(4)
    await keeper.stop()
    assert {process.entry.id: process.snapshot async for process in read_archive(archive)} == before


async def test_a_wrong_archive_is_told_at_once(storage: JournalStorage) -> None:
    """A URL that leads nowhere keeps a host from beginning, rather than failing every ten minutes."""
    with pytest.raises(StorageError, match="could not be opened"):
        Housekeeper(storage, Retention(LONG_AGO, "gopher://hole"))


async def test_one_that_was_never_started_can_be_stopped(storage: JournalStorage) -> None:
    """A host that fails while it is entered may stop what it has not started."""
    await Housekeeper(storage, Retention(LONG_AGO, None)).stop()


class Watched(StorageProxy):
    """A store whose purges can be waited for, fail, or hang."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.purging = asyncio.Event()
        self.failures: list[Exception] = []
        self.hangs = False
        self._purged = 0
        self._changed = asyncio.Condition()
        self._looks = 0

    async def has_purged(self, count: int) -> None:
        """Return once *count* processes were purged."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._purged >= count)

    async def looked_again(self) -> None:
        """Return after another look for what has ended, by which what came before it was reported."""
        async with self._changed:
            looks = self._looks
            await self._changed.wait_for(lambda: self._looks > looks)

    async def ended(self, before: int, limit: int) -> Any:
        async with self._changed:
            self._looks += 1
            self._changed.notify_all()
        return await super().ended(before, limit)

    async def purge(self, keys: Any) -> int:
        self.purging.set()
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.failures:
            raise self.failures.pop(0)
        purged = await super().purge(keys)
        async with self._changed:
            self._purged += purged
            self._changed.notify_all()
        return purged
