"""
What ``--json`` promises, as pydantic models that forbid everything else: a field that comes, goes or changes its type
fails a test here, and is a change of the documented schema.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Progress(Answer):
    done: float
    total: float | None
    message: str
    steps: dict[str, Progress]


class Summary(Answer):
    id: str
    definition: str
    queue: str
    status: Literal["running", "stalled", "completed", "failed", "cancelled", "terminated"]
    place: Literal["claimable", "parked", "held", "stalled", "ended"]
    session: int | None
    created_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    reason: str | None
    progress: Progress | None


class Ps(Answer):
    processes: list[Summary]
    total: int


class Wait(Answer):
    kind: Literal["value", "action", "event", "delay", "timeout", "timer", "deadline", "child", "other"]
    name: str
    event: str | None
    until: datetime | None
    attempt: int | None
    child: str | None


class Waiting(Answer):
    sentence: str
    waits: list[Wait]
    exact: bool


class Checkpoint(Answer):
    name: str
    kind: Literal["get", "do", "delay", "event", "timeout", "child", "timer"]
    state: Literal["open", "done", "failed", "timed out"]
    record: int
    started_at: datetime
    ended_at: datetime | None
    duration: float | None
    due: datetime | None
    attempts: int
    value: Any
    error: str | None
    child: str | None


class Event(Answer):
    record: int
    name: str
    key: str | None
    time: datetime
    value: Any
    taken_by: str | None


class Mail(Answer):
    number: int
    kind: Literal["EVENT", "CANCEL", "TERMINATE", "RESUME", "RETURN"]
    name: str
    key: str | None
    time: datetime
    value: Any


class Show(Answer):
    summary: Summary
    waiting: Waiting
    records: int
    arguments: list[Any]
    keywords: dict[str, Any]
    deadline: datetime | None
    cancel_requested: str | None
    result: Any
    error: str | None
    notes: list[str]
    checkpoints: list[Checkpoint]
    events: list[Event]
    inbox: list[Mail]


class Record(Answer):
    seq: int
    kind: str
    name: str
    time: datetime
    value: Any


class History(Answer):
    id: str
    records: list[Record]


class Done(Answer):
    id: str
    done: Literal["raised", "cancel requested", "terminate requested", "resume requested", "nothing"]


class Carried(Answer):
    id: str
    file: str
    status: str
    records: int
    inbox: int


class Transfer(Answer):
    id: str
    outcome: Literal["moved", "copied", "there already", "left"]
    why: str | None


class Copy(Answer):
    counts: dict[Literal["moved", "copied", "there already", "left"], int]
    transfers: list[Transfer]


Verdict = Literal["goes on", "drifts", "stalls", "fails", "unknown definition", "undecodable"]


class Finding(Answer):
    id: str
    definition: str
    verdict: Verdict
    record: int | None
    checkpoint: str | None
    detail: str
    fix: str | None
    place: str | None


class Check(Answer):
    counts: dict[Verdict, int]
    findings: list[Finding]


class Kept(Answer):
    archived: int
    purged: int
    objects: int
    size: int
    left: dict[str, str]


class Ddl(Answer):
    sql: str
