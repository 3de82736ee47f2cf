"""
Times as journals and stores keep them, whole microseconds since 1970 UTC, and as people do: aware datetimes.

The kernel must not know what time it is, so this stands beside `journal` and not in it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def now() -> int:
    """What time it is by the wall clock of this machine, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 UTC as an aware datetime; what no calendar holds is its last moment."""
    return _EPOCH + timedelta(microseconds=min(microseconds, _LAST))


def to_microseconds(moment: datetime) -> int:
    """An aware datetime as whole microseconds since 1970 UTC."""
    return (moment - _EPOCH) // _MICROSECOND
