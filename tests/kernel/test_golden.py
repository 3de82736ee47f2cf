"""Journals written by every release and every Python minor replay on this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable.errors import NonDeterminismError
from durable.journal import Kind, check_journal
from tests.kernel.driver import PYTHON, replayed
from tests.kernel.golden import CODEC, JOURNALS, PROGRAMS, RELEASE, read_journal

GOLDEN = sorted(path for path in JOURNALS.glob("*/*/*.jsonl") if path.parent.name != "wrong")


def check(path: Path, *, fast: bool) -> None:
    """
    Replay one golden journal to its end, and each prefix of it.

    A journal of another minor is read by name: there the end record may note drift, and nothing else may differ.
    """
    *records, end = journal = read_journal(path)
    check_journal(journal, path.stem)
    make, _ = PROGRAMS[path.stem]
    for length in range(1, len(records)):
        with replayed(make, records[:length], fast=fast, codec=CODEC) as run:
            assert run.execution.stalled is None, run.execution.stalled
    with replayed(make, records, fast=fast, codec=CODEC) as run:
        assert run.execution.stalled is None, run.execution.stalled
        (asked,) = run.execution.outstanding()
    assert asked.kind is end.kind  # type: ignore[union-attr]
    *content, notes = CODEC.decode(asked.payload)  # type: ignore[union-attr]
    *expected, expected_notes = CODEC.decode(end.payload)
    assert content == expected
    if path.parent.name == PYTHON:
        assert notes == expected_notes
    else:
        assert all(note in expected_notes or note.startswith("recorded but never asked for") for note in notes)


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: "/".join(path.with_suffix("").parts[-3:]))
def test_a_golden_journal_replays(path: Path, fast: bool) -> None:
    """The journal leads this code, on this interpreter, to the end it records."""
    check(path, fast=fast)


def test_the_golden_journals_are_there() -> None:
    """Each program has a journal of each minor, with every kind of record but TERMINATED among them."""
    written = {(path.parent.name, path.stem) for path in GOLDEN if path.parent.parent.name == RELEASE}
    assert written >= {(minor, name) for minor in ("3.11", "3.12", "3.13") for name in PROGRAMS}
    kinds = {record.kind for path in GOLDEN for record in read_journal(path)}
    assert kinds == set(Kind) - {Kind.TERMINATED, Kind.ERRED}


def test_a_wrong_journal_fails() -> None:
    """The check is able to fail: with one checkpoint recorded as another kind, and with one value changed."""
    wrong = JOURNALS / RELEASE / "wrong"
    with pytest.raises(AssertionError, match="'withdraw'"):
        check(wrong / "transfer.jsonl", fast=True)
    with pytest.raises(AssertionError):
        check(wrong / "races.jsonl", fast=True)
    with replayed(PROGRAMS["transfer"][0], read_journal(wrong / "transfer.jsonl"), codec=CODEC) as run:
        assert isinstance(run.execution.stalled, NonDeterminismError)
