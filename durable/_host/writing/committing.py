"""
Group commit: while one batch commits, the next one collects, and each serves every process of the host.

Belongs here: when a batch is committed, and what happens when the store fails. What a batch may hold is the business of
`writer`, who is told of it stands in its `round`, and telling them is done by `deliveries`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from durable._host.failures import unexpected
from durable._host.tasks import start_task
from durable._host.writing.collector import Collector
from durable._host.writing.deliveries import Deliveries
from durable._host.writing.round import Refused, Round
from durable.errors import CorruptJournal, DurableError, NotOwned, ProcessExists, SessionLost, StorageError
from durable.observer import Observer
from durable.storage import Answer, Batch, BatchResult, JournalStorage

logger = logging.getLogger("durable.host")

_RETRY_FROM, _RETRY_TO = 0.05, 5.0  # seconds between tries while the store fails


class Committing:
    """
    Commits one round after the other; `Writer` fills them.

    Args:
        session: The fence of every batch; None for a client.
        lost: Called once when the session cannot go on: it is dead, or what the store answered is not known.
        observer: Hears of every batch; must not raise.
    """

    def __init__(
        self,
        storage: JournalStorage,
        session: int | None,
        lost: Callable[[], object],
        observer: Observer | None = None,
    ) -> None:
        self._storage = storage
        self._session = session
        self._lost = lost
        self._observer = observer
        self._sent_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._round = Round(session)
        self._number = 0
        self._scheduled: asyncio.Handle | None = None
        self._committing: asyncio.Future[BatchResult] | None = None
        self._retry_in = _RETRY_FROM
        self._retry: asyncio.TimerHandle | None = None
        self._queue: deque[Round] = deque()  # rounds that were put together already: retried or split ones
        self._idle: asyncio.Future[None] | None = None
        self._closed: DurableError | None = None  # what whoever asks from now on is told
        self._collector = Collector(self._loop)
        self._deliveries = Deliveries(self._loop, self._collector, self._delivered)

    # --- from outside ---

    def is_quiet(self) -> bool:
        """Whether nothing is waiting, being written or being delivered."""
        if self._committing is not None or self._closed is not None:
            return self._committing is None  # once closed, what processes still hand over is not written
        return self._deliveries.is_empty() and not self._queue and self._round.is_empty()

    async def drain(self) -> None:
        """Wait until everything is written and delivered."""
        while not self.is_quiet():
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def close(self) -> None:
        """
        Write nothing any more, and tell no process anything. Who called is told: what is known, or an error.

        What is on its way to the store at this moment is told when the store has answered.
        """
        if self._closed is not None:
            return
        self._closed = _no_answer(self._session is not None)
        self._collector.close()
        if self._retry is not None:
            self._retry.cancel()
        for round in (*self._queue, self._round):
            round.fail(self._closed)
        self._queue.clear()
        self._deliveries.clear()
        self._round = Round(self._session)

    # --- committing ---

    def _want(self) -> None:
        if self._scheduled is None and self._committing is None and self._retry is None:
            self._collector.pause()
            self._scheduled = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._retry = None
        if self._committing is not None or self._closed is not None:
            return
        if self._queue:
            round = self._queue.popleft()
        elif not self._round.is_empty():
            round, self._round = self._round, Round(self._session)
        else:
            return
        self._sent_at = monotonic()
        self._committing = committing = self._commit_again(round) if round.batch.number else self._commit(round)
        if isinstance(committing, Answer):
            committing.listener = partial(self._committed, round)
        else:
            committing.add_done_callback(partial(self._committed, round))

    def _commit(self, round: Round) -> asyncio.Future[BatchResult]:
        self._number += 1
        commit = self._storage.commit(round.complete(self._number))
        return commit if isinstance(commit, asyncio.Future) else start_task(self._loop, _awaited(commit))

    def _commit_again(self, round: Round) -> asyncio.Future[BatchResult]:
        return start_task(self._loop, self._see_and_commit(round))

    async def _see_and_commit(self, round: Round) -> BatchResult:
        """After a failure, which may have hidden an answer: see what became of it before anything is written twice."""
        if self._session is not None and await self._storage.last_batch(self._session) == round.batch.number:
            raise _AnswerLost
        return BatchResult() if round.is_empty() else await self._commit(round)

    def _committed(self, round: Round, task: asyncio.Future[BatchResult]) -> None:
        self._committing = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._closed is not None:
            self._answer_late(round, task, error)
            self._tell_idle()
            return
        if self._observer is not None:
            self._observe(self._observer, round.batch, error)
        if error is None:
            self._retry_in = _RETRY_FROM
            result = task.result()
            self._deliveries.add(round.deliver(result), partial(round.answer, result))
        elif isinstance(error, SessionLost):
            self._lost()  # first, so that nothing is begun by what is told now
            round.fail(error)
            self.close()
        elif isinstance(error, _AnswerLost):
            logger.error("A batch was written and its answer lost: what it said is read again from the journals")
            self._lost()
            round.written()
            self.close()
        else:
            self._failed(round, error)
        if self._queue or not self._round.is_empty():
            self._want()
        self._tell_idle()

    def _answer_late(self, round: Round, task: asyncio.Future[BatchResult], error: BaseException | None) -> None:
        assert self._closed is not None
        if error is None:
            round.answer(task.result())
        elif isinstance(error, _AnswerLost):
            round.written()
        round.fail(self._closed)  # whoever is left

    def _observe(self, observer: Observer, batch: Batch, error: BaseException | None) -> None:
        seconds = monotonic() - self._sent_at
        if error is None or isinstance(error, _AnswerLost):
            observer.batch_committed(batch, seconds)
        else:
            observer.batch_failed(batch, seconds, error)

    def _delivered(self) -> None:
        if self._scheduled is not None and self._committing is None and self._retry is None:
            self._flush()  # what the deliveries led to goes on its way without another turn of the loop
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None and self.is_quiet():
            self._idle.set_result(None)
            self._idle = None

    # --- when the store fails ---

    def _failed(self, round: Round, error: BaseException) -> None:
        if isinstance(error, ProcessExists) and round.children:
            round.refuse_children(error.taken)
            self._queue.appendleft(round)
            return
        if isinstance(error, CorruptJournal | NotOwned):
            self._split(round, error)
            return
        if not isinstance(error, StorageError):
            error = unexpected(error)
        logger.error("The store refused a batch, trying again in %.2f s: %s", self._retry_in, error)
        round.fail_callers(error)
        self._round.fail_callers(error)  # what was asked meanwhile would wait behind the next try
        if self._session is not None or not round.is_empty():
            self._queue.appendleft(round)
        self._retry = self._loop.call_later(self._retry_in, self._flush)
        self._retry_in = min(self._retry_in * 2, _RETRY_TO)

    def _split(self, round: Round, error: CorruptJournal | NotOwned) -> None:
        """One process is to blame: commit each by itself, so that only that one hears of it."""
        rounds = round.split()
        if len(rounds) > 1:
            self._queue.extendleft(reversed(rounds))
            return
        logger.error("The store refuses what one process has to write, and its journal stays as it is: %s", error)
        for only in rounds:
            only.fail(error)
        refused: dict[int, Refused] = {resident.key: resident.refused for resident, _ in round.fed}
        refused.update((key, hear) for key, _, hear in round.settled)
        for key, hear in refused.items():
            for other in (*self._queue, self._round):
                other.withdraw(key, error)  # what follows would leave a gap
            hear(error)


class _AnswerLost(Exception):
    """The batch is on storage, but what the store answered is not known."""


def _no_answer(of_host: bool) -> DurableError:
    text, fix = "before the store had answered", "ask again: with the same id, or the same key, it counts once"
    if of_host:
        return SessionLost(f"The host was closed, or lost its session, {text}", fix=fix)
    return DurableError(f"The client was closed {text}", fix=fix)


async def _awaited(commit: Awaitable[BatchResult]) -> BatchResult:
    return await commit
