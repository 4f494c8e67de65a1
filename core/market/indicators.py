"""One vocabulary of indicators over `ta`. Pure: Series in, Series out, no loops in Python.

Each function takes pandas Series of one length, oldest first, and returns Series with
the same index; rows for which there is no value yet are NaN. All are causal: a value at
row i depends on rows 0..i alone.

`ta`'s exponential means (EMA, RSI, MACD) start from the first row they are given, so a
value depends a little on where the table begins. `settle_rows` says after how many rows
that no longer shows. ATR and ADX are written here in vectorised form, because `ta` loops
over the rows in Python; they equal `ta`'s values where those are defined (tests compare).

`VOCABULARY` at the end names each of them with its inputs, parameters and outputs: declared
strategies, charts and the page offer what it holds, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ta.momentum import ROCIndicator, RSIIndicator, StochasticOscillator
from ta.trend import MACD, EMAIndicator, SMAIndicator
from ta.volatility import BollingerBands, DonchianChannel
from ta.volume import VolumeWeightedAveragePrice

Series = pd.Series
DAY_MS = 86_400_000


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


class Channel(NamedTuple):
    """A band around the price, in units of the price."""

    lower: Series
    middle: Series
    upper: Series


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


def donchian(high: Series, low: Series, window: int = 20) -> Channel:
    """Lowest low and highest high of the last `window` rows, the newest included, and their middle.

    A breakout compares the close with the channel of the row before (`shift(1)`): it can't leave its own."""
    found = DonchianChannel(high, low, high, window=window)  # the close shapes nothing but the width, which is not asked
    lower, upper = found.donchian_channel_lband(), found.donchian_channel_hband()
    return Channel(lower, (lower + upper) / 2, upper)


def keltner(high: Series, low: Series, close: Series, window: int = 20, window_atr: int = 10, multiplier: float = 2.0) -> Channel:
    """EMA(window) of the close ± `multiplier` average true ranges (Wilder) of `window_atr` rows.

    Source: Raschke's form of Keltner's channel, `ta`'s `original_version=False` with the ATR above."""
    middle = ema(close, window)
    reach = multiplier * atr(high, low, close, window_atr)
    return Channel(middle - reach, middle, middle + reach)


def vwap(high: Series, low: Series, close: Series, volume: Series, window: int = 14) -> Series:
    """Typical price (high+low+close)/3 weighted by volume over the last `window` rows; NaN where none of them traded."""
    found = VolumeWeightedAveragePrice(high, low, close, volume, window).volume_weighted_average_price()
    # Counted, not summed: a running sum keeps a remainder of what left the window.
    return found.where((volume > 0).rolling(window).sum() > 0)


def vwap_day(open_time: Series, high: Series, low: Series, close: Series, volume: Series) -> Series:
    """The volume-weighted typical price since 00:00 UTC of each row's day, NaN while nothing traded in it.

    `open_time` in ms. NaN too for a day whose beginning lies before the table: its value can't be known."""
    opened = open_time.to_numpy(dtype=np.int64)
    day = opened // DAY_MS
    traded = volume.where(volume > 0, 0.0)
    money = (traded * (high + low + close) / 3).where(traded > 0, 0.0)
    total = traded.groupby(day).cumsum()
    found = money.groupby(day).cumsum() / total.where(total > 0)
    if len(day) and opened[0] % DAY_MS:
        found = found.where(day != day[0])
    return found


# --- above, below, across ---------------------------------------------------------------

SAME = 1e-10  # of the greater number: running means of equal prices differ by less, real ones by more


def side(a: Series, b: Series) -> np.ndarray:
    """An int8 array: +1 where `a` lies above `b`, −1 below, 0 where they are the same within `SAME`, or one isn't known."""
    x, y = a.to_numpy(dtype=float), b.to_numpy(dtype=float)
    apart = x - y
    known = np.abs(apart) > SAME * np.maximum(np.abs(x), np.abs(y))
    return np.where(known, np.sign(apart), 0).astype(np.int8)


def crosses(a: Series, b: Series) -> np.ndarray:
    """An int8 array: +1 where `a` lies above `b` and did not one row before, −1 where below and did not; else 0.

    Both must be known in both rows."""
    now, found = side(a, b), np.zeros(len(a), dtype=np.int8)
    before, known = now[:-1], (a.notna() & b.notna()).to_numpy()[:-1]
    found[1:][(now[1:] > 0) & (before <= 0) & known] = 1
    found[1:][(now[1:] < 0) & (before >= 0) & known] = -1
    return found


def lately(condition: np.ndarray | Series, rows: int) -> np.ndarray:
    """True where the condition held in this row or one of the `rows` − 1 before it."""
    held = np.asarray(condition, dtype=bool)
    found = held.copy()
    for back in range(1, min(rows, len(held))):
        found[back:] |= held[:-back]
    return found


# --- the vocabulary ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an indicator; `type` is int or float."""

    name: str
    type: type
    default: Any
    low: Any
    high: Any
    help: str = ""

    def check(self, value: Any) -> Any:
        """The value in the parameter's type. ValueError says what would be right."""
        kind = "a whole number" if self.type is int else "a number"
        wrong = ValueError(f"{self.name} must be {kind} from {self.low} to {self.high}, not {str(value)[:60]!r}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong
        if not math.isfinite(value) or not self.low <= value <= self.high or (self.type is int and value != int(value)):
            raise wrong
        return self.type(value)


@dataclass(frozen=True, slots=True)
class Indicator:
    """One word of the vocabulary.

    `inputs` are the table's columns that `function` takes first, by these names; `params` follow
    by name; `outputs` are the names of what it returns, in its order (one output: "value").
    `settle` gives, for checked parameters and a candle's length in ms, how many rows the newest
    value needs behind it (itself included) so that it no longer shows where the table began.
    `below` are pairs of parameters of which the first must be smaller.
    """

    name: str
    title: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    params: tuple[Parameter, ...]
    outputs: tuple[str, ...]
    settle: Callable[[Mapping[str, Any], int], int]
    below: tuple[tuple[str, str], ...] = ()
    pane: str = "price"  # where a chart draws it: over the price, or in a pane of its own

    def check(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every parameter with its value. ValueError names all that is wrong, one problem a line."""
        given, known = given or {}, {p.name: p for p in self.params}
        problems = [f"{self.name} has no parameter {n!r}; it has {', '.join(known) or 'none'}" for n in given if n not in known]
        values: dict[str, Any] = {}
        for name, p in known.items():
            try:
                values[name] = p.check(given.get(name, p.default))
            except ValueError as e:
                problems.append(f"{self.name}: {e}")
        if not problems:
            problems = [f"{self.name}: {a} must be below {b} ({values[b]}), not {values[a]}" for a, b in self.below if values[a] >= values[b]]
        if problems:
            raise ValueError("\n".join(problems))
        return values

    def rows(self, given: Mapping[str, Any] | None = None, length_ms: int = 60_000) -> int:
        """Closed candles of `length_ms` that must exist before the newest value is settled."""
        return self.settle(self.check(given), length_ms)

    def compute(self, candles: pd.DataFrame, given: Mapping[str, Any] | None = None) -> dict[str, Series]:
        """The outputs by name over a strategy's table. ValueError for wrong parameters."""
        found = self.function(*(candles[column] for column in self.inputs), **self.check(given))
        return dict(zip(self.outputs, found if len(self.outputs) > 1 else (found,), strict=True))


def _rows_wilder(window: int) -> int:
    return settle_rows(1 / window) + window


def _rows_adx(window: int) -> int:
    """Two smoothings, one after the other: n·α·(1−α)^n falls a little later than (1−α)^n."""
    return settle_rows(1 / window) + 6 * window


def _window_param(default: int, low: int = 2) -> Parameter:
    return Parameter("window", int, default, low, 500, "candles")


_HLC = ("high", "low", "close")
_ALL = (
    Indicator("sma", "Simple moving average", sma, ("close",), (_window_param(20, 1),), ("value",), lambda p, _: p["window"]),
    Indicator("ema", "Exponential moving average", ema, ("close",), (_window_param(20, 1),), ("value",), lambda p, _: settle_rows(2 / (p["window"] + 1))),
    Indicator("rsi", "Relative strength index", rsi, ("close",), (_window_param(14),), ("value",), lambda p, _: _rows_wilder(p["window"]), pane="own"),
    Indicator(
        "macd",
        "Moving average convergence divergence",
        macd,
        ("close",),
        (
            Parameter("fast", int, 12, 2, 499, "candles of the fast mean"),
            Parameter("slow", int, 26, 3, 500, "candles of the slow mean"),
            Parameter("sign", int, 9, 2, 200, "candles of the signal line"),
        ),
        ("line", "signal", "histogram"),
        lambda p, _: settle_rows(2 / (max(p["slow"], p["sign"]) + 1)) + p["slow"] + p["sign"],
        below=(("fast", "slow"),),
        pane="own",
    ),
    Indicator(
        "bollinger",
        "Bollinger bands",
        bollinger,
        ("close",),
        (_window_param(20), Parameter("deviations", float, 2.0, 0.1, 10.0, "half width, in standard deviations")),
        ("lower", "middle", "upper", "position"),
        lambda p, _: p["window"],
    ),
    Indicator("atr", "Average true range", atr, _HLC, (_window_param(14),), ("value",), lambda p, _: _rows_wilder(p["window"]), pane="own"),
    Indicator("adx", "Average directional index", adx, _HLC, (_window_param(14),), ("adx", "plus", "minus"), lambda p, _: _rows_adx(p["window"]), pane="own"),
    Indicator("roc", "Rate of change", roc, ("close",), (_window_param(12, 1),), ("value",), lambda p, _: p["window"] + 1, pane="own"),
    Indicator(
        "stochastic",
        "Stochastic oscillator",
        stochastic,
        _HLC,
        (_window_param(14), Parameter("smooth", int, 3, 1, 100, "candles of the mean that makes %D")),
        ("k", "d"),
        lambda p, _: p["window"] + p["smooth"] - 1,
        pane="own",
    ),
    Indicator("donchian", "Donchian channel", donchian, ("high", "low"), (_window_param(20),), ("lower", "middle", "upper"), lambda p, _: p["window"]),
    Indicator(
        "keltner",
        "Keltner channel",
        keltner,
        _HLC,
        (
            _window_param(20),
            Parameter("window_atr", int, 10, 2, 500, "candles of the ATR"),
            Parameter("multiplier", float, 2.0, 0.1, 10.0, "half width, in ATRs"),
        ),
        ("lower", "middle", "upper"),
        lambda p, _: max(settle_rows(2 / (p["window"] + 1)), _rows_wilder(p["window_atr"])),
    ),
    Indicator("vwap", "Volume-weighted average price", vwap, (*_HLC, "volume"), (_window_param(14, 1),), ("value",), lambda p, _: p["window"]),
    Indicator(
        "vwap_day",
        "Volume-weighted average price of the UTC day",
        vwap_day,
        ("open_time", *_HLC, "volume"),
        (),
        ("value",),
        lambda _, length_ms: max(1, -(-DAY_MS // length_ms)),
    ),
)
VOCABULARY: Mapping[str, Indicator] = MappingProxyType({i.name: i for i in _ALL})
"""Every indicator by its name."""
