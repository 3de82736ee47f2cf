"""
The children of a process in memory, and what its end means to others: its parent hears of it, a child may be cancelled.

That a child was created and that its parent knows are one batch. So are the end of a child and the mail that tells its
parent, which reaches it wherever it is by then: here, on another host, or parked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context

from durable._host.residents.acting import Acting
from durable._host.writing.round import ChildStart
from durable._kernel.commands import CancelChild, StartChild
from durable._kernel.outcomes import content_of
from durable._kernel.started import Lineage
from durable.codec import Codec, describe_error, items_of, reader_for
from durable.errors import ProcessExists
from durable.journal import Kind, Record
from durable.storage import Mail, MailKind


class Parenting(Acting):
    """Starts children and cancels them; `Leaving` builds on it."""

    __slots__ = ()

    # --- commands ---

    def _start_child(self, command: StartChild) -> None:
        engine = self.engine
        try:
            engine.payloads.check(command.payload, f"The arguments of process {command.id!r}")
        except Exception as error:
            self.append(Kind.FAILED, command.name, engine.payloads.encode_error(error))
            return
        creation = engine.create_child(command)
        self._seq += 1
        self._time = self._now()
        self.pending += 1
        record = Record(self._seq, Kind.CHILD, command.name, command.child, self._time)
        creation = creation._replace(record=creation.record._replace(time=self._time))  # one moment in both journals

        def created() -> None:
            engine.child_created(creation)
            if engine.observer is not None:
                # The context of this call is that of whatever happened to come into the batch first.
                Context().run(engine.observer.child_started, self, record, creation)

        def refused() -> Record:
            error = ProcessExists(
                f"Process {self.id!r} cannot start {command.id!r}: there is a process of that id already",
                fix="give the child another id, or none",
            )
            return record._replace(kind=Kind.FAILED, payload=engine.payloads.encode_error(error))

        child = ChildStart(creation, self.key, self._seq, created, lambda: engine.child_dropped(creation), refused)
        engine.writer.start_child(self, record, child)

    def _cancel_child(self, command: CancelChild) -> None:
        engine = self.engine
        payload = engine.codec.encode(command.reason)
        mail = Mail(command.id, MailKind.CANCEL, "", None, payload, engine.clock.now())
        engine.writer.post(mail, engine.wanted)

    # --- its end ---

    def _mails_of_end(self, kind: Kind, payload: bytes, time: int) -> list[Mail]:
        """What others hear of its end; *payload* is that of its last record."""
        execution = self.execution
        if execution.kin is None:
            return []
        left = [child.id for child in execution.children_left()]
        return mails_of_end(self.engine.codec, self.id, execution.kin.lineage, kind, payload, left, time)


def attached_children(codec: Codec, records: Iterable[Record]) -> list[str]:
    """Ids of the attached children that have not ended, as the journal of their parent says."""
    children: dict[str, None] = {}
    read = reader_for(codec)
    for record in records:
        if record.kind is Kind.CHILD:
            id, detached = codec.decode(record.payload)
            if not detached:
                children[id] = None
        elif record.kind is Kind.RETURNED:
            try:
                id, *_how = codec.decode(record.payload)
            except Exception:  # how it ended is not readable any more
                (id,) = items_of(read(record.payload), 1)
            children.pop(id, None)
    return list(children)


def mails_of_end(
    codec: Codec, id: str, lineage: Lineage, kind: Kind, payload: bytes, left: Iterable[str], time: int
) -> list[Mail]:
    """
    What others hear of the end of process *id*: its parent how it ended, and what is *left* of its children to stop.

    There is something left only of one that was terminated: whoever ends by itself waits for its children.
    """
    reason = codec.encode(f"process {id!r}, which started it, was terminated")
    mails = [Mail(child, MailKind.CANCEL, "", None, reason, time) for child in left]
    if lineage.parent is not None:
        parent, checkpoint = lineage.parent
        mails.append(Mail(parent, MailKind.RETURN, checkpoint, None, _told(codec, id, kind, payload), time))
    return mails


def _told(codec: Codec, id: str, kind: Kind, payload: bytes) -> bytes:
    try:
        return codec.encode((id, int(kind), content_of(kind, codec.decode(payload))))
    except Exception as error:  # a value its own codec does not read again: its parent must not wait for ever
        return codec.encode((id, int(Kind.ERRED), describe_error(codec, error)))
