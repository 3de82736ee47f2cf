"""What the kernel asks the host to do: a closed union of frozen data, each naming what makes it go away again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from durable.errors import DurableError
from durable.journal import Kind


class TakeValue(NamedTuple):
    """Call *factory* and record VALUE (or FAILED)."""

    name: str
    factory: Callable[[], Any]


class RunAction(NamedTuple):
    """
    Run an attempt of *action* at *due* (None: now); record DONE, FAILED or ATTEMPT.

    *options* is whatever the process side gave for the host (retry, timeout); the kernel does not look into it.
    *intended*: INTENT is recorded. *interrupted*: it was recorded in an earlier life of the process, so how the action
    ended is unknown: record FAILED with `StepInterrupted`, and do not run it.
    """

    name: str
    action: Callable[[], Any]
    options: Any
    attempt: int = 1
    due: int | None = None
    intended: bool = False
    interrupted: bool = False


class RecordIntent(NamedTuple):
    """Record INTENT; *run* follows when that is durable. For an `at_most_once` action."""

    name: str
    run: RunAction


class CancelAction(NamedTuple):
    """Nobody waits for this action any more: tell it; record nothing of it."""

    name: str


class SetTimer(NamedTuple):
    """Record TIMER for checkpoint *name* of kind *what*: due after *length*, or at that moment."""

    name: str
    what: str
    length: timedelta | datetime


class Wake(NamedTuple):
    """Record FIRED for the named timer when *due* has come."""

    name: str
    due: int


class Alarm(NamedTuple):
    """Record ALARM under this *name* when *due* has come: an unnamed timer of asyncio."""

    name: str
    due: int


class Deadline(NamedTuple):
    """Record CANCEL "deadline" when *due* has come, unless the process has ended."""

    due: int


class CancelTimer(NamedTuple):
    """The SetTimer, Wake or (*alarm*) Alarm of this name is no longer wanted."""

    name: str
    alarm: bool = False


class Take(NamedTuple):
    """Record TAKEN: checkpoint *name* takes the event recorded as number *event*."""

    name: str
    event: int


class StartChild(NamedTuple):
    """
    Create process *id* with *payload* in its first record, and in the same batch record CHILD with *child* as payload.

    If that cannot be, as when the id is taken, record FAILED instead.
    """

    name: str
    id: str
    definition: str
    queue: str
    payload: bytes
    child: bytes


class CancelChild(NamedTuple):
    """Ask process *id*, started under *name*, to stop; its RETURNED is waited for. Once is enough, more do no harm."""

    name: str
    id: str
    reason: str


class Report(NamedTuple):
    """Show this progress to whoever watches; not recorded, never outstanding."""

    done: float
    total: float | None
    message: str


class End(NamedTuple):
    """Record this last record. *notes* are what its payload notes, for the log: drift, failures nobody saw."""

    kind: Kind
    payload: bytes
    notes: tuple[str, ...] = ()


class Restart(NamedTuple):
    """
    Put another life in place of this one: *payload* is that of its first record, *events* are those nobody took.

    *notes* as for `End`; there is no record to keep them.
    """

    definition: str
    queue: str
    payload: bytes
    events: tuple[tuple[str, bytes], ...]
    notes: tuple[str, ...] = ()


class Stall(NamedTuple):
    """The process cannot go on with this code; keep its journal and let it go."""

    error: DurableError


Command = (
    TakeValue
    | RecordIntent
    | RunAction
    | CancelAction
    | SetTimer
    | Wake
    | Alarm
    | Deadline
    | CancelTimer
    | Take
    | StartChild
    | CancelChild
    | Report
    | End
    | Restart
    | Stall
)
