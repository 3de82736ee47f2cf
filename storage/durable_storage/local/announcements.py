"""What other storage objects have announced, as one of them sees it: a counter in the file of the store's lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from durable.storage import Batch
from durable_storage.local.locks import StoreLock

_SHORTEST_POLL, _LONGEST_POLL = 0.005, 0.05


def concerns_others(batch: Batch) -> bool:
    """
    Whether another host or a client may be waiting for what *batch* writes.

    Records are not among it: they are the own affair of the session that owns the process, and by far the most batches.
    """
    unowned = any(not creation.owned for creation in (*batch.creations, *batch.children))
    changes = (batch.mails, batch.progress, batch.restarts, batch.parks, batch.stalls, batch.ends)  # notices need ends
    return unowned or any(changes)


class Announcements:
    """The changes of one store since this object was made."""

    def __init__(self, lock: StoreLock) -> None:
        self._lock = lock
        self._by_others = False
        self._seen = lock.changes()
        self._poll = _SHORTEST_POLL

    def announce(self) -> None:
        """Tell other storage objects that something has changed, and notice what they told; under the lock."""
        changes = self._lock.changes()
        if changes != self._seen:
            self._by_others = True
        self._seen = changes + 1
        self._lock.announce(changes + 1)

    def has_changed(self) -> bool:
        """Whether another storage object has announced something since the last call; for any thread, no lock."""
        changes = self._lock.changes()
        changed = self._by_others or changes != self._seen
        self._by_others = False
        self._seen = changes
        return changed

    async def wait(self, timeout: float, is_open: Callable[[], bool]) -> None:
        """
        Return when another storage object has announced something since the last call, or after *timeout* seconds.

        It looks at the counter (one system call on the event loop, no thread): every 5 ms just after something
        happened, every 50 ms when nothing does. *is_open* is asked before each look.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while is_open() and not self.has_changed():
            rest = until - loop.time()
            if rest <= 0:
                return
            await asyncio.sleep(min(self._poll, rest))
            self._poll = min(self._poll * 1.2, _LONGEST_POLL)
        self._poll = _SHORTEST_POLL
