"""Run the measurements that are named, or all, and print their table."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import memory
from benchmarks.replaying import replaying
from benchmarks.report import Row, table
from benchmarks.restarting import restarting
from benchmarks.speed import latency, throughput

MEASUREMENTS = {measure.__name__: measure for measure in (throughput, latency, replaying, memory, restarting)}


def main(names: list[str]) -> None:
    """Measure and print; an unknown name is an error that lists the known ones."""
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        sys.exit(f"no such measurement: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for name in names or MEASUREMENTS:
            rows += asyncio.run(MEASUREMENTS[name](Path(folder)))
    print(table(rows))


main(sys.argv[1:])
