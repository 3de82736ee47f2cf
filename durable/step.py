"""Who am I, inside an action: the step that runs, its idempotency key, and whether anybody still waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid5

from durable.errors import DurableError

_KEYS = UUID("6f4c2e0e-8f0b-5d0e-9a53-64757261626c")  # namespace of idempotency keys; must never change


def idempotency_key(process_id: str, checkpoint: str) -> str:
    """The key of one checkpoint of one process: 36 characters, the same on every attempt and after every restart."""
    return str(uuid5(_KEYS, f"{process_id}\0{checkpoint}"))


class Step:
    """
    One attempt of an action, as the action itself sees it.

    Attributes:
        process_id: Id of the process.
        checkpoint: Full name of the checkpoint, scopes included.
        attempt: 1 for the first try.
        cancelled: True once nobody waits for the result any more (cancelled, timed out, host shutting down). A sync
            action should look at it now and then and return; an async one is cancelled anyway. Safe from any thread.
    """

    __slots__ = ("_report", "_token", "attempt", "cancelled", "checkpoint", "process_id")

    def __init__(
        self,
        process_id: str,
        checkpoint: str,
        attempt: int,
        report: Callable[[Any, float, float | None, str], None],
        token: object = None,
    ) -> None:
        self.process_id = process_id
        self.checkpoint = checkpoint
        self.attempt = attempt
        self.cancelled = False
        self._report = report
        self._token = token  # by which the host knows whose report it is

    @property
    def key(self) -> str:
        """The idempotency key to send along, so that a second attempt is recognised by whoever receives it."""
        return idempotency_key(self.process_id, self.checkpoint)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Show progress to whoever watches the process. Not durable, throttled; safe from any thread."""
        self._report(self._token, done, total, message)


_current: ContextVar[Step] = ContextVar("durable step")


def current_step() -> Step:
    """
    The step whose action is running; also in threads and tasks it started with its context.

    Raises:
        DurableError: No action is running here.
    """
    try:
        return _current.get()
    except LookupError:
        raise DurableError(
            "There is no current step here", fix="call `current_step()` inside an action given to `proc.do`"
        ) from None
