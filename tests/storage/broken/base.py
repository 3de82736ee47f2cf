"""What every broken provider is made of, and the list of them all; each names the contract tests that catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from durable.storage import JournalStorage
from durable.testing.storage_parts import Clock
from durable_storage.memory import MemoryStorage
from durable_storage.memory_state import State

T = TypeVar("T", bound=type[Any])


class Fault(NamedTuple):
    """A broken provider and the tests of the contract (with their parameters) that must fail on it."""

    provider: type[Any]
    tests: tuple[str, ...]

    @property
    def what(self) -> str:
        """What is wrong with it, in its own words."""
        return (self.provider.__doc__ or "").strip().splitlines()[0]


FAULTS: list[Fault] = []


def caught_by(*tests: str) -> Callable[[T], T]:
    """Put a broken provider on the list."""

    def register(provider: T) -> T:
        FAULTS.append(Fault(provider, tests))
        return provider

    return register


class Broken(MemoryStorage):
    """``memory://``, healthy until a subclass breaks the object or, as ``Kept``, what the store keeps."""

    Kept: ClassVar[type[State]] = State
    KEEPS_FILES = False

    def __init__(self, url: str, *, lease_clock: Callable[[], float]) -> None:
        super().__init__(url, lease_clock=lease_clock)
        if type(self._store.state) is not self.Kept:
            self._store.state = self.Kept()

    @classmethod
    def make(cls, place: Path, clock: Clock) -> JournalStorage:
        """A storage object on *place*; several share what is behind it."""
        return cls(f"memory://{cls.__qualname__}{place}", lease_clock=clock)

    @classmethod
    def url(cls, place: Path) -> str | None:
        """No other OS process sees memory."""
        return None

    @classmethod
    def damaged_places(cls, before: Path, after: Path, into: Path) -> Iterable[Path]:
        """There is nothing to damage."""
        return ()
