"""
The engine of a host: the processes it owns, and the one place where they come in and go out.

In (`intake`): created here, or claimed. Out: parked, stalled, ended, released, or let go when the host leaves or loses
its session. What a process does between is `resident`; what is written goes through `writer`; who is claimed and when
is `claims`; those it owns and cannot hold in memory are `absent`.
"""

from __future__ import annotations

import atexit
import logging
from time import monotonic

from durable._host.engine.intake import Intake
from durable._host.freeing.letting_go import AT_LENGTH
from durable._host.freeing.reachability import LIMIT
from durable._host.residents.resident import Resident
from durable.errors import DurableError, NotOwned
from durable.journal import Record
from durable.storage import Park

logger = logging.getLogger("durable.host")

_PATIENCE = 1.0  # seconds for freeing what is large when everything is let go of; the rest of it is never freed


class Engine(Intake):
    """Owns and runs processes in one session; the arguments are those of `Holding`."""

    def is_quiet(self) -> bool:
        """Whether nothing runs, is written or is being taken in: only time or the outside can change anything."""
        return not self.actions.running and self._adoption.is_quiet() and self.writer.is_quiet()

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
        if self.observer is not None:
            self.observer.process_ended(resident, record)
        self._changed(resident.id, record)
        if resident.execution.kin is not None:
            self.wanted()  # its parent may be here, and has mail

    def stalled(self, resident: Resident, reason: str, held: bool) -> None:
        """It is marked as stalled, or mail came first, which may be the request to try again."""
        if held:
            self._catch_up(resident)
            resident.release()
            return
        resident.let_go()
        self._remove(resident)
        if self.observer is not None:
            self.observer.process_stalled(resident, reason)
        self._changed(resident.id, None)

    def released(self, resident: Resident, held: bool) -> None:
        """It is given back to the store, or mail came first."""
        if held:
            self._catch_up(resident)
            return
        self._remove(resident)
        if self.observer is not None:
            self.observer.process_released(resident)
        self._changed(resident.id, None)
        self.wanted()

    def discard(self, resident: Resident, error: DurableError) -> None:
        """It cannot go on here: the store refuses its records, or a step of it failed in a way that it should not."""
        if self.residents.get(resident.key) is not resident:
            return  # it has heard so already
        self._drop(resident)
        if not isinstance(error, NotOwned):
            self._absent.stall(resident, resident.mail, error)
        elif self.observer is not None:  # whoever owns it now goes on with it
            self.observer.process_released(resident)
        self._changed(resident.id, None)

    def _park(self, resident: Resident) -> None:
        resident.leaving = True
        self.reports.write_last(resident.key)
        change = Park(resident.key, resident.wake_at(), resident.mail)
        self.writer.settle(change, lambda held: self._parked(resident, change, held), resident.refused)

    def _parked(self, resident: Resident, change: Park, held: bool) -> None:
        if held:
            resident.settled_back()
            self._catch_up(resident)
            return
        resident.stop_actions()
        resident.let_go()
        self._remove(resident)
        if self.observer is not None:
            self.observer.process_parked(resident, change.wake_at)
        self._changed(resident.id, None)
        if change.wake_at is not None:
            self.wanted()

    def _catch_up(self, resident: Resident) -> None:
        resident.leaving = False
        if early := self._early.pop(resident.key, None):
            self._hand_over(resident, early)
        else:
            resident.flagged = True
            self.behind.add(resident)
            self.wanted()

    # --- the host leaves ---

    def abandon(self) -> None:
        """Python ends and nobody has left the host: run nothing of any process here either."""
        for resident in self.residents.values():
            resident.let_go(LIMIT)

    def close(self) -> None:
        """Let go of everything, running none of it: what is not finished goes on elsewhere."""
        atexit.unregister(self.abandon)
        self.draining = True
        self.watchdog.close()
        self.timers.close()
        self.actions.close()
        self._let_go.update(self.residents)
        self.residents.clear()
        self.by_id.clear()
        until = monotonic() + _PATIENCE
        for resident in list(self._let_go.values()):
            resident.departed = True
            resident.let_go(AT_LENGTH if monotonic() < until else LIMIT)
            self._changed(resident.id, None)

    def written(self) -> None:
        """After `close`, when nothing is written any more: whatever has not ended, parked or stalled is gone now."""
        let_go, self._let_go = self._let_go, {}
        for resident in let_go.values():
            if self.observer is not None:
                self.observer.process_released(resident)
