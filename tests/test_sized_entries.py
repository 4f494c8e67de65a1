"""A strategy that sizes its entries, from its answer to the order: the bot spends that part of its pot, and no other."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toy
from backtest_help import bars_of, config
from bots import Script, run_checks, trader
from core.backtest.engine import run
from core.bot import decisions
from core.bot.decisions import Plan
from core.model import Position, Rules, Symbol, Totals, Venue
from strategies.base import Strategy

D = Decimal
SYMBOL = Symbol("BTCUSDT", "BTC", "USDT", True, Rules(tick=D("0.01"), step=D("0.001"), min_quantity=D("0.001"), max_quantity=D(1000), min_notional=D(5)))
FLAT = Position(1, Venue(), "BTCUSDT", "BTC", "USDT")


class Half(Script):
    """A strategy of the plainest kind that says a size with its signal."""

    key = "script"
    part: Any = 0.4

    def analyze(self, data: Any) -> dict[str, Any]:
        return {**super().analyze(data), "size": self.part}


def test_a_bot_spends_the_part_of_its_pot_that_its_strategy_asks_for(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange):
    bot = trader(tmp_path, clock, exchange, Half(["BUY", "SELL", "BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.quantity == D("1.998")  # 2 of the 5 coins that 500 would buy, less the fee
    exchange.move("110")
    run_checks(bot, clock, 2)
    pot = 500 + bot.position.totals.profit
    assert bot.position.totals.trades == 1 and exchange.sent[-1].side == "BUY"
    assert exchange.sent[-1].quantity == decisions.floor_to(pot * D("0.4") / 110, D("0.001")), "of the pot with what it made"


def test_a_size_that_is_no_size_buys_nothing_and_is_named(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange):
    own = Half(["BUY", "BUY"])
    own.part = 7
    bot = trader(tmp_path, clock, exchange, own)
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.direction is None and exchange.sent == []
    row = json.loads((tmp_path / "bot_1_decisions.jsonl").read_text().splitlines()[-1])
    assert row["why_not"] == "the strategy failed" and "a size must be a number above 0 and at most 1" in row["reasoning"]


@pytest.mark.parametrize(
    ("plan", "budget"),
    [
        (Plan(D(1000)), "220"),
        (Plan(D(1000), sizing="fixed"), "200"),
        (Plan(D(1000), sizing="all_available"), "800"),
        (Plan(D(1000), sizing="equity", sizing_pct=D(10)), "100"),
        (Plan(D(1000), max_entry=D(150)), "150"),
    ],
)
def test_a_size_scales_every_sizing_before_its_bounds(plan: Plan, budget: str):
    rich = replace(FLAT, trade=1, totals=Totals(trades=1, profit=D(100)))
    found = decisions.check("BUY", "", plan, rich, SYMBOL, D(100), D(4000), D(5000), size=D("0.2"))
    assert [i.size_quote for i in found.intents] == [D(budget)]


def test_an_entry_that_its_size_makes_too_small_is_not_made():
    found = decisions.check("BUY", "", Plan(D(20)), FLAT, SYMBOL, D(100), D(4000), size=D("0.25"))
    assert not found.intents
    assert found.why_not.startswith("the 25 % of the pot that the strategy asks for come to 5 USDT, which is below the smallest entry that could be sold again")


class Wave(Strategy):
    """Buys and sells by the close; spends 0.3 of its pot on cheap candles, 0.123456 on dear ones."""

    key = "wave"
    warmup = 2  # type: ignore[assignment]

    def signals(self, candles: Any) -> Any:
        close = candles["close"].to_numpy()
        return ((close % 10 == 3).astype(np.int8) - (close % 10 == 7).astype(np.int8)).astype(np.int8)

    def size(self, candles: Any) -> Any:
        return np.where(candles["close"].to_numpy() < 105, 0.3, 0.123456)


def test_a_backtest_spends_the_same_part_asked_at_once_or_candle_by_candle():
    closes = [100, 103, 104, 107, 110, 113, 115, 117, 103, 100, 97, 99, 113, 117, 115, 115]
    settings = config(plan=Plan(D(1000), sizing="fixed", stop_loss_pct=None, take_profit_pct=None))
    once, windows = (run(settings, bars_of(closes), Wave(), windows=w) for w in (False, True))
    assert [(t.entry_time, t.quantity, t.exit_reason) for t in once.trades] == [(t.entry_time, t.quantity, t.exit_reason) for t in windows.trades]
    spent = [t.quantity * t.entry_price for t in once.trades]
    assert [float(x) for x in spent] == pytest.approx([300, 120, 300, 120], abs=0.01)


def test_a_backtest_names_a_size_that_is_none():
    class Wrong(Wave):
        def size(self, candles: Any) -> Any:
            return np.full(len(candles), 2.0)

    found = run(config(), bars_of([100, 103, 104, 107, 110, 113]), Wrong())
    assert not found.trades and any("strategy wave: a size must be a number above 0 and at most 1" in w for w in found.warnings)
