"""`breakout`: buys a close above the highest high of the candles before, sells one below their lowest low."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class _Table(NamedTuple):
    """Each as it was one candle before: a close can't leave a channel that it shapes."""

    ceiling: pd.Series
    floor: pd.Series
    width: pd.Series  # percent of the ceiling
    volume: pd.Series  # mean


class BreakoutStrategy(Strategy):
    """A price that leaves the range it was in has somewhere to go (Donchian's channel).

    Buys when a close lies above the highest high of the `entry_window` candles before it, on
    at least `volume_least` times their mean volume, out of a range wide enough to pay the
    fees. Sells when a close lies below the lowest low of the `exit_window` candles before it.
    Either counts for `patience` candles, as long as the close stays beyond the level.

    Works when a market wakes up and runs. Loses in a range with false breaks: it buys the
    top and sells the bottom, again and again. Its winners are few and long; a near target
    takes away what it lives on.
    """

    key = "breakout"
    title = "Breakout"
    description = (
        "Buys a close above the highest high of the last hours on enough volume, sells one below the lowest low (Donchian channel). "
        "Works when a market starts to run; loses in a range with false breaks. Give it a far target."
    )
    params = (
        Param("entry_window", int, 96, 2, 500, "candles whose highest high must be passed"),
        Param("exit_window", int, 48, 2, 500, "candles whose lowest low ends it"),
        Param("volume_window", int, 48, 2, 500, "candles of the mean volume"),
        Param("volume_least", float, 1.2, 0.0, 20.0, "the volume must be at least this many times the mean"),
        Param("width_least_pct", float, 0.5, 0.0, 50.0, "the range left must be at least this percent of the price"),
        Param("patience", int, 3, 1, 12, "candles for which a break counts"),
    )

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["exit_window"] > values["entry_window"]:
            return [f"exit_window: must be at most entry_window ({values['entry_window']}), not {values['exit_window']}"]
        return []

    @property
    def warmup(self) -> int:
        """The channel of the row before the oldest break that counts."""
        p = self.p
        return int(max(p.entry_window, p.exit_window, p.volume_window) + 1 + p.patience)

    def _table(self, candles: pd.DataFrame) -> _Table:
        p, high, low = self.p, candles["high"], candles["low"]
        entry = indicators.donchian(high, low, p.entry_window)
        floor = indicators.donchian(high, low, p.exit_window).lower
        width = 100 * (1 - entry.lower / entry.upper.where(entry.upper > 0))
        return _Table(entry.upper.shift(1), floor.shift(1), width.shift(1), indicators.sma(candles["volume"], p.volume_window).shift(1))

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p, t = self.p, self.once(candles, lambda: self._table(candles))
        close, volume = candles["close"], candles["volume"]
        out = (close > t.ceiling) & (volume > 0) & (volume >= p.volume_least * t.volume) & (t.width >= p.width_least_pct)
        broken = close < t.floor
        buy = self._stays(out, close, t.ceiling, above=True)
        sell = self._stays(broken, close, t.floor, above=False) & ~buy
        return buy.astype(np.int8) - sell.astype(np.int8)

    def _stays(self, broke: pd.Series, close: pd.Series, level: pd.Series, *, above: bool) -> np.ndarray:
        """True where a level was broken in one of the last `patience` rows and the close still lies beyond that level."""
        found = broke.to_numpy().copy()
        broke_now, price, line = broke.to_numpy(), close.to_numpy(), level.to_numpy()
        for back in range(1, min(self.p.patience, len(found))):
            beyond = price[back:] > line[:-back] if above else price[back:] < line[:-back]
            found[back:] |= broke_now[:-back] & beyond
        return found

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        p, t = self.p, self.once(candles, lambda: self._table(candles))
        ceiling, floor = float(t.ceiling.iloc[i]), float(t.floor.iloc[i])
        if not np.isfinite(ceiling) or not np.isfinite(floor) or not np.isfinite(t.volume.iloc[i]):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        close, volume = float(candles["close"].iloc[i]), float(candles["volume"].iloc[i])
        times = volume / float(t.volume.iloc[i]) if t.volume.iloc[i] > 0 else 0.0
        values = f"close {close:g}, high of {p.entry_window} candles {ceiling:g}, low of {p.exit_window} {floor:g}, volume {times:.1f}x"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            return f"Broke out above its range: {values}"
        if signal < 0:
            return f"Broke below its range: {values}"
        return f"Inside its range, waiting: {values}"
