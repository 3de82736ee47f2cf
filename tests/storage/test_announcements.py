"""What storage objects of one machine tell each other: whatever somebody else may be waiting for, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from durable.storage import Batch, Park, Restart, Stall, Status
from durable.testing.storage_parts import creation, ending, event, started, step
from durable_storage.local.announcements import concerns_others


@pytest.mark.parametrize(
    "parts",
    [
        {"creations": [creation(1, owned=False)]},
        {"children": [creation(1, owned=False)]},
        {"mails": [event(1)]},
        {"progress": {1: b"half"}},
        {"restarts": [Restart(1, "next", "queue", [started()])]},
        {"parks": [Park(1, 5, 0)]},
        {"stalls": [Stall(1, "why", 0)]},
        {"ends": [ending(1, Status.COMPLETED)]},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_what_others_wait_for_is_told(parts: dict[str, Any]) -> None:
    """Each of these may be work for another host, or the news that a client waits for."""
    assert concerns_others(Batch(1, 1, **parts))


def test_records_are_nobody_elses_affair() -> None:
    """A batch of records, of processes that are run here from their beginning on, wakes nobody."""
    own = Batch(1, 1, creations=[creation(1)], children=[creation(2)], records=[(1, step(2))], taken=[1])
    assert not concerns_others(own)
