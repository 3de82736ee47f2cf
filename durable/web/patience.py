"""
How long a request waits: as long as it may, and no longer than the server runs.

A server that is told to stop lets requests go on, and cuts them when its own patience is over, with an error that tells
nothing. So a long poll ends by itself then, answers how things stand, and its client asks again, of whoever is there.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn

_LOOK_EVERY = 0.25  # seconds between two looks whether the server is to stop, by one timer for all who wait

FAREWELL = {"Connection": "close", "Retry-After": "1"}  # so that the next question does not come here


class Patience:
    """The waits of one application."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Leave what stands in this block after so many *seconds*, or when the server is told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if is_stopping() else seconds) as timeout:
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
            now = asyncio.get_running_loop().time()
            for timeout in self._waiting:
                timeout.reschedule(now)
            self._waiting.clear()
        self._look = self._later() if self._waiting else None


def is_stopping() -> bool:
    """Whether the server of this program has been told to stop, if it is uvicorn, which tells nobody."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)  # whoever handles the signal is the server
    return isinstance(server, uvicorn.Server) and server.should_exit
