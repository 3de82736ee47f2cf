"""Broken in what becomes of a process: its mail, how it stalls and ends, and its deletion."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from durable.errors import StorageError
from durable.storage import ENDED, Batch, BatchResult, Delivery, End, InboxItem, Mail, Park, ProcessRow, Stall, Status
from durable_storage.memory_state import State
from tests.storage.broken.base import Broken, caught_by

# --- mail


@caught_by("test_deliveries_are_told_apart")
class DeliversToTheEnded(Broken):
    """Mail to an ended process is told delivered."""

    async def commit(self, batch: Batch) -> BatchResult:
        result = await super().commit(batch)
        told = [Delivery.DELIVERED if one is Delivery.ENDED else one for one in result.deliveries]
        return replace(result, deliveries=told)


@caught_by("test_inbox_keeps_the_order", "test_senders_keep_their_order", "test_times_may_go_back")
class SortsMail(Broken):
    """Inbox items come in the order of their times and payloads."""

    async def inbox(self, key: int) -> Sequence[InboxItem]:
        return sorted(await super().inbox(key), key=lambda item: (item.time, item.payload))

    async def collect(self, session: int) -> Sequence[InboxItem]:
        return sorted(await super().collect(session), key=lambda item: (item.time, item.payload))


@caught_by("test_numbers_are_never_used_again", "test_purged_id_is_free")
class ReusesNumbers(Broken):
    """The number of an inbox item is one more than the largest there is."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            self.mails = max(self.items, default=0)
            return super()._deliver(mail)


@caught_by("test_equal_mails_are_kept_apart")
class DropsEqualMail(Broken):
    """A mail with a de-duplication key that is in the inbox already is dropped."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            waiting = self.inboxes.get(self.keys.get(mail.id, 0), {}).values()
            if mail.event_key is not None and mail.event_key in {item.event_key for item in waiting}:
                return Delivery.DELIVERED
            return super()._deliver(mail)


@caught_by("test_mail_flags_a_resident")
class CollectsAgain(Broken):
    """A flag is not cleared when its mail is collected."""

    async def collect(self, session: int) -> Sequence[InboxItem]:
        state = self._usable()
        flagged = {key: state.processes[key].wake_at for key in state._flagged.get(session, ())}
        items = await super().collect(session)
        for key, wake_at in flagged.items():
            state._change(key, wake_at=wake_at)
        return items


@caught_by("test_mail_wakes_a_parked_process")
class LastMailWakes(Broken):
    """A mail sets the time to wake at, also to a later one."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            delivery = super()._deliver(mail)
            if delivery is Delivery.DELIVERED and self.processes[self.keys[mail.id]].wake_at is not None:
                self._change(self.keys[mail.id], wake_at=mail.time)
            return delivery


@caught_by(
    "test_mail_holds_what_would_miss_it[parks]",
    "test_mail_holds_what_would_miss_it[stalls]",
    "test_mail_holds_what_would_miss_it[ends]",
    "test_mail_of_the_same_batch_holds_too",
    "test_no_wake_up_is_lost",
    "test_agreement",
)
class ParksOverMail(Broken):
    """Parks, stalls and ends do not look for mail, and a park takes back the waking."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            def seen(release: Any) -> Any:
                return release._replace(mail=self.processes[release.key].mail)

            parks, stalls = [seen(one) for one in batch.parks], [seen(one) for one in batch.stalls]
            return super()._release(replace(batch, parks=parks, stalls=stalls, ends=[seen(one) for one in batch.ends]))


@caught_by("test_no_wake_up_is_lost")
class LooksForMailTooEarly(Broken):
    """Whether mail has come is looked at before the write begins: mail in between is slept over."""

    async def commit(self, batch: Batch) -> BatchResult:
        with self._store.lock:
            mails = {key: row.mail for key, row in self._usable().processes.items()}
        time.sleep(0.002)
        with self._store.lock:
            now = self._usable().processes
            fooled = [
                park._replace(mail=now[park.key].mail) if park.mail == mails.get(park.key) else park
                for park in batch.parks
            ]
        return await super().commit(replace(batch, parks=fooled))


@caught_by("test_held_end_does_not_hold_its_batch", "test_mail_holds_what_would_miss_it[ends]")
class HeldIsAnError(Broken):
    """A park, stall or end that does not hold refuses the whole batch."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            releases: list[Park | Stall | End] = [*batch.parks, *batch.stalls, *batch.ends]
            known = [release for release in releases if release.key in self.processes]
            if any(self.processes[release.key].mail != release.mail for release in known):
                raise StorageError("Mail has come")
            return super().commit(batch)


# --- stalling, ending, keeping house


@caught_by("test_stalled_process_waits_for_a_fix", "test_only_running_processes_are_claimed")
class StallsNothing(Broken):
    """A stalled process is parked."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            held = super()._release(batch)
            for stall in batch.stalls:
                if stall.key not in held:
                    self._change(stall.key, status=Status.RUNNING, wake_at=0)
            return held


@caught_by("test_requests_wake_a_stalled_process")
class StalledForEver(Broken):
    """No mail wakes a stalled process."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            row = self.processes.get(self.keys.get(mail.id, 0))
            delivery = super()._deliver(mail)
            if row is not None and row.status is Status.STALLED:
                self._change(row.key, status=Status.STALLED, wake_at=None)
            return delivery


@caught_by("test_agreement")
class StallKeepsItsFlag(Broken):
    """A process that stalls with mail that was seen and not collected keeps its time to wake."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            wakes = {stall.key: self.processes[stall.key].wake_at for stall in batch.stalls}
            held = super()._release(batch)
            for key in wakes.keys() - held:
                self._change(key, wake_at=wakes[key])
            return held


@caught_by("test_end")
class EndForgetsItsReason(Broken):
    """An ended process does not say why."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            return super()._release(replace(batch, ends=[end._replace(reason=None) for end in batch.ends]))


@caught_by("test_progress")
class EndClearsProgress(Broken):
    """An ended process has no progress."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            held = super()._release(batch)
            for end in batch.ends:
                self._change(end.key, progress=None)
            return held


@caught_by("test_ended_lists_the_past")
class EndedByKey(Broken):
    """What has ended is listed in the order of the keys."""

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        return sorted(await super().ended(before, 10**6))[:limit]


@caught_by("test_ended_lists_the_past", "test_agreement")
class EndedTooSoon(Broken):
    """What ended at that very time counts as ended before it."""

    async def ended(self, before: int, limit: int) -> Sequence[ProcessRow]:
        return await super().ended(before + 1, limit)


@caught_by("test_purge_deletes_what_has_ended", "test_numbers")
class PurgesTheLiving(Broken):
    """A purge deletes whatever it is told to."""

    class Kept(State):
        def purge(self, keys: Collection[int]) -> int:
            for key in keys:
                if key in self.processes:
                    self._change(key, status=Status.FAILED, owner=None)
            return super().purge(keys)


@caught_by("test_purge_deletes_what_has_ended", "test_purge_outlives_the_object")
class PurgesRowsOnly(Broken):
    """A purge deletes the row and leaves the journal."""

    class Kept(State):
        def purge(self, keys: Collection[int]) -> int:
            journals = {key: self.journals[key] for key in keys if key in self.journals}
            purged = super().purge(keys)
            self.journals.update(journals)
            return purged


@caught_by("test_purged_id_is_free")
class RemembersPurgedIds(Broken):
    """The id of a purged process stays taken."""

    class Kept(State):
        def purge(self, keys: Collection[int]) -> int:
            self.gone = {row.id: row for row in self.processes.values() if row.status in ENDED and row.key in keys}
            return super().purge(keys)

        def commit(self, batch: Batch) -> BatchResult:
            gone = getattr(self, "gone", {})
            new = [creation for creation in batch.creations if creation.id not in gone]
            taken = {creation.id: gone[creation.id] for creation in batch.creations if creation.id in gone}
            result = super().commit(replace(batch, creations=new))
            return replace(result, taken_ids={**result.taken_ids, **taken})


@caught_by("test_purge_outlives_the_object")
class PurgesInItsHeadOnly(Broken):
    """Only the object that was asked to purge knows of it."""

    async def purge(self, keys: Collection[int]) -> int:
        ended = await self.ended(2**62, 10**6)
        return len({row.key for row in ended} & set(keys))
