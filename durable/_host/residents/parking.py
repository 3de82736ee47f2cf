"""Which waiting processes stay in memory: the last that came to rest, up to a limit, and none for very long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from durable._host.residents.resident import Resident

logger = logging.getLogger("durable.host")


class Parking:
    """
    The residents that wait, oldest first.

    Args:
        after: Seconds a process waits in memory before it is parked.
        park: Writes the park of one resident; called only if nothing would notice that it is dropped.
    """

    def __init__(self, after: float, park: Callable[[Resident], object]) -> None:
        self._after = after
        self._park = park
        self._waiting: dict[Resident, float] = {}
        self._now = monotonic()  # as of the last sweep: one object for all who come to rest until the next
        self._warned: set[str] = set()
        self.unparkable: dict[Resident, str] = {}

    def wait(self, resident: Resident) -> None:
        """*resident* has come to rest."""
        self._waiting[resident] = self._now

    def stir(self, resident: Resident) -> None:
        """*resident* runs again, or is gone."""
        self._waiting.pop(resident, None)
        if self.unparkable:
            self.unparkable.pop(resident, None)

    def sweep(self, surplus: int = 0) -> None:
        """Park what has waited long enough, and the *surplus* oldest in any case."""
        self._now = monotonic()
        due = self._now - self._after
        chosen: list[Resident] = []
        for resident, since in self._waiting.items():
            if since > due and len(chosen) >= surplus:
                break
            chosen.append(resident)
        for resident in chosen:
            del self._waiting[resident]
            if resident.is_waiting():
                self._try(resident)

    def _try(self, resident: Resident) -> None:
        found = resident.obstacle()
        if found is None:
            self._park(resident)
            return
        self.unparkable[resident] = found
        if resident.definition not in self._warned:
            self._warned.add(resident.definition)
            logger.warning(
                "Process %r (%s) waits and cannot leave memory: %s. More of this definition are counted, not named.",
                resident.id,
                resident.definition,
                found,
                extra={"process_id": resident.id, "definition": resident.definition},
            )
