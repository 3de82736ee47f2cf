"""
What a chaos run is made of: which processes there are and what each has to come to; pure, from a seed.

Nobody tells the checker what was planned: it makes the same plans from the same seed as those who started them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

SENDERS = 2  # OS processes that start, raise and cancel


class Shape(StrEnum):
    """What a process does; the names of the process functions in `tests.chaos.workload`."""

    STEPS = "steps"
    SLEEPER = "sleeper"
    READER = "reader"
    BOOKING = "booking"
    CHARGE = "charge"
    PARENT = "parent"
    CHILD = "child"


# How many of a hundred; each parent starts a child.
_SHARES = {
    Shape.STEPS: 25,
    Shape.SLEEPER: 20,
    Shape.READER: 20,
    Shape.BOOKING: 15,
    Shape.CHARGE: 10,
    Shape.PARENT: 5,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """
    One process.

    Attributes:
        at: When it is started, as a share of the run.
        sender: Which sender starts it and waits for its end.
        size: How many steps, delays, or letters of each sender.
        pauses: Seconds that its steps and delays take.
        cancel_after: Seconds from its start to the request to cancel it, for a booking that is to be cancelled.
    """

    id: str
    shape: Shape
    at: float
    sender: int
    size: int
    pauses: tuple[float, ...]
    cancel_after: float

    def checkpoints(self) -> list[str]:
        """The names of the actions that have to be recorded for it to come to its end."""
        numbers = range(self.size)
        match self.shape:
            case Shape.STEPS:
                return [*(f"step {number}" for number in numbers), "in thread", "after failures"]
            case Shape.SLEEPER:
                return [f"woken {number}" for number in numbers]
            case Shape.READER:
                return [f"read {number}" for number in range(self.size * SENDERS)]
            case Shape.BOOKING:
                return []  # depends on when it is cancelled
            case Shape.CHARGE:
                return ["charged", "noted"]
            case Shape.PARENT:
                return ["child started", "child noted"]
            case Shape.CHILD:
                return ["worked", "told"]

    @property
    def patience(self) -> float:
        """Seconds a booking waits for its confirmation, which never comes; 0 for one that ends only when cancelled."""
        return 0.3 if self.size % 2 else 0.0

    def letters(self, sender: int) -> list[str]:
        """What *sender* writes to it, in order."""
        return [f"{sender}:{number}" for number in range(self.size)] if self.shape is Shape.READER else []


def make_plans(seed: int, processes: int) -> list[Plan]:
    """The plans of a run with *processes* processes, the children that processes start included, by time of start."""
    return sorted(_make(Random(seed), processes), key=lambda plan: plan.at)


def _make(random: Random, processes: int) -> Iterator[Plan]:
    shapes, weights = list(_SHARES), list(_SHARES.values())
    made = 0
    while made < processes:
        shape = random.choices(shapes, weights)[0] if processes - made > 1 else Shape.STEPS
        plan = _plan(random, f"{shape}-{made}", shape)
        yield plan
        made += 1
        if shape is Shape.PARENT:
            yield _plan(random, child_of(plan.id), Shape.CHILD)
            made += 1


def _plan(random: Random, id: str, shape: Shape) -> Plan:
    size = random.randint(2, 5)
    longest = 0.8 if shape is Shape.SLEEPER else 0.05
    pauses = tuple(round(random.uniform(0.0, longest), 3) for _ in range(size))
    return Plan(id, shape, random.random(), random.randrange(SENDERS), size, pauses, round(random.uniform(0, 0.5), 3))


def child_of(parent: str) -> str:
    """The id of the child that process *parent* starts."""
    return f"{parent}/child"


@dataclass(frozen=True, slots=True)
class Setting:
    """
    What every OS process of a run is told.

    Attributes:
        folder: Where lines are written and, for stores in files, where the store is.
        urls: Of the store, by who uses it ("host 0", "sender 1", …), because each has a network of its own to lose.
        seconds: During which processes are started.
        lease: Seconds.
        wrapper: A function of a store, as "module:name", put around the store of every host; "" for none.
    """

    seed: int
    processes: int
    folder: str
    urls: dict[str, str]
    seconds: float
    lease: float
    wrapper: str = ""

    def plans(self) -> list[Plan]:
        return make_plans(self.seed, self.processes)
