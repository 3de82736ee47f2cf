"""`Webhooks`: the targets of a host, the process that delivers to them, and how processes make use of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar

from pydantic_core import to_json, to_jsonable_python

from durable._kernel.kept import Child
from durable.definition import ProcessFunction, process
from durable.errors import InvalidDefinition, WebhookFailed
from durable.process import Process
from durable.retry import Retry
from durable.webhooks.delivery import post
from durable.webhooks.plain import PLAIN
from durable.webhooks.target import THREE_DAYS, Webhook
from durable.webhooks.telling import SCOPE, Telling

P = ParamSpec("P")
R = TypeVar("R")


class Webhooks:
    """
    Brings news of processes to URLs: ``webhooks = Webhooks({"shop": Webhook(url, secret)})``.

    Processes and their journals know targets by name. The hosts that deliver are those that were given `deliver` among
    their definitions; they alone need the URLs and secrets.

    Args:
        targets: The targets by name; or a function that makes one of a name, or None of a name it does not know: for
            URLs that callers give.
        queue: Of the deliveries; one of their own, so that no host without `deliver` takes them.

    Raises:
        InvalidDefinition: A target is not a `Webhook`.

    Attributes:
        deliver: The process that delivers one message: ``deliver(target, event, data, process_id)``. Its result is the
            status of the answer. A process is told by `notify`; start it yourself for news from elsewhere.
    """

    def __init__(
        self, targets: Mapping[str, Webhook] | Callable[[str], Webhook | None], *, queue: str = "webhooks"
    ) -> None:
        if not callable(targets):
            for name, target in targets.items():
                _webhook_of(name, target)
            targets = dict(targets).get
        self._targets = targets

        @process(name="durable.webhook", queue=queue)
        async def deliver(
            proc: Process, target: str, event: str, data: Any = None, process_id: str | None = None
        ) -> int:
            time = await proc.get(lambda: datetime.now(UTC), "time")
            id = proc.key(f"delivered {time.isoformat()}")  # another one if the id of the process is used again
            body = _json({"id": id, "type": event, "timestamp": time, "process": process_id, "data": data})

            async def attempt() -> int:
                return await post(target, self._target(target), id, body)

            known = self._known(target)
            retry, timeout = (THREE_DAYS, None) if known is None else (known.retry, known.timeout)
            return await proc.do(attempt, "delivered", retry=_Patient.like(retry), timeout=timeout)

        self.deliver = deliver

    async def notify(
        self, proc: Process, target: str, event: str, data: Any = None, *, name: str | None = None
    ) -> Child[int]:
        """
        Send news of *proc*: ``await webhooks.notify(proc, "shop", "order.shipped", {"parcel": 17})``.

        The delivery is a detached child. It goes on whatever becomes of *proc*, and nobody has to wait for it; who
        wants to know awaits `result` of what this returns.

        Args:
            target: Name of the target.
            event: What has happened, as ``order.shipped``; ``type`` of the message.
            data: What there is to say, anything that can be written as JSON.
            name: Checkpoint name; made of event and target if not given, so a second one needs a name (or a scope).

        Durability: The delivery is on storage before this returns, once, whatever crashes.
        Raises:
            InvalidDefinition: *target* is no name.
            Exception: As `Process.start`.
        """
        plain = to_jsonable_python(data, **PLAIN)  # the host that delivers need not know the classes
        invocation = self.deliver(_name_of(target), event, plain, proc.id)
        return await proc.start(invocation, name or f"webhook {event} to {target}", detached=True)

    def telling(self, proc: Process, target: str | None, *, event: str = "process") -> Telling:
        """
        Tell how a block of *proc* ended: ``async with webhooks.telling(proc, "shop"): …``

        The event is ``process.completed``, ``process.failed`` or ``process.cancelled``, and its data are definition,
        status and error. A block that is left by `Process.restart` has not ended. Where a process is terminated none of
        its code runs, and nothing is told.

        Args:
            target: Name of the target; None tells nobody.
            event: Another word than ``process``.

        Checkpoints: ``webhook/end``, so a second one in a process needs a `Process.scope`.
        Durability: The delivery is on storage before the block is left, once, whatever crashes. If it cannot be
            started, as there is a process of its id, that is logged, and nothing else changes.
        Raises:
            InvalidDefinition: *target* is no name.
            asyncio.CancelledError: The process was cancelled while it told how the block had ended.
        """
        if target is None:
            return Telling(proc, event, None)
        return Telling(proc, event, partial(self.notify, proc.scope(SCOPE), _name_of(target)))

    def notified(
        self, to: str | Callable[..., str | None] | None, *, event: str = "process"
    ) -> Callable[[ProcessFunction[P, R]], ProcessFunction[P, R]]:
        """
        Tell how a process ended: ``@webhooks.notified("shop")``, between ``@process`` and the function.

        As `telling` does it, and with the result, if that is at most 20 kB of JSON. A request to stop that comes while
        the end is told is too late: the process ends as it was told.

        Args:
            to: Name of the target, or a function that is given the arguments of the process and makes one of them; None
                tells nobody.
            event: Another word than ``process``.

        Checkpoints: ``webhook/result``, with the result, and ``webhook/end``.
        Raises:
            InvalidDefinition: What it stands above is not a process function.
        """

        def decorate(function: ProcessFunction[P, R]) -> ProcessFunction[P, R]:
            if not iscoroutinefunction(function):
                raise InvalidDefinition(
                    f"`notified` takes the `async def` of a process, and {function!r:.80} is not one",
                    fix="write `@process` above `@webhooks.notified(…)`, and that above the `async def`",
                )

            @wraps(function)  # its parameters are read from there, by `durable.web` as well
            async def notified(proc: Process, /, *args: P.args, **kwargs: P.kwargs) -> R:
                telling = self.telling(proc, to(*args, **kwargs) if callable(to) else to, event=event)
                try:
                    result = await telling.keep(await function(proc, *args, **kwargs))
                except BaseException as error:
                    await telling.tell(error)
                    raise
                await telling.tell(None, result)
                return result

            return notified

        return decorate

    def _known(self, name: str) -> Webhook | None:
        return _webhook_of(name, self._targets(name))

    def _target(self, name: str) -> Webhook:
        target = self._known(name)
        if target is None:
            raise WebhookFailed(
                f"This host knows no webhook {name!r}",
                target=name,
                fix="add it to `Webhooks({…})` and deploy; until then it is tried again",
            )
        return target


@dataclass(frozen=True, slots=True)
class _Patient(Retry):
    """A `Retry` that leaves the target alone for as long as it asked for."""

    @classmethod
    def like(cls, retry: Retry) -> _Patient:
        passing = (WebhookFailed, TimeoutError)
        return cls(retry.attempts, retry.delay, retry.factor, retry.longest, retry.jitter, passing)

    def next_delay(self, attempt: int, error: Exception, draw: float) -> timedelta | None:
        pause = Retry.next_delay(self, attempt, error, draw)  # a slotted dataclass cannot say `super()` before 3.14
        asked = error.facts.get("retry_after") if isinstance(error, WebhookFailed) else None
        if pause is None or asked is None:
            return pause
        return max(pause, min(timedelta(seconds=asked), self.longest))


def _name_of(target: object) -> str:
    if isinstance(target, str):
        return target
    # Its secret would be written into the journal.
    raise InvalidDefinition(
        f"A target is told by its name, and this is {type(target).__name__}",
        fix='write `Webhooks({"shop": Webhook(…)})` once, and "shop" in processes',
    )


def _webhook_of(name: str, target: Webhook | None) -> Webhook | None:
    if target is None or isinstance(target, Webhook):
        return target
    raise InvalidDefinition(
        f"Webhook {name!r} is {type(target).__name__} and no `Webhook`",
        fix="write `Webhook(url, secret)`: nothing is sent without a signature",
    )


def _json(value: Any) -> bytes:
    return to_json(value, **PLAIN)
