"""`check`: would every unfinished process go on with the code as it is now?"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Annotated

import typer

from durable.checking import Finding, Verdict
from durable.checking import check as check_processes
from durable.cli import applications, options
from durable.cli.failures import ExitCode
from durable.cli.output import say, say_json, say_table, table
from durable.cli.stores import opened


def check(
    url: options.Url,
    app: Annotated[str, typer.Argument(metavar="APP", help="The definitions: module:attribute, or a module.")],
    inserted: Annotated[
        list[str] | None, typer.Option("--inserted", help="Checkpoint put before recorded ones on purpose.")
    ] = None,
    as_json: options.Json = False,
    codec: options.CodecName = "msgpack",
) -> None:
    """
    Replay every unfinished process with the code as it is now, without effects.

    The exit code is 0 if all of them go on, and 1 if one does not: for the pipeline before a deploy.
    """
    known = applications.definitions(app)
    values = applications.codec(codec)

    async def run() -> list[Finding]:
        async with opened(url) as storage:
            return [finding async for finding in check_processes(storage, known, values, inserted=inserted or ())]

    findings = asyncio.run(run())
    counted = Counter(finding.verdict for finding in findings)
    if as_json:
        say_json({"counts": {verdict.value: counted[verdict] for verdict in Verdict}, "findings": findings})
    else:
        _say(findings, counted)
    if counted.total() > counted[Verdict.GOES_ON]:
        raise typer.Exit(ExitCode.NO)


def _say(findings: list[Finding], counted: Counter[Verdict]) -> None:
    rows = [(finding.id, finding.definition, _verdict(finding), finding.detail) for finding in findings]
    if rows:
        say_table(table(["id", "definition", "verdict", "why, or what comes next"], rows))
    for alike in _to_do(findings):
        one = alike[0]
        others = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        say("")
        say(f"{one.verdict.value}: {one.id}{others}")
        if one.place is not None:
            say(f"  code: {_from_here(one.place)}")
        if one.fix is not None:
            say(f"  fix:  {one.fix}")
    if rows:
        say("")
    say(
        ", ".join(f"{counted[verdict]} {verdict.value}" for verdict in Verdict if counted[verdict])
        or "nothing to check"
    )


def _to_do(findings: list[Finding]) -> list[list[Finding]]:
    """Findings with a fix; those that one and the same line has to change for stand together."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        if finding.verdict is not Verdict.GOES_ON and (finding.fix or finding.place):
            same = (finding.definition, finding.verdict.value, finding.place or "", finding.fix or "")
            alike.setdefault(same, []).append(finding)
    return list(alike.values())


def _from_here(place: str) -> str:
    """A file below the working directory as it is called from there."""
    return place.removeprefix(os.getcwd() + os.sep)


def _verdict(finding: Finding) -> str:
    if finding.record is None:
        return finding.verdict.value
    return f"{finding.verdict.value} at checkpoint {finding.record} {finding.checkpoint!r}"
