"""What replay costs: in memory, decoding included, and from the store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.processes import steps
from benchmarks.report import Row
from durable import MessagePackCodec, Process, ProcessHost, process
from durable._kernel.execution import Execution
from durable._kernel.started import KERNEL_VERSION
from durable.invocation import AnyDefinition
from durable.journal import Kind, Record

_CODEC = MessagePackCodec()


@process
async def gathering(proc: Process, count: int) -> int:
    """So many steps side by side."""

    async def act() -> int:
        return 1

    return sum(await asyncio.gather(*(proc.do(act, f"step {number}") for number in range(count))))


async def replaying(folder: Path, count: int = 10_000) -> list[Row]:
    """10 000 sequential records of about 60 bytes; `gather` of 100; loading from SQLite."""
    value = {"order": 17, "state": "charged", "amount": "12.50", "by": "x" * 20}
    sequential = _fastest(steps, count, [1] * count)
    payloads = _fastest(_structured, count, [value] * count)
    gathered = _fastest(gathering, 100, [1] * 100, rounds=50)
    load = await _loading(folder, count)
    return [
        Row(f"replay of {count} sequential records, per record", f"{sequential * 1e6:.2f} µs", "≤ 6 µs"),
        Row("… with a dict of 60 bytes in each", f"{payloads * 1e6:.2f} µs", "≤ 6 µs"),
        Row("… in a `gather` of 100", f"{gathered * 1e6:.2f} µs", "stated"),
        Row("… loading them from SQLite, per record", f"{load * 1e6:.2f} µs", "stated"),
    ]


@process
async def _structured(proc: Process, count: int) -> None:
    for number in range(count):
        await proc.do(dict, f"step {number}")


def _fastest(definition: AnyDefinition, count: int, values: list[object], rounds: int = 5) -> float:
    start = _CODEC.encode((KERNEL_VERSION, "3.11", (count,), {}, None))
    records = [Record(1, Kind.STARTED, definition.name, start, 1)]
    for number, value in enumerate(values):
        records.append(Record(number + 2, Kind.DONE, f"step {number}", _CODEC.encode(value), number + 2))
    seconds = []
    for _ in range(rounds):
        execution = Execution("replayed", definition.program, _CODEC)
        before = time.perf_counter()
        execution.replay(records)
        seconds.append(time.perf_counter() - before)
    return min(seconds) / count


async def _loading(folder: Path, count: int) -> float:
    async with ProcessHost(f"sqlite:///{folder / 'replay.db'}", [gathering]) as host:
        handle = await host.start(gathering(count), id="gathered")
        await handle.result()
        row = await host._storage.row("gathered")
        assert row is not None
        before = time.perf_counter()
        await host._storage.journal(row.key)
        return (time.perf_counter() - before) / count
