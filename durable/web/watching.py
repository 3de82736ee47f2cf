"""
One look at a process for all who follow it: each watched process costs one `Handle.watch`, however many listen.

A listener asks for what came after the version it has, and gets the newest state; what it was too slow for it never
sees, so a slow one keeps nothing waiting and takes no memory. The look ends with its last listener.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

from durable.client import ProcessClient
from durable.errors import CorruptJournal, StorageError
from durable.handle import ProcessStatus
from durable.web.pictures import Update, update

logger = logging.getLogger("durable.web")

_PAUSE = 1.0  # seconds before a store that failed is asked again


class Watched:
    """A process that is being followed."""

    def __init__(self) -> None:
        self.listeners = 0
        self.task: asyncio.Task[None]
        self._latest: Update | None = None
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def after(self, version: str | None) -> Update:
        """
        The newest state, once it is another one than *version*; at once if the process has ended.

        Raises:
            ProcessNotFound: There is no such process.
            StorageError: The store failed before anything was known of it.
        """
        return await self._first(lambda latest: latest.version != version or latest.ended)

    async def next(self, last: Update | None) -> Update:
        """The newest picture, once it is another one than *last*, be it by what it waits for; else as `after`."""
        return await self._first(lambda latest: latest != last or latest.ended)

    async def _first(self, is_asked_for: Callable[[Update], bool]) -> Update:
        while True:
            if self._latest is not None and is_asked_for(self._latest):
                return self._latest
            if self._error is not None:
                raise self._error.with_traceback(None)
            await self._news.wait()

    def publish(self, latest: Update) -> None:
        """Tell all who listen, unless nothing of it changed that they can see."""
        if latest != self._latest:
            self._latest = latest
            self._tell()

    def fail(self, error: Exception) -> None:
        """Nothing more will come."""
        self._error = error
        self._tell()

    @property
    def is_known(self) -> bool:
        """Whether there has been a state to tell."""
        return self._latest is not None

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Watching:
    """All processes of *connection* that are being followed."""

    def __init__(self, connection: ProcessClient) -> None:
        self._connection = connection
        self._watched: dict[str, Watched] = {}

    @asynccontextmanager
    async def following(self, id: str) -> AsyncIterator[Watched]:
        """The process *id*, looked at for as long as somebody is in this context."""
        watched = self._watched.get(id)
        if watched is None:
            watched = self._watched[id] = Watched()
            watched.task = asyncio.create_task(self._watch(id, watched), name=f"durable: watch {id!r}")
        watched.listeners += 1
        try:
            yield watched
        finally:
            watched.listeners -= 1
            if not watched.listeners:
                watched.task.cancel()
                self._forget(id, watched)

    async def updates(self, id: str) -> AsyncGenerator[Update, None]:
        """How the process stands now, then each change, the newest only, until it has ended."""
        async with self.following(id) as watched:
            latest = None
            while latest is None or not latest.ended:
                latest = await watched.next(latest)
                yield latest

    async def _watch(self, id: str, watched: Watched) -> None:
        try:
            while True:
                try:
                    await self._look(id, watched)
                    return
                except StorageError as error:
                    if not watched.is_known or isinstance(error, CorruptJournal):
                        raise
                    logger.warning("The store failed while process %r is watched, trying again: %s", id, error)
                    await asyncio.sleep(_PAUSE)
        except Exception as error:
            self._forget(id, watched)  # who comes now looks for themselves
            watched.fail(error)

    async def _look(self, id: str, watched: Watched) -> None:
        # `Handle.watch` is a generator, and must be closed here and now: it has subscribed to changes.
        statuses = cast("AsyncGenerator[ProcessStatus, None]", self._connection.get(id).watch())
        async with aclosing(statuses):
            async for status in statuses:
                watched.publish(update(status))

    def _forget(self, id: str, watched: Watched) -> None:
        if self._watched.get(id) is watched:
            del self._watched[id]
