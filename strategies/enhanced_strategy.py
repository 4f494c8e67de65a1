"""`enhanced`: asks first what kind of market it is, then trades by that kind's rules, with a size for its volatility."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.market import indicators
from core.market.regime import Measures, Regime, classify, measures
from core.market.regime import warmup as regime_warmup
from strategies.base import Param, Strategy

WORDS = {
    Regime.UNKNOWN: "unknown",
    Regime.TREND_UP: "rising",
    Regime.TREND_DOWN: "falling",
    Regime.RANGE: "ranging",
    Regime.HIGH_VOLATILITY: "wild",
}


class _Table(NamedTuple):
    measures: Measures
    kinds: np.ndarray
    fast: pd.Series
    slow: pd.Series
    rsi: pd.Series
    bands: indicators.Bollinger


class EnhancedStrategy(Strategy):
    """Other rules in a trend than in a range, none in a panic, and less money where candles move more.

    The regime (core/market/regime.py) comes from ADX, its DI lines, and the ATR beside its own past.
    - rising: buys when the close has come back above the fast mean after a dip below it, with
      the fast mean above the slow one;
    - ranging: buys when the close has come back above the lower Bollinger band with a low RSI;
      sells when it has fallen back below the upper one;
    - falling, or wild: buys nothing;
    - whatever the kind: sells when the fast mean has fallen below the slow one, or the market
      has turned to falling.
    Each event counts for `patience` candles. An entry spends the whole pot where candles move
    as they used to, half of it where they move twice as much, never less than `size_least`.

    Works in markets whose moods last for hours: it follows the rises and harvests the pauses.
    Loses where moods change faster than the ADX tells (it lags by about its window): then it
    buys the end of a rise, or the first leg of a fall that still looks like a range.
    """

    key = "enhanced"
    title = "Enhanced (by regime)"
    description = (
        "Tells rising, ranging, falling and wild markets apart (ADX and volatility): buys dips in a rise, lower bands in a range, nothing otherwise; "
        "smaller entries where candles move more. Loses where moods change faster than its measures tell."
    )
    params = (
        Param("adx_window", int, 14, 2, 24, "candles of the ADX"),
        Param("trend_adx", float, 25.0, 5.0, 100.0, "from this ADX on it is a trend"),
        Param("atr_window", int, 14, 2, 24, "candles of the ATR"),
        Param("past", int, 96, 10, 250, "candles whose ATR is the usual one"),
        Param("wild_ratio", float, 2.0, 1.1, 20.0, "from this many times the usual ATR on the market is wild"),
        Param("ema_fast", int, 20, 2, 50, "candles of the fast mean"),
        Param("ema_slow", int, 50, 5, 70, "candles of the slow mean"),
        Param("band_window", int, 20, 5, 200, "candles of the Bollinger bands"),
        Param("band_deviations", float, 2.0, 0.5, 5.0, "half width of the bands, in standard deviations"),
        Param("rsi_window", int, 14, 2, 34, "candles of the RSI"),
        Param("rsi_low", float, 45.0, 1.0, 60.0, "in a range it buys at or below this RSI only"),
        Param("size_least", float, 0.25, 0.01, 1.0, "the smallest part of the pot that an entry spends"),
        Param("patience", int, 3, 1, 12, "candles for which an event counts"),
    )

    # Narrower than this part of the price the bands are noise.
    LEAST_WIDTH = 1e-5

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["ema_fast"] >= values["ema_slow"]:
            return [f"ema_fast: must be below ema_slow ({values['ema_slow']}), not {values['ema_fast']}"]
        return []

    @property
    def warmup(self) -> int:
        p, words = self.p, indicators.VOCABULARY
        known = regime_warmup(p.adx_window, p.atr_window, p.past)
        others = (words["ema"].rows({"window": p.ema_slow}), words["rsi"].rows({"window": p.rsi_window}), p.band_window)
        return int(max(known, *others) + p.patience + 1)

    def _table(self, candles: pd.DataFrame) -> _Table:
        p, close = self.p, candles["close"]
        found = measures(candles, p.adx_window, p.atr_window, p.past)
        return _Table(
            found,
            classify(found, p.trend_adx, p.wild_ratio),
            indicators.ema(close, p.ema_fast),
            indicators.ema(close, p.ema_slow),
            indicators.rsi(close, p.rsi_window),
            indicators.bollinger(close, p.band_window, p.band_deviations),
        )

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p, t, close = self.p, self.once(candles, lambda: self._table(candles)), candles["close"]
        order = indicators.side(t.fast, t.slow)
        wide = ((t.bands.upper - t.bands.lower) > self.LEAST_WIDTH * t.bands.middle).to_numpy()
        # In a rise: back above the fast mean. In a range: back into the bands, from below or from above.
        reclaimed = self._lately(indicators.crosses(close, t.fast) > 0) & (indicators.side(close, t.fast) > 0) & (order > 0)
        floor = self._lately((indicators.crosses(close, t.bands.lower) > 0) & wide) & (indicators.side(close, t.bands.middle) < 0) & wide
        ceiling = self._lately((indicators.crosses(close, t.bands.upper) < 0) & wide) & (indicators.side(close, t.bands.middle) > 0) & wide
        turned = np.zeros(len(t.kinds), dtype=bool)
        turned[1:] = (t.kinds[1:] == Regime.TREND_DOWN) & (t.kinds[:-1] != Regime.TREND_DOWN) & (t.kinds[:-1] != Regime.UNKNOWN)
        known, ranging = t.kinds != Regime.UNKNOWN, t.kinds == Regime.RANGE
        broken = self._lately(indicators.crosses(t.fast, t.slow) < 0) & (order < 0)
        buy = ((t.kinds == Regime.TREND_UP) & reclaimed) | (ranging & floor & (t.rsi <= p.rsi_low).to_numpy())
        out = broken | self._lately(turned) & (t.kinds == Regime.TREND_DOWN)
        buy &= ~out
        sell = known & (out | (ranging & ceiling)) & ~buy
        return buy.astype(np.int8) - sell.astype(np.int8)

    def size(self, candles: pd.DataFrame) -> np.ndarray:
        """The whole pot at the usual volatility or below, the inverse of its ratio above. NaN where that isn't known."""
        t = self.once(candles, lambda: self._table(candles))
        ratio = t.measures.ratio.to_numpy()
        with np.errstate(divide="ignore"):
            return np.clip(1 / ratio, self.p.size_least, 1.0)

    def _lately(self, condition: np.ndarray) -> np.ndarray:
        return indicators.lately(condition, self.p.patience)

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        t = self.once(candles, lambda: self._table(candles))
        kind, rsi, slow = Regime(int(t.kinds[i])), float(t.rsi.iloc[i]), float(t.slow.iloc[i])
        if kind is Regime.UNKNOWN or not np.isfinite(rsi) or not np.isfinite(slow):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        ratio = float(t.measures.ratio.iloc[i])
        usual = f", candles move {ratio:.1f}x as usual" if np.isfinite(ratio) else ""
        values = f"ADX {t.measures.adx.iloc[i]:.0f}, RSI {rsi:.0f}{usual}"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            why = "a dip in the rise is over" if kind is Regime.TREND_UP else "back from the lower band"
            return f"Market {WORDS[kind]}, {why}: {values}, size {100 * self.size(candles)[i]:.0f}%"
        if signal < 0:
            why = "fallen back from the upper band" if kind is Regime.RANGE and t.fast.iloc[i] >= slow else "the rise is broken"
            return f"Market {WORDS[kind]}, {why}: {values}"
        idle = "nothing is bought" if kind in (Regime.TREND_DOWN, Regime.HIGH_VOLATILITY) else "waiting"
        return f"Market {WORDS[kind]}, {idle}: {values}"
