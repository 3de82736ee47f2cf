"""
Asking for changes, where no notice can be heard: behind a pooler in transaction mode a LISTEN reaches nobody.

One small question, which two looks into indexes answer, and only of a host: a client waits for what others do in their
time, and looks by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from durable_storage.postgres.claims import Claims

_SHORTEST, _LONGEST = 0.02, 0.2  # seconds between two questions: just after something happened, and when nothing does


class Polling:
    """Asks *claims*, ever less often while nothing happens."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._queues: Collection[str] = ()
        self._before: int | None = 0
        self._pause = _SHORTEST
        self.sessions: set[int] = set()

    def know(self, queues: Collection[str], wake: int | None) -> None:
        """What this host serves, and when it will look by itself."""
        self._queues, self._before = queues, wake

    async def wait(self, timeout: float) -> None:
        """Return when there is something to look at, or after *timeout* seconds."""
        until = asyncio.get_running_loop().time() + timeout
        if not self.sessions:
            await asyncio.sleep(timeout)
            return
        while (rest := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(self._pause, rest))
            if rest > self._pause and await self._claims.changed(self.sessions, self._queues, self._before):
                self._pause = _SHORTEST
                return
            self._pause = min(self._pause * 1.5, _LONGEST)
