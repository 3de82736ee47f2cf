"""The commit log and the index of a filesystem store when the disk fails, is nearly full, or somebody else writes."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from durable.errors import CorruptJournal, StorageError
from durable.storage import Batch, Park
from durable.testing.storage_parts import creation, event, step
from durable_storage.filesystem import index, log
from durable_storage.filesystem.layout import Layout
from durable_storage.filesystem.lines import record_line
from tests.storage.filesystem import begin, copy, end_of_log, journal, log_of, look, opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


# --- the log ---------------------------------------------------------------------------------------------------


async def test_unsynced_data_is_written_again_later(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second try after a failed fsync fails, too, the next commit writes anew all that was not durable."""
    written: list[tuple[int, int]] = []
    fail = [True, True]

    def sync(descriptor: int) -> None:
        if fail and fail.pop():
            raise OSError(errno.EIO, "broken")
        os.fdatasync(descriptor)

    def write_all(descriptor: int, data: bytes, offset: int) -> None:
        written.append((offset, offset + len(data)))
        os.pwrite(descriptor, data, offset)

    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1, owned=False, wake_at=0)])
        durable = end_of_log(place)
        await host.claim()
        claimed = end_of_log(place)
        monkeypatch.setattr(log, "sync", sync)
        monkeypatch.setattr(log, "write_all", write_all)
        with pytest.raises(StorageError, match="The disk under the store failed"):
            await host.commit(records=[(1, step(2))])
        assert not fail
        written.clear()
        await host.commit(records=[(1, step(2))])
        assert any(start == durable and end > claimed for start, end in written)


async def test_nothing_is_kept_of_sessions_that_own_nothing(place: Path) -> None:
    """A storage object that outlives session after session, each with a process that got mail, notes none of them."""
    async with opened(place) as storage:
        for key in range(1, 4):
            host = await begin(storage)
            await host.commit(creations=[creation(key)])
            await host.commit(mails=[event(key)])
            assert [item.key for item in await storage.collect(host.session)] == [key]
            await host.commit(parks=[Park(key, None, 1)])
            await storage.end_session(host.session)
        assert storage._store is not None
        assert [storage._store.state._owned, storage._store.state._flagged] == [{}, {}]


async def test_damage_before_a_commit_of_another(place: Path, tmp_path: Path) -> None:
    """What a commit knows to be durable because of others is not cut when it is damaged: it was acknowledged there."""
    async with opened(place) as first, opened(place) as second:
        await second.count()
        start = end_of_log(place)
        for key in (1, 2):
            await first.commit(Batch(None, creations=[creation(key, owned=False)]))
        end = end_of_log(place)
        await second.commit(Batch(None, creations=[creation(3, owned=False)]))
        copy(place, tmp_path / "crashed")
    file = log_of(tmp_path / "crashed")
    data = file.read_bytes()
    file.write_bytes(data[:start] + bytes(byte ^ 4 for byte in data[start : end - 1]) + data[end - 1 :])
    with pytest.raises(CorruptJournal, match="commit log"):
        await look(tmp_path / "crashed")
    assert len(file.read_bytes()) == len(data)


async def test_disk_with_room_for_the_batch_only(small_disk: Path) -> None:
    """A batch that still fits on the disk is written, although the room made with it for later ones does not."""
    async with opened(small_disk / "store") as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                file.truncate(file.tell() - 2**15)
        allocated = log_of(small_disk / "store").stat().st_size
        await host.commit(progress={1: b"x" * (allocated - end_of_log(small_disk / "store"))})
        assert await storage.last_batch(host.session) == 2
        ballast.unlink()
    assert len((await look(small_disk / "store"))["id 1"][0].progress or b"") > 2**15


# --- the index -------------------------------------------------------------------------------------------------


async def test_file_that_was_changed_is_not_indexed(place: Path) -> None:
    """A file of another length than is known of it is not in the index that is saved then, so the next one reads it."""
    async with opened(place) as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1), creation(2)])
        await storage.end_session(host.session)
    async with opened(place) as storage:
        await storage.journal(1)
        with journal(place, "id 1").open("ab") as file:
            file.write(record_line(step(2)))
        assert storage._checkpointer is not None
        storage._checkpointer._save_index()
    assert [len(records) for _, records, _ in (await look(place)).values()] == [1, 2]


async def test_index_of_the_same_moment(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index written just after a change of the directory is not current: another change may have the same time."""
    monkeypatch.setattr(index, "_MANY", 1)
    scans: list[Layout] = []
    scan = index._scan

    def listen(layout: Layout) -> dict[str, tuple[int, int]]:
        scans.append(layout)
        return scan(layout)

    async with opened(place) as storage:
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    monkeypatch.setattr(index, "_scan", listen)
    changed = (place / "processes").stat().st_mtime_ns
    for after, is_looked in ((10**7, True), (10**8, False)):
        os.utime(place / "index", ns=(changed + after, changed + after))
        scans.clear()
        async with opened(place) as storage:
            assert await storage.count() == 1
            assert bool(scans) is is_looked


async def test_strange_index_is_told(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An index that cannot be used is named in a warning, and a good one is there when the store was closed."""
    async with opened(place) as storage:
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    for spoil in (b"durable index 2\n", b"another program"):
        (place / "index").write_bytes(spoil)
        caplog.clear()
        assert len(await look(place)) == 1
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert str(place / "index") in caplog.text
        assert (place / "index").stat().st_size > 100
        caplog.clear()
        assert len(await look(place)) == 1
        assert not caplog.records
