"""What a lost connection does: a pause, never an error, a second write, or a lost answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import asyncpg
import pytest

from durable.errors import SessionLost, StorageUnavailable
from durable.storage import Batch, Delivery, End, Park, Status
from durable.testing.storage_parts import QUEUE, Host, creation, event, last, step
from durable_storage.postgres.provider import PostgresStorage
from tests.postgres_server import with_options
from tests.storage.conftest import OpenPostgres
from tests.storage.postgres_proxy import Line


@pytest.fixture
async def line(postgres_url: str) -> AsyncIterator[Line]:
    """The line over which the storage object of a test speaks with its server."""
    port = urlsplit(postgres_url).port
    assert port is not None
    async with Line(port) as line:
        yield line


def over(line: Line, url: str) -> str:
    """*url* by way of *line*."""
    port = urlsplit(url).port
    return url.replace(f":{port}/", f":{line.port}/")


async def host_over(line: Line, open_postgres: OpenPostgres) -> Host:
    """A session whose connections go over *line*."""
    storage = await open_postgres(over(line, open_postgres.url))
    return Host(storage, await storage.begin_session("host", 30))


async def test_cut_connections_are_opened_again(line: Line, open_postgres: OpenPostgres) -> None:
    """After every connection was cut while idle, each kind of call works as if nothing had happened."""
    host = await host_over(line, open_postgres)
    await host.commit(creations=[creation(1)])
    assert await host.storage.row("id 1") is not None
    line.cut()
    await host.commit(records=[(1, step(2))])
    assert await host.storage.renew(host.session, 30)
    assert len(await host.storage.journal(1)) == 2
    assert await host.storage.collect(host.session) == []


@pytest.mark.parametrize("turns", range(4))
async def test_connections_that_the_server_ends(open_postgres: OpenPostgres, postgres: str, turns: int) -> None:
    """A call that begins when the last words of the server have arrived, and nobody has read them, is done."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    [(backend,)] = await storage._writing.fetch("SELECT pg_backend_pid()")

    async def end() -> None:
        admin = await asyncpg.connect(postgres)
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 10000)", backend)  # returns when it is gone
        await admin.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, end()).result()  # in which time this loop hears nothing
    for _ in range(turns):
        await asyncio.sleep(0)
    await host.commit(records=[(1, step(2))])
    assert [record.seq for record in await storage.journal(1)] == [1, 2]


async def lose_one_answer(line: Line, host: Host, **parts: object) -> object:
    """Commit while the answer of the server is lost, until somebody has connected again."""
    line.loses_answers = True
    committing = asyncio.create_task(host.commit(**parts))
    while not line.lost:
        await asyncio.sleep(0.001)
    line.loses_answers = False
    return await committing


async def test_applied_batch_keeps_its_answer(line: Line, open_postgres: OpenPostgres) -> None:
    """A batch that was applied before its answer was lost is not applied again, and its whole answer is found."""
    host = await host_over(line, open_postgres)
    await host.commit(creations=[creation(1), creation(2), creation(3)])
    sender = await open_postgres()
    await sender.commit(Batch(None, mails=[event(2)]))
    result = await lose_one_answer(
        line,
        host,
        creations=[creation(4), creation(5, id="id 1")],
        records=[(1, step(2))],
        mails=[event(1), event(9)],
        parks=[Park(2, None, 0), Park(3, None, 0)],
    )
    assert {id: row.key for id, row in result.taken_ids.items()} == {"id 1": 1}  # type: ignore[attr-defined]
    assert list(result.deliveries) == [Delivery.DELIVERED, Delivery.NOT_FOUND]  # type: ignore[attr-defined]
    assert set(result.held) == {2}  # type: ignore[attr-defined]
    assert [record.seq for record in await host.storage.journal(1)] == [1, 2]
    assert len(await host.storage.inbox(1)) == 1
    await host.commit(records=[(1, step(3))])
    assert await host.storage.last_batch(host.session) == host.number


async def test_batch_that_was_not_applied_is_sent_again(
    line: Line, open_postgres: OpenPostgres, admin: asyncpg.Connection
) -> None:
    """A batch whose connection dies while it waits for a lock is sent again, and is there once."""
    host = await host_over(line, open_postgres)
    await host.commit(creations=[creation(1)])
    schema = open_postgres.url.rpartition("=")[2]
    async with admin.transaction():
        await admin.execute(f"SELECT FROM {schema}.session FOR UPDATE")
        committing = asyncio.create_task(host.commit(records=[(1, step(2))]))
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
        while (pid := await admin.fetchval(waiting)) is None:
            await asyncio.sleep(0.001)
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
    await committing
    assert [record.seq for record in await host.storage.journal(1)] == [1, 2]


async def test_late_first_try_is_not_applied(open_postgres: OpenPostgres) -> None:
    """A batch that was given up and arrives late, after the host went on with other numbers, writes nothing."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    late = await open_postgres()
    assert await late.last_batch(host.session) == 1
    host.number += 1
    await host.commit(records=[(1, step(2))])
    with pytest.raises(SessionLost):
        await late.commit(Batch(host.session, 2, mails=[event(1)]))
    assert list(await storage.inbox(1)) == []


async def test_claim_with_a_lost_answer_is_found(line: Line, open_postgres: OpenPostgres) -> None:
    """Processes whose claim was committed before its answer was lost are either returned, or claimed the next time."""
    host = await host_over(line, open_postgres)
    client = await open_postgres()
    await client.commit(Batch(None, creations=[creation(key, owned=False, wake_at=0) for key in (1, 2)]))
    line.loses_answers = True
    claiming = asyncio.create_task(host.claim())
    while not line.lost:
        await asyncio.sleep(0.001)
    line.loses_answers = False
    claims = [*await claiming, *await host.claim()]
    assert sorted(claim.row.key for claim in claims) == [1, 2]
    assert {claim.row.owner for claim in claims} == {host.session}


async def test_client_hears_when_it_cannot_be_known(line: Line, open_postgres: OpenPostgres) -> None:
    """A client's start is sent again after a lost answer; of mail it is said that nobody knows whether it arrived."""
    client = await open_postgres(over(line, open_postgres.url))
    await client.commit(Batch(None, creations=[creation(9, owned=False)]))  # from now on the first answer is the last
    line.loses_answers = True
    creating = asyncio.create_task(_commit(client, Batch(None, creations=[creation(1, owned=False)])))
    while not line.lost:
        await asyncio.sleep(0.001)
    line.loses_answers = False
    assert not (await creating).taken_ids  # type: ignore[attr-defined]
    assert await client.row("id 1") is not None
    line.loses_answers, line.lost = True, 0
    with pytest.raises(StorageUnavailable):
        await client.commit(Batch(None, mails=[event(1)]))
    line.loses_answers = False
    assert len(await client.inbox(1)) == 1


async def _commit(storage: PostgresStorage, batch: Batch) -> object:
    return await storage.commit(batch)


async def test_absent_server_is_waited_for(line: Line, open_postgres: OpenPostgres) -> None:
    """Calls made while nobody answers go through when somebody does; patience has an end."""
    url = with_options(over(line, open_postgres.url), patience=1)
    impatient = await open_postgres(url)
    host = await host_over(line, open_postgres)
    await host.commit(creations=[creation(1)])
    line.is_down = True
    line.cut()
    waiting = [
        asyncio.create_task(host.commit(ends=[End(1, Status.COMPLETED, None, last(2), 0)])),
        asyncio.create_task(host.storage.next_wake([QUEUE])),
        asyncio.create_task(host.storage.renew(host.session, 30)),
    ]
    with pytest.raises(StorageUnavailable):
        await impatient.row("id 1")
    assert not any(task.done() for task in waiting)
    line.is_down = False
    await asyncio.gather(*waiting)
    row = await host.storage.row("id 1")
    assert row is not None
    assert row.status is Status.COMPLETED


async def test_batches_of_many_hosts_never_wait_in_a_circle(
    open_postgres: OpenPostgres, admin: asyncpg.Connection
) -> None:
    """Hosts that create the same ids and write to each other's processes in opposite orders all come to an end."""
    hosts = []
    for _ in range(3):
        storage = await open_postgres()
        hosts.append(Host(storage, await storage.begin_session("host", 30)))
    keys = range(1, 31)
    for number, host in enumerate(hosts):
        await host.commit(creations=[creation(key) for key in keys if key % 3 == number])
    before = await admin.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")

    async def work(host: Host, order: int) -> None:
        for turn in range(20):
            ids = [f"turn {turn} {number}" for number in range(20)][::order]
            new = [creation(1000 * turn + 10**6 * host.session + place, id=id) for place, id in enumerate(ids)]
            await host.commit(creations=new, mails=[event(key) for key in keys][::order], progress={})

    await asyncio.gather(*(work(host, order) for host, order in zip(hosts, (1, -1, 1), strict=True)))
    after = await admin.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert after == before
    assert {len(await hosts[0].storage.inbox(key)) for key in keys} == {60}


async def test_batch_that_meets_its_death_writes_nothing(
    open_postgres: OpenPostgres, admin: asyncpg.Connection
) -> None:
    """A batch that waits while its session is declared dead is refused as a whole when that is committed."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    schema = open_postgres.url.rpartition("=")[2]
    async with admin.transaction():
        await admin.execute(f"UPDATE {schema}.session SET state = 1")
        late = asyncio.create_task(host.commit(records=[(1, step(2))]))
        while await admin.fetchval("SELECT pid FROM pg_locks WHERE NOT granted") is None:
            await asyncio.sleep(0.001)
    with pytest.raises(SessionLost):
        await late
    assert len(await storage.journal(1)) == 1


async def test_death_waits_for_a_batch_under_way(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> None:
    """While a batch is being applied its session is not declared dead, and what it owns is not claimed."""
    storage, other = await open_postgres(), await open_postgres()
    host = Host(storage, await storage.begin_session("host", 0.001))
    heir = Host(other, await other.begin_session("heir", 30))
    await host.commit(creations=[creation(1)])
    schema = open_postgres.url.rpartition("=")[2]
    async with admin.transaction():
        await admin.execute(f"SELECT FROM {schema}.process FOR UPDATE")
        under_way = asyncio.create_task(host.commit(records=[(1, step(2))], progress={1: b"half"}))
        while await admin.fetchval("SELECT pid FROM pg_locks WHERE NOT granted") is None:
            await asyncio.sleep(0.001)
        assert await other.bury() == 0
        assert await heir.claim() == []
    await under_way
    assert await other.bury() == 1
    [claim] = await heir.claim()
    assert [record.seq for record in claim.records] == [1, 2]
