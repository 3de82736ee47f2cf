"""Who is told of what, what it costs when nothing happens, and how it works where nobody can be told."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from durable import Process, ProcessClient, ProcessHost, process
from durable.storage import Batch, Mail, MailKind, Park
from durable.testing.storage_parts import QUEUE, Host, creation, event, step
from durable_storage.postgres.provider import PostgresStorage
from tests.postgres_server import free_port, with_options
from tests.storage.conftest import OpenPostgres


async def host_of(open_postgres: OpenPostgres, url: str | None = None) -> Host:
    storage = await open_postgres(url)
    return Host(storage, await storage.begin_session("host", 30))


async def heard(host: Host, timeout: float = 10.0) -> float:
    """Seconds until something is heard, at most *timeout*."""
    before = time.perf_counter()
    await host.storage.wait_for_change(timeout)
    return time.perf_counter() - before


async def settle(*hosts: Host) -> None:
    """Hear what is left from before: from the opening of connections, and of each other."""
    for host in hosts:
        await host.storage.wait_for_change(0.05)


async def test_mail_is_told_to_the_owner_only(open_postgres: OpenPostgres) -> None:
    """Mail for a resident is heard by the session that holds it, not by another; own mail is told to nobody."""
    owner, other = await host_of(open_postgres), await host_of(open_postgres)
    client = await open_postgres()
    await owner.commit(creations=[creation(1)])
    await settle(owner, other)
    waiting = asyncio.create_task(heard(other, 0.3))
    await client.commit(Batch(None, mails=[event(1)]))
    assert await heard(owner) < 5
    assert await waiting >= 0.3
    await owner.commit(mails=[event(1)])
    assert await heard(owner, 0.1) >= 0.1


async def test_sessions_that_have_ended_are_forgotten(open_postgres: OpenPostgres) -> None:
    """A storage object that outlives session after session keeps nothing of those, be they ended or declared dead."""
    storage = await open_postgres()
    for number in range(1, 4):
        host = Host(storage, await storage.begin_session("host", 30))
        await host.commit(creations=[creation(number)])
        await storage.end_session(host.session)
    notices = storage._notices
    assert notices is not None
    assert [storage._committer._last, storage._polling.sessions, notices._sessions] == [{}, set(), set()]


async def test_what_can_be_claimed_is_told_to_all(open_postgres: OpenPostgres) -> None:
    """A start by a client, mail for a parked process, and the end of a session are heard by every host."""
    hosts = [await host_of(open_postgres), await host_of(open_postgres)]
    client = await open_postgres()
    leaving = await host_of(open_postgres)
    await leaving.commit(creations=[creation(1), creation(2)])
    await leaving.commit(parks=[Park(1, None, 0)])
    await settle(*hosts)
    await client.commit(Batch(None, creations=[creation(3, owned=False, wake_at=0)]))
    assert max(await asyncio.gather(*map(heard, hosts))) < 5
    await client.commit(Batch(None, mails=[event(1)]))
    assert max(await asyncio.gather(*map(heard, hosts))) < 5
    await leaving.storage.end_session(leaving.session)
    assert max(await asyncio.gather(*map(heard, hosts))) < 5


async def test_own_work_is_told_to_nobody(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> None:
    """Whatever a host does with its own processes sends no notice and is one commit for each batch."""
    host = await host_of(open_postgres)
    await host.commit(creations=[creation(1)])
    await settle(host)
    sent = host.storage._keeping.statements  # type: ignore[attr-defined]
    written = host.storage._writing.statements  # type: ignore[attr-defined]
    for seq in range(2, 52):
        await host.commit(records=[(1, step(seq))], creations=[creation(seq)], progress={1: b"half"})
    assert host.storage._keeping.statements == sent  # type: ignore[attr-defined]
    assert host.storage._writing.statements == written + 50  # type: ignore[attr-defined]


async def test_many_mails_are_few_notices(open_postgres: OpenPostgres) -> None:
    """A hundred mails in a hundred commits are told in far fewer notices."""
    host = await host_of(open_postgres)
    client = await open_postgres()
    await host.commit(creations=[creation(1)])
    for _ in range(100):
        await client.commit(Batch(None, mails=[event(1)]))
    assert client._keeping.statements < 60


@process
async def waits(proc: Process) -> object:
    """One event."""
    return await proc.event("go")


async def test_idle_host_asks_little(open_postgres: OpenPostgres, postgres_url: str) -> None:
    """An idle host sends at most six statements a second: one look for work, and the dead are buried."""
    async with ProcessHost(postgres_url, [waits]) as host:
        await (await host.start(waits(), id="one")).status()
        storage = host._storage
        assert isinstance(storage, PostgresStorage)
        channels = (storage._writing, storage._keeping, storage._reading)
        before = sum(channel.statements for channel in channels)
        await asyncio.sleep(3.0)  # the time itself is what is measured
        assert sum(channel.statements for channel in channels) - before <= 18


async def test_result_elsewhere_is_heard(postgres_url: str) -> None:
    """A client that waits for the result of a process of a host hears of its end by a notice, not by its next look."""
    async with ProcessHost(postgres_url, [waits]) as host, ProcessClient(postgres_url) as client:
        lateness = []
        for number in range(5):
            await host.start(waits(), id=f"p{number}")
            waiting = asyncio.create_task(client.get(f"p{number}").result())
            await asyncio.sleep(0.1)  # it waits in earnest
            before = time.perf_counter()
            await client.raise_event(f"p{number}", "go", number)
            assert await waiting == number
            lateness.append(time.perf_counter() - before)
        assert sorted(lateness)[2] < 0.2


async def test_a_host_hears_of_what_it_looks_at(open_postgres: OpenPostgres) -> None:
    """A host that asks for rows of others hears of their progress and ends from then on; another host does not."""
    owner, looking, other = [await host_of(open_postgres) for _ in range(3)]
    await owner.commit(creations=[creation(1)])
    await settle(owner, looking, other)
    await looking.storage.rows_by_id(["id 1"])
    waiting = [asyncio.create_task(heard(host, 1.0)) for host in (looking, other, owner)]
    while not owner.storage._notices.endings_are_awaited():  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    await owner.commit(progress={1: b"half"})
    seconds = await asyncio.gather(*waiting)
    assert seconds[0] < 0.5
    assert min(seconds[1:]) >= 1.0


# --- behind a pooler -----------------------------------------------------------------------------------------------


@pytest.fixture
async def pooled(postgres_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of the store by way of a real pgbouncer in transaction mode; skipped where none is installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: poolers in transaction mode are NOT tested")
    parts = urlsplit(postgres_url)
    if parts.hostname is None or parts.password is not None:
        pytest.skip("the given server wants a password: poolers in transaction mode are NOT tested")
    users, settings = tmp_path / "users.txt", tmp_path / "pgbouncer.ini"
    users.write_text(f'"{parts.username}" ""\n')
    port = free_port()
    settings.write_text(
        f"[databases]\n* = host={parts.hostname} port={parts.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nmax_client_conn = 100\nunix_socket_dir =\n"
    )
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:2]:  # it reads its files as nobody
        folder.chmod(0o755)
    command = [program, "-q", *(["-u", "nobody"] if os.geteuid() == 0 else []), str(settings)]
    pooler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                assert pooler.poll() is None, "pgbouncer has ended"
                await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        yield with_options(postgres_url.replace(f":{parts.port}/", f":{port}/"), pooler="transaction")
    finally:
        pooler.terminate()
        pooler.wait()


async def test_host_behind_a_pooler(pooled: str) -> None:
    """Hosts and clients work through pgbouncer in transaction mode, whose connections change under them."""
    async with (
        ProcessHost(pooled, [waits], name="first") as first,
        ProcessHost(pooled, [waits], name="second"),
        ProcessClient(pooled) as client,
    ):
        handles = [await first.start(waits(), id=f"p{number}") for number in range(10)]
        handles += [await client.start(waits(), id=f"q{number}") for number in range(10)]
        for handle in handles:
            await client.raise_event(handle.id, "go", handle.id)
        assert [await handle.result() for handle in handles] == [handle.id for handle in handles]


async def test_polling_hears_soon(pooled: str, open_postgres: OpenPostgres) -> None:
    """Behind a pooler mail for a resident and work for anybody are noticed by asking, in about a fifth of a second."""
    host = await host_of(open_postgres, pooled)
    client = await open_postgres()
    await host.commit(creations=[creation(1)])
    assert await host.storage.next_wake([QUEUE]) is None
    lateness = []
    for turn in range(5):
        if turn % 2:
            mails, creations = [Mail("id 1", MailKind.EVENT, "go", None, b"", turn)], []
        else:
            mails, creations = [], [creation(10 + turn, owned=False, wake_at=0)]
        waiting = asyncio.create_task(heard(host))
        await asyncio.sleep(0.5)  # until it asks rarely
        before = time.perf_counter()
        await client.commit(Batch(None, mails=mails, creations=creations))
        await waiting
        lateness.append(time.perf_counter() - before)
        await host.storage.collect(host.session)
        await host.claim()
    assert sorted(lateness)[2] < 0.4
