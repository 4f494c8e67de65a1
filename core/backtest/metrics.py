"""What a backtest came to, in figures. Pure functions; touches no file.

Each formula names its source. Percentages are of 100. A figure that the run can't give (no
trade, no loss, no variance, too short a time) is None, never NaN or infinity: `describe`
goes straight into JSON. Money is Decimal, and exact; ratios are floats of twelve significant
digits, because nothing is paid by them and the digits behind are the computer's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.backtest.result import Result, Trade
from core.backtest.tape import jumps
from core.market import timeframes
from core.model import ZERO

if TYPE_CHECKING:
    from core.market.bars import Bars

DAY_MS = 86_400_000
YEAR_DAYS = 365.25  # on average, leap years included
TRADING_DAYS = 365  # these markets never close
GROWTH_DAYS = 30  # a shorter run says nothing of a year: three days of 5 % would be 37,000 %
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall below an earlier peak. Times are market ms; `recovered_at` is None while the peak was not reached again."""

    pct: float
    peak_at: int
    trough_at: int
    recovered_at: int | None
    length_ms: int  # from the peak to its recovery, else to the end


@dataclass(frozen=True, slots=True)
class Metrics:
    """All figures of a run; the functions below say what each means. Money in the quote asset, times in ms."""

    start: int | None
    end: int | None
    cash: Decimal
    equity_final: float | None
    equity_peak: float | None
    profit: Decimal
    return_pct: float | None
    cagr_pct: float | None  # as calmar, None of less than GROWTH_DAYS
    volatility_pct: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_pct: float | None
    max_drawdown_from: int | None  # the peak
    max_drawdown_to: int | None  # the trough
    max_drawdown_recovered: int | None  # when the peak was reached again
    max_drawdown_ms: int | None  # from the peak to there, else to the end
    longest_drawdown_ms: int | None
    trades: int
    wins: int
    losses: int
    win_rate_pct: float | None
    profit_factor: float | None
    expectancy: Decimal | None
    expectancy_pct: float | None
    best_trade_pct: float | None
    worst_trade_pct: float | None
    average_trade_ms: int | None
    longest_trade_ms: int | None
    exposure_pct: float | None
    fees: Decimal
    open_at_end: int
    buy_hold_pct: float | None
    buy_hold_max_drawdown_pct: float | None
    exits: dict[str, int]

    def describe(self) -> dict[str, Any]:
        """For JSON: Decimals stay Decimals, whoever writes them prints plain numbers."""
        return asdict(self)


def of(result: Result, bars: Bars | None = None) -> Metrics:
    """All figures of a run; `bars` (the candles that were traded, warm-up included or not) are for buy-and-hold."""
    config, trades = result.config, list(result.trades)  # made once: the engine may make each when it is asked for
    opened, value = np.asarray(result.equity.open_ms, np.int64), np.asarray(result.equity.value, np.float64)
    cash = float(config.cash)
    closed = close_times(opened, config.timeframe)
    start = int(opened[0]) if len(opened) else None
    end = int(closed[-1]) if len(closed) else None
    fall = max_drawdown(start or 0, closed, value, cash)
    daily = daily_returns(closed, value, cash)
    lasted = (end or 0) - (start or 0)
    grown = cagr_pct(cash, float(value[-1]), lasted) if len(value) and lasted >= GROWTH_DAYS * DAY_MS else None
    profits = [t.profit for t in trades]
    lengths = [t.exit_time - t.entry_time for t in trades]
    hold, hold_fall = buy_and_hold(result, bars)
    pcts = np.array([float(t.profit_pct) for t in trades])
    exits: dict[str, int] = {}
    for t in trades:
        exits[t.exit_reason] = exits.get(t.exit_reason, 0) + 1
    return Metrics(
        start=start,
        end=end,
        cash=config.cash,
        equity_final=_money(value[-1]) if len(value) else None,
        equity_peak=_money(max(cash, float(value.max()))) if len(value) else None,
        profit=sum(profits, ZERO),
        return_pct=_told((value[-1] / cash - 1) * 100) if len(value) else None,
        cagr_pct=grown,
        volatility_pct=volatility_pct(daily),
        sharpe=sharpe(daily),
        sortino=sortino(daily),
        calmar=calmar(grown, fall),
        max_drawdown_pct=_told(fall.pct) if fall else None,
        max_drawdown_from=fall.peak_at if fall and fall.pct else None,
        max_drawdown_to=fall.trough_at if fall and fall.pct else None,
        max_drawdown_recovered=fall.recovered_at if fall else None,
        max_drawdown_ms=fall.length_ms if fall else None,
        longest_drawdown_ms=longest_drawdown_ms(start or 0, closed, value, cash),
        trades=len(trades),
        wins=sum(p > 0 for p in profits),
        losses=sum(p < 0 for p in profits),
        win_rate_pct=_told(sum(p > 0 for p in profits) / len(trades) * 100) if trades else None,
        profit_factor=profit_factor(profits),
        expectancy=(sum(profits, ZERO) / len(trades)).quantize(Decimal("1e-8")) if trades else None,
        expectancy_pct=_told(pcts.mean()) if trades else None,
        best_trade_pct=_told(pcts.max()) if trades else None,
        worst_trade_pct=_told(pcts.min()) if trades else None,
        average_trade_ms=round(sum(lengths) / len(lengths)) if lengths else None,
        longest_trade_ms=max(lengths, default=None),
        exposure_pct=exposure_pct(trades, start, end),
        fees=sum((t.fees for t in trades), ZERO),
        open_at_end=exits.get("end", 0),
        buy_hold_pct=hold,
        buy_hold_max_drawdown_pct=hold_fall,
        exits=dict(sorted(exits.items(), key=lambda kv: (-kv[1], kv[0]))),
    )


# --- time and growth ------------------------------------------------------------------


def close_times(open_ms: Ints, timeframe: str) -> Ints:
    """When each candle ended: where the next one of its timeframe opens."""
    if timeframe == "1M":
        return np.array([timeframes.next_open(int(t), timeframe) for t in open_ms], np.int64)
    return open_ms + timeframes.length_ms(timeframe)


def cagr_pct(first: float, last: float, ms: int) -> float | None:
    """Compound annual growth rate: (last / first)^(365.25 days / time) − 1, in percent.

    Source: CFA Institute, Quantitative Methods, geometric mean return, annualised over calendar
    time. None under a day: an hour's luck to the power of 8,760 says nothing."""
    if ms < DAY_MS or first <= 0:
        return None
    if last / first <= 0:  # also where the quotient is too small for a float
        return -100.0
    try:
        return _told((math.exp(math.log(last / first) * YEAR_DAYS * DAY_MS / ms) - 1) * 100)
    except OverflowError:
        return None


def daily_returns(closed: Ints, value: Floats, first: float) -> Floats:
    """The return of each UTC day, as fractions: the last value of a day over the last of the day with candles before.

    The first day starts from `first`, the money at the beginning. Days rather than candles, so
    that ratios of different timeframes compare."""
    if not len(value):
        return np.empty(0)
    days = (closed - 1) // DAY_MS  # a candle that closes at midnight belongs to the day it was traded in
    last = np.append(np.flatnonzero(np.diff(days)), len(value) - 1)
    points = np.concatenate(([first], value[last]))
    with np.errstate(all="ignore"):
        found: Floats = points[1:] / points[:-1] - 1
    return found[np.abs(found) < _BEYOND]


def volatility_pct(daily: Floats) -> float | None:
    """Standard deviation (n − 1) of the daily returns times √365, in percent."""
    return _told(float(daily.std(ddof=1)) * math.sqrt(TRADING_DAYS) * 100) if len(daily) > 1 else None


def sharpe(daily: Floats) -> float | None:
    """Mean over standard deviation (n − 1) of the daily returns, times √365; no riskless rate.

    Source: W. F. Sharpe, "The Sharpe Ratio", Journal of Portfolio Management, 1994 (ex post)."""
    if len(daily) < 2:
        return None
    spread = float(daily.std(ddof=1))
    return _told(float(daily.mean()) / spread * math.sqrt(TRADING_DAYS)) if spread > _NOISE else None


def sortino(daily: Floats) -> float | None:
    """Mean of the daily returns over their downside deviation below 0, times √365.

    Downside deviation: the root of the mean, over all days, of the squared negative returns.
    Source: F. A. Sortino and L. N. Price, "Performance Measurement in a Downside Risk
    Framework", Journal of Investing, 1994. None where no day lost."""
    if len(daily) < 2:
        return None
    below = math.sqrt(float(np.mean(np.minimum(daily, 0.0) ** 2)))
    return _told(float(daily.mean()) / below * math.sqrt(TRADING_DAYS)) if below > _NOISE else None


def calmar(grown_pct: float | None, fall: Drawdown | None) -> float | None:
    """CAGR over the maximum drawdown of the whole run.

    Source: T. W. Young, "Calmar Ratio: A Smoother Tool", Futures, 1991 (there over 36 months)."""
    if grown_pct is None or fall is None or fall.pct <= 0:
        return None
    return _told(grown_pct / fall.pct)


# --- falls ------------------------------------------------------------------------------


def drawdowns_pct(value: Floats, first: float) -> Floats:
    """At each candle's close, how far equity lies below its highest so far (the money at the start counts), percent from 0 to 100."""
    peaks = np.maximum.accumulate(np.maximum(value, first))
    found: Floats = (1 - value / peaks) * 100
    return found


def _path(start: int, closed: Ints, value: Floats, first: float) -> tuple[Ints, Floats]:
    """Times and values with the money at the beginning in front."""
    return np.concatenate((np.array([start], np.int64), closed)), np.concatenate(([first], value))


def max_drawdown(start: int, closed: Ints, value: Floats, first: float) -> Drawdown | None:
    """The deepest fall, seen at candles' closes.

    Source: M. Magdon-Ismail and A. Atiya, "Maximum Drawdown", Risk, 2004."""
    if not len(value):
        return None
    times, worth = _path(start, closed, value, first)
    falls = drawdowns_pct(worth, first)
    trough = int(falls.argmax())
    if falls[trough] <= 0:
        return Drawdown(0.0, start, start, None, 0)
    highest = worth[: trough + 1].max()
    peak = trough - int(worth[: trough + 1][::-1].argmax())  # the last moment on the peak
    back = np.flatnonzero(worth[trough:] >= highest)
    recovered = int(times[trough + back[0]]) if len(back) else None
    return Drawdown(float(falls[trough]), int(times[peak]), int(times[trough]), recovered, (recovered or int(times[-1])) - int(times[peak]))


def longest_drawdown_ms(start: int, closed: Ints, value: Floats, first: float) -> int | None:
    """The longest time from a peak until it was reached again, or until the end."""
    if not len(value):
        return None
    times, worth = _path(start, closed, value, first)
    peaks = np.flatnonzero(drawdowns_pct(worth, first) <= 0)
    ends = np.append(peaks[1:], len(worth) - 1)
    below = (ends - peaks > 1) | (worth[ends] < worth[peaks])  # two neighbours on the peak spent no time below it
    return int((times[ends] - times[peaks])[below].max()) if below.any() else 0


# --- trades -----------------------------------------------------------------------------


def profit_factor(profits: list[Decimal]) -> float | None:
    """What the winners made over what the losers lost, in money, fees included. None without a loss.

    Source: J. D. Schwager, "Schwager on Futures: Technical Analysis", 1996 (gain-to-loss)."""
    lost = -sum((p for p in profits if p < 0), ZERO)
    return _told(float(sum((p for p in profits if p > 0), ZERO) / lost)) if lost else None


def exposure_pct(trades: Sequence[Trade], start: int | None, end: int | None) -> float | None:
    """The part of the time in which any position was open, percent; overlapping trades count once."""
    if start is None or end is None or end <= start:
        return None
    held, until = 0, start
    for t in sorted(trades, key=lambda t: t.entry_time):
        begin = max(t.entry_time, until)
        if t.exit_time > begin:
            held += t.exit_time - begin
            until = t.exit_time
    return _told(min(held / (end - start), 1.0) * 100)


def buy_and_hold(result: Result, bars: Bars | None) -> tuple[float | None, float | None]:
    """Return and maximum drawdown, both in percent, of all cash put in at the first traded candle's open and sold at the last close.

    It pays the same fee and slippage on both sides, so that the comparison is fair to it and to us.
    None where the candles jump as no trade could: nobody held through a redenomination at these prices."""
    opened = result.equity.open_ms
    if bars is None or not len(opened):
        return None, None
    traded = bars.slice(int(opened[0]), int(opened[-1]) + 1)
    if not len(traded) or traded.open[0] <= 0 or len(jumps(traded)):
        return None, None
    fee, slip = float(result.config.fee_pct) / 100, float(result.config.slippage_pct) / 100
    worth = traded.close / float(traded.open[0]) / (1 + slip) * (1 - fee)
    final = float(worth[-1]) * (1 - slip) * (1 - fee)
    return _told((final - 1) * 100), _told(float(drawdowns_pct(np.append(worth[:-1], final), 1.0).max()))


def monthly_returns(closed: Ints, value: Floats, first: float) -> dict[tuple[int, int], float]:
    """(year, month) in UTC → return in percent: the last value of a month over the last of the month before."""
    if not len(value):
        return {}
    months = (closed - 1).astype("datetime64[ms]").astype("datetime64[M]")
    last = np.append(np.flatnonzero(months[1:] != months[:-1]), len(value) - 1)
    points = np.concatenate(([first], value[last]))
    number = months[last].astype(np.int64)
    found: dict[tuple[int, int], float] = {}
    for n, before, after in zip(number.tolist(), points[:-1].tolist(), points[1:].tolist(), strict=True):
        if before > 0:
            found[(1970 + n // 12, n % 12 + 1)] = (after / before - 1) * 100
    return found


DIGITS = 12  # significant ones; two ways to add up a thousand floats differ in the fifteenth
_NOISE = 1e-12  # a spread this small is rounding, not risk
_BEYOND = 1e100  # a return that can't be squared; NaN and infinity fail the comparison too


def _told(value: Any) -> float | None:
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None


def _money(value: Any) -> float | None:
    number = float(value)
    return round(number, 8) if math.isfinite(number) else None
