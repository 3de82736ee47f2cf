"""`Answer`: how a provider may answer a commit without a task, and without a turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class Answer(asyncio.Future[_T]):
    """
    A future whose `listener` hears of the outcome in the very turn of the loop in which it arrives.

    The callbacks of a plain future come a turn later, and each turn costs a look at the selector.
    """

    listener: Callable[[Answer[_T]], object] | None = None

    def settle(self, outcome: _T | None, error: BaseException | None) -> None:
        """Take the outcome, or the error, unless the answer is no longer wanted; call on the loop's own thread."""
        if self.done():
            return
        if error is None:
            self.set_result(outcome)  # type: ignore[arg-type]  # None is the outcome of who returns None
        else:
            self.set_exception(error)
        # Whoever settled it may hold the answer for a while; not what the listener holds.
        listener, self.listener = self.listener, None
        if listener is not None:
            listener(self)
