"""
How records answer what the process asked for, and how the host hears what it should do, or need not do any more.

Belongs here: the end of every checkpoint, whichever record brings it, and who gets which event. Not here: what a
process may ask for (`asks`), and what a record means to the process as a whole (`execution`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durable._kernel import problems
from durable._kernel.checkpoints import ANSWERS, ArrivedEvent, Ask, Checkpoints, LastingAsk
from durable._kernel.children import ChildState, Kin
from durable._kernel.commands import (
    CancelAction,
    CancelChild,
    CancelTimer,
    Command,
    RecordIntent,
    RunAction,
    Stall,
    Take,
    Wake,
)
from durable._kernel.lifetime import Lifetime
from durable._kernel.program import Program
from durable._kernel.started import NO_LINEAGE, Lineage
from durable.codec import Codec, decode_error
from durable.errors import DurableError
from durable.journal import Kind, Record


class Answers(Lifetime):
    """The checkpoints of a process that wait, and the commands that go out; `Asks` builds on it."""

    __slots__ = ("_checkpoints", "_codec", "_commands", "_program", "kin", "process_id", "replaying", "stalled")

    def __init__(self, process_id: str, program: Program, codec: Codec) -> None:
        super().__init__()
        self.process_id = process_id
        self.replaying = False
        self.stalled: DurableError | None = None
        self._program = program
        self._codec = codec
        self._commands: list[Command] = []
        self._checkpoints = Checkpoints()
        self.kin: Kin | None = None

    @property
    def definition(self) -> str:
        """The durable name of the process function."""
        return self._program.name

    # --- a record finds its checkpoint ---

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
        elif kind is Kind.CHILD:
            child, _detached = self._codec.decode(record.payload)
            self._resolve(ask, child)

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
        if ask.given_up:
            self._deliver_late(ask)
        else:
            ask.set_result(value)

    def _reject(self, ask: Ask, error: Exception) -> None:
        self._drop(ask)
        if ask.given_up:
            self._deliver_late(ask)
            return
        ask.set_exception(error)
        ask.exception()  # a waiter that was cancelled in the same step never looks: no warning about that

    def _deliver_late(self, ask: Ask) -> None:
        assert isinstance(ask, LastingAsk)
        ask.deliver_cancellation()

    def _fired(self, ask: Ask, record: Record) -> None:
        if ask.due is None:
            raise ValueError("a timer that was never set has fired")
        if ask.what == "event":
            self._reject(ask, TimeoutError(f"No event {ask.event!r} came in time for checkpoint {ask.name!r}"))
        else:
            self._resolve(ask, timedelta(microseconds=max(0, record.time - ask.due)))

    def _drop(self, ask: Ask) -> None:
        del self._checkpoints.waiting[ask.name]
        if ask.command is not None:
            self._unask(type(ask.command), ask.name)
            ask.command = None
        if ask.promised is not None:
            self._break_promise(ask)

    def withdraw(self, ask: Ask) -> None:
        """Its waiter gave up before its record came: whatever the host does for it is not wanted any more."""
        if ask.what == "child":
            self._cancel_child(ask.name)
        elif not ask.given_up and self._checkpoints.waiting.get(ask.name) is ask:
            self._retract(ask)
            self._drop(ask)

    # --- children ---

    @property
    def lineage(self) -> Lineage:
        """Where the process comes from."""
        return NO_LINEAGE if self.kin is None else self.kin.lineage

    def _make_kin(self) -> Kin:
        """Made when it is needed first."""
        if self.kin is None:
            self.kin = Kin()
        return self.kin

    def count_child(self, record: Record) -> ChildState | None:
        """
        Take note of a CHILD or RETURNED; the child that has ended, if one has.

        It is done too when no code of the process runs any more: its children are to be known at its end.
        """
        name = self._program.renames.get(record.name, record.name)
        if record.kind is Kind.CHILD:
            self._make_kin().add(name, *self._codec.decode(record.payload))
            return None
        id, kind, content = self._codec.decode(record.payload)
        return None if self.kin is None else self.kin.end(name, id, Kind(kind), content)

    def children_left(self) -> list[ChildState]:
        """Those that must end before this process can, in the order they were started."""
        return [] if self.kin is None else [child for child in self.kin if child.is_left()]

    def _child_started(self, record: Record) -> None:
        self.count_child(record)  # it runs, whether the code still asks for it or not
        self._answer(record)

    def _child_ended(self, record: Record) -> None:
        child = self.count_child(record)
        if child is None:
            return
        waiters, child.waiters = child.waiters, []
        for ask in waiters:
            if not ask.done():
                child.settle(ask, self._codec)

    def _cancel_child(self, name: str) -> None:
        """Ask a child to stop; whoever waits for it goes on waiting."""
        child = self._make_kin()[name]
        if child.reason is None and child.is_left():
            child.reason = f"process {self.process_id!r}, which started it, does not want it any more"
            self._emit(CancelChild(name, child.id, child.reason))

    # --- events ---

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
        elif ask.what not in ("get", "start"):
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
