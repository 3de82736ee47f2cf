"""The parameters that commands share, as types; and what completion offers for ids and definitions."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import typer

from durable.cli.stores import opened
from durable.storage import ProcessRow

_LOOK_AT = 1000  # processes that completion chooses from, the newest ones


async def _newest(url: str) -> list[ProcessRow]:
    async with opened(url) as storage:
        return list(await storage.rows(limit=_LOOK_AT))


def _rows(context: Any) -> list[ProcessRow]:
    url = (context.params or {}).get("url") or os.environ.get("DURABLE_URL")
    if not url:
        return []
    try:
        return asyncio.run(_newest(url))
    except Exception:  # a shell that completes has no place for an error; the command itself will tell
        return []


def complete_id(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest processes, each with what it is."""
    return [(row.id, f"{row.definition}, {row.status}") for row in _rows(ctx) if row.id.startswith(incomplete)]


def complete_definition(ctx: typer.Context, incomplete: str) -> list[str]:
    """Definitions of the newest processes."""
    return sorted({row.definition for row in _rows(ctx) if row.definition.startswith(incomplete)})


Url = Annotated[
    str, typer.Option("--url", envvar="DURABLE_URL", help="The store: sqlite:///file.db, file:///directory, …")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the process.", autocompletion=complete_id)]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
CodecName = Annotated[
    str, typer.Option("--codec", help="What wrote the journals: msgpack, json, or module:attribute of a codec.")
]
App = Annotated[
    str | None, typer.Option("--app", help="Module to import, so that its classes and definitions are known.")
]
Definition = Annotated[
    str | None, typer.Option("--name", help="Only those of this definition.", autocompletion=complete_definition)
]
