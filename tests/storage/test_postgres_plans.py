"""The plans of the hot queries, on enough rows: each goes through its index, whatever the size of the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from durable.storage import Batch, End, Park, Status
from durable.testing.storage_parts import QUEUE, Host, creation, event, last, step
from durable_storage.postgres import listing
from durable_storage.postgres import statements as sql
from durable_storage.postgres.building import Statement, statements_for
from tests.storage.conftest import OpenPostgres

_FAR = 10**15


@pytest.fixture
async def store(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> Host:
    """
    20 000 parked processes, 100 due ones, 1 000 residents, 1 000 ended ones, and what a dead session owned.

    The tables have statistics, so that the planner chooses as it does in production.
    """
    storage = await open_postgres()
    host = Host(storage, await storage.begin_session("host", 30))
    gone = Host(storage, await storage.begin_session("gone", 30))
    parked = [creation(key, owned=False, wake_at=_FAR, definition=f"definition {key % 50}") for key in range(1, 20_001)]
    await host.commit(creations=parked)
    await host.commit(mails=[event(key, time=_FAR) for key in range(1, 5_001)])
    await host.commit(creations=[creation(key, owned=False, wake_at=key) for key in range(30_001, 30_101)])
    await host.commit(creations=[creation(key) for key in range(40_001, 42_001)])
    await host.commit(ends=[End(key, Status.COMPLETED, None, last(2), 0) for key in range(41_001, 42_001)])
    await host.commit(mails=[event(key) for key in range(40_001, 40_011)])
    await gone.commit(creations=[creation(key) for key in range(50_001, 50_101)])
    await storage.end_session(gone.session)
    schema = open_postgres.url.rpartition("=")[2]
    for table in ("process", "record", "inbox", "session"):
        await admin.execute(f"ANALYZE {schema}.{table}")
    return host


async def plan(admin: asyncpg.Connection, statement: Statement, **given: Any) -> dict[str, Any]:
    """What the planner does for a statement that is prepared, as ours are, in a connection with no settings of ours."""
    async with admin.transaction():
        await admin.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        found = await admin.fetchval(f"EXPLAIN (FORMAT JSON) {statement.text}", *statement.values(**given))
    only: dict[str, Any] = json.loads(found)[0]["Plan"]
    return only


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


HOT: dict[str, tuple[Any, dict[str, Any], set[str]]] = {
    "next wake": (sql.NEXT_WAKE, {"session": 1, "queues": [QUEUE]}, {"process_due", "process_owned"}),
    "claim": (
        sql.CLAIM,
        {"session": 1, "queues": [QUEUE, "other"], "now": 40_000, "most": 50},
        {"process_due", "process_owned", "process_pkey"},
    ),
    "collect": (sql.COLLECT, {"session": 1}, {"process_owned", "inbox_by_process"}),
    "unflag": (sql.UNFLAG, {"session": 1, "keys": [1, 2], "mails": [0, 0]}, {"process_pkey"}),
    "changed": (sql.CHANGED, {"sessions": [1], "queues": [QUEUE], "before": 1}, {"process_owned", "process_due"}),
    "journal": (sql.JOURNAL, {"key": 7, "after": 0}, {"record_pkey"}),
    "contents": (sql.CONTENTS, {"keys": [7, 8]}, {"record_pkey", "inbox_by_process"}),
    "inbox": (sql.INBOX, {"key": 7}, {"inbox_by_process"}),
    "row": (sql.ROW, {"id": "id 7"}, {"process_id_key"}),
    "rows by id": (sql.ROWS_BY_ID, {"ids": ["id 7", "id 8"]}, {"process_id_key"}),
    "ended": (sql.ENDED_BEFORE, {"before": 5, "most": 10}, {"process_ended"}),
}


@pytest.mark.parametrize("name", HOT)
async def test_hot_queries_use_their_indexes(
    store: Host, open_postgres: OpenPostgres, admin: asyncpg.Connection, name: str
) -> None:
    """Neither processes nor records nor the inbox are ever read as a whole, and the index is the one made for it."""
    statement, given, indexes = HOT[name]
    schema = open_postgres.url.rpartition("=")[2]
    found = list(nodes(await plan(admin, statements_for(schema)[statement], **given)))
    whole = [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"]
    assert set(whole) <= {"session"}
    assert {node["Index Name"] for node in found if "Index Name" in node} - {"session_pkey"} == indexes


@pytest.mark.parametrize(
    ("status", "definition", "index"),
    [
        (None, None, "process_pkey"),
        (frozenset({Status.STALLED, Status.COMPLETED}), None, "process_by_status"),
        (None, "definition 7", "process_by_definition"),
    ],
)
async def test_pages_of_a_listing_use_an_index(
    store: Host,
    open_postgres: OpenPostgres,
    admin: asyncpg.Connection,
    status: frozenset[Status] | None,
    definition: str | None,
    index: str,
) -> None:
    """A page is read from the heads of ranges of an index; nothing is sorted but these."""
    schema = open_postgres.url.rpartition("=")[2]
    page = listing.page_for(schema, status, definition is not None, True)
    found = list(nodes(await plan(admin, page, definition=definition, before=10_000, most=100)))
    assert [node for node in found if node["Node Type"] == "Seq Scan"] == []
    assert index in {node["Index Name"] for node in found if "Index Name" in node}


async def test_batches_read_no_table_as_a_whole(open_postgres: OpenPostgres, admin: asyncpg.Connection) -> None:
    """
    The function that applies batches goes through indexes from the first batch on, when tables are empty and unknown.

    Its plans are kept as long as the connection: what it chooses for an empty table it would still do for a large one.
    """
    storage = await open_postgres()
    schema = open_postgres.url.rpartition("=")[2]
    host = Host(storage, await storage.begin_session("host", 30))
    client = await open_postgres()
    for turn in range(8):
        keys = range(turn * 100 + 1, turn * 100 + 101)
        taken = [creation(10**6 + turn, id="id 1")] if turn else []
        await host.commit(creations=[*(creation(key) for key in keys), *taken], mails=[event(key) for key in keys])
        await host.commit(records=[(key, step(2)) for key in keys], progress=dict.fromkeys(keys, b"half"))
        items = [item for item in await storage.collect(host.session) if item.key in keys]
        await host.commit(records=[(item.key, step(3)) for item in items], taken=[item.number for item in items])
        await client.commit(Batch(None, mails=[event(keys[0]), event(keys[1])]))
        releases = [Park(key, None, 1) for key in keys]
        assert set((await host.commit(parks=releases)).held) == {keys[0], keys[1]}
    # What this connection has counted is told to the others when it is closed.
    await storage.close()
    await client.close()
    text = "SELECT relname, seq_scan FROM pg_stat_all_tables WHERE schemaname = $1 AND relname = ANY($2)"
    found = await admin.fetch(text, schema, ["process", "record", "inbox"])
    scans: dict[str, int] = {row[0]: row[1] for row in found}
    creating_indexes = {"process": 7, "record": 1, "inbox": 2}  # each index that is made reads its table once
    assert all(scans[name] <= most for name, most in creating_indexes.items()), scans
