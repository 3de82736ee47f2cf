"""What happens in the middle of a statement: rows are locked so that it stops there, and others do their part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import asyncpg
import pytest

from durable.storage import Batch
from durable.testing.storage_parts import Host, creation, ending, event, started
from tests.storage.conftest import OpenPostgres

T = TypeVar("T")
NEW_ROW = (
    "INSERT INTO {schema}.process (key, id, definition, queue, status, mail, created_at) "
    "VALUES ({key}, 'id {key}', 'd', 'q', 0, 0, 0)"
)


@pytest.fixture
def schema(open_postgres: OpenPostgres) -> str:
    """Where the tables of the store are."""
    return open_postgres.url.rpartition("=")[2]


async def host_of(open_postgres: OpenPostgres) -> Host:
    storage = await open_postgres()
    return Host(storage, await storage.begin_session("host", 30))


async def until_it_waits(admin: asyncpg.Connection, under_way: Awaitable[T]) -> asyncio.Task[T]:
    """*under_way*, which waits for something that *admin* has locked."""

    async def run() -> T:
        return await under_way

    task = asyncio.create_task(run())
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while await admin.fetchval(waiting) is None:
        assert not task.done()
        await asyncio.sleep(0.001)
    return task


async def test_id_that_is_purged_while_it_is_created(
    open_postgres: OpenPostgres, admin: asyncpg.Connection, schema: str
) -> None:
    """A creation that meets an ended process, which is purged before its row is read, creates its own."""
    host, keeper = await host_of(open_postgres), await open_postgres()
    await host.commit(creations=[creation(1)])
    await host.commit(ends=[ending(1)])
    in_the_way = admin.transaction()
    await in_the_way.start()
    await admin.execute(NEW_ROW.format(schema=schema, key=9))
    creations = [creation(2, id="id 1"), creation(3, id="id 9")]  # the first is passed, at the second it stops
    committing = await until_it_waits(admin, host.commit(creations=creations))
    assert await keeper.purge([1]) == 1
    await in_the_way.rollback()
    assert not (await committing).taken_ids
    assert sorted(row.key for row in await keeper.rows()) == [2, 3]
    assert [await keeper.journal(key) for key in (2, 3)] == [[started()]] * 2


async def test_id_that_is_purged_before_its_row_is_told(
    open_postgres: OpenPostgres, admin: asyncpg.Connection, schema: str
) -> None:
    """The same, purged a moment later: the id was found to be taken, but by whom is not there to be told any more."""
    host, keeper = await host_of(open_postgres), await open_postgres()
    await host.commit(creations=[creation(1)])
    await host.commit(ends=[ending(1)])
    text = await admin.fetchval("SELECT pg_get_functiondef(to_regproc($1))", f"{schema}.commit_batch")
    telling = "SELECT json_agg(json_build_array("
    assert telling in text
    await admin.execute(text.replace(telling, f"PERFORM pg_advisory_xact_lock_shared(7); {telling}"))
    in_the_way = admin.transaction()
    await in_the_way.start()
    await admin.execute("SELECT pg_advisory_xact_lock(7)")
    committing = await until_it_waits(admin, host.commit(creations=[creation(2, id="id 1"), creation(3)]))
    assert await keeper.purge([1]) == 1
    await in_the_way.rollback()
    assert not (await committing).taken_ids
    assert [await keeper.journal(key) for key in (2, 3)] == [[started()]] * 2


async def test_ids_are_taken_in_order(open_postgres: OpenPostgres, admin: asyncpg.Connection, schema: str) -> None:
    """New ids are written in one order, not that of the batch: who waits for the first holds none of the others."""
    host = await host_of(open_postgres)
    in_the_way = admin.transaction()
    await in_the_way.start()
    await admin.execute(NEW_ROW.format(schema=schema, key=1))
    committing = await until_it_waits(admin, host.commit(creations=[creation(key) for key in (3, 1, 2)]))
    await admin.execute("SET LOCAL lock_timeout = '100ms'")  # earlier than a deadlock would be seen
    for key in (2, 3):
        await admin.execute(NEW_ROW.format(schema=schema, key=key))
    await in_the_way.rollback()
    assert not (await committing).taken_ids


async def test_flags_are_cleared_in_order(open_postgres: OpenPostgres, admin: asyncpg.Connection, schema: str) -> None:
    """Who collects locks processes in the order of their keys, as batches do, not in that in which they are due."""
    host, client = await host_of(open_postgres), await open_postgres()
    await host.commit(creations=[creation(key) for key in (1, 2, 3)])
    for key in (3, 2, 1):  # in the order of their keys is neither the index nor the table
        await client.commit(Batch(None, mails=[event(key, time=100 - key)]))
    in_the_way = admin.transaction()
    await in_the_way.start()
    await admin.execute(f"SELECT FROM {schema}.process WHERE key = 1 FOR UPDATE")
    collecting = await until_it_waits(admin, host.collect())
    await admin.execute(f"SELECT FROM {schema}.process WHERE key > 1 FOR UPDATE NOWAIT")
    await in_the_way.rollback()
    assert sorted(item.key for item in await collecting) == [1, 2, 3]


async def test_mail_that_comes_while_it_collects(
    open_postgres: OpenPostgres, admin: asyncpg.Connection, schema: str
) -> None:
    """Mail that arrives between the reading of the inbox and the clearing of its flag is collected the next time."""
    host = await host_of(open_postgres)
    await host.commit(creations=[creation(1)], mails=[event(1, payload=b"first")])
    delivering = admin.transaction()
    await delivering.start()
    await admin.execute(
        f"SELECT {schema}.deliver(0, ARRAY['id 1'], ARRAY[1::smallint], ARRAY['n'], ARRAY[NULL], "
        f"ARRAY['second'::bytea], ARRAY[50::bigint])"
    )
    collecting = await until_it_waits(admin, host.collect())
    await delivering.commit()
    [first] = await collecting
    assert first.payload == b"first"
    await host.commit(taken=[first.number])
    assert [item.payload for item in await host.collect()] == [b"second"]
    assert (await host.row(1)).mail == 2
