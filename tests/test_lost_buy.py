"""A MARKET buy whose answer is lost: a hundred of them in each way of losing it, each executed once.

The unmodified python-binance and the whole paper exchange in this process, in stepped time.
tests/test_execution.py shows the same for a whole bot, once a way, and for sales.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from urllib3.exceptions import IncompleteRead, ProtocolError

from bots import Script
from core.account import ledger
from core.bot.execution import ASK_EVERY_MS, Leg
from core.bot.trader import Trader
from core.model import floor_to
from core.paper.adapter import PaperAdapter
from stepped import World

D = Decimal
ORDER = "/api/v3/order"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
BUYS = 100


class Line(PaperAdapter):
    """The way to the exchange, which counts the orders that leave and can break while an answer comes."""

    breaks: str = ""
    sent = 0

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        if (request.method, request.path_url.partition("?")[0]) != ("POST", ORDER):
            return super().send(request, *args, **kwargs)
        self.sent += 1
        answer = super().send(request, *args, **kwargs)
        if self.breaks == "reset":
            raise requests.exceptions.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer")))
        if self.breaks == "cut in the body":
            raise requests.exceptions.ChunkedEncodingError(ProtocolError("Connection broken", IncompleteRead(40, 400)))
        if self.breaks == "half":
            answer._content = answer.content[: len(answer.content) // 2]
        return answer


# name: (the fault at the exchange, its params, how the line breaks, whether the order was executed)
WAYS: dict[str, tuple[str, dict[str, Any], str, bool]] = {
    "drop_before": ("drop_before", {}, "", False),
    "drop_after": ("drop_after", {}, "", True),
    "hang_after": ("hang_after", {"seconds": 60}, "", True),
    "500, executed": ("error", {"status": 500, "code": -1000, "executed": True}, "", True),
    "500, not executed": ("error", {"status": 500, "code": -1000, "executed": False}, "", False),
    "503, executed": ("error", {"status": 503, "code": -1001, "executed": True}, "", True),
    "502 of a proxy, not executed": ("error", {"status": 502, "body": "<html>Bad Gateway</html>", "executed": False}, "", False),
    "408, executed": ("error", {"status": 408, "body": "", "executed": True}, "", True),
    "408, not executed": ("error", {"status": 408, "code": -1007, "executed": False}, "", False),
    "-1006, executed": ("error", {"status": 400, "code": -1006, "executed": True}, "", True),
    "-1006, not executed": ("error", {"status": 400, "code": -1006, "executed": False}, "", False),
    "-1007, executed": ("error", {"status": 400, "code": -1007, "executed": True}, "", True),
    "-1007, not executed": ("error", {"status": 400, "code": -1007, "executed": False}, "", False),
    "an answer of HTML": ("error", {"status": 200, "body": "<html>ok</html>", "executed": True}, "", True),
    "an empty answer": ("error", {"status": 200, "body": "", "executed": True}, "", True),
    "an answer without its numbers": ("error", {"status": 200, "body": '{"symbol": "BTCUSDT"}', "executed": True}, "", True),
    "half an answer": ("", {}, "half", True),
    "the line is reset": ("", {}, "reset", True),
    "the line is cut in the answer's body": ("", {}, "cut in the body", True),
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-01T00:01", PAPER_BALANCE_USDT="1000000")
    yield made
    made.close()


def started(world: World, bot_id: int, symbol: str) -> tuple[Trader, Line]:
    bot = world.bot(bot_id, symbol, Script([]), stop_loss_pct=90, take_profit_pct=900, protection="bot")
    line = Line(world.exchange, sleep=world._sleep)
    bot.exchange.mount(line)  # type: ignore[attr-defined]
    assert bot.start()
    return bot, line


def buy(world: World, bot: Trader, dice: random.Random) -> str:
    """An intent to buy of some size, sent once; its client id. The answer must have been lost."""
    if dice.random() < 0.5:
        leg = Leg("BUY", "MARKET", "entry", "test", quote_quantity=D(dice.randint(2000, 90000)) / 100)
    else:
        rules = bot.symbol.rules
        leg = Leg("BUY", "MARKET", "entry", "test", quantity=floor_to(D(dice.randint(20, 500)) / bot.exchange.price(bot.symbol.name), rules.step))
    result = bot.executor.send(leg)
    assert result.outcome == "unknown", result.text
    return result.client_id


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_buys_whose_answers_are_lost_are_executed_once_each_or_taken_back(world: World, way: str) -> None:
    kind, params, breaks, done = WAYS[way]
    dice = random.Random(way)
    yard = [started(world, n, symbol) for n, symbol in enumerate(SYMBOLS, 1)]
    intents: dict[str, str] = {}
    late_answers = 0
    for n in range(BUYS):
        bot, line = dice.choice(yard)
        late = n % 6
        if kind:
            world.ask("POST", "/paper/faults", {"method": "POST", "path": ORDER, "fault": kind, "times": 1, "params": params})
        line.breaks = breaks
        intents[buy(world, bot, dice)] = bot.symbol.name
        line.breaks = ""
        if late:  # only now: while there is no order to find, nobody asks
            world.ask("POST", "/paper/faults", {"method": "GET", "path": ORDER, "fault": "late_visibility", "times": late})
        for _ in range(60):
            bot.executor.resolve()
            if not bot.executor.unresolved:
                break
            world.wall += ASK_EVERY_MS
        else:
            raise AssertionError("the outcome was never known")
        assert bot.position.orders == ()
        for struck in world.ask("GET", "/paper/faults"):
            late_answers += struck["struck"] if struck["fault"] == "late_visibility" else 0
            assert struck["left"] == 0 or (struck["fault"] == "late_visibility" and not done), struck
        world.ask("DELETE", "/paper/faults")
        if n % 10 == 9:
            world.step_to(world.market_ms() + 1000 * dice.randint(1, 300))
    assert late_answers >= (sum(n % 6 for n in range(BUYS)) if done else 0)
    assert sum(line.sent for _, line in yard) == BUYS, "each request left once"
    assert len(intents) == BUYS, "each under an id of its own"

    client = world.client()
    client.connect()
    at_exchange = Counter(o["clientOrderId"] for s in SYMBOLS for o in client._client.get_all_orders(symbol=s, limit=1000))
    assert at_exchange == (dict.fromkeys(intents, 1) if done else {})
    trades = [(s, f) for s in SYMBOLS for f in client.fills(s)]
    assert len({(s, f.order_id) for s, f in trades}) == (BUYS if done else 0)
    rows = [row for n in range(1, 4) for row in world.files.read_lines(f"bot_{n}_fills.jsonl")]
    assert {row["client_id"] for row in rows} == set(at_exchange)
    assert sorted((r["symbol"], r["trade_id"]) for r in rows) == sorted((s, f.trade_id) for s, f in trades)
    assert ledger.compare(world.files, client) == []
    for bot, _ in yard:
        held = client.balances().get(bot.symbol.base)
        assert bot.position.quantity + bot.position.dust == (held.total if held else 0)
