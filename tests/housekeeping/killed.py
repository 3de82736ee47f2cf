"""A program that keeps house and kills itself right after the given number of puts into the archive."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from durable.housekeeping import Retention, keep_house
from durable.housekeeping.objects import Folder
from tests.housekeeping.stores import LONG_AGO, NOW


def main(store: str, archive: str, puts: str) -> None:
    put, left = Folder.put, [int(puts)]

    async def put_and_count(self: Folder, path: str, content: bytes) -> None:
        await put(self, path, content)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    Folder.put = put_and_count  # type: ignore[method-assign]
    asyncio.run(keep_house(store, Retention(LONG_AGO, archive, batch=4), now=NOW))


if __name__ == "__main__":
    main(*sys.argv[1:])
