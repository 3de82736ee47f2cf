"""
Read-only questions about processes: `Insight`, for the command line, for web pages, for your own tools.

``views`` are the answers, plain frozen data. ``checkpoints`` folds a journal into what a person asks about, ``words``
writes values as a person would, ``waiting`` says in one sentence where a process stands, ``questions`` asks the store.
Nothing here writes, runs code of a process, or knows how an answer is shown.
"""

from durable.insight.questions import Insight
from durable.insight.views import (
    CheckpointState,
    CheckpointView,
    EventView,
    MailView,
    Page,
    Place,
    ProcessSummary,
    ProcessView,
    RecordView,
    Wait,
    WaitingFor,
    WaitKind,
)
from durable.insight.waiting import waiting_for
from durable.insight.words import in_words, record_in_words

__all__ = [
    "CheckpointState",
    "CheckpointView",
    "EventView",
    "Insight",
    "MailView",
    "Page",
    "Place",
    "ProcessSummary",
    "ProcessView",
    "RecordView",
    "Wait",
    "WaitKind",
    "WaitingFor",
    "in_words",
    "record_in_words",
    "waiting_for",
]
