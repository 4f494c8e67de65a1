"""When a bot checks and looks next, and what it has done already. Owns no file.

Checks and looks fall at market times (core/bot/schedule.py). The agenda remembers the last of
each, so that no slot is done twice and no look is made more often than once a wall second.
"""

from __future__ import annotations

from collections.abc import Callable

from core.bot import schedule
from core.bot.setup import Setup
from core.clock import Clock

LOOK_FLOOR_MS = 1000  # looks are never more often than once a wall second


class Agenda:
    """`slot_done`: the slot (market ms) of the last completed check, None before the first. `closed_ms`: the
    market time of the fill that closed the last trade of this run, None where none did.

    `setup` gives the bot's settings as they are now: its owner may change the interval between two checks."""

    def __init__(self, clock: Clock, setup: Callable[[], Setup]):
        self._clock, self._setup = clock, setup
        self.slot_done: int | None = None
        self.closed_ms: int | None = None
        self._looked_ms = 0
        self._looked_wall = -LOOK_FLOOR_MS

    @property
    def stepped(self) -> bool:
        """Market time stands still or is moved by steps: the once-a-second floor doesn't hold."""
        return bool(getattr(self._clock, "stepped", False))

    # --- checks --------------------------------------------------------------------------

    def slot(self) -> int:
        """The last slot at or before now, market ms."""
        setup = self._setup()
        return schedule.slot_before(self._clock.market_ms(), setup.check_interval_s * 1000, setup.offset_ms)

    def next_slot(self) -> int:
        """The first slot after now, market ms."""
        setup = self._setup()
        return schedule.slot_after(self._clock.market_ms(), setup.check_interval_s * 1000, setup.offset_ms)

    def slot_open(self) -> bool:
        """The slot before now is not done yet."""
        return self.slot_done is None or self.slot() > self.slot_done

    def closed_before(self, slot: int) -> bool:
        """The last trade was over before this slot, whenever the bot heard of it."""
        return self.closed_ms is not None and self.closed_ms < slot

    # --- looks ---------------------------------------------------------------------------

    def looked(self) -> None:
        self._looked_ms, self._looked_wall = self._clock.market_ms(), self._clock.wall_ms()

    def next_look(self) -> int:
        """Market ms of the next look."""
        # Our market time may have run ahead of the exchange's (it slowed down, or stood still
        # unheard) and have been set back since: a look in the future must not keep the next one waiting.
        self._looked_ms = min(self._looked_ms, self._clock.market_ms())
        return schedule.look_after(self._looked_ms, self._setup().risk_interval_s * 1000)

    def rest_ms(self) -> int:
        """Wall ms before which no look is made, 0 where nothing keeps it."""
        return 0 if self.stepped else max(0, LOOK_FLOOR_MS - (self._clock.wall_ms() - self._looked_wall))

    def look_due(self) -> bool:
        return self.rest_ms() == 0 and self._clock.market_ms() >= self.next_look()
