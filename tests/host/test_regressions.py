"""What once went wrong in the hands of a user of the public API, each case as small as it could be made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from durable import (
    JsonCodec,
    Process,
    ProcessClient,
    ProcessHost,
    ProcessTerminated,
    Status,
    StepError,
    StepInterrupted,
    StorageError,
    current_step,
    process,
)

SOON = timedelta(seconds=20)
AT_ONCE = timedelta(0)


@process
async def wait_for_event(proc: Process) -> object:
    return await proc.event("wanted")


@process(name="another")
async def another(proc: Process) -> None: ...


async def test_mail_behind_a_request_to_terminate_does_not_keep_the_process(url: str) -> None:
    """A process ends and frees its place, though an event and a second request came with the one that ends it."""
    async with ProcessHost(url, [wait_for_event]) as host:
        await host.start(wait_for_event(), id="p")
    async with ProcessClient(url) as client:
        await client.terminate("p", "first")
        await client.raise_event("p", "other")
        await client.terminate("p", "second")
    async with ProcessHost(url, [wait_for_event], limit=1) as host:
        with pytest.raises(ProcessTerminated, match="first"):
            await host.get("p").result(SOON)
        following = await host.start(wait_for_event(), id="next")
        await host.raise_event("next", "wanted", 1)
        assert await following.result(SOON) == 1


async def test_mail_of_another_codec_stops_only_its_own_process(url: str) -> None:
    """A request to terminate that the host cannot read ends its process, and every other process goes on."""
    async with (
        ProcessHost(url, [wait_for_event], park_after=AT_ONCE) as host,
        ProcessClient(url, codec=JsonCodec()) as client,
    ):
        unlucky, lucky = await host.start(wait_for_event()), await host.start(wait_for_event())
        await client.terminate(unlucky.id, "a reason in JSON")
        with pytest.raises(ProcessTerminated):
            await unlucky.result(SOON)
        await host.raise_event(lucky.id, "wanted", 1)
        assert await lucky.result(SOON) == 1


async def test_a_process_without_a_definition_can_be_terminated(url: str) -> None:
    """What a host was not given and nobody will bring back can be ended there, whatever mail comes meanwhile."""
    async with ProcessHost(url, [wait_for_event]) as host:
        await host.start(wait_for_event(), id="p")
    async with ProcessHost(url, [another]) as host, ProcessClient(url) as client:
        await asyncio.gather(
            *(sender.raise_event("p", "more", number) for number in range(20) for sender in (host, client))
        )
        await host.terminate("p", "its function is gone")
        with pytest.raises(ProcessTerminated, match="its function is gone"):
            await host.get("p").result(SOON)


async def test_much_mail_for_a_process_without_a_definition_leaves_it_stalled(url: str) -> None:
    """However much mail comes while it is being stalled, it is given back, and goes on where its function is known."""
    async with ProcessHost(url, [wait_for_event]) as host:
        await host.start(wait_for_event(), id="p")
    async with ProcessHost(url, [another]) as host, ProcessClient(url) as client:
        for _ in range(20):
            await asyncio.gather(*(sender.resume("p") for sender in (host, client) * 5))
        assert await _becomes(host, "p", Status.STALLED)
    async with ProcessHost(url, [wait_for_event]) as host:
        await host.raise_event("p", "wanted", 1)
        assert await host.get("p").result(SOON) == 1


async def _becomes(host: ProcessHost, id: str, status: Status) -> bool:
    async with asyncio.timeout(SOON.total_seconds()):
        async for seen in host.get(id).watch():
            if seen.status is status and not seen.resident:
                return True
    return False


@pytest.mark.parametrize("interrupt", [SystemExit, KeyboardInterrupt])
async def test_an_action_in_a_thread_that_wants_to_exit_has_failed(url: str, interrupt: type[BaseException]) -> None:
    """``sys.exit()`` in a sync action ends neither the program nor the process: it is how the action ended."""

    def leave() -> None:
        raise interrupt("enough")

    @process
    async def leaving(proc: Process) -> str:
        try:
            await proc.do(leave, "left")
        except StepError as error:
            return str(error.type_name)
        return "nothing"

    async with ProcessHost(url, [leaving]) as host:
        handle = await host.start(leaving())
        assert interrupt.__name__ in await handle.result(SOON)


class Odd(BaseException):
    """Neither an `Exception` nor one of those that end a program."""


@pytest.mark.parametrize("odd", [Odd, asyncio.CancelledError, GeneratorExit])
async def test_whatever_an_action_called_on_the_loop_raises_is_recorded(url: str, odd: type[BaseException]) -> None:
    """An action that is known to give an awaitable, and raises before it does, has failed like any other."""
    raising = False

    def action() -> object:
        if raising:
            raise odd("before the first await")
        return asyncio.sleep(0)

    @process
    async def raises(proc: Process) -> str:
        nonlocal raising
        await proc.do(action, "learned that it gives an awaitable")
        raising = True
        try:
            await proc.do(action, "raised")
        except StepError as error:
            return str(error.type_name)
        return "nothing"

    async with ProcessHost(url, [raises]) as host:
        handle = await host.start(raises())
        assert odd.__name__ in await handle.result(SOON)


async def test_at_most_once_is_not_called_again_on_the_loop(url: str) -> None:
    """A sync action that asks for the running loop after its effect is called again there, but never `at_most_once`."""
    calls: list[str] = []

    def action() -> None:
        calls.append(current_step().checkpoint)
        asyncio.get_running_loop()

    @process
    async def once(proc: Process) -> str:
        try:
            await proc.do(action, "once", at_most_once=True)
        except RuntimeError as error:
            return str(error)
        return "nothing"

    async with ProcessHost(url, [once]) as host:
        handle = await host.start(once())
        assert await handle.result(SOON) == "no running event loop"
    assert calls == ["once"]


async def test_an_action_that_waits_for_a_thread_does_not_start_once_it_is_unwanted(url: str) -> None:
    """Cancelled, terminated, or left by its host before a thread came free for it, it is never started."""
    started: list[str] = []
    began, finish = threading.Event(), threading.Event()

    def block() -> None:
        started.append(current_step().process_id)
        began.set()
        finish.wait()

    @process
    async def blocking(proc: Process) -> str:
        try:
            await proc.do(block, "blocked", at_most_once=True)
        except StepInterrupted:
            return "interrupted"
        return "done"

    async with ProcessHost(url, [blocking], threads=1, grace=timedelta(0)) as host:
        await host.start(blocking(), id="first")
        await asyncio.to_thread(began.wait)
        for id in ("cancelled", "terminated", "left"):
            handle = await host.start(blocking(), id=id)
            async with asyncio.timeout(SOON.total_seconds()):
                while len(await handle.history()) < 2:  # until its intent is recorded, so that it waits for the thread
                    await asyncio.sleep(0)
        await host.cancel("cancelled")
        await host.terminate("terminated", "enough")
        with pytest.raises(ProcessTerminated):
            await host.get("terminated").result(SOON)
    async with ProcessHost(url, [blocking]) as host:
        assert await host.get("left").result(SOON) == "interrupted"
    finish.set()
    for thread in threading.enumerate():
        if thread.name.startswith("durable-action"):
            await asyncio.to_thread(thread.join, SOON.total_seconds())
    assert started == ["first"]


@pytest.mark.parametrize("make", [lambda url: ProcessHost(url, [another]), ProcessClient])
async def test_what_is_open_cannot_be_entered_again(url: str, make: Callable[[str], ProcessClient]) -> None:
    """Entering twice is refused, and what was open stays open."""
    async with make(url) as opened:
        with pytest.raises(StorageError, match="open already"):
            await opened.__aenter__()
        assert await opened.count() == 0
