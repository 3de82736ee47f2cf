"""
Doing something on a connection without a task, and taking turns without one.

A task costs a turn of the loop when it ends, and what waits for a batch is fed from a plain callback, never inside a
task. So the one call of the hot path is stepped from callbacks. It awaits nothing but futures of the driver; whatever
may take longer (connecting, waiting for a turn, asking again) is done in a task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


def run_directly(coroutine: Coroutine[Any, Any, Any], ended: Callable[[Any, BaseException | None], object]) -> None:
    """
    Run *coroutine*, now up to its first wait.

    *ended* hears its result or error in the turn of the loop in which it ends, but never before this has returned.
    """

    def step(waited_for: object) -> None:
        result, error = None, None
        try:
            awaited = coroutine.send(None)
        except StopIteration as end:
            result = end.value
        except (Exception, asyncio.CancelledError) as failure:
            error = failure
        else:
            awaited._asyncio_future_blocking = False  # what a task does, too, with the future it is given
            awaited.add_done_callback(step)
            return
        if waited_for is None:
            asyncio.get_running_loop().call_soon(ended, result, error)
        else:
            ended(result, error)

    step(None)


class Turn:
    """A lock that can also be taken without waiting, from a plain callback; first come, first served."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take it, if it is free."""
        if self._taken:
            return False
        self._taken = True
        return True

    async def wait(self) -> None:
        """Take it as soon as it is free."""
        if self.take():
            return
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give it to who has waited longest."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(None)
                return
        self._taken = False
