"""
Every statement but the batch itself and listings, with SQLAlchemy Core; `building` compiles each once for a schema.

The text is executed on a raw driver connection, which keeps it prepared. Lists travel as arrays, so that a statement
has the same text whatever their length. What applies a batch is a function in the database (``migrations``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.expression import ClauseElement

from durable.storage import Status
from durable_storage.postgres.building import big, bigs, has_status, number, texts
from durable_storage.postgres.tables import inbox, process, record, session
from durable_storage.schema import ALIVE, DEAD, STATUS_NUMBERS

_is_alive = session.c.state == number(ALIVE)
_unowned = and_(process.c.owner.is_(None), process.c.wake_at.is_not(None), has_status(Status.RUNNING))
_has_ended = process.c.ended_at.is_not(None)
# The time of leases in microseconds: a test says it, otherwise it is the clock of the database, and no other.
_lease_now = func.coalesce(
    big("clock"),
    func.trunc(func.extract("epoch", func.clock_timestamp()) * literal_column("1000000")).cast(BigInteger),
)

# --- sessions

BEGIN_SESSION: Final = (
    insert(session)
    .values(
        host=bindparam("host", type_=Text),
        state=number(ALIVE),
        lease_until=_lease_now + big("lease"),
        boot=literal_column("''"),
        last_batch=number(0),
    )
    .returning(session.c.id)
)
RENEW: Final = (
    update(session)
    .where(session.c.id == big("session"), _is_alive)
    .values(lease_until=_lease_now + big("lease"))
    .returning(session.c.id)
)
END_SESSION: Final = update(session).where(session.c.id == big("session"), _is_alive).values(state=big("new_state"))
# Whoever writes at this moment is looked at the next time; the time is compared again once the row is locked.
BURY: Final = (
    update(session)
    .where(
        session.c.id.in_(
            select(session.c.id)
            .where(_is_alive, session.c.lease_until <= _lease_now)
            .order_by(session.c.id)
            .with_for_update(skip_locked=True)
        )
    )
    .values(state=number(DEAD))
    .returning(session.c.id)
)
# Waits for a batch that is being applied at this moment, so that what it returns does not change any more.
STANDING: Final = (
    select(session.c.state, session.c.last_batch, session.c.answer)
    .where(session.c.id == big("session"))
    .with_for_update(read=True)
)
# Rows of sessions that died long ago answer `last_batch` for a while, then go. What one of them might still own is
# found all the same: its owner is then one that is not known.
FORGET_SESSIONS: Final = delete(session).where(session.c.id < big("before"), ~_is_alive)

# --- claiming and waking


def _owners_gone() -> Any:
    """
    Owners that do not live, each found by one look into the index however many processes it owns.

    PostgreSQL cannot skip from one value of an index to the next, but a recursive query can.
    """
    first = select(process.c.owner).where(process.c.owner.is_not(None)).order_by(process.c.owner).limit(number(1))
    seen = select(first.scalar_subquery().label("owner")).cte("owners", recursive=True)
    following = (
        select(process.c.owner)
        .where(process.c.owner > seen.c.owner)
        .order_by(process.c.owner)
        .limit(number(1))
        .scalar_subquery()
    )
    owners = seen.union_all(select(following).where(seen.c.owner.is_not(None)))
    lives = exists(select(session.c.id).where(session.c.id == owners.c.owner, _is_alive))
    return select(owners.c.owner).where(owners.c.owner.is_not(None), ~lives).cte("gone")


def _queues() -> Any:
    return func.unnest(texts("queues")).table_valued("name").render_derived(name="queues")


def _next_wake() -> Select[Any]:
    gone, queues = _owners_gone(), _queues()
    earliest = (
        select(process.c.wake_at)
        .where(process.c.queue == queues.c.name, _unowned)
        .order_by(process.c.wake_at)
        .limit(number(1))
        .scalar_subquery()
    )
    orphaned = exists(
        select(process.c.key)
        .select_from(gone.join(process, process.c.owner == gone.c.owner))
        .where(process.c.queue == func.any(texts("queues")))
    )
    alive = exists(select(session.c.id).where(session.c.id == big("session"), _is_alive))
    wake = case((orphaned, number(0)), else_=select(func.min(earliest)).select_from(queues).scalar_subquery())
    return select(alive.label("alive"), wake.label("wake"))


NEXT_WAKE: Final = _next_wake()


def _claim() -> ClauseElement:
    """
    Take up to ``most`` processes, due ones and orphans, in turn from each queue so that none waits behind another.

    What another host is taking at this moment is skipped. A few more rows may be locked than are taken; they are free
    again with the end of the transaction.
    """
    gone, queues = _owners_gone(), _queues()
    columns = (process.c.key, process.c.queue, process.c.wake_at)

    def first(*conditions: ColumnElement[bool]) -> Select[Any]:
        return select(*columns).where(*conditions).limit(big("most")).with_for_update(skip_locked=True)

    def of_each(table: Any, some: Select[Any]) -> Select[Any]:
        found = some.lateral()
        return select(found.c.key, found.c.queue, found.c.wake_at).select_from(
            table.join(found, literal_column("true"))
        )

    due = first(process.c.queue == queues.c.name, _unowned, process.c.wake_at <= big("now")).order_by(process.c.wake_at)
    orphan = (process.c.owner == gone.c.owner, process.c.queue == func.any(texts("queues")))
    resident = first(*orphan, process.c.wake_at.is_(None))
    flagged = first(*orphan, process.c.wake_at.is_not(None)).order_by(process.c.wake_at)
    wanted = union_all(of_each(queues, due), of_each(gone, resident), of_each(gone, flagged)).cte("wanted")
    earliest = (func.coalesce(wanted.c.wake_at, number(0)), wanted.c.key)
    turn = func.row_number().over(partition_by=wanted.c.queue, order_by=earliest).label("turn")
    in_turn = select(*wanted.c, turn).subquery("in_turn")
    taken = (
        select(in_turn.c.key, in_turn.c.wake_at)
        .order_by(in_turn.c.turn, func.coalesce(in_turn.c.wake_at, number(0)), in_turn.c.key)
        .limit(big("most"))
        .cte("taken")
    )
    values = {"owner": big("session"), "wake_at": null()}
    return (
        update(process)
        .where(process.c.key == taken.c.key)
        .values(values)
        .returning(*_row, taken.c.wake_at.label("due"))
    )


_row: Final = tuple(process.c)
CLAIM: Final = _claim()
# After a lost answer to a claim's COMMIT: it was applied if one of them is owned.
OWNS: Final = select(process.c.key).where(process.c.key == big("key"), process.c.owner == big("session"))
_stalls: Final = (
    func.unnest(bigs("keys"), texts("reasons"))
    .table_valued(column("key", BigInteger), column("reason", Text))
    .render_derived(name="stalls")
)
# What a claim or a look into inboxes found to be unreadable by this version.
STALL_UNREADABLE: Final = (
    update(process)
    .where(process.c.key == _stalls.c.key, process.c.owner + number(0) == big("session"))
    .values(
        status=number(STATUS_NUMBERS[Status.STALLED]),
        owner=null(),
        wake_at=null(),
        reason=_stalls.c.reason,
    )
)
_item: Final = tuple(inbox.c)


def _contents() -> Select[Any]:
    """Journals and inboxes of processes, a row for each: one round trip, and no process repeated with each record."""
    keys = func.unnest(bigs("keys")).table_valued(column("key", BigInteger)).render_derived(name="keys")

    def gathered(
        columns: Collection[ColumnElement[Any]], order: ColumnElement[Any], *found: ColumnElement[bool]
    ) -> Any:
        return select(*(func.array_agg(aggregate_order_by(one, order)) for one in columns)).where(*found).lateral()

    journal = gathered([*_record], record.c.seq, record.c.key == keys.c.key)
    items = gathered([*_item], inbox.c.number, inbox.c.key == keys.c.key)
    both = keys.join(journal, literal_column("true")).join(items, literal_column("true"))
    return select(keys.c.key, *journal.c, *items.c).select_from(both)


_record: Final = (record.c.seq, record.c.kind, record.c.name, record.c.payload, record.c.time)
CONTENTS: Final = _contents()
# What mail has flagged, with the counter it was seen at: only what had no more mail since is unflagged.
_items = select(*_item).where(inbox.c.key == process.c.key).order_by(inbox.c.number).lateral("items")
COLLECT: Final = (
    select(process.c.key.label("of"), process.c.mail.label("mails"), *_items.c)
    .select_from(process.outerjoin(_items, literal_column("true")))
    .where(process.c.owner == big("session"), process.c.wake_at.is_not(None))
)
_seen: Final = (
    func.unnest(bigs("keys"), bindparam("mails", type_=ARRAY(Integer)))
    .table_valued(column("key", BigInteger), column("mail", Integer))
    .render_derived(name="seen")
)
UNFLAG: Final = (
    update(process)
    .where(
        process.c.key == _seen.c.key,
        process.c.mail == _seen.c.mail,
        process.c.owner + number(0) == big("session"),
    )
    .values(wake_at=null())
)
# For those who hear no notices: is there mail for a session, or something unowned that wants to run earlier?


def _changed() -> Select[Any]:
    sessions = func.unnest(bigs("sessions")).table_valued("id").render_derived(name="sessions")
    queues = _queues()

    def earliest(*conditions: ColumnElement[bool]) -> Any:
        found = select(process.c.wake_at).where(*conditions, process.c.wake_at.is_not(None))
        return found.order_by(process.c.wake_at).limit(number(1)).scalar_subquery()

    mail = select(func.min(earliest(process.c.owner == sessions.c.id))).select_from(sessions).scalar_subquery()
    due = earliest(process.c.queue == queues.c.name, _unowned)
    wake = select(func.min(due)).select_from(queues).scalar_subquery()
    return select(or_(mail.is_not(None), func.coalesce(wake < big("before"), literal_column("false"))))


CHANGED: Final = _changed()
RESUME_STALLED: Final = (
    update(process)
    .where(
        process.c.key.in_(
            select(process.c.key)
            .where(has_status(Status.STALLED), process.c.queue == func.any(texts("queues")))
            .order_by(process.c.key)
            .with_for_update(key_share=True)
        ),
        has_status(Status.STALLED),
    )
    .values(status=number(STATUS_NUMBERS[Status.RUNNING]), reason=null(), wake_at=big("now"))
    .returning(process.c.key)
)

# --- keeping house

ENDED_BEFORE: Final = (
    select(*_row)
    .where(process.c.ended_at < big("before"))
    .order_by(process.c.ended_at, process.c.key)
    .limit(big("most"))
)


def _purge() -> Select[Any]:
    gone = (
        delete(process).where(process.c.key == func.any(bigs("keys")), _has_ended).returning(process.c.key).cte("gone")
    )
    records = delete(record).where(record.c.key.in_(select(gone.c.key))).returning(record.c.key).cte("records")
    items = delete(inbox).where(inbox.c.key.in_(select(gone.c.key))).returning(inbox.c.key).cte("items")
    return select(func.count()).select_from(gone).add_cte(records, items)


PURGE: Final = _purge()

# --- reading

ROW: Final = select(*_row).where(process.c.id == bindparam("id", type_=Text))
ROWS_BY_ID: Final = select(*_row).where(process.c.id == func.any(texts("ids")))
LENGTHS: Final = select(
    process.c.key,
    select(func.max(record.c.seq)).where(record.c.key == process.c.key).scalar_subquery(),
).where(process.c.key == func.any(bigs("keys")), process.c.owner == big("session"))
JOURNAL: Final = (
    select(record.c.seq, record.c.kind, record.c.name, record.c.payload, record.c.time)
    .where(record.c.key == big("key"), record.c.seq > bindparam("after", type_=Integer))
    .order_by(record.c.seq)
)
INBOX: Final = select(*_item).where(inbox.c.key == big("key")).order_by(inbox.c.number)
