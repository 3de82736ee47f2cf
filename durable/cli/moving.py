"""`export`, `import` and `copy`: processes out of a store, into a store, from one store to another."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from durable.cli import applications, options
from durable.cli.failures import ExitCode
from durable.cli.output import number_of, say, say_error, say_json
from durable.cli.stores import name_of, opened
from durable.storage import ENDED
from durable.transfer import Outcome, Snapshot, Transfer, move, put, read_file, take, write_file


def export(
    url: options.Url,
    id: options.Id,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.", dir_okay=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: options.Json = False,
) -> None:
    """Write one process, as it is now, into a file. It goes on where it is; to move processes use copy."""

    async def run() -> Snapshot:
        async with opened(url) as storage:
            return await take(storage, id)

    snapshot = asyncio.run(run())
    write_file(file, snapshot, replace=force)
    _say(snapshot, file, "was written to", as_json)
    if snapshot.status not in ENDED:
        say_error(f"it is unfinished and goes on in {name_of(url)}; where the file is imported, it runs a second time")


def import_file(
    url: options.Url,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote.", dir_okay=False)],
    as_json: options.Json = False,
) -> None:
    """Put a process from a file into a store, which is made if it does not exist. An unfinished one runs there."""
    snapshot = read_file(file)

    async def run() -> None:
        async with opened(url, create=True) as storage:
            await put(storage, snapshot)

    asyncio.run(run())
    _say(snapshot, file, "was imported from", as_json)


def copy(
    from_url: Annotated[str, typer.Argument(metavar="FROM_URL", help="The store to take from.")],
    to_url: Annotated[str, typer.Argument(metavar="TO_URL", help="The store to bring to; made if it does not exist.")],
    everything: Annotated[bool, typer.Option("--all", help="Copy ended processes, too; they stay as well.")] = False,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """
    Move every unfinished process to another store.

    Stop the hosts of the first store before. Interrupted, it goes on where it was when it is called again.
    """
    values = applications.codec(codec)

    def tell(transfer: Transfer) -> None:
        if not as_json:
            say(f"{transfer.outcome.value}: {transfer.id}" + (f": {transfer.why}" if transfer.why else ""))

    async def run() -> list[Transfer]:
        async with opened(from_url) as source, opened(to_url, create=True) as target:
            return await move(source, target, name_of(to_url), values, ended=everything, tell=tell)

    transfers = asyncio.run(run())
    counted = Counter(transfer.outcome for transfer in transfers)
    if as_json:
        say_json({"counts": {outcome.value: counted[outcome] for outcome in Outcome}, "transfers": transfers})
    else:
        say(", ".join(f"{counted[outcome]} {outcome.value}" for outcome in Outcome if counted[outcome]) or "nothing")
    if counted[Outcome.LEFT]:
        raise typer.Exit(ExitCode.NO)


def _say(snapshot: Snapshot, file: Path, what: str, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "id": snapshot.id,
                "file": str(file),
                "status": snapshot.status.value,
                "records": len(snapshot.records),
                "inbox": len(snapshot.inbox),
            }
        )
    else:
        records = number_of(len(snapshot.records), "record")
        say(f"process {snapshot.id!r} ({snapshot.status.value}, {records}) {what} {file}")
