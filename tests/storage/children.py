"""OS processes that run ``child.py``, spoken to line by line; and the types of the fixtures that start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from durable_storage.sqlite.provider import SqliteStorage

CHILD = Path(__file__).with_name("child.py")

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="there is no /proc here: that nothing stays open is NOT tested"
)


class StartChild(Protocol):
    """The fixture ``child``: starts a command of ``child.py``, if wished *under* another program."""

    def __call__(self, command: str, path: Path, *arguments: object, under: Sequence[str] = ()) -> Child: ...


class OpenStore(Protocol):
    """The fixture ``open_store``: one more open storage object on the store of the test."""

    def __call__(self, **options: object) -> Awaitable[SqliteStorage]: ...


class Child:
    """A running child of ``child.py``, spoken to line by line."""

    def __init__(self, command: str, path: Path, *arguments: object, under: Sequence[str] = ()) -> None:
        words = [*under, sys.executable, "-W", "ignore", str(CHILD), command, str(path), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )

    def ask(self, line: str = "go") -> str:
        """Send a line and return the answer."""
        self.send(line)
        return self.read()

    def send(self, line: str = "go") -> None:
        """Send a line."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)

    def read(self) -> str:
        """The next line of the child; empty when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.process.kill()
        self.wait()

    def stop(self) -> None:
        """``kill -STOP``: it lives, but does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """``kill -CONT``."""
        self.process.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end and close its pipes; returns its exit code."""
        code = self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        return code


@contextmanager
def tampering(strace: str, pid: int, *options: str, output: str = "/dev/null") -> Iterator[None]:
    """Trace OS process *pid*, and what it starts, with *options* of strace; its report goes to the file *output*."""
    tracer = subprocess.Popen([strace, "-f", "-o", output, *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    assert any("attached" in line for line in iter(tracer.stderr.readline, ""))
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def open_files() -> list[str]:
    """What the descriptors of this OS process stand for."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed the directory
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return names
