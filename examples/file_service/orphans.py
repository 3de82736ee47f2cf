"""
Reconciliation: what lies in the bucket and belongs to no task is found and removed, for ever.

A client that goes away between upload and start leaves uploads; an API or worker that is killed leaves uploads that
were cut off; a task that was purged leaves its result. Each object carries the id of its task, so the journals say
which of them are needed. What is not needed in two looks in a row, a grace apart, is removed. Tasks that ended long ago
are archived and purged by the hosts, which makes their results such objects.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from durable import Process, ProcessClient, ProcessExists, ProcessNotFound, Retry, Status, StorageError, process
from examples.file_service import settings
from examples.file_service.bucket import Bucket, whole_path
from examples.file_service.tasks import Places
from examples.zipping.objects import TROUBLE

_ALWAYS = Retry(attempts=None, delay=settings.FIRST_PAUSE, on=(*TROUBLE, StorageError))
_AT_ONCE = 5000  # so many are recorded in one life of the process; the others wait for the next


@process(queue=settings.QUEUE)
async def reconcile(proc: Process, suspects: list[str]) -> None:
    """Wait, look, remove the *suspects* that are not needed still, and begin anew with those found now."""
    await proc.delay(settings.ABANDONED_AFTER, "grace")
    unneeded = await proc.do(find_unneeded, "looked", retry=_ALWAYS)
    orphans = sorted({*suspects} & {*unneeded})
    await proc.do(lambda: Bucket().discard(orphans), "removed", retry=_ALWAYS)
    await proc.restart(reconcile(sorted({*unneeded} - {*orphans})))


async def keep_reconciling(client: ProcessClient) -> None:
    """Have `reconcile` run somewhere; it is one process, however often and from wherever this is called."""
    with suppress(ProcessExists):  # it is in a later life, with suspects
        await client.start(reconcile([]), id="reconcile")


async def find_unneeded() -> list[str]:
    """What lies in the folder of a task that does not need it; the first of it, if it is much."""
    names = [name for name in await asyncio.to_thread(Bucket().names) if name.partition("/")[0] in Places._fields]
    async with ProcessClient(settings.DATABASE) as client:
        states = {task: await status_of(client, task) for task in {name.split("/")[1] for name in names}}
    return [name for name in sorted(names) if not is_needed(name, states[name.split("/")[1]])][:_AT_ONCE]


async def status_of(client: ProcessClient, task: str) -> Status | None:
    try:
        return (await client.get(task).status()).status
    except ProcessNotFound:
        return None


def is_needed(name: str, status: Status | None) -> bool:
    """Whether a task that stands like this needs what lies under *name*."""
    if status is Status.COMPLETED:
        _, is_cut_off = whole_path(name)
        return name.startswith("results/") and not is_cut_off
    return status in (Status.RUNNING, Status.STALLED)
