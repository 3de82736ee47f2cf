"""
What must be true after a chaos run: one function for each promise, from evidence to violations.

Nothing here is a guess. Each rule says why what it finds cannot happen in a run without a fault of ours: because of
tokens (which run of an action counted), of testimony (what was acknowledged to whom), or of the order of two moments of
which the first is surely over when the second begins. What cannot be decided is not a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from durable.errors import CorruptJournal
from durable.journal import ENDS, Kind, check_journal
from durable.storage import Status
from tests.chaos.evidence import Claimed, Entry, Evidence, Start, Story, Written
from tests.chaos.plans import SENDERS, Plan, Shape
from tests.chaos.witness import digest

_MARGIN = 0.1  # share of the lease before its end in which a host starts nothing any more
_ENDS_OF_ACTIONS = (Kind.DONE, Kind.FAILED)
_STATUS = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.ERRED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.TERMINATED: Status.TERMINATED,
}
_TOLD = {Status.COMPLETED: "completed", Status.CANCELLED: "ProcessCancelled"}


class Violation(NamedTuple):
    """A promise that was broken, at which process, and how."""

    rule: str
    process: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.process}: {self.text}"


Broken = Iterator[tuple[str, str]]  # rule and text


def violations(evidence: Evidence) -> list[Violation]:
    """Every promise that was broken."""
    found = [
        Violation("lost process", id, "it was acknowledged and is not in the store") for id in sorted(evidence.lost)
    ]
    found += [Violation("the run failed", "-", failure) for failure in evidence.failures]
    if not evidence.failures:
        missing = evidence.plans.keys() - evidence.stories
        found += [Violation("not started", id, "planned, and not there") for id in sorted(missing)]
    for id, story in evidence.stories.items():
        # Of a process that goes on nobody knows what it would have come to.
        for rule in (*_RULES, *(_RULES_OF_THE_ENDED if any(story.of(*ENDS)) else ())):
            found += [Violation(broken, id, text) for broken, text in rule(story, evidence)]
    return found


def late_starts(evidence: Evidence) -> list[Start]:
    """
    Actions that were called after another host had recorded their end, because of a pause after the check of the lease.

    No library can prevent them: what a host has checked may be over before its next instruction. They are counted.
    """
    return [
        start
        for story in evidence.stories.values()
        for start, durable in _starts_with_end(story)
        if start.checked is not None and start.checked <= durable < start.at
    ]


# --- ended once, with the right result ---


def _ended_once(story: Story, evidence: Evidence) -> Broken:
    ends = list(story.of(*ENDS))
    if len(ends) != 1:
        yield "not ended once", f"its journal has {len(ends)} ends; it is {story.row.status}: {story.row.reason}"
        return
    if _STATUS[ends[0].kind] is not story.row.status or story.row.owner is not None:
        yield "not ended once", f"its journal says {ends[0].kind.name}, its row {story.row.status}"
    if story.left_in_inbox:
        yield "lost mail", f"{story.left_in_inbox} items are left in its inbox"
    told = [(line["outcome"], line["result"]) for line in story.sent if line["what"] == "end"]
    right = _TOLD.get(story.row.status)
    for outcome, result in told:
        if outcome != right or (outcome == "completed" and result != ends[0].value[0]):
            yield "told another end", f"it is {story.row.status}, and who waited was told {outcome}: {result}"


def _right_result(story: Story, evidence: Evidence) -> Broken:
    plan = evidence.plans.get(story.row.id)
    if plan is None:
        yield "unknown process", "nobody planned it"
        return
    if missing := set(plan.checkpoints()) - {entry.name for entry in story.of(*_ENDS_OF_ACTIONS)}:
        yield "wrong result", f"it never did {sorted(missing)}"
    for entry in story.of(*ENDS):
        if plan.shape is Shape.BOOKING:
            yield from _right_booking(story, entry)
        elif entry.kind is not Kind.COMPLETED:
            yield "wrong result", f"{entry.kind.name}: {entry.value}"
        elif entry.value[0] != (expected := _expected(plan, story)):
            yield "wrong result", f"{entry.value[0]} instead of {expected}"


def _expected(plan: Plan, story: Story) -> Any:
    done = {entry.name: entry.value for entry in story.of(Kind.DONE)}
    if plan.shape is Shape.READER:
        events = {entry.seq: entry.value[0] for entry in story.of(Kind.EVENT)}
        taken = {entry.name: events.get(entry.value) for entry in story.of(Kind.TAKEN)}
        return [taken.get(f"letter {number}") for number in range(plan.size * SENDERS)]
    expected = {name: done.get(name) for name in plan.checkpoints()}
    if plan.shape is Shape.PARENT:
        expected["answer"] = next((entry.value[0] for entry in story.of(Kind.EVENT)), None)
    return expected


def _right_booking(story: Story, end: Entry) -> Broken:
    """What was reserved before the request to cancel was released, and nothing else."""
    cancelled_at = next((entry.seq for entry in story.of(Kind.CANCEL)), None)
    if cancelled_at is not None and not any(line["what"] == "cancel" for line in story.sent):
        yield "wrong result", "it was cancelled, and nobody had asked for that"
    reserved = {entry.name: entry for entry in story.of(Kind.DONE) if entry.name.startswith("reserve")}
    released = {entry.name.replace("release", "reserve") for entry in story.of(Kind.DONE)} - reserved.keys()
    released |= {
        name for name in reserved if any(e.name == name.replace("reserve", "release") for e in story.of(Kind.DONE))
    }
    if end.kind is Kind.COMPLETED:
        if released or end.value[0] != {name: entry.value for name, entry in reserved.items()}:
            yield "wrong result", f"completed with {end.value[0]}, released {sorted(released)}"
    elif end.kind is not Kind.CANCELLED or cancelled_at is None:
        yield "wrong result", f"{end.kind.name} without a request to cancel"
    elif released != (due := {name for name, entry in reserved.items() if entry.seq < cancelled_at}):
        yield "wrong result", f"released {sorted(released)} instead of {sorted(due)}"


# --- journals: no gap, no second writer, nothing after the end, nothing lost ---


def _sound_journal(story: Story, evidence: Evidence) -> Broken:
    try:
        check_journal(story.records, story.row.id)
    except CorruptJournal as error:
        yield "broken journal", str(error)
    for names, kinds in (("action", _ENDS_OF_ACTIONS), ("waiter", (Kind.TAKEN,)), ("timer", (Kind.FIRED,))):
        for name, times in Counter(entry.name for entry in story.of(*kinds)).items():
            if times > 1:
                yield "recorded twice", f"{names} {name!r} has {times} ends in its journal"


def _nothing_acknowledged_is_lost(story: Story, evidence: Evidence) -> Broken:
    digests = [digest(record) for record in story.records]
    for written in story.written:
        if written.seq > len(digests) or digests[written.seq - 1] != written.digest:
            who = _who(written.session, evidence)
            yield "lost record", f"record {written.seq} was acknowledged to {who} and is gone or changed"
    for claimed in story.claimed:
        if digest(*story.records[: claimed.length]) != claimed.digest:
            who = _who(claimed.session, evidence)
            yield "lost record", f"{who} was given a journal of {claimed.length} records that is not how it begins"


def _one_writer(story: Story, evidence: Evidence) -> Broken:
    """
    Between two claims only the first claimer writes.

    A record that one session wrote after another had claimed the process, without its number of records being in that
    claim, is one that the owner of that time never saw: unless the writer had claimed the process again in between.
    """
    by_seq: dict[int, Written] = {}
    for written in story.written:
        if written.session is None:
            continue
        if (other := by_seq.get(written.seq)) and other.session != written.session:
            both = f"{_who(other.session, evidence)} and {_who(written.session, evidence)}"
            yield "second writer", f"record {written.seq} was acknowledged to {both}"
        by_seq[written.seq] = written
    for written in by_seq.values():
        mine = [claimed for claimed in story.claimed if claimed.session == written.session]
        for claimed in story.claimed:
            if (
                claimed.session != written.session
                and claimed.length < written.seq
                and not _claimed_since(mine, claimed, written)
            ):
                text = f"record {written.seq} was written by {_who(written.session, evidence)}"
                who = _who(claimed.session, evidence)
                yield "second writer", f"{text} although {who} had claimed the process at {claimed.length} records"
                break


def _claimed_since(mine: list[Claimed], claimed: Claimed, written: Written) -> bool:
    return any(
        claimed.length <= own.length < written.seq and (own.length > claimed.length or own.answered >= claimed.asked)
        for own in mine
    )


# --- actions: at least once, never again, at most once where that was asked for ---


def _ran_at_least_once(story: Story, evidence: Evidence) -> Broken:
    tokens = {start.token: start for start in story.starts}
    hosts = {written.seq: _host(written.session, evidence) for written in story.written}
    for entry in story.of(Kind.DONE):
        start = tokens.get(entry.value)
        if start is None or start.checkpoint != entry.name:
            yield "never ran", f"{entry.name!r} has result {entry.value!r}, and no run of it had that token"
        elif hosts.get(entry.seq, start.host) != start.host:
            yield "second writer", f"{entry.name!r} ran on {start.host}, and {hosts[entry.seq]} recorded its result"


def _never_again(story: Story, evidence: Evidence) -> Broken:
    """
    Whoever starts an action has checked its lease before, and nobody else can have taken the process over until then.

    So a check after the end of the action was durable is one too many, and so is a start without a pause since its
    check: the margin of the lease alone is longer.
    """
    for start, durable in _starts_with_end(story):
        late = start.at - durable
        if start.checked is None:
            continue  # another rule's affair
        if start.checked > durable:
            yield "ran again", f"{start.checkpoint!r} on {start.host}, {late:.3f} s after its end was durable"
        elif start.at > durable and start.at - start.checked < _MARGIN * evidence.lease:
            yield (
                "ran again",
                f"{start.checkpoint!r} on {start.host}, {late:.3f} s after its end, with a lease just checked",
            )


def _lease_was_checked(story: Story, evidence: Evidence) -> Broken:
    for start in story.starts:
        if start.checked is None:
            yield "lease not checked", f"{start.checkpoint!r} was started on {start.host}"


def _starts_with_end(story: Story) -> Iterator[tuple[Start, float]]:
    """Each start whose end is recorded, and since when that was durable."""
    ends = {entry.name: story.durable_since(entry.seq) for entry in story.of(*_ENDS_OF_ACTIONS)}
    attempts = {(entry.name, entry.value[0]): story.durable_since(entry.seq) for entry in story.of(Kind.ATTEMPT)}
    for start in story.starts:
        moments = (ends.get(start.checkpoint), attempts.get((start.checkpoint, start.attempt)))
        known = [moment for moment in moments if moment is not None]
        if known:
            yield start, min(known)


def _at_most_once(story: Story, evidence: Evidence) -> Broken:
    for entry in story.of(Kind.INTENT):
        times = sum(start.checkpoint == entry.name for start in story.starts)
        if times > 1:
            yield "more than once", f"{entry.name!r} was started {times} times"
        durable = story.durable_since(entry.seq)
        if times and durable is None:
            yield "too early", f"{entry.name!r} was started, and nobody had heard that its intent was durable"


def _not_too_early(story: Story, evidence: Evidence) -> Broken:
    """An action starts on a host that has been told of the process, and not before."""
    told = [claimed.answered for claimed in story.claimed]
    for start in story.starts:
        if not any(moment <= start.at for moment in told):
            yield "too early", f"{start.checkpoint!r} was started on {start.host} before it was given the process"


# --- events: once, in the order of each sender ---


def _letters_arrive(story: Story, evidence: Evidence) -> Broken:
    plan = evidence.plans.get(story.row.id)
    if plan is None or plan.shape is not Shape.READER:
        return
    events = {entry.seq: entry.value[0] for entry in story.of(Kind.EVENT) if entry.name == "letter"}
    taken = [events.get(entry.value, "no letter") for entry in story.of(Kind.TAKEN)]
    for sender in range(SENDERS):
        sent = [
            line["text"] for line in story.sent if line["what"] == "letter" and line["text"].startswith(f"{sender}:")
        ]
        if sent != plan.letters(sender):
            yield "not sent", f"sender {sender} was answered for {sent}"
        arrived = [text for text in taken if text.startswith(f"{sender}:")]
        if arrived != plan.letters(sender):
            yield "lost or reordered event", f"of sender {sender} it took {arrived}"


def _notes_arrive_once(story: Story, evidence: Evidence) -> Broken:
    arrived = Counter(entry.value[0] for entry in story.of(Kind.EVENT) if entry.name == "note")
    for line in story.sent:
        if line["what"] == "note":
            allowed = {"done": (1,), "ended": (0,), "unknown": (0, 1)}[line["outcome"]]
            times = arrived.pop(line["text"], 0)
            if times not in allowed:
                yield "lost or doubled event", f"note {line['text']!r} ({line['outcome']}) arrived {times} times"
    for text in arrived:
        yield "lost or doubled event", f"note {text!r} arrived, and nobody had sent it"


def _cancels_arrive(story: Story, evidence: Evidence) -> Broken:
    for line in story.sent:
        if line["what"] == "cancel" and line["outcome"] == "done" and not any(story.of(Kind.CANCEL)):
            yield "lost request", "a request to cancel was acknowledged and is not in its journal"


def _host(session: int | None, evidence: Evidence) -> str:
    return "a client" if session is None else evidence.sessions.get(session, "an unknown host")


def _who(session: int | None, evidence: Evidence) -> str:
    return f"session {session} of {_host(session, evidence)}"


_RULES: tuple[Callable[[Story, Evidence], Broken], ...] = (
    _ended_once,
    _sound_journal,
    _nothing_acknowledged_is_lost,
    _one_writer,
    _ran_at_least_once,
    _lease_was_checked,
    _never_again,
    _at_most_once,
    _not_too_early,
)
_RULES_OF_THE_ENDED = (
    _right_result,
    _letters_arrive,
    _notes_arrive_once,
    _cancels_arrive,
)
