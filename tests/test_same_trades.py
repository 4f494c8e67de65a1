"""One strategy, two worlds: a bot on the paper exchange and the backtester make the same trades, to the last digit.

The bot is the whole of it: trader, unmodified python-binance and paper exchange in stepped time
(DESIGN §5), on real candles through the outage of 2021-02-11, 03:45 to 05:00. The suite runs a
sample. With SAME=whole in the environment every strategy meets every exit option over 30 days
(some two hours). tests/same_trades.py has both sides.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.backtest.engine import run
from core.backtest.result import Config
from core.bot.decisions import Plan
from core.config import market_time
from core.errors import InputError
from core.market.bars import Bars
from core.model import Decision, Intent, Position, Rules, Symbol
from paper_fixed import FILTERS, TYPES
from same_trades import Case, as_a_backtest, as_a_bot, differences, real_bars
from strategies import registry
from strategies.base import MarketView, Strategy

D = Decimal
WHOLE = os.environ.get("SAME") == "whole"
# A slot of every interval below: k·420 s and k·900 s meet there; checks fall 2 s later.
BEGIN, DAYS = ("2021-02-01T00:00:02", 30.0) if WHOLE else ("2021-02-10T21:00:02", 0.6)

OPTIONS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "watched by the bot": {"protection": "bot"},
    "tight": {"stop_loss_pct": "0.5", "take_profit_pct": "0.8"},
    "tight, watched by the bot": {"stop_loss_pct": "0.5", "take_profit_pct": "0.8", "protection": "bot"},
    "neither stop nor target": {"stop_loss_pct": 0, "take_profit_pct": 0},
    "a stop alone": {"stop_loss_pct": "0.6", "take_profit_pct": 0},
    "a target alone": {"stop_loss_pct": 0, "take_profit_pct": "0.6"},
    "trailing": {"stop_loss_pct": "1", "trailing_stop_pct": "0.6", "trailing_activation_pct": "0.5", "check_interval": 300},
    "trailing, watched by the bot": {"stop_loss_pct": "1", "trailing_stop_pct": "0.6", "check_interval": 300, "protection": "bot"},
    "break-even": {"stop_loss_pct": "1", "break_even_pct": "0.5"},
    "break-even, watched by the bot": {"stop_loss_pct": "1", "break_even_pct": "0.5", "protection": "bot"},
    "time stop": {"time_stop_candles": 7},
    "a long cool-down": {"cooldown_checks": 5, "stop_loss_pct": "0.4"},
    "fixed size": {"sizing": "fixed", "stop_loss_pct": "0.7"},
    "all that is free": {"sizing": "all_available", "stop_loss_pct": "0.7"},
    "checks at 7 minutes and 13 s": {"check_interval": 420, "offset": 13, "stop_loss_pct": "0.6"},
}
COVERED = ("as shipped", "watched by the bot", "tight", "fixed size", "a stop alone")  # by others, in the sample
SLIPPING = ("tight, watched by the bot", "break-even")
STRATEGIES = registry.load().keys()
RARE = ("ema_trend", "rsi_reversal")  # those trade once in a day or two


def pairs() -> list[tuple[str, str]]:
    """(strategy, option): all of them, or each strategy and each option at least once."""
    if WHOLE:
        return [(s, o) for s in STRATEGIES for o in OPTIONS]
    sample = [o for o in OPTIONS if o not in COVERED]
    return [(STRATEGIES[i % len(STRATEGIES)], sample[i % len(sample)]) for i in range(max(len(STRATEGIES), len(sample)))]


def case_of(strategy: str, option: str, number: int) -> Case:
    record = OPTIONS[option]
    start = BEGIN.replace(":02", f":{2 + record.get('offset', 0):02d}")
    symbol = "ETHUSDT" if number % 3 == 2 else "BTCUSDT"
    return Case(symbol, strategy, start, 3.0 if strategy in RARE and not WHOLE else DAYS, record, slippage="0.05" if option in SLIPPING else "0")


@pytest.mark.timeout(3600 if WHOLE else 280)
@pytest.mark.parametrize(("strategy", "option"), pairs())
def test_the_backtest_makes_the_trades_of_the_bot(tmp_path: Path, strategy: str, option: str) -> None:
    number = list(OPTIONS).index(option) + STRATEGIES.index(strategy)
    case = case_of(strategy, option, number)
    as_bot, decisions, config = as_a_bot(tmp_path, case)
    as_backtest = as_a_backtest(case, config, decisions, registry.load().build(strategy))
    as_bot = [t for t in as_bot if t.exit_time < case.compared]
    assert differences(as_bot, as_backtest) == []
    assert len(as_bot) >= ((5 if strategy in RARE else 20) if WHOLE else 1)


def _config(case: Case) -> Config:
    symbol = Symbol("BTCUSDT", "BTC", "USDT", True, Rules.from_binance(FILTERS), frozenset(TYPES))
    plan = Plan(D(3000), stop_loss_pct=D("0.5"), take_profit_pct=D("0.8"))
    return Config(symbol=symbol, timeframe="5m", plan=plan, check_interval_s=900, from_ms=case.span[0])


class Ladder(Strategy):
    """Bids below the price, more at market on a fall, half sold on a rise, the rest offered above; bids are renewed when they age."""

    key = "ladder"
    warmup = 5  # type: ignore[assignment]

    def decide(self, market: MarketView, position: Position) -> Decision:
        age = int(position.memo.get("age", 0)) + 1
        there = {o.tag for o in position.orders}
        intents: list[Intent] = []
        if position.direction is None:
            if not there:
                for n in (1, 2):
                    bid = market.price * (1000 - 3 * n) / 1000
                    intents.append(Intent("place", "BUY", size_quote=D(400), kind="limit", price=bid, role="entry", tag=f"bid{n}", reason="ladder"))
                age = 0
            elif age > 8:
                intents = [Intent("cancel", tag=tag, reason="aged") for tag in sorted(there)]
            return Decision(tuple(intents), memo={"age": age})
        entry = position.entry_price or market.price
        if market.price < entry * D("0.992") and age > 2:
            intents.append(Intent("add", "BUY", size_quote=D(150), role="safety", tag="more", reason="it fell"))
            age = 0
        elif market.price > entry * D("1.003") and not position.memo.get("halved"):
            intents.append(Intent("reduce", "SELL", size_base=position.quantity / 2, role="exit", tag="half", reason="it rose"))
            return Decision(tuple(intents), memo={"age": age, "halved": True})
        elif "ask" not in there and position.memo.get("halved"):
            ask = entry * D("1.006")
            intents.append(Intent("place", "SELL", size_base=position.quantity, kind="limit", price=ask, role="target", tag="ask", reason="the rest"))
        return Decision(tuple(intents), memo={**position.memo, "age": age})


@pytest.mark.timeout(1200 if WHOLE else 280)
@pytest.mark.parametrize("stop", ["1.2", "6"] if WHOLE else ["1.2"])
def test_a_strategy_that_manages_its_position_by_resting_orders_trades_the_same(tmp_path: Path, stop: str) -> None:
    case = Case("BTCUSDT", "ladder", BEGIN, DAYS, {"stop_loss_pct": stop, "take_profit_pct": 0, "check_interval": 300})
    as_bot, decisions, config = as_a_bot(tmp_path, case, Ladder())
    as_backtest = as_a_backtest(case, config, decisions, Ladder())
    as_bot = [t for t in as_bot if t.exit_time < case.compared]
    assert differences(as_bot, as_backtest) == []
    assert len(as_bot) >= 2


class Dice(Strategy):
    """Signals that follow from a candle's time alone."""

    key = "dice"
    warmup = 2  # type: ignore[assignment]

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        rolled = (candles["open_time"].to_numpy() // 60_000 * 2654435761 % 2**32) >> 16
        return np.where(rolled % 5 == 0, 1, np.where(rolled % 7 == 0, -1, 0)).astype(np.int8)


def wild(seed: int, rows: int, holes: float = 0.08) -> Bars:
    """1m candles with jumps at opens, prices that stand still, and minutes without a candle (the part `holes` of them)."""
    random = np.random.default_rng(seed)
    begin = market_time("2022-03-01T00:00:00") - 60 * 60_000
    close = np.rint(20_000 * np.exp(np.cumsum(random.normal(0, 0.002, rows) * (random.random(rows) < 0.9))))
    opened = np.concatenate(([20_000], close[:-1]))
    opened = np.rint(opened * np.where(random.random(rows) < 0.1, np.exp(random.normal(0, 0.015, rows)), 1))
    high = np.maximum(opened, close) + np.rint(np.abs(random.normal(0, 15, rows)))
    low = np.minimum(opened, close) - np.rint(np.abs(random.normal(0, 15, rows)))
    keep = random.random(rows) >= holes
    columns = [(c[keep] * 100_000_000).astype(np.int64) for c in (opened, high, low, close)]
    times = begin + 60_000 * np.arange(rows, dtype=np.int64)
    o, h, lo, c = columns
    return Bars("BTCUSDT", "1m", times[keep], o, h, lo, c, np.full(int(keep.sum()), 1.5))


@pytest.mark.timeout(1200 if WHOLE else 280)
@pytest.mark.parametrize("seed", range(40) if WHOLE else (1, 3))
@pytest.mark.parametrize("stops", [True, False], ids=["STOP_LOSS", "STOP_LOSS_LIMIT"])
def test_wild_candles_with_jumps_and_holes_are_traded_the_same(tmp_path: Path, seed: int, stops: bool) -> None:
    record = {"stop_loss_pct": ("0.4", "1", "0.05")[seed % 3], "take_profit_pct": ("0.6", "0.1", 0)[seed % 3], "check_interval": 60}
    if seed % 4 == 1:
        record |= {"trailing_stop_pct": "0.3"}
    if seed % 5 == 2:
        record |= {"protection": "bot", "check_interval": 120}
    case = Case("BTCUSDT", "dice", "2022-03-01T00:00:02", 0.12, {"timeframe": "1m", **record}, slippage=("0", "0.03")[seed % 2])
    bars = wild(seed, 60 + 240)
    as_bot, decisions, config = as_a_bot(tmp_path, case, Dice(), bars, stops)
    as_backtest = as_a_backtest(case, config, decisions, Dice(), bars)
    as_bot = [t for t in as_bot if t.exit_time < case.compared]
    assert differences(as_bot, as_backtest) == []
    assert len(as_bot) >= 5


@pytest.mark.parametrize("key", [k for k in STRATEGIES if not registry.load().build(k).needs])
def test_asking_once_for_all_candles_and_asking_at_each_check_give_the_same_trades(key: str) -> None:
    case = case_of(key, "tight", 0)
    bars = real_bars("BTCUSDT").slice(case.span[0] - 5 * 86_400_000, case.span[1])
    config = _config(case)
    strategy = registry.load().build(key)
    assert run(config, bars, strategy).trades == run(config, bars, strategy, windows=True).trades


def test_a_strategy_that_needs_what_nobody_recorded_is_refused_by_name() -> None:
    case = case_of("ticker_news", "as shipped", 0)
    with pytest.raises(InputError, match="ticker_news needs news"):
        run(_config(case), real_bars("BTCUSDT").slice(None, case.span[1]), registry.load().build("ticker_news"))
