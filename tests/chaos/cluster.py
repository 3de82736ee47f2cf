"""
The OS processes of a run: hosts, each in a slot and started again whenever it is gone, and senders.

Nobody outlives the run: whatever was started is killed when the cluster is left, however that happens, and dies with
this OS process if that is killed itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.chaos.lines import Lines, now
from tests.chaos.plans import SENDERS, Setting
from tests.chaos.programs import NO_STORE

ROOT = Path(__file__).parents[2]
_PROGRAM = "tests.chaos.programs"
_SENDERS = tuple(f"sender {number}" for number in range(SENDERS))
_TO_BEGIN = 60.0  # seconds that all hosts together may take to start on a busy machine
_PAUSE = 0.2  # seconds before a host that could not reach its store is started again


class Cluster:
    """
    Hosts and senders; use as an async context manager.

    Args:
        hosts: How many slots.
    """

    def __init__(self, setting: Setting, hosts: int) -> None:
        self.setting = setting
        self.slots = [Slot(self, number) for number in range(hosts)]
        self.failures: list[str] = []
        self._started: list[asyncio.subprocess.Process] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._senders: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        try:
            self._keepers = [asyncio.create_task(slot.keep(), name=f"keeper of {slot.name}") for slot in self.slots]
            async with asyncio.timeout(_TO_BEGIN):
                await asyncio.gather(*(slot.ready.wait() for slot in self.slots))
        except TimeoutError as error:
            await self._kill_all()
            raise AssertionError(f"Not every host began: {self.failures}") from error
        except BaseException:
            await self._kill_all()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._kill_all()

    async def begin_to_send(self) -> None:
        """Start the senders, and return when they have reached the store."""
        for name in _SENDERS:
            self._senders[name] = await self.spawn("sender", name)
        for sender in self._senders.values():
            assert sender.stdout is not None
            await sender.stdout.readline()

    async def all_is_sent(self) -> None:
        """Return when the senders have heard all they wait for."""
        for name, sender in self._senders.items():
            if code := await sender.wait():
                raise AssertionError(f"{name} ended with {code}: {self.log(name)[-3000:]}")

    async def leave(self) -> None:
        """Have every host leave in order."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.wait(self._keepers)
        for slot in self.slots:
            slot.signal(signal.SIGTERM)
        for slot in self.slots:
            if slot.process is not None:
                slot.ended(await slot.process.wait())

    async def spawn(self, kind: str, name: str) -> asyncio.subprocess.Process:
        """Start an OS process; its output goes to its log, but for the line that says that it is ready."""
        arguments = [kind, json.dumps(asdict(self.setting)), name, str(os.getpid())]
        with open(self._log_path(name), "ab") as log:
            # In a group of its own: an interrupt from the keyboard is for us, and we kill it.
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", _PROGRAM, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=_variables(),
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        """What *name* has said."""
        path = self._log_path(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def _log_path(self, name: str) -> Path:
        return Path(self.setting.folder) / f"{name}.log".replace(" ", "-")

    async def _kill_all(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        for process in self._started:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(process.wait() for process in self._started))


class Slot:
    """
    Where there is always a host: one after the other, as a service manager sees to it.

    Attributes:
        ready: Set while there is one that has begun its session, as far as is known here.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self._cluster = cluster
        self._lives = 0
        self._told_to_go = False

    @property
    def name(self) -> str:
        """Name of the host that lives here now."""
        return f"host {self.number}.{self._lives}"

    async def keep(self) -> None:
        """Start a host, and the next one when it is gone."""
        while True:
            self._told_to_go = False
            self._lives += 1
            self.process = await self._cluster.spawn("host", self.name)
            assert self.process.stdout is not None
            if (await self.process.stdout.readline()).strip() == b"ready":
                self.ready.set()
            code = await self.process.wait()
            self.ready.clear()
            if not self.ended(code):
                await asyncio.sleep(_PAUSE)

    def ended(self, code: int) -> bool:
        """The host that lived here has ended; whether it was told to. One that has just begun dies of SIGTERM."""
        if self._told_to_go and code in (0, -signal.SIGTERM, -signal.SIGKILL):
            return True
        if code != NO_STORE:
            self._cluster.failures.append(f"{self.name} ended with {code}: {self._cluster.log(self.name)[-3000:]}")
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the host that lives here, if one does."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._told_to_go = True
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def stop(self, seconds: float, lines: Lines) -> None:
        """Stop the host with SIGSTOP for *seconds*, which is what is tested, and note when."""
        begun = now()
        self.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.signal(signal.SIGCONT)
            lines.write(what="stopped", host=self.name, begun=begun, ended=now())


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUNBUFFERED": "1"}


def names_of_users(hosts: int) -> Sequence[str]:
    """Who uses the store: every slot, every sender."""
    return [*(f"host {number}" for number in range(hosts)), *_SENDERS]
