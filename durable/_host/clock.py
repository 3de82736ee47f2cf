"""The host's clock: what time it is, and a call when it is later. Tests put another one in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from durable import times

_LONGEST_SLEEP = 3600.0  # seconds; the wall clock may be set meanwhile, so a long wait looks again now and then


class Alarm(Protocol):
    """Something that can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """
    Where a host gets its time from.

    ``is_quiet`` of the host is handed in at `attach`: a clock for tests may jump ahead when nothing runs.
    """

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        ...

    def call_at(self, due: int, callback: Callable[[], object]) -> Alarm:
        """Call *callback* on the running loop once `now` is at least *due*; a little early is allowed."""
        ...

    def attach(self, is_quiet: Callable[[], bool]) -> Alarm:
        """A host starts to live by this clock; cancel the answer when it stops."""
        ...


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> int:
        return times.now()

    def call_at(self, due: int, callback: Callable[[], object]) -> Alarm:
        seconds = min(max(0.0, (due - self.now()) / 1_000_000), _LONGEST_SLEEP)
        return asyncio.get_running_loop().call_later(seconds, callback)

    def attach(self, is_quiet: Callable[[], bool]) -> Alarm:
        return _Nothing()


class _Nothing:
    def cancel(self) -> None:
        pass
