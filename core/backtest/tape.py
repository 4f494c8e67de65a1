"""The price path of candles, laid out once: what was printed when, and when a level is reached. Owns no files.

As the paper exchange has it (core/market/path.py), over integers of 1e-8 (core/market/bars.py):
a candle prints open, the nearer extreme, the other, close; between prints the last one stands,
and between candles of a gap the market is closed.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np

from core.market import filters
from core.market.bars import DECIMALS, Bars, Ints

AVERAGE_MS = 300_000  # the window of the filters' average price
UNIT = Decimal(1).scaleb(-DECIMALS)
_FIRST_LOOK = 64  # prints scanned at once; each further stretch is four times as long
_LONGEST_LOOK = 65_536
_NEVER = -1  # no price lies at or below it


def money(units: int) -> Decimal:
    """Units of 1e-8 as a Decimal."""
    return Decimal(units).scaleb(-DECIMALS)


def at_most(level: Decimal) -> int:
    """The highest price in units that lies at or below `level`."""
    return int((level / UNIT).to_integral_value(ROUND_FLOOR))


def at_least(level: Decimal) -> int:
    """The lowest price in units that lies at or above `level`."""
    return int((level / UNIT).to_integral_value(ROUND_CEILING))


class Tape:
    """Prints of `bars`: `at` (ms, ascending) and `price` (units of 1e-8), four a candle; all arrays of one length."""

    def __init__(self, bars: Bars):
        self.bars, self.length = bars, bars.length_ms
        low_first = bars.open - bars.low <= bars.high - bars.open
        quarter = self.length // 4
        offsets = np.array([0, quarter, 3 * self.length // 4, self.length - 1], np.int64)
        self.at: Ints = (bars.open_ms[:, None] + offsets).ravel()
        first, second = np.where(low_first, bars.low, bars.high), np.where(low_first, bars.high, bars.low)
        self.price: Ints = np.stack((bars.open, first, second, bars.close), axis=1).ravel()
        self._known: tuple[int, Decimal] = (-1, Decimal(0))

    def index(self, ms: int) -> int:
        """Which print is the last at or before `ms`; -1 before the first."""
        return int(self.at.searchsorted(ms, "right")) - 1

    def last(self, ms: int) -> Decimal | None:
        """The price at `ms`; None before the first print."""
        i = self.index(ms)
        if i < 0:
            return None
        if self._known[0] != i:
            self._known = (i, money(int(self.price[i])))
        return self._known[1]

    def halted(self, ms: int) -> bool:
        """Whether the market is closed: `ms` lies in no candle."""
        i = self.index(ms)
        return i < 0 or ms >= int(self.bars.open_ms[i // 4]) + self.length

    def range(self, ms: int) -> tuple[Decimal, Decimal] | None:
        """(low, high) of the candle that holds `ms`; None in a gap."""
        if self.halted(ms):
            return None
        i = self.index(ms) // 4
        return money(int(self.bars.low[i])), money(int(self.bars.high[i]))

    def average(self, ms: int) -> Decimal | None:
        """The filters' average: the mean of the prints of the last 5 minutes, else the last price."""
        first, end = self.at.searchsorted((ms - AVERAGE_MS, ms), "right")
        mean = filters.average(money(p) for p in self.price[first:end].tolist())
        return mean if mean is not None else self.last(ms)

    def touched(self, after_ms: int, until_ms: int, below: int | None, above: int | None) -> int | None:
        """When a print in (after_ms, until_ms] first lies at one of the levels (units) or beyond it; None: never."""
        start, stop = self.at.searchsorted((after_ms, until_ms), "right")
        i = self._first(int(start), int(stop), below, above)
        return None if i is None else int(self.at[i])

    def reach(self, after_ms: int, until_ms: int, below: int | None, above: int | None) -> tuple[Decimal, int, Decimal, bool] | None:
        """The first print in (after_ms, until_ms] whose walk from the print before touches `below` or less, or `above` or
        more (units): (price the walk came from, ms, price, whether it opens a candle); None where there is none."""
        start, stop = (int(i) for i in self.at.searchsorted((after_ms, until_ms), "right"))
        if start >= stop or (below is None and above is None):
            return None
        came = int(self.price[max(start - 1, 0)])
        if (below is not None and came <= below) or (above is not None and came >= above):
            i: int | None = start
        else:
            i = self._first(start, stop, below, above)
        if i is None:
            return None
        return money(int(self.price[max(i - 1, 0)])), int(self.at[i]), money(int(self.price[i])), i % 4 == 0

    def _first(self, start: int, stop: int, below: int | None, above: int | None) -> int | None:
        """The first of the prints [start, stop) that lies at one of the levels or beyond it."""
        size = _FIRST_LOOK
        while start < stop:
            part = self.price[start : min(start + size, stop)]
            hit = part <= _NEVER if below is None else part <= below
            if above is not None:
                hit |= part >= above
            at = int(hit.argmax())
            if hit[at]:
                return start + at
            start, size = start + len(part), min(size * 4, _LONGEST_LOOK)
        return None


def jumps(bars: Bars) -> Ints:
    """Places of candles that open at four times the close before them or more, or at a quarter or less: nobody could trade in
    between, so it is a redenomination, or data that can't be right."""
    before, opened = bars.close[:-1], bars.open[1:]
    return np.flatnonzero((opened // 4 >= before) | (before // 4 >= opened)) + 1
