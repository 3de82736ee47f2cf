"""What only the memory store promises: who shares it, and that waiting ends exactly when others write."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from durable.errors import StorageError
from durable.storage import Batch, Park, open_storage
from durable.testing.storage_parts import creation, event
from durable_storage import memory_state
from durable_storage.memory import MemoryStorage


async def opened(url: str) -> MemoryStorage:
    """An open storage object."""
    storage = MemoryStorage(url)
    await storage.open()
    return storage


async def test_private_without_a_name() -> None:
    """``memory://`` is another store for each object."""
    first, second = await opened("memory://"), await opened("memory://")
    await first.commit(Batch(None, creations=[creation(1, owned=False)]))
    assert [await first.count(), await second.count()] == [1, 0]


def test_shared_by_name_over_loops() -> None:
    """``memory://name`` outlives its objects and their event loops."""
    url = f"memory://{uuid4()}"

    async def write() -> None:
        storage = await opened(url)
        await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
        await storage.close()

    async def read() -> int:
        return await (await opened(url)).count()

    asyncio.run(write())
    assert asyncio.run(read()) == 1


async def test_change_by_others_ends_the_wait() -> None:
    """A commit of another object ends a wait, begun before or after it; an own commit does not."""
    url = f"memory://{uuid4()}"
    storage, other = await opened(url), await opened(url)
    waiting = asyncio.create_task(storage.wait_for_change(60))
    await asyncio.sleep(0)
    await storage.commit(Batch(None, creations=[creation(1, owned=False)]))
    await asyncio.sleep(0)
    assert not waiting.done()
    async with asyncio.timeout(20):
        await other.commit(Batch(None, creations=[creation(2, owned=False)]))
        await waiting
        await other.commit(Batch(None, creations=[creation(3, owned=False)]))
        await storage.wait_for_change(60)


async def test_closed_object_is_gone() -> None:
    """A session whose object was closed without ending it can be buried at once, as after ``kill -9``."""
    url = f"memory://{uuid4()}"
    storage, other = await opened(url), await opened(url)
    await storage.begin_session("host", 10**6)
    assert await other.bury() == 0
    await storage.close()
    assert await other.bury() == 1


async def test_very_old_sessions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that outlives many hosts keeps the last ones, those that live, and those that own a process."""
    monkeypatch.setattr(memory_state, "_KEEP", 2)
    storage = await opened("memory://")
    living, owner = [await storage.begin_session("host", 30) for _ in range(2)]
    await storage.commit(Batch(owner, 1, creations=[creation(1)]))
    await storage.end_session(owner)
    for key in range(2, 6):
        session = await storage.begin_session("host", 30)
        await storage.commit(Batch(session, 1, creations=[creation(key)]))
        await storage.commit(Batch(session, 2, mails=[event(key)]))
        await storage.collect(session)
        await storage.commit(Batch(session, 3, parks=[Park(key, None, 1)]))
        await storage.end_session(session)
    state = storage._store.state
    assert list(state.sessions) == [living, owner, session - 1, session]
    assert state._owned.keys() | state._flagged.keys() <= state.sessions.keys()
    assert await storage.last_batch(owner) == 1
    assert await storage.begin_session("host", 30) == session + 1


async def test_closed_object_says_so() -> None:
    """An object that is not open refuses, and wrong URLs are explained."""
    storage = open_storage("memory://")
    with pytest.raises(StorageError, match="not open"):
        await storage.count()
    for url in ("memory:name", "memory://name?size=1"):
        with pytest.raises(StorageError, match="write memory://"):
            MemoryStorage(url)
