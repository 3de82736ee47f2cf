"""What the author of a process function gives to the kernel: the code, and what became of old names."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple


class Program(NamedTuple):
    """
    What is run: ``body(execution, args, kwargs)`` makes the coroutine; ``renames`` maps old names to new ones.

    ``name`` is that of the definition. The execution is not named in the type, since it is built upon this.
    """

    body: Callable[[Any, tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, Any]]
    renames: Mapping[str, str] = {}
    strict: bool = False
    name: str = ""
