"""Processes that wait in every way we know, each inside a `with` or `finally` that must not run when it is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

from tests.host.waiting import Witness

Shape = Callable[[Witness], Coroutine[Any, Any, None]]
SHAPES: list[Shape] = []


def shape(function: Shape) -> Shape:
    SHAPES.append(function)
    return function


def forever() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def wait(witness: Witness) -> None:
    local = witness.local()
    with witness:
        try:
            await forever()
        finally:
            witness.ran.append(f"finally, {local}")


# --- waiting in asyncio --------------------------------------------------------------------------------------


@shape
async def future(witness: Witness) -> None:
    await wait(witness)


@shape
async def sleep(witness: Witness) -> None:
    with witness:
        await asyncio.sleep(3600)


@shape
async def event(witness: Witness) -> None:
    with witness:
        await asyncio.Event().wait()


@shape
async def queue_get(witness: Witness) -> None:
    queue: asyncio.Queue[object] = asyncio.Queue()
    with witness:
        await queue.get()


@shape
async def queue_put(witness: Witness) -> None:
    queue: asyncio.Queue[object] = asyncio.Queue(1)
    await queue.put(witness.local())
    with witness:
        await queue.put(witness.local())


@shape
async def lock(witness: Witness) -> None:
    held = asyncio.Lock()
    await held.acquire()
    async with held:
        witness.ran.append("acquired")


@shape
async def lock_held(witness: Witness) -> None:
    async with asyncio.Lock():
        await wait(witness)


@shape
async def condition(witness: Witness) -> None:
    condition = asyncio.Condition()
    async with condition:
        with witness:
            await condition.wait()


@shape
async def semaphore(witness: Witness) -> None:
    async with asyncio.Semaphore(0):
        witness.ran.append("acquired")


@shape
async def barrier(witness: Witness) -> None:
    with witness:
        await asyncio.Barrier(2).wait()


@shape
async def timeout(witness: Witness) -> None:
    async with asyncio.timeout(3600):
        await wait(witness)


@shape
async def timeout_without_end(witness: Witness) -> None:
    async with asyncio.timeout(None) as limit:
        await wait(witness)
    witness.ran.append(f"left {limit}")


@shape
async def wait_for(witness: Witness) -> None:
    await asyncio.wait_for(wait(witness), 3600)


@shape
async def wait_first_completed(witness: Witness) -> None:
    tasks = [asyncio.create_task(wait(witness)) for _ in range(3)]
    with witness:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=3600)


@shape
async def as_completed(witness: Witness) -> None:
    for next_done in asyncio.as_completed([wait(witness), wait(witness)], timeout=3600):
        with witness:
            await next_done


@shape
async def gather(witness: Witness) -> None:
    with witness:
        await asyncio.gather(wait(witness), wait(witness), forever(), return_exceptions=True)


@shape
async def shield(witness: Witness) -> None:
    with witness:
        await asyncio.shield(wait(witness))


@shape
async def task_group(witness: Witness) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wait(witness))
        group.create_task(wait(witness))


@shape
async def task_group_body(witness: Witness) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wait(witness))
        await wait(witness)


@shape
async def task_group_in_timeout_in_task(witness: Witness) -> None:
    async def part() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(wait(witness))

    with witness:
        await asyncio.create_task(part())


@shape
async def forgotten_task(witness: Witness) -> None:
    task = asyncio.create_task(wait(witness))
    await asyncio.sleep(0)
    del task
    await wait(witness)


@shape
async def own_task(witness: Witness) -> None:
    me = asyncio.current_task()
    await wait(witness)
    witness.ran.append(f"went on in {me}")


@shape
async def failed_task(witness: Witness) -> None:
    async def fail() -> None:
        raise LookupError

    task = asyncio.create_task(fail())
    failed = forever()
    failed.set_exception(LookupError())
    await wait(witness)
    witness.ran.append(f"went on with {task} and {failed}")


@shape
async def done_callback(witness: Witness) -> None:
    local = witness.local()
    waited = forever()
    waited.add_done_callback(lambda done: witness.ran.append(f"{done} {local}"))
    with witness:
        await waited


@shape
async def timer_callback(witness: Witness) -> None:
    numbers = _numbers(witness)
    next(numbers)
    asyncio.get_running_loop().call_later(3600, numbers.close)
    del numbers
    await wait(witness)


# --- frames --------------------------------------------------------------------------------------------------


@shape
async def deep_chain(witness: Witness) -> None:
    async def deeper(levels: int) -> None:
        with witness:
            await (deeper(levels - 1) if levels else wait(witness))

    await deeper(50)


@shape
async def inside_except(witness: Witness) -> None:
    try:
        raise LookupError(witness.local())
    except LookupError:
        await wait(witness)


@shape
async def inside_except_with_name(witness: Witness) -> None:
    try:
        raise LookupError(witness.local())
    except LookupError as error:
        await wait(witness)
        witness.ran.append(f"went on after {error}")


@shape
async def inside_finally(witness: Witness) -> None:
    try:
        raise LookupError(witness.local())
    finally:
        await wait(witness)
        witness.ran.append("rest of finally")


@shape
async def under_broad_handlers(witness: Witness) -> None:
    try:
        try:
            await wait(witness)
        except BaseException:
            witness.ran.append("except BaseException")
            raise
    except:
        witness.ran.append("bare except")
        raise


@shape
async def awaitable_object(witness: Witness) -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            with witness:
                yield from wait(witness).__await__()

    await Awaitable()


@shape
async def generator_based_coroutine(witness: Witness) -> None:
    @types.coroutine
    def based() -> Generator[Any, None, None]:
        with witness:
            yield from forever()

    await based()


@shape
async def created_but_not_awaited(witness: Witness) -> None:
    coroutine, numbers = wait(witness), _numbers(witness)
    await wait(witness)
    witness.ran.append(f"went on with {coroutine} and {numbers}")


@shape
async def recursive_function(witness: Witness) -> None:
    local = witness.local()

    async def again(times: int) -> None:
        with witness:
            await (again(times - 1) if times else wait(witness))
        witness.ran.append(f"went on with {local}")

    await again(3)


# --- context managers ----------------------------------------------------------------------------------------


class _Pending:
    """An async context manager that waits while it is entered, or while it is left."""

    def __init__(self, witness: Witness, entering: bool) -> None:
        self._witness = witness
        self._entering = entering

    async def __aenter__(self) -> None:
        if self._entering:
            await wait(self._witness)

    async def __aexit__(self, *error: object) -> None:
        self._witness.ran.append("aexit")
        if not self._entering:
            self._witness.ran.clear()
            await wait(self._witness)


@shape
async def entering(witness: Witness) -> None:
    async with _Pending(witness, entering=True):
        witness.ran.append("entered")


@shape
async def leaving(witness: Witness) -> None:
    async with _Pending(witness, entering=False):
        pass


@contextlib.asynccontextmanager
async def _opened(witness: Witness) -> AsyncIterator[None]:
    local = witness.local()
    try:
        yield
    finally:
        witness.ran.append(f"closed, {local}")


@shape
async def async_context_manager_open(witness: Witness) -> None:
    async with _opened(witness):
        await wait(witness)


@shape
async def context_manager_open(witness: Witness) -> None:
    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        with witness:
            yield

    with opened():
        await wait(witness)


@shape
async def exit_stack(witness: Witness) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_opened(witness))
        stack.enter_context(witness)
        stack.callback(witness.ran.append, "callback")
        await wait(witness)


# --- generators ----------------------------------------------------------------------------------------------


def _numbers(witness: Witness) -> Generator[int, None, None]:
    local = witness.local()
    try:
        yield 1
        yield 2
    finally:
        witness.ran.append(f"numbers, {local}")


async def _items(witness: Witness, *, waits: bool = False) -> AsyncGenerator[int, None]:
    local = witness.local()
    try:
        yield 1
        if waits:
            await wait(witness)
        yield 2
    finally:
        witness.ran.append(f"items, {local}")


@shape
async def for_over_generator(witness: Witness) -> None:
    for _ in _numbers(witness):
        await wait(witness)


@shape
async def for_over_nested_generators(witness: Witness) -> None:
    def outer() -> Generator[int, None, None]:
        with witness:
            yield from _numbers(witness)

    for _ in zip(map(str, outer()), _numbers(witness), strict=True):
        await wait(witness)


@shape
async def async_for_at_yield(witness: Witness) -> None:
    async for _ in _items(witness):
        await wait(witness)


@shape
async def async_for_waiting(witness: Witness) -> None:
    async for _ in _items(witness, waits=True):
        pass


@shape
async def async_for_waiting_in_anext(witness: Witness) -> None:
    items = _items(witness, waits=True)
    await anext(items, None)
    await anext(items, None)


@shape
async def async_generator_closing(witness: Witness) -> None:
    async def slow_to_close() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await wait(witness)
            witness.ran.append("closed")

    items = slow_to_close()
    await anext(items)
    await items.aclose()


@shape
async def async_generator_left_behind(witness: Witness) -> None:
    async for _ in _items(witness):
        break
    await wait(witness)


@shape
async def async_comprehension(witness: Witness) -> None:
    async def waits(number: int) -> int:
        await wait(witness)
        return number

    witness.ran.append(f"{[await waits(item) async for item in _items(witness)]}")


@shape
async def async_generator_expression(witness: Witness) -> None:
    items = (item async for item in _items(witness, waits=True))
    async for _ in items:
        pass


@shape
async def several_of_everything(witness: Witness) -> None:
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        group.create_task(async_for_at_yield(witness))
        group.create_task(exit_stack(witness))
        for _ in _numbers(witness):
            await asyncio.gather(wait(witness), async_for_waiting(witness), inside_except_with_name(witness))


async def process(shape: Shape, witness: Witness) -> None:
    """Run *shape* the way every test does: with a local, a `with` and a `finally` of its own around it."""
    local = witness.local()
    with witness:
        try:
            await shape(witness)
        finally:
            witness.ran.append(f"end of process, {local}")
