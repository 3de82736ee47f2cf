"""A session that is lost while callers wait: each of them hears what became of what they asked, or an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest

from durable import CorruptJournal, Process, ProcessHost, SessionLost, process
from durable.journal import Record
from durable.storage import Batch
from tests.host.staging import SOON, GatedStorage, until_it_waits


@process
async def wait(proc: Process) -> int:
    return int(await proc.event("go"))


async def told(call: Awaitable[object]) -> str:
    """How a call ended."""
    async with asyncio.timeout(SOON.total_seconds()):
        try:
            await call
        except SessionLost:
            return "lost"
        return "done"


@pytest.mark.parametrize("is_written", [True, False])
async def test_who_waits_for_a_commit_is_told(url: str, is_written: bool) -> None:
    """A renewal finds the session dead while a commit is on its way: callers hear of its outcome when it is known."""
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait]) as host:
        await host.start(wait(), id="p")
        await until_it_waits(host, "p", "event")
        under_way = storage.hold_commit(lambda batch: batch.records or batch.creations)
        calls = [host.raise_event("p", "go", 1), host.start(wait(), id="new"), host.raise_event("p", "more")]
        telling = [asyncio.create_task(told(call)) for call in calls]
        await under_way.reached.wait()
        if not is_written:
            await storage.storage.end_session(host._session.id)  # as whoever buries it does
        host._lost()
        under_way.open()
        outcome = "done" if is_written else "lost"
        assert await asyncio.gather(*telling) == [outcome] * 3
        if host._recovering is not None:
            await asyncio.wait([host._recovering])
        assert (await host.start(wait(), id="new")).created is not is_written


@process
async def dawdle(proc: Process) -> None:
    await proc.event("go")
    time.sleep(0.03)  # longer than a slice of deliveries
    await proc.event("never")


async def test_nothing_is_begun_that_is_not_ours_any_more(url: str) -> None:
    """The store says that the session is dead while processes that were just created are being told: none begins."""
    stepped: list[str] = []

    @process
    async def work(proc: Process) -> None:
        stepped.append(proc.id)
        time.sleep(0.03)  # longer than a slice of deliveries
        await proc.event("never")

    storage = GatedStorage(url)
    async with ProcessHost(storage, [work]) as host:
        calls = [asyncio.create_task(told(host.start(work(), id=f"p{number}"))) for number in range(12)]
        while host._writer._deliveries.is_empty():
            await asyncio.sleep(0)
        another = storage.hold("begin_session", lambda: True)
        await storage.storage.end_session(host._session.id)
        refused = asyncio.create_task(told(host.start(work(), id="late")))
        assert await asyncio.gather(*calls, refused) == ["done"] * 12 + ["lost"]
        assert 1 <= len(stepped) < 12
        another.open()


async def test_leaving_after_a_lost_session_waits_for_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A host leaves while a commit of its lost session is still under way: it goes when that has been answered."""
    storage = GatedStorage(url)
    async with ProcessHost(storage, [wait]) as host:
        await host.start(wait(), id="p")
        under_way = storage.hold_commit(lambda batch: batch.creations)
        starting = asyncio.create_task(told(host.start(wait(), id="new")))
        await under_way.reached.wait()
        host._lost()
        asyncio.get_running_loop().call_later(0.05, under_way.open)
    assert await starting == "done"
    assert "did not take the last records" not in caplog.text


async def test_who_waits_for_its_turn_to_be_told_is_told(url: str) -> None:
    """A batch is durable, and some have heard so, when the session is lost: the others hear it too."""
    async with ProcessHost(url, [dawdle]) as host:
        for number in range(4):
            await host.start(dawdle(), id=f"p{number}")
            await until_it_waits(host, f"p{number}", "event")
        telling = [asyncio.create_task(told(host.raise_event(f"p{number}", "go"))) for number in range(4)]
        while host._writer._deliveries.is_empty():
            await asyncio.sleep(0)
        host._lost()
        assert await asyncio.gather(*telling) == ["done"] * 4


class Forgetful(GatedStorage):
    """A store that shows no records, as one does whose processes have just been purged; ``shown`` says when."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked, self.shown = asyncio.Event(), asyncio.Event()
        self.shown.set()

    async def journal(self, key: int, after: int = 0) -> list[Record]:
        self.asked.set()
        await self.shown.wait()
        return []


async def test_who_asks_a_host_that_has_left_hears_so(url: str) -> None:
    """A call that comes to write while its host leaves does not wait for what nobody will do."""
    storage = Forgetful(url)
    async with ProcessHost(storage, [wait]) as host:
        await host.start(wait(), id="p")
        storage.shown.clear()
        starting = asyncio.create_task(told(host.start(wait(), id="p")))
        await storage.asked.wait()
    storage.shown.set()
    assert await starting == "lost"


async def test_a_process_without_records_is_an_error(url: str) -> None:
    """A store that has a process and nothing of its journal is damaged: start and result say so, and stop asking."""
    storage = Forgetful(url)
    async with ProcessHost(storage, [wait]) as host:
        handle = await host.start(wait(), id="p")
        await host.raise_event("p", "go", 1)
        await handle.result(SOON)
        batches: list[Batch] = storage.batches
        written = len(batches)
        with pytest.raises(CorruptJournal):
            await host.start(wait(), id="p")
        assert len(batches) == written + 2
        with pytest.raises(CorruptJournal):
            await handle.result(SOON)
