"""Housekeeping beside a host: again and again, gently, and never in the way of anything else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from random import uniform

from durable import times
from durable.codec import Codec
from durable.errors import StorageError
from durable.housekeeping.archive import Archive
from durable.housekeeping.keeping import batches
from durable.housekeeping.retention import Report, Retention
from durable.storage import JournalStorage

logger = logging.getLogger("durable.housekeeping")

_FIRST_WITHIN = 60.0  # seconds; a host that is often restarted gets to it, and hosts started together spread


class Housekeeper:
    """
    Keeps house on *storage* every ``retention.every``, from `start` to `stop`.

    Several on one store do no harm. After each batch it rests for as long as that took, so it never takes more than
    half of the time of a store. What fails is logged and tried again the next time; the host does not notice.

    Args:
        storage: An open store, which stays open until after `stop`.
        codec: That of the host.
        now: What time it is, in microseconds since 1970 UTC.

    Attributes:
        report: What was done since `start`.

    Raises:
        ImportError, StorageError: There is no way to the archive, so that a host does not begin without one.
    """

    def __init__(
        self,
        storage: JournalStorage,
        retention: Retention,
        *,
        codec: Codec | None = None,
        now: Callable[[], int] = times.now,
    ) -> None:
        if retention.archive is not None:
            Archive(retention.archive, create=True)
        self._storage = storage
        self._retention = retention
        self._codec = codec
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self.report = Report()

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._keep_house(), name="durable: housekeeping")

    async def stop(self) -> None:
        """Stop, also in the middle of a batch: what was not purged yet is archived again by whoever comes next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _keep_house(self) -> None:
        every = self._retention.every.total_seconds()
        await asyncio.sleep(uniform(0, min(every, _FIRST_WITHIN)))
        while True:
            try:
                await self._keep_house_once()
            except StorageError as error:
                logger.warning("Housekeeping goes on in %s: %s", self._retention.every, error)
            except Exception:
                logger.exception("Housekeeping failed and is tried again in %s", self._retention.every)
            await asyncio.sleep(every * uniform(0.9, 1.1))

    async def _keep_house_once(self) -> None:
        begun = time.monotonic()
        async for done in batches(self._storage, self._retention, self._codec, self._now()):
            self.report += done
            await asyncio.sleep(time.monotonic() - begun)
            begun = time.monotonic()
