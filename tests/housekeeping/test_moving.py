"""Housekeeping beside a move: what is on its way to another store may be nowhere else, so it stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import pytest

from durable import Event, MessagePackCodec, Process, ProcessHost, ProcessTerminated, process
from durable.errors import CorruptJournal, StorageError
from durable.housekeeping import Retention, keep_house
from durable.journal import Record
from durable.storage import Batch, BatchResult, JournalStorage, Status, open_storage
from durable.testing.storage_proxy import StorageProxy
from durable.transfer import Outcome, move
from tests.housekeeping.stores import end_some

Go = Event("go", str)


@asynccontextmanager
async def hosted(storage: JournalStorage) -> AsyncIterator[ProcessHost]:
    """A host on an open store, which is open again after it."""
    await storage.close()
    async with ProcessHost(storage, [waiting], park_after=timedelta(milliseconds=1)) as host:
        yield host
    await storage.open()


@process
async def waiting(proc: Process) -> str:
    """Waits for an event."""
    return await proc.event(Go)


class Unreachable(StorageProxy):
    """A destination that takes no processes."""

    async def commit(self, batch: Batch) -> BatchResult:
        raise StorageError("The destination is gone")


@pytest.fixture
async def target() -> AsyncIterator[JournalStorage]:
    target = open_storage(f"memory://{uuid4()}")
    await target.open()
    yield target
    await target.close()


async def interrupted(storage: JournalStorage, target: JournalStorage) -> None:
    """Leave two waiting processes in the middle of a move: ended at *storage*, not created at *target* yet."""
    async with hosted(storage) as host:
        for number in (1, 2):
            await host.start(waiting(), id=f"waits-{number}")
    with pytest.raises(StorageError, match="The destination is gone"):
        await move(storage, Unreachable(target), "there", MessagePackCodec())
    assert [row.status for row in await storage.rows(status=[Status.TERMINATED])] == [Status.TERMINATED] * 2
    assert await target.count() == 0


@pytest.mark.parametrize("batch", [1, 500])
@pytest.mark.parametrize("archived", [False, True])
async def test_what_is_on_its_way_is_not_purged(
    storage: JournalStorage, target: JournalStorage, archived: bool, batch: int
) -> None:
    """A purge in the middle of a move takes everything else; the move then goes on, and the processes with it."""
    await end_some(storage, 3)
    await interrupted(storage, target)
    retention = Retention(timedelta(0), f"memory://{uuid4()}" if archived else None, batch=batch)
    report = await keep_house(storage, retention)
    assert report.purged == 3
    assert set(report.left) == {"waits-1", "waits-2"}
    assert all("on its way to another store" in why for why in report.left.values())
    transfers = await move(storage, target, "there", MessagePackCodec())
    assert {(transfer.id, transfer.outcome) for transfer in transfers} == {
        ("waits-1", Outcome.MOVED),
        ("waits-2", Outcome.MOVED),
    }
    assert await storage.count() == 0
    async with hosted(target) as host:
        await host.raise_event("waits-2", Go, "on")
        assert await host.get("waits-2").result() == "on"


class OfANewerVersion(StorageProxy):
    """A store in which one journal cannot be read."""

    key = 0

    async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
        if key == self.key:
            raise CorruptJournal("a record of a newer version")
        return await super().journal(key, after)


async def test_one_that_cannot_be_read_keeps_no_others(storage: JournalStorage) -> None:
    """Whether it is on its way cannot be read: that one stays, with the reason, and the others are purged."""
    async with hosted(storage) as host:
        for number in range(3):
            await host.start(waiting(), id=f"waits-{number}")
            await host.terminate(f"waits-{number}", "moved to a better place")
            with pytest.raises(ProcessTerminated):
                await host.get(f"waits-{number}").result(timedelta(seconds=20))
    strange, row = OfANewerVersion(storage), await storage.row("waits-1")
    assert row is not None
    strange.key = row.key
    report = await keep_house(strange, Retention(timedelta(0), None))
    assert (report.purged, [*report.left]) == (2, ["waits-1"])
    assert "newer version" in report.left["waits-1"]


async def test_one_that_was_terminated_in_such_words_is_purged(storage: JournalStorage) -> None:
    """A reason somebody gave says nothing; only the record of a move does."""
    async with hosted(storage) as host:
        await host.start(waiting(), id="waits")
        await host.terminate("waits", "moved to another shelf")
        async for _ in host.get("waits").watch():
            pass
    assert (await keep_house(storage, Retention(timedelta(0), None))).purged == 1


async def test_a_purge_between_two_reads_of_a_move(storage: JournalStorage, target: JournalStorage) -> None:
    """An ended process that is purged while it is copied is not copied, and the others are."""

    class Purging(StorageProxy):
        async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
            if key == 2:
                await self.storage.purge([key])
            return await super().journal(key, after)

    await end_some(storage, 3)
    transfers = await move(Purging(storage), target, "there", MessagePackCodec(), ended=True)
    assert {transfer.id for transfer in transfers if transfer.outcome is Outcome.COPIED} == {"order-1", "order-3"}
