"""The yardstick: one committed row with nothing but the driver, at the same durability."""

from __future__ import annotations

import sqlite3
import statistics
import time
from pathlib import Path


def committed_insert(folder: Path, rows: int = 100) -> float:
    """Median seconds of one committed one-row insert with `sqlite3` alone into a new file: WAL, ``synchronous=FULL``."""
    for old in folder.glob("bare.db*"):
        old.unlink()
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS record (id INTEGER PRIMARY KEY, payload BLOB)")
    seconds = []
    for _ in range(rows):
        before = time.perf_counter()
        connection.execute("INSERT INTO record (payload) VALUES (?)", (b"x" * 60,))
        seconds.append(time.perf_counter() - before)
    connection.close()
    return statistics.median(seconds)
