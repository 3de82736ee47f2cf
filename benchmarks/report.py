"""One measured figure, and the table of them."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from typing import NamedTuple

import sqlalchemy


class Row(NamedTuple):
    """What was measured, what came out, what it should be."""

    what: str
    figure: str
    aim: str


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3f} ms"


def table(rows: list[Row], store: str) -> str:
    """The rows as Markdown, with the store that was chosen, the machine and the versions."""
    lines = [
        "| what | measured | aim |",
        "| --- | --- | --- |",
        *(f"| {r.what} | {r.figure} | {r.aim} |" for r in rows),
    ]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    versions = f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, SQLAlchemy {sqlalchemy.__version__}"
    return "\n".join([*lines, "", f"Store: {store}; {machine}; {versions}."])
