"""The five strategies beside the first three: what they decide at named moments of real candles, and what all promise.

The figures of a named moment are worked out here in plain Python from the candles, not by the code under test.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, StrategyError
from core.market.regime import Regime
from market_data import golden, real_candles, table, walk
from strategies.answers import share
from strategies.base import Strategy
from strategies.registry import load
from strategies.tables import rows_of

NEW = ("breakout", "enhanced", "mean_reversion", "momentum", "scalping")


def btc(first: int = 20_000, rows: int = 2000) -> pd.DataFrame:
    return real_candles("spot-5m/BTC_USDT-5m", first=first, rows=rows).reset_index(drop=True)


def at(candles: pd.DataFrame, moment: str) -> int:
    """The row that opens at `moment`, UTC."""
    ms = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)
    return int(np.flatnonzero(candles["open_time"] == ms)[0])


def ema_by_hand(values: Sequence[float], window: int) -> list[float]:
    found = [values[0]]
    for v in values[1:]:
        found.append(found[-1] + (v - found[-1]) * 2 / (window + 1))
    return found


def wilder_by_hand(candles: pd.DataFrame, window: int = 14) -> tuple[list[float], list[float], list[float], list[float]]:
    """ATR, ADX, +DI and −DI of every row from 2·window on (0 before), as Wilder's book adds them up."""
    h, lo, c = (candles[k].tolist() for k in ("high", "low", "close"))
    ranges, rise, fall = [h[0] - lo[0]], [0.0], [0.0]
    for i in range(1, len(c)):
        ranges.append(max(h[i] - lo[i], abs(h[i] - c[i - 1]), abs(lo[i] - c[i - 1])))
        up, down = h[i] - h[i - 1], lo[i - 1] - lo[i]
        rise.append(up if up > down and up > 0 else 0.0)
        fall.append(down if down > up and down > 0 else 0.0)
    atr, adx, plus, minus = ([0.0] * len(c) for _ in range(4))
    mean = sum(ranges[:window]) / window
    for i in range(window, len(c)):
        mean += (ranges[i] - mean) / window
        atr[i] = mean
    total, ups, downs = (sum(x[1 : window + 1]) for x in (ranges, rise, fall))
    dx: list[float] = []
    for i in range(window, len(c)):
        if i > window:
            total, ups, downs = (s - s / window + x[i] for s, x in ((total, ranges), (ups, rise), (downs, fall)))
        plus[i], minus[i] = 100 * ups / total, 100 * downs / total
        dx.append(100 * abs(plus[i] - minus[i]) / (plus[i] + minus[i]))
        if len(dx) == window:
            adx[i] = sum(dx) / window
        elif len(dx) > window:
            adx[i] = adx[i - 1] + (dx[-1] - adx[i - 1]) / window
    return atr, adx, plus, minus


# --- golden decisions -------------------------------------------------------------------


@pytest.mark.parametrize("timeframe", ["5m", "1h"])
def test_scalping_enters_and_leaves_where_another_backtester_does(timeframe: str):
    """SMA 10/20 on BTC: 1,819 trades on 5m candles and 160 on 1h, each filled at the open after its crossing."""
    candles = real_candles(f"spot-{timeframe}/BTC_USDT-{timeframe}")
    trades = golden(f"backtests/backtestingpy_btcusdt_{timeframe}_smacross_10_20_long_comm0.001_trades.csv")
    opens = [datetime.fromtimestamp(t / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") for t in candles["open_time"]]
    found: list[tuple[str, str]] = []
    entered = ""
    for i, signal in enumerate(load().build("scalping").signals(candles)[:-1]):
        if signal > 0 and not entered:
            entered = opens[i + 1]
        elif signal < 0 and entered:
            found.append((entered, opens[i + 1]))
            entered = ""
    if entered:
        found.append((entered, opens[-1]))
    assert found == [(t["EntryTime"], t["ExitTime"]) for t in trades]


def test_mean_reversion_buys_the_return_of_2021_02_11_17_20_and_not_the_candle_before():
    candles = btc()
    i = at(candles, "2021-02-11 17:20")
    close = candles["close"].tolist()

    def score(row: int) -> float:
        last = close[row - 29 : row + 1]
        return (close[row] - statistics.fmean(last)) / statistics.pstdev(last)

    assert score(i - 1) <= -2 < score(i) < 0  # back above −2 deviations on this very candle
    assert statistics.pstdev(close[i - 29 : i + 1]) >= 0.0015 * close[i]
    assert wilder_by_hand(candles)[1][i] <= 35
    strategy = load().build("mean_reversion")
    signals = strategy.signals(candles)
    assert signals[i] == 1 and signals[i - 1] != 1
    assert f"{score(i):+.1f} deviations" in strategy.reason(candles, i)
    home = next(k for k in range(i + 1, i + 200) if score(k) >= 0)  # the first candle at the mean again
    assert signals[home] == -1 and not (signals[i + 3 : home] < 0).any()


def test_momentum_buys_the_run_of_2021_02_11_12_55():
    candles = btc()
    i = at(candles, "2021-02-11 12:55")
    close = candles["close"].tolist()

    def rate(row: int) -> float:
        return 100 * (close[row] / close[row - 12] - 1)

    _, adx, plus, minus = wilder_by_hand(candles)
    assert rate(i) > 0.8 and any(rate(k) > 0.8 >= rate(k - 1) for k in range(i - 2, i + 1))
    assert close[i] > ema_by_hand(close, 50)[i] and adx[i] >= 20 and plus[i] > minus[i]
    strategy = load().build("momentum")
    assert strategy.signals(candles)[i] == 1
    assert f"{rate(i):+.2f}% in 12 candles" in strategy.reason(candles, i) and f"ADX {adx[i]:.0f}" in strategy.reason(candles, i)


def test_momentum_sells_when_the_speed_is_gone_at_2021_02_11_11_50():
    candles = btc()
    i = at(candles, "2021-02-11 11:50")
    close = candles["close"].tolist()
    rates = [100 * (close[k] / close[k - 12] - 1) for k in range(i - 3, i + 1)]
    assert rates[-1] < -0.1 and max(rates[:-1]) >= -0.1
    assert load().build("momentum").signals(candles)[i] == -1


def test_breakout_buys_the_new_high_of_2021_02_11_13_05_and_sells_the_new_low_of_21_20():
    candles = btc()
    high, low, close, volume = (candles[k].tolist() for k in ("high", "low", "close", "volume"))
    strategy = load().build("breakout")
    signals = strategy.signals(candles)
    i = at(candles, "2021-02-11 13:05")
    assert close[i] > max(high[i - 96 : i])
    assert volume[i] >= 1.2 * statistics.fmean(volume[i - 48 : i])
    assert 1 - min(low[i - 96 : i]) / max(high[i - 96 : i]) >= 0.005
    assert signals[i] == 1 and f"high of 96 candles {max(high[i - 96 : i]):g}" in strategy.reason(candles, i)
    i = at(candles, "2021-02-11 21:20")
    assert close[i] < min(low[i - 48 : i]) and signals[i] == -1


def test_enhanced_buys_the_end_of_a_dip_on_2021_02_11_16_10_with_a_size_for_its_volatility():
    candles = btc()
    i = at(candles, "2021-02-11 16:10")
    close = candles["close"].tolist()
    atr, adx, plus, minus = wilder_by_hand(candles)
    fast, slow = ema_by_hand(close, 20), ema_by_hand(close, 50)
    moves = [100 * a / c for a, c in zip(atr, close, strict=True)]
    ratio = moves[i] / statistics.fmean(moves[i - 96 : i])
    assert adx[i] >= 25 and plus[i] > minus[i] and 1 < ratio < 2 and fast[i] > slow[i]
    assert close[i] > fast[i] and any(close[k] > fast[k] and close[k - 1] <= fast[k - 1] for k in range(i - 2, i + 1))
    strategy: Any = load().build("enhanced")
    assert strategy.signals(candles)[i] == 1
    assert strategy.size(candles)[i] == pytest.approx(1 / ratio, rel=1e-9)
    answer = strategy.analyze(rows_of(candles.iloc[: i + 1]))
    assert answer["signal"] == "BUY" and answer["size"] == share(1 / ratio)
    assert "Market rising" in answer["reasoning"] and f"ADX {adx[i]:.0f}" in answer["reasoning"]


def test_enhanced_buys_nothing_in_a_fall_or_a_panic_and_sells_when_the_market_turns():
    candles = real_candles("spot-5m/BTC_USDT-5m", first=47_000, rows=3000).reset_index(drop=True)  # the crash of 2021-05-19
    strategy: Any = load().build("enhanced")
    kinds, signals = strategy._table(candles).kinds, strategy.signals(candles)
    for kind in (Regime.TREND_DOWN, Regime.HIGH_VOLATILITY, Regime.UNKNOWN):
        assert (kinds == kind).sum() > 20 and not (signals[kinds == kind] > 0).any()
    turns = np.flatnonzero((kinds[1:] == Regime.TREND_DOWN) & (kinds[:-1] == Regime.RANGE)) + 1
    assert len(turns) > 3 and (signals[turns] == -1).all()


# --- what every one of them promises -------------------------------------------------------


@pytest.mark.parametrize("key", NEW)
@pytest.mark.parametrize("market", ["walk", "wild", "BTC", "COCOS"])
def test_the_value_at_a_row_from_the_whole_table_is_the_value_from_its_window(key: str, market: str):
    made = {"walk": lambda: walk(4000, seed=11), "wild": lambda: walk(4000, seed=12, move=0.02)}
    # COCOS: from rows where nothing traded across a price that became a thousandfold in one bar.
    candles = made[market]() if market in made else real_candles(f"spot-5m/{market}_USDT-5m", first=11_500, rows=4000)
    strategy = load().build(key)
    needed, warmup = strategy.candles_needed(), strategy.warmup or 0
    whole, sizes = strategy.signals(candles), strategy.size(candles)
    active = np.flatnonzero(whole)
    chosen = sorted({*active[active >= warmup - 1][::4].tolist(), *range(warmup - 1, len(candles), 97)})
    assert (whole[chosen] != 0).sum() >= 10 and len(chosen) >= 30
    for i in chosen:
        window = candles.iloc[max(0, i + 1 - needed) : i + 1]
        assert strategy.signals(window)[-1] == whole[i], f"row {i}"
        part = strategy.size(window)
        if sizes is not None and part is not None and whole[i] > 0:
            assert share(float(part[-1])) == share(float(sizes[i]))
    window = candles.iloc[max(0, i + 1 - needed) : i + 1].reset_index(drop=True)
    assert strategy.reason(window, len(window) - 1) == strategy.reason(candles, i)


@pytest.mark.parametrize("key", NEW)
def test_no_signal_and_no_size_looks_ahead(key: str):
    strategy = load().build(key)
    candles = walk(1500, seed=21)
    whole, sizes = strategy.signals(candles), strategy.size(candles)
    for end in (700, 900, 1200, 1499):
        np.testing.assert_array_equal(whole[:end], strategy.signals(candles.iloc[:end]))
        part = strategy.size(candles.iloc[:end])
        if sizes is not None and part is not None:
            np.testing.assert_array_equal(sizes[:end], part)


@pytest.mark.parametrize("key", NEW)
def test_the_live_answer_is_the_signal_of_the_last_row(key: str):
    strategy = load().build(key)
    candles = walk(1200, seed=31)
    whole = strategy.signals(candles)
    names = {1: "BUY", -1: "SELL", 0: "HOLD"}
    for i in (*np.flatnonzero(whole > 0)[-3:], *np.flatnonzero(whole < 0)[-3:], 1100, 1199):
        answer = strategy.analyze(rows_of(candles.iloc[: i + 1]))
        assert answer["signal"] == names[whole[i]] and len(answer["reasoning"]) > 20
        assert ("size" in answer) == (key == "enhanced" and whole[i] > 0)


@pytest.mark.parametrize("key", NEW)
def test_short_flat_dead_and_broken_tables_are_no_signal_and_no_error(key: str):
    strategy = load().build(key)
    for rows in (1, 2, 5, 18):
        answer = strategy.analyze(rows_of(walk(rows)))
        assert answer["signal"] == "HOLD" and f"Too few candles yet: {rows} of {strategy.warmup}" in answer["reasoning"]
    assert strategy.signals(walk(5).iloc[:0]).shape == (0,)
    still = table([100.0] * 900, volume=[0.0] * 900)
    assert not strategy.signals(still).any() and strategy.analyze(rows_of(still))["signal"] == "HOLD"
    stopped = walk(900, seed=5)
    after = table([*stopped["close"], *[stopped["close"].iloc[-1]] * 300])
    assert not strategy.signals(after)[-190:].any()
    holes = walk(900, seed=6)
    holes.loc[850:860, ["open", "high", "low", "close", "volume"]] = np.nan
    found = strategy.signals(holes)
    assert not found[850:861].any() and isinstance(strategy.reason(holes, 855), str)


@pytest.mark.parametrize("key", NEW)
@pytest.mark.parametrize("market", ["walk", "BTC"])
def test_a_bot_at_default_intervals_finds_trades_but_not_all_the_time(key: str, market: str):
    """Checks every 900 s see each third 5m candle."""
    candles = walk(8640, seed=41) if market == "walk" else real_candles("spot-5m/BTC_USDT-5m", first=20_000, rows=8640)
    seen = load().build(key).signals(candles)[2::3]
    holding, trades = False, 0
    for signal in seen:
        if signal and holding != (signal > 0):
            holding = signal > 0
            trades += not holding
    assert 0.4 <= trades / 30 <= 6 and (seen > 0).sum() / 30 <= 20 and (seen < 0).sum() / 30 <= 25


@pytest.mark.parametrize("key", NEW)
def test_no_allowed_parameter_asks_for_more_candles_than_one_request_brings(key: str):
    cls = load().get(key).cls
    highest = {p.name: p.high for p in cls.params if p.type is int and "fast" not in p.name}
    assert cls(**highest).warmup <= 1000
    described = next(d for d in load().describe() if d["key"] == key)
    assert described["title"] and "loses" in described["description"].lower() and all(p["help"] for p in described["params"])


@pytest.mark.parametrize(
    ("key", "given", "says"),
    [
        ("scalping", {"fast": 20, "slow": 10}, "fast: must be below slow"),
        ("scalping", {"fast": 10, "slow": 10}, "fast: must be below slow"),
        ("scalping", {"fast": 0}, "fast: must be a whole number from 1 to 200"),
        ("mean_reversion", {"entry": 0.5, "exit": -0.6}, "exit: must lie above the entry at -0.5"),
        ("momentum", {"roc_sell": 2, "roc_buy": 1}, "roc_sell: must be below roc_buy"),
        ("breakout", {"entry_window": 20, "exit_window": 40}, "exit_window: must be at most entry_window"),
        ("enhanced", {"ema_fast": 50, "ema_slow": 20}, "ema_fast: must be below ema_slow"),
        ("enhanced", {"size_least": 0}, "size_least: must be a number from 0.01 to 1.0"),
    ],
)
def test_wrong_parameters_are_refused_with_what_would_be_right(key: str, given: dict[str, Any], says: str):
    with pytest.raises(InputError, match=says):
        load().build(key, given)


def test_scalping_asks_for_one_candle_more_than_its_slow_mean():
    assert load().build("scalping", {"fast": 3, "slow": 5}).warmup == 6
    up = table([10.0, 10, 9, 9, 9, 12])
    assert load().build("scalping", {"fast": 3, "slow": 5}).signals(up).tolist() == [0, 0, 0, 0, 0, 1]


# --- sizes -----------------------------------------------------------------------------------


class Sized(Strategy):
    """Buys every candle, with the size that the test says."""

    key = "sized"
    warmup = 1  # type: ignore[assignment]
    answer: Any = None

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        return np.ones(len(candles), dtype=np.int8)

    def size(self, candles: pd.DataFrame) -> Any:
        return self.answer(len(candles))


@pytest.mark.parametrize(("size", "kept"), [(0.5, "0.50"), (1, "1.00"), (0.333333, "0.33"), (1e-9, "0.01"), (0.999999, "1.00")])
def test_a_size_is_counted_in_hundredths_and_never_nothing(size: float, kept: str):
    strategy = Sized()
    strategy.answer = lambda n: np.full(n, size)
    assert str(strategy.analyze(rows_of(table([1.0, 2])))["size"]) == kept


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: np.full(n, np.nan), "a size must be a number above 0 and at most 1"),
        (lambda n: np.full(n, 1.5), "not '1.5'"),
        (lambda n: np.zeros(n), "above 0"),
        (lambda n: np.full(n + 1, 0.5), "one number a candle, 2 here"),
        (lambda n: ["half"] * n, "one number a candle"),
        (lambda n: 1 / 0, "broke in size: ZeroDivisionError"),
    ],
)
def test_a_size_that_is_none_is_refused_and_the_strategy_named(answer: Any, says: str):
    strategy = Sized()
    strategy.answer = answer
    with pytest.raises(StrategyError, match="strategy sized.*" + says):
        strategy.analyze(rows_of(table([1.0, 2])))
