"""What an account holds and whose it is; orders that no bot looks after; the command for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import toy
from bots import Script, run_checks, trader
from core.account import ledger
from core.account.holdings import Asset, Holdings, holdings
from core.bot import ids, position
from core.bot.trader import Trader
from core.errors import Conflict, InputError, NotFound
from core.fleet import holdings as fleet_holdings
from core.model import OrderRequest, floor_to
from core.storage import Files, installation
from patience import patience
from processes import BUY_ONCE, Home, until
from stepped import World, run_until

D = Decimal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-15T08:20", RISK_INTERVAL="300")
    yield made
    made.close()


def listed(world: World, *amounts: int, **fields: Any) -> None:
    bots = [
        {"id": n, "name": f"Bot {n}", "symbol": "BTCUSDT", "strategy": "script", "trade_amount": amount, "status": "running", **fields}
        for n, amount in enumerate(amounts, 1)
    ]
    world.files.write_json("active_bots.json", bots)


def holding(world: World, bot_id: int = 1, amount: str = "1000", protection: str = "bot") -> Trader:
    bot = world.bot(bot_id, "BTCUSDT", Script(["BUY"]), amount, stop_loss_pct=60, take_profit_pct=0, protection=protection)
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 1000)
    for _ in range(4):
        world.wall += 1000
        bot.step()
    assert bot.position.direction == "LONG"
    return bot


def seen(world: World) -> Holdings:
    client = world.client()
    client.connect()
    return fleet_holdings.look(world.files, client)


def asset(found: Holdings, name: str) -> Asset:
    return next(a for a in found.assets if a.asset == name)


def by_hand(world: World, side: str, kind: str, client_id: str = "web_1", **sizes: Any) -> None:
    client = world.client()
    client.connect()
    life = "GTC" if kind == "LIMIT" else None
    client.place(OrderRequest(client_id, "BTCUSDT", side, kind, life=life, **sizes))  # type: ignore[arg-type]


# --- coins and money -----------------------------------------------------------------------------


def test_each_bots_coins_their_worth_and_what_nobody_claims_are_told(world: World) -> None:
    listed(world, 1000, 600, 300)
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "2"})
    one, two = holding(world, 1, "1000"), holding(world, 2, "600")
    found = seen(world)
    assert found.settled and found.unknown == () and found.orders == ()
    btc, price = asset(found, "BTC"), one.exchange.price("BTCUSDT")
    assert {s.bot_id: s.quantity for s in btc.shares} == {1: one.position.quantity, 2: two.position.quantity}
    assert [s.worth for s in btc.shares] == [one.position.quantity * price, two.position.quantity * price]
    assert btc.claimed == one.position.quantity + two.position.quantity
    assert btc.unclaimed == 2 and btc.missing == 0
    usdt = asset(found, "USDT")
    spent = -one.position.cash - two.position.cash
    assert usdt.total == 10000 - spent
    assert usdt.pots == 1900 - spent, "what the pots may still spend: two have spent nearly all, the third all is left"
    assert usdt.unclaimed == 8100 and usdt.pots_word == ""
    assert asset(found, "BTC").unexplained == 0 and usdt.unexplained == 0


def test_what_pots_add_up_to_beyond_the_balance_is_told_in_the_words_of_a_start(world: World) -> None:
    listed(world, 9000, 4000)
    usdt = asset(seen(world), "USDT")
    assert usdt.pots == 13000 and usdt.unclaimed == 0
    assert "the bots' pots come to 13000 USDT, the account holds 10000 USDT (Bot 1 9000, Bot 2 4000)" in usdt.pots_word


@pytest.mark.parametrize("fields", [{"status": "stopped"}, {"sizing": "all_available"}, {"sizing": "equity", "sizing_pct": 5}, {"mode": "testnet"}])
def test_a_bot_that_is_stopped_elsewhere_or_without_a_pot_counts_on_no_money(world: World, fields: dict[str, Any]) -> None:
    listed(world, 9000, **fields)
    usdt = asset(seen(world), "USDT")
    assert (usdt.pots, usdt.unclaimed) == (0, 10000)


def test_dust_is_told_beside_the_position(world: World) -> None:
    listed(world, 1000)
    bot = holding(world)
    from dataclasses import replace

    bot.store.save(replace(bot.position, dust=D("0.00000123")))
    share = asset(seen(world), "BTC").shares[0]
    assert (share.quantity, share.dust) == (bot.position.quantity, D("0.00000123"))


def test_deposits_and_withdrawals_are_unexplained_and_nobodys_profit(world: World) -> None:
    listed(world, 1000)
    bot = holding(world)
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "ETH", "amount": "4"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "123"})
    before = position.PositionStore(world.files, 1).load()
    found = seen(world)
    assert asset(found, "ETH").unexplained == 4 and asset(found, "USDT").unexplained == -123
    assert position.PositionStore(world.files, 1).load() == before and bot.position.totals.profit == 0
    ledger.acknowledge(world.files, bot.exchange.venue, "ETH", D(4), "test")
    ledger.acknowledge(world.files, bot.exchange.venue, "USDT", D(-123), "test")
    found = seen(world)
    assert asset(found, "ETH").unexplained == 0 and asset(found, "USDT").unexplained == 0


def test_coins_sold_by_hand_are_missing(world: World) -> None:
    listed(world, 1000)
    bot = holding(world)
    sold = floor_to(bot.position.quantity / 2, D("0.00001"))
    by_hand(world, "SELL", "MARKET", quantity=sold)
    btc = asset(seen(world), "BTC")
    assert btc.missing == sold and btc.unexplained == -sold and btc.unclaimed == 0


def test_a_position_file_that_cant_be_read_makes_the_answer_unknown_and_never_smaller(world: World) -> None:
    listed(world, 1000, 500)
    one = holding(world, 1)
    holding(world, 2, "500")
    (world.home / "bot_2_position.json").write_text('{"schema": 1, "half')
    found = seen(world)
    assert any("bot_2_position.json" in text for text in found.unknown)
    btc, usdt = asset(found, "BTC"), asset(found, "USDT")
    assert [s.bot_id for s in btc.shares] == [1] and btc.shares[0].quantity == one.position.quantity
    assert btc.claimed is btc.missing is btc.unclaimed is btc.unexplained is None
    assert usdt.pots is usdt.unclaimed is None
    (world.home / "bot_2_position.json").write_text('{"schema": 1, "venue": {}, "orders": []}')
    assert any("content can't be right" in text for text in seen(world).unknown)


def test_an_order_under_way_leaves_unknown_what_depends_on_it(world: World) -> None:
    listed(world, 1000)
    bot = holding(world)
    world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_after", "times": 1})
    from core.bot.execution import Leg

    assert bot.executor.send(Leg("SELL", "MARKET", "exit", "x", quantity=D("0.001"))).outcome == "unknown"
    found = seen(world)
    btc = asset(found, "BTC")
    assert not found.settled and btc.missing is None and btc.unexplained is None and btc.shares[0].unsettled


# --- orders ------------------------------------------------------------------------------------------------


def test_orders_of_others_are_listed_with_what_they_lock_and_never_touched(world: World) -> None:
    listed(world, 1000)
    bot = holding(world, protection="exchange")
    assert bot.position.orders, "its own order is no stray"
    by_hand(world, "BUY", "LIMIT", quantity=D("0.2"), price=D("40000"))
    found = seen(world)
    assert found.orders is not None
    order = found.orders[0]
    assert len(found.orders) == 1
    assert (order.whose, order.bot_id, order.client_id, order.symbol, order.side, order.kind) == ("foreign", None, "web_1", "BTCUSDT", "BUY", "LIMIT")
    assert (order.price, order.quantity, order.executed) == (40000, D("0.2"), 0)
    assert asset(found, "USDT").locked == 8000
    with pytest.raises(InputError, match="not an order of this yard"):
        fleet_holdings.cancel_orphan(world.files, bot.exchange, "web_1", "test")
    assert len(world.client().open_orders()) == 1 + len(bot.position.orders)


def orphan(world: World, bot_id: int = 1, number: int = 99) -> str:
    own_id = ids.client_id(installation(world.files), bot_id, number, 1_700_000_000_000)
    by_hand(world, "BUY", "LIMIT", own_id, quantity=D("0.01"), price=D("40000"))
    return own_id


def test_an_order_of_ours_that_no_bot_knows_is_told_and_can_be_taken_back(world: World) -> None:
    listed(world, 1000)
    bot = holding(world, protection="exchange")
    own_id = orphan(world)
    found = seen(world)
    assert found.orders is not None and [(o.whose, o.bot_id, o.client_id) for o in found.orders] == [("orphan", 1, own_id)]
    told = fleet_holdings.cancel_orphan(world.files, bot.exchange, own_id, "a test")
    assert told.status == "CANCELED" and "is canceled" in fleet_holdings.words(told)
    assert seen(world).orders == ()
    row = list(world.files.read_lines("data/audit.jsonl"))[-1]
    assert (row["by"], row["what"], row["bot_id"], row["detail"]["client_id"]) == ("a test", "cancel orphan", 1, own_id)
    with pytest.raises(NotFound, match="is open"):
        fleet_holdings.cancel_orphan(world.files, bot.exchange, own_id, "a test")


def test_an_order_that_its_bot_knows_or_that_nobody_can_tell_is_not_taken_back(world: World) -> None:
    listed(world, 1000)
    bot = holding(world, protection="exchange")
    own = bot.position.orders[0].client_id
    with pytest.raises(Conflict, match="knows this order"):
        fleet_holdings.cancel_orphan(world.files, bot.exchange, own, "test")
    stray = orphan(world)
    (world.home / "bot_1_position.json").write_text("{")
    with pytest.raises(Conflict, match="can't be read"):
        fleet_holdings.cancel_orphan(world.files, bot.exchange, stray, "test")
    found = seen(world)
    assert found.orders is not None and {o.whose for o in found.orders} == {"unknown"}
    (world.home / "bot_1_position.json").unlink()
    with pytest.raises(Conflict, match="can't be read"):
        fleet_holdings.cancel_orphan(world.files, bot.exchange, own, "test")
    assert {o.client_id for o in world.client().open_orders()} == {own, stray}


def test_the_toy_tells_its_holdings_too(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    assert bot.start()
    run_checks(bot, clock, 1)
    exchange.place(OrderRequest("web", "BTC/USD", "BUY", "LIMIT", D("0.1"), price=D(50)))
    found = holdings(Files(tmp_path), exchange, [], lambda client_id: None)
    assert asset(found, "BTC").shares[0].name == "bot 1 (not in the list)"
    assert found.orders is not None and [(o.client_id, o.price) for o in found.orders] == [("web", 50)]


# --- the command, with real processes -----------------------------------------------------------------------


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
    made.strategy("buy_once", BUY_ONCE)
    made.paper()
    yield made
    made.end()


def command(yard: Home, *arguments: str) -> tuple[int, str, str]:
    child = yard.start("utils/holdings.py", *arguments)
    out = yard.path / f"out-{len(yard.children) - 1}.txt"
    _, err = child.communicate(timeout=60)
    return child.returncode, out.read_text(), err


def test_the_command_tells_changes_a_pot_and_takes_an_orphan_back_once_its_bot_has_stopped(yard: Home) -> None:
    record = {"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "buy_once", "trade_amount": 500, "status": "running", "check_interval": 60}
    (yard.path / "active_bots.json").write_text(json.dumps([record]))
    bot = yard.bot(1, "BTC Bot", "BTCUSDT", "buy_once", "500")
    until(lambda: yard.position()["position"] == "LONG", "an entry")
    code, out, err = command(yard)
    assert code == 0, out + err
    assert "bot 1 (BTC Bot, BTCUSDT)" in out and "nobody claims" in out
    code, out, err = command(yard, "pot", "1", "+250", "--json")
    assert (code, json.loads(out)["after"]) == (0, 750), err
    code, out, err = command(yard, "pot", "1", "-600")
    assert code == 2 and "can be paid out" in err and out == ""
    code, out, err = command(yard, "pot", "1", "-200")
    assert code == 0 and "the pot was 750, it is 550" in out, err

    files = Files(yard.path)
    own_id = ids.client_id(installation(files), 1, 999, 1_700_000_000_000)
    from core.binance_client import BinanceClient
    from core.config import load

    client = BinanceClient(load({k: v for k, v in yard.env.items() if k.startswith(("PAPER_", "BOTYARD_"))}), "paper")
    client.connect(installation(files))
    client.place(OrderRequest(own_id, "BTCUSDT", "BUY", "LIMIT", D("0.001"), price=floor_to(client.price("BTCUSDT") * D("0.95"), D("0.01")), life="GTC"))
    code, out, _ = command(yard)
    assert code == 1 and own_id in out and "which doesn't know it" in out
    code, _, err = command(yard, "cancel-orphan", own_id)
    assert code == 2 and "--yes" in err
    code, _, err = command(yard, "cancel-orphan", own_id, "--yes")
    assert code == 3 and "is running" in err
    bot.terminate()
    bot.wait(patience(15))
    code, out, err = command(yard, "cancel-orphan", own_id, "--yes")
    assert code == 0 and "is canceled" in out, err
    code, out, err = command(yard, "--json")
    assert json.loads(out)["orders"] == [], err
    assert {a["asset"] for a in json.loads(out)["assets"]} >= {"BTC", "USDT"}
