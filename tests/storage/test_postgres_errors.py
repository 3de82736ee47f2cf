"""What a refusing server or a full disk is called, and what a connection of ours is set to."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import pytest

from durable.errors import StorageDenied, StorageError, StorageFull, StorageUnavailable
from durable_storage.postgres.failures import is_lost, translate
from tests.postgres_server import with_options
from tests.storage.conftest import OpenPostgres


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


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.IdleSessionTimeoutError("terminating connection due to idle-session timeout"),
        asyncpg.TransactionTimeoutError("terminating connection due to transaction timeout"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
    ],
)
def test_connection_that_is_lost(error: Exception) -> None:
    """However it is said that a connection is gone, another one is opened."""
    assert is_lost(error)


async def test_connections_are_safe(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> None:
    """
    Whatever the administrator has set, we commit to the disk at READ COMMITTED, and leave no transaction open.

    A host has three connections, and no more.
    """
    name = await admin.fetchval("SELECT current_database()")
    limits_transactions = await admin.fetchval("SELECT current_setting('transaction_timeout', true)") is not None
    if limits_transactions:  # since PostgreSQL 17
        await admin.execute(f"ALTER DATABASE {name} SET transaction_timeout = '1h'")
    await admin.execute(
        f"ALTER DATABASE {name} SET synchronous_commit = off; "
        f"ALTER DATABASE {name} SET statement_timeout = '1h'; ALTER DATABASE {name} SET idle_session_timeout = '1h'; "
        f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
    )
    try:
        storage = await open_postgres()
        await storage.row("opens the connection for reads")
        settings: list[Any] = []
        for channel in (storage._writing, storage._keeping, storage._reading):
            rows = await channel.fetch(
                "SELECT current_setting('synchronous_commit'), current_setting('transaction_isolation'), "
                "current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout'), "
                "current_setting('statement_timeout'), current_setting('idle_session_timeout'), "
                "coalesce(current_setting('transaction_timeout', true), '0')"
            )
            settings.append(tuple(rows[0]))
        assert settings == [("on", "read committed", "5s", "5s", "0", "0", "0")] * 3
    finally:
        await admin.execute(f"ALTER DATABASE {name} RESET ALL")
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'durable' AND datname = current_database()"
    assert await admin.fetchval(ours) == 3


async def test_closed_store_says_so(open_postgres: OpenPostgres) -> None:
    """A store is opened once, and not used before or after."""
    storage = await open_postgres(with_options(open_postgres.url, patience=1))
    with pytest.raises(StorageError, match="open already"):
        await storage.open()
    await storage.close()
    with pytest.raises(StorageError, match="not open"):
        await storage.row("any")
