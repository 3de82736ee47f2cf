"""
Kills and faults inside of the store's own writes: at the n-th call of one system call, by ``strace`` (Linux only).

This is how a commit is cut in half: SQLite writes several pages and syncs them, and a kill between two of these calls
leaves a file that only recovery can read. A fault instead of a kill is a disk that is full (ENOSPC) or fails (EIO).
Calls are counted for each thread by itself; a store that writes from one thread is counted exactly.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from durable.testing.crash_life import Order
from durable.testing.crash_server import CrashServer


class CallPoint(NamedTuple):
    """
    Break a life at its *number*-th (from 1) system call *call*: "pwrite64", "fdatasync", "ftruncate", …

    ``error``: "ENOSPC", "EIO", … lets the call fail with that error, once; without it, the life is killed there.
    """

    call: str
    number: int
    error: str = ""

    def __str__(self) -> str:
        return f"{self.error or 'killed'} at {self.call} number {self.number}"


@cache
def can_trace() -> bool:
    """Whether ``strace`` is there and may be used."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


def live_with(server: CrashServer, order: Order, point: CallPoint) -> bool:
    """Run a life that stops itself first (``order.stopped``) and break it at *point*; whether that was reached."""
    server.live(order)
    output = Path(order.directory, f"calls-{order.life}.txt")
    fault = f"error={point.error}" if point.error else "signal=KILL"
    command = ["strace", "-f", "-p", str(server.stopped), "-o", str(output), "-e", f"trace={point.call}"]
    command += ["-e", f"inject={point.call}:{fault}:when={point.number}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(f"strace could not attach: {line}{tracer.stderr.read()}")
        killed = server.go_on(order)
        tracer.stderr.read()
    return killed or "(INJECTED)" in output.read_text()
