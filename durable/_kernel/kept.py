"""What a process function keeps of some things it asked for: a child it started, a limit of time."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import TracebackType
from typing import Generic, TypeVar

from durable._kernel.execution import Execution

R = TypeVar("R", covariant=True)


class Child(Generic[R]):
    """
    A process that this one has started; what `Process.start` gives.

    Attributes:
        id: Its id, by which everybody else finds it too.
    """

    __slots__ = ("_execution", "_name", "id")

    def __init__(self, execution: Execution, name: str, id: str) -> None:
        self._execution = execution
        self._name = name
        self.id = id

    def __repr__(self) -> str:
        return f"<child process {self.id!r}>"

    async def result(self) -> R:
        """
        Wait until the child has ended, and return what its function returned; as often as wanted.

        If the waiting is cancelled, the child is cancelled, and this goes on waiting until it has ended; put
        `asyncio.shield` around it to wait without that. A detached child is left alone.

        Durability: How the child ended is in the journal of this process before this returns or raises.
        Raises:
            Exception: What the child raised, as its own type if that survives the journal, else `ProcessFailed`; a note
                of it names the child.
            ProcessCancelled: Somebody else cancelled the child (`ProcessTimedOut`: its own timeout did).
            ProcessTerminated: Somebody terminated the child.
            asyncio.CancelledError: This process or task was cancelled; an attached child has ended by then.
        """
        result: R = await self._execution.wait_child(self._name)
        return result

    async def _result_once(self) -> R:
        """As `result`, for `Process.call`, where nobody can ask again."""
        result: R = await self._execution.wait_child(self._name, once=True)
        return result


class Timeout:
    """What `Process.timeout` gives: an async context manager around `asyncio.timeout` with a named, durable timer."""

    __slots__ = ("_ask", "_execution", "_length", "_name", "_timeout")

    def __init__(self, execution: Execution, name: str, length: timedelta | datetime) -> None:
        self._execution = execution
        self._name = name
        self._length = length
        self._timeout = asyncio.timeout(None)

    def expired(self) -> bool:
        """Whether the time was over before the block ended."""
        return self._timeout.expired()

    async def __aenter__(self) -> Timeout:
        await self._timeout.__aenter__()
        self._ask = self._execution.set_timer("timeout", self._name, self._length)
        self._ask.add_done_callback(self._expire)
        if self._execution.stalled is not None:
            await self._ask  # for ever: the journal holds another kind of checkpoint, and no code may run after that
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ask.remove_done_callback(self._expire)
        self._ask.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _expire(self, _ask: object) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time())
