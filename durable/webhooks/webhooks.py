"""`Webhooks`: the targets of a host, the process that delivers to them, and how processes make use of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, ParamSpec, TypeVar

from pydantic_core import to_json, to_jsonable_python

from durable._kernel.kept import Child
from durable.definition import Definition, process
from durable.errors import DurableError, ProcessCancelled, ProcessTerminated, WebhookFailed
from durable.process import Process
from durable.retry import Retry
from durable.storage import Status
from durable.webhooks.delivery import post
from durable.webhooks.target import THREE_DAYS, Webhook

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

    Attributes:
        deliver: The process that delivers one message: ``deliver(target, event, data, process_id)``. Its result is the
            status of the answer. A process is told by `notify`; start it yourself for news from elsewhere.
    """

    def __init__(
        self, targets: Mapping[str, Webhook] | Callable[[str], Webhook | None], *, queue: str = "webhooks"
    ) -> None:
        self._find: Callable[[str], Webhook | None] = targets if callable(targets) else dict(targets).get

        @process(name="durable.webhook", queue=queue)
        async def deliver(
            proc: Process, target: str, event: str, data: Any = None, process_id: str | None = None
        ) -> int:
            time = await proc.get(lambda: datetime.now(UTC), "time")
            id = proc.key(f"delivered {time.isoformat()}")  # another one if the id of the process is used again
            body = _json({"id": id, "type": event, "timestamp": time, "process": process_id, "data": data})

            async def attempt() -> int:
                return await post(target, self._target(target), id, body)

            known = self._find(target)
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
        Raises: As `Process.start`.
        """
        plain = to_jsonable_python(data, **_PLAIN)  # the host that delivers need not know the classes
        invocation = self.deliver(target, event, plain, proc.id)
        return await proc.start(invocation, name or f"webhook {event} to {target}", detached=True)

    def notified(self, definition: Definition[P, R], target: str, *, name: str | None = None) -> Definition[P, R]:
        """
        A process that runs another one as its child, sends how it ended, and ends in the same way.

        Args:
            definition: What is run; its code knows nothing of it. The id of the child is that of the process, a slash
                and the name of *definition*: there it takes events.
            target: Name of the target. The event is ``process.completed``, ``process.failed``, ``process.cancelled`` or
                ``process.terminated``.
            name: Durable name of the new definition; that of *definition* and ``.notified`` if not given.
        """

        async def tell(proc: Process, child: Child[Any], end: dict[str, Any]) -> None:
            data = {"process": child.id, "definition": definition.name, **end}
            await self.notify(proc, target, f"process.{end['status']}", data, name="notified")

        async def notified(proc: Process, /, *args: P.args, **kwargs: P.kwargs) -> R:
            child = await proc.start(definition(*args, **kwargs))
            try:
                end = await _end_of(child)
            except asyncio.CancelledError:  # this one was asked to stop; the child has stopped by now, in its own way
                await tell(proc, child, await _end_of(child))
                raise
            await tell(proc, child, end)
            return await child.result()

        update_wrapper(notified, definition.function)  # its parameters are read from there, by `durable.web` as well
        return process(name=name or f"{definition.name}.notified", queue=definition.queue)(notified)

    def _target(self, name: str) -> Webhook:
        target = self._find(name)
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


async def _end_of(child: Child[Any]) -> dict[str, Any]:
    """How a child ended, to be told: ``status``, and ``result`` or ``error``."""
    try:
        result = await child.result()
    except ProcessCancelled as error:
        return {"status": Status.CANCELLED.value, "error": _error(error)}
    except ProcessTerminated as error:
        return {"status": Status.TERMINATED.value, "error": _error(error)}
    except Exception as error:
        return {"status": Status.FAILED.value, "error": _error(error)}
    return {"status": Status.COMPLETED.value, "result": result}


def _error(error: Exception) -> dict[str, str]:
    """Type and message of an error; tracebacks stay here."""
    if not isinstance(error, DurableError):
        return {"type": type(error).__qualname__, "message": str(error)}
    return {"type": error.facts.get("type_name", type(error).__qualname__), "message": str(error.args[0])}


# As durable.web writes values: an enum as its value, a dataclass or model as an object, bytes as base64.
_PLAIN: dict[str, Any] = {"bytes_mode": "base64", "inf_nan_mode": "strings", "fallback": repr}


def _json(value: Any) -> bytes:
    return to_json(value, **_PLAIN)
