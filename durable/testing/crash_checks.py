"""
What must be true after a crash test: pure functions from the trace of all lives and the last report to violations.

Each rule is one function. They know nothing of the scenario: what is right is what the store acknowledged, what the
journal's own rules say, and what the unbroken run came to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from durable.errors import CorruptJournal
from durable.journal import Kind, Record, check_journal
from durable.storage import ENDED
from durable.testing.crash_trace import Entry

_ENDS_OF_ACTIONS = frozenset({"DONE", "FAILED"})


_Process = tuple[str, int]  # its id, and how often it had restarted itself


class Violation(NamedTuple):
    """A rule that was broken, and how."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


class Repeat(NamedTuple):
    """An attempt that was started more than once, and the kill that explains it."""

    process: str
    checkpoint: str
    times: int
    reason: str


@dataclass(slots=True)
class Evidence:
    """
    All that is known of one story: the trace of its lives, and the report of the last one.

    ``report`` and ``unbroken`` have "outcome", "error" and "processes" (`durable.testing.crash_life`). ``started`` says
    how often each process, by key, has begun: more than once if it restarts itself. Entries of the trace about records
    and actions get one more fact, "round": in which of these rounds of their process, from 0.
    """

    trace: Sequence[Entry]
    report: Mapping[str, Any]
    unbroken: Mapping[str, Any]
    ids: dict[int, str] = field(init=False)
    started: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = {entry.facts["key"]: entry.facts["id"] for entry in self.trace if entry.what == "process"}
        self.started = {}
        self.trace = list(self._in_rounds())

    def _in_rounds(self) -> Iterator[Entry]:
        keys = {id: key for key, id in self.ids.items()}
        first: dict[int, Mapping[str, Any]] = {}
        for entry in self.trace:
            facts = entry.facts
            if entry.what not in ("record", "action"):
                yield entry
                continue
            key = facts["key"] if entry.what == "record" else keys.get(facts["process"], 0)
            if entry.what == "record" and facts["kind"] == "STARTED" and first.get(key) != facts:
                first[key] = facts
                self.started[key] = self.started.get(key, 0) + 1
            yield entry._replace(facts={**facts, "round": max(0, self.started.get(key, 0) - 1)})

    def records(self) -> Iterator[tuple[int, tuple[str, int], dict[str, Any]]]:
        """Acknowledged records: life, process with its round, and the facts."""
        for entry in self.entries("record"):
            facts = dict(entry.facts)
            number = facts.pop("round")
            yield entry.life, (self.ids.get(facts["key"], str(facts["key"])), number), facts

    def entries(self, what: str) -> Iterator[Entry]:
        return (entry for entry in self.trace if entry.what == what)


def violations(evidence: Evidence) -> list[Violation]:
    """Every rule that was broken."""
    return [violation for rule in _RULES for violation in rule(evidence)]


def repeats(evidence: Evidence) -> list[Repeat]:
    """Attempts that were started more than once: their effect may have happened, their record was not durable."""
    kills = {entry.life: entry.facts for entry in evidence.entries("kill")}
    lives: dict[tuple[_Process, str, int], list[int]] = {}
    for entry in evidence.entries("action"):
        lives.setdefault(_attempt(entry), []).append(entry.life)
    found = []
    for (process, checkpoint, _), started in lives.items():
        for life in started[:-1]:
            kill = kills.get(life)
            reason = f"killed {kill['moment']} {kill['operation']}" if kill else "its life ended without a kill of ours"
            found.append(Repeat(process[0], checkpoint, len(started), reason))
    return found


# --- the rules ---


def _same_outcome(evidence: Evidence) -> Iterator[Violation]:
    report, unbroken = evidence.report, evidence.unbroken
    if report["error"]:
        yield Violation("the scenario failed", report["error"])
    elif report["outcome"] != unbroken["outcome"]:
        yield Violation("another outcome", f"{report['outcome']} instead of {unbroken['outcome']}")
    now, then = ({process["id"]: process["status"] for process in one["processes"]} for one in (report, unbroken))
    if now != then:
        yield Violation("other ends", f"{now} instead of {then}")


def _everything_ended(evidence: Evidence) -> Iterator[Violation]:
    for process in evidence.report["processes"]:
        if process["status"] not in ENDED:
            yield Violation("not ended", f"process {process['id']!r} is {process['status']}")


def _sound_journals(evidence: Evidence) -> Iterator[Violation]:
    for process in evidence.report["processes"]:
        records = [
            Record(record["seq"], Kind[record["kind"]], record["name"], b"", record["time"])
            for record in process["records"]
        ]
        try:
            check_journal(records, process["id"])
        except CorruptJournal as error:
            yield Violation("broken journal", str(error))


def _nothing_acknowledged_is_lost(evidence: Evidence) -> Iterator[Violation]:
    kept = {process["key"]: process for process in evidence.report["processes"]}
    for key, id in evidence.ids.items():
        if key not in kept:
            yield Violation("lost process", f"{id!r} was acknowledged and is gone")
    for life, (process, number), facts in evidence.records():
        key, seq = facts.pop("key"), facts["seq"]
        records = kept[key]["records"] if key in kept else []
        if number < evidence.started[key] - 1:
            continue  # it has restarted itself since
        if seq > len(records) or records[seq - 1] != facts:
            what = f"record {seq} ({facts['kind']} {facts['name']!r}) of {process!r}"
            yield Violation("lost record", f"{what} was acknowledged in life {life} and is gone or changed")


def _no_event_is_lost(evidence: Evidence) -> Iterator[Violation]:
    sent: Counter[tuple[str, str, str]] = Counter()
    for entry in evidence.entries("mail"):
        if entry.facts["kind"] == "EVENT":
            event = (entry.facts["id"], entry.facts["name"], entry.facts["digest"])
            # With a key, however often it was sent: it counts once.
            sent[event] = 1 if entry.facts["event_key"] is not None else sent[event] + 1
    arrived: Counter[tuple[str, str, str]] = Counter()
    for process in evidence.report["processes"]:
        events = [record for record in process["records"] if record["kind"] == "EVENT"]
        arrived.update((process["id"], event["name"], event["digest"]) for event in [*events, *process["inbox"]])
    # What a process took before it restarted itself is gone with that; its outcome has to tell.
    restarted = {evidence.ids[key] for key, times in evidence.started.items() if times > 1}
    for (id, name, event_digest), times in sent.items():
        if id not in restarted and arrived[id, name, event_digest] < times:
            yield Violation("lost event", f"{name!r} was sent to {id!r} {times} times, fewer arrived")


def _recorded_actions_never_run_again(evidence: Evidence) -> Iterator[Violation]:
    over: set[tuple[_Process, str]] = set()
    attempts: Counter[tuple[_Process, str]] = Counter()
    known: set[tuple[_Process, int]] = set()
    started: set[_Process] = set()
    for entry in evidence.trace:
        facts = entry.facts
        if entry.what == "record" and ((place := _process(evidence, facts)), facts["seq"]) not in known:
            known.add((place, facts["seq"]))
            action = (place, facts["name"])
            if facts["kind"] == "STARTED":
                started.add(action[0])
            elif facts["kind"] in _ENDS_OF_ACTIONS:
                over.add(action)
            elif facts["kind"] == "ATTEMPT":
                attempts[action] += 1
        elif entry.what == "action":
            process, checkpoint, attempt = _attempt(entry)
            what = f"attempt {attempt} of {checkpoint!r} of {process[0]!r} started in life {entry.life}"
            if (process, checkpoint) in over:
                yield Violation("ran again", f"{what}, and its end was recorded")
            elif attempt <= attempts[process, checkpoint]:
                yield Violation("ran again", f"{what}, and its failure was recorded")
            elif process not in started:
                yield Violation("ran too early", f"{what}, before the process was durable")


def _no_action_runs_twice_in_one_life(evidence: Evidence) -> Iterator[Violation]:
    times = Counter((entry.life, _attempt(entry)) for entry in evidence.entries("action"))
    for (life, (process, checkpoint, attempt)), count in times.items():
        if count > 1:
            text = f"attempt {attempt} of {checkpoint!r} of {process[0]!r} started {count} times in life {life}"
            yield Violation("ran twice without a crash", text)


def _at_most_once_is_kept(evidence: Evidence) -> Iterator[Violation]:
    intended = {(process, facts["name"]) for _, process, facts in evidence.records() if facts["kind"] == "INTENT"}
    starts = Counter(_attempt(entry)[:2] for entry in evidence.entries("action"))
    for process, checkpoint in intended:
        if starts[process, checkpoint] > 1:
            yield Violation(
                "more than once", f"{checkpoint!r} of {process[0]!r} started {starts[process, checkpoint]} times"
            )


def _attempt(entry: Entry) -> tuple[_Process, str, int]:
    facts = entry.facts
    return (facts["process"], facts["round"]), facts["checkpoint"], facts["attempt"]


def _process(evidence: Evidence, facts: Mapping[str, Any]) -> _Process:
    return evidence.ids[facts["key"]], facts["round"]


_RULES = (
    _same_outcome,
    _everything_ended,
    _sound_journals,
    _nothing_acknowledged_is_lost,
    _no_event_is_lost,
    _recorded_actions_never_run_again,
    _no_action_runs_twice_in_one_life,
    _at_most_once_is_kept,
)
