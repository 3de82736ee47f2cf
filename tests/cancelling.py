"""Cancelling whoever waits at a chosen moment: not after some time, but when a coroutine waits for the n-th time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Generator
from typing import Any


async def cancelled_at(moments: Collection[int], coroutine: Coroutine[Any, Any, Any]) -> bool:
    """
    Run *coroutine* in a task that is cancelled each time it waits for one of the *moments*, counted from 0.

    Returns: Whether it ended by being cancelled; it may also have been done before.
    """

    async def run() -> None:
        await _Counted(coroutine, moments)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if task.cancelled():
        return True
    task.result()
    return False


class _Counted:
    def __init__(self, coroutine: Coroutine[Any, Any, Any], moments: Collection[int]) -> None:
        self._coroutine = coroutine
        self._moments = moments

    def __await__(self) -> Generator[Any, None, None]:
        task = asyncio.current_task()
        assert task is not None
        moment, raised = 0, None
        while True:
            try:
                waited_for = self._coroutine.send(None) if raised is None else self._coroutine.throw(raised)
            except StopIteration:
                return
            if moment in self._moments:
                task.cancel()
            moment, raised = moment + 1, None
            try:
                yield waited_for
            except BaseException as error:
                raised = error
