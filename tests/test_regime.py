"""The market's regime: what the words mean on plain markets, on real ones, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from core.market.regime import Regime, classify, measures, regime, warmup
from market_data import real_candles, table, walk


def words(candles):
    return {Regime(int(v)).word for v in regime(candles)}


def test_a_steady_rise_is_trend_up_and_a_steady_fall_trend_down():
    rise = [100 * 1.002**i * (1 + 0.0005 * np.sin(i)) for i in range(700)]
    assert set(regime(table(rise))[warmup() :]) == {Regime.TREND_UP}
    assert set(regime(table(rise[::-1]))[warmup() :]) == {Regime.TREND_DOWN}


def test_a_market_that_swings_around_a_level_is_a_range():
    assert set(regime(table([100 + np.sin(i / 1.5) for i in range(700)]))[warmup() :]) == {Regime.RANGE}


def test_a_burst_after_calm_is_high_volatility_and_calm_comes_back():
    calm = walk(700, seed=3, move=0.001)["close"].tolist()
    burst = [calm[-1] * (1 + 0.02 * (-1) ** i) for i in range(20)]
    after = walk(400, seed=4, move=0.001, start=calm[-1])["close"].tolist()
    found = regime(table([*calm, *burst, *after]))
    assert Regime.HIGH_VOLATILITY not in found[warmup() : 700]
    assert (found[705:720] == Regime.HIGH_VOLATILITY).all()
    assert Regime.HIGH_VOLATILITY not in found[-100:]


def test_the_crash_of_2021_05_19_is_high_volatility_from_its_first_hour_on():
    """A single 5m candle of −10 % at 12:45–13:20 UTC."""
    candles = real_candles("spot-5m/BTC_USDT-5m", first=48_000, rows=2000)
    at = int(np.flatnonzero(candles["open_time"] == 1_621_430_400_000)[0])  # 13:20
    assert regime(candles)[at] == Regime.HIGH_VOLATILITY


def test_the_thresholds_are_the_callers():
    candles = walk(900, seed=5)
    found = measures(candles)
    assert (classify(found, trend_adx=0.0)[warmup() :] != Regime.RANGE).all()
    assert (classify(found, wild_ratio=0.0)[warmup() :] == Regime.HIGH_VOLATILITY).all()
    np.testing.assert_array_equal(classify(found), regime(candles))


def test_it_is_unknown_while_there_is_too_little_or_there_are_no_numbers():
    assert words(walk(100)) == {"unknown"}
    holes = walk(900, seed=6)
    holes.loc[600:605, ["open", "high", "low", "close"]] = np.nan
    found = regime(holes)
    assert len(found) == 900 and found.dtype == np.int8 and Regime.UNKNOWN in found[600:710]
    assert regime(walk(5).iloc[:0]).shape == (0,)


def test_a_market_that_stands_still_is_a_range_also_after_a_rise():
    assert regime(table([100.0] * 600))[-1] == Regime.RANGE
    rise = [100 * 1.002**i for i in range(600)]
    assert regime(table([*rise, *[rise[-1]] * 500]))[-1] == Regime.RANGE


@pytest.mark.parametrize("market", ["walk", "BTC", "COCOS"])
def test_it_is_causal_and_the_same_from_a_window_as_from_the_whole(market):
    candles = walk(3000, seed=7) if market == "walk" else real_candles(f"spot-5m/{market}_USDT-5m", first=12_000, rows=3000)
    whole = regime(candles)
    for end in (warmup(), 900, 1500, 2200, 3000):
        np.testing.assert_array_equal(regime(candles.iloc[:end]), whole[:end])
        assert regime(candles.iloc[end - warmup() : end])[-1] == whole[end - 1]
