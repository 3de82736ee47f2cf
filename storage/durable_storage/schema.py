"""
The tables every SQL provider keeps, as SQLAlchemy Core, and how their rows become what the protocol speaks of.

Small on disk: times are integer microseconds, payloads plain bytes, states and kinds small integers numbered for ever.
A journal is read by its primary key alone. Indexes are partial where most processes are of no interest: who is parked
until next year, or has ended, costs nothing when due ones are looked for. Statements belong to the providers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    and_,
    literal_column,
)

from durable.errors import CorruptJournal
from durable.journal import Kind, Record
from durable.storage import InboxItem, MailKind, ProcessRow, Status

# What stands in process.status. Only ever append: the numbers are on disk.
STATUSES = (
    Status.RUNNING,
    Status.STALLED,
    Status.COMPLETED,
    Status.FAILED,
    Status.CANCELLED,
    Status.TERMINATED,
)
STATUS_NUMBERS = {status: number for number, status in enumerate(STATUSES)}

# What stands in session.state.
ALIVE, DEAD, ENDED_CLEANLY = 0, 1, 2

metadata = MetaData()

# BIGINT elsewhere; on SQLite only the very word INTEGER makes a primary key the row's own number.
_Number = BigInteger().with_variant(Integer(), "sqlite")

process = Table(
    "process",
    metadata,
    Column("key", _Number, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("definition", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("owner", _Number),
    Column("wake_at", BigInteger),
    Column("mail", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("reason", Text),
    Column("progress", LargeBinary),
)

record = Table(
    "record",
    metadata,
    Column("key", _Number, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

inbox = Table(
    "inbox",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("key", _Number, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("event_key", Text),
    Column("payload", LargeBinary, nullable=False),
    Column("time", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # numbers are never reused
)

session = Table(
    "session",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("host", Text, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),  # on the store's clock, of the boot named beside it
    Column("boot", Text, nullable=False),
    Column("last_batch", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # ids are never reused
)


def status_is(status: Status) -> ColumnElement[bool]:
    """``process.status = n`` with the number in the text: a bound value would not match a partial index."""
    return process.c.status == literal_column(str(STATUS_NUMBERS[status]))


def _partial(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> None:
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


# Due processes, earliest first, queue by queue.
_partial(
    "process_due",
    process.c.queue,
    process.c.wake_at,
    where=and_(process.c.owner.is_(None), process.c.wake_at.is_not(None), status_is(Status.RUNNING)),
)
# Flagged residents of a living session, and whatever a dead one still owns, earliest first.
_partial("process_owned", process.c.owner, process.c.wake_at, where=process.c.owner.is_not(None))
# What ended long ago, for whoever keeps house.
_partial("process_ended", process.c.ended_at, where=process.c.ended_at.is_not(None))
# Listings are pages by key, one range of an index for each status; SQLite appends the primary key to every index. The
# first one finds what is stalled, too: a narrower index for that was never chosen.
Index("process_by_status", process.c.status)
Index("process_by_definition", process.c.definition, process.c.status)
Index("inbox_by_process", inbox.c.key)

_KINDS = {int(kind): kind for kind in Kind}
_MAIL_KINDS = {int(kind): kind for kind in MailKind}


def process_row(values: tuple[Any, ...]) -> ProcessRow:
    """Make a `ProcessRow` of all columns of a ``process`` row, in their order."""
    key, id_, definition, queue, status, *others = values
    if not 0 <= status < len(STATUSES):
        raise _unknown(f"The status of process {id_!r}", status)
    return ProcessRow(key, id_, definition, queue, STATUSES[status], *others)


def journal_record(values: Sequence[Any]) -> Record:
    """
    Make a `Record` of the columns of a ``record`` row without its key.

    Raises:
        CorruptJournal: It is of a kind that this version does not know.
    """
    seq, kind, name, payload, time = values
    try:
        return Record(seq, _KINDS[kind], name, payload, time)
    except KeyError:
        raise _unknown(f"Record {seq}", kind) from None


def inbox_item(values: tuple[Any, ...]) -> InboxItem:
    """
    Make an `InboxItem` of all columns of an ``inbox`` row, in their order.

    Raises:
        CorruptJournal: It is of a kind that this version does not know.
    """
    number, key, kind, name, event_key, payload, time = values
    try:
        return InboxItem(number, key, _MAIL_KINDS[kind], name, event_key, payload, time)
    except KeyError:
        raise _unknown(f"Inbox item {number}", kind) from None


def _unknown(what: str, kind: int) -> CorruptJournal:
    return CorruptJournal(
        f"{what} is of kind {kind}, which this version does not know: a newer one has probably written it",
        fix="upgrade this host, which makes the process go on; nothing of it is lost",
    )
