"""`copy`, killed at every write: no process is ever runnable in two stores, none is lost, the next copy finishes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from durable import ProcessClient, ProcessHost
from durable.transfer import Snapshot
from tests.cli import shop
from tests.cli.conftest import Cli, live, settled, stalled
from tests.cli.stores import Life, fill, move_and_die, moved, on_the_way, runnable, schemes, snapshots, url_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


async def prepare(url: str) -> None:
    """One process that waits for a timer, one that is stalled, one with mail, and one that nobody has taken yet."""
    async with ProcessClient(url) as client:
        await client.start(shop.add(1), id="stalled")
    async with ProcessHost(url, [shop.order, shop.rest], park_after=timedelta(0)) as host:
        await stalled("stalled")(host)
        await host.start(shop.rest(), id="parked")
        await host.start(shop.order(shop.Order(7, "tea")), id="with mail")
        await settled("parked", "with mail")(host)
    async with ProcessClient(url) as client:
        await client.raise_event("with mail", "unheard", 1, key="first")
        await client.raise_event("with mail", "unheard", 2)
        await client.start(shop.work(), id="pending")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Snapshot]:
    """The processes of `prepare`, as they stand."""
    url = url_of("sqlite", tmp_path_factory.mktemp("prepared"), "store")
    asyncio.run(prepare(url))
    return asyncio.run(snapshots(url))


async def check_half_way(from_url: str, to_url: str, processes: dict[str, Snapshot]) -> None:
    """Each process is runnable in one store at most, and known to one at least."""
    here, there = await runnable(from_url), await runnable(to_url)
    assert here & there == set()
    assert here | there | await on_the_way(from_url) == set(processes)


async def check_finished(from_url: str, to_url: str, processes: dict[str, Snapshot]) -> None:
    """The next copy brings everything, exactly as it was."""
    await moved(from_url, to_url)
    assert await snapshots(to_url) == processes
    assert await snapshots(from_url) == {}


@pytest.mark.parametrize("written", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize(("source", "to"), [(one, other) for one in schemes() for other in schemes() if one != other])
def test_killed_at_every_write(
    tmp_path: Path, processes: dict[str, Snapshot], source: str, to: str, written: bool
) -> None:
    """Killed before and after each write of each store in turn, nothing runs twice, is lost, or is changed."""

    async def run(number: int) -> bool:
        from_url, to_url = url_of(source, tmp_path, f"from-{number}"), url_of(to, tmp_path, f"to-{number}")
        await fill(from_url, processes.values())
        killed = await move_and_die(from_url, to_url, Life(number, written))
        await check_half_way(from_url, to_url, processes)
        await check_finished(from_url, to_url, processes)
        return killed

    number = 1
    while asyncio.run(run(number)):
        number += 1
    assert number > 8  # two sessions, marks, a claim, ends, creations, purge, and the ends of the sessions


@pytest.mark.parametrize("first", range(4, 10))
def test_killed_twice(tmp_path: Path, processes: dict[str, Snapshot], first: int) -> None:
    """The copy that goes on after a kill may be killed itself, at every write."""

    async def run(number: int) -> bool:
        from_url, to_url = (url_of("memory", tmp_path, f"{name}-{number}") for name in ("from", "to"))
        await fill(from_url, processes.values())
        assert await move_and_die(from_url, to_url, Life(first, written=True))
        killed = await move_and_die(from_url, to_url, Life(number, written=False))
        await check_half_way(from_url, to_url, processes)
        await check_finished(from_url, to_url, processes)
        return killed

    number = 1
    while asyncio.run(run(number)):
        number += 1


def test_a_killed_copy_leaves_a_source_that_runs(tmp_path: Path) -> None:
    """A copy that was killed and given up costs nothing: what had not left goes on at the source."""

    async def run() -> None:
        from_url, to_url = (url_of("sqlite", tmp_path, name) for name in "ab")
        async with ProcessClient(from_url) as client:
            await client.start(shop.listen(), id="listen-1")
        async with ProcessHost(from_url, [shop.listen], park_after=timedelta(0)) as host:
            while len(await host.get("listen-1").history()) < 2:
                await asyncio.sleep(0.005)
        assert await move_and_die(from_url, to_url, Life(6, written=True))
        assert await runnable(from_url) == {"listen-1"}
        async with ProcessHost(from_url, [shop.listen]) as host:
            await host.raise_event("listen-1", "paid", "cash")
            assert await host.get("listen-1").result() == "cash"

    asyncio.run(run())


def test_a_real_kill(cli: Cli, tmp_path: Path) -> None:
    """The command is killed with SIGKILL in the middle of 80 processes; called again, it brings the rest."""
    ids = [f"rest-{number}" for number in range(80)]
    live(cli.url, {id: shop.rest() for id in ids}, settled(*ids))
    before = asyncio.run(snapshots(cli.url))
    target = url_of("sqlite", tmp_path, "target")
    words = [sys.executable, "-u", "-W", "ignore", "-m", "durable.cli", "copy", cli.url, target]
    path = {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=path) as copying:
        assert copying.stdout is not None
        assert copying.stdout.readline().startswith("moved: ")
        copying.kill()
        assert copying.wait(30) == -9
    here, there = asyncio.run(runnable(cli.url)), asyncio.run(runnable(target))
    assert here & there == set()
    assert there
    assert here | there | asyncio.run(on_the_way(cli.url)) == set(ids)
    assert cli("copy", cli.url, target).code == 0
    assert asyncio.run(snapshots(target)) == before
