"""The command: API and worker in one program, or one of them."""

import argparse
import asyncio
import sys

import uvicorn

from durable import ProcessClient, ProcessHost
from durable.housekeeping import Retention
from durable.telemetry import Telemetry
from examples.file_service import settings
from examples.file_service.api import TASKS, make_app
from examples.file_service.orphans import reconcile
from examples.file_service.webhooks import webhooks


def make_host() -> ProcessHost:
    """A host for all tasks, which archives them when they are old."""
    archive = f"{settings.BUCKET}/journals"
    return ProcessHost(
        settings.DATABASE,
        [*TASKS, reconcile, webhooks.deliver],
        lease=settings.LEASE,
        retention=Retention(settings.KEEP, archive, every=settings.ARCHIVE_EVERY),
        observer=Telemetry(),
    )


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
            serve(ProcessClient(settings.DATABASE, observer=Telemetry()), options.port)
        case "worker":
            asyncio.run(work())


if __name__ == "__main__":
    main(sys.argv[1:])
