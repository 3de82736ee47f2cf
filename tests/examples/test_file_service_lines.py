"""What the file service costs in lines: the business, and nothing else."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.examples.zip_runs import ROOT

SERVICE = ROOT / "examples" / "file_service"
DOCUMENT = (ROOT / "docs" / "file-service.md").read_text()
_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def lines_of(file: Path, *functions: str) -> int:
    """How many lines of code these functions of *file* have: decorators counted, docstrings, comments and gaps not."""
    source = file.read_text()
    found = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in functions
    ]
    assert len(found) == len(functions)
    code = lines_of_code(source)
    count = 0
    for node in found:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        after_docstring = node.body[0]
        assert after_docstring.end_lineno is not None and node.end_lineno is not None
        docstring = range(after_docstring.lineno, after_docstring.end_lineno + 1)
        count += len(code & {*range(first, node.end_lineno + 1)} - {*docstring})
    return count


def lines_of_code(source: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {line for token in tokens if token.type not in _NO_CODE for line in range(token.start[0], token.end[0] + 1)}


def test_the_business_is_short() -> None:
    """The process with its own action, and the endpoints: under 60 lines."""
    process = lines_of(SERVICE / "zips.py", "create_zip", "pack")
    endpoints = lines_of(SERVICE / "api.py", "upload", "download")
    assert f"what the service does | {process} |" in DOCUMENT
    assert f"upload and download | {endpoints} |" in DOCUMENT
    assert process + endpoints < 60


def test_the_second_task_costs_only_its_own_code() -> None:
    """Beside its own module the second task is one import and one entry of a list."""
    mentions = [
        line
        for file in SERVICE.glob("*.py")
        if file.name != "imports.py"
        for line in file.read_text().splitlines()
        if "import_products" in line
    ]
    assert len(mentions) == 2, mentions
    assert lines_of(SERVICE / "imports.py", "import_products") < 12


@pytest.mark.parametrize("module", ["tasks", "webhooks", "orphans", "imports"])
def test_the_document_counts_right(module: str) -> None:
    """The lines of code that the document gives for a module are those it has."""
    told = re.search(rf"^\| `{module}.py` .* \| (\d+) \|$", DOCUMENT, re.MULTILINE)
    assert told is not None
    tree = ast.parse(source := (SERVICE / f"{module}.py").read_text())
    code = lines_of_code(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            assert node.body[0].end_lineno is not None
            code -= {*range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    assert len(code) == int(told[1])


def test_each_answer_is_shown_by_tests_that_exist() -> None:
    """Each row of the table of questions names a test, and each test that the document names is there."""
    _, _, rest = DOCUMENT.partition("| question | what happens here | shown by |\n")
    rows = [line.split(" | ") for line in rest.partition("\n\n")[0].splitlines()[1:]]
    assert len(rows) > 20
    named = {question: _NAMED.findall(shown) for question, _, shown in rows}
    assert [question for question, tests in named.items() if not tests] == []
    for file, test in _NAMED.findall(DOCUMENT):
        assert test in names_in(*([ROOT / file] if file else (ROOT / "tests" / "examples").glob("test_*.py"))), test


_NAMED = re.compile(r"`(?:(tests/\S+)::)?(test_\w+)`")


def names_in(*files: Path) -> set[str]:
    """The functions in *files*."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
