"""`archive`, `purge` and `ddl`: what keeps a store small, and what an administrator of its database has to run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

import typer

from durable.cli import applications, options
from durable.cli.output import say, say_error, say_json
from durable.cli.stores import opened
from durable.errors import StorageError
from durable.housekeeping import Report, Retention, keep_house
from durable.storage import HasSchema, open_storage

OlderThan = Annotated[
    float, typer.Option("--older-than", help="Days since a process has ended; 0.5 is twelve hours.", min=0)
]


def archive(
    url: options.Url,
    to: Annotated[str, typer.Argument(help="URL of the archive: file:///folder, s3://bucket/folder, …")],
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
        raise StorageError("This store has no schema that somebody else could make", url=url.partition(":")[0])
    sql = storage.ddl(since)
    if as_json:
        say_json({"sql": sql})
    else:
        say(sql)


def _keep_house(url: str, retention: Retention, as_json: bool, codec: str) -> None:
    values = applications.codec(codec)

    async def run() -> Report:
        async with opened(url) as storage:
            return await keep_house(storage, retention, codec=values)

    report = asyncio.run(run())
    if as_json:
        say_json(report)
        return
    where = "" if retention.archive is None else f" {report.archived} archived in {report.objects} objects,"
    say(f"{where} {report.purged} deleted".strip())
    for id, why in report.left.items():
        say_error(f"left: {id}: {why}")
