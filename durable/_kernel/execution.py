"""
One process, replayed: `feed` a record, get commands.

Belongs here: the life of a process from its first record to its last, and which commands are outstanding. Not here:
what process code asks for (`asks`) and how records answer it (`answers`), how they are found by name (`checkpoints`),
how callbacks run (`loop`), how what the function left behind ends (`lifetime`), what can be wrong (`problems`).
"""

from __future__ import annotations

import asyncio
import zlib
from asyncio.events import _get_running_loop
from collections.abc import Callable, Sequence
from typing import Any

from durable._kernel import problems
from durable._kernel.asks import Asks, Beginning
from durable._kernel.children import ChildState, Kin, Next
from durable._kernel.commands import Alarm, Command, Deadline, End, Restart, Stall, Take
from durable._kernel.loop import ProcessLoop
from durable._kernel.program import Program
from durable._kernel.started import KERNEL_VERSION, NO_LINEAGE, Lineage, decode_started, read_lineage
from durable.codec import Codec, describe_error, encode_of
from durable.journal import ENDS, OF_CHILDREN, Kind, Record


class Execution(Asks):
    """
    A process as a function of its journal so far.

    Args:
        process_id: Its id; salts the counter of its tasks, so that asyncio's own sets stay spread out.
        program: The process function and what its author promised about old names.
        codec: Turns payloads into values; the same for the life of a journal.

    `feed` and `replay` must be called from a plain callback of the host's loop, never inside a task. If they raise
    (KeyboardInterrupt and SystemExit out of process code), the execution is void: build a new one from the journal.
    """

    __slots__ = ("_deadline", "_end", "cancel_reason", "cancelled_by_deadline")

    def __init__(self, process_id: str, program: Program, codec: Codec) -> None:
        super().__init__(process_id, program, codec)
        self.cancel_reason: str | None = None
        self.cancelled_by_deadline = False
        self._deadline: int | None = None
        self._end: End | Restart | None = None

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
        if self.kin is not None:
            commands += self.kin.cancellations()
        return commands

    def _advance(self, record: Record) -> None:
        if self.stalled is not None or record.kind in ENDS:
            if record.kind in OF_CHILDREN:
                self.count_child(record)
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
                case Kind.CHILD:
                    self._child_started(record)
                case Kind.RETURNED:
                    self._child_ended(record)
                case _:
                    self._answer(record)
        except Exception as error:  # a payload that cannot be read; no code of the process has run yet
            return self._stall(problems.unreadable(self.process_id, record, error))
        if self._end is not None:
            self._end_again()

    def _end_again(self) -> None:
        """Something arrived between the end and its record."""
        if self.children_left():  # of older code, which had started it before it ended
            self._end = None
        else:
            self._finish()

    # --- from start to end ---

    def _start(self, record: Record) -> None:
        try:
            started = decode_started(self._codec, record.payload)
        except Exception:
            self._come_from(read_lineage(self._codec, record.payload))
            raise
        self._come_from(started.lineage)
        if started.version > KERNEL_VERSION:
            return self._stall(problems.newer_kernel(self.process_id, started.version, KERNEL_VERSION))
        try:
            coroutine = self._program.body(self, started.args, started.kwargs)
        except TypeError as error:
            return self._stall(problems.other_arguments(self.process_id, record.name, error))
        if started.timeout is not None:
            deadline = self._deadline = record.time + started.timeout
            self._emit(Deadline(deadline))
        self._main = self._loop.create_main_task(coroutine)

    def _come_from(self, lineage: Lineage) -> None:
        """Whoever started it hears of its end, even if it can never run."""
        if lineage != NO_LINEAGE:
            self.kin = Kin(lineage)

    def _cancel(self, record: Record) -> None:
        if self.cancel_reason is not None:
            return  # a second request must not disturb the compensation of the first
        if self._main.done():
            # Too late for the function, not for its next life, of which nobody would ever hear that it was unwanted.
            if self._goes_on() and record.name != "deadline":
                self.cancel_reason = str(self._codec.decode(record.payload))
            return
        self.cancel_reason = str(self._codec.decode(record.payload))
        self.cancelled_by_deadline = record.name == "deadline"
        try:
            self._deliver_cancellation([self._main], self.cancel_reason)
        except RecursionError:  # asyncio follows who waits for whom
            self._stall(problems.circle_of_tasks(self.process_id))

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
        if self._goes_on():
            self._end = self._next_life(tuple(self._collect_notes(drift)))
        else:
            self._end = self._outcome(tuple(self._collect_notes(drift)))
        self._emit(self._end)

    def _close_what_is_left(self) -> bool:
        if super()._close_what_is_left():
            return True
        left = self.children_left()
        if left:
            self._loop.step(self._close_children, left)
        return bool(left)

    def _close_children(self, left: Sequence[ChildState]) -> None:
        """Cancel those that are left, and wait for each, as for the tasks that are left."""
        self._closing = [self.wait_child(child.name) for child in left]
        for ask in self._closing:
            ask.cancel()

    def _outcome(self, notes: tuple[str, ...]) -> End:
        main = self._main
        if main.cancelled() and self.cancel_reason is not None:
            reason = (self.cancel_reason, self.cancelled_by_deadline, list(notes))
            return End(Kind.CANCELLED, self._codec.encode(reason), notes)
        error = asyncio.CancelledError() if main.cancelled() else main.exception()
        if error is None:
            try:
                result = main.result()
                payload = encode_of(self._codec, [("The result", result)], (result, list(notes)))
                return End(Kind.COMPLETED, payload, notes)
            except Exception as refused:
                refused.add_note(f"It is the result of process {self.process_id!r}.")
                error = refused
        failure = describe_error(self._codec, problems.explained(self.process_id, error))
        return End(Kind.ERRED, self._codec.encode((failure, list(notes))), notes)

    def restart(self, beginning: Beginning) -> None:
        """
        Go on with another life when this one has come to its end; its caller leaves the function next.

        Raises:
            InvalidAction: A task of the process asked for it, and not its function.
        """
        if _get_running_loop() is not self._loop or asyncio.current_task(self._loop) is not self._main:
            raise problems.restart_outside_function(self.process_id)
        mine = self.lineage
        lineage = Lineage(mine.life + 1, mine.parent, mine.origin or self._program.name)
        payload = beginning.encode(self._codec, lineage)
        self._make_kin().next = Next(beginning.definition, beginning.queue, payload)

    def has_next_life(self) -> bool:
        """Whether another life was asked for; somebody who wants it to stop is obeyed instead."""
        return self.kin is not None and self.kin.next is not None and self.cancel_reason is None

    def _goes_on(self) -> bool:
        # A failure on the way out is one.
        return self.has_next_life() and (self._main.cancelled() or self._main.exception() is None)

    def _next_life(self, notes: tuple[str, ...]) -> Restart:
        assert self.kin is not None and self.kin.next is not None
        mailbox = self._checkpoints.mailbox
        events = tuple((event.name, event.payload) for event in mailbox.untaken()) if mailbox is not None else ()
        return Restart(*self.kin.next, events, notes)

    def _collect_notes(self, drift: list[str]) -> list[str]:
        notes = [*self._failures(), *(f"recorded but never asked for: {name}" for name in drift)]
        if self.kin is not None:
            notes += self.kin.notes()
        if self._checkpoints.mailbox is not None and not self._goes_on():
            notes += [f"event never taken: {event.name}" for event in self._checkpoints.mailbox.untaken()]
        return notes

    def _drift(self) -> list[str]:
        held = self._checkpoints.held or {}
        names = [f"{records[0].kind.name} {name!r}" for name, records in held.items()]
        return names + [f"ALARM {name!r}" for name in sorted(self._early_alarms or ())]

    def close(self) -> None:
        """The process has ended: part from the loop, so that both are freed at once and not by a collection."""
        if self._loop is not None:
            self._loop.owner = _NOBODY

    # --- what a host may want to know ---

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
        waits = [(ask.what, ask.name, ask.event) for ask in self._checkpoints.waiting.values()]
        return waits if self.kin is None else waits + self.kin.waits()


class _Nobody:
    """The owner of a loop whose process has ended: there is nothing to do any more."""

    process_id = "(ended)"

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _ignore


def _ignore(*_args: object, **_options: object) -> None: ...


_NOBODY: Any = _Nobody()
