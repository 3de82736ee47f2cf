"""How processes come into memory: created here, claimed, or begun anew; and their mail, which comes the same way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import Context

from durable._host.engine.holding import Holding
from durable._host.residents.absent import reason_to_terminate
from durable._host.residents.resident import Resident
from durable._kernel import problems
from durable._kernel.commands import Command, StartChild
from durable.errors import UnknownDefinition
from durable.invocation import AnyDefinition
from durable.journal import Kind, Record
from durable.storage import Claim, Creation, InboxItem, Restart

logger = logging.getLogger("durable.host")


class Intake(Holding):
    """The way in; `Engine` builds on it."""

    # --- created here ---

    def begin(self, key: int, id: str, definition: AnyDefinition, record: Record) -> None:
        """A process created here is durable: run it."""
        if self.draining:
            return  # owned by this session, which is about to end: the next host claims it
        resident = self._resident(key, id, definition)
        resident.begin(record)
        if early := self._early.pop(key, None):
            self._hand_over(resident, early)

    def create_child(self, command: StartChild) -> Creation:
        """A child of a process here: it runs here too, if it can and there is room; else it waits to be claimed."""
        now = self.clock.now()
        here = self._serves(command.definition, command.queue) and self.room() > 0
        record = Record(1, Kind.STARTED, command.definition, command.payload, now)
        key, wake_at = self._new_key(), None if here else now
        if here:
            self.coming.add(key)
        return Creation(key, command.id, command.definition, command.queue, here, wake_at, record)

    def child_created(self, creation: Creation) -> None:
        """It is durable, and its parent knows."""
        if self.observer is not None:
            here = creation.owned and not self.draining
            # The context of this call is that of whatever happened to come into the batch first.
            Context().run(self.observer.process_started, creation, creation.record, here=here)
        if creation.owned:
            self.coming.discard(creation.key)
            self.begin(creation.key, creation.id, self.definitions[creation.definition], creation.record)
        else:
            self.wanted()

    def child_dropped(self, creation: Creation) -> None:
        """It will not be created: there is another process of that id, or the store refuses its parent."""
        self.coming.discard(creation.key)

    # --- claimed ---

    async def adopt(self, claims: Sequence[Claim]) -> None:
        """Replay claimed processes, which are `expected`, and go on with them; returns when all are in."""
        await self._adoption.adopt(claims)

    def _adopt(self, claim: Claim) -> None:
        self.expected -= 1
        row = claim.row
        try:
            definition = self.definitions.get(row.definition)
            if definition is None:
                self._settle_unknown(claim)
            else:
                self._recover(self._resident(row.key, row.id, definition), claim)
        except Exception as error:  # whatever it is: this one does not keep the others from running
            resident = self.residents.get(row.key)
            if resident is not None:
                self._drop(resident)
            self._absent.stall(row, row.mail, problems.not_adopted(row.id, error))

    def _recover(self, resident: Resident, claim: Claim) -> None:
        if self.observer is not None:
            self.observer.process_resumed(resident, claim.records)
        commands = self._replay(resident, claim.records, claim.row.mail - len(claim.inbox))
        reason = resident.receive(claim.inbox)
        if reason is not None:
            resident.terminate(reason)
            return
        resident.carry_out(commands)
        self.consider(resident)

    def _replay(self, resident: Resident, records: Sequence[Record], mail: int) -> Sequence[Command]:
        try:
            self.watchdog.begin(resident.id)
            commands = resident.recover(records, mail)
            self.watchdog.end()
        except (KeyboardInterrupt, SystemExit):
            resident.release()
            raise
        return commands

    def _settle_unknown(self, claim: Claim) -> None:
        reason = reason_to_terminate(self.codec, claim)
        if reason is not None:
            self._absent.terminate(claim, reason)
            return
        row = claim.row
        error = UnknownDefinition(
            f"Process {row.id!r} runs {row.definition!r}, which this host was not given",
            known=", ".join(sorted(self.definitions)),
            fix=f"add {row.definition!r} to the definitions of a host (or `name=` the renamed function), then deploy",
        )
        self._absent.stall(row, row.mail, error)

    # --- the next life of one that was here ---

    def restarted(self, before: Resident, restart: Restart) -> None:
        """Its next life is on storage: go on with that."""
        for note in before.notes():
            logger.warning("Process %r restarted, and: %s", before.id, note, extra={"process_id": before.id})
        before.execution.close()
        self._remove(before)
        if self.observer is not None:
            self.observer.process_restarted(before, restart.records[0])
        definition = self.definitions.get(restart.definition)
        if definition is None or restart.queue not in self._queues or self.draining:
            if self.observer is not None:
                self.observer.process_released(before)
            self._early.pop(before.key, None)
            self._absent.give_back(before.key, before.mail)
        else:
            resident = self._resident(before.key, before.id, definition)
            resident.follow(before)
            self._begin_life(resident, restart.records)
        self._changed(before.id, None)

    def _begin_life(self, resident: Resident, records: Sequence[Record]) -> None:
        try:
            commands = self._replay(resident, records, resident.mail)
            resident.carry_out(commands)
        except Exception as error:
            self.discard(resident, problems.not_adopted(resident.id, error))
            return
        if early := self._early.pop(resident.key, None):
            self._hand_over(resident, early)
        self.consider(resident)

    # --- mail ---

    def receive(self, items: Sequence[InboxItem]) -> None:
        """Mail was collected: hand it to its processes. Call from a plain callback."""
        by_process: dict[int, list[InboxItem]] = {}
        for item in items:
            by_process.setdefault(item.key, []).append(item)
        for key, mine in by_process.items():
            resident = self.residents.get(key)
            if resident is not None and not resident.leaving:
                self._hand_over(resident, mine)
            elif resident is not None or key in self.coming:
                self._early.setdefault(key, []).extend(mine)
            # Else it is being marked or given back without having been here, and whoever claims it reads its inbox.

    def _hand_over(self, resident: Resident, items: Sequence[InboxItem]) -> None:
        resident.flagged = False
        self.behind.discard(resident)
        reason = resident.receive(items)
        if reason is not None:
            resident.terminate(reason)
        else:
            resident.try_leave()
        self.consider(resident)
