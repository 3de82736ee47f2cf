"""One batch is one atom: all of it is written or nothing, only by who may, and each record where it belongs."""

from __future__ import annotations

from typing import Any

import pytest

from durable.errors import CorruptJournal, NotOwned, StorageError
from durable.journal import Kind
from durable.storage import Batch, End, Mail, MailKind, Park, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import Host, Stores, creation, ending, event, last, started, step


class Batches(Suite):
    """What `commit` accepts, what it refuses, and that nothing is left of what it refused."""

    @scenario
    async def test_batch_applies_as_a_whole(self, stores: Stores) -> None:
        """A batch with one wrong record at its end writes none of its parts, and its number is not kept."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2), creation(4), creation(5)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.collect()
        before = await host.storage.rows()
        with pytest.raises(CorruptJournal):
            await host.commit(
                creations=[creation(3)],
                records=[(1, step(2)), (2, step(3))],
                taken=[item.number],
                mails=[event(2)],
                progress={1: b"half"},
                parks=[Park(2, 5, 0)],
                stalls=[Stall(4, "why", 0)],
                ends=[ending(5)],
            )
        assert await host.storage.last_batch(host.session) == 1
        assert list(await host.storage.rows()) == list(before)
        assert [len(await host.storage.journal(key)) for key in (1, 2, 3, 4, 5)] == [1, 1, 0, 1, 1]
        assert list(await host.storage.inbox(1)) == [item]
        assert list(await host.storage.inbox(2)) == []

    @scenario
    async def test_last_part_refuses_the_first(self, stores: Stores) -> None:
        """What is wrong only in the last field of a batch, its ends, takes back everything written before it."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        before = await host.storage.rows()
        with pytest.raises(CorruptJournal):
            await host.commit(
                creations=[creation(3)],
                records=[(1, step(2))],
                mails=[event(1)],
                parks=[Park(1, 5, 0)],
                ends=[ending(2, seq=3)],
            )
        assert list(await host.storage.rows()) == list(before)
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.inbox(1)) == []

    @scenario
    async def test_fields_apply_in_their_order(self, stores: Stores) -> None:
        """One batch may create a process, write to it, send it mail and end another: each field sees those before."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], mails=[event(1)])
        [item] = await host.collect()
        result = await host.commit(
            creations=[creation(2)],
            records=[(2, step(2)), (1, step(2))],
            taken=[item.number],
            mails=[event(2), event(1)],
            progress={2: b"half"},
            parks=[Park(2, 5, 1)],
            ends=[ending(1, seq=3, mail=2)],
        )
        assert not result.held
        first, second = await host.row(1), await host.row(2)
        assert (first.status, first.mail, second.mail, second.progress) == (Status.COMPLETED, 2, 1, b"half")
        assert (second.owner, second.wake_at) == (None, 5)
        assert [len(await host.storage.inbox(key)) for key in (1, 2)] == [0, 1]

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
        with pytest.raises(CorruptJournal):
            await host.commit(records=[(1, step(3)), (1, step(3))])
        assert list(await host.storage.journal(1)) == [started(), step(2)]

    @scenario
    async def test_only_the_owner_writes(self, stores: Stores) -> None:
        """A living session can change nothing of a process it does not own: pending, of another session, or ended."""
        host, other = await stores.host(), await stores.host()
        await other.commit(creations=[creation(1), creation(3)])
        await other.commit(creations=[creation(2, owned=False)], ends=[ending(3, Status.FAILED)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.storage.inbox(1)
        wrong: list[dict[str, Any]] = [
            *({"records": [(key, step(seq))]} for key, seq in [(1, 2), (2, 2), (3, 3), (99, 2)]),
            {"taken": [item.number]},
            {"progress": {1: b"half"}},
            {"parks": [Park(1, 5, 1)]},
            {"stalls": [Stall(1, "why", 1)]},
            {"ends": [ending(1, mail=1)]},
        ]
        for parts in wrong:
            await _assert_refused(host, NotOwned, **parts)
        assert [len(await host.storage.journal(key)) for key in (1, 2, 3)] == [1, 1, 2]
        assert list(await host.storage.inbox(1)) == [item]
        row = await host.row(1)
        assert (row.owner, row.status, row.progress) == (other.session, Status.RUNNING, None)

    @scenario
    async def test_letting_go_twice_is_refused(self, stores: Stores) -> None:
        """A batch that lets go of one process twice contradicts itself and is refused as a whole."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        park, stall, end = Park(1, 5, 0), Stall(1, "why", 0), ending(1)
        both: list[dict[str, Any]] = [{"parks": [park, park]}, {"parks": [park], "stalls": [stall]}]
        for parts in (*both, {"parks": [park], "ends": [end]}, {"stalls": [stall], "ends": [end]}):
            await _assert_refused(host, StorageError, **parts)
        row = await host.row(1)
        assert (row.owner, row.wake_at, row.status) == (host.session, None, Status.RUNNING)

    @scenario
    async def test_client_only_creates_and_sends(self, stores: Stores) -> None:
        """A batch without a session may create pending processes and send mails, and nothing else."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.commit(Batch(None, creations=[creation(2, owned=False)], mails=[event(1), event(2)]))
        assert len(await host.storage.inbox(2)) == 1
        [item] = await host.storage.inbox(1)
        for batch in (
            Batch(None, creations=[creation(3)]),
            Batch(None, records=[(1, step(2))]),
            Batch(None, taken=[item.number]),
            Batch(None, progress={1: b"half"}),
            Batch(None, parks=[Park(1, None, 1)]),
            Batch(None, stalls=[Stall(1, "why", 1)]),
            Batch(None, ends=[ending(1, mail=1)]),
        ):
            with pytest.raises(StorageError):
                await host.storage.commit(batch)
        assert await host.storage.count() == 2
        assert (await host.row(1)).owner == host.session

    @scenario
    async def test_inbox_item_is_taken_once(self, stores: Stores) -> None:
        """Taking an item that is gone, or twice in one batch, refuses the batch: no event enters a journal twice."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [item] = await host.collect()
        await _assert_refused(host, NotOwned, records=[(1, step(2))], taken=[item.number, item.number])
        await host.commit(records=[(1, step(2))], taken=[item.number])
        await _assert_refused(host, NotOwned, records=[(1, step(3))], taken=[item.number])
        assert len(await host.storage.journal(1)) == 2

    @scenario
    async def test_big_batch(self, stores: Stores) -> None:
        """A batch of 10 000 records, and 2 000 of each of the other parts, is one batch; so are claim and purge."""
        host = await stores.host()
        keys = range(1, 2001)
        await host.commit(creations=[creation(key) for key in keys])
        await host.commit(
            records=[(key, step(seq)) for seq in range(2, 7) for key in keys],
            mails=[Mail(f"id {key}", MailKind.EVENT, "", None, b"", 9) for key in keys],
            progress=dict.fromkeys(keys, b"half"),
        )
        taken = [item.number for item in await host.collect()]
        result = await host.commit(taken=taken, parks=[Park(key, key, 1) for key in keys])
        assert (len(taken), len(result.held)) == (2000, 0)
        claims = await host.claim(limit=10_000)
        assert [claim.row.key for claim in claims] == list(keys)
        assert {(len(claim.records), len(claim.inbox)) for claim in claims} == {(6, 0)}
        await host.commit(ends=[ending(key, seq=7, mail=1) for key in keys])
        assert len(await host.storage.ended(8, 10_000)) == 2000
        assert await host.storage.purge(keys) == 2000
        assert await host.storage.count() == 0


async def _assert_refused(host: Host, kind: type[StorageError], **parts: Any) -> None:
    with pytest.raises(kind):
        await host.commit(**parts)
