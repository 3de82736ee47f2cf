"""A host in an OS process of its own, which prints its spans as they end, until it is killed."""

from __future__ import annotations

import asyncio
import sys

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from durable import Event, Process, ProcessHost, process
from durable.telemetry import Telemetry

Go = Event("go", str)


async def act() -> None:
    """Nothing, which is enough for a span."""


@process
async def parent(proc: Process) -> str:
    """Starts a child that is run wherever its queue is served, and waits for it."""
    return await proc.call(child(), "sub/child")


@process(queue="children")
async def child(proc: Process) -> str:
    """Acts, and waits."""
    await proc.do(act, "acted")
    return await proc.event(Go)


@process(queue="lives")
async def lives(proc: Process, number: int) -> str:
    """Restarts itself once, acts, and waits."""
    if number == 1:
        await proc.restart(lives(2))
    await proc.do(act, "acted")
    return await proc.event(Go)


def _line(span: ReadableSpan) -> str:
    return str(span.to_json(indent=None)) + "\n"


async def main(store: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=_line)))
    async with ProcessHost(store, [child, lives], observer=Telemetry(tracer_provider=provider)) as host:
        await host.serve()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
