"""Claiming what is due or orphaned, and knowing when there will be something to claim."""

from __future__ import annotations

import pytest

from durable.storage import Batch, MailKind, Park, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import QUEUE, Stores, creation, ending, event, started, step


class Claims(Suite):
    """One claimer after the other; many at once are in `contention`."""

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
        assert await host.row(1) == claim.row
        assert await host.claim(now=30) == []
        assert [claim.row.key for claim in await host.claim(now=31, queues=["other", QUEUE])] == [5, 4]
        assert await host.storage.next_wake([QUEUE, "other"]) is None
        assert await host.claim(now=31, queues=[]) == []

    @scenario
    async def test_now_goes_backward(self, stores: Stores) -> None:
        """``now`` is what each claim says it is: set back, it gives nothing too early, and later ones nothing twice."""
        host = await stores.host()
        await host.commit(creations=[creation(key, owned=False, wake_at=key * 10) for key in (1, 2, 3)])
        assert [claim.row.key for claim in await host.claim(now=20, limit=1)] == [1]
        assert await host.claim(now=19) == []
        assert await host.storage.next_wake([QUEUE]) == 20
        await host.commit(parks=[Park(1, 15, 0)])
        assert await host.claim(now=14) == []
        assert [claim.row.key for claim in await host.claim(now=20)] == [1, 2]
        assert [claim.row.key for claim in await host.claim(now=30)] == [3]

    @scenario
    async def test_next_wake_sees_orphans(self, stores: Stores) -> None:
        """While a process of a dead session waits to be claimed, the next wake is due, so that nobody sleeps on it."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(2, owned=False, wake_at=70)])
        assert await other.storage.next_wake([QUEUE]) == 70
        await host.storage.end_session(host.session)
        assert await other.storage.next_wake([QUEUE]) == 0
        assert await other.storage.next_wake(["other"]) is None
        assert len(await other.claim(now=0)) == 1
        assert await other.storage.next_wake([QUEUE]) == 70

    @scenario
    async def test_next_wake_sees_a_buried_owner(self, stores: Stores) -> None:
        """A burial makes what the dead session owned due, and it stays due until somebody has claimed it."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        self.pass_time(stores.clock, self.LEASE)
        other = await stores.host()
        assert await other.storage.next_wake([QUEUE]) is None
        assert await other.storage.bury() == 1
        assert [await other.storage.next_wake([QUEUE]) for _ in range(2)] == [0, 0]
        assert len(await other.claim(now=0, queues=["other"])) == 0
        assert len(await other.claim(now=0)) == 1

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
        assert (first.row.mail, second.row.mail) == (1, 2)

    @scenario
    async def test_orphans_are_claimed_in_parts(self, stores: Stores) -> None:
        """What a dead session owned comes in claims of the size that was asked for, each process once."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(key) for key in range(1, 8)])
        await host.storage.end_session(host.session)
        sizes, keys = [], []
        while claims := await other.claim(now=0, limit=3):
            sizes.append(len(claims))
            keys += [claim.row.key for claim in claims]
        assert sizes == [3, 3, 1]
        assert sorted(keys) == list(range(1, 8))

    @scenario
    async def test_orphans_are_claimed_first(self, stores: Stores) -> None:
        """What a dead session was working on comes before all that is due, as `next_wake` says; ties go by key."""
        host, other = await stores.host(), await stores.host()
        await host.commit(
            creations=[
                creation(3),
                creation(5, owned=False, wake_at=1, queue="a"),
                creation(4, owned=False, wake_at=1, queue="b"),
                creation(2, owned=False, wake_at=2),
            ]
        )
        await host.storage.end_session(host.session)
        queues = ["a", "b", QUEUE]
        assert [claim.row.key for claim in await other.claim(limit=1, queues=queues)] == [3]
        assert [claim.row.key for claim in await other.claim(limit=2, queues=queues)] == [4, 5]
        assert [claim.row.key for claim in await other.claim(limit=2, queues=queues)] == [2]

    @scenario
    async def test_only_running_processes_are_claimed(self, stores: Stores) -> None:
        """Stalled and ended processes are nobody's work, whatever their session and their mail."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1, wake_at=3), creation(2, wake_at=3), creation(3, wake_at=3)])
        await host.commit(mails=[event(1), event(2)])
        await host.commit(stalls=[Stall(1, "why", 1)], ends=[ending(2, mail=1)])
        assert [(await host.row(key)).wake_at for key in (1, 2)] == [None, None]
        await host.commit(mails=[event(1)])
        await host.storage.end_session(host.session)
        assert [claim.row.key for claim in await other.claim()] == [3]

    @scenario
    async def test_park(self, stores: Stores) -> None:
        """A parked process is owned by nobody, and claimed when its time has come."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        assert not (await host.commit(parks=[Park(1, 100, 0), Park(2, None, 0)])).held
        row = await host.row(1)
        assert (row.owner, row.wake_at, row.status) == (None, 100, Status.RUNNING)
        assert await host.claim(now=99) == []
        assert [claim.row.key for claim in await host.claim(now=100)] == [1]

    @pytest.mark.parametrize("kind", list(MailKind), ids=lambda kind: kind.name.lower())
    @scenario
    async def test_mail_after_park_wakes(self, stores: Stores, kind: MailKind) -> None:
        """A mail of any kind that finds a parked process makes it due: with `Park` held, no order loses the mail."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.commit(parks=[Park(1, None, 0)])
        await host.storage.commit(Batch(None, mails=[event(1, kind)]))
        assert await host.storage.next_wake([QUEUE]) == 50
        [claim] = await host.claim(now=50)
        assert [(item.kind, item.payload) for item in claim.inbox] == [(kind, b"mail")]
