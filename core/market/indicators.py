"""One vocabulary of indicators over `ta`. Pure: Series in, Series out, no loops in Python.

Each function takes pandas Series of one length, oldest first, and returns Series with
the same index; rows for which there is no value yet are NaN. All are causal: a value at
row i depends on rows 0..i alone.

`ta`'s exponential means (EMA, RSI, MACD) start from the first row they are given, so a
value depends a little on where the table begins. `settle_rows` says after how many rows
that no longer shows. ATR and ADX are written here in vectorised form, because `ta` loops
over the rows in Python; they equal `ta`'s values where those are defined (tests compare).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from ta.momentum import ROCIndicator, RSIIndicator, StochasticOscillator
from ta.trend import MACD, EMAIndicator, SMAIndicator
from ta.volatility import BollingerBands

Series = pd.Series


class Macd(NamedTuple):
    line: Series
    signal: Series
    histogram: Series


class Bollinger(NamedTuple):
    """`position` is 0 at the lower band and 1 at the upper one, NaN where the bands meet."""

    lower: Series
    middle: Series
    upper: Series
    position: Series


class Adx(NamedTuple):
    adx: Series
    plus: Series
    minus: Series


class Stochastic(NamedTuple):
    k: Series
    d: Series


def settle_rows(alpha: float, remainder: float = 1e-12) -> int:
    """Rows after which an exponential mean has forgotten all but `remainder` of its first value.

    `alpha` is the weight of the newest row: 2/(n+1) for an EMA of n, 1/n for RSI, ATR and ADX.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must lie above 0 and be at most 1, not {alpha}")
    return 1 if alpha == 1 else math.ceil(math.log(remainder) / math.log(1 - alpha))


def sma(close: Series, window: int) -> Series:
    """Mean of the last `window` rows."""
    return SMAIndicator(close, window).sma_indicator()


def ema(close: Series, window: int) -> Series:
    """Exponential mean with alpha 2/(window+1), begun at the first row; NaN for window-1 rows."""
    return EMAIndicator(close, window).ema_indicator()


def rsi(close: Series, window: int = 14) -> Series:
    """Relative strength index, 0..100, from exponential means with alpha 1/window begun at the first row.

    Where no row has ever fallen it is 100, also for a price that never moved."""
    return RSIIndicator(close, window).rsi()


def macd(close: Series, fast: int = 12, slow: int = 26, sign: int = 9) -> Macd:
    """EMA(fast) − EMA(slow), its own EMA(sign), and their difference, in units of the price."""
    found = MACD(close, window_slow=slow, window_fast=fast, window_sign=sign)
    return Macd(found.macd(), found.macd_signal(), found.macd_diff())


def bollinger(close: Series, window: int = 20, deviations: float = 2.0) -> Bollinger:
    """Mean ± `deviations` population standard deviations of the last `window` rows."""
    # ta annotates the factor as int; it only multiplies by it.
    found = BollingerBands(close, window=window, window_dev=deviations)
    return Bollinger(found.bollinger_lband(), found.bollinger_mavg(), found.bollinger_hband(), found.bollinger_pband())


def roc(close: Series, window: int = 12) -> Series:
    """Percent by which the price differs from `window` rows ago."""
    return ROCIndicator(close, window).roc()


def stochastic(high: Series, low: Series, close: Series, window: int = 14, smooth: int = 3) -> Stochastic:
    """Fast %K (place of the close in the range of `window` rows, 0..100) and %D, its mean over `smooth` rows."""
    found = StochasticOscillator(high, low, close, window=window, smooth_window=smooth)
    return Stochastic(found.stoch(), found.stoch_signal())


def true_range(high: Series, low: Series, close: Series) -> Series:
    """The largest of high−low and the distances of high and low from the close before; the first row: high−low."""
    before = close.shift(1).to_numpy()
    h, lo = high.to_numpy(dtype=float), low.to_numpy(dtype=float)
    # fmax passes over the NaN of the row before the first.
    widest = np.fmax(h - lo, np.fmax(np.abs(h - before), np.abs(lo - before)))
    return Series(widest, index=close.index)


def _carry(first: float, rest: np.ndarray, window: int) -> np.ndarray:
    """x[0] = first; x[i] = x[i-1]·(1 − 1/window) + rest[i-1]: Wilder's running sum, without a Python loop."""
    whole = np.concatenate(([first], rest * window))
    return Series(whole).ewm(alpha=1 / window, adjust=False).mean().to_numpy()


def _window(window: int) -> None:
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")


def atr(high: Series, low: Series, close: Series, window: int = 14) -> Series:
    """Average true range (Wilder), begun with the mean of the first `window` true ranges; NaN before that row.

    Source: Wilder 1978; `ta` writes 0 where this has NaN."""
    _window(window)
    ranges = true_range(high, low, close).to_numpy()
    values = np.full(len(ranges), np.nan)
    if len(ranges) >= window:
        values[window - 1 :] = _carry(float(ranges[:window].mean()), ranges[window:] / window, window)
    return Series(values, index=close.index)


def adx(high: Series, low: Series, close: Series, window: int = 14) -> Adx:
    """Average directional index with +DI and −DI (Wilder), each 0..100.

    The directional lines begin at row `window`, the index at row 2·window − 1; NaN before.
    Source: Wilder 1978; `ta` writes 0 there, and its DI lines begin a row later.
    """
    _window(window)
    size = len(close)
    plus, minus, index = (np.full(size, np.nan) for _ in range(3))
    if size > window:
        h, lo, before = (s.to_numpy(dtype=float) for s in (high, low, close.shift(1)))
        ranges = np.maximum(h, before)[1:] - np.minimum(lo, before)[1:]
        up, down = np.diff(h), -np.diff(lo)
        rising = np.where((up > down) & (up > 0), up, 0.0)
        falling = np.where((down > up) & (down > 0), down, 0.0)
        total, rise, fall = (_carry(float(x[:window].sum()), x[window:], window) for x in (ranges, rising, falling))
        plus[window:], minus[window:] = (np.divide(100 * x, total, out=np.zeros_like(x), where=total != 0) for x in (rise, fall))
        both = plus[window:] + minus[window:]
        strength = np.divide(100 * np.abs(plus[window:] - minus[window:]), both, out=np.zeros_like(both), where=both != 0)
        if len(strength) >= window:
            index[2 * window - 1 :] = _carry(float(strength[:window].mean()), strength[window:] / window, window)
    return Adx(Series(index, index=close.index), Series(plus, index=close.index), Series(minus, index=close.index))
