"""
Where a life is killed: the n-th time that one of three moments around a write of the store comes.

Writes are everything that changes the store: opening (it creates or migrates), beginning and ending sessions, commits,
and burying, claiming, collecting, resuming and renewing where they changed something. The kill is a real SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from durable.storage import Batch, BatchResult, Delivery, JournalStorage
from durable.testing.crash_trace import Trace
from durable.testing.storage_proxy import Operation, StorageProxy

T = TypeVar("T")

_SURE_TO_WRITE = frozenset({"open", "begin_session", "commit", "end_session", "close"})
_TURNS = 4  # of the event loop: enough for the host to hear of a commit, to step its processes and to start actions


class Moment(StrEnum):
    """
    When a life is killed, seen from one write.

    ``BEFORE``: the store was not asked yet. ``UNHEARD``: the store has written, the host does not know. ``AFTER``: the
    host knows and has acted on it. (Whether a claim and the like will write is not known before, so `BEFORE` skips
    them: the store is then as it was after the write before.)
    """

    BEFORE = "before"
    UNHEARD = "unheard"
    AFTER = "after"


class KillPoint(NamedTuple):
    """Kill at write number *write* (from 1), at *moment*."""

    write: int
    moment: Moment

    def __str__(self) -> str:
        return f"{self.moment.value} write {self.write}"


class Fuse:
    """Kills this OS process when *point* is reached, counting over all storage objects of this life."""

    def __init__(self, point: KillPoint | None, trace: Trace) -> None:
        self._point = point
        self._trace = trace
        self._count = 0

    def comes(self, moment: Moment, operation: Operation) -> None:
        """*moment* of *operation* has come."""
        if self._point is None or self._point.moment is not moment:
            return
        self._count += 1
        if self._count == self._point.write:
            if moment is Moment.AFTER:
                _after(_TURNS, lambda: self._kill(operation))
            else:
                self._kill(operation)

    def _kill(self, operation: Operation) -> None:
        assert self._point is not None
        self._trace.write("kill", moment=self._point.moment, write=self._point.write, operation=_describe(operation))
        os.kill(os.getpid(), signal.SIGKILL)


def _after(turns: int, function: Callable[[], object]) -> None:
    if turns == 0:
        function()
    else:
        asyncio.get_running_loop().call_soon(_after, turns - 1, function)


class KillAt(StorageProxy):
    """
    A store that kills its OS process at the point of *fuse*, and traces what *storage* has acknowledged.

    Args:
        storage: The real store.
        fuse: Shared by all stores of one life.
    """

    def __init__(self, storage: JournalStorage, fuse: Fuse, trace: Trace) -> None:
        super().__init__(storage)
        self._fuse = fuse
        self._trace = trace

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        sure = operation.name in _SURE_TO_WRITE
        if sure:
            self._fuse.comes(Moment.BEFORE, operation)
        result = await call()
        if sure or result:
            self._note(operation, result)
            self._fuse.comes(Moment.UNHEARD, operation)
            self._fuse.comes(Moment.AFTER, operation)
        return result

    def _note(self, operation: Operation, result: Any) -> None:
        if operation.batch is not None:
            self._note_commit(operation.batch, result)
        elif operation.name == "claim":
            for claim in result:
                self._trace.process(claim.row.key, claim.row.id)
                for record in claim.records:
                    self._trace.record(claim.row.key, record)

    def _note_commit(self, batch: Batch, result: BatchResult) -> None:
        for creation in batch.creations:
            if creation.id not in result.taken_ids:
                self._trace.process(creation.key, creation.id)
                self._trace.record(creation.key, creation.record)
        for child in batch.children:
            self._trace.process(child.key, child.id)
            self._trace.record(child.key, child.record)
        for key, record in batch.records:
            self._trace.record(key, record)
        for restart in batch.restarts:
            for record in restart.records:
                self._trace.record(restart.key, record)
        for end in batch.ends:
            if end.key not in result.held:
                self._trace.record(end.key, end.record)
        for mail, delivery in zip(batch.mails, result.deliveries, strict=True):
            if delivery is Delivery.DELIVERED:
                self._trace.mail(mail)


def _describe(operation: Operation) -> str:
    batch = operation.batch
    if batch is None:
        return operation.name
    parts = ["STARTED"] * (len(batch.creations) + len(batch.children))
    parts += [f"{record.kind.name} {record.name!r}" for _, record in batch.records]
    parts += [f"{mail.kind.name} {mail.name!r} to {mail.id!r}" for mail in batch.mails]
    parts += ["progress"] * len(batch.progress)
    parts += ["a restart"] * len(batch.restarts)
    parts += ["a park"] * len(batch.parks) + ["a stall"] * len(batch.stalls)
    parts += [end.record.kind.name for end in batch.ends] + ["a notice"] * len(batch.notices)
    counted = [part if times == 1 else f"{times} × {part}" for part, times in Counter(parts).items()]
    return f"commit of {', '.join(counted) or 'nothing'}"
