"""What a wrong URL, a refusing server or a full disk is called, and what a connection of ours is set to."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import pytest

from durable.errors import CorruptJournal, StorageDenied, StorageError, StorageFull, StorageUnavailable
from durable.journal import Kind, Record
from durable.storage import Stall
from durable.testing.storage_parts import Host, creation, step
from durable_storage.postgres.address import parse
from durable_storage.postgres.failures import translate
from durable_storage.postgres.provider import PostgresStorage
from tests.postgres_server import with_options
from tests.storage.conftest import OpenPostgres


def test_url() -> None:
    """Our options are taken out of the URL, the others are the driver's; no password is ever shown."""
    url = "postgresql+asyncpg://ann:s%40cret@a:1,b:2/shop?schema=jobs&pooler=transaction&sslmode=require&patience=3"
    address = parse(url)
    assert address.dsn == "postgresql://ann:s%40cret@a:1,b:2/shop?sslmode=require&target_session_attrs=read-write"
    assert (address.schema, address.pooled, address.patience) == ("jobs", True, 3.0)
    assert address.shown == "a:1,b:2/shop"
    assert parse("postgres:///shop?host=/run/postgresql").shown == "/run/postgresql/shop"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:",
        "postgresql://",
        "postgresql://host/shop?schema=Jobs",
        "postgresql://host/shop?schema=",
        "postgresql://host/shop?pooler=session",
        "postgresql://host/shop?patience=0",
    ],
)
def test_wrong_url(url: str) -> None:
    """A URL that names no server, or an option that is wrong, is refused where it is given."""
    with pytest.raises(StorageError):
        PostgresStorage(url)


async def test_unknown_database(postgres: str, open_postgres: OpenPostgres) -> None:
    """A database that does not exist is said at once, not waited for."""
    url = re.sub(r"/durable_\w+", "/no_such_database", postgres)
    with pytest.raises(StorageDenied, match="does not exist"):
        await open_postgres(url)


async def test_unknown_user(postgres: str, open_postgres: OpenPostgres) -> None:
    """A user the server does not know is said at once; the password is not in the text."""
    with pytest.raises(StorageDenied) as denied:
        await open_postgres(re.sub(r"//[^@]*@", "//nobody:s3cret@", postgres))
    assert "s3cret" not in str(denied.value)


async def test_nobody_listens(open_postgres: OpenPostgres) -> None:
    """A server that is not there is said at once when a store is opened."""
    with pytest.raises(StorageUnavailable):
        await open_postgres("postgresql://ann@127.0.0.1:1/shop")


def test_full_disk() -> None:
    """The codes of the server become the kinds of `StorageError`."""
    assert isinstance(translate(asyncpg.DiskFullError("no space left"), "here"), StorageFull)
    assert isinstance(translate(asyncpg.InsufficientPrivilegeError("no"), "here"), StorageDenied)
    assert isinstance(translate(ConnectionResetError(), "here"), StorageUnavailable)


async def test_value_that_cannot_be_kept(open_postgres: OpenPostgres) -> None:
    """A record PostgreSQL cannot keep is the affair of its process: the host is told to split the batch."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    for name in ("with\0null", "lone \ud800"):
        with pytest.raises(CorruptJournal):
            await host.commit(records=[(1, Record(2, Kind.VALUE, name, b"", 2))])
    await host.commit(records=[(1, step(2))])


async def test_connections_are_safe(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> None:
    """
    Whatever the administrator has set, we commit to the disk at READ COMMITTED, and leave no transaction open.

    A host has three connections, and no more.
    """
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(
        f"ALTER DATABASE {name} SET synchronous_commit = off; "
        f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
    )
    try:
        storage = await open_postgres()
        await storage.row("opens the connection for reads")
        settings: list[Any] = []
        for channel in (storage._writing, storage._keeping, storage._reading):
            rows = await channel.fetch(
                "SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation'), "
                "current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
            )
            settings.append(tuple(rows[0]))
        assert settings == [("on", "read committed", "5s", "5s")] * 3
    finally:
        await admin.execute(f"ALTER DATABASE {name} RESET ALL")
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'durable' AND datname = current_database()"
    assert await admin.fetchval(ours) == 3


async def test_reason_of_any_text(open_postgres: OpenPostgres) -> None:
    """The reason of a stall is the text of an error, and may hold what PostgreSQL cannot keep: that is spelled out."""
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)])
    await host.commit(stalls=[Stall(1, "bad\0 byte \ud800 é", 0)])
    row = await storage.row("id 1")
    assert row is not None
    assert row.reason == "bad\\x00 byte \\ud800 é"


async def test_closed_store_says_so(open_postgres: OpenPostgres) -> None:
    """A store is opened once, and not used before or after."""
    storage = await open_postgres(with_options(open_postgres.url, patience=1))
    with pytest.raises(StorageError, match="open already"):
        await storage.open()
    await storage.close()
    with pytest.raises(StorageError, match="not open"):
        await storage.row("any")
