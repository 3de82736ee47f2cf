"""`show` and `history`: the sentence for each way to wait, checkpoints, values of classes nobody has loaded."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from durable import CompressedCodec, JsonCodec, Process, ProcessClient, ProcessHost, Status, process
from durable.insight import CheckpointState, CheckpointView, Place, ProcessSummary
from durable.insight.checkpoints import Story
from durable.insight.waiting import recorded_waits
from durable.times import moment
from tests.cli import schemas, shop
from tests.cli.conftest import Cli, live, settled, stalled

ROOT = Path(__file__).parents[2]
APP = "tests.cli.shop:definitions"
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC"


def sentence(cli: Cli, id: str, *words: str) -> str:
    """Where a process stands, with its times left out."""
    said = schemas.Show(**cli.json("show", id, *words)).waiting.sentence
    return re.sub(TIME, "TIME", said)


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("order-1", "waits for event 'paid' until TIME"),
        ("charge-1", "waits to try action 'charged' again, attempt 2, next try at TIME"),
        ("listen-1", "waits for an event or a branch after checkpoint 'prepared' (TIME), without a timer"),
        ("rest-1", "waits in delay 'month over' until TIME"),
        ("doze-1", "waits from its start until TIME, for a timer of asyncio"),
        ("hurry-1", "waits for an event or a branch from its start, and its own timeout cancels it at TIME"),
        ("add-1", "completed at TIME"),
        ("broken-1", "failed at TIME: tests.cli.shop.PowerCut: all dark"),
    ],
)
def test_the_journal_alone_says_where_a_process_waits(cli: Cli, shop_store: str, id: str, said: str) -> None:
    """From row and journal, without any code: one plain sentence for each way to wait, as far as records tell."""
    assert sentence(cli, id) == said


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("order-1", "waits for event 'paid' until TIME"),
        ("charge-1", "waits to try action 'charged' again, attempt 2, next try at TIME"),
        ("listen-1", "waits for event 'paid'"),
        ("doze-1", "waits for a timer of asyncio until TIME"),
        ("hurry-1", "waits for event 'paid'"),
    ],
)
def test_the_code_says_exactly_where_a_process_waits(cli: Cli, shop_store: str, id: str, said: str) -> None:
    """With --app the process is replayed, and what it waits for has its name although no record holds it."""
    assert sentence(cli, id, "--app", APP) == said


def test_a_sentence_says_whether_it_is_exact(cli: Cli, shop_store: str) -> None:
    """What was replayed is marked as exact, what was read from the journal is not; a wait has its facts beside it."""
    read = schemas.Show(**cli.json("show", "listen-1")).waiting
    replayed = schemas.Show(**cli.json("show", "listen-1", "--app", "tests.cli.shop")).waiting
    assert (read.exact, read.waits) == (False, [])
    assert (replayed.exact, [(wait.kind, wait.event) for wait in replayed.waits]) == (True, [("event", "paid")])


@pytest.mark.parametrize("app", ["tests.cli.changed:another_kind", "tests.cli.shop:add"])
def test_code_that_cannot_replay_is_not_believed(cli: Cli, shop_store: str, app: str) -> None:
    """Where the code of --app would stall, or is that of others, the journal is read; that this is so, is said."""
    answer = cli("show", "order-1", "--app", app)
    assert answer.code == 0
    assert "waits for event 'paid' until" in answer.output
    assert f"{app} cannot replay it, and `durable check {app}` says why" in answer.error
    assert cli("show", "order-1", "--app", APP).error == ""


def test_one_that_is_due_waits_for_a_host(cli: Cli, url: str) -> None:
    """What a client has started and no host has taken says which hosts may take it."""

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.work(), id="work-1")

    asyncio.run(start())
    assert sentence(cli, "work-1").startswith("waits to be claimed by a host of queue 'night'; then it ")


def test_a_stalled_one_says_why(cli: Cli, url: str) -> None:
    """A process without its definition shows why it stalls, and what to do, which is the text of the error."""

    async def start() -> None:
        async with ProcessClient(url) as client:
            await client.start(shop.add(1), id="add-1")

    asyncio.run(start())
    live(url, {}, stalled("add-1"), [shop.order])
    assert sentence(cli, "add-1").startswith(
        "stalled: [D108] Process 'add-1' runs 'add', which this host was not given"
    )
    assert "fix: add 'add' to the definitions of a host" in cli("show", "add-1").output


def test_a_held_one_says_what_it_runs(cli: Cli, url: str) -> None:
    """While a host holds a process, its code tells which action runs; the journal alone says what it cannot know."""

    said: list[str] = []
    live(url, {"work-1": shop.work()}, lambda host: _look(cli, said))
    held = re.compile(r" \(held by session \d+; if its host has stopped, another one goes on\)$")
    assert held.sub("", said[0]) == "runs an action, or waits for an event or a branch, from its start"
    assert held.sub("", said[1]) == "runs action 'worked', attempt 1"
    assert all(map(held.search, said))
    said.clear()
    asyncio.run(_look(cli, said))  # its host has left, nobody has taken it yet
    assert all(map(held.search, said))


async def _look(cli: Cli, said: list[str]) -> None:
    for words in ((), ("--app", APP)):
        said.append(await asyncio.to_thread(sentence, cli, "work-1", *words))


def test_a_held_one_lists_what_is_open(cli: Cli, url: str) -> None:
    """Of a process in memory the journal tells the open timers and children; that they still count is not certain."""
    said: list[schemas.Waiting] = []

    async def look(host: ProcessHost) -> None:
        while len(await host.get("family-1").history()) < 3:
            await asyncio.sleep(0.005)
        for words in ((), ("--app", f"{__name__}:relatives")):
            answer = await asyncio.to_thread(cli.json, "show", "family-1", *words)
            said.append(schemas.Show(**answer).waiting)

    live(url, {"family-1": family()}, look, [family, shop.listen, shop.rest], park_after=timedelta(days=1))
    read, replayed = said
    assert [wait.kind for wait in read.waits] == ["event", "child"]
    assert (read.exact, replayed.exact) == (False, True)
    assert re.sub(TIME, "TIME", read.sentence).startswith(
        "waits for event 'paid' until TIME, and waits for child 'heir' (process 'family-1/heir'), "
        "as far as its journal tells (held by session "
    )
    assert {(wait.name, wait.child) for wait in replayed.waits} == {("paid", None), ("heir", "family-1/heir")}
    assert "as far as" not in replayed.sentence


def test_a_parked_parent_names_its_child(cli: Cli, url: str) -> None:
    """A parent that only waits for a child says for which one, with the id to look at next; the table has it, too."""
    live(url, {"parent-1": parent()}, settled("parent-1"), [parent, shop.rest])
    assert sentence(cli, "parent-1") == "waits for child 'heir' (process 'parent-1/heir'), as far as its journal tells"
    assert sentence(cli, "parent-1", "--app", f"{__name__}:relatives") == (
        "waits for child 'heir' (process 'parent-1/heir')"
    )
    (child,) = schemas.Show(**cli.json("show", "parent-1")).checkpoints
    assert (child.kind, child.state, child.child) == ("child", "open", "parent-1/heir")
    assert "process parent-1/heir" in cli("show", "parent-1").output.splitlines()[-1]


def test_a_timer_that_was_given_up_is_not_waited_for() -> None:
    """An open timer whose time is over does not count beside others; alone, it may be what a stopped host left."""
    story = Story(checkpoints=[checkpoint("given up", NOW - timedelta(hours=1)), checkpoint("next", NOW + HOUR)])
    assert [wait.name for wait in recorded_waits(HELD, story, NOW)] == ["next"]
    story.checkpoints.pop()
    assert [wait.name for wait in recorded_waits(HELD, story, NOW)] == ["given up"]


NOW, HOUR = moment(1_800_000_000_000_000), timedelta(hours=1)
HELD = ProcessSummary("rest-1", "rest", "default", Status.RUNNING, Place.HELD, 2, NOW, None, None, None, None)


def checkpoint(name: str, due: datetime) -> CheckpointView:
    """An open delay."""
    return CheckpointView(name, "delay", CheckpointState.OPEN, 2, due - HOUR, None, None, due, 0, None, None)


def test_checkpoints_with_times_attempts_and_values(cli: Cli, shop_store: str) -> None:
    """The table has each checkpoint with its kind, state, times, attempts and value."""
    view = schemas.Show(**cli.json("show", "order-1"))
    assert [(one.name, one.kind, one.state, one.record) for one in view.checkpoints] == [
        ("reserved", "do", "done", 2),
        ("copied", "get", "done", 3),
        ("paid", "event", "open", 4),
    ]
    reserved, copied, paid = view.checkpoints
    assert reserved.duration is not None and reserved.duration >= 0
    assert (reserved.started_at, reserved.attempts, reserved.value) == (view.summary.created_at, 1, "tea")
    assert copied.value == {"$object": ["tests.cli.shop:Order", {"number": 8, "what": "copy"}]}
    assert paid.due is not None and timedelta(0) <= paid.started_at + timedelta(days=2) - paid.due < timedelta(
        minutes=1
    )
    (charged,) = schemas.Show(**cli.json("show", "charge-1")).checkpoints
    assert (charged.state, charged.attempts, charged.error) == ("open", 1, "tests.cli.shop.PowerCut: no power")


def test_the_answer_for_people(cli: Cli, shop_store: str) -> None:
    """The same for people: the call, the sentence, and a line for each checkpoint."""
    output = cli("show", "order-1").output
    assert output.startswith("order-1: order(Order(number=7, what='tea'))\nrunning: waits for event 'paid' until 20")
    assert re.search(r"^3 +copied +get +done .* ms +Order\(number=8, what='copy'\)$", output, re.MULTILINE)
    assert "progress: 1/3 reserving" in output


def test_events_and_inbox(cli: Cli, shop_store: str) -> None:
    """An event in the inbox is shown before any host has moved it into the journal, and by whom it was taken after."""
    assert cli("raise", "order-1", "paid", '"cash"', "--key", "once").code == 0
    (mail,) = schemas.Show(**cli.json("show", "order-1")).inbox
    assert (mail.kind, mail.name, mail.key, mail.value) == ("EVENT", "paid", "once", "cash")
    live(shop_store, {}, lambda host: host.get("order-1").result())
    view = schemas.Show(**cli.json("show", "order-1"))
    (event,) = view.events
    assert (event.name, event.key, event.value, event.taken_by) == ("paid", "once", "cash", "paid")
    assert (view.result, view.inbox) == ("cash", [])
    assert "cash" in cli("show", "order-1").output


def test_history_is_the_journal(cli: Cli, shop_store: str) -> None:
    """Every record in its order, decoded, in a table and in JSON."""
    history = schemas.History(**cli.json("history", "charge-1"))
    assert [(record.seq, record.kind, record.name) for record in history.records] == [
        (1, "STARTED", "charge"),
        (2, "ATTEMPT", "charged"),
    ]
    lines = cli("history", "charge-1").output.splitlines()
    assert lines[2].split()[0] == "2"
    assert "tests.cli.shop.PowerCut: no power" in lines[2]


def test_classes_need_not_be_loaded(shop_store: str) -> None:
    """An OS process that has never imported the application shows values of its classes as readable structure."""
    words = [sys.executable, "-W", "ignore", "-m", "durable.cli", "show", "order-1", "--url", shop_store]
    answer = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "Order(number=8, what='copy')" in answer.stdout


def test_the_readable_codec(cli: Cli, url: str) -> None:
    """--codec json reads a store written with JsonCodec; with the wrong codec values are unreadable, not an error."""
    live(url, {"add-1": shop.add(1)}, settled("add-1"), codec=JsonCodec())
    assert schemas.Show(**cli.json("show", "add-1", "--codec", "json")).result == 2
    wrong = schemas.Show(**cli.json("show", "add-1"))
    assert wrong.summary.status == "completed"
    values = [record.value for record in schemas.History(**cli.json("history", "add-1")).records]
    assert all("$unreadable" in value for value in values)


def test_the_wrong_codec_is_one_hint(cli: Cli, url: str) -> None:
    """A history of which nothing can be read says so once, and names the option, not the failure in every row."""
    live(url, {"add-1": shop.add(1)}, settled("add-1"))
    answer = cli("history", "add-1", "--codec", "json")
    assert [line.split()[0] for line in answer.output.splitlines()[1:]] == ["1", "2"]
    assert "UnicodeDecodeError" not in answer.output
    assert answer.error == "no value here can be read with --codec json: name the codec that wrote them\n"
    assert cli("history", "add-1").error == ""


def test_the_wrong_codec_says_why_if_it_knows(cli: Cli, shop_store: str) -> None:
    """What a codec itself says of bytes that are not its own follows the hint."""
    answer = cli("history", "order-1", "--codec", f"{__name__}:compressed")
    assert answer.error.splitlines()[1] == "  why: These bytes were not written by CompressedCodec"


compressed = CompressedCodec(JsonCodec())


def test_times_in_a_history_are_times(cli: Cli, shop_store: str) -> None:
    """Where the kind of a record says that a number is a time or a length, people are shown one; JSON keeps it."""
    iso = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00"
    assert re.search(rf"TIMER +paid +\('event', {iso}\)$", cli("history", "order-1").output, re.MULTILINE)
    assert re.search(rf"ATTEMPT +charged +\(1, {iso}, tests.cli.shop", cli("history", "charge-1").output)
    assert re.search(r"STARTED +hurry +\(.*, 7 days, 0:00:00\)$", cli("history", "hurry-1").output, re.MULTILINE)
    timer = schemas.History(**cli.json("history", "order-1")).records[-1]
    assert isinstance(timer.value["$tuple"][1], int)


def test_several_waits_are_one_sentence(cli: Cli, url: str) -> None:
    """Branches that wait side by side are joined."""
    live(url, {"both-1": both()}, settled("both-1"), [both])
    assert sentence(cli, "both-1", "--app", f"{__name__}:both") == (
        "waits for event 'left' until TIME, and waits in delay 'right' until TIME"
    )


@process
async def parent(proc: Process) -> None:
    """Waits for its child."""
    await proc.call(shop.rest(), "heir")


@process
async def family(proc: Process) -> None:
    """Waits for its child and an event."""
    await asyncio.gather(proc.event("paid", timeout=timedelta(days=1)), proc.call(shop.rest(), "heir"))


relatives = (parent, family)


@process
async def both(proc: Process) -> None:
    """Two branches."""
    await asyncio.gather(proc.event("left", timeout=timedelta(days=1)), proc.delay(timedelta(days=2), "right"))
