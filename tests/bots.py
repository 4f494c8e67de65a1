"""Bots put together for tests: on the toy exchange, in stepped time, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import toy
from core.bot import setup
from core.bot.trader import Trader
from core.config import Settings, load
from core.market.history import CandleStore
from core.model import KlineRow
from core.storage import Files
from strategies.base import Strategy


class Script(Strategy):
    """Says what the test wrote down, one signal a new candle, then HOLD."""

    key = "script"
    warmup = 1  # type: ignore[assignment]

    def __init__(self, signals: Sequence[str] = ()):
        super().__init__()
        self.left = list(signals)

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        return {"signal": self.left.pop(0) if self.left else "HOLD", "reasoning": f"written down, close {data[-1][4]}"}


def settings(home: Path, **values: str) -> Settings:
    (home / ".env").touch()  # else the settings of the person who runs the tests would count
    return load({"BOTYARD_HOME": str(home), **values})


def trader(
    home: Path,
    clock: toy.StepClock,
    exchange: toy.ToyExchange,
    strategy: Strategy | None,
    record: dict[str, Any] | None = None,
    bot_id: int = 1,
    amount: str = "500",
    name: str = "BTC Bot",
) -> Trader:
    own = settings(home)
    record = {"id": bot_id, "name": name, "symbol": "BTC/USD", "strategy": "script", "trade_amount": Decimal(amount), **(record or {})}
    config = setup.build(own, bot_id, name, "BTC/USD", "script", Decimal(amount), record, strategy)
    return Trader(config, own, Files(home), exchange, clock, strategy, candles=CandleStore(home / "data/history.db"), read_record=lambda: record)


def run_checks(bot: Trader, clock: toy.StepClock, checks: int, limit: int = 2000) -> None:
    """Step and wait until so many checks are completed since the start."""
    wanted = bot.status.fields["checks_completed"] + checks
    for _ in range(limit):
        bot.step()
        if bot.status.fields["checks_completed"] >= wanted:
            return
        clock.wait(*bot.deadlines())
    raise AssertionError(f"only {bot.status.fields['checks_completed']} of {wanted} checks after {limit} steps")
