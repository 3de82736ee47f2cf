"""
The progress of the processes of a host: shown at once to who watches here, and written for the others.

Both with pauses: an action may report in every turn of a tight loop. The last report always gets through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from durable._host.writing.writer import Writer
from durable.codec import Codec

_TELL_EVERY = 0.05  # seconds between two times that watchers here are told of an action that goes on reporting
_WRITE_EVERY = 0.2  # seconds between two writes of the progress of one process

_Report = tuple[float, float | None, str]


class Reports:
    """
    The last report of each process in memory, and of each of its actions that run.

    Args:
        changed: Called with the id of a process whose progress somebody may watch.
    """

    def __init__(self, codec: Codec, writer: Writer, changed: Callable[[str], object]) -> None:
        self._codec = codec
        self._writer = writer
        self._changed = changed
        self._shown: dict[int, _Shown] = {}

    def last(self, key: int) -> bytes | None:
        """The progress of process *key*, written or not."""
        shown = self._shown.get(key)
        return None if shown is None else self._encode(shown)

    def report(self, key: int, id: str, checkpoint: str | None, report: _Report) -> None:
        """The process, or the action of a *checkpoint*, says how far it is."""
        shown = self._shown.get(key)
        if shown is None:
            shown = self._shown[key] = _Shown(lambda: self._changed(id), lambda: self._write(key))
        # A process is paced by its checkpoints, and the first word of an action is news: only the rest has to wait.
        at_once = checkpoint is None or checkpoint not in shown.steps
        shown.last = report
        if checkpoint is not None:
            shown.steps[checkpoint] = report
        shown.show(at_once=at_once)

    def end_step(self, key: int, checkpoint: str) -> None:
        """The action has ended, and what it said about itself is over with it."""
        shown = self._shown.get(key)
        if shown is not None and shown.steps.pop(checkpoint, None) is not None:
            shown.show()

    def write_last(self, key: int) -> None:
        """The process is about to leave: its last report is written whatever the pause since the one before."""
        shown = self._shown.get(key)
        if shown is not None:
            shown.close()
            shown.steps.clear()
            self._write(key)

    def forget(self, key: int) -> None:
        """The process has left."""
        shown = self._shown.pop(key, None)
        if shown is not None:
            shown.close()

    def _write(self, key: int) -> None:
        self._writer.show(key, self._encode(self._shown[key]))

    def _encode(self, shown: _Shown) -> bytes:
        return self._codec.encode((*shown.last, dict(shown.steps)) if shown.steps else shown.last)


class _Shown:
    """What is known of one process, and when it was last told and written."""

    __slots__ = ("_tell", "_write", "last", "steps")

    def __init__(self, tell: Callable[[], object], write: Callable[[], object]) -> None:
        self.last: _Report = (0, None, "")
        self.steps: dict[str, _Report] = {}
        self._tell = _Pace(_TELL_EVERY, tell)
        self._write = _Pace(_WRITE_EVERY, write)

    def show(self, *, at_once: bool = False) -> None:
        """Something is new; tell it *at_once*, or when it is time."""
        self._tell.want(at_once=at_once)
        self._write.want()

    def close(self) -> None:
        """Nothing more is to be shown."""
        self._tell.cancel()
        self._write.cancel()


class _Pace:
    """Calls *function* at once, or *seconds* after the last time."""

    __slots__ = ("_function", "_last", "_seconds", "_timer")

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self._seconds = seconds
        self._function = function
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def want(self, *, at_once: bool = False) -> None:
        if at_once:
            self.cancel()
            self._go()
            return
        if self._timer is not None:
            return
        pause = self._last + self._seconds - monotonic()
        if pause <= 0:
            self._go()
        else:
            self._timer = asyncio.get_running_loop().call_later(pause, self._go)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go(self) -> None:
        self._timer = None
        self._last = monotonic()
        self._function()
