"""When to try an action again: a pure function from attempt and error to a delay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from durable.errors import InvalidDefinition

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Retry:
    """
    Try an action again, with growing pauses. The pauses are durable: one of hours goes on after a restart.

    Args:
        attempts: How often to try in all, at least 1; None tries for ever.
        delay: Pause after the first failed attempt, zero or more.
        factor: What each further pause is multiplied with, at least 1.
        longest: No pause is longer than this; at least *delay*.
        jitter: Share of each pause that is drawn at random, 0 to 1; drawn once and recorded with the failed attempt.
        on: Which errors are worth another attempt: an exception class, a tuple of them, or a function from the error
            to bool. Everything else fails at once.

    Raises:
        InvalidDefinition: An argument is of a wrong type or out of its range.
    """

    attempts: int | None = 3
    delay: timedelta = _SECOND
    factor: float = 2.0
    longest: timedelta = timedelta(hours=1)
    jitter: float = 0.1
    on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], bool] = Exception

    def __post_init__(self) -> None:
        self._check_types()
        if self.attempts is not None and self.attempts < 1:
            raise InvalidDefinition(f"Retry tries at least once, not {self.attempts} times")
        if self.delay < timedelta(0) or self.longest < timedelta(0):
            raise InvalidDefinition("Retry pauses for zero or more, not for a negative time")
        if self.delay > self.longest:
            raise InvalidDefinition(
                f"Retry begins with a pause of {self.delay}, which is more than its longest, {self.longest}",
                fix="give `longest=` as well",
            )
        if self.factor < 1 or not 0 <= self.jitter <= 1:
            raise InvalidDefinition("Retry has a factor of at least 1 and a jitter between 0 and 1")

    def _check_types(self) -> None:
        for name in ("delay", "longest"):
            if not isinstance(length := getattr(self, name), timedelta):
                raise InvalidDefinition(
                    f"Retry has a timedelta as {name}, not {length!r:.80}", fix=f"write `{name}=timedelta(seconds=…)`"
                )
        if self.attempts is not None and (not isinstance(self.attempts, int) or isinstance(self.attempts, bool)):
            raise InvalidDefinition(
                f"Retry has a whole number of attempts, not {self.attempts!r:.80}", fix="write `attempts=5`, or None"
            )
        for name in ("factor", "jitter"):
            if not isinstance(number := getattr(self, name), int | float):
                raise InvalidDefinition(f"Retry has a number as {name}, not {number!r:.80}")
        if not (_are_exceptions(self.on if isinstance(self.on, tuple) else (self.on,)) or _is_question(self.on)):
            raise InvalidDefinition(
                f"Retry is on exception classes or a function from the error to bool, not on {self.on!r:.80}",
                fix="write `on=ConnectionError`, `on=(ConnectionError, TimeoutError)` or `on=lambda error: …`",
            )

    def next_delay(self, attempt: int, error: Exception, draw: float) -> timedelta | None:
        """
        The pause after failed attempt number *attempt* (from 1), or None to give up.

        Args:
            draw: A random number from 0 to 1, for the jitter; the host draws it, so that this stays a function.
        """
        if self.attempts is not None and attempt >= self.attempts:
            return None
        retryable = isinstance(error, self.on) if isinstance(self.on, type | tuple) else self.on(error)
        if not retryable:
            return None
        try:
            pause = min(self.delay * self.factor ** (attempt - 1), self.longest)
        except OverflowError:
            pause = self.longest
        return pause * (1 - self.jitter * draw)


def _are_exceptions(classes: tuple[object, ...]) -> bool:
    return all(isinstance(one, type) and issubclass(one, BaseException) for one in classes)


def _is_question(on: object) -> bool:
    return callable(on) and not isinstance(on, type)
