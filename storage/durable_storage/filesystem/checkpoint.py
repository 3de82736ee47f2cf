"""
Checkpoints: moving what the commit log says into the journal files, so that the log can be cut short.

They run beside commits, on a thread of their own: the log goes on in a new segment, the older ones are written into the
files and synced, many at a time, and only then deleted. A crash in between leaves the segments, and they are read
again. One checkpoint at a time in all OS processes, by the lock of the files.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from durable.errors import CorruptJournal, StorageError
from durable_storage.filesystem import index
from durable_storage.filesystem.layout import sync_directory
from durable_storage.filesystem.store import Store

_DUE_AT = 16 * 2**20  # bytes in a segment; they are in the memory of each object, too, until they are in the files
_INDEX_AT = 1000  # files that opening has to read, beside a tenth of all, before the index is written again
_PARALLEL = 8  # fsyncs at a time: the filesystem serves several with one write of its own journal

_logger = logging.getLogger("durable_storage.filesystem")


class _Move(NamedTuple):
    """Bytes to be written to the file of a process."""

    id: str
    offset: int
    data: bytes


class Checkpointer:
    """The checkpoints of one storage object."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._unindexed = 0
        self._due_at = 0  # how long the log has to be after one that failed
        self._closed = False

    def start_if_due(self) -> None:
        """Start one in the background, if the log has grown and none is under way."""
        is_due = self._store.log.position >= max(_DUE_AT, self._due_at) and not self._closed
        if is_due and (self._thread is None or not self._thread.is_alive()):
            thread = threading.Thread(target=self._run_if_due, name="durable checkpoint", daemon=True)
            thread.start()
            self._thread = thread  # who waits for it may do so from another thread

    def finish(self) -> None:
        """Make the files complete, and the index of them."""
        self.wait()
        store = self._store
        while not self._finish():
            store.load()  # others have moved the log while this object did not look

    def _finish(self) -> bool:
        store = self._store
        with store.files_lock:
            if not store.has_work():
                return True
            if not store.catch_up():
                return False
            if store.state.dirty or store.state.purged:
                self._run()
            if self._unindexed or store.unindexed:
                self._save_index()
        return True

    def close_store(self, *, last: bool) -> None:
        """Close the store; *last* says that nobody else works there, so that the files are to be complete."""
        try:
            if last:
                self.finish()
        except (OSError, StorageError) as error:
            directory = self._store.layout.directory
            _logger.warning("the journal files of %s are not complete, the log is kept: %s", directory, error)
        finally:
            self._closed = True
            self.wait()
            self._store.close()

    def wait(self) -> None:
        """Wait for the one that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _run_if_due(self) -> None:
        try:
            with self._store.files_lock:
                if self._store.catch_up() and self._store.log.position >= _DUE_AT:  # nobody else has done it meanwhile
                    self._run()
                    if self._unindexed > _INDEX_AT + len(self._store.state.entries) // 10:
                        self._save_index()
            self._due_at = 0
        except (OSError, StorageError) as error:
            self._due_at = self._store.log.position + _DUE_AT
            _logger.warning("a checkpoint of %s failed, the log is kept: %s", self._store.layout.directory, error)

    def _run(self) -> None:
        store = self._store
        if store.state.is_missing:
            names = sorted(store.state.refused)
            fix = "look after the files and their disk, then restart the hosts"
            raise StorageError("Lines of the log belong into files that the system refuses", files=names, fix=fix)
        segment, (moves, purged) = store.begin_segment(self._collect)
        with ThreadPoolExecutor(_PARALLEL, "durable checkpoint") as threads:
            for _ in threads.map(self._write, moves):
                pass
        for path in purged:
            with suppress(FileNotFoundError):
                os.unlink(path)
        sync_directory(store.layout.journals)
        self._unindexed += len(moves) + len(purged)
        store.forget_segments(segment)

    def _collect(self) -> tuple[list[_Move], list[str]]:
        state, layout = self._store.state, self._store.layout
        moves: list[_Move] = []
        for key in state.dirty:
            entry = state.entries[key]
            moves.append(_Move(entry.id, entry.pending[0].offset, b"".join(chunk.data for chunk in entry.pending)))
        return moves, [layout.journal(purged.id) for purged in state.purged if purged.id not in state.keys]

    def _write(self, move: _Move) -> None:
        try:
            self._store.journals.write(*move)
        except (FileNotFoundError, CorruptJournal) as error:
            _logger.error("the journal of %r was changed by hand, and cannot be continued: %s", move.id, error)

    def _save_index(self) -> None:
        store = self._store
        try:
            index.save(store.layout, store.unchanging_entries(), store.log.segment)
            self._unindexed = store.unindexed = 0
        except OSError as error:
            _logger.warning("the index of %s was not written: %s", store.layout.directory, error)
