"""Several OS processes on one SQLite file: everybody's work is there, once, and the file is sound."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from durable.errors import StorageError
from durable.storage import Batch, Status
from durable.testing.storage_parts import creation
from durable_storage.sqlite.provider import SqliteStorage
from tests.storage.children import OpenStore, StartChild, open_files


def check_integrity(path: Path) -> None:
    """Let SQLite itself look at every page."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_processes_write_together(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """Four OS processes that open and write one new file at the same time lose nothing and corrupt nothing."""
    children = [child("write", path, first, 60) for first in (1, 1001, 2001, 3001)]
    assert [one.read() for one in children] == ["ready"] * 4
    for one in children:
        one.send()
    assert [one.read() for one in children] == ["done"] * 4
    storage = await open_store()
    assert await storage.count(status=[Status.COMPLETED]) == 240
    assert [len(await storage.journal(first)) for first in (1, 1060, 3060)] == [3, 3, 3]
    await storage.close()
    check_integrity(path)


async def test_killed_writers_leave_a_sound_file(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """Writers killed in the middle of their commits leave whole journals; a survivor is not held up by their locks."""
    victims = [child("write", path, first, 10_000) for first in (1, 100_001)]
    survivor = child("write", path, 200_001, 40)
    assert [one.read() for one in (*victims, survivor)] == ["ready"] * 3
    for one in (*victims, survivor):
        one.send()
    for victim in victims:
        victim.kill()
    assert survivor.read() == "done"
    storage = await open_store()
    assert await storage.bury() == 2
    for row in await storage.rows(limit=1000):
        journal = await storage.journal(row.key)
        assert len(journal) == 3 if row.status is Status.COMPLETED else len(journal) in (1, 2)
    await storage.close()
    check_integrity(path)


async def test_processes_claim_together(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """OS processes that claim at the same time share what is due: each process goes to one of them."""
    storage = await open_store()
    creations = [creation(key, owned=False, wake_at=0) for key in range(1, 301)]
    await storage.commit(Batch(None, creations=creations))
    children = [child("claim", path) for _ in range(3)]
    assert [one.read() for one in children] == ["ready"] * 3
    for one in children:
        one.send()
    keys = [int(key) for one in children for key in one.read().split()]
    assert sorted(keys) == list(range(1, 301))


async def test_writing_waits_for_the_lock(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """Opening, committing and closing, the last one included, wait while another OS process has the store's lock."""
    storage = await open_store()
    opening = SqliteStorage(f"sqlite:///{path}")
    for start in (
        lambda: storage.commit(Batch(None, creations=[creation(1, owned=False)])),
        opening.open,
        opening.close,
        storage.close,
    ):
        holder = child("hold_lock", path)
        assert holder.read() == "locked"
        waiting = asyncio.ensure_future(start())
        await asyncio.wait({waiting}, timeout=0.1)
        assert not waiting.done()
        holder.send()
        await waiting


async def test_one_descriptor_of_a_lock(path: Path, open_store: OpenStore) -> None:
    """However many objects share a store, its lock has one descriptor: closing a second one would free the lock."""
    storages = [await open_store() for _ in range(3)]
    assert [name for name in open_files() if name.endswith("-lock")] == [f"{path}-lock"]
    await storages[0].close()
    assert [name for name in open_files() if name.endswith("-lock")] == [f"{path}-lock"]


async def test_change_by_others_is_noticed(path: Path, child: StartChild, open_store: OpenStore) -> None:
    """Waiting ends when another OS process or object has written, before it began or after, and not by own writes."""
    storage, other = await open_store(), await open_store()
    writer = child("serve", path)
    assert writer.read() == "session 1"
    assert writer.ask("commit 1") == "done"
    await storage.wait_for_change(0)
    waiting = asyncio.create_task(storage.wait_for_change(60))
    await asyncio.sleep(0)
    writer.send("end 1")
    async with asyncio.timeout(20):
        await waiting
        assert writer.read() == "done"
        await other.commit(Batch(None, creations=[creation(2, owned=False)]))
        await storage.wait_for_change(60)
    await storage.commit(Batch(None, creations=[creation(3, owned=False)]))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await storage.wait_for_change(0.05)
    assert loop.time() - began >= 0.05


async def test_wait_ends_with_the_object(open_store: OpenStore) -> None:
    """A wait that is under way when its storage object is closed just ends."""
    storage = await open_store()
    waiting = asyncio.create_task(storage.wait_for_change(60))
    await asyncio.sleep(0)
    await storage.close()
    async with asyncio.timeout(20):
        await waiting


async def test_change_before_an_own_write_is_noticed(open_store: OpenStore) -> None:
    """A write by others that an own write follows is not forgotten."""
    storage, other = await open_store(), await open_store()
    await storage.wait_for_change(0)
    await other.commit(Batch(None, creations=[creation(1, owned=False)]))
    await storage.commit(Batch(None, creations=[creation(2, owned=False)]))
    async with asyncio.timeout(20):
        await storage.wait_for_change(60)


async def test_two_stores_in_one_process(tmp_path: Path) -> None:
    """Two files are two stores: nothing of one is seen or locked by the other."""
    stores = [SqliteStorage(f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
    for number, storage in enumerate(stores, start=1):
        await storage.open()
        await storage.commit(Batch(None, creations=[creation(number, owned=False)]))
    assert [await storage.count() for storage in stores] == [1, 1]
    for storage in stores:
        await storage.close()


async def test_symbolic_link_is_the_same_store(tmp_path: Path, path: Path, open_store: OpenStore) -> None:
    """Two names of one file share its locks: a session of the one object is not taken for dead by the other."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    storage = await open_store()
    session = await storage.begin_session("host", 30)
    other = SqliteStorage(f"sqlite:///{link}")
    await other.open()
    assert await other.bury() == 0
    assert await other.last_batch(session) == 0
    await other.close()


async def test_foreign_lock_is_reported(path: Path, open_store: OpenStore) -> None:
    """Another program that keeps the file locked is named after the busy timeout, and nothing is written."""
    storage = SqliteStorage(f"sqlite:///{path}?busy_timeout=0")
    await storage.open()
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="Another program keeps the store locked"):
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    foreign.execute("ROLLBACK")
    await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    foreign.close()
    await storage.close()


def test_answer_to_a_closed_loop_is_dropped(path: Path) -> None:
    """A loop that was closed while its commit was under way does not hurt the writer: the next loop goes on."""
    storage = SqliteStorage(f"sqlite:///{path}")

    async def leave_in_the_middle() -> None:
        await storage.open()
        assert storage._writer is not None
        entered, leave = threading.Event(), threading.Event()

        def hold_up() -> bool:
            entered.set()
            return leave.wait(20)

        unanswered = storage._writer.run(hold_up)
        entered.wait(20)
        commit = asyncio.ensure_future(storage.commit(Batch(None, creations=[creation(1, owned=False)])))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(leave.set)
        assert not unanswered.done()
        assert not commit.done()

    async def go_on() -> None:
        await storage.commit(Batch(None, creations=[creation(2, owned=False)]))
        assert await storage.count() == 2
        await storage.close()

    asyncio.run(leave_in_the_middle())
    asyncio.run(go_on())
