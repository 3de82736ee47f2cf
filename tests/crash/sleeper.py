"""Two lives on one store: the first is stopped in an action until the second has stolen its process, then wakes up."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path

from durable import Process, ProcessHost, process
from durable.testing.crash import Stage
from durable.testing.crash_checks import Evidence
from durable.testing.crash_life import Order, Wrapper, name_of
from durable.testing.crash_server import CrashServer
from durable.testing.crash_trace import read_trace
from durable_storage.local.locks import StoreLock

_LEASE = timedelta(seconds=0.4)  # waited for once: a stopped OS process still holds its locks, so only the lease tells


@process
async def stolen(proc: Process, life: int) -> list[int]:
    return [await proc.do(partial(_sleep, number), f"step {number}") for number in range(3)]


async def _sleep(number: int) -> int:
    """In life 0, be stopped in step 1. What it returns tells the lives apart."""
    if number == 1 and _life == 0:
        lock = StoreLock.share(_lock)
        with lock._thread_lock:  # not in the middle of a write: whoever is stopped there stops everybody on the store
            os.kill(os.getpid(), signal.SIGSTOP)
        lock.release()
    return 10 * _life + number


_life = 0
_lock = ""


async def run_stolen(stage: Stage) -> object:
    global _life, _lock
    _life = stage.life
    _lock = os.path.realpath(stage.directory / "store.db-lock")
    async with ProcessHost(stage.url, [stolen], lease=_LEASE) as host:
        return await (await host.start(stolen(0), id="stolen")).result()


def steal(place: Path, wrapper: Wrapper | None = None) -> Evidence:
    """What is known after life 0 was stopped, life 1 has run to its end, and life 0 has woken up and ended too."""
    modules = [__name__]
    orders = [
        Order(
            scenario=name_of(run_stolen),
            url=f"sqlite:///{place}/store.db",
            directory=str(place),
            life=life,
            seconds=15.0,
            wrapper="" if wrapper is None else name_of(wrapper),
        )
        for life in (0, 1)
    ]
    with CrashServer() as first, CrashServer() as second:
        first.prepare(modules)
        second.prepare(modules)
        first.live(orders[0])
        second.live(orders[1])
        first.go_on(orders[0])
    woken, thief = (order.read_report() for order in orders)
    return Evidence(list(read_trace(orders[0].trace)), woken, thief)
