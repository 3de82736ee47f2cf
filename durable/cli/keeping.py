"""`archive`, `purge` and `ddl`: what keeps a store small, and what an administrator of its database has to run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from durable.cli import applications, options
from durable.cli.output import number_of, say, say_error, say_json, say_raw
from durable.cli.stores import opened
from durable.errors import NewerFormat, StorageError
from durable.housekeeping import Report, Retention, keep_house
from durable.storage import HasSchema, open_storage

OlderThan = Annotated[
    float, typer.Option("--older-than", help="Days since a process has ended; 0.5 is twelve hours.", min=0)
]


def archive(
    url: options.Url,
    to: Annotated[str, typer.Argument(metavar="TO", help="URL of the archive: file:///folder, s3://bucket/folder, …")],
    older_than: OlderThan,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """Write what has ended long ago into an archive, and delete it from the store. Hosts may go on meanwhile."""
    _keep_house(url, Retention(timedelta(days=older_than), to), as_json, codec)


def purge(
    url: options.Url,
    older_than: OlderThan,
    as_json: options.Json = False,
) -> None:
    """Delete what has ended long ago for good, without an archive. Hosts may go on meanwhile."""
    _keep_house(url, Retention(timedelta(days=older_than), None), as_json, "msgpack")


def ddl(
    url: options.Url,
    since: Annotated[int, typer.Option("--since", help="The version that is there; 0: nothing yet.", min=0)] = 0,
    as_json: options.Json = False,
) -> None:
    """Print the SQL by which an administrator makes or migrates the store, for hosts without the right to do so."""
    storage = open_storage(url)
    if not isinstance(storage, HasSchema):
        raise StorageError(
            f"A store at {url.partition(':')[0]}: has no schema that somebody else could make",
            fix="nothing is to be done: a host makes what it needs; `ddl` is for stores on PostgreSQL",
        )
    newest = _newest_version(storage, since)
    if newest is not None and newest < since:
        raise NewerFormat(
            f"This version of the library knows stores up to version {newest}, and this one has version {since}",
            fix="upgrade durable; SQL from here would take the store back",
        )
    sql = storage.ddl(since) if newest is None else ""
    if as_json:
        say_json({"sql": sql})
    else:
        say_raw(sql or f"-- Version {newest} is the newest one: the store is up to date, there is nothing to run.\n")


def _newest_version(storage: HasSchema, limit: int) -> int | None:
    """The newest version of a store, if it is at most *limit*: the first one from which there is nothing to do."""
    return next((version for version in range(limit + 1) if _does_nothing(storage.ddl(version))), None)


def _does_nothing(sql: str) -> bool:
    return {statement.strip().upper() for statement in sql.split(";")} <= {"", "BEGIN", "COMMIT"}


def _keep_house(url: str, retention: Retention, as_json: bool, codec: str) -> None:
    values = applications.codec(codec)

    async def run() -> Report:
        async with opened(url) as storage:
            return await keep_house(storage, retention, codec=values)

    report = asyncio.run(run())
    if as_json:
        say_json(report)
        return
    where = (
        "" if retention.archive is None else f" {report.archived} archived in {number_of(report.objects, 'object')},"
    )
    say(f"{where} {report.purged} deleted".strip())
    for id, why in report.left.items():
        say_error(f"left: {id}: {why}")
