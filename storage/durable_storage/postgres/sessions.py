"""
Beginning, renewing, ending and burying sessions.

A session lives while its row says so, and leases run on the clock of the database: no host's clock is ever compared
with another's. Each is one statement, which commits by itself: death is committed before anybody frees what the dead
own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from durable.errors import StorageError
from durable_storage.postgres import statements as sql
from durable_storage.postgres.building import Statements
from durable_storage.postgres.channel import Channel
from durable_storage.schema import ALIVE, ENDED_CLEANLY

_KEEP = 1000  # rows of sessions before the newest; `last_batch` of an older one is not known any more


class Standing(NamedTuple):
    """What the row of a session says."""

    is_alive: bool
    last_batch: int
    answer: str | None


class Sessions:
    """
    The sessions of a store, over *channel*.

    Args:
        clock: Seconds on the clock of leases, given by a test; None: the clock of the database.
    """

    def __init__(self, channel: Channel, statements: Statements, clock: Callable[[], float] | None) -> None:
        self._channel = channel
        self._statements = statements
        self._clock = clock

    async def begin(self, host: str, lease: float) -> int:
        """Add a living session, forget the rows of very old ones."""
        rows = await self._run(sql.BEGIN_SESSION, host=host, lease=_microseconds(lease), clock=self._now())
        session: int = rows[0][0]
        await self._run(sql.FORGET_SESSIONS, before=session - _KEEP)
        return session

    async def renew(self, session: int, lease: float) -> bool:
        """Prolong the lease of *session*, if it lives."""
        return bool(await self._run(sql.RENEW, session=session, lease=_microseconds(lease), clock=self._now()))

    async def end(self, session: int) -> None:
        """Mark *session* as ended, unless it is dead already."""
        await self._run(sql.END_SESSION, session=session, new_state=ENDED_CLEANLY)

    async def bury(self) -> int:
        """Mark dead the sessions whose lease has run out; return how many."""
        return len(await self._run(sql.BURY, clock=self._now()))

    async def standing(self, session: int) -> Standing:
        """
        What the row of *session* says; a batch that is being applied at this moment is waited for.

        Raises:
            StorageError: The store does not know it.
        """
        rows = await self._run(sql.STANDING, session=session)
        if not rows:
            raise StorageError(f"No session {session} is known to this store")
        state, last_batch, answer = rows[0]
        return Standing(state == ALIVE, last_batch, answer)

    async def _run(self, statement: Any, **given: Any) -> Any:
        found = self._statements[statement]
        return await self._channel.fetch(found.text, *found.values(**given))

    def _now(self) -> int | None:
        return None if self._clock is None else _microseconds(self._clock())


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
