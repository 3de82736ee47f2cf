"""The modules of our packages as syntax trees, wherever the packages under test are: in the checkout or installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("durable", "durable_storage")


class Module(NamedTuple):
    """A module by its dotted name; a package is the module of its ``__init__.py``."""

    name: str
    path: Path
    tree: ast.Module


class Import(NamedTuple):
    """One imported name: ``from a import b`` is module ``a``, name ``b``; ``import a`` has no name."""

    module: str
    name: str | None
    line: int


def folder(package: str) -> Path:
    """Where the package under test is."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} cannot be imported"
    return Path(next(iter(spec.submodule_search_locations)))


def modules(package: str) -> Iterator[Module]:
    """All modules of a package, given by its dotted name."""
    top, *rest = package.split(".")
    base = folder(top)
    for path in sorted(base.joinpath(*rest).rglob("*.py")):
        parts = (top, *path.relative_to(base).with_suffix("").parts)
        yield Module(".".join(parts).removesuffix(".__init__"), path, ast.parse(path.read_text(), str(path)))


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import of a module, wherever it stands; relative ones are refused by the linter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "relative import"
            for alias in node.names:
                yield Import(node.module, alias.name, node.lineno)
