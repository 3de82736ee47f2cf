"""`copy`: everything unfinished goes from one store to another, exactly as it was, and goes on there."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from durable import MessagePackCodec, ProcessClient, ProcessHost, ProcessTerminated
from durable.cli.failures import ExitCode
from durable.storage import Batch, Mail, MailKind
from durable.testing.storage_proxy import Operation
from durable.transfer import Outcome, move, put
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, restarted, settled, stalled
from tests.cli.stores import Interfering, moved, on_the_way, opened, runnable, schemes, snapshots, url_of

UNFINISHED = {"order-1", "charge-1", "listen-1", "rest-1", "doze-1", "hurry-1"}


@pytest.fixture
def other(tmp_path: Path) -> Cli:
    """The command line on a second store, which is not there yet."""
    return Cli(f"sqlite:///{tmp_path / 'other.db'}")


def is_an_end(operation: Operation) -> bool:
    """A commit that ends processes."""
    return operation.batch is not None and bool(operation.batch.ends)


def is_a_creation(operation: Operation) -> bool:
    """A commit that creates processes."""
    return operation.batch is not None and bool(operation.batch.creations)


def test_the_unfinished_move_and_the_ended_stay(cli: Cli, other: Cli, shop_store: str) -> None:
    """Every unfinished process is at the destination as it was; at the source only ended ones are left."""
    before = asyncio.run(snapshots(cli.url))
    copied = schemas.Copy(**cli.json("copy", cli.url, other.url))
    assert {transfer.id for transfer in copied.transfers if transfer.outcome == "moved"} == UNFINISHED
    assert asyncio.run(snapshots(other.url)) == {id: one for id, one in before.items() if id in UNFINISHED}
    assert asyncio.run(snapshots(cli.url)) == {id: one for id, one in before.items() if id not in UNFINISHED}


def test_all_copies_the_ended_too(cli: Cli, other: Cli, shop_store: str) -> None:
    """With --all the destination has everything, times included, and the ended ones stay at the source as well."""
    before = asyncio.run(snapshots(cli.url))
    answer = cli("copy", cli.url, other.url, "--all")
    assert (answer.code, answer.output.splitlines()[-1]) == (0, "6 moved, 2 copied")
    assert asyncio.run(snapshots(other.url)) == before
    again = schemas.Copy(**cli.json("copy", cli.url, other.url, "--all"))
    assert again.counts == {"moved": 0, "copied": 0, "there already": 2, "left": 0}


@pytest.mark.parametrize("through", schemes())
def test_one_that_moves_half_way_ends_as_if_it_had_not(url: str, tmp_path: Path, through: str) -> None:
    """From SQLite through another store and back, with an event at each stop: its journal is as if it had stayed."""
    stays, first = url, url_of("sqlite", tmp_path, "first")
    middle, last = url_of(through, tmp_path, "middle"), url_of("sqlite", tmp_path, "last")

    async def hear(url: str, number: int) -> None:
        """A host records one event."""
        async with ProcessHost(url, [shop.order], park_after=timedelta(0)) as host:
            await host.start(shop.order(shop.Order(7, "tea")), id="order-1")
            await host.raise_event("order-1", "unheard", number)
            while len(await host.get("order-1").history()) < 5 + number:
                await asyncio.sleep(0.005)

    async def finish(url: str) -> list[tuple[str, str, object]]:
        async with ProcessHost(url, [shop.order]) as host:
            await host.raise_event("order-1", "paid", "cash")
            assert await host.get("order-1").result() == "cash"
            history = await host.get("order-1").history()
        return [(entry.kind, entry.name, None if entry.kind == "TIMER" else entry.value) for entry in history]

    async def run() -> None:
        for number in range(3):
            await hear(stays, number)
        await hear(first, 0)
        await moved(first, middle)
        await hear(middle, 1)
        await moved(middle, last)
        await hear(last, 2)
        assert await finish(last) == await finish(stays)

    asyncio.run(run())


@pytest.mark.parametrize("through", schemes())
def test_one_that_has_restarted_stays_as_old_as_it_was(url: str, tmp_path: Path, through: str) -> None:
    """Its journal begins with its last life, and yet every store that it comes through knows when it was created."""
    live(url, {"patrol-1": shop.patrol(0)}, restarted("patrol-1"))
    listed = Cli(url).json("ps")
    middle, last = url_of(through, tmp_path, "middle"), url_of("sqlite", tmp_path, "last")

    async def run() -> None:
        before = (await snapshots(url))["patrol-1"]
        assert before.created_at < before.records[0].time
        for source, target in ((url, middle), (middle, last)):
            await moved(source, target)
            assert (await snapshots(target))["patrol-1"] == before

    asyncio.run(run())
    assert Cli(last).json("ps") == listed


def test_mail_that_arrives_on_the_way_moves_along(url: str, tmp_path: Path) -> None:
    """Events raised before the move and during it are in the inbox at the destination, in order, with their keys."""
    live(url, {"order-1": shop.order(shop.Order(7, "tea"))}, settled("order-1"))
    target_url = url_of("sqlite", tmp_path, "target")

    async def raise_one(key: str) -> None:
        async with ProcessClient(url) as client:
            await client.raise_event("order-1", "unheard", key, key=key)

    async def run() -> None:
        await raise_one("before")
        async with opened(url, target_url) as (source, target):
            busy = Interfering(source, is_an_end, lambda: raise_one("meanwhile"))
            await move(busy, target, target_url, MessagePackCodec())
            assert busy.times == 1
        arrived = (await snapshots(target_url))["order-1"]
        assert [(item.name, item.event_key) for item in arrived.inbox] == [
            ("unheard", "before"),
            ("unheard", "meanwhile"),
        ]
        assert arrived.wake_at is not None and arrived.wake_at <= arrived.inbox[0].time  # it is due: there is mail
        assert await snapshots(url) == {}

    asyncio.run(run())


def test_stalled_ones_stay_stalled(url: str, tmp_path: Path) -> None:
    """A stalled process moves with its reason, although it had to be woken to be taken."""

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")

    asyncio.run(start())
    live(url, {}, stalled("add-1"), [shop.order])
    before = asyncio.run(snapshots(url))
    asyncio.run(moved(url, url_of("sqlite", tmp_path, "target")))
    assert asyncio.run(snapshots(url_of("sqlite", tmp_path, "target"))) == before
    assert before["add-1"].reason is not None


def test_what_a_living_host_holds_is_left(cli: Cli, other: Cli) -> None:
    """A process in the memory of a living host does not move: it is listed with what to do, and moves after that."""

    async def look(host: ProcessHost) -> None:
        answer = await asyncio.to_thread(cli, "copy", cli.url, other.url, "--json")
        copied = schemas.Copy(**answer.json)
        assert (answer.code, copied.counts["moved"], copied.counts["left"]) == (ExitCode.NO, 0, 1)
        assert copied.transfers[0].why == "session 1 of a host holds it: stop that host, and copy again"
        assert (await host.get("work-1").status()).resident

    live(cli.url, {"work-1": shop.work()}, look)
    assert asyncio.run(runnable(other.url)) == set()
    assert cli("copy", cli.url, other.url).output == "moved: work-1\n1 moved\n"
    assert asyncio.run(runnable(cli.url)) == set()


@pytest.mark.parametrize("due", [True, False])
def test_an_id_that_is_taken_stays_untouched(cli: Cli, other: Cli, due: bool) -> None:
    """Where the destination has a process of the same id, neither of them is changed, and the others move."""
    for url in (cli.url, other.url):
        live(url, {"order-1": shop.order(shop.Order(7, "tea")), "rest-1": shop.rest()}, settled("order-1", "rest-1"))
    live(cli.url, {"rest-2": shop.rest()}, settled("rest-2"))
    if due:
        assert cli("raise", "order-1", "unheard").code == 0
    before = asyncio.run(snapshots(cli.url)), asyncio.run(snapshots(other.url))
    answer = cli("copy", cli.url, other.url)
    assert answer.code == ExitCode.NO
    assert "left: order-1: its id is taken at the destination" in answer.output
    here, there = asyncio.run(snapshots(cli.url)), asyncio.run(snapshots(other.url))
    assert there == {**before[1], "rest-2": before[0]["rest-2"]}
    if not due:
        assert here == {id: one for id, one in before[0].items() if id != "rest-2"}
    assert asyncio.run(runnable(cli.url)) == {"order-1", "rest-1"}


def test_an_id_that_is_taken_on_the_way(url: str, tmp_path: Path) -> None:
    """Somebody starts the same id at the destination meanwhile: nothing is lost, and it moves when that one is gone."""
    live(url, {"order-1": shop.order(shop.Order(7, "tea"))}, settled("order-1"))
    target_url = url_of("sqlite", tmp_path, "target")

    async def start() -> None:
        async with ProcessClient(target_url) as client:
            await client.start(shop.add(1), id="order-1")

    async def run() -> None:
        before = await snapshots(url)
        async with opened(url, target_url) as (source, target):
            (left,) = await move(source, Interfering(target, is_a_creation, start), target_url, MessagePackCodec())
        assert (left.outcome, left.why) == (
            Outcome.LEFT,
            "its id is taken at the destination, since it is on its way: purge that one, copy again",
        )
        assert await on_the_way(url) == {"order-1"}
        async with ProcessHost(target_url, [shop.add]) as host:
            await host.get("order-1").result()
        async with opened(target_url) as (target,):
            row = await target.row("order-1")
            assert row is not None
            await target.purge([row.key])
        (arrived,) = await moved(url, target_url)
        assert arrived.outcome is Outcome.MOVED
        assert await snapshots(target_url) == before

    asyncio.run(run())


def test_one_that_is_on_its_way_elsewhere_is_left(url: str, tmp_path: Path) -> None:
    """What was half-way to one destination is never brought to another one: it could be there already."""
    live(url, {"order-1": shop.order(shop.Order(7, "tea"))}, settled("order-1"))
    first, second = url_of("sqlite", tmp_path, "first"), url_of("sqlite", tmp_path, "second")

    async def fail() -> None:
        raise OSError("the machine is gone")

    async def run() -> None:
        async with opened(url, first) as (source, target):
            with pytest.raises(OSError, match="gone"):
                await move(source, Interfering(target, is_a_creation, fail), first, MessagePackCodec())
        (left,) = await moved(url, second)
        assert left.why == f"it is being moved to {first}: copy to there again"
        assert await snapshots(second) == {}
        (arrived,) = await moved(url, first)
        assert arrived.outcome is Outcome.MOVED

    asyncio.run(run())


def test_a_terminated_one_is_not_brought_back(url: str, tmp_path: Path) -> None:
    """Who was terminated by hand, with whatever reason, stays so: only what a move has ended goes on."""
    target = url_of("sqlite", tmp_path, "target")

    async def end(host: ProcessHost) -> None:
        await host.terminate("rest-1", f"moved to {target}")
        with pytest.raises(ProcessTerminated):
            await host.get("rest-1").result()

    live(url, {"rest-1": shop.rest()}, end)
    assert asyncio.run(moved(url, target)) == []
    assert asyncio.run(snapshots(target)) == {}


def test_a_store_is_not_copied_onto_itself(cli: Cli, shop_store: str, tmp_path: Path) -> None:
    """One store under two names is found out before anything is changed."""
    before = asyncio.run(snapshots(cli.url))
    (tmp_path / "link.db").symlink_to(tmp_path / "processes.db")
    answer = cli("copy", cli.url, f"sqlite:///{tmp_path / 'link.db'}")
    assert answer.code == ExitCode.STORAGE
    assert "they are one store, or one is a copy" in answer.error
    assert asyncio.run(snapshots(cli.url)) == before


def test_a_store_is_not_copied_onto_itself_when_all_is_due(url: str) -> None:
    """The same where every process is due or held by a dead session, and none had to be marked."""

    async def run() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")
        before = await snapshots(url)
        with pytest.raises(Exception, match="one store"):
            await moved(url, url)
        assert await runnable(url) == set(before)

    asyncio.run(run())


def test_orphans_of_a_dead_host_move(url: str, tmp_path: Path) -> None:
    """What a host held that died is taken over, and is due at the destination: nobody knows what it was doing."""
    target = url_of("sqlite", tmp_path, "target")

    async def run() -> None:
        async with opened(url) as (storage,):
            session = await storage.begin_session("dead soon", 60)
            async with ProcessClient(url) as client:
                await client.start(shop.add(1), id="add-1")
            (claim,) = await storage.claim(session, ["default"], 1, 2**62)
        (arrived,) = await moved(url, target)
        assert arrived.outcome is Outcome.MOVED
        async with ProcessHost(target, [shop.add]) as host:
            assert await host.get("add-1").result() == 2
        assert claim.row.id == "add-1"

    asyncio.run(run())


def test_a_key_that_is_taken_gives_way(url: str, tmp_path: Path) -> None:
    """Two stores may have used one key: the arriving process takes the next one, and all of its batch arrives."""
    live(url, {"rest-1": shop.rest(), "rest-2": shop.rest()}, settled("rest-1", "rest-2"))
    target_url = url_of("sqlite", tmp_path, "target")

    async def run() -> None:
        before = await snapshots(url)
        async with opened(target_url) as (target,):
            await put(target, replace(before["rest-1"], id="stranger"))
        assert [one.outcome for one in await moved(url, target_url)] == [Outcome.MOVED] * 2
        after = await snapshots(target_url)
        assert after["rest-1"].key == before["rest-1"].key + 1
        assert after["rest-2"] == before["rest-2"]

    asyncio.run(run())


def test_a_resume_during_the_move_is_not_lost(url: str, tmp_path: Path) -> None:
    """A stalled process that is resumed while it moves is due at the destination."""
    target_url = url_of("sqlite", tmp_path, "target")

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")

    asyncio.run(start())
    live(url, {}, stalled("add-1"), [shop.order])

    async def resume() -> None:
        async with opened(url) as (storage,):
            await storage.commit(Batch(None, mails=[Mail("add-1", MailKind.RESUME, "", None, b"", 5)]))

    async def run() -> None:
        async with opened(url, target_url) as (source, target):
            await move(Interfering(source, is_an_end, resume), target, target_url, MessagePackCodec())
        async with ProcessHost(target_url, [shop.add]) as host:
            assert await host.get("add-1").result() == 2

    asyncio.run(run())
