"""`@process`: from an `async def` to something a host can start, by a name that outlives the code around it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from durable._kernel.execution import Execution
from durable.invocation import AnyDefinition, Invocation
from durable.process import Process

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
ProcessFunction = Callable[Concatenate[Process, P], Coroutine[Any, Any, R]]


class Definition(AnyDefinition, Generic[P, R]):
    """
    What `process` makes of a process function.

    Calling it checks the arguments against the function and makes an `Invocation`.
    """

    def __init__(self, function: ProcessFunction[P, R], **options: Any) -> None:
        def body(execution: Execution, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
            return function(Process(execution), *args, **kwargs)

        super().__init__(function, body, **options)

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
