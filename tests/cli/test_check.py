"""`check`: what each change of the code does to a process that is half-way, found out without any effect."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from durable import Process, ProcessHost, process
from durable.cli.failures import ExitCode
from tests.cli import changed, schemas, shop
from tests.cli.conftest import Cli, live, settled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def half_way(cli: Cli) -> Cli:
    """A store with one order that waits to be paid."""
    live(cli.url, {"order-1": shop.order(shop.Order(7, "tea"))}, settled("order-1"))
    return cli


def finding(cli: Cli, change: str, *words: str) -> schemas.Finding:
    """What is found for the one process with this change; the exit code must agree, and nothing may have happened."""
    answer = cli("check", f"tests.cli.changed:{change}", *words, "--json")
    report = schemas.Check(**answer.json)
    (found,) = report.findings
    assert answer.code == (ExitCode.FINE if found.verdict == "goes on" else ExitCode.NO)
    assert report.counts[found.verdict] == sum(report.counts.values()) == 1
    gc.collect()
    assert changed.nothing_happened()
    return found


@pytest.mark.parametrize(
    ("change", "verdict", "record", "checkpoint", "detail"),
    [
        ("same", "goes on", None, None, "next: 'paid'"),
        ("appended", "goes on", None, None, "next: 'paid'"),
        ("renamed_with_care", "goes on", None, None, "next: 'paid'"),
        ("never_unwound", "goes on", None, None, "next: 'paid'"),
        ("renamed", "drifts", 2, "reserved", "recorded, but not asked for: DONE 'reserved', VALUE 'copied'"),
        ("inserted", "drifts", 2, "reserved", "recorded, but not asked for: DONE 'reserved', VALUE 'copied'"),
        ("removed", "drifts", 2, "reserved", "recorded, but not asked for: DONE 'reserved'; next: 'paid'"),
        ("another_kind", "stalls", 2, "reserved", "Process 'order-1' asked for delay 'reserved', but its journal has"),
        ("more_arguments", "stalls", 1, "order", "Process 'order-1' was started with arguments that 'order' does not"),
        ("shortened", "drifts", 4, "paid", "it ends as completed, and: recorded but never asked for: TIMER 'paid'"),
        ("shortened_and_strict", "stalls", 4, "paid", "Process 'order-1' is strict, and its journal holds what"),
        ("broken", "fails", 3, "copied", "its function raises LookupError: no shelf, and: recorded but never"),
    ],
)
def test_each_change(
    half_way: Cli, change: str, verdict: str, record: int | None, checkpoint: str | None, detail: str
) -> None:
    """Renamed, inserted, removed, appended, replaced: each is told with the record it shows at."""
    found = finding(half_way, change)
    assert (found.verdict, found.record, found.checkpoint) == (verdict, record, checkpoint)
    assert found.detail.startswith(detail)


@pytest.mark.parametrize(
    ("change", "fix", "line"),
    [
        ("same", None, None),
        (
            "inserted",
            "--inserted 'looked up' if 'looked up' was put before them on purpose; "
            "renames={'reserved': 'looked up'} if 'reserved' is called so now, else it runs again; leave it so if",
            'await proc.do(effect, "looked up")',
        ),
        ("renamed", "--inserted 'taken from the shelf' if", 'await proc.do(effect, "taken from the shelf")'),
        ("removed", "leave it so if they were removed on purpose: the process goes on", None),
        ("another_kind", "give the new checkpoint its own name", 'await proc.delay(timedelta(days=1), "reserved")'),
        ("more_arguments", "give the new parameter a default", '@process(name="order")'),
        ("shortened_and_strict", "deploy code that asks for these checkpoints", None),
        ("inserted_and_strict", "--inserted 'looked up' if", 'await proc.do(effect, "looked up")'),
        ("broken", "mend it before the deploy", 'raise LookupError("no shelf")'),
    ],
)
def test_what_to_do_and_where(half_way: Cli, change: str, fix: str | None, line: str | None) -> None:
    """What would not go on has a fix and, where there is one, the line of code at which it shows."""
    found = finding(half_way, change)
    assert (found.fix or "").startswith(fix or "")
    assert (found.fix is None) == (fix is None)
    if line is None:
        assert found.place is None
        return
    assert found.place is not None
    path, _, number = found.place.rpartition(":")
    assert path == changed.__file__
    assert Path(path).read_text().splitlines()[int(number) - 1].strip() == line


def test_strict_code_that_drifts_stalls(half_way: Cli) -> None:
    """Whether a drift is noted or fatal is up to the definition, and the verdict says which."""
    found = finding(half_way, "inserted_and_strict")
    assert (found.verdict, found.record) == ("stalls", 2)
    assert found.detail.endswith("; strict, it stalls if it ends without asking for them")
    assert found.fix is not None and found.fix.endswith("; ask for them again before the function ends")


def test_the_record_of_a_checkpoint_that_was_held_back(half_way: Cli) -> None:
    """A kind that changed behind a new checkpoint is told at its own record and line, not at the last one read."""
    found = finding(half_way, "swapped_and_another_kind")
    assert (found.verdict, found.record, found.checkpoint) == ("stalls", 2, "reserved")
    assert found.place is not None


def test_an_insertion_on_purpose(half_way: Cli) -> None:
    """--inserted says that a checkpoint before recorded ones is meant; another name does not help."""
    assert finding(half_way, "inserted", "--inserted", "looked up").verdict == "goes on"
    assert finding(half_way, "inserted", "--inserted", "thanked").verdict == "drifts"
    assert finding(half_way, "renamed", "--inserted", "looked up").verdict == "drifts"


def test_a_function_that_raises_now(cli: Cli) -> None:
    """Code that fails where the code before it waited is told, although no record drifts."""
    live(cli.url, {"listen-1": shop.listen()}, settled("listen-1"))
    answer = cli("check", f"{__name__}:definitions", "--json")
    (found,) = schemas.Check(**answer.json).findings
    assert (answer.code, found.verdict, found.record) == (ExitCode.NO, "fails", None)
    assert found.detail == "its function raises LookupError: nobody listens"


@process(name="listen")
async def deaf(proc: Process) -> str:
    """`shop.listen`, with a bug."""
    await proc.do(changed.effect, "prepared")
    raise LookupError("nobody listens")


definitions = (deaf,)


def test_an_unknown_definition(half_way: Cli) -> None:
    """A process whose function is not among the definitions is told, with those there are."""
    answer = half_way("check", "tests.cli.shop:add", "--json")
    (found,) = schemas.Check(**answer.json).findings
    assert (answer.code, found.verdict) == (ExitCode.NO, "unknown definition")
    assert found.detail == "the code has no 'order'; it has: add"


def test_a_class_that_is_gone(half_way: Cli) -> None:
    """What cannot be decoded is told with its record: here by an OS process that never loads the class."""
    code = "from durable import process\n@process\nasync def order(proc, placed): ..."
    script = f"import sys, types\nm = types.ModuleType('m')\nexec({code!r}, vars(m))\nsys.modules['m'] = m\n"
    script += "from durable.cli import main\nsys.argv[1:] = ['check', 'm:order', '--json']\nmain()"
    path = {"PYTHONPATH": ":".join(sys.path), "DURABLE_URL": half_way.url}
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, cwd=ROOT, env=path, check=False
    )
    assert answer.returncode == ExitCode.NO, answer.stderr
    (found,) = schemas.Check.model_validate_json(answer.stdout).findings
    assert (found.verdict, found.record, found.detail) == (
        "undecodable",
        1,
        "Class 'tests.cli.shop:Order' is not loaded",
    )


def test_every_way_to_wait_goes_on_with_the_same_code(cli: Cli, shop_store: str) -> None:
    """Whatever a process waits for, the code that wrote its journal goes on; ended ones are not looked at."""
    answer = cli("check", "tests.cli.shop")
    assert answer.code == 0
    assert answer.output.splitlines()[-1] == "6 goes on"


def test_nothing_is_written(cli: Cli, shop_store: str) -> None:
    """Journals are the same after a check as before it."""
    before = [cli.json("history", id) for id in ("order-1", "charge-1", "listen-1")]
    assert cli("check", "tests.cli.changed:another_kind").code == ExitCode.NO
    assert cli("check", "tests.cli.shop").code == ExitCode.FINE
    assert [cli.json("history", id) for id in ("order-1", "charge-1", "listen-1")] == before


def test_it_works_beside_a_running_host(cli: Cli) -> None:
    """A process in the memory of a living host is checked, too, and is not disturbed."""

    async def look(host: ProcessHost) -> None:
        answer = await asyncio.to_thread(cli, "check", "tests.cli.shop", "--json")
        (found,) = schemas.Check(**answer.json).findings
        assert (found.verdict, found.detail) == ("goes on", "next: 'worked'")
        assert (await host.get("work-1").status()).resident

    live(cli.url, {"work-1": shop.work()}, look, park_after=timedelta(days=1))


def test_the_report_for_people(cli: Cli, shop_store: str) -> None:
    """The report is a table, and names record and checkpoint of a drift."""
    live(cli.url, {"order-2": shop.order(shop.Order(1, "x"))}, settled("order-2"))
    output = cli("check", "tests.cli.shop").output
    assert output.splitlines()[0].split() == ["id", "definition", "verdict", "why,", "or", "what", "comes", "next"]
    assert "drifts at checkpoint 2 'reserved'" in cli("check", "tests.cli.changed:removed").output


def test_one_fix_for_all_it_helps(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the table each line to change stands once, as seen from here, however many processes it holds up."""
    live(cli.url, {f"order-{n}": shop.order(shop.Order(n, "tea")) for n in (1, 2, 3)}, settled("order-1", "order-3"))
    monkeypatch.chdir(ROOT)
    lines = cli("check", "tests.cli.changed:another_kind").output.splitlines()[4:]
    assert lines[:2] == ["", "stalls: order-3 and 2 more"]
    assert re.fullmatch(r"  code: tests/cli/changed\.py:\d+", lines[2])
    assert lines[3].startswith("  fix:  give the new checkpoint its own name and deploy")
    assert lines[4:] == ["", "3 stalls"]
