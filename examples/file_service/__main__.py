"""The command: API and worker in one program, or one of them."""

import argparse
import asyncio
import sys

import uvicorn

from durable import ProcessClient, ProcessHost
from examples.file_service import settings
from examples.file_service.api import TASKS, make_app
from examples.file_service.orphans import reconcile


def make_host() -> ProcessHost:
    """A host for all tasks."""
    return ProcessHost(settings.DATABASE, [*TASKS, reconcile], lease=settings.LEASE)


def serve(connection: ProcessClient, port: int) -> None:
    uvicorn.run(make_app(connection), port=port, timeout_graceful_shutdown=5)


async def work() -> None:
    async with make_host() as host:
        print("worker is ready", flush=True)
        await host.serve()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="examples.file_service", description="Large files become archives.")
    parser.add_argument("role", nargs="?", choices=["all", "api", "worker"], default="all")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args(arguments)
    match options.role:
        case "all":
            serve(make_host(), options.port)
        case "api":
            serve(ProcessClient(settings.DATABASE), options.port)
        case "worker":
            asyncio.run(work())


if __name__ == "__main__":
    main(sys.argv[1:])
