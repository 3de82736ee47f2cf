"""
One ear for the changes of a store. The store tells of each change once, and several here want to hear of it.

Without this, whoever asked first took the hint from the others, and those waited for their next poll.
"""

from __future__ import annotations

import asyncio
import logging

from durable.errors import StorageError
from durable.storage import JournalStorage

logger = logging.getLogger("durable.host")

_LONGEST = 1.0  # seconds of one call to the store


class Changes:
    """Counts the changes of *storage* that were noticed; spurious ones may be among them."""

    def __init__(self, storage: JournalStorage) -> None:
        self._storage = storage
        self._listening: asyncio.Task[None] | None = None
        self.count = 0

    async def after(self, seen: int, timeout: float) -> int:
        """Return the count once it is above *seen*, a count returned before, or after *timeout* seconds."""
        if self.count == seen:
            if self._listening is None or self._listening.done():
                self._listening = asyncio.create_task(self._listen(), name="durable: changes of the store")
            await asyncio.wait([self._listening], timeout=timeout)
        return self.count

    async def close(self) -> None:
        """Listen no more; call it before the store is closed."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        try:
            await self._storage.wait_for_change(_LONGEST)
        except StorageError:
            pass  # the store is away: whoever looks at it now will be told why
        except Exception:
            logger.exception("A store failed to tell of changes; it is looked at from time to time")
            await asyncio.sleep(_LONGEST)
        self.count += 1
