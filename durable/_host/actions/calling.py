"""
Loop or thread? Where an action is to be called.

It is seldom visible: a lambda that calls a coroutine function looks like any other. So it is looked up once what a
lambda calls, and what remains unknown is called in a thread, where it cannot block the loop; what it returns is awaited
on the loop if awaitable, and remembered.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from functools import partial
from types import CodeType, FunctionType
from typing import Any

_on_loop: dict[CodeType, bool] = {}
_CODES = 10_000  # how many to remember: programs have fewer, unless they make code as they run
_SAYS_IT_NEEDS_THE_LOOP = ("no running event loop", "There is no current event loop")
_BEFORE_THE_CALLEE = frozenset({"RESUME", "COPY_FREE_VARS", "MAKE_CELL", "PUSH_NULL", "NOP", "CACHE"})


def runs_on_loop(action: Callable[[], Any]) -> bool:
    """Whether *action* is to be called on the event loop, because it gives an awaitable."""
    known = _on_loop.get(getattr(action, "__code__", None))  # type: ignore[arg-type]
    return _find_out(action) if known is None else known


def _find_out(action: Callable[[], Any]) -> bool:
    function = _function_of(action)
    code = getattr(function, "__code__", None)
    if code is None:
        call = inspect.getattr_static(type(function), "__call__", None)
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    known = _on_loop.get(code)
    if known is None:
        known = inspect.iscoroutinefunction(function) or (
            code.co_name == "<lambda>" and inspect.iscoroutinefunction(_callee(function, code))
        )
        remember(action, on_loop=known)
    return known


def needs_the_loop(error: BaseException | None) -> bool:
    """Whether an action failed because it was called in a thread, and wants to be called on the loop itself."""
    return isinstance(error, RuntimeError) and str(error).startswith(_SAYS_IT_NEEDS_THE_LOOP)


def remember(action: Callable[[], Any], *, on_loop: bool) -> None:
    """What was found out by calling it."""
    code = getattr(_function_of(action), "__code__", None)
    if code is not None:
        if len(_on_loop) >= _CODES:
            _on_loop.clear()
        _on_loop[code] = on_loop


def _function_of(action: Any) -> Any:
    while isinstance(action, partial):
        action = action.func
    return getattr(action, "__func__", action)


def _callee(function: FunctionType, code: CodeType) -> Any:
    """What ``lambda: a.b(…)`` calls, found without running anything; None if that is not what the lambda looks like."""
    names = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    found: Any = None
    for instruction in dis.get_instructions(code):
        operation, name = instruction.opname, instruction.argval
        if operation in _BEFORE_THE_CALLEE:
            continue
        if operation in ("LOAD_ATTR", "LOAD_METHOD"):
            found = inspect.getattr_static(found, name, None)
        elif found is not None:
            break  # its arguments begin
        elif operation == "LOAD_GLOBAL":
            found = function.__globals__.get(name)
        elif operation == "LOAD_DEREF" and name in names:
            found = getattr(names[name], "cell_contents", None)
        else:
            break
        if found is None:
            return None
    return found.__func__ if isinstance(found, staticmethod | classmethod) else found
