"""The ids of children: made, chosen, too long, wanted twice."""

from __future__ import annotations

import asyncio

from durable import InvalidName, Process, ProcessExists, ProcessHost, process
from tests.host.staging import SOON


@process
async def echo(proc: Process, word: str) -> str:
    return await proc.get(word, "word")


@process
async def ask(proc: Process, word: str) -> str:
    try:
        return await proc.call(echo(word), id="wanted")
    except ProcessExists:
        return "refused"


async def test_of_those_who_want_one_id_at_once_one_gets_it(url: str) -> None:
    """Two parents start a child of the same id in one batch: one of them has it, the other hears that it exists."""
    async with ProcessHost(url, [echo, ask]) as host:
        handles = await asyncio.gather(*(host.start(ask(str(number))) for number in range(5)))
        results = [await handle.result(SOON) for handle in handles]
        assert results.count("refused") == 4
        assert await host.get("wanted").result(SOON) in results


@process
async def ask_twice(proc: Process) -> list[str]:
    calls = [proc.call(echo(word), word, id="wanted") for word in ("one", "two")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [result if isinstance(result, str) else type(result).__name__ for result in results]


async def test_one_parent_gets_an_id_once(url: str) -> None:
    """The first of two starts of one id by one process is served, whatever the order of answers."""
    async with ProcessHost(url, [echo, ask_twice]) as host:
        assert await (await host.start(ask_twice())).result(SOON) == ["one", "ProcessExists"]


async def test_an_id_that_is_taken_is_refused_to_all(url: str) -> None:
    """Of several who want an id that somebody else has had for long, nobody gets it."""
    async with ProcessHost(url, [echo, ask]) as host:
        assert await (await host.start(echo("old"), id="wanted")).result(SOON) == "old"
        handles = await asyncio.gather(*(host.start(ask(str(number))) for number in range(3)))
        assert [await handle.result(SOON) for handle in handles] == ["refused"] * 3


@process
async def nest(proc: Process, depth: int) -> int:
    if depth == 0:
        return 0
    try:
        return 1 + await proc.call(nest(depth - 1), "n" * 190)
    except InvalidName:
        return 1 + await proc.call(nest(depth - 1), "again", id=f"{depth} more")


async def test_a_made_id_has_a_limit_too(url: str) -> None:
    """Where an id made of those of all ancestors gets too long, the line says so, and another can be given."""
    async with ProcessHost(url, [nest]) as host:
        assert await (await host.start(nest(8), id="p")).result(SOON) == 8
        assert await host.get("3 more").result(SOON) == 2


@process
async def two_lives(proc: Process, life: int) -> str:
    if life == 1:
        await proc.scope("2").call(echo("first"))
        await proc.restart(two_lives(2))
    return await proc.call(echo("second"))


async def test_no_scope_makes_the_ids_of_another_life(url: str) -> None:
    """A child of the second life never has the id of one of the first, whatever its scopes are called."""
    async with ProcessHost(url, [echo, two_lives]) as host:
        assert await (await host.start(two_lives(1), id="p")).result(SOON) == "second"
