"""Writing processes: checkpoints keep the types of what is given to them, and wrong uses are type errors."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import assert_type
from uuid import UUID, uuid4

from durable import Child, Event, Process, Retry, process

Paid = Event("paid", int)


async def fetch(url: str) -> bytes:
    return url.encode()


def compute(number: int) -> float:
    return number / 2


async def checkpoints(proc: Process) -> None:
    assert_type(await proc.do(lambda: fetch("u"), "async lambda"), bytes)
    assert_type(await proc.do(lambda: compute(1), "sync lambda"), float)
    assert_type(await proc.do(partial(compute, 1), "partial"), float)
    assert_type(await proc.get(uuid4, "factory"), UUID)
    assert_type(await proc.get(5, "value"), int)
    assert_type(await proc.delay(timedelta(days=1), "delay"), timedelta)
    assert_type(await proc.delay(datetime.now(), "until"), timedelta)
    assert_type(await proc.event(Paid), int)
    assert_type(await proc.event(Paid, name="again", timeout=timedelta(days=1)), int)
    text: str = await proc.event(Paid)  # expect-error: arg-type | reportAssignmentType
    number: int = await proc.do(lambda: fetch("u"), "wrong")  # expect-error: arg-type | reportAssignmentType
    async with proc.timeout(timedelta(hours=1), "patience"):
        await proc.scope("inner").do(lambda: fetch("u"), "in scope")
    both = await asyncio.gather(proc.do(lambda: fetch("u"), "a"), proc.event(Paid))
    assert_type(both, tuple[bytes, int])
    await proc.do(lambda: fetch("u"))  # expect-error: call-overload | reportCallIssue
    await proc.do(lambda: fetch("u"), "r", retry=5)  # expect-error: call-overload | reportArgumentType | reportCallIssue
    await proc.do(lambda: fetch("u"), "t", timeout=5)  # expect-error: call-overload | reportArgumentType | reportCallIssue
    await proc.delay(5, "seconds")  # expect-error: arg-type | reportArgumentType
    await proc.do(lambda: fetch("u"), "retried", retry=Retry(5), timeout=timedelta(seconds=5))


@process
async def order(proc: Process, number: int, *, note: str = "") -> list[str]:
    return [note]


@process(name="other", timeout=timedelta(days=1))
async def other(proc: Process) -> None: ...


order(1)
order(1, note="x")
order("1")  # expect-error: arg-type | reportArgumentType
order()  # expect-error: call-arg | reportCallIssue
order(1, notes="x")  # expect-error: call-arg | reportCallIssue
other(1)  # expect-error: call-arg | reportCallIssue


async def children(proc: Process) -> None:
    child = await proc.start(order(1), "first")
    assert_type(child, Child[list[str]])
    assert_type(await child.result(), list[str])
    assert_type(await proc.call(order(1), "second", id="x"), list[str])
    assert_type(await proc.start(other(), detached=True), Child[None])
    number: int = await proc.call(order(1), "third")  # expect-error: arg-type | reportAssignmentType
    await proc.call(order, "fourth")  # expect-error: arg-type | reportArgumentType
    await proc.start(order("1"))  # expect-error: arg-type | reportArgumentType


async def endless(proc: Process, number: int) -> str:
    if number > 5:
        return "over"
    await proc.restart(order(number + 1))
