"""
The contract of `JournalStorage` as a test suite: what every provider has to pass, ours and yours.

How to use it, in a test module of a provider (pytest and hypothesis are needed, no pytest plugin is)::

    from durable.testing.storage_contract import Clock, StorageContract

    class TestMyStorage(StorageContract):
        def make_storage(self, place, clock):
            return MyStorage(f"my:///{place}", lease_clock=clock)

``place`` is an empty directory of the running test. Every object made for the same place must see the same data (use it
as a name if your data are elsewhere); what is made is opened and closed by the suite. ``clock()`` gives seconds; leases
must run on it, so that nothing here sleeps. A provider whose lease clock cannot be given overrides `pass_time` and
waits really (shorten `LEASE` then). Everything else in a test is the protocol, so the suite says nothing about speed,
disks or kills: test those beside it.

`test_agreement` lets hypothesis run random operations, deaths of sessions included, on the provider and on ``memory://``
and compares every answer; set `agreement_settings` to make it longer or shorter.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from durable.errors import CorruptJournal, SessionLost, StorageError
from durable.journal import Kind, Record
from durable.storage import (
    Batch,
    Delivery,
    End,
    JournalStorage,
    Mail,
    MailKind,
    Park,
    ProcessRow,
    Stall,
    Status,
)
from durable.testing.storage_agreement import Agreement
from durable.testing.storage_parts import QUEUE, Clock, Host, Stores, creation, event, last, started, step

__all__ = ["Clock", "StorageContract"]


def scenario(test: Callable[[Any, Stores], Awaitable[None]]) -> Callable[..., None]:
    """Make an async test of `Stores` a plain one on an event loop of its own, so that no plugin is needed."""

    def run(self: StorageContract, tmp_path: Path) -> None:
        async def main() -> None:
            async with self.stores(tmp_path) as stores:
                await test(self, stores)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__qualname__ = test.__qualname__
    return run


class StorageContract:
    """Derive from it, say how a storage object is made, and pytest finds the tests."""

    LEASE: ClassVar[float] = 30.0
    agreement_settings: ClassVar[settings] = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    clock: Clock

    # --- what a provider says

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        """Return a new storage object, not opened yet, on the data of *place*, with leases on *clock*."""
        raise NotImplementedError

    def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let *seconds* pass on the clock of leases."""
        clock.now += seconds

    @asynccontextmanager
    async def stores(self, place: Path) -> AsyncIterator[Stores]:
        """What a test works with; closes what it has opened."""
        self.clock = Clock()
        stores = Stores(lambda: self.make_storage(place, self.clock), self.LEASE)
        try:
            yield stores
        finally:
            for storage in stores.opened:
                await storage.close()

    # --- creating

    @scenario
    async def test_created_process_can_be_read(self, stores: Stores) -> None:
        """A creation is a row with these values and a journal with its first record; nothing else exists."""
        host = await stores.host()
        assert await host.storage.row("id 1") is None
        result = await host.commit(creations=[creation(1), creation(2, owned=False, wake_at=7)])
        assert not result.taken_ids
        assert not result.held
        assert await host.storage.row("id 1") == ProcessRow(
            1, "id 1", "definition", QUEUE, Status.RUNNING, host.session, None, 0, 1, None, None, None
        )
        pending = await host.storage.row("id 2")
        assert pending is not None
        assert (pending.owner, pending.wake_at) == (None, 7)
        assert list(await host.storage.journal(2)) == [started()]
        assert list(await host.storage.inbox(2)) == []
        assert list(await host.storage.journal(3)) == []

    @scenario
    async def test_taken_id_is_an_answer(self, stores: Stores) -> None:
        """A creation whose id exists writes nothing and is told who has it; the rest of its batch is written."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        result = await host.commit(creations=[creation(2, id="id 1", definition="another"), creation(3)])
        assert {id_: row.key for id_, row in result.taken_ids.items()} == {"id 1": 1}
        assert list(await host.storage.journal(2)) == []
        assert [row.key for row in await host.storage.rows()] == [3, 1]

    @scenario
    async def test_first_of_two_with_one_id_wins(self, stores: Stores) -> None:
        """Of two creations with one id in one batch the first is written and the second is told so."""
        host = await stores.host()
        result = await host.commit(creations=[creation(1), creation(2, id="id 1"), creation(3)])
        assert {id_: row.key for id_, row in result.taken_ids.items()} == {"id 1": 1}
        assert [row.key for row in await host.storage.rows()] == [3, 1]
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.journal(2)) == []

    @scenario
    async def test_same_creation_again_is_taken(self, stores: Stores) -> None:
        """The very same creation tried again (its answer was lost) is answered with its own row."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        result = await host.commit(creations=[creation(1)])
        assert result.taken_ids["id 1"].key == 1
        assert list(await host.storage.journal(1)) == [started()]

    @scenario
    async def test_taken_key_is_an_error(self, stores: Stores) -> None:
        """A new id with a key that exists is a bug of the host: the whole batch is refused."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        with pytest.raises(StorageError):
            await host.commit(creations=[creation(2), creation(1, id="other")])
        assert await host.storage.row("id 2") is None
        assert await host.storage.row("other") is None

    # --- batches

    @scenario
    async def test_batch_applies_as_a_whole(self, stores: Stores) -> None:
        """A batch with one wrong record at its end writes none of its parts, and its number is not kept."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.storage.collect(host.session)
        with pytest.raises(CorruptJournal):
            await host.commit(
                creations=[creation(3)],
                records=[(1, step(2)), (2, step(3))],
                taken=[item.number],
                mails=[event(2)],
                progress={1: b"half"},
                parks=[Park(2, 5, 0)],
            )
        assert await host.storage.last_batch(host.session) == 1
        assert await host.storage.row("id 3") is None
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.inbox(1)) == [item]
        assert list(await host.storage.inbox(2)) == []
        row = await host.storage.row("id 1")
        assert row is not None
        assert row.progress is None

    @scenario
    async def test_records_come_back_in_order(self, stores: Stores) -> None:
        """Journals written interleaved, in one batch and over several, come back each in its order, from any point."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await host.commit(records=[(1, step(2)), (2, step(2)), (1, step(3)), (2, step(3)), (1, step(4))])
        await host.commit(records=[(1, step(5))])
        assert list(await host.storage.journal(1)) == [started(), step(2), step(3), step(4), step(5)]
        assert list(await host.storage.journal(1, after=3)) == [step(4), step(5)]
        assert list(await host.storage.journal(2, after=3)) == []
        assert all(isinstance(record.kind, Kind) for record in await host.storage.journal(1))

    @scenario
    async def test_gap_and_duplicate_are_refused(self, stores: Stores) -> None:
        """A record that is there already, or leaves a gap, is refused, as the last record of a process too."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], records=[(1, step(2))])
        for wrong in (2, 4):
            with pytest.raises(CorruptJournal):
                await host.commit(records=[(1, step(wrong))])
            with pytest.raises(CorruptJournal):
                await host.commit(ends=[End(1, Status.COMPLETED, None, last(wrong), 0)])
        assert list(await host.storage.journal(1)) == [started(), step(2)]

    @scenario
    async def test_only_the_owner_writes(self, stores: Stores) -> None:
        """A living session can change nothing of a process it does not own: pending, of another session, or ended."""
        host, other = await stores.host(), await stores.host()
        await other.commit(creations=[creation(1), creation(3)])
        await other.commit(creations=[creation(2, owned=False)], ends=[End(3, Status.FAILED, None, last(2), 0)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.storage.inbox(1)
        wrong: list[dict[str, Any]] = [
            *({"records": [(key, step(seq))]} for key, seq in [(1, 2), (2, 2), (3, 3), (99, 2)]),
            {"taken": [item.number]},
            {"progress": {1: b"half"}},
            {"parks": [Park(1, 5, 1)]},
            {"stalls": [Stall(1, "why", 1)]},
            {"ends": [End(1, Status.COMPLETED, None, last(2), 1)]},
        ]
        for parts in wrong:
            with pytest.raises(StorageError):
                await host.commit(**parts)
        assert [len(await host.storage.journal(key)) for key in (1, 2, 3)] == [1, 1, 2]
        row = await host.storage.row("id 1")
        assert row is not None
        assert (row.owner, row.status, row.progress) == (other.session, Status.RUNNING, None)

    @scenario
    async def test_client_only_creates_and_sends(self, stores: Stores) -> None:
        """A batch without a session may create pending processes and send mails, and nothing else."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.commit(Batch(None, creations=[creation(2, owned=False)], mails=[event(1), event(2)]))
        assert len(await host.storage.inbox(2)) == 1
        for batch in (
            Batch(None, creations=[creation(3)]),
            Batch(None, records=[(1, step(2))]),
            Batch(None, parks=[Park(1, None, 1)]),
        ):
            with pytest.raises(StorageError):
                await host.storage.commit(batch)
        assert await host.storage.count() == 2

    @scenario
    async def test_last_batch(self, stores: Stores) -> None:
        """The number of the last applied batch is kept, empty ones included, after the end of the session too."""
        host = await stores.host()
        assert await host.storage.last_batch(host.session) == 0
        await host.commit(creations=[creation(1)])
        assert await host.storage.last_batch(host.session) == 1
        await host.commit()
        other = await stores.open()
        assert await other.last_batch(host.session) == 2
        await host.storage.end_session(host.session)
        assert await other.last_batch(host.session) == 2

    @scenario
    async def test_inbox_item_is_taken_once(self, stores: Stores) -> None:
        """Taking an item that is gone refuses the batch: an event cannot enter two journals."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.storage.collect(host.session)
        await host.commit(records=[(1, step(2))], taken=[item.number])
        with pytest.raises(StorageError):
            await host.commit(records=[(1, step(3))], taken=[item.number])
        assert len(await host.storage.journal(1)) == 2

    # --- sessions

    @scenario
    async def test_ended_session_is_refused(self, stores: Stores) -> None:
        """An ended session writes, claims and renews nothing, and what it owned is claimed at once."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.end_session(host.session)
        await self._assert_refused(host)
        [claim] = await other.claim(now=0)
        assert claim.row.owner == other.session
        assert await other.storage.bury() == 0

    @scenario
    async def test_dead_session_is_refused(self, stores: Stores) -> None:
        """A session whose lease has run out lives until it is buried, and then writes, claims and renews nothing."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        self.pass_time(self.clock, self.LEASE - 1)
        other = await stores.host()
        assert await other.storage.bury() == 0
        self.pass_time(self.clock, 1)
        assert await other.storage.bury() == 1
        assert await other.storage.bury() == 0
        await self._assert_refused(host)

    async def _assert_refused(self, host: Host) -> None:
        assert await host.storage.renew(host.session, self.LEASE) is False
        written = await host.storage.last_batch(host.session)
        creations = [creation(9, id="late")]
        some: list[dict[str, Any]] = [{"records": [(1, step(2))]}, {}, {"creations": creations}, {"mails": [event(1)]}]
        for parts in some:
            with pytest.raises(SessionLost):
                await host.commit(**parts)
        with pytest.raises(SessionLost):
            await host.claim()
        assert await host.storage.last_batch(host.session) == written
        assert await host.storage.row("late") is None
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.inbox(1)) == []

    @scenario
    async def test_takeover(self, stores: Stores) -> None:
        """Who claims a process of a dead session gets all the dead one wrote, and alone writes from then on."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)], records=[(1, step(2))])
        assert await other.claim() == []
        self.pass_time(self.clock, self.LEASE / 2)
        assert await other.storage.renew(other.session, self.LEASE)
        self.pass_time(self.clock, self.LEASE / 2)
        assert await other.storage.bury() == 1
        [claim] = await other.claim()
        assert list(claim.records) == [started(), step(2)]
        assert claim.row == await other.storage.row("id 1")
        with pytest.raises(SessionLost):
            await host.commit(records=[(1, step(3, b"of the dead"))])
        await other.commit(records=[(1, step(3))])
        assert list(await other.storage.journal(1)) == [started(), step(2), step(3)]

    @scenario
    async def test_session_ids_are_new(self, stores: Stores) -> None:
        """No session gets the id of an earlier one, ended or not."""
        first = await stores.host()
        await first.storage.end_session(first.session)
        sessions = {(await stores.host(first.storage)).session for _ in range(3)}
        assert len(sessions | {first.session}) == 4

    # --- claiming and waking

    @scenario
    async def test_claim_takes_what_is_due(self, stores: Stores) -> None:
        """A claim takes due processes of its queues, earliest first, up to its limit; then they are owned."""
        host = await stores.host()
        await host.commit(
            creations=[
                creation(1, owned=False, wake_at=30),
                creation(2, owned=False, wake_at=10),
                creation(3, owned=False, wake_at=20),
                creation(4, owned=False, wake_at=31),
                creation(5, owned=False, wake_at=10, queue="other"),
                creation(6, owned=False, wake_at=None),
            ]
        )
        assert await host.storage.next_wake([QUEUE]) == 10
        assert [claim.row.key for claim in await host.claim(now=30, limit=2)] == [2, 3]
        assert await host.storage.next_wake([QUEUE]) == 30
        [claim] = await host.claim(now=30)
        assert (claim.row.key, claim.row.owner, claim.row.wake_at) == (1, host.session, None)
        assert await host.claim(now=30) == []
        assert [claim.row.key for claim in await host.claim(now=31, queues=["other", QUEUE])] == [5, 4]
        assert await host.storage.next_wake([QUEUE, "other"]) is None
        assert await host.claim(now=31, queues=[]) == []

    @scenario
    async def test_next_wake_sees_orphans(self, stores: Stores) -> None:
        """While a process of a dead session waits to be claimed, the next wake is due, so that nobody sleeps on it."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        assert await other.storage.next_wake([QUEUE]) is None
        await host.storage.end_session(host.session)
        wake = await other.storage.next_wake([QUEUE])
        assert wake is not None
        assert wake <= 0
        assert await other.storage.next_wake(["other"]) is None
        assert len(await other.claim(now=0)) == 1
        assert await other.storage.next_wake([QUEUE]) is None

    @scenario
    async def test_each_process_is_claimed_once(self, stores: Stores) -> None:
        """Two objects that claim at the same time share the due processes without overlap or loss."""
        hosts = [await stores.host(), await stores.host()]
        client = await stores.open()
        await client.commit(Batch(None, creations=[creation(key, owned=False, wake_at=key) for key in range(1, 101)]))
        claims = await asyncio.gather(*(hosts[turn % 2].claim(limit=7) for turn in range(30)))
        keys = [claim.row.key for some in claims for claim in some]
        assert sorted(keys) == list(range(1, 101))

    @scenario
    async def test_claim_brings_journal_and_inbox(self, stores: Stores) -> None:
        """Each claim has its own journal and its own inbox, both in order."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(2)], records=[(1, step(2)), (2, step(2)), (1, step(3))])
        await host.storage.commit(Batch(None, mails=[event(2, payload=b"a"), event(1, payload=b"b"), event(2)]))
        await host.commit(parks=[Park(1, 5, 1), Park(2, 6, 2)])
        first, second = await other.claim(now=6)
        assert list(first.records) == [started(), step(2), step(3)]
        assert [item.payload for item in first.inbox] == [b"b"]
        assert list(second.records) == [started(), step(2)]
        assert [item.payload for item in second.inbox] == [b"a", b"mail"]
        assert first.row.mail == 1

    @scenario
    async def test_park(self, stores: Stores) -> None:
        """A parked process is owned by nobody, and claimed when its time has come."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        assert not (await host.commit(parks=[Park(1, 100, 0), Park(2, None, 0)])).held
        row = await host.storage.row("id 1")
        assert row is not None
        assert (row.owner, row.wake_at, row.status) == (None, 100, Status.RUNNING)
        assert await host.claim(now=99) == []
        assert [claim.row.key for claim in await host.claim(now=100)] == [1]

    # --- mail

    @scenario
    async def test_deliveries_are_told_apart(self, stores: Stores) -> None:
        """Each mail is answered in its place: delivered, no such process, or ended."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await host.commit(ends=[End(2, Status.COMPLETED, None, last(2), 0)])
        mails = [event(2), event(1), event(9), event(1)]
        result = await host.storage.commit(Batch(None, mails=mails))
        expected = [Delivery.ENDED, Delivery.DELIVERED, Delivery.NOT_FOUND, Delivery.DELIVERED]
        assert list(result.deliveries) == expected
        assert list((await host.commit(mails=mails)).deliveries) == expected

    @scenario
    async def test_inbox_keeps_the_order(self, stores: Stores) -> None:
        """Items come in the order of commitment with all they were sent with, and no number is used twice."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        sent = [
            Mail("id 1", MailKind.EVENT, "first", "key", b"1", 5),
            Mail("id 2", MailKind.EVENT, "second", None, b"", 6),
            Mail("id 1", MailKind.CANCEL, "", None, b"reason", 4),
        ]
        await host.commit(mails=sent[:2])
        await host.storage.commit(Batch(None, mails=sent[2:]))
        items = await host.storage.collect(host.session)
        assert [item[2:] for item in items] == [mail[1:] for mail in sent]
        assert [item.key for item in items] == [1, 2, 1]
        assert [item.number for item in items] == sorted({item.number for item in items})
        assert list(await host.storage.inbox(1)) == [items[0], items[2]]
        assert all(isinstance(item.kind, MailKind) for item in items)
        await host.commit(taken=[item.number for item in items])
        assert list(await host.storage.inbox(1)) == []
        await host.commit(mails=[event(1)])
        [item] = await host.storage.collect(host.session)
        assert item.number > items[-1].number

    @scenario
    async def test_mail_flags_a_resident(self, stores: Stores) -> None:
        """A mail to an owned process is collected by its owner only, once; the item stays until it is taken."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await other.storage.commit(Batch(None, mails=[event(1)]))
        assert await other.storage.collect(other.session) == []
        assert [item.key for item in await host.storage.collect(host.session)] == [1]
        assert await host.storage.collect(host.session) == []
        assert len(await host.storage.inbox(1)) == 1
        row = await host.storage.row("id 1")
        assert row is not None
        assert (row.mail, row.wake_at, row.owner) == (1, None, host.session)

    @scenario
    async def test_mail_wakes_a_parked_process(self, stores: Stores) -> None:
        """A mail makes a parked process due at its time, but never later than it was."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2), creation(3)])
        await host.commit(parks=[Park(1, 1000, 0), Park(2, None, 0), Park(3, 20, 0)])
        await host.storage.commit(Batch(None, mails=[event(key, time=50) for key in (1, 2, 3)]))
        wakes = [row.wake_at for row in await host.storage.rows()]
        assert wakes == [20, 50, 50]

    @pytest.mark.parametrize("parts", ["parks", "stalls", "ends"])
    def test_mail_holds_what_would_miss_it(self, tmp_path: Path, parts: str) -> None:
        """
        A mail before a park, stall or end holds it: nothing of it is written and the process stays owned.

        With the mail consumed it goes through, while one that had no mail goes through in the same batch.
        """
        values = {"parks": (500,), "stalls": ("why",), "ends": (Status.COMPLETED, None, last(2))}[parts]
        kind: Any = {"parks": Park, "stalls": Stall, "ends": End}[parts]

        async def main() -> None:
            async with self.stores(tmp_path) as stores:
                host = await stores.host()
                await host.commit(creations=[creation(1), creation(2)])
                before = await host.storage.row("id 1")
                await host.storage.commit(Batch(None, mails=[event(1)]))
                result = await host.commit(**{parts: [kind(1, *values, 0), kind(2, *values, 0)]})
                assert set(result.held) == {1}
                row = await host.storage.row("id 1")
                assert before is not None
                assert row == before._replace(mail=1, wake_at=50)
                assert list(await host.storage.journal(1)) == [started()]
                other = await host.storage.row("id 2")
                assert other is not None
                assert other.owner is None
                assert not (await host.commit(**{parts: [kind(1, *values, 1)]})).held
                row = await host.storage.row("id 1")
                assert row is not None
                assert row.owner is None

        asyncio.run(main())

    @scenario
    async def test_mail_of_the_same_batch_holds_too(self, stores: Stores) -> None:
        """Mails of a batch come before its parks, so a process that writes to itself is not parked on it."""
        host = await stores.host()
        result = await host.commit(creations=[creation(1)], mails=[event(1)], parks=[Park(1, None, 0)])
        assert set(result.held) == {1}
        assert list(result.deliveries) == [Delivery.DELIVERED]

    @scenario
    async def test_mail_after_park_wakes(self, stores: Stores) -> None:
        """In the other order the mail finds a parked process and makes it due: no order loses the mail."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.commit(parks=[Park(1, None, 0)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [claim] = await host.claim(now=50)
        assert [item.payload for item in claim.inbox] == [b"mail"]

    # --- stalling, ending, progress

    @scenario
    async def test_stalled_process_waits_for_a_fix(self, stores: Stores) -> None:
        """A stalled process keeps its reason and is not claimed; events are kept; resuming its queue wakes it."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2, queue="other")])
        await host.commit(stalls=[Stall(1, "a bug", 0), Stall(2, "a bug", 0)])
        result = await host.storage.commit(Batch(None, mails=[event(1)]))
        assert list(result.deliveries) == [Delivery.DELIVERED]
        row = await host.storage.row("id 1")
        assert row is not None
        assert (row.status, row.reason, row.owner, row.wake_at) == (Status.STALLED, "a bug", None, None)
        assert await host.claim() == []
        assert await host.storage.next_wake([QUEUE]) is None
        assert await host.storage.resume_stalled([QUEUE], 70) == 1
        assert await host.storage.resume_stalled([QUEUE], 70) == 0
        [claim] = await host.claim(now=70)
        assert (claim.row.key, claim.row.status, claim.row.reason) == (1, Status.RUNNING, None)
        assert len(claim.inbox) == 1

    @scenario
    async def test_requests_wake_a_stalled_process(self, stores: Stores) -> None:
        """Resume, cancel and terminate make a stalled process due."""
        host = await stores.host()
        kinds = [MailKind.RESUME, MailKind.CANCEL, MailKind.TERMINATE]
        await host.commit(creations=[creation(kind) for kind in kinds])
        await host.commit(stalls=[Stall(kind, "a bug", 0) for kind in kinds])
        await host.storage.commit(Batch(None, mails=[event(kind, kind) for kind in kinds]))
        claims = await host.claim(now=50)
        assert [claim.inbox[0].kind for claim in claims] == [MailKind(claim.row.key) for claim in claims]
        assert {claim.row.key for claim in claims} == set(kinds)
        assert {(claim.row.status, claim.row.reason) for claim in claims} == {(Status.RUNNING, None)}

    @scenario
    async def test_end(self, stores: Stores) -> None:
        """An ended process has its status, reason, time and last record, is never claimed, and keeps its inbox."""
        host = await stores.host()
        ends = {Status.COMPLETED: 1, Status.FAILED: 2, Status.CANCELLED: 3, Status.TERMINATED: 4}
        await host.commit(creations=[creation(key) for key in ends.values()])
        await host.commit(mails=[event(1)])
        await host.commit(ends=[End(key, status, f"why {key}", last(2), int(key == 1)) for status, key in ends.items()])
        for status, key in ends.items():
            row = await host.storage.row(f"id {key}")
            assert row is not None
            assert (row.status, row.reason, row.ended_at) == (status, f"why {key}", 2)
            assert (row.owner, row.wake_at) == (None, None)
            assert list(await host.storage.journal(key)) == [started(), last(2)]
        assert await host.claim() == []
        assert len(await host.storage.inbox(1)) == 1
        assert await host.storage.resume_stalled([QUEUE], 1) == 0

    @scenario
    async def test_progress(self, stores: Stores) -> None:
        """The last progress of a process is on its row, after its end too."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)], progress={1: b"a", 2: b""})
        await host.commit(progress={1: b"b"}, ends=[End(1, Status.COMPLETED, None, last(2), 0)])
        assert [row.progress for row in await host.storage.rows()] == [b"", b"b"]

    # --- values

    @scenario
    async def test_odd_ids(self, stores: Stores) -> None:
        """Ids are kept exactly: slashes, dots, quotes, emoji, digits, 1000 characters, and case tells them apart."""
        odd = [
            "a/b",
            "../..",
            ".",
            "a'b\"c",
            "%25",
            "🎉 é",
            "\u00c9",
            "E\u0301",
            "id",
            "ID",
            "Id",
            "7",
            "07",
            " ",
            "x" * 1000,
        ]
        odd += ["ü" * 1000, "[1]", "a\nb", "NULL", "\ufeff", "\uffff"]
        host = await stores.host()
        await host.commit(creations=[creation(key, id=id_) for key, id_ in enumerate(odd, start=1)])
        for key, id_ in enumerate(odd, start=1):
            row = await host.storage.row(id_)
            assert row is not None
            assert (row.key, row.id) == (key, id_)
        result = await host.commit(mails=[Mail(id_, MailKind.EVENT, id_[:200], id_, b"", 1) for id_ in odd])
        assert set(result.deliveries) == {Delivery.DELIVERED}
        again = await host.commit(creations=[creation(100 + key, id=id_) for key, id_ in enumerate(odd)])
        assert list(again.taken_ids) == odd
        items = await host.storage.collect(host.session)
        assert [(item.key, item.event_key) for item in items] == list(enumerate(odd, start=1))

    @scenario
    async def test_payloads(self, stores: Stores) -> None:
        """Payloads are kept byte by byte, from none to 1 MB, in records, mails and progress."""
        payloads = [b"", b"\0", bytes(range(256)), b"\xff" * 2**20]
        host = await stores.host()
        records = [(1, step(seq, payload)) for seq, payload in enumerate(payloads, start=2)]
        mails = [event(1, payload=payload) for payload in payloads]
        await host.commit(creations=[creation(1)], records=records, mails=mails, progress={1: payloads[-1]})
        assert [record.payload for record in await host.storage.journal(1)][1:] == payloads
        assert [item.payload for item in await host.storage.inbox(1)] == payloads
        [row] = await host.storage.rows()
        assert row.progress == payloads[-1]

    @scenario
    async def test_numbers(self, stores: Stores) -> None:
        """Keys have 63 bits, and times may be anything a clock of a test says."""
        host = await stores.host()
        largest = 2**63 - 1
        record = Record(1, Kind.STARTED, "", b"", 2**60)
        await host.commit(creations=[creation(largest, record=record), creation(1, owned=False, wake_at=0)])
        row = await host.storage.row(f"id {largest}")
        assert row is not None
        assert (row.key, row.created_at) == (largest, 2**60)
        assert list(await host.storage.journal(largest)) == [record]
        assert [claim.row.key for claim in await host.claim(now=0)] == [1]
        await host.commit(parks=[Park(largest, 2**62, 0)])
        assert await host.storage.next_wake([QUEUE]) == 2**62

    # --- listing, closing, sharing

    @scenario
    async def test_listing(self, stores: Stores) -> None:
        """Listings are newest key first, in pages without overlap, by status and definition; counts agree."""
        host = await stores.host()
        await host.commit(
            creations=[creation(key, definition="even" if key % 2 == 0 else "odd") for key in range(1, 11)]
        )
        ended = [End(key, Status.COMPLETED, None, last(2), 0) for key in (2, 3, 4)]
        await host.commit(ends=ended, stalls=[Stall(5, "why", 0)])
        storage = host.storage
        assert [row.key for row in await storage.rows()] == list(range(10, 0, -1))
        assert [row.key for row in await storage.rows(limit=4)] == [10, 9, 8, 7]
        assert [row.key for row in await storage.rows(limit=4, before=7)] == [6, 5, 4, 3]
        assert [row.key for row in await storage.rows(before=1)] == []
        assert [row.key for row in await storage.rows(definition="even", limit=3, before=9)] == [8, 6, 4]
        assert [row.key for row in await storage.rows(status=[Status.COMPLETED])] == [4, 3, 2]
        some = [Status.COMPLETED, Status.STALLED]
        assert [row.key for row in await storage.rows(status=some, limit=3)] == [5, 4, 3]
        assert [row.key for row in await storage.rows(status=some, definition="odd")] == [5, 3]
        assert [row.key for row in await storage.rows(status=[])] == []
        assert [row.key for row in await storage.rows(definition="none")] == []
        assert await storage.count() == 10
        assert await storage.count(status=some) == 4
        assert await storage.count(status=some, definition="odd") == 2
        assert await storage.count(definition="even") == 5
        assert await storage.count(status=[]) == 0

    @scenario
    async def test_data_outlive_the_object(self, stores: Stores) -> None:
        """What was committed is seen by other objects at once, and by one that is opened after all were closed."""
        host = await stores.host()
        other = await stores.open()
        await host.commit(creations=[creation(1)], records=[(1, step(2))], mails=[event(1)])
        assert await other.row("id 1") is not None
        before = (await other.rows(), await other.journal(1), await other.inbox(1))
        await host.storage.close()
        await other.close()
        again = await stores.open()
        assert (await again.rows(), await again.journal(1), await again.inbox(1)) == before

    @scenario
    async def test_many_open_at_once(self, stores: Stores) -> None:
        """Objects that are opened on nothing at the same time all find a usable store, and each gets a session."""
        storages = [stores.make() for _ in range(5)]
        stores.opened += storages
        await asyncio.gather(*(storage.open() for storage in storages))
        sessions = await asyncio.gather(*(storage.begin_session("host", self.LEASE) for storage in storages))
        assert len(set(sessions)) == 5

    @scenario
    async def test_waiting_for_a_change_ends(self, stores: Stores) -> None:
        """Waiting ends after its timeout when nothing happens, and is only a hint when something does."""
        host = await stores.host()
        async with asyncio.timeout(20):
            await host.storage.wait_for_change(0.01)
            await host.commit(creations=[creation(1)])
            await host.storage.wait_for_change(0.01)

    @scenario
    async def test_is_a_journal_storage(self, stores: Stores) -> None:
        """The object has every method of the protocol, each a coroutine function; `commit` may be one."""
        storage = await stores.open()
        assert isinstance(storage, JournalStorage)
        names = [name for name in vars(JournalStorage) if not name.startswith("_") and name != "commit"]
        assert [name for name in names if not inspect.iscoroutinefunction(getattr(storage, name))] == []

    # --- agreement with memory://

    def test_agreement(self) -> None:
        """Under random operations and deaths the provider answers what ``memory://`` answers."""
        contract = self

        class Machine(Agreement):
            def make(self, place: Path, clock: Clock) -> JournalStorage:
                return contract.make_storage(place, clock)

            def pass_time(self, clock: Clock, seconds: float) -> None:
                contract.pass_time(clock, seconds)

        run_state_machine_as_test(Machine, settings=self.agreement_settings)
