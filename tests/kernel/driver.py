"""
A host made of choices: it answers what a process asks for, in an order that a list of numbers decides.

Everything a real host may do to a process is a move here: outcomes in any order, failures, retried attempts, events,
cancellation, timers early and late, results that come after nobody waits for them, and crashes, after which the process
is replayed from its journal. No clock, no storage, no thread: only the kernel runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from durable._host.freeing.letting_go import let_go
from durable._kernel.commands import (
    Alarm,
    CancelAction,
    CancelChild,
    CancelTimer,
    Command,
    Deadline,
    End,
    RecordIntent,
    Report,
    Restart,
    RunAction,
    SetTimer,
    Stall,
    StartChild,
    Take,
    TakeValue,
    Wake,
)
from durable._kernel.execution import Execution
from durable._kernel.program import Program
from durable._kernel.started import KERNEL_VERSION
from durable.codec import Codec, MessagePackCodec, describe_error, encode_error, restore_error
from durable.errors import ProcessExists, StepInterrupted
from durable.journal import Kind, Record
from durable.process import Process

CODEC = MessagePackCodec()
START = 1_700_000_000_000_000  # microseconds
SECOND = 1_000_000
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)


class ActionFailed(Exception):
    """What an action of these tests fails with."""


Slot = tuple[str, str]
Make = Callable[[list[Any]], Program]


def program_of(function: Callable[[Process, list[Any]], Coroutine[Any, Any, Any]], **options: Any) -> Make:
    """For `Run` and `Driver`: the program of a function that takes the process and its trace."""

    def make(trace: list[Any]) -> Program:
        return Program(lambda execution, _args, _kwargs: function(Process(execution), trace), **options)

    return make


def slot_of(command: Command) -> Slot | None:
    """Where a command is outstanding: one slot is answered, replaced or cancelled as a whole."""
    match command:
        case TakeValue() | RunAction() | RecordIntent() | StartChild():
            return ("checkpoint", command.name)
        case SetTimer() | Wake():
            return ("timer", command.name)
        case Alarm():
            return ("alarm", command.name)
        case Deadline():
            return ("deadline", "")
        case Take():
            return ("take", command.name)
        case CancelChild():
            return ("child", command.name)
        case _:
            return None


def comparable(commands: Iterable[Command]) -> list[tuple[Any, ...]]:
    """Commands without what no two runs share: callables, and whether an intent is from this life."""
    plain: list[tuple[Any, ...]] = []
    for command in commands:
        match command:
            case TakeValue():
                plain.append(("TakeValue", command.name))
            case RecordIntent():
                plain.append(("RecordIntent", command.name))
            case RunAction():
                plain.append(("RunAction", command.name, command.attempt, command.due, command.intended))
            case Stall():
                plain.append(("Stall", type(command.error).__name__, command.error.args))
            case _:
                plain.append((type(command).__name__, *command))
    return plain


class Choices:
    """A list of numbers, used one by one; zeros when it is over."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = list(reversed(numbers))

    def pick(self, below: int) -> int:
        return self._numbers.pop() % below if self._numbers else 0

    def __bool__(self) -> bool:
        return bool(self._numbers)


class Moment(NamedTuple):
    """What can be seen of a process after a record."""

    trace: tuple[Any, ...]
    outstanding: list[tuple[Any, ...]]


class Run:
    """
    One process and the trace of what its code did; ``fast`` and ``whole`` say how a journal is brought into it.

    Args:
        make: Makes the program for a trace list: the code under test appends to it what it sees.
    """

    def __init__(self, make: Make, codec: Codec = CODEC) -> None:
        self.trace: list[Any] = []
        self.execution = Execution("p", make(self.trace), codec)

    def moment(self) -> Moment:
        return Moment(tuple(self.trace), comparable(self.execution.outstanding()))

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Forget it as a host does: no code of it runs any more."""
        let_go(self.execution.tasks(), self.execution.generators())


def started(args: tuple[Any, ...] = (), timeout: timedelta | None = None, codec: Codec = CODEC) -> Record:
    """The first record of a journal."""
    limit = None if timeout is None else timeout // _MICROSECOND
    return Record(1, Kind.STARTED, "test", codec.encode((KERNEL_VERSION, PYTHON, args, {}, limit)), START)


class Driver:
    """
    Drives one process by choices, and keeps its journal and what was seen after each record.

    Args:
        make: As for `Run`.
        choices: Decides every move.
        events: Names that may be raised.
        disturb: Whether cancellation, crashes and failures may happen.
        first: The first record, if *args* and *timeout* do not say enough.

    ``children`` are those that run, by checkpoint: they live elsewhere, so a crash of their parent does not end them.
    ``ran`` counts how often each action was started: a host starts it at once, and may die before it records the end.
    """

    def __init__(
        self,
        make: Make,
        choices: Choices | None = None,
        *,
        events: Sequence[str] = (),
        disturb: bool = True,
        timeout: timedelta | None = None,
        args: tuple[Any, ...] = (),
        codec: Codec = CODEC,
        first: Record | None = None,
    ) -> None:
        self.codec = codec
        self.make = make
        self._choices = choices or Choices(())
        self._events = events
        self._disturb = disturb
        self.journal: list[Record] = []
        self.moments: list[Moment] = []
        self.now = START
        self.open: dict[Slot, Command] = {}
        self.late: list[tuple[Kind, str, bytes]] = []
        self.ran: dict[str, int] = {}
        self.crashes = 0
        self.children: dict[str, str] = {}
        self.end: End | None = None
        self.next_life: Restart | None = None
        self.run = Run(make, codec)
        self._carry_out(self._append(first or started(args, timeout, codec=codec)))

    # --- records ---

    def record(self, kind: Kind, name: str, payload: bytes = b"") -> None:
        """Write one record, let the process see it, and carry out what it asks for."""
        self.now += 1 + self._choices.pick(3)
        self._carry_out(self._append(Record(len(self.journal) + 1, kind, name, payload, self.now)))

    def _append(self, record: Record) -> list[Command]:
        self.journal.append(record)
        return self.run.execution.feed(record)

    def _carry_out(self, commands: Sequence[Command]) -> None:
        self._take_up(commands)
        self.moments.append(self.run.moment())
        self._check_open()

    def _take_up(self, commands: Sequence[Command]) -> None:
        for command in commands:
            slot = slot_of(command)
            match command:
                case CancelAction():
                    self._cancelled(("checkpoint", command.name))
                case CancelTimer():
                    self._cancelled(("alarm" if command.alarm else "timer", command.name))
                case End():
                    self.end, self.next_life = command, None
                case Restart():
                    assert "request" not in self.names(Kind.CANCEL)  # who was asked to stop does not go on
                    self.next_life = command
                case Stall() | Report():
                    pass
                case _:
                    assert slot is not None
                    self.open[slot] = command
                    if isinstance(command, RunAction) and not command.interrupted:
                        self.ran[command.name] = self.ran.get(command.name, 0) + 1

    def _cancelled(self, slot: Slot) -> None:
        command = self.open.pop(slot)  # a KeyError here: something was cancelled that the host was never asked for
        if isinstance(command, RunAction):
            self.late.append((Kind.DONE, command.name, self.codec.encode("late")))
        elif isinstance(command, Wake):
            self.late.append((Kind.FIRED, command.name, b""))
        elif isinstance(command, Alarm):
            self.late.append((Kind.ALARM, command.name, b""))
        elif isinstance(command, SetTimer):
            self.late.append((Kind.TIMER, command.name, self.codec.encode((command.what, self.now))))

    def _check_open(self) -> None:
        """What the host heard, one command after the other, is what the kernel says is outstanding."""
        outstanding = self.run.execution.outstanding()
        if self._is_over():
            return
        # A `get`, a `Take` and a `CancelChild` are never cancelled: what comes of them too late is ignored.
        quiet = {
            slot: command for slot, command in self.open.items() if isinstance(command, Take | TakeValue | CancelChild)
        }
        known = {slot_of(command) for command in outstanding}
        for slot in quiet:
            if slot not in known:
                command = self.open.pop(slot)
                if isinstance(command, Take):
                    self.late.append((Kind.TAKEN, command.name, self.codec.encode(command.event)))
        if ("deadline", "") not in known:
            self.open.pop(("deadline", ""), None)
        assert sorted(comparable(self.open.values()), key=repr) == sorted(comparable(outstanding), key=repr)

    # --- moves ---

    def go(self, limit: int = 60) -> None:
        """Make moves until the process ends, stalls, waits for nothing that could come, or *limit* is reached."""
        while len(self.journal) < limit and not self._is_over():
            moves = self._moves()
            if not moves:
                return
            moves[self._choices.pick(len(moves))]()

    def _is_over(self) -> bool:
        return self.end is not None or self.next_life is not None or self.run.execution.stalled is not None

    def _moves(self) -> list[Callable[[], None]]:
        moves: list[Callable[[], None]] = [self._answerer(slot) for slot in self.open]
        moves += [self._returner(name) for name in self.children if ("child", name) not in self.open]
        if self._choices:
            if not moves or self._choices.pick(3) == 1:
                moves += [self._raiser(name) for name in self._events]
            moves += [self._later(position) for position in range(len(self.late))]
            if self._disturb and self._choices.pick(6) == 1:
                moves = [self.cancel, self.crash, self.crash]
        return moves

    def _answerer(self, slot: Slot) -> Callable[[], None]:
        return lambda: self.answer(slot)

    def _returner(self, name: str) -> Callable[[], None]:
        return lambda: self.return_child(name)

    def _raiser(self, name: str) -> Callable[[], None]:
        return lambda: self.raise_event(name)

    def _later(self, position: int) -> Callable[[], None]:
        return lambda: self.record(*self.late.pop(position))

    def answer(self, slot: Slot) -> None:
        """Carry out one outstanding command and record its outcome."""
        command = self.open.pop(slot)
        match command:
            case TakeValue():
                self.record(Kind.VALUE, command.name, self.codec.encode(command.factory()))
            case RecordIntent():
                self.record(Kind.INTENT, command.name)
            case RunAction():
                self._run(command)
            case SetTimer():
                length = command.length
                due = (
                    self.now + 1 + length // _MICROSECOND
                    if isinstance(length, timedelta)
                    else (length - _EPOCH) // _MICROSECOND
                )
                self.record(Kind.TIMER, command.name, self.codec.encode((command.what, due)))
            case Wake():
                self.now = max(self.now, command.due)
                self.record(Kind.FIRED, command.name)
            case Alarm():
                self.now = max(self.now, command.due)
                self.record(Kind.ALARM, command.name)
            case Deadline():
                self.now = max(self.now, command.due)
                self.record(Kind.CANCEL, "deadline", self.codec.encode("its time was over"))
            case Take():
                self.record(Kind.TAKEN, command.name, self.codec.encode(command.event))
            case StartChild():
                self._start_child(command)
            case CancelChild():
                self.return_child(command.name, Kind.CANCELLED, (command.reason, False))
            case _:
                raise AssertionError(command)

    def _run(self, command: RunAction) -> None:
        if command.interrupted:
            error = StepInterrupted(f"{command.name} may have run")
            return self.record(Kind.FAILED, command.name, encode_error(self.codec, error))
        outcome = self._choices.pick(6) if self._disturb else 0
        if outcome == 1:
            self.record(Kind.FAILED, command.name, encode_error(self.codec, ActionFailed(command.name)))
        elif outcome == 2 and not command.intended:
            due = self.now + SECOND
            payload = self.codec.encode((command.attempt, due, describe_error(self.codec, ActionFailed(command.name))))
            self.record(Kind.ATTEMPT, command.name, payload)
        else:
            self.record(Kind.DONE, command.name, self.codec.encode(command.action()))

    def _start_child(self, command: StartChild) -> None:
        if self._disturb and self._choices.pick(6) == 1:
            payload = encode_error(self.codec, ProcessExists(f"{command.id} exists"))
            return self.record(Kind.FAILED, command.name, payload)
        self.children[command.name] = command.id
        self.record(Kind.CHILD, command.name, command.child)

    def return_child(self, name: str, kind: Kind = Kind.COMPLETED, content: Any = None) -> None:
        """A child has ended, and its parent has mail about it; without *content*, how it ends is chosen."""
        id = self.children.pop(name)
        if content is None:
            content = f"{name} returned"
            if self._disturb and self._choices.pick(4) == 1:
                kind, content = Kind.ERRED, describe_error(self.codec, ActionFailed(name))
            elif kind is Kind.COMPLETED and self._choices.pick(4) == 1:  # an older life of the parent had started it
                self.record(Kind.RETURNED, name, self.codec.encode((f"{id} before", int(kind), content)))
        payload = self.codec.encode((id, int(kind), content))
        self.late.append((Kind.RETURNED, name, payload))
        self.record(Kind.RETURNED, name, payload)

    def raise_event(self, name: str, value: Any = None, key: str | None = None) -> None:
        """An event arrives, and as a real host does, the waiter that will take it is recorded with it."""
        waiter = self.run.execution.next_waiter(name)
        value = len(self.journal) if value is None else value
        self.record(Kind.EVENT, name, self.codec.encode((value, key)))
        slot = ("take", waiter or "")
        if self.open.get(slot) == Take(slot[1], len(self.journal)) and self._choices.pick(2):
            self.answer(slot)

    def cancel(self, reason: str = "enough") -> None:
        """Somebody asks for the end of the process."""
        self.record(Kind.CANCEL, "request", self.codec.encode(reason))

    def crash(self) -> None:
        """The host dies: everything under way is lost, and the process is replayed."""
        before = self.run.moment()
        self.run.drop()
        self.recover()
        assert self.run.moment() == before

    def recover(self) -> None:
        """Replay the journal in a new life of the process."""
        self.run = Run(self.make, self.codec)
        self.crashes += 1
        self.late.clear()
        self.open.clear()
        self._take_up(self.run.execution.replay(self.journal, fast=not self._choices.pick(2)))

    # --- what came out ---

    def outcome(self) -> Any:
        """What the end record says: a value, or the decoded error or reason it ended with."""
        assert self.end is not None
        content = self.codec.decode(self.end.payload)
        return restore_error(self.codec, content[0]) if self.end.kind is Kind.ERRED else content[0]

    def notes(self) -> tuple[str, ...]:
        assert self.end is not None
        return self.end.notes

    def names(self, kind: Kind) -> list[str]:
        """The names of all records of one kind, in journal order."""
        return [record.name for record in self.journal if record.kind is kind]

    def check_replays(self) -> None:
        """Every prefix of the journal, fast or not, gives what was seen live; then the process is dropped."""
        for length, moment in enumerate(self.moments, start=1):
            for fast in (True, False):
                run = replayed(self.make, self.journal[:length], fast=fast, codec=self.codec)
                assert run.moment() == moment
                run.drop()
        self.run.drop()


def replayed(make: Make, journal: Sequence[Record], *, fast: bool = True, codec: Codec = CODEC) -> Run:
    """A new run with *journal* replayed into it at once."""
    run = Run(make, codec)
    run.execution.replay(journal, fast=fast)
    return run


def fed(make: Make, journal: Sequence[Record]) -> Run:
    """A new run with *journal* fed into it record by record."""
    run = Run(make)
    for record in journal:
        run.execution.feed(record)
    return run
