"""
What can be started: a definition, by whatever it was made, and an invocation of it. `durable.definition` makes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Generic, TypeVar

from durable._kernel.program import Program
from durable.errors import InvalidDefinition
from durable.journal import check_name

R = TypeVar("R", covariant=True)


@dataclass(frozen=True, slots=True)
class Invocation(Generic[R]):
    """
    A process function and its arguments, not started; what calling a definition gives and `start` takes.

    The arguments are recorded as they were written: by name what was given by name, and a default that was left out is
    left to the function. So a deploy that moves a parameter cannot give a value to another one than its writer meant.
    """

    definition: AnyDefinition
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        arguments = [*(repr(value) for value in self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return f"{self.definition.name}({', '.join(arguments)})"

    @property
    def timeout(self) -> int | None:
        """Longest life of the process in microseconds."""
        length = self.definition.timeout
        return None if length is None else length // timedelta(microseconds=1)


class AnyDefinition:
    """
    A process function with its durable name and options, whatever its arguments and result.

    Attributes:
        name: Its durable name, by which journals find it.
        queue: Which hosts run it.
        timeout: Longest life of one of its processes, or None.
    """

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, Any]],
        body: Callable[[Any, tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, Any]],
        *,
        name: str | None,
        queue: str,
        timeout: timedelta | None,
        renames: Mapping[str, str],
        strict: bool,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise InvalidDefinition(
                f"A process function is an `async def`, and {function!r:.80} is not",
                fix="write `@process` directly above `async def name(proc: Process, …)`",
            )
        self._signature = inspect.signature(function)
        if not self._signature.parameters:
            raise InvalidDefinition(
                f"Process function {function.__qualname__!r} takes no parameters",
                fix="its first parameter is the process: `async def name(proc: Process, …)`",
            )
        if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta(0)):
            raise InvalidDefinition(
                f"Process function {function.__qualname__!r} has timeout={timeout!r:.40}, no positive timedelta",
                fix="write `timeout=timedelta(hours=…)`",
            )
        if chained := renames.keys() & set(renames.values()):
            raise InvalidDefinition(
                f"Process function {function.__qualname__!r} renames {min(chained)!r}, and something else to it",
                fix="map each old name straight to the name the code uses now",
            )
        self.function = function
        self.name = check_name(name if name is not None else function.__name__, "definition name")
        self.queue = check_name(queue, "queue name")
        self.timeout = timeout
        self.program = Program(body, dict(renames), strict, self.name)
        update_wrapper(self, function)  # type: ignore[arg-type]  # it is callable as a `Definition`

    def __repr__(self) -> str:
        return f"<process {self.name!r}>"

    def arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """
        What each parameter gets from a call, by name and with defaults: the same however the call is written.

        Raises:
            TypeError: The function cannot be called like that.
        """
        bound = self._signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return bound.arguments
