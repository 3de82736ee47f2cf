"""
Threads for sync actions: the host's own daemon threads, never asyncio's default executor.

The interpreter joins the default executor's threads at exit, so one long sync action would hold the exit of the whole
service; these are simply left behind, and their actions run again elsewhere.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

Answer = Callable[[Any, BaseException | None], object]
_Job = tuple[Context, Callable[[], Any], Answer]


class Threads:
    """Up to *size* threads, started when there is work and no thread is free."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._started = 0
        self._free = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()

    def run(self, context: Context, function: Callable[[], Any], answer: Answer) -> None:
        """Call *function* in *context* on a thread, then ``answer(result, error)`` on the loop."""
        with self._lock:
            if self._free > 0:
                self._free -= 1
            elif self._started < self._size:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        self._jobs.put((context, function, answer))

    def close(self) -> None:
        """Let free threads end; a busy one ends after its action."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            context, function, answer = job
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as raised:
                error = raised
            with self._lock:
                self._free += 1
            try:
                self._loop.call_soon_threadsafe(answer, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody is left to answer to
            del job, context, function, answer, result, error
