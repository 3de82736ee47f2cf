"""A small application for the tests of the command line: what it runs waits in every way there is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from durable import AnyDefinition, Event, Process, Retry, process

Paid = Event("paid", str)
_DAY = timedelta(days=1)


@dataclass
class Order:
    """A class of the application: whoever looks from outside has not loaded it."""

    number: int
    what: str


class PowerCut(Exception):
    """Why charging fails."""


@process
async def order(proc: Process, placed: Order) -> str:
    """Waits for an event with a timeout, after two checkpoints."""
    proc.progress(1, 3, "reserving")
    await proc.do(lambda: placed.what, "reserved")
    await proc.get(lambda: Order(placed.number + 1, "copy"), "copied")
    return await proc.event(Paid, timeout=timedelta(days=2))


@process
async def charge(proc: Process) -> str:
    """Its action fails, and is tried again after a day."""

    async def fail() -> str:
        raise PowerCut("no power")

    return await proc.do(fail, "charged", retry=Retry(3, delay=_DAY, longest=_DAY))


@process
async def listen(proc: Process) -> str:
    """Waits for an event that leaves no record."""
    await proc.do(lambda: 1, "prepared")
    return str(await proc.event("paid"))


@process
async def rest(proc: Process) -> None:
    """Waits in a named delay."""
    await proc.delay(timedelta(days=30), "month over")


@process
async def doze(proc: Process) -> None:
    """Waits for an unnamed timer."""
    await asyncio.sleep(3 * 86_400)


@process(timeout=timedelta(days=7))
async def hurry(proc: Process) -> None:
    """Waits for an event, and has a deadline."""
    await proc.event("paid")


@process
async def add(proc: Process, left: int, right: int = 1) -> int:
    """Ends at once."""
    return left + right


@process
async def patrol(proc: Process, rounds: int) -> int:
    """Waits for an event, and begins its next life after it."""
    await proc.event("bell")
    await proc.restart(patrol(rounds + 1))


@process
async def break_down(proc: Process) -> None:
    """Fails at once."""
    raise PowerCut("all dark")


@process(queue="night")
async def work(proc: Process) -> None:
    """Of another queue; its action runs until it is told to stop."""
    await proc.do(asyncio.Event().wait, "worked")


definitions: list[AnyDefinition] = [order, charge, listen, rest, doze, hurry, add, patrol, break_down, work]
