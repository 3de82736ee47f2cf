"""
At which line of its own code a process stands, as ``file:line``: of a suspended task, of an error, of a function.

Frames of this library and of asyncio are nobody's own code. Where the way to the line leads through something that
hides its frame, as an async generator does, the answer is None.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

_NOT_THEIRS = tuple(
    os.path.dirname(path) + os.sep for path in (os.path.dirname(os.path.abspath(__file__)), asyncio.__file__)
)


def place_of_wait(tasks: Collection[asyncio.Task[Any]], awaited: object) -> str | None:
    """Where the task among *tasks* stands that waits for the future *awaited*."""
    for task in tasks:
        if getattr(task, "_fut_waiter", None) is awaited:
            return _innermost(task.get_coro())
    return None


def place_of_error(error: BaseException) -> str | None:
    """The innermost line of their own code that *error* passed."""
    places = [_place(frame.f_code, line) for frame, line in walk_tb(error.__traceback__) if _is_theirs(frame)]
    return places[-1] if places else None


def place_of_function(function: Callable[..., Any]) -> str | None:
    """Where *function* begins."""
    code = getattr(function, "__code__", None)
    return None if code is None else _place(code, code.co_firstlineno)


def _innermost(awaitable: object) -> str | None:
    found = None
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None)
        if frame is not None and _is_theirs(frame):
            found = _place(frame.f_code, frame.f_lineno)
        awaitable = getattr(awaitable, "cr_await", None)
    return found


def _is_theirs(frame: FrameType) -> bool:
    return not frame.f_code.co_filename.startswith(_NOT_THEIRS)


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line}"
