"""
The golden journals in ``tests/journals``: what each Python minor wrote with each release, replayed for ever.

    python -m tests.kernel.golden

writes those of the running interpreter for the current release, in ``tests/journals/<release>/<minor>/``. Run it once
per minor when a release is made, and never again: a journal that is there is not rewritten, since the point of it is
that later code must still read it. One line of JSON is one record; payloads are text of the JSON codec.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from durable.codec import JsonCodec, describe_error, encode_error
from durable.definition import process
from durable.errors import ProcessExists
from durable.event import Event
from durable.journal import Kind, Record
from durable.process import Process
from tests.kernel.driver import PYTHON, ActionFailed, Driver, Make, program_of

RELEASE = "0.1.0"
JOURNALS = Path(__file__).parent.parent / "journals"
CODEC = JsonCodec()

Verified = Event("e-mail verified", str)


# --- programs: their code must not change in meaning, or old journals would rightly be refused -------------------


async def onboarding(proc: Process, trace: list[Any]) -> Any:
    """One checkpoint after the other, of every kind, with values of many types."""
    user = await proc.do(lambda: {"name": "Ann", "id": 7}, "registered")
    secret = await proc.get(lambda: UUID(int=5), "secret")
    await proc.do(lambda: None, "mail sent", at_most_once=True)
    how = await proc.event(Verified, timeout=timedelta(days=2))
    lateness = await proc.delay(timedelta(hours=1), "cool down")
    until = await proc.delay(datetime(2023, 11, 20, tzinfo=UTC), "until Monday")
    price = await proc.scope("order").get(Decimal("19.90"), "price")
    return [user, secret, how, lateness < timedelta(seconds=1), until >= timedelta(0), price]


async def transfer(proc: Process, trace: list[Any]) -> Any:
    """Compensation in `except` and `finally` after a failure that was retried."""
    done: list[Any] = []
    try:
        await proc.do(lambda: "taken", "withdraw")
        await proc.do(lambda: "given", "deposit")
    except ActionFailed as error:
        done.append(str(error))
        done.append(await proc.do(lambda: "given back", "undo withdraw"))
    finally:
        done.append(await proc.get("audited", "audit"))
    return done


async def races(proc: Process, trace: list[Any]) -> Any:
    """Everything of asyncio that waits for several things, or for a time."""
    seen: list[Any] = []

    async def step(name: str) -> str:
        return await proc.do(lambda: name, name)

    tasks = [asyncio.create_task(step(name)) for name in ("a", "b", "c")]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    seen.append([sorted(task.result() for task in done), len(pending)])
    seen.append(await asyncio.gather(*tasks))
    seen.append([await one for one in asyncio.as_completed([step("d"), step("e")])])
    async with asyncio.TaskGroup() as group:
        members = [group.create_task(step(name)) for name in ("f", "g")]
    seen.append([task.result() for task in members])
    for limit in (asyncio.timeout(5), proc.timeout(timedelta(seconds=5), "patience")):
        try:
            async with limit:
                await asyncio.sleep(3600)
        except TimeoutError:
            seen.append("too slow")
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 7)
    except TimeoutError:
        seen.append("waited for nothing")
    await asyncio.sleep(1)
    return seen


async def order_of_asks(proc: Process, trace: list[Any]) -> Any:
    """Asks for `b` first on 3.11 and for `a` first from 3.12 on: found by name, that is no difference."""
    return await asyncio.gather(asyncio.wait_for(proc.do(lambda: "a", "a"), 60), proc.do(lambda: "b", "b"))


async def queues(proc: Process, trace: list[Any]) -> Any:
    """Tasks that talk to each other, one that is left behind, and a generator that is not finished."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    lock = asyncio.Lock()
    closed: list[str] = []

    async def worker(name: str) -> None:
        try:
            while True:
                item = await queue.get()
                async with lock:
                    await proc.scope(name).do(str, item)
                queue.task_done()
        finally:
            closed.append(await proc.get(name, f"{name} stopped"))

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            for number in range(9):
                yield await proc.get(number, f"number {number}")
        finally:
            closed.append(await proc.get("numbers", "numbers closed"))

    workers = [asyncio.create_task(worker(name)) for name in ("left", "right")]
    async for number in numbers():
        queue.put_nowait(f"item {number}")
        if number == 2:
            break
    await queue.join()
    workers[0].cancel()
    await asyncio.wait(workers[:1])
    return closed


async def cancelled(proc: Process, trace: list[Any]) -> Any:
    """A request to cancel, compensation under it, and events that are put back."""
    waiter = asyncio.create_task(proc.event("news", name="first"))
    try:
        await asyncio.gather(waiter, proc.event("never"))
    finally:
        try:
            async with asyncio.timeout(30):
                await proc.event("never", name="never in time")
        except TimeoutError:
            pass
        await proc.event("news", name="second")


@process
async def errand(proc: Process, what: str) -> str:
    """A child of `children`; it never runs here."""
    return what


async def children(proc: Process, trace: list[Any]) -> Any:
    """Children that return, fail, take too long, are started under an id in use, or are left behind."""
    milk = await proc.start(errand("milk"), "milk")
    seen: list[Any] = [milk.id, await proc.call(errand("bread"), "bread"), await milk.result()]
    try:
        await proc.call(errand("wine"), "wine", id="the cellar")
    except ActionFailed as error:
        seen.append(str(error))
    try:
        async with asyncio.timeout(60):
            await proc.call(errand("truffles"), "truffles")
    except TimeoutError:
        seen.append("none found")
    try:
        await proc.start(errand("milk again"), "milk again", id=milk.id)
    except ProcessExists:
        seen.append("has milk")
    await proc.start(errand("letter"), "letter", detached=True)
    await proc.start(errand("honey"), "honey")
    return seen


def _children(driver: Driver) -> None:
    for name in ("milk", "bread"):
        driver.answer(("checkpoint", name))
    for name in ("milk", "bread"):
        driver.return_child(name, Kind.COMPLETED, f"some {name}")
    driver.answer(("checkpoint", "wine"))
    driver.return_child("wine", Kind.ERRED, describe_error(CODEC, ActionFailed("sold out")))
    driver.answer(("checkpoint", "truffles"))
    driver.answer(next(slot for slot in driver.open if slot[0] == "alarm"))
    driver.answer(("child", "truffles"))
    del driver.open["checkpoint", "milk again"]
    driver.record(Kind.FAILED, "milk again", encode_error(CODEC, ProcessExists("There is milk")))
    driver.answer(("checkpoint", "letter"))
    driver.answer(("checkpoint", "honey"))
    driver.answer(("child", "honey"))


def _plain(driver: Driver) -> None:
    driver.go()


def _order_of_asks(driver: Driver) -> None:
    for name in ("a", "b"):
        driver.answer(("checkpoint", name))


def _onboarding(driver: Driver) -> None:
    driver.go(limit=6)
    driver.raise_event("e-mail verified", "by link")
    driver.answer(("take", "e-mail verified"))
    driver.go()


def _transfer(driver: Driver) -> None:
    driver.answer(("checkpoint", "withdraw"))
    del driver.open["checkpoint", "deposit"]
    failure = ActionFailed("no such account")
    attempt = (1, driver.now + 1_000_000, describe_error(CODEC, failure))
    driver.record(Kind.ATTEMPT, "deposit", CODEC.encode(attempt))
    del driver.open["checkpoint", "deposit"]
    driver.record(Kind.FAILED, "deposit", encode_error(CODEC, failure))
    driver.go()


def _races(driver: Driver) -> None:
    driver.answer(("checkpoint", "b"))
    driver.go()


def _cancelled(driver: Driver) -> None:
    driver.raise_event("news", 1)
    driver.cancel("not needed any more")
    for kind, name, payload in driver.late:
        driver.record(kind, name, payload)
    driver.go()


PROGRAMS: dict[str, tuple[Make, Callable[[Driver], None]]] = {
    "cancelled": (program_of(cancelled), _cancelled),
    "children": (program_of(children), _children),
    "onboarding": (program_of(onboarding), _onboarding),
    "order-of-asks": (program_of(order_of_asks), _order_of_asks),
    "queues": (program_of(queues), _plain),
    "races": (program_of(races), _races),
    "transfer": (program_of(transfer), _transfer),
}


# --- files -------------------------------------------------------------------------------------------------


def write_line(record: Record) -> str:
    """One record as one line of JSON."""
    fields = {**record._asdict(), "kind": record.kind.name, "payload": record.payload.decode()}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def read_journal(path: Path) -> list[Record]:
    """The records of one golden journal."""
    records = []
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        records.append(Record(**{**fields, "kind": Kind[fields["kind"]], "payload": fields["payload"].encode()}))
    return records


def write_journals() -> Iterable[Path]:
    """Write what is missing for the running interpreter; the paths written."""
    folder = JOURNALS / RELEASE / PYTHON
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, drive) in PROGRAMS.items():
        path = folder / f"{name}.jsonl"
        if path.exists():
            continue
        driver = Driver(make, disturb=False, codec=CODEC)
        drive(driver)
        assert driver.end is not None
        driver.record(driver.end.kind, "", driver.end.payload)
        path.write_text("".join(map(write_line, driver.journal)))
        yield path


if __name__ == "__main__":
    for written in write_journals():
        print(written)
