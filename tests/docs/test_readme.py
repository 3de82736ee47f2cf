"""The documents keep what they say: their code runs, their links lead somewhere, every error has its heading."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import durable
from durable import errors

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RUNNABLE = [path for path in DOCUMENTS if "```python" in path.read_text()]


class Service:
    """A service of the reader: keeps what it was asked, and answers with its last argument."""

    def __init__(self) -> None:
        self.sent: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        async def call(*arguments: object) -> object:
            self.sent.append(arguments)
            return arguments[-1]

        return call


def blocks(path: Path) -> Iterator[tuple[int, str]]:
    """The Python blocks of a document, each with the line it starts at."""
    text = path.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start(1)) + 1, found[1]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.name)
def test_every_block_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a document run in their order, as one program, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"document_{path.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for service in ("users", "mail", "warehouse", "courier"):
        setattr(module, service, Service())
    for line, code in blocks(path):
        tree = ast.parse(code)
        ast.increment_lineno(tree, line - 1)
        compiled = compile(tree, str(path), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if compiled.co_flags & inspect.CO_COROUTINE:
            asyncio.run(types.FunctionType(compiled, module.__dict__)())
        else:
            exec(compiled, module.__dict__)


def test_the_first_example_prints_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example of the first screen does what a reader expects of it."""
    monkeypatch.chdir(tmp_path)
    _, code = next(blocks(ROOT / "README.md"))
    exec(code, {"users": Service(), "mail": Service(), "__name__": "first_example"})
    assert capsys.readouterr().out == "ann@example.com\n"


def test_every_error_has_a_heading() -> None:
    """Each code of `durable.errors` has a heading in docs/errors.md, with the name of its class, and no other has."""
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.DurableError)]
    headings = re.findall(r"^## (D\d{3} \w+)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert headings == sorted(f"{one.code} {one.__name__}" for one in classes)


def test_every_error_is_a_public_name() -> None:
    """Whatever users may catch can be imported from `durable` itself."""
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.DurableError)]
    assert [one.__name__ for one in classes if one.__name__ not in durable.__all__] == []
    assert [one.__name__ for one in classes if getattr(durable, one.__name__) is not one] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    """A link into the repository names a file that is there."""
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_example_is_in_the_readme() -> None:
    """The README names the command of each example, and no other."""
    commands = set(re.findall(r"python -m examples\.(\w+)", (ROOT / "README.md").read_text()))
    examples = ROOT / "examples"
    packages = {path.parent.name for path in examples.glob("*/__main__.py")}
    assert commands == {path.stem for path in examples.glob("*.py")} - {"__init__"} | packages
