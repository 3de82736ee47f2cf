"""`run`: one process from a plain program, start to end, with Ctrl-C as its cancellation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypedDict, TypeVar, Unpack

from durable._host.clock import Clock
from durable._host.options import check_invocation
from durable.codec import Codec
from durable.errors import ProcessEnded
from durable.handle import Handle, ProcessStatus
from durable.host import ProcessHost
from durable.housekeeping import Retention
from durable.invocation import AnyDefinition, Invocation
from durable.observer import Observer

R = TypeVar("R")


class HostOptions(TypedDict, total=False):
    """What `ProcessHost` takes beside its store and its definitions; explained there."""

    queues: Collection[str] | None
    name: str | None
    lease: timedelta
    limit: int
    max_pending: int | None
    park_after: timedelta
    threads: int
    grace: timedelta
    codec: Codec | None
    payload_limit: int
    clock: Clock | None
    retention: Retention | None
    observer: Observer | None


def run(
    invocation: Invocation[R],
    *,
    id: str,
    url: str = "sqlite:///durable.db",
    definitions: Iterable[AnyDefinition] = (),
    watch: Callable[[ProcessStatus], object] | None = None,
    **options: Unpack[HostOptions],
) -> R:
    """
    Run one process to its end, or go on with it if a run before this one was interrupted; return its result.

    Ctrl-C cancels the process, which may compensate; a second Ctrl-C leaves at once, and the next `run` goes on.

    Args:
        id: The id of the process: the same id is the same process, also when this program starts again.
        url: The store, as for `ProcessHost`.
        definitions: Process functions the store may hold beside the one that is run, such as its children.
        watch: Called with every change of status or progress, as `Handle.watch` gives them: for a progress bar.
        options: Further arguments of `ProcessHost`: ``queues``, ``limit``, ``grace``, ….

    Raises:
        Exception: As `Handle.result`; `ProcessCancelled` after Ctrl-C.
        ProcessExists: The id is taken by a process of another definition or with other arguments.
        InvalidDefinition: *invocation* is something else; or as `ProcessHost`.
        UnknownScheme, MissingExtra, StorageError: As `ProcessHost` and entering it.
        RuntimeError: An event loop is running here; use `ProcessHost` inside it.
    """
    check_invocation(invocation, "run")
    return asyncio.run(_run(invocation, id, url, definitions, watch, options))


async def _run(
    invocation: Invocation[R],
    id: str,
    url: str,
    definitions: Iterable[AnyDefinition],
    watch: Callable[[ProcessStatus], object] | None,
    options: HostOptions,
) -> R:
    known = {definition.name: definition for definition in (*definitions, invocation.definition)}
    async with ProcessHost(url, known.values(), **options) as host:
        handle = await host.start(invocation, id=id)
        with _cancelled_by_interrupt(handle):
            if watch is not None:
                async for status in handle.watch():
                    watch(status)
            return await handle.result()


@contextmanager
def _cancelled_by_interrupt(handle: Handle[Any]) -> Any:
    """The first SIGINT cancels the process; the second one does what it always does."""
    loop = asyncio.get_running_loop()
    asked: set[asyncio.Task[None]] = set()

    def interrupted() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        asked.add(asyncio.ensure_future(_cancel(handle)))

    try:
        loop.add_signal_handler(signal.SIGINT, interrupted)
    except (NotImplementedError, RuntimeError):  # not the main thread, or no such signals here: nothing to catch
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in asked:
            task.cancel()


async def _cancel(handle: Handle[Any]) -> None:
    with suppress(ProcessEnded):  # it was over in the same moment
        await handle.cancel("interrupted from the keyboard")
