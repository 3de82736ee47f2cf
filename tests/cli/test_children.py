"""Journals of processes that have started others: a child is a checkpoint that is open until it has returned."""

from __future__ import annotations

from typing import Any

from durable import MessagePackCodec
from durable.codec import describe_error, reader_for
from durable.insight import CheckpointState, record_in_words
from durable.insight.checkpoints import tell
from durable.journal import Kind, Record

CODEC = MessagePackCodec()
LINEAGE = (2, ("parent-1", "child"), "parent")


def story(*entries: tuple[str, Any]) -> list[tuple[str, CheckpointState, Any, str | None]]:
    """What a journal with these records about checkpoint "child" tells."""
    records = [Record(1, Kind.STARTED, "parent", CODEC.encode((1, "3.12", (7,), {}, None, *LINEAGE)), 10)]
    for seq, (kind, value) in enumerate(entries, 2):
        records.append(Record(seq, Kind[kind], "child", CODEC.encode(value), seq * 10))
    told = tell(records, reader_for(CODEC))
    assert told.arguments == (7,)
    return [(one.kind, one.state, one.value, one.error) for one in told.checkpoints]


def test_a_child_is_open_until_it_returns() -> None:
    """It is done when it has completed, and failed when it ended in another way; its result or error is shown."""
    started = ("CHILD", ("child-1", False))
    error = describe_error(CODEC, ValueError("no"))
    assert story(started) == [("child", CheckpointState.OPEN, None, None)]
    assert story(started, ("RETURNED", ("child-1", int(Kind.COMPLETED), 42))) == [
        ("child", CheckpointState.DONE, 42, None)
    ]
    assert story(started, ("RETURNED", ("child-1", int(Kind.ERRED), error))) == [
        ("child", CheckpointState.FAILED, None, "ValueError: no")
    ]


def test_how_a_child_ended_has_its_name() -> None:
    """In a history the kind of a child's end is a word; one of a newer version stays a number."""
    for number, word in ((Kind.ERRED, "ERRED"), (99, "99")):
        form = reader_for(CODEC)(CODEC.encode(("child-1", int(number), None)))
        assert record_in_words("RETURNED", form) == f"('child-1', {word}, None)"


def test_a_detached_child_is_done_when_it_is_started() -> None:
    """Nobody is told of its end."""
    assert story(("CHILD", ("child-1", True))) == [("child", CheckpointState.DONE, None, None)]
