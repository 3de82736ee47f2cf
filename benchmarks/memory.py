"""Bytes per waiting process: resident, and parked."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from datetime import timedelta
from pathlib import Path

from benchmarks.processes import waiting
from benchmarks.report import Row
from durable import ProcessHost


async def memory(folder: Path, count: int = 10_000) -> list[Row]:
    """Traced Python memory per process that waits for an event."""
    url = f"sqlite:///{folder / 'memory.db'}"
    async with ProcessHost(url, [waiting], limit=50_000, park_after=timedelta(hours=1)) as host:
        await host.start(waiting(), id="warm")
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, count, 1000):
            await asyncio.gather(*(host.start(waiting(), id=f"p{n}") for n in range(start, start + 1000)))
        while any(not resident.execution.waits() for resident in host._engine.residents.values()):
            await asyncio.sleep(0.01)
        gc.collect()
        resident = (tracemalloc.get_traced_memory()[0] - before) / count
        host._engine.limit = 0
        host._engine.parking.sweep(count + 1)
        while host._engine.residents:
            await asyncio.sleep(0.01)
        gc.collect()
        parked = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
    return [
        Row("a resident process that waits for an event", f"{resident:,.0f} bytes", "≤ 2,500"),
        Row("a parked one", f"{max(0.0, parked):,.0f} bytes", "0"),
    ]
