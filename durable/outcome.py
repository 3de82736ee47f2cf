"""What the last record of a process means to whoever waits for its result."""

from __future__ import annotations

from typing import Any

from durable.codec import Codec, restore_error
from durable.errors import ProcessCancelled, ProcessFailed, ProcessTerminated, ProcessTimedOut, StepError
from durable.journal import Kind, Record


def outcome(record: Record, codec: Codec, process_id: str) -> Any:
    """
    The value a process returned.

    Raises:
        Exception: What it raised, or `ProcessFailed`, `ProcessCancelled`, `ProcessTimedOut`, `ProcessTerminated`.
    """
    payload = codec.decode(record.payload)
    match record.kind:
        case Kind.COMPLETED:
            value, _notes = payload
            return value
        case Kind.ERRED:
            error, _notes = payload
            raise _failure(restore_error(codec, error), process_id)
        case Kind.CANCELLED:
            reason, by_deadline, _notes = payload
            if by_deadline:
                raise ProcessTimedOut(f"Process {process_id!r} ran into its timeout", reason=reason)
            raise ProcessCancelled(f"Process {process_id!r} was cancelled: {reason}", reason=reason)
        case _:
            raise ProcessTerminated(f"Process {process_id!r} was terminated: {payload}", reason=payload)


def _failure(error: Exception, process_id: str) -> Exception:
    if type(error) is not StepError:
        return error
    failed = ProcessFailed(f"Process {process_id!r} failed: {error.args[0] if error.args else ''}", **error.facts)
    failed.__cause__ = error
    return failed
