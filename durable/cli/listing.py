"""`ps`: what processes there are, once or at every change. Two queries a look, whatever the number of processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from durable.cli import applications, options
from durable.cli.output import console, length, progress, say_json, say_table, table
from durable.cli.stores import opened
from durable.insight import Insight, Page, Place, ProcessSummary
from durable.insight.waiting import at, first_line
from durable.storage import Status

_LOOK_EVERY = 1.0  # longest seconds between two looks of --watch; a store that can tell of changes is heard earlier

Look = Callable[[], Awaitable[Page]]
Wanted = Annotated[list[Status] | None, typer.Option("--status", help="Only those with it; may be given twice.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest ones.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show every change until Ctrl-C.")]


def ps(
    url: options.Url,
    status: Wanted = None,
    name: options.Definition = None,
    limit: Limit = 50,
    watch: Watch = False,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """List processes, newest first."""

    async def run() -> None:
        async with opened(url) as storage:
            insight = Insight(storage, applications.codec(codec))

            async def look() -> Page:
                return await insight.processes(status=status or None, definition=name, limit=limit)

            if not watch:
                _say_page(await look(), as_json)
            elif as_json or not sys.stdout.isatty():
                await _watch_lines(insight, look, as_json)
            else:
                await _watch_screen(insight, look)

    asyncio.run(run())


def _say_page(page: Page, as_json: bool) -> None:
    if as_json:
        say_json(page)
    else:
        say_table(_listing(page, page.processes))


async def _watch_lines(insight: Insight, look: Look, as_json: bool) -> None:
    """Every change as a page of its own, for programs and files."""
    last: Page | None = None
    while True:
        page = await look()
        if page != last:
            _say_page(page, as_json)
            sys.stdout.flush()
            last = page
        await insight.change(_LOOK_EVERY)


async def _watch_screen(insight: Insight, look: Look) -> None:
    """The listing in place, as many rows as the terminal has room for; ages go on while nothing else changes."""
    screen = console()
    with Live(console=screen, auto_refresh=False, screen=True) as live:
        while True:
            page = await look()
            live.update(_listing(page, page.processes[: max(1, screen.height - 3)]), refresh=True)
            await insight.change(_LOOK_EVERY)


def _listing(page: Page, shown: Sequence[ProcessSummary]) -> RenderableType:
    now = datetime.now(UTC)
    rows = [
        (
            process.id,
            process.definition,
            process.status.value,
            length(now - process.created_at),
            _whereabouts(process),
            progress(process.progress),
        )
        for process in shown
    ]
    counted = f"{len(shown)} of {page.total}" if len(shown) < page.total else str(page.total)
    footer = Text(f"{counted} process{'' if page.total == 1 else 'es'}", style="dim")
    if not rows:
        return footer
    columns = ["id", "definition", "status", "age", "where", "progress"]
    return Group(table(columns, rows, cut=["where", "progress", "definition"]), footer)


def _whereabouts(process: ProcessSummary) -> str:
    """Where a process is, from its row alone."""
    match process.place:
        case Place.CLAIMABLE:
            return f"waits for a host of queue {process.queue!r}"
        case Place.PARKED if process.wake_at is None:
            return "parked, until something comes for it"
        case Place.PARKED:
            return f"parked until {at(process.wake_at)}"
        case Place.HELD:
            return f"held by session {process.session}"  # the row does not tell whether that session still lives
        case _:
            return first_line(process.reason or "") or (f"at {at(process.ended_at)}" if process.ended_at else "")
