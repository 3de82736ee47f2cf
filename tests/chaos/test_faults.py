"""The faults are real, and end with the run: a proxy does what it is told, and no host outlives who started it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.cluster import ROOT
from tests.chaos.faults import DATABASE_FAULTS, HOST_FAULTS, NETWORK_FAULTS, Nemesis, make_schedule
from tests.chaos.proxy import Proxy

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_STARTS_A_HOST = """
import asyncio, sys
from signal import SIGSTOP
from tests.chaos.cluster import Cluster
from tests.chaos.plans import Setting

async def main(folder):
    setting = Setting(1, 1, folder, {"host 0": f"sqlite:///{folder}/store"}, 1.0, 1.0)
    async with Cluster(setting, 1) as cluster:
        process = cluster.slots[0].process
        cluster.slots[0].signal(SIGSTOP)
        print(process.pid, flush=True)
        await process.wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that says everything twice."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data * 2)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def connect(proxy: Proxy) -> Line:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(line: Line, seconds: float = 10.0) -> bytes:
    """The answer on *line*; empty if it is closed."""
    reader, writer = line
    writer.write(b"a")
    async with asyncio.timeout(seconds):
        return await reader.read(2)


async def test_a_proxy_passes_and_delays(proxy: Proxy) -> None:
    """What goes in comes out; told to, later: by its delay on the way there and on the way back."""
    line = await connect(proxy)
    assert await ask(line) == b"aa"
    proxy.delay = 0.05
    before = asyncio.get_running_loop().time()
    assert await ask(line) == b"aa"
    assert asyncio.get_running_loop().time() - before >= 0.09
    line[1].close()


async def test_a_black_hole_swallows_and_gives_back(proxy: Proxy) -> None:
    """While it is silent nothing comes through and nothing is closed; afterwards everything does."""
    line = await connect(proxy)
    await ask(line)
    proxy.silent = True
    with pytest.raises(TimeoutError):
        await ask(line, 0.1)
    proxy.silent = False
    assert await line[0].read(2) == b"aa"
    line[1].close()


async def test_a_stranded_connection_is_silent_for_ever(proxy: Proxy) -> None:
    """Of a stranded connection nothing is heard again, and a new one works."""
    old = await connect(proxy)
    await ask(old)
    proxy.strand()
    with pytest.raises(TimeoutError):
        await ask(old, 0.1)
    new = await connect(proxy)
    assert await ask(new) == b"aa"
    for line in (old, new):
        line[1].close()


async def test_a_cut_is_heard_and_a_refusal_too(proxy: Proxy) -> None:
    """A cut resets what is open; while it refuses, a new connection is closed before it has said anything."""
    line = await connect(proxy)
    await ask(line)
    proxy.refusing = True
    proxy.cut()
    with pytest.raises(ConnectionError):
        await ask(line)
    refused = await connect(proxy)
    with pytest.raises((ConnectionError, AssertionError)):
        assert await ask(refused)
    for one in (line, refused):
        one[1].close()


def test_a_schedule_is_its_seed() -> None:
    """The same seed gives the same faults, another one others; every kind comes, each with a method of the nemesis."""
    kinds = (*HOST_FAULTS, *NETWORK_FAULTS, *DATABASE_FAULTS)
    schedule = make_schedule("7", kinds, len(kinds), 4, 1.0)
    assert schedule == make_schedule("7", kinds, len(kinds), 4, 1.0)
    assert schedule != make_schedule("8", kinds, len(kinds), 4, 1.0)
    assert {fault.name for fault in schedule} == set(kinds)
    assert all(callable(getattr(Nemesis, f"_{kind}")) for kind in kinds)
    assert all(fault.seconds > 1.0 for fault in schedule)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel can be told to: NOT tested here")
def test_no_host_outlives_a_killed_run(tmp_path: Path) -> None:
    """A host dies with the OS process of the run, killed with SIGKILL, even while the host itself is stopped."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _STARTS_A_HOST, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as run:
        assert run.stdout is not None
        host = int(run.stdout.readline())
        waiting = os.pidfd_open(host)
        run.send_signal(signal.SIGKILL)
        gone, _, _ = select.select([waiting], [], [], 10)
        os.close(waiting)
    assert gone, f"OS process {host} lives on"
