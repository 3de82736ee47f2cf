"""What tests of hosts are staged with: a store that holds calls back, and waits for what can be seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from durable import ProcessClient, Status
from durable.storage import Batch, JournalStorage, open_storage
from durable.testing.storage_proxy import Operation, StorageProxy

T = TypeVar("T")

SOON = timedelta(seconds=20)


class Gate:
    """Calls wait here, from the first that *catches* takes to the moment it is opened."""

    def __init__(self, catches: Callable[[Operation], bool]) -> None:
        self.catches = catches
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Let go of all that wait, and hold nothing any more."""
        self._opened.set()

    async def pass_through(self) -> None:
        """Wait until it is open."""
        self.reached.set()
        await self._opened.wait()


class GatedStorage(StorageProxy):
    """
    A store, and gates in front of it; ``batches`` are those that were to be committed, refused ones included.

    Only whoever uses this object is held back: other hosts and clients reach the store by its URL.
    """

    def __init__(self, store: str | JournalStorage) -> None:
        super().__init__(open_storage(store) if isinstance(store, str) else store)
        self.batches: list[Batch] = []
        self._gates: list[Gate] = []

    def hold(self, operation: str, when: Callable[[], bool]) -> Gate:
        """Hold back calls of *operation*, a method that may write, from the first *when* it is time for it."""
        return self._add(Gate(lambda call: call.name == operation and when()))

    def hold_commit(self, which: Callable[[Batch], object]) -> Gate:
        """Hold back commits from the first one *which* is true of."""
        return self._add(Gate(lambda call: call.batch is not None and bool(which(call.batch))))

    def _add(self, gate: Gate) -> Gate:
        self._gates.append(gate)
        return gate

    async def around(self, operation: Operation, call: Callable[[], Awaitable[T]]) -> T:
        for gate in self._gates:
            if gate.catches(operation):
                await gate.pass_through()
        if operation.batch is not None:
            self.batches.append(operation.batch)
        return await call()


async def until(holds: Callable[[], object]) -> None:
    """Return when *holds* is true of something in this program."""
    async with asyncio.timeout(SOON.total_seconds()):
        while not holds():
            await asyncio.sleep(0)


async def until_it_waits(client: ProcessClient, id: str, what: str) -> None:
    """Return when the process waits for something whose description begins with *what*."""
    async with asyncio.timeout(SOON.total_seconds()):
        async for status in client.get(id).watch():
            if any(waited.startswith(what) for waited in status.waits_for):
                return
            if status.ended:
                break
    raise AssertionError("it ended")


async def until_stalled(client: ProcessClient, id: str) -> str:
    """Return when the process is stalled; its reason."""
    async with asyncio.timeout(SOON.total_seconds()):
        async for status in client.get(id).watch():
            if status.status is Status.STALLED:
                return status.reason or ""
    raise AssertionError("it ended")


async def until_recorded(client: ProcessClient, id: str, kind: str) -> None:
    """Return when there is a record of this *kind* in the journal of the process."""
    async with asyncio.timeout(SOON.total_seconds()):
        while kind not in [entry.kind for entry in await client.get(id).history()]:
            await asyncio.sleep(0)
