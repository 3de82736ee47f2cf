"""
What every subject of the contract is written with: what a provider says about itself, and how an async test is run.

No promise of the protocol is tested here. `Suite` is the base of each subject; `scenario` makes an async test a plain
one, so that no pytest plugin is needed; `in_threads` lets several storage objects live at the same instant.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import HealthCheck, settings

from durable.storage import JournalStorage
from durable.testing.storage_parts import Clock, Stores

_T = TypeVar("_T")

LONGEST = 60.0  # seconds until a test that waits for another thread or OS process gives up


class Suite:
    """What a provider says about itself; the subjects of the contract derive from it."""

    #: Seconds of the leases in these tests. Shorten it if `pass_time` really waits.
    LEASE: ClassVar[float] = 30.0
    #: All a store keeps is in files of its *place*, so that a copy of the directory is a copy of the store.
    KEEPS_FILES: ClassVar[bool] = False
    #: `wait_for_change` ends soon after another object has written. False: it only ever sleeps, as the protocol allows.
    HEARS_CHANGES: ClassVar[bool] = True
    #: How long the comparison with ``memory://`` goes on.
    agreement_settings: ClassVar[settings] = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )

    # --- what a provider says

    def make_storage(self, place: Path, clock: Clock) -> JournalStorage:
        """Return a new storage object, not opened yet, on the data of *place*, with leases on *clock*."""
        raise NotImplementedError  # the one thing only the provider's own class can say

    def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let *seconds* pass on the clock of leases; less than none when that clock is set back."""
        clock.now += seconds

    def url(self, place: Path) -> str | None:
        """URL by which another OS process opens the data of *place* with `open_storage`; None if none can."""
        return None

    def damaged_places(self, before: Path, after: Path, into: Path) -> Iterable[Path]:
        """
        Directories as a power cut in the middle of one commit may have left them.

        *before* and *after* are copies of a place before and after that commit; what is made belongs under *into*. For
        a store that appends to one file `durable.testing.disk_faults.torn_places` makes them all. Needs `KEEPS_FILES`.
        """
        return ()

    # --- what tests work with

    @asynccontextmanager
    async def stores(self, place: Path, clock: Clock | None = None) -> AsyncIterator[Stores]:
        """Storage objects on *place*, closed at the end."""
        clock = clock or Clock()
        stores = Stores(lambda: self.make_storage(place, clock), self.LEASE, clock)
        try:
            yield stores
        finally:
            for storage in stores.opened:
                await storage.close()


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make ``async def test(self, stores, **parameters)`` a plain test on an event loop of its own."""

    def run(self: Suite, tmp_path: Path, **parameters: Any) -> None:
        async def main() -> None:
            async with self.stores(tmp_path) as stores:
                await test(self, stores, **parameters)

        asyncio.run(main())

    own, _, *parameters = inspect.signature(test).parameters.values()
    place = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([own, place, *parameters])  # type: ignore[attr-defined]  # pytest reads it
    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    run.__module__ = test.__module__
    return run


def in_threads(*mains: Callable[[], Coroutine[Any, Any, _T]]) -> list[_T]:
    """
    Run each of *mains* on an event loop of its own in a thread of its own, all at once; return their results.

    What the first to fail raises is raised, when all have ended: the others may have waited in vain because of it.
    """

    async def limited(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        async with asyncio.timeout(LONGEST):
            return await main()

    with ThreadPoolExecutor(len(mains)) as pool:
        running = [pool.submit(asyncio.run, limited(main)) for main in mains]
        for ended in as_completed(running):
            ended.result()
        return [ended.result() for ended in running]
