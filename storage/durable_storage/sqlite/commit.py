"""
How one batch is applied, inside the transaction that the caller has begun and will commit.

The order is that of the batch's fields. Nothing here goes row by row while there is no conflict: rows are written by
`executemany`, and what must be known of many processes comes from one query. Ownership is checked by one query over
the distinct processes of the batch, which also returns the length of their journals, so that a gap or a second writer
is refused before a row is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from durable.errors import NotOwned, SessionLost
from durable.journal import Record
from durable.storage import ENDED, Batch, BatchResult, Creation, Delivery, Mail, MailKind, ProcessRow, Restart, Status
from durable_storage.checks import check_children, check_journals, check_shape, keys_to_own, storable
from durable_storage.schema import STATUS_NUMBERS, STATUSES, process_row
from durable_storage.sqlite import statements

_WAKES_STALLED = frozenset({MailKind.CANCEL, MailKind.TERMINATE, MailKind.RESUME})


def apply(connection: sqlite3.Connection, batch: Batch) -> BatchResult:
    """Apply *batch*, or raise, and then the transaction has to be rolled back."""
    if batch.session is not None:
        fence(connection, batch.session, batch.number)
    check_shape(batch)
    result = BatchResult()
    if batch.creations or batch.children:
        result.taken_ids = _create(connection, batch)
    if keys := keys_to_own(batch):
        check_journals(batch, _lengths(connection, keys, batch.session))
    if batch.records:
        _append(connection, batch.records)
    if batch.taken:
        taken = connection.executemany(statements.TAKE, [(number, batch.session) for number in batch.taken])
        if taken.rowcount != len(batch.taken):
            raise NotOwned(f"An inbox item is gone, or not of session {batch.session}", taken=batch.taken)
    if batch.mails:
        result.deliveries = _deliver(connection, batch.mails)
    if batch.progress:
        connection.executemany(statements.PROGRESS, [(value, key) for key, value in batch.progress.items()])
    if batch.restarts:
        _restart(connection, batch.restarts)
    if batch.parks or batch.stalls or batch.ends:
        result.held = held = _release(connection, batch)
        if notices := [notice.mail for notice in batch.notices if notice.key not in held]:
            _deliver(connection, notices)
    return result


def fence(connection: sqlite3.Connection, session: int, number: int) -> None:
    """Note batch *number* on the row of *session*, which proves it alive, or raise `SessionLost`."""
    if connection.execute(statements.FENCE, (number, session)).rowcount != 1:
        raise session_lost(session)


def _append(connection: sqlite3.Connection, records: Sequence[tuple[int, Record]]) -> None:
    connection.executemany(
        statements.APPEND,
        [(key, seq, int(kind), name, payload, time) for key, (seq, kind, name, payload, time) in records],
    )


def _lengths(connection: sqlite3.Connection, keys: Collection[int], session: int | None) -> dict[int, int]:
    """Number of records of each process among *keys* that *session* owns."""
    if len(keys) == 1:
        return dict(connection.execute(statements.LENGTH, (*keys, session)))
    return dict(connection.execute(statements.LENGTHS, {**statements.wanted(keys), "session": session}))


def session_lost(session: int) -> SessionLost:
    """The error of a session that may not write any more."""
    return SessionLost(f"Session {session} was declared dead or has ended; it writes nothing any more")


# --- creations


def _create(connection: sqlite3.Connection, batch: Batch) -> dict[str, ProcessRow]:
    creations: Sequence[Creation] = [*batch.creations, *batch.children] if batch.children else batch.creations
    rows = [_new(creation, batch.session) for creation in creations]
    inserted = connection.executemany(statements.CREATE, rows).rowcount
    taken: dict[str, ProcessRow] = {}
    if inserted < len(creations):
        new, taken = _find_taken(connection, creations)
        accepted = {id(creation) for creation in new}  # by itself: a child may be equal to a creation of the batch
        check_children(child.id for child in batch.children if id(child) not in accepted)
        creations = new
    _append(connection, [(creation.key, creation.record) for creation in creations])
    return taken


def _new(creation: Creation, session: int | None) -> tuple[Any, ...]:
    key, id, definition, queue, owned, wake_at, record, created_at = creation
    owner = session if owned else None
    return key, id, definition, queue, owner, wake_at, record.time if created_at is None else created_at


def _find_taken(
    connection: sqlite3.Connection, creations: Iterable[Creation]
) -> tuple[list[Creation], dict[str, ProcessRow]]:
    """
    Split *creations* into those just inserted and the rows that have the ids of the others.

    A creation was refused if the row of its id has another key, or had a journal before this batch (the same creation
    tried a second time).
    """
    creations = list(creations)
    found = connection.execute(statements.ROWS_BY_ID, statements.wanted(creation.id for creation in creations))
    rows = {row.id: row for row in map(process_row, found)}
    older = {
        key
        for (key,) in connection.execute(statements.WITH_RECORDS, statements.wanted(row.key for row in rows.values()))
    }
    new: dict[int, Creation] = {}
    taken: dict[str, ProcessRow] = {}
    for creation in creations:
        row = rows[creation.id]
        if row.key == creation.key and row.key not in older and row.key not in new:
            new[row.key] = creation
        else:
            taken[creation.id] = row
    return list(new.values()), taken


# --- mails


def _deliver(connection: sqlite3.Connection, mails: Sequence[Mail]) -> list[Delivery]:
    found = connection.execute(statements.ADDRESSEES, statements.wanted({mail.id for mail in mails}))
    addressees = {id_: (key, STATUSES[status]) for id_, key, status in found}
    deliveries: list[Delivery] = []
    flags: list[dict[str, int]] = []
    posts: list[tuple[Any, ...]] = []
    for mail in mails:
        key, status = addressees.get(mail.id, (0, None))
        if status is None:
            deliveries.append(Delivery.NOT_FOUND)
        elif status in ENDED:
            deliveries.append(Delivery.ENDED)
        else:
            deliveries.append(Delivery.DELIVERED)
            flags.append({"to": key, "wakes": int(mail.kind in _WAKES_STALLED), "mail_time": mail.time})
            posts.append((key, int(mail.kind), mail.name, mail.event_key, mail.payload, mail.time))
    connection.executemany(statements.FLAG, flags)
    connection.executemany(statements.POST, posts)
    return deliveries


# --- restarts


def _restart(connection: sqlite3.Connection, restarts: Sequence[Restart]) -> None:
    """Put the next lives in place of the journals there are."""
    connection.execute(statements.FORGET_RECORDS, statements.wanted(restart.key for restart in restarts))
    rows = [(restart.definition, restart.queue, restart.key) for restart in restarts]
    connection.executemany(statements.RESTART, rows)
    _append(connection, [(restart.key, record) for restart in restarts for record in restart.records])


# --- parks, stalls, ends


def _release(connection: sqlite3.Connection, batch: Batch) -> set[int]:
    """Let go of processes that had no mail meanwhile; return the keys of the others."""
    session = batch.session
    held: set[int] = set()
    rows: list[tuple[Any, ...]]
    if batch.parks:
        rows = [(park.wake_at, park.key, session, park.mail) for park in batch.parks]
        held |= _update_or_hold(connection, session, statements.PARK, rows, [park.key for park in batch.parks])
    if batch.stalls:
        rows = [(storable(stall.reason), stall.key, session, stall.mail) for stall in batch.stalls]
        held |= _update_or_hold(connection, session, statements.STALL, rows, [stall.key for stall in batch.stalls])
    if batch.ends:
        rows = [
            (STATUS_NUMBERS[Status(end.status)], end.record.time, storable(end.reason), end.key, session, end.mail)
            for end in batch.ends
        ]
        held |= _update_or_hold(connection, session, statements.END, rows, [end.key for end in batch.ends])
        ended = [end for end in batch.ends if end.key not in held]
        _append(connection, [(end.key, end.record) for end in ended])
        if mailed := [end.key for end in ended if end.mail]:
            connection.execute(statements.EMPTY_INBOXES, statements.wanted(mailed))
    return held


def _update_or_hold(
    connection: sqlite3.Connection, session: int | None, statement: str, rows: list[tuple[Any, ...]], keys: list[int]
) -> set[int]:
    if connection.executemany(statement, rows).rowcount == len(rows):
        return set()
    wanted = {**statements.wanted(keys), "session": session}
    return {key for (key,) in connection.execute(statements.STILL_OWNED, wanted)}
