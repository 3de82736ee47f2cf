"""Taking claimed processes in: one after the other, in slices, and none of them in the way of another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from durable.storage import Claim

_SLICE = 0.02  # seconds of replay before other callbacks of the loop get their turn


class Adoption:
    """
    Replays what was claimed.

    Args:
        adopt: Takes in one process; whatever it raises is an interrupt of the whole program.
        is_wanted: Whether to go on with the rest.
    """

    def __init__(self, adopt: Callable[[Claim], object], is_wanted: Callable[[], bool]) -> None:
        self._adopt = adopt
        self._is_wanted = is_wanted
        self._loop = asyncio.get_running_loop()
        self._running = 0

    def is_quiet(self) -> bool:
        """Whether nothing is being taken in."""
        return not self._running

    async def adopt(self, claims: Sequence[Claim]) -> None:
        """Take all of them in; returns when that is done."""
        done = self._loop.create_future()
        self._running += 1
        # From a plain callback, in slices: process code is never stepped inside a task.
        self._loop.call_soon(self._adopt_slice, iter(claims), done)
        try:
            await done
        finally:
            self._running -= 1

    def _adopt_slice(self, claims: Iterator[Claim], done: asyncio.Future[None]) -> None:
        until = monotonic() + _SLICE
        finished = False
        try:
            for claim in claims:
                if not self._is_wanted():
                    break
                self._adopt(claim)
                if monotonic() > until:
                    return
            finished = True
        finally:  # an interrupt goes its way, out of the loop; if that runs again, so does the rest
            if not finished:
                self._loop.call_soon(self._adopt_slice, claims, done)
            elif not done.done():
                done.set_result(None)
