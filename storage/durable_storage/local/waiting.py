"""
Telling who is in the way: a warning when a lock between OS processes has been waited for too long.

A lock is held for milliseconds. Whoever holds it for seconds was stopped (SIGSTOP, a debugger, a frozen container) or
has a disk that hangs, and everybody on the store waits. Nothing can be done about it from here but to say who it is.

One thread for all locks of an OS process looks after those who wait, and it sleeps while nobody does: a wait costs no
more than two changes of a table.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 3.0  # seconds

# `struct flock`: on Linux (type, whence, start, length, pid), elsewhere (start, length, pid, type, whence)
_FLOCK = struct.Struct("hhqqi4x" if sys.platform == "linux" else "qqihh")

_logger = logging.getLogger("durable_storage.local")


def holder_of(descriptor: int) -> int | None:
    """The id of another OS process that has the file locked, None if nobody has, or nobody can tell who."""
    wanted = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) if sys.platform == "linux" else (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
    found = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(*wanted)))
    kind, pid = (found[0], found[4]) if sys.platform == "linux" else (found[3], found[2])
    return None if kind == fcntl.F_UNLCK or pid <= 0 else pid


class _Watch:
    """The waits of this OS process, and the thread that warns of those that last."""

    def __init__(self) -> None:
        self._waits: dict[int, tuple[float, str, int]] = {}  # thread -> (since, path, descriptor)
        self._somebody_waits = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, path: str, descriptor: int) -> Iterator[None]:
        """Around a wait for the lock on *path*."""
        me = threading.get_ident()
        self._waits[me] = (time.monotonic(), path, descriptor)
        self._somebody_waits.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="durable waits for a lock", daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._waits.pop(me, None)

    def _look(self) -> None:
        told: set[tuple[float, str, int]] = set()
        while self._somebody_waits.wait():
            self._somebody_waits.clear()
            while waits := set(self._waits.values()):
                for wait in waits - told:
                    if time.monotonic() - wait[0] >= _PATIENCE:
                        told.add(wait)
                        _tell(*wait[1:])
                told &= waits
                time.sleep(_PATIENCE / 10)


def _tell(path: str, descriptor: int) -> None:
    try:
        holder = holder_of(descriptor)
    except OSError:
        return  # it was closed meanwhile
    if holder is not None:
        _logger.warning(
            "waiting for %s since %g s: the OS process %d holds it. If it was stopped, `kill -CONT %d` lets it go on; "
            "if it hangs, `kill -9 %d` frees the lock, and nothing is lost",
            path,
            _PATIENCE,
            holder,
            holder,
            holder,
        )


watch = _Watch()


def forget_all() -> None:
    """In a child after a fork, which has none of these threads."""
    global watch
    watch = _Watch()
