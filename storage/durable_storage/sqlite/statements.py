"""
Every statement of the writer, built with SQLAlchemy Core and compiled once, when this module is imported.

The writer executes the text on a raw connection. Statements for many rows take tuples (the order of their parameters is
checked here, at import); the others take dictionaries. Lists travel as one JSON text, so that a statement has the same
text, and stays prepared, whatever their length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.expression import ClauseElement, TableValuedAlias

from durable.storage import Status
from durable_storage.schema import ALIVE, STATUS_NUMBERS, inbox, process, record, session, status_is

Q: Final = bindparam


def _many(statement: ClauseElement, *parameters: str) -> str:
    """Text with ``?``, for tuples of *parameters* in that order."""
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))
    found = tuple(getattr(compiled, "positiontup", None) or ())
    if found != parameters:
        raise AssertionError(f"parameters stand in the order {found}, not {parameters}:\n{compiled}")
    return str(compiled)


def _one(statement: ClauseElement) -> str:
    """Text with ``:name``, for a dictionary."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


def _wanted() -> TableValuedAlias:
    """The JSON array in parameter ``wanted``, as a table of positions (``key``) and values."""
    return func.json_each(bindparam("wanted", type_=Text)).table_valued("key", "value", name="wanted")


def wanted(values: Iterable[int | str]) -> dict[str, Any]:
    """The parameter of a statement that asks for a list."""
    return {"wanted": json.dumps(list(values), ensure_ascii=False)}


def _in_wanted(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column.in_(select(_wanted().c.value))


def _number(value: int) -> ColumnElement[Any]:
    return literal_column(str(value))


_RUNNING = _number(STATUS_NUMBERS[Status.RUNNING])
# `wake_at IS NOT NULL` would not be looked up in an index; a comparison with the smallest integer is.
_has_wake = process.c.wake_at >= _number(-(2**63))
_is_alive = session.c.state == _number(ALIVE)
# The plus keeps SQLite from looking up the owner: a session may own thousands, when a few keys are asked for.
_owned_by_session = literal_column("+process.owner") == Q("session")
_unowned = and_(process.c.owner.is_(None), status_is(Status.RUNNING))

# --- sessions

BEGIN_SESSION = _one(
    insert(session).values(
        host=Q("host"), state=_number(ALIVE), lease_until=Q("lease_until"), boot=Q("boot"), last_batch=_number(0)
    )
)
FENCE = _many(
    update(session).where(session.c.id == Q("session"), _is_alive).values(last_batch=Q("number")), "number", "session"
)
IS_ALIVE = _one(select(session.c.id).where(session.c.id == Q("session"), _is_alive))
RENEW = _one(update(session).where(session.c.id == Q("session"), _is_alive).values(lease_until=Q("until")))
LEAVE = _many(
    update(session).where(session.c.id == Q("session"), _is_alive).values(state=Q("new_state")), "new_state", "session"
)
LIVING_SESSIONS = _one(select(session.c.id, session.c.lease_until, session.c.boot).where(_is_alive))
LAST_BATCH = _one(select(session.c.last_batch).where(session.c.id == Q("session")))
DEAD_OWNERS = _one(
    select(session.c.id).where(~_is_alive, exists(select(process.c.key).where(process.c.owner == session.c.id)))
)
FORGET_SESSIONS = _one(
    delete(session).where(
        session.c.id < Q("before"), ~_is_alive, ~exists(select(process.c.key).where(process.c.owner == session.c.id))
    )
)

# --- a batch, in the order in which it is applied

CREATE = _many(
    sqlite.insert(process)
    .values(
        key=Q("key"),
        id=Q("id"),
        definition=Q("definition"),
        queue=Q("queue"),
        status=_RUNNING,
        owner=Q("owner"),
        wake_at=Q("wake_at"),
        mail=_number(0),
        created_at=Q("created_at"),
    )
    .on_conflict_do_nothing(index_elements=["id"]),
    *("key", "id", "definition", "queue", "owner", "wake_at", "created_at"),
)
rows_by_id = select(*process.c).select_from(_wanted()).join(process, process.c.id == _wanted().c.value)
ROWS_BY_ID = _one(rows_by_id)
WITH_RECORDS = _one(select(record.c.key).where(_in_wanted(record.c.key), record.c.seq == _number(1)))
_lengths = select(process.c.key, select(func.max(record.c.seq)).where(record.c.key == process.c.key).scalar_subquery())
LENGTHS = _one(_lengths.where(_in_wanted(process.c.key), _owned_by_session))
# One process at a time is what a quiet host writes of; taking a list apart would cost as much as the rest of it.
LENGTH = _many(_lengths.where(process.c.key == Q("of"), _owned_by_session), "of", "session")
APPEND = _many(
    insert(record).values({column: Q(column.name) for column in record.c}), *(column.name for column in record.c)
)
TAKE = _many(
    delete(inbox).where(
        inbox.c.number == Q("item"),
        exists(select(process.c.key).where(process.c.key == inbox.c.key, process.c.owner == Q("session"))),
    ),
    *("item", "session"),
)
ADDRESSEES = _one(select(process.c.id, process.c.key, process.c.status).where(_in_wanted(process.c.id)))
_becomes_running = and_(status_is(Status.STALLED), Q("wakes") == _number(1))
_mail_time = bindparam("mail_time", type_=BigInteger)
FLAG = _one(
    update(process)
    .where(process.c.key == Q("to"))
    .values(
        mail=process.c.mail + _number(1),
        status=case((_becomes_running, _RUNNING), else_=process.c.status),
        reason=case((_becomes_running, null()), else_=process.c.reason),
        wake_at=case(
            (
                status_is(Status.RUNNING),
                func.min(func.coalesce(process.c.wake_at, _mail_time), _mail_time),
            ),
            (_becomes_running, _mail_time),
            else_=process.c.wake_at,
        ),
    )
)
_POSTED = [column for column in inbox.c if column is not inbox.c.number]
POST = _many(insert(inbox).values({column: Q(column.name) for column in _POSTED}), *(column.name for column in _POSTED))
PROGRESS = _many(
    update(process).where(process.c.key == Q("of")).values(progress=Q("new_progress")), "new_progress", "of"
)
FORGET_RECORDS = _one(delete(record).where(_in_wanted(record.c.key)))
RESTART = _many(
    update(process)
    .where(process.c.key == Q("of"))
    .values(definition=Q("definition"), queue=Q("queue"), progress=null()),
    *("definition", "queue", "of"),
)
_holds = and_(process.c.key == Q("of"), process.c.owner == Q("session"), process.c.mail == Q("consumed"))
PARK = _many(
    update(process).where(_holds).values(owner=null(), wake_at=Q("until")), "until", "of", "session", "consumed"
)
STALL = _many(
    update(process)
    .where(_holds)
    .values(
        status=_number(STATUS_NUMBERS[Status.STALLED]),
        owner=null(),
        wake_at=null(),
        reason=Q("why"),
    ),
    *("why", "of", "session", "consumed"),
)
END = _many(
    update(process)
    .where(_holds)
    .values(status=Q("outcome"), owner=null(), wake_at=null(), ended_at=Q("end"), reason=Q("why")),
    *("outcome", "end", "why", "of", "session", "consumed"),
)
STALL_UNREADABLE = _many(
    update(process)
    .where(process.c.key == Q("of"), _owned_by_session)
    .values(
        status=_number(STATUS_NUMBERS[Status.STALLED]),
        owner=null(),
        wake_at=null(),
        reason=Q("why"),
    ),
    *("why", "of", "session"),
)
EMPTY_INBOXES = _one(delete(inbox).where(_in_wanted(inbox.c.key)))
STILL_OWNED = _one(select(process.c.key).where(_in_wanted(process.c.key), _owned_by_session))

# --- keeping house

ENDED_BEFORE = _one(
    select(*process.c)
    .where(process.c.ended_at < Q("before"))
    .order_by(process.c.ended_at, process.c.key)
    .limit(Q("most"))
    .offset(_number(0))
)
_have_ended = select(process.c.key).where(_in_wanted(process.c.key), process.c.ended_at.is_not(None))
PURGE_RECORDS = _one(delete(record).where(record.c.key.in_(_have_ended)))
PURGE_INBOXES = _one(delete(inbox).where(inbox.c.key.in_(_have_ended)))
PURGE = _one(delete(process).where(_in_wanted(process.c.key), process.c.ended_at.is_not(None)))

# --- claiming and waking

DUE = _one(
    select(*process.c)
    .where(process.c.queue == Q("of_queue"), _unowned, process.c.wake_at <= Q("now"))
    .order_by(process.c.wake_at, process.c.key)
    .limit(Q("most"))
    .offset(_number(0))
)
ORPHANS = _one(
    select(*process.c)
    .where(process.c.owner == Q("gone"), _in_wanted(process.c.queue))
    .order_by(process.c.wake_at, process.c.key)
    .limit(Q("most"))
    .offset(_number(0))
)
OWN = _one(update(process).where(_in_wanted(process.c.key)).values(owner=Q("session"), wake_at=null()))
JOURNALS = _one(select(*record.c).where(_in_wanted(record.c.key)).order_by(record.c.key, record.c.seq))
INBOXES = _one(select(*inbox.c).where(_in_wanted(inbox.c.key)).order_by(inbox.c.number))
FLAGGED = _one(select(process.c.key).where(process.c.owner == Q("session"), _has_wake))
UNFLAG = _one(update(process).where(_in_wanted(process.c.key)).values(wake_at=null()))
NEXT_WAKE = _one(
    select(process.c.wake_at)
    .where(process.c.queue == Q("of_queue"), _unowned, _has_wake)
    .order_by(process.c.wake_at)
    .limit(_number(1))
    .offset(_number(0))
)
ORPHANED = _one(
    select(process.c.key)
    .where(process.c.owner == Q("gone"), _in_wanted(process.c.queue))
    .limit(_number(1))
    .offset(_number(0))
)
RESUME_STALLED = _one(
    update(process)
    .where(status_is(Status.STALLED), _in_wanted(process.c.queue))
    .values(status=_RUNNING, reason=null(), wake_at=Q("now"))
)
