"""Versions of a PostgreSQL store: fresh and migrated are the same, many may start at once, rights may be few."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import schema as ddl_of
from sqlalchemy.dialects import postgresql

from durable.errors import NewerFormat, NotAStore, StorageDenied
from durable.testing.storage_parts import Host, creation, step
from durable_storage.postgres import tables
from durable_storage.postgres.migrations import STEPS, ddl, migrate
from tests.postgres_server import with_options
from tests.storage.conftest import OpenPostgres

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
OLDER = ("CREATE TABLE {schema}.process (number bigint)", "INSERT INTO {schema}.process VALUES (7)")
NEWER = ("ALTER TABLE {schema}.process RENAME COLUMN number TO key", "CREATE INDEX by_key ON {schema}.process (key)")


async def shape(connection: asyncpg.Connection, schema: str) -> set[tuple[object, ...]]:
    """Columns and indexes of *schema*, as the database describes them; the order of columns is of no interest."""
    columns = """
        SELECT table_name, column_name, data_type, is_nullable, is_identity
        FROM information_schema.columns WHERE table_schema = $1
    """
    indexes = "SELECT tablename, replace(indexdef, $1 || '.', '') FROM pg_indexes WHERE schemaname = $1"
    found = [tuple(row) for text in (columns, indexes) for row in await connection.fetch(text, schema)]
    return set(found)


async def test_migrations_lead_to_the_tables(admin: asyncpg.Connection) -> None:
    """All steps one after the other make the very tables and indexes that the statements are written for."""
    migrated, fresh = f"migrated_{uuid4().hex[:8]}", f"fresh_{uuid4().hex[:8]}"
    await migrate(admin, migrated, "here")
    await admin.execute(f"CREATE SCHEMA {fresh}; SET search_path = {fresh}")
    for table in tables.metadata.sorted_tables:
        await admin.execute(str(ddl_of.CreateTable(table).compile(dialect=DIALECT)))
        for index in table.indexes:
            await admin.execute(str(ddl_of.CreateIndex(index).compile(dialect=DIALECT)))
    await admin.execute("RESET search_path")
    # `serial` in the metadata is an identity in the migrations, whose sequence needs no grant of its own.
    made, wanted = await shape(admin, migrated), await shape(admin, fresh)
    numbers = {("inbox", "number"), ("session", "id")}
    assert {row for row in made if row[:2] not in numbers} == {row for row in wanted if row[:2] not in numbers}
    assert {row[:4] for row in made if row[:2] in numbers} == {row[:4] for row in wanted if row[:2] in numbers}


async def test_steps_are_taken_once_each(admin: asyncpg.Connection) -> None:
    """An older store takes the steps it lacks; one of the newest version takes none; a newer one is refused."""
    schema, fresh = f"older_{uuid4().hex[:8]}", f"fresh_{uuid4().hex[:8]}"
    await migrate(admin, schema, "here", [OLDER])
    for _ in range(2):
        await migrate(admin, schema, "here", [OLDER, NEWER])
    await migrate(admin, fresh, "here", [OLDER, NEWER])
    assert await shape(admin, schema) == {
        tuple(str(value).replace(fresh, schema) for value in row) for row in await shape(admin, fresh)
    }
    assert await admin.fetchval(f"SELECT key FROM {schema}.process") == 7
    with pytest.raises(NewerFormat) as refused:
        await migrate(admin, schema, "here", [OLDER])
    assert (refused.value.version, refused.value.known) == (2, 1)


async def test_functions_are_those_of_the_newest_version(
    admin: asyncpg.Connection, open_postgres: OpenPostgres
) -> None:
    """A store of the first version has its functions replaced when it is opened; what it holds stays."""
    schema = open_postgres.url.rpartition("=")[2]
    await migrate(admin, schema, "here", STEPS[:1])
    apply = """
        SELECT proname, pg_get_function_arguments(oid), prosrc
        FROM pg_proc WHERE pronamespace = $1::regnamespace ORDER BY proname
    """
    wanted = await admin.fetch(apply, schema)
    older = {}
    for name in ("append_record", "commit_batch"):
        text = await admin.fetchval("SELECT pg_get_functiondef($1::regproc)", f"{schema}.{name}")
        older[name] = re.sub("BEGIN.*END", "BEGIN RAISE 'of the first version'; END", text, flags=re.DOTALL)
    await admin.execute(f"DROP FUNCTION {schema}.commit_batch")
    await admin.execute(older["append_record"])
    await admin.execute(older["commit_batch"].replace("new_created_at bigint[], ", ""))
    await admin.execute(
        f"INSERT INTO {schema}.session (lease_until, last_batch, state, host, boot) VALUES (0, 0, 0, '', '')"
    )
    assert await admin.fetch(apply, schema) != wanted
    await open_postgres()
    assert await admin.fetch(apply, schema) == wanted
    assert await admin.fetchval(f"SELECT count(*) FROM {schema}.session") == 1


async def test_failing_step_changes_nothing(admin: asyncpg.Connection) -> None:
    """A step that fails in the middle is undone, and the store stays at the version before."""
    schema = f"failing_{uuid4().hex[:8]}"
    await migrate(admin, schema, "here", [OLDER])
    before = await shape(admin, schema)
    with pytest.raises(asyncpg.PostgresError):
        await migrate(admin, schema, "here", [OLDER, (*NEWER, "SELECT 1/0")])
    assert await shape(admin, schema) == before
    assert await admin.fetchval(f"SELECT number FROM {schema}.version") == 1


async def test_ten_start_at_once(open_postgres: OpenPostgres) -> None:
    """Ten objects that are opened on nothing at once all find a whole store; one of them has made it."""
    storages = await asyncio.gather(*(open_postgres() for _ in range(10)))
    sessions = await asyncio.gather(*(storage.begin_session("host", 30) for storage in storages))
    assert len(set(sessions)) == 10


async def test_foreign_tables_are_not_touched(admin: asyncpg.Connection, open_postgres: OpenPostgres) -> None:
    """A schema in which somebody else has a table of one of our names is refused and left as it was."""
    schema = open_postgres.url.rpartition("=")[2]
    await admin.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.process (number int)")
    before = await shape(admin, schema)
    with pytest.raises(NotAStore):
        await open_postgres()
    assert await shape(admin, schema) == before


async def test_printed_ddl_is_enough(admin: asyncpg.Connection, postgres: str, open_postgres: OpenPostgres) -> None:
    """What `ddl` prints and the grants of the docs let a role without the right to create anything run a host."""
    schema, role = f"printed_{uuid4().hex[:8]}", f"host_{uuid4().hex[:8]}"
    await admin.execute(
        f"CREATE ROLE {role} LOGIN; REVOKE CREATE ON DATABASE {urlsplit(postgres).path[1:]} FROM PUBLIC"
    )
    url = with_options(postgres.replace("//postgres@", f"//{role}@"), schema=schema)
    with pytest.raises(StorageDenied) as denied:
        await open_postgres(url)
    assert "ddl" in str(denied.value)
    await admin.execute(ddl(schema))
    with pytest.raises(StorageDenied):
        await open_postgres(url)
    await admin.execute(
        f"GRANT USAGE ON SCHEMA {schema} TO {role}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    )
    storage = await open_postgres(url)
    host = Host(storage, await storage.begin_session("host", 30))
    await host.commit(creations=[creation(1)], records=[(1, step(2))])
    await host.commit(records=[(1, step(3))])
    assert len(await storage.journal(1)) == 3
    await storage.end_session(host.session)
    await storage.close()
    await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_newer_store_is_refused(admin: asyncpg.Connection, open_postgres: OpenPostgres) -> None:
    """A store of a version we do not know is refused when it is opened."""
    await open_postgres()
    schema = open_postgres.url.rpartition("=")[2]
    await admin.execute(f"UPDATE {schema}.version SET number = {len(STEPS) + 1}")
    with pytest.raises(NewerFormat):
        await open_postgres()
