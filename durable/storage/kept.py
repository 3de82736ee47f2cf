"""What a store keeps beside journals: a row for each process, and its inbox."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How a process stands. ``RUNNING`` covers waiting to be claimed, resident and parked."""

    RUNNING = "running"
    STALLED = "stalled"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED})


class ProcessRow(NamedTuple):
    """
    What a store keeps of a process beside its journal.

    ``key`` is a 63-bit integer chosen by whoever creates the process (`Creation`), unique in the store, and what
    every write refers to. ``owner`` is the session that holds it, None when parked, pending, stalled or ended.
    ``wake_at``: when a process nobody owns wants to be claimed (None: only mail wakes it); on an owned one, set by
    mail so that its owner comes and looks. ``mail`` counts every mail ever sent to it. ``reason`` says why it is
    stalled, cancelled or terminated. ``progress`` is the last progress report, opaque to the store.
    """

    key: int
    id: str
    definition: str
    queue: str
    status: Status
    owner: int | None
    wake_at: int | None
    mail: int
    created_at: int
    ended_at: int | None
    reason: str | None
    progress: bytes | None


class MailKind(IntEnum):
    """What can be sent to a process from outside. RESUME, CANCEL and TERMINATE also wake a stalled process."""

    EVENT = 1
    CANCEL = 2
    TERMINATE = 3
    RESUME = 4
    RETURN = 5  # a child has ended; name: the checkpoint that started it; payload: how


class Mail(NamedTuple):
    """A message for a process whose id (not key) the sender knows. ``name`` and ``event_key`` belong to events."""

    id: str
    kind: MailKind
    name: str
    event_key: str | None
    payload: bytes
    time: int


class InboxItem(NamedTuple):
    """A mail in the inbox of process ``key``; ``number`` grows in the order of commitment and is never reused."""

    number: int
    key: int
    kind: MailKind
    name: str
    event_key: str | None
    payload: bytes
    time: int
