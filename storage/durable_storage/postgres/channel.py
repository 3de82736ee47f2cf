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
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from durable.errors import StorageError, StorageUnavailable
from durable_storage.postgres.address import Address
from durable_storage.postgres.connecting import Connection, open_connection
from durable_storage.postgres.direct import Turn, run_directly
from durable_storage.postgres.failures import FAILURES, is_lost, is_undone, translate, unavailable

_T = TypeVar("_T")
Work = Callable[[Connection], Coroutine[Any, Any, _T]]

_logger = logging.getLogger("durable_storage.postgres")
_PAUSE_FROM, _PAUSE_TO = 0.05, 1.0  # seconds between two tries to connect
_FIRST_TRY = 120.0  # seconds for the connection with which a store is opened: tables may have to be changed
_UNDONE_TRIES = 8


class AnswerLost(Exception):
    """The connection was lost while a statement was under way: it may have been applied, or may be applied later."""


class Undone(Exception):
    """The server took back what was sent, because of what others did at that moment: it may be sent again at once."""


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
        self._turn = Turn()
        self._working: Connection | None = None  # with something under way on it, since then
        self._since = 0.0
        self._alarm: asyncio.TimerHandle | None = None
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
        await self._turn.wait()
        try:
            self._connection = await self._try(asyncio.get_running_loop().time() + _FIRST_TRY)
        finally:
            self._turn.release()

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

    def begin_at_once(self, work: Work[_T], ended: Callable[[_T | None, BaseException | None], object]) -> bool:
        """
        Do *work* without a task, if the connection is there and free; otherwise nothing happens, and the answer is no.

        *ended* hears, in a plain callback of the loop, what came out: an error is one that `once` raises, or `Undone`.
        """
        connection = self._connection
        if connection is None or connection.is_closed() or not self._turn.take():
            return False

        def heard(done: _T | None, error: BaseException | None) -> None:
            self._working = None
            self._turn.release()
            if error is None:
                self._losses = 0
            elif is_undone(error):
                error = Undone()
            elif isinstance(error, FAILURES):
                error = self._failure(connection, error)
            ended(done, error)

        self._watch(connection)
        run_directly(work(connection), heard)
        return True

    async def fetch(self, text: str, *values: Any) -> Sequence[Any]:
        """The rows of a statement that may be executed twice."""
        return await self.run(lambda connection: connection.fetch(text, *values))

    async def close(self) -> None:
        """Close the connection; who still waits for it is told."""
        connection = self._leave()
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=1)
            except FAILURES:
                connection.terminate()

    def cut(self) -> None:
        """As `close`, for who cannot wait: the server is not told."""
        connection = self._leave()
        if connection is not None:
            connection.terminate()

    def _leave(self) -> Connection | None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        connection, self._connection = self._connection, None
        return connection

    def is_connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None and not self._connection.is_closed()

    def deadline(self) -> float:
        """Until when a call that is made now waits, on the clock of the event loop."""
        return asyncio.get_running_loop().time() + self._address.patience

    async def _do(self, connection: Connection, work: Work[_T]) -> _T:
        for attempt in range(_UNDONE_TRIES):
            self._watch(connection)
            try:
                done = await work(connection)
                self._losses = 0
                return done
            except FAILURES as error:
                if is_undone(error) and attempt + 1 < _UNDONE_TRIES:
                    await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))
                    continue
                raise self._failure(connection, error) from error
            finally:
                self._working = None
        raise AssertionError("the last attempt returns or raises")

    def _watch(self, connection: Connection) -> None:
        """Something begins on *connection*. One timer serves many statements: making one for each is not cheap."""
        loop = asyncio.get_running_loop()
        self.statements += 1
        self._working, self._since = connection, loop.time()
        if self._alarm is None:
            self._alarm = loop.call_later(self._address.patience, self._look)

    def _look(self) -> None:
        """Only an answer that never comes takes so long: somebody cut the line without telling."""
        self._alarm = None
        if self._working is None:
            return
        loop, until = asyncio.get_running_loop(), self._since + self._address.patience
        if loop.time() < until:
            self._alarm = loop.call_at(until, self._look)
        else:
            self._working.terminate()

    async def _wait_for_turn(self, deadline: float) -> None:
        if self._turn.take():
            return  # as most of the time
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.wait()
        except TimeoutError as error:
            raise unavailable(error, self._address.shown) from error

    def _failure(self, connection: Connection, error: Exception) -> Exception:
        """What *error* means for who has asked."""
        failure: Exception
        if is_lost(error):
            self._drop(connection)
            failure = AnswerLost()
        else:
            failure = translate(error, self._address.shown)
        failure.__cause__ = error
        return failure

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
