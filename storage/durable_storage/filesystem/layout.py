"""
What stands in the directory of a store and under which names, and whose directory it is.

``durable-store`` says so, in its one line with the version of the format. Journal files are named after the id of their
process, so that a person finds them, and after its hash, so that any two ids, whatever characters they hold, have two
names, on filesystems that ignore case as well.
"""

from __future__ import annotations

import fcntl
import os
import re
from hashlib import sha256

from durable.errors import NewerFormat, NotAStore, StorageError

VERSION = 1
MARKER = "durable-store"
JOURNAL_SUFFIX = ".journal"
TEMPORARY = ".new-"

_JOURNALS = "processes"
_INDEX = "index"
_LOCK, _FILES_LOCK = "lock", "files-lock"
_SESSIONS = "sessions"
_SEGMENT = re.compile(r"batches-(\d{12})\.log")
_SLUG_LENGTH = 60


class Layout:
    """The names of everything in the store at *directory*."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.journals = os.path.join(directory, _JOURNALS)
        self.index = os.path.join(directory, _INDEX)
        self.lock = os.path.join(directory, _LOCK)
        self.files_lock = os.path.join(directory, _FILES_LOCK)
        self.sessions = os.path.join(directory, _SESSIONS)

    def segment(self, number: int) -> str:
        """The file of one segment of the commit log."""
        return os.path.join(self.directory, f"batches-{number:012d}.log")

    def segments(self) -> list[int]:
        """The segments that are there, in order."""
        found = (_SEGMENT.fullmatch(name) for name in os.listdir(self.directory))
        return sorted(int(match[1]) for match in found if match)

    def first_segment(self) -> int:
        """Where to begin to read the log: a power cut may bring back the name of an older, deleted segment."""
        segments = self.segments()
        first = segments[-1]
        while first - 1 in segments:
            first -= 1
        return first

    def journal(self, process_id: str) -> str:
        """The journal file of a process."""
        return os.path.join(self.journals, journal_name(process_id))

    # --- whose directory

    def check(self) -> None:
        """
        Refuse, before anything is made in it, a directory that is not ours or is newer than we know.

        Raises:
            NotAStore: It holds something else, or is no directory.
            NewerFormat: A newer version of this library wrote it.
            StorageError: It cannot be made, because its parent is missing.
        """
        parent = os.path.dirname(self.directory)
        if not os.path.lexists(self.directory):
            if not os.path.isdir(parent):
                raise StorageError(
                    "The directory above the store does not exist", directory=parent, fix=f"mkdir -p {parent}"
                )
            return
        if not os.path.isdir(self.directory):
            raise NotAStore("The path of the store is a file", path=self.directory, fix="name a directory")
        try:
            with open(os.path.join(self.directory, MARKER), "rb") as file:
                self._check_marker(file.read(200))
        except FileNotFoundError:
            if any(not self._may_come_first(name) for name in os.listdir(self.directory)):
                raise NotAStore(
                    "The directory is not empty and not a store of this library; it was not touched",
                    path=self.directory,
                    fix="choose another directory",
                ) from None

    def create(self) -> None:
        """Make what is missing, durably; under the store's lock, which is in the directory already."""
        marker = os.path.join(self.directory, MARKER)
        os.makedirs(self.journals, exist_ok=True)
        if not os.path.exists(marker):
            write_durably(marker, b"durable store %d\n" % VERSION)
            sync_directory(os.path.dirname(self.directory))

    def _check_marker(self, text: bytes) -> None:
        match = re.fullmatch(rb"durable store (\d+)\n", text)
        if match is None:
            raise NotAStore(
                f"The file {MARKER} in the directory is not of this library; nothing was touched",
                path=self.directory,
                fix="choose another directory",
            )
        if int(match[1]) > VERSION:
            raise NewerFormat(
                "The store was written by a newer version of this library; it was not touched",
                path=self.directory,
                version=int(match[1]),
                known=VERSION,
                fix="upgrade this library",
            )

    def _may_come_first(self, name: str) -> bool:
        """Whether *name* may stand there while another object is still creating the store."""
        return name in (_LOCK, _FILES_LOCK, _JOURNALS, _SESSIONS, MARKER) or name.startswith(TEMPORARY)


def journal_name(process_id: str) -> str:
    """The name of the journal file of a process: a readable part, and 128 bits of the SHA-256 of its id."""
    readable = re.sub(r"[^a-z0-9]+", "-", process_id.lower())[:_SLUG_LENGTH].strip("-") or "process"
    return f"{readable}.{sha256(process_id.encode()).hexdigest()[:32]}{JOURNAL_SUFFIX}"


# --- durable writes --------------------------------------------------------------------------------------------


def sync(descriptor: int) -> None:
    """Return when the content of the file is on the disk itself."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # pragma: no cover (macOS: fsync alone leaves it in the drive's cache)
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def sync_directory(directory: str) -> None:
    """Return when the names in *directory* are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of *data* at *offset*, however much the system takes at a time."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def write_durably(path: str, data: bytes, *, name_too: bool = True) -> None:
    """
    Make the file at *path* hold *data*, as a whole or not at all, whatever stood there.

    ``name_too`` False leaves its name to a later `sync_directory`, which then serves many files.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, TEMPORARY + name)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, data, 0)
        sync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if name_too:
        sync_directory(directory)
