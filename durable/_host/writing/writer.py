"""
The one way of a host or client into its store: whatever is to be written is put into the batch that collects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from durable._host.writing.committing import Committing
from durable._host.writing.round import ChildStart, Created, Fed, Refused, Settled
from durable.journal import Record
from durable.storage import Creation, Delivery, End, Mail, Notice, Park, Restart, Stall


class Writer(Committing):
    """
    What can be written, and who hears when it is.

    Args:
        session: The fence of every batch; None for a client.
        lost: Called once when the session cannot go on: it is dead, or what the store answered is not known.
        observer: Hears of every batch; must not raise.
    """

    # --- processes and their records ---

    def create(self, creation: Creation, created: Created) -> None:
        """Create a process; *created* hears None when it is new, the row that has its id, or the error."""
        if self._closed is not None:
            created(None, self._closed)
            return
        self._round.batch.creations.append(creation)
        self._round.created.append((creation, created))
        self._want()

    def append(self, resident: Fed, record: Record) -> None:
        """Append *record* and feed it to *resident* once it is durable."""
        round = self._round
        round.batch.records.append((resident.key, record))
        round.fed.append((resident, record))
        if self._scheduled is None:
            self._want()

    def start_child(self, resident: Fed, record: Record, child: ChildStart) -> None:
        """Create a *child* of *resident*, and append *record*, which says so, in the same batch."""
        self._round.batch.children.append(child.creation)
        self._round.children.append(child)
        self.append(resident, record)

    def take(self, key: int, number: int) -> None:
        """Delete an inbox item of process *key*, together with the record it became."""
        self._round.batch.taken.append(number)
        self._round.takers.append(key)
        self._want()

    def settle(
        self, change: Restart | Park | Stall | End, settled: Settled, refused: Refused, notices: Iterable[Mail] = ()
    ) -> None:
        """
        Restart, park, stall or end a process.

        *settled* hears whether mail kept it from happening, *refused* of an error. *notices* are sent if an end holds.
        """
        batch = self._round.batch
        match change:
            case Restart():
                batch.restarts.append(change)
            case Park():
                batch.parks.append(change)
            case Stall():
                batch.stalls.append(change)
            case End():
                batch.ends.append(change)
                batch.notices += [Notice(change.key, mail) for mail in notices]
        self._round.settled.append((change.key, settled, refused))
        self._want()

    # --- mail, and what is only shown ---

    def send(self, mail: Mail) -> asyncio.Future[Delivery]:
        """Put *mail* into the inbox of its process; durable when the future is done."""
        future: asyncio.Future[Delivery] = self._loop.create_future()
        if self._closed is not None:
            future.set_exception(self._closed)
            return future
        self._round.sent.append((mail, future))
        self._want()
        return future

    def post(self, mail: Mail, posted: Callable[[], object]) -> None:
        """As `send`, for a process: tried until it is durable; whether anybody was there to get it is not told."""
        self._round.posted.append((mail, posted))
        self._want()

    def show(self, key: int, progress: bytes) -> None:
        """Write the last progress of a process with the next batch."""
        self._round.batch.progress[key] = progress
        self._want()

    def written(self, key: int) -> asyncio.Future[None]:
        """Done when all records of process *key* until now are durable, or with the error that keeps them from it."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._closed is not None:
            future.set_exception(self._closed)
            return future
        self._round.waiting.append((key, future))
        self._want()
        return future
