"""
`Store`: one object's view of a directory. Opening and closing it, reading it, and running transactions.

The state in memory is brought up to date from the commit log before anything is asked or written, so any number of OS
processes may share a directory. Two locks: the store's lock is held for the length of a transaction (read the log,
decide, write, sync); the lock of the files is held by who reads all journal files or writes to them: an opening or a
checkpoint. Who needs both takes the lock of the files first. Everything may be called from any thread.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from durable.errors import CorruptJournal, StorageError
from durable_storage.filesystem import index
from durable_storage.filesystem.entry import RESTORE, Entry
from durable_storage.filesystem.failures import translated
from durable_storage.filesystem.following import Outdated, enter, follow, head_of
from durable_storage.filesystem.journals import Journals, Loaded
from durable_storage.filesystem.layout import Layout, journal_name
from durable_storage.filesystem.log import Log
from durable_storage.filesystem.state import State
from durable_storage.filesystem.transaction import Changes
from durable_storage.local.announcements import Announcements
from durable_storage.local.locks import StoreLock

_logger = logging.getLogger("durable_storage.filesystem")
_T = TypeVar("_T")


class Store:
    """The store in the directory of *layout*."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.journals = Journals(layout)
        os.makedirs(layout.directory, exist_ok=True)
        self.lock = StoreLock.share(layout.lock)
        try:
            self.files_lock = StoreLock.share(layout.files_lock)
        except BaseException:
            self.lock.release()
            raise
        self.state = State()
        self.log = Log(layout)
        self._mutex = threading.RLock()
        self.unindexed = 0
        self._is_checked = False  # whether the journal files were looked at, or only the index of them
        self.announcements = Announcements(self.lock)

    # --- opening and closing

    def open(self) -> None:
        """Create what is missing, read what is there."""
        with translated(self.layout.directory):
            with self.lock:
                self.layout.create()
                if not self.layout.segments():
                    self.log.begin(head_of(State()))
                    self.log.close()
            self.load(checking=False)

    def close(self) -> None:
        """Let go of everything."""
        self.log.close()
        self.files_lock.release()
        self.lock.release()

    def load(self, *, checking: bool = True) -> None:
        """
        Build the state from the files and the log. Commits of others go on meanwhile, checkpoints do not.

        With *checking* False, the index may do for the files: enough for listings.
        """
        with self.files_lock:
            files = index.load(self.layout, self.journals, checking=checking)
            state, log = files.state, Log(self.layout)
            enter(state, log, self.layout.first_segment())
            follow(state, log, locked=False)
            with self.lock, self._mutex:
                follow(state, log, locked=True)
                log.cut()
                self.log.close()
                self.state, self.log, self.unindexed = state, log, files.unindexed
                self._is_checked = files.is_checked
                for loaded in files.suspects:
                    self._settle(loaded)
                renewed = {journal_name(state.entries[key].id) for key in state.dirty}
                state.unreadable = {name: why for name, why in state.unreadable.items() if name not in renewed}

    def _settle(self, loaded: Loaded) -> None:
        """Decide about a file with something behind its last whole line, now that the log has been read."""
        entry = self.state.entries.get(loaded.entry.key)
        if entry is None or entry.damage is not None or entry.born != loaded.entry.born:
            return
        if entry.pending and (loaded.torn or entry.length >= loaded.size):
            return  # an interrupted checkpoint; the next one writes it again
        if not loaded.torn:
            damaged = entry.clone()
            damaged.damage = f"its file is damaged at byte {loaded.entry.length} of {loaded.size}; {RESTORE}"
            _logger.error("the journal of %r cannot be read: %s", entry.id, damaged.damage)
            self.state.install(damaged)
            return
        _logger.warning(
            "cut %d bytes of an unfinished line from the journal of %r", loaded.size - entry.length, entry.id
        )
        with suppress(OSError):
            self.journals.cut(loaded)

    def catch_up(self) -> bool:
        """Read what others have written; False if everything has to be read again (`load`)."""
        if not self._is_checked:
            return False
        try:
            with self._mutex:
                follow(self.state, self.log, locked=False)
        except Outdated:
            return False
        return True

    def has_work(self) -> bool:
        """Whether the journal files may lack something; surely not, if index and log have told of nothing."""
        try:
            with self._mutex:
                follow(self.state, self.log, locked=False)
                return self._is_checked or bool(self.state.dirty or self.state.purged)
        except Outdated:
            return True

    # --- transactions

    def read(self, function: Callable[[State], _T], *, of_files: bool = False) -> _T:
        """
        Run *function* on the state as the log has it now, without holding up those who write.

        ``of_files`` says that it reads journal files, too.
        """
        with translated(self.layout.directory):
            if of_files and not self._is_checked:
                self.load()
            while True:
                try:
                    with self._mutex:
                        follow(self.state, self.log, locked=False)
                        return function(self.state)
                except Outdated:
                    self.load()
                except CorruptJournal:
                    if not self.log.has_more():
                        raise  # else a checkpoint may have replaced the file of a process that has restarted since

    def write(
        self,
        function: Callable[[Changes], _T],
        *,
        durably: bool = True,
        announced: bool = True,
        afterwards: Callable[[_T], None] | None = None,
    ) -> _T:
        """
        Run *function*, write what it has changed as one frame of the log, and make it durable.

        Args:
            function: Says what changes; if it raises, nothing is written.
            durably: Wait for the disk.
            announced: Tell other storage objects that they may have something to do.
            afterwards: Called with the result when it is written, still under the lock.

        Raises:
            StorageError: Nothing was written.
        """
        with self._writing():
            changes = Changes(self.state, self.journals)
            result = function(changes)
            if not changes.is_empty():
                parts = changes.parts()
                self.log.append(changes.head, parts, durably=durably)
                changes.install(self.log.segment, parts)
                if announced:
                    self.announcements.announce()
            if afterwards is not None:
                afterwards(result)
            return result

    @contextmanager
    def _writing(self, *, reload: bool = True) -> Iterator[None]:
        """Everything up to date, and nobody else writes; *reload* False for who holds the lock of the files."""
        with translated(self.layout.directory):
            while True:
                with self.lock, self._mutex:
                    if self._is_up_to_date():
                        yield
                        return
                if not reload:
                    raise StorageError("The commit log was changed by a disk that failed", path=self.layout.directory)
                self.load()

    def _is_up_to_date(self) -> bool:
        if not self._is_checked:
            return False
        try:
            follow(self.state, self.log, locked=True)
        except Outdated:
            return False
        return True

    # --- checkpoints

    def begin_segment(self, collect: Callable[[], _T]) -> tuple[int, _T]:
        """Go on in a new segment; return the number of the old one, and what *collect* says of everything up to it."""
        with self._writing(reload=False):
            segment = self.log.segment
            self.log.begin(head_of(self.state))
            return segment, collect()

    def forget_segments(self, last: int) -> None:
        """Tell everybody that all up to segment *last* stands in the files, and delete it."""
        with self._writing(reload=False):
            self.log.append({"flushed": last}, (), durably=False)
            self.state.flushed(last)
        for segment in self.layout.segments():
            if segment <= last:
                os.unlink(self.layout.segment(segment))

    def unchanging_entries(self) -> Iterator[Entry]:
        """The entries whose files say all that is known, some at a time, so that others get their turn."""
        keys = list(self.state.entries)
        for start in range(0, len(keys), 1000):
            with self._mutex:
                entries = [
                    self.state.entries.peek(key) for key in keys[start : start + 1000] if key in self.state.entries
                ]
            yield from (entry for entry in entries if not entry.pending and entry.damage is None)
