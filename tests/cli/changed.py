"""
The application after a deploy: `order` of `shop`, changed in one way each, named after what was done to it.

Its journal holds do "reserved" (record 2), get "copied" (3) and the timer of event "paid" (4).
"""

from __future__ import annotations

from datetime import timedelta

from durable import Process, process
from tests.cli.shop import Order, Paid

effects: list[str] = []  # what must stay empty: a check has none


def effect() -> str:
    effects.append("an action ran")
    return "effect"


async def _paid(proc: Process) -> str:
    return await proc.event(Paid, timeout=timedelta(days=2))


@process(name="order")
async def same(proc: Process, placed: Order) -> str:
    await proc.do(effect, "reserved")
    await proc.get(effect, "copied")
    return await _paid(proc)


@process(name="order")
async def appended(proc: Process, placed: Order) -> str:
    paid = await same.function(proc, placed)
    await proc.do(effect, "thanked")
    return str(paid)


@process(name="order")
async def inserted(proc: Process, placed: Order) -> str:
    await proc.do(effect, "looked up")
    return str(await same.function(proc, placed))


@process(name="order")
async def renamed(proc: Process, placed: Order) -> str:
    await proc.do(effect, "taken from the shelf")
    await proc.get(effect, "copied")
    return await _paid(proc)


@process(name="order", renames={"reserved": "taken from the shelf"})
async def renamed_with_care(proc: Process, placed: Order) -> str:
    return str(await renamed.function(proc, placed))


@process(name="order")
async def removed(proc: Process, placed: Order) -> str:
    await proc.get(effect, "copied")
    return await _paid(proc)


@process(name="order")
async def another_kind(proc: Process, placed: Order) -> str:
    await proc.delay(timedelta(days=1), "reserved")
    return ""


@process(name="order")
async def more_arguments(proc: Process, placed: Order, colour: str) -> str:
    return str(await same.function(proc, placed))


@process(name="order")
async def shortened(proc: Process, placed: Order) -> str:
    await proc.do(effect, "reserved")
    return await proc.get(effect, "copied")


@process(name="order", strict=True)
async def shortened_and_strict(proc: Process, placed: Order) -> str:
    return str(await shortened.function(proc, placed))


@process(name="order", strict=True)
async def inserted_and_strict(proc: Process, placed: Order) -> str:
    return str(await inserted.function(proc, placed))


@process(name="order")
async def swapped_and_another_kind(proc: Process, placed: Order) -> str:
    await proc.get(effect, "copied")
    return str(await another_kind.function(proc, placed))


@process(name="order")
async def broken(proc: Process, placed: Order) -> str:
    await proc.do(effect, "reserved")
    raise LookupError("no shelf")


@process(name="order")
async def never_unwound(proc: Process, placed: Order) -> str:
    try:
        return str(await same.function(proc, placed))
    finally:
        effects.append("finally ran")


def nothing_happened() -> bool:
    """Whether no action, no value and no `finally` of the process functions here ran since this was asked last."""
    happened, effects[:] = list(effects), []
    return not happened
