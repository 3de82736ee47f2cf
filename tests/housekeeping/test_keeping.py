"""Housekeeping, once: what is old enough leaves the store, and all of it is in the archive."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from durable.errors import CorruptJournal, InvalidDefinition, StorageError
from durable.housekeeping import Retention, keep_house, list_archive, read_archive
from durable.journal import Kind, Record
from durable.storage import Batch, Creation, JournalStorage, Park, Status, open_storage
from durable.testing.storage_proxy import StorageProxy
from durable.transfer import put
from tests.housekeeping.stores import DAY, LONG_AGO, NOW, START, end_some, everything


async def ids_in(archive: str, **which: Any) -> list[str]:
    return [entry.id async for entry in list_archive(archive, **which)]


async def test_what_was_purged_is_in_the_archive_exactly(storage: JournalStorage, archive: str) -> None:
    """Rows, journals, inboxes: what is read back equals what was in the store, to the byte."""
    await end_some(storage, 12)
    before = await everything(storage)
    report = await keep_house(storage, Retention(LONG_AGO, archive, batch=5), now=NOW)
    assert (report.archived, report.purged, report.objects, report.left) == (12, 12, 3, {})
    assert await storage.count() == 0
    read = {process.entry.id: process.snapshot async for process in read_archive(archive)}
    assert read == before
    entries = [entry async for entry in list_archive(archive)]
    assert [entry.id for entry in entries] == [f"order-{number}" for number in range(1, 13)]
    assert {entry.status for entry in entries} == {Status.COMPLETED, Status.FAILED}
    assert sum(entry.length for entry in entries) == report.size


async def test_what_was_archived_can_come_back(storage: JournalStorage, archive: str) -> None:
    """A process found by its id is put into another store, and is the same there."""
    await end_some(storage, 9)
    before = await everything(storage)
    await keep_house(storage, Retention(LONG_AGO, archive, batch=4), now=NOW)
    (process,) = [process async for process in read_archive(archive, id="order-6")]
    other = open_storage(f"memory://{uuid4()}")
    await other.open()
    await put(other, process.snapshot)
    (there,) = (await everything(other)).values()
    numbered = tuple(
        item._replace(number=mine.number) for item, mine in zip(before["order-6"].inbox, there.inbox, strict=True)
    )
    assert there == replace(before["order-6"], inbox=numbered)
    await other.close()


async def test_only_what_ended_long_enough_ago_goes(storage: JournalStorage) -> None:
    """Neither what ended lately nor what runs, stalls or waits is touched, to the microsecond."""
    archive = f"memory://{uuid4()}"
    await end_some(storage, 4, apart=DAY)
    ended = START + 2 * DAY + 3  # when the second ended
    session = await storage.begin_session("test", 60)
    creation = Creation(99, "waits", "ship", "default", True, None, Record(1, Kind.STARTED, "ship", b"", START))
    await storage.commit(Batch(session, 1, creations=[creation], parks=[Park(99, None, 0)]))
    await keep_house(storage, Retention(timedelta(days=30), archive), now=ended + 30 * DAY)
    assert await ids_in(archive) == ["order-1"]
    await keep_house(storage, Retention(timedelta(days=30), archive), now=ended + 30 * DAY + 1)
    assert await ids_in(archive) == ["order-1", "order-2"]
    assert set(await everything(storage)) == {"order-3", "order-4", "waits"}


async def test_one_object_holds_one_day(storage: JournalStorage) -> None:
    """Days bound the objects, so that whoever knows the day of an end reads little of the index."""
    archive = f"memory://{uuid4()}"
    await end_some(storage, 6, apart=DAY // 2)
    report = await keep_house(storage, Retention(LONG_AGO, archive), now=NOW)
    assert report.objects == 3
    assert await ids_in(archive, first=date(2026, 11, 3), last=date(2026, 11, 3)) == ["order-3", "order-4"]
    assert await ids_in(archive, first=date(2026, 11, 4)) == ["order-5", "order-6"]
    assert await ids_in(archive, last=date(2026, 11, 2)) == ["order-1", "order-2"]


async def test_without_an_archive_it_is_only_deleted(storage: JournalStorage) -> None:
    """`archive=None` purges, in batches, and reads no journal."""
    counted = Counting(storage)
    await end_some(storage, 11)
    report = await keep_house(counted, Retention(LONG_AGO, None, batch=4), now=NOW)
    assert (report.archived, report.purged, report.objects) == (0, 11, 0)
    assert counted.purges == [4, 4, 3]
    assert counted.reads == 0


async def test_transactions_are_bounded(storage: JournalStorage) -> None:
    """A transaction and a look for each batch, none larger than that, and a read for each journal and inbox."""
    counted = Counting(storage)
    await end_some(storage, 25)
    report = await keep_house(counted, Retention(LONG_AGO, f"memory://{uuid4()}", batch=10), now=NOW)
    assert report.purged == 25
    assert counted.purges == [10, 10, 5]
    assert counted.looks == 4
    assert counted.reads == 25 + 8  # every third has had mail


async def test_an_id_that_comes_again_is_found_twice(storage: JournalStorage) -> None:
    """After a purge an id may be used again: the archive has both processes and tells them apart by key."""
    archive = f"memory://{uuid4()}"
    retention = Retention(LONG_AGO, archive)
    await end_some(storage, 2)
    await keep_house(storage, retention, now=NOW)
    first = [process.snapshot async for process in read_archive(archive, id="order-2")]
    session = await storage.begin_session("test", 60)
    again = replace(first[0], key=77)
    await storage.end_session(session)
    await put(storage, again)
    await keep_house(storage, retention, now=NOW)
    found = [process.snapshot async for process in read_archive(archive, id="order-2")]
    assert sorted(snapshot.key for snapshot in found) == [2, 77]


async def test_a_damaged_process_stays_and_the_others_go(storage: JournalStorage) -> None:
    """What cannot be read as a whole is neither archived nor purged, is reported, and does not stop the rest."""
    archive = f"memory://{uuid4()}"
    await end_some(storage, 7)
    report = await keep_house(Damaged(storage, 1), Retention(LONG_AGO, archive, batch=1), now=NOW)
    assert set(report.left) == {"order-1"}
    assert report.purged == 6
    assert [row.id for row in await storage.rows()] == ["order-1"]


async def test_several_hosts_at_once_do_no_harm(storage: JournalStorage, archive: str) -> None:
    """Four at a time on one store: everything is purged once, is in the archive exactly, and is heard of once."""
    await end_some(storage, 40)
    before = await everything(storage)
    retention = Retention(LONG_AGO, archive, batch=7)
    reports = await asyncio.gather(*(keep_house(storage, retention, now=NOW + number) for number in range(4)))
    assert sum(report.purged for report in reports) == 40
    read = [process.snapshot async for process in read_archive(archive)]
    assert len(read) == 40
    assert {snapshot.id: snapshot for snapshot in read} == before


async def test_an_archive_on_disk_is_flushed(
    storage: JournalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is purged, the objects are flushed and every folder that leads to them, new ones included."""
    flushed: set[Path] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        flushed.add(Path(f"/proc/self/fd/{descriptor}").resolve())

    monkeypatch.setattr(os, "fsync", note)
    await end_some(storage, 3)
    flushed.clear()

    class Looking(StorageProxy):
        async def purge(self, keys: Collection[int]) -> int:
            objects = set((tmp_path / "a").rglob("*.gz"))
            assert len(objects) == 2
            needed = objects | {folder for one in objects for folder in one.parents if folder.is_relative_to(tmp_path)}
            assert needed <= flushed
            return await super().purge(keys)

    assert (await keep_house(Looking(storage), Retention(LONG_AGO, f"file://{tmp_path}/a/b/c"), now=NOW)).purged == 3


async def test_a_failing_archive_keeps_everything(storage: JournalStorage, s3: str) -> None:
    """If nothing can be put, nothing is purged, and the error names the archive."""
    await end_some(storage, 3)
    with pytest.raises(StorageError, match=r"The archive could not be written.*") as told:
        await keep_house(storage, Retention(LONG_AGO, f"{s3}-missing"), now=NOW)
    assert told.value.archive == f"{s3}-missing"
    assert await storage.count() == 3


async def test_wrong_urls_are_told(storage: JournalStorage) -> None:
    """An unknown scheme and a missing folder are errors of ours that name the URL."""
    with pytest.raises(StorageError, match=r"could not be opened: .*gopher://hole"):
        await keep_house(storage, Retention(LONG_AGO, "gopher://hole"), now=NOW)
    with pytest.raises(StorageError, match="could not be opened"):
        await ids_in("file:///nowhere/at/all")


async def test_without_the_extra_the_fix_is_told(storage: JournalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore an archive is refused with what to install, and deleting works all the same."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    await end_some(storage, 3)
    with pytest.raises(ImportError, match=r"pip install '\.\[objects\]'"):
        await keep_house(storage, Retention(LONG_AGO, "memory://any"), now=NOW)
    assert (await keep_house(storage, Retention(LONG_AGO, None), now=NOW)).purged == 3


@pytest.mark.parametrize(
    "options",
    [
        {"keep": timedelta(days=-1)},
        {"batch": 0},
        {"every": timedelta(0)},
        {"archive": "folder"},
    ],
)
def test_a_retention_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    """Lengths, numbers and URLs out of range are told where they are written."""
    with pytest.raises(InvalidDefinition, match=next(iter(options))):
        Retention(**{"keep": LONG_AGO, "archive": None, **options})


class Counting(StorageProxy):
    """Counts what is asked of a store."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.purges: list[int] = []
        self.looks = 0
        self.reads = 0

    async def ended(self, before: int, limit: int) -> Any:
        self.looks += 1
        return await super().ended(before, limit)

    async def purge(self, keys: Any) -> int:
        self.purges.append(len(keys))
        return await super().purge(keys)

    async def journal(self, key: int, after: int = 0) -> Any:
        self.reads += 1
        return await super().journal(key, after)

    async def inbox(self, key: int) -> Any:
        self.reads += 1
        return await super().inbox(key)


class Damaged(StorageProxy):
    """A store in which the journal of process *key* cannot be read."""

    def __init__(self, storage: JournalStorage, key: int) -> None:
        super().__init__(storage)
        self._key = key

    async def journal(self, key: int, after: int = 0) -> Any:
        if key == self._key:
            raise CorruptJournal("The journal has a gap")
        return await super().journal(key, after)
