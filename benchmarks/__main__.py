"""
Run the measurements that are named, or all of the store, and print their table.

``--store`` takes another store than SQLite. Some need no choice: what is about many hosts always takes PostgreSQL, what
is about memory and restarts always SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
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
_ONLY_ON = {"postgres": tuple(ON_POSTGRES), "sqlite": tuple(ON_SQLITE), "file": ()}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    known = (*OF_A_STORE, *ON_POSTGRES, *ON_SQLITE)
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--store", choices=["sqlite", "file", "postgres"], default="sqlite")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such measurement: {', '.join(unknown)}; there are {', '.join(known)}")
    names = options.names or (*OF_A_STORE, *_ONLY_ON[options.store])
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".", ignore_cleanup_errors=True)))
        store = cache(lambda kind: stack.enter_context(opened(kind, folder)))
        for name in names:
            if name in ON_SQLITE:
                measuring = ON_SQLITE[name](folder)
            elif name in ON_POSTGRES:
                measuring = ON_POSTGRES[name](store("postgres"))
            else:
                measuring = OF_A_STORE[name](store(options.store))
            rows += asyncio.run(measuring)
    print(table(rows, options.store))


main(sys.argv[1:])
