"""Children and endless processes on real hosts: across queues, parks, hosts and stores."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from durable import (
    Process,
    ProcessCancelled,
    ProcessClient,
    ProcessEnded,
    ProcessExists,
    ProcessHost,
    ProcessTerminated,
    Status,
    current_step,
    process,
)
from durable.storage import open_storage
from durable.testing import ManualClock
from tests.host.staging import until_it_waits

SOON = timedelta(seconds=20)


@process
async def double(proc: Process, number: int) -> int:
    return await proc.do(lambda: 2 * number, "double")


@process(queue="back")
async def fail(proc: Process, text: str) -> None:
    raise ValueError(text)


@process
async def wait(proc: Process, undone: str) -> str:
    """Waits for an event; says so when it is cancelled."""
    try:
        return str(await proc.event("go"))
    except asyncio.CancelledError:
        await proc.do(lambda: None, undone)
        raise


@process
async def sum_up(proc: Process, count: int) -> int:
    return sum(await asyncio.gather(*(proc.call(double(number), f"child {number}") for number in range(count))))


async def test_children_run_beside_their_parent(url: str) -> None:
    """A parent that waits for many children gets all their results, and each has a journal of its own."""
    async with ProcessHost(url, [sum_up, double]) as host:
        assert await (await host.start(sum_up(30), id="p")).result(SOON) == 870
        assert await host.get("p/child 7").result(SOON) == 14
        assert await host.count(name="double") == 30


async def test_a_host_with_one_place_runs_parent_and_child(url: str) -> None:
    """A parent that waits gives its place to its children: nobody waits for a place that the other has."""
    async with ProcessHost(url, [sum_up, double], limit=1) as host:
        handles = [await host.start(sum_up(3), id=f"p{number}") for number in range(2)]
        assert [await handle.result(SOON) for handle in handles] == [6, 6]


@process
async def careful(proc: Process) -> int:
    try:
        return await proc.call(double(4))
    finally:
        await proc.get(1, "cleared up")


async def test_a_parent_that_cannot_be_parked_takes_no_place(url: str) -> None:
    """A parent inside a `finally` stays in memory beyond the limit, and its child runs all the same."""
    async with ProcessHost(url, [careful, double], limit=1) as host:
        assert await (await host.start(careful())).result(SOON) == 8


@process
async def delegate(proc: Process) -> tuple[str, bool]:
    try:
        await proc.call(fail("no paper"))
    except ValueError as error:
        return str(error), any("'boss/fail'" in note for note in error.__notes__)
    raise AssertionError


async def test_a_child_on_another_host_wakes_its_parent(url: str) -> None:
    """A child of another queue runs where that is served; its failure is caught where the parent waits, or waited."""
    async with (
        ProcessHost(url, [delegate], park_after=timedelta(0)) as front,
        ProcessHost(url, [fail]),
    ):
        assert await (await front.start(delegate(), id="boss")).result(SOON) == ("no paper", True)
        assert (await front.get("boss/fail").status()).status is Status.FAILED


@process
async def wait_for_child(proc: Process, detached: bool) -> str:
    child = await proc.start(wait("undone"), "child", detached=detached)
    return await child.result()


async def until_child_waits(host: ProcessHost) -> None:
    """Wait until the parent 'p' waits for its child, and that for an event."""
    await until_it_waits(host, "p", "child")
    await until_it_waits(host, "p/child", "event")


async def names(host: ProcessHost, id: str) -> set[str]:
    return {entry.name for entry in await host.get(id).history()}


async def test_cancelling_a_parent_cancels_its_child_first(url: str) -> None:
    """The child compensates and ends before the parent does."""
    async with ProcessHost(url, [wait_for_child, wait]) as host:
        handle = await host.start(wait_for_child(False), id="p")
        await until_child_waits(host)
        await handle.cancel("enough")
        with pytest.raises(ProcessCancelled, match="enough"):
            await handle.result(SOON)
        child = await host.get("p/child").status()
        assert child.status is Status.CANCELLED
        assert "undone" in await names(host, "p/child")
        parent = await handle.status()
        assert parent.ended_at is not None
        assert child.ended_at is not None
        assert child.ended_at <= parent.ended_at


async def test_a_detached_child_outlives_its_parent(url: str) -> None:
    """Cancelling the parent ends only the parent, and the end of the child finds nobody to tell."""
    async with ProcessHost(url, [wait_for_child, wait]) as host:
        handle = await host.start(wait_for_child(True), id="p")
        await until_child_waits(host)
        await handle.cancel()
        with pytest.raises(ProcessCancelled):
            await handle.result(SOON)
        await host.raise_event("p/child", "go", 1)
        assert await host.get("p/child").result(SOON) == "1"


@pytest.mark.parametrize("known", [True, False])
async def test_terminating_a_parent_cancels_its_children(url: str, known: bool) -> None:
    """None of the parent's code runs, whether its definition is there or not; its attached child may compensate."""
    async with ProcessHost(url, [wait_for_child, wait]) as host:
        await host.start(wait_for_child(False), id="p")
        await until_child_waits(host)
    async with ProcessHost(url, [wait_for_child, wait] if known else [wait]) as host:
        await host.terminate("p", "hopeless")
        with pytest.raises(ProcessTerminated):
            await host.get("p").result(SOON)
        with pytest.raises(ProcessCancelled, match="was terminated"):
            await host.get("p/child").result(SOON)
        assert "undone" in await names(host, "p/child")


async def test_terminating_a_child_is_an_error_where_it_is_awaited(url: str) -> None:
    """Nobody waits for ever: the parent hears of the end of a child that has no code any more, too."""
    async with ProcessHost(url, [wait_for_child, wait]) as host:
        await host.start(wait_for_child(False), id="p")
        await until_child_waits(host)
    async with ProcessHost(url, [wait_for_child]) as host:
        await host.terminate("p/child", "its function is gone")
        with pytest.raises(ProcessTerminated, match="its function is gone"):
            await host.get("p").result(SOON)


@process
async def take_ids(proc: Process, id: str) -> list[str]:
    seen = []
    for name in ("one", "two"):
        try:
            child = await proc.start(double(1), name, id=id)
            seen.append(f"{name}: {await child.result()}")
        except ProcessExists as error:
            seen.append(f"{name}: {type(error).__name__}")
    return seen


async def test_an_id_in_use_is_refused_at_the_line(url: str) -> None:
    """A child is a new process: one that is there already is an error, and what is written beside it is kept."""
    async with ProcessHost(url, [take_ids, sum_up, double]) as host:
        both = await asyncio.gather(host.start(take_ids("mine"), id="p"), host.start(sum_up(5), id="other"))
        assert await both[0].result(SOON) == ["one: 2", "two: ProcessExists"]
        assert await both[1].result(SOON) == 20
        assert [entry.kind for entry in await both[0].history()].count("FAILED") == 1


async def test_arguments_of_a_child_beyond_the_limit_are_refused_at_the_line(url: str) -> None:
    """What is too large to start a child with is a recorded failure of that line, and no process comes of it."""

    @process
    async def generous(proc: Process) -> str:
        try:
            await proc.start(wait("x" * 5000))
        except ValueError as error:
            return type(error).__name__
        raise AssertionError

    async with ProcessHost(url, [generous, wait], payload_limit=4000) as host:
        assert await (await host.start(generous())).result(SOON) == "PayloadTooLarge"
        assert await host.count(name="wait") == 0


# --- restarts ---


@process
async def count_up(proc: Process, total: int) -> int:
    amount = await proc.event("add")
    await proc.do(lambda: None, "noted")
    if amount == 0:
        return total
    await proc.restart(count_up(total + amount))


async def test_a_process_may_go_on_for_ever(url: str) -> None:
    """No event is lost from life to life, the journal does not grow, and the id stays the same process."""
    async with ProcessHost(url, [count_up]) as host:
        handle = await host.start(count_up(0), id="p")
        for number in range(1, 40):
            await host.raise_event("p", "add", number)
        assert not (await host.start(count_up(0), id="p")).created
        await host.raise_event("p", "add", 0)
        assert await handle.result(SOON) == 780
        assert not (await host.start(count_up(5), id="p")).created  # arguments have moved on: none are compared
        history = await handle.history()
        assert len(history) == 5
        assert history[0].value[5] == (40, None, "count_up")


async def test_a_process_restarts_while_a_client_sends(url: str) -> None:
    """Events from elsewhere, raised while a life ends and another begins, reach one of them, once."""
    async with ProcessHost(url, [count_up], park_after=timedelta(0)) as host, ProcessClient(url) as client:
        handle = await host.start(count_up(0), id="p")

        async def send(sender: ProcessClient) -> None:
            for _ in range(20):
                await sender.raise_event("p", "add", 1)

        await asyncio.gather(send(host), send(client), send(client))
        await client.raise_event("p", "add", 0)
        assert await handle.result(SOON) == 60


@process
async def first(proc: Process) -> str:
    await proc.restart(second("from the front"))


@process(queue="back")
async def second(proc: Process, text: str) -> str:
    return f"{text}, to {proc.id}"


async def test_the_next_life_may_run_elsewhere(url: str) -> None:
    """A process that goes on as another definition of another queue is taken by the host that serves it."""
    async with ProcessHost(url, [first]) as front, ProcessHost(url, [second]):
        handle = await front.start(first(), id="p")
        assert await handle.result(SOON) == "from the front, to p"
        assert (await handle.status()).definition == "second"
        await front.start(first(), id="p")
        with pytest.raises(ProcessExists):
            await front.start(second("from the front"), id="p")


@process
async def keys(proc: Process, seen: list[str]) -> list[str]:
    mine = await proc.do(lambda: current_step().key, "key")
    assert mine == proc.key("key")
    if len(seen) == 2:
        return [*seen, mine]
    await proc.restart(keys([*seen, mine]))


async def test_each_life_has_its_own_idempotency_keys(url: str) -> None:
    """What a later life does under the same name is not taken for what an earlier one did."""
    async with ProcessHost(url, [keys]) as host:
        assert len(set(await (await host.start(keys([]))).result(SOON))) == 3


@process
async def patient_parent(proc: Process) -> int:
    return await proc.call(count_up(0), "child")


async def test_a_parent_waits_for_all_lives_of_its_child(url: str) -> None:
    """A child that restarts itself has not ended: its last life tells the parent."""
    async with ProcessHost(url, [patient_parent, count_up]) as host:
        handle = await host.start(patient_parent(), id="p")
        await until_child_waits(host)
        for amount in (1, 2, 0):
            await host.raise_event("p/child", "add", amount)
        assert await handle.result(SOON) == 3


@process(timeout=timedelta(hours=3))
async def short_lives(proc: Process, count: int) -> str:
    await proc.delay(timedelta(hours=1), "pause")
    if count == 0:
        await proc.event("never")
    await proc.restart(short_lives(count - 1))


async def test_a_timeout_counts_for_each_life(url: str) -> None:
    """Many short lives are together longer than the timeout; the one that is too long ends by it."""
    async with ProcessHost(url, [short_lives], clock=ManualClock(autojump=True)) as host:
        handle = await host.start(short_lives(5), id="p")
        with pytest.raises(ProcessCancelled, match="timeout"):
            await handle.result(SOON)
        assert (await handle.history())[0].value[5][0] == 6


async def test_too_much_for_a_next_life_fails_the_process(url: str) -> None:
    """Arguments beyond the limit of the host end the process with that error; nothing hangs or is lost silently."""

    @process
    async def greedy(proc: Process, text: str) -> None:
        await proc.restart(greedy(text + "x" * 3000))

    async with ProcessHost(url, [greedy], payload_limit=4000) as host:
        with pytest.raises(ValueError, match="next life"):
            await (await host.start(greedy(""))).result(SOON)


async def test_nothing_is_left_of_an_earlier_life(url: str) -> None:
    """The store holds one life: its records, no inbox, and the row as it was created."""
    async with ProcessHost(url, [count_up]) as host:
        handle = await host.start(count_up(0), id=f"p-{uuid4()}")
        created = (await handle.status()).created_at
        for amount in (1, 1, 0):
            await host.raise_event(handle.id, "add", amount)
        assert await handle.result(SOON) == 2
        assert (await handle.status()).created_at == created
        storage = open_storage(url)
        await storage.open()
        row = await storage.row(handle.id)
        assert row is not None
        assert [record.seq for record in await storage.journal(row.key)] == [1, 2, 3, 4, 5]
        assert list(await storage.inbox(row.key)) == []
        await storage.close()
        with pytest.raises(ProcessEnded):
            await host.raise_event(handle.id, "add", 1)
