"""What came of a crash test: one story for each place it was broken at, and a table of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from durable.testing.crash_calls import CallPoint
from durable.testing.crash_checks import Repeat, Violation
from durable.testing.crash_points import KillPoint


class Story(NamedTuple):
    """
    One run of a scenario with its kills.

    ``kills`` are those that happened; ``survived``: the last point was not reached.
    """

    kills: tuple[KillPoint | CallPoint, ...]
    survived: bool
    violations: tuple[Violation, ...]
    repeats: tuple[Repeat, ...]


@dataclass(slots=True)
class CrashReport:
    """What came of all stories of a scenario; its text is a table to read."""

    scenario: str
    stories: list[Story] = field(default_factory=list)

    @property
    def violations(self) -> list[Violation]:
        """All rules broken, in all stories."""
        return [violation for story in self.stories for violation in story.violations]

    @property
    def kills(self) -> int:
        """How many lives were killed."""
        return sum(len(story.kills) for story in self.stories)

    @property
    def repeats(self) -> Counter[tuple[str, str]]:
        """How often an action was started again, by its checkpoint and the kill that explains it."""
        return Counter((repeat.checkpoint, repeat.reason) for story in self.stories for repeat in story.repeats)

    def check(self) -> Self:
        """Return this report; `AssertionError` with its text if a rule was broken or nobody was killed."""
        if self.violations or not self.kills:
            raise AssertionError(str(self))
        return self

    def __str__(self) -> str:
        lines = [
            f"{self.scenario}: {self.kills} kills in {len(self.stories)} stories, {len(self.violations)} violations"
        ]
        for story in self.stories:
            where = ", then ".join(map(str, story.kills)) or "without a kill"
            lines += [f"  {where}: {violation}" for violation in story.violations]
        for (checkpoint, reason), times in sorted(self.repeats.items()):
            lines.append(f"  started again {times} ×: {checkpoint!r}: {reason}")
        return "\n".join(lines)
