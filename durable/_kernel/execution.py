"""
One process, replayed: `feed` a record, get commands.

Belongs here: what each kind of record does to a process, and which commands are outstanding. Not here: how records are
found by name (`checkpoints`), how callbacks run (`loop`), how what the function left behind ends (`lifetime`), what can
be wrong (`problems`), what a process may write (`durable.process`).
"""

from __future__ import annotations

import asyncio
import zlib
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from durable._kernel import problems
from durable._kernel.checkpoints import ANSWERS, ArrivedEvent, Ask, Checkpoints
from durable._kernel.commands import (
    Alarm,
    CancelAction,
    CancelTimer,
    Command,
    Deadline,
    End,
    RecordIntent,
    Report,
    RunAction,
    SetTimer,
    Stall,
    Take,
    TakeValue,
    Wake,
)
from durable._kernel.lifetime import Lifetime
from durable._kernel.loop import ProcessLoop, ProcessTask, TimerCallback
from durable.codec import Codec, decode_error, describe_error
from durable.errors import DurableError
from durable.journal import ENDS, Kind, Record

KERNEL_VERSION = 1


class Program(NamedTuple):
    """What is run: ``body(execution, args, kwargs)`` makes the coroutine; ``renames`` maps old names to new ones."""

    body: Callable[[Execution, tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, Any]]
    renames: Mapping[str, str] = {}
    strict: bool = False


class Given:
    """A recorded value at the checkpoint that asks for it: awaiting it does not suspend."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        return self.value
        yield


class Execution(Lifetime):
    """
    A process as a function of its journal so far.

    Args:
        process_id: Its id; salts the counter of its tasks, so that asyncio's own sets stay spread out.
        program: The process function and what its author promised about old names.
        codec: Turns payloads into values; the same for the life of a journal.

    `feed` and `replay` must be called from a plain callback of the host's loop, never inside a task. If they raise
    (KeyboardInterrupt and SystemExit out of process code), the execution is void: build a new one from the journal.
    """

    __slots__ = (
        "_alarms",
        "_checkpoints",
        "_codec",
        "_commands",
        "_deadline",
        "_early_alarms",
        "_end",
        "_position",
        "_program",
        "_upcoming",
        "cancel_reason",
        "cancelled_by_deadline",
        "process_id",
        "replaying",
        "stalled",
    )

    def __init__(self, process_id: str, program: Program, codec: Codec) -> None:
        super().__init__()
        self.process_id = process_id
        self.replaying = False
        self.stalled: DurableError | None = None
        self.cancel_reason: str | None = None
        self.cancelled_by_deadline = False
        self._program = program
        self._codec = codec
        self._commands: list[Command] = []
        self._checkpoints = Checkpoints()
        self._alarms: dict[str, TimerCallback] | None = None
        self._early_alarms: set[str] | None = None
        self._deadline: int | None = None
        self._end: End | None = None
        self._upcoming: Sequence[Record] = ()
        self._position = 0

    # --- records in, commands out ---

    def feed(self, record: Record) -> list[Command]:
        """Hand one durable record to the process, run it until it waits again; what it newly asks for."""
        self._advance(record)
        commands, self._commands = self._commands, []
        return commands

    def replay(self, records: Sequence[Record], fast: bool = True) -> list[Command]:
        """
        Feed all *records*; what is outstanding at their end.

        With *fast*, a checkpoint whose record is next and that nothing could come before returns without suspending;
        the choices of the process are the same either way.
        """
        self.replaying = True
        if fast:
            self._upcoming = records
        self._position = 0
        while self._position < len(records):
            record = records[self._position]
            self._position += 1
            self._advance(record)
        self.replaying = False
        self._upcoming = ()
        self._commands.clear()
        return self.outstanding()

    def outstanding(self) -> list[Command]:
        """Every command that was asked for and not answered by a record yet, in the order asked."""
        if self.stalled is not None:
            return [Stall(self.stalled)]
        if self._end is not None:
            return [self._end]
        commands: list[Command] = []
        if self._deadline is not None and self.cancel_reason is None and not self._main.done():
            commands.append(Deadline(self._deadline))
        for ask in self._checkpoints.waiting.values():
            if ask.promised is not None:
                commands.append(Take(ask.name, ask.promised))
            if ask.command is not None:
                commands.append(ask.command)
        commands += [Alarm(alarm.name, alarm.due) for alarm in (self._alarms or {}).values()]
        return commands

    def _advance(self, record: Record) -> None:
        if self.stalled is not None or record.kind in ENDS:
            return
        if record.kind is Kind.STARTED:
            salt = zlib.crc32(self.process_id.encode())
            self._loop = ProcessLoop(self, salt, record.time)  # type: ignore[abstract]  # the rest is refused, see `loop`
        self._loop.now = max(self._loop.now, record.time)
        self._loop.step(self._accept, record)
        while self._main is not None and self._main.done() and self.stalled is None and self._end is None:
            if not self._settle():
                break

    def _accept(self, record: Record) -> None:
        try:
            match record.kind:
                case Kind.STARTED:
                    self._start(record)
                case Kind.EVENT:
                    self._arrive(record)
                case Kind.CANCEL:
                    self._cancel(record)
                case Kind.ALARM:
                    self._fire(record.name)
                case _:
                    self._answer(record)
        except Exception as error:  # a payload that cannot be read; no code of the process has run yet
            return self._stall(problems.unreadable(self.process_id, record, error))
        if self._end is not None:
            self._finish()  # something arrived between the end and its record: list it

    def _start(self, record: Record) -> None:
        version, _python, args, kwargs, timeout = self._codec.decode(record.payload)
        if version > KERNEL_VERSION:
            return self._stall(problems.newer_kernel(self.process_id, version, KERNEL_VERSION))
        try:
            coroutine = self._program.body(self, tuple(args), kwargs)
        except TypeError as error:
            return self._stall(problems.other_arguments(self.process_id, record.name, error))
        if timeout is not None:
            deadline = self._deadline = record.time + timeout
            self._emit(Deadline(deadline))
        self._main = self._loop.create_main_task(coroutine)

    def _answer(self, record: Record) -> None:
        name = self._program.renames.get(record.name, record.name)
        ask = self._checkpoints.waiting.get(name)
        if ask is not None:
            self._apply(ask, record)
        elif (what := self._checkpoints.asked.get(name)) is not None:
            if record.kind not in ANSWERS[what]:  # else: too late, its waiter has gone
                self._stall(problems.another_kind(self.process_id, what, name, record))
        else:
            if record.kind is Kind.TAKEN:  # reserved for its waiter: code that asks earlier must not get it
                self._reserve(self._codec.decode(record.payload))
            self._checkpoints.hold(name, record)

    def _apply(self, ask: Ask, record: Record, held: bool = False) -> None:
        kind = record.kind
        if kind not in ANSWERS[ask.what]:
            return self._stall(problems.another_kind(self.process_id, ask.what, ask.name, record))
        if kind is Kind.DONE or kind is Kind.VALUE:
            self._resolve(ask, self._codec.decode(record.payload))
        elif kind is Kind.FAILED:
            self._reject(ask, decode_error(self._codec, record.payload))
        elif kind is Kind.TAKEN:
            self._take(ask, record)
        elif kind is Kind.FIRED:
            self._fired(ask, record)
        elif kind is Kind.TIMER:
            self._timer_set(ask, record)
        elif kind is Kind.ATTEMPT:
            attempt, due, _error = self._codec.decode(record.payload)
            self._again(ask, attempt=attempt + 1, due=due)
        elif kind is Kind.INTENT:
            self._again(ask, intended=True, interrupted=held or self.replaying)

    def _timer_set(self, ask: Ask, record: Record) -> None:
        what, due = self._codec.decode(record.payload)
        if what != ask.what:
            return self._stall(problems.another_kind(self.process_id, ask.what, ask.name, record))
        ask.due = due
        if due <= record.time:
            self._fired(ask, record)
        else:
            self._command(ask, Wake(ask.name, due))

    def _again(self, ask: Ask, **changes: Any) -> None:
        assert isinstance(ask.command, RunAction | RecordIntent)
        command = ask.command.run if isinstance(ask.command, RecordIntent) else ask.command
        self._command(ask, command._replace(**changes))

    # --- how a checkpoint ends ---

    def _resolve(self, ask: Ask, value: Any) -> None:
        self._drop(ask)
        ask.set_result(value)

    def _reject(self, ask: Ask, error: Exception) -> None:
        self._drop(ask)
        ask.set_exception(error)
        ask.exception()  # a waiter that was cancelled in the same step never looks: no warning about that

    def _fired(self, ask: Ask, record: Record) -> None:
        if ask.due is None:
            raise ValueError("a timer that was never set has fired")
        if ask.what == "event":
            self._reject(ask, TimeoutError(f"No event {ask.event!r} came in time for checkpoint {ask.name!r}"))
        else:
            self._resolve(ask, timedelta(microseconds=max(0, record.time - ask.due)))

    def _take(self, ask: Ask, record: Record) -> None:
        number = self._codec.decode(record.payload)
        mailbox = self._checkpoints.mail()
        event = mailbox.find(number)
        if event is None:
            return self._stall(problems.event_given_twice(self.process_id, ask.name, record))
        value, _key = self._codec.decode(event.payload)
        if ask.promised == number:
            ask.promised = None
        self._reserve(number)
        mailbox.consume(number)
        self._retract(ask)
        self._resolve(ask, value)  # its waiter is the next to run: nobody can cancel it before it has the value

    def _reserve(self, number: int) -> None:
        """Take event *number* out of its queue for the waiter the journal names; whoever was promised it waits on."""
        self._checkpoints.mail().reserve(number)
        loser = self._checkpoints.promised_to(number)
        if loser is not None:
            self._break_promise(loser)

    def _break_promise(self, ask: Ask) -> None:
        assert ask.event is not None
        ask.promised = None
        self._unask(Take, ask.name)
        self._match(ask.event)

    def _drop(self, ask: Ask) -> None:
        del self._checkpoints.waiting[ask.name]
        if ask.command is not None:
            self._unask(type(ask.command), ask.name)
            ask.command = None
        if ask.promised is not None:
            self._break_promise(ask)

    def withdraw(self, ask: Ask) -> None:
        """Its waiter gave up before its record came: whatever the host does for it is not wanted any more."""
        if self._checkpoints.waiting.get(ask.name) is ask:
            self._retract(ask)
            self._drop(ask)

    # --- what process code asks for ---

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

    def report(self, done: float, total: float | None, message: str) -> None:
        if not self.replaying:
            self._emit(Report(done, total, message))

    def _ask(self, what: str, name: str, command: Command | None, event: str | None = None) -> Ask:
        self._claim_name(what, name)
        ask = Ask(self._loop, what, name)
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

    def _claim_name(self, what: str, name: str) -> None:
        if _get_running_loop() is not self._loop:
            raise problems.outside_process(self.process_id, name)
        if name in self._program.renames:
            raise problems.renamed_name(self.process_id, name)
        if name in self._checkpoints.asked:
            raise problems.second_use(self.process_id, name)
        self._checkpoints.asked[name] = what

    # --- events, alarms, cancellation ---

    def _arrive(self, record: Record) -> None:
        try:
            _value, key = self._codec.decode(record.payload)
        except DurableError:
            key = None  # an undecodable event stalls the process only if it is taken
        mailbox = self._checkpoints.mail()
        if key is not None:
            if (record.name, key) in mailbox.keys:
                return
            mailbox.keys.add((record.name, key))
        mailbox.arrive(ArrivedEvent(record.seq, record.name, record.payload))
        self._match(record.name)

    def _match(self, event: str) -> None:
        ask = self._checkpoints.match(event)
        if ask is not None:
            assert ask.promised is not None
            self._emit(Take(ask.name, ask.promised))

    def next_waiter(self, event: str) -> str | None:
        """The checkpoint that would take an event of this name if one arrived now."""
        ask = self._checkpoints.first_waiter(event)
        return None if ask is None else ask.name

    def has_event_key(self, event: str, key: str) -> bool:
        """Whether an event of this name with this de-duplication key is in the journal."""
        mailbox = self._checkpoints.mailbox
        return mailbox is not None and (event, key) in mailbox.keys

    def waits(self) -> list[tuple[str, str, str | None]]:
        """(kind, checkpoint name, event name) of everything the process waits for."""
        return [(ask.what, ask.name, ask.event) for ask in self._checkpoints.waiting.values()]

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

    def _cancel(self, record: Record) -> None:
        if self.cancel_reason is not None or self._main.done():
            return  # a second request must not disturb the compensation of the first
        self.cancel_reason = str(self._codec.decode(record.payload))
        self.cancelled_by_deadline = record.name == "deadline"
        try:
            self._deliver_cancellation([self._main], self.cancel_reason)
        except RecursionError:  # asyncio follows who waits for whom
            self._stall(problems.circle_of_tasks(self.process_id))

    # --- the life of the function ---

    def _settle(self) -> bool:
        """The function is over: close what it left behind, then end. False: wait for more."""
        if not self._is_round_over():
            return False
        try:
            if not self._close_what_is_left():
                self._finish()
        except RecursionError:
            self._stall(problems.circle_of_tasks(self.process_id))
        return self._end is None

    def _finish(self) -> None:
        drift = self._drift()
        if drift and self._program.strict:
            return self._stall(problems.never_asked_for(self.process_id, drift))
        for ask in list(self._checkpoints.waiting.values()):
            self.withdraw(ask)
        self._alarms = None
        self._end = self._outcome(tuple(self._collect_notes(drift)))
        self._emit(self._end)

    def _outcome(self, notes: tuple[str, ...]) -> End:
        main = self._main
        if main.cancelled() and self.cancel_reason is not None:
            reason = (self.cancel_reason, self.cancelled_by_deadline, list(notes))
            return End(Kind.CANCELLED, self._codec.encode(reason), notes)
        error = asyncio.CancelledError() if main.cancelled() else main.exception()
        if error is None:
            try:
                return End(Kind.COMPLETED, self._codec.encode((main.result(), list(notes))), notes)
            except Exception as refused:
                refused.add_note(f"It is the result of process {self.process_id!r}.")
                error = refused
        failure = describe_error(self._codec, problems.explained(self.process_id, error))
        return End(Kind.ERRED, self._codec.encode((failure, list(notes))), notes)

    def _collect_notes(self, drift: list[str]) -> list[str]:
        notes = [*self._failures(), *(f"recorded but never asked for: {name}" for name in drift)]
        if self._checkpoints.mailbox is not None:
            notes += [f"event never taken: {event.name}" for event in self._checkpoints.mailbox.untaken()]
        return notes

    def _drift(self) -> list[str]:
        held = self._checkpoints.held or {}
        names = [f"{records[0].kind.name} {name!r}" for name, records in held.items()]
        return names + [f"ALARM {name!r}" for name in sorted(self._early_alarms or ())]

    # --- for whoever has to let go of a waiting process ---

    def alarms(self) -> list[TimerCallback]:
        """Every unnamed timer that is set."""
        return list((self._alarms or {}).values())

    def close(self) -> None:
        """The process has ended: part from the loop, so that both are freed at once and not by a collection."""
        if self._loop is not None:
            self._loop.owner = _NOBODY

    # --- commands ---

    def _emit(self, command: Command) -> None:
        if not self.replaying and (self.stalled is None or isinstance(command, Stall)):
            self._commands.append(command)

    def _command(self, ask: Ask, command: Command) -> None:
        """Ask the host for *command* in place of what *ask* asked before."""
        if ask.command is not None:
            self._unask(type(ask.command), ask.name)
        ask.command = command
        self._emit(command)

    def _retract(self, ask: Ask) -> None:
        """What the host does for *ask* is not wanted any more."""
        command, ask.command = ask.command, None
        if command is None or self._unask(type(command), ask.name):
            return
        if ask.what == "do":
            self._emit(CancelAction(ask.name))
        elif ask.what != "get":
            self._emit(CancelTimer(ask.name))

    def _unask(self, kind: type, name: str) -> bool:
        """Forget a command that was asked for in this very step: the host need not hear of it. True: there was one."""
        for position, command in enumerate(self._commands):
            if type(command) is kind and getattr(command, "name", None) == name:
                del self._commands[position]
                return True
        return False

    def _stall(self, error: DurableError) -> None:
        """Stop where the process is: no code of it runs any more, not even a `finally`."""
        self.stalled = error
        self._commands.clear()
        self._emit(Stall(error))
        if self._loop.is_running():
            self._loop.halt()


class _Nobody:
    """The owner of a loop whose process has ended: there is nothing to do any more."""

    process_id = "(ended)"

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _ignore


def _ignore(*_args: object, **_options: object) -> None: ...


_NOBODY: Any = _Nobody()
