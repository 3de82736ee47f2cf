"""
One process as text: lines of JSON, so that a person can look into it, and a checksum, so that damage is noticed.

The first line describes the process, one line for each record and each mail follows, the last line has the number of
lines before it and their SHA-256. Payloads are base64, untouched, so the text needs no codec to be read or written.
``docs/command-line.md`` has the format; a field may be added within a version, none may change its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from durable.errors import CorruptJournal, DurableError, NewerFormat, NotAStore
from durable.journal import ID_LIMIT, check_journal, check_name
from durable.storage import Status
from durable.transfer import entries
from durable.transfer.snapshot import Snapshot, is_complete

FORMAT = "durable process"
VERSION = 1


def line(entry: dict[str, Any]) -> bytes:
    """One line of the text."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def dump(snapshot: Snapshot, write_line: Callable[[dict[str, Any]], bytes] = line) -> bytes:
    """
    *snapshot* as text.

    Args:
        write_line: Makes the line of an entry; it may add fields, which `load` passes over.
    """
    body = b"".join(map(write_line, _entries(snapshot)))
    return body + line({"end": True, "lines": body.count(b"\n"), "sha256": sha256(body).hexdigest()})


def load(text: bytes, where: str) -> Snapshot:
    """
    The process in *text*, all of it checked; *where* names the text in errors.

    Raises:
        NotAStore: It is some other text.
        NewerFormat: A newer version of this library wrote it.
        CorruptJournal: It is cut off or damaged.
    """
    lines = text.splitlines(keepends=True)
    head = _head(lines, where)
    _check_seal(lines, where)
    try:
        snapshot = _snapshot(head, [json.loads(line) for line in lines[1:-1]])
        check_journal(snapshot.records, snapshot.id)
    except (DurableError, KeyError, TypeError, ValueError) as error:
        raise _damaged(where, str(error)) from error
    if not snapshot.records or not is_complete(snapshot):
        raise _damaged(where, "its status and its journal do not agree")
    return snapshot


def _entries(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    yield {
        "format": FORMAT,
        "version": VERSION,
        "id": snapshot.id,
        "definition": snapshot.definition,
        "queue": snapshot.queue,
        "status": snapshot.status.value,
        "wake_at": snapshot.wake_at,
        "created_at": snapshot.created_at,
        "reason": snapshot.reason,
        "progress": None if snapshot.progress is None else entries.of_bytes(snapshot.progress),
        "key": snapshot.key,
    }
    yield from map(entries.of_record, snapshot.records)
    yield from map(entries.of_mail, snapshot.inbox)


def _snapshot(head: dict[str, Any], lines: list[dict[str, Any]]) -> Snapshot:
    records = tuple(entries.to_record(line) for line in lines if "record" in line)
    first = records[0].time if records else 0
    return Snapshot(
        key=head["key"],
        id=check_name(head["id"], "process id", ID_LIMIT),
        definition=check_name(head["definition"], "definition name"),
        queue=check_name(head["queue"], "queue name"),
        status=Status(head["status"]),
        wake_at=head["wake_at"],
        created_at=head.get("created_at", first),  # older texts do not have it
        reason=head["reason"],
        progress=None if head["progress"] is None else entries.to_bytes(head["progress"]),
        records=records,
        inbox=tuple(entries.to_mail(line, head["key"]) for line in lines if "mail" in line),
    )


def _head(lines: list[bytes], where: str) -> dict[str, Any]:
    try:
        head = json.loads(lines[0]) if lines else None
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != FORMAT or not isinstance(head.get("version"), int):
        raise NotAStore("This is not an exported process", where=where, fix="name a file that `export` wrote")
    version = head["version"]
    if version > VERSION:
        raise NewerFormat(
            f"The text has version {version} of its format, and this library knows {VERSION}",
            where=where,
            fix="upgrade this library",
        )
    return head


def _check_seal(lines: list[bytes], where: str) -> None:
    try:
        seal = json.loads(lines[-1]) if lines[-1].endswith(b"\n") else {}
    except ValueError:
        seal = {}
    if not isinstance(seal, dict) or not seal.get("end"):
        raise _damaged(where, "its last line is missing: it was cut off")
    if seal.get("lines") != len(lines) - 1 or seal.get("sha256") != sha256(b"".join(lines[:-1])).hexdigest():
        raise _damaged(where, "its checksum does not fit")


def _damaged(where: str, why: str) -> CorruptJournal:
    return CorruptJournal(f"The exported process is damaged: {why}", where=where, fix="export it again")
