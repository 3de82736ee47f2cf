"""Tasks that run up to their first wait right where they are started, on interpreters that can (3.12 on)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

# Saves a turn of the loop for each commit and each action. Never used for process code.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


def start_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context | None = None
) -> asyncio.Task[Any]:
    """A task for *coroutine*; it may be done already when this returns. Call from a plain callback or a task."""
    return asyncio.Task(coroutine, loop=loop, context=context, **_EAGER)
