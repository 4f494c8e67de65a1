"""The exchange's clock as signatures need it: measured by its answers, carried on by the monotonic clock.

Whatever happens to the host's wall clock between two measurements doesn't touch it. Touches no
file and asks nobody: who asks the exchange for its time tells it here. (Market time, by which
bots live, is core/clock.py's.)
"""

from __future__ import annotations

import time
from collections.abc import Callable

from core.clock import wall_ms

AGE_S = (15.0, 180.0)  # between two measurements: short while the clocks move against each other
STEADY_MS = 250  # they do, where a measurement finds more than this
LONGEST_WAY_MS = 1000  # a reading that took longer says too little of when it was made


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class SignatureClock:
    """The exchange's time by our estimate, ms. `clock_ms` (wall) and `monotonic` (ms) are handed in for tests;
    a `clock_ms` that comes alone is taken for steady."""

    def __init__(self, clock_ms: Callable[[], int] = wall_ms, monotonic: Callable[[], int] | None = None):
        self._wall_ms = clock_ms
        self.monotonic_ms = monotonic or (monotonic_ms if clock_ms is wall_ms else clock_ms)
        self._base_ms: int | None = None  # the exchange's time minus the monotonic clock's, as last measured
        self._measured_at: float | None = None  # seconds of the monotonic clock
        self._age_s = AGE_S[0]

    def now_ms(self) -> int:
        """The exchange's time; the wall's before anything was measured."""
        return self._wall_ms() if self._base_ms is None else self._base_ms + self.monotonic_ms()

    def due(self) -> bool:
        """Whether it must be measured before something is signed by it."""
        return self._measured_at is None or self.monotonic_ms() / 1000 - self._measured_at >= self._age_s

    def doubt(self) -> None:
        """The exchange refused our time: measured anew before the next signature."""
        self._measured_at = None

    def measured(self, server_ms: int, began_ms: int) -> None:
        """The exchange told its time, somewhere between `began_ms` (monotonic) and now: the round trip is halved.

        Measured again soon where it moved, later where it didn't."""
        now = self.monotonic_ms()
        before, base = self._base_ms, server_ms - (began_ms + now) // 2
        shortest, longest = AGE_S
        if before is None or abs(base - before) >= STEADY_MS + (now - began_ms) // 2:
            self._age_s = shortest
        elif self._measured_at is not None and now / 1000 - self._measured_at >= shortest:  # two in a moment tell nothing of a drift
            self._age_s = min(longest, self._age_s * 2)
        self._base_ms, self._measured_at = base, now / 1000

    def noticed(self, server_ms: int, began_ms: int) -> None:
        """A time that was asked for something else: as good a measurement, if it came quickly."""
        if self.monotonic_ms() - began_ms < LONGEST_WAY_MS:
            self.measured(server_ms, began_ms)
