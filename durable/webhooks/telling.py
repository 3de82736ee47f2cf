"""
How a block of a process ended, told by the process itself; `Webhooks.telling` and `Webhooks.notified` make use of it.

Belongs here: what counts as an end, and what is said of it. Not here: whom it is told, and how it gets there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from durable._kernel.execution import Execution
from durable.errors import DurableError, PayloadTooLarge, ProcessExists
from durable.process import Process
from durable.storage import Status
from durable.webhooks.plain import PLAIN

R = TypeVar("R")

SCOPE = "webhook"  # of the checkpoints here; documented, so that nobody gives one of these names to something else
_LARGEST_RESULT = 20_000  # bytes of JSON: news is to be small, and who wants more asks for it
_LONGEST_MESSAGE = 1000  # characters of an error
_NOTHING: Any = object()  # the result of a block


class Telling:
    """
    What `Webhooks.telling` gives: an async context manager that tells how its block ended.

    Args:
        proc: The process.
        event: What stands before the status in the type of the message.
        notify: Starts a delivery, given event, data and checkpoint name; None tells nobody.
    """

    __slots__ = ("_event", "_execution", "_notify", "_proc")

    def __init__(self, proc: Process, event: str, notify: Callable[..., Coroutine[Any, Any, object]] | None) -> None:
        self._proc = proc.scope(SCOPE)
        self._execution = proc._execution
        self._event = event
        self._notify = notify

    async def __aenter__(self) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        late = await self.tell(error)
        if late is not None:
            raise late  # it is told what became of the block; the rest of the process has to stop

    async def keep(self, result: R) -> R:
        """Record a result that is to be told: what could not be the result of the process fails here, before that."""
        if self._notify is None or result is None:
            return result
        return await self._proc.get(lambda: result, "result")

    async def tell(self, error: BaseException | None, result: Any = _NOTHING) -> asyncio.CancelledError | None:
        """Tell of an end, if it is one. If the process was cancelled meanwhile it is told all the same: by what."""
        # Ctrl-C in the middle of a step, for one, is no end: the step is made again.
        if self._notify is None or not isinstance(error, Exception | asyncio.CancelledError | None):
            return None
        if isinstance(error, asyncio.CancelledError | None) and self._execution.has_next_life():
            return None  # the block was left for it, which is no end
        status, said = _end_of(self._execution, error, result)
        data = {"definition": self._execution.definition, "status": status.value, **said}
        try:
            await self._notify(f"{self._event}.{status.value}", data, name="end")
        except asyncio.CancelledError as late:  # by now the delivery is on storage: a start is always decided first
            return late
        except (PayloadTooLarge, ProcessExists) as refused:  # as with a delivery that fails: nothing else does
            self._proc.logger.error("Nobody is told that it has %s: %s", status.value, refused)
        return None


def _end_of(execution: Execution, error: BaseException | None, result: Any) -> tuple[Status, dict[str, Any]]:
    if error is None:
        return Status.COMPLETED, _small(result)
    if not isinstance(error, asyncio.CancelledError):
        return Status.FAILED, {"error": _described(error)}
    if execution.cancel_reason is not None:
        kind = "ProcessTimedOut" if execution.cancelled_by_deadline else "ProcessCancelled"
        return Status.CANCELLED, {"error": _error(kind, execution.cancel_reason)}
    # By a timeout or a task group around the block; or nobody asked for it, then it is a failure as any other.
    task = asyncio.current_task()
    asked = task is not None and task.cancelling() > 0
    return Status.CANCELLED if asked else Status.FAILED, {"error": _described(error)}


def _small(result: Any) -> dict[str, Any]:
    """The result as it is told; nothing of one that is large, or that JSON cannot hold."""
    if result is _NOTHING:
        return {}
    try:
        text = to_json(result, **PLAIN)
        return {"result": from_json(text)} if len(text) <= _LARGEST_RESULT else {}
    except ValueError:  # reading gives up at less depth than writing
        return {}


def _described(error: BaseException) -> dict[str, str]:
    """Type and message of an error; tracebacks stay here."""
    if not isinstance(error, DurableError):
        try:
            message = str(error)
        except Exception:  # out of a `__str__` of theirs
            message = ""
        return _error(type(error).__qualname__, message)
    return _error(error.facts.get("type_name", type(error).__qualname__), str(error.args[0]) if error.args else "")


def _error(kind: str, message: str) -> dict[str, str]:
    # Names of files may hold what no text does, and no JSON either.
    return {"type": kind, "message": message[:_LONGEST_MESSAGE].encode(errors="backslashreplace").decode()}
