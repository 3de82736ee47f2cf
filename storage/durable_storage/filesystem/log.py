"""
The commit log: where a batch becomes durable, with one write and one fsync for all processes it touches.

It is a chain of segments. Each begins with a head that tells what the segments before it would have told (sessions,
the last stamp), goes on with one frame for each transaction, and ends, when it is full, with a frame that names the
next one. Segments whose transactions have reached the journal files are deleted; so the log stays small.

A transaction's frame is its head, a JSON object, and below it the very lines that belong into journal files; the head
says of which process and at which byte. So a frame can be put into the files again and again with the same outcome.

Where the log ends is decided by its frames. What stands behind the last whole one is the rest of a write that was
interrupted: nobody was told that it is there, so whoever finds it, under the store's lock, cuts it off. But a frame
says how much before it was known to be on the disk (``synced``); damage there is no torn tail, and is never cut.

A segment is made longer in steps, with zeros: a commit that makes its file longer waits for the filesystem to note so,
which takes as long again as the write itself; one that writes over old bytes does not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from durable.errors import CorruptJournal
from durable_storage.filesystem.frames import OVERHEAD, PREFIX, declared_length, frame, frames_after, read_frame
from durable_storage.filesystem.layout import Layout, sync, write_all, write_durably
from durable_storage.filesystem.lines import decode_json, encode_json

MAGIC = b"durable commit log 1\n"

_READ_AHEAD = 2**20
_SHORTEST_STEP, _LONGEST_STEP = 2**16, 2**22  # of growth: as long again as the segment is, within these

_logger = logging.getLogger("durable_storage.filesystem")


class Part(NamedTuple):
    """The lines one transaction adds to one process; they belong at *offset* of its file."""

    key: int
    born: int
    offset: int
    lines: bytes


class Transaction(NamedTuple):
    """One frame of the log: facts of the head, and the parts."""

    head: dict[str, Any]
    parts: Sequence[Part]


class Log:
    """The commit log of one store, as far as this object has read it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._descriptor = -1
        self._synced = 0
        self._allocated = 0  # how long the file is at least
        self._doubtful = False
        self._last = (0, b"")  # where the last frame that somebody else wrote begins, and its prefix
        self.segment = 0
        self.position = 0
        self.is_lost = False  # what followed was deleted before it was read here

    # --- segments

    def begin(self, head: dict[str, Any]) -> None:
        """Make and enter the next segment, durably; under the store's lock."""
        number = self.segment + 1
        path = self._layout.segment(number)
        data = MAGIC + frame(encode_json(head).encode())
        write_durably(path, data)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if self._descriptor >= 0:
                self.append({"next": number}, ())
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        self._enter(number, descriptor)
        self.position = self._synced = self._allocated = len(data)

    def enter(self, number: int) -> dict[str, Any]:
        """
        Go to the beginning of segment *number* and return its head.

        Raises:
            CorruptJournal: It is no segment, or its head is damaged.
        """
        path = self._layout.segment(number)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._enter(number, descriptor)
        data = os.pread(descriptor, _READ_AHEAD, 0)
        if (length := declared_length(data[len(MAGIC) : len(MAGIC) + PREFIX])) is not None:
            data = os.pread(descriptor, len(MAGIC) + length, 0)
        payload = read_frame(data, len(MAGIC)) if data.startswith(MAGIC) else None
        if payload is None:
            raise self._damaged(path, 0)
        self.position = self._synced = len(data)
        self._allocated = os.fstat(descriptor).st_size
        head: dict[str, Any] = decode_json(payload.decode())
        return head

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _enter(self, number: int, descriptor: int) -> None:
        self.close()
        self.segment, self._descriptor = number, descriptor
        self._last = (0, b"")
        self._doubtful = False

    # --- writing

    def append(self, head: dict[str, Any], parts: Sequence[Part], *, durably: bool = True) -> None:
        """
        Write one transaction at the end, which has to be known (`read`), under the store's lock.

        Raises:
            OSError: It is not there; what was there before is.
        """
        described = [(part.key, part.born, part.offset, len(part.lines)) for part in parts]
        text = encode_json({"at": self.position, "synced": self._synced, **head, "parts": described})
        data = frame(b"\n".join((text.encode(), b"".join(part.lines for part in parts))))
        end = self.position + len(data)
        try:
            self._write(data, end, durably)
            if durably:
                self._make_durable(end)
        except OSError:
            self._shorten()
            self._renew()
            raise
        self._last = (0, b"")
        self.position = end
        if durably:
            self._synced = end

    def _write(self, data: bytes, end: int, durably: bool) -> None:
        """Write *data* at the position, with room for more behind it when the file has to grow anyway."""
        if durably and end > self._allocated:
            self._allocated = os.fstat(self._descriptor).st_size  # somebody else may have made room
        if durably and end > self._allocated:
            room = min(max(end, _SHORTEST_STEP), _LONGEST_STEP)
            try:
                write_all(self._descriptor, data + bytes(room), self.position)
                self._allocated = end + room
                return
            except OSError:  # a full disk may have room for *data*
                self._shorten()
        write_all(self._descriptor, data, self.position)

    def _shorten(self) -> None:
        """Take back what stands behind the position."""
        os.ftruncate(self._descriptor, self.position)
        self._allocated = self.position

    def _make_durable(self, end: int) -> None:
        if self._doubtful:
            self._rewrite(end)
        try:
            sync(self._descriptor)
        except OSError:
            self._doubtful = True
            raise
        self._doubtful = False

    def _renew(self) -> None:
        """
        After a failed fsync: bring what is left to the disk again.

        The kernel may have marked pages that it could not write as clean, so syncing them again would say nothing. What
        was not known to be durable is written anew first.
        """
        if not self._doubtful:
            return
        try:
            self._rewrite(self.position)
            sync(self._descriptor)
        except OSError as error:
            _logger.error("the commit log of %s cannot be synced: %s", self._layout.directory, error)
        else:
            self._doubtful = False
            self._synced = self.position

    def _rewrite(self, end: int) -> None:
        write_all(self._descriptor, os.pread(self._descriptor, end - self._synced, self._synced), self._synced)

    # --- reading

    def has_more(self) -> bool:
        """Whether something stands behind what was read; one system call. No frame begins with a zero."""
        return os.pread(self._descriptor, 1, self.position) not in (b"", b"\0")

    def was_changed(self) -> bool:
        """Whether the last frame, read before its writer knew it durable, was taken back."""
        begin, prefix = self._last
        return bool(prefix) and os.pread(self._descriptor, PREFIX, begin) != prefix

    def read(self, *, locked: bool) -> list[Transaction]:
        """
        The transactions from here to the end of the segment; *locked* says that nobody can be writing now.

        Raises:
            CorruptJournal: What was on the disk already is damaged.
        """
        found: list[Transaction] = []
        data, base = b"", self.position
        while True:
            start = self.position - base
            length = declared_length(data[start : start + PREFIX])
            if length is None or len(data) < start + length:
                base = self.position
                data = os.pread(self._descriptor, max(_READ_AHEAD, length or 0), base)
                length = declared_length(data[:PREFIX])
                if length is not None and len(data) < length:
                    data = os.pread(self._descriptor, length, base)
                start = 0
            payload = read_frame(data, start)
            transaction = None if payload is None else _parse(payload, self.position)
            if payload is None or transaction is None:
                break
            found.append(transaction)
            self._last = (self.position, data[start : start + PREFIX])
            self._synced = max(self._synced, transaction.head["synced"])
            self.position += len(payload) + OVERHEAD
        if locked and data[start : start + 1].strip(b"\0"):
            self.cut()
        return found

    def cut(self) -> None:
        """
        Cut what stands behind the last whole frame; under the store's lock.

        `read` does so for what a killed writer has left, which begins where its frame would. Who opens the segment has
        to do it in any case: after a power cut a later part of what was written may be there without the earlier.

        Raises:
            CorruptJournal: It was on the disk already when something behind it was written.
        """
        size = os.fstat(self._descriptor).st_size
        rest = os.pread(self._descriptor, size - self.position, self.position).rstrip(b"\0")
        path = self._layout.segment(self.segment)
        for payload in frames_after(b"\n" + rest.lstrip(b"\0"), 0):
            if (synced := _synced(payload)) is not None and synced > self.position:
                raise self._damaged(path, self.position)
        if rest:
            _logger.warning("cut %d bytes of an unfinished write from byte %d of %s", len(rest), self.position, path)
            self._shorten()

    @staticmethod
    def _damaged(path: str, position: int) -> CorruptJournal:
        return CorruptJournal(
            "The commit log is damaged before its end: batches that were acknowledged cannot be read",
            path=path,
            byte=position,
            fix="stop every host, keep a copy of the directory, and restore the file from a backup",
        )


def _parse(payload: bytes, position: int) -> Transaction | None:
    """The transaction in a frame, if it is one that was written at *position*."""
    text, newline, lines = payload.partition(b"\n")
    head = decode_json(text.decode())
    if not newline or head["at"] != position:
        return None
    parts: list[Part] = []
    start = 0
    for key, born, offset, length in head["parts"]:
        parts.append(Part(key, born, offset, lines[start : start + length]))
        start += length
    return Transaction(head, parts)


def _synced(payload: bytes) -> int | None:
    """What a frame says was durable before it, if it is a transaction and not a line of one."""
    text, newline, _ = payload.partition(b"\n")
    return decode_json(text.decode())["synced"] if newline else None
