"""
What a store of journals must do: the `JournalStorage` protocol, and the batch through which everything is written.

A store knows processes, records, an inbox and sessions; it never looks into a payload. Whatever a host wants written
goes through `commit`, one atomic batch for all its processes, fenced by its session: a session that was declared dead
writes nothing any more. Everything else reads, claims, or keeps sessions alive.

Two clocks, never mixed: ``now`` arguments and ``wake_at`` are the host's (a test can set it), microseconds since 1970
UTC; leases run on the store's own clock. Providers are found by URL scheme (``providers``): ours in a table, others
by the entry point group ``durable.storage``, each a callable ``(url: str) -> JournalStorage``.
"""

from durable.storage.answer import Answer
from durable.storage.batch import Batch, BatchResult, Creation, Delivery, End, Notice, Park, Restart, Stall
from durable.storage.kept import ENDED, InboxItem, Mail, MailKind, ProcessRow, Status
from durable.storage.protocol import Claim, HasSchema, JournalStorage
from durable.storage.providers import open_storage

__all__ = [
    "ENDED",
    "Answer",
    "Batch",
    "BatchResult",
    "Claim",
    "Creation",
    "Delivery",
    "End",
    "HasSchema",
    "InboxItem",
    "JournalStorage",
    "Mail",
    "MailKind",
    "Notice",
    "Park",
    "ProcessRow",
    "Restart",
    "Stall",
    "Status",
    "open_storage",
]
