"""
Broken in what is on the disk: a log of batches in a file, read again when it is opened.

`Logged` is healthy as far as one object at a time goes, which is all that the tests of interruptions need of it; what a
batch means is the business of memory. Two more are broken variants of the worked example.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

from durable.errors import CorruptJournal, StorageError, StorageFull
from durable.storage import Batch, BatchResult, Claim, JournalStorage
from durable.testing.disk_faults import torn_places
from durable.testing.storage_parts import Clock
from durable_storage.memory import MemoryStorage
from durable_storage.memory_state import Session
from tests.storage.broken.base import caught_by
from tests.storage.minimal_batch import Writing
from tests.storage.minimal_provider import MinimalStorage

_HEADER = struct.Struct("<II")  # length and checksum of what follows


def open_broken(url: str) -> JournalStorage:
    """``broken://NAME/path``: one of the providers of this module, for another OS process."""
    name, _, path = url.partition("://")[2].partition("/")
    return globals()[name](f"/{path}", time.monotonic)  # type: ignore[no-any-return]


class OnFiles:
    """What the contract has to know of a provider on files."""

    KEEPS_FILES = True

    @classmethod
    def make(cls, place: Path, clock: Clock) -> JournalStorage:
        """A storage object on *place*."""
        return cls(f"{place}/store", clock)  # type: ignore[call-arg,return-value]

    @classmethod
    def url(cls, place: Path) -> str | None:
        """Found by `open_broken`."""
        return f"broken://{cls.__name__}{place}/store"

    @classmethod
    def damaged_places(cls, before: Path, after: Path, into: Path) -> Iterable[Path]:
        """The end of the log is torn."""
        return torn_places(before, after, into)


class Logged(OnFiles, MemoryStorage):
    """Every batch is a frame of a log, with its length and its checksum; a torn tail is cut off."""

    def __init__(self, path: str, lease_clock: Callable[[], float]) -> None:
        super().__init__("memory://", lease_clock=lease_clock)
        self._path = path
        self._log: io.FileIO | None = None

    async def open(self) -> None:
        await super().open()
        self._log = open(self._path, "a+b", buffering=0)  # noqa: SIM115  # closed by `close`
        self._log.seek(0)
        good = 0
        try:
            for frame in self.frames(self._log.readall()):
                good += _HEADER.size + len(frame)
                self.apply(pickle.loads(frame))
        except pickle.UnpicklingError as error:
            await self.close()
            raise CorruptJournal("The log cannot be read", path=self._path) from error
        self.cut(good)

    def cut(self, good: int) -> None:
        """Drop what was not written completely."""
        assert self._log is not None
        self._log.truncate(good)

    def frames(self, content: bytes) -> Iterator[bytes]:
        """The frames of a log up to the first one that is not whole."""
        while len(content) >= _HEADER.size:
            length, checksum = _HEADER.unpack_from(content)
            frame = content[_HEADER.size : _HEADER.size + length]
            if not self.is_whole(frame, length, checksum):
                return
            yield frame
            content = content[_HEADER.size + length :]

    def is_whole(self, frame: bytes, length: int, checksum: int) -> bool:
        """Whether this is what was to be written."""
        return len(frame) == length and length > 0 and crc32(frame) == checksum

    def apply(self, entry: Batch | Session) -> BatchResult | None:
        """Do again what was done."""
        if isinstance(entry, Batch):
            return self._store.state.commit(entry)
        self._store.state.sessions[len(self._store.state.sessions) + 1] = entry
        return None

    async def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        await super().close()

    async def begin_session(self, host: str, lease: float) -> int:
        session = await super().begin_session(host, lease)
        self.write(pickle.dumps(Session(host, self._lease_clock() + lease, None)))
        return session

    async def commit(self, batch: Batch) -> BatchResult:
        self.write(pickle.dumps(batch))
        return await super().commit(batch)

    def write(self, frame: bytes) -> None:
        """Put one frame on the disk, or nothing."""
        assert self._log is not None
        end = os.fstat(self._log.fileno()).st_size
        try:
            self.put(_HEADER.pack(len(frame), crc32(frame)) + frame)
            self.sync()
        except OSError as error:
            with suppress(OSError):
                self._log.truncate(end)
            raise StorageFull("The disk is full", path=self._path) from error

    def put(self, data: bytes) -> None:
        """Write."""
        assert self._log is not None
        self._log.write(data)

    def sync(self) -> None:
        """Make sure that it is written."""
        assert self._log is not None
        os.fsync(self._log.fileno())


@caught_by("test_torn_write")
class TrustsTheTail(Logged):
    """The last write is taken as whole when its length is there, although its end is zeros."""

    def is_whole(self, frame: bytes, length: int, checksum: int) -> bool:
        return len(frame) == length and length > 0


@caught_by("test_torn_write")
class TakesPartsForWhole(Logged):
    """A batch is two frames, each with its checksum: when the second is torn, the first is taken as the whole."""

    async def commit(self, batch: Batch) -> BatchResult:
        if not batch.records:
            return await super().commit(batch)
        self.write(pickle.dumps(replace(batch, mails=[], progress={})))
        self.write(pickle.dumps(Batch(batch.session, batch.number, mails=batch.mails, progress=batch.progress)))
        return await MemoryStorage.commit(self, batch)


@caught_by("test_torn_write")
class LeavesTheTail(Logged):
    """A torn tail is passed over and not cut off, so that what is written after it is never found."""

    def cut(self, good: int) -> None:
        pass


@caught_by("test_torn_write")
class HasNoAtom(MinimalStorage, OnFiles):
    """The worked example without its rollback journal: a commit changes several pages, one after the other."""

    def __init__(self, path: str, lease_clock: Callable[[], float]) -> None:
        super().__init__(f"minimal://{path}", lease_clock=lease_clock)

    async def open(self) -> None:
        await super().open()
        self._usable().execute("PRAGMA journal_mode = OFF").fetchall()


@caught_by("test_killed_process_loses_nothing", "test_failing_disk[ENOSPC-False]")
class AcknowledgesFirst(Logged):
    """A batch is acknowledged when it stands in a buffer; the buffer is written when it is large."""

    buffer = b""

    def put(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > 100_000:
            super().put(self.buffer)
            self.buffer = b""


@caught_by("test_acknowledged_is_synced")
class NeverSyncs(Logged):
    """A batch is acknowledged when it is written to the file, and not when the disk has it."""

    def sync(self) -> None:
        pass


@caught_by("test_acknowledged_is_synced")
class TurnsSyncingOff(MinimalStorage, OnFiles):
    """The worked example with ``synchronous`` off, as many a guide to fast SQLite has it."""

    SYNCHRONOUS = "OFF"

    def __init__(self, path: str, lease_clock: Callable[[], float]) -> None:
        super().__init__(f"minimal://{path}", lease_clock=lease_clock)


@caught_by("test_failing_disk[ENOSPC-False]", "test_failing_disk[EIO-False]")
class SwallowsErrors(Logged):
    """A full or broken disk is passed over in silence."""

    def write(self, frame: bytes) -> None:
        with suppress(StorageError):
            super().write(frame)


@caught_by("test_failing_disk[EIO-True]")
class KeepsWhatItRefused(Logged):
    """After a failed sync the batch is refused, and yet it is on the file, and nobody tells."""

    def write(self, frame: bytes) -> None:
        assert self._log is not None
        try:
            self.put(_HEADER.pack(len(frame), crc32(frame)) + frame)
            self.sync()
        except OSError as error:
            raise StorageError("The disk is broken", path=self._path) from error


@caught_by("test_other_processes_share_the_claims")
class ClaimsBySight(MinimalStorage, OnFiles):
    """The worked example with a claim in two transactions: one looks, the other takes."""

    def __init__(self, path: str, lease_clock: Callable[[], float]) -> None:
        super().__init__(f"minimal://{path}", lease_clock=lease_clock)

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        due = f"status = 'running' AND owner IS NULL AND wake_at <= {now} ORDER BY key LIMIT {limit}"
        rows = self._rows(due)
        time.sleep(0.005)
        with self._transaction() as writing:
            for row in rows:
                _take(writing, row.key, session)
        return [Claim(row, await self.journal(row.key), await self.inbox(row.key)) for row in rows]


def _take(writing: Writing, key: int, session: Any) -> None:
    writing.execute("UPDATE process SET owner = ?, wake_at = NULL WHERE key = ?", [session, key])
