"""
Every error this library raises, in one tree.

An error says what happened, where, and what to do; its facts are attributes, and the text is built from them.
Families: D1 your code, D2 storage, D3 sessions and hosts, D4 values and codecs. Each code has a heading in
``docs/errors.md``. Nothing here imports anything of the library, so every layer may raise what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar


class DurableError(Exception):
    """
    Root of all errors of this library.

    Args:
        message: What happened, one sentence that names the process and the place.
        fix: What to do about it, one sentence; shown on a line of its own.
        facts: What the text was built from; each becomes an attribute (``error.process_id``) and a line.
    """

    code: ClassVar[str] = "D000"
    usual_fix: ClassVar[str | None] = None  # what to do where whoever raises it knows nothing better

    def __init__(self, message: str = "", *, fix: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.fix = self.usual_fix if fix is None else fix
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.args[0] if self.args else ''}"]
        lines += [f"  {name}: {value}" for name, value in self.facts.items() if value is not None]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class MissingExtra(DurableError, ImportError):
    """A part of this library needs a package that is not installed; one of its extras brings it."""

    code = "D001"


@contextmanager
def needing_extra(extra: str, part: str) -> Iterator[None]:
    """
    Where a part of this library imports the packages of its extra: if one is missing, say which, and what to do.

    Args:
        extra: The name of the extra, as in ``pip install '.[web]'``.
        part: What needs it, as a user calls it: "durable.web".

    Raises:
        MissingExtra: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "durable", "durable_storage"):  # a module of ours is missing: no extra would help
            raise
        raise MissingExtra(
            f"{part} needs the package {package!r}, which is not installed",
            fix=f"install durable with its extra {extra!r}: pip install '.[{extra}]' in its checkout",
        ) from error


# --- D1: the code of a process -----------------------------------------------------------------------------


class NonDeterminismError(DurableError):
    """The journal holds another kind of checkpoint under this name; the process is stalled, nothing is lost."""

    code = "D101"


class DuplicateCheckpoint(DurableError):
    """A checkpoint name was used a second time in one process."""

    code = "D102"


class InvalidName(DurableError, ValueError):
    """A process id, checkpoint, event or definition name is empty, too long, or holds a character no store keeps."""

    code = "D103"


class IOOutsideCheckpoint(DurableError):
    """Process code tried to reach the outside other than through a checkpoint."""

    code = "D104"


class InvalidAction(DurableError, TypeError):
    """What was given to ``do`` or ``get`` is not something that can be run again."""

    code = "D105"


class StepError(DurableError):
    """
    An action failed with an exception that does not survive the journal as its own type.

    Attributes:
        type_name: Qualified name of the original exception class.
        arguments: ``repr`` of its arguments.
        traceback_text: The traceback as it was printed where it happened.
        reason: Why it could not be restored.
    """

    code = "D106"


class StepInterrupted(DurableError):
    """An ``at_most_once`` action was started, and a crash or its timeout hid how it ended. Decide, then go on."""

    code = "D107"


class UnknownDefinition(DurableError):
    """A process names a definition that this host was not given; the process is stalled, nothing is lost."""

    code = "D108"


class InvalidDefinition(DurableError, TypeError):
    """A process function, its options, or an argument of a host, checkpoint, `Retry` or handle cannot be used."""

    code = "D109"


class Drift(DurableError):
    """The journal holds checkpoints that the code never asks for, and the definition is ``strict``."""

    code = "D110"


class ProcessFailed(DurableError):
    """A process failed with an exception that does not survive the journal as its own type; facts as in `StepError`."""

    code = "D111"


class ProcessCancelled(DurableError):
    """The process whose result was asked for ended by cancellation; ``reason`` says why."""

    code = "D112"


class ProcessTimedOut(ProcessCancelled, TimeoutError):
    """The process whose result was asked for ran into its ``@process(timeout=…)``."""

    code = "D113"


class ProcessTerminated(DurableError):
    """The process whose result was asked for was ended by `terminate`; ``reason`` says why."""

    code = "D114"


# --- D2: storage -------------------------------------------------------------------------------------------


class StorageError(DurableError):
    """The store failed or refused; what was acknowledged before is safe, what was not is not written."""

    code = "D201"


class StorageFull(StorageError):
    """The disk or the quota under the store is full."""

    code = "D202"


class NotAStore(StorageError):
    """The file or directory exists and is not one of ours; it was not touched."""

    code = "D203"


class NewerFormat(StorageError):
    """The store was written by a newer version of this library; it was not touched."""

    code = "D204"


class UnsupportedFilesystem(StorageError):
    """The filesystem under the store has no working locks."""

    code = "D205"


class CorruptJournal(StorageError):
    """A journal has a gap, a record after its end, or a record that cannot be read."""

    code = "D206"


class UnknownScheme(StorageError, ValueError):
    """No provider is known for the scheme of a storage URL."""

    code = "D207"


class StorageReadOnly(StorageError):
    """The store can be read but not written by this user."""

    code = "D208"


class StorageUnavailable(StorageError):
    """
    The server of the store cannot be reached: it is down, restarting, or the network fails.

    A host that runs tries again by itself; whoever enters a host or client, or called, hears of it and may try again.
    """

    code = "D209"


class StorageDenied(StorageError):
    """The server of the store refuses this user, password or database, or the user lacks a right."""

    code = "D210"


class NotOwned(StorageError):
    """A session wrote to a process that it does not own (any more); nothing of that batch was written."""

    code = "D211"


# --- D3: sessions and hosts ----------------------------------------------------------------------------------


class SessionLost(DurableError):
    """This session was declared dead; it may not write any more, and its processes go on elsewhere."""

    code = "D301"


class HostBusy(DurableError):
    """The host has as many pending starts as ``max_pending`` allows; nothing was started."""

    code = "D302"


class HostClosed(DurableError):
    """The host or client is not open: not entered yet, or already left."""

    code = "D303"


class ProcessNotFound(DurableError, LookupError):
    """No process has this id."""

    code = "D304"
    usual_fix = "compare the id and the URL of the store; what has ended may have been purged, by housekeeping"


class ProcessEnded(DurableError):
    """The process has ended and takes no more events or requests."""

    code = "D305"
    usual_fix = "its `result()` and `status()` say how it ended; to run it again, start one under another id"


class ProcessExists(DurableError):
    """The id is taken by a process of another definition or with other arguments."""

    code = "D306"


class ResultNotReady(DurableError, TimeoutError):
    """
    The *timeout* given to `Handle.result` is over, and the process goes on.

    Never what the process itself ended with: a `TimeoutError` of its own comes out of `result` as it is, and a
    `ResultNotReady` of its own, because it waited for another process, as `ProcessFailed`.
    """

    code = "D307"


# --- D4: values and codecs -----------------------------------------------------------------------------------


class EncodeError(DurableError, TypeError):
    """A value has a type (or a part of a type) that the codec cannot restore exactly."""

    code = "D401"


class PayloadTooLarge(DurableError, ValueError):
    """An encoded value is larger than the limit of its host."""

    code = "D402"


class DecodeError(DurableError, ValueError):
    """Bytes of a journal cannot be read: another codec, a wrong key, or damage."""

    code = "D403"


class UnknownClass(DecodeError):
    """A value names a class that is not loaded; import its module or `register` it under its old name."""

    code = "D404"


# --- D5: webhooks --------------------------------------------------------------------------------------------


class WebhookFailed(DurableError):
    """
    An attempt failed in a way that may pass: no connection, 408, 429, 5xx. It is made again while the retry lasts.

    Attributes:
        retry_after: Seconds the target asked to be left alone for, or None.
    """

    code = "D501"


class WebhookRefused(DurableError):
    """The target will not take it, or may not be asked: another attempt would end the same way, so none is made."""

    code = "D502"


class InvalidSignature(DurableError, ValueError):
    """What was received was not signed with the secret, was changed, or is too old."""

    code = "D503"
