"""
Read-only questions about processes: `Insight`, for the command line, for web pages, for your own tools.

``views`` are the answers, plain frozen data. ``payloads`` reads values without the classes they were made of,
``checkpoints`` folds a journal into what a person asks about, ``waiting`` says in one sentence where a process stands,
``questions`` asks the store. Nothing here writes, runs code of a process, or knows how an answer is shown.
"""

from durable.insight.payloads import in_words, reader_for
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
    moment,
)
from durable.insight.waiting import waiting_for

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
    "moment",
    "reader_for",
    "waiting_for",
]
