"""A program that is nothing but a host: `serve` until it is told to stop, then leave in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from durable import Process, ProcessHost, process

ROOT = Path(__file__).parents[2]
SOON = timedelta(seconds=20)
PROGRAM = """
import asyncio, sys
from durable import ProcessHost
from tests.host.test_serving import waiting

async def main(url):
    async with ProcessHost(url, [waiting]) as host:
        await host.start(waiting(), id="p")
        while "event 'go'" not in (await host.get("p").status()).waits_for:
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: print("serving", flush=True))  # once `serve` has begun
        await host.serve()
    print("left", flush=True)

asyncio.run(main(sys.argv[1]))
"""


@process
async def waiting(proc: Process) -> object:
    """Waits for an event, and would say so if it were unwound."""
    try:
        return await proc.event("go")
    finally:
        print("unwound", flush=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_served_host_leaves_in_order_when_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """The signal ends `serve`, the host drains and exits with 0, no process is unwound, and the next host goes on."""
    url = f"sqlite:///{tmp_path / 'processes.db'}"
    command = [sys.executable, "-c", PROGRAM, url]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "serving\n"
        program.send_signal(number)
        said, _ = program.communicate(timeout=30)
    assert (program.returncode, said) == (0, "left\n")
    async with ProcessHost(url, [waiting]) as host:
        await host.raise_event("p", "go", 7)
        assert await host.get("p").result(SOON) == 7
