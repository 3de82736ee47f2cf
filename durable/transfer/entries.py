"""Records and mail as objects of JSON, exactly: payloads are base64, untouched, so that no codec is needed."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from durable.journal import Kind, Record
from durable.storage import InboxItem, MailKind


def of_record(record: Record) -> dict[str, Any]:
    """A record."""
    seq, kind, name, payload, time = record
    return {"record": seq, "kind": kind.name, "name": name, "time": time, "payload": of_bytes(payload)}


def to_record(entry: dict[str, Any]) -> Record:
    """The record of an *entry*; `KeyError`, `TypeError` or `ValueError` if it is none."""
    return Record(entry["record"], Kind[entry["kind"]], entry["name"], to_bytes(entry["payload"]), entry["time"])


def of_mail(item: InboxItem) -> dict[str, Any]:
    """A mail in the inbox of a process."""
    return {
        "mail": item.number,
        "kind": item.kind.name,
        "name": item.name,
        "event_key": item.event_key,
        "time": item.time,
        "payload": of_bytes(item.payload),
    }


def to_mail(entry: dict[str, Any], key: int) -> InboxItem:
    """The mail of an *entry*, in the inbox of process *key*; errors as of `to_record`."""
    kind, payload = MailKind[entry["kind"]], to_bytes(entry["payload"])
    return InboxItem(entry["mail"], key, kind, entry["name"], entry["event_key"], payload, entry["time"])


def of_bytes(payload: bytes) -> str:
    """Bytes as text."""
    return b64encode(payload).decode()


def to_bytes(text: str) -> bytes:
    """The bytes of a text that `of_bytes` made; `ValueError` if it did not."""
    return b64decode(text, validate=True)
