"""A bot dies before or after anything it does while it follows a command: the next life ends it, once.

On the toy exchange, in stepped time. The command's file outlives the death, as it would.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import toy
from bots import Script
from core.account import ledger
from core.bot import setup
from core.bot.trader import Trader
from core.config import load
from core.model import OrderRequest
from core.storage import Files
from test_hands import tell, told
from test_kill_points import Fate, Killed, MortalExchange, MortalFiles

D = Decimal
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "levels": ("levels", {"stop_loss": D(99), "take_profit": D(110)}),
    "adopt": ("adopt", {"quantity": D(2)}),
    "book": ("mend", {"choice": "book"}),
    "close": ("mend", {"choice": "close"}),
    "close now": ("close", {}),
}


class Yard:
    """A protected long of some 5 BTC; where coins are to be missing, 2 of them were sold by hand."""

    def __init__(self, home: Path, missing: bool):
        home.mkdir()
        (home / ".env").touch()
        self.home, self.clock = home, toy.StepClock()
        self.exchange = MortalExchange(self.clock, "", "")
        self.exchange.capabilities = replace(self.exchange.capabilities, protection=True)
        self.exchange.closes = [D(100)] * 5
        self.exchange.wallet["BTC"][0] = D(0) if missing else D(3)  # the owner's own
        self.settings = load({"BOTYARD_HOME": str(home)})
        first = self.life(Fate(), "BUY")
        for _ in range(3):
            first.step()
        assert first.position.protection == "exchange"
        if missing:
            self.exchange.cancel("BTC/USD", first.position.orders[0].client_id)
            self.exchange.place(OrderRequest("by-hand", "BTC/USD", "SELL", "MARKET", D(2)))

    def life(self, fate: Fate, *signals: str) -> Trader:
        self.exchange.fate = fate
        strategy = Script(signals)
        record = {"symbol": "BTC/USD", "trade_amount": D(500), "stop_loss_pct": D(2), "take_profit_pct": D(5)}
        config = setup.build(self.settings, 1, "B", "BTC/USD", "script", D(500), record, strategy)
        bot = Trader(config, self.settings, MortalFiles(self.home, fate), self.exchange, self.clock, strategy)
        assert bot.start()
        return bot

    def follow(self, fate: Fate) -> Trader | None:
        """One life until its word on the command is there and nothing is open; None when it was killed."""
        try:
            bot = self.life(fate)
            for _ in range(60):
                bot.step()
                if "last_command" in bot.status.fields and not bot.executor.unresolved and not bot.guardian.due():
                    return bot
                self.clock.now += 600
        except Killed:
            return None
        raise AssertionError("the command was never answered")


@pytest.mark.parametrize("what", COMMANDS)
def test_a_death_at_any_call_of_a_command_ends_with_the_command_done_once(tmp_path: Path, what: str) -> None:
    name, data = COMMANDS[what]
    deaths = 0
    for n in itertools.count(1):
        yard = Yard(tmp_path / str(n), missing=name == "mend")
        tell(yard.home, name, data)
        fate = Fate(n)
        bot = yard.follow(fate)
        where = fate.places[-1] if bot is None else "nowhere"
        deaths += bot is None
        whole = bot is not None
        if bot is None:
            # Where the death came after the command's file was removed, its effect must stand without it.
            left = list((yard.home / "data/commands/bot_1").glob("*.json"))
            bot = yard.follow(Fate()) if left else yard.life(Fate())
            assert bot is not None
        right(yard, bot, what, where)
        if whole:
            break
    assert deaths > 15, deaths


def right(yard: Yard, bot: Trader, what: str, where: str) -> None:
    yard.exchange.fate = Fate()
    for _ in range(3):
        bot.step()
        yard.clock.now += 600
    p, exchange = bot.position, yard.exchange
    stops = [r.stop_price for r, u in exchange.orders.values() if u.status == "NEW" and r.stop_price is not None]
    rows = [json.loads(line) for line in (yard.home / "bot_1_fills.jsonl").read_text().splitlines()]
    message = f"{what}, killed {where}"
    assert len({(r["client_id"], r["trade_id"]) for r in rows}) == len(rows), message
    ids = [r.client_id for r in exchange.sent]
    assert len(ids) == len(set(ids)), message
    assert ledger.compare(Files(yard.home), exchange) == [], message
    if "last_command" in bot.status.fields:
        assert told(bot)[0] == "done", (message, told(bot))
    owned = D("4.995")
    if what == "levels":
        assert (p.stop_loss, p.take_profit, p.quantity) == (D(99), D(110), owned), message
    elif what == "adopt":
        assert p.quantity == owned + 2, message
    elif what == "book":
        assert p.quantity == owned - 2, message
    else:
        assert p.direction is None and p.totals.trades == 1 and stops == [], message
    if p.direction is not None:
        assert len(stops) == 1 and stops[0] == p.stop_loss, message
        assert exchange.wallet["BTC"][1] > 0, message
