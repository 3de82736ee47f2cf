"""The processes that are measured."""

from __future__ import annotations

from collections.abc import Callable

from durable import Process, process


async def act() -> int:
    """The cheapest action there is."""
    return 1


@process
async def steps(proc: Process, count: int) -> int:
    """So many steps, one after another."""
    total = 0
    for number in range(count):
        total += await proc.do(act, f"step {number}")
    return total


@process
async def waiting(proc: Process) -> object:
    """One event."""
    return await proc.event("go")


@process
async def half_way(proc: Process) -> object:
    """Five steps, then an event, then five more."""
    for number in range(5):
        await proc.do(act, f"before {number}")
    await proc.event("go")
    for number in range(5):
        await proc.do(act, f"after {number}")
    return None


@process
async def many_events(proc: Process, count: int) -> None:
    """So many events, one after another; each is noted in `seen`."""
    for number in range(count):
        await proc.event("go", name=f"go {number}")
        seen()


def _nobody() -> object:
    return None


seen: Callable[[], object] = _nobody
