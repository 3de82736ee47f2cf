"""
Programs of random shape: a small tree, drawn by hypothesis, and one async function that runs any such tree.

A node is a tuple: its word, its number in the tree, and what the word takes. The number makes its checkpoint names
unique and shows in the trace, so two runs that made the same choices have the same trace. Whatever a program does
depends on the tree and on what the process gives it, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from datetime import timedelta
from itertools import count
from typing import Any, cast

from hypothesis import strategies as st

from durable._kernel.execution import Execution
from durable._kernel.kept import Child
from durable._kernel.program import Program
from durable.definition import process
from durable.process import Process
from tests.kernel.driver import Choices, Make

EVENTS = ("red", "blue")
Node = tuple[Any, ...]


class Raised(Exception):
    """What a program raises by itself."""


# --- drawing a program -------------------------------------------------------------------------------------

# Half of a program is leaves. The simplest come first: hypothesis shrinks towards them.
_LEAVES: list[Callable[[Choices], Node]] = [
    lambda draw: ("get",),
    lambda draw: ("do",),
    lambda draw: ("do",),
    lambda draw: ("once",),
    lambda draw: ("delay", (1, -1, 0, 5, 60)[draw.pick(5)]),
    lambda draw: ("event", EVENTS[draw.pick(2)], (None, None, 0, 5)[draw.pick(4)]),
    lambda draw: ("sleep", (1, 1, 0, 5, 60)[draw.pick(5)]),
    lambda draw: (("call", "start", "detached", "result", "restart")[draw.pick(5)],),
    lambda draw: (("raise", "same name", "progress", "cancel child", "join")[draw.pick(5)],),
    lambda draw: (("set flag", "wait flag", "put", "take", "leave generator")[draw.pick(5)],),
]


def _part(draw: Choices, depth: int) -> Node:
    return _tree(draw, depth + 1)


def _parts(draw: Choices, depth: int) -> tuple[Node, ...]:
    return tuple(_part(draw, depth) for _ in range(2 + draw.pick(3)))


def _together(draw: Choices, depth: int) -> Node:
    words = ("gather", "gather all", "group", "first", "first and rest", "as completed")
    return (words[draw.pick(6)], _parts(draw, depth))


def _limited(draw: Choices, depth: int) -> Node:
    words = ("timeout", "wait for", "named timeout")
    return (words[draw.pick(3)], (5, 1, 0, 60)[draw.pick(4)], _part(draw, depth))


_BRANCHES: list[Callable[[Choices, int], Node]] = [
    lambda draw, depth: ("sequence", _parts(draw, depth)),
    _together,
    _together,
    _limited,
    lambda draw, depth: (("spawn", "scope", "lock", "shield")[draw.pick(4)], _part(draw, depth)),
    lambda draw, depth: (("recover", "compensate", "finally")[draw.pick(3)], _part(draw, depth), _part(draw, depth)),
    lambda draw, depth: ("branch", _part(draw, depth), _part(draw, depth)),
    lambda draw, depth: ("generate", _parts(draw, depth), draw.pick(4)),
]


def _tree(draw: Choices, depth: int = 0) -> Node:
    if depth == 0:
        return ("each", tuple(_tree(draw, 1) for _ in range(1 + draw.pick(6))))
    if depth == 4 or draw.pick(2) == 0:
        return _LEAVES[draw.pick(len(_LEAVES))](draw)
    return _BRANCHES[draw.pick(len(_BRANCHES))](draw, depth)


def _numbered(node: Any, counter: Iterator[int]) -> Any:
    """The same tree with a number after each word."""
    if not isinstance(node, tuple):
        return node
    if node and isinstance(node[0], str):
        return (node[0], next(counter), *(_numbered(part, counter) for part in node[1:]))
    return tuple(_numbered(part, counter) for part in node)


def grow(numbers: list[int]) -> Node:
    """The program that a list of numbers stands for."""
    return cast(Node, _numbered(_tree(Choices(numbers)), count(1)))


_numbers = st.integers(0, 255)
programs: st.SearchStrategy[Node] = st.lists(_numbers, min_size=30, max_size=120).map(grow)
choices: st.SearchStrategy[list[int]] = st.lists(_numbers, min_size=20, max_size=100)


# --- running it ----------------------------------------------------------------------------------------------


class Shared:
    """What the tasks of one run share, and the trace of what they saw."""

    def __init__(self, trace: list[Any], bare: bool) -> None:
        self.trace = trace
        self.bare = bare
        self.flag = asyncio.Event()
        self.queue: asyncio.Queue[int] = asyncio.Queue()
        self.lock = asyncio.Lock()
        self.children: list[asyncio.Task[Any]] = []
        self.processes: list[Child[int]] = []

    def name(self, word: str, number: int) -> str:
        """A checkpoint name; a *bare* one is the same for every kind of checkpoint."""
        return f"{number % 8}" if self.bare else f"{word} {number}"


def make_program(tree: Node, *, bare: bool = False, **options: Any) -> Make:
    """
    For the driver: a program that runs *tree* and writes what it sees into the trace.

    Args:
        bare: Name checkpoints by few numbers only, so that other trees use the same names for other kinds.
    """

    def make(trace: list[Any]) -> Program:
        def body(execution: Execution, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
            return run(Process(execution), tree, Shared(trace, bare))

        return Program(body, **options)

    return make


async def run(proc: Process, node: Node, shared: Shared) -> Any:
    """Run one node; its end, value or exception, goes into the trace."""
    word, number, *parts = node
    try:
        value = await _WORDS[word](proc, number, shared, *parts)
    except BaseException as error:
        shared.trace.append((word, number, "raised", _told(error)))
        raise
    shared.trace.append((word, number, value))
    return value


def _told(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        return (type(error).__name__, *map(_told, error.exceptions))
    return (type(error).__name__, str(error))


def _told_task(task: asyncio.Future[Any]) -> Any:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else _told(error)


async def _get(proc: Process, number: int, shared: Shared) -> Any:
    return await proc.get(lambda: number, shared.name("get", number))


async def _do(proc: Process, number: int, shared: Shared) -> Any:
    return await proc.do(lambda: number, shared.name("do", number))


async def _once(proc: Process, number: int, shared: Shared) -> Any:
    return await proc.do(lambda: number, shared.name("once", number), at_most_once=True)


async def _delay(proc: Process, number: int, shared: Shared, seconds: int) -> Any:
    return await proc.delay(timedelta(seconds=seconds), shared.name("delay", number)) // timedelta(seconds=1)


async def _event(proc: Process, number: int, shared: Shared, event: str, seconds: int | None) -> Any:
    timeout = None if seconds is None else timedelta(seconds=seconds)
    return await proc.event(event, name=shared.name("event", number), timeout=timeout)


async def _sleep(proc: Process, number: int, shared: Shared, seconds: int) -> Any:
    await asyncio.sleep(seconds)
    return round(asyncio.get_running_loop().time() * 1_000_000)


async def _raise(proc: Process, number: int, shared: Shared) -> Any:
    raise Raised(number)


async def _same_name(proc: Process, number: int, shared: Shared) -> Any:
    return await proc.get(number, "the same name everywhere")


async def _set_flag(proc: Process, number: int, shared: Shared) -> Any:
    shared.flag.set()


async def _wait_flag(proc: Process, number: int, shared: Shared) -> Any:
    await shared.flag.wait()


async def _put(proc: Process, number: int, shared: Shared) -> Any:
    await shared.queue.put(number)


async def _take(proc: Process, number: int, shared: Shared) -> Any:
    return await shared.queue.get()


async def _cancel_child(proc: Process, number: int, shared: Shared) -> Any:
    return shared.children[0].cancel() if shared.children else None


async def _join(proc: Process, number: int, shared: Shared) -> Any:
    return await shared.children.pop(0) if shared.children else None


@process
async def child(proc: Process, number: int) -> int:
    """What programs start; its journal is its own, so here it only has to be there."""
    return number


async def _call(proc: Process, number: int, shared: Shared) -> Any:
    return await proc.call(child(number), shared.name("call", number))


async def _start(proc: Process, number: int, shared: Shared) -> Any:
    shared.processes.append(await proc.start(child(number), shared.name("start", number)))
    return shared.processes[-1].id


async def _detached(proc: Process, number: int, shared: Shared) -> Any:
    shared.processes.append(await proc.start(child(number), shared.name("detached", number), detached=True))
    return shared.processes[-1].id


async def _result(proc: Process, number: int, shared: Shared) -> Any:
    return await shared.processes[number % len(shared.processes)].result() if shared.processes else None


async def _restart(proc: Process, number: int, shared: Shared) -> Any:
    await proc.restart(child(number))


async def _progress(proc: Process, number: int, shared: Shared) -> Any:
    proc.progress(number, 100, "working")


async def _leave_generator(proc: Process, number: int, shared: Shared) -> Any:
    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield number
        finally:
            shared.trace.append(("generator closed", number, await proc.get(number, f"closed {number}")))

    return await anext(numbers())


async def _sequence(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    return [await run(proc, part, shared) for part in parts]


async def _each(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    seen = []
    for part in parts:
        try:
            seen.append(await run(proc, part, shared))
        except Exception as error:
            seen.append(_told(error))
    return seen


async def _gather(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    return await asyncio.gather(*(run(proc, part, shared) for part in parts))


async def _gather_all(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    outcomes = await asyncio.gather(*(run(proc, part, shared) for part in parts), return_exceptions=True)
    return [_told(outcome) if isinstance(outcome, BaseException) else outcome for outcome in outcomes]


async def _group(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(proc, part, shared)) for part in parts]
    return [task.result() for task in tasks]


async def _first(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    tasks = [asyncio.create_task(run(proc, part, shared)) for part in parts]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:  # in the order of the set
        task.cancel()
    return [_told_task(task) for task in done]


async def _first_and_rest(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    tasks = [asyncio.create_task(run(proc, part, shared)) for part in parts]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    shared.trace.append(("first of", number, [tasks.index(task) for task in done]))
    if pending:
        await asyncio.wait(pending)
    return [_told_task(task) for task in tasks]


async def _as_completed(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...]) -> Any:
    seen = []
    for next_done in asyncio.as_completed([run(proc, part, shared) for part in parts]):
        try:
            seen.append(await next_done)
        except Exception as error:
            seen.append(_told(error))
    return seen


async def _timeout(proc: Process, number: int, shared: Shared, seconds: int, inner: Node) -> Any:
    async with asyncio.timeout(seconds):
        return await run(proc, inner, shared)


async def _wait_for(proc: Process, number: int, shared: Shared, seconds: int, inner: Node) -> Any:
    return await asyncio.wait_for(run(proc, inner, shared), seconds)


async def _named_timeout(proc: Process, number: int, shared: Shared, seconds: int, inner: Node) -> Any:
    async with proc.timeout(timedelta(seconds=seconds), shared.name("timeout", number)):
        return await run(proc, inner, shared)


async def _spawn(proc: Process, number: int, shared: Shared, inner: Node) -> Any:
    shared.children.append(asyncio.create_task(run(proc, inner, shared)))


async def _scope(proc: Process, number: int, shared: Shared, inner: Node) -> Any:
    return await run(proc.scope(f"scope {number}"), inner, shared)


async def _lock(proc: Process, number: int, shared: Shared, inner: Node) -> Any:
    async with shared.lock:
        return await run(proc, inner, shared)


async def _shield(proc: Process, number: int, shared: Shared, inner: Node) -> Any:
    return await asyncio.shield(run(proc, inner, shared))


async def _recover(proc: Process, number: int, shared: Shared, inner: Node, otherwise: Node) -> Any:
    try:
        return await run(proc, inner, shared)
    except Exception:
        return await run(proc, otherwise, shared)


async def _compensate(proc: Process, number: int, shared: Shared, inner: Node, undo: Node) -> Any:
    try:
        return await run(proc, inner, shared)
    except BaseException:
        await run(proc, undo, shared)
        raise


async def _finally(proc: Process, number: int, shared: Shared, inner: Node, last: Node) -> Any:
    try:
        return await run(proc, inner, shared)
    finally:
        await run(proc, last, shared)


async def _branch(proc: Process, number: int, shared: Shared, even: Node, odd: Node) -> Any:
    return await run(proc, odd if len(shared.trace) % 2 else even, shared)


async def _generate(proc: Process, number: int, shared: Shared, parts: tuple[Node, ...], leave_at: int) -> Any:
    async def values() -> AsyncGenerator[Any, None]:
        try:
            for part in parts:
                yield await run(proc, part, shared)
        finally:
            shared.trace.append(("closed", number))

    seen = []
    async for value in values():
        seen.append(value)
        if len(seen) == leave_at:
            break
    return seen


_WORDS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "as completed": _as_completed,
    "branch": _branch,
    "call": _call,
    "cancel child": _cancel_child,
    "compensate": _compensate,
    "delay": _delay,
    "detached": _detached,
    "do": _do,
    "each": _each,
    "event": _event,
    "finally": _finally,
    "first": _first,
    "first and rest": _first_and_rest,
    "gather": _gather,
    "gather all": _gather_all,
    "generate": _generate,
    "get": _get,
    "group": _group,
    "join": _join,
    "leave generator": _leave_generator,
    "lock": _lock,
    "named timeout": _named_timeout,
    "once": _once,
    "progress": _progress,
    "put": _put,
    "raise": _raise,
    "recover": _recover,
    "restart": _restart,
    "result": _result,
    "same name": _same_name,
    "scope": _scope,
    "sequence": _sequence,
    "set flag": _set_flag,
    "shield": _shield,
    "sleep": _sleep,
    "spawn": _spawn,
    "start": _start,
    "take": _take,
    "timeout": _timeout,
    "wait flag": _wait_flag,
    "wait for": _wait_for,
}
