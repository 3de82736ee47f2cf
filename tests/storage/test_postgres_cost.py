"""What work the PostgreSQL store does, in counts of transactions. Times are in benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import uuid4

import asyncpg
import pytest

from durable import Process, ProcessHost, process
from durable.storage import Batch, BatchResult
from durable_storage.postgres.provider import PostgresStorage

_STEPS = 400


async def act() -> int:
    """The cheapest action there is."""
    return 1


reached = asyncio.Event()


async def reach() -> None:
    """Tell the test that all steps are done."""
    reached.set()


@process
async def steps_then_event(proc: Process) -> int:
    """Many steps, one after another, and an event."""
    total = 0
    for number in range(_STEPS):
        total += await proc.do(act, f"step {number}")
    await proc.do(reach, "reached")
    await proc.event("go")
    return total


class Database:
    """A database that nobody else uses, so that whatever is committed in it is ours."""

    def __init__(self, name: str, url: str, admin: asyncpg.Connection) -> None:
        self.name = name
        self.url = url
        self._admin = admin

    async def commits(self) -> int:
        """Transactions until now, of those that read as of those that write; nobody may be connected for long."""
        connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1"
        while await self._admin.fetchval(connected, self.name):
            await asyncio.sleep(0.01)  # a connection tells what it has counted when it ends
        found = "SELECT xact_commit FROM pg_stat_database WHERE datname = $1"
        count: int = await self._admin.fetchval(found, self.name)
        return count


@pytest.fixture
async def database(postgres: str, admin: asyncpg.Connection) -> AsyncIterator[Database]:
    """See `Database`."""
    name = f"durable_{uuid4().hex[:12]}"
    before, _, options = postgres.partition("?")
    await admin.execute(f"CREATE DATABASE {name}")
    yield Database(name, f"{before.rpartition('/')[0]}/{name}" + (f"?{options}" if options else ""), admin)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_batch_is_one_commit_and_a_replay_is_none(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A host makes at most 1.2 transactions for each batch, all it reads and looks for included.

    Another one that takes a process over reads its journal at once: what it does has nothing to do with its length.
    """
    batches = 0
    commit = PostgresStorage.commit

    def counted(storage: PostgresStorage, batch: Batch) -> Awaitable[BatchResult]:
        nonlocal batches
        batches += 1
        return commit(storage, batch)

    monkeypatch.setattr(PostgresStorage, "commit", counted)
    async with ProcessHost(database.url, [steps_then_event]):
        pass
    opened = await database.commits()
    async with ProcessHost(database.url, [steps_then_event]) as host:
        await host.start(steps_then_event(), id="long")
        await reached.wait()
    written = await database.commits()
    assert batches > _STEPS
    assert written - opened <= 1.2 * batches
    batches = 0
    async with ProcessHost(database.url, [steps_then_event]) as host:
        await host.raise_event("long", "go")
        assert await host.get("long").result() == _STEPS
    assert await database.commits() - written < _STEPS / 5
    assert batches < 10
