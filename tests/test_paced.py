"""The comparison of a run by the wall with its backtest (benchmarks/paced_trades.py) tells late from wrong.

The bot is the exact engine's own fills over invented candles, so that each test can spoil one
thing and see what is said of it. The run itself needs minutes of the wall and is no test.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from paced_trades import DAY, MINUTE, Anchor, Bot, compare, replay, summary

from backtest_help import BTC
from core.backtest import exact
from core.backtest.exact import Task
from core.backtest.result import Config
from core.bot.decisions import Plan
from core.market.bars import Bars
from strategies.answers import SIGNAL_NAMES
from strategies.base import Strategy

BEGIN = 1_700_006_400_000 // DAY * DAY
ROWS, FIRST = 120, 20
SPEED = 60.0
ANCHOR = Anchor(BEGIN + FIRST * MINUTE + 2000, 1_800_000_000_000, SPEED, BEGIN + (ROWS - 3) * MINUTE + 2000)


class Blocks(Strategy):
    """Buys on every sixth candle and sells on the third after it."""

    key = "blocks"
    warmup = 2  # type: ignore[assignment]

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        place = (candles["open_time"] // MINUTE % 6).to_numpy()
        return np.where(place == 0, 1, np.where(place == 3, -1, 0)).astype(np.int8)


@pytest.fixture
def bot() -> Bot:
    """One that did all that the backtest does, at the same moments."""
    random = np.random.default_rng(7)
    close = (30_000 + np.cumsum(random.normal(0, 3, ROWS))).round(2)
    opened = np.concatenate((close[:1], close[:-1]))
    rows = [[BEGIN + i * MINUTE, *(str(x) for x in (o, max(o, c) + 1, min(o, c) - 1, c)), "1"] for i, (o, c) in enumerate(zip(opened, close, strict=True))]
    bars = Bars.from_rows([[t, *(Decimal(x).quantize(Decimal("0.01")) for x in prices)] for t, *prices in rows], "BTCUSDT", "1m")
    plan = Plan(Decimal(1000), sizing="fixed", stop_loss_pct=Decimal(5), take_profit_pct=Decimal(5), protection="bot")
    config = Config(symbol=BTC, timeframe="1m", plan=plan, check_interval_s=60, from_ms=ANCHOR.market_ms)
    made = Bot(1, {"symbol": "BTCUSDT", "strategy": "blocks", "protection": "bot"}, config, Blocks(), bars)
    part = bars.slice(None, ANCHOR.end_ms + 2 * MINUTE)
    said = made.strategy.signals(part.frame())
    task = Task(config, part, part, made.strategy, BTC, ANCHOR.market_ms, int(part.open_ms[-1]), said)
    fills = [f for f in exact.play([task], config.cash).fills[0] if f.tag != "end" and f.time_ms <= ANCHOR.end_ms]
    made.fills = [{name: getattr(f, name) for name in f.__dataclass_fields__} | {"wall_ms": ANCHOR.wall(f.time_ms)} for f in fills]
    made.decisions = [
        {"slot_ms": ms, "market_ms": ms, "candle_ms": ms - 2000 - MINUTE, "signal": SIGNAL_NAMES[int(said[place - 1])], "action": "none", "why_not": ""}
        for place in range(FIRST, ROWS - 2)
        if (ms := BEGIN + place * MINUTE + 2000)
    ]
    made.flat = len(fills) % 2 == 0
    return made


def compared(bot: Bot) -> dict[str, Any]:
    replay(bot, ANCHOR)
    return compare(bot, ANCHOR)


def later(bot: Bot, at: int, ms: int) -> None:
    """Fill `at` came so much later, at the price of that moment."""
    f = bot.fills[at]
    i = int(bot.bars.open_ms.searchsorted(f["time_ms"] + ms, "right")) - 1
    assert (f["time_ms"] + ms - int(bot.bars.open_ms[i])) < MINUTE // 4, "the price of a candle's first quarter is its open"
    price = Decimal(int(bot.bars.open[i])).scaleb(-8)
    quote = price * f["quantity"]
    bot.fills[at] = f | {"time_ms": f["time_ms"] + ms, "wall_ms": f["wall_ms"] + ms / SPEED, "price": price, "quote": quote, "fee": quote / 1000}


def test_a_bot_that_did_the_same_is_told_equal(bot: Bot) -> None:
    found = compared(bot)
    assert {r["what"] for r in found["trades"]} == {"same"}
    assert found["suspicious"] == []
    told = summary([found], ANCHOR)
    assert told["trades"] == told["equal_to_the_ms"] == len(bot.backtest) > 10
    assert told["equal_pct"] == 100
    assert told["candles_not_seen"] == f"0 of {ROWS - FIRST - 2}"


def test_a_whole_number_in_the_journal_is_a_price_like_any_other(bot: Bot) -> None:
    bot.fills[2]["price"] = 30_000
    assert any("at 30000, where the path prints" in text for text in compared(bot)["suspicious"])


def test_a_late_exit_is_told_with_its_lateness_and_is_not_suspicious(bot: Bot) -> None:
    later(bot, 3, MINUTE)
    found = compared(bot)
    row = found["trades"][1]
    assert row["what"] == "differs"
    assert "exit_price" in row["differs"]
    assert row["later_market_ms"] == {"entry": 0, "exit": MINUTE}
    assert row["later_wall_ms"] == {"entry": 0, "exit": 1000}
    assert found["suspicious"] == []


def test_a_fill_at_a_price_that_the_candles_do_not_have_is_suspicious(bot: Bot) -> None:
    bot.fills[2]["price"] += Decimal("0.01")
    assert any("where the path prints" in text for text in compared(bot)["suspicious"])


def test_a_check_that_heard_another_signal_is_suspicious(bot: Bot) -> None:
    bot.decisions[5]["signal"] = "SELL" if bot.decisions[5]["signal"] == "BUY" else "BUY"
    assert any("the bot heard" in text for text in compared(bot)["suspicious"])


def test_an_exit_before_the_backtests_is_suspicious(bot: Bot) -> None:
    later(bot, 1, -MINUTE)
    assert any("exit came before the backtest's" in text for text in compared(bot)["suspicious"])


@pytest.mark.parametrize(("why_not", "excused"), [("cooling down after a stop: 1 more check(s)", True), ("already long", True), ("no money", False)])
def test_a_trade_that_the_bot_lacks_is_excused_only_by_a_late_exit_before_it(bot: Bot, why_not: str, excused: bool) -> None:
    later(bot, 1, MINUTE)
    missing = bot.fills[2]["time_ms"]
    del bot.fills[2:4]
    next(d for d in bot.decisions if d["slot_ms"] == missing)["why_not"] = why_not
    found = compared(bot)
    row = found["trades"][1]
    assert row["what"] == "only the backtest"
    assert why_not in row["why"]
    assert ("1000.0 ms of the wall later" in row["why"]) is excused
    assert (found["suspicious"] == []) is excused
