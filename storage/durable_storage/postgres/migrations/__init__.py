"""
The versions of a PostgreSQL store, and how an older one becomes the newest.

All steps a store lacks are taken in one transaction under one lock for the schema, which ends with it: of ten hosts
that start at once one migrates, the others wait and find it done. Steps are never edited once released. Whoever has no
right to change tables uses a store that is of the newest version already; `ddl` is for the one who makes it.

Functions belong to no step: with whatever steps a store takes, the newest ones take the place of those it has. So they
exist once in this code, and a change of them alone is a step without statements. (Of other arguments or results they
are other functions for PostgreSQL: such a step drops the old one.)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import asyncpg

from durable.errors import NewerFormat, NotAStore, StorageDenied
from durable_storage.postgres.migrations import v1
from durable_storage.postgres.migrations.commit_batch import FUNCTIONS

# A step is the statements that lead to its version, the first to version 1; {schema} is filled in.
Step = Sequence[str]
STEPS: tuple[Step, ...] = (
    v1.STATEMENTS,
    # version 2: `commit_batch` is told when a process was created, and sees an id that is purged while it comes again
    ("DROP FUNCTION IF EXISTS {schema}.commit_batch",),
)

_VERSION_TABLE = "CREATE TABLE {schema}.version (number integer NOT NULL)"


def ddl(schema: str = "durable", since: int = 0) -> str:
    """
    What a database administrator runs so that hosts without the right to change tables can use the store.

    Args:
        schema: Where the tables are; the ``schema`` option of the URL.
        since: The version that is there; 0: nothing yet.

    Raises:
        NewerFormat: This version knows nothing of a version *since*.
    """
    if since > len(STEPS):
        raise NewerFormat(f"The newest version of a store is {len(STEPS)} here, and not {since}", fix="upgrade durable")
    body = [f"{_tidy(statement)};" for statement in _statements(schema, since, STEPS)]
    return "\n\n".join(["BEGIN;", *body, "COMMIT;", ""])


async def migrate(connection: asyncpg.Connection, schema: str, shown: str, steps: Sequence[Step] = STEPS) -> None:
    """
    Bring the store in *schema* to the version of the last of *steps*.

    Raises:
        NewerFormat: The store has a version that *steps* do not know; it was not changed.
        NotAStore: The schema holds tables of somebody else under our names.
        StorageDenied: Something is missing, and the user may not create it.
    """
    if await _version(connection, schema, shown, len(steps)) == len(steps):
        return
    try:
        async with connection.transaction(isolation="read_committed"):
            # A number of its own for each schema, beside "dura" which keeps clear of the locks of others.
            lock = zlib.crc32(schema.encode()) - 2**31
            await connection.execute("SET LOCAL lock_timeout = '60s'")  # whoever has it may have much to do
            await connection.execute("SELECT pg_advisory_xact_lock(1685418593, $1)", lock)
            version = await _version(connection, schema, shown, len(steps))
            exists = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema)
            for statement in _statements(schema, version, steps, has_schema=exists):
                await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError as error:
        raise StorageDenied(
            f"The schema {schema!r} is not complete, and the user may not change it",
            store=shown,
            error=str(error),
            fix="let its owner run what `durable_storage.postgres.migrations.ddl()` returns, and grant what "
            "docs/postgresql.md names",
        ) from error
    except asyncpg.DuplicateTableError as error:
        raise NotAStore(
            f"The schema {schema!r} holds tables of something else; nothing was changed",
            store=shown,
            error=str(error),
            fix="give the store a schema of its own: `?schema=name`",
        ) from error


def _statements(schema: str, version: int, steps: Sequence[Step], *, has_schema: bool = False) -> list[str]:
    if version == len(steps):
        return []
    found: list[str] = []
    if version == 0:
        if not has_schema:  # even IF NOT EXISTS needs the right to create one
            found.append("CREATE SCHEMA IF NOT EXISTS {schema}")
        found.append(_VERSION_TABLE)
        found.append("INSERT INTO {schema}.version (number) VALUES (0)")
    for step in steps[version:]:
        found += step
    found += FUNCTIONS
    found.append(f"UPDATE {{schema}}.version SET number = {len(steps)}")
    return [statement.replace("{schema}", f'"{schema}"') for statement in found]  # quoted: it may be a word of SQL


def _tidy(statement: str) -> str:
    lines = statement.strip("\n").splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:].rstrip() for line in lines).strip()


async def _version(connection: asyncpg.Connection, schema: str, shown: str, known: int) -> int:
    """The version of the store in *schema*, 0 if there is none."""
    # Not `to_regclass`, which may answer from before the lock that was waited for: it reads no table.
    found = (
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'version')"
    )
    if not await connection.fetchval(found, schema):
        return 0
    version: int | None = await connection.fetchval(f'SELECT number FROM "{schema}".version')
    if version is None or version > known:
        raise NewerFormat(
            "The store was written by a newer version of this library; it was not touched",
            store=shown,
            version=version,
            known=known,
            fix="upgrade durable, or choose another schema",
        )
    return version
