"""
Run the measurements that are named, or all of the store, and print their table.

``--store`` takes another store than SQLite; what is about many hosts takes PostgreSQL by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import memory
from benchmarks.replaying import replaying
from benchmarks.report import table
from benchmarks.restarting import restarting
from benchmarks.speed import latency, throughput
from benchmarks.stores import opened
from benchmarks.takeover import takeover

OF_A_STORE = {measure.__name__: measure for measure in (throughput, latency)}
ON_POSTGRES = {takeover.__name__: takeover}
ON_SQLITE = {measure.__name__: measure for measure in (replaying, memory, restarting)}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*OF_A_STORE, *ON_POSTGRES, *ON_SQLITE)))
    parser.add_argument("--store", choices=["sqlite", "file", "postgres"])
    options = parser.parse_args(arguments)
    chosen = options.store or ("postgres" if options.names and set(options.names) <= set(ON_POSTGRES) else "sqlite")
    of_store = {**OF_A_STORE, **(ON_POSTGRES if chosen == "postgres" else {})}
    measurements = {**of_store, **(ON_SQLITE if chosen == "sqlite" else {})}
    if unknown := [name for name in options.names if name not in measurements]:
        parser.error(f"no such measurement here: {', '.join(unknown)}; there are {', '.join(measurements)}")
    with (
        tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as folder,
        opened(chosen, Path(folder)) as store,
    ):
        rows = []
        for name in options.names or measurements:
            measuring = of_store[name](store) if name in of_store else ON_SQLITE[name](Path(folder))
            rows += asyncio.run(measuring)
    print(table(rows))


main(sys.argv[1:])
