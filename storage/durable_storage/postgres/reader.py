"""Reads for people, clients and housekeeping: rows, journals, inboxes and listings, on a connection of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from durable.journal import Record
from durable.storage import InboxItem, ProcessRow, Status
from durable_storage.postgres import listing
from durable_storage.postgres import statements as sql
from durable_storage.postgres.building import Statement, Statements
from durable_storage.postgres.channel import Channel
from durable_storage.schema import inbox_item, journal_record, process_row


class Reader:
    """
    Asks over *channel*, which is opened with the first question: a long listing must not hold up a commit or a lease.

    One question after the other: who lists or counts a million processes does not use up the connections of a server.
    """

    def __init__(self, channel: Channel, statements: Statements) -> None:
        self._channel = channel
        self._statements = statements

    async def row(self, id: str) -> ProcessRow | None:
        """The process with this id."""
        rows = await self._fetch(self._statements[sql.ROW], id=id)
        return process_row(tuple(rows[0])) if rows else None

    async def rows_by_id(self, ids: Collection[str]) -> dict[str, ProcessRow]:
        """The processes with these ids."""
        found = await self._fetch(self._statements[sql.ROWS_BY_ID], ids=list(ids))
        return {row.id: row for row in (process_row(tuple(values)) for values in found)}

    async def lengths(self, session: int, keys: Collection[int]) -> dict[int, int]:
        """How many records each process has that *session* owns, of *keys*."""
        return dict(await self._fetch(self._statements[sql.LENGTHS], session=session, keys=list(keys)))

    async def journal(self, key: int, after: int) -> list[Record]:
        """Records of one process with ``seq > after``."""
        found = await self._fetch(self._statements[sql.JOURNAL], key=key, after=after)
        return [journal_record(values) for values in found]

    async def inbox(self, key: int) -> list[InboxItem]:
        """The inbox of one process."""
        return [inbox_item(tuple(values)) for values in await self._fetch(self._statements[sql.INBOX], key=key)]

    async def rows(
        self, status: Collection[Status] | None, definition: str | None, limit: int, before: int | None
    ) -> list[ProcessRow]:
        """A page of a listing, newest key first."""
        if status is not None and not status:
            return []
        chosen = None if status is None else frozenset(status)
        page = listing.page_for(self._statements.schema, chosen, definition is not None, before is not None)
        found = await self._fetch(page, definition=definition, before=before, most=limit)
        return [process_row(tuple(values)) for values in found]

    async def count(self, status: Collection[Status] | None, definition: str | None) -> int:
        """How many processes there are."""
        if status is not None and not status:
            return 0
        chosen = None if status is None else frozenset(status)
        counting = listing.count_for(self._statements.schema, chosen, definition is not None)
        number: int = (await self._fetch(counting, definition=definition))[0][0]
        return number

    async def ended(self, before: int, limit: int) -> list[ProcessRow]:
        """What ended before that time, the first ones first."""
        found = await self._fetch(self._statements[sql.ENDED_BEFORE], before=before, most=limit)
        return [process_row(tuple(values)) for values in found]

    async def purge(self, keys: Collection[int]) -> int:
        """Delete those of *keys* that have ended, with all that belongs to them; return how many."""
        number: int = (await self._fetch(self._statements[sql.PURGE], keys=list(keys)))[0][0]
        return number

    async def _fetch(self, statement: Statement, **given: Any) -> Any:
        return await self._channel.fetch(statement.text, *statement.values(**given))
