"""
Journal files: reading one process, loading an entry from its file, and writing what the commit log has for it.

A file is a line that says what it is, and frames of lines. Files change only under the lock of the files, which one
checkpoint, one opening at a time holds.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from stat import S_ISREG
from typing import NamedTuple

from durable.errors import CorruptJournal, NewerFormat
from durable.journal import Record
from durable.storage import InboxItem
from durable_storage.filesystem.entry import RESTORE, Chunk, Entry
from durable_storage.filesystem.frames import frames_after, read_frame, read_frames
from durable_storage.filesystem.layout import Layout, sync, write_all, write_durably
from durable_storage.filesystem.lines import MAGIC, inbox_item_of, read_line, record_of

_ANY_VERSION = b"durable journal "
_NEAR = 2**16  # bytes between two lines that are read at once, with what stands between them
_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # of no file in particular


class Loaded(NamedTuple):
    """An entry read from its file of *size* bytes; ``torn`` None: all of them, True: but for a torn tail."""

    entry: Entry
    size: int
    torn: bool | None


class Journals:
    """The journal files of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    # --- one process

    def read(self, entry: Entry, after: int = 0) -> tuple[list[Record], list[InboxItem]]:
        """
        The records with ``seq > after`` and the inbox of a process.

        Raises:
            CorruptJournal: Its file is damaged, or holds something else than is known of it.
        """
        if entry.damage is not None:
            raise self._left_alone(entry)
        data = self._bytes(entry, 0, entry.length)
        records: list[Record] = []
        inbox: list[InboxItem] = []
        starts = {start for start, _ in entry.inbox.values()}
        whole, seq = len(MAGIC), 0
        for start, end, payload in read_frames(data, len(MAGIC)):
            whole = end
            line = read_line(payload)
            if line["op"] == "record":
                seq += 1
                if seq > after:
                    records.append(record_of(line))
            elif start in starts:
                inbox.append(inbox_item_of(line, entry.key))
        if whole != entry.length or seq != entry.seq or not data.startswith(MAGIC):
            raise self._corrupt(entry, f"its file is damaged at byte {whole} of {entry.length}")
        return records, inbox

    def inbox(self, entry: Entry) -> list[InboxItem]:
        """What is in the inbox of a process; only these lines are read; `read` says what it raises."""
        if entry.damage is not None:
            raise self._left_alone(entry)
        return [
            inbox_item_of(read_line(payload), entry.key)
            for line in self.inbox_lines(entry)
            for _, _, payload in read_frames(line)
        ]

    def inbox_lines(self, entry: Entry) -> list[bytes]:
        """The lines of what is in the inbox of a process, as they stand in its file."""
        found: list[bytes] = []
        for lines in _runs(entry):
            first, end = lines[0][0], sum(lines[-1])
            data = self._bytes(entry, first, end)
            for start, length in lines:
                line = data[start - first : start - first + length]
                if len(line) < length or read_frame(line) is None:
                    raise self._corrupt(entry, f"its file is damaged at byte {start}")
                found.append(line)
        return found

    def _bytes(self, entry: Entry, start: int, end: int) -> bytes:
        """Bytes of the file as they will be when what is pending has been written."""
        in_file = min(end, entry.pending[0].offset) if entry.pending else end
        pieces: list[bytes] = []
        if start < in_file:
            pieces.append(self._read_file(entry, start, in_file))
        first = max(0, bisect_right(entry.pending, start, key=_offset_of) - 1)
        last = bisect_right(entry.pending, end, key=_offset_of)
        for _, offset, data in entry.pending[first:last]:
            pieces.append(data[max(0, start - offset) : max(0, end - offset)])
        return b"".join(pieces)

    def _read_file(self, entry: Entry, start: int, end: int) -> bytes:
        try:
            descriptor = os.open(self._path(entry), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, end - start, start)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise self._corrupt(entry, "its file is gone") from None
        except OSError as error:
            if error.errno in _OURS:
                raise
            fix = "look after the file and its disk, then restart the hosts; the other processes go on"
            raise self._corrupt(entry, f"the system refuses its file ({error.strerror})", fix) from error

    def _corrupt(self, entry: Entry, damage: str, fix: str = RESTORE) -> CorruptJournal:
        return CorruptJournal(
            f"The journal of {entry.id!r} cannot be read: {damage}",
            path=self._path(entry),
            fix=fix,
        )

    def _left_alone(self, entry: Entry) -> CorruptJournal:
        return CorruptJournal(f"The journal of {entry.id!r} is left alone: {entry.damage}", path=self._path(entry))

    def _path(self, entry: Entry) -> str:
        return self._layout.journal(entry.id)

    # --- a whole file

    def load(self, name: str) -> Loaded:
        """
        What the file *name* says, as far as it is whole.

        Raises:
            CorruptJournal: It is no journal file, its beginning is damaged, or what is whole makes no sense.
            NewerFormat: A newer version of this library wrote it.
            OSError: The system refuses it.
        """
        path = os.path.join(self._layout.journals, name)
        if not S_ISREG(os.stat(path).st_mode):  # to open a pipe would wait for its writer
            raise CorruptJournal("What has the name of a journal file is no file", file=name)
        with open(path, "rb") as file:
            data = file.read()
        if not data.startswith(MAGIC):
            if data.startswith(_ANY_VERSION) and data[len(_ANY_VERSION) :].partition(b"\n")[0].isdigit():
                raise NewerFormat("A journal file was written by a newer version of this library", file=name)
            raise CorruptJournal("A file is not a journal of this library", file=name)
        entry: Entry | None = None
        end = len(MAGIC)
        for start, end, payload in read_frames(data, len(MAGIC)):
            line = read_line(payload)
            if entry is None:
                entry = Entry.from_line(line)
                entry.length = end
            else:
                entry.apply(line, end - start)
        if entry is None:
            raise CorruptJournal("The first line of a journal file is damaged", file=name)
        torn = None if end == len(data) else next(frames_after(data, end), None) is None
        return Loaded(entry, len(data), torn)

    def write(self, process_id: str, offset: int, data: bytes) -> None:
        """Put *data* at *offset*, as the new end of the file; durably but for the name of a new one."""
        path = self._layout.journal(process_id)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | (0 if offset else os.O_CREAT | os.O_EXCL), 0o666)
        except FileExistsError:  # of a process that was purged, or what a crash has left of this very write
            write_durably(path, data, name_too=False)
            return
        try:
            if (size := os.fstat(descriptor).st_size) < offset:
                raise CorruptJournal("A journal file is shorter than it was", path=path, size=size, expected=offset)
            write_all(descriptor, data, offset)
            os.ftruncate(descriptor, offset + len(data))
            sync(descriptor)
        finally:
            os.close(descriptor)

    def cut(self, loaded: Loaded) -> None:
        """Shorten a file to what is whole of it."""
        os.truncate(self._layout.journal(loaded.entry.id), loaded.entry.length)


def _offset_of(chunk: Chunk) -> int:
    return chunk.offset


def _runs(entry: Entry) -> Iterator[list[tuple[int, int]]]:
    """The lines of the inbox of a process, (offset, length), as they stand near each other in its file."""
    run: list[tuple[int, int]] = []
    for start, length in entry.inbox.values():
        if run and not 0 <= start - sum(run[-1]) <= _NEAR:
            yield run
            run = []
        run.append((start, length))
    if run:
        yield run
