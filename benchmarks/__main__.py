"""Run the measurements that are named, or all, and print their table. ``--store`` takes another store than SQLite."""

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

OF_A_STORE = {measure.__name__: measure for measure in (throughput, latency)}
ON_SQLITE = {measure.__name__: measure for measure in (replaying, memory, restarting)}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join((*OF_A_STORE, *ON_SQLITE)))
    parser.add_argument("--store", choices=["sqlite", "file", "postgres"], default="sqlite")
    options = parser.parse_args(arguments)
    measurements = {**OF_A_STORE, **(ON_SQLITE if options.store == "sqlite" else {})}
    if unknown := [name for name in options.names if name not in measurements]:
        parser.error(f"no such measurement here: {', '.join(unknown)}; there are {', '.join(measurements)}")
    with (
        tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True) as folder,
        opened(options.store, Path(folder)) as store,
    ):
        rows = []
        for name in options.names or measurements:
            measuring = OF_A_STORE[name](store) if name in OF_A_STORE else ON_SQLITE[name](Path(folder))
            rows += asyncio.run(measuring)
    print(table(rows))


main(sys.argv[1:])
