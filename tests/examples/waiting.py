"""Waiting, in tests, for what a host does in its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from durable import Handle


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once *condition* holds; fail after ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.002)


async def parked(handle: Handle[object]) -> None:
    """Return once the process is in nobody's memory."""

    async def is_parked() -> bool:
        return not (await handle.status()).resident

    await until(is_parked)
