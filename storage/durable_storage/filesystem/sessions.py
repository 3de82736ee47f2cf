"""
Sessions as everybody who reads the commit log knows them, and the files by which one shows that it lives.

A session is alive while the log says so. Two signs let others declare it dead: its lease has run out on the clock of
this boot, or the lock on its file can be taken, which means that its OS process is gone. The file names its holder.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from durable.errors import SessionLost

ALIVE, DEAD, ENDED_CLEANLY = "alive", "dead", "ended"

# Sessions that died long ago answer `last_batch` for a while, then go.
_KEEP = 1000


@dataclass(slots=True)
class Session:
    """One life of one host. Times of the lease are microseconds on the clock of the boot it names."""

    number: int
    host: str
    holder: str
    lease_until: int
    boot: str
    state: str = ALIVE
    last_batch: int = 0


class Sessions:
    """All sessions the store remembers."""

    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}

    def get(self, number: int) -> Session | None:
        """The session of that number, if it is remembered."""
        return self._sessions.get(number)

    def is_alive(self, number: int | None) -> bool:
        """Whether session *number* may write."""
        session = self._sessions.get(number or 0)
        return session is not None and session.state == ALIVE

    def fence(self, number: int) -> Session:
        """
        Return the living session *number*.

        Raises:
            SessionLost: It is not alive.
        """
        if not self.is_alive(number):
            raise SessionLost(f"Session {number} was declared dead or has ended; it writes nothing any more")
        return self._sessions[number]

    def living(self) -> list[Session]:
        """The sessions that are alive."""
        return [session for session in self._sessions.values() if session.state == ALIVE]

    # --- as the log has them

    def to_log(self) -> list[dict[str, Any]]:
        """All of them, for the head of a segment."""
        return [asdict(session) for session in self._sessions.values()]

    def change(self, changes: Iterable[dict[str, Any]]) -> None:
        """Take over what the log says: whole sessions, or single facts of known ones."""
        for change in changes:
            known = self._sessions.get(change["number"])
            if known is None:
                self._sessions[change["number"]] = Session(**change)
                continue
            for name, value in change.items():
                setattr(known, name, value)
        for number in list(self._sessions)[: max(0, len(self._sessions) - _KEEP)]:
            if self._sessions[number].state != ALIVE:
                del self._sessions[number]


def this_holder() -> str:
    """Who this OS process is, for people: machine, process id, and since when it holds what it holds."""
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return f"{socket.gethostname()} pid {os.getpid()} since {since}"
