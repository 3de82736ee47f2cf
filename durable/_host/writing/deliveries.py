"""
Telling what became of batches: in their order, and in slices, so that the loop stays free and the next batch commits
meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic

from durable._host.writing.collector import Collector

_SLICE = 0.02  # seconds of delivery before other callbacks of the loop get their turn


class Deliveries:
    """
    Iterators that each tell one process or caller with every step.

    Args:
        finished: Called when all that was added has been told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, collector: Collector, finished: Callable[[], object]) -> None:
        self._loop = loop
        self._collector = collector
        self._finished = finished
        self._waiting: deque[tuple[Iterator[None], Callable[[], object]]] = deque()
        self._pumping = False

    def is_empty(self) -> bool:
        """Whether everything is told."""
        return not self._waiting

    def add(self, delivery: Iterator[None], cut_short: Callable[[], object]) -> None:
        """
        Tell all of it, now if nothing else is being told; *cut_short* is called if that is not possible any more.

        Never call it inside a task: it steps process code.
        """
        self._waiting.append((delivery, cut_short))
        if not self._pumping:
            self._pump()

    def clear(self) -> None:
        """Cut short what has not been told."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for _, cut_short in waiting:
            cut_short()

    def _pump(self) -> None:
        self._pumping = True
        self._collector.pause()
        finished = False
        try:
            finished = self._deliver_slice(monotonic() + _SLICE)
        finally:  # an interrupt goes its way, out of the loop; if that runs again, so do deliveries
            if not finished:
                self._loop.call_soon(self._pump)
        if finished:
            self._pumping = False
            self._finished()

    def _deliver_slice(self, until: float) -> bool:
        """Deliver until that moment; whether everything is delivered."""
        waiting = self._waiting
        while waiting:
            delivery, _ = waiting[0]
            for _ in delivery:
                if monotonic() > until:
                    return False
            if waiting:  # a delivery may have closed the writer
                waiting.popleft()
        return True
