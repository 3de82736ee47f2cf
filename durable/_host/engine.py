"""
The engine of a host: the processes it owns, and the one place where they come in and go out.

In: created here, or claimed. Out: parked, stalled, ended, released, or let go when the host leaves or loses its
session. What a process does between is `resident`; what is written goes through `writer`; who is claimed and when is
`claims`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

from durable._host.actions import Actions
from durable._host.clock import Clock
from durable._host.parking import Parking
from durable._host.resident import Resident, read_reason
from durable._host.session import HostSession
from durable._host.timers import Timers
from durable._host.watchdog import Watchdog
from durable._host.writer import Writer
from durable._kernel.commands import End
from durable._kernel.execution import Execution
from durable.codec import Codec, describe_error
from durable.definition import AnyDefinition
from durable.errors import DurableError, PayloadTooLarge, UnknownDefinition
from durable.journal import Kind, Record
from durable.storage import Claim, InboxItem, MailKind, Park, ProcessRow, Status
from durable.storage import End as EndChange
from durable.storage import Stall as StallChange

logger = logging.getLogger("durable.host")

_SLICE = 0.02  # seconds of replay before other callbacks of the loop get their turn
_SHOW_EVERY = 0.25  # seconds between two writes of the progress of one process


class Engine:
    """
    Owns and runs processes in one session.

    Args:
        limit: How many residents to keep; waiting ones beyond it are parked at once.
        changed: Called with the id of a process whose progress or end somebody may wait for; with the last record if
            it has ended here.
        wanted: Called when there may be something to claim or collect.
    """

    def __init__(
        self,
        definitions: Mapping[str, AnyDefinition],
        codec: Codec,
        clock: Clock,
        session: HostSession,
        writer: Writer,
        *,
        limit: int,
        park_after: float,
        threads: int,
        payload_limit: int,
        changed: Callable[[str, Record | None], object],
        wanted: Callable[[], object],
    ) -> None:
        self.definitions = definitions
        self.codec = codec
        self.clock = clock
        self.writer = writer
        self.timers = Timers(clock)
        self.actions = Actions(self.timers, clock.now, self._is_sure, threads, "durable-action")
        self.watchdog = Watchdog()
        self.residents: dict[int, Resident] = {}
        self.by_id: dict[str, Resident] = {}
        self.progress: dict[str, bytes] = {}
        self.parking = Parking(park_after, self._park)
        self.limit = limit
        self.expected = 0  # processes on their way in: being created or claimed
        self.draining = False
        self._session = session
        self._payload_limit = payload_limit
        self._changed = changed
        self._wanted = wanted
        self._held_back: dict[Resident, None] = {}
        self._shown: dict[int, float] = {}
        self._early: dict[int, list[InboxItem]] = {}  # mail for processes that are just coming or going
        self._adopting = 0
        self._loop = asyncio.get_running_loop()
        atexit.register(self.abandon)

    # --- in ---

    def begin(self, key: int, id: str, definition: AnyDefinition, record: Record) -> None:
        """A process created here is durable: run it."""
        if self.draining:
            return  # owned by this session, which is about to end: the next host claims it
        resident = self._resident(key, id, definition)
        resident.begin(record)
        if early := self._early.pop(key, None):
            self._hand_over(resident, early)

    async def adopt(self, claims: Sequence[Claim]) -> None:
        """Replay claimed processes and go on with them; returns when all are in."""
        done = self._loop.create_future()
        self._adopting += 1
        remaining = iter(claims)
        # From a plain callback, in slices: process code is never stepped inside a task.
        self._loop.call_soon(self._adopt_slice, remaining, done)
        try:
            await done
        finally:
            self._adopting -= 1

    def _adopt_slice(self, claims: Iterable[Claim], done: asyncio.Future[None]) -> None:
        until = monotonic() + _SLICE
        finished = False
        try:
            for claim in claims:
                if self.draining:
                    break
                self._adopt_one(claim)
                if monotonic() > until:
                    return
            finished = True
        finally:  # an interrupt goes its way, out of the loop; if that runs again, so does the rest
            if not finished:
                self._loop.call_soon(self._adopt_slice, claims, done)
            elif not done.done():
                done.set_result(None)

    def _adopt_one(self, claim: Claim) -> None:
        row = claim.row
        definition = self.definitions.get(row.definition)
        if definition is None:
            self._settle_unknown(claim)
            return
        resident = self._resident(row.key, row.id, definition)
        try:
            self.watchdog.begin(row.id)
            commands = resident.recover(claim.records, row.mail - len(claim.inbox))
            self.watchdog.end()
        except (KeyboardInterrupt, SystemExit):
            resident.release()
            raise
        reason = resident.receive(claim.inbox)
        if reason is not None:
            resident.terminate(reason)
            return
        resident.carry_out(commands)
        self.consider(resident)

    def receive(self, items: Sequence[InboxItem]) -> None:
        """Mail was collected: hand it to its processes. Call from a plain callback."""
        by_process: dict[int, list[InboxItem]] = {}
        for item in items:
            by_process.setdefault(item.key, []).append(item)
        for key, mine in by_process.items():
            resident = self.residents.get(key)
            if resident is None or resident.leaving:
                self._early.setdefault(key, []).extend(mine)
            else:
                self._hand_over(resident, mine)

    def _hand_over(self, resident: Resident, items: Sequence[InboxItem]) -> None:
        resident.flagged = False
        reason = resident.receive(items)
        if reason is not None:
            resident.terminate(reason)
        else:
            resident.try_leave()
        self.consider(resident)

    def _resident(self, key: int, id: str, definition: AnyDefinition) -> Resident:
        execution = Execution(id, definition.program, self.codec)
        resident = Resident(self, key, id, definition.name, execution)
        self.residents[key] = self.by_id[id] = resident
        return resident

    # --- while it is here ---

    def encode(self, value: Any, process_id: str, checkpoint: str) -> bytes:
        """A payload, or the error that says which checkpoint of which process could not be recorded."""
        try:
            payload = self.codec.encode(value)
        except DurableError as error:
            error.facts = {"process": repr(process_id), "checkpoint": repr(checkpoint), **error.facts}
            raise
        if len(payload) > self._payload_limit:
            raise self._too_large(f"Checkpoint {checkpoint!r} of process {process_id!r}", payload)
        return payload

    def within_limit(self, end: End, process_id: str) -> End:
        """*end* itself, or the failure to record a result that is too large."""
        if end.kind is not Kind.COMPLETED or len(end.payload) <= self._payload_limit:
            return end
        failure = describe_error(self.codec, self._too_large(f"The result of process {process_id!r}", end.payload))
        return End(Kind.ERRED, self.codec.encode((failure, list(end.notes))), end.notes)

    def _too_large(self, what: str, payload: bytes) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"{what} takes {len(payload)} bytes, and the limit of this host is {self._payload_limit}",
            fix="keep large data in a file or object store and record its name, or raise `payload_limit`",
        )

    def room(self) -> int:
        """How many more processes fit in."""
        return max(0, self.limit - len(self.residents) - self.expected)

    def may_start(self, resident: Resident) -> bool:
        """Whether an action of *resident* may start now; if not for the lease's sake, it is told when it may."""
        if self.draining:
            return False
        if self._session.may_start():
            return True
        self._held_back[resident] = None
        return False

    def _is_sure(self) -> bool:
        """As `may_start`, for an action that had to wait for a thread, on that thread."""
        return not self.draining and self._session.is_sure()

    def lease_renewed(self) -> None:
        """Start what was held back while the lease was in doubt."""
        held_back, self._held_back = self._held_back, {}
        for resident in held_back:
            if not resident.departed:
                resident.start_queued()

    def consider(self, resident: Resident) -> None:
        """After a step: does it only wait now?"""
        if resident.is_waiting():
            self.parking.wait(resident)
            if len(self.residents) > self.limit:
                self.parking.sweep(len(self.residents) - self.limit)
        else:
            self.parking.stir(resident)

    def report(self, resident: Resident, done: float, total: float | None, message: str) -> None:
        """Keep and show the progress of a process; written to storage now and then."""
        self.progress[resident.id] = payload = self.codec.encode((done, total, message))
        now = monotonic()
        if now - self._shown.get(resident.key, 0.0) >= _SHOW_EVERY:
            self._shown[resident.key] = now
            self.writer.show(resident.key, payload)
        self._changed(resident.id, None)

    def show_last(self, resident: Resident) -> None:
        """The process is about to leave: its last report is written whatever the pause since the one before."""
        if (payload := self.progress.get(resident.id)) is not None:
            self.writer.show(resident.key, payload)

    def is_quiet(self) -> bool:
        """Whether nothing runs, is written or is being taken in: only time or the outside can change anything."""
        return not self.actions.running and not self._adopting and self.writer.is_quiet()

    # --- out ---

    def ended(self, resident: Resident, record: Record, held: bool) -> None:
        """Its end is on storage, or mail came first."""
        if held:
            self._catch_up(resident)
            return
        for note in resident.notes():
            logger.warning("Process %r ended, and: %s", resident.id, note, extra={"process_id": resident.id})
        resident.execution.close()
        self._remove(resident)
        self._changed(resident.id, record)

    def stalled(self, resident: Resident, held: bool) -> None:
        """It is marked as stalled, or mail came first, which may be the request to try again."""
        if held:
            self._catch_up(resident)
            resident.release()
            return
        resident.let_go()
        self._remove(resident)
        self._changed(resident.id, None)

    def released(self, resident: Resident, held: bool) -> None:
        """It is given back to the store, or mail came first."""
        if held:
            self._catch_up(resident)
            return
        self._remove(resident)
        self._changed(resident.id, None)
        self._wanted()

    def discard(self, resident: Resident, error: DurableError) -> None:
        """The store refuses its records: let go of it; its journal is as it was."""
        facts = {"process_id": resident.id}
        logger.error("Process %r is let go, its records were refused: %s", resident.id, error, extra=facts)
        resident.departed = True
        resident.stop_actions()
        resident.let_go()
        self._remove(resident)
        self._changed(resident.id, None)

    def _park(self, resident: Resident) -> None:
        resident.leaving = True
        self.show_last(resident)
        change = Park(resident.key, resident.wake_at(), resident.mail)
        self.writer.settle(change, lambda held: self._parked(resident, change, held))

    def _parked(self, resident: Resident, change: Park, held: bool) -> None:
        if held:
            resident.settled_back()
            self._catch_up(resident)
            return
        resident.stop_actions()
        resident.let_go()
        self._remove(resident)
        self._changed(resident.id, None)
        if change.wake_at is not None:
            self._wanted()

    def _catch_up(self, resident: Resident) -> None:
        resident.leaving = False
        if early := self._early.pop(resident.key, None):
            self._hand_over(resident, early)
        else:
            resident.flagged = True
            self._wanted()

    def _settle_unknown(self, claim: Claim) -> None:
        for item in claim.inbox:
            if item.kind is MailKind.TERMINATE:
                self._terminate_unknown(claim, read_reason(self.codec, item.payload))
                return
        self._stall_unknown(claim.row)

    def _terminate_unknown(self, claim: Claim, reason: str) -> None:
        row, last = claim.row, claim.records[-1]
        record = Record(last.seq + 1, Kind.TERMINATED, "", self.codec.encode(reason), max(last.time, self.clock.now()))
        change = EndChange(row.key, Status.TERMINATED, reason, record, row.mail)
        self.writer.settle(change, lambda held: self._unknown_settled(row, record, held))

    def _stall_unknown(self, row: ProcessRow) -> None:
        error = UnknownDefinition(
            f"Process {row.id!r} runs {row.definition!r}, which this host was not given",
            known=", ".join(sorted(self.definitions)),
            fix=f"add {row.definition!r} to the definitions of a host (or `name=` the renamed function), then deploy",
        )
        logger.error("Process %r is stalled: %s", row.id, error, extra={"process_id": row.id})
        # Its inbox stays as it is: nobody here knows what to do with it.
        change = StallChange(row.key, str(error), row.mail)
        self.writer.settle(change, lambda held: self._unknown_settled(row, None, held))

    def _unknown_settled(self, row: ProcessRow, record: Record | None, held: bool) -> None:
        if held:  # mail came meanwhile: look at it, with the process claimed afresh
            self._give_back(row.key, row.mail + 1)
        else:
            self._changed(row.id, record)

    def _give_back(self, key: int, mail: int) -> None:
        """Let go of a process that is not in memory. How much mail came is not known: count on until it is right."""
        change = Park(key, self.clock.now(), mail)
        self.writer.settle(change, lambda held: self._give_back(key, mail + 1) if held else self._wanted())

    def _remove(self, resident: Resident) -> None:
        self.parking.stir(resident)
        self.residents.pop(resident.key, None)
        if self.by_id.get(resident.id) is resident:
            del self.by_id[resident.id]
        self.progress.pop(resident.id, None)
        self._shown.pop(resident.key, None)
        self._held_back.pop(resident, None)
        if len(self.residents) == self.limit - 1:
            self._wanted()  # there was no room until now: somebody may wait for it

    # --- the host leaves ---

    def abandon(self) -> None:
        """Python ends and nobody has left the host: run nothing of any process here either."""
        for resident in self.residents.values():
            resident.let_go()

    def close(self) -> None:
        """Let go of everything, running none of it: what is not finished goes on elsewhere."""
        atexit.unregister(self.abandon)
        self.draining = True
        self.watchdog.close()
        self.timers.close()
        self.actions.close()
        residents = list(self.residents.values())
        self.residents.clear()
        self.by_id.clear()
        for resident in residents:
            resident.departed = True
            resident.let_go()
            self._changed(resident.id, None)
