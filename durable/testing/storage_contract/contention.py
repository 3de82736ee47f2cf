"""
Several storage objects at the same instant: each in a thread of its own, on an event loop of its own.

What is tested one after the other elsewhere must also hold when the other one is half-way. The asserts are about what
is left and what was answered, never about who was faster.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Barrier, Event

import pytest

from durable.errors import SessionLost
from durable.storage import Batch, Claim, Mail, MailKind, Park, Status
from durable.testing.storage_contract.suite import LONGEST, Suite, in_threads, scenario
from durable.testing.storage_parts import Clock, Stores, creation, ending, started, step


class Contention(Suite):
    """Claims, fences, mails and creations against each other."""

    @scenario
    async def test_each_process_is_claimed_once(self, stores: Stores) -> None:
        """Two objects that claim at the same time share the due processes without overlap or loss."""
        hosts = [await stores.host(), await stores.host()]
        client = await stores.open()
        await client.commit(Batch(None, creations=[creation(key, owned=False, wake_at=key) for key in range(1, 101)]))
        claims = await asyncio.gather(*(hosts[turn % 2].claim(limit=7) for turn in range(30)))
        keys = [claim.row.key for some in claims for claim in some]
        assert sorted(keys) == list(range(1, 101))

    def test_claims_of_many_threads(self, tmp_path: Path) -> None:
        """Many claimers at once: each process, due or orphaned, is given to exactly one, who is its owner then."""
        clock, start, claimers = Clock(), Barrier(5), 4

        async def prepare() -> list[int]:
            async with self.stores(tmp_path, clock) as stores:
                host = await stores.host()
                await host.commit(creations=[creation(key, key % 2 == 0, key) for key in range(1, 301)])
                await host.storage.end_session(host.session)
                await asyncio.to_thread(start.wait, LONGEST)
                await asyncio.to_thread(start.wait, LONGEST)
                rows = await host.storage.rows(limit=1000)
                assert None not in {row.owner for row in rows}
                return [row.owner or 0 for row in reversed(rows)]

        async def claim() -> list[int]:
            async with self.stores(tmp_path, clock) as stores:
                host = await stores.host()
                await asyncio.to_thread(start.wait, LONGEST)
                claims: list[Claim] = []
                while some := await host.claim(limit=7):
                    claims += some
                await asyncio.to_thread(start.wait, LONGEST)
                assert {claim.row.owner for claim in claims} <= {host.session}
                return [claim.row.key for claim in claims] + [host.session]

        owners, *claimed = in_threads(prepare, *[claim] * claimers)
        sessions = [keys.pop() for keys in claimed]
        assert sorted(key for keys in claimed for key in keys) == list(range(1, 301))
        for session, keys in zip(sessions, claimed, strict=True):
            assert {owners[key - 1] for key in keys} <= {session}

    @pytest.mark.parametrize("watched", [1, 5, 20])
    def test_fence_against_a_writing_owner(self, tmp_path: Path, watched: int) -> None:
        """
        An owner that never stops writing is buried and robbed while it writes.

        Who claims gets every record that was acknowledged and no other; none of the dead one's comes after.
        """
        clock, writing, in_the_middle = Clock(), Event(), Event()

        async def write() -> int:
            async with self.stores(tmp_path, clock) as stores:
                host = await stores.host()
                await host.commit(creations=[creation(1)])
                acknowledged = 0
                try:
                    for acknowledged in range(100_000):
                        in_the_middle.set()
                        await host.commit(records=[(1, step(acknowledged + 2, b"of the dead"))])
                        in_the_middle.clear()
                        if acknowledged == watched:
                            writing.set()
                        else:
                            await asyncio.sleep(0.001)  # else an unfair lock keeps the others out for seconds
                except SessionLost:
                    return acknowledged
                raise AssertionError("the owner was never fenced")

        async def rob() -> int:
            async with self.stores(tmp_path, clock) as stores:
                assert await asyncio.to_thread(writing.wait, LONGEST)
                self.pass_time(clock, self.LEASE + 1)
                host = await stores.host()
                in_the_middle.wait(LONGEST)
                buried = 0
                for _ in range(1000):  # in the middle of a commit it may be left for the next time
                    if buried := await host.storage.bury():
                        break
                assert buried == 1
                [claim] = await host.claim()
                found = len(claim.records)
                for seq in range(found + 1, found + 6):
                    await host.commit(records=[(1, step(seq, b"of the heir"))])
                return found - 1

        async def look() -> list[bytes]:
            async with self.stores(tmp_path, clock) as stores:
                return [record.payload for record in await (await stores.open()).journal(1)]

        acknowledged, found = in_threads(write, rob)
        assert found == acknowledged
        assert asyncio.run(look())[1:] == [b"of the dead"] * found + [b"of the heir"] * 5

    def test_no_wake_up_is_lost(self, tmp_path: Path) -> None:
        """A process that parks after each mail sleeps over none, although the next comes just when it parks."""
        clock, mails, over = Clock(), 40, Event()
        taken: Queue[bytes] = Queue()

        async def send() -> int:
            async with self.stores(tmp_path, clock) as stores:
                client, number = await stores.open(), 0
                await client.commit(Batch(None, creations=[creation(1, owned=False)]))
                try:
                    for number in range(mails):
                        mail = Mail("id 1", MailKind.EVENT, "", None, b"%d" % number, 50)
                        await client.commit(Batch(None, mails=[mail]))
                        assert await asyncio.to_thread(taken.get, True, LONGEST / 2) == mail.payload
                except Empty:
                    raise AssertionError(f"the process sleeps over mail {number}") from None
                finally:
                    over.set()
                return mails

        async def own() -> int:
            async with self.stores(tmp_path, clock) as stores:
                host, parked = await stores.host(), 0
                while not over.is_set():
                    for claim in await host.claim():
                        items, mail = list(claim.inbox), claim.row.mail
                        while True:
                            for item in items:
                                taken.put(item.payload)  # from here on the next mail may come
                            if parked % 2:
                                await asyncio.sleep(0.001)  # it shall come before the park, and else during it
                            numbers = [item.number for item in items]
                            if not (await host.commit(taken=numbers, parks=[Park(1, None, mail)])).held:
                                break
                            items = list(await host.collect())
                            mail += len(items)
                        parked += 1
                    await asyncio.sleep(0)  # a store may answer without ever waiting: the time limit needs a turn
                return parked

        _, parked = in_threads(send, own)
        assert parked > 0

    def test_senders_keep_their_order(self, tmp_path: Path) -> None:
        """Mails of many senders at once: none is lost, numbers are unique, and each sender's mails stay in order."""
        clock, start, mails = Clock(), Barrier(4), 25

        def sender(name: bytes) -> list[tuple[bytes, int]]:
            return [(name, number) for number in range(mails)]

        async def send(name: bytes) -> None:
            async with self.stores(tmp_path, clock) as stores:
                client = await stores.open()
                await client.commit(Batch(None, creations=[creation(1, owned=False)]))
                await asyncio.to_thread(start.wait, LONGEST)
                for text, number in sender(name):
                    mail = Mail("id 1", MailKind.EVENT, text.decode(), None, b"%d" % number, 50)
                    await client.commit(Batch(None, mails=[mail]))

        names = [b"a", b"b", b"c", b"d"]
        in_threads(*[partial(send, name) for name in names])

        async def look() -> None:
            async with self.stores(tmp_path, clock) as stores:
                host = await stores.host()
                items = await host.storage.inbox(1)
                assert (await host.row(1)).mail == len({item.number for item in items}) == mails * len(names)
                for name in names:
                    texts = [int(item.payload) for item in items if item.name == name.decode()]
                    assert texts == list(range(mails))

        asyncio.run(look())

    def test_ids_that_are_purged_while_they_are_created(self, tmp_path: Path) -> None:
        """Ended processes are purged while their ids are used again: each creation writes one or is told of one."""
        clock, turns, over = Clock(), 80, Event()
        ids = [f"again {number}" for number in range(40)]

        async def create() -> int:
            async with self.stores(tmp_path, clock) as stores:
                host, created = await stores.host(), 0
                try:
                    for turn in range(turns):
                        new = [creation(1 + turn * len(ids) + place, id=id) for place, id in enumerate(ids)]
                        taken = (await host.commit(creations=new)).taken_ids
                        own = [one for one in new if one.id not in taken]
                        for one in own:
                            row = await host.storage.row(one.id)
                            assert row is not None, f"{one.id!r} was created, and is not there"
                            assert (row.key, row.owner) == (one.key, host.session)
                            assert list(await host.storage.journal(one.key)) == [started()]
                        assert all(row.status is not Status.RUNNING for row in taken.values())
                        await host.commit(ends=[ending(one.key) for one in own])
                        created += len(own)
                finally:
                    over.set()
                return created

        async def purge() -> int:
            async with self.stores(tmp_path, clock) as stores:
                storage, purged = await stores.open(), 0
                while not over.is_set():
                    for row in await storage.ended(10**6, 1000):
                        purged += await storage.purge([row.key])
                    await asyncio.sleep(0)  # a store may answer without ever waiting: the time limit needs a turn
                return purged

        created, purged = in_threads(create, purge)
        assert len(ids) <= created
        assert purged <= created

    def test_one_id_for_many_creators(self, tmp_path: Path) -> None:
        """Of many that create a process of one id at once exactly one does, and all others are told who."""
        clock, start = Clock(), Barrier(4)

        async def create(key: int) -> list[int]:
            async with self.stores(tmp_path, clock) as stores:
                host = await stores.host()
                await asyncio.to_thread(start.wait, LONGEST)
                results = [await host.commit(creations=[creation(key * 100 + n, id=f"{n}")]) for n in range(10)]
                rows = [await host.storage.row(f"{n}") for n in range(10)]
                for result, row in zip(results, rows, strict=True):
                    assert row is not None
                    told = [taken.key for taken in result.taken_ids.values()]
                    assert told == ([] if row.key // 100 == key else [row.key])
                assert list(await host.storage.journal(key * 100)) in ([], [started()])
                return [row.key for row in rows if row is not None]

        answers = in_threads(*[partial(create, key) for key in (1, 2, 3, 4)])
        assert answers == [answers[0]] * 4
