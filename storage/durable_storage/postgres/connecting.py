"""
Opening a connection: what it is set to, and what a server or pooler must be set to where nothing can be set by us.
"""

from __future__ import annotations

import asyncpg

from durable.errors import StorageError
from durable_storage.postgres.address import Address

Connection = asyncpg.Connection

_STATEMENTS = 100  # that a connection keeps prepared
# What a connection of ours is set to where nothing stands in between. A transaction that is left open, by a host that
# was stopped in the middle, must end long before anybody counts on what it has locked.
_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "5000",
    # Limits a role or database has for others: a batch may wait for a lock, a listing may be long, a host may be idle.
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "jit": "off",
    # Plans are kept as long as the connection, and on the first day of a store no table is large enough for an index.
    "enable_seqscan": "off",
    # A host that is gone must not leave a batch behind that is applied later.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}

# The last is of PostgreSQL 17; an older server would refuse a connection that names it.
_AS_SET = "SELECT current_setting('synchronous_commit'), current_setting('transaction_timeout', true)"


async def open_connection(address: Address) -> Connection:
    """
    A connection that commits to the disk.

    Behind a pooler nothing can be set that lasts, and the driver may keep no prepared statement: the next transaction
    is in another connection of the server.
    """
    connection = await asyncpg.connect(
        address.dsn,
        timeout=address.connect_timeout,
        server_settings={"application_name": address.application, **({} if address.pooled else _SETTINGS)},
        statement_cache_size=0 if address.pooled else _STATEMENTS,
        max_cacheable_statement_size=0,  # any size
    )
    try:
        row = await connection.fetchrow(_AS_SET)
        assert row is not None
        synchronous_commit, transaction_timeout = row
        if transaction_timeout not in (None, "0") and not address.pooled:
            await connection.execute("SET transaction_timeout = 0")
        if synchronous_commit == "off":
            if address.pooled:
                raise StorageError(
                    "The server acknowledges commits that are not on its disk yet",
                    store=address.shown,
                    fix="ALTER ROLE … SET synchronous_commit = on",
                )
            await connection.execute("SET synchronous_commit = on")
    except BaseException:
        connection.terminate()
        raise
    return connection
