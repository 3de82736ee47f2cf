"""Sessions: who may write, until when, and that nobody comes back from the dead; at once: see `contention`."""

from __future__ import annotations

from typing import Any

import pytest

from durable.errors import SessionLost
from durable.storage import Batch, Park
from durable.testing.faults import FaultyStorage
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import Host, Stores, creation, event, started, step


class Sessions(Suite):
    """Leases, burial and fencing."""

    @scenario
    async def test_ended_session_is_refused(self, stores: Stores) -> None:
        """An ended session writes, claims and renews nothing, and what it owned is claimed at once."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.end_session(host.session)
        await _assert_fenced(host)
        [claim] = await other.claim(now=0)
        assert claim.row.owner == other.session
        assert await other.storage.bury() == 0

    @scenario
    async def test_dead_session_is_refused(self, stores: Stores) -> None:
        """A session whose lease has run out lives until it is buried, and then writes, claims and renews nothing."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        self.pass_time(stores.clock, self.LEASE - 1)
        other = await stores.host()
        assert await other.storage.bury() == 0
        self.pass_time(stores.clock, 1)
        assert await other.storage.bury() == 1
        assert await other.storage.bury() == 0
        await _assert_fenced(host)
        await host.storage.end_session(host.session)
        await _assert_fenced(host)

    @scenario
    async def test_takeover(self, stores: Stores) -> None:
        """Who claims a process of a dead session gets all the dead one wrote, and alone writes from then on."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)], records=[(1, step(2))])
        assert await other.claim() == []
        self.pass_time(stores.clock, self.LEASE / 2)
        assert await other.storage.renew(other.session, self.LEASE)
        self.pass_time(stores.clock, self.LEASE / 2)
        assert await other.storage.bury() == 1
        [claim] = await other.claim()
        assert list(claim.records) == [started(), step(2)]
        assert claim.row == await other.row(1)
        with pytest.raises(SessionLost):
            await host.commit(records=[(1, step(3, b"of the dead"))])
        await other.commit(records=[(1, step(3))])
        assert list(await other.storage.journal(1)) == [started(), step(2), step(3)]

    @scenario
    async def test_living_session_keeps_its_processes(self, stores: Stores) -> None:
        """Who renews in time is never robbed: not buried, and none of its processes is claimed, due or not."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(2, wake_at=1)], mails=[event(1)])
        for _ in range(6):
            self.pass_time(stores.clock, self.LEASE / 2)
            assert await host.storage.renew(host.session, self.LEASE) is True
            assert await other.storage.renew(other.session, self.LEASE) is True
            assert await other.storage.bury() == 0
            assert await other.claim() == []
        assert await other.storage.next_wake(["default"]) is None
        await host.commit(records=[(1, step(2))])

    @scenario
    async def test_stolen_lease(self, stores: Stores) -> None:
        """A host whose session was taken away in the middle of its work harms neither what it wrote nor its heir."""
        storage = FaultyStorage(await stores.open())
        host, other = await stores.host(storage), await stores.host()
        await host.commit(creations=[creation(1), creation(2)], mails=[event(2)])
        await storage.steal_lease(host.session)
        assert {claim.row.key for claim in await other.claim(now=0)} == {1, 2}
        with pytest.raises(SessionLost):
            await host.commit(records=[(1, step(2, b"of the robbed"))])
        again = await stores.host(storage)
        assert again.session != host.session
        assert await again.claim() == []
        assert list(await again.collect()) == []
        await other.commit(records=[(1, step(2))])
        assert list(await storage.journal(1)) == [started(), step(2)]

    @scenario
    async def test_late_renewal(self, stores: Stores) -> None:
        """A lease that has run out is renewed as long as nobody has buried the session: only a burial is final."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        self.pass_time(stores.clock, self.LEASE * 3)
        assert await host.storage.renew(host.session, self.LEASE) is True
        assert await host.storage.bury() == 1
        await host.commit(records=[(1, step(2))])
        with pytest.raises(SessionLost):
            await other.commit()

    @scenario
    async def test_lease_counts_from_the_renewal(self, stores: Stores) -> None:
        """A renewal sets the lease anew, also to a shorter one."""
        host, other = await stores.host(), await stores.host()
        assert await host.storage.renew(host.session, self.LEASE / 4)
        assert await other.storage.renew(other.session, self.LEASE * 2)
        self.pass_time(stores.clock, self.LEASE / 2)
        assert await other.storage.bury() == 1
        assert await host.storage.renew(host.session, self.LEASE) is False
        self.pass_time(stores.clock, self.LEASE)
        assert await other.storage.bury() == 0

    @scenario
    async def test_clock_jumps_forward(self, stores: Stores) -> None:
        """After a jump over all leases everyone not renewed is buried together, once; what begins then lives."""
        hosts = [await stores.host() for _ in range(3)]
        await hosts[0].commit(creations=[creation(1)])
        self.pass_time(stores.clock, self.LEASE * 1000)
        fresh = await stores.host()
        assert await fresh.storage.bury() == 3
        assert await fresh.storage.bury() == 0
        assert [claim.row.key for claim in await fresh.claim()] == [1]
        for host in hosts:
            with pytest.raises(SessionLost):
                await host.commit()

    @scenario
    async def test_clock_jumps_backward(self, stores: Stores) -> None:
        """A clock set back buries nobody, gives nothing away, and leases count from where it stands."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        self.pass_time(stores.clock, -self.LEASE * 10)
        assert await other.storage.bury() == 0
        assert await other.claim() == []
        assert await host.storage.renew(host.session, self.LEASE) is True
        self.pass_time(stores.clock, self.LEASE)
        assert await other.storage.bury() == 1
        assert [claim.row.key for claim in await other.claim()] == [1]

    @scenario
    async def test_session_ids_are_new(self, stores: Stores) -> None:
        """No session gets the id of an earlier one, ended or not, also after the store was closed."""
        first = await stores.host()
        await first.storage.end_session(first.session)
        sessions = {(await stores.host(first.storage)).session for _ in range(3)}
        await first.storage.close()
        last = await stores.host()
        assert len(sessions | {first.session, last.session}) == 5

    @scenario
    async def test_dead_owner_loses_its_mail_to_the_heir(self, stores: Stores) -> None:
        """Mail for a process of a dead session waits for whoever claims it, and only that one takes it."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1)])
        await host.storage.end_session(host.session)
        await host.storage.commit(Batch(None, mails=[event(1)]))
        [claim] = await other.claim()
        assert [item.payload for item in claim.inbox] == [b"mail"]
        with pytest.raises(SessionLost):
            await host.commit(taken=[claim.inbox[0].number])
        await other.commit(taken=[claim.inbox[0].number])
        assert list(await other.storage.inbox(1)) == []


async def _assert_fenced(host: Host) -> None:
    assert await host.storage.renew(host.session, 1.0) is False
    written = await host.storage.last_batch(host.session)
    some: list[dict[str, Any]] = [
        {},
        {"records": [(1, step(2))]},
        {"creations": [creation(9, id="late")]},
        {"mails": [event(1)]},
        {"progress": {1: b"late"}},
        {"parks": [Park(1, 5, 0)]},
    ]
    before = await host.row(1)
    for parts in some:
        with pytest.raises(SessionLost):
            await host.commit(**parts)
    with pytest.raises(SessionLost):
        await host.claim()
    assert await host.storage.last_batch(host.session) == written
    assert await host.storage.row("late") is None
    assert list(await host.storage.journal(1)) == [started()]
    assert list(await host.storage.inbox(1)) == []
    assert await host.row(1) == before
