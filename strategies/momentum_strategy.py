"""`momentum`: buys a rise that gathers speed in its trend's direction, sells when the speed is gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class _Table(NamedTuple):
    roc: pd.Series
    mean: pd.Series
    adx: indicators.Adx


class MomentumStrategy(Strategy):
    """What rises fast goes on rising for a while.

    Buys when the rate of change over `roc_window` candles has risen above `roc_buy` percent
    within the last `patience` candles and still is there, the close lies above its
    exponential mean, and the ADX with its DI lines confirms a rise. Sells when the rate has
    fallen below `roc_sell`, or the close below the mean.

    Works in long runs: a few large gains pay for many small losses. Loses in a market
    without direction, where it buys each peak, and in a fall after a spike, where it is the
    last to buy. It gives three or four trades a day on 5m candles.
    """

    key = "momentum"
    title = "Momentum"
    description = (
        "Buys a fast rise that ADX and mean confirm, sells when the speed is gone or the price falls below the mean. "
        "Works in long runs; loses small sums at each peak of a market without direction."
    )
    params = (
        Param("roc_window", int, 12, 1, 200, "candles over which the rate of change is taken"),
        Param("roc_buy", float, 0.8, 0.0, 50.0, "percent above which the rate must rise to buy"),
        Param("roc_sell", float, -0.1, -50.0, 50.0, "percent below which the rate must fall to sell"),
        Param("mean_window", int, 50, 2, 70, "candles of the exponential mean"),
        Param("adx_window", int, 14, 2, 24, "candles of the ADX"),
        Param("adx_least", float, 20.0, 0.0, 100.0, "the ADX must be at least this to buy"),
        Param("patience", int, 3, 1, 12, "candles for which a crossing counts"),
    )

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["roc_sell"] >= values["roc_buy"]:
            return [f"roc_sell: must be below roc_buy ({values['roc_buy']:g}), not {values['roc_sell']:g}"]
        return []

    @property
    def warmup(self) -> int:
        p, words = self.p, indicators.VOCABULARY
        settled = max(words["adx"].rows({"window": p.adx_window}), words["ema"].rows({"window": p.mean_window}), p.roc_window + 1)
        return int(settled + p.patience + 1)

    def _table(self, candles: pd.DataFrame) -> _Table:
        p, close = self.p, candles["close"]
        adx = indicators.adx(candles["high"], candles["low"], close, p.adx_window)
        return _Table(indicators.roc(close, p.roc_window), indicators.ema(close, p.mean_window), adx)

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p, t, close = self.p, self.once(candles, lambda: self._table(candles)), candles["close"]
        rate = t.roc.to_numpy()
        fast, slow = (pd.Series(level, index=candles.index, dtype=float) for level in (p.roc_buy, p.roc_sell))
        confirmed = (t.adx.adx >= p.adx_least).to_numpy() & (t.adx.plus > t.adx.minus).to_numpy()
        buy = indicators.lately(indicators.crosses(t.roc, fast) > 0, p.patience) & (rate > p.roc_buy) & (indicators.side(close, t.mean) > 0) & confirmed
        slower = indicators.lately(indicators.crosses(t.roc, slow) < 0, p.patience) & (rate < p.roc_sell)
        below = indicators.lately(indicators.crosses(close, t.mean) < 0, p.patience) & (indicators.side(close, t.mean) < 0)
        sell = (slower | below) & np.isfinite(t.adx.adx.to_numpy()) & ~buy
        return buy.astype(np.int8) - sell.astype(np.int8)

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        p, t = self.p, self.once(candles, lambda: self._table(candles))
        rate, adx, mean = float(t.roc.iloc[i]), float(t.adx.adx.iloc[i]), float(t.mean.iloc[i])
        if not np.isfinite(adx) or not np.isfinite(mean) or not np.isfinite(rate):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        close = float(candles["close"].iloc[i])
        values = f"{rate:+.2f}% in {p.roc_window} candles, {(close / mean - 1) * 100:+.2f}% from EMA{p.mean_window}, ADX {adx:.0f}"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            return f"A rise that gathers speed: {values}"
        if signal < 0:
            return f"{'The speed is gone' if rate < p.roc_sell else 'Fallen below the mean'}: {values}"
        return f"Not fast enough, waiting: {values}" if rate <= p.roc_buy else f"Fast, but no fresh confirmed rise: {values}"
