"""The shape of the code: the kernel is pure, and no module depends on itself. The layers are held by import-linter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.packaging.source import PACKAGES, imports, modules

# A list of what is allowed: what nobody thought of is refused.
KERNEL_MAY_IMPORT = {"durable._kernel", "durable.codec", "durable.errors", "durable.journal"} | {
    "__future__", "abc", "ast", "asyncio", "bisect", "collections", "contextvars", "copy", "dataclasses", "datetime",
    "dis", "enum", "functools", "gc", "hashlib", "heapq", "inspect", "itertools", "math", "operator", "struct", "sys",
    "types", "typing", "weakref", "zlib",
}  # fmt: skip
# The ways to the outside that need no import, or hide behind an allowed one.
FORBIDDEN_CALLS = {
    "open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__",
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "asyncio.run", "asyncio.to_thread", "asyncio.new_event_loop", "asyncio.open_connection",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "sys.exit",
}  # fmt: skip


def impurities(tree: ast.AST) -> Iterator[str]:
    """What keeps this code from being a function of its arguments alone."""
    for module, name, line in imports(tree):
        if not any(_within(part, allowed) for part in (module, f"{module}.{name}") for allowed in KERNEL_MAY_IMPORT):
            yield f"line {line}: imports {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if any(_ends_with(called, forbidden) for forbidden in FORBIDDEN_CALLS):
                yield f"line {node.lineno}: calls {called}"


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _ends_with(called: str, forbidden: str) -> bool:
    return called == forbidden or ("." in forbidden and called.endswith(f".{forbidden}"))


def test_the_kernel_is_pure() -> None:
    """The kernel imports no clock, randomness, file, socket, thread or log, and calls nothing that reaches one."""
    kernel = list(modules("durable._kernel"))
    assert len(kernel) > 2
    assert [f"{module.name}, {impurity}" for module in kernel for impurity in impurities(module.tree)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "import os.path",
        "from random import random",
        "import logging",
        "from durable import host",
        "from durable.storage import open",
        "def f():\n    import socket",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.utcnow()",
        "open('file')",
        "print(1)",
    ],
)
def test_an_impure_kernel_would_be_noticed(code: str) -> None:
    """The check of purity sees each way out that a kernel could take."""
    assert list(impurities(ast.parse(code)))


@pytest.mark.parametrize("code", ["from durable import journal", "self.now()", "reopen(1)", "import asyncio.tasks"])
def test_a_pure_kernel_is_left_alone(code: str) -> None:
    """The check of purity does not take harmless code for a way out."""
    assert not list(impurities(ast.parse(code)))


def test_modules_are_acyclic() -> None:
    """No module imports itself through others, the `__init__` of packages, functions and type hints included."""
    all_modules = {module.name: module.tree for package in PACKAGES for module in modules(package)}
    assert cycle_among({name: _dependencies(tree, set(all_modules)) for name, tree in all_modules.items()}) is None


def test_a_cycle_would_be_noticed() -> None:
    """The search for cycles finds one, and names it."""
    assert cycle_among({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "c", "b", "a"]


def cycle_among(dependencies: dict[str, set[str]]) -> list[str] | None:
    """The modules of one cycle, the first one repeated at the end; None if there is none."""
    try:
        TopologicalSorter(dependencies).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def _dependencies(tree: ast.Module, names: set[str]) -> set[str]:
    found = set()
    for module, name, _line in imports(tree):
        if module in names:
            submodule = f"{module}.{name}"
            found.add(submodule if submodule in names else module)
    return found
