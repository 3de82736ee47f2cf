"""What becomes of children when their parent is terminated, or does not want them any more."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from durable import Process, ProcessCancelled, ProcessClient, ProcessHost, ProcessTerminated, Status, process
from durable._host.residents.parenting import attached_children
from durable.journal import Kind, Record
from durable.storage import MailKind
from tests.host.staging import SOON, GatedStorage, until, until_it_waits, until_recorded, until_stalled


@process
async def wait(proc: Process) -> str:
    return str(await proc.event("go"))


@process
async def start_three(proc: Process) -> None:
    await proc.start(wait(), "over")
    await proc.start(wait(), "running")
    await proc.start(wait(), "free", detached=True)
    await proc.event("never")


@process(name="start_three")
async def start_none(proc: Process) -> None:
    """What was deployed in its place by mistake: a checkpoint is of another kind now."""
    await proc.get(1, "over")


@pytest.mark.parametrize("known", [True, False], ids=["broken code", "no code"])
async def test_what_still_runs_of_its_children_is_cancelled(url: str, known: bool) -> None:
    """A stalled parent stops the attached child that runs: not one that has ended, nor one that is detached."""
    async with ProcessHost(url, [start_three, wait]) as host:
        await host.start(start_three(), id="p")
        for id in ("p", "p/over", "p/running", "p/free"):
            await until_it_waits(host, id, "event")
        await host.raise_event("p/over", "go", 1)
        await until_recorded(host, "p", "RETURNED")
    storage = GatedStorage(url)
    async with ProcessHost(storage, [start_none, wait] if known else [wait]) as host:
        await until_stalled(host, "p")
        await host.terminate("p", "hopeless")
        with pytest.raises(ProcessTerminated):
            await host.get("p").result(SOON)
        with pytest.raises(ProcessCancelled, match="was terminated"):
            await host.get("p/running").result(SOON)
        mails = [notice.mail for batch in storage.batches for notice in batch.notices]
        assert [mail.id for mail in mails if mail.kind is MailKind.CANCEL] == ["p/running"]
        assert (await host.get("p/free").status()).status is Status.RUNNING


@process
async def start_one(proc: Process) -> str:
    return await proc.call(wait())


async def test_a_child_that_was_just_being_started_is_cancelled(url: str) -> None:
    """Its creation is on its way when the parent is terminated: once it is there it is stopped like any other."""
    storage = GatedStorage(url)
    starting = storage.hold_commit(lambda batch: batch.children)
    async with ProcessHost(storage, [start_one, wait]) as host, ProcessClient(url) as client:
        await host.start(start_one(), id="p")
        await starting.reached.wait()
        parent = host._engine.by_id["p"]
        await client.terminate("p", "hopeless")
        await until(lambda: parent.departed)
        assert await client.count() == 1
        starting.open()
        with pytest.raises(ProcessTerminated):
            await host.get("p").result(SOON)
        with pytest.raises(ProcessCancelled, match="was terminated"):
            await host.get("p/wait").result(SOON)


# --- told to stop by their parent ---


@process
async def give_up(proc: Process) -> str:
    """Stops waiting for its child when it is told to, and says when that has ended."""
    waiting = asyncio.create_task(proc.call(wait()))
    await proc.event("enough")
    waiting.cancel()
    await asyncio.wait([waiting])
    return "stopped" if waiting.cancelled() else "too late"


class Deaf(GatedStorage):
    """A store whose changes nobody hears of."""

    async def wait_for_change(self, timeout: float) -> None:
        await asyncio.Event().wait()


async def test_a_host_knows_of_the_mail_of_its_processes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child on the host of its parent is cancelled at once: nobody has to poll, or be told that the store changed."""
    monkeypatch.setattr("durable.host._POLL", 3600.0)
    async with ProcessHost(Deaf(url), [give_up, wait]) as host:
        handle = await host.start(give_up(), id="p")
        await until(lambda: "p/wait" in host._engine.by_id)
        await until(host._is_quiet)  # so nothing else makes it look
        await host.raise_event("p", "enough")
        assert await handle.result(SOON) == "stopped"


class Pickle:
    """A codec of somebody's own, which writes what ours refuse."""

    def encode(self, value: object) -> bytes:
        return pickle.dumps(value)

    def decode(self, data: bytes) -> object:
        return pickle.loads(data)


def test_who_has_ended_is_known_under_any_codec() -> None:
    """What is left of the children is read with the codec of the host, whatever they returned."""
    codec = Pickle()
    records = [
        Record(2, Kind.CHILD, "one", codec.encode(("p/one", False)), 1),
        Record(3, Kind.CHILD, "two", codec.encode(("p/two", False)), 1),
        Record(4, Kind.RETURNED, "one", codec.encode(("p/one", int(Kind.COMPLETED), Pickle())), 1),
    ]
    assert attached_children(codec, records) == ["p/two"]
