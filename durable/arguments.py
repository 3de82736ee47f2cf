"""What a process function gives to its checkpoints, checked at the line that gives it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from durable.errors import InvalidAction, InvalidDefinition
from durable.invocation import AnyDefinition, Invocation
from durable.retry import Retry


class ActionOptions(NamedTuple):
    """How the host runs an action."""

    retry: Retry | None
    timeout: timedelta | None
    at_most_once: bool


def factory_of(value: Any, name: str, process: str) -> Callable[[], Any]:
    """
    What makes the value of a `get`.

    Raises:
        InvalidAction: *value* is a coroutine, or makes one.
    """
    if inspect.iscoroutine(value) or inspect.iscoroutinefunction(value):
        if inspect.iscoroutine(value):
            value.close()
        raise InvalidAction(
            f"`get` {name!r} of process {process!r} was given a coroutine",
            fix=f"write `await proc.do(lambda: the_call(…), {name!r})`",
        )
    return value if callable(value) else _Constant(value)


class _Constant:
    """A factory that always gives the same value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


def no_action(action: object, name: str, process: str) -> InvalidAction:
    """The error of a `do` that was given something that cannot be called."""
    if inspect.iscoroutine(action):
        action.close()
        call = f"{action.__qualname__}(…)"
        return InvalidAction(
            f"`do` {name!r} of process {process!r} was given a coroutine, which can run only once",
            fix=f"write `await proc.do(lambda: {call}, {name!r})`",
        )
    return InvalidAction(f"`do` {name!r} of process {process!r} was given {action!r:.80}, which cannot be called")


def action_options(
    retry: Retry | None, timeout: timedelta | None, at_most_once: bool, name: str, process: str
) -> ActionOptions:
    """
    The options of a `do`.

    Raises:
        InvalidDefinition: One of them is of another type or out of range, or two contradict each other.
    """
    action = f"`do` {name!r} of process {process!r}"
    if retry is not None and not isinstance(retry, Retry):
        raise InvalidDefinition(f"{action} has retry={retry!r:.40}", fix="write `retry=Retry(…)`")
    if timeout is not None and not isinstance(timeout, timedelta):
        raise InvalidDefinition(f"{action} has timeout={timeout!r:.40}", fix="write `timeout=timedelta(seconds=…)`")
    if timeout is not None and timeout <= timedelta(0):
        raise InvalidDefinition(f"{action} has a timeout that is not positive: {timeout}")
    if retry is not None and at_most_once:
        raise InvalidDefinition(f"{action} is both at_most_once and retried", fix="drop one: a retry is a second start")
    return ActionOptions(retry, timeout, at_most_once)


def check_length(length: object, what: str, name: str, process: str) -> None:
    """
    Check how long a *what* waits.

    Raises:
        InvalidDefinition: It is a naive datetime, or neither a datetime nor a timedelta.
    """
    if isinstance(length, timedelta) or (isinstance(length, datetime) and length.tzinfo is not None):
        return
    problem = "a naive datetime" if isinstance(length, datetime) else f"{type(length).__name__} {length!r:.80}"
    raise InvalidDefinition(
        f"`{what}` {name!r} of process {process!r} was given {problem}",
        fix="give a timedelta, or a datetime with a time zone: `datetime(…, tzinfo=UTC)`",
    )


def definition_of(invocation: object, what: str, process: str) -> AnyDefinition:
    """
    The definition of what a *what* begins.

    Raises:
        InvalidDefinition: *invocation* is something else than an invocation.
    """
    if isinstance(invocation, Invocation):
        return invocation.definition
    raise InvalidDefinition(
        f"`{what}` of process {process!r} takes an invocation, not {invocation!r:.80}",
        fix=f"call the process function: `await proc.{what}(the_function(arguments), …)`",
    )
