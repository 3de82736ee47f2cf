"""Broken in `commit`: what a batch writes, refuses and answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection
from dataclasses import replace
from typing import Any

from durable.errors import CorruptJournal, DurableError, StorageError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Creation, Delivery, Mail
from durable_storage.memory_state import State
from tests.storage.broken.base import Broken, caught_by


@caught_by("test_created_process_can_be_read")
class ForgetsTheOwner(Broken):
    """A process that is created owned belongs to nobody."""

    class Kept(State):
        def _create(self, creation: Creation, session: int | None) -> None:
            super()._create(creation, None)


@caught_by("test_taken_id_is_an_answer", "test_one_id_for_many_creators")
class TakenIdIsAnError(Broken):
    """A creation whose id exists refuses the whole batch."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            if any(creation.id in self.keys for creation in batch.creations):
                raise StorageError("An id is taken")
            return super().commit(batch)


@caught_by("test_same_creation_again_is_taken", "test_taken_id_is_an_answer", "test_odd_ids")
class TakenIdIsNotTold(Broken):
    """A refused creation is not among the taken ids."""

    async def commit(self, batch: Batch) -> BatchResult:
        return replace(await super().commit(batch), taken_ids={})


@caught_by("test_taken_id_is_an_answer")
class TakenByTheWrongRow(Broken):
    """The row that is told for a taken id is that of the newest process."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            result = super().commit(batch)
            return replace(result, taken_ids=dict.fromkeys(result.taken_ids, self.processes[max(self.processes)]))


@caught_by("test_first_of_two_with_one_id_wins")
class LastOfTwoWins(Broken):
    """Of two creations with one id in one batch the second is written."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            return super().commit(replace(batch, creations=batch.creations[::-1]))


@caught_by("test_taken_key_is_an_error")
class OverwritesByKey(Broken):
    """A new process with a key that exists takes the place of the old one."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            for creation in batch.creations:
                if creation.key in self.processes and creation.id not in self.keys:
                    del self.keys[self.processes.pop(creation.key).id]
            return super().commit(batch)


@caught_by("test_one_id_for_many_creators")
class LooksForTheIdTooEarly(Broken):
    """Whether an id is taken is looked at before the write begins, so that two may find it free."""

    async def commit(self, batch: Batch) -> BatchResult:
        with self._store.lock:
            state = self._usable()
            free = {creation.id for creation in batch.creations if creation.id not in state.keys}
        time.sleep(0.005)
        with self._store.lock:
            for id in free & state.keys.keys():
                state.processes[state.keys[id]] = state.processes[state.keys[id]]._replace(id=f"{id} lost")
                del state.keys[id]
        return await super().commit(batch)


@caught_by("test_ids_that_are_purged_while_they_are_created")
class TakenByWhatIsGone(Broken):
    """Which ids are taken is looked at before the write begins; what was purged since is neither created nor told."""

    async def commit(self, batch: Batch) -> BatchResult:
        with self._store.lock:
            taken = self._usable().keys.keys() & {creation.id for creation in batch.creations}
        time.sleep(0.005)
        with self._store.lock:
            gone = taken - self._usable().keys.keys()
        return await super().commit(replace(batch, creations=[one for one in batch.creations if one.id not in gone]))


class Unchecked(State):
    """Applies a batch without its checks, those of the session apart."""

    def commit(self, batch: Batch) -> BatchResult:
        if batch.session is not None:
            self.fence(batch.session).last_batch = batch.number
        for creation in batch.creations:
            self._create(creation, batch.session)
        for key, record in batch.records:
            self.append(key, record)
        for number in batch.taken:
            self.inboxes.get(self.items.pop(number, 0), {}).pop(number, None)
        deliveries = [self._deliver(mail) for mail in batch.mails]
        for key, progress in batch.progress.items():
            self._change(key, progress=progress)
        return BatchResult({}, deliveries, self._release(batch))

    def append(self, key: int, record: Record) -> None:
        """Write one record."""
        self.journals.setdefault(key, []).append(record)


@caught_by("test_journal_begins_with_its_first_record", "test_gap_and_duplicate_are_refused")
class ChecksNothing(Broken):
    """Any record is accepted anywhere."""

    Kept = Unchecked


@caught_by("test_only_the_owner_writes", "test_client_only_creates_and_sends", "test_letting_go_twice_is_refused")
class AnybodyWrites(Broken):
    """Records follow each other, but nobody asks whose they are."""

    class Kept(Unchecked):
        def append(self, key: int, record: Record) -> None:
            if record.seq != len(self.journals.get(key, ())) + 1:
                raise CorruptJournal("Not the next record")
            super().append(key, record)


@caught_by("test_batch_applies_as_a_whole", "test_batch_sent_twice")
class StopsHalfWay(Broken):
    """What was written before the wrong record stays."""

    class Kept(Unchecked):
        def append(self, key: int, record: Record) -> None:
            if record.seq != len(self.journals[key]) + 1:
                raise CorruptJournal("Not the next record")
            super().append(key, record)


@caught_by("test_last_part_refuses_the_first")
class EndsInATransactionOfTheirOwn(Broken):
    """The ends of a batch are written after the rest was committed."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            result = super().commit(replace(batch, ends=[]))
            if not batch.ends:
                return result
            rest = Batch(batch.session, batch.number, ends=batch.ends)
            return replace(result, held={*result.held, *super().commit(rest).held})


@caught_by("test_fields_apply_in_their_order", "test_mail_of_the_same_batch_holds_too")
class MailsComeLast(Broken):
    """The mails of a batch are delivered when everything else was written."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            first = super().commit(replace(batch, mails=[]))
            return replace(first, deliveries=[self._deliver(mail) for mail in batch.mails])


@caught_by("test_records_come_back_in_order")
class GroupsByProcessBackwards(Broken):
    """Records come back in another order than they were written in."""

    async def journal(self, key: int, after: int = 0) -> list[Record]:
        return list(await super().journal(key, after))[::-1]


@caught_by("test_gap_and_duplicate_are_refused")
class RepeatsAreFine(Broken):
    """A record that is there already is passed over in silence, as after a batch that was sent again."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            new = [(key, record) for key, record in batch.records if record not in self.journals.get(key, ())]
            return super().commit(replace(batch, records=new))


@caught_by("test_inbox_item_is_taken_once")
class TakesWhatIsGone(Broken):
    """Inbox items that are gone are passed over in silence."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            return super().commit(replace(batch, taken=list(dict.fromkeys(n for n in batch.taken if n in self.items))))


@caught_by("test_big_batch")
class WritesOnlySoMuch(Broken):
    """The ten-thousandth record is too much for one statement, and nobody has looked."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            return super().commit(replace(batch, records=batch.records[:9_999]))


# --- answers


@caught_by("test_is_a_journal_storage")
class IsNotAsync(Broken):
    """One method is a plain function."""

    def purge(self, keys: Collection[int]) -> int:  # type: ignore[override]
        return self._usable().purge(keys)


@caught_by("test_commit_answers_when_awaited")
class RaisesWhenCalled(Broken):
    """`commit` does its work at the call, and raises there."""

    def commit(self, batch: Batch) -> Awaitable[BatchResult]:  # type: ignore[override]
        result = self._usable().commit(batch)
        future: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        future.set_result(result)
        return future


@caught_by("test_last_batch", "test_lost_answer[True]", "test_data_outlive_the_object")
class ForgetsTheBatch(Broken):
    """The number of the last batch is not kept with it."""

    async def last_batch(self, session: int) -> int:
        return await super().last_batch(session) - 1 if await super().last_batch(session) else 0


@caught_by("test_last_batch")
class NumbersOfAll(Broken):
    """One number for all sessions."""

    async def last_batch(self, session: int) -> int:
        return max(one.last_batch for one in self._usable().sessions.values())


@caught_by("test_lost_answer[False]")
class NotesBeforeItWrites(Broken):
    """The number of a batch is noted by itself, whether the batch is written or not."""

    async def last_batch(self, session: int) -> int:
        return await super().last_batch(session) + 1


@caught_by("test_unknown_session_is_refused")
class WelcomesStrangers(Broken):
    """Who was never registered is believed to live."""

    class Kept(State):
        def fence(self, session: int) -> Any:
            if session not in self.sessions:
                session = max(self.sessions)
            return super().fence(session)


@caught_by("test_lost_answer[True]", "test_deliveries_are_told_apart", "test_no_wake_up_is_lost")
class SendsAgain(Broken):
    """What has no answer is sent again, mails included, without a look at whether it was applied."""

    class Kept(State):
        def _deliver(self, mail: Mail) -> Delivery:
            super()._deliver(mail)
            return super()._deliver(mail)


@caught_by("test_cancelled_commit")
class CanBeCancelledHalfWay(Broken):
    """The records of a batch are written, then its creations; in between the caller may be cancelled."""

    async def commit(self, batch: Batch) -> BatchResult:
        if batch.creations and batch.records:
            await super().commit(replace(batch, creations=[]))
            await asyncio.sleep(0)
            batch = replace(batch, records=[])
        return await super().commit(batch)


@caught_by("test_cancelled_commit")
class GoesOnWhenCancelled(Broken):
    """A cancelled commit is written later, after `last_batch` has said that it is not."""

    async def commit(self, batch: Batch) -> BatchResult:
        async def later() -> BatchResult:
            for _ in range(3):
                await asyncio.sleep(0)
            self._usable().commit(batch)
            return BatchResult()

        if batch.creations:
            return await super().commit(batch)
        return await asyncio.shield(asyncio.create_task(_quiet(later())))


async def _quiet(one: Awaitable[BatchResult]) -> BatchResult:
    try:
        return await one
    except DurableError:
        return BatchResult()
