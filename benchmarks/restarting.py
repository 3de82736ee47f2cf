"""Restart: with many waiting processes, and with many interrupted half-way by SIGKILL. Each life is an OS process."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path

from benchmarks import processes
from benchmarks.report import Row
from durable import AnyDefinition, ProcessClient, ProcessHost

DEFINITIONS: list[AnyDefinition] = [processes.waiting, processes.half_way, processes.steps]


async def restarting(folder: Path) -> list[Row]:
    """100 000 waiting processes; 1 000 interrupted ones."""
    _life("sleepers", folder)
    ready = _life("wake", folder)
    _life("interrupt", folder, killed=True)
    done = _life("finish", folder)
    return [
        Row("restart with 100,000 waiting processes: ready in", f"{ready['ready']:.2f} s", "< 2 s"),
        Row("… an event raised into one of them, to its result", f"{ready['event'] * 1000:.1f} ms", "at once"),
        Row("… memory above that of an empty host", f"{ready['memory']:.1f} MB", "≈ 0"),
        Row("1,000 processes killed half-way, all completed after", f"{done['completed']:.2f} s", "< 1 s"),
    ]


def _life(name: str, folder: Path, killed: bool = False) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.restarting", name, str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=not killed)
    if killed:
        assert ended.returncode == -signal.SIGKILL, ended.returncode
        return {}
    result: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return result


async def _sleepers(folder: Path) -> dict[str, float]:
    async with ProcessHost(_url(folder, "sleepers"), DEFINITIONS, limit=2000, park_after=timedelta(0)) as host:
        for start in range(0, 100_000, 1000):
            numbers = range(start, start + 1000)
            await asyncio.gather(*(host.start(processes.waiting(), id=f"p{number}") for number in numbers))
            while host._engine.residents:  # until they are parked: beyond the limit they would wait for their turn
                await asyncio.sleep(0.001)
    return {}


async def _wake(folder: Path) -> dict[str, float]:
    async with ProcessHost(_url(folder, "empty"), DEFINITIONS) as host:
        await (await host.start(processes.steps(1), id="one")).result()
        empty = _memory()
    before = time.perf_counter()
    async with ProcessHost(_url(folder, "sleepers"), DEFINITIONS) as host:
        await (await host.start(processes.steps(1), id="one")).result()
        ready = time.perf_counter() - before
        before = time.perf_counter()
        await host.raise_event("p77777", "go", 1)
        await host.get("p77777").result()
        event = time.perf_counter() - before
        return {"ready": ready, "event": event, "memory": _memory() - empty}


async def _interrupt(folder: Path) -> dict[str, float]:
    async with ProcessHost(_url(folder, "interrupted"), DEFINITIONS) as host:
        await asyncio.gather(*(host.start(processes.half_way(), id=f"p{number}") for number in range(1000)))
        while any(len(resident.execution.waits()) != 1 for resident in host._engine.residents.values()):
            await asyncio.sleep(0.01)
        while any(resident.execution.waits()[0][0] != "event" for resident in host._engine.residents.values()):
            await asyncio.sleep(0.01)
        async with ProcessClient(_url(folder, "interrupted")) as client:
            # The events are in, and nobody has moved them: the next life finds every process in the middle.
            host._claims._task.cancel()  # type: ignore[union-attr]
            await asyncio.gather(*(client.raise_event(f"p{number}", "go") for number in range(1000)))
        os.kill(os.getpid(), signal.SIGKILL)
    return {}


async def _finish(folder: Path) -> dict[str, float]:
    before = time.perf_counter()
    async with ProcessHost(_url(folder, "interrupted"), DEFINITIONS) as host:
        await asyncio.gather(*(host.get(f"p{number}").result() for number in range(1000)))
        return {"completed": time.perf_counter() - before}


def _url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name}.db"


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    import_module("durable_storage.sqlite.provider")  # imports are not what is measured
    life = {"sleepers": _sleepers, "wake": _wake, "interrupt": _interrupt, "finish": _finish}[sys.argv[1]]
    print(json.dumps(asyncio.run(life(Path(sys.argv[2])))))
