"""
What is wrong with a process, said so that somebody can act on it: one function a problem, from facts to an error.

Some stall the process, some are raised where its code went wrong. Facts are text: an error that process code lets
through is journaled, and must read the same after every restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from durable.errors import (
    CorruptJournal,
    Drift,
    DuplicateCheckpoint,
    DurableError,
    InvalidAction,
    IOOutsideCheckpoint,
    NewerFormat,
    NonDeterminismError,
)
from durable.journal import Record

# How asyncio says that a future, lock or queue belongs to another loop: the host's, or that of another process.
_FOREIGN = ("attached to a different loop", "is bound to a different event loop")


# --- the code of the process is other than the code that wrote its journal -----------------------------------


def another_kind(process_id: str, what: str, name: str, record: Record) -> NonDeterminismError:
    return NonDeterminismError(
        f"Process {process_id!r} asked for {what} {name!r}, but its journal has another kind of checkpoint there",
        journal=_describe(record),
        code=f"{what} {name!r}",
        fix="give the new checkpoint its own name and deploy, then resume the process (nothing is lost)",
    )


def event_given_twice(process_id: str, name: str, record: Record) -> NonDeterminismError:
    return NonDeterminismError(
        f"Process {process_id!r} gave an event to another wait, but its journal gives it to {name!r}",
        journal=_describe(record),
        fix="deploy code in which the other wait gives up as it did, then resume the process (nothing is lost)",
    )


def other_arguments(process_id: str, definition: str, error: TypeError) -> NonDeterminismError:
    return NonDeterminismError(
        f"Process {process_id!r} was started with arguments that {definition!r} does not take any more",
        error=str(error),
        fix="give the new parameter a default and deploy, then resume the process (nothing is lost)",
    )


def never_asked_for(process_id: str, recorded: Sequence[str]) -> Drift:
    return Drift(
        f"Process {process_id!r} is strict, and its journal holds what the code never asks for",
        recorded=", ".join(recorded),
        fix="deploy code that asks for these checkpoints (see `renames=`), then resume the process (nothing is lost)",
    )


def newer_kernel(process_id: str, version: int, ours: int) -> NewerFormat:
    return NewerFormat(
        f"Process {process_id!r} was started by kernel version {version}, and this is version {ours}",
        fix="upgrade this library, then resume the process (nothing is lost)",
    )


def unreadable(process_id: str, record: Record, error: Exception) -> DurableError:
    """*error* itself if it says enough: a codec names what it could not decode."""
    if isinstance(error, DurableError):
        return error
    return CorruptJournal(
        f"Process {process_id!r} has a record that makes no sense here",
        journal=_describe(record),
        error=repr(error),
        fix="deploy the code and the codec that wrote it, then resume the process (nothing is lost)",
    )


# --- the code of the process did what cannot be replayed -------------------------------------------------------


def outside_process(process_id: str, name: str) -> IOOutsideCheckpoint:
    return IOOutsideCheckpoint(
        f"Checkpoint {name!r} of process {process_id!r} was asked for outside its process function",
        fix="an action cannot use checkpoints: ask for them in the process, and pass values to the action",
    )


def renamed_name(process_id: str, name: str) -> DuplicateCheckpoint:
    return DuplicateCheckpoint(
        f"Process {process_id!r} used the checkpoint name {name!r}, which its definition renames",
        fix="give it another name: records under this one belong to the checkpoint it is renamed to",
    )


def second_use(process_id: str, name: str) -> DuplicateCheckpoint:
    return DuplicateCheckpoint(
        f"Process {process_id!r} used the checkpoint name {name!r} a second time",
        fix="give it a name of its own, or put the loop or branch around it into a `proc.scope(…)`",
    )


def restart_outside_function(process_id: str) -> InvalidAction:
    return InvalidAction(
        f"A task of process {process_id!r} asked for its restart, which ends the function around it",
        fix="let the task return, and write `await proc.restart(…)` in the process function itself",
    )


def circle_of_tasks(process_id: str) -> DurableError:
    return DurableError(
        f"Process {process_id!r} cannot be cancelled: tasks of it wait for each other in a circle",
        fix="deploy code without the circle, then resume the process; or terminate it",
    )


# --- what should not be possible --------------------------------------------------------------------------------


def step_failed(process_id: str, error: Exception) -> DurableError:
    """This library failed in a step of the process, not the code of it."""
    return _unexpected(f"A step of process {process_id!r} failed outside its code: {error!r}", error)


def not_adopted(process_id: str, error: Exception) -> DurableError:
    """It was claimed, and could not be taken in."""
    if isinstance(error, DurableError):
        return error
    return _unexpected(f"Process {process_id!r} could not be taken into memory: {error!r}", error)


def _unexpected(message: str, error: Exception) -> DurableError:
    refused = DurableError(message, fix="report it with this text, then resume the process (nothing is lost)")
    refused.__cause__ = error
    return refused


# --- how a problem is told -----------------------------------------------------------------------------------------


def explained(process_id: str, error: BaseException) -> BaseException:
    """
    *error*, or what it means if it is how asyncio refuses a future, lock or queue of another loop.

    asyncio compares the loops itself and asks nobody, so where it is raised it is a bare RuntimeError; the end of the
    process says what to write.
    """
    if not isinstance(error, RuntimeError) or not any(words in str(error) for words in _FOREIGN):
        return error
    refused = IOOutsideCheckpoint(
        f"Process {process_id!r} waited for something of another event loop: {error}",
        fix="wait for it in an action (`await proc.do(…)`); between processes share nothing, send events",
    )
    refused.__cause__ = error
    return refused


def _describe(record: Record) -> str:
    when = datetime.fromtimestamp(record.time / 1_000_000, UTC)
    return f"record {record.seq}, {record.kind.name} {record.name!r}, written {when:%Y-%m-%d %H:%M:%S}Z"
