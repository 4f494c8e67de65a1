"""`volatile`: buys a fall that is turning near the lower Bollinger band, sells the opposite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from core.market import indicators
from strategies.base import Param, Strategy


class VolatileCoinsStrategy(Strategy):
    """Swings of coins that move a lot: oversold and turning up is a buy, overbought and turning down a sale.

    Buys when, within the last `patience` candles, the price was in the lowest part of its
    Bollinger bands while the RSI was low, and the MACD histogram now rises. Sells on the
    mirror image. It gives several signals a day on 5m candles.

    Works while a price swings around a level. Loses in a long one-way fall: each pause
    of the fall looks like a turn, and it buys again below its last stop. In a long rise it
    sells early and misses most of it. Small swings don't pay the fees: choose coins whose
    5m candles move several tenths of a percent.
    """

    key = "volatile"
    title = "Volatile coins"
    description = (
        "Buys oversold dips that turn up near the lower Bollinger band, sells overbought peaks that turn down (RSI, MACD, Bollinger). "
        "Works while a price swings around a level; loses in a long one-way fall, and sells early in a long rise."
    )
    params = (
        Param("rsi_window", int, 14, 2, 34, "candles of the RSI"),
        Param("rsi_buy", float, 38.0, 1.0, 50.0, "the RSI must have been at or below this to buy"),
        Param("rsi_sell", float, 62.0, 50.0, 99.0, "the RSI must have been at or above this to sell"),
        Param("band_window", int, 20, 5, 200, "candles of the Bollinger bands"),
        Param("band_deviations", float, 2.0, 0.5, 5.0, "half width of the bands, in standard deviations"),
        Param("band_zone", float, 0.1, 0.0, 0.5, "part of the bands, from the edge, that counts as near it"),
        Param("macd_fast", int, 12, 2, 50, "candles of the MACD's fast mean"),
        Param("macd_slow", int, 26, 3, 60, "candles of the MACD's slow mean"),
        Param("macd_sign", int, 9, 2, 30, "candles of the MACD's signal line"),
        Param("patience", int, 3, 1, 12, "candles for which a touch of the band counts"),
    )

    # Narrower than this part of the price the bands are noise: nothing trades, or a coin is pegged.
    LEAST_WIDTH = 1e-5

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        if values["macd_fast"] >= values["macd_slow"]:
            return [f"macd_fast: must be below macd_slow ({values['macd_slow']}), not {values['macd_fast']}"]
        return []

    @property
    def warmup(self) -> int:
        """Rows after which no mean remembers its first row; the signal line settles after the slow mean has."""
        p = self.p
        macd = indicators.settle_rows(2 / (p.macd_slow + 1)) + p.macd_slow + p.macd_sign
        rsi = indicators.settle_rows(1 / p.rsi_window) + p.rsi_window
        return max(macd, rsi, p.band_window) + p.patience + 1

    def _table(self, candles: pd.DataFrame) -> tuple[pd.Series, indicators.Bollinger, pd.Series]:
        p, close = self.p, candles["close"]
        return (
            indicators.rsi(close, p.rsi_window),
            indicators.bollinger(close, p.band_window, p.band_deviations),
            indicators.macd(close, p.macd_fast, p.macd_slow, p.macd_sign).histogram,
        )

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        p = self.p
        rsi, bands, histogram = self.once(candles, lambda: self._table(candles))
        wide = (bands.upper - bands.lower) > self.LEAST_WIDTH * bands.middle
        low = wide & (bands.position <= p.band_zone) & (rsi <= p.rsi_buy)
        high = wide & (bands.position >= 1 - p.band_zone) & (rsi >= p.rsi_sell)
        turn = histogram.diff()
        # A touch counts for `patience` candles: a check sees only some of the candles.
        was_low = low.rolling(p.patience, min_periods=1).max() > 0
        was_high = high.rolling(p.patience, min_periods=1).max() > 0
        buy, sell = (was_low & (turn > 0)).to_numpy(), (was_high & (turn < 0)).to_numpy()
        return buy.astype(np.int8) - sell.astype(np.int8)

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        p = self.p
        rsi, bands, histogram = self.once(candles, lambda: self._table(candles))
        if not np.isfinite(histogram.iloc[i]) or not np.isfinite(rsi.iloc[i]):
            return f"Too few candles yet: {i + 1} of {self.warmup}"
        turn = histogram.iloc[i] - histogram.iloc[i - 1] if i else 0.0
        momentum = "rising" if turn > 0 else "falling"
        values = f"RSI {rsi.iloc[i]:.1f}, price at {bands.position.iloc[i] * 100:.0f}% of the Bollinger bands, MACD momentum {momentum}"
        signal = int(self.signals(candles)[i])
        if signal > 0:
            return f"Oversold near the lower band and turning up: {values}"
        if signal < 0:
            return f"Overbought near the upper band and turning down: {values}"
        buys, sells = f"buys below {p.band_zone * 100:.0f}% and RSI {p.rsi_buy:g}", f"sells above {100 - p.band_zone * 100:.0f}% and RSI {p.rsi_sell:g}"
        return f"No turn at a band ({buys}, {sells}): {values}"
