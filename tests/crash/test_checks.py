"""Every rule of the checker can fail: evidence of one broken promise each, written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from durable.testing.crash_checks import Evidence, repeats, violations
from durable.testing.crash_trace import Entry

KEY, ID = 7, "order"


def record(seq: int, kind: str, name: str = "", digest: str = "") -> dict[str, Any]:
    return {"seq": seq, "kind": kind, "name": name, "time": seq, "digest": digest}


def written(seq: int, kind: str, name: str = "", life: int = 0) -> Entry:
    return Entry(life, "record", {"key": KEY, **record(seq, kind, name)})


def ran(checkpoint: str, attempt: int = 1, life: int = 0) -> Entry:
    return Entry(life, "action", {"process": ID, "checkpoint": checkpoint, "attempt": attempt})


CREATED = [Entry(0, "process", {"key": KEY, "id": ID}), written(1, "STARTED")]
JOURNAL = [record(1, "STARTED"), record(2, "DONE", "pay"), record(3, "COMPLETED")]
GOOD = [*CREATED, ran("pay"), written(2, "DONE", "pay"), written(3, "COMPLETED")]


def report(records: list[dict[str, Any]] = JOURNAL, **changes: Any) -> dict[str, Any]:
    process = {"key": KEY, "id": ID, "status": "completed", "records": records, "inbox": []}
    return {"outcome": "1", "error": "", "processes": [process | changes.pop("process", {})]} | changes


def rules(trace: list[Entry], **changes: Any) -> set[str]:
    return {violation.rule for violation in violations(Evidence(trace, report(**changes), report()))}


def test_sound_evidence_breaks_no_rule() -> None:
    """A story in which all is right has no violation; else the other tests would show nothing."""
    assert rules(GOOD) == set()


@pytest.mark.parametrize(
    ("broken", "trace", "changes"),
    [
        ("the scenario failed", GOOD, {"error": "Traceback …"}),
        ("another outcome", GOOD, {"outcome": "2"}),
        ("other ends", GOOD, {"process": {"status": "failed"}}),
        ("not ended", GOOD, {"process": {"status": "running"}}),
        ("broken journal", GOOD, {"records": [*JOURNAL, record(4, "DONE", "more")]}),
        ("lost process", GOOD, {"processes": []}),
        ("lost record", GOOD, {"records": JOURNAL[:1]}),
        ("lost record", GOOD, {"records": [JOURNAL[0], JOURNAL[1] | {"digest": "other"}, JOURNAL[2]]}),
        (
            "lost event",
            [*GOOD, Entry(0, "mail", {"id": ID, "kind": "EVENT", "name": "go", "event_key": None, "digest": "1"})],
            {},
        ),
        ("ran again", [*GOOD, ran("pay", life=1)], {}),
        ("ran again", [*CREATED, ran("pay"), written(2, "ATTEMPT", "pay"), ran("pay", life=1)], {}),
        ("ran too early", [ran("pay"), *GOOD], {}),
        ("ran twice without a crash", [*CREATED, ran("pay"), *GOOD[2:]], {}),
        ("more than once", [*CREATED, written(2, "INTENT", "pay"), ran("pay"), ran("pay", life=1)], {}),
    ],
)
def test_a_broken_rule_is_found(broken: str, trace: list[Entry], changes: dict[str, Any]) -> None:
    """Evidence that breaks a rule is reported under the name of that rule."""
    assert broken in rules(trace, **changes)


def test_a_second_start_is_explained_by_the_kill() -> None:
    """An action that was started again names the kill that came between its effect and its record."""
    kill = Entry(0, "kill", {"moment": "before", "write": 5, "operation": "commit of DONE 'pay'"})
    evidence = Evidence([*CREATED, ran("pay"), kill, ran("pay", life=1)], report(), report())
    (repeat,) = repeats(evidence)
    assert (repeat.process, repeat.checkpoint, repeat.times) == (ID, "pay", 2)
    assert repeat.reason == "killed before commit of DONE 'pay'"


# --- processes that restart themselves ---

AGAIN = Entry(0, "record", {"key": KEY, **record(1, "STARTED", digest="the next life")})
NEXT_LIFE = [record(1, "STARTED", digest="the next life"), record(2, "DONE", "pay"), record(3, "COMPLETED")]


def test_a_restart_is_no_loss_and_its_actions_are_new() -> None:
    """Records of an earlier life of a process may be gone, and what ran in it may run in the next one."""
    first = [*CREATED, ran("pay"), written(2, "DONE", "pay")]
    following = [AGAIN, ran("pay"), written(2, "DONE", "pay"), written(3, "COMPLETED")]
    assert rules([*first, *following], process={"records": NEXT_LIFE}) == set()


def test_what_is_lost_of_the_last_life_is_noticed() -> None:
    """A record of the present life that is gone is lost, and an action recorded in it must not run again."""
    trace = [*CREATED, AGAIN, ran("pay"), written(2, "DONE", "pay"), ran("pay", life=1), written(3, "COMPLETED")]
    assert rules(trace, process={"records": NEXT_LIFE}) == {"ran again"}
    lost = [*CREATED, AGAIN, written(2, "VALUE", "other"), written(3, "COMPLETED")]
    assert rules(lost, process={"records": NEXT_LIFE}) == {"lost record"}
