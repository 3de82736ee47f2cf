"""Whoever enters or leaves a host may be cancelled at any moment: nothing stays open, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from durable import HostClosed, Process, ProcessClient, ProcessHost, process
from tests.cancelling import cancelled_at

SOON = timedelta(seconds=20)
MOMENTS = [(first,) for first in range(8)] + [(first, first + 1) for first in range(7)] + [tuple(range(8))]


@process
async def waits_outside(proc: Process) -> bool:
    """Its action lasts as long as its host lets it."""
    return await proc.do(asyncio.Event().wait, "waited")


@process
async def quick(proc: Process) -> int:
    return 7


async def nothing_is_left(before: Collection[asyncio.Task[Any]]) -> None:
    """Return when tasks and threads that were told to end have done so."""
    async with asyncio.timeout(SOON.total_seconds()):
        while asyncio.all_tasks() - set(before) or any(
            "durable writer" in thread.name for thread in threading.enumerate()
        ):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("moments", MOMENTS, ids=str)
async def test_leaving_that_is_cancelled_lets_go_all_the_same(url: str, moments: tuple[int, ...]) -> None:
    """However often leaving is cancelled, the store is closed, who waits is told, and the next host goes on at once."""
    before = asyncio.all_tasks()
    host = ProcessHost(url, [waits_outside, quick], grace=timedelta(milliseconds=50))
    await host.__aenter__()
    handle = await host.start(waits_outside(), id="p")
    waiting = asyncio.create_task(handle.result())
    await asyncio.sleep(0)
    await cancelled_at(moments, host.__aexit__(None, None, None))
    with pytest.raises(HostClosed):
        await asyncio.wait_for(waiting, SOON.total_seconds())
    await nothing_is_left(before)
    async with ProcessHost(url, [waits_outside, quick], grace=timedelta(0)) as following:
        async with asyncio.timeout(SOON.total_seconds()):
            while not (await following.get("p").status()).waits_for:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("moments", MOMENTS, ids=str)
async def test_entering_that_is_cancelled_leaves_nothing_open(url: str, moments: tuple[int, ...]) -> None:
    """A host whose entering was cancelled has closed its store, and can be entered again."""
    before = asyncio.all_tasks()
    host = ProcessHost(url, [quick])
    if not await cancelled_at(moments, host.__aenter__()):
        await host.__aexit__(None, None, None)
    await nothing_is_left(before)
    async with host:
        assert await (await host.start(quick())).result(SOON) == 7


@pytest.mark.parametrize("moments", MOMENTS[:8], ids=str)
async def test_a_client_that_is_cancelled_while_it_leaves_closes_its_store(url: str, moments: tuple[int, ...]) -> None:
    """Leaving a client that still writes, cancelled at any moment, closes the store, and who waits is told."""
    before = asyncio.all_tasks()
    client = ProcessClient(url)
    await client.__aenter__()
    await client.start(quick(), id="p")
    waiting = asyncio.create_task(client.get("p").result())
    starting = asyncio.create_task(client.start(quick(), id="q"))
    await asyncio.sleep(0)
    await cancelled_at(moments, client.__aexit__(None, None, None))
    with pytest.raises(HostClosed):
        await asyncio.wait_for(waiting, SOON.total_seconds())
    await asyncio.wait([starting])
    starting.exception()  # it was started, or told that nobody knows
    await nothing_is_left(before)


@pytest.mark.parametrize("turns", range(1, 6))
async def test_who_only_looks_at_a_result_is_told_that_the_client_has_closed(url: str, turns: int) -> None:
    """A look at a result that is still being read while the client leaves gives an answer, and waits for nothing."""
    async with ProcessHost(url, [quick]) as host:
        await (await host.start(quick(), id="p")).result(SOON)
        async with ProcessClient(url) as client:
            looking = asyncio.create_task(client.get("p").result(timedelta(0)))
            for _ in range(turns):
                await asyncio.sleep(0)
        async with asyncio.timeout(SOON.total_seconds()):
            with suppress(HostClosed):
                assert await looking == 7


@pytest.mark.parametrize("turns", range(6))
async def test_a_host_that_leaves_while_it_begins_another_session_can_be_entered_again(url: str, turns: int) -> None:
    """Leaving in the middle of a new session, at any moment, ends that too; the host may be entered again."""
    before = asyncio.all_tasks()
    host = ProcessHost(url, [quick])
    async with host:
        host._lost()  # as its session does when the store says so
        for _ in range(turns):
            await asyncio.sleep(0)
    await nothing_is_left(before)
    async with host:
        assert await (await host.start(quick())).result(SOON) == 7
