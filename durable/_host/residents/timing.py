"""The timers of a process in memory: set by its kernel, and a record when they ring."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durable._host.residents.appending import Appending, Surroundings
from durable._host.timers import Timer
from durable._kernel.commands import Alarm, CancelTimer, Deadline, SetTimer, Wake
from durable._kernel.execution import Execution
from durable.journal import Kind
from durable.times import to_microseconds

LAST_MOMENT = 2**63 - 1  # microseconds; what stores can keep


class Timing(Appending):
    """Timers by name, and whether it is an unnamed one; `Acting` builds on it."""

    __slots__ = ("_missed", "_timers")

    def __init__(self, engine: Surroundings, key: int, id: str, execution: Execution) -> None:
        super().__init__(engine, key, id, execution)
        self._timers: dict[tuple[str, bool], Timer] | None = None
        self._missed: list[tuple[Kind, str]] | None = None  # timers that rang while leaving

    # --- commands ---

    def _set_timer(self, command: SetTimer) -> None:
        if isinstance(command.length, timedelta):
            due = self._now() + command.length // timedelta(microseconds=1)
        else:
            due = to_microseconds(command.length)
        due = min(due, LAST_MOMENT)
        self.append(Kind.TIMER, command.name, self.engine.codec.encode((command.what, due)))

    def _wake(self, command: Wake) -> None:
        self._set((command.name, False), command.due, self._ring, Kind.FIRED, command.name)

    def _alarm(self, command: Alarm) -> None:
        self._set((command.name, True), command.due, self._ring, Kind.ALARM, command.name)

    def _deadline(self, command: Deadline) -> None:
        self._set(("", True), command.due, self._ring, Kind.CANCEL, "deadline")

    def _cancel_timer(self, command: CancelTimer) -> None:
        if self._timers and (timer := self._timers.pop((command.name, command.alarm), None)):
            timer.cancel()

    # --- ringing ---

    def _set(self, name: tuple[str, bool], due: int, function: Any, *args: Any) -> None:
        if self._timers is None:
            self._timers = {}
        if old := self._timers.get(name):
            old.cancel()
        self._timers[name] = self.engine.timers.add(due, function, *args)

    def _ring(self, kind: Kind, name: str) -> None:
        if self._timers:
            timer = self._timers.pop(("", True) if kind is Kind.CANCEL else (name, kind is Kind.ALARM), None)
            observer = self.engine.observer
            if observer is not None and timer is not None:
                observer.timer_fired(self, (self.engine.clock.now() - timer.due) / 1_000_000)
        if self.leaving:
            self._missed = [*(self._missed or ()), (kind, name)]
        elif kind is Kind.CANCEL:
            self.append(kind, name, self.engine.codec.encode("its time was over"))
        else:
            self.append(kind, name)

    def _ring_missed(self) -> None:
        """It stays after all: record what rang while it was about to leave."""
        missed, self._missed = self._missed or (), None
        for kind, name in missed:
            self._ring(kind, name)

    def wake_at(self) -> int | None:
        """When it wants to run again by itself."""
        return min((timer.due for timer in (self._timers or {}).values()), default=None)

    def _cancel_timers(self) -> None:
        """Forget every timer."""
        for timer in (self._timers or {}).values():
            timer.cancel()
        self._timers = None
