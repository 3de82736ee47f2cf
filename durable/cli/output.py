"""
How answers look: tables for people, one JSON document for programs.

Ids, names and values come from journals and may hold anything. On a terminal nothing of them is taken for markup, and
what could steer the terminal is shown as its escape. Where standard output is no terminal, nothing is cut or coloured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from durable.handle import Progress

_WIDE = 100_000  # columns of what is no terminal


def console() -> Console:
    """Where tables go: standard output as it is now."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDE, no_color=True, force_terminal=False)


def say_table(answer: RenderableType) -> None:
    """A table, or what has one in it, on standard output; without the blanks that fill up its last column."""
    screen = console()
    with screen.capture() as captured:
        screen.print(answer)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], cut: Sequence[str] = ()) -> Table:
    """A table without lines; on a narrow terminal the columns in *cut* are shortened, the others wrap."""
    answer = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        shortened = column in cut and sys.stdout.isatty()
        answer.add_column(column, no_wrap=shortened, overflow="ellipsis" if shortened else "fold")
    for row in rows:
        answer.add_row(*(Text(clean(cell)) for cell in row))
    return answer


def clean(text: str) -> str:
    """*text* with everything escaped that is not to be printed."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def say(text: str) -> None:
    """One line for people."""
    typer.echo(clean(text))


def say_raw(text: str) -> None:
    """Text for another program, exactly as it is."""
    typer.echo(text, nl=False)


def say_error(text: str) -> None:
    """The text of an error, on standard error."""
    for line in text.splitlines():
        typer.echo(clean(line), err=True)


def say_json(answer: Any) -> None:
    """One JSON document, on one line unless somebody watches."""
    typer.echo(json.dumps(plain(answer), ensure_ascii=not _takes_unicode(), indent=2 if sys.stdout.isatty() else None))


def plain(value: Any) -> Any:
    """*value* as JSON knows it: data classes as objects, times as ISO 8601 in UTC, lengths as seconds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value


def number_of(number: int, what: str) -> str:
    """A number of things: 1 object, 2 objects."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def clock(time: datetime | None) -> str:
    """A time in a table: UTC, to the millisecond."""
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03}"


def length(of: timedelta | None) -> str:
    """How long something took, to a precision worth reading: 4.2 ms, 3.1 s, 2 h 5 min, 12 d 3 h."""
    if of is None:
        return ""
    seconds = of.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), of.days
    if hours < 1:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


def progress(report: Progress | None) -> str:
    """A progress report on one line."""
    if report is None:
        return ""
    of = "" if report.total is None else f"/{report.total:g}"
    return f"{report.done:g}{of} {report.message}".rstrip()


def _takes_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
