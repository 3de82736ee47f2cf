"""
The OS processes of a chaos run: ``python -m tests.chaos.programs host|sender SETTING NAME PARENT``.

A host runs processes until it is told to leave. A sender starts processes, writes letters to them, cancels some, and
waits for the end of each; it tries everything again until it has an answer, as a client of the real world does.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from durable import DurableError, ProcessClient, ProcessEnded, ProcessHost, ProcessNotFound, StorageError
from durable.storage import JournalStorage, open_storage
from tests.chaos.lines import Lines, now
from tests.chaos.plans import Plan, Setting, Shape, child_of
from tests.chaos.witness import Witness
from tests.chaos.workload import DEFINITIONS, Letter, Note, Outside, enter, invocation

NO_STORE = 75  # exit code of who could not reach the store when it began: to be started again
_PARENT_DIED = 1  # PR_SET_PDEATHSIG


# --- a host ---


async def run_host(setting: Setting, name: str) -> int:
    """Run processes until SIGTERM."""
    folder = Path(setting.folder)
    storage = _wrapped(open_storage(setting.urls[name.partition(".")[0]]), setting.wrapper)
    host = ProcessHost(
        Witness(storage, Lines(folder / "witness"), name),
        DEFINITIONS,
        name=name,
        lease=timedelta(seconds=setting.lease),
        limit=300,
        park_after=timedelta(seconds=0.2),
        threads=8,
        grace=timedelta(seconds=2),
    )
    enter(Outside(folder / "effects", name, host))
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(host)
        except StorageError as error:
            print(f"no store: {error}", flush=True)
            return NO_STORE
        print("ready", flush=True)
        await host.serve()
    return 0


def _wrapped(storage: JournalStorage, wrapper: str) -> JournalStorage:
    if not wrapper:
        return storage
    module, _, function = wrapper.partition(":")
    wrapped: JournalStorage = getattr(import_module(module), function)(storage)
    return wrapped


# --- a sender ---


class Sender:
    """
    Sender number *number*: its part of the plans, over *client*.

    Everything it does is written down twice: when it is asked for, and when it is known what came of it.
    """

    def __init__(self, setting: Setting, number: int, client: ProcessClient) -> None:
        self._plans = [plan for plan in setting.plans() if plan.shape is not Shape.CHILD]
        self._seconds = setting.seconds
        self._number = number
        self._client = client
        self._lines = Lines(Path(setting.folder) / "sent")

    async def run(self) -> None:
        """Return when all it has to do is done, and every process it has started has ended."""
        begun = now()
        async with asyncio.TaskGroup() as group:
            for plan in self._plans:
                await asyncio.sleep(max(0.0, begun + plan.at * self._seconds - now()))
                if plan.sender == self._number:
                    group.create_task(self._live_through(plan))
                if plan.shape is Shape.READER:
                    group.create_task(self._write_to(plan))

    async def _live_through(self, plan: Plan) -> None:
        await _until_answered(lambda: self._client.start(invocation(plan), id=plan.id))
        self._lines.write(what="start", process=plan.id)
        if plan.shape is Shape.BOOKING:
            await asyncio.sleep(plan.cancel_after)
            outcome = await _until_answered(lambda: self._client.cancel(plan.id, "as planned"))
            self._lines.write(what="cancel", process=plan.id, outcome=outcome)
        await self._hear_the_end(plan.id)
        if plan.shape is Shape.PARENT:
            await self._hear_the_end(child_of(plan.id))

    async def _hear_the_end(self, id: str) -> None:
        try:
            result = await self._client.get(id).result()
            self._lines.write(what="end", process=id, outcome="completed", result=result)
        except DurableError as error:
            self._lines.write(what="end", process=id, outcome=type(error).__name__, result=str(error))

    async def _write_to(self, plan: Plan) -> None:
        for letter in plan.letters(self._number):
            outcome = await _until_answered(
                lambda text=letter: self._client.raise_event(plan.id, Letter, text, key=text),  # type: ignore[misc]
                missing=True,
            )
            self._lines.write(what="letter", process=plan.id, text=letter, outcome=outcome)
            await self._note(plan.id, letter)

    async def _note(self, id: str, text: str) -> None:
        """Raise an event without a key, once: after an error it may have arrived or not."""
        try:
            await self._client.raise_event(id, Note, text)
            outcome = "done"
        except ProcessEnded:
            outcome = "ended"
        except DurableError:
            outcome = "unknown"
        self._lines.write(what="note", process=id, text=text, outcome=outcome)


async def _until_answered(call: Callable[[], Awaitable[Any]], *, missing: bool = False) -> str:
    """Do *call* until the store says what came of it; *missing*: the process may still have to be started."""
    pause = 0.05
    while True:
        try:
            await call()
        except ProcessEnded:
            return "ended"
        except ProcessNotFound:
            if not missing:
                raise
        except StorageError:
            pass
        else:
            return "done"
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0)


async def run_sender(setting: Setting, name: str) -> int:
    """Do all that sender *name* has to do."""
    async with ProcessClient(setting.urls[name]) as client:
        print("ready", flush=True)
        await Sender(setting, int(name.removeprefix("sender ")), client).run()
    return 0


# --- both ---


def die_with(parent: int) -> None:
    """Have the kernel kill this OS process when *parent*, which started it, is gone; even while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PARENT_DIED, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent is gone already")


def main(kind: str, setting: str, name: str, parent: str) -> int:
    die_with(int(parent))
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    run = {"host": run_host, "sender": run_sender}[kind]
    return asyncio.run(run(Setting(**json.loads(setting)), name))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
