"""Broken in who owns what: sessions, leases, fences, claims, and the next wake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from durable.errors import SessionLost
from durable.storage import Batch, BatchResult, Claim, Delivery, InboxItem, Mail, MailKind, Status
from durable_storage.memory_state import Session, State
from tests.storage.broken.base import Broken, caught_by

FOR_ALL = (MailKind.EVENT, MailKind.CANCEL)

# --- sessions


@caught_by("test_ended_session_is_refused", "test_dead_session_is_refused", "test_takeover", "test_stolen_lease")
class DoesNotFence(Broken):
    """A session that is dead or has ended writes on as if nothing were."""

    class Kept(State):
        def fence(self, session: int) -> Session:
            if session not in self.sessions:
                raise SessionLost("Never heard of it")
            return self.sessions[session]


@caught_by(*(f"test_fence_against_a_writing_owner[{watched}]" for watched in (1, 5, 20)))
class FencesTooEarly(Broken):
    """A session is found alive, then its batch is written: in between it may be buried and robbed."""

    async def commit(self, batch: Batch) -> BatchResult:
        with self._store.lock:
            state = self._usable()
            if batch.session is not None:
                state.fence(batch.session)
        session = state.sessions.get(batch.session or 0)
        patience = 50 if len(state.sessions) > 1 else 0  # as slow as it takes for somebody else to bury it
        while patience and session is not None and session.state == "alive":
            time.sleep(0.001)
            patience -= 1
        with self._store.lock:
            owned = {key for key, _ in batch.records}
            if session is not None and session.state == "dead":
                for key in owned:
                    state.journals[key] += [record for at, record in batch.records if at == key]
                return BatchResult()
        return await super().commit(batch)


@caught_by("test_living_session_keeps_its_processes", "test_takeover", "test_mail_flags_a_resident")
class RobsTheLiving(Broken):
    """A claim gives what a living session owns."""

    class Kept(State):
        def _orphans(self) -> list[int]:
            return [key for keys in self._owned.values() for key in keys]

        def collect(self, session: int) -> list[InboxItem]:
            return [item for items in self.inboxes.values() for item in items.values()]


@caught_by("test_living_session_keeps_its_processes", "test_dead_session_is_refused", "test_clock_jumps_backward")
class BuriesTheLiving(Broken):
    """A burial declares dead everybody, whatever the lease."""

    async def bury(self) -> int:
        for session in self._usable().sessions.values():
            session.lease_until = float("-inf")
        return await super().bury()


@caught_by("test_living_session_keeps_its_processes")
class RenewsNothing(Broken):
    """A renewal says yes and does nothing."""

    async def renew(self, session: int, lease: float) -> bool:
        return self._usable().alive(session)


@caught_by("test_dead_session_is_refused", "test_ended_session_is_refused")
class RevivesTheDead(Broken):
    """A renewal brings a buried session back to life."""

    async def renew(self, session: int, lease: float) -> bool:
        self._usable().sessions[session].state = "alive"
        return await super().renew(session, lease)


@caught_by("test_late_renewal")
class RefusesTheLate(Broken):
    """A lease that has run out cannot be renewed although nobody has buried the session."""

    async def renew(self, session: int, lease: float) -> bool:
        if self._usable().sessions[session].lease_until <= self._lease_clock():
            return False
        return await super().renew(session, lease)


@caught_by("test_lease_counts_from_the_renewal", "test_clock_jumps_backward")
class NeverShortens(Broken):
    """A renewal never brings the end of a lease nearer."""

    async def renew(self, session: int, lease: float) -> bool:
        before = self._usable().sessions[session].lease_until
        renewed = await super().renew(session, lease)
        self._usable().sessions[session].lease_until = max(before, self._usable().sessions[session].lease_until)
        return renewed


@caught_by("test_clock_jumps_forward")
class BuriesOneByOne(Broken):
    """One burial a call, and the others wait."""

    async def bury(self) -> int:
        sessions = [one for one in self._usable().sessions.values() if one.state == "alive"]
        for session in sessions:
            if session.lease_until <= self._lease_clock():
                session.state = "dead"
                return 1
        return await super().bury()


@caught_by("test_clock_jumps_backward")
class DistrustsTheFuture(Broken):
    """A lease that ends further ahead than any lease is long counts as run out."""

    async def bury(self) -> int:
        for session in self._usable().sessions.values():
            if session.lease_until > self._lease_clock() + 200:
                session.lease_until = float("-inf")
        return await super().bury()


@caught_by("test_session_ids_are_new")
class ReusesSessions(Broken):
    """The id of an ended session is given to the next one."""

    async def begin_session(self, host: str, lease: float) -> int:
        sessions = self._usable().sessions
        for number, session in sessions.items():
            if session.state == "ended":
                sessions[number] = Session(host, self._lease_clock() + lease, self)
                return number
        return await super().begin_session(host, lease)


@caught_by("test_stolen_lease", "test_ended_session_is_refused", "test_next_wake_sees_orphans")
class HoldsForTheDeparted(Broken):
    """What an ended session owned waits for a lease that nobody renews."""

    class Kept(State):
        def _orphans(self) -> list[int]:
            return [key for key in super()._orphans() if self.sessions[self.processes[key].owner or 0].state == "dead"]


@caught_by("test_dead_owner_loses_its_mail_to_the_heir")
class OrphansGetNoMail(Broken):
    """A mail to a process whose owner is gone is told delivered and dropped."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            return Delivery.DELIVERED if self.keys.get(mail.id) in self._orphans() else super()._deliver(mail)


# --- claims


@caught_by("test_claim_takes_what_is_due")
class LatestFirst(Broken):
    """A claim gives what is due in the order of its keys, backwards."""

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        return sorted(await super().claim(session, queues, limit, now), key=lambda claim: -claim.row.key)


@caught_by("test_claim_takes_what_is_due", "test_next_wake_sees_a_buried_owner", "test_odd_names")
class OneQueueForAll(Broken):
    """A claim does not ask for the queue."""

    class Kept(State):
        def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> list[Claim]:
            return super().claim(session, {row.queue for row in self.processes.values()}, limit, now)


@caught_by("test_now_goes_backward")
class TimeOnlyPasses(Broken):
    """A claim takes for now the latest that it was ever told."""

    latest = 0

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        self.latest = max(self.latest, now)
        return await super().claim(session, queues, limit, self.latest)


@caught_by("test_next_wake_sees_orphans", "test_next_wake_sees_a_buried_owner", "test_agreement")
class SleepsOverOrphans(Broken):
    """The next wake does not see what the dead have left."""

    class Kept(State):
        def next_wake(self, queues: Collection[str]) -> int | None:
            return min((at for key, at in self._waking.items() if self.processes[key].queue in queues), default=None)


@caught_by("test_claim_brings_journal_and_inbox")
class ClaimsAreMixed(Broken):
    """Each claim brings the inbox of all."""

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        claims = await super().claim(session, queues, limit, now)
        items = sorted(item for claim in claims for item in claim.inbox)
        return [claim._replace(inbox=items) for claim in claims]


@caught_by("test_orphans_are_claimed_in_parts")
class AllOrphansAtOnce(Broken):
    """The limit of a claim counts for what is due, and not for orphans."""

    class Kept(State):
        def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> list[Claim]:
            return super().claim(session, queues, max(limit, len(self._orphans())), now)


@caught_by("test_orphans_are_claimed_first")
class OrphansLast(Broken):
    """A claim looks for orphans when nothing else is due."""

    class Kept(State):
        hides_orphans = False

        def _orphans(self) -> list[int]:
            return [] if self.hides_orphans else super()._orphans()

        def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> list[Claim]:
            self.hides_orphans = True
            claims = super().claim(session, queues, limit, now)
            self.hides_orphans = False
            return claims + super().claim(session, queues, limit - len(claims), now)


@caught_by("test_only_running_processes_are_claimed", "test_stalled_process_waits_for_a_fix")
class ClaimsTheStalled(Broken):
    """A mail makes a stalled process due like any other."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            delivery = super()._deliver(mail)
            key = self.keys.get(mail.id, 0)
            if delivery is Delivery.DELIVERED and self.processes[key].status is Status.STALLED:
                self._change(key, status=Status.RUNNING, wake_at=mail.time)
            return delivery


@caught_by("test_park", "test_end")
class KeepsTheParked(Broken):
    """Who parks or ends stays the owner."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            held = super()._release(batch)
            for key in [park.key for park in batch.parks] + [end.key for end in batch.ends]:
                self._change(key, owner=batch.session)
            return held


@caught_by("test_mail_after_park_wakes[cancel]", "test_mail_after_park_wakes[event]")
class MailWakesNobody(Broken):
    """A mail is put into the inbox, and the process sleeps on."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            wakes = {key: row.wake_at for key, row in self.processes.items()}
            delivery = super()._deliver(mail)
            key = self.keys.get(mail.id, 0)
            if delivery is Delivery.DELIVERED:
                self._change(key, wake_at=wakes[key])
            return delivery


@caught_by(*(f"test_mail_after_park_wakes[{kind.name.lower()}]" for kind in MailKind if kind not in FOR_ALL))
class OnlySomeMailWakes(Broken):
    """Only events and requests to cancel are for a process that is not stalled."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            if mail.kind not in FOR_ALL:
                return Delivery.DELIVERED
            return super()._deliver(mail)


@caught_by("test_each_process_is_claimed_once", "test_claims_of_many_threads")
class ClaimsWithoutALock(Broken):
    """What is due is looked up, then it is taken: two claimers find the same."""

    async def claim(self, session: int, queues: Collection[str], limit: int, now: int) -> Sequence[Claim]:
        with self._store.lock:
            state = self._usable()
            state.fence(session)
            due = [key for key, at in state._waking.items() if at <= now] + state._orphans()
            keys = [key for key in due if state.processes[key].queue in queues][:limit]
        await asyncio.sleep(0.001)
        with self._store.lock:
            for key in keys:
                state._change(key, owner=session, wake_at=None)
            return [state._claimed(key) for key in keys]


@caught_by("test_next_wake_sees_orphans", "test_claim_takes_what_is_due", "test_numbers")
class NeverWakes(Broken):
    """There is never anything to wake up for."""

    async def next_wake(self, queues: Collection[str]) -> int | None:
        return None
