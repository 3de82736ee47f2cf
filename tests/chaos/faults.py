"""
The nemesis: one fault after the other, drawn from a seed, each undone before the next begins.

A fault is a method; its name is what the schedule and the log call it. It returns when its harm is done and undone,
not when the hosts have recovered: the next one may hit them while they do. Two at a time do what one alone cannot: a
host is stopped while the database fails over, and killed while it has lost its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGTERM
from typing import NamedTuple

from tests.chaos.cluster import Cluster, Slot
from tests.chaos.database import Database
from tests.chaos.lines import Lines, now
from tests.chaos.plans import SENDERS
from tests.chaos.proxy import Proxy

HOST_FAULTS = ("kill", "stop", "leave")
NETWORK_FAULTS = ("cut", "refuse", "slow", "black_hole", "strand", "refuse_sender")
DATABASE_FAULTS = ("restart_database", "fail_over")
_PAUSES = (0.3, 1.5)  # seconds between two faults


class Fault(NamedTuple):
    """What is done, to which slot, for how long (where that means something), and seconds before it."""

    name: str
    slot: int
    seconds: float
    pause: float

    def __str__(self) -> str:
        return f"{self.name} at host {self.slot}, {self.seconds:.2f} s"


def make_schedule(seed: str, faults: Sequence[str], count: int, slots: int, lease: float) -> list[Fault]:
    """*count* faults: each of *faults* in turn, in an order and at slots drawn from the seed, longer than the lease."""
    random = Random(seed)
    names: list[str] = []
    while len(names) < count:
        names += random.sample(faults, len(faults))
    return [
        Fault(name, random.randrange(slots), random.uniform(1.2, 2.0) * lease, random.uniform(*_PAUSES))
        for name in names[:count]
    ]


class Nemesis:
    """
    Does faults.

    Args:
        proxies: The connections of each user of the store ("host 0", …); none for a store in files.
        database: None for a store in files.
    """

    def __init__(self, cluster: Cluster, proxies: Mapping[str, Sequence[Proxy]], database: Database | None) -> None:
        self._cluster = cluster
        self._proxies = proxies
        self._database = database
        self._lines = Lines(Path(cluster.setting.folder) / "faults")

    async def run(self, schedule: Sequence[Fault]) -> None:
        """Do every fault of *schedule*."""
        for fault in schedule:
            await asyncio.sleep(fault.pause)  # short: a fault hits hosts at any point of their recovery from the last
            slot = self._cluster.slots[fault.slot]
            begun = now()
            await getattr(self, f"_{fault.name}")(slot, fault.seconds)
            self._lines.write(what="fault", fault=str(fault), host=slot.name, begun=begun, ended=now())

    # --- hosts ---

    async def _kill(self, slot: Slot, seconds: float) -> None:
        slot.signal(SIGKILL)

    async def _leave(self, slot: Slot, seconds: float) -> None:
        slot.signal(SIGTERM)

    async def _stop(self, slot: Slot, seconds: float) -> None:
        await slot.stop(seconds, self._lines)

    # --- network ---

    async def _cut(self, slot: Slot, seconds: float) -> None:
        for proxy in self._of(slot):
            proxy.cut()

    async def _strand(self, slot: Slot, seconds: float) -> None:
        for proxy in self._of(slot):
            proxy.strand()

    async def _refuse(self, slot: Slot, seconds: float) -> None:
        await _refuse(self._of(slot), seconds)

    async def _refuse_sender(self, slot: Slot, seconds: float) -> None:
        await _refuse(self._proxies[f"sender {slot.number % SENDERS}"], seconds)

    async def _slow(self, slot: Slot, seconds: float) -> None:
        for proxy in self._of(slot):
            proxy.delay = 0.1
        await asyncio.sleep(seconds)
        for proxy in self._of(slot):
            proxy.delay = 0.0

    async def _black_hole(self, slot: Slot, seconds: float) -> None:
        for proxy in self._of(slot):
            proxy.silent = True
        await asyncio.sleep(seconds)
        for proxy in self._of(slot):
            proxy.silent = False

    def _of(self, slot: Slot) -> Sequence[Proxy]:
        return self._proxies[f"host {slot.number}"]

    # --- database ---

    async def _restart_database(self, slot: Slot, seconds: float) -> None:
        assert self._database is not None
        await self._database.restart()

    async def _fail_over(self, slot: Slot, seconds: float) -> None:
        assert self._database is not None
        await self._database.fail_over()


async def _refuse(proxies: Sequence[Proxy], seconds: float) -> None:
    for proxy in proxies:
        proxy.refusing = True
        proxy.cut()
    await asyncio.sleep(seconds)
    for proxy in proxies:
        proxy.refusing = False
