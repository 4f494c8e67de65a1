"""`mean_reversion`: buys a price that comes back into its bands from below, sells it at the mean."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class _Table(NamedTuple):
    score: pd.Series  # standard deviations of the close from its mean
    adx: pd.Series
    wide: np.ndarray


class MeanReversionStrategy(Strategy):
    """What fell too far below its own mean comes back to it, as long as no trend says otherwise.

    The score is the close's distance from its mean of `window` candles in standard deviations.
    Buys when the score has come back above −`entry` within the last `patience` candles, is
    still below the mean, the ADX tells of no strong trend, and the way back pays: one
    deviation is at least `least_pct` of the price. Sells when the score has reached `exit`.

    Works in a market that swings around a level. Loses when a fall is news: the mean follows
    the price down, and the way back to it ends below the entry; a stop belongs to it. In a
    strong rise it is out early and stays out.
    """

    key = "mean_reversion"
    title = "Mean reversion"
    description = (
        "Buys a price that returns into its bands from below in a market without a strong trend, sells it at the mean. "
        "Works while a price swings around a level; loses when a fall goes on, so keep a stop."
    )
    params = (
        Param("window", int, 30, 5, 300, "candles of the mean and the deviation"),
        Param("entry", float, 2.0, 0.5, 5.0, "deviations below the mean from which it must come back"),
        Param("exit", float, 0.0, -1.0, 3.0, "deviations from the mean at which it sells"),
        Param("adx_window", int, 14, 2, 24, "candles of the ADX"),
        Param("adx_most", float, 35.0, 5.0, 100.0, "above this ADX a trend is too strong to be bought against"),
        Param("least_pct", float, 0.15, 0.0, 10.0, "one deviation must be at least this percent of the price"),
        Param("patience", int, 3, 1, 12, "candles for which a return counts"),
    )

    @property
    def warmup(self) -> int:
        p = self.p
        return int(max(p.window, indicators.VOCABULARY["adx"].rows({"window": p.adx_window})) + p.patience + 1)

    def _table(self, candles: pd.DataFrame) -> _Table:
        p, close = self.p, candles["close"]
        bands = indicators.bollinger(close, p.window, 1.0)
        deviation = bands.upper - bands.middle
        # A deviation that is nothing beside the price is a remainder of the running sums.
        score = (close - bands.middle) / deviation.where(deviation > 1e-6 * bands.middle)
        return _Table(score, indicators.adx(candles["high"], candles["low"], close, p.adx_window).adx, (deviation >= p.least_pct / 100 * close).to_numpy())

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p, t = self.p, self.once(candles, lambda: self._table(candles))
        score = t.score.to_numpy()
        edge, goal = (pd.Series(level, index=candles.index, dtype=float) for level in (-p.entry, p.exit))
        back = indicators.lately(indicators.crosses(t.score, edge) > 0, p.patience)
        buy = back & (score > -p.entry) & (score < min(0.0, p.exit)) & (t.adx.to_numpy() <= p.adx_most) & t.wide
        sell = indicators.lately(indicators.crosses(t.score, goal) > 0, p.patience) & (score >= p.exit) & ~buy
        return buy.astype(np.int8) - sell.astype(np.int8)

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        p, t = self.p, self.once(candles, lambda: self._table(candles))
        score, adx = float(t.score.iloc[i]), float(t.adx.iloc[i])
        if not np.isfinite(adx):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        if not np.isfinite(score):
            return "The price stands still: there is no deviation to come back from"
        values = f"{score:+.1f} deviations from the mean of {p.window}, ADX {adx:.0f}"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            return f"Coming back from {-p.entry:g} deviations: {values}"
        if signal < 0:
            return f"Back at the mean: {values}"
        return f"{'A trend is too strong, waiting' if adx > p.adx_most else 'No return from the edge, waiting'}: {values}"

    @classmethod
    def problems(cls, values: Any) -> list[str]:
        if values["exit"] <= -values["entry"]:
            return [f"exit: must lie above the entry at {-values['entry']:g} deviations, not at {values['exit']:g}"]
        return []
