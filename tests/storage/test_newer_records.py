"""
What a newer version has written, seen by this one after a deploy was rolled back: it holds up its own process only.

The kinds of records and mails are numbered for ever, and a later version has more of them. Here one stands in a store
that this version wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from durable.errors import CorruptJournal
from durable.storage import Batch, JournalStorage, Status, open_storage
from durable.testing.storage_parts import QUEUE, Host, creation, event, step
from durable_storage.filesystem.lines import line
from tests.postgres_server import with_options
from tests.storage.filesystem import journal

Opening = Callable[[], Awaitable[JournalStorage]]


class Store(NamedTuple):
    """A closed store, and how a newer version would write record 2 of process 2, or a mail to it."""

    url: str
    add_record: Callable[[], Awaitable[None]]
    add_mail: Callable[[], Awaitable[None]]


class Sql:
    """The statements by which a newer version writes to a SQL store."""

    RECORD = """INSERT INTO record ("key", seq, kind, name, payload, time) VALUES (2, 2, 99, 'new', '', 3)"""
    MAIL = """INSERT INTO inbox ("key", kind, name, payload, time) VALUES (2, 99, 'new', '', 3)"""
    FLAG = """UPDATE process SET mail = mail + 1, wake_at = 3 WHERE "key" = 2"""


def sqlite_store(place: Path) -> Store:
    """A SQLite file."""

    async def execute(*statements: str) -> None:
        connection = sqlite3.connect(place / "store.db", isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return Store(f"sqlite:///{place}/store.db", lambda: execute(Sql.RECORD), lambda: execute(Sql.MAIL, Sql.FLAG))


def file_store(place: Path) -> Store:
    """A directory; lines are added to the journal file."""

    async def add(added: bytes) -> None:
        with journal(place / "store", "id 2").open("ab") as file:
            file.write(added)

    record = line("record", seq=2, kind="NEW", name="new", time=3, text="")
    mail = line("mail", number=7, kind="NEW", name="new", event_key=None, time=3, text="")
    return Store(f"file://{place}/store", lambda: add(record), lambda: add(mail))


def postgres_store(place: Path, server: str) -> Store:
    """A schema."""
    schema = f"newer_{abs(hash(place))}"

    async def execute(*statements: str) -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(f"SET search_path = {schema}")
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    url = with_options(server, schema=schema)
    return Store(url, lambda: execute(Sql.RECORD), lambda: execute(Sql.MAIL, Sql.FLAG))


@pytest.fixture(params=["sqlite", "file", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store with three due processes, closed."""
    if request.param == "postgres":
        made = postgres_store(tmp_path, request.getfixturevalue("postgres"))
    else:
        made = {"sqlite": sqlite_store, "file": file_store}[request.param](tmp_path)
    storage = open_storage(made.url)
    await storage.open()
    await storage.commit(Batch(None, creations=[creation(key, owned=False, wake_at=1) for key in (1, 2, 3)]))
    await storage.close()
    return made


@pytest.fixture
async def opening(store: Store) -> AsyncIterator[Opening]:
    """Opens the store; what was opened is closed when the test is over."""
    opened: list[JournalStorage] = []

    async def open_it() -> JournalStorage:
        storage = open_storage(store.url)
        await storage.open()
        opened.append(storage)
        return storage

    yield open_it
    for storage in opened:
        await storage.close()


SQL = ["sqlite", "postgres"]  # what stands in files is looked at when they are opened: see test_filesystem_strange


async def test_unknown_record_holds_up_its_process_only(
    store: Store, opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    """A process with a record of a newer version is not claimed but stalled, with a reason; the others are claimed."""
    await store.add_record()
    storage = await opening()
    host = Host(storage, await storage.begin_session("host", 30))
    assert [claim.row.key for claim in await host.claim()] == [1, 3]
    row = await host.row(2)
    assert (row.status, row.owner, row.wake_at) == (Status.STALLED, None, None)
    assert "a newer one has probably written it" in (row.reason or "")
    assert await storage.next_wake([QUEUE]) is None
    assert await host.claim() == []
    assert caplog.text.count("a newer one has probably written it") == 1
    with pytest.raises(CorruptJournal, match="upgrade this host"):
        await storage.journal(2)
    await host.commit(records=[(1, step(2))])


@pytest.mark.parametrize("store", SQL, indirect=True)
async def test_unknown_mail_holds_up_its_process_only(store: Store, opening: Opening) -> None:
    """The same with what a newer version has put into the inbox of a process that is to be claimed."""
    await store.add_mail()
    storage = await opening()
    host = Host(storage, await storage.begin_session("host", 30))
    assert [claim.row.key for claim in await host.claim()] == [1, 3]
    assert (await host.row(2)).status is Status.STALLED
    with pytest.raises(CorruptJournal, match="upgrade this host"):
        await storage.inbox(2)


@pytest.mark.parametrize("store", SQL, indirect=True)
async def test_unknown_mail_lets_other_mail_through(store: Store, opening: Opening) -> None:
    """A mail that a newer client sends to an owned process takes only that one from its owner, who cannot read it."""
    storage = await opening()
    host = Host(storage, await storage.begin_session("host", 30))
    assert len(await host.claim()) == 3
    await store.add_mail()
    await storage.commit(Batch(None, mails=[event(1), event(2), event(3)]))
    assert [item.key for item in await host.collect()] == [1, 3]
    assert await host.collect() == []
    row = await host.row(2)
    assert (row.status, row.owner, row.wake_at) == (Status.STALLED, None, None)
    assert "newer" in (row.reason or "")
    await host.commit(records=[(1, step(2)), (3, step(2))])


@pytest.mark.parametrize("store", SQL, indirect=True)
async def test_newer_version_goes_on(store: Store, opening: Opening) -> None:
    """What was stalled so is due again when a host of a newer version resumes; nothing of it was changed meanwhile."""
    await store.add_record()
    storage = await opening()
    host = Host(storage, await storage.begin_session("host", 30))
    assert len(await host.claim()) == 2
    assert await storage.resume_stalled([QUEUE], 5) == 1
    row = await host.row(2)
    assert (row.status, row.reason, row.wake_at) == (Status.RUNNING, None, 5)
