"""
`Entry`: what is kept in memory of one process, and how each line of its file changes it.

Records, payloads and mails stay in the file; an entry knows only where the mails of its inbox stand. `pending` is what
the commit log has and the file does not have yet. An inbox may be long: a clone has it in common with its original
until one of them changes it, copies it for that once, and changes its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import Any, NamedTuple

from durable.errors import CorruptJournal
from durable.storage import ENDED, MailKind, ProcessRow, Status
from durable_storage.filesystem.lines import (
    STRANGE,
    mail_kind_of,
    number_of,
    number_or_none,
    payload_of,
    strange,
    text_of,
    text_or_none,
)

_WAKES_STALLED = frozenset({MailKind.CANCEL, MailKind.TERMINATE, MailKind.RESUME})
RESTORE = "stop every host and restore the file from a backup; the other processes go on"
_STATUSES = {str(status): status for status in Status}


class Chunk(NamedTuple):
    """Bytes that belong at *offset* of a journal file and stand in *segment* of the commit log."""

    segment: int
    offset: int
    data: bytes


class Entry:
    """
    One process. ``born`` tells it from earlier ones with its key, and earlier lives; ``length`` counts the bytes
    of its file with those that are pending, ``seq`` its records; ``inbox`` maps item numbers to where their lines are,
    (offset, length). ``damage`` says what is wrong with its file, and what to do; then nothing is done with it.
    """

    __slots__ = (
        "_shares_inbox",
        "born",
        "created_at",
        "damage",
        "definition",
        "ended_at",
        "id",
        "inbox",
        "key",
        "length",
        "mail",
        "owner",
        "pending",
        "progress",
        "queue",
        "reason",
        "seq",
        "status",
        "wake_at",
    )

    def __init__(
        self, key: int, id: str, born: int, definition: str, queue: str, owner: int | None, wake_at: int | None
    ) -> None:
        self.key = key
        self.id = id
        self.born = born
        self.definition = intern(definition)
        self.queue = intern(queue)
        self.owner = owner
        self.wake_at = wake_at
        self.status = Status.RUNNING
        self.mail = 0
        self.created_at: int | None = None
        self.ended_at: int | None = None
        self.reason: str | None = None
        self.progress: bytes | None = None
        self.length = 0
        self.seq = 0
        self.inbox = _EMPTY
        self._shares_inbox = True
        self.pending: tuple[Chunk, ...] = ()
        self.damage: str | None = None

    def clone(self) -> Entry:
        """A copy, to be changed while the entry stays as it is."""
        copy = Entry.__new__(Entry)
        copy.key = self.key
        copy.id = self.id
        copy.born = self.born
        copy.definition = self.definition
        copy.queue = self.queue
        copy.owner = self.owner
        copy.wake_at = self.wake_at
        copy.status = self.status
        copy.mail = self.mail
        copy.created_at = self.created_at
        copy.ended_at = self.ended_at
        copy.reason = self.reason
        copy.progress = self.progress
        copy.length = self.length
        copy.seq = self.seq
        copy.inbox = self.inbox
        copy._shares_inbox = self._shares_inbox = True
        copy.pending = self.pending
        copy.damage = self.damage
        return copy

    def row(self) -> ProcessRow:
        """What the store says of the process. One whose file is damaged is shown as stalled, with the damage."""
        damaged = self.damage is not None
        return ProcessRow(
            self.key,
            self.id,
            self.definition,
            self.queue,
            Status.STALLED if damaged else self.status,
            None if damaged else self.owner,
            None if damaged else self.wake_at,
            self.mail,
            self.created_at or 0,
            self.ended_at,
            self.damage if damaged else self.reason,
            self.progress,
        )

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to the process any more."""
        return self.status in ENDED

    def is_due(self, wake_at: int) -> bool:
        """Whether it waits for somebody to claim it at *wake_at*."""
        return self.wake_at == wake_at and self.owner is None and self.status is Status.RUNNING and self.damage is None

    # --- what happens to it

    def append(self, time: int) -> None:
        """A record has been added; the first one says when the process was created, unless that is known."""
        self.seq += 1
        if self.created_at is None:
            self.created_at = time

    def restart(self, mail: int, created_at: int, wake_at: int | None) -> None:
        """Its next life begins: what is not of the journal is as it was in the last one."""
        self.mail, self.created_at, self.wake_at = mail, created_at, wake_at

    def receive(self, number: int, kind: MailKind, time: int, where: tuple[int, int]) -> None:
        """A mail has come: count it, and wake who has to look."""
        self.mail += 1
        self._own_inbox()[number] = where
        if self.status is Status.RUNNING:
            self.wake_at = time if self.wake_at is None else min(self.wake_at, time)
        elif kind in _WAKES_STALLED:
            self.resume(time)

    def resume(self, now: int) -> None:
        """It is not stalled any more."""
        self.status, self.reason, self.wake_at = Status.RUNNING, None, now

    def take(self, numbers: Iterable[int]) -> None:
        """Items of the inbox have moved into the journal."""
        inbox = self._own_inbox()
        for number in numbers:
            inbox.pop(number, None)
        if not inbox:
            self._empty_inbox()

    def park(self, wake_at: int | None) -> None:
        """Its owner has let go of it."""
        self.owner, self.wake_at = None, wake_at

    def stall(self, reason: str) -> None:
        """It cannot go on."""
        self.park(None)
        self.status, self.reason = Status.STALLED, reason

    def end(self, status: Status, reason: str | None, time: int) -> None:
        """It is over, and nobody will read its inbox."""
        self.park(None)
        self._empty_inbox()
        self.status, self.reason, self.ended_at = status, reason, time

    def own(self, session: int) -> None:
        """*session* has claimed it."""
        self.owner, self.wake_at = session, None

    def _own_inbox(self) -> dict[int, tuple[int, int]]:
        """The inbox, to be changed in its place."""
        if self._shares_inbox:
            self.inbox = dict(self.inbox)
            self._shares_inbox = False
        return self.inbox

    def _empty_inbox(self) -> None:
        self.inbox = _EMPTY
        self._shares_inbox = True

    # --- lines of its file

    @staticmethod
    def from_line(line: dict[str, Any]) -> Entry:
        """
        The process that the first line of a file makes.

        Raises:
            CorruptJournal: It is no such line.
        """
        if line["op"] != "process":
            raise CorruptJournal("A journal file does not begin with its process")
        try:
            key, id_, born = number_of(line, "key"), text_of(line, "id"), number_of(line, "born")
            id_.encode()  # else its file would have no name
            definition, queue = text_of(line, "definition"), text_of(line, "queue")
            owner, wake_at = number_or_none(line, "owner"), number_or_none(line, "wake_at")
            created_at = number_of(line, "created_at") if "created_at" in line else None
        except STRANGE as error:
            raise strange(line) from error
        entry = Entry(key, id_, born, definition, queue, owner, wake_at)
        entry.created_at = created_at
        return entry

    def apply(self, line: dict[str, Any], length: int) -> None:
        """
        Change as *line*, the next one of the file, *length* bytes long, says.

        Raises:
            CorruptJournal: It is no line of this version, or does not belong here.
        """
        try:
            self._apply(line, length)
        except STRANGE as error:
            raise strange(line) from error
        self.length += length

    def _apply(self, line: dict[str, Any], length: int) -> None:
        match line["op"]:
            case "record":
                if line["seq"] != self.seq + 1:
                    raise CorruptJournal(f"Journal of {self.id!r} has record {line['seq']} after {self.seq}")
                self.append(number_of(line, "time"))
            case "mail":
                where = (self.length, length)
                self.receive(number_of(line, "number"), mail_kind_of(line), number_of(line, "time"), where)
            case "taken":
                self.take(line["numbers"])
            case "progress":
                self.progress = payload_of(line)
            case "restart":
                self.restart(number_of(line, "mail"), number_of(line, "created_at"), number_or_none(line, "wake_at"))
            case "park":
                self.park(number_or_none(line, "wake_at"))
            case "stall":
                self.stall(text_of(line, "reason"))
            case "end":
                self.end(_STATUSES[line["status"]], text_or_none(line, "reason"), number_of(line, "time"))
            case "claim":
                self.own(number_of(line, "session"))
            case "look":
                self.wake_at = None
            case "resume":
                self.resume(number_of(line, "now"))
            case _:
                raise KeyError(line["op"])


_EMPTY: dict[int, tuple[int, int]] = {}  # of every entry without mail; never changed
