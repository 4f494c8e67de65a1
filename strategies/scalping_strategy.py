"""`scalping`: buys where the fast mean crosses above the slow one, sells where it crosses below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class ScalpingStrategy(Strategy):
    """The plainest trend follower: two simple means of the close, and nothing else.

    Buys on the candle whose fast mean lies above the slow one where it did not one candle
    before; sells on the mirror image. It speaks on that candle only: a bot that checks less
    often than a candle closes misses most crossings, so let it check every candle.

    Works while prices run for many candles in one direction. Loses in a market without
    direction, where each crossing is taken back by the next: on 5m candles the fees of so
    many trades alone eat the pot (BTC from December 2020 to July 2021: 1,819 trades, 95 % of it).
    """

    key = "scalping"
    title = "Scalping (mean cross)"
    description = (
        "Buys when the fast simple mean crosses above the slow one, sells when it crosses below. "
        "Works while prices run long in one direction; loses to fees in a market without one. Let it check every candle."
    )
    params = (
        Param("fast", int, 10, 1, 200, "candles of the fast mean"),
        Param("slow", int, 20, 2, 400, "candles of the slow mean"),
    )

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["fast"] >= values["slow"]:
            return [f"fast: must be below slow ({values['slow']}), not {values['fast']}"]
        return []

    @property
    def warmup(self) -> int:
        """The slow mean of two rows."""
        return int(self.p.slow) + 1

    def _table(self, candles: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        return indicators.sma(candles["close"], self.p.fast), indicators.sma(candles["close"], self.p.slow)

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        fast, slow = self.once(candles, lambda: self._table(candles))
        return indicators.crosses(fast, slow)

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        fast, slow = self.once(candles, lambda: self._table(candles))
        if i < 1 or not np.isfinite(slow.iloc[i - 1]) or not np.isfinite(slow.iloc[i]):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        p, signal = self.p, int(self.signals(candles)[i])
        values = f"SMA{p.fast} {fast.iloc[i]:g}, SMA{p.slow} {slow.iloc[i]:g} ({(fast.iloc[i] / slow.iloc[i] - 1) * 100:+.2f}%)"
        if signal:
            return f"The fast mean crossed {'above' if signal > 0 else 'below'} the slow one: {values}"
        return f"No crossing on this candle: {values}"
