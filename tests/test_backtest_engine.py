"""The backtest engine beside the bot's own decisions: what it refuses, splits, closes, shares and is told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.backtest.engine import Part, run, run_together
from core.backtest.result import Config
from core.bot.decisions import Plan
from core.errors import InputError, StrategyError
from core.market.bars import Bars, read_file
from core.model import Rules, Symbol
from market_data import shared
from paper_fixed import FILTERS, TYPES
from strategies import registry
from strategies.base import Strategy

D = Decimal
MINUTE = 60_000
START = 1_700_000_100_000  # on five minutes
BTC = Symbol("BTCUSDT", "BTC", "USDT", True, Rules.from_binance(FILTERS), frozenset(TYPES))
FREE = Rules()


class Written(Strategy):
    """Says at each candle's open time what a test wrote down for it."""

    key = "written"
    warmup = 1  # type: ignore[assignment]

    def __init__(self, said: dict[int, int]):
        super().__init__()
        self.said = said

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        return np.array([self.said.get(int(t), 0) for t in candles["open_time"]], np.int8)


def bars_of(prices: list[tuple[float, float, float, float] | None], minutes: int = 5, symbol: str = "BTCUSDT", start: int = START) -> Bars:
    """Candles of (open, high, low, close), None for one that is missing."""
    kept = [(start + i * minutes * MINUTE, p) for i, p in enumerate(prices) if p is not None]
    o, h, low, c = (np.array([round(p[k] * 100) * 10**6 for _, p in kept], np.int64) for k in range(4))
    return Bars(symbol, f"{minutes}m", np.array([t for t, _ in kept], np.int64), o, h, low, c, np.ones(len(kept)))


def flat(price: float, count: int) -> list[Any]:
    return [(price, price, price, price)] * count


def config(plan: Plan | None = None, **changed: Any) -> Config:
    return Config(**{"symbol": BTC, "timeframe": "5m", "plan": plan or Plan(D(1000)), **changed})


def coin(name: str) -> Symbol:
    return Symbol(f"{name}USDT", name, "USDT", True, FREE, frozenset(TYPES))


# --- real candles that are poison ------------------------------------------------------------


def test_a_redenomination_is_refused_with_the_moment_both_prices_and_the_remedy() -> None:
    bars = read_file(shared("spot-5m/COCOS_USDT-5m.json.gz"), "COCOSUSDT", "5m")
    told = config(Plan(D(1000)), symbol=coin("COCOS"), filters=False)
    with pytest.raises(InputError, match=r"COCOSUSDT closes at 0\.000695 before 2021-01-23.* and opens at 0\.695 .*split"):
        run(told, bars, registry.load().build("volatile"))


@pytest.mark.parametrize("stop", [None, D(5)])
def test_split_closes_before_a_redenomination_and_goes_on_behind_it_without_a_fortune_or_a_stop(stop: Decimal | None) -> None:
    bars = read_file(shared("spot-5m/COCOS_USDT-5m.json.gz"), "COCOSUSDT", "5m").slice(None, 1_612_000_000_000)
    jump = 1_611_367_200_000
    last_before = int(bars.open_ms[bars.open_ms.searchsorted(jump) - 1])
    held = Written({int(bars.open_ms[10_000]): 1})
    told = config(Plan(D(1000), stop_loss_pct=stop, take_profit_pct=None), symbol=coin("COCOS"), filters=False, split=True)
    (trade, *_) = run(told, bars.slice(int(bars.open_ms[9_990])), held).trades
    if stop is None:
        assert (trade.exit_reason, trade.exit_time) == ("split", last_before)
        assert trade.exit_price == D(int(bars.open[bars.open_ms.searchsorted(last_before)])).scaleb(-8)
    result = run(told, bars, registry.load().build("volatile"))
    assert len(result.trades) > 50
    assert not [t for t in result.trades if t.entry_time < jump <= t.exit_time]
    assert max(abs(t.profit_pct) for t in result.trades) < 50, "the coin did rise by half within hours on 2021-01-15, and traded all along"
    assert result.equity.value.max() < 10_000 * 1.5
    # What the first stretch made is in the pot of the second.
    before = sum(t.profit for t in result.trades if t.exit_time < jump)
    first_behind = next(t for t in result.trades if t.entry_time >= jump)
    assert abs(first_behind.entry_price * first_behind.quantity - (1000 + before)) < D("0.01")


def test_a_coin_younger_than_the_look_back_is_not_traded_before_the_strategy_has_its_candles() -> None:
    bars = read_file(shared("spot-5m/GRT_USDT-5m.json.gz"), "GRTUSDT", "5m").slice(None, 1_610_000_000_000)
    for key in ("volatile", "scalping", "breakout"):
        strategy = registry.load().build(key)
        told = config(Plan(D(1000)), symbol=coin("GRT"), filters=False)
        for result in (run(told, bars, strategy), run(replace(told, check_interval_s=900), bars, strategy)):
            assert result.trades
            assert min(t.entry_time for t in result.trades) >= int(bars.open_ms[strategy.ready()])


# --- gaps, ends, bounds ------------------------------------------------------------------------


def test_inside_an_outage_nothing_is_bought_and_what_is_to_be_sold_is_sold_when_the_market_opens() -> None:
    prices = [*flat(100, 4), *([None] * 12), *flat(90, 6)]
    plan = Plan(D(1000), stop_loss_pct=None, take_profit_pct=None)
    last = START + 3 * 5 * MINUTE
    told = config(plan, check_interval_s=300)
    bought_in_it = run(told, bars_of(prices), Written({last: 1}))
    assert not bought_in_it.trades
    assert bought_in_it.refused == {"Market is closed. (code -2010)": 1} or sum(bought_in_it.refused.values()) == 1
    (trade,) = run(told, bars_of(prices), Written({START: 1, last: -1})).trades
    # The first check behind the outage: 2 s after the first candle there.
    assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (START + 16 * 5 * MINUTE + 2000, D(90), "signal")
    # Decided at the close and filled at the next open, where there is no check interval.
    (trade,) = run(config(plan), bars_of(prices), Written({START: 1, last: -1})).trades
    assert (trade.entry_time, trade.exit_time) == (START + 5 * MINUTE, START + 16 * 5 * MINUTE)


def test_what_is_open_at_the_end_is_closed_at_the_open_of_the_last_candle() -> None:
    bars = bars_of([*flat(100, 3), (101, 104, 101, 104), (104, 105, 104, 105), (105, 110, 105, 109)])
    for interval in (None, 300):
        (trade,) = run(config(Plan(D(1000), take_profit_pct=None), check_interval_s=interval), bars, Written({START: 1})).trades
        assert (trade.exit_time, trade.exit_price, trade.exit_reason) == (int(bars.open_ms[-1]), D(105), "end")


def test_trading_keeps_within_the_bounds_given_and_candles_before_serve_as_warm_up() -> None:
    bars = bars_of(flat(100, 40))
    every = Written({int(t): 1 if i % 2 else -1 for i, t in enumerate(bars.open_ms)})
    first, end = int(bars.open_ms[10]), int(bars.open_ms[30])
    result = run(config(from_ms=first, to_ms=end), bars, every)
    assert min(t.entry_time for t in result.trades) >= first
    assert max(t.exit_time for t in result.trades) < end
    assert (int(result.equity.open_ms[0]), int(result.equity.open_ms[-1])) == (first, end - 5 * MINUTE)


def test_candles_that_are_too_few_another_symbol_s_or_without_a_price_are_refused_by_name() -> None:
    strategy = Written({})
    with pytest.raises(InputError, match="are too few"):
        run(config(), bars_of(flat(100, 1)), strategy)
    with pytest.raises(InputError, match="ETHUSDT 5m, the settings say BTCUSDT 5m"):
        run(config(), bars_of(flat(100, 9), symbol="ETHUSDT"), strategy)
    with pytest.raises(InputError, match="a price of 0; prices lie above 0"):
        run(config(), bars_of([*flat(100, 3), (100, 100, 0, 100), *flat(100, 3)]), strategy)
    with pytest.raises(InputError, match="finer candles must be BTCUSDT's own"):
        run(config(), bars_of(flat(100, 9)), strategy, bars_of(flat(100, 9), 15))


def test_a_strategy_that_breaks_is_named() -> None:
    class Broken(Written):
        key = "broken"

        def signals(self, candles: pd.DataFrame) -> np.ndarray:
            raise ZeroDivisionError("by its author")

    class Asked(Strategy):
        key = "asked"
        warmup = 1  # type: ignore[assignment]

        def analyze(self, data: Any) -> dict[str, Any]:
            return {"signal": "PERHAPS"}

    with pytest.raises(StrategyError, match=r"broken broke in signals.*by its author"):
        run(config(), bars_of(flat(100, 9)), Broken({}))
    result = run(config(), bars_of(flat(100, 9)), Asked())
    assert not result.trades
    assert any("asked" in text and "PERHAPS" in text for text in result.warnings)


# --- the path, protection, several bots ------------------------------------------------------------


def test_finer_candles_say_which_of_stop_and_target_was_met_first() -> None:
    coarse = bars_of([*flat(100, 3), (100, 103, 98, 100), *flat(100, 3)])
    fine = bars_of([*flat(100, 15), (100, 103, 100, 103), (103, 103, 98, 98), *flat(100, 18)], 1)
    plan = Plan(D(1000), stop_loss_pct=D(1), take_profit_pct=D(2))
    said = Written({int(coarse.open_ms[1]): 1})
    (alone,), (finer,) = run(config(plan), coarse, said).trades, run(config(plan), coarse, said, fine).trades
    assert (alone.exit_reason, finer.exit_reason) == ("stop_loss", "take_profit")
    assert finer.exit_time == START + 15 * MINUTE + 3 * MINUTE // 4


def test_a_stop_limit_that_the_open_jumps_over_is_sold_by_the_bot_after_two_looks() -> None:
    symbol = replace(BTC, order_types=frozenset(TYPES) - {"STOP_LOSS"})
    bars = bars_of([*flat(100, 4), *flat(90, 4)])
    (trade,) = run(config(Plan(D(1000), take_profit_pct=None), symbol=symbol, check_interval_s=300), bars, Written({START: 1})).trades
    jump = START + 4 * 5 * MINUTE
    assert trade.exit_reason == "stop_loss"
    assert trade.exit_price == 90
    assert trade.exit_time == jump + 2000, "the look at the open sees it, the check two seconds later acts"


def test_a_check_at_the_instant_of_a_look_sees_what_the_look_left() -> None:
    """The open that reaches the target is also when the candle before is decided on: the bot sells, then buys again."""
    bars = bars_of([*flat(100, 5), *flat(106, 4)])
    times = bars.open_ms.tolist()
    said = Written({times[1]: 1, times[4]: 1})
    for extra in (None, 1000):  # the second asks each candle: it must make no difference
        plan = Plan(D(1000), protection="bot", cooldown_checks=0, time_stop_candles=extra)
        trades = run(config(plan), bars, said).trades
        assert [(t.entry_time, t.exit_time, t.exit_reason) for t in trades] == [(times[2], times[5], "take_profit"), (times[5], times[8], "end")]


def test_a_time_stop_longer_than_the_strategy_s_window_fires_all_the_same() -> None:
    bars = bars_of(flat(100, 170))
    times = bars.open_ms.tolist()
    for interval, due in ((None, 152), (300, 153)):  # an entry two seconds into a candle doesn't count that candle
        plan = Plan(D(1000), time_stop_candles=150)
        trades = run(config(plan, check_interval_s=interval, kline_limit=20), bars, Written({times[1]: 1})).trades
        assert [((t.exit_time - times[0]) // (5 * MINUTE), t.exit_reason) for t in trades] == [(due, "time_stop")]


def test_bots_on_one_account_share_its_money_and_those_with_one_each_do_not() -> None:
    eth = Symbol("ETHUSDT", "ETH", "USDT", True, FREE, frozenset(TYPES))
    btc = replace(BTC, rules=FREE)
    plan = Plan(D(1000), sizing="all_available", stop_loss_pct=None, take_profit_pct=None)
    one = bars_of([*flat(100, 6), *flat(110, 6)])
    other = bars_of(flat(50, 12), symbol="ETHUSDT")
    first, second = Written({START: 1, int(one.open_ms[7]): -1}), Written({int(one.open_ms[1]): 1, int(one.open_ms[9]): 1})
    parts = [
        Part(config(plan, symbol=btc, filters=False, cash=D(1000)), one, first),
        Part(config(plan, symbol=eth, filters=False, cash=D(1000)), other, second),
    ]
    together = run_together(parts, D(1000))
    assert [len(r.trades) for r in together] == [1, 1]
    assert together[1].trades[0].entry_time == int(one.open_ms[10]), "its first signal found the money spent"
    made = sum(t.profit for r in together for t in r.trades)
    assert together[0].equity.value[-1] == pytest.approx(1000 + float(made))
    assert np.array_equal(together[0].equity.value, together[1].equity.value), "it is one account"
    assert together[1].equity.value[5] == pytest.approx(999 * 1.1), "with the coins of the other bot in it"
    apart = [run(p.config, p.bars, p.strategy) for p in parts]
    assert apart[1].trades[0].entry_time == int(one.open_ms[2])
    with pytest.raises(InputError, match="a symbol each"):
        run_together([parts[0], parts[0]], D(1000))


def test_progress_is_told_and_ends_below_or_at_one() -> None:
    bars = bars_of(flat(100, 3000))
    said = Written({int(t): (1, -1)[i % 2] for i, t in enumerate(bars.open_ms)})
    told: list[float] = []
    run(config(), bars, said, engine="exact", progress=told.append)
    assert told == sorted(told)
    assert told and told[0] > 0 and told[-1] <= 1
