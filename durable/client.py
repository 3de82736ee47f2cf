"""
`ProcessClient`: start, look, raise, cancel; from any program that reaches the store, without running anything itself.

`ProcessHost` is a client that also runs processes, and takes the short way to those it owns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from contextvars import copy_context
from secrets import randbits
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from uuid import uuid4

from durable._host.clock import Clock, SystemClock
from durable._host.events import check_payload, encode_event
from durable._host.options import check_invocation, check_number, check_object, check_store, without_secrets
from durable._host.payloads import Payloads
from durable._host.starting import Starting
from durable._host.watching.endings import Endings, not_found
from durable._host.writing.writer import Writer
from durable.codec import Codec, MessagePackCodec
from durable.errors import CorruptJournal, ProcessEnded, ProcessExists
from durable.event import Event
from durable.handle import NO_REASON, Handle
from durable.invocation import Invocation
from durable.journal import ID_LIMIT, Record, check_name
from durable.observer import Observer, guarded
from durable.reading import Reading
from durable.storage import (
    Creation,
    Delivery,
    JournalStorage,
    Mail,
    MailKind,
    ProcessRow,
    open_storage,
)

R = TypeVar("R")
T = TypeVar("T")

PAYLOAD_LIMIT = 4 * 1024 * 1024


class ProcessClient(Reading):
    """
    Reaches the processes of a store; use as ``async with ProcessClient(url) as client``.

    Args:
        url: ``sqlite:///file.db``, ``memory://name``, … (see `durable.storage`), or a `JournalStorage` of your own.
        codec: Turns values into bytes and back; the same for all who use one store.
        payload_limit: Longest encoded value in bytes, at least 1; by default 4 MiB.
        clock: Where the time comes from; another one only in tests.
        observer: Hears what happens: `durable.telemetry.Telemetry`, or an `Observer` of yours.

    Raises:
        UnknownScheme: No provider is known for the URL.
        MissingExtra: The extra of its provider is not installed.
        InvalidDefinition: Another argument is of a wrong type, as a path for a URL, or out of its range.
        StorageError: Entering: the store cannot be opened, or is not one. It is not tried again.
    """

    def __init__(
        self,
        url: str | JournalStorage,
        *,
        codec: Codec | None = None,
        payload_limit: int = PAYLOAD_LIMIT,
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._storage = open_storage(url) if isinstance(url, str) else check_store(url)
        self._place = without_secrets(url) if isinstance(url, str) else type(url).__name__  # how logs call the store
        self._codec = MessagePackCodec() if codec is None else check_object(codec, Codec, "`codec`")
        self._payloads = Payloads(self._codec, check_number(payload_limit, "`payload_limit`"))
        self._clock: Clock = SystemClock() if clock is None else clock
        self._starting = Starting(self._codec, self._clock, self._payloads, randbits(12))
        self._observer = None if observer is None else guarded(check_object(observer, Observer, "`observer`"))
        self._writer: Writer

    async def __aenter__(self) -> Self:
        await self._storage.open()
        self._writer = Writer(self._storage, None, _never_lost, self._observer)
        self._endings = Endings(self._storage)
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        async with AsyncExitStack() as leaving:  # from the last line up; each is done, also if one was cancelled
            leaving.push_async_callback(self._storage.close)
            leaving.push_async_callback(self._endings.close)
            leaving.callback(self._writer.close)
            await self._writer.drain()

    # --- start ---

    async def start(self, invocation: Invocation[R], *, id: str | None = None) -> Handle[R]:
        """
        Start a process, once: the same id with the same definition and equal arguments gives the same process.

        Arguments are equal if the function gets equal values: ``ship(17)`` and ``ship(order=17)`` are the same call,
        and so is one that spells out a default. Of a process that has restarted itself only the definition it was first
        started with counts. `Handle.created` says whether it was this call that created it.

        Args:
            invocation: What calling a process function gives: ``onboard_user("ann@example.com")``.
            id: 1–1000 characters; a random one if not given, and then every call starts another process.

        Durability: The process is on storage at return and will run, whatever happens to this program.
        Raises:
            ProcessExists: The id is taken by a process of another definition or with other arguments.
            EncodeError, PayloadTooLarge: The arguments cannot be recorded.
            InvalidDefinition: *invocation* is something else, or its function is not among those of this host.
            InvalidName: *id* cannot be stored.
            StorageError: The store failed; start it again under its *id*, and it is started once.
            HostBusy: This host has as many pending starts as it may have.
            HostClosed: This client or host is not open, or has lost its session and begins another.
            SessionLost: This host was declared dead before the store had answered: start it again under its id.
        """
        self._check_open()
        check_invocation(invocation, "start")
        id = uuid4().hex if id is None else check_name(id, "process id", ID_LIMIT)
        payload = self._starting.encode(invocation, id)
        gone: ProcessRow | None = None
        while (taken := await self._create(invocation, id, payload)) is not None:
            if records := await self._storage.journal(taken.key):
                self._check_same(invocation, payload, taken, records[0])
                break
            # It has just been deleted, as what has ended is, and its id may be used again; or the store is damaged.
            if gone is not None and gone.key == taken.key:
                raise CorruptJournal(f"The journal of process {id!r} is empty", key=taken.key)
            gone = taken
        return Handle(self, id, created=taken is None)

    async def _create(self, invocation: Invocation[Any], id: str, payload: bytes) -> ProcessRow | None:
        return await self._write_creation(self._starting.creation(invocation, id, payload, owned=False))

    async def _write_creation(self, creation: Creation) -> ProcessRow | None:
        created: asyncio.Future[ProcessRow | None] = asyncio.get_running_loop().create_future()
        started = self._tells_start(creation)

        def answer(row: ProcessRow | None, error: BaseException | None) -> None:
            if started is not None and row is None and error is None:
                started(False)
            if created.done():
                return
            if error is None:
                created.set_result(row)
            else:
                created.set_exception(error)

        self._writer.create(creation, answer)
        return await created

    def _tells_start(self, creation: Creation) -> Callable[[bool], None] | None:
        """What tells the observer, in the context of this call, that the process has started; whether here."""
        observer = self._observer
        if observer is None:
            return None
        context = copy_context()
        return lambda here: context.run(observer.process_started, creation, creation.record, here=here)

    def _check_same(self, invocation: Invocation[Any], payload: bytes, taken: ProcessRow, first: Record) -> None:
        if self._starting.is_same(first, invocation.definition, payload):
            return
        difference = " with other arguments" if first.name == invocation.definition.name else ""
        raise ProcessExists(
            f"Process {taken.id!r} exists already, as {taken.definition!r}{difference}",
            asked=repr(invocation),
            status=taken.status.value,
            fix="start it under another id, or with the arguments it was started with",
        )

    def get(self, id: str) -> Handle[Any]:
        """The handle of a process; whether there is one shows at the first use (`ProcessNotFound`)."""
        self._check_open()
        return Handle(self, check_name(id, "process id", ID_LIMIT))

    # --- act ---

    @overload
    async def raise_event(self, id: str, event: Event[T], payload: T, *, key: str | None = None) -> None: ...
    @overload
    async def raise_event(self, id: str, event: str, payload: Any = None, *, key: str | None = None) -> None: ...
    async def raise_event(
        self, id: str, event: Event[Any] | str, payload: Any = None, *, key: str | None = None
    ) -> None:
        """
        Send an event to a process, which takes it at `Process.event` now or later.

        Args:
            event: An `Event` (its type is checked) or the bare name of one.
            payload: What the waiting line gets.
            key: De-duplicates: a second event of this name with this key changes nothing, for the life of the process.

        Durability: The event is on storage at return. For a process in the memory of this very host it goes into the
        journal like any record of it, so while the store fails this waits, and returns when the store is back; a
        timeout of yours around it ends the waiting and does not take the event back.
        Raises:
            ProcessNotFound, ProcessEnded: Nobody is there to take it.
            StorageError: It could not be written, to a process that is not in the memory of this host; or, as
                `CorruptJournal`, the store refuses what this one process has to write.
            SessionLost: This host was declared dead before the store had answered: the event may be there or not, so
                raise it again, with a *key* if twice would be once too often.
            TypeError: *payload* is not of the event's type.
            EncodeError, PayloadTooLarge: *payload* cannot be recorded.
        """
        self._check_open()
        name = check_name(event.name if isinstance(event, Event) else event, "event name")
        if isinstance(event, Event):
            check_payload(event, payload)
        if key is not None:
            check_name(key, "event key", ID_LIMIT)
        encoded = encode_event(self._codec, name, payload, key)
        self._payloads.check(encoded, f"The payload of event {name!r}")
        await self._send(id, MailKind.EVENT, name, key, encoded)

    async def cancel(self, id: str, reason: str = NO_REASON) -> None:
        """
        Ask a process to stop: `asyncio.CancelledError` at the line where it waits; it may compensate, in its own time.

        Args:
            reason: Why, in words; in the end `ProcessStatus.reason`, and in the `ProcessCancelled` of `result`.

        Durability: The request is on storage at return. A second one changes nothing.
        Raises:
            ProcessNotFound, ProcessEnded: There is nothing to cancel.
            StorageError: The request could not be written, to a process that is not in the memory of this host.
            PayloadTooLarge: *reason* is longer than the payload limit.
        """
        await self._send(id, MailKind.CANCEL, "", None, self._encode_reason(id, reason))

    async def terminate(self, id: str, reason: str) -> None:
        """
        End a process without running any of its code: no compensation. For one that cannot be saved.

        Durability: The request is on storage at return; its host carries it out.
        Raises:
            ProcessNotFound, ProcessEnded: There is nothing to end.
            StorageError: The request could not be written.
            PayloadTooLarge: *reason* is longer than the payload limit.
        """
        await self._send(id, MailKind.TERMINATE, "", None, self._encode_reason(id, reason))

    async def resume(self, id: str) -> None:
        """
        Let a stalled process try again, with the code there is now; one that is not stalled goes on as it is.

        Durability: The request is on storage at return; whichever host serves its queue carries it out.
        Raises:
            ProcessNotFound, ProcessEnded: There is nothing to go on with.
            StorageError: The request could not be written.
        """
        await self._send(id, MailKind.RESUME, "", None, b"")

    def _encode_reason(self, id: str, reason: str) -> bytes:
        payload = self._codec.encode(str(reason))
        self._payloads.check(payload, f"The reason given to process {id!r}")
        return payload

    async def _send(self, id: str, kind: MailKind, name: str, key: str | None, payload: bytes) -> None:
        self._check_open()
        check_name(id, "process id", ID_LIMIT)
        match await self._writer.send(Mail(id, kind, name, key, payload, self._clock.now())):
            case Delivery.NOT_FOUND:
                raise not_found(id)
            case Delivery.ENDED:
                raise ProcessEnded(f"Process {id!r} has ended and takes no more events or requests")
            case Delivery.DELIVERED:
                pass


def _never_lost() -> None:
    """A client has no session to lose."""
