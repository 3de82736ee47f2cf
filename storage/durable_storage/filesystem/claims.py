"""
Taking processes over, finding out what wants to run, and deleting what has ended, as changes.

Claims and looks into the inbox are not synced by themselves: they mean something only while their session lives, and
no session survives what loses them. They stand in the log before whatever the session writes next.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from durable.errors import CorruptJournal
from durable.storage import Claim, InboxItem
from durable_storage.checks import stall_reason
from durable_storage.filesystem.journals import Journals
from durable_storage.filesystem.state import State
from durable_storage.filesystem.transaction import Changes

_logger = logging.getLogger("durable_storage.filesystem")


def claim(
    changes: Changes, journals: Journals, session: int, queues: Collection[str], limit: int, now: int
) -> list[Claim]:
    """Give what is due or orphaned to *session*; one whose file turns out to be damaged stays where it is."""
    state = changes.state
    state.sessions.fence(session)
    claims: list[Claim] = []
    for entry in state.wanted(queues, limit, now):
        try:
            records, inbox = journals.read(entry)
        except CorruptJournal as error:
            mark_damaged(state, entry.key, error)
            continue
        claims.append(Claim(changes.claim(entry.key, session).row(), records, inbox))
    return claims


def mark_damaged(state: State, key: int, error: CorruptJournal) -> None:
    """Leave a process alone from now on; its row says why."""
    _logger.error("%s", error)
    damaged = state.entries[key].clone()
    damaged.damage = stall_reason(error)
    state.install(damaged)


def collect(changes: Changes, journals: Journals, session: int) -> list[InboxItem]:
    """Inbox items of the flagged processes of *session*, whose flags are cleared; as in `claim` for damaged files."""
    state = changes.state
    items: list[InboxItem] = []
    for entry in state.flagged(session):
        try:
            items += journals.inbox(entry)
        except CorruptJournal as error:
            mark_damaged(state, entry.key, error)
            continue
        changes.look(entry.key)
    return sorted(items)


def resume_stalled(changes: Changes, queues: Collection[str], now: int) -> int:
    """Make stalled processes of *queues* due at *now*; return how many."""
    stalled = changes.state.stalled(queues)
    for entry in stalled:
        changes.resume(entry.key, now)
    return len(stalled)


def purge(changes: Changes, keys: Collection[int]) -> int:
    """Delete those of *keys* that have ended; return how many."""
    entries = changes.state.entries
    ended = [key for key in set(keys) if key in entries and entries[key].has_ended]
    for key in ended:
        changes.purge(key)
    return len(ended)
