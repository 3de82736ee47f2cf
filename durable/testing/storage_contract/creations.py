"""What a creation writes, and what is answered when its id or its key exists already."""

from __future__ import annotations

import pytest

from durable.errors import CorruptJournal, StorageError
from durable.storage import Batch, ProcessRow, Restart, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import QUEUE, Stores, creation, ending, started, step


class Creations(Suite):
    """Processes come into being once."""

    @scenario
    async def test_created_process_can_be_read(self, stores: Stores) -> None:
        """A creation is a row with these values and a journal with its first record; nothing else exists."""
        host = await stores.host()
        assert await host.storage.row("id 1") is None
        result = await host.commit(creations=[creation(1), creation(2, owned=False, wake_at=7)])
        assert not result.taken_ids
        assert not result.held
        assert await host.row(1) == ProcessRow(
            1, "id 1", "definition", QUEUE, Status.RUNNING, host.session, None, 0, 1, None, None, None
        )
        pending = await host.row(2)
        assert (pending.owner, pending.wake_at) == (None, 7)
        assert list(await host.storage.journal(2)) == [started()]
        assert list(await host.storage.inbox(2)) == []
        assert list(await host.storage.journal(3)) == []

    @scenario
    async def test_time_of_creation(self, stores: Stores) -> None:
        """A creation may say that its process is older than its first record; 0 is a time, and a restart keeps it."""
        host = await stores.host()
        new = [creation(key, record=started(9), created_at=time) for key, time in ((1, 4), (2, 0), (3, None), (4, 30))]
        await host.commit(creations=[*new, creation(5, id="id 1", created_at=2)], children=[creation(6, created_at=-3)])
        client = Batch(None, creations=[creation(7, owned=False, record=started(9), created_at=5)])
        await host.storage.commit(client)
        await host.commit(restarts=[Restart(1, "next", QUEUE, [started(50)])], ends=[ending(2)])
        other = await stores.open()
        for storage in (host.storage, other):
            assert [row.created_at for row in await storage.rows()] == [5, -3, 30, 9, 0, 4]
        assert [record.time for record in await other.journal(4)] == [9]

    @scenario
    async def test_taken_id_is_an_answer(self, stores: Stores) -> None:
        """A creation whose id exists writes nothing and is told who has it; the rest of its batch is written."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        result = await host.commit(creations=[creation(2, id="id 1", definition="another"), creation(3)])
        assert dict(result.taken_ids) == {"id 1": await host.row(1)}
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

    @scenario
    async def test_journal_begins_with_its_first_record(self, stores: Stores) -> None:
        """A creation whose record is not number 1 is refused, also in a client's batch."""
        host = await stores.host()
        with pytest.raises(CorruptJournal):
            await host.storage.commit(Batch(None, creations=[creation(1, owned=False, record=step(2))]))
        with pytest.raises(CorruptJournal):
            await host.commit(creations=[creation(1, record=step(2))])
        assert await host.storage.count() == 0
