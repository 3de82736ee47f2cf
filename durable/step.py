"""Who am I, inside an action: the step that runs, its idempotency key, and whether anybody still waits for it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from uuid import UUID, uuid5

from durable.errors import DurableError, PayloadTooLarge

MESSAGE_LIMIT = 1000  # characters of a progress message

_KEYS = UUID("6f4c2e0e-8f0b-5d0e-9a53-64757261626c")  # namespace of idempotency keys; must never change


def idempotency_key(process_id: str, checkpoint: str, life: int = 1) -> str:
    """
    The key of one checkpoint of one process: 36 characters, the same on every attempt and whatever crashes.

    Each life of a process that restarts itself (`Process.restart`) has its own, or its second payment would be taken
    for the first one.
    """
    place = f"{process_id}\0{checkpoint}" if life == 1 else f"{process_id}\0{checkpoint}\0{life}"
    return str(uuid5(_KEYS, place))


def check_message(message: str) -> None:
    """
    Refuse a progress message that is not a short text.

    Raises:
        TypeError: It is not a string.
        PayloadTooLarge: It has more than 1000 characters.
    """
    if not isinstance(message, str):
        raise TypeError(f"A progress message is a string, not {type(message).__qualname__}")
    if len(message) > MESSAGE_LIMIT:
        raise PayloadTooLarge(
            f"A progress message has at most {MESSAGE_LIMIT} characters, not {len(message)}: {message[:60]!r}…",
            fix="say what is being done in a few words; results belong into checkpoints",
        )


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

    __slots__ = ("_life", "_report", "attempt", "cancelled", "checkpoint", "process_id")

    def __init__(
        self,
        process_id: str,
        checkpoint: str,
        attempt: int,
        report: Callable[[float, float | None, str], None],
        life: int = 1,
    ) -> None:
        self.process_id = process_id
        self.checkpoint = checkpoint
        self.attempt = attempt
        self.cancelled = False
        self._report = report
        self._life = life

    @property
    def key(self) -> str:
        """The idempotency key to send along, so that a second attempt is recognised by whoever receives it."""
        return idempotency_key(self.process_id, self.checkpoint, self._life)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """
        Show progress to whoever watches the process. Not durable, throttled; safe from any thread.

        Raises:
            PayloadTooLarge: *message* has more than 1000 characters.
        """
        check_message(message)
        self._report(done, total, message)

    def _end(self) -> None:
        """The attempt is over: what it began and left behind has this object, and nothing of the process by it."""
        self._report = _unheard


def _unheard(_done: float, _total: float | None, _message: str) -> None:
    """What the report of an attempt that is over comes to."""


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
