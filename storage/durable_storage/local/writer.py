"""
The writer's thread: one hop per job, in order, for everything that uses the writing connection.

It is a daemon (what was acknowledged is on the disk, so nothing has to be waited for at exit), it answers on the event
loop that asked, and it does what may wait, like checkpoints, only after it has answered.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from durable.storage import Answer

_T = TypeVar("_T")
_Job = tuple[asyncio.AbstractEventLoop, Answer[Any], Callable[[], Any]]


class Writer:
    """
    A thread that runs functions one after another.

    Args:
        name: Name of the thread.
        after: Called on the thread after each answer.
    """

    def __init__(self, name: str, after: Callable[[], None]) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._after = after
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, function: Callable[[], _T]) -> Answer[_T]:
        """
        Run *function* on the thread; the answer has its outcome.

        A caller that is cancelled does not stop it: whether a write happened is for the journal to say.
        """
        loop = asyncio.get_running_loop()
        answer: Answer[_T] = Answer(loop=loop)
        self._jobs.put((loop, answer, function))
        return answer

    def stop(self) -> None:
        """Let the thread end when it has done what it was given."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, answer, function = job
            try:
                outcome, error = function(), None
            except BaseException as raised:
                outcome, error = None, raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
                loop.call_soon_threadsafe(answer.settle, outcome, error)
            # An idle thread must not keep the last batch alive.
            del job, loop, answer, function, outcome, error
            self._after()
