"""
A filesystem store that is killed in the middle of a write: so many bytes of the last frame of its commit log stay.

A kill by a signal leaves whole system calls; a power cut and a full disk leave part of one. A file beside the stories
tells the next life which write to tear, and where; it is gone as soon as that has happened.
"""

from __future__ import annotations

import os
import signal
from enum import Enum
from pathlib import Path

from durable.storage import JournalStorage
from durable.testing.crash import CrashTest, KillPoint, Moment
from durable_storage.filesystem import log
from durable_storage.filesystem.layout import write_all

URL = "file://{directory}/store"

_ORDER = "tear"
_WHOLE = "whole"
_NEVER = 1_000_000  # more writes than a life has: the kill comes from here, not from the harness


class Torn(Enum):
    """What became of an order to tear a write."""

    TORN = "torn"
    WHOLE = "the write was not longer than that"
    NEVER = "there were fewer writes"


def tell_torn(test: CrashTest, place: Path, write: int, cut: int) -> Torn:
    """Tell the story in which the *write*-th write to the commit log (from 1) is torn after *cut* bytes."""
    order = place / _ORDER
    order.write_text(f"{write} {cut}")
    if test.tell(KillPoint(_NEVER * write + cut, Moment.BEFORE)).kills:
        return Torn.TORN
    became = Torn.WHOLE if order.read_text() == _WHOLE else Torn.NEVER
    order.unlink()
    return became


def tearing(storage: JournalStorage) -> JournalStorage:
    """The store as it is, in an OS process that kills itself where `tell_torn` has said."""
    order = Path(storage._layout.directory).parents[1] / _ORDER  # type: ignore[attr-defined]
    if order.exists() and not isinstance(vars(log)["write_all"], _Tear):
        setattr(log, "write_all", _Tear(order))  # noqa: B010 (an assignment would be an error of types)
    return storage


class _Tear:
    """What writes to the commit log."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._left, self._cut = map(int, order.read_text().split())

    def __call__(self, descriptor: int, data: bytes, offset: int) -> None:
        self._left -= 1
        if self._left != 0:
            write_all(descriptor, data, offset)
        elif self._cut < len(data.rstrip(b"\0")):  # behind the frame there may be zeros
            write_all(descriptor, data[: self._cut], offset)
            self._order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            write_all(descriptor, data, offset)
            self._order.write_text(_WHOLE)
