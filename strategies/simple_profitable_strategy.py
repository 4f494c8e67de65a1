"""`simple_profitable`: buys a pull-back in a rising trend, sells when it overheats or breaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class SimpleProfitableStrategy(Strategy):
    """A balanced, careful trend follower: few entries, each with the trend.

    Buys when the fast mean lies above the slow one, the price has not fallen below the
    slow mean by more than a little, the RSI has pulled back within the last `patience`
    candles and rises again, and the volume is not a dead market's. Sells when the RSI
    turns down from overbought, or when the fast mean has just fallen below the slow one.
    It gives one or two trades a day on 5m candles.

    Works in markets that rise with pauses. Loses in a market without direction: the
    means cross to and fro, and each entry is followed by a small loss and two fees. Its
    name is a wish, not a promise.
    """

    key = "simple_profitable"
    title = "Simple profitable"
    description = (
        "Buys pull-backs in a rising trend (EMA filter, RSI turning up, enough volume), sells when overbought turns down or the trend breaks. "
        "Works in markets that rise with pauses; loses small sums again and again in a market without direction."
    )
    params = (
        Param("ema_fast", int, 20, 2, 50, "candles of the fast mean"),
        Param("ema_slow", int, 50, 5, 70, "candles of the slow mean"),
        Param("rsi_window", int, 14, 2, 34, "candles of the RSI"),
        Param("rsi_pullback", float, 43.0, 10.0, 60.0, "the RSI must have fallen to this or below in the pull-back"),
        Param("rsi_overbought", float, 72.0, 50.0, 99.0, "the RSI must have risen to this or above to sell"),
        Param("slack_pct", float, 0.3, 0.0, 10.0, "percent by which the price may lie below the slow mean"),
        Param("volume_window", int, 20, 2, 200, "candles of the mean volume"),
        Param("volume_least", float, 0.4, 0.0, 5.0, "the candle's volume must be at least this part of the mean"),
        Param("patience", int, 3, 1, 12, "candles for which a pull-back, an overbought RSI or a crossing counts"),
    )

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["ema_fast"] >= values["ema_slow"]:
            return [f"ema_fast: must be below ema_slow ({values['ema_slow']}), not {values['ema_fast']}"]
        return []

    @property
    def warmup(self) -> int:
        """Rows after which no mean remembers its first row."""
        p = self.p
        slow = indicators.settle_rows(2 / (p.ema_slow + 1))
        rsi = indicators.settle_rows(1 / p.rsi_window) + p.rsi_window
        return max(slow, rsi, p.volume_window) + p.patience + 1

    def _table(self, candles: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
        p, close = self.p, candles["close"]
        return indicators.ema(close, p.ema_fast), indicators.ema(close, p.ema_slow), indicators.rsi(close, p.rsi_window)

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p = self.p
        close, volume = candles["close"], candles["volume"]
        fast, slow, rsi = self.once(candles, lambda: self._table(candles))
        turn = rsi.diff()
        rising = fast > slow
        near = close >= slow * (1 - p.slack_pct / 100)
        pulled_back = self._lately(rsi <= p.rsi_pullback)
        alive = (volume > 0) & (volume >= p.volume_least * indicators.sma(volume, p.volume_window))
        buy = rising & near & pulled_back & (turn > 0) & alive
        # A price that stood still must not count as a break: both means are then one number.
        broken = (fast < slow) & (fast.shift(1) >= slow.shift(1)) & (close < slow)
        overheated = self._lately(rsi >= p.rsi_overbought) & (turn < 0)
        sell = (self._lately(broken) | overheated) & ~buy
        return buy.to_numpy().astype(np.int8) - sell.to_numpy().astype(np.int8)

    def _lately(self, condition: pd.Series) -> pd.Series:
        """True where the condition held within the last `patience` candles."""
        return condition.rolling(self.p.patience, min_periods=1).max() > 0

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        fast, slow, rsi = self.once(candles, lambda: self._table(candles))
        if not np.isfinite(slow.iloc[i]) or not np.isfinite(rsi.iloc[i]):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        p, up = self.p, fast.iloc[i] > slow.iloc[i]
        values = f"RSI {rsi.iloc[i]:.1f}, EMA{p.ema_fast} {(fast.iloc[i] / slow.iloc[i] - 1) * 100:+.2f}% from EMA{p.ema_slow}"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            return f"Pull-back in a rising trend is over: {values}"
        if signal < 0:
            return f"{'Overbought and turning down' if up else 'The rising trend broke'}: {values}"
        return f"{'Trend rises, waiting for a pull-back' if up else 'No rising trend, waiting'}: {values}"
