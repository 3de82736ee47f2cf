"""One who watches a process: what they know of it, and how they are woken. `endings` has them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from durable.errors import DurableError
from durable.storage import ProcessRow

_GLANCE_EVERY = 0.5  # seconds between two times that who watches a process here is woken without news


class Watch:
    """
    What somebody who watches a process has seen of it.

    ``is_outdated``: the row has to be read again, although the process may be here. ``has_begun``: the first row was
    seen, so that the process exists, or did.

    Args:
        recheck: Sees to it that the row is read again if the process is here.
    """

    __slots__ = ("_error", "_glanced", "_news", "_row", "has_begun", "is_outdated", "recheck")

    def __init__(self, recheck: Callable[[], None]) -> None:
        self.recheck = recheck
        self.is_outdated = False
        self.has_begun = False
        self._row: ProcessRow | None = None
        self._news = asyncio.Event()
        self._error: DurableError | None = None
        self._glanced = monotonic()

    # --- who watches ---

    def begin(self, row: ProcessRow) -> ProcessRow:
        """The newest row, if *row* is what was read since this object was made."""
        self.has_begun = True
        if self._row is None:  # else a look came in between, and knows no less
            self._row = row
        return self._row

    async def next(self) -> ProcessRow:
        """
        The newest row, once it is another one, or once something is new that only the host of the process knows.

        Raises:
            ProcessNotFound: The process is purged.
            StorageError: How it stands cannot be read any more.
            HostClosed: Nothing more will be told.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            if self._error is not None:
                raise self._error
            if self._row is not None:
                return self._row

    # --- who tells ---

    def wake(self) -> None:
        """Something changed that the host knows best."""
        self._news.set()

    def wake_from_time_to_time(self) -> None:
        """Perhaps something changed that the host knows best."""
        if monotonic() - self._glanced >= _GLANCE_EVERY:
            self._glanced = monotonic()
            self._news.set()

    def await_row(self) -> None:
        """The process has left: nothing is known until the next look."""
        self._row = None
        self.is_outdated = True

    def show(self, row: ProcessRow) -> None:
        """Tell of *row* if it is another one."""
        self.is_outdated = False
        if row != self._row:
            self._row = row
            self._news.set()

    def fail(self, error: DurableError) -> None:
        """Nothing more will come but *error*."""
        self._error = error
        self._news.set()
