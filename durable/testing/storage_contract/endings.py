"""How a process stops for a while, or for good: stalled, ended, and at last deleted; and the progress it showed."""

from __future__ import annotations

from durable.storage import Batch, Delivery, End, MailKind, Park, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import QUEUE, Stores, creation, ending, event, last, started


class Endings(Suite):
    """Stalling, ending, progress, and what `ended` and `purge` do with the past."""

    @scenario
    async def test_stalled_process_waits_for_a_fix(self, stores: Stores) -> None:
        """A stalled process keeps its reason and is not claimed; events are kept; resuming its queue wakes it."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2, queue="other")])
        await host.commit(stalls=[Stall(1, "a bug", 0), Stall(2, "a bug", 0)])
        result = await host.storage.commit(Batch(None, mails=[event(1)]))
        assert list(result.deliveries) == [Delivery.DELIVERED]
        row = await host.row(1)
        assert (row.status, row.reason, row.owner, row.wake_at) == (Status.STALLED, "a bug", None, None)
        assert await host.claim() == []
        assert await host.storage.next_wake([QUEUE]) is None
        assert await host.storage.resume_stalled([QUEUE], 70) == 1
        assert await host.storage.resume_stalled([QUEUE], 70) == 0
        assert await host.storage.next_wake([QUEUE]) == 70
        [claim] = await host.claim(now=70)
        assert (claim.row.key, claim.row.status, claim.row.reason) == (1, Status.RUNNING, None)
        assert len(claim.inbox) == 1
        assert (await host.row(2)).status is Status.STALLED

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
        """An ended process has its status, reason, time and last record, and is never claimed."""
        host = await stores.host()
        ends = {Status.COMPLETED: 1, Status.FAILED: 2, Status.CANCELLED: 3, Status.TERMINATED: 4}
        await host.commit(creations=[creation(key) for key in ends.values()])
        await host.commit(ends=[End(key, status, f"why {key}", last(2), 0) for status, key in ends.items()])
        for status, key in ends.items():
            row = await host.row(key)
            assert (row.status, row.reason, row.ended_at) == (status, f"why {key}", 2)
            assert (row.owner, row.wake_at) == (None, None)
            assert list(await host.storage.journal(key)) == [started(), last(2)]
        assert await host.claim() == []
        assert await host.storage.next_wake([QUEUE]) is None
        assert await host.storage.resume_stalled([QUEUE], 1) == 0

    @scenario
    async def test_progress(self, stores: Stores) -> None:
        """The last progress of a process is on its row, after its end too."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)], progress={1: b"a", 2: b""})
        await host.commit(progress={1: b"b"}, ends=[ending(1)])
        assert [row.progress for row in await host.storage.rows()] == [b"", b"b"]

    @scenario
    async def test_ended_lists_the_past(self, stores: Stores) -> None:
        """`ended` gives what ended before a time, first ended first, as many as asked for, and nothing that lives."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in range(1, 8)])
        await host.commit(parks=[Park(6, None, 0)], stalls=[Stall(7, "why", 0)])
        for key, status, time in [
            (3, Status.FAILED, 10),
            (1, Status.COMPLETED, 30),
            (2, Status.TERMINATED, 20),
            (4, Status.CANCELLED, 40),
        ]:
            await host.commit(ends=[End(key, status, None, last(2)._replace(time=time), 0)])
        storage = host.storage
        assert [row.key for row in await storage.ended(10**6, 100)] == [3, 2, 1, 4]
        assert [row.key for row in await storage.ended(40, 100)] == [3, 2, 1]
        assert [row.key for row in await storage.ended(41, 2)] == [3, 2]
        assert list(await storage.ended(10, 100)) == []
        assert list(await storage.ended(10**6, 1)) == [await host.row(3)]

    @scenario
    async def test_purge_deletes_what_has_ended(self, stores: Stores) -> None:
        """Of the keys it is given `purge` deletes those that have ended, with all they had, and counts them."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in range(1, 6)], mails=[event(1), event(3)])
        await host.commit(ends=[ending(1, mail=1), ending(2)], parks=[Park(4, 5, 0)], stalls=[Stall(5, "why", 0)])
        left = [await host.row(key) for key in (5, 4, 3, 2)]
        assert await host.storage.purge([]) == 0
        assert await host.storage.purge([1, 3, 4, 5, 99]) == 1
        assert await host.storage.purge([1, 3, 4, 5, 99]) == 0
        assert list(await host.storage.rows()) == left
        assert await host.storage.count() == 4
        assert await host.storage.row("id 1") is None
        assert list(await host.storage.journal(1)) == []
        assert list(await host.storage.inbox(1)) == []
        assert [row.key for row in await host.storage.ended(10**6, 100)] == [2]
        assert list((await host.commit(mails=[event(1)])).deliveries) == [Delivery.NOT_FOUND]
        for key in (2, 3, 4, 5):
            assert len(await host.storage.journal(key)) == (2 if key == 2 else 1)
        assert len(await host.storage.inbox(3)) == 1

    @scenario
    async def test_purged_id_is_free(self, stores: Stores) -> None:
        """The id of a purged process may be used again, with nothing of the old one left, inbox numbers apart."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], mails=[event(1)], progress={1: b"old"})
        [old] = await host.collect()
        await host.commit(ends=[ending(1, mail=1)])
        assert await host.storage.purge([1]) == 1
        result = await host.commit(creations=[creation(2, id="id 1")])
        assert not result.taken_ids
        row = await host.row(1)
        assert (row.key, row.mail, row.progress, row.status) == (2, 0, None, Status.RUNNING)
        assert list(await host.storage.journal(2)) == [started()]
        await host.commit(mails=[event(1)])
        [item] = await host.collect()
        assert (item.key, item.number > old.number) == (2, True)

    @scenario
    async def test_purge_outlives_the_object(self, stores: Stores) -> None:
        """What was purged is gone for other objects at once, and after all were closed."""
        host, other = await stores.host(), await stores.open()
        await host.commit(creations=[creation(1), creation(2)])
        await host.commit(ends=[ending(1)])
        assert await other.purge([1]) == 1
        assert await host.storage.row("id 1") is None
        await host.storage.close()
        await other.close()
        again = await stores.open()
        assert [row.key for row in await again.rows()] == [2]
        assert list(await again.journal(1)) == []
