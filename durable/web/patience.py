"""
How long a request waits: as long as it may, and no longer than the server runs, the client is there, the store answers.

A server that is told to stop lets requests go on, and cuts them when its own patience is over, with an error that tells
nothing. So a long poll ends by itself then, answers how things stand, and its client asks again, of whoever is there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request

_LOOK_WITHIN = 5.0  # seconds the store has to say how processes stand
_READ_WITHIN = 60.0  # seconds it has to give a journal, which may be long
_LOOK_EVERY = 0.25  # seconds between two looks whether the server is to stop, by one timer for all who wait

FAREWELL = {"Connection": "close", "Retry-After": "1"}  # so that the next question does not come here


class Patience:
    """The waits of one application."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def within(self, seconds: float, request: Request) -> AsyncIterator[None]:
        """Leave this block after so many *seconds*, when the server is told to stop, or who sent *request* has gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if is_stopping() else seconds) as timeout, _while_there(request, timeout):
                self._waiting.add(timeout)
                self._look = self._look or self._later()
                try:
                    yield
                finally:
                    self._waiting.discard(timeout)

    def _later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(_LOOK_EVERY, self._end_if_stopping)

    def _end_if_stopping(self) -> None:
        if is_stopping():
            waiting, self._waiting = self._waiting, set()
            for timeout in waiting:
                _end(timeout)
        self._look = self._later() if self._waiting else None


@asynccontextmanager
async def _while_there(request: Request, timeout: asyncio.Timeout) -> AsyncIterator[None]:
    hearing = asyncio.create_task(_end_when_gone(request, timeout), name="durable: long poll")
    try:
        yield
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _end_when_gone(request: Request, timeout: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    _end(timeout)


def _end(timeout: asyncio.Timeout) -> None:
    if not timeout.expired():  # in the same turn of the loop, which would be an error
        timeout.reschedule(asyncio.get_running_loop().time())


@asynccontextmanager
async def answering(*, journal: bool = False) -> AsyncIterator[None]:
    """
    What stands in this block asks the store how processes stand, or for a *journal*, which has some seconds to answer.

    Raises:
        HTTPException: It did not (503).
    """
    timeout = asyncio.timeout(_READ_WITHIN if journal else _LOOK_WITHIN)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise HTTPException(503, "The store does not answer", {"Retry-After": "1"}) from None


def is_stopping() -> bool:
    """Whether the server of this program has been told to stop, if it is uvicorn, which tells nobody."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)  # whoever handles the signal is the server
    return isinstance(server, uvicorn.Server) and server.should_exit
