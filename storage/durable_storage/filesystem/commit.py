"""How one batch becomes changes: checked completely first, then applied in the order of its fields."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from durable.errors import NotOwned, StorageError
from durable.storage import Batch, BatchResult, Creation, Delivery, End, Mail, Park, ProcessRow, Stall
from durable_storage.checks import check_children, check_journals, check_shape, keys_to_own, storable
from durable_storage.filesystem.transaction import Changes


def apply(changes: Changes, batch: Batch) -> BatchResult:
    """Put *batch* into *changes*, or raise, and then they are not to be written."""
    if batch.session is not None:
        changes.state.sessions.fence(batch.session)
        changes.head.update(session=batch.session, number=batch.number)
    check_shape(batch)
    accepted, refused = _sort_creations(changes, [*batch.creations, *batch.children])
    children = {id(child) for child in batch.children}
    check_children(creation.id for creation in refused if id(creation) in children)
    _check_ownership(changes, batch, accepted)
    for creation in accepted:
        changes.create(creation, batch.session if creation.owned else None)
    taken_ids = {creation.id: _row_of(changes, creation.id) for creation in refused}
    for key, record in batch.records:
        changes.append(key, record)
    if batch.taken:
        changes.take(batch.taken)
    deliveries = [_deliver(changes, mail) for mail in batch.mails]
    for key, progress in batch.progress.items():
        changes.report(key, progress)
    for restart in batch.restarts:
        changes.restart(restart)
    held = _release(changes, batch)
    for notice in batch.notices:
        if notice.key not in held:
            _deliver(changes, notice.mail)
    return BatchResult(taken_ids, deliveries, held)


def _sort_creations(changes: Changes, creations: Collection[Creation]) -> tuple[list[Creation], list[Creation]]:
    """Split into those that are new and those whose id is taken, by an older process or earlier in the batch."""
    accepted: dict[str, Creation] = {}
    refused: list[Creation] = []
    for creation in creations:
        if creation.id in changes.state.keys or creation.id in accepted:
            refused.append(creation)
        else:
            accepted[creation.id] = creation
    keys = {creation.key for creation in accepted.values()}
    if len(keys) < len(accepted) or any(key in changes.state.entries for key in keys):
        raise StorageError("The key of a new process is taken; nothing of the batch was written")
    return list(accepted.values()), refused


def _check_ownership(changes: Changes, batch: Batch, accepted: Collection[Creation]) -> None:
    if batch.session is None:
        return
    state = changes.state
    owned = state.owned(batch.session)
    lengths = {key: state.entries[key].seq for key in keys_to_own(batch) if key in owned}
    lengths.update({creation.key: 1 for creation in accepted if creation.owned})
    check_journals(batch, lengths)
    if len({number for number in batch.taken if state.items.get(number) in owned}) < len(batch.taken):
        raise NotOwned(f"An inbox item is gone, or not of session {batch.session}", taken=batch.taken)


def _row_of(changes: Changes, process_id: str) -> ProcessRow:
    entry = changes.find(process_id)
    assert entry is not None
    return entry.row()


def _deliver(changes: Changes, mail: Mail) -> Delivery:
    entry = changes.find(mail.id)
    if entry is None:
        return Delivery.NOT_FOUND
    if entry.has_ended:
        return Delivery.ENDED
    changes.receive(entry.key, mail)
    return Delivery.DELIVERED


def _release(changes: Changes, batch: Batch) -> set[int]:
    """Park, stall and end what had no mail meanwhile; return the keys of the others."""
    releases: Sequence[Park | Stall | End] = [*batch.parks, *batch.stalls, *batch.ends]
    held = {release.key for release in releases if changes.entry(release.key).mail != release.mail}
    for park in batch.parks:
        if park.key not in held:
            changes.park(park.key, park.wake_at)
    for stall in batch.stalls:
        if stall.key not in held:
            changes.stall(stall.key, storable(stall.reason))
    for end in batch.ends:
        if end.key not in held:
            changes.end(end.key, end.status, storable(end.reason), end.record)
    return held
