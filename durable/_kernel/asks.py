"""
What process code asks for: checkpoints under a name of their own, and the unnamed timers of asyncio.

Belongs here: the way from a line of the process to a command. Not here: how it is answered (`answers`).
"""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from durable._kernel import problems
from durable._kernel.answers import Answers
from durable._kernel.checkpoints import Ask, LastingAsk
from durable._kernel.commands import (
    Alarm,
    CancelTimer,
    Command,
    RecordIntent,
    Report,
    RunAction,
    SetTimer,
    StartChild,
    TakeValue,
)
from durable._kernel.futures import ProcessTask, TimerCallback
from durable._kernel.program import Program
from durable._kernel.started import Lineage, child_id, encode_started
from durable.codec import Codec
from durable.journal import ID_LIMIT, Kind, Record, check_name


class Given:
    """A recorded value at the checkpoint that asks for it: awaiting it does not suspend."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        return self.value
        yield


class Beginning(NamedTuple):
    """What a child, or the next life of the process itself, begins with; *timeout* in microseconds."""

    definition: str
    queue: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    timeout: int | None

    def encode(self, codec: Codec, lineage: Lineage) -> bytes:
        """The payload of its first record."""
        return encode_started(codec, self.args, self.kwargs, self.timeout, lineage)


class Asks(Answers):
    """The lines of a process that reach the outside; `Execution` builds on it."""

    __slots__ = ("_alarms", "_early_alarms", "_position", "_upcoming")

    def __init__(self, process_id: str, program: Program, codec: Codec) -> None:
        super().__init__(process_id, program, codec)
        self._alarms: dict[str, TimerCallback] | None = None
        self._early_alarms: set[str] | None = None
        self._upcoming: Sequence[Record] = ()
        self._position = 0

    # --- checkpoints ---

    def take_value(self, name: str, factory: Callable[[], Any]) -> Ask | Given:
        if (given := self._given("get", name, Kind.VALUE)) is not None:
            return given
        return self._ask("get", name, TakeValue(name, factory))

    def run_action(self, name: str, action: Callable[[], Any], options: Any, at_most_once: bool) -> Ask | Given:
        if (given := self._given("do", name, Kind.DONE)) is not None:
            return given
        command = RunAction(name, action, options)
        return self._ask("do", name, RecordIntent(name, command) if at_most_once else command)

    def set_timer(self, what: str, name: str, length: timedelta | datetime) -> Ask:
        return self._ask(what, name, SetTimer(name, what, length))

    def wait_event(self, name: str, event: str, timeout: timedelta | None) -> Ask:
        return self._ask("event", name, None if timeout is None else SetTimer(name, "event", timeout), event)

    def start_child(self, name: str, child: Beginning, id: str | None, detached: bool) -> Ask:
        """A child with this *id*, or one made of the name; the answer is its id."""
        life = self.lineage.life
        if id is None:
            id = check_name(child_id(self.process_id, life, name), "process id made of that of its parent", ID_LIMIT)
        payload = child.encode(self._codec, Lineage(parent=(self.process_id, name)))
        facts = self._codec.encode((id, detached))
        command = StartChild(name, id, child.definition, child.queue, payload, facts)
        return self._ask("start", name, command, kind=LastingAsk)

    def wait_child(self, name: str, *, once: bool = False) -> Ask:
        """How the child ended that was started under *name*; wanted *once*, it is not kept in memory after that."""
        if _get_running_loop() is not self._loop:
            raise problems.outside_process(self.process_id, name)
        child = self._make_kin()[name]
        child.once = once
        ask = Ask(self._loop, "child", name) if child.detached else LastingAsk(self._loop, "child", name)
        if child.ended is None:
            child.waiters = [*(other for other in child.waiters if not other.done()), ask]
        else:
            child.settle(ask, self._codec)
        return ask

    def report(self, done: float, total: float | None, message: str) -> None:
        if not self.replaying:
            self._emit(Report(done, total, message))

    def _ask(
        self, what: str, name: str, command: Command | None, event: str | None = None, kind: type[Ask] = Ask
    ) -> Ask:
        self._claim_name(what, name)
        ask = kind(self._loop, what, name)
        ask.command = command
        checkpoints = self._checkpoints
        checkpoints.waiting[name] = ask
        if event is not None:
            ask.event = event
            self._match(event)  # before a timer is asked for: an event that is there wins over any timeout
        held = checkpoints.release(name) if checkpoints.held else ()
        if command is not None:
            self._emit(command)
        for record in held:
            if ask.done() or self.stalled is not None:
                break
            try:
                self._apply(ask, record, held=True)
            except Exception as error:
                self._stall(problems.unreadable(self.process_id, record, error))
        return ask

    def _claim_name(self, what: str, name: str) -> None:
        if _get_running_loop() is not self._loop:
            raise problems.outside_process(self.process_id, name)
        if name in self._program.renames:
            raise problems.renamed_name(self.process_id, name)
        if name in self._checkpoints.asked:
            raise problems.second_use(self.process_id, name)
        self._checkpoints.asked[name] = what

    # --- the fast path of a replay ---

    def _given(self, what: str, name: str, kind: Kind) -> Given | None:
        # Only where a suspension would come straight back here: the record is next, nothing else could run before it.
        position = self._position
        if position >= len(self._upcoming):
            return None
        record = self._upcoming[position]
        if record.name != name or record.kind is not kind or not self._loop.idle() or not self._may_skip():
            return None
        try:
            value = self._codec.decode(record.payload)
        except Exception:
            return None  # the slow way reports it
        self._claim_name(what, name)
        self._position = position + 1
        self._loop.now = max(self._loop.now, record.time)
        return Given(value)

    def _may_skip(self) -> bool:
        if self._checkpoints.held or self.stalled is not None or self._is_round_over():
            return False  # the last: before the next record, what the function left behind will be cancelled
        task = asyncio.current_task(self._loop)
        return type(task) is ProcessTask and not task._must_cancel  # type: ignore[attr-defined]

    # --- unnamed timers ---

    def set_alarm(self, alarm: TimerCallback) -> None:
        if self._early_alarms and alarm.name in self._early_alarms:
            self._early_alarms.discard(alarm.name)
            self._loop.fire(alarm)
            return
        if self._alarms is None:
            self._alarms = {}
        self._alarms[alarm.name] = alarm
        self._emit(Alarm(alarm.name, alarm.due))

    def cancel_alarm(self, alarm: TimerCallback) -> None:
        waiting = self._alarms is not None and self._alarms.pop(alarm.name, None) is not None
        if waiting and not self._unask(Alarm, alarm.name):
            self._emit(CancelTimer(alarm.name, alarm=True))

    def _fire(self, name: str) -> None:
        alarm = self._alarms.pop(name, None) if self._alarms else None
        if alarm is not None:
            self._loop.fire(alarm)
        elif not self._loop.has_set(name):
            if self._early_alarms is None:
                self._early_alarms = set()
            self._early_alarms.add(name)

    def alarms(self) -> list[TimerCallback]:
        """Every unnamed timer that is set."""
        return list((self._alarms or {}).values())
