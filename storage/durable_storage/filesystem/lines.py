"""
Lines: what a journal file says, one JSON object in a frame for each thing that happened to the process.

The first line makes the process, each later one changes it; `Entry.apply` says what each means. Payloads are opaque:
those that are printable UTF-8 text stand as ``text``, so that a person can read them, all others as ``base64``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Protocol

from durable.errors import CorruptJournal
from durable.journal import Kind, Record
from durable.storage import InboxItem, MailKind, Status
from durable_storage.filesystem.frames import frame

MAGIC = b"durable journal 1\n"  # begins every journal file

encode_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
decode_json: Callable[[str], Any] = json.JSONDecoder().decode

_KINDS = {kind.name: kind for kind in Kind}
_KIND_NAMES = {int(kind): kind.name for kind in Kind}
_MAIL_KINDS = {kind.name: kind for kind in MailKind}


# --- payloads ------------------------------------------------------------------------------------------------


def _payload_member(payload: bytes) -> str:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.isprintable():
        return f'"text":{encode_json(text)}'
    return f'"base64":"{b64encode(payload).decode()}"'


def _payload(line: dict[str, Any]) -> bytes:
    if "text" in line:
        return bytes(line["text"], "utf-8")
    return b64decode(line["base64"], validate=True)


class Process(Protocol):
    """What the first line says of a process."""

    key: int
    id: str
    born: int
    definition: str
    queue: str
    owner: int | None
    wake_at: int | None
    created_at: int | None


# --- lines of one process ------------------------------------------------------------------------------------
# What every process has is written by hand: the JSON encoder takes several times as long for an object.


def line(op: str, **facts: Any) -> bytes:
    """A line that says *op* with its *facts*."""
    return frame(encode_json({"op": op, **facts}).encode())


def process_line(process: Process) -> bytes:
    """How a file begins: what it is, who the process is, and how it starts."""
    id_, definition, queue = map(encode_json, (process.id, process.definition, process.queue))
    created = "" if process.created_at is None else f',"created_at":{process.created_at}'
    return MAGIC + frame(
        f'{{"op":"process","id":{id_},"key":{process.key},"born":{process.born},"definition":{definition},'
        f'"queue":{queue},"owner":{_number(process.owner)},"wake_at":{_number(process.wake_at)}{created}}}'.encode()
    )


def park_line(wake_at: int | None) -> bytes:
    """Its owner lets go of it."""
    return frame(f'{{"op":"park","wake_at":{_number(wake_at)}}}'.encode())


def end_line(status: Status, reason: str | None, time: int) -> bytes:
    """It is over."""
    text = "null" if reason is None else encode_json(reason)
    return frame(f'{{"op":"end","status":"{status}","reason":{text},"time":{time}}}'.encode())


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def record_line(record: Record) -> bytes:
    """One record."""
    seq, kind, name, payload, time = record
    return frame(
        f'{{"op":"record","seq":{seq},"kind":"{_KIND_NAMES[kind]}","name":{encode_json(name)},"time":{time},'
        f"{_payload_member(payload)}}}".encode()
    )


def mail_line(item: InboxItem) -> bytes:
    """One mail that arrived."""
    head = {
        "op": "mail",
        "number": item.number,
        "kind": MailKind(item.kind).name,
        "name": item.name,
        "event_key": item.event_key,
        "time": item.time,
    }
    return frame(f"{encode_json(head)[:-1]},{_payload_member(item.payload)}}}".encode())


def progress_line(progress: bytes) -> bytes:
    """The last progress report."""
    return frame(f'{{"op":"progress",{_payload_member(progress)}}}'.encode())


# --- reading -------------------------------------------------------------------------------------------------


def read_line(payload: bytes) -> dict[str, Any]:
    """
    The line in a frame.

    Raises:
        CorruptJournal: The frame is whole, but holds no such line; so it was written by something else.
    """
    try:
        read = decode_json(payload.decode())
        if isinstance(read, dict) and isinstance(read.get("op"), str):
            return read
    except ValueError:
        pass
    raise CorruptJournal(f"A frame holds something that is no line of a journal: {payload[:80]!r}")


# What is raised where a member of a line is missing, or is not what this version writes.
STRANGE = (KeyError, TypeError, ValueError)


def strange(line: dict[str, Any]) -> CorruptJournal:
    """The error of a *line* that stands as it was written, its checksum says so, and cannot be read here."""
    return CorruptJournal(
        f"This version cannot read a line of a journal, a newer one has probably written it: {str(line)[:200]}",
        fix="upgrade this host; the process waits, and nothing of it is lost",
    )


def number_of(line: dict[str, Any], member: str) -> int:
    """A number of 64 bits."""
    value = line[member]
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise TypeError(f"{member} is no number: {value!r:.80}")
    return value


def text_of(line: dict[str, Any], member: str) -> str:
    """A text."""
    value = line[member]
    if type(value) is not str:
        raise TypeError(f"{member} is no text: {value!r:.80}")
    return value


def number_or_none(line: dict[str, Any], member: str) -> int | None:
    """A number of 64 bits, or nothing."""
    return None if line[member] is None else number_of(line, member)


def text_or_none(line: dict[str, Any], member: str) -> str | None:
    """A text, or nothing."""
    return None if line[member] is None else text_of(line, member)


def payload_of(line: dict[str, Any]) -> bytes:
    """The payload a line carries."""
    try:
        return _payload(line)
    except STRANGE as error:
        raise strange(line) from error


def record_of(line: dict[str, Any]) -> Record:
    """The record a line carries."""
    try:
        kind = _KINDS[line["kind"]]
        return Record(number_of(line, "seq"), kind, text_of(line, "name"), _payload(line), number_of(line, "time"))
    except STRANGE as error:
        raise strange(line) from error


def mail_kind_of(line: dict[str, Any]) -> MailKind:
    """What kind of mail a line carries."""
    try:
        return _MAIL_KINDS[line["kind"]]
    except STRANGE as error:
        raise strange(line) from error


def inbox_item_of(line: dict[str, Any], key: int) -> InboxItem:
    """The mail a line carries, as the inbox item of process *key*."""
    try:
        number, kind, name = number_of(line, "number"), _MAIL_KINDS[line["kind"]], text_of(line, "name")
        event_key, time = text_or_none(line, "event_key"), number_of(line, "time")
        return InboxItem(number, key, kind, name, event_key, _payload(line), time)
    except STRANGE as error:
        raise strange(line) from error
