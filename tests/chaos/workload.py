"""
The process functions of a chaos run, and the world outside in which their actions have their effects.

Every action that starts draws a token and appends it to the effect log before anything else; what it returns is that
token. So the log says what ran, and each DONE record says which of the runs was the one that counted.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from threading import local
from typing import Any

import durable._host.session as lease_check
from durable import (
    AnyDefinition,
    DurableError,
    Event,
    Invocation,
    Process,
    ProcessClient,
    ProcessEnded,
    Retry,
    StepInterrupted,
    current_step,
    process,
)
from tests.chaos.lines import Lines, now
from tests.chaos.plans import SENDERS, Plan, Shape, child_of

Letter = Event("letter", str)
Answer = Event("answer", str)
Note = Event("note", str)  # nobody waits for it, and nothing tells two of them apart

_AGAIN = Retry(attempts=None, delay=timedelta(seconds=0.1), longest=timedelta(seconds=1), on=DurableError)


class Flaky(Exception):
    """An action that fails on its first attempts raises it."""


class Outside:
    """
    The world outside of one host.

    Args:
        path: The effect log.
        host: Name of the host, for the log.
        client: What actions use to start and to tell other processes.
    """

    def __init__(self, path: Path, host: str, client: ProcessClient) -> None:
        self._lines = Lines(path)
        self._host = host
        self.client = client

    def start(self) -> str:
        """Have the effect of the current step; its token."""
        step, token = current_step(), token_hex(6)
        self._lines.write(
            process=step.process_id,
            checkpoint=step.checkpoint,
            attempt=step.attempt,
            token=token,
            host=self._host,
            pid=os.getpid(),
            checked=vars(_checks).pop("last", None),  # one check, one start
            at=now(),
        )
        return token


_world: Outside
_checks = local()


def enter(outside: Outside) -> None:
    """Let the actions of this OS process have their effects in *outside*."""
    global _world
    _world = outside
    # An OS process can be stopped between the check of its lease and the first line of an action, and nothing can be
    # done about that. So the log tells when the lease was checked: the clock remembers what it said last, by thread.
    lease_check.boot_time = _remembering(lease_check.boot_time)


def _remembering(clock: Callable[[], float]) -> Callable[[], float]:
    def read() -> float:
        _checks.last = clock()
        return float(_checks.last)

    return read


# --- actions: plain functions, so that the effect is the first thing after the host has checked its lease ---


def act(seconds: float = 0.0, failures: int = 0) -> Awaitable[str]:
    """Have an effect, then take a while. Fails on the first *failures* attempts."""
    return _take(_world.start(), seconds, current_step().attempt <= failures)


async def _take(token: str, seconds: float, fails: bool) -> str:
    await asyncio.sleep(seconds)
    if fails:
        raise Flaky("as planned")
    return token


def act_in_thread(seconds: float) -> str:
    """As `act`, for the threads of the host."""
    token = _world.start()
    time.sleep(seconds)
    return token


def start_child(parent: str, seconds: float) -> Awaitable[str]:
    """Start the child of process *parent*."""

    async def start(token: str) -> str:
        await _world.client.start(child(parent, seconds), id=child_of(parent))
        return token

    return start(_world.start())


def answer_parent(parent: str, text: str) -> Awaitable[str]:
    """Tell process *parent*; again if nobody knows whether it was told, by a key."""

    async def tell(token: str) -> str:
        with suppress(ProcessEnded):  # told before, and it went on
            await _world.client.raise_event(parent, Answer, text, key="only")
        return token

    return tell(_world.start())


# --- processes: each returns what its checkpoints gave it, by name ---


@process
async def steps(proc: Process, pauses: list[float]) -> dict[str, str]:
    """Actions one after the other, then two at the same time: one in a thread, one that fails twice before."""
    done = {
        f"step {number}": await proc.do(partial(act, pause), f"step {number}") for number, pause in enumerate(pauses)
    }
    # The pause before another attempt ends without a look at the store: only the lease keeps a woken host from it.
    flaky = proc.do(partial(act, 0.0, 2), "after failures", retry=Retry(5, timedelta(seconds=0.4), factor=1, on=Flaky))
    done["in thread"], done["after failures"] = await asyncio.gather(
        proc.do(partial(act_in_thread, pauses[0]), "in thread"), flaky
    )
    return done


@process
async def sleeper(proc: Process, pauses: list[float]) -> dict[str, str]:
    """Delays long enough to be parked in, and an action after each."""
    done = {}
    for number, pause in enumerate(pauses):
        await proc.delay(timedelta(seconds=pause), f"pause {number}")
        done[f"woken {number}"] = await proc.do(act, f"woken {number}")
    return done


@process
async def reader(proc: Process, letters: int) -> list[str]:
    """Takes so many letters of each sender, with an action after each."""
    read = []
    for number in range(letters * SENDERS):
        read.append(await proc.event(Letter, name=f"letter {number}"))
        await proc.do(act, f"read {number}")
    return read


@process
async def booking(proc: Process, pauses: list[float], patience: float) -> dict[str, str]:
    """Reserves one thing after the other and waits; releases what it has reserved when it is cancelled."""
    reserved = {}
    try:
        for number, pause in enumerate(pauses):
            reserved[f"reserve {number}"] = await proc.do(partial(act, pause), f"reserve {number}")
        with suppress(TimeoutError):
            await proc.event("confirmed", timeout=None if patience == 0 else timedelta(seconds=patience))
    except asyncio.CancelledError:
        for name in reserved:
            await proc.do(act, name.replace("reserve", "release"))
        raise
    return reserved


@process
async def charge(proc: Process, pause: float) -> dict[str, str | None]:
    """Something that must not happen twice."""
    charged: str | None
    try:
        charged = await proc.do(partial(act, pause), "charged", at_most_once=True)
    except StepInterrupted:
        charged = None
    return {"charged": charged, "noted": await proc.do(act, "noted")}


@process
async def parent(proc: Process, pause: float) -> dict[str, str]:
    """Starts another process on whatever host, and waits for its answer."""
    started = await proc.do(partial(start_child, proc.id, pause), "child started", retry=_AGAIN)
    answer = await proc.event(Answer)
    noted = await proc.do(act, "child noted")
    return {"child started": started, "answer": answer, "child noted": noted}


@process
async def child(proc: Process, parent: str, pause: float) -> dict[str, str]:
    """Works, and tells the process that started it."""
    worked = await proc.do(partial(act, pause), "worked")
    told = await proc.do(partial(answer_parent, parent, worked), "told", retry=_AGAIN)
    return {"worked": worked, "told": told}


def invocation(plan: Plan) -> Invocation[Any]:
    """What starts the process of *plan*."""
    pauses = list(plan.pauses)
    match plan.shape:
        case Shape.STEPS:
            return steps(pauses)
        case Shape.SLEEPER:
            return sleeper(pauses)
        case Shape.READER:
            return reader(plan.size)
        case Shape.BOOKING:
            return booking(pauses, plan.patience)
        case Shape.CHARGE:
            return charge(pauses[0])
        case Shape.PARENT:
            return parent(pauses[0])
        case Shape.CHILD:
            raise ValueError("a child is started by its parent")


DEFINITIONS: list[AnyDefinition] = [steps, sleeper, reader, booking, charge, parent, child]
