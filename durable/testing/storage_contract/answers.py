"""What a host knows when it has no answer: the answer was lost, came twice, or nobody waited for it any more."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from durable.errors import SessionLost, StorageError, StorageFull
from durable.storage import Batch, JournalStorage
from durable.testing.faults import FaultyStorage
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import Host, Stores, creation, event, started, step


class Answers(Suite):
    """`commit` and `last_batch` together leave no batch in doubt."""

    @scenario
    async def test_is_a_journal_storage(self, stores: Stores) -> None:
        """The object has every method of the protocol, each a coroutine function; `commit` may be one."""
        storage = await stores.open()
        assert isinstance(storage, JournalStorage)
        names = [name for name in vars(JournalStorage) if not name.startswith("_") and name != "commit"]
        assert [name for name in names if not inspect.iscoroutinefunction(getattr(storage, name))] == []

    @scenario
    async def test_commit_answers_when_awaited(self, stores: Stores) -> None:
        """Whether `commit` is an ``async def`` or returns a future: its errors come when it is awaited."""
        host = await stores.host()
        answer = host.storage.commit(Batch(host.session, 1, creations=[creation(1)]))
        assert inspect.isawaitable(answer)
        assert not (await answer).taken_ids
        refused = host.storage.commit(Batch(host.session, 2, records=[(1, step(7))]))
        with pytest.raises(StorageError):
            await refused
        await host.storage.end_session(host.session)
        fenced = asyncio.ensure_future(host.storage.commit(Batch(host.session, 2)))
        with pytest.raises(SessionLost):
            await fenced

    @scenario
    async def test_last_batch(self, stores: Stores) -> None:
        """The number of the last applied batch is kept, empty ones included, after the end of the session too."""
        host = await stores.host()
        assert await host.storage.last_batch(host.session) == 0
        await host.commit(creations=[creation(1)])
        assert await host.storage.last_batch(host.session) == 1
        await host.commit()
        await host.storage.commit(Batch(None, 77, mails=[event(1)]))
        other = await stores.host()
        assert await other.storage.last_batch(host.session) == 2
        assert await other.storage.last_batch(other.session) == 0
        await host.storage.end_session(host.session)
        assert await other.storage.last_batch(host.session) == 2

    @scenario
    async def test_unknown_session_is_refused(self, stores: Stores) -> None:
        """A session that never was is as lost as a dead one: it writes, claims and renews nothing."""
        host = await stores.host()
        unknown = Host(host.storage, host.session + 99)
        with pytest.raises(SessionLost):
            await unknown.commit(creations=[creation(1)])
        with pytest.raises(SessionLost):
            await unknown.claim()
        assert await host.storage.renew(unknown.session, self.LEASE) is False
        assert await host.storage.count() == 0

    @pytest.mark.parametrize("applied", [True, False])
    @scenario
    async def test_lost_answer(self, stores: Stores, applied: bool) -> None:
        """After an error `last_batch` tells whether to send the batch again; done so, everything is there once."""
        storage = FaultyStorage(await stores.open())
        host = await stores.host(storage)
        await host.commit(creations=[creation(1)])
        storage.fail(StorageFull("the answer was lost"), applied=applied)
        parts = {"creations": [creation(2)], "records": [(1, step(2))], "mails": [event(1)]}
        with pytest.raises(StorageFull):
            await host.commit(**parts)
        assert await storage.last_batch(host.session) == (2 if applied else 1)
        if not applied:
            host.number -= 1
            await host.commit(**parts)
        assert await storage.last_batch(host.session) == 2
        assert list(await storage.journal(1)) == [started(), step(2)]
        assert (await host.row(1)).mail == len(await host.collect()) == 1

    @scenario
    async def test_batch_sent_twice(self, stores: Stores) -> None:
        """A batch with records that reaches the store twice is refused the second time and is there once."""
        storage = FaultyStorage(await stores.open())
        host = await stores.host(storage)
        await host.commit(creations=[creation(1)], mails=[event(1)])
        [item] = await host.collect()
        storage.repeat()
        with pytest.raises(StorageError):
            await host.commit(records=[(1, step(2))], taken=[item.number], mails=[event(1, payload=b"b")])
        assert await storage.last_batch(host.session) == 2
        assert list(await storage.journal(1)) == [started(), step(2)]
        assert [item.payload for item in await storage.inbox(1)] == [b"b"]
        storage.repeat()
        result = await host.commit(creations=[creation(2)])
        assert [row.key for row in result.taken_ids.values()] == [2]

    @scenario
    async def test_cancelled_commit(self, stores: Stores) -> None:
        """Whenever the caller of `commit` is cancelled: the batch is there or not, `last_batch` tells, work goes on."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in range(1, 17)])
        for key in range(1, 17):
            parts: dict[str, Any] = {"mails": [event(key)]}
            if key % 2:
                parts = {"records": [(key, step(2))], "creations": [creation(100 + key)]}
            number = host.number + 1
            caller = asyncio.create_task(host.commit(**parts))
            for _ in range((key - 1) // 2):  # cancelled before it has begun, and after each of its first turns
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
            written = await host.storage.last_batch(host.session) == number
            assert len(await host.storage.journal(key)) == (2 if written and key % 2 else 1)
            assert (await host.storage.row(f"id {100 + key}") is not None) == (written and bool(key % 2))
            host.number = number if written else number - 1
            if not written:
                assert not (await host.commit(**parts)).taken_ids
        for _ in range(10):  # what comes late would come by now
            await asyncio.sleep(0)
            assert await host.storage.last_batch(host.session) == host.number
        assert await host.storage.count() == 24
        assert [(await host.row(key)).mail for key in range(2, 17, 2)] == [1] * 8
