"""
`ManualClock`: time for tests. It stands still until the test moves it, or jumps to whatever is due next.

Hosts count processes, timers and pauses on it; leases and the writing of records stay on real time, because they
deal with the machine and not with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

from durable.times import moment, to_microseconds

_LOOK_EVERY = 0.001  # real seconds between two looks at whether the hosts are quiet
_LOOKS = 2  # quiet at so many looks in a row is quiet: the code that awaits a host had its turn in between


class ManualClock:
    """
    A clock that a test moves: ``ProcessHost(url, definitions, clock=ManualClock())``.

    Give the same clock to every host and client of a test, all on one event loop. It outlives them, as time does: a
    host that is opened later, on the same store, goes on at the time the last one stopped.

    Args:
        start: The time it shows first; an aware datetime.
        autojump: Jump to the next due time by itself whenever no host has anything to do. A year of delays then takes
            as long as its actions do. Leave it off where the test acts between two due times, and call `advance`.

    Raises:
        ValueError: *start* is a naive datetime.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), *, autojump: bool = False) -> None:
        if start.tzinfo is None:
            raise ValueError("ManualClock starts at an aware datetime: `datetime(…, tzinfo=UTC)`")
        self._now = to_microseconds(start)
        self._autojump = autojump
        self._alarms: list[_Alarm] = []
        self._count = 0
        self._hosts: dict[_Host, None] = {}
        self._advancing = False
        self._quiet_looks = 0
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def time(self) -> datetime:
        """What time it is, in UTC."""
        return moment(self._now)

    async def advance(self, length: timedelta) -> None:
        """
        Move time on by *length*, stopping at everything that is due on the way.

        At each stop, and at the end, it waits until every host is quiet. So a process that waits for a month and then
        for eleven has done all of it after one call with a year.

        Args:
            length: Zero or more; zero only waits until every host is quiet.

        Raises:
            ValueError: *length* is negative: time does not go back.
        """
        end = self._now + _positive(length)
        self._advancing = True
        try:
            await self._rest()
            while (due := self._earliest()) is not None and due <= end:
                self._go_to(due)
                await self._rest()
            self._now = max(self._now, end)
        finally:
            self._advancing = False

    def jump(self, length: timedelta) -> None:
        """
        Move time on by *length* at once, waiting for nothing: for the timeout of an action that never ends by itself.

        Raises:
            ValueError: *length* is negative.
        """
        self._go_to(self._now + _positive(length))

    # --- what a host needs of a clock ---

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return self._now

    def call_at(self, due: int, callback: Callable[[], object]) -> _Alarm:
        """Call *callback* on the running loop once `now` is at least *due*."""
        self._count += 1
        alarm = _Alarm(due, self._count, callback)
        if due <= self._now:
            alarm.ring(asyncio.get_running_loop())
        else:
            heappush(self._alarms, alarm)
        return alarm

    def attach(self, is_quiet: Callable[[], bool]) -> _Host:
        """A host starts to live by this clock; cancel the answer when it stops."""
        host = _Host(self, is_quiet)
        self._hosts[host] = None
        if self._autojump and self._next_look is None:
            self._look_again()
        return host

    def _detach(self, host: _Host) -> None:
        self._hosts.pop(host, None)
        if not self._hosts and self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    # --- moving ---

    def _is_quiet(self) -> bool:
        return all(host.is_quiet() for host in self._hosts)

    def _earliest(self) -> int | None:
        while self._alarms and self._alarms[0].cancelled:
            heappop(self._alarms)
        return self._alarms[0].due if self._alarms else None

    def _go_to(self, moment: int) -> None:
        loop = asyncio.get_running_loop()
        self._now = max(self._now, moment)
        while (due := self._earliest()) is not None and due <= self._now:
            heappop(self._alarms).ring(loop)

    async def _rest(self) -> None:
        looks = 0
        while looks < _LOOKS:
            await asyncio.sleep(_LOOK_EVERY)
            looks = looks + 1 if self._is_quiet() else 0

    def _look_again(self) -> None:
        self._next_look = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._look_again()
        self._quiet_looks = self._quiet_looks + 1 if self._is_quiet() and not self._advancing else 0
        if self._quiet_looks >= _LOOKS and (due := self._earliest()) is not None:
            self._quiet_looks = 0
            self._go_to(due)


def _positive(length: timedelta) -> int:
    if length < timedelta(0):
        raise ValueError(f"Time does not go back, and was told to move by {length}")
    return length // timedelta(microseconds=1)


class _Alarm:
    """One callback with its due time; ordered by that, then by age."""

    __slots__ = ("_callback", "_number", "cancelled", "due")

    def __init__(self, due: int, number: int, callback: Callable[[], object]) -> None:
        self.due = due
        self.cancelled = False
        self._number = number
        self._callback = callback

    def __lt__(self, other: _Alarm) -> bool:
        return (self.due, self._number) < (other.due, other._number)

    def cancel(self) -> None:
        """Never call it; harmless if it was called already."""
        self.cancelled = True

    def ring(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon(self._call)

    def _call(self) -> None:
        if not self.cancelled:
            self._callback()


class _Host:
    """A host that lives by the clock."""

    __slots__ = ("_clock", "is_quiet")

    def __init__(self, clock: ManualClock, is_quiet: Callable[[], bool]) -> None:
        self._clock = clock
        self.is_quiet = is_quiet

    def cancel(self) -> None:
        """It does so no longer."""
        self._clock._detach(self)
