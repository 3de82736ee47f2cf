"""One atomic batch: everything a host or client wants written at one moment, and what is answered to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from durable.journal import Record
from durable.storage.kept import Mail, ProcessRow, Status


class Creation(NamedTuple):
    """
    A new process with its first record. ``owned``: by the batch's session; else pending, to be claimed by anyone.

    ``created_at`` of its row is what is given here, in microseconds since 1970 UTC; None: the time of its first record.
    A process that comes from another store says it, for its journal begins with its last restart.
    """

    key: int
    id: str
    definition: str
    queue: str
    owned: bool
    wake_at: int | None
    record: Record
    created_at: int | None = None


class Park(NamedTuple):
    """Let go of a process until ``wake_at`` or mail. Holds only if its ``mail`` counter still is what is given here."""

    key: int
    wake_at: int | None
    mail: int


class Stall(NamedTuple):
    """Let go of a process that cannot go on. Holds like `Park`, so that a RESUME sent meanwhile is not lost."""

    key: int
    reason: str
    mail: int


class End(NamedTuple):
    """
    Append the last ``record`` and end the process. Holds only if its ``mail`` counter still is ``mail``.

    With it goes whatever is left in its inbox: a request to terminate stays there until it has been carried out.
    """

    key: int
    status: Status
    reason: str | None
    record: Record
    mail: int


class Notice(NamedTuple):
    """Send ``mail`` if the end of process ``key`` in the same batch holds, and do not if it does not."""

    key: int
    mail: Mail


class Restart(NamedTuple):
    """
    Put another journal in place of the journal of a process: its next life begins, under the same key and id.

    The session must own the process, and goes on owning it. All records it had are deleted; ``records`` are its journal
    from now on: STARTED as number 1, then the events that nobody has taken yet, without gaps. ``definition`` and
    ``queue`` of its row become those given, and its progress is None. Everything else of the row stays: ``created_at``,
    ``owner``, ``mail``, ``wake_at`` (so mail that has not been collected still is to be). So does its inbox.

    There is no condition, and so it is never ``held``: mail that came meanwhile belongs to the next life. A batch with
    a restart of a process has no release and no other restart of it; records, taken items and progress of it in the
    same batch are applied before. A journal of the next life may be shorter than one that was read before.
    """

    key: int
    definition: str
    queue: str
    records: Sequence[Record]


@dataclass(slots=True)
class Batch:
    """
    Everything one commit writes, applied in the order of the fields, all or nothing.

    ``session`` None is a client's batch: it may only create (not owned) and send mails. ``number`` counts the batches
    of a session from 1 and is kept on the session's row, so that after a lost answer `last_batch` tells whether the
    batch was applied.

    ``children`` are created like ``creations``, but a record of the batch says so: if one of their ids is taken (by an
    older process, a creation or another child of the batch), nothing of the batch is written, and `commit` raises
    `ProcessExists` with the fact ``taken``, a list of all these ids. Unlike creations they are never in ``taken_ids``.
    ``notices`` of one batch are delivered in their order after all ends, as mails are: to a process that has ended in
    the same batch comes none, one that was parked in it is woken. Nobody is told what became of them.
    """

    session: int | None
    number: int = 0
    creations: list[Creation] = field(default_factory=list)
    children: list[Creation] = field(default_factory=list)
    records: list[tuple[int, Record]] = field(default_factory=list)  # (process key, record), in journal order
    taken: list[int] = field(default_factory=list)  # inbox items moved into journals: deleted
    mails: list[Mail] = field(default_factory=list)
    progress: dict[int, bytes] = field(default_factory=dict)
    restarts: list[Restart] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


class Delivery(StrEnum):
    """What became of one mail."""

    DELIVERED = "delivered"
    NOT_FOUND = "not found"
    ENDED = "ended"


@dataclass(slots=True)
class BatchResult:
    """
    Answers that are not errors.

    ``taken_ids``: ids of creations that were refused because the id exists (nothing of that creation was written), each
    with the row that has it. ``deliveries``: one per mail, in order. ``held``: keys of parks, stalls and ends that did
    not hold because mail had arrived; nothing of them was written, the process is still owned by this session.
    """

    taken_ids: Mapping[str, ProcessRow] = field(default_factory=dict)
    deliveries: Sequence[Delivery] = ()
    held: Collection[int] = ()
