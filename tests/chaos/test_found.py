"""What chaos runs have found, in small: each was a run that did not end, or a checkpoint that ran on two hosts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from durable import Process, ProcessHost, Retry, current_step, process
from durable._host.clock import SystemClock
from durable.storage import JournalStorage, open_storage
from durable.testing.storage_proxy import Operation, StorageProxy

T = TypeVar("T")
SOON = timedelta(seconds=10)

_attempts: list[int] = []
_go_on = asyncio.Event()


async def fail_once() -> int:
    attempt = current_step().attempt
    _attempts.append(attempt)
    if attempt == 1:
        raise ConnectionError("try again")
    return attempt


@process
async def tries_again(proc: Process) -> int:
    """Waits for an hour between two attempts, and is parked meanwhile."""
    return await proc.do(fail_once, "tried", retry=Retry(5, timedelta(hours=1), jitter=0.0))


class HoldsThePark(StorageProxy):
    """Keeps the first commit that parks a process until it is told to go on."""

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage)
        self.holds = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        if operation.batch is not None and operation.batch.parks:
            self.holds.set()
            await self.may_go_on.wait()
        return await call()


class HandClock(SystemClock):
    """Stands still until it is set; `ManualClock` would wait until the store has answered."""

    def __init__(self) -> None:
        self._now = super().now()
        self._alarms: list[tuple[int, Callable[[], object]]] = []

    def now(self) -> int:
        return self._now

    def call_at(self, due: int, callback: Callable[[], object]) -> asyncio.TimerHandle:
        self._alarms.append((due, callback))
        return asyncio.get_running_loop().call_later(3600, callback)

    def go_to(self, now: int) -> None:
        """It is *now*, and what is due is told so."""
        self._now, alarms, self._alarms = now, self._alarms, []
        for due, callback in alarms:
            if due <= now:
                callback()


async def test_no_attempt_starts_while_a_process_is_being_parked(tmp_path: Path) -> None:
    """A retry that becomes due while its process is on its way out starts where the process is next, and only there."""
    _attempts.clear()
    clock = HandClock()
    storage = HoldsThePark(open_storage(f"sqlite:///{tmp_path}/store.db"))
    async with ProcessHost(storage, [tries_again], clock=clock, park_after=timedelta(milliseconds=1)) as host:
        handle = await host.start(tries_again(), id="tries")
        await storage.holds.wait()
        clock.go_to(clock.now() + 7_200_000_000)
        storage.may_go_on.set()
        assert await handle.result(SOON) == 2
    assert _attempts == [1, 2]


@process
async def waits_in_an_action(proc: Process, started: bool) -> None:
    """Its action ends when the test says so."""
    await proc.do(_go_on.wait, "waited")


@process
async def other(proc: Process) -> int:
    """One step."""
    return await proc.do(_one, "one")


async def _one() -> int:
    return 1


async def test_one_process_that_is_lost_does_not_stop_the_others(tmp_path: Path) -> None:
    """A record of a process that its living session does not own is refused, and the others of that host go on."""
    _go_on.clear()
    async with ProcessHost(f"sqlite:///{tmp_path}/store.db", [waits_in_an_action, other]) as host:
        await host.start(waits_in_an_action(True), id="lost")
        with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
            connection.execute("UPDATE process SET owner = NULL WHERE id = 'lost'")
        _go_on.set()
        handle = await host.start(other(), id="other")
        assert await handle.result(SOON) == 1
