"""`ProcessHost`: a client that also runs processes. The composition root: the one place that wires everything."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from durable._host.claims import Claims
from durable._host.clock import Alarm, Clock
from durable._host.engine.engine import Engine
from durable._host.options import (
    SHORTEST_LEASE,
    by_name,
    check_length,
    check_number,
    check_object,
    check_queues,
    left_out,
)
from durable._host.pending import Pending
from durable._host.session import HostSession
from durable._host.watching.endings import Endings
from durable._host.writing.writer import Writer
from durable.client import PAYLOAD_LIMIT, ProcessClient
from durable.codec import Codec
from durable.errors import HostBusy, HostClosed, InvalidDefinition, NotOwned, StorageError
from durable.handle import ProcessStatus, picture, read_progress
from durable.housekeeping import Housekeeper, Retention
from durable.invocation import AnyDefinition, Invocation
from durable.journal import Record, check_name
from durable.observer import Observer
from durable.storage import JournalStorage, MailKind, ProcessRow, Status

logger = logging.getLogger("durable.host")


class ProcessHost(ProcessClient):
    """
    Runs processes; use as ``async with ProcessHost(url, [definitions]) as host`` for the life of your service.

    Entering opens the store, begins a session, and goes on with everything that was interrupted, in the background.
    Leaving drains running actions for *grace*, then lets go: what is unfinished goes on with the next host.

    Args:
        url: As for `ProcessClient`. Several hosts may share a store.
        definitions: The process functions it can run.
        queues: Which queues it serves; by default all queues of its definitions. A definition of another queue is not
            run here; if that looks like a mistake, entering warns.
        name: How the host is called in the store and in logs; by default machine and process number.
        lease: How long a host that stopped answering keeps what it owns, at least 0.1 s; by default 30 s. On one
            machine a crash is noticed at once.
        limit: How many processes to keep in memory, at least 1; by default 20 000. Waiting ones beyond it are parked:
            they cost a row, no memory.
        max_pending: How many started processes may wait for their turn when *limit* are running, 0 or more; None, the
            default: any number.
        park_after: How long a process waits in memory before it is parked, zero or more; by default 30 s.
        threads: How many sync actions may run at the same time, at least 1; by default 32.
        grace: How long leaving waits for running actions, zero or more; by default 10 s.
        retention: What becomes of processes that have ended, done in the background; by default they stay for ever.
        codec, payload_limit, clock, observer: As for `ProcessClient`.

    Raises:
        InvalidDefinition: Something in *definitions* is not a process function, or two have one name; or another
            argument is of a wrong type or out of its range.
        InvalidName: The host or a queue cannot have that name.
        MissingExtra: The extra of the store is not installed; entering: that of the archive.
        StorageError: Entering: the store cannot be opened. It is not tried again.
    """

    def __init__(
        self,
        url: str | JournalStorage,
        definitions: Iterable[AnyDefinition],
        *,
        queues: Collection[str] | None = None,
        name: str | None = None,
        lease: timedelta = timedelta(seconds=30),
        limit: int = 20_000,
        max_pending: int | None = None,
        park_after: timedelta = timedelta(seconds=30),
        threads: int = 32,
        grace: timedelta = timedelta(seconds=10),
        codec: Codec | None = None,
        payload_limit: int = PAYLOAD_LIMIT,
        clock: Clock | None = None,
        retention: Retention | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__(url, codec=codec, payload_limit=payload_limit, clock=clock, observer=observer)
        self._definitions = by_name(definitions)
        own_queues = frozenset(definition.queue for definition in self._definitions.values())
        self._queues = own_queues if queues is None else check_queues(queues)
        self._name = f"{socket.gethostname()}:{os.getpid()}" if name is None else check_name(name, "host name")
        self._lease = check_length(lease, "`lease` of a host", SHORTEST_LEASE).total_seconds()
        self._limit = check_number(limit, "`limit` of a host")
        self._park_after = check_length(park_after, "`park_after` of a host").total_seconds()
        most = None if max_pending is None else check_number(max_pending, "`max_pending` of a host", 0)
        self._pending = Pending(most)
        self._threads = check_number(threads, "`threads` of a host")
        self._grace = check_length(grace, "`grace` of a host").total_seconds()
        self._retention = None if retention is None else check_object(retention, Retention, "`retention`")
        self._housekeeper: Housekeeper | None = None
        self._session: HostSession
        self._engine: Engine
        self._claims: Claims
        self._attached: Alarm
        self._sweeper: asyncio.TimerHandle | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._is_store_away: bool  # when it leaves

    # --- coming and going ---

    async def __aenter__(self) -> Self:
        await self._storage.open()
        try:
            self._endings = Endings(self._storage)
            self._endings.owned = self._owns
            if self._retention is not None:
                self._housekeeper = Housekeeper(self._storage, self._retention, codec=self._codec, now=self._clock.now)
            await self._storage.resume_stalled(self._queues, self._clock.now())
            await self._begin_session()
        except BaseException:
            await self._storage.close()
            raise
        self._attached = self._clock.attach(self._is_quiet)
        self._is_open = True
        self._claims.begin()
        if self._housekeeper is not None:
            self._housekeeper.start()
        self._sweep()
        self._say_what_is_served()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = self._is_store_away = False
        recovering, self._recovering = self._recovering, None
        if recovering is not None:
            recovering.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._engine.draining = True
        # From the last line up. Each is done, also if one was cancelled: that one was not waited for any longer.
        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(self._storage.close)
            leaving.push_async_callback(self._end_session)
            leaving.push_async_callback(self._endings.close)
            leaving.push_async_callback(self._let_go)
            leaving.push_async_callback(self._engine.actions.drain, self._grace)
            leaving.push_async_callback(self._claims.end)
            if self._housekeeper is not None:
                leaving.push_async_callback(self._housekeeper.stop)
            if recovering is not None:
                await asyncio.wait([recovering])
        logger.info("Host %s has left %s, session %d", self._name, self._place, self._session.id)

    async def serve(self, signals: Collection[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """
        Run until this program is told to stop by one of *signals*; then return, so that ``async with`` leaves.

        For a program that is nothing but a host. Inside a web service, the server handles signals: leave with it.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        for number in signals:
            loop.add_signal_handler(number, told.set)
        try:
            await told.wait()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def _begin_session(self) -> None:
        await self._storage.bury()
        self._session = HostSession(self._storage, self._name, self._lease, self._lost)
        session = await self._session.begin()  # the last thing that may fail: from here on its lease is renewed
        self._starting.salt = session
        self._writer = Writer(self._storage, session, self._lost, self._observer)
        self._engine = Engine(
            self._definitions,
            self._codec,
            self._clock,
            self._session,
            self._writer,
            limit=self._limit,
            park_after=self._park_after,
            threads=self._threads,
            payloads=self._payloads,
            queues=self._queues,
            new_key=self._starting.new_key,
            changed=self._changed,
            wanted=self._want,
            observer=self._observer,
        )
        self._session.renewed = self._engine.lease_renewed
        self._claims = Claims(
            self._storage,
            self._engine,
            session,
            self._queues,
            self._clock,
            _POLL,
            self._endings.changes,
            self._pending,
        )

    def _say_what_is_served(self) -> None:
        queues = ", ".join(sorted(self._queues)) or "none"
        logger.info("Host %s serves queues %s of %s, session %d", self._name, queues, self._place, self._session.id)
        others, mistaken = left_out(self._definitions, self._queues)
        if others:
            level = logging.WARNING if mistaken else logging.INFO
            logger.log(level, "Host %s has definitions that no queue of this host serves: %s", self._name, others)

    def _lost(self) -> None:
        """This session is dead, or an answer to it was lost: let go of everything it had, and begin another."""
        if self._recovering is not None:
            return
        if not self._is_open:
            logger.error("Session %d of host %s is over while it leaves", self._session.id, self._name)
            return
        logger.error(
            "Session %d of host %s is over; it begins another, its processes go on", self._session.id, self._name
        )
        if self._observer is not None:
            self._observer.session_lost(self._session.id)
        self._engine.close()
        self._writer.close()
        self._engine.written()
        self._recovering = asyncio.create_task(self._recover(), name="durable: begin another session")

    async def _recover(self) -> None:
        pause = 0.1
        await self._claims.end()
        await self._session.end(cleanly=True)  # a dead one stays dead; a living one must not keep its processes
        while True:
            try:
                await self._begin_session()
                break
            except StorageError as error:
                logger.warning("No new session yet, trying again in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
        self._claims.begin()
        self._recovering = None
        logger.info("Host %s goes on with session %d", self._name, self._session.id)

    async def _let_go(self) -> None:
        """Write the rest, as far as there is time, and nothing after it."""
        self._engine.close()
        try:
            async with asyncio.timeout(self._grace + 1):
                await self._writer.drain()
        except TimeoutError:
            self._is_store_away = True
            logger.error("The store did not take the last records in time; what they record runs again elsewhere")
        finally:
            self._writer.close()
            self._engine.written()
            self._attached.cancel()

    async def _end_session(self) -> None:
        await self._session.end(cleanly=not self._is_store_away)

    def _sweep(self) -> None:
        self._engine.parking.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(min(1.0, self._park_after / 4 + 0.01), self._sweep)

    # --- the short way to processes that are here ---

    async def _create(self, invocation: Invocation[Any], id: str, payload: bytes) -> ProcessRow | None:
        self._check_session()
        definition = invocation.definition
        mine = definition.queue in self._queues
        if mine and self._definitions.get(definition.name) is not definition:
            raise InvalidDefinition(
                f"Process function {definition.name!r} is not among the definitions of this host",
                fix="add it to the list given to `ProcessHost`",
            )
        engine = self._engine
        here = mine and engine.room() > 0
        waits = mine and not here
        if waits:
            self._enter_pending(id)
        creation = self._starting.creation(invocation, id, payload, owned=here)
        if here:
            engine.coming.add(creation.key)
        created: asyncio.Future[ProcessRow | None] = asyncio.get_running_loop().create_future()
        started = self._tells_start(creation)

        def answer(row: ProcessRow | None, error: BaseException | None) -> None:
            is_new = error is None and row is None
            engine.coming.discard(creation.key)
            if waits and is_new:
                self._pending.created(id)
            elif waits:
                self._pending.dropped(id)
            if not created.done():  # before anything of the process runs, which may be interrupted
                created.set_result(row) if error is None else created.set_exception(error)
            if is_new:
                if started is not None:
                    started(here and not engine.draining)
                if here:
                    engine.begin(creation.key, id, definition, creation.record)
                else:
                    self._want()

        self._writer.create(creation, answer)
        return await created

    def _enter_pending(self, id: str) -> None:
        if not self._pending.enter(id):
            raise HostBusy(
                f"{len(self._pending)} started processes wait for their turn on host {self._name}",
                max_pending=self._pending.most,
                fix="try again later, raise `limit` or `max_pending`, or start another host",
            )

    async def _send(self, id: str, kind: MailKind, name: str, key: str | None, payload: bytes) -> None:
        self._check_open()
        self._check_session()
        resident = self._engine.by_id.get(id)
        direct = kind in (MailKind.EVENT, MailKind.CANCEL) and not self._claims.has_mail(id)
        if resident is not None and direct and resident.accepts_records():
            # It is here: straight into its journal, and durable with the next commit.
            if kind is MailKind.EVENT:
                resident.raise_event(name, payload, key)
            else:
                resident.cancel(payload)
            self._engine.parking.stir(resident)
            with suppress(NotOwned):  # then nothing was written, and it is for whoever has the process now
                return await self._writer.written(resident.key)
        await super()._send(id, kind, name, key, payload)
        self._claims.mailed(id)

    async def _status(self, id: str) -> ProcessStatus:
        status = picture(await self._row(id), self._codec)
        return self._status_here(id, status) or status

    def _status_here(self, id: str, last: ProcessStatus) -> ProcessStatus | None:
        resident = self._engine.by_id.get(id)
        if resident is None or last.status is not Status.RUNNING or not last.resident:
            return None
        if last.definition != resident.definition:  # it has restarted as another one
            return None
        # While it is here nothing else of its row changes but its progress, and that is known here first.
        report = self._engine.reports.last(resident.key)
        progress = last.progress if report is None else read_progress(report, self._codec)
        return last.seen_from_inside(resident.execution.waits(), progress)

    def _owns(self, id: str) -> bool:
        return id in self._engine.by_id

    def _changed(self, id: str, record: Record | None) -> None:
        self._endings.tell(id, record)

    def _want(self) -> None:
        self._claims.want()

    def _is_quiet(self) -> bool:
        return self._engine.is_quiet() and self._claims.is_quiet()

    def _check_session(self) -> None:
        # Only for what is written: who reads, or waits for a result, need not know that a session is being replaced.
        if self._recovering is not None:
            raise HostClosed(f"Host {self._name} has lost its session and begins another", fix="try again in a moment")


_POLL = 1.0  # longest seconds between two looks for work, where no hint comes
