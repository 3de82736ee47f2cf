"""
The connection that writes: opening, transactions, checkpoints, and what happens when the disk fails.

Everything here runs on the writer's thread, and everything that touches the file as a writer does so under the store's
lock (`StoreLock` says why). What is done inside a transaction is for ``commit``, ``claims`` and ``sessions`` to say.

A COMMIT that fails leaves a doubt: its frames may stand in the WAL although SQLite does not show them, and a recovery
after a crash could bring them back. After a failed fsync the page cache is not to be trusted either (the kernel may
have marked lost pages as clean). So a second connection is opened while the first still holds the shared index (no
recovery can run), the first is closed, and a small committed transaction overwrites the doubtful frames. Then the batch
is surely not there, and the error can say so. If even that fails, the next successful commit overwrites them.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from durable.errors import StorageError
from durable_storage.local.announcements import Announcements
from durable_storage.local.locks import StoreLock
from durable_storage.sqlite.failures import translate
from durable_storage.sqlite.migrations import version_of
from durable_storage.sqlite.opening import prepare

_CHECKPOINT_AT = 4 * 2**20  # bytes of WAL worth a checkpoint; a longer one slows down readers
_TRUNCATE_AT = 64 * 2**20  # only a long-running reader lets the WAL grow so far; give the space back

_logger = logging.getLogger("durable_storage.sqlite")
_T = TypeVar("_T")


class Database:
    """The writing connection to one store. Not for use by two threads."""

    def __init__(self, path: str, busy_timeout: float) -> None:
        self.path = path
        self.lock = StoreLock.share(path + "-lock")
        self.announcements = Announcements(self.lock)
        self._busy_timeout = busy_timeout
        self._checkpoint_at = _CHECKPOINT_AT
        self._connection: sqlite3.Connection | None = None

    # --- opening and closing

    def open(self) -> None:
        """Open the file, create or migrate the schema."""
        try:
            with self.lock:
                connection = self._connect()
                try:
                    prepare(connection, self.path)
                except BaseException:
                    connection.close()
                    raise
                self._connection = connection
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        """Close the connection; the last one of all OS processes moves the whole WAL into the file."""
        try:
            if self._connection is not None:
                with self.lock:
                    self._connection.close()
        finally:
            self._connection = None
            self.lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout, isolation_level=None, cached_statements=256)
        try:
            # FULL: a commit is on the disk when it returns. No mmap, no automatic checkpoint: see `StoreLock`.
            for setting in (
                "synchronous = FULL",
                "fullfsync = ON",
                "checkpoint_fullfsync = ON",
                "mmap_size = 0",
                "wal_autocheckpoint = 0",
                "cache_size = -16384",
                "temp_store = MEMORY",
            ):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    # --- transactions

    def read(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run *function* without a transaction of its own; it must not write."""
        try:
            return function(self._opened())
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error

    def write(
        self,
        function: Callable[[sqlite3.Connection], _T],
        *,
        afterwards: Callable[[_T], None] | None = None,
        is_applied: Callable[[sqlite3.Connection], bool] | None = None,
    ) -> _T:
        """
        Run *function* in one immediate transaction and commit it.

        Args:
            function: Does the work; if it raises, nothing is written.
            afterwards: Called with its result when that is committed, still under the lock.
            is_applied: Asked after a COMMIT that failed: whether the transaction is there nevertheless.

        Raises:
            StorageError: Nothing was written.
        """
        try:
            with self.lock:
                result = self._transact(function, is_applied)
                if afterwards is not None:
                    afterwards(result)
            return result
        except (sqlite3.Error, OSError) as error:
            raise translate(error, self.path) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise StorageError(f"SQLite cannot keep that, nothing was written: {error}", path=self.path) from error

    def _transact(
        self, function: Callable[[sqlite3.Connection], _T], is_applied: Callable[[sqlite3.Connection], bool] | None
    ) -> _T:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = function(connection)
        except BaseException:
            _roll_back(connection)
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._settle(error, is_applied):
                raise
        return result

    def _settle(self, error: sqlite3.Error, is_applied: Callable[[sqlite3.Connection], bool] | None) -> bool:
        """After a failed COMMIT: make sure what is in the file (see the top), and return whether it was applied."""
        _logger.error("a commit to %s failed: %s; opening the file anew", self.path, error)
        doubtful = self._opened()
        _roll_back(doubtful)
        self._connection = self._connect()
        doubtful.close()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            applied = is_applied is not None and is_applied(self._connection)
            # Written anew even if it is the same: any frame in the place of the doubtful ones makes them invalid.
            self._connection.execute(f"PRAGMA user_version = {version_of(self._connection)}")
            self._connection.execute("COMMIT")
            return applied
        except sqlite3.Error:
            _roll_back(self._connection)
            return False

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError("The store is not open", path=self.path, fix="await storage.open() first")
        return self._connection

    # --- the WAL

    def grow_log(self) -> None:
        """
        Write the WAL out to its usual size, in advance.

        A commit that makes the file longer waits for the filesystem to note so, which took half of its time; one that
        writes over old bytes does not. SQLite takes what is behind its last frame for the rest of an older log. From
        here on the WAL keeps its size: it is moved and begun again, never shortened.
        """
        try:
            with self.lock:
                descriptor = os.open(self.path + "-wal", os.O_WRONLY)
                try:
                    size = os.fstat(descriptor).st_size
                    if size < _CHECKPOINT_AT:
                        os.pwrite(descriptor, bytes(_CHECKPOINT_AT - size), size)
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)  # frees no lock: SQLite has none on this file
        except OSError as error:
            _logger.debug("the WAL of %s was not grown: %s", self.path, error)  # then it grows as it is written

    def checkpoint_if_due(self) -> None:
        """
        Move the WAL into the database file when it has grown.

        A WAL that was moved completely is written from its beginning again and does not grow, so growth beyond the
        size at the last checkpoint is the sign that there is much to move again. Failure costs nothing but space: the
        next call tries again.
        """
        if self._connection is None:  # closed: the lock may be, too
            return
        try:
            size = os.stat(self.path + "-wal").st_size
            if size <= self._checkpoint_at:
                return
            with self.lock:
                busy, frames, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                complete = not busy and frames == moved
                if complete and size > _TRUNCATE_AT:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    size = 0
            self._checkpoint_at = max(size, _CHECKPOINT_AT) if complete else size + _CHECKPOINT_AT
        except FileNotFoundError:
            return
        except (sqlite3.Error, OSError) as error:
            _logger.warning("a checkpoint of %s failed: %s", self.path, error)


def _roll_back(connection: sqlite3.Connection) -> None:
    """Undo the open transaction, unless SQLite has done so itself as it does after some errors."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
