"""
Everything that is known after a chaos run: what was planned, what the journals hold, and what was noted meanwhile.

Read here, judged in `checker`. Journals are what the store holds at the end; the rest is lines that hosts, senders and
nemesis wrote outside of the store, and that no fault takes back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from durable.codec import MessagePackCodec
from durable.journal import Kind, Record
from durable.storage import JournalStorage, ProcessRow, open_storage
from tests.chaos.lines import Facts, read_lines
from tests.chaos.plans import Plan, Setting
from tests.chaos.witness import digest

_PAGE = 1000


class Entry(NamedTuple):
    """A record with its payload decoded."""

    seq: int
    kind: Kind
    name: str
    value: Any


class Start(NamedTuple):
    """
    One start of an action, from the effect log.

    Attributes:
        checked: When the host checked its lease for this very start; None: it did not.
        at: When the action was called.
    """

    process: str
    checkpoint: str
    attempt: int
    token: str
    host: str
    checked: float | None
    at: float


class Written(NamedTuple):
    """A commit that holds record *seq* of a process was answered."""

    session: int | None
    seq: int
    digest: str
    asked: float
    answered: float


class Claimed(NamedTuple):
    """A session was given a process with a journal of *length* records; or made it itself, with length 0."""

    session: int
    length: int
    digest: str
    asked: float
    answered: float


@dataclass(slots=True)
class Story:
    """What is known of one process."""

    row: ProcessRow
    records: Sequence[Record]
    entries: Sequence[Entry]
    left_in_inbox: int = 0
    starts: list[Start] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    claimed: list[Claimed] = field(default_factory=list)
    sent: list[Facts] = field(default_factory=list)

    def of(self, *kinds: Kind) -> Iterator[Entry]:
        """The entries of these kinds."""
        return (entry for entry in self.entries if entry.kind in kinds)

    def durable_since(self, seq: int) -> float | None:
        """By when record *seq* was surely durable: somebody had been told of it. None: nobody was, before the end."""
        told = [written.answered for written in self.written if written.seq == seq]
        told += [claimed.answered for claimed in self.claimed if claimed.length >= seq]
        return min(told, default=None)


@dataclass(slots=True)
class Evidence:
    """All of a run. ``lost``: processes whose start was acknowledged and that the store does not have."""

    plans: dict[str, Plan]
    stories: dict[str, Story]
    lost: set[str]
    sessions: dict[int, str]  # to the name of the host
    lease: float
    failures: list[str] = field(default_factory=list)  # of the machinery: hosts that ended by themselves


async def gather_evidence(setting: Setting, url: str, failures: list[str]) -> Evidence:
    """Read the store behind *url*, and every line that was written in the folder of the run."""
    storage = open_storage(url)
    await storage.open()
    try:
        stories = {story.row.id: story async for story in _stories(storage)}
    finally:
        await storage.close()
    folder = Path(setting.folder)
    lost = set()
    for line in read_lines(folder / "effects"):
        facts = {name: line[name] for name in Start._fields}
        if line["process"] in stories:
            stories[line["process"]].starts.append(Start(**facts))
    for line in read_lines(folder / "sent"):
        if line["process"] in stories:
            stories[line["process"]].sent.append(line)
        else:
            lost.add(line["process"])
    sessions = _testimony(folder / "witness", {story.row.key: story for story in stories.values()}, lost)
    plans = {plan.id: plan for plan in setting.plans()}
    return Evidence(plans, stories, lost, sessions, setting.lease, failures)


async def _stories(storage: JournalStorage) -> Any:
    codec, before = MessagePackCodec(), None
    while rows := await storage.rows(limit=_PAGE, before=before):
        for row in rows:
            records = await storage.journal(row.key)
            entries = [
                Entry(record.seq, record.kind, record.name, codec.decode(record.payload) if record.payload else None)
                for record in records
            ]
            yield Story(row, records, entries, len(await storage.inbox(row.key)))
        before = rows[-1].key


def _testimony(path: Path, stories: dict[int, Story], lost: set[str]) -> dict[int, str]:
    sessions: dict[int, str] = {}
    by_key: defaultdict[int, Story | None] = defaultdict(lambda: None, stories)
    for line in read_lines(path):
        match line["what"]:
            case "session":
                sessions[line["session"]] = line["host"]
            case "commit":
                session, asked, answered = line["session"], line["asked"], line["answered"]
                for key in line["owned"]:
                    if story := by_key[key]:
                        story.claimed.append(Claimed(session, 0, digest(), asked, answered))
                for key, seq, of_record in line["records"]:
                    if story := by_key[key]:
                        story.written.append(Written(session, seq, of_record, asked, answered))
                    else:
                        lost.add(f"key {key}")
            case "claim":
                for key, length, of_journal in line["claims"]:
                    if story := by_key[key]:
                        testimony = Claimed(line["session"], length, of_journal, line["asked"], line["answered"])
                        story.claimed.append(testimony)
                    else:
                        lost.add(f"key {key}")
    return sessions
