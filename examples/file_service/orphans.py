"""
Reconciliation: what lies in the bucket and belongs to no task is found and removed, for ever.

A client that goes away between upload and start leaves uploads; an API or worker that is killed leaves uploads that
were cut off; a task that was purged leaves its result. Each object carries the id of its task, so the journals say
which of them are needed. What is not needed in two looks in a row, a grace apart, and is the same version in both, is
removed. Tasks that ended long ago are archived and purged by the hosts, which makes their results such objects.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from durable import Process, ProcessClient, ProcessExists, ProcessNotFound, Retry, Status, StorageError, process
from examples.file_service import settings
from examples.file_service.bucket import Bucket, Found
from examples.file_service.tasks import Places, fit_for_paths
from examples.zipping.objects import TROUBLE

logger = logging.getLogger("examples.file_service")

_ALWAYS = Retry(attempts=None, delay=settings.FIRST_PAUSE, on=(*TROUBLE, StorageError))
_AT_ONCE = 2000  # so many are recorded in one life of the process; the others wait for the next


@process(queue=settings.QUEUE)
async def reconcile(proc: Process, suspects: list[Found]) -> None:
    """Wait, look, remove the *suspects* that are not needed still, and begin anew with those found now."""
    await proc.delay(settings.ABANDONED_AFTER, "grace")
    # One action: what was seen by a look that is recorded, and how tasks stood then, may have changed long ago.
    unneeded = await proc.do(lambda: remove_unneeded(suspects), "removed", retry=_ALWAYS)
    await proc.restart(reconcile(unneeded))


async def keep_reconciling(client: ProcessClient) -> None:
    """Have `reconcile` run somewhere; it is one process, however often and from wherever this is called."""
    id = "reconcile"
    if known := await client.list(name="reconcile", limit=1):
        if not known[0].ended:
            return
        # All who find this one ended, at whatever time, give its successor the same id.
        id = f"reconcile after {known[0].key}"
        logger.warning("Process %r has ended (%s); %r goes on", known[0].id, known[0].status, id)
    with suppress(ProcessExists):  # somebody was faster, and it is in a later life, with suspects
        await client.start(reconcile([]), id=id)


async def remove_unneeded(suspects: list[Found]) -> list[Found]:
    """Remove those *suspects* that no task needs now either; what else none needs, the first of it, if it is much."""
    bucket, former = Bucket(), {*suspects}
    unneeded: list[Found] = []
    async with ProcessClient(settings.DATABASE) as client:
        for found in await asyncio.to_thread(lambda: [*bucket.look()]):
            task = task_of(found.path)
            # Asked for each by itself, right before it is removed, and so is what lies there now.
            if task is None or is_needed(found, await status_of(client, task)):
                continue
            if found in former:
                await asyncio.to_thread(bucket.discard, found)
            elif len(unneeded) < _AT_ONCE:
                unneeded.append(found)
    return unneeded


def task_of(path: str) -> str | None:
    """The task whose folder this is in; None, if it is none of ours."""
    match path.split("/"):
        case [kind, task, _] if kind in Places._fields:
            with suppress(ValueError):
                return fit_for_paths(task)
    return None


async def status_of(client: ProcessClient, task: str) -> Status | None:
    try:
        return (await client.get(task).status()).status
    except ProcessNotFound:
        return None


def is_needed(found: Found, status: Status | None) -> bool:
    """Whether a task that stands like this needs it."""
    if status is Status.COMPLETED:
        return found.path.startswith("results/") and not found.is_unfinished
    return status in (Status.RUNNING, Status.STALLED)
