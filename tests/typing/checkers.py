"""Runs mypy and pyright over the cases and compares what they say with what the cases expect."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"#\s*expect-error:\s*(?P<texts>.+)$")

Errors = Mapping[int, Sequence[str]]  # what a checker says, by line


class Finding(NamedTuple):
    """One error of a checker: its text ends with its code in brackets."""

    path: Path
    line: int
    text: str


def expected(source: str) -> dict[int, list[str]]:
    """The marked lines of a case; an error there must hold one of the texts, which `|` separates."""
    marks = ((number, MARK.search(line)) for number, line in enumerate(source.splitlines(), start=1))
    return {number: [text.strip() for text in mark["texts"].split("|")] for number, mark in marks if mark}


def differences(source: str, errors: Errors) -> list[str]:
    """Where a checker and the marks of a case disagree: an error too many, too few, or another one."""
    marks = expected(source)
    found = []
    for line in sorted({*marks, *errors}):
        said = errors.get(line, [])
        if line not in marks:
            found.append(f"line {line}: unexpected error: {'; '.join(said)}")
        elif not said:
            found.append(f"line {line}: no error, expected {' or '.join(marks[line])}")
        elif not any(text in error for text in marks[line] for error in said):
            found.append(f"line {line}: expected {' or '.join(marks[line])}, got: {'; '.join(said)}")
    return found


def mypy(cases: Sequence[Path], scratch: Path) -> list[Finding]:
    """What `mypy --strict` says."""
    config = scratch / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}:{ROOT / 'storage'}\nexplicit_package_bases = true\n")
    output = _run("-m", "mypy", "--config-file", config, "--cache-dir", scratch / "cache", "--output", "json", *cases)
    found = [json.loads(line) for line in output.splitlines()]
    return [
        Finding(Path(error["file"]).resolve(), error["line"], f"{error['message']} [{error['code']}]")
        for error in found
        if error["severity"] == "error"
    ]


def pyright(cases: Sequence[Path], scratch: Path) -> list[Finding]:
    """What pyright says in its `standard` mode."""
    config = {
        "include": [str(case) for case in cases],
        "extraPaths": [str(ROOT), str(ROOT / "storage")],
        "typeCheckingMode": "standard",
    }
    (scratch / "pyrightconfig.json").write_text(json.dumps(config))
    output = _run("-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", scratch)
    return [
        Finding(
            Path(error["file"]).resolve(),
            error["range"]["start"]["line"] + 1,
            f"{error['message']} [{error.get('rule', 'syntax')}]",
        )
        for error in json.loads(output)["generalDiagnostics"]
        if error["severity"] == "error"
    ]


def _run(*arguments: str | Path) -> str:
    answer = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)
    found_errors = answer.returncode == 1 and answer.stdout  # a checker that is not installed says nothing there
    assert answer.returncode == 0 or found_errors, answer.stdout + answer.stderr
    return answer.stdout


def by_file(findings: Sequence[Finding]) -> dict[Path, dict[int, list[str]]]:
    """Findings sorted into files and lines."""
    sorted_findings: dict[Path, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, line, text in findings:
        sorted_findings[path][line].append(text)
    return sorted_findings
