"""The indicators: equal to `ta`, to tables that others worked out, causal, and calm at the edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from ta.trend import ADXIndicator
from ta.volatility import AverageTrueRange

from core.market import indicators
from market_data import golden, real_candles, table, walk


def column(rows, name):
    """A golden column as numbers; what the table leaves empty is NaN."""
    return np.array([float(r[name].replace(",", "")) if r.get(name) and r[name].strip() else np.nan for r in rows])


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
        return [*found, *indicators.macd(c), *indicators.bollinger(c), *indicators.stochastic(h, lo, c), *indicators.adx(h, lo, c)]

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
