"""Mail: where it goes, in which order it comes, whom it wakes, and what it holds back."""

from __future__ import annotations

from typing import Any

import pytest

from durable.storage import Batch, Delivery, Mail, MailKind, Park, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import Stores, creation, ending, event, last, started, step


class Mails(Suite):
    """The inbox, the mail counter, and the flag for the owner."""

    @scenario
    async def test_deliveries_are_told_apart(self, stores: Stores) -> None:
        """Each mail is answered in its place: delivered, no such process, or ended."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await host.commit(ends=[ending(2)])
        mails = [event(2), event(1), event(9), event(1)]
        result = await host.storage.commit(Batch(None, mails=mails))
        expected = [Delivery.ENDED, Delivery.DELIVERED, Delivery.NOT_FOUND, Delivery.DELIVERED]
        assert list(result.deliveries) == expected
        assert list((await host.commit(mails=mails)).deliveries) == expected
        assert list(await host.storage.inbox(2)) == []
        assert ((await host.row(1)).mail, (await host.row(2)).mail) == (4, 0)

    @scenario
    async def test_inbox_keeps_the_order(self, stores: Stores) -> None:
        """Items come in the order of commitment, whatever their times, with all they were sent with."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        sent = [
            Mail("id 1", MailKind.EVENT, "first", "key", b"1", 9),
            Mail("id 2", MailKind.EVENT, "second", None, b"", 6),
            Mail("id 1", MailKind.CANCEL, "", None, b"reason", 4),
            Mail("id 1", MailKind.EVENT, "a", "", b"0", 5),
        ]
        await host.commit(mails=sent[:2])
        await host.storage.commit(Batch(None, mails=sent[2:]))
        items = await host.collect()
        assert [item[2:] for item in items] == [mail[1:] for mail in sent]
        assert [item.key for item in items] == [1, 2, 1, 1]
        assert [item.number for item in items] == sorted({item.number for item in items})
        assert list(await host.storage.inbox(1)) == [items[0], items[2], items[3]]
        assert all(isinstance(item.kind, MailKind) for item in items)

    @scenario
    async def test_numbers_are_never_used_again(self, stores: Stores) -> None:
        """The number of an inbox item grows on after all items were taken, and after the store was closed."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], mails=[event(1), event(1)])
        before = [item.number for item in await host.collect()]
        await host.commit(taken=before, parks=[Park(1, None, 2)])
        assert list(await host.storage.inbox(1)) == []
        await host.commit(mails=[event(1)])
        [item] = await host.storage.inbox(1)
        [claim] = await host.claim()
        await host.commit(taken=[item.number], parks=[Park(1, None, 3)])
        await host.storage.close()
        host = await stores.host()
        await host.commit(mails=[event(1)])
        [later] = await host.storage.inbox(1)
        assert list(claim.inbox) == [item]
        assert max(before) < item.number < later.number

    @scenario
    async def test_equal_mails_are_kept_apart(self, stores: Stores) -> None:
        """Two equal mails are two items, with a de-duplication key too: it is the owner who drops the second."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        mail = Mail("id 1", MailKind.EVENT, "paid", "click 1", b"x", 5)
        await host.commit(mails=[mail, mail])
        await host.storage.commit(Batch(None, mails=[mail]))
        items = await host.collect()
        assert [item.event_key for item in items] == ["click 1"] * 3
        assert len({item.number for item in items}) == 3
        await host.commit(records=[(1, step(2))], taken=[item.number for item in items])
        assert list(await host.storage.inbox(1)) == []

    @scenario
    async def test_mail_flags_a_resident(self, stores: Stores) -> None:
        """A mail to an owned process is collected by its owner only, once; the item stays until it is taken."""
        host, other = await stores.host(), await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        await other.storage.commit(Batch(None, mails=[event(1)]))
        assert (await host.row(1)).wake_at is not None
        assert list(await other.collect()) == []
        assert [item.key for item in await host.collect()] == [1]
        assert list(await host.collect()) == []
        assert len(await host.storage.inbox(1)) == 1
        row = await host.row(1)
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
    @scenario
    async def test_mail_holds_what_would_miss_it(self, stores: Stores, parts: str) -> None:
        """
        A mail before a park, stall or end holds it: nothing of it is written and the process stays owned.

        With the mail consumed it goes through, while one that had no mail goes through in the same batch.
        """

        def release(key: int, mail: int) -> Any:
            return {"parks": Park(key, 500, mail), "stalls": Stall(key, "why", mail), "ends": ending(key, mail=mail)}[
                parts
            ]

        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        before = await host.row(1)
        await host.storage.commit(Batch(None, mails=[event(1)]))
        result = await host.commit(**{parts: [release(1, 0), release(2, 0)]})
        assert set(result.held) == {1}
        assert await host.row(1) == before._replace(mail=1, wake_at=50)
        assert list(await host.storage.journal(1)) == [started()]
        assert (await host.row(2)).owner is None
        assert not (await host.commit(**{parts: [release(1, 1)]})).held
        assert (await host.row(1)).owner is None
        assert len(await host.storage.journal(1)) == (2 if parts == "ends" else 1)

    @scenario
    async def test_held_end_does_not_hold_its_batch(self, stores: Stores) -> None:
        """What does not hold is an answer: the other parts of its batch are written, records of that process too."""
        host = await stores.host()
        await host.commit(creations=[creation(1)], mails=[event(1)])
        result = await host.commit(records=[(1, step(2))], progress={1: b"half"}, ends=[ending(1, seq=3)])
        assert set(result.held) == {1}
        row = await host.row(1)
        assert (row.status, row.ended_at, row.progress) == (Status.RUNNING, None, b"half")
        assert list(await host.storage.journal(1)) == [started(), step(2)]
        assert not (await host.commit(ends=[ending(1, seq=3, mail=1)])).held
        assert list(await host.storage.journal(1)) == [started(), step(2), last(3)]

    @scenario
    async def test_mail_of_the_same_batch_holds_too(self, stores: Stores) -> None:
        """Mails of a batch come before its parks, so a process that writes to itself is not parked on it."""
        host = await stores.host()
        result = await host.commit(creations=[creation(1)], mails=[event(1)], parks=[Park(1, None, 0)])
        assert set(result.held) == {1}
        assert list(result.deliveries) == [Delivery.DELIVERED]
        assert (await host.row(1)).owner == host.session
