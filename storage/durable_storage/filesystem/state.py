"""
What a store knows of all its processes, in memory, and the indexes for what is asked again and again.

Nothing here reads or writes a file. The state is built at opening from the journal files (or the index of them) and
the commit log, and changed by `install`, with what a transaction has changed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from durable.storage import ProcessRow, Status
from durable_storage.filesystem.entry import Chunk, Entry
from durable_storage.filesystem.packing import Entries
from durable_storage.filesystem.sessions import Sessions


class Purged(NamedTuple):
    """A process whose file has to go; the commit log says so in *segment*."""

    segment: int
    key: int
    born: int
    id: str


class State:
    """Every process by key; who owns what, what is due, who has ended; the sessions."""

    def __init__(self) -> None:
        self.entries = Entries()
        self.keys: dict[str, int] = {}
        self.items: dict[int, int] = {}  # inbox item -> key
        self.sessions = Sessions()
        self.stamp = 0
        self.dirty: set[int] = set()  # keys of entries with pending lines
        self.purged: list[Purged] = []
        self.unreadable: dict[str, str] = {}  # name of a journal file nobody can tell the process of -> why
        self.refused: set[str] = set()  # names of those the system refuses to open or read
        self.is_missing = False  # the log has lines that perhaps belong into one of these
        self._counts: Counter[tuple[Status, str]] = Counter()
        self._due: dict[str, list[tuple[int, int]]] = {}  # queue -> heap of (wake_at, key), with outdated ones
        self._owned: dict[int, set[int]] = {}  # session -> keys
        self._flagged: dict[int, set[int]] = {}  # session -> keys it owns with a wake_at
        self._stalled: set[int] = set()
        self._ended: list[tuple[int, int]] = []  # (ended_at, key), sorted
        self._sorted: list[int] = []  # keys but for the new ones
        self._new_keys: list[int] = []

    # --- changing

    def install(self, entry: Entry) -> None:
        """Put *entry* in the place of what had its key, if anything."""
        old = self.entries.get(entry.key)
        self.entries[entry.key] = entry
        if old is None:
            self.keys[entry.id] = entry.key
            self._new_keys.append(entry.key)
        else:
            kind = old.definition == entry.definition and old.queue == entry.queue
            unchanged = (
                kind and old.status is entry.status and old.owner == entry.owner and old.wake_at == entry.wake_at
            )
            if old.inbox is not entry.inbox:
                self._forget_items(old)
                self._note_items(entry)
            if unchanged and old.damage is entry.damage:
                return
            self._leave(old)
        if old is None:
            self._note_items(entry)
        self._enter(entry)

    def remove(self, entry: Entry) -> None:
        """Forget a process."""
        del self.entries[entry.key]
        if self.keys.get(entry.id) == entry.key:
            del self.keys[entry.id]
        self.dirty.discard(entry.key)
        self._forget_items(entry)
        self._leave(entry)
        keys = self._all_keys()
        del keys[bisect_left(keys, entry.key)]

    def add_pending(self, entry: Entry, chunk: Chunk) -> None:
        """Note lines that the commit log has and the file does not."""
        entry.pending = (*entry.pending, chunk)
        self.dirty.add(entry.key)

    def flushed(self, segment: int) -> None:
        """Forget what the log had up to *segment*: it stands in the files now."""
        for key in list(self.dirty):
            entry = self.entries[key]
            entry.pending = tuple(chunk for chunk in entry.pending if chunk.segment > segment)
            if not entry.pending:
                self.dirty.discard(key)
                self.entries.put_to_rest(key)
        self.purged = [purged for purged in self.purged if purged.segment > segment]

    def _note_items(self, entry: Entry) -> None:
        for number in entry.inbox:
            self.items[number] = entry.key

    def _forget_items(self, entry: Entry) -> None:
        for number in entry.inbox:
            del self.items[number]

    def _enter(self, entry: Entry) -> None:
        """Put an entry into the indexes."""
        key, status, owner, wake_at = entry.key, entry.status, entry.owner, entry.wake_at
        if entry.damage is not None:
            self._counts[Status.STALLED, entry.definition] += 1
            return
        self._counts[status, entry.definition] += 1
        if owner is not None:
            self._owned.setdefault(owner, set()).add(key)
            if wake_at is not None:
                self._flagged.setdefault(owner, set()).add(key)
        elif status is Status.STALLED:
            self._stalled.add(key)
        elif entry.ended_at is not None:
            if self._ended and self._ended[-1] > (entry.ended_at, key):
                insort(self._ended, (entry.ended_at, key))
            else:
                self._ended.append((entry.ended_at, key))
        elif wake_at is not None:
            self._note_due(entry.queue, wake_at, key)

    def _leave(self, entry: Entry) -> None:
        """Take an entry out of the indexes; of the heaps it is dropped when it comes to their top."""
        status = Status.STALLED if entry.damage is not None else entry.status
        self._counts[status, entry.definition] -= 1
        if entry.damage is not None:
            return
        if entry.owner is not None:
            owned = self._owned[entry.owner]
            owned.discard(entry.key)
            if not owned:
                del self._owned[entry.owner]
            if entry.wake_at is not None:
                flagged = self._flagged[entry.owner]
                flagged.discard(entry.key)
                if not flagged:
                    del self._flagged[entry.owner]
        elif status is Status.STALLED:
            self._stalled.discard(entry.key)
        elif entry.ended_at is not None:
            del self._ended[bisect_left(self._ended, (entry.ended_at, entry.key))]

    def _note_due(self, queue: str, wake_at: int, key: int) -> None:
        heap = self._due.setdefault(queue, [])
        heappush(heap, (wake_at, key))
        if len(heap) > 2 * len(self.entries) + 1000:
            heap[:] = {(at, other) for at, other in heap if self._is_due(queue, at, other)}
            heapify(heap)

    def _is_due(self, queue: str, wake_at: int, key: int) -> bool:
        if key not in self.entries:
            return False
        entry = self.entries.peek(key)
        return entry.queue == queue and entry.is_due(wake_at)

    # --- asking

    def owned(self, session: int) -> Collection[int]:
        """Keys of the processes *session* owns."""
        return self._owned.get(session, ())

    def flagged(self, session: int) -> list[Entry]:
        """Processes of *session* that mail has flagged."""
        return [self.entries[key] for key in self._flagged.get(session, ())]

    def stalled(self, queues: Collection[str]) -> list[Entry]:
        """Stalled processes of *queues*."""
        return [entry for entry in map(self.entries.__getitem__, self._stalled) if entry.queue in queues]

    def wanted(self, queues: Collection[str], limit: int, now: int) -> list[Entry]:
        """What is due or orphaned, by ``wake_at`` (none comes first) and key, at most *limit*."""
        found = [(entry.wake_at or 0, entry.key) for entry in self._orphans() if entry.queue in queues]
        for queue in set(queues):
            found += self._first_due(queue, limit, now)
        return [self.entries[key] for _, key in sorted(found)[:limit]]

    def next_wake(self, queues: Collection[str]) -> int | None:
        """When `wanted` has something: 0 if a process is orphaned."""
        if any(entry.queue in queues for entry in self._orphans()):
            return 0
        tops = [top[0][0] for queue in queues if (top := self._first_due(queue, 1))]
        return min(tops, default=None)

    def _orphans(self) -> Iterator[Entry]:
        """Processes whose session is dead, has ended, or is not known here."""
        for session, keys in self._owned.items():
            if not self.sessions.is_alive(session):
                yield from map(self.entries.__getitem__, keys)

    def _first_due(self, queue: str, limit: int, now: int | None = None) -> list[tuple[int, int]]:
        heap = self._due.get(queue, [])
        found: list[tuple[int, int]] = []
        while heap and len(found) < limit and (now is None or heap[0][0] <= now):
            top = heappop(heap)
            if self._is_due(queue, *top) and (not found or found[-1] != top):
                found.append(top)
        for top in found:
            heappush(heap, top)
        return found

    def ended(self, before: int, limit: int) -> list[ProcessRow]:
        """Up to *limit* rows of what ended before that time, the first to end first."""
        some = self._ended[: min(limit, bisect_left(self._ended, (before,)))]
        return [self.entries.peek(key).row() for _, key in some]

    # --- listings

    def rows_by_id(self, ids: Collection[str]) -> list[ProcessRow]:
        """The rows of those of *ids* that are known."""
        return [self.entries.peek(self.keys[id]).row() for id in set(ids) if id in self.keys]

    def rows(
        self, status: Collection[Status] | None, definition: str | None, limit: int, before: int | None
    ) -> list[ProcessRow]:
        """A page of a listing, newest key first."""
        found: list[ProcessRow] = []
        for entry in self._newest_first(before):
            if len(found) >= limit:
                break
            shown = Status.STALLED if entry.damage is not None else entry.status
            if (status is None or shown in status) and (definition is None or entry.definition == definition):
                found.append(entry.row())
        return found

    def count(self, status: Collection[Status] | None, definition: str | None) -> int:
        """How many processes there are."""
        return sum(
            number
            for (of_status, of_definition), number in self._counts.items()
            if (status is None or of_status in status) and (definition is None or of_definition == definition)
        )

    def _newest_first(self, before: int | None) -> Iterator[Entry]:
        keys = self._all_keys()
        end = len(keys) if before is None else bisect_left(keys, before)
        for position in range(end - 1, -1, -1):
            yield self.entries.peek(keys[position])

    def _all_keys(self) -> list[int]:
        if self._new_keys:
            self._sorted += self._new_keys
            self._new_keys.clear()
            self._sorted.sort()
        return self._sorted

    # --- as the index has it

    def to_columns(self) -> dict[str, Any]:
        """All of it, for a state in which nothing is pending or damaged; `from_columns` makes it again."""
        return {
            "stamp": self.stamp,
            "keys": list(self.keys.values()),
            "ids": list(self.keys),
            "entries": [self.entries.peek_packed(key) for key in self.keys.values()],
            "items": list(self.items.items()),
            "counts": [(str(status), definition, number) for (status, definition), number in self._counts.items()],
            "due": [(queue, sorted(heap)) for queue, heap in self._due.items()],
            "owned": [(session, list(keys)) for session, keys in self._owned.items()],
            "flagged": [(session, list(keys)) for session, keys in self._flagged.items()],
            "stalled": list(self._stalled),
            "ended": self._ended,
        }

    @staticmethod
    def from_columns(columns: dict[str, Any]) -> State:
        """The state that `to_columns` told of; it costs little for each process, because nothing is done with any."""
        state = State()
        keys = columns["keys"]
        state.stamp = columns["stamp"]
        state.keys = dict(zip(columns["ids"], keys, strict=True))
        state.entries = Entries(zip(keys, columns["entries"], strict=True))
        state.items = dict(columns["items"])
        state._counts.update({(Status(status), name): number for status, name, number in columns["counts"]})
        state._due = {queue: list(heap) for queue, heap in columns["due"]}
        state._owned = {session: set(owned) for session, owned in columns["owned"]}
        state._flagged = {session: set(flagged) for session, flagged in columns["flagged"]}
        state._stalled = set(columns["stalled"])
        state._ended = list(columns["ended"])
        state._new_keys = list(keys)
        return state
