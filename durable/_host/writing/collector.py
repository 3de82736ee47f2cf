"""
Less garbage collection while a host is busy.

Stepping thousands of processes makes many objects that live on and hardly any that die in cycles, which is what
Python's collector is worst at: it walked all processes again and again and took half the time of a large batch. So it
is paused while batches are on their way, and let through every two seconds.
"""

from __future__ import annotations

import asyncio
import gc

_PAUSE = 2.0  # longest seconds without any collection


class Collector:
    """The collector as one writer sees it; an application that has switched it off itself is left alone."""

    _pausing = 0  # writers of this OS process that pause it now

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def pause(self) -> None:
        """A batch is on its way: no collection for the next while."""
        if self._timer is None and not self._closed and (gc.isenabled() or Collector._pausing):
            Collector._pausing += 1
            gc.disable()
            self._timer = self._loop.call_later(_PAUSE, self.resume)

    def resume(self) -> None:
        """Let a collection through; the next `pause` ends it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            Collector._pausing -= 1
            if not Collector._pausing:
                gc.enable()

    def close(self) -> None:
        """Pause it no more: the loop may end before the pause is over, and it would stay off for ever."""
        self._closed = True
        self.resume()
