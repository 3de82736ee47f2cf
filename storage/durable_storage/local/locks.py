"""
Locks between OS processes: the one lock of a store, and the file by which a session shows that it lives.

Both are POSIX record locks (`fcntl.lockf`), which the kernel frees when an OS process is killed. Their traps decide the
shape of this module: they do not conflict inside one OS process, so a `threading.Lock` stands in front; they vanish
when *any* descriptor of the file is closed, so there is exactly one descriptor per file and OS process, kept in the
tables below; and a fork inherits descriptors but no locks, so a child starts with empty tables.

Why one lock around everything that writes: SQLite up to 3.51.2 can corrupt a WAL database when two connections write
or checkpoint at the same instant (the "WAL-reset" bug). Writers exclude each other anyway, so the lock costs a few
microseconds. It also makes session files simple: they are created, tried and deleted under it only.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import suppress
from types import TracebackType

from durable.errors import StorageError, UnsupportedFilesystem

try:
    import fcntl

    from durable_storage.local import waiting
except ImportError as error:  # pragma: no cover (Windows)
    raise StorageError(
        "Stores on a disk need POSIX file locks, which this system does not have",
        fix="use memory:// for tests, or a server database",
    ) from error

_COUNTER_BYTES = 8

_guard = threading.Lock()
_store_locks: dict[str, StoreLock] = {}
_session_files: dict[tuple[str, int], int] = {}  # (directory, session) -> the descriptor that holds the lock
_open_before_fork: set[str] = set()


class StoreLock:
    """
    The lock of one store, and a counter of changes in the same file, readable without the lock.

    Get it by `share`, use it as a context manager (blocking), give it back by `release`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.users = 1
        self._thread_lock = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    @staticmethod
    def share(path: str) -> StoreLock:
        """
        Return the lock on *path* (an absolute path without symbolic links), made if this OS process has none yet.

        Raises:
            StorageError: The store was open when this OS process was forked: its locks are not this OS process's.
        """
        with _guard:
            if path in _open_before_fork:
                raise StorageError(
                    "The store was open when this OS process was forked, and cannot be used after that",
                    lock=path,
                    fix="open the store after the fork, or start children with the spawn method",
                )
            lock = _store_locks.get(path)
            if lock is None:
                lock = _store_locks[path] = StoreLock(path)
            else:
                lock.users += 1
            return lock

    @staticmethod
    def is_shared(path: str) -> bool:
        """Whether a storage object of this OS process has the lock on *path* in use."""
        return path in _store_locks

    def release(self) -> None:
        """Give the lock back; the last user of this OS process closes its file."""
        with _guard:
            self.users -= 1
            if self.users == 0 and _store_locks.get(self.path) is self:
                del _store_locks[self.path]
                os.close(self._descriptor)
                self._descriptor = -1  # never the number of somebody else's file

    def __enter__(self) -> None:
        self._thread_lock.acquire()
        try:
            if not _try_lock(self._descriptor):
                with waiting.watch.over(self.path, self._descriptor):
                    _lock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._thread_lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._thread_lock.release()

    def changes(self) -> int:
        """How often `announce` was called, by anyone; costs one system call and needs no lock."""
        return int.from_bytes(os.pread(self._descriptor, _COUNTER_BYTES, 0), "little")

    def announce(self, changes: int) -> None:
        """Set the counter (under the lock). Only a hint depends on it, so a full disk is no reason to fail."""
        with suppress(OSError):
            os.pwrite(self._descriptor, changes.to_bytes(_COUNTER_BYTES, "little"), 0)


class SessionFiles:
    """
    One small file per living session, locked by its OS process. Every method is called under the store's lock.

    Whoever can take the lock of another OS process's session knows that its holder is gone. Sessions of this OS process
    are never tried (closing the second descriptor would free the lock): they live while they stand in the table.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._held: set[int] = set()

    def hold(self, session: int, holder: str = "") -> None:
        """Create and lock the file of a new *session*; *holder* is what it says to people who look into it."""
        os.makedirs(self._directory, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(self._path(session))  # left by a store that was deleted or restored: not this session's
        descriptor = os.open(self._path(session), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(descriptor, holder.encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        _session_files[self._directory, session] = descriptor
        self._held.add(session)

    def is_gone(self, session: int) -> bool:
        """Whether the OS process (or the storage object of this one) that held *session* is surely gone."""
        if (self._directory, session) in _session_files:
            return False
        try:
            descriptor = os.open(self._path(session), os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # deleted by hand, or not ours to open: nothing is known, the lease decides
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def remove(self, session: int) -> None:
        """Delete the file of a *session* that is dead or has ended for good."""
        with suppress(FileNotFoundError, IsADirectoryError):  # a directory of that name is somebody's mistake
            os.unlink(self._path(session))
        self._let_go(session)

    def sweep(self, alive: set[int]) -> None:
        """Delete what crashes have left: files of sessions that are not in *alive*."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name.isdecimal() and int(name) not in alive:
                    self.remove(int(name))

    def let_go(self) -> None:
        """Unlock every file held by this object, without deleting it: its sessions count as gone from now on."""
        for session in list(self._held):
            self._let_go(session)

    def _let_go(self, session: int) -> None:
        if session in self._held:
            self._held.discard(session)
            os.close(_session_files.pop((self._directory, session)))

    def _path(self, session: int) -> str:
        return os.path.join(self._directory, str(session))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # somebody has it, or the second, blocking try will tell what is wrong
    return True


def _lock(descriptor: int, operation: int) -> None:
    while True:
        try:
            fcntl.lockf(descriptor, operation)
            return
        except OSError as error:
            if error.errno == errno.EDEADLK:
                # The kernel takes threads that wait for the locks of two stores for one waiter that blocks itself.
                time.sleep(0.001)
            elif error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise UnsupportedFilesystem(
                    "The filesystem of the store has no working file locks",
                    error=os.strerror(error.errno),
                    fix="keep the store on a local disk",
                ) from error
            else:
                raise


def check_not_forked(process: int, path: str) -> None:
    """
    Check that this is the OS process that opened the store at *path*.

    Raises:
        StorageError: It was forked from that one.
    """
    if process != os.getpid():
        raise StorageError(
            "This storage object was opened before a fork and cannot be used in the child",
            path=path,
            fix="open the store after the fork, or start children with the spawn method",
        )


def _start_child() -> None:
    """After a fork: drop the parent's descriptors before this OS process takes locks of its own, and remember why."""
    global _guard
    _guard = threading.Lock()
    _open_before_fork.update(_store_locks)
    for lock in _store_locks.values():
        os.close(lock._descriptor)
    for descriptor in _session_files.values():
        os.close(descriptor)
    _store_locks.clear()
    _session_files.clear()
    waiting.forget_all()


os.register_at_fork(after_in_child=_start_child)
