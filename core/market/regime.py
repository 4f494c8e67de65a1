"""What kind of market it is: rising, falling, ranging, or too wild to tell. Pure; owns no file.

Two measures, both from closed candles alone: the ADX says whether there is a direction and
its DI lines say which (Wilder 1978; 25 is his own border between trend and none), and the
ATR in percent of the price says how much a candle moves, beside what it used to move in the
`past` rows before. Any strategy and the page may ask.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import pandas as pd

from core.market import indicators

ADX_WINDOW, ATR_WINDOW, PAST = 14, 14, 96
TREND_ADX = 25.0
WILD_RATIO = 2.0


class Regime(IntEnum):
    """The values of `regime`'s array."""

    UNKNOWN = -128  # too few rows, or rows without numbers
    TREND_DOWN = -1
    RANGE = 0
    TREND_UP = 1
    HIGH_VOLATILITY = 2

    @property
    def word(self) -> str:
        """As settings and files name it: `trend_up`."""
        return self.name.lower()


class Measures(NamedTuple):
    """Each of the table's length, NaN where not known yet. `volatility`: the ATR in percent of the close;
    `ratio`: that beside its own mean over the `past` rows before this one."""

    adx: pd.Series
    plus: pd.Series
    minus: pd.Series
    volatility: pd.Series
    ratio: pd.Series


def warmup(adx_window: int = ADX_WINDOW, atr_window: int = ATR_WINDOW, past: int = PAST) -> int:
    """Rows after which the regime no longer shows where the table began."""
    atr_rows = indicators.VOCABULARY["atr"].rows({"window": atr_window})
    return max(indicators.VOCABULARY["adx"].rows({"window": adx_window}), atr_rows + past + 1)


def measures(candles: pd.DataFrame, adx_window: int = ADX_WINDOW, atr_window: int = ATR_WINDOW, past: int = PAST) -> Measures:
    """What the regime rests on. A close of 0 and a past without any movement have no ratio."""
    high, low, close = candles["high"], candles["low"], candles["close"]
    strength = indicators.adx(high, low, close, adx_window)
    volatility = 100 * indicators.atr(high, low, close, atr_window) / close.where(close > 0)
    # Shifted: a burst must be seen beside what was before it, not beside a mean that it lifts itself.
    usual = volatility.shift(1).rolling(past).mean()
    # A running mean of a market that stood still keeps a remainder of what left it: that is no movement.
    return Measures(*strength, volatility, volatility / usual.where(usual > 1e-9))


def regime(
    candles: pd.DataFrame,
    *,
    adx_window: int = ADX_WINDOW,
    atr_window: int = ATR_WINDOW,
    past: int = PAST,
    trend_adx: float = TREND_ADX,
    wild_ratio: float = WILD_RATIO,
) -> np.ndarray:
    """An int8 array of `Regime` values, one a row of the table (high, low, close). Causal.

    HIGH_VOLATILITY where candles move at least `wild_ratio` times what they used to: it comes first,
    because stops and sizes made for calm fail there, whatever the direction. Else TREND_UP or TREND_DOWN
    where the ADX is at least `trend_adx`, by the greater DI line; else RANGE. A market that doesn't
    move at all is RANGE."""
    return classify(measures(candles, adx_window, atr_window, past), trend_adx, wild_ratio)


def classify(found: Measures, trend_adx: float = TREND_ADX, wild_ratio: float = WILD_RATIO) -> np.ndarray:
    """The same from measures that are there already."""
    adx, plus, minus, volatility, ratio = (s.to_numpy() for s in found)
    kinds = np.full(len(adx), Regime.RANGE, dtype=np.int8)
    kinds[(adx >= trend_adx) & (plus > minus)] = Regime.TREND_UP
    kinds[(adx >= trend_adx) & (minus > plus)] = Regime.TREND_DOWN
    kinds[ratio >= wild_ratio] = Regime.HIGH_VOLATILITY
    # Nothing moves any more: there is no ratio, and the ADX goes on telling of the last move for ever.
    still = volatility < 1e-9
    kinds[still] = Regime.RANGE
    kinds[~np.isfinite(adx) | ~(np.isfinite(ratio) | still)] = Regime.UNKNOWN
    return kinds
