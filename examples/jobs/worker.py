"""A worker: runs jobs until it is told to stop. As many as one likes, on as many machines."""

import argparse
import asyncio
import sys
from datetime import timedelta

from durable import ProcessHost
from examples.jobs.processes import PROCESSES


async def work(store: str, lease: timedelta) -> None:
    async with ProcessHost(store, PROCESSES, lease=lease) as host:
        print("worker is ready", flush=True)
        await host.serve()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="examples.jobs.worker")
    parser.add_argument("--store", default="sqlite:///jobs.db")
    parser.add_argument("--lease", type=float, default=30, help="seconds after which a dead worker's jobs go to others")
    options = parser.parse_args(arguments)
    asyncio.run(work(options.store, timedelta(seconds=options.lease)))


if __name__ == "__main__":
    main(sys.argv[1:])
