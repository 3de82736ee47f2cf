"""
Committing a batch, and finding out what became of it when the answer was lost.

The row of the session keeps the number of its last batch and what was answered to it. So a host that loses its
connection in the middle of a commit asks, and goes on as if nothing had happened: with the answer from the row, or by
sending the batch again. A late first try cannot be applied beside the second: each names the number it expects to find.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from durable.errors import StorageError, StorageUnavailable
from durable.storage import Answer, Batch, BatchResult
from durable_storage.checks import check_children, check_journals, keys_to_own
from durable_storage.postgres.address import Address
from durable_storage.postgres.batches import Calls, read_answer
from durable_storage.postgres.channel import AnswerLost, Channel, Undone, Work
from durable_storage.postgres.claims import session_lost
from durable_storage.postgres.failures import unavailable
from durable_storage.postgres.notices import Notices
from durable_storage.postgres.reader import Reader
from durable_storage.postgres.sessions import Sessions

_APPLIED = "applied"
_NOT_OWNED_OR_GAP, _CHILD_TAKEN, _KEY_TAKEN, _TOO_LARGE = "DU001", "DU004", "23505", "54000"
_FITS = 2600  # bytes of an id that are sure to find room in an index
_Statement = tuple[str, Sequence[Any]]
_Row = Sequence[Any]  # verdict, answer, who must hear


class Committer:
    """Applies batches over *channel*; *reader* is asked for details, *notices* tell who else must know."""

    def __init__(
        self, channel: Channel, address: Address, reader: Reader, sessions: Sessions, notices: Notices | None
    ) -> None:
        self._channel = channel
        self._calls = Calls(address.schema, pooled=address.pooled)
        self._shown = address.shown
        self._reader = reader
        self._sessions = sessions
        self._notices = notices
        self._last: dict[int, int] = {}  # session -> its last batch that was applied, as far as is known here
        self._tasks: set[asyncio.Task[BatchResult]] = set()

    def know(self, session: int, last_batch: int) -> None:
        """What the row of *session* says: what is still on its way from before will find that it comes too late."""
        self._last[session] = last_batch

    def forget(self, session: int) -> None:
        """*session* has ended: nothing more will be committed by it."""
        self._last.pop(session, None)

    def commit(self, batch: Batch) -> Answer[BatchResult]:
        """
        Apply *batch*: at once and without a task as long as nothing is wrong, which is nearly always.

        Raises:
            SessionLost: The session does not live; nothing was written.
            StorageUnavailable: It is not known whether it was written; `last_batch` of the session will tell.
            StorageError: Nothing was written.
        """
        answer: Answer[BatchResult] = Answer(loop=asyncio.get_running_loop())
        try:
            statement = self._calls.prepare(batch)
        except StorageError as error:
            self._settle_later(answer, self._refused(batch, error))
            return answer

        def heard(row: _Row | None, error: BaseException | None) -> None:
            if row is not None and row[0] == _APPLIED:
                answer.settle(self._applied(batch, row), None)
            else:
                self._settle_later(answer, self._commit(batch, statement, lambda: _outcome(row, error)))

        if not self._channel.begin_at_once(self._sending(batch, statement), heard):
            self._settle_later(answer, self._commit(batch, statement))
        return answer

    def _settle_later(self, answer: Answer[BatchResult], result: Coroutine[Any, Any, BatchResult]) -> None:
        def settle(task: asyncio.Task[BatchResult]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                answer.cancel()
            elif (error := task.exception()) is not None:
                answer.settle(None, error)
            else:
                answer.settle(task.result(), None)

        task = asyncio.create_task(result, name="durable: batch")
        self._tasks.add(task)
        task.add_done_callback(settle)

    async def _commit(
        self, batch: Batch, statement: _Statement, outcome: Callable[[], _Row] | None = None
    ) -> BatchResult:
        """Apply *batch*; *outcome* gives what became of a first try, or raises it."""
        try:
            try:
                return await self._apply(batch, statement, outcome)
            except StorageError as error:
                if error.facts.get("sqlstate") != _KEY_TAKEN:
                    raise
                return await self._apply(batch, statement)  # the very same creation was committed beside this one
        except StorageUnavailable:
            raise
        except StorageError as error:
            return await self._refused(batch, error)

    async def _apply(
        self, batch: Batch, statement: _Statement, outcome: Callable[[], _Row] | None = None
    ) -> BatchResult:
        """Send *batch* until it is known to be applied, or refused."""
        session, deadline, was_lost = batch.session, self._channel.deadline(), False
        send = self._sending(batch, statement)
        while True:
            try:
                row = await self._channel.once(send, deadline) if outcome is None else outcome()
            except Undone:
                continue
            except AnswerLost as lost:
                was_lost = True
                if (result := await self._find_out(batch)) is not None:
                    return result
                if (session is None and batch.mails) or asyncio.get_running_loop().time() >= deadline:
                    raise unavailable(lost.__cause__, self._shown) from lost
                continue
            finally:
                outcome = None
            if row[0] == _APPLIED:
                result = self._applied(batch, row)
                return _without_own(batch, result) if was_lost and session is None else result
            if (result := await self._find_out(batch)) is not None:
                return result
            # It lives, and its row has another number: an older try was applied after everybody had given it up.
            raise session_lost(session or 0)

    def _sending(self, batch: Batch, statement: _Statement) -> Work[Any]:
        text, values = statement
        expected = None if batch.session is None else self._last.get(batch.session)
        return lambda connection: connection.fetchrow(text, batch.session, batch.number, expected, *values)

    def _applied(self, batch: Batch, row: _Row) -> BatchResult:
        _, answer, hear = row
        if batch.session is not None:
            self._last[batch.session] = batch.number
        self._tell(batch, hear)
        return read_answer(answer, batch)

    async def _find_out(self, batch: Batch) -> BatchResult | None:
        """What *batch* was answered if it was applied; a client's batch leaves no trace by which that is known."""
        if batch.session is None:
            return None
        standing = await self._sessions.standing(batch.session)
        if standing.last_batch == batch.number:
            self._last[batch.session] = batch.number
            return read_answer(standing.answer, batch)
        if not standing.is_alive:
            raise session_lost(batch.session)
        return None

    async def _refused(self, batch: Batch, error: StorageError) -> BatchResult:
        """
        Raise what is really wrong with a batch that was refused, or *error*.

        Raises:
            SessionLost: The session does not live, which goes before everything else.
            ProcessExists: Which children exist already.
            StorageError, CorruptJournal: The process that is to blame.
        """
        if error.facts.get("sqlstate") == _TOO_LARGE:
            error.facts["ids"] = _long_ids(batch)
        if batch.session is None:
            raise error
        try:
            standing = await self._sessions.standing(batch.session)
        except StorageError:
            raise session_lost(batch.session) from error
        if not standing.is_alive:
            raise session_lost(batch.session) from error
        if error.facts.get("sqlstate") == _CHILD_TAKEN:
            taken = set(json.loads(error.facts["detail"]))
            check_children(dict.fromkeys(child.id for child in batch.children if child.id in taken))
        of_records = error.facts.get("sqlstate") == _KEY_TAKEN and not (batch.creations or batch.children)
        if of_records or error.facts.get("sqlstate") == _NOT_OWNED_OR_GAP:
            lengths = await self._reader.lengths(batch.session, keys_to_own(batch))
            new = (*batch.creations, *batch.children)
            lengths.update({creation.key: 1 for creation in new if creation.owned})
            check_journals(batch, lengths)
        raise error

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


def _outcome(row: _Row | None, error: BaseException | None) -> _Row:
    if row is None:
        raise error or AssertionError("a statement has a row or an error")
    return row


def _long_ids(batch: Batch) -> list[str] | None:
    """Beginnings of the new ids that may be too long for the index, if there are any."""
    sizes = {creation.id: len(creation.id.encode()) for creation in (*batch.creations, *batch.children)}
    return [f"{id[:40]}… ({size} bytes)" for id, size in sizes.items() if size > _FITS] or None


def _without_own(batch: Batch, result: BatchResult) -> BatchResult:
    """A client's creations that were found taken by themselves: the first try, whose answer was lost, was applied."""
    own = {creation.id: creation.key for creation in batch.creations}
    taken = {id: row for id, row in result.taken_ids.items() if row.key != own[id]}
    return BatchResult(taken, result.deliveries, result.held)
