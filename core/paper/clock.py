"""The market's time: how fast it goes, and that it never goes back. Owns data/paper/clock.

Market time advances with the wall's monotonic clock × speed. It stands still while no
process serves it: the last moment told is kept in a small file, rewritten in place with
one `pwrite` whenever a new moment is about to be told, so that not even SIGKILL can make
a restarted exchange tell an earlier one. A live market (`binance`) has the wall's time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

# 2100-01-01: no market goes further, so that no sum of times can grow out of its type.
LAST_MS = 4_102_444_800_000


class MarketClock:
    """Market ms as a function of a monotonic clock in ns. Not thread-safe; its owner locks."""

    def __init__(
        self,
        start_ms: int,
        speed: Decimal,
        end_ms: int | None,
        monotonic_ns: Callable[[], int],
        live_wall: Callable[[], int] | None = None,
        file: ClockFile | None = None,
    ):
        self._monotonic = monotonic_ns
        self._live = live_wall
        self._file = file
        self._end = min(end_ms if end_ms is not None else LAST_MS, LAST_MS)
        self._base = min(start_ms, self._end)
        self._told = self._base
        self._anchor = monotonic_ns()
        self.speed = speed
        self._ratio = speed.as_integer_ratio()

    @property
    def end_ms(self) -> int:
        return self._end

    @property
    def live(self) -> bool:
        return self._live is not None

    def now(self) -> int:
        """The market's moment, told and therefore kept: no later call, in no later process, is earlier."""
        if self._live is not None:
            now = self._live()
        else:
            num, den = self._ratio
            now = self._base + (self._monotonic() - self._anchor) * num // (den * 1_000_000)
        now = max(self._told, min(now, self._end))
        if now != self._told:
            self._told = now
            if self._file is not None:
                self._file.write(now)
        return now

    @property
    def ended(self) -> bool:
        return self.now() >= self._end

    def set_speed(self, speed: Decimal) -> None:
        self._rebase(self.now())
        self.speed = speed
        self._ratio = speed.as_integer_ratio()

    def step_to(self, ms: int) -> int:
        """Move to `ms` (at most the market's end) at once; ValueError for a step back."""
        now = self.now()
        if ms < now:
            raise ValueError(f"market time is {now} and never runs back")
        self._rebase(min(ms, self._end))
        return self.now()

    def _rebase(self, ms: int) -> None:
        self._base, self._anchor = ms, self._monotonic()


class ClockFile:
    """The last moment told, with the market's generation, so that a new market may begin earlier."""

    def __init__(self, path: Path, generation: int):
        self.path, self.generation = path, generation
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int | None:
        """The moment kept for this generation, None where there is none (or the file is torn or foreign)."""
        parts = os.pread(self._fd, 64, 0).split()
        if len(parts) != 2 or not all(p.isdigit() for p in parts) or int(parts[0]) != self.generation:
            return None
        return int(parts[1])

    def write(self, ms: int) -> None:
        # One write of fixed length: a kill leaves the old text or the new one.
        os.pwrite(self._fd, b"%010d %016d\n" % (self.generation, ms), 0)

    def close(self) -> None:
        os.close(self._fd)
