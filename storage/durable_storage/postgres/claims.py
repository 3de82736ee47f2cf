"""
Taking processes over, and finding out what wants to run.

A claim is a transaction of its own: take, read journals and inboxes, commit. All that is needed is in hand before the
COMMIT is sent, so when its answer is lost one look tells whether these processes are ours. It locks no session: a
session that is declared dead while it claims owns something for a moment, and that is found like whatever the dead own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from durable.errors import CorruptJournal, SessionLost
from durable.journal import Record
from durable.storage import Claim, InboxItem, ProcessRow
from durable_storage.checks import stall_reason
from durable_storage.postgres import statements as sql
from durable_storage.postgres.building import Statements
from durable_storage.postgres.channel import AnswerLost, Channel
from durable_storage.postgres.connecting import Connection
from durable_storage.schema import inbox_item, journal_record, process_row

# In one simple statement, so that it is one round trip; settings end with the transaction, behind a pooler too.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL idle_in_transaction_session_timeout = '5s'; SET LOCAL lock_timeout = '5s'"
)

_OF_RECORD = 5  # columns

_logger = logging.getLogger("durable_storage.postgres")


def session_lost(session: int) -> SessionLost:
    """The error of a session that may not write any more."""
    return SessionLost(f"Session {session} was declared dead or has ended; it writes nothing any more")


class Claims:
    """Looks for work on *channel*."""

    def __init__(self, channel: Channel, statements: Statements) -> None:
        self._channel = channel
        self._statements = statements

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        """
        Give what is due or orphaned to *session*; orphans without a ``wake_at`` first, then by ``wake_at`` and key.

        Raises:
            SessionLost: *session* does not live.
        """
        alive, wake = await self._look(session, queues)
        if not alive:
            raise session_lost(session)
        if wake is None or wake > now or limit <= 0:
            return []
        taking = self._statements[sql.CLAIM]
        values = taking.values(session=session, queues=list(queues), most=limit, now=now)
        claims: list[Claim] = []

        async def take(connection: Connection) -> None:
            claims.clear()
            await connection.execute(_BEGIN)
            try:
                rows = await connection.fetch(taking.text, *values)
                claims.extend(await self._read(connection, session, rows))
                await connection.execute("COMMIT")
            except asyncpg.PostgresError:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
            except BaseException:  # cancelled, or nobody answers: then nobody would answer a ROLLBACK
                connection.terminate()
                raise

        try:
            await self._channel.once(take)
        except AnswerLost:
            if not claims or not await self._owns(session, claims[0].row.key):
                return []  # nothing was taken: the next look finds it again
        return claims

    async def _read(self, connection: Connection, session: int, taken: Sequence[Any]) -> list[Claim]:
        if not taken:
            return []
        rows: list[ProcessRow] = []
        for values in sorted(taken, key=lambda values: (values[-1] or 0, values[0])):
            rows.append(process_row(tuple(values)[:-1]))
        contents: dict[int, tuple[list[Record], list[InboxItem]]] = {}
        unreadable: dict[int, CorruptJournal] = {}
        for key, *columns in await connection.fetch(self._statements[sql.CONTENTS].text, [row.key for row in rows]):
            records, items = columns[:_OF_RECORD], columns[_OF_RECORD:]
            try:
                contents[key] = (
                    [journal_record(record) for record in _rows(records)],
                    [inbox_item(item) for item in _rows(items)],
                )
            except CorruptJournal as error:
                unreadable[key] = error
        if unreadable:
            stalling, values = self._stalling(session, unreadable)
            await connection.fetch(stalling, *values)
        return [Claim(row, *contents[row.key]) for row in rows if row.key not in unreadable]

    def _stalling(self, session: int, unreadable: Mapping[int, CorruptJournal]) -> tuple[str, list[Any]]:
        """What lets go of processes that this version cannot read; a host of a newer one makes them go on."""
        for key, error in unreadable.items():
            _logger.error("process %d is stalled: %s", key, error)
        keys = sorted(unreadable)
        stalling = self._statements[sql.STALL_UNREADABLE]
        reasons = [stall_reason(unreadable[key]) for key in keys]
        return stalling.text, stalling.values(session=session, keys=keys, reasons=reasons)

    async def _owns(self, session: int, key: int) -> bool:
        owns = self._statements[sql.OWNS]
        return bool(await self._channel.fetch(owns.text, *owns.values(session=session, key=key)))

    async def collect(self, session: int) -> Sequence[InboxItem]:
        """
        Inbox items of the flagged processes of *session*, whose flags are cleared.

        Read first and cleared after: of what has more mail meanwhile the flag stays, and no lost answer loses a mail.
        """
        collecting = self._statements[sql.COLLECT]
        found = await self._channel.fetch(collecting.text, *collecting.values(session=session))
        if not found:
            return []
        flagged = {key: mail for key, mail, *_ in found}
        clearing = self._statements[sql.UNFLAG]
        keys = sorted(flagged)  # the order in which batches of others lock them
        given = {"keys": keys, "mails": [flagged[key] for key in keys], "session": session}
        await self._channel.fetch(clearing.text, *clearing.values(**given))
        items: list[InboxItem] = []
        unreadable: dict[int, CorruptJournal] = {}
        for values in found:
            try:
                items += [inbox_item(tuple(values)[2:])] if values[2] is not None else []
            except CorruptJournal as error:
                unreadable[values[0]] = error
        if unreadable:
            stalling, given_too = self._stalling(session, unreadable)
            await self._channel.fetch(stalling, *given_too)
        return sorted(item for item in items if item.key not in unreadable)

    async def next_wake(self, queues: Collection[str]) -> int | None:
        """When `claim` will next find something: 0 if a process is orphaned."""
        return (await self._look(0, queues))[1]

    async def _look(self, session: int, queues: Collection[str]) -> tuple[bool, int | None]:
        looking = self._statements[sql.NEXT_WAKE]
        [(alive, wake)] = await self._channel.fetch(looking.text, *looking.values(session=session, queues=list(queues)))
        return alive, wake

    async def changed(self, sessions: Collection[int], queues: Collection[str], before: int | None) -> bool:
        """Whether one of *sessions* has mail, or something unowned wants to run earlier than *before*."""
        looking = self._statements[sql.CHANGED]
        given = {"sessions": list(sessions), "queues": list(queues), "before": 2**63 - 1 if before is None else before}
        [(changed,)] = await self._channel.fetch(looking.text, *looking.values(**given))
        return bool(changed)

    async def resume_stalled(self, queues: Collection[str], now: int) -> int:
        """Make stalled processes of *queues* due at *now*; return how many."""
        resuming = self._statements[sql.RESUME_STALLED]
        return len(await self._channel.fetch(resuming.text, *resuming.values(queues=list(queues), now=now)))


def _rows(columns: Sequence[Sequence[Any] | None]) -> Iterable[tuple[Any, ...]]:
    """The rows of columns that came as arrays; nothing is None."""
    return zip(*(column or () for column in columns), strict=True)
