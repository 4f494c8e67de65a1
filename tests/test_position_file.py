"""A position file with one field damaged stops the bot with a StateError; it is neither guessed at nor written over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import toy
from bots import Script, run_checks, trader
from core.bot.position import PositionStore
from core.errors import StateError
from core.storage import Files

NAME = "bot_1_position.json"
WRONG_TYPE = (None, True, [1], {"a": 1})


@pytest.fixture
def held(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> dict[str, Any]:
    """What lies in the file of a bot that holds coins, with stop and target at the exchange."""
    exchange.capabilities = replace(exchange.capabilities, protection=True)
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 2)
    found: dict[str, Any] = json.loads((tmp_path / NAME).read_text())
    assert (len(found["fills"]), len(found["orders"])) == (1, 2)
    return found


def refused(home: Path, value: dict[str, Any], path: str, new: Any) -> str:
    """Why the file with `new` at this path is refused, "" where it is not."""
    damaged = json.loads(json.dumps(value))
    place: Any = damaged
    *to, last = [int(k) if k.isdigit() else k for k in path.split(".")]
    for key in to:
        place = place[key]
    place[last] = new
    text = json.dumps(damaged)
    (home / NAME).write_text(text)
    try:
        PositionStore(Files(home), 1).load()
    except StateError as e:
        assert (home / NAME).read_text() == text
        return str(e)
    return ""


TEXTS = [f"venue.{k}" for k in ("exchange", "market", "account", "mode", "source")] + ["symbol", "base", "quote"]
TEXTS += [f"fills.0.{k}" for k in ("trade_id", "order_id", "client_id", "symbol", "side", "fee_asset", "role", "tag")]
TEXTS += [f"orders.1.{k}" for k in ("role", "tag", "status", "order_id", "reason")] + [f"orders.1.request.{k}" for k in ("client_id", "symbol", "side", "kind")]
COUNTS = ["next_order", "trade", "cooldown", "skip_entries", "totals.trades", "totals.wins", "totals.losses"]
COUNTS += ["fills.0.time_ms", "fills.0.trade", "fills.0.wall_ms"]
COUNTS += [f"orders.0.{k}" for k in ("created_ms", "wall_created_ms", "not_found_final_after_ms", "trade")]
AMOUNTS = ["dust", "dust_in", "initial_investment", "fills.0.price", "fills.0.quantity", "fills.0.quote"]
AMOUNTS += [f"orders.0.{k}" for k in ("executed", "executed_quote", "past_quantity")]
MAYBE = ["stop_loss", "take_profit", *(f"orders.1.request.{k}" for k in ("quantity", "quote_quantity", "price", "stop_price"))]


@pytest.mark.parametrize(
    ("paths", "bad"),
    [
        (TEXTS, (*WRONG_TYPE, 1, 1.5)),
        (COUNTS, (*WRONG_TYPE, "1", 1.5, -1, 10**30)),
        (AMOUNTS, (*WRONG_TYPE, "", "x", "NaN", "-Infinity", -1, "1e999999")),
        (MAYBE, (True, [1], {"a": 1}, "", "x", "NaN", "Infinity", -1, "1e999999")),
        (["has_traded", "fills.0.maker"], (None, 0, "true", [], {})),
        (["fills", "orders", "unjournaled", "orders.0.past"], (None, "", 0, {})),
    ],
    ids=["texts", "counts", "amounts", "amounts or null", "truths", "lists"],
)
def test_a_field_of_another_kind_or_size_is_refused(tmp_path: Path, held: dict[str, Any], paths: list[str], bad: tuple[Any, ...]) -> None:
    accepted = [(path, new) for path in paths for new in bad if not refused(tmp_path, held, path, new)]
    assert accepted == []


@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("venue.mode", "real", "must be one of paper, testnet, live"),
        ("fills.0.side", "HOLD", "side: 'HOLD' must be one of BUY, SELL"),
        ("fills.0.role", "exits", "role"),
        ("orders.1.status", "RESTING", "status"),
        ("orders.1.request.client_id", "", "client_id"),
        ("symbol", "ETH/USD", "a fill is of BTC/USD, the position of ETH/USD"),
        ("orders.0.request.symbol", "ETH/USD", "an order is of ETH/USD"),
        ("position", None, "position is null, but 1 fills are of an open one"),
        ("stop_loss", 0, "must be a price above 0"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_field_that_does(tmp_path: Path, held: dict[str, Any], path: str, new: Any, said: str) -> None:
    assert said in refused(tmp_path, held, path, new)


def test_a_quote_asset_that_is_not_the_symbols_is_refused_before_anything_is_sent(
    tmp_path: Path, held: dict[str, Any], clock: toy.StepClock, exchange: toy.ToyExchange
) -> None:
    (tmp_path / NAME).write_text(json.dumps({**held, "quote": "EUR"}))
    sent = len(exchange.sent)
    with pytest.raises(StateError, match="it says that BTC/USD is BTC in EUR, but it is BTC in USD"):
        trader(tmp_path, clock, exchange, Script([])).start()
    assert len(exchange.sent) == sent


def test_a_position_that_cost_nothing_is_watched_like_any_other(tmp_path: Path, held: dict[str, Any], clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    held["fills"][0]["quote"] = 0
    (tmp_path / NAME).write_text(json.dumps(held))
    bot = trader(tmp_path, clock, exchange, Script([]))
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
