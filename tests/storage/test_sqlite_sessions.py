"""Sessions of a SQLite store over several OS processes: who is dead, how soon, and what the dead can still do."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.errors import SessionLost, StorageError
from durable.storage import Batch
from durable.testing.storage_parts import QUEUE, creation
from durable_storage.local.boot import boot_clock
from durable_storage.sqlite import provider, sessions
from tests.storage.children import OpenStore, StartChild


def files(path: Path) -> list[str]:
    """Names of the session files beside the store."""
    return sorted(file.name for file in Path(f"{path}-sessions").iterdir())


async def test_killed_process_is_buried_at_once(path: Path, open_store: OpenStore, child: StartChild) -> None:
    """After ``kill -9`` of a host another one gets its processes without waiting for a lease; not while it lives."""
    killed = child("serve", path)
    assert killed.read() == "session 1"
    assert killed.ask("commit 1") == "done"
    storage = await open_store()
    session = await storage.begin_session("host", 30)
    assert await storage.bury() == 0
    assert await storage.claim(session, ["default"], 10, 0) == []
    killed.kill()
    assert await storage.bury() == 1
    [claim] = await storage.claim(session, ["default"], 10, 0)
    assert claim.row.id == "id 1"
    assert files(path) == ["2"]


async def test_paused_process_is_fenced(path: Path, open_store: OpenStore, child: StartChild) -> None:
    """A host that was stopped beyond its lease loses its processes, and cannot write when it wakes up."""
    paused = child("serve", path)
    assert paused.read() == "session 1"
    assert paused.ask("commit 1") == "done"
    paused.stop()
    ahead = 0.0
    storage = await open_store(lease_clock=lambda: boot_clock() + ahead)
    assert await storage.bury() == 0
    ahead = 31.0
    session = await storage.begin_session("host", 30)
    assert await storage.bury() == 1
    [claim] = await storage.claim(session, ["default"], 10, 0)
    paused.go_on()
    assert paused.ask("commit 2") == "SessionLost"
    assert paused.ask("renew") == "False"
    assert paused.ask("last") == "1"
    assert await storage.row("id 2") is None
    assert claim.row.owner == session


async def test_closed_object_is_gone(path: Path, open_store: OpenStore) -> None:
    """A storage object that is closed without ending its session counts as gone, in the same OS process too."""
    first, second = await open_store(), await open_store()
    session = await first.begin_session("host", 30)
    assert await second.bury() == 0
    await first.close()
    assert await second.bury() == 1
    with pytest.raises(SessionLost):
        await second.commit(Batch(session, 1))
    assert files(path) == []


async def test_other_boot_is_dead(path: Path, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of an earlier boot is dead, whatever its lease says: its clock started anew."""
    first = await open_store()
    await first.begin_session("host", 10**6)
    monkeypatch.setattr(provider, "this_boot", lambda: "a later boot")
    second = await open_store()
    assert await second.bury() == 1


async def test_row_without_file_dies_by_lease(path: Path, open_store: OpenStore) -> None:
    """A crash between the row and the file of a session leaves one that lives until its lease, and no longer."""
    now = 100.0
    crashed, storage = await open_store(lease_clock=lambda: now), await open_store(lease_clock=lambda: now)
    session = await crashed.begin_session("host", 30)
    Path(f"{path}-sessions/{session}").unlink()
    await crashed.close()
    assert await storage.bury() == 0
    now += 30
    assert await storage.bury() == 1


async def test_ended_session_leaves_no_file(path: Path, open_store: OpenStore) -> None:
    """Files are deleted with the end of their sessions, and left-overs of crashes with the next beginning."""
    storage = await open_store()
    first = await storage.begin_session("host", 30)
    await storage.end_session(first)
    assert files(path) == []
    Path(f"{path}-sessions/{first}").touch()
    Path(f"{path}-sessions/note.txt").touch()
    second = await storage.begin_session("host", 30)
    assert files(path) == [str(second), "note.txt"]


async def test_very_old_sessions_are_forgotten(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of dead sessions go after a while, but not while they own a process; asking for one is an error, not a 0."""
    monkeypatch.setattr(sessions, "_KEEP", 1)
    storage = await open_store()
    idle = await storage.begin_session("host", 30)
    owner, empty = [await storage.begin_session("host", 30) for _ in range(2)]
    await storage.commit(Batch(owner, 1, creations=[creation(1)]))
    for session in (owner, empty):
        await storage.end_session(session)
    for _ in range(2):
        await storage.end_session(await storage.begin_session("host", 30))
    assert await storage.last_batch(owner) == 1
    with pytest.raises(StorageError, match="No session"):
        await storage.last_batch(empty)
    living = await storage.begin_session("host", 30)
    assert len(await storage.claim(living, [QUEUE], 10, 0)) == 1
    assert await storage.renew(idle, 30)


async def test_fork_is_refused(path: Path, child: StartChild) -> None:
    """After a fork neither the inherited object nor a new one on that file works, and the parent notices nothing."""
    parent = child("fork", path)
    assert [parent.read() for _ in range(5)] == ["StorageError", "StorageError", "StorageError", "done", "0"]
