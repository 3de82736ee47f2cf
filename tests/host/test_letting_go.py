"""Letting go of waiting processes: nothing of them runs, their memory is freed, and the exit of Python runs nothing."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
import sys
import textwrap
import weakref
from collections.abc import AsyncGenerator, Iterator
from functools import partial

import pytest

from durable._host.freeing import frame_state, letting_go
from durable._host.freeing.reachability import LIMIT
from tests.host.shapes import SHAPES, Shape, forever, process, wait
from tests.host.waiting import Waiting, Witness


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Fail a test during which an error or a warning came up where nobody could catch it."""
    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    yield seen
    gc.collect()
    assert seen == []


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as on an interpreter whose frames cannot be finished."""
    monkeypatch.setattr(frame_state, "offset", lambda: None)


def test_this_interpreter_can_drop() -> None:
    """On every interpreter we test with, a suspended process can be freed without running it."""
    assert letting_go.can_drop()


def test_self_test_notices_that_finishing_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the byte had no effect, the self-test would see the `finally` of its sample and nothing would be dropped."""
    at = frame_state.offset()
    assert at is not None
    monkeypatch.setattr(frame_state, "_set_completed", lambda owner, at: None)
    assert not frame_state._finishing_works(at)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_no_line_of_a_dropped_process_runs_and_its_memory_is_freed(
    shape: Shape, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a process waits in, dropping it runs no `finally`, `with` or `except`, frees its locals, is silent."""
    witness = Witness()
    waiting = Waiting(partial(process, shape, witness))
    assert waiting.tasks()
    assert witness.alive
    assert waiting.obstacle() is None
    waiting.drop()
    waiting.give_up()
    gc.collect()
    assert witness.ran == []
    assert witness.alive == 0
    assert not waiting.unhandled_contexts
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_without_dropping_the_same_process_would_have_been_unwound(shape: Shape) -> None:
    """Every shape does have something to run: simply forgetting such a process runs it, so the test above can fail."""
    witness = Witness()
    waiting: Waiting | None = Waiting(partial(process, shape, witness))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda unraisable: None)
        waiting = None  # noqa: F841
        gc.collect()
    assert witness.ran


def test_an_ordinary_process_is_freed_without_the_garbage_collector() -> None:
    """Cycles between tasks, futures and frames are broken, so that memory does not wait for a full collection."""
    witness = Witness()
    names = {"future", "timeout", "task_group", "gather", "wait_first_completed", "own_task", "lock_held", "exit_stack"}
    gc.collect()
    gc.disable()
    try:
        for shape in SHAPES:
            if shape.__name__ in names:
                names.remove(shape.__name__)
                waiting = Waiting(partial(process, shape, witness))
                gone = weakref.ref(waiting), weakref.ref(waiting.loop)
                waiting.drop()
                del waiting
                assert witness.alive == 0, shape.__name__
                assert (gone[0](), gone[1]()) == (None, None), shape.__name__
    finally:
        gc.enable()
    assert not names


def test_a_process_that_is_too_large_to_be_parked_is_freed_when_it_is_let_go_of() -> None:
    """Where it would stay in memory for ever otherwise, more is looked at than while it waits."""
    witness = Witness()

    async def hold() -> None:
        held: list[list[object]] = [[] for _ in range(LIMIT)]
        await wait(witness)
        del held

    kept, freed = Waiting(hold), Waiting(hold)
    assert "too much to look at" in str(kept.obstacle())
    assert not kept.let_go()
    assert freed.let_go(letting_go.AT_LENGTH)
    kept.give_up()
    freed.give_up()
    gc.collect()
    assert witness.ran == []
    assert (witness.given, witness.alive) == (2, 1)


def test_task_that_has_not_started() -> None:
    """A task whose coroutine never ran is dropped without 'was never awaited'."""
    witness = Witness()
    waiting = Waiting()

    def create() -> None:
        waiting.loop.create_task(process(wait, witness))
        waiting.loop.halt()

    waiting.loop.step(create)
    assert len(waiting.tasks()) == 1
    waiting.drop()
    waiting.give_up()
    assert witness.ran == []


def test_hooks_of_async_generators_are_not_called() -> None:
    """The finalizer hook of the host's loop hears nothing of a generator that was started under it."""
    witness = Witness()
    finalized: list[object] = []

    async def items() -> AsyncGenerator[int, None]:
        with witness:
            yield 1

    async def iterate() -> None:
        sys.set_asyncgen_hooks(finalizer=finalized.append)
        async for _ in items():
            await forever()

    hooks = sys.get_asyncgen_hooks()
    try:
        waiting = Waiting(iterate)
        waiting.drop()
        waiting.give_up()
        gc.collect()
    finally:
        sys.set_asyncgen_hooks(*hooks)
    assert witness.ran == []
    assert finalized == []


def test_a_process_with_an_obstacle_is_not_touched_by_drop() -> None:
    """Dropping against an obstacle raises, and the process can go on as if nothing had been asked."""
    witness = Witness()
    futures: list[asyncio.Future[None]] = []

    class Noticing:
        def __del__(self) -> None:
            witness.ran.append("del")

    async def waits() -> None:
        noticing = Noticing()
        with witness:
            futures.append(forever())
            await futures[0]
        witness.ran.append(f"went on with {type(noticing).__name__}")

    waiting = Waiting(waits)
    with pytest.raises(ValueError, match="Noticing"):
        waiting.drop()
    assert witness.ran == []
    waiting.loop.step(futures[0].set_result, None)
    assert witness.ran == ["exit", "went on with Noticing", "del"]


@pytest.mark.usefixtures("fallback")
def test_where_frames_cannot_be_finished_nothing_is_dropped() -> None:
    """On an unknown interpreter every process has an obstacle, and letting go keeps it instead."""
    witness = Witness()
    waiting = Waiting(partial(process, wait, witness))
    assert not letting_go.can_drop()
    assert waiting.obstacle() == "This interpreter cannot free a suspended function without running it"
    assert not waiting.let_go()
    waiting.give_up()
    del waiting
    gc.collect()
    assert witness.ran == []
    assert witness.alive == witness.given


def test_what_cannot_be_dropped_is_kept_for_ever() -> None:
    """Letting go of a process with a noticing object neither frees the object nor unwinds the process."""
    witness = Witness()

    class Noticing:
        def __del__(self) -> None:
            witness.ran.append("del")

    async def waits() -> None:
        noticing = Noticing()
        await process(wait, witness)
        del noticing

    waiting = Waiting(waits)
    assert not waiting.let_go()
    waiting.give_up()
    del waiting
    gc.collect()
    assert witness.ran == []
    assert witness.alive == witness.given


def test_many_drops_in_any_order_leave_nothing_behind() -> None:
    """Hundreds of processes of every shape, dropped in random order between collections, leave memory flat."""
    chance = random.Random(1)

    def round_of_drops() -> None:
        witness = Witness()
        processes = [Waiting(partial(process, shape, witness)) for shape in SHAPES * 5]
        chance.shuffle(processes)
        for number, waiting in enumerate(processes):
            assert waiting.let_go()
            waiting.give_up()
            if number % 17 == 0:
                gc.collect(chance.randrange(3))
        del processes, waiting
        gc.collect()
        assert witness.ran == []
        assert witness.alive == 0

    round_of_drops()
    blocks = sys.getallocatedblocks()
    for _ in range(3):
        round_of_drops()
    assert sys.getallocatedblocks() - blocks < 500


# --- the exit of the interpreter -----------------------------------------------------------------------------

PROGRAM = """
    import asyncio, atexit, contextlib, sys
    from durable._host.freeing import frame_state, letting_go
    from tests.host import shapes
    from tests.host.waiting import Waiting, Witness

    class Loud(Witness):
        def __exit__(self, *error):
            print("unwound")

    class Noticing:
        def __del__(self):
            print("finalized")

    @contextlib.asynccontextmanager
    async def opened():
        noticing = Noticing() if {noticing} else None
        try:
            yield
        finally:
            print("closed")

    async def waits():
        try:
            async with opened(), asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(shapes.several_of_everything(Loud()))
                for _ in numbers():
                    with Loud():
                        await shapes.forever()
        finally:
            print("finally")

    def numbers():
        try:
            yield 1
        finally:
            print("numbers")

    if {fallback}:
        frame_state.offset = lambda: None

    def stop():
        waiting = Waiting(waits)
        if {let_go}:
            print("let go:", letting_go.let_go(waiting.tasks(), waiting.generators(), waiting.alarms), flush=True)
            waiting.give_up()
        else:
            process.append(waiting)

    process = []

    async def host():
        async def background():
            yield
        async for _ in background():  # a generator of the host, for `shutdown_asyncgens` to close
            break
        asyncio.get_running_loop().call_soon(stop)
        await asyncio.sleep(0)

    asyncio.run(host())
"""


def run_program(*, let_go: bool, fallback: bool, noticing: bool) -> tuple[str, str]:
    program = textwrap.dedent(PROGRAM).format(let_go=let_go, fallback=fallback, noticing=noticing)
    command = [sys.executable, "-X", "dev", "-W", "always", "-c", program]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    return ended.stdout, ended.stderr


@pytest.mark.parametrize("noticing", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_exit_of_the_interpreter_runs_nothing_of_what_was_let_go(fallback: bool, noticing: bool) -> None:
    """Neither the end of `asyncio.run` nor of Python unwinds a process that was let go, dropped or kept."""
    dropped = not fallback and not noticing
    assert run_program(let_go=True, fallback=fallback, noticing=noticing) == (f"let go: {dropped}\n", "")


def test_exit_of_the_interpreter_unwinds_what_was_not_let_go() -> None:
    """The program above does have much to run: not letting go of its process shows it, so the test above can fail."""
    stdout, _stderr = run_program(let_go=False, fallback=False, noticing=True)
    assert {"finally", "numbers", "finalized", "unwound"} <= set(stdout.split())
