"""One process whose records the store refuses, in a batch with everything others have to write: they notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from durable import CorruptJournal, Process, ProcessHost, StorageFull, process
from durable._host.writing.round import ChildStart
from durable._host.writing.writer import Writer
from durable.errors import DurableError
from durable.journal import Kind, Record
from durable.storage import Batch, Delivery, JournalStorage, Park, open_storage
from durable.testing.faults import FaultyStorage
from durable.testing.storage_parts import creation, event, step
from tests.host.staging import SOON, GatedStorage, until, until_it_waits, until_stalled


@process
async def wait(proc: Process) -> str:
    return str(await proc.event("go"))


@process
async def start_child(proc: Process) -> str:
    await proc.event("go")
    child = await proc.start(wait(), "child", detached=True)
    return child.id


@process
async def await_child(proc: Process) -> str:
    return await proc.call(wait(), "child")


@process
async def stop_child(proc: Process) -> str:
    child = await proc.start(wait(), "child")
    waiting = asyncio.create_task(child.result())
    await proc.event("go")
    waiting.cancel()
    await asyncio.wait([waiting])
    return "stopped" if waiting.cancelled() else "too late"


async def corrupt(storage: JournalStorage, host: ProcessHost, id: str) -> None:
    """Write a record to the journal of a process that its host knows nothing of."""
    row = await storage.row(id)
    assert row is not None
    assert row.owner is not None
    length = len(await storage.journal(row.key))
    number = await storage.last_batch(row.owner)
    await storage.commit(Batch(row.owner, number, records=[(row.key, Record(length + 1, Kind.VALUE, "no", b"", 1))]))


async def test_only_the_process_that_is_refused_hears_of_it(url: str) -> None:
    """In the refused batch a child is started, another ends, a third is told to stop: all of it happens."""
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait, start_child, await_child, stop_child]) as host:
        await host.start(wait(), id="corrupt")
        for invocation, id in ((start_child(), "starts"), (await_child(), "awaits"), (stop_child(), "stops")):
            await host.start(invocation, id=id)
        await until_it_waits(host, "awaits", "child")
        for id in ("corrupt", "starts", "stops", "awaits/child", "stops/child"):
            await until_it_waits(host, id, "event")
        await until(host._is_quiet)
        await corrupt(storage.storage, host, "corrupt")
        busy = storage.hold_commit(lambda batch: batch.records)
        raising = [asyncio.create_task(host.raise_event(id, "go", 1)) for id in ("starts", "awaits/child", "stops")]
        await busy.reached.wait()
        refused = host._engine.by_id["corrupt"]
        raising.append(asyncio.create_task(host.raise_event("corrupt", "go", 1)))
        await until(lambda: refused.pending)
        busy.open()
        assert await host.get("starts").result(SOON) == "starts/child"
        assert await host.get("awaits").result(SOON) == "1"
        assert await host.get("stops").result(SOON) == "stopped"
        assert "does not follow" in await until_stalled(host, "corrupt")
        *written, refusal = await asyncio.gather(*raising, return_exceptions=True)
        assert (written, type(refusal)) == ([None] * 3, CorruptJournal)
        await host.raise_event("starts/child", "go", 2)
        assert await host.get("starts/child").result(SOON) == "2"
    whole = [batch for batch in storage.batches if refused.key in [key for key, _ in batch.records]]
    assert any(batch.children and batch.notices and batch.mails for batch in whole)


async def test_who_raises_an_event_that_is_not_written_hears_of_it(url: str) -> None:
    """An event or request for the process that is refused is nowhere, and who sent it gets the error at that line."""
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait]) as host:
        await host.start(wait(), id="corrupt")
        await until_it_waits(host, "corrupt", "event")
        await corrupt(storage.storage, host, "corrupt")
        busy = storage.hold_commit(lambda batch: batch.records)
        sending = [asyncio.create_task(host.raise_event("corrupt", "go", number)) for number in (1, 2)]
        await busy.reached.wait()
        sending.append(asyncio.create_task(host.cancel("corrupt", "enough")))
        await asyncio.sleep(0)
        busy.open()
        answers = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(answer) for answer in answers] == [CorruptJournal] * 3
        row = await storage.row("corrupt")
        assert row is not None
        assert list(await storage.inbox(row.key)) == []


async def test_an_event_for_a_process_that_has_gone_elsewhere_follows_it(url: str) -> None:
    """A host that does not know yet that another one has its process puts the event where that one finds it."""
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait]) as host:
        handle = await host.start(wait(), id="gone")
        await until_it_waits(host, "gone", "event")
        row = await storage.row("gone")
        assert row is not None
        assert row.owner is not None
        number = await storage.last_batch(row.owner)
        parked = Batch(row.owner, number, parks=[Park(row.key, None, row.mail)])
        await storage.storage.commit(parked)  # as the end of its session does
        await host.raise_event("gone", "go", 1)
        assert await handle.result(SOON) == "1"


# --- the writer by itself ---


@dataclass
class Listener:
    """Notes what it hears, as a process would."""

    key: int
    heard: list[Any] = field(default_factory=list)

    def feed(self, record: Record) -> None:
        self.heard.append(record.seq)

    def refused(self, error: DurableError) -> None:
        self.heard.append(type(error))


@dataclass
class Desk:
    """A writer in a session that owns processes 1 and 2."""

    storage: GatedStorage
    writer: Writer
    lost: list[str]

    async def records(self, key: int) -> int:
        return len(await self.storage.journal(key))


@pytest.fixture
async def desk(url: str) -> AsyncIterator[Desk]:
    storage = GatedStorage(url)
    await storage.open()
    session = await storage.begin_session("host", 30.0)
    lost: list[str] = []
    writer = Writer(storage, session, lambda: lost.append("lost"))
    created = [asyncio.get_running_loop().create_future() for _ in range(2)]
    for key, future in enumerate(created, start=1):
        writer.create(creation(key), lambda row, error, future=future: future.set_result((row, error)))  # type: ignore[misc]
    assert await asyncio.gather(*created) == [(None, None)] * 2
    yield Desk(storage, writer, lost)
    writer.close()
    await storage.close()
    assert lost == []


def child_of(parent: Listener, record: Record, key: int, note: Callable[[str], object]) -> ChildStart:
    """A start of process *key* that notes what becomes of it."""
    return ChildStart(
        creation(key), parent.key, record.seq, lambda: note("created"), lambda: note("dropped"), lambda: record
    )


async def test_what_a_refused_process_wanted_next_is_not_written(desk: Desk) -> None:
    """Records and children that collect behind a refused batch of their process are withdrawn, and nobody else's."""
    refused, other = Listener(1), Listener(2)
    became: list[str] = []
    first = desk.storage.hold_commit(lambda batch: batch.records)
    desk.writer.start_child(refused, step(5), child_of(refused, step(5), 3, became.append))
    await first.reached.wait()
    desk.writer.append(refused, step(6))
    desk.writer.start_child(refused, step(7), child_of(refused, step(7), 4, became.append))
    desk.writer.start_child(other, step(2), child_of(other, step(2), 5, became.append))
    first.open()
    await desk.writer.drain()
    assert (refused.heard, other.heard, became) == ([CorruptJournal], [2], ["dropped", "dropped", "created"])
    assert [await desk.records(key) for key in (1, 2, 3, 4, 5)] == [1, 2, 0, 0, 1]


async def test_who_waits_for_a_process_hears_what_became_of_that_one(desk: Desk) -> None:
    """Whoever asked for the records of a process to be durable is told of those, and not of others of the batch."""
    refused, other = Listener(1), Listener(2)
    desk.writer.append(refused, step(5))
    desk.writer.append(other, step(2))
    waiting = [desk.writer.written(key) for key in (1, 2)]
    await asyncio.wait(waiting)
    assert isinstance(waiting[0].exception(), CorruptJournal)
    assert waiting[1].result() is None
    assert other.heard == [2]


async def test_answers_belong_to_who_sent(desk: Desk) -> None:
    """What became of a mail is told to its sender, whatever the processes of the host post in the same batch."""
    posted: list[str] = []
    desk.writer.post(event(1), lambda: posted.append("posted"))
    answers = [desk.writer.send(event(key)) for key in (9, 2)]
    assert await asyncio.gather(*answers) == [Delivery.NOT_FOUND, Delivery.DELIVERED]
    assert posted == ["posted"]


# --- who asks while the store fails ---


async def test_who_asks_while_a_commit_fails_hears_of_it_at_once(url: str) -> None:
    """A start that came while a failing commit was under way gets its error, and does not wait for the next try."""
    faulty = FaultyStorage(open_storage(url))
    storage = GatedStorage(faulty)
    async with ProcessHost(storage, [wait]) as host:
        handle = await host.start(wait(), id="one")
        await until_it_waits(host, "one", "event")
        busy = storage.hold_commit(lambda batch: batch.records)
        faulty.fail(StorageFull("The disk under the store is full"))
        raising = asyncio.create_task(host.raise_event("one", "go", 1))
        await busy.reached.wait()
        starting = asyncio.create_task(host.start(wait(), id="two"))
        await until(lambda: host._writer._round.created)
        busy.open()
        with pytest.raises(StorageFull):
            await starting
        await raising
        assert await handle.result(SOON) == "1"
