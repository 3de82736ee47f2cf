"""
Where an object is: which variable of which suspended function holds it. For the sentences people read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from itertools import pairwise

from durable._host.freeing.frame_state import Suspendable, is_suspendable
from durable._host.freeing.reachability import LEAVES, LIMIT, referents


def place(target: object, roots: Iterable[object]) -> str:
    """Say which variable of which suspended function holds *target*, as found on the shortest way from *roots*."""
    path = _path(target, roots)
    for position, (node, holder) in enumerate(pairwise(path)):
        if is_suspendable(holder):
            below = {id(step) for step in path[: position + 1]}
            return f"{_variable(holder, below) or f'the stack, under {type(node).__name__},'} of {location(holder)}"
    return "an object of its event loop"


def _path(target: object, roots: Iterable[object]) -> list[object]:
    """Return *target*, its holder, the holder of that, and so on up to a root."""
    holders: dict[int, object | None] = {}
    pending = list(roots)
    holders.update((id(root), None) for root in pending)
    for holder in pending:  # grows while it is walked: breadth first
        if holder is target or len(holders) > LIMIT:
            break
        for referent in referents(holder):
            if id(referent) not in holders and id(type(referent)) not in LEAVES:
                holders[id(referent)] = holder
                pending.append(referent)
    path = [target]
    while (above := holders.get(id(path[-1]))) is not None:
        path.append(above)
    return path


def _variable(owner: Suspendable, values: set[int]) -> str | None:
    frame = _frame(owner)
    variables = frame.f_locals
    names = [name for name, value in variables.items() if id(value) in values]
    if type(variables) is dict and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        variables.clear()  # before 3.13 a copy that stays with the frame, and would keep old values alive
    return f"variable {names[0]!r}" if names else None


def _frame(owner: Suspendable) -> types.FrameType:
    if type(owner) is types.CoroutineType:
        frame = owner.cr_frame
    elif type(owner) is types.GeneratorType:
        frame = owner.gi_frame
    else:
        frame = owner.ag_frame
    assert frame is not None, "only what has not finished is asked for its frame"
    return frame


def location(owner: Suspendable) -> str:
    """Return name, file and current line of a coroutine, generator or async generator that has not finished."""
    frame = _frame(owner)
    return f"{owner.__qualname__} ({frame.f_code.co_filename}:{frame.f_lineno})"
