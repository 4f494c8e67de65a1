"""The indicators: equal to `ta`, to tables that others worked out, causal, and calm at the edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ta.trend import ADXIndicator
from ta.volatility import AverageTrueRange, DonchianChannel, KeltnerChannel
from ta.volume import VolumeWeightedAveragePrice

from core.market import indicators
from market_data import golden, real_candles, table, walk


def column(rows, name):
    """A golden column as numbers; what the table leaves empty is NaN."""
    return np.array([float(r[name].replace(",", "")) if r.get(name) and r[name].strip() not in ("", "NaN") else np.nan for r in rows])


def series(rows, *names):
    return [pd.Series(column(rows, n)) for n in names]


def agree(found, wanted, absolute):
    """Equal wherever the golden table has a value (and there must be some)."""
    there = np.isfinite(wanted)
    assert there.sum() >= 5
    np.testing.assert_allclose(np.asarray(found)[there], wanted[there], rtol=0, atol=absolute)


def test_sma_and_roc_of_a_hand_made_row():
    close = pd.Series([1.0, 2, 3, 4, 8])
    assert indicators.sma(close, 2).tolist()[1:] == [1.5, 2.5, 3.5, 6.0]
    assert indicators.roc(close, 1).tolist()[1:] == pytest.approx([100, 50, 33.3333333, 100])


def test_ema_is_begun_at_the_first_row():
    found = indicators.ema(pd.Series([1.0, 2, 3]), 3).tolist()
    assert found[2] == 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3


def test_rsi_macd_bollinger_roc_and_stochastic_equal_the_golden_sheets():
    rows = golden("ta/cs-rsi.csv")
    agree(indicators.rsi(*series(rows, "Close"), 14), column(rows, "RSI"), 1e-4)
    rows = golden("ta/cs-macd.csv")
    found = indicators.macd(*series(rows, "Close"))
    agree(found.line, np.where(np.arange(len(rows)) < 25, np.nan, column(rows, "MACD_line")), 1e-6)
    rows = golden("ta/cs-bbands.csv")
    bands = indicators.bollinger(*series(rows, "Close"), 20, 2)
    for mine, theirs in ((bands.lower, "LowBand"), (bands.middle, "MiddleBand"), (bands.upper, "HighBand"), (bands.position, "PercentageBand")):
        agree(mine, column(rows, theirs), 1e-4)
    rows = golden("ta/cs-roc.csv")
    agree(indicators.roc(*series(rows, "Close"), 12), column(rows, "ROC"), 1e-6)
    rows = golden("ta/cs-soo.csv")
    high, low, close = series(rows, "High", "Low", "Close")
    agree(indicators.stochastic(high, low, close, 14, 3).k, column(rows, "SO"), 1e-4)


def test_atr_and_adx_equal_the_golden_sheets():
    for name, window in (("ta/cs-atr.csv", 14), ("ta/cs-atr2.csv", 10)):
        rows = golden(name)
        wanted = column(rows, "ATR")
        wanted[: window - 1] = np.nan  # the sheets write 0 there
        agree(indicators.atr(*series(rows, "High", "Low", "Close"), window), wanted, 1e-6)
    rows = golden("ta/cs-adx.csv")
    found = indicators.adx(*series(rows, "High", "Low", "Close"), 14)
    agree(found.plus, column(rows, "+DI14"), 1e-4)
    agree(found.minus, column(rows, "-DI14"), 1e-4)
    agree(found.adx, column(rows, "ADX"), 1e-4)


def test_atr_and_bollinger_equal_another_libraries_tables():
    rows = golden("lean/spy_atr_wilder.txt")
    agree(indicators.atr(*series(rows, "High", "Low", "Close"), 14), column(rows, "Average True Range 14"), 1e-3)
    rows = golden("lean/spy_bollinger_bands.txt")
    bands = indicators.bollinger(*series(rows, "Close"), 20, 2)
    agree(bands.upper, column(rows, "Bollinger Bands® 20 2 Top"), 1e-3)
    agree(bands.lower, column(rows, "Bollinger Bands® 20 2 Bottom"), 1e-3)


@pytest.mark.parametrize("window", [2, 14, 50])
def test_vectorised_atr_and_adx_equal_ta(window):
    for candles in (walk(600, seed=3), walk(2 * window + 2, seed=4)):
        high, low, close = candles["high"], candles["low"], candles["close"]
        mine, theirs = indicators.atr(high, low, close, window), AverageTrueRange(high, low, close, window).average_true_range()
        np.testing.assert_allclose(mine[window - 1 :], theirs[window - 1 :], rtol=1e-12)
        assert mine[: window - 1].isna().all()
        found, ta_adx = indicators.adx(high, low, close, window), ADXIndicator(high, low, close, window)
        np.testing.assert_allclose(found.adx[2 * window - 1 :], ta_adx.adx()[2 * window - 1 :], rtol=1e-9)
        # ta leaves its first directional row at 0.
        np.testing.assert_allclose(found.plus[window + 1 :], ta_adx.adx_pos()[window + 1 :], rtol=1e-9)
        np.testing.assert_allclose(found.minus[window + 1 :], ta_adx.adx_neg()[window + 1 :], rtol=1e-9)
        assert found.adx[: 2 * window - 1].isna().all()


def test_vectorised_atr_and_adx_equal_ta_on_real_candles():
    candles = real_candles("spot-5m/ETH_USDT-5m", first=5000, rows=3000)
    high, low, close = candles["high"], candles["low"], candles["close"]
    np.testing.assert_allclose(indicators.atr(high, low, close)[13:], AverageTrueRange(high, low, close).average_true_range()[13:], rtol=1e-9)
    np.testing.assert_allclose(indicators.adx(high, low, close).adx[27:], ADXIndicator(high, low, close).adx()[27:], rtol=1e-9)


def test_tables_too_short_or_without_movement_give_no_false_values():
    few = walk(5)
    assert indicators.atr(few["high"], few["low"], few["close"], 14).isna().all()
    assert indicators.adx(few["high"], few["low"], few["close"], 14).adx.isna().all()
    flat = table([100.0] * 60)
    assert indicators.atr(flat["high"], flat["low"], flat["close"]).iloc[-1] == 0
    assert indicators.adx(flat["high"], flat["low"], flat["close"]).adx.iloc[-1] == 0
    assert np.isnan(indicators.bollinger(flat["close"]).position.iloc[-1])
    with pytest.raises(ValueError, match="at least 1"):
        indicators.atr(few["high"], few["low"], few["close"], 0)


def test_every_indicator_is_causal():
    whole = walk(300, seed=8)

    def all_of(t):
        h, lo, c = t["high"], t["low"], t["close"]
        found = [indicators.sma(c, 20), indicators.ema(c, 20), indicators.rsi(c), indicators.roc(c), indicators.atr(h, lo, c)]
        found += [*indicators.macd(c), *indicators.bollinger(c), *indicators.stochastic(h, lo, c), *indicators.adx(h, lo, c)]
        return [*found, *(s for word in indicators.VOCABULARY.values() for s in word.compute(t).values())]

    for end in (60, 150, 299):
        for long, short in zip(all_of(whole), all_of(whole.iloc[:end]), strict=True):
            np.testing.assert_array_equal(long.to_numpy()[:end], short.to_numpy())


def test_settle_rows_says_when_the_first_row_is_forgotten():
    alpha = 2 / 27
    rows = indicators.settle_rows(alpha)
    assert (1 - alpha) ** rows <= 1e-12 < (1 - alpha) ** (rows - 1)
    assert indicators.settle_rows(1) == 1
    with pytest.raises(ValueError, match="above 0"):
        indicators.settle_rows(0)


# --- tables of another library (Lean) -------------------------------------------------


def fades(found, wanted, alpha, rounding):
    """Equal but for the seed: an exponential mean that began elsewhere keeps its first difference times (1 − alpha)^k."""
    there = np.flatnonzero(np.isfinite(wanted))
    apart = np.abs(np.asarray(found)[there] - wanted[there])
    assert len(there) > 300 and apart[0] > rounding
    assert (apart <= apart[0] * (1 - alpha) ** np.arange(len(there)) + rounding).all()
    assert apart[200:].max() <= rounding


def test_ema_equals_leans_but_for_the_seed():
    """Lean begins an EMA with the mean of the first rows. The file of closes is exact; the other is rounded to 0.01."""
    rows = golden("lean/spy_ema.csv")
    fades(indicators.ema(*series(rows, "close"), 14), column(rows, "EMA14"), 2 / 15, 1e-9)
    rows = golden("lean/spy_with_indicators.txt")
    fades(indicators.ema(*series(rows, "Close"), 14), column(rows, "EMA14"), 2 / 15, 0.01)


def test_sma_and_roc_equal_leans_as_far_as_its_digits_go():
    rows = golden("lean/spy_with_indicators.txt")
    agree(indicators.sma(*series(rows, "Close"), 14), column(rows, "SMA14"), 0.006)  # two decimals
    rows = golden("lean/spy_with_rocp50.txt")
    agree(indicators.roc(*series(rows, "Close"), 50), column(rows, "Rate of Change % 50"), 2e-5)  # seven digits


def test_macd_equals_leans_once_the_seed_is_forgotten():
    rows = golden("lean/spy_with_macd.txt")  # begins 180 rows in: (1 − 2/27)^180 of the seed is left, about 1e-6
    found = indicators.macd(*series(rows, "Close"))
    for mine, name in ((found.line, "MACD"), (found.signal, "Signal"), (found.histogram, "Histogram")):
        agree(mine, column(rows, name), 2e-5)
    rows = golden("lean/spy_with_indicators.txt")
    wanted = column(rows, "MACD 12 26")
    wanted[:225] = np.nan  # its first row is 20.8 away by the seed; after 200 more less than 1e-5 of that
    agree(indicators.macd(*series(rows, "Close")).line, wanted, 5e-4)  # seven digits of means around 15,000


def test_rsi_equals_wilders_once_the_seed_is_forgotten():
    rows = golden("lean/spy_with_indicators.txt")
    wanted = column(rows, "RSI 14 Wilder")
    found = indicators.rsi(*series(rows, "Close"), 14)
    assert np.nanmax(np.abs(found - wanted)) > 3  # the unseeded mean is another value at first
    wanted[:214] = np.nan  # (13/14)^200 is 4e-7
    agree(found, wanted, 2e-5)


def test_slow_stochastic_equals_leans():
    """Lean's %K 3 is the mean of three fast %K, our %D; its %D 5 the mean of five of those. Four decimals of two-decimal prices."""
    rows = golden("lean/spy_with_stoch12k3.txt")
    slow = indicators.stochastic(*series(rows, "High", "Low", "Close"), 12, 3).d
    agree(slow, column(rows, "Stochastics 12 %K 3"), 5e-4)
    agree(indicators.sma(slow, 5), column(rows, "%D 5"), 5e-4)


def test_adx_and_di_equal_leans():
    rows = golden("lean/spy_with_adx.txt")
    found = indicators.adx(*series(rows, "High", "Low", "Close"), 14)
    for mine, name in ((found.adx, "ADX 14"), (found.plus, "+DI14"), (found.minus, "-DI14")):
        agree(mine, column(rows, name), 6e-5)  # four decimals


# --- channels and VWAP -------------------------------------------------------------------


@pytest.mark.parametrize("source", ["walk", "ETH"])
def test_donchian_keltner_and_vwap_equal_ta(source):
    t = walk(2000, seed=6) if source == "walk" else real_candles("spot-5m/ETH_USDT-5m", first=6000, rows=2000)
    h, lo, c, v = t["high"], t["low"], t["close"], t["volume"]
    theirs = DonchianChannel(h, lo, c, 20)
    mine = indicators.donchian(h, lo, 20)
    np.testing.assert_array_equal(mine.upper, theirs.donchian_channel_hband())
    np.testing.assert_array_equal(mine.lower, theirs.donchian_channel_lband())
    np.testing.assert_allclose(mine.middle, theirs.donchian_channel_mband(), rtol=1e-14)
    keltner = KeltnerChannel(h, lo, c, 20, 10, original_version=False, multiplier=3)
    for ours, other in zip(
        indicators.keltner(h, lo, c, 20, 10, 3),
        (keltner.keltner_channel_lband(), keltner.keltner_channel_mband(), keltner.keltner_channel_hband()),
        strict=True,
    ):
        np.testing.assert_allclose(ours[19:], other[19:], rtol=1e-11)  # before row 19 ta's ATR of 0 meets an EMA that is none
    np.testing.assert_allclose(indicators.vwap(h, lo, c, v, 14), VolumeWeightedAveragePrice(h, lo, c, v, 14).volume_weighted_average_price(), rtol=1e-12)


def test_channels_and_vwap_of_a_hand_made_table():
    t = table([10.0, 11, 12, 13], high=[11.0, 13, 12, 14], low=[9.0, 10, 11, 12], volume=[1.0, 3, 0, 0])
    h, lo, c, v = t["high"], t["low"], t["close"], t["volume"]
    channel = indicators.donchian(h, lo, 2)
    assert (channel.lower.tolist()[1:], channel.upper.tolist()[1:], channel.middle.tolist()[1:]) == ([9, 10, 11], [13, 13, 14], [11, 11.5, 12.5])
    # Typical prices 10, 34/3, 35/3, 13; nothing traded in the last two rows.
    assert indicators.vwap(h, lo, c, v, 2).tolist()[1:3] == pytest.approx([(10 * 1 + 34 / 3 * 3) / 4, 34 / 3])
    assert np.isnan(indicators.vwap(h, lo, c, v, 2).iloc[-1])


def test_vwap_of_the_day_begins_anew_at_midnight_and_not_in_the_middle_of_a_day():
    half = indicators.DAY_MS // 2
    t = table([10.0, 20, 30, 40, 50, 60], volume=[1.0, 1, 0, 1, 3, 0])
    t["high"] = t["low"] = t["close"]

    def of(first):
        t["open_time"] = np.arange(6) * half + first
        return indicators.vwap_day(t["open_time"], t["high"], t["low"], t["close"], t["volume"]).tolist()

    assert of(0) == pytest.approx([10, 15, np.nan, 40, 50, 50], nan_ok=True)
    assert of(half) == pytest.approx([np.nan, 20, 20, 40, 47.5, np.nan], nan_ok=True)  # the first day began before the table


# --- the vocabulary ------------------------------------------------------------------------


def test_the_vocabulary_has_every_word_and_computes_it_by_name():
    words = indicators.VOCABULARY
    assert set(words) == {"sma", "ema", "rsi", "macd", "bollinger", "atr", "adx", "roc", "stochastic", "donchian", "vwap", "vwap_day", "keltner"}
    t = walk(800, seed=9)
    for name, word in words.items():
        found = word.compute(t)
        assert tuple(found) == word.outputs and word.name == name and word.title and word.pane in ("price", "own")
        assert all(len(s) == 800 and np.isfinite(s.iloc[-1]) for s in found.values()), name
        assert all(p.low <= p.default <= p.high and p.type in (int, float) for p in word.params)
    np.testing.assert_array_equal(words["ema"].compute(t, {"window": 7})["value"], indicators.ema(t["close"], 7))


@pytest.mark.parametrize("name", sorted(indicators.VOCABULARY))
def test_after_its_rows_a_value_does_not_show_where_the_table_began(name):
    word = indicators.VOCABULARY[name]
    t = walk(3000, seed=14)
    rows = word.rows(None, 300_000)
    whole = word.compute(t)
    for end in (rows, rows + 1, 1777, 2500, 3000):
        part = word.compute(t.iloc[end - rows : end].reset_index(drop=True))
        for output in word.outputs:
            assert part[output].iloc[-1] == pytest.approx(whole[output].iloc[end - 1], rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("ema", {"window": 0}, "ema: window must be a whole number from 1 to 500, not '0'"),
        ("ema", {"window": 2.5}, "window must be a whole number"),
        ("ema", {"window": True}, "window must be a whole number"),
        ("ema", {"window": "20"}, "window must be a whole number"),
        ("ema", {"period": 20}, "ema has no parameter 'period'; it has window"),
        ("macd", {"fast": 26, "slow": 12}, "macd: fast must be below slow \\(12\\), not 26"),
        ("bollinger", {"deviations": float("nan")}, "deviations must be a number from 0.1 to 10.0"),
        ("vwap_day", {"window": 3}, "vwap_day has no parameter 'window'; it has none"),
    ],
)
def test_a_wrong_parameter_of_an_indicator_is_refused_with_what_would_be_right(name, given, says):
    with pytest.raises(ValueError, match=says):
        indicators.VOCABULARY[name].compute(walk(50), given)


@pytest.mark.parametrize("name", sorted(indicators.VOCABULARY))
def test_no_table_breaks_an_indicator(name):
    word = indicators.VOCABULARY[name]
    few = walk(3)
    holes = walk(300, seed=2)
    holes.loc[100:110, ["open", "high", "low", "close", "volume"]] = np.nan
    for t in (few.iloc[:0], few.iloc[:1], few, table([5.0] * 300, volume=[0.0] * 300), holes):
        assert all(len(s) == len(t) and not np.isinf(s).any() for s in word.compute(t).values())
