"""A process reaches nothing outside but through checkpoints, and nothing outside reaches it."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from durable.errors import InvalidAction, IOOutsideCheckpoint
from durable.journal import Kind
from durable.process import Process
from tests.kernel.driver import Driver, program_of

_loop = asyncio.get_running_loop

REFUSED: list[Callable[[], Any]] = [
    lambda: asyncio.open_connection("127.0.0.1", 9),
    lambda: asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0),
    lambda: asyncio.to_thread(print),
    lambda: asyncio.create_subprocess_exec("true"),
    lambda: asyncio.create_subprocess_shell("true"),
    lambda: _loop().run_in_executor(None, print),
    lambda: _loop().getaddrinfo("localhost", 80),
    lambda: _loop().create_server(asyncio.Protocol, "127.0.0.1", 0),
    lambda: _loop().create_datagram_endpoint(asyncio.DatagramProtocol),
    lambda: _loop().sock_recv(socket.socket(), 1),
    lambda: _loop().call_soon_threadsafe(print),
    lambda: _loop().add_reader(0, print),
    lambda: _loop().add_signal_handler(2, print),
    lambda: _loop().connect_read_pipe(asyncio.Protocol, sys.stdin),
    lambda: _loop().shutdown_asyncgens(),
    lambda: _loop().stop(),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("position", range(len(REFUSED)))
def test_input_and_output_of_asyncio_is_refused(position: int) -> None:
    """Whatever of asyncio reaches the outside raises at its line, with the line to write, live as on replay."""

    async def code(proc: Process, trace: list[Any]) -> None:
        await proc.get(1, "begin")
        try:
            result = REFUSED[position]()
            if isinstance(result, Awaitable):
                await result
        except IOOutsideCheckpoint as error:
            trace.append("await proc.do(lambda: the_call(…)" in str(error))
        await proc.get(2, "goes on")

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == [True]
    driver.check_replays()


async def test_a_future_of_the_host_cannot_be_awaited() -> None:
    """A process that awaits a future of the host's loop fails, and its end says what to write in place of that."""
    pending = asyncio.get_running_loop().create_future()
    outcomes: list[Any] = []

    def live() -> None:
        for future in (pending, asyncio.ensure_future(asyncio.sleep(0))):
            driver = Driver(program_of(lambda proc, trace, future=future: _await(future)))  # type: ignore[misc]
            outcomes.append(driver.outcome())

    asyncio.get_running_loop().call_soon(live)
    await asyncio.sleep(0.001)
    for error in outcomes:
        assert isinstance(error, IOOutsideCheckpoint)
        assert "proc.do" in str(error)


async def _await(future: Any) -> Any:
    return await future


def test_an_action_cannot_use_checkpoints() -> None:
    """A checkpoint asked for outside the process function raises, claims no name and makes no command."""
    kept: list[Process] = []

    async def code(proc: Process, trace: list[Any]) -> None:
        kept.append(proc)
        await proc.get(1, "begin")
        trace.append(await proc.do(lambda: 1, "inner"))

    driver = Driver(program_of(code))

    async def action() -> None:
        await kept[0].do(lambda: 1, "inner")

    with pytest.raises(IOOutsideCheckpoint, match=r"'inner'.*outside its process function"):
        asyncio.run(action())
    driver.go()
    assert driver.run.trace == [1]
    driver.check_replays()


def test_two_processes_cannot_share_what_is_waited_for() -> None:
    """Futures, tasks, locks, events and queues on which one process waits fail in another, and never join the two."""
    shared: dict[str, Any] = {}

    async def waits(proc: Process, trace: list[Any]) -> None:
        async def forever() -> None:
            await asyncio.Event().wait()

        shared["future"] = asyncio.get_running_loop().create_future()
        shared["task"] = asyncio.create_task(forever())
        shared["lock"], shared["event"], shared["queue"] = asyncio.Lock(), asyncio.Event(), asyncio.Queue()
        await shared["lock"].acquire()
        await asyncio.gather(shared["lock"].acquire(), shared["event"].wait(), shared["queue"].get(), shared["future"])

    touches: list[Callable[[], Any]] = [
        lambda: shared["event"].set(),
        lambda: shared["queue"].put_nowait(1),
        lambda: shared["lock"].release(),
        lambda: shared["future"].set_result(1),
        lambda: shared["task"].cancel(),
    ]
    awaits: list[Callable[[], Awaitable[Any]]] = [
        lambda: shared["future"],
        lambda: shared["task"],
        lambda: shared["lock"].acquire(),
        lambda: shared["event"].wait(),
        lambda: shared["queue"].get(),
    ]

    async def touching(proc: Process, trace: list[Any], touch: Callable[[], Any]) -> None:
        touch()

    for touch in touches:
        first = Driver(program_of(waits))
        second = Driver(program_of(lambda proc, trace, touch=touch: touching(proc, trace, touch)))  # type: ignore[misc]
        assert isinstance(second.outcome(), IOOutsideCheckpoint)
        assert first.run.execution.outstanding() == []
        first.run.drop()
    for awaited in awaits:
        first = Driver(program_of(waits))
        second = Driver(program_of(lambda proc, trace, awaited=awaited: _await(awaited())))  # type: ignore[misc]
        assert isinstance(second.outcome(), IOOutsideCheckpoint)
        first.run.drop()


def test_another_thread_cannot_reach_in() -> None:
    """A thread that touches a future or the loop of a process while that runs is refused."""
    errors: list[str] = []

    async def code(proc: Process, trace: list[Any]) -> None:
        loop = asyncio.get_running_loop()

        def reach_in() -> None:
            for call in (lambda: loop.call_soon(print), lambda: loop.create_task(asyncio.sleep(0))):
                try:
                    call()
                except IOOutsideCheckpoint as error:
                    errors.append(error.code)

        thread = threading.Thread(target=reach_in)
        thread.start()
        thread.join()

    Driver(program_of(code))
    assert errors == ["D104", "D104"]


async def test_the_host_gets_its_loop_and_hooks_back() -> None:
    """After a step that was broken off, the running loop and the generator hooks are the host's."""
    seen: list[Any] = []

    async def numbers() -> AsyncGenerator[int, None]:
        yield 1

    async def code(proc: Process, trace: list[Any]) -> None:
        await anext(numbers())
        raise KeyboardInterrupt

    def live() -> None:
        before = (asyncio.get_running_loop(), sys.get_asyncgen_hooks())
        with pytest.raises(KeyboardInterrupt):
            Driver(program_of(code))
        seen.append(before == (asyncio.get_running_loop(), sys.get_asyncgen_hooks()))

    asyncio.get_running_loop().call_soon(live)
    await asyncio.sleep(0.001)
    assert seen == [True]


def test_generators_of_a_process_are_unknown_to_the_host() -> None:
    """The host's `shutdown_asyncgens`, at the exit of `asyncio.run`, does not run the `finally` of a process."""
    trace: list[Any] = []
    kept: list[Driver] = []

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            trace.append("finally")

    async def code(proc: Process, _trace: list[Any]) -> None:
        async for _ in numbers():
            await proc.event("never")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: kept.append(Driver(program_of(code))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert trace == []
    kept.pop().run.drop()
    assert trace == []


_variable: ContextVar[str] = ContextVar("_variable", default="unset")


def test_context_variables_of_the_host_are_invisible() -> None:
    """Neither the function, its tasks, callbacks nor the closing of its generators see the host's context."""

    async def numbers(proc: Process, trace: list[Any]) -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            trace.append(("generator", _variable.get(), await proc.get(1, "closed")))

    async def child(trace: list[Any]) -> None:
        trace.append(("child", _variable.get()))
        _variable.set("child")

    async def code(proc: Process, trace: list[Any]) -> None:
        trace.append(("function", _variable.get()))
        _variable.set("function")
        await asyncio.create_task(child(trace))
        asyncio.get_running_loop().call_soon(lambda: trace.append(("callback", _variable.get())))
        await anext(numbers(proc, trace))
        await proc.get(2, "after")
        trace.append(("function", _variable.get()))

    token = _variable.set("host")
    try:
        driver = Driver(program_of(code))
        driver.go()
    finally:
        _variable.reset(token)
    assert driver.run.trace == [
        ("function", "unset"),
        ("child", "function"),
        ("callback", "function"),
        ("function", "function"),
        ("generator", "unset", 1),
    ]
    driver.check_replays()


def test_waiting_for_futures_without_a_determined_order_is_refused() -> None:
    """`wait` refuses what `gather` returns beside others, since its sets would have another order on every run."""

    async def code(proc: Process, trace: list[Any]) -> None:
        both = asyncio.gather(proc.get(1, "a"), proc.get(2, "b"))
        try:
            await asyncio.wait([both, asyncio.create_task(proc.get(3, "c"))])  # type: ignore[type-var]
        except InvalidAction:
            trace.append("refused")
        done, _ = await asyncio.wait([both])
        trace.append([future.result() for future in done])

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == ["refused", [[1, 2]]]
    driver.check_replays()


def test_a_coroutine_in_place_of_an_action_is_refused_with_the_line_to_write() -> None:
    """`do` and `get` refuse a coroutine object, and claim no name for it."""

    async def work() -> None: ...

    async def code(proc: Process, trace: list[Any]) -> None:
        for method in (proc.do, proc.get):
            try:
                await method(work(), "name")  # type: ignore[call-overload]
            except InvalidAction as error:
                trace.append("await proc.do(lambda: " in str(error))
        await proc.get(1, "name")

    driver = Driver(program_of(code))
    driver.go()
    assert driver.run.trace == [True, True]
    assert driver.names(Kind.VALUE) == ["name"]
