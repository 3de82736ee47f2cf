"""
The trace of a crash test: one line for everything that happened for sure, in order, through all lives.

A *life* is one OS process that runs the scenario, from its fork to its kill or its end. Lines are appended with one
``write`` to a file opened with ``O_APPEND``: a kill tears none of them, and several OS processes may write. What stands
here had happened when the line was written: an action was about to start, or the store had acknowledged a record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from durable.journal import Record
from durable.storage import Mail


class Entry(NamedTuple):
    """
    One line: which life wrote it, what happened, and the facts.

    ``what`` is "action" (process, checkpoint, attempt), "process" (key, id), "record" (key, seq, kind, name, digest),
    "mail" (id, kind, name, event_key, digest) or "kill" (moment, write, operation).
    """

    life: int
    what: str
    facts: dict[str, Any]


class Trace:
    """Where one life writes to the trace at *path*."""

    def __init__(self, path: Path, life: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._life = life

    def write(self, what: str, **facts: Any) -> None:
        os.write(self._descriptor, (json.dumps([self._life, what, facts]) + "\n").encode())

    def process(self, key: int, id: str) -> None:
        """The store has this process."""
        self.write("process", key=key, id=id)

    def record(self, key: int, record: Record) -> None:
        """The store has this record."""
        self.write("record", key=key, **describe(record))

    def mail(self, mail: Mail) -> None:
        """The store has this mail."""
        self.write(
            "mail",
            id=mail.id,
            kind=mail.kind.name,
            name=mail.name,
            event_key=mail.event_key,
            digest=digest(mail.payload),
        )


def read_trace(path: Path) -> Iterator[Entry]:
    """Every line of the trace at *path*, oldest first."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield Entry(*json.loads(line))


def describe(record: Record) -> dict[str, Any]:
    """A record as facts: all of it, but only the digest of its payload."""
    return {
        "seq": record.seq,
        "kind": record.kind.name,
        "name": record.name,
        "time": record.time,
        "digest": digest(record.payload),
    }


def digest(payload: bytes) -> str:
    """Tells payloads apart."""
    return blake2b(payload, digest_size=8).hexdigest()
