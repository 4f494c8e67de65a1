"""The figures of a backtest: by hand, against a peer's, and where there is nothing to tell."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.backtest import metrics, report
from core.market.bars import Bars
from core.storage import dumps
from tests import market_data
from tests.backtest_help import HOUR, START, bars_of, golden_result, result, trade

DAY = 24


def test_figures_of_two_trades_are_those_worked_out_by_hand() -> None:
    values = [1000.0, 1100, 990, 1010, 1045, 1210, 1210, 1210]
    found = metrics.of(result(values, [trade(0, 2, "-10", fees="1"), trade(3, 5, "220", fees="2", reason="take_profit")]))
    assert found.profit == Decimal(210) and found.fees == Decimal(3)
    assert found.return_pct == pytest.approx(21) and found.equity_peak == 1210
    assert found.max_drawdown_pct == pytest.approx(10)  # 1100 → 990
    assert (found.max_drawdown_from, found.max_drawdown_to) == (START + 2 * HOUR, START + 3 * HOUR)
    assert found.max_drawdown_recovered == START + 6 * HOUR and found.max_drawdown_ms == 4 * HOUR == found.longest_drawdown_ms
    assert (found.trades, found.wins, found.losses, found.win_rate_pct) == (2, 1, 1, 50)
    assert found.profit_factor == 22 and found.expectancy == Decimal(105)
    assert found.average_trade_ms == 2 * HOUR == found.longest_trade_ms
    assert found.exposure_pct == pytest.approx(50)  # 4 hours of 8
    assert found.exits == {"signal": 1, "take_profit": 1} and found.open_at_end == 0
    assert found.cagr_pct is None and found.sharpe is None  # eight hours are neither a year's growth nor two days


def test_ratios_are_those_of_their_formulas_over_days() -> None:
    ends = [1010.0, 1000, 1030, 1020]  # the last value of each day
    values = [v for end in ends for v in [1000.0] * (DAY - 1) + [end]]
    found = metrics.of(result(values))
    daily = [0.01, 1000 / 1010 - 1, 0.03, 1020 / 1030 - 1]
    mean = sum(daily) / 4
    spread = math.sqrt(sum((r - mean) ** 2 for r in daily) / 3)
    below = math.sqrt(sum(min(r, 0) ** 2 for r in daily) / 4)
    assert found.sharpe == pytest.approx(mean / spread * math.sqrt(365))
    assert found.sortino == pytest.approx(mean / below * math.sqrt(365))
    assert found.volatility_pct == pytest.approx(spread * math.sqrt(365) * 100)
    assert found.max_drawdown_pct == pytest.approx((1 - 1000 / 1030) * 100)


def test_growth_a_year_is_told_from_thirty_days_on_and_why_not_before() -> None:
    values = [1000.0] * (29 * DAY) + [900.0] + [1020.0] * (DAY - 1)
    found = metrics.of(result(values))
    assert found.cagr_pct == pytest.approx((1.02 ** (365.25 / 30) - 1) * 100)
    assert found.calmar is not None and found.calmar == pytest.approx(found.cagr_pct / 10)
    assert metrics.cagr_pct(1000, 1020, 4 * DAY * HOUR) == pytest.approx((1.02 ** (365.25 / 4) - 1) * 100)
    shorter = result(values[1:])
    assert metrics.of(shorter).cagr_pct is metrics.of(shorter).calmar is None
    bars = bars_of([1.0] * len(values))
    assert "29d 23h say nothing of a year" in " ".join(report.notes(shorter, bars))
    assert "of a year" not in " ".join(report.notes(result(values), bars))


def test_figures_are_told_with_the_digits_that_mean_something() -> None:
    values = [1000.0 + 100 / 3 * i for i in range(40 * DAY)]
    made = result(values, [trade(0, 2, "1", entry="300", quantity="0.7")])
    found = metrics.of(made)
    ratios = {n: v for n, v in found.describe().items() if isinstance(v, float) and not n.startswith("equity")}
    assert len(ratios) > 8 and all(v == float(f"{v:.12g}") for v in ratios.values()), ratios
    assert found.equity_final == round(values[-1], 8)
    told = json.loads(report.json_text(made, found))["trades"][0]
    assert told["profit_pct"] == 0.47619048
    assert (told["exit_price"], told["profit"]) == (float(made.trades[0].exit_price), 1.0), "what was paid and got stays to the last digit"
    shown = dict(report.figure_rows(replace(found, cagr_pct=3.1415e50, calmar=-1234.5), "USDT"))
    assert (shown["CAGR"], shown["Calmar"]) == ("3.14e+50 %", "-1,234.50")


@pytest.mark.parametrize("timeframe", ["1h", "5m"])
def test_figures_equal_the_peers_where_both_mean_the_same(timeframe: str) -> None:
    stats = json.loads(market_data.shared("golden/backtests/stats.json").read_text())[f"btcusdt_{timeframe}_smacross_10_20_long_comm0.001"]
    made = golden_result(timeframe)
    found = metrics.of(made)

    def close(value: float | Decimal | None, name: str) -> None:
        assert value is not None
        assert float(value) == pytest.approx(stats[name], rel=1e-9), name

    close(found.equity_final, "Equity Final [$]")
    close(found.equity_peak, "Equity Peak [$]")
    close(found.return_pct, "Return [%]")
    close(found.trades, "# Trades")
    close(found.win_rate_pct, "Win Rate [%]")
    close(found.fees, "Commissions [$]")
    close(found.best_trade_pct, "Best Trade [%]")
    close(found.worst_trade_pct, "Worst Trade [%]")
    close(found.expectancy_pct, "Expectancy [%]")
    close(-float(found.max_drawdown_pct or 0), "Max. Drawdown [%]")
    # Theirs counts from the first candle's open to the last one's open, ours to its close.
    assert found.start is not None and found.end is not None and found.equity_final is not None
    length = int(made.equity.open_ms[-1]) - found.start
    close(metrics.cagr_pct(10_000, found.equity_final, length), "CAGR [%]")
    days, clock = stats["Max. Drawdown Duration"].split(" days ")
    hours, minutes, _ = clock.split(":")
    assert found.longest_drawdown_ms == ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60_000


def test_without_trades_and_without_candles_figures_are_null_and_the_text_is_json() -> None:
    for made in (result(), result([1000.0] * 100), result([1000.0])):
        found = metrics.of(made).describe()
        assert found["win_rate_pct"] is found["profit_factor"] is found["expectancy"] is found["sharpe"] is found["sortino"] is found["calmar"] is None
        assert found["trades"] == 0 and found["profit"] == 0
        json.loads(dumps(found))


def test_a_run_without_a_loss_has_no_profit_factor_and_no_sortino() -> None:
    values = [1000.0 + 10 * i for i in range(5 * DAY)]
    found = metrics.of(result(values, [trade(0, 3, "5")]))
    assert found.profit_factor is None and found.sortino is None and found.calmar is None
    assert found.max_drawdown_pct == 0 and found.longest_drawdown_ms == 0 and found.max_drawdown_from is None
    assert found.sharpe is not None


def test_one_losing_trade_gives_a_factor_of_nothing() -> None:
    found = metrics.of(result([1000.0, 990, 990], [trade(0, 1, "-10")]))
    assert found.profit_factor == 0 and found.win_rate_pct == 0 and found.losses == 1
    assert found.max_drawdown_recovered is None and found.max_drawdown_ms == 2 * HOUR


def test_everything_lost_is_minus_a_hundred_percent_not_a_crash() -> None:
    found = metrics.of(result([1000.0] * DAY + [0.0] * 29 * DAY))
    assert found.cagr_pct == -100 and found.return_pct == -100 and found.max_drawdown_pct == 100
    dumps(found.describe())


def test_a_trade_still_open_at_the_end_is_counted() -> None:
    assert metrics.of(result([1000.0] * 4, [trade(1, 3, "1", reason="end")])).open_at_end == 1


def test_trades_that_overlap_count_once_in_the_exposure() -> None:
    found = metrics.of(result([1000.0] * 10, [trade(0, 4, "1"), trade(2, 6, "1"), trade(3, 4, "1"), trade(8, 9, "1")]))
    assert found.exposure_pct == pytest.approx(70)


def test_buy_and_hold_pays_the_same_fee_and_counts_from_the_first_traded_candle() -> None:
    bars = bars_of([50, 100, 120, 90, 150])
    made = result([1000.0] * 4, fee_pct=Decimal(1))
    shifted = bars_of([100, 120, 90, 150])
    assert len(bars) == 5
    found = metrics.of(made, shifted)
    assert found.buy_hold_pct == pytest.approx((1.5 * 0.99 * 0.99 - 1) * 100)
    assert found.buy_hold_max_drawdown_pct == pytest.approx(25)
    assert metrics.of(made).buy_hold_pct is None


def test_nobody_holds_through_a_redenomination() -> None:
    bars = bars_of([1, 2, 3, 4])
    prices = (column * np.array([1, 1, 1000, 1000]) for column in (bars.open, bars.high, bars.low, bars.close))
    jumped = Bars(bars.symbol, bars.timeframe, bars.open_ms, *prices, bars.volume)
    made = result([1000.0] * 4)
    assert metrics.of(made, bars).buy_hold_pct is not None
    assert metrics.of(made, jumped).buy_hold_pct is None and metrics.of(made, jumped).buy_hold_max_drawdown_pct is None
    assert "nobody could trade" in report.notes(made, jumped)[0] and "3000.00000000" not in report.notes(made, bars)[0]
    assert [e[3] for e in report.chart_data(made, jumped)["equity"]] == [None] * 4


def test_months_follow_the_utc_calendar_and_multiply_to_the_whole() -> None:
    random = np.random.default_rng(3)
    values = 1000 * np.exp(np.cumsum(random.normal(0, 0.01, 90 * DAY)))
    made = result(list(values))
    closed = metrics.close_times(made.equity.open_ms, "1h")
    months = metrics.monthly_returns(closed, made.equity.value, 1000.0)
    assert list(months) == [(2020, 9), (2020, 10), (2020, 11), (2020, 12)]
    assert math.prod(1 + m / 100 for m in months.values()) == pytest.approx(values[-1] / 1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=1e9, allow_nan=False), max_size=80), st.sampled_from([1, 24]))
def test_no_equity_whatever_gives_anything_that_json_refuses(values: list[float], hours: int) -> None:
    found = metrics.of(result(values, step=hours * HOUR, timeframe="1h" if hours == 1 else "1d"))
    dumps(found.describe())
    if values:
        assert found.max_drawdown_pct is not None and 0 <= found.max_drawdown_pct <= 100
        assert (found.longest_drawdown_ms or 0) >= 0
