"""
The processes a host holds in memory, how many there may be, and what they share: actions, timers, writer, reports.

Belongs here: what is needed while they are here. How they come in is `intake`, how they leave is `engine`.
"""

from __future__ import annotations

import atexit
import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping

from durable._host.actions.actions import Actions
from durable._host.clock import Clock
from durable._host.engine.adoption import Adoption
from durable._host.payloads import Payloads
from durable._host.reports import Reports
from durable._host.residents.absent import Absent
from durable._host.residents.appending import Surroundings
from durable._host.residents.parking import Parking
from durable._host.residents.resident import Resident
from durable._host.session import HostSession
from durable._host.timers import Timers
from durable._host.watchdog import Watchdog
from durable._host.writing.writer import Writer
from durable._kernel.execution import Execution
from durable.codec import Codec
from durable.invocation import AnyDefinition
from durable.journal import Record
from durable.observer import Observer
from durable.storage import Claim, InboxItem

logger = logging.getLogger("durable.host")


class Holding(Surroundings):
    """
    The processes of one session; `Intake` and `Engine` build on it.

    Args:
        limit: How many residents to keep; waiting ones beyond it are parked at once.
        queues: Those it serves.
        new_key: Makes the keys of new processes.
        changed: Called with the id of a process whose progress or end somebody may wait for; with the last record if
            it has ended here.
        wanted: Called when there may be something to claim or collect.
        observer: Hears what becomes of each process; must not raise.
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
        payloads: Payloads,
        queues: Collection[str],
        new_key: Callable[[], int],
        changed: Callable[[str, Record | None], object],
        wanted: Callable[[], object],
        observer: Observer | None,
    ) -> None:
        self.observer = observer
        self.definitions = definitions
        self.codec = codec
        self.clock = clock
        self.writer = writer
        self.payloads = payloads
        self.reports = Reports(codec, writer, lambda id: changed(id, None))
        self.timers = Timers(clock)
        self.actions = Actions(
            self.timers, clock.now, self._is_sure, session.is_torn_down, threads, "durable-action", observer
        )
        self.watchdog = Watchdog()
        self.residents: dict[int, Resident] = {}
        self.by_id: dict[str, Resident] = {}
        self.parking = Parking(park_after, self._park)
        self.limit = limit
        self.expected = 0  # processes that are being claimed, and those that are claimed and not taken in yet
        self.coming: set[int] = set()  # keys of those that are being created here
        self.draining = False
        self._session = session
        self._changed = changed
        self.wanted = wanted
        self._queues = queues
        self._new_key = new_key
        self._held_back: dict[Resident, None] = {}
        self._let_go: dict[int, Resident] = {}  # when the host left, and may still end, park or stall
        self._early: dict[int, list[InboxItem]] = {}  # mail for processes that are just coming or going
        self.behind: set[Resident] = set()  # those whose mail has to be collected before they can go on
        self._adoption = Adoption(self._adopt, lambda: not self.draining)
        self._absent = Absent(codec, clock, writer, changed, wanted, observer)
        atexit.register(self.abandon)

    # --- who is here ---

    def _resident(self, key: int, id: str, definition: AnyDefinition) -> Resident:
        execution = Execution(id, definition.program, self.codec)
        resident = Resident(self, key, id, execution)
        self.residents[key] = self.by_id[id] = resident
        return resident

    def _remove(self, resident: Resident) -> None:
        self.parking.stir(resident)
        self.residents.pop(resident.key, None)
        self._let_go.pop(resident.key, None)
        if self.by_id.get(resident.id) is resident:
            del self.by_id[resident.id]
        self.reports.forget(resident.key)
        self.behind.discard(resident)
        self._held_back.pop(resident, None)
        if self._placed() == self.limit - 1:
            self.wanted()  # there was no room until now: somebody may wait for it

    def _drop(self, resident: Resident) -> None:
        """Let go of it at once, running none of its code; its journal is as it was."""
        resident.departed = resident.leaving = True
        resident.stop_actions()
        resident.let_go()
        self._remove(resident)
        self._early.pop(resident.key, None)

    @abstractmethod
    def _adopt(self, claim: Claim) -> None:
        """Take a claimed process in."""

    @abstractmethod
    def _park(self, resident: Resident) -> None:
        """Write that it leaves, to wait where it costs no memory."""

    @abstractmethod
    def abandon(self) -> None:
        """Python ends and nobody has left the host: run nothing of any process here either."""

    # --- how much may go on ---

    def room(self) -> int:
        """How many more processes fit in."""
        return max(0, self.limit - self._placed() - self.expected - len(self.coming))

    def _placed(self) -> int:
        """How many count: one that waits and cannot be parked must not keep out what it may be waiting for."""
        return len(self.residents) - len(self.parking.unparkable)

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
            if self._placed() > self.limit:
                self.parking.sweep(self._placed() - self.limit)
        else:
            self.parking.stir(resident)

    def _serves(self, definition: str, queue: str) -> bool:
        return definition in self.definitions and queue in self._queues
