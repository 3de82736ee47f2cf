"""
What can be learned of processes from any program that reaches their store; nothing here writes.

`ProcessClient` builds on it: what it adds is what changes something. Handles ask here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from traceback import format_exception
from typing import Any

from durable._host.options import check_length, check_number, check_statuses
from durable._host.watching.endings import Endings, not_found
from durable._kernel.outcomes import content_of, outcome
from durable.codec import Codec
from durable.errors import HostClosed, ProcessFailed, ResultNotReady
from durable.handle import HistoryEntry, ProcessStatus, history_entry, picture
from durable.journal import ID_LIMIT, check_name
from durable.storage import ENDED, JournalStorage, ProcessRow, Status

History = list[HistoryEntry]  # by this name where `list` is the method


class Reading:
    """The questions of a client or host; whoever builds on it opens the store, and says so."""

    _storage: JournalStorage
    _codec: Codec
    _endings: Endings
    _is_open = False

    async def list(
        self,
        *,
        status: Status | str | Collection[Status | str] | None = None,
        name: str | None = None,
        limit: int = 100,
        before: ProcessStatus | int | None = None,
    ) -> list[ProcessStatus]:
        """
        Processes, newest first.

        Args:
            status: Only those with this status, or one of these: "running", "stalled", "completed", "failed",
                "cancelled", "terminated".
            name: Only those of this definition.
            limit: At most so many, at least 1.
            before: The last one of the page before, or its `ProcessStatus.key`. It need not be there any more.

        Raises:
            ValueError: No such status.
            InvalidDefinition: *limit* is not a whole number of at least 1.
            StorageError: The store could not be read; it is not tried again.
            HostClosed: This client or host is not open.
        """
        self._check_open()
        wanted = None if status is None else check_statuses(status)
        last = before.key if isinstance(before, ProcessStatus) else before
        most = check_number(limit, "`limit` of `list`")
        rows = await self._storage.rows(status=wanted, definition=name, limit=most, before=last)
        return [picture(row, self._codec) for row in rows]

    async def count(
        self, *, status: Status | str | Collection[Status | str] | None = None, name: str | None = None
    ) -> int:
        """
        How many processes there are.

        Args:
            status: Only those with this status, or one of these; as for `list`.
            name: Only those of this definition.

        Raises:
            ValueError: No such status.
            StorageError: The store could not be read; it is not tried again.
            HostClosed: This client or host is not open.
        """
        self._check_open()
        wanted = None if status is None else check_statuses(status)
        return await self._storage.count(status=wanted, definition=name)

    # --- what handles ask for ---

    async def _result(self, id: str, timeout: timedelta | None) -> Any:
        self._check_open()
        seconds = None
        if timeout is not None:
            seconds = max(0.0, check_length(timeout, "`timeout` of `result`", least=None).total_seconds())
            if seconds == 0 and (await self._row(id)).status in ENDED:
                seconds = None  # there is something to read, for which no time at all is not enough
        try:
            async with asyncio.timeout(seconds):
                record = await self._endings.wait(id)
        except TimeoutError:
            raise ResultNotReady(
                f"Process {id!r} has not ended within {timeout}",
                fix="it goes on: ask again, or look at its `status()`, which says what it waits for",
            ) from None
        content = content_of(record.kind, self._codec.decode(record.payload))
        try:
            return outcome(record.kind, content, self._codec, id)
        except ResultNotReady as error:  # of the process, which waited for another one: not the timeout of this caller
            raise ProcessFailed(
                f"Process {id!r} failed: {error.args[0]}",
                type_name=f"{type(error).__module__}.{type(error).__qualname__}",
                arguments=repr(error.args),
                traceback_text="".join(format_exception(error)),
                reason="raised as it is, it would be taken for the timeout of whoever asked for this result",
            ) from error

    async def _status(self, id: str) -> ProcessStatus:
        return picture(await self._row(id), self._codec)

    async def _history(self, id: str) -> History:
        row = await self._row(id)
        return [history_entry(record, self._codec) for record in await self._storage.journal(row.key)]

    async def _watch(self, id: str) -> AsyncIterator[ProcessStatus]:
        self._check_open()
        last: ProcessStatus | None = None
        with self._endings.watching(id) as watch:
            row = watch.begin(await self._row(id))
            while True:
                status = picture(row, self._codec)
                if (here := self._status_here(id, status)) is not None:
                    status = here
                elif not status.ended:
                    watch.recheck()
                if status != last:
                    last = status
                    yield status
                if status.ended:
                    return
                row = await watch.next()

    def _status_here(self, id: str, last: ProcessStatus) -> ProcessStatus | None:
        """How a process stands that stood like *last*, if that can be said without asking the store."""
        return None

    async def _row(self, id: str) -> ProcessRow:
        self._check_open()
        row = await self._storage.row(check_name(id, "process id", ID_LIMIT))
        if row is None:
            raise not_found(id)
        return row

    def _check_open(self) -> None:
        if not self._is_open:
            kind = type(self).__name__
            raise HostClosed(f"This {kind} is not open", fix=f"use it inside `async with {kind}(…) as it:`")
