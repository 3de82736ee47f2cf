"""`@process`: from an `async def` to something a host can start, by a name that outlives the code around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from durable._kernel.execution import Execution, Program
from durable.errors import InvalidDefinition
from durable.journal import check_name
from durable.process import Process

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
ProcessFunction = Callable[Concatenate[Process, P], Coroutine[Any, Any, R]]


@dataclass(frozen=True, slots=True)
class Invocation(Generic[R]):
    """A process function and its arguments, not started; what calling a definition gives and `start` takes."""

    definition: AnyDefinition
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        arguments = [*(repr(value) for value in self.args), *(f"{key}={value!r}" for key, value in self.kwargs.items())]
        return f"{self.definition.name}({', '.join(arguments)})"


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
        if timeout is not None and timeout <= timedelta(0):
            raise InvalidDefinition(f"Process function {function.__qualname__!r} has a timeout that is not positive")
        if chained := renames.keys() & set(renames.values()):
            raise InvalidDefinition(
                f"Process function {function.__qualname__!r} renames {min(chained)!r}, and something else to it",
                fix="map each old name straight to the name the code uses now",
            )
        self.function = function
        self.name = check_name(name if name is not None else function.__name__, "definition name")
        self.queue = check_name(queue, "queue name")
        self.timeout = timeout
        self.program = Program(self._body, dict(renames), strict)
        update_wrapper(self, function)  # type: ignore[arg-type]  # it is callable as a `Definition`

    def __repr__(self) -> str:
        return f"<process {self.name!r}>"

    def _body(self, execution: Execution, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        return self.function(Process(execution), *args, **kwargs)


class Definition(AnyDefinition, Generic[P, R]):
    """
    What `process` makes of a process function.

    Calling it checks the arguments against the function and makes an `Invocation`.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Invocation[R]:
        try:
            self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        return Invocation(self, args, dict(kwargs))


@overload
def process(function: ProcessFunction[P, R], /) -> Definition[P, R]: ...
@overload
def process(
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: timedelta | None = None,
    renames: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Callable[[ProcessFunction[P, R]], Definition[P, R]]: ...
def process(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: timedelta | None = None,
    renames: Mapping[str, str] | None = None,
    strict: bool = False,
) -> Any:
    """
    Mark an ``async def`` as a process function. Its first parameter is the `Process`; the rest are its arguments.

    Args:
        name: Durable name, by which journals find the function again; its ``__name__`` if not given.
        queue: Which hosts run it: those that list the queue.
        timeout: Longest life of one process; then it is cancelled, may compensate, and ends with `ProcessTimedOut`.
        renames: ``{"old": "new"}`` for checkpoints renamed in the code since journals were written.
        strict: Stall a process whose journal holds checkpoints the code never asks for, instead of noting it.

    Raises:
        InvalidDefinition: It is not an ``async def`` with at least one parameter, or an option is out of range.
        InvalidName: The name or queue cannot be stored.
    """

    def define(function: ProcessFunction[P, R]) -> Definition[P, R]:
        return Definition(function, name=name, queue=queue, timeout=timeout, renames=renames or {}, strict=strict)

    return define if function is None else define(function)
