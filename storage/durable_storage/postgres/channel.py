"""
One connection to the server: opened when it is needed, opened again when it was lost, used by one call at a time.

A server that restarts, or fails over to another host of the URL, is a pause: a call waits for it as long as the store's
patience allows, counted from when it was made, so that calls which wait together give up together. What was lost with
its answer is for the caller to say: ``run`` sends again what may be sent twice, ``once`` asks its caller.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import asyncpg

from durable.errors import StorageError, StorageUnavailable
from durable_storage.postgres.address import Address
from durable_storage.postgres.failures import FAILURES, is_lost, is_undone, translate, unavailable

_T = TypeVar("_T")
Connection = asyncpg.Connection
Work = Callable[[Connection], Awaitable[_T]]

_logger = logging.getLogger("durable_storage.postgres")
_PAUSE_FROM, _PAUSE_TO = 0.05, 1.0  # seconds between two tries to connect
_FIRST_TRY = 120.0  # seconds for the connection with which a store is opened: tables may have to be changed
_UNDONE_TRIES = 8

# What a connection of ours is set to where nothing stands in between. A transaction that is left open, by a host that
# was stopped in the middle, must end long before anybody counts on what it has locked.
_SETTINGS = {
    "application_name": "durable",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "5000",
    "jit": "off",
    # Plans are kept as long as the connection, and on the first day of a store no table is large enough for an index.
    "enable_seqscan": "off",
    # A host that is gone must not leave a batch behind that is applied later.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


class AnswerLost(Exception):
    """The connection was lost while a statement was under way: it may have been applied, or may be applied later."""


class Channel:
    """
    One connection, and the order of those who use it.

    Args:
        connected: Called with each new connection before anybody uses it.
    """

    def __init__(self, address: Address, connected: Work[None] | None = None) -> None:
        self._address = address
        self._connected = connected
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._closed = False
        self._losses = 0  # in a row, with nothing done in between
        self.statements = 0  # sent until now, for who counts them

    async def begin(self) -> None:
        """
        Connect now, without patience: whoever starts wants to hear at once that the URL is wrong.

        Raises:
            StorageError, StorageUnavailable, StorageDenied: Why it does not work.
        """
        self.reopen()
        async with self._turn:
            self._connection = await self._try(asyncio.get_running_loop().time() + _FIRST_TRY)

    def reopen(self) -> None:
        """Connect again when somebody asks, after `close`."""
        self._closed = False

    async def run(self, work: Work[_T]) -> _T:
        """
        Do *work*, which may be done twice, waiting for a server that is away.

        Raises:
            StorageUnavailable: It stayed away.
            StorageError: The server refused.
        """
        deadline = self.deadline()
        while True:
            try:
                return await self.once(work, deadline)
            except AnswerLost as lost:
                if asyncio.get_running_loop().time() >= deadline:
                    raise unavailable(lost.__cause__, self._address.shown) from lost

    async def once(self, work: Work[_T], deadline: float | None = None) -> _T:
        """
        Do *work*, at most once unless the server has undone it.

        Raises:
            AnswerLost: The connection was lost on the way.
            StorageUnavailable, StorageError: As for `run`; nothing was done then.
        """
        deadline = deadline or self.deadline()
        await self._wait_for_turn(deadline)
        try:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = await self._connect(deadline)
            return await self._do(connection, work)
        finally:
            self._turn.release()

    async def fetch(self, text: str, *values: Any) -> Sequence[Any]:
        """The rows of a statement that may be executed twice."""
        return await self.run(lambda connection: connection.fetch(text, *values))

    async def close(self) -> None:
        """Close the connection; who still waits for it is told."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=1)
            except FAILURES:
                connection.terminate()

    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    def deadline(self) -> float:
        """Until when a call that is made now waits, on the clock of the event loop."""
        return asyncio.get_running_loop().time() + self._address.patience

    async def _do(self, connection: Connection, work: Work[_T]) -> _T:
        for attempt in range(_UNDONE_TRIES):
            self.statements += 1
            try:
                # Only an answer that never comes takes so long: somebody cut the line without telling.
                async with asyncio.timeout(self._address.patience):
                    done = await work(connection)
                self._losses = 0
                return done
            except FAILURES as error:
                if is_undone(error) and attempt + 1 < _UNDONE_TRIES:
                    await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
                    continue
                if is_lost(error):
                    self._drop(connection)
                    raise AnswerLost from error
                raise translate(error, self._address.shown) from error
        raise AssertionError("the last attempt returns or raises")

    async def _wait_for_turn(self, deadline: float) -> None:
        if not self._turn.locked():
            await self._turn.acquire()  # at once, as most of the time
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError as error:
            raise unavailable(error, self._address.shown) from error

    def _drop(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
        self._losses += 1
        with suppress(*FAILURES):
            connection.terminate()

    async def _connect(self, deadline: float) -> Connection:
        """Open a connection, trying again until *deadline*; at least once."""
        loop, pause = asyncio.get_running_loop(), _PAUSE_FROM
        if self._losses > 1:  # one that opens and is of no use: a standby, or a pooler without a server
            await asyncio.sleep(min(_PAUSE_FROM * 2 ** min(self._losses, 5), _PAUSE_TO))
        while not self._closed:
            try:
                self._connection = await self._try(max(deadline, loop.time() + 1))
                return self._connection
            except StorageUnavailable as error:
                if loop.time() + pause >= deadline:
                    raise
                _logger.info("No connection, trying again in %.2f s: %s", pause, error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _PAUSE_TO)
        raise StorageError("This storage object is closed", store=self._address.shown)

    async def _try(self, until: float) -> Connection:
        try:
            async with asyncio.timeout_at(until):
                return await self._open()
        except FAILURES as error:
            raise translate(error, self._address.shown) from error

    async def _open(self) -> Connection:
        connection = await open_connection(self._address)
        try:
            if self._connected is not None:
                await self._connected(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def open_connection(address: Address) -> Connection:
    """
    A connection that commits to the disk.

    Behind a pooler nothing can be set that lasts, and the driver may keep no prepared statement: the next transaction
    is in another connection of the server.
    """
    if address.pooled:
        connection = await asyncpg.connect(address.dsn, statement_cache_size=0)
    else:
        connection = await asyncpg.connect(address.dsn, server_settings=_SETTINGS, max_cacheable_statement_size=0)
    try:
        if await connection.fetchval("SELECT current_setting('synchronous_commit')") == "off":
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
