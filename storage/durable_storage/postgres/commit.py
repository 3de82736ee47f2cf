"""
Committing a batch, and finding out what became of it when the answer was lost.

The row of the session keeps the number of its last batch and what was answered to it. So a host that loses its
connection in the middle of a commit asks, and goes on as if nothing had happened: with the answer from the row, or by
sending the batch again. A late first try cannot be applied beside the second: each names the number it expects to find.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from typing import Any

from durable.errors import StorageError, StorageUnavailable
from durable.storage import Batch, BatchResult
from durable_storage.checks import check_children, check_journals, keys_to_own
from durable_storage.postgres.batches import Calls, read_answer
from durable_storage.postgres.channel import AnswerLost, Channel, Connection
from durable_storage.postgres.claims import session_lost
from durable_storage.postgres.failures import unavailable
from durable_storage.postgres.notices import Notices
from durable_storage.postgres.reader import Reader
from durable_storage.postgres.sessions import Sessions

_NOT_OWNED_OR_GAP, _CHILD_TAKEN, _KEY_TAKEN = "DU001", "DU004", "23505"


class Committer:
    """Applies batches over *channel*; *reader* is asked for details, *notices* tell who else must know."""

    def __init__(
        self, channel: Channel, schema: str, shown: str, reader: Reader, sessions: Sessions, notices: Notices | None
    ) -> None:
        self._channel = channel
        self._calls = Calls(schema)
        self._shown = shown
        self._reader = reader
        self._sessions = sessions
        self._notices = notices
        self._last: dict[int, int] = {}  # session -> its last batch that was applied, as far as is known here

    def know(self, session: int, last_batch: int) -> None:
        """What the row of *session* says: what is still on its way from before will find that it comes too late."""
        self._last[session] = last_batch

    async def commit(self, batch: Batch) -> BatchResult:
        """
        Apply *batch*.

        Raises:
            SessionLost: The session does not live; nothing was written.
            StorageUnavailable: It is not known whether it was written; `last_batch` of the session will tell.
            StorageError: Nothing was written.
        """
        try:
            statement = self._calls.prepare(batch)
            try:
                result = await self._apply(batch, *statement)
            except StorageError as error:
                if error.facts.get("sqlstate") != _KEY_TAKEN:
                    raise
                result = await self._apply(batch, *statement)  # the very same creation was committed beside this one
        except StorageUnavailable:
            raise
        except StorageError as error:
            await self._explain(batch, error)
            raise
        if batch.session is not None:
            self._last[batch.session] = batch.number
        return result

    async def _apply(self, batch: Batch, text: str, values: Sequence[Any]) -> BatchResult:
        """Send *batch* until it is known to be applied, or refused."""
        session, deadline, was_lost = batch.session, self._channel.deadline(), False
        expected = None if session is None else self._last.get(session)

        def send(connection: Connection) -> Awaitable[Any]:
            return connection.fetchrow(text, session, batch.number, expected, *values)

        while True:
            try:
                verdict, answer, hear = await self._channel.once(send, deadline)
            except AnswerLost as lost:
                was_lost = True
                if (result := await self._find_out(batch)) is not None:
                    return result
                if (session is None and batch.mails) or asyncio.get_running_loop().time() >= deadline:
                    raise unavailable(lost.__cause__, self._shown) from lost
                continue
            if verdict == "applied":
                self._tell(batch, hear)
                result = read_answer(answer, batch)
                return _without_own(batch, result) if was_lost and session is None else result
            if (result := await self._find_out(batch)) is not None:
                return result
            # It lives, and its row has another number: an older try was applied after everybody had given it up.
            raise session_lost(session or 0)

    async def _find_out(self, batch: Batch) -> BatchResult | None:
        """What *batch* was answered if it was applied; a client's batch leaves no trace by which that is known."""
        if batch.session is None:
            return None
        standing = await self._sessions.standing(batch.session)
        if standing.last_batch == batch.number:
            return read_answer(standing.answer, batch)
        if not standing.is_alive:
            raise session_lost(batch.session)
        return None

    async def _explain(self, batch: Batch, error: StorageError) -> None:
        """
        Raise what is really wrong with a batch that was refused, if that is more than *error*.

        Raises:
            SessionLost: The session does not live, which goes before everything else.
            ProcessExists: Which children exist already.
            StorageError, CorruptJournal: The process that is to blame.
        """
        if batch.session is None:
            return
        try:
            standing = await self._sessions.standing(batch.session)
        except StorageError:
            raise session_lost(batch.session) from error
        if not standing.is_alive:
            raise session_lost(batch.session) from error
        if error.facts.get("sqlstate") == _CHILD_TAKEN:
            taken = set(json.loads(error.facts["detail"]))
            check_children(dict.fromkeys(child.id for child in batch.children if child.id in taken))
        if error.facts.get("sqlstate") == _NOT_OWNED_OR_GAP:
            lengths = await self._reader.lengths(batch.session, keys_to_own(batch))
            new = (*batch.creations, *batch.children)
            lengths.update({creation.key: 1 for creation in new if creation.owned})
            check_journals(batch, lengths)

    def _tell(self, batch: Batch, hear: Sequence[int] | None) -> None:
        notices = self._notices
        if notices is None:
            return
        sessions = list(hear or ())
        if any(not creation.owned for creation in (*batch.creations, *batch.children)):
            sessions.append(0)
        if sessions:
            notices.tell_sessions(sessions)
        if (batch.ends or batch.stalls or batch.progress) and notices.endings_are_awaited():
            notices.tell_endings()


def _without_own(batch: Batch, result: BatchResult) -> BatchResult:
    """A client's creations that were found taken by themselves: the first try, whose answer was lost, was applied."""
    own = {creation.id: creation.key for creation in batch.creations}
    taken = {id: row for id, row in result.taken_ids.items() if row.key != own[id]}
    return BatchResult(taken, result.deliveries, result.held)
