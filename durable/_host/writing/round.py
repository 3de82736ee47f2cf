"""
One batch while it collects, and whom to tell when it is durable, or that it never will be.

Belongs here: what a batch means to the processes and callers of this host. When it is committed, and again if the store
fails, is the writer's business.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Protocol

from durable.errors import DurableError
from durable.journal import Record
from durable.storage import Batch, BatchResult, Creation, Delivery, Mail, ProcessRow


class Fed(Protocol):
    """Whoever gets a record once it is durable."""

    key: int

    def feed(self, record: Record) -> object: ...
    def refused(self, error: DurableError) -> object: ...


Created = Callable[[ProcessRow | None, BaseException | None], object]
Settled = Callable[[bool], object]
Refused = Callable[[DurableError], object]


class ChildStart(NamedTuple):
    """
    A child that is created with the record of it, which is number ``seq`` of its ``parent``.

    ``created`` hears that it was, ``dropped`` that it will not be; ``refused`` gives the record there is to be in place
    of the one of the child if its id is taken.
    """

    creation: Creation
    parent: int
    seq: int
    created: Callable[[], object]
    dropped: Callable[[], object]
    refused: Callable[[], Record]


class Round:
    """A batch and its listeners: `Writer` puts in what is to be written, and who wants to know, side by side."""

    __slots__ = ("_told", "batch", "children", "created", "fed", "posted", "sent", "settled", "takers", "waiting")

    def __init__(self, session: int | None) -> None:
        self.batch = Batch(session)
        self.created: list[tuple[Creation, Created]] = []
        self.children: list[ChildStart] = []
        self.fed: list[tuple[Fed, Record]] = []
        self.settled: list[tuple[int, Settled, Refused]] = []
        self.sent: list[tuple[Mail, asyncio.Future[Delivery]]] = []
        self.posted: list[tuple[Mail, Callable[[], object]]] = []  # by processes; in the batch behind what was sent
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []  # by process key
        self.takers: list[int] = []  # process keys, one per inbox item taken
        self._told = 0  # of those that were created

    def is_empty(self) -> bool:
        """Whether there is nothing to write and nobody to tell."""
        batch = self.batch
        return not (
            self.fed
            or self.created
            or self.sent
            or self.posted
            or self.settled
            or self.waiting
            or batch.taken
            or batch.progress
        )

    def complete(self, number: int) -> Batch:
        """The batch as it is committed: its *number*, and its mails in their order."""
        self.batch.number = number
        if self.sent or self.posted:
            self.batch.mails = [mail for mail, _ in (*self.sent, *self.posted)]
        return self.batch

    def deliver(self, result: BatchResult) -> Iterator[None]:
        """Tell everybody, one at a time; the batch is durable, and *result* is what the store answered."""
        interrupted: BaseException | None = None  # raised by one process, and no reason to forget the others
        while self._told < len(self.created):
            try:
                self._tell_created(result)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for child in self.children:
            try:
                child.created()
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for resident, record in self.fed:
            try:
                resident.feed(record)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for key, settled, _ in self.settled:
            try:
                settled(key in result.held)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                interrupted = interrupt
            yield
        for _, posted in self.posted:
            posted()
        self.answer(result)
        if interrupted is not None:
            raise interrupted

    def answer(self, result: BatchResult) -> None:
        """Tell those who called, and no process; who was told already hears nothing again."""
        while self._told < len(self.created):
            self._tell_created(result)
        for (_, future), delivery in zip(self.sent, result.deliveries, strict=False):
            if not future.done():
                future.set_result(delivery)
        self.written()

    def _tell_created(self, result: BatchResult) -> None:
        creation, created = self.created[self._told]
        self._told += 1
        row = result.taken_ids.get(creation.id)
        # Of several with one id in one batch the first was created, and its row is what the others hear of.
        created(None if row is None or row.key == creation.key else row, None)

    def written(self) -> None:
        """Tell who waits only for that."""
        for _, waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)

    def fail_callers(self, error: BaseException) -> None:
        """Who started or sent something gets the error at that line; what processes need stays for the next try."""
        for _, created in self.created[self._told :]:
            created(None, error)
        for _, future in self.sent:
            if not future.done():
                future.set_exception(error)
        self.created, self.sent = [], []
        self.batch.creations = []

    def refuse_children(self, taken: Collection[str]) -> None:
        """
        Some ids of children are taken: their parents get the record of that in place of the one of the child.

        Of several children with one id the first stays: perhaps it is only the others that are in its way. If not, it
        is refused the next time.
        """
        several = Counter(child.creation.id for child in self.children)
        first = {child.creation.id: child for child in reversed(self.children)}
        refused = {
            (child.parent, child.seq): child
            for child in self.children
            if (id := child.creation.id) in taken and (several[id] == 1 or child is not first[id])
        }
        self._drop_children(lambda child: (child.parent, child.seq) in refused)
        batch = self.batch
        for position, (key, record) in enumerate(batch.records):
            if (child := refused.get((key, record.seq))) is not None:
                instead = child.refused()
                batch.records[position] = (key, instead)
                self.fed[position] = (self.fed[position][0], instead)

    def withdraw(self, key: int, error: BaseException) -> None:
        """Because of *error*, write none of the records of process *key*, and take nothing from its inbox."""
        batch = self.batch
        batch.records = [entry for entry in batch.records if entry[0] != key]
        self.fed = [entry for entry in self.fed if entry[0].key != key]
        taken = [pair for pair in zip(self.takers, batch.taken, strict=True) if pair[0] != key]
        self._drop_children(lambda child: child.parent == key)
        self.takers, batch.taken = [taker for taker, _ in taken], [number for _, number in taken]
        self._fail_waiting(lambda other: other == key, error)

    def fail(self, error: BaseException) -> None:
        """Nothing of this round will ever be written."""
        self.fail_callers(error)
        self._drop_children(lambda child: True)
        self._fail_waiting(lambda _: True, error)

    def _fail_waiting(self, whose: Callable[[int], bool], error: BaseException) -> None:
        for key, waiting in self.waiting:
            if whose(key) and not waiting.done():
                waiting.set_exception(error)

    def _drop_children(self, unwanted: Callable[[ChildStart], bool]) -> None:
        kept = []
        for child in self.children:
            if unwanted(child):
                child.dropped()
            else:
                kept.append(child)
        self.children, self.batch.children = kept, [child.creation for child in kept]

    def split(self) -> list[Round]:
        """
        A round for each process with records, and one for the rest; those that are not empty.

        Where there is nothing but the rest: one for each start, mail and progress.
        """
        parts: dict[int, Round] = {}

        def part(key: int) -> Round:
            return parts.setdefault(key, Round(self.batch.session))

        whole = self.batch
        for (key, record), (resident, _) in zip(whole.records, self.fed, strict=True):
            part(key).batch.records.append((key, record))
            part(key).fed.append((resident, record))
        for key, number in zip(self.takers, whole.taken, strict=True):
            part(key).batch.taken.append(number)
            part(key).takers.append(key)
        for child in self.children:
            part(child.parent).batch.children.append(child.creation)
            part(child.parent).children.append(child)
        settled = {one[0]: one for one in self.settled}
        for name in ("restarts", "parks", "stalls", "ends"):
            for change in getattr(whole, name):
                getattr(part(change.key).batch, name).append(change)
                part(change.key).settled.append(settled[change.key])
        for notice in whole.notices:
            part(notice.key).batch.notices.append(notice)
        for key, waiting in self.waiting:
            part(key).waiting.append((key, waiting))
        if not parts:
            return self._split_rest()
        rest = Round(whole.session)
        rest.batch.creations, rest.created = whole.creations, self.created
        rest.sent, rest.posted = self.sent, self.posted
        rest.batch.progress = whole.progress
        return [round for round in (*parts.values(), rest) if not round.is_empty()]

    def _split_rest(self) -> list[Round]:
        session = self.batch.session
        rounds: list[Round] = []
        for creation, created in self.created:
            rounds.append(Round(session))
            rounds[-1].batch.creations, rounds[-1].created = [creation], [(creation, created)]
        for sent in self.sent:
            rounds.append(Round(session))
            rounds[-1].sent = [sent]
        for posted in self.posted:
            rounds.append(Round(session))
            rounds[-1].posted = [posted]
        for key, progress in self.batch.progress.items():
            rounds.append(Round(session))
            rounds[-1].batch.progress = {key: progress}
        return rounds
