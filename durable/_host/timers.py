"""All timers of a host on one heap, and one call of the clock for the earliest."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from durable._host.clock import Alarm, Clock

_COMPACT_FROM = 1000  # cancelled timers stay on the heap until there are this many and they are half of it


class Timer:
    """One entry; ordered by due time, then by age."""

    __slots__ = ("_args", "_function", "_number", "_timers", "due")

    def __init__(self, timers: Timers, due: int, number: int, function: Callable[..., object], args: tuple[Any, ...]):
        self._timers = timers
        self.due = due
        self._number = number
        self._function: Callable[..., object] | None = function
        self._args = args

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self._number) < (other.due, other._number)

    def cancel(self) -> None:
        """Never call it; harmless if it was called already."""
        if self._function is not None:
            self._function = None
            self._args = ()
            self._timers._count_cancelled()

    def _go(self) -> bool:
        function, args = self._function, self._args
        self._function = None
        if function is None:
            return False
        function(*args)
        return True


class Timers:
    """A heap of `Timer`s on a clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._number = 0
        self._cancelled = 0
        self._alarm: Alarm | None = None
        self._alarm_due: int | None = None

    def add(self, due: int, function: Callable[..., object], *args: Any) -> Timer:
        """Call *function* with *args* from the loop once the clock has reached *due*."""
        self._number += 1
        timer = Timer(self, due, self._number, function, args)
        heappush(self._heap, timer)
        if self._alarm_due is None or due < self._alarm_due:
            self._arm()
        return timer

    def close(self) -> None:
        """Call nothing any more."""
        self._heap.clear()
        if self._alarm is not None:
            self._alarm.cancel()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = self._alarm_due = None
        if self._heap:
            self._alarm_due = self._heap[0].due
            self._alarm = self._clock.call_at(self._alarm_due, self._ring)

    def _ring(self) -> None:
        self._alarm = self._alarm_due = None
        now = self._clock.now()
        while self._heap and self._heap[0].due <= now:
            if not heappop(self._heap)._go():
                self._cancelled -= 1
        if self._alarm is None:
            self._arm()

    def _count_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [timer for timer in self._heap if timer._function is not None]
            heapify(self._heap)
            self._cancelled = 0
