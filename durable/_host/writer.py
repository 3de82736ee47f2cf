"""
Group commit: while one batch commits, the next one collects, and each serves every process of the host.

The writer knows what must happen after a commit: created processes begin, records are fed in their order, parks and
ends are confirmed, senders get their answer. It delivers in slices, so that the next commit runs beside the delivery
of the last one and the loop stays free.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from time import monotonic
from typing import Protocol

from durable._host.collector import Collector
from durable._host.tasks import start_task
from durable.errors import CorruptJournal, DurableError, SessionLost, StorageError
from durable.journal import Record
from durable.storage import (
    Answer,
    Batch,
    BatchResult,
    Creation,
    Delivery,
    End,
    JournalStorage,
    Mail,
    Park,
    ProcessRow,
    Stall,
)

logger = logging.getLogger("durable.host")

_SLICE = 0.02  # seconds of delivery before other callbacks of the loop get their turn
_RETRY_FROM, _RETRY_TO = 0.05, 5.0  # seconds between tries while the store fails


class Fed(Protocol):
    """Whoever gets a record once it is durable."""

    key: int

    def feed(self, record: Record) -> object: ...
    def refused(self, error: DurableError) -> object: ...


Created = Callable[[ProcessRow | None, BaseException | None], object]
Settled = Callable[[bool], object]


class _Round:
    """One batch while it collects, and whom to tell when it is durable."""

    __slots__ = ("batch", "created", "fed", "sent", "settled", "takers", "waiting")

    def __init__(self, session: int | None) -> None:
        self.batch = Batch(session)
        self.created: list[tuple[Creation, Created]] = []
        self.fed: list[tuple[Fed, Record]] = []
        self.settled: list[tuple[int, Settled]] = []
        self.sent: list[asyncio.Future[Delivery]] = []
        self.waiting: list[asyncio.Future[None]] = []
        self.takers: list[int] = []  # process keys, one per inbox item taken

    def is_empty(self) -> bool:
        batch = self.batch
        return not (
            self.fed or self.created or self.sent or self.settled or self.waiting or batch.taken or batch.progress
        )

    def deliver(self, result: BatchResult) -> Iterator[None]:
        interrupted: BaseException | None = None  # raised by one process, and no reason to forget the others
        for creation, created in self.created:
            row = result.taken_ids.get(creation.id)
            # Of several with one id in one batch the first was created, and its row is what the others hear of.
            try:
                created(None if row is None or row.key == creation.key else row, None)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for resident, record in self.fed:
            try:
                resident.feed(record)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for key, settled in self.settled:
            try:
                settled(key in result.held)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for future, delivery in zip(self.sent, result.deliveries, strict=True):
            if not future.done():
                future.set_result(delivery)
        self.written()
        if interrupted is not None:
            raise interrupted

    def written(self) -> None:
        """Tell who waits only for that."""
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)

    def fail_callers(self, error: BaseException) -> None:
        """Who started or sent something gets the error at that line; what processes need stays for the next try."""
        for _, created in self.created:
            created(None, error)
        for future in self.sent:
            if not future.done():
                future.set_exception(error)
        self.created, self.sent = [], []
        self.batch.creations, self.batch.mails = [], []

    def fail(self, error: BaseException) -> None:
        """Nothing of this round will ever be written."""
        self.fail_callers(error)
        for future in self.waiting:
            if not future.done():
                future.set_exception(error)


class Writer:
    """
    The one way of a host or client into its store.

    Args:
        session: The fence of every batch; None for a client.
        lost: Called once when the session cannot go on: it is dead, or what the store answered is not known.
    """

    def __init__(self, storage: JournalStorage, session: int | None, lost: Callable[[], object]) -> None:
        self._storage = storage
        self._session = session
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._round = _Round(session)
        self._number = 0
        self._scheduled: asyncio.Handle | None = None
        self._committing: asyncio.Future[BatchResult] | None = None
        self._deliveries: deque[Iterator[None]] = deque()
        self._pumping = False
        self._retry_in = _RETRY_FROM
        self._retry: asyncio.TimerHandle | None = None
        self._queue: deque[_Round] = deque()  # rounds that were put together already: retried or split ones
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self._collector = Collector(self._loop)

    # what can be written

    def create(self, creation: Creation, created: Created) -> None:
        """Create a process; *created* hears None when it is new, the row that has its id, or the error."""
        self._round.batch.creations.append(creation)
        self._round.created.append((creation, created))
        self._want()

    def append(self, resident: Fed, record: Record) -> None:
        """Append *record* and feed it to *resident* once it is durable."""
        round = self._round
        round.batch.records.append((resident.key, record))
        round.fed.append((resident, record))
        if self._scheduled is None:
            self._want()

    def take(self, key: int, number: int) -> None:
        """Delete an inbox item of process *key*, together with the record it became."""
        self._round.batch.taken.append(number)
        self._round.takers.append(key)
        self._want()

    def send(self, mail: Mail) -> asyncio.Future[Delivery]:
        """Put *mail* into the inbox of its process; durable when the future is done."""
        future: asyncio.Future[Delivery] = self._loop.create_future()
        self._round.batch.mails.append(mail)
        self._round.sent.append(future)
        self._want()
        return future

    def written(self) -> asyncio.Future[None]:
        """Done when everything handed over until now is durable, or with the error that keeps it from being so."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._round.waiting.append(future)
        self._want()
        return future

    def show(self, key: int, progress: bytes) -> None:
        """Write the last progress of a process with the next batch."""
        self._round.batch.progress[key] = progress
        self._want()

    def settle(self, change: Park | Stall | End, settled: Settled) -> None:
        """Park, stall or end a process; *settled* hears whether mail kept it from happening."""
        batch = self._round.batch
        match change:
            case Park():
                batch.parks.append(change)
            case Stall():
                batch.stalls.append(change)
            case End():
                batch.ends.append(change)
        self._round.settled.append((change.key, settled))
        self._want()

    # committing

    def is_quiet(self) -> bool:
        """Whether nothing is waiting, being written or being delivered."""
        return self._committing is None and not self._deliveries and not self._queue and self._round.is_empty()

    async def drain(self) -> None:
        """Wait until everything is written and delivered."""
        while not self.is_quiet():
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def close(self) -> None:
        """Write and deliver nothing any more."""
        self._closed = True
        self._collector.resume()
        if self._retry is not None:
            self._retry.cancel()
        error = (
            SessionLost("The host has closed") if self._session is not None else DurableError("The client has closed")
        )
        for round in (*self._queue, self._round):
            round.fail(error)
        self._queue.clear()
        self._deliveries.clear()
        self._round = _Round(self._session)

    def _want(self) -> None:
        if self._scheduled is None and self._committing is None and self._retry is None:
            self._collector.pause()
            self._scheduled = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._retry = None
        if self._committing is not None or self._closed:
            return
        if self._queue:
            round = self._queue.popleft()
        elif not self._round.is_empty():
            round, self._round = self._round, _Round(self._session)
        else:
            return
        self._committing = committing = self._commit_again(round) if round.batch.number else self._commit(round)
        if isinstance(committing, Answer):
            committing.listener = partial(self._committed, round)
        else:
            committing.add_done_callback(partial(self._committed, round))

    def _commit(self, round: _Round) -> asyncio.Future[BatchResult]:
        self._number += 1
        round.batch.number = self._number
        commit = self._storage.commit(round.batch)
        return commit if isinstance(commit, asyncio.Future) else start_task(self._loop, _awaited(commit))

    def _commit_again(self, round: _Round) -> asyncio.Future[BatchResult]:
        return start_task(self._loop, self._see_and_commit(round))

    async def _see_and_commit(self, round: _Round) -> BatchResult:
        """After a failure, which may have hidden an answer: see what became of it before anything is written twice."""
        if self._session is not None and await self._storage.last_batch(self._session) == round.batch.number:
            raise _AnswerLost
        return BatchResult() if round.is_empty() else await self._commit(round)

    def _committed(self, round: _Round, task: asyncio.Future[BatchResult]) -> None:
        self._committing = None
        if self._closed:
            if not task.cancelled():
                task.exception()
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._retry_in = _RETRY_FROM
            self._deliveries.append(round.deliver(task.result()))
            if not self._pumping:
                self._pump()
        elif isinstance(error, SessionLost):
            round.fail(error)
            self.close()
            self._lost()
        elif isinstance(error, _AnswerLost):
            logger.error("A batch was written and its answer lost: what it said is read again from the journals")
            round.written()
            self.close()
            self._lost()
        else:
            self._failed(round, error)
        if self._queue or not self._round.is_empty():
            self._want()
        self._tell_idle()

    def _pump(self) -> None:
        # Never inside a task: process code is stepped from here.
        self._pumping = True
        self._collector.pause()
        finished = False
        try:
            finished = self._deliver_slice(monotonic() + _SLICE)
        finally:  # an interrupt goes its way, out of the loop; if that runs again, so do deliveries
            if not finished:
                self._loop.call_soon(self._pump)
        if finished:
            self._pumping = False
            if self._scheduled is not None and self._committing is None and self._retry is None:
                self._flush()  # what the deliveries led to goes on its way without another turn of the loop
            self._tell_idle()

    def _deliver_slice(self, until: float) -> bool:
        """Deliver until that moment; whether everything is delivered."""
        while self._deliveries:
            for _ in self._deliveries[0]:
                if monotonic() > until:
                    return False
            if self._deliveries:  # a delivery may have closed the writer
                self._deliveries.popleft()
        return True

    def _tell_idle(self) -> None:
        if self._idle is not None and self.is_quiet():
            self._idle.set_result(None)
            self._idle = None

    # when the store fails

    def _failed(self, round: _Round, error: BaseException) -> None:
        if isinstance(error, CorruptJournal):
            self._split(round, error)
            return
        if not isinstance(error, StorageError):
            error = _unexpected(error)
        logger.error("The store refused a batch, trying again in %.2f s: %s", self._retry_in, error)
        round.fail_callers(error)
        self._round.fail_callers(error)  # what was asked meanwhile would wait behind the next try
        if self._session is not None or not round.is_empty():
            self._queue.appendleft(round)
        self._retry = self._loop.call_later(self._retry_in, self._flush)
        self._retry_in = min(self._retry_in * 2, _RETRY_TO)

    def _split(self, round: _Round, error: CorruptJournal) -> None:
        """One process is to blame: commit each by itself, so that only that one hears of it."""
        parts: dict[int, _Round] = {}

        def part(key: int) -> _Round:
            return parts.setdefault(key, _Round(self._session))

        whole = round.batch
        for (key, record), (resident, _) in zip(whole.records, round.fed, strict=True):
            part(key).batch.records.append((key, record))
            part(key).fed.append((resident, record))
        for key, number in zip(round.takers, whole.taken, strict=True):
            part(key).batch.taken.append(number)
            part(key).takers.append(key)
        settled = dict(round.settled)
        for name in ("parks", "stalls", "ends"):
            for change in getattr(whole, name):
                getattr(part(change.key).batch, name).append(change)
                part(change.key).settled.append((change.key, settled[change.key]))
        rest = _Round(self._session)
        rest.batch.creations, rest.created = whole.creations, round.created
        rest.batch.mails, rest.sent, rest.waiting = whole.mails, round.sent, round.waiting
        rest.batch.progress = whole.progress
        rounds = [round for round in (*parts.values(), rest) if not round.is_empty()]
        if len(rounds) > 1:
            self._queue.extendleft(reversed(rounds))
            return
        logger.error("The store refuses what one process has to write, and its journal stays as it is: %s", error)
        for only in rounds:
            only.fail(error)
        for resident in {resident for resident, _ in round.fed}:
            resident.refused(error)


class _AnswerLost(Exception):
    """The batch is on storage, but what the store answered is not known."""


async def _awaited(commit: Awaitable[BatchResult]) -> BatchResult:
    return await commit


def _unexpected(error: BaseException) -> StorageError:
    refused = StorageError(f"The store failed in a way it should not: {error!r}", fix="report it with this text")
    refused.__cause__ = error
    return refused
