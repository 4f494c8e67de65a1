"""How long a position was without a stop: from the fill that opened or grew it to the stop that holds it.

Measured where it happens, in ms of wall time: since the bot booked the fill, and where market
time and wall time are one (speed 1) since the fill's own time, which is the longer of the two.
Stands in the bot's status as `unprotected_ms` `{"last", "max"}`; owns no file.
"""

from __future__ import annotations

from typing import Any

from core.bot.status import Status
from core.clock import Clock
from core.model import Position


class Gap:
    """`opened` when a fill has made the position larger, `closed` when its stop is held or watched."""

    def __init__(self, status: Status, clock: Clock):
        self._status, self._clock = status, clock
        self._since_wall: int | None = None
        self._since_market: int | None = None

    def booked(self, before: Position, after: Position) -> None:
        """Fills were booked: `before` became `after`."""
        if after.direction is None:
            self._since_wall = self._since_market = None
        elif after.quantity > before.quantity and after.stop_loss is not None and self._since_wall is None:
            self._since_wall = self._clock.wall_ms()
            self._since_market = max((f.time_ms for f in after.fills), default=None)

    def closed(self) -> float | None:
        """The stop is in its place: seconds since the fill, None where none was waited for."""
        if self._since_wall is None:
            return None
        last = max(0, self._clock.wall_ms() - self._since_wall)
        if self._since_market is not None and getattr(self._clock, "speed", 1.0) == 1:
            last = max(last, self._clock.market_ms() - self._since_market)
        self._since_wall = self._since_market = None
        before = self._status.fields.get("unprotected_ms") or self._status.before.get("unprotected_ms")
        most = _most(before)
        self._status.write(unprotected_ms={"last": last, "max": max(last, most)})
        return last / 1000


def _most(told: Any) -> int:
    """The longest so far; a status file that says nonsense counts as none."""
    most = told.get("max") if isinstance(told, dict) else None
    return most if isinstance(most, int) and not isinstance(most, bool) else 0
