"""
A long-running process as one async function that survives crashes, restarts and deploys.

See README.md for the whole story; every public name is here.
"""

from durable._kernel.kept import Child
from durable.client import ProcessClient
from durable.codec import (
    Codec,
    CompressedCodec,
    EncryptedCodec,
    JsonCodec,
    MessagePackCodec,
    register,
)
from durable.definition import Definition, process
from durable.errors import (
    CorruptJournal,
    DecodeError,
    Drift,
    DuplicateCheckpoint,
    DurableError,
    EncodeError,
    HostBusy,
    HostClosed,
    InvalidAction,
    InvalidDefinition,
    InvalidName,
    IOOutsideCheckpoint,
    NewerFormat,
    NonDeterminismError,
    NotAStore,
    NotOwned,
    PayloadTooLarge,
    ProcessCancelled,
    ProcessEnded,
    ProcessExists,
    ProcessFailed,
    ProcessNotFound,
    ProcessTerminated,
    ProcessTimedOut,
    SessionLost,
    StepError,
    StepInterrupted,
    StorageError,
    StorageFull,
    StorageReadOnly,
    UnknownClass,
    UnknownDefinition,
    UnknownScheme,
    UnsupportedFilesystem,
)
from durable.handle import Handle, HistoryEntry, ProcessStatus, Progress
from durable.host import ProcessHost
from durable.invocation import AnyDefinition, Invocation
from durable.process import Event, Process
from durable.retry import Retry
from durable.run import run
from durable.step import Step, current_step
from durable.storage import Status

__all__ = [
    "AnyDefinition",
    "Child",
    "Codec",
    "CompressedCodec",
    "CorruptJournal",
    "DecodeError",
    "Definition",
    "Drift",
    "DuplicateCheckpoint",
    "DurableError",
    "EncodeError",
    "EncryptedCodec",
    "Event",
    "Handle",
    "HistoryEntry",
    "HostBusy",
    "HostClosed",
    "IOOutsideCheckpoint",
    "InvalidAction",
    "InvalidDefinition",
    "InvalidName",
    "Invocation",
    "JsonCodec",
    "MessagePackCodec",
    "NewerFormat",
    "NonDeterminismError",
    "NotAStore",
    "NotOwned",
    "PayloadTooLarge",
    "Process",
    "ProcessCancelled",
    "ProcessClient",
    "ProcessEnded",
    "ProcessExists",
    "ProcessFailed",
    "ProcessHost",
    "ProcessNotFound",
    "ProcessStatus",
    "ProcessTerminated",
    "ProcessTimedOut",
    "Progress",
    "Retry",
    "SessionLost",
    "Status",
    "Step",
    "StepError",
    "StepInterrupted",
    "StorageError",
    "StorageFull",
    "StorageReadOnly",
    "UnknownClass",
    "UnknownDefinition",
    "UnknownScheme",
    "UnsupportedFilesystem",
    "current_step",
    "process",
    "register",
    "run",
]
