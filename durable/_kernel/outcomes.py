"""How a process ended, as it is told to whoever waits for it: a caller outside, or the process that started it."""

from __future__ import annotations

from typing import Any

from durable.codec import Codec, restore_error
from durable.errors import ProcessCancelled, ProcessFailed, ProcessTerminated, ProcessTimedOut, StepError
from durable.journal import Kind


def content_of(kind: Kind, payload: Any) -> Any:
    """What the decoded payload of an end record says, without its notes, which are for the log."""
    match kind:
        case Kind.COMPLETED | Kind.ERRED:
            content, _notes = payload
            return content
        case Kind.CANCELLED:
            reason, by_deadline, _notes = payload
            return reason, by_deadline
        case _:
            return payload


def outcome(kind: Kind, content: Any, codec: Codec, process_id: str) -> Any:
    """
    The value a process returned.

    Raises:
        Exception: What it raised, or `ProcessFailed`, `ProcessCancelled`, `ProcessTimedOut`, `ProcessTerminated`.
    """
    match kind:
        case Kind.COMPLETED:
            return content
        case Kind.ERRED:
            raise _failure(restore_error(codec, content), process_id)
        case Kind.CANCELLED:
            reason, by_deadline = content
            if by_deadline:
                raise ProcessTimedOut(f"Process {process_id!r} ran into its timeout", reason=reason)
            raise ProcessCancelled(f"Process {process_id!r} was cancelled: {reason}", reason=reason)
        case _:
            raise ProcessTerminated(f"Process {process_id!r} was terminated: {content}", reason=content)


def _failure(error: Exception, process_id: str) -> Exception:
    if type(error) is not StepError:
        return error
    failed = ProcessFailed(f"Process {process_id!r} failed: {error.args[0] if error.args else ''}", **error.facts)
    failed.__cause__ = error
    return failed
