"""
What goes out, as JSON: how a process stands, what came of it, its history.

Values are written as pydantic writes them: an enum as its value, a dataclass or model as an object, bytes as base64, a
date as ISO 8601. What it does not know is its ``repr``. Failures are type and message; their tracebacks stay here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json as pydantic_to_json
from sse_starlette import ServerSentEvent

from durable.errors import DurableError
from durable.handle import Handle, HistoryEntry, ProcessStatus
from durable.storage import Status


def to_json(value: Any) -> bytes:
    """*value* as JSON, whatever it is; NaN and the infinities are strings, since JSON has none."""
    return pydantic_to_json(value, bytes_mode="base64", inf_nan_mode="strings", fallback=_in_words)


def _in_words(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # the code of a user
        return f"<{type(value).__qualname__}>"


@dataclass(frozen=True)
class Update:
    """
    How a process stood at a moment, ready to be sent to any number of listeners.

    Attributes:
        version: Names this state: equal states have equal versions, on every host and after every restart. What it
            waits for is no part of that: only the host that has it in memory knows.
        text: The state as JSON.
    """

    version: str
    text: bytes
    ended: bool

    @cached_property
    def event(self) -> bytes:
        """As a Server-Sent Event, encoded once for all who listen, and kept no longer than the state itself."""
        return ServerSentEvent(self.text.decode(), event="status", id=self.version, sep="\n").encode()


def update(status: ProcessStatus) -> Update:
    """The picture of *status* with its version."""
    told = picture(status)
    text = to_json(told)
    del told["waits_for"]
    return Update(blake2b(to_json(told), digest_size=9).hexdigest(), text, status.ended)


def picture(status: ProcessStatus) -> dict[str, Any]:
    """How a process stands."""
    return {
        "id": status.id,
        "definition": status.definition,
        "status": status.status.value,
        "ended": status.ended,
        "created_at": status.created_at,
        "ended_at": status.ended_at,
        # Why it is stalled has further lines, with files of ours, for who reads the log.
        "reason": None if status.reason is None else status.reason.partition("\n")[0],
        "progress": None if status.progress is None else asdict(status.progress),
        "waits_for": status.waits_for,
    }


async def outcome(handle: Handle[Any], status: ProcessStatus) -> dict[str, Any]:
    """What came of a process that has ended as *status* says: its result, or its error."""
    result, error = None, None
    match status.status:
        case Status.COMPLETED:
            result = await handle.result()
        case Status.FAILED:
            # Its facts and not the exception: one that the process raised could not be told from one of reading it.
            error = failure((await handle.history())[-1].value)
        case _:
            try:
                await handle.result()
            except DurableError as ended:
                error = {"type": type(ended).__name__, "message": str(ended.args[0]), "code": ended.code}
    return {**picture(status), "result": result, "error": error}


def failure(facts: Any) -> dict[str, Any]:
    """A recorded failure without its traceback, with its causes."""
    if not isinstance(facts, Mapping):
        return {"type": "unknown", "message": ""}
    module, _, name = str(facts.get("type", "")).partition(":")
    told: dict[str, Any] = {
        "type": name if module in ("builtins", "durable.errors") else f"{module}.{name}",
        "message": str(facts.get("message", "")),
    }
    if (cause := facts.get("cause")) is not None:
        told["cause"] = failure(cause)
    return told


def entry(record: HistoryEntry) -> dict[str, Any]:
    """One record of a journal."""
    return {
        "seq": record.seq,
        "kind": record.kind.lower(),
        "name": record.name,
        "time": record.time,
        "value": _value(record),
    }


def _value(record: HistoryEntry) -> Any:
    match record.kind, record.value:
        case "STARTED", (_, _, arguments, keywords, *_):  # with its lineage, if it has one
            return {"arguments": arguments, "keywords": keywords}
        case "FAILED" | "ERRED", facts:
            return failure(facts)
        case "ATTEMPT", (attempt, _, facts):
            return {"attempt": attempt, "error": failure(facts)}
        case _, value:
            return value
