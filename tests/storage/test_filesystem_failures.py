"""A failing disk under a filesystem store: what was acknowledged is there, what failed is not, and work goes on."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from durable.errors import StorageFull, StorageReadOnly
from durable.storage import Batch
from durable.testing.storage_child import OtherProcess
from durable.testing.storage_parts import creation, step
from durable_storage.filesystem import checkpoint, journals, log
from tests.storage.children import tampering
from tests.storage.filesystem import begin, copy, end_of_log, everything, glance, log_of, look, opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is."""
    return tmp_path / "store"


@pytest.fixture
def other(place: Path) -> Iterator[OtherProcess]:
    """An OS process with a session on the store, with one process created."""
    with OtherProcess(f"file://{place}") as one:
        assert one.ask("create", key=1) == "done"
        yield one
    one.close()


def failing(strace: str, other: OtherProcess, place: Path, call: str, error: str, when: str) -> object:
    """Let the system calls *call* of *other* on the log fail with *error*."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}", "-P", str(log_of(place))]
    return tampering(strace, other.process.pid, *inject)


@pytest.mark.parametrize(
    ("call", "error", "raised"),
    [
        ("pwrite64", "ENOSPC", "StorageFull"),
        ("pwrite64", "EIO", "StorageError"),
        ("fdatasync", "EIO", "StorageError"),
        ("fdatasync", "ENOSPC", "StorageFull"),
    ],
)
async def test_failed_commit_is_not_there(
    place: Path, tmp_path: Path, other: OtherProcess, strace: str, call: str, error: str, raised: str
) -> None:
    """A commit that failed is not there: not now, not after a crash. The same one is accepted when the disk works."""
    with failing(strace, other, place, call, error, "1"):  # type: ignore[attr-defined]
        assert other.ask("create", key=2) == raised
    assert sorted(glance(copy(place, tmp_path / "crashed"))) == ["id 1"]
    assert other.ask("create", key=2) == "done"
    assert sorted(glance(copy(place, tmp_path / "crashed later"))) == ["id 1", "id 2"]
    other.kill()
    assert sorted(await look(place)) == ["id 1", "id 2"]


async def test_disk_that_stays_broken(place: Path, other: OtherProcess, strace: str) -> None:
    """While every sync fails every commit says so, others can read, and it goes on when the disk does."""
    with failing(strace, other, place, "fdatasync", "EIO", "1+"):  # type: ignore[attr-defined]
        assert [other.ask("create", key=2) for _ in range(2)] == ["StorageError"] * 2
        async with opened(place) as storage:
            assert await storage.count() == 1
            assert other.ask("create", key=2) == "StorageError"
            assert await storage.count() == 1
    assert other.ask("create", key=2) == "done"
    other.kill()
    assert sorted(await look(place)) == ["id 1", "id 2"]


async def test_unsynced_data_is_written_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After a failed fsync what was not known durable before it is written again, not just synced again.

    The kernel may have marked its pages clean; a second fsync of the same pages would say "done" and do nothing.
    """
    written: list[tuple[int, int]] = []
    fail = [False, True, False]

    def sync(descriptor: int) -> None:
        if fail.pop(0) if fail else False:
            raise OSError(errno.EIO, "broken")
        os.fdatasync(descriptor)

    def write_all(descriptor: int, data: bytes, offset: int) -> None:
        written.append((offset, offset + len(data)))
        os.pwrite(descriptor, data, offset)

    async with opened(place) as storage:
        host = await begin(storage)
        monkeypatch.setattr(log, "sync", sync)
        await host.commit(creations=[creation(1, owned=False, wake_at=0)])
        durable = end_of_log(place)
        await host.claim()
        claimed = end_of_log(place)
        monkeypatch.setattr(log, "write_all", write_all)
        with pytest.raises(Exception, match="The disk under the store failed"):
            await host.commit(records=[(1, step(2))])
        assert written[1:] == [(durable, claimed)]
        assert end_of_log(place) == claimed
        await host.commit(records=[(1, step(2))])
        assert len(await storage.journal(1)) == 2


@pytest.mark.parametrize("when", ["write", "sync"])
async def test_failed_checkpoint_costs_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """A checkpoint that fails hurts no commit, before or after it, and is made up for by a later one."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(checkpoint, "_DUE_AT", 2000)
    async with opened(place) as storage:
        host = await begin(storage)
        checkpointer = storage._checkpointer
        assert checkpointer is not None
        with monkeypatch.context() as broken:
            broken.setattr(journals, "write_all" if when == "write" else "sync", fail)
            for key in range(1, 20):
                await host.commit(creations=[creation(key)])
            monkeypatch.setattr(checkpoint, "_DUE_AT", 2**40)
            await storage.last_batch(host.session)  # whatever was begun has been begun now
            checkpointer.wait()
            assert len(list(place.glob("batches-*.log"))) > 1
        before = await everything(storage)
        assert len(before) == 19
        assert glance_of_copy(place) == before
    assert await look(place) == before
    assert len(list(place.glob("batches-*.log"))) == 1


def glance_of_copy(place: Path) -> object:
    """What a crash now would leave."""
    return glance(copy(place, place.with_name("crashed")))


async def test_disk_that_is_really_full(small_disk: Path) -> None:
    """On a full disk the batch is refused as a whole; with some space again the next one is written."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20))
    async with opened(small_disk / "store") as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)])
        with pytest.raises(StorageFull, match="free some space"):
            await host.commit(creations=[creation(2)], progress={1: bytes(2**20)})
        assert await storage.last_batch(host.session) == 1
        assert [row.key for row in await storage.rows()] == [1]
        ballast.unlink()
        await host.commit(creations=[creation(2)])
        assert [row.key for row in await storage.rows()] == [2, 1]


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def test_full_disk_at_the_end(small_disk: Path) -> None:
    """A disk that is full when the files are to be completed loses nothing: the log is kept."""
    async with opened(small_disk / "store") as storage:
        host = await begin(storage)
        await host.commit(creations=[creation(1)], progress={1: bytes(300_000)})
        before = await everything(storage)
        fill(small_disk / "ballast")
    (small_disk / "ballast").unlink()
    assert await look(small_disk / "store") == before


async def test_read_only_directory(small_disk: Path) -> None:
    """A store that cannot be written is refused with what to do, and is not touched."""
    place = small_disk / "store"
    async with opened(place) as storage:
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageReadOnly, match="write permission"):
        await look(place)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert sorted(await look(place)) == ["id 1"]
