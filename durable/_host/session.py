"""The session of a host: how long it may still write and start things, kept alive by renewing its lease."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from durable.errors import StorageError
from durable.storage import JournalStorage

logger = logging.getLogger("durable.host")

_RENEWALS = 4  # tries within one lease
_MARGIN = 0.1  # share of the lease before its end in which nothing starts any more


def boot_time() -> float:
    """Seconds since boot, time asleep included: a lease must not seem young after the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class HostSession:
    """
    One life of one host in its store.

    Args:
        lost: Called once when the store says that this session is dead.
    """

    def __init__(self, storage: JournalStorage, name: str, lease: float, lost: Callable[[], object]) -> None:
        self._storage = storage
        self._name = name
        self._lease = lease
        self._lost = lost
        self._until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self.id = 0
        self.renewed: Callable[[], object] = _nothing

    async def begin(self) -> int:
        """Register with the store; the id of the session."""
        asked = boot_time()
        self.id = await self._storage.begin_session(self._name, self._lease)
        self._until = asked + self._lease
        self._task = asyncio.create_task(self._keep_alive(), name="durable: renew the session")
        return self.id

    def may_start(self) -> bool:
        """Whether the lease is surely good, so that an action may start; if not, it is renewed at once."""
        if self.is_sure():
            return True
        self._hurry.set()
        return False

    def is_sure(self) -> bool:
        """Whether the lease is surely good by this machine's own clock: past it no action may start. On any thread."""
        return boot_time() < self._until - self._lease * _MARGIN

    def is_torn_down(self) -> bool:
        """
        Whether somebody else has cancelled the task that renews it.

        Nobody knows that task but asyncio, which cancels all there are where a program ends by an interrupt.
        """
        return self._task is not None and self._task.cancelling() > 0

    async def end(self, *, cleanly: bool) -> None:
        """Stop renewing; *cleanly*: tell the store, so that what is still owned can go on elsewhere at once."""
        if self._task is not None:
            self._task.cancel()
        if cleanly:
            try:
                await self._storage.end_session(self.id)
            except StorageError as error:
                logger.warning(
                    "Session %d could not be ended, so others wait until it counts as dead: %s", self.id, error
                )
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _keep_alive(self) -> None:
        while True:
            self._hurry.clear()
            try:
                async with asyncio.timeout(self._lease / _RENEWALS):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            asked = boot_time()
            try:
                alive = await self._storage.renew(self.id, self._lease)
            except StorageError as error:
                logger.warning("Session %d could not be renewed, trying again: %s", self.id, error)
                await asyncio.sleep(min(1.0, self._lease / 20))
                continue
            if not alive:
                self._lost()
                return
            self._until = asked + self._lease
            self.renewed()


def _nothing() -> None:
    """Nobody waits for a renewal yet."""
