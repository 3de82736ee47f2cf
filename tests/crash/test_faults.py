"""A host on a store that fails for a while: who asked gets the error, processes go on afterwards, nothing is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from durable import (
    CorruptJournal,
    Event,
    Process,
    ProcessClient,
    ProcessHost,
    ProcessNotFound,
    StorageError,
    StorageFull,
    process,
)
from durable.storage import JournalStorage, open_storage
from durable.testing.faults import FaultyStorage

Go = Event("go", int)
SOON = timedelta(seconds=20)


@process
async def three_steps(proc: Process) -> list[int]:
    return [await proc.do(partial(_same, number), f"step {number}") for number in range(3)]


async def _same(number: int) -> int:
    return number


@process
async def wait_for_go(proc: Process) -> int:
    return await proc.event(Go) + await proc.do(lambda: _same(1), "one")


@process
async def wait_for_go_twice(proc: Process) -> tuple[int, int]:
    return await proc.event(Go), await proc.event(Go, name="go again")


@pytest.fixture(params=["sqlite", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else f"memory://{tmp_path.name}"


@pytest.fixture
def storage(url: str) -> FaultyStorage:
    return FaultyStorage(open_storage(url))


def full() -> StorageFull:
    return StorageFull("The disk under the store is full")


async def test_start_gets_the_error_and_nothing_was_started(storage: FaultyStorage) -> None:
    """A start that could not be written raises at its line, the process does not exist, and a second try works."""
    async with ProcessHost(storage, [three_steps]) as host:
        storage.fail(full())
        with pytest.raises(StorageFull):
            await host.start(three_steps(), id="one")
        with pytest.raises(ProcessNotFound):
            await host.get("one").status()
        handle = await host.start(three_steps(), id="one")
        assert await handle.result(SOON) == [0, 1, 2]


async def test_a_process_goes_on_when_the_store_does(storage: FaultyStorage) -> None:
    """Records that could not be written are written later, in order, and no action runs a second time for it."""
    ran: list[int] = []

    async def act(number: int) -> int:
        ran.append(number)
        storage.fail(StorageError("The disk under the store failed"), times=2)
        return number

    @process
    async def acting(proc: Process) -> list[int]:
        return [await proc.do(partial(act, number), f"step {number}") for number in range(2)]

    async with ProcessHost(storage, [acting]) as host:
        handle = await host.start(acting(), id="one")
        assert await handle.result(SOON) == [0, 1]
        assert ran == [0, 1]
        assert len(storage.failed) == 4
        assert [entry.kind for entry in await handle.history()] == ["STARTED", "DONE", "DONE", "COMPLETED"]


async def test_a_refused_end_is_not_tried_for_ever(storage: FaultyStorage) -> None:
    """A store that refuses the end of one process is not asked again and again, and the others go on."""

    @process
    async def refused(proc: Process) -> None:
        storage.fail(CorruptJournal("Not the record that follows"))

    async with ProcessHost(storage, [refused, three_steps]) as host:
        await host.start(refused(), id="refused")
        await storage.has_failed()
        handle = await host.start(three_steps(), id="one")
        assert await handle.result(SOON) == [0, 1, 2]
        assert len(storage.failed) == 1


async def test_an_event_for_a_resident_is_kept_through_a_failure(storage: FaultyStorage) -> None:
    """Raising an event to a process in memory returns when it is durable, however long the store needs, and once."""
    async with ProcessHost(storage, [wait_for_go]) as host:
        handle = await host.start(wait_for_go(), id="one")
        storage.fail(full(), times=3)
        await host.raise_event("one", Go, 41)
        assert await handle.result(SOON) == 42
        assert [entry.kind for entry in await handle.history()].count("EVENT") == 1


async def test_giving_up_on_an_event_does_not_take_it_back(storage: FaultyStorage) -> None:
    """Who stops waiting for a store that fails, and raises the event again under its key, has raised it once."""
    async with ProcessHost(storage, [wait_for_go_twice]) as host:
        handle = await host.start(wait_for_go_twice(), id="one")
        storage.fail(full(), times=1000)
        raising = asyncio.ensure_future(host.raise_event("one", Go, 41, key="first"))
        await storage.has_failed()
        raising.cancel()
        storage.recover()
        await host.raise_event("one", Go, 41, key="first")
        await host.raise_event("one", Go, 42, key="second")
        assert await handle.result(SOON) == (41, 42)


async def test_an_event_for_a_parked_process_gets_the_error(storage: FaultyStorage) -> None:
    """Raising an event to a parked process raises where it could not be written, and works afterwards."""
    async with ProcessHost(storage, [wait_for_go], park_after=timedelta(milliseconds=1)) as host:
        handle = await host.start(wait_for_go(), id="one")
        await _parked(storage, "one")
        storage.fail(full())
        with pytest.raises(StorageFull):
            await host.raise_event("one", Go, 1)
        await host.raise_event("one", Go, 41)
        assert await handle.result(SOON) == 42
        assert [entry.kind for entry in await handle.history()].count("EVENT") == 1


async def test_a_commit_whose_answer_is_lost_is_not_applied_twice(storage: FaultyStorage) -> None:
    """A commit that was applied although its answer was an error neither doubles records nor stops the process."""
    async with ProcessHost(storage, [wait_for_go]) as host:
        handle = await host.start(wait_for_go(), id="one")
        storage.fail(StorageError("The connection was lost"), applied=True)
        await host.raise_event("one", Go, 41)
        assert await handle.result(SOON) == 42


@pytest.mark.parametrize("operation", ["open", "begin_session", "resume_stalled"])
async def test_entering_fails_cleanly_and_works_afterwards(storage: FaultyStorage, operation: str) -> None:
    """A host whose store fails while it enters raises that error, leaves nothing running, and another one can enter."""
    storage.fail(full(), operation=operation)
    before = asyncio.all_tasks()
    with pytest.raises(StorageFull):
        async with ProcessHost(storage, [three_steps]):
            pass
    assert asyncio.all_tasks() == before
    async with ProcessHost(storage, [three_steps]) as host:
        assert await (await host.start(three_steps(), id="one")).result(SOON) == [0, 1, 2]


async def test_leaving_on_a_failing_store_closes_it(storage: FaultyStorage) -> None:
    """A store that fails while its host leaves is closed all the same, and what was written is there for the next."""
    async with ProcessHost(storage, [three_steps]) as host:
        handle = await host.start(three_steps(), id="one")
        await handle.result(SOON)
        storage.fail(full(), operation="end_session")
    async with ProcessHost(storage, [three_steps]) as host:
        assert await host.get("one").result(SOON) == [0, 1, 2]


@pytest.mark.parametrize("operation", ["claim", "collect", "bury", "renew"])
async def test_looking_for_work_goes_on(storage: FaultyStorage, url: str, operation: str) -> None:
    """A failure while looking for work or renewing the lease is tried again; a process started by a client is found."""
    async with ProcessHost(storage, [three_steps], lease=timedelta(seconds=4)) as host:
        storage.fail(full(), operation=operation, times=2)
        async with ProcessClient(url) as client:
            await client.start(three_steps(), id="from outside")
        assert await host.get("from outside").result(SOON) == [0, 1, 2]


async def _parked(storage: JournalStorage, id: str) -> None:
    """Return when nobody owns process *id* any more."""
    async with asyncio.timeout(SOON.total_seconds()):
        while (row := await storage.row(id)) is None or row.owner is not None:
            await asyncio.sleep(0)
