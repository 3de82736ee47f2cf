"""What ends a program in the middle, or is raised where nobody expects it, is no reason to forget or fail a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from durable import (
    Invocation,
    MessagePackCodec,
    Process,
    ProcessHost,
    Retry,
    Status,
    StepError,
    StepInterrupted,
    process,
)

SOON = timedelta(seconds=20)


class Odd(BaseException):
    """Neither an `Exception` nor one of those that end a program."""


class Program:
    """What the processes of a test do differently in its first run."""

    def __init__(self) -> None:
        self.runs = 0

    def definitions(self) -> list[Callable[[], Invocation[str]]]:
        @process
        async def works(proc: Process) -> str:
            return await proc.do(self.work, "work")

        @process
        async def works_once(proc: Process) -> str:
            try:
                return await proc.do(self.work, "work", at_most_once=True)
            except StepInterrupted:
                return "nobody knows"

        @process
        async def leaves(proc: Process) -> str:
            return await proc.do(self.leave, "leave")

        return [works, works_once, leaves]

    async def work(self) -> str:
        if self.runs == 1:
            await asyncio.Event().wait()
        return "worked"

    async def leave(self) -> str:
        if self.runs == 1:
            raise SystemExit(3)
        return "stayed"

    async def run(self, url: str) -> list[str]:
        self.runs += 1
        works, works_once, leaves = definitions = self.definitions()
        async with ProcessHost(url, definitions) as host:  # type: ignore[arg-type]
            handles = [await host.start(works(), id="a"), await host.start(works_once(), id="b")]
            handles.append(await host.start(leaves(), id="c"))
            return [await handle.result(SOON) for handle in handles]


def test_actions_that_were_cut_off_with_their_program_have_not_failed(url: str) -> None:
    """asyncio cancels all tasks where a program ends by an interrupt: actions among them run again, none has failed."""
    program = Program()
    with pytest.raises(SystemExit):
        asyncio.run(program.run(url))
    assert asyncio.run(program.run(url)) == ["worked", "nobody knows", "stayed"]


@pytest.mark.parametrize("odd", [Odd, asyncio.CancelledError, GeneratorExit])
async def test_whatever_a_function_given_to_get_raises_is_recorded(url: str, odd: type[BaseException]) -> None:
    """A function that `get` calls and that raises anything but an interrupt has failed, and the process hears of it."""

    def raise_it() -> None:
        raise odd("out of a function")

    @process
    async def takes(proc: Process) -> str:
        try:
            await proc.get(raise_it, "value")
        except StepError as error:
            return str(error.type_name)
        return "nothing"

    async with ProcessHost(url, [takes]) as host:
        handle = await asyncio.wait_for(host.start(takes()), SOON.total_seconds())
        assert odd.__name__ in await handle.result(SOON)


async def test_whatever_the_question_of_a_retry_raises_is_recorded(url: str) -> None:
    """A function that says which errors are worth another attempt, and raises, makes the action fail with that."""

    def fail() -> None:
        raise ValueError("once")

    def raise_odd(error: Exception) -> bool:
        raise Odd("out of a question")

    @process
    async def retries(proc: Process) -> str:
        try:
            await proc.do(fail, "failed", retry=Retry(3, on=raise_odd))
        except StepError as error:
            return str(error.type_name)
        return "nothing"

    async with ProcessHost(url, [retries]) as host:
        assert "Odd" in await (await host.start(retries())).result(SOON)


@pytest.mark.parametrize("where", ["body", "get", "action"])
def test_a_loop_that_runs_on_after_an_interrupt_goes_on_with_the_process(url: str, where: str) -> None:
    """Of an interrupt in the first step `start` hears nothing, and the process goes on if the loop does."""
    interrupts = [KeyboardInterrupt()]

    def interrupted() -> int:
        if interrupts:
            raise interrupts.pop()
        return 7

    async def action() -> int:
        return interrupted()

    @process
    async def goes_on(proc: Process) -> int:
        if where == "get":
            return await proc.get(interrupted, "value")
        return await proc.do(action, "action") if where == "action" else interrupted()

    async def run() -> int:
        async with ProcessHost(url, [goes_on]) as host:
            handle = await asyncio.wait_for(host.start(goes_on(), id="p"), SOON.total_seconds())
            return await handle.result(SOON)

    with asyncio.Runner() as runner:
        running = runner.get_loop().create_task(run())
        with pytest.raises(KeyboardInterrupt):
            runner.get_loop().run_until_complete(running)
        assert runner.get_loop().run_until_complete(running) == 7
        for task in asyncio.all_tasks(runner.get_loop()):  # an action in which the interrupt was raised
            with suppress(KeyboardInterrupt):
                runner.get_loop().run_until_complete(task)


class Refusing(MessagePackCodec):
    """Cannot encode "poison", and while it thinks of that, nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    def encode(self, value: object) -> bytes:
        if value == "poison":
            self.refused = 2
        if self.refused:
            self.refused -= 1
            raise RuntimeError("the codec is out of order")
        return super().encode(value)


@pytest.mark.parametrize("through", ["get", "do"])
async def test_a_failure_that_cannot_be_encoded_stalls_its_own_process(url: str, through: str) -> None:
    """A codec that refuses a value and then its own failure stalls that process, and none that was started with it."""

    @process
    async def poisons(proc: Process) -> str:
        if through == "get":
            return await proc.get("poison", "value")
        return await proc.do(lambda: "poison", "value")

    @process
    async def healthy(proc: Process) -> str:
        return await proc.do(lambda: "well", "value")

    async with ProcessHost(url, [poisons, healthy], codec=Refusing()) as host, asyncio.timeout(SOON.total_seconds()):
        invocations = {"before": healthy(), "poisoned": poisons(), "behind": healthy()}
        await asyncio.gather(*(host.start(invocation, id=id) for id, invocation in invocations.items()))
        async for seen in host.get("poisoned").watch():
            if seen.status is Status.STALLED:
                break
        assert [await host.get(id).result(SOON) for id in ("before", "behind")] == ["well", "well"]
