"""What is stored comes back as it was: ids, names, payloads and numbers, the odd ones above all."""

from __future__ import annotations

import pytest

from durable.errors import StorageError
from durable.journal import NAME_LIMIT, Kind, Record
from durable.storage import Batch, Delivery, Mail, MailKind, Park, Stall, Status
from durable.testing.storage_contract.suite import Suite, scenario
from durable.testing.storage_parts import QUEUE, Stores, creation, ending, event, started, step

ODD_IDS = (
    *("a/b", "a", "../..", "..", ".", "/", "/etc/passwd", "a\\b", "C:", "CON", "-rf", "~", "*", "a?b#c", "a&b=c"),
    *(
        "a'b\"c",
        "%25",
        "%",
        "%s{}",
        "_",
        "[1]",
        "a\nb",
        "\r\n",
        "\t",
        " ",
        "a ",
        " a",
        "NULL",
        "None",
        "7",
        "07",
        "7.0",
    ),
    *("id", "ID", "Id", "straße", "STRASSE", "ı", "i", "İ", "K", "\u212a"),  # the last one lowers to "k"
    *("\u00e9", "e\u0301", "\u00c9", "E\u0301", "ﬁ", "fi", "①", "1"),  # composed, decomposed, compatible
    *("🎉", "👨‍👩‍👧", "🎉 é", "\ufeff", "\uffff", "\u200b", "\u202e", "\x7f", "\x01", "\U0010ffff"),
    *("x" * 1000, "x" * 999, "ü" * 1000, "🎉" * 1000, "x" * 999 + "X"),
)


class Values(Suite):
    """A store keeps everything exactly and looks into nothing."""

    @scenario
    async def test_odd_ids(self, stores: Stores) -> None:
        """Ids are kept exactly and told apart: paths, quotes, control and combining characters, case, 1000 of any."""
        host = await stores.host()
        result = await host.commit(creations=[creation(key, id=id_) for key, id_ in enumerate(ODD_IDS, start=1)])
        assert not result.taken_ids
        for key, id_ in enumerate(ODD_IDS, start=1):
            row = await host.storage.row(id_)
            assert row is not None
            assert (row.key, row.id) == (key, id_)
        assert {row.key: row.id for row in await host.storage.rows_by_id(ODD_IDS)} == dict(enumerate(ODD_IDS, start=1))
        result = await host.commit(mails=[Mail(id_, MailKind.EVENT, id_[:200], id_, b"", 1) for id_ in ODD_IDS])
        assert set(result.deliveries) == {Delivery.DELIVERED}
        again = await host.commit(creations=[creation(1000 + key, id=id_) for key, id_ in enumerate(ODD_IDS)])
        assert [(id_, row.key) for id_, row in again.taken_ids.items()] == [
            (id_, key) for key, id_ in enumerate(ODD_IDS, start=1)
        ]
        items = await host.collect()
        assert [(item.key, item.event_key) for item in items] == list(enumerate(ODD_IDS, start=1))
        await host.storage.close()
        again_open = await stores.open()
        assert [row.id for row in await again_open.rows(limit=1000)] == list(reversed(ODD_IDS))

    @scenario
    async def test_odd_names(self, stores: Stores) -> None:
        """Definitions, queues, record names and reasons are as free as ids; queues and definitions match exactly."""
        host = await stores.host()
        names = list(dict.fromkeys(id_[:NAME_LIMIT] for id_ in ODD_IDS))
        await host.commit(
            creations=[creation(key, key % 2 == 0, 1, definition=n, queue=n) for key, n in enumerate(names, start=1)],
            records=[(key, Record(2, Kind.VALUE, n, b"", 1)) for key, n in enumerate(names, start=1) if key % 2 == 0],
        )
        await host.commit(stalls=[Stall(key, n, 0) for key, n in enumerate(names, start=1) if key % 2 == 0])
        for key, name in enumerate(names, start=1):
            [row] = await host.storage.rows(definition=name)
            assert (row.key, row.definition, row.queue) == (key, name, name)
            assert await host.storage.count(definition=name) == 1
            if key % 2 == 0:
                assert row.reason == name
                assert [record.name for record in await host.storage.journal(key)][1:] == [name]
            else:
                assert await host.storage.next_wake([name]) == 1
                assert [claim.row.key for claim in await host.claim(queues=[name])] == [key]

    @scenario
    async def test_payloads(self, stores: Stores) -> None:
        """Payloads are kept byte by byte, from none to 1 MB, in records, mails and progress."""
        payloads = [b"", b"\0", b"\n", b"\r\n", b'"}', bytes(range(256)), b"\xff" * 2**20, b"\xf0\x9f" * 2**19]
        host = await stores.host()
        records = [(1, step(seq, payload)) for seq, payload in enumerate(payloads, start=2)]
        mails = [event(1, payload=payload) for payload in payloads]
        await host.commit(creations=[creation(1)], records=records, mails=mails, progress={1: payloads[-1]})
        assert [record.payload for record in await host.storage.journal(1)][1:] == payloads
        assert [item.payload for item in await host.storage.inbox(1)] == payloads
        assert (await host.row(1)).progress == payloads[-1]
        await host.storage.close()
        again = await stores.open()
        assert [record.payload for record in await again.journal(1)][1:] == payloads
        assert [type(record.payload) for record in await again.journal(1)] == [bytes] * (len(payloads) + 1)

    @scenario
    async def test_empty_is_not_none(self, stores: Stores) -> None:
        """Empty texts and bytes come back empty, and what was None comes back None."""
        host = await stores.host()
        await host.commit(creations=[creation(1, record=Record(1, Kind.STARTED, "", b"", 0)), creation(2)])
        mails = [Mail("id 1", MailKind.EVENT, "", "", b"", 0), Mail("id 1", MailKind.EVENT, "", None, b"", 0)]
        await host.commit(mails=mails, progress={1: b""})
        [record] = await host.storage.journal(1)
        assert record == Record(1, Kind.STARTED, "", b"", 0)
        assert [(item.name, item.event_key, item.payload) for item in await host.collect()] == [
            ("", "", b""),
            ("", None, b""),
        ]
        await host.commit(stalls=[Stall(1, "", 2)])
        assert ((await host.row(1)).progress, (await host.row(1)).reason) == (b"", "")
        assert ((await host.row(2)).progress, (await host.row(2)).reason) == (None, None)

    @scenario
    async def test_numbers(self, stores: Stores) -> None:
        """Keys have 63 bits, and times may be anything a clock of a test says."""
        host = await stores.host()
        largest = 2**63 - 1
        record = Record(1, Kind.STARTED, "", b"", 2**60 + 1)
        await host.commit(creations=[creation(largest, record=record), creation(1, owned=False, wake_at=0)])
        row = await host.row(largest)
        assert (row.key, row.created_at) == (largest, 2**60 + 1)
        assert list(await host.storage.journal(largest)) == [record]
        assert [claim.row.key for claim in await host.claim(now=0)] == [1]
        await host.commit(parks=[Park(largest, 2**62 + 1, 0)])
        assert await host.storage.next_wake([QUEUE]) == 2**62 + 1
        assert await host.storage.purge([largest]) == 0

    @scenario
    async def test_reasons_may_hold_anything(self, stores: Stores) -> None:
        """A reason is the words of an error: NUL or half a character in it spoils neither the words nor the batch."""
        host = await stores.host()
        await host.commit(creations=[creation(1), creation(2)])
        reason = "bad \0 bytes \ud800 read"
        end = ending(2, Status.TERMINATED)._replace(reason=reason)
        await host.commit(stalls=[Stall(1, reason, 0)], ends=[end])
        for key, status in ((1, Status.STALLED), (2, Status.TERMINATED)):
            row = await host.row(key)
            assert row.status is status
            assert row.reason is not None
            words = row.reason.encode().split()
            assert (words[0], words[2], words[4]) == (b"bad", b"bytes", b"read")

    @scenario
    async def test_times_out_of_range(self, stores: Stores) -> None:
        """A time that does not fit into 64 bits refuses its batch as an error of the store; nothing is written."""
        host = await stores.host()
        await host.commit(creations=[creation(1)])
        for far in (2**63, -(2**63) - 1):
            with pytest.raises(StorageError):
                await host.commit(records=[(1, step(2))], parks=[Park(1, far, 0)])
            with pytest.raises(StorageError):
                await host.commit(creations=[creation(2, owned=False, wake_at=far)], records=[(1, step(2))])
            with pytest.raises(StorageError):
                await host.commit(records=[(1, step(2))], mails=[event(1, time=far)])
            with pytest.raises(StorageError):
                await host.commit(creations=[creation(2, created_at=far)], records=[(1, step(2))])
        assert [row.owner for row in await host.storage.rows()] == [host.session]
        assert list(await host.storage.journal(1)) == [started()]
        assert list(await host.storage.inbox(1)) == []
        assert await host.storage.last_batch(host.session) == 1

    @scenario
    async def test_times_may_go_back(self, stores: Stores) -> None:
        """The store takes times as they come: a host's clock that was set back loses and reorders nothing."""
        host = await stores.host()
        await host.commit(creations=[creation(1, record=Record(1, Kind.STARTED, "", b"", 900))])
        await host.commit(records=[(1, step(2)._replace(time=100)), (1, step(3)._replace(time=500))])
        await host.storage.commit(Batch(None, mails=[event(1, time=60, payload=b"a")]))
        await host.storage.commit(Batch(None, mails=[event(1, time=20, payload=b"b")]))
        assert [record.time for record in await host.storage.journal(1)] == [900, 100, 500]
        assert (await host.row(1)).wake_at == 20
        assert [item.payload for item in await host.collect()] == [b"a", b"b"]
