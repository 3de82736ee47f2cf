"""A failing disk under a SQLite store: what was acknowledged is there, what failed is not, and work goes on after."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from durable.errors import StorageError, StorageFull
from durable.storage import Batch
from durable.testing.storage_parts import creation
from durable_storage.sqlite.provider import SqliteStorage
from tests.storage.children import Child, OpenStore, StartChild, tampering


def failing(
    strace: str, child: Child, path: Path, call: str, error: str, when: str = "1"
) -> AbstractContextManager[None]:
    """Let the system calls *call* of *child* on the WAL of *path* fail with *error*."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}", "-P", f"{path}-wal"]
    return tampering(strace, child.process.pid, *inject)


@pytest.fixture
def writer(path: Path, child: StartChild) -> Child:
    """A child that commits on demand, with one process already there."""
    one = child("serve", path)
    assert one.read() == "session 1"
    assert one.ask("commit 1") == "done"
    return one


@pytest.mark.parametrize(
    ("call", "error", "raised"),
    [
        ("pwrite64", "ENOSPC", "StorageFull"),
        ("pwrite64", "EIO", "StorageError"),
        ("fdatasync", "EIO", "StorageError"),
        ("fdatasync", "ENOSPC", "StorageError"),
    ],
)
async def test_failed_commit_is_not_there(
    path: Path, writer: Child, strace: str, open_store: OpenStore, call: str, error: str, raised: str
) -> None:
    """
    A commit that failed is not there: not now, not for the session, and not after a crash that makes SQLite recover.

    The same batch is accepted when the disk works again.
    """
    with failing(strace, writer, path, call, error):
        assert writer.ask("commit 2 5000") == raised
    assert writer.ask("last") == "1"
    crashed = path.with_name("crashed.db")
    for suffix in ("", "-wal"):  # what a power cut would leave: the files without the shared index
        crashed.with_name(crashed.name + suffix).write_bytes(Path(f"{path}{suffix}").read_bytes())
    recovered = sqlite3.connect(crashed)
    assert recovered.execute("SELECT id FROM process").fetchall() == [("id 1",)]
    assert recovered.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    recovered.close()
    assert writer.ask("commit 2 5000") == "done"
    assert writer.ask("last") == "2"
    writer.kill()
    storage = await open_store()
    assert [row.id for row in await storage.rows()] == ["id 2", "id 1"]


async def test_disk_that_stays_broken(path: Path, writer: Child, strace: str, open_store: OpenStore) -> None:
    """While every write fails every commit says so, the store can be read, and it goes on when the disk does."""
    with failing(strace, writer, path, "pwrite64", "ENOSPC", when="1+"):
        assert [writer.ask(f"commit {key}") for key in (2, 3)] == ["StorageFull", "StorageFull"]
        assert writer.ask("last") == "1"
        storage = await open_store()
        assert await storage.count() == 1
    assert writer.ask("commit 2") == "done"
    assert await storage.count() == 2


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
async def test_failed_checkpoint_costs_nothing(
    path: Path, writer: Child, strace: str, open_store: OpenStore, call: str
) -> None:
    """A checkpoint that fails hurts no commit, before or after it, and is made up for by a later one."""
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when=1", "-P", str(path)]
    with tampering(strace, writer.process.pid, *inject):
        assert [writer.ask(f"commit {key} {3 * 2**20}") for key in range(2, 8)] == ["done"] * 6
    assert path.stat().st_size > 2**22
    writer.kill()
    storage = await open_store()
    assert [row.key for row in await storage.rows()] == [7, 6, 5, 4, 3, 2, 1]
    assert {len((await storage.journal(key))[0].payload) for key in range(2, 8)} == {3 * 2**20}


async def test_disk_that_is_really_full(small_disk: Path) -> None:
    """On a full disk the batch is refused as a whole; with some space again the next one is written."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20))
    storage = SqliteStorage(f"sqlite:///{small_disk}/store.db")
    await storage.open()
    session = await storage.begin_session("host", 30)
    await storage.commit(Batch(session, 1, creations=[creation(1)]))
    with pytest.raises(StorageFull, match="free some space"):
        await storage.commit(Batch(session, 2, creations=[creation(2)], progress={1: bytes(2**20)}))
    assert await storage.last_batch(session) == 1
    assert [row.key for row in await storage.rows()] == [1]
    ballast.unlink()
    await storage.commit(Batch(session, 2, creations=[creation(2)]))
    assert [row.key for row in await storage.rows()] == [2, 1]
    await storage.close()


@pytest.mark.parametrize("what", [{"id": "\ud800"}, {"key": 2**63}])
async def test_value_that_sqlite_does_not_take(open_store: OpenStore, what: dict[str, Any]) -> None:
    """Half a character and a number of more than 64 bits are refused as errors of the store; nothing is written."""
    storage = await open_store()
    with pytest.raises(StorageError, match="nothing was written"):
        await storage.commit(Batch(None, creations=[creation(1, False), creation(2, False)._replace(**what)]))
    assert await storage.count() == 0
    await storage.commit(Batch(None, creations=[creation(1, False)]))
    assert await storage.count() == 1
