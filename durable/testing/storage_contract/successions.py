"""What follows what: children of a process, notices of its end, its next life, and an inbox that ends with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from durable.errors import CorruptJournal, ProcessExists, StorageError
from durable.storage import Batch, Mail, MailKind, Notice, Park, Restart, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import QUEUE, Stores, creation, ending, event, started, step


class Successions(Suite):
    """`Batch.children`, `Batch.notices` and `Batch.restarts`."""

    @scenario
    async def test_children_are_created(self, stores: Stores) -> None:
        """Children are created as creations are, with the batch that says so, and never told as taken."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        result = await host.commit(
            creations=[creation(2)],
            children=[creation(3), creation(4, owned=False, wake_at=7)],
            records=[(1, step(2)), (3, step(2))],
        )
        assert not result.taken_ids
        assert ((await host.row(3)).owner, (await host.row(4)).owner) == (host.session, None)
        assert [claim.row.key for claim in await host.claim(now=7)] == [4]
        assert [len(await host.storage.journal(key)) for key in (1, 2, 3, 4)] == [2, 1, 2, 1]

    @scenario
    async def test_taken_child_refuses_the_batch(self, stores: Stores) -> None:
        """If an id of a child is taken, by whomever, nothing of the batch is written, and all such ids are told."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        for children, creations, taken in [
            ([creation(5), creation(2, id="id 1")], [], ["id 1"]),
            ([creation(2, id="new")], [creation(3, id="new")], ["new"]),
            ([creation(2, id="new")], [creation(2, id="new")], ["new"]),
            ([creation(2, id="new"), creation(3, id="new"), creation(4, id="id 1")], [], ["new", "id 1"]),
        ]:
            with pytest.raises(ProcessExists) as caught:
                await host.commit(children=children, creations=creations, records=[(1, step(2))], mails=[event(1)])
            assert list(caught.value.taken) == taken
        assert await host.storage.last_batch(host.session) == 1
        assert [row.key for row in await host.storage.rows()] == [1]
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.inbox(1)) == []

    @scenario
    async def test_notice_comes_with_the_end(self, stores: Stores) -> None:
        """Notices are mails, delivered in their order after all ends of their batch, and wake who was parked."""
        host = await stores.host()
        await host.commit(creations=[creation(key) for key in (1, 2, 3)])
        notices = [
            Notice(2, _notice(1, b"a")),
            Notice(3, _notice(1, b"b")),
            Notice(2, _notice(3)),
            Notice(2, _notice(9)),
        ]
        result = await host.commit(parks=[Park(1, None, 0)], ends=[ending(2), ending(3)], notices=notices)
        assert (list(result.deliveries), set(result.held)) == ([], set())
        row = await host.row(1)
        assert (row.owner, row.wake_at, row.mail) == (None, 60, 2)
        assert [(item.kind, item.payload) for item in await host.storage.inbox(1)] == [
            (MailKind.RETURN, b"a"),
            (MailKind.RETURN, b"b"),
        ]
        assert list(await host.storage.inbox(3)) == []
        assert [claim.row.key for claim in await host.claim(now=60)] == [1]

    @scenario
    async def test_held_end_gives_no_notice(self, stores: Stores) -> None:
        """A notice of an end that does not hold is not sent; a notice without its end is refused."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2), creation(3)], mails=[event(2)])
        notices = [Notice(2, _notice(1)), Notice(3, _notice(1))]
        result = await host.commit(ends=[ending(2), ending(3)], notices=notices)
        assert set(result.held) == {2}
        assert len(await host.storage.inbox(1)) == 1
        with pytest.raises(StorageError):
            await host.commit(notices=[Notice(2, _notice(1))])
        assert len(await host.storage.inbox(1)) == 1

    @scenario
    async def test_inbox_goes_with_the_end(self, stores: Stores) -> None:
        """What is left in the inbox of a process goes with its end, but not when the end does not hold."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)], mails=[event(1), event(2)])
        assert not (await host.commit(ends=[ending(2, mail=1)])).held
        assert list(await host.storage.inbox(2)) == []
        await host.commit(mails=[event(1)])
        assert set((await host.commit(ends=[ending(1, mail=1)])).held) == {1}
        items = await host.collect()
        assert len(items) == 2
        assert not (await host.commit(ends=[ending(1, mail=2)])).held
        assert list(await host.storage.inbox(1)) == []
        with pytest.raises(StorageError):
            await host.commit(taken=[items[0].number])

    @scenario
    async def test_restart_begins_a_next_life(self, stores: Stores) -> None:
        """A restart puts another journal in place of the old one; what is not of the journal stays as it was."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], records=[(1, step(seq)) for seq in range(2, 9)], mails=[event(1)])
        [first] = await host.collect()
        await host.commit(progress={1: b"half"}, mails=[event(1)])
        before = await host.row(1)
        records = [started(9), step(2, b"not taken")]
        await host.commit(
            records=[(1, step(9))],
            taken=[first.number],
            progress={1: b"late"},
            restarts=[Restart(1, "next", "q", records)],
        )
        assert list(await host.storage.journal(1)) == records
        assert await host.row(1) == before._replace(definition="next", queue="q", progress=None)
        assert len(await host.storage.inbox(1)) == 1
        await host.commit(records=[(1, step(3))])
        assert [item.number > first.number for item in await host.collect()] == [True]
        await host.commit(parks=[Park(1, 5, 2)])
        assert await host.claim(now=5) == []
        [claim] = await host.claim(now=5, queues=["q"])
        assert list(claim.records) == [*records, step(3)]
        await host.storage.close()
        assert list(await (await stores.open()).journal(1)) == [*records, step(3)]

    @scenario
    async def test_restart_leaves_its_queue(self, stores: Stores) -> None:
        """Once restarted into another queue a process is due there only, also at a time when it was due in the old."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        await host.commit(parks=[Park(1, 5, 0)])
        assert [claim.row.key for claim in await host.claim(now=5)] == [1]
        await host.commit(restarts=[Restart(1, "next", "q", [started()])])
        await host.commit(parks=[Park(1, 5, 0)])
        assert (await host.storage.next_wake([QUEUE]), await host.storage.next_wake(["q"])) == (None, 5)
        assert await host.claim(now=5) == []
        assert [claim.row.key for claim in await host.claim(now=5, queues=["q"])] == [1]

    @scenario
    async def test_whole_life_in_a_batch(self, stores: Stores) -> None:
        """What is created, gets mail, begins its next life and is told of an end in one batch has all that after it."""
        host = await stores.host()
        await host.commit(creations=[creation(2)])
        records = [started(9), step(2, b"next")]
        await host.commit(
            creations=[creation(1)],
            records=[(1, step(2))],
            mails=[event(1, payload=b"a")],
            restarts=[Restart(1, "next", QUEUE, records)],
            ends=[ending(2)],
            notices=[Notice(2, _notice(1, b"b"))],
        )
        row = await host.row(1)
        assert (row.definition, row.owner, row.mail, row.created_at) == ("next", host.session, 2, 1)
        assert list(await host.storage.journal(1)) == records
        assert [item.payload for item in await host.collect()] == [b"a", b"b"]

    @scenario
    async def test_wrong_restart_is_refused(self, stores: Stores) -> None:
        """A next life with a gap or without a beginning, of another's process, or one let go of too, is refused."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(3)])
        await other.commit(creations=[creation(2)])
        for records in ([], [step(2)], [started(), step(3)], [started(), started()]):
            with pytest.raises(CorruptJournal):
                await host.commit(restarts=[Restart(1, "next", QUEUE, records)])
        again = Restart(1, "next", QUEUE, [started()])
        wrong = [
            Batch(host.session, 2, restarts=[again._replace(key=2)]),
            Batch(host.session, 2, restarts=[again._replace(key=99)]),
            Batch(host.session, 2, restarts=[again, again]),
            Batch(host.session, 2, restarts=[again], parks=[Park(1, None, 0)]),
            Batch(host.session, 2, restarts=[again], stalls=[Stall(1, "why", 0)]),
            Batch(host.session, 2, restarts=[again], ends=[ending(1)]),
        ]
        for batch in wrong:
            with pytest.raises(StorageError):
                await host.storage.commit(replace(batch, records=[(3, step(2))]))
        assert {row.definition for row in await host.storage.rows()} == {"definition"}
        assert {row.status for row in await host.storage.rows()} == {Status.RUNNING}
        assert [len(await host.storage.journal(key)) for key in (1, 2, 3)] == [1, 1, 1]

    @scenario
    async def test_client_has_no_successions(self, stores: Stores) -> None:
        """A batch without a session has no children, notices or restarts."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        for batch in (
            Batch(None, children=[creation(2, owned=False)]),
            Batch(None, notices=[Notice(1, _notice(1))]),
            Batch(None, restarts=[Restart(1, "next", QUEUE, [started()])]),
        ):
            with pytest.raises(StorageError):
                await host.storage.commit(batch)
        assert [row.definition for row in await host.storage.rows()] == ["definition"]
        assert list(await host.storage.inbox(1)) == []


def _notice(key: int, payload: bytes = b"") -> Mail:
    """What a process hears of the end of another one."""
    return event(key, MailKind.RETURN, 60, payload)
