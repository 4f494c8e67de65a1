"""The fast engine against the exact one: the same trades, to the last digit, or it says that it can't."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.backtest import fast
from core.backtest.engine import run
from core.backtest.result import Config
from core.bot.decisions import Plan
from core.market.bars import Bars
from core.model import Rules, Symbol
from paper_fixed import FILTERS, TYPES
from strategies.base import Strategy

D = Decimal
MINUTE = 60_000
START = 1_700_000_040_000
BTC = Symbol("BTCUSDT", "BTC", "USDT", True, Rules.from_binance(FILTERS), frozenset(TYPES))


class Written(Strategy):
    """Says what a test wrote down for each candle."""

    key = "written"
    warmup = 3  # type: ignore[assignment]

    def __init__(self, said: list[int]):
        super().__init__()
        self.said = said

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        return np.array(self.said[: len(candles)], np.int8)


def walk(seed: int, rows: int, move: float, start: int, tick: int, holes: bool) -> Bars:
    """A random walk in whole ticks (units of 1e-8); with holes, some candles are missing."""
    random = np.random.default_rng(seed)
    close = np.maximum((start * np.exp(np.cumsum(random.normal(0, move, rows)))).astype(np.int64) // tick, 200) * tick
    opened = np.concatenate(([start // tick * tick], close[:-1]))
    jumps = random.random(rows) < 0.05
    opened = np.where(jumps, np.maximum((opened * np.exp(random.normal(0, 4 * move, rows))).astype(np.int64) // tick, 200) * tick, opened)
    high = np.maximum(opened, close) + (np.abs(random.normal(0, move, rows)) * start).astype(np.int64) // tick * tick
    low = np.maximum(np.minimum(opened, close) - (np.abs(random.normal(0, move, rows)) * start).astype(np.int64) // tick * tick, 100 * tick)
    times = START + MINUTE * np.arange(rows, dtype=np.int64)
    keep = random.random(rows) > 0.04 if holes else np.ones(rows, np.bool_)
    return Bars("BTCUSDT", "1m", times[keep], opened[keep], high[keep], low[keep], close[keep], np.full(int(keep.sum()), 5.0))


def both(config: Config, bars: Bars, strategy: Strategy) -> tuple[Any, Any]:
    return run(config, bars, strategy), run(config, bars, strategy, engine="exact")


def assert_equal(quick: Any, exact: Any) -> None:
    assert list(quick.trades) == list(exact.trades)
    assert np.array_equal(quick.equity.open_ms, exact.equity.open_ms)
    assert np.allclose(quick.equity.value, exact.equity.value, rtol=1e-12)
    assert dict(quick.refused) == dict(exact.refused)
    assert quick.warnings == exact.warnings


percents = st.one_of(st.none(), st.sampled_from(["0.05", "0.3", "1", "2.25", "7"])).map(lambda p: None if p is None else D(p))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(4, 260),
    move=st.sampled_from([0.0005, 0.003, 0.02]),
    said=st.floats(0.02, 0.6),
    stop=percents,
    target=percents,
    sizing=st.sampled_from(["compound", "fixed", "all_available"]),
    amount=st.sampled_from(["10000", "9999.99", "4321.12345678", "60"]),
    cooldown=st.integers(0, 4),
    fee=st.sampled_from(["0", "0.1", "0.075", "1"]),
    fee_mode=st.sampled_from(["received", "quote"]),
    filters=st.booleans(),
    holes=st.booleans(),
    tick=st.sampled_from([1, 1000, 1_000_000]),
    max_entry=st.sampled_from([None, "500"]),
)
def test_random_walks_signals_plans_and_filters_give_the_same_trades_in_both_engines(
    seed: int,
    rows: int,
    move: float,
    said: float,
    stop: Decimal | None,
    target: Decimal | None,
    sizing: str,
    amount: str,
    cooldown: int,
    fee: str,
    fee_mode: str,
    filters: bool,
    holes: bool,
    tick: int,
    max_entry: str | None,
) -> None:
    bars = walk(seed, rows, move, 30_000 * 10**8 if tick > 1 else 31_415_926_535, tick, holes)
    random = np.random.default_rng(seed + 1)
    strategy = Written(random.choice([1, -1, 0], size=rows, p=[said / 2, said / 2, 1 - said]).tolist())
    plan = Plan(
        D(amount),
        sizing=sizing,
        stop_loss_pct=stop,
        take_profit_pct=target,
        cooldown_checks=cooldown,
        max_entry=None if max_entry is None else D(max_entry),
    )
    grid = [f | {"tickSize": "0.00000001", "minPrice": "0.00000001"} if f["filterType"] == "PRICE_FILTER" else f for f in FILTERS]
    symbol = BTC if tick == 1_000_000 else replace(BTC, rules=Rules.from_binance(grid))
    config = Config(symbol=symbol, timeframe="1m", plan=plan, cash=D(10_000), fee_pct=D(fee), fee_mode=fee_mode, filters=filters)
    if len(bars) < 2:
        return
    assert_equal(*both(config, bars, strategy))


@pytest.mark.parametrize("candle", ["low first", "high first"])
def test_a_candle_that_holds_stop_and_target_ends_the_trade_at_the_one_that_its_path_meets_first(candle: str) -> None:
    near, far = (99, 104) if candle == "low first" else (97, 101)
    prices = [(100, 100, 100, 100)] * 4 + [(100, far, near, 100)] + [(100, 100, 100, 100)] * 3
    o, h, low, c = (np.array(column, np.int64) * 10**8 for column in zip(*prices, strict=True))
    bars = Bars("BTCUSDT", "1m", START + MINUTE * np.arange(8, dtype=np.int64), o, h, low, c, np.ones(8))
    plan = Plan(D(1000), stop_loss_pct=D(1), take_profit_pct=D(1))
    quick, exact = both(Config(symbol=BTC, timeframe="1m", plan=plan), bars, Written([0, 0, 1, 0, 0, 0, 0, 0]))
    assert_equal(quick, exact)
    assert isinstance(quick.trades, fast.Trades)
    (trade,) = quick.trades
    assert trade.exit_reason == ("stop_loss" if candle == "low first" else "take_profit")
    assert trade.exit_time == START + 4 * MINUTE + MINUTE // 4
    assert trade.entry_time == START + 3 * MINUTE


@pytest.mark.parametrize(("cooldown", "entries"), [(0, [3, 5]), (1, [3, 6]), (2, [3])])
def test_a_stop_that_fills_at_an_open_comes_before_the_check_at_that_open(cooldown: int, entries: list[int]) -> None:
    prices = [(100, 100, 100, 100)] * 5 + [(97, 97, 97, 97)] * 4
    o, h, low, c = (np.array(column, np.int64) * 10**8 for column in zip(*prices, strict=True))
    bars = Bars("BTCUSDT", "1m", START + MINUTE * np.arange(9, dtype=np.int64), o, h, low, c, np.ones(9))
    plan = Plan(D(1000), stop_loss_pct=D(1), take_profit_pct=None, cooldown_checks=cooldown)
    quick, exact = both(Config(symbol=BTC, timeframe="1m", plan=plan), bars, Written([0, 0, 1, 0, 1, 1, 0, 0, 0]))
    assert_equal(quick, exact)
    assert [(t.entry_time - START) // MINUTE for t in exact.trades] == entries
    assert exact.trades[0].exit_time == START + 5 * MINUTE
    assert exact.trades[0].exit_price == 97


def test_a_plain_plan_takes_the_fast_engine_and_anything_else_the_exact_one() -> None:
    bars = walk(7, 200, 0.003, 30_000 * 10**8, 1_000_000, False)
    strategy = Written(np.random.default_rng(3).choice([1, -1, 0], size=200).tolist())
    plain = Config(symbol=BTC, timeframe="1m", plan=Plan(D(5000)))
    assert isinstance(run(plain, bars, strategy).trades, fast.Trades)
    for changed in (
        replace(plain, plan=replace(plain.plan, trailing_stop_pct=D(1))),
        replace(plain, plan=replace(plain.plan, time_stop_candles=5)),
        replace(plain, plan=replace(plain.plan, protection="bot")),
        replace(plain, slippage_pct=D("0.1")),
        replace(plain, check_interval_s=60),
        replace(plain, plan=replace(plain.plan, trade_amount=D(20))),
    ):
        quick, exact = both(changed, bars, strategy)
        assert isinstance(quick.trades, list)
        assert_equal(quick, exact)


def test_a_trade_longer_than_what_is_looked_at_side_by_side_ends_the_same_way() -> None:
    bars = walk(11, 3000, 0.001, 30_000 * 10**8, 1_000_000, True)
    said = [0] * 3000
    said[5] = said[900] = said[1800] = 1
    said[700] = -1
    for stop, target in ((D(9), D(30)), (D(30), D(30)), (D(4), D(3))):
        config = Config(symbol=BTC, timeframe="1m", plan=Plan(D(5000), stop_loss_pct=stop, take_profit_pct=target))
        quick, exact = both(config, bars, Written(said))
        assert isinstance(quick.trades, fast.Trades)
        assert_equal(quick, exact)
        assert len(quick.trades) >= 2


@pytest.mark.parametrize(("unit", "slippage"), [(100, 0), (1, 0), (1, 3), (10**6, 3)])
def test_without_filters_no_order_book_stands_in_the_way_however_few_digits_a_price_has(unit: int, slippage: int) -> None:
    bars = walk(3, 600, 0.02, 900 * unit, unit, holes=False)
    told = Config(BTC, "1m", Plan(D(1000), stop_loss_pct=D(3), take_profit_pct=D(5)), filters=False, slippage_pct=D(slippage))
    said = np.random.default_rng(8).integers(-1, 2, len(bars)).tolist()
    quick, exact = both(told, bars, Written(said))
    assert list(quick.trades) == list(exact.trades) and len(exact.trades) > 50
    assert not [why for why in {**quick.refused, **exact.refused} if "spread" in why or "slippage" in why or "book" in why]
