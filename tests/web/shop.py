"""The processes and events that the tests of the web application serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel

from durable import AnyDefinition, Event, Process, process


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


@dataclass(frozen=True)
class Item:
    name: str
    price: Decimal


class Address(BaseModel):
    street: str
    city: str = "Zürich"


@dataclass(frozen=True)
class Payment:
    card: str
    at: datetime


Paid = Event("paid", Payment)
Note = Event("note", str)
Report = Event("report", int)
Finish = Event("finish", str)


@process
async def order(proc: Process, items: list[Item], address: Address, speed: Speed = Speed.SLOW) -> str:
    """An order: waits until it is paid."""
    payment = await proc.event(Paid)
    total = sum(item.price for item in items)
    return f"{total} by {payment.card} to {address.city}, {speed.value}"


@process
async def reporting(proc: Process) -> str:
    """Shows as progress what it is told, until it is told how to finish."""
    finish = asyncio.create_task(proc.event(Finish))
    number = 0
    while True:
        number += 1
        report = asyncio.create_task(proc.event(Report, name=f"report {number}"))
        await asyncio.wait([finish, report], return_when=asyncio.FIRST_COMPLETED)
        if finish.done():
            report.cancel()
            return await finish
        proc.progress(report.result(), 100, f"step {number}")


@process
async def failing_later(proc: Process) -> None:
    reason = await proc.event(Finish)
    raise RuntimeError(reason)


@process
async def failing(proc: Process, message: str, times: int = 1) -> None:
    try:
        await proc.do(lambda: _fail(message * times), "failed")
    except KeyError as error:
        raise ValueError(message) from error


def _fail(message: str) -> None:
    raise KeyError(message)


@process
async def echo(proc: Process, value, *, times: int = 1) -> object:  # type: ignore[no-untyped-def]
    """Returns what it was given."""
    return [value] * times


SHOP: list[AnyDefinition] = [order, reporting, failing, failing_later, echo]
EVENTS: list[Event[Any]] = [Paid, Note, Report, Finish]
