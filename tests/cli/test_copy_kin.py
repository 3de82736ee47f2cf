"""`copy` and children: how a child ends is told in its own store, so parents and children move all, or not at all."""

from __future__ import annotations

from pathlib import Path

from durable import Process, ProcessHost, process
from durable.transfer import Outcome
from tests.cli.stores import moved, url_of
from tests.host.staging import SOON, until_it_waits


@process(queue="elsewhere")
async def child(proc: Process) -> str:
    return await proc.get("grown up", "word")


@process
async def parent(proc: Process) -> str:
    return await proc.call(child())


@process(queue="alone")
async def single(proc: Process) -> str:
    return str(await proc.event("go"))


async def outcomes(source: str, target: str) -> dict[str, tuple[Outcome, bool]]:
    """What became of each process, and whether a reason was given."""
    return {one.id: (one.outcome, bool(one.why)) for one in await moved(source, target)}


async def test_a_child_is_not_moved_away_from_a_parent_that_stays(tmp_path: Path) -> None:
    """While a living host holds the parent its child stays, others go; when that host has stopped both go, and meet."""
    source, target = url_of("sqlite", tmp_path, "source"), url_of("sqlite", tmp_path, "target")
    async with ProcessHost(source, [parent]) as host:
        await host.start(parent(), id="p")
        await until_it_waits(host, "p", "child")
        async with ProcessHost(source, [single]) as other:
            await other.start(single(), id="s")
        assert await outcomes(source, target) == {
            "s": (Outcome.MOVED, False),
            "p": (Outcome.LEFT, True),
            "p/child": (Outcome.LEFT, True),
        }
    assert await outcomes(source, target) == {"p": (Outcome.MOVED, False), "p/child": (Outcome.MOVED, False)}
    async with ProcessHost(target, [parent, child]) as host:
        assert await host.get("p").result(SOON) == "grown up"


async def test_kin_stays_together_also_where_an_id_is_taken(tmp_path: Path) -> None:
    """An id that is taken at the destination keeps the whole kin at the source, as it stood before."""
    source, target = url_of("sqlite", tmp_path, "source"), url_of("sqlite", tmp_path, "target")
    async with ProcessHost(target, [single]) as host:
        await host.start(single(), id="p/child")
    async with ProcessHost(source, [parent]) as host:
        await host.start(parent(), id="p")
        await until_it_waits(host, "p", "child")
    assert await outcomes(source, target) == {"p": (Outcome.LEFT, True), "p/child": (Outcome.LEFT, True)}
    async with ProcessHost(source, [parent, child]) as host:
        assert await host.get("p").result(SOON) == "grown up"
