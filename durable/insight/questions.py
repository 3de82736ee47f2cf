"""
`Insight`: what there is, how one process stands, what its journal holds; asked of an open store, never writing to it.

A listing costs two queries whatever the number of processes. One process costs three (row, journal, inbox).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from durable import times
from durable.codec import Codec, MessagePackCodec, Reader, items_of, reader_for
from durable.errors import ProcessNotFound
from durable.handle import Progress
from durable.insight.checkpoints import Story, tell
from durable.insight.views import MailView, Page, Place, ProcessSummary, ProcessView, RecordView, Wait
from durable.insight.waiting import waiting_for
from durable.journal import ID_LIMIT, Record, check_name
from durable.storage import ENDED, InboxItem, JournalStorage, ProcessRow, Status

Replay = Callable[[ProcessRow, Sequence[Record]], "Awaitable[Sequence[Wait] | None]"]


class Insight:
    """
    Questions about the processes of a store.

    Args:
        storage: An open store; it stays the caller's to close.
        codec: The codec its journals were written with. No class of theirs has to be loaded.
        now: Microseconds since 1970 UTC; another clock only in tests.
    """

    def __init__(
        self, storage: JournalStorage, codec: Codec | None = None, *, now: Callable[[], int] = times.now
    ) -> None:
        self._storage = storage
        self._read: Reader = reader_for(MessagePackCodec() if codec is None else codec)
        self._now = now

    async def processes(
        self,
        *,
        status: Collection[Status] | None = None,
        definition: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Page:
        """
        A page of the listing, newest first.

        Args:
            status: Only those with one of these; None: all.
            definition: Only those of this definition.
            limit: At most so many.
            before: Id of the last process of the page before.

        Raises:
            ProcessNotFound: There is no process *before*.
        """
        last = None if before is None else (await self.row(before)).key
        rows = await self._storage.rows(status=status, definition=definition, limit=limit, before=last)
        total = await self._storage.count(status=status, definition=definition)
        return Page(tuple(map(self._summary, rows)), total)

    async def process(self, id: str, replay: Replay | None = None) -> ProcessView:
        """
        One process with all that its journal and inbox tell.

        Args:
            replay: Tells what it waits for, from its row and journal, or None if it cannot; see `durable.checking`.

        Raises:
            ProcessNotFound: There is no process with this id.
        """
        row = await self.row(id)
        records = await self._storage.journal(row.key)
        inbox = await self._storage.inbox(row.key)
        story = tell(records, self._read)
        waits = None if replay is None or row.status in ENDED else await replay(row, records)
        return self._view(row, len(records), story, inbox, waits)

    async def history(self, id: str) -> tuple[RecordView, ...]:
        """The records of one process, oldest first. Raises `ProcessNotFound`."""
        row = await self.row(id)
        return tuple(
            RecordView(record.seq, record.kind.name, record.name, times.moment(record.time), self._read(record.payload))
            for record in await self._storage.journal(row.key)
        )

    async def row(self, id: str) -> ProcessRow:
        """The row of one process. Raises `ProcessNotFound`."""
        row = await self._storage.row(check_name(id, "process id", ID_LIMIT))
        if row is None:
            raise ProcessNotFound(f"There is no process {id!r} in this store")
        return row

    async def change(self, timeout: float) -> None:
        """Return when something may have changed, or after *timeout* seconds."""
        await self._storage.wait_for_change(timeout)

    # --- from rows to views

    def _view(
        self,
        row: ProcessRow,
        records: int,
        story: Story,
        inbox: Sequence[InboxItem],
        waits: Sequence[Wait] | None,
    ) -> ProcessView:
        summary = self._summary(row)
        return ProcessView(
            summary=summary,
            waiting=waiting_for(summary, story, times.moment(self._now()), waits),
            records=records,
            arguments=story.arguments,
            keywords=story.keywords,
            deadline=None if story.deadline is None else times.moment(story.deadline),
            cancel_requested=story.cancel_requested,
            result=story.result,
            error=story.error,
            notes=story.notes,
            checkpoints=tuple(story.checkpoints),
            events=tuple(story.events),
            inbox=tuple(map(self._mail, inbox)),
        )

    def _summary(self, row: ProcessRow) -> ProcessSummary:
        return ProcessSummary(
            id=row.id,
            definition=row.definition,
            queue=row.queue,
            status=row.status,
            place=self._place(row),
            session=row.owner,
            created_at=times.moment(row.created_at),
            ended_at=None if row.ended_at is None else times.moment(row.ended_at),
            # On one that is held it is no time: mail sets it, so that the owner comes and looks.
            wake_at=None if row.wake_at is None or row.owner is not None else times.moment(row.wake_at),
            reason=row.reason,
            progress=self._progress(row.progress),
        )

    def _place(self, row: ProcessRow) -> Place:
        if row.status in ENDED:
            return Place.ENDED
        if row.status is Status.STALLED:
            return Place.STALLED
        if row.owner is not None:
            return Place.HELD
        due = row.wake_at is not None and row.wake_at <= self._now()
        return Place.CLAIMABLE if due else Place.PARKED

    def _progress(self, report: bytes | None) -> Progress | None:
        if report is None:
            return None
        form = self._read(report)
        done, total, message = items_of(form, 3)
        if done is None:
            return None
        (*_, steps) = items_of(form, 4)  # there only while actions report something
        said = {name: items_of(step, 3) for name, step in (steps or {}).items()}
        return Progress(done, total, message, {name: Progress(*step) for name, step in said.items()})

    def _mail(self, item: InboxItem) -> MailView:
        value = self._read(item.payload)
        pair = value.get("$tuple") if isinstance(value, dict) and item.name else None
        content = pair[0] if isinstance(pair, list) and len(pair) == 2 else value
        return MailView(item.number, item.kind.name, item.name, item.event_key, times.moment(item.time), content)
