"""
Processes that were started here and found no room: they wait in the store for their turn, and there may be a limit.

Each is counted until it is claimed, here or by another host. What others claim is not told, so it is looked up.
"""

from __future__ import annotations


class Pending:
    """
    The ids of those that wait.

    Args:
        most: How many there may be; None: any number, and none is remembered.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._ids: dict[str, bool] = {}  # whether its creation is durable

    def __len__(self) -> int:
        return len(self._ids)

    def is_full(self) -> bool:
        """Whether there are as many as there may be."""
        return self.most is not None and len(self._ids) >= self.most

    def enter(self, id: str) -> bool:
        """Count *id*, which is about to be created; False if there are as many as there may be."""
        if self.most is None or id in self._ids:
            return True
        if self.is_full():
            return False
        self._ids[id] = False
        return True

    def created(self, id: str) -> None:
        """It is durable, and waits, unless it was claimed before this was told."""
        if id in self._ids:
            self._ids[id] = True

    def dropped(self, id: str) -> None:
        """It was not created; if an earlier call has created it, it waits as before."""
        if self._ids.get(id) is False:
            del self._ids[id]

    def left(self, id: str) -> None:
        """Its turn has come, or it is gone."""
        self._ids.pop(id, None)

    def next(self, count: int) -> list[str]:
        """Some that wait, to be looked up; the next time it is the turn of others."""
        some = [id for id, is_created in self._ids.items() if is_created][:count]
        for id in some:
            self._ids[id] = self._ids.pop(id)
        return some
