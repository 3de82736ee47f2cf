"""Starting processes: once per id, refused at the line where something is wrong, in turn beyond the limit."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from durable import (
    EncodeError,
    HostBusy,
    HostClosed,
    InvalidDefinition,
    InvalidName,
    PayloadTooLarge,
    Process,
    ProcessClient,
    ProcessExists,
    ProcessHost,
    process,
)
from durable._host import claims
from durable.codec import EncryptedCodec, MessagePackCodec
from durable.invocation import Invocation
from durable.journal import Record
from durable.storage import Claim, open_storage
from durable.testing.storage_proxy import StorageProxy
from durable_storage.memory import MemoryStorage

SOON = timedelta(seconds=20)


@process
async def echo(proc: Process, value: object) -> object:
    return await proc.get(value, "value")


@process
async def wait(proc: Process, event: str) -> object:
    return await proc.event(event)


@process(name="other echo")
async def other(proc: Process, value: object) -> object:
    return value


async def test_a_process_runs_to_its_result(url: str) -> None:
    """What the function returns is what the handle gives."""
    async with ProcessHost(url, [echo]) as host:
        handle = await host.start(echo({"a": (1, 2)}), id="one")
        assert await handle.result(SOON) == {"a": (1, 2)}


async def test_the_same_id_is_the_same_process(url: str) -> None:
    """Starting twice, also at the same moment and after the end, runs once and gives the same result."""
    ran = []

    @process
    async def count(proc: Process, number: int) -> int:
        await proc.do(lambda: ran.append(number), "counted")
        return number

    async with ProcessHost(url, [count]) as host:
        handles = await asyncio.gather(*(host.start(count(7), id="one") for _ in range(5)))
        assert [await handle.result(SOON) for handle in handles] == [7] * 5
        again = await host.start(count(7), id="one")
        assert await again.result(SOON) == 7
    assert ran == [7]


async def test_the_handle_says_who_created_the_process(url: str) -> None:
    """Of starts by two hosts and a client at the same moment one says so, and no later one and no other handle does."""
    async with ProcessHost(url, [echo]) as host, ProcessHost(url, [echo]) as other, ProcessClient(url) as client:
        starts = (one.start(echo(1), id="one") for one in (host, other, client) for _ in range(3))
        handles = await asyncio.gather(*starts)
        assert [handle.created for handle in handles].count(True) == 1
        assert not (await client.start(echo(1), id="one")).created
        assert not host.get("one").created
        assert (await client.start(echo(1))).created
        with pytest.raises(AttributeError):
            handles[0].created = True  # type: ignore[misc]


async def test_an_id_that_is_freed_meanwhile_is_used(tmp_path: Path) -> None:
    """What had the id is deleted between the refusal and the look at it: the start creates the process after all."""
    url = f"sqlite:///{tmp_path}/processes.db"
    async with ProcessHost(url, [echo]) as host:
        await (await host.start(echo(1), id="one")).result(SOON)

    class Deleting(StorageProxy):
        async def journal(self, key: int, after: int = 0) -> Sequence[Record]:
            await self.storage.purge([key])
            return await self.storage.journal(key, after)

    async with ProcessClient(Deleting(open_storage(url))) as client:
        assert (await client.start(echo(2), id="one")).created


# --- the same call ---


@process
async def called(
    proc: Process, /, first: object, second: object = 2, *more: int, last: int = 5, **named: int
) -> object:
    return await proc.get([first, second, more, last, named], "arguments")


@process
async def exact(proc: Process, first: int, /, second: int = 2) -> None: ...


SAME: list[tuple[Invocation[object], ...]] = [
    (called(1), called(first=1), called(1, 2), called(second=2, first=1), called(1, last=5), called(1, 2, last=5)),
    (called(1, 3), called(1, second=3), called(second=3, first=1)),
    (called(1, 2, 3, 4), called(1, 2, 3, 4, last=5)),
    (called(1, b=2, a=1), called(first=1, a=1, b=2)),
    (called({"a": {1, 2}}), called(first={"a": {2, 1}})),
    (called(date(2026, 1, 2), Decimal("1.50")), called(second=Decimal("1.50"), first=date(2026, 1, 2))),
    (exact(1), exact(1, 2), exact(1, second=2)),
]
DIFFERENT = [
    (called(1), called(2)),
    (called(1), called(first=1, second=3)),
    (called(1, 2, 3), called(1, 2)),
    (called(1, a=1), called(1)),
    (called(1, a=1), called(1, b=1)),
    (called((1, 2)), called([1, 2])),
]


@pytest.mark.parametrize("calls", SAME, ids=lambda calls: repr(calls[0]))
async def test_equal_arguments_are_those_of_the_call(url: str, calls: tuple[Invocation[object], ...]) -> None:
    """By position or by name, with a default spelled out or not: the same process, whichever way it was started."""
    async with ProcessHost(url, [called, exact]) as host:
        for number, first in enumerate(calls):
            await host.start(first, id=f"p{number}")
            for other in calls:
                assert not (await host.start(other, id=f"p{number}")).created


@pytest.mark.parametrize("calls", DIFFERENT, ids=lambda calls: repr(calls))
async def test_other_arguments_are_another_call(url: str, calls: tuple[Invocation[object], ...]) -> None:
    """What gives the function another value is refused, both ways round."""
    async with ProcessHost(url, [called]) as host:
        for first, other in (calls, calls[::-1]):
            id = repr(first)
            await host.start(first, id=id)
            with pytest.raises(ProcessExists, match="other arguments"):
                await host.start(other, id=id)


async def test_arguments_are_recorded_as_they_are_written(tmp_path: Path) -> None:
    """A deploy that moves a parameter does not move what was given by name; and a start is still the same one."""
    url = f"sqlite:///{tmp_path}/processes.db"

    def deployed(function: Any) -> Any:
        return process(name="moving")(function)

    @deployed
    async def before(proc: Process, a: int, b: int = 2) -> object:
        return (await proc.event("go"), a, b)

    @deployed
    async def after(proc: Process, b: int = 2, *, a: int, new: int = 3) -> object:
        return (await proc.event("go"), a, b)

    @deployed
    async def reduced(proc: Process, b: int = 2) -> object: ...

    async with ProcessClient(url) as client:
        await client.start(before(a=1, b=7), id="one")
    async with ProcessHost(url, [after]) as host:
        assert not (await host.start(after(7, a=1), id="one")).created
        assert not (await host.start(after(a=1, b=7, new=3), id="one")).created
        await host.raise_event("one", "go", "went")
        assert await host.get("one").result(SOON) == ("went", 1, 7)
    async with ProcessClient(url) as client:
        with pytest.raises(ProcessExists, match="other arguments"):
            await client.start(reduced(7), id="one")


@dataclass(eq=False)
class Unequal:
    """Without an equality of its own."""

    number: int


async def test_equal_arguments_are_found_under_encryption(tmp_path: Path) -> None:
    """No two ciphertexts are alike: what has no equality, or none with itself, is compared all the same."""
    codec = EncryptedCodec(MessagePackCodec(), Fernet.generate_key())

    @process
    async def function(proc: Process, value: object, other: object = None) -> None: ...

    async with ProcessClient(f"sqlite:///{tmp_path / 'store.db'}", codec=codec) as client:
        for id, value in (("object", Unequal(1)), ("number", math.nan)):
            await client.start(function(value), id=id)
            assert not (await client.start(function(value=deepcopy(value)), id=id)).created
            with pytest.raises(ProcessExists):
                await client.start(function(Unequal(2)), id=id)


async def test_what_has_no_equality_is_equal_if_it_is_recorded_alike(tmp_path: Path) -> None:
    """Also after a deploy that changed what else stands in the first record, here the timeout."""
    url = f"sqlite:///{tmp_path}/processes.db"

    async def function(proc: Process, value: Unequal) -> None: ...

    hasty = process(name="timed", timeout=timedelta(seconds=5))(function)
    async with ProcessClient(url) as client:
        await client.start(process(name="timed")(function)(Unequal(1)), id="one")
        assert not (await client.start(hasty(Unequal(1)), id="one")).created
        with pytest.raises(ProcessExists):
            await client.start(hasty(Unequal(2)), id="one")


@pytest.mark.parametrize("invocation", [echo(2), other(1)], ids=["other arguments", "other definition"])
async def test_an_id_in_use_is_refused_for_anything_else(url: str, invocation: object) -> None:
    """Another definition or other arguments under a known id raise, and change nothing."""
    async with ProcessHost(url, [echo, other]) as host:
        await host.start(echo(1), id="one")
        with pytest.raises(ProcessExists, match="'one' exists already"):
            await host.start(invocation, id="one")  # type: ignore[arg-type]
        assert await host.get("one").result(SOON) == 1


@pytest.mark.parametrize("id", ["", "x" * 1001, "nul\0", "lone \ud800 surrogate", 5])
async def test_an_id_no_store_could_keep_is_refused(url: str, id: object) -> None:
    """Bad ids raise where they are given."""
    async with ProcessHost(url, [echo]) as host:
        with pytest.raises(InvalidName):
            await host.start(echo(1), id=id)  # type: ignore[arg-type]


@pytest.mark.parametrize("id", ["a/b", "..", "ünïcode 🙂", "x" * 1000, "A", "a", "'; drop table process; --"])
async def test_odd_ids_are_just_ids(url: str, id: str) -> None:
    """Whatever a store can keep is a fine id."""
    async with ProcessHost(url, [echo]) as host:
        handle = await host.start(echo(id), id=id)
        assert await handle.result(SOON) == id


async def test_arguments_that_cannot_be_recorded_are_refused_at_start(url: str) -> None:
    """An unencodable or too large argument raises at `start`, names process and argument, and starts nothing."""
    async with ProcessHost(url, [echo], payload_limit=1000) as host:
        with pytest.raises(EncodeError, match=r"Argument 1: Cannot encode value: .*\n  process: 'one'") as caught:
            await host.start(echo(object()), id="one")
        assert caught.value.path == "value"
        with pytest.raises(EncodeError, match=r"Argument 'value': Cannot encode value\[0\]: "):
            await host.start(echo(value=[object()]), id="one")
        with pytest.raises(PayloadTooLarge, match="1000"):
            await host.start(echo("x" * 2000), id="one")
        assert await host.count() == 0


async def test_only_invocations_of_known_definitions_can_be_started(url: str) -> None:
    """A definition not called, a coroutine function, or one the host does not have, is a clear error."""
    async with ProcessHost(url, [echo]) as host:
        with pytest.raises(InvalidDefinition, match="call the process function"):
            await host.start(echo)  # type: ignore[arg-type]
        with pytest.raises(InvalidDefinition, match="not among the definitions"):
            await host.start(wait("x"))


def test_two_definitions_of_one_name_are_refused() -> None:
    """A durable name stands for one function in a host."""

    @process(name="echo")
    async def impostor(proc: Process) -> None: ...

    with pytest.raises(InvalidDefinition, match="'echo'"):
        ProcessHost("memory://", [echo, impostor])


async def test_a_host_that_is_not_open_says_so() -> None:
    """Using a host before entering or after leaving it is a clear error."""
    host = ProcessHost("memory://", [echo])
    with pytest.raises(HostClosed, match="async with"):
        await host.start(echo(1))
    async with host:
        handle = await host.start(echo(1))
        await handle.result(SOON)
    with pytest.raises(HostClosed):
        await handle.status()


async def test_starts_beyond_the_limit_wait_for_their_turn(url: str) -> None:
    """With room for two, ten processes that each run an action all finish, and never more than two at a time."""
    now: list[int] = []
    most = 0

    async def work() -> None:
        nonlocal most
        now.append(1)
        most = max(most, len(now))
        await asyncio.sleep(0.002)
        now.pop()

    @process
    async def busy(proc: Process) -> None:
        await proc.do(work, "work")

    async with ProcessHost(url, [busy], limit=2) as host:
        handles = [await host.start(busy(), id=f"p{number}") for number in range(10)]
        for handle in handles:
            await handle.result(SOON)
    assert most <= 2


class StartsMeanwhile(MemoryStorage):
    """Calls `start` in the turn of the loop after something was claimed."""

    start: Callable[[], Coroutine[Any, Any, object]]
    starting: asyncio.Task[object] | None = None

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        claims = await super().claim(session, queues, limit, now)
        if claims and self.starting is None:
            self.starting = asyncio.create_task(self.start())
        return claims


async def test_a_start_does_not_take_the_room_of_what_was_just_claimed() -> None:
    """With room for one, a start that comes between a claim and its arrival waits for its turn."""
    release = asyncio.Event()

    @process
    async def busy(proc: Process) -> None:
        await proc.do(release.wait, "work")

    storage = StartsMeanwhile("memory://claimed-and-started")
    async with ProcessClient("memory://claimed-and-started") as client:
        await client.start(busy(), id="claimed")
    async with ProcessHost(storage, [busy], limit=1) as host, asyncio.timeout(SOON.total_seconds()):
        storage.start = lambda: host.start(busy(), id="started")
        while storage.starting is None:
            await asyncio.sleep(0.001)
        await storage.starting
        assert not (await host.get("started").status()).resident
        release.set()
        for id in ("claimed", "started"):
            await host.get(id).result()


async def test_a_host_with_max_pending_refuses_what_is_too_much(url: str) -> None:
    """Beyond limit and max_pending, `start` raises and nothing is started."""
    release = asyncio.Event()

    @process
    async def busy(proc: Process) -> None:
        await proc.do(release.wait, "work")

    async with ProcessHost(url, [busy], limit=1, max_pending=1) as host:
        await host.start(busy(), id="running")
        await host.start(busy(), id="pending")
        with pytest.raises(HostBusy, match="limit"):
            await host.start(busy(), id="too much")
        assert await host.count() == 2
        release.set()
        await host.get("pending").result(SOON)


class Turns:
    """Processes of a definition each of which stays in memory until it is told to end."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event] = {}

        @process
        async def take_turns(proc: Process) -> None:
            await proc.do(lambda: self._end(proc.id).wait(), "work")

        self.definition = take_turns

    def _end(self, id: str) -> asyncio.Event:
        return self._ends.setdefault(id, asyncio.Event())

    async def start(self, host: ProcessHost, id: str) -> bool:
        return (await host.start(self.definition(), id=id)).created

    async def end(self, host: ProcessHost, *ids: str) -> None:
        for id in ids:
            self._end(id).set()
            await host.get(id).result(SOON)


async def test_starts_at_the_same_time_keep_to_the_limit(url: str) -> None:
    """Who is on the way to the store has its place already: of many starts in one batch no more run than fit in."""
    turns = Turns()
    ids = [f"p{number}" for number in range(10)]
    async with ProcessHost(url, [turns.definition], limit=3) as host:
        assert all(await asyncio.gather(*(turns.start(host, id) for id in ids)))
        assert sum([(await host.get(id).status()).resident for id in ids]) == 3
        await turns.end(host, *ids)


async def test_who_had_their_turn_waits_no_more(url: str) -> None:
    """A host with `max_pending` that was full accepts starts again, whenever those before have had their turn."""
    turns = Turns()
    async with ProcessHost(url, [turns.definition], limit=1, max_pending=1) as host:
        for number in range(5):
            assert await turns.start(host, f"first {number}")
            assert await turns.start(host, f"second {number}")
            with pytest.raises(HostBusy):
                await turns.start(host, f"third {number}")
            await turns.end(host, f"first {number}", f"second {number}")


async def test_who_waits_is_counted_once(url: str) -> None:
    """A process that waits for its turn can be started again, which is no second one; what has ended does not wait."""
    turns = Turns()
    async with ProcessHost(url, [turns.definition, echo], limit=1, max_pending=2) as host:
        await (await host.start(echo(1), id="ended")).result(SOON)
        assert await turns.start(host, "first")
        assert [await turns.start(host, "second") for _ in range(3)] == [True, False, False]
        assert not (await host.start(echo(1), id="ended")).created
        with pytest.raises(ProcessExists):
            await host.start(echo(2), id="ended")
        assert await turns.start(host, "third")
        with pytest.raises(HostBusy):
            await turns.start(host, "fourth")
        await turns.end(host, "first", "second", "third")


async def test_who_is_claimed_elsewhere_waits_no_more(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full host accepts starts again when another one has taken what waited."""
    monkeypatch.setattr(claims, "_LOOK_UP_EVERY", 0.0)
    turns = Turns()
    async with ProcessHost(url, [turns.definition], limit=1, max_pending=1) as host:
        await turns.start(host, "first")
        await turns.start(host, "second")
        async with ProcessHost(url, [turns.definition]) as other, asyncio.timeout(SOON.total_seconds()):
            while True:
                try:
                    await turns.start(host, "third")
                    break
                except HostBusy:
                    await asyncio.sleep(0)
            await turns.end(other, "first", "second", "third")


async def test_what_others_run_does_not_wait_here(url: str) -> None:
    """`max_pending` counts what waits for this host; of a queue it does not serve it starts any number."""

    @process(queue="heavy")
    async def heavy(proc: Process) -> None: ...

    async with ProcessHost(url, [heavy], queues=["default"], max_pending=0) as host:
        for number in range(3):
            assert (await host.start(heavy(), id=f"h{number}")).created


async def test_a_client_starts_what_a_host_runs(url: str) -> None:
    """A client without definitions of its own starts a process and sees its result."""
    async with ProcessHost(url, [echo]), ProcessClient(url) as client:
        handle = await client.start(echo(3), id="from client")
        assert await handle.result(SOON) == 3


async def test_a_queue_is_served_only_by_hosts_that_list_it(url: str) -> None:
    """A process of another queue waits until a host serves that queue."""

    @process(queue="heavy")
    async def heavy(proc: Process) -> str:
        return "done"

    async with ProcessHost(url, [echo, heavy], queues=["default"]) as light:
        handle = await light.start(heavy(), id="h")
        assert await (await light.start(echo(1), id="e")).result(SOON) == 1
        assert not (await handle.status()).resident
        async with ProcessHost(url, [heavy]):
            assert await handle.result(SOON) == "done"
