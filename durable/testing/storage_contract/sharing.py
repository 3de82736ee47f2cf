"""What many objects have of one store: listings, news of each other, and data that outlive every object."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from durable.errors import StorageError
from durable.storage import Batch, JournalStorage, MailKind, Notice, Stall, Status
from durable.testing.storage_contract.suite import LONGEST, Suite, scenario
from durable.testing.storage_parts import Host, Stores, creation, ending, event, started, step


class Sharing(Suite):
    """Reading, closing, opening again, and hearing of others."""

    @scenario
    async def test_listing(self, stores: Stores) -> None:
        """Listings are newest key first, in pages without overlap, by status and definition; counts agree."""
        host = await stores.host()
        await host.commit(
            creations=[creation(key, definition="even" if key % 2 == 0 else "odd") for key in range(1, 11)]
        )
        await host.commit(ends=[ending(key) for key in (2, 3, 4)], stalls=[Stall(5, "why", 0)])
        storage = host.storage
        assert [row.key for row in await storage.rows()] == list(range(10, 0, -1))
        assert [row.key for row in await storage.rows(limit=4)] == [10, 9, 8, 7]
        assert [row.key for row in await storage.rows(limit=4, before=7)] == [6, 5, 4, 3]
        assert [row.key for row in await storage.rows(before=1)] == []
        assert [row.key for row in await storage.rows(definition="even", limit=3, before=9)] == [8, 6, 4]
        assert [row.key for row in await storage.rows(status=[Status.COMPLETED])] == [4, 3, 2]
        some = [Status.COMPLETED, Status.STALLED]
        assert [row.key for row in await storage.rows(status=some, limit=3)] == [5, 4, 3]
        assert [row.key for row in await storage.rows(status=some, definition="odd")] == [5, 3]
        assert [row.key for row in await storage.rows(status=[])] == []
        assert [row.key for row in await storage.rows(definition="none")] == []
        assert await storage.count() == 10
        assert await storage.count(status=some) == 4
        assert await storage.count(status=some, definition="odd") == 2
        assert await storage.count(definition="even") == 5
        assert await storage.count(status=[]) == 0

    @scenario
    async def test_rows_by_id(self, stores: Stores) -> None:
        """Rows that are asked for by several ids: those that exist, as they stand now, each once."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in range(1, 6)])
        await host.commit(ends=[ending(2)], stalls=[Stall(3, "why", 0)], progress={4: b"half"})
        rows = await host.storage.rows_by_id(["id 4", "nobody", "id 2", "id 3", "id 4", "ID 1", "", "id"])
        assert sorted(rows) == [await host.row(key) for key in (2, 3, 4)]
        assert list(await host.storage.rows_by_id(["nobody"])) == []
        assert list(await host.storage.rows_by_id([])) == []
        await host.storage.purge([2])
        assert [row.key for row in await host.storage.rows_by_id({"id 1", "id 2"})] == [1]

    @scenario
    async def test_rows_of_many_ids(self, stores: Stores) -> None:
        """There may be more ids than a statement of the database has parameters."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in (1, 7_000, 40_000)])
        rows = await host.storage.rows_by_id([f"id {key}" for key in range(1, 40_001)])
        assert sorted(row.key for row in rows) == [1, 7_000, 40_000]

    @scenario
    async def test_data_outlive_the_object(self, stores: Stores) -> None:
        """What was committed is seen by other objects at once, and by one that is opened after all were closed."""
        host = await stores.host()
        other = await stores.open()
        await host.commit(creations=[creation(1), creation(2)], records=[(1, step(2))], mails=[event(1)])
        assert await other.row("id 1") is not None
        await host.commit(progress={1: b"half"}, stalls=[Stall(2, "why", 0)])
        before = (await other.rows(), await other.journal(1), await other.inbox(1))
        assert (before[0][0].status, before[0][1].progress, len(before[1])) == (Status.STALLED, b"half", 2)
        await host.storage.close()
        await other.close()
        again = await stores.open()
        assert (await again.rows(), await again.journal(1), await again.inbox(1)) == before
        assert await again.last_batch(host.session) == 2

    @scenario
    async def test_closed_object_lets_go(self, stores: Stores) -> None:
        """An object that was closed, twice even, does nothing any more; its session is not ended by that."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.close()
        await host.storage.close()
        with pytest.raises(StorageError):
            await host.commit(records=[(1, step(2))])
        other = await stores.host()
        self.pass_time(stores.clock, self.LEASE / 2)
        assert list(await other.storage.journal(1)) == [started()]
        assert (await other.row(1)).owner == host.session
        assert await other.claim() == []

    @scenario
    async def test_new_life_goes_on(self, stores: Stores) -> None:
        """After closing, the next life buries the session of the last one and goes on where it stood, many times."""
        for seq in range(2, 6):
            host = await stores.host()
            await host.storage.bury()
            if seq == 2:
                await host.commit(creations=[creation(1)])
            else:
                [claim] = await host.claim()
                assert len(claim.records) == seq - 1
            await host.commit(records=[(1, step(seq))])
            self.pass_time(stores.clock, self.LEASE + 1)
            await host.storage.close()

    def test_abandoned_object_loses_nothing(self, tmp_path: Path) -> None:
        """
        What was acknowledged is there although its object was never closed: for other objects, and in a copy.

        A copy of the files is what a ``kill -9`` leaves; it is made for stores that keep their data in files.
        """
        place = tmp_path / "place"
        place.mkdir()

        async def main() -> None:
            async with self.stores(place) as stores:
                host = await stores.host()
                await host.commit(creations=[creation(1)], mails=[event(1)])
                for seq in range(2, 7):
                    await host.commit(records=[(1, step(seq))], creations=[creation(seq)])
                    await _assert_written(await stores.open(), host, seq)
                    if self.KEEPS_FILES:
                        copy = tmp_path / f"copy {seq}"
                        shutil.copytree(place, copy)
                        async with self.stores(copy, stores.clock) as abandoned:
                            await _assert_written(await abandoned.open(), host, seq)

        asyncio.run(main())

    @scenario
    async def test_many_open_at_once(self, stores: Stores) -> None:
        """Objects that are opened on nothing at the same time all find a usable store, and each gets a session."""
        storages = [stores.make() for _ in range(5)]
        stores.opened += storages
        await asyncio.gather(*(storage.open() for storage in storages))
        sessions = await asyncio.gather(*(storage.begin_session("host", self.LEASE) for storage in storages))
        assert len(set(sessions)) == 5

    @scenario
    async def test_waiting_for_a_change_ends(self, stores: Stores) -> None:
        """Waiting ends after its timeout when nothing happens, and is only a hint when something does."""
        host = await stores.host()
        async with asyncio.timeout(LONGEST / 3):
            await host.storage.wait_for_change(0.01)
            await host.commit(creations=[creation(1)])
            await host.storage.wait_for_change(0.01)

    @scenario
    async def test_change_by_another_object_is_heard(self, stores: Stores) -> None:
        """Who waits hears of a commit by another object, begun before or after it, long before the timeout."""
        if not self.HEARS_CHANGES:
            pytest.skip("HEARS_CHANGES is False: this store lets its hosts poll")
        storage, other = await stores.open(), await stores.open()
        await storage.wait_for_change(0.01)
        async with asyncio.timeout(LONGEST / 3):
            for key in (1, 3):
                waiting = asyncio.create_task(storage.wait_for_change(LONGEST * 2))
                await asyncio.sleep(0)
                await other.commit(Batch(None, creations=[creation(key, owned=False)]))
                await waiting
                await other.commit(Batch(None, creations=[creation(key + 1, owned=False)]))
                await storage.wait_for_change(LONGEST * 2)
                assert await storage.count() == key + 1

    @scenario
    async def test_mail_beside_a_notice_is_heard(self, stores: Stores) -> None:
        """Mail for a process of another host is heard there, also when its batch has an end and a notice of it."""
        if not self.HEARS_CHANGES:
            pytest.skip("HEARS_CHANGES is False: this store lets its hosts poll")
        owner, sender = await stores.host(), await stores.host()
        await owner.commit(creations=[creation(1)])
        await sender.commit(creations=[creation(2), creation(3)])
        await owner.storage.wait_for_change(0.05)  # of what was before
        notices = [Notice(2, event(9, MailKind.RETURN))]
        await sender.commit(mails=[event(1)], ends=[ending(2)], notices=notices)
        async with asyncio.timeout(LONGEST / 3):
            await owner.storage.wait_for_change(LONGEST * 2)
        [item] = await owner.collect()
        assert item.key == 1


async def _assert_written(storage: JournalStorage, host: Host, seq: int) -> None:
    assert len(await storage.journal(1)) == seq
    assert [row.key for row in await storage.rows()] == list(range(seq, 0, -1))
    assert len(await storage.inbox(1)) == 1
    assert await storage.last_batch(host.session) == seq
