"""Broken in what follows what: children, notices, next lives, and the inbox of the ended."""

from __future__ import annotations

from dataclasses import replace

from durable.errors import CorruptJournal, ProcessExists, StorageError
from durable.storage import Batch, BatchResult
from durable_storage.memory_state import State
from tests.storage.broken.base import Broken, caught_by


@caught_by("test_children_are_created")
class HasNoChildren(Broken):
    """Children are passed over, as a field that is too new."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            return super().commit(replace(batch, children=[], records=[one for one in batch.records if one[0] != 3]))


@caught_by("test_taken_child_refuses_the_batch")
class ChildrenAreCreations(Broken):
    """A child whose id is taken is an answer, and the rest of its batch is written."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            return super().commit(replace(batch, creations=[*batch.creations, *batch.children], children=[]))


@caught_by("test_taken_child_refuses_the_batch")
class TellsOneTakenChild(Broken):
    """Only the first of the taken ids is told."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            try:
                return super().commit(batch)
            except ProcessExists as error:
                raise ProcessExists("Exists", taken=error.taken[:1]) from error


@caught_by("test_notice_comes_with_the_end")
class NoticesAreMails(Broken):
    """Notices are delivered with the mails of the batch, before its ends, and hold its parks."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            mails = [*batch.mails, *(notice.mail for notice in batch.notices)]
            result = super().commit(replace(batch, mails=mails, notices=[]))
            return replace(result, deliveries=result.deliveries[: len(batch.mails)])


@caught_by("test_held_end_gives_no_notice")
class NoticesAnyway(Broken):
    """A notice is sent whether the end holds or not."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            result = super().commit(replace(batch, notices=[]))
            for notice in batch.notices:
                self._deliver(notice.mail)
            return result


@caught_by("test_inbox_goes_with_the_end")
class InboxOutlivesTheEnd(Broken):
    """What nobody took stays in the inbox of an ended process."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            inboxes = {end.key: dict(self.inboxes[end.key]) for end in batch.ends}
            held = super()._release(batch)
            for key in inboxes:
                self.inboxes[key] = inboxes[key]
            return held


@caught_by("test_inbox_goes_with_the_end")
class HeldEndEmptiesTheInbox(Broken):
    """An end that does not hold takes the inbox with it all the same."""

    class Kept(State):
        def _release(self, batch: Batch) -> set[int]:
            held = super()._release(batch)
            for end in batch.ends:
                self.inboxes[end.key].clear()
            return held


@caught_by("test_restart_begins_a_next_life")
class RestartKeepsProgress(Broken):
    """The next life begins with the progress of the last one."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            rows = {restart.key: self.processes.get(restart.key) for restart in batch.restarts}
            result = super().commit(batch)
            for key, row in rows.items():
                self._change(key, progress=row.progress if row is not None else None)
            return result


@caught_by("test_restart_leaves_its_queue")
class RestartStaysInItsQueue(Broken):
    """The next life waits where the first one did."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            queues = {restart.key: self.processes[restart.key].queue for restart in batch.restarts}
            result = super().commit(batch)
            for key, queue in queues.items():
                self._change(key, queue=queue)
            return result


@caught_by("test_restart_begins_a_next_life", "test_whole_life_in_a_batch")
class RestartEmptiesTheInbox(Broken):
    """What has not been collected is lost with the last life."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            result = super().commit(batch)
            for restart in batch.restarts:
                self.inboxes[restart.key].clear()
            return result


@caught_by("test_wrong_restart_is_refused")
class RestartsWithAGap(Broken):
    """Any records are taken for the journal of a next life."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            restarts = [
                restart._replace(records=[record._replace(seq=n) for n, record in enumerate(restart.records, start=1)])
                for restart in batch.restarts
            ]
            return super().commit(replace(batch, restarts=restarts))


@caught_by("test_client_has_no_successions")
class ClientsHaveChildren(Broken):
    """A client's batch may have children."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            if batch.session is None:
                batch = replace(batch, creations=[*batch.creations, *batch.children], children=[])
            return super().commit(batch)


@caught_by("test_wrong_restart_is_refused")
class RestartsAndLetsGo(Broken):
    """A process may be restarted and parked in one batch."""

    class Kept(State):
        def commit(self, batch: Batch) -> BatchResult:
            try:
                return super().commit(batch)
            except CorruptJournal:
                raise
            except StorageError:
                return super().commit(replace(batch, restarts=batch.restarts[:1], parks=[], stalls=[], ends=[]))
