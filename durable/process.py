"""
What a process function can do: the checkpoints, and the few things beside them.

`get`, `do`, `delay`, `event`, `start` and `timeout` each ask the kernel for one named checkpoint and wait for its
record. Nothing here decides anything: what is given is checked by `arguments`, records and commands are the kernel's
business, carrying them out the host's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar, cast, overload

from durable._kernel.asks import Beginning
from durable._kernel.execution import Execution
from durable._kernel.kept import Child, Timeout
from durable.arguments import action_options, check_length, definition_of, factory_of, no_action
from durable.event import Event
from durable.invocation import Invocation
from durable.journal import ID_LIMIT, check_name
from durable.retry import Retry
from durable.step import check_message, idempotency_key

T = TypeVar("T")
R = TypeVar("R", covariant=True)
_logger = logging.getLogger("durable.process")


class Process:
    """
    One run of a process function, as the function sees it; its first parameter.

    A name is used once in a process; `scope` gives loops and branches names of their own.
    """

    __slots__ = ("_execution", "_prefix")

    def __init__(self, execution: Execution, prefix: str = "") -> None:
        self._execution = execution
        self._prefix = prefix

    @property
    def id(self) -> str:
        """The id of this process."""
        return self._execution.process_id

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the process and is silent while the past is replayed."""
        return _ProcessLogger(_logger, self._execution)

    def scope(self, name: str) -> Process:
        """
        The same process with ``name/`` before every checkpoint name, for loops, branches and helper coroutines.

        Raises:
            InvalidName: The name is empty or cannot be stored.
        """
        return Process(self._execution, f"{self._prefix}{check_name(name, 'scope')}/")

    def key(self, name: str) -> str:
        """An idempotency key for *name*, the same after every restart: 36 characters, safe in headers and URLs."""
        return idempotency_key(self.id, self._name(name), self._execution.lineage.life)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """
        Show progress to whoever watches the process. Not recorded; silent while the past is replayed.

        Raises:
            PayloadTooLarge: *message* has more than 1000 characters.
        """
        check_message(message)
        self._execution.report(done, total, message)

    @overload
    async def get(self, value: Callable[[], T], name: str) -> T: ...
    @overload
    async def get(self, value: T, name: str) -> T: ...
    async def get(self, value: Any, name: str) -> Any:
        """
        Record a value the first time, return the recorded one ever after.

        Args:
            value: The value, or a function without arguments that makes it (``uuid4``, ``datetime.now``, ``random``);
                called on the event loop, so it should be quick. Use `do` for anything that waits.
            name: Checkpoint name, 1–200 characters with its scopes, used once in this process.

        Durability: The value is on storage before this returns.
        Raises:
            EncodeError, PayloadTooLarge: The value cannot be recorded.
            InvalidAction: *value* is a coroutine or a coroutine function.
            Exception: What the function raised; recorded too, so it is the same on replay.
        Source: Gaev.DurableTask, `ProcessExtensions.Get`.
        """
        factory = factory_of(value, name, self.id)
        return await self._execution.take_value(self._name(name), factory)

    @overload
    async def do(
        self,
        action: Callable[[], Awaitable[T]],
        name: str,
        *,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        at_most_once: bool = False,
    ) -> T: ...
    @overload
    async def do(
        self,
        action: Callable[[], T],
        name: str,
        *,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        at_most_once: bool = False,
    ) -> T: ...
    async def do(
        self,
        action: Callable[[], Any],
        name: str,
        *,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        at_most_once: bool = False,
    ) -> Any:
        """
        Run an action outside and record how it ended; on replay, give the recorded end and run nothing.

        At least once: a crash between the effect and its record runs the action again, under the same `key`.

        Args:
            action: A callable without arguments. What it returns is awaited if it is awaitable; a plain function runs
                in a thread of the host.
            name: Checkpoint name, 1–200 characters with its scopes, used once in this process.
            retry: Which failures to try again, how often and with what pauses; None fails at the first.
            timeout: Longest time of one attempt; then it is told to stop and fails with `TimeoutError`.
            at_most_once: Record the intent first and never start twice. After a crash that hides the outcome, or a
                timeout, `StepInterrupted` is raised for you to decide. Not combinable with *retry*.

        Durability: The outcome is on storage before this returns or raises.
        Raises:
            Exception: What the action raised at last, as its own type if that survives the journal, else `StepError`.
            StepInterrupted: See *at_most_once*.
            EncodeError, PayloadTooLarge: The action ran, and what it returned cannot be recorded; not retried.
            InvalidAction: *action* is a coroutine object, or nothing callable.
            NonDeterminismError: Never raised here: another kind of checkpoint of that name stalls the process.
        Source: Gaev.DurableTask, `Process.Do`.
        """
        if not callable(action):
            raise no_action(action, name, self.id)
        options = None
        if retry is not None or timeout is not None or at_most_once:
            options = action_options(retry, timeout, at_most_once, name, self.id)
        return await self._execution.run_action(self._name(name), action, options, at_most_once)

    async def delay(self, until: timedelta | datetime, name: str) -> timedelta:
        """
        Wait until *until*, counted from the first time this line ran, across restarts.

        Args:
            until: A length (zero or less returns at once) or an aware datetime. Kept in whole microseconds, UTC.
            name: Checkpoint name, 1–200 characters with its scopes, used once in this process.

        Returns: How late it woke, so that code may skip a reminder that is a week late.
        Durability: The due time is on storage before the wait starts, the waking before this returns.
        Raises:
            InvalidDefinition: *until* is a naive datetime, or neither a datetime nor a timedelta.
            asyncio.CancelledError: The process was cancelled; `except` and `finally` may compensate with `proc.*`.
        Source: Gaev.DurableTask, `ProcessExtensions.Delay`.
        """
        check_length(until, "delay", name, self.id)
        return cast(timedelta, await self._execution.set_timer("delay", self._name(name), until))

    @overload
    async def event(self, event: Event[T], *, name: str | None = None, timeout: timedelta | None = None) -> T: ...
    @overload
    async def event(self, event: str, *, name: str | None = None, timeout: timedelta | None = None) -> Any: ...
    async def event(self, event: Event[Any] | str, *, name: str | None = None, timeout: timedelta | None = None) -> Any:
        """
        Wait for an external event and return its payload.

        Events are durable and first in, first out per event name: one raised before anyone waits is kept.

        Args:
            event: An `Event`, or the bare name of one.
            name: Checkpoint name; the event's own name if not given, so a second wait needs one (or a `scope`).
            timeout: Longest wait, durable, counted from the first time this line ran.

        Durability: That this wait took this event is on storage before it returns.
        Raises:
            TimeoutError: *timeout* is over; recorded, so it is the same on replay.
            asyncio.CancelledError: The process or this task was cancelled; the event stays first in line.
        """
        event_name = check_name(event.name if isinstance(event, Event) else event, "event name")
        checkpoint = self._name(event_name if name is None else name)
        if timeout is not None:
            check_length(timeout, "event", checkpoint, self.id)
        return await self._execution.wait_event(checkpoint, event_name, timeout)

    async def start(
        self, invocation: Invocation[R], name: str | None = None, *, id: str | None = None, detached: bool = False
    ) -> Child[R]:
        """
        Start another process, once, and go on beside it: ``child = await proc.start(resize(picture), "resize")``.

        The child is a process like any other: with a journal of its own, run by whichever host serves its queue. It
        does not outlive its parent: when this function ends, or a task that waits for its result is cancelled, the
        child is cancelled too, and waited for until it has compensated. A *detached* one goes on.

        Args:
            invocation: What calling a process function gives.
            name: Checkpoint name; the name of the definition if not given, so a second one needs a name (or a `scope`).
            id: Of the new process, 1–1000 characters; made of the id of this one and the checkpoint name if not given.
            detached: Let it live on when this process ends or is cancelled.

        Durability: That it was started is on storage before this returns, together with the child itself.
        Raises:
            ProcessExists: There is a process of that id; recorded.
            EncodeError, PayloadTooLarge: The arguments cannot be recorded.
            InvalidDefinition: *invocation* is something else.
            asyncio.CancelledError: This process or task was cancelled; by then the child is started, or will never be.
        """
        definition = definition_of(invocation, "start", self.id)
        checkpoint = self._name(definition.name if name is None else name)
        if id is not None:
            check_name(id, "process id", ID_LIMIT)
        ask = self._execution.start_child(checkpoint, _beginning(invocation), id, detached)
        return Child(self._execution, checkpoint, await ask)

    async def call(self, invocation: Invocation[R], name: str | None = None, *, id: str | None = None) -> R:
        """
        Start another process and wait for its result: `start`, and `Child.result` of what it gives.

        As ``await coroutine`` does it: cancelling this cancels the child, and what the child raises comes out here.

        Args:
            invocation: What calling a process function gives.
            name: Checkpoint name; the name of the definition if not given, so a second one needs a name (or a `scope`).
            id: Of the new process, 1–1000 characters; made of the id of this one and the checkpoint name if not given.

        Durability: How the child ended is in the journal of this process before this returns or raises.
        Raises:
            Exception: What the child raised, as its own type if that survives the journal, else `ProcessFailed`.
            ProcessCancelled: The child was cancelled from elsewhere (`ProcessTimedOut`: by its own timeout).
            ProcessTerminated: The child was terminated.
            ProcessExists, EncodeError, PayloadTooLarge, InvalidDefinition: As for `start`; there is no child then.
            asyncio.CancelledError: This process or task was cancelled; the child has been, too, and has ended.
        """
        child = await self.start(invocation, name, id=id)
        return await child._result_once()

    async def restart(self, invocation: Invocation[Any]) -> NoReturn:
        """
        End this life of the process and begin the next one with *invocation*, under the same id; never returns.

        For processes that run for ever: the journal begins anew, so it does not grow. The function is left as by
        cancellation, so that ``finally`` and ``async with`` run and may use ``proc.*``; tasks and children that are
        left are cancelled and awaited, as at its end. Events nobody has taken, and its parent, go over to the next
        life; names, the keys that de-duplicate events, and its timeout begin anew. A failure on the way out fails the
        process, and one that was asked to stop does not restart.

        Args:
            invocation: What calling a process function gives: the same function, as a rule, with other arguments.

        Durability: The last record of this life and the first of the next are one step on storage.
        Raises:
            EncodeError: The arguments cannot be recorded. (If they are too large, the process fails.)
            InvalidAction: A task asks for it, and not the process function itself.
            asyncio.CancelledError: Always, if nothing is wrong: let it through.
        """
        definition_of(invocation, "restart", self.id)
        self._execution.restart(_beginning(invocation))
        raise asyncio.CancelledError("this life of the process is over")

    def timeout(self, length: timedelta | datetime, name: str) -> Timeout:
        """
        Like `asyncio.timeout`, by name: ``async with proc.timeout(timedelta(days=1), "patience"): …``

        `asyncio.timeout` works in a process too, and its timer is found again by its task and length; use this where
        the code around it will change. What this gives says by ``expired()`` whether the time was over.

        Args:
            length: How long the block may take, counted from the first time it was entered, across restarts; or an
                aware datetime at which it is over. Zero or less, or a time gone by, ends it at its first wait.
            name: Checkpoint name, 1–200 characters with its scopes, used once in this process.

        Durability: The due time is on storage no later than anything the block asks for; that it was over is, before
            the block is left for that reason.
        Raises:
            TimeoutError: At the end of the block: the time was over before.
            InvalidDefinition: *length* is a naive datetime, or neither a datetime nor a timedelta.
            InvalidName: The name is empty or cannot be stored.
        """
        check_length(length, "timeout", name, self.id)
        return Timeout(self._execution, self._name(name), length)

    def _name(self, name: str) -> str:
        check_name(name, "checkpoint name")
        return check_name(self._prefix + name, "checkpoint name") if self._prefix else name


def _beginning(invocation: Invocation[Any]) -> Beginning:
    definition = invocation.definition
    return Beginning(definition.name, definition.queue, invocation.args, invocation.kwargs, invocation.timeout)


class _ProcessLogger(logging.LoggerAdapter[logging.Logger]):
    """Names the process in every line, and says nothing while its past is replayed."""

    def __init__(self, logger: logging.Logger, execution: Execution) -> None:
        super().__init__(logger, {"process_id": execution.process_id})
        self._execution = execution

    def isEnabledFor(self, level: int) -> bool:
        return not self._execution.replaying and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[{self._execution.process_id}] {msg}", {
            **kwargs,
            "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})},
        }
