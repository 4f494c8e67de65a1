"""Hands of others: coins sold or moved by hand, deposits; books and wallet made to agree again."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots import Script
from core.account import claims, ledger
from core.bot import reconcile
from core.bot.trader import Trader
from core.errors import Conflict
from core.model import OrderRequest, floor_to
from stepped import World, run_until

D = Decimal
START = "2024-03-15T08:20"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START=START, RISK_INTERVAL="300")
    yield made
    made.close()


def holding(world: World, bot_id: int = 1, amount: str = "1000") -> Trader:
    bot = world.bot(bot_id, "BTCUSDT", Script(["BUY"]), amount, stop_loss_pct=90, protection="bot")
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 1000)
    assert bot.position.direction == "LONG"
    assert ledger.compare(world.files, world.client()) == []
    return bot


def sell_by_hand(world: World, quantity: Decimal) -> None:
    client = world.client()
    symbol = client.symbol("BTCUSDT")
    client.place(OrderRequest("web_123", "BTCUSDT", "SELL", "MARKET", quantity=floor_to(quantity, symbol.rules.step)))


def mend(world: World) -> list[str]:
    client = world.client()
    client.connect()
    found = reconcile.examine(world.files, client)
    reconcile.apply(world.files, client, found.proposals, {"BTCUSDT": client.symbol("BTCUSDT")}, "test")
    assert ledger.compare(world.files, client) == []
    return [p.kind for p in found.proposals]


def again(world: World, bot_id: int = 1) -> Trader:
    bot = world.bot(bot_id, "BTCUSDT", Script(["SELL"]), "1000", stop_loss_pct=90, protection="bot")
    assert bot.start()
    return bot


@pytest.mark.parametrize("share", ["0.5", "1"])
def test_a_sale_by_hand_is_booked_into_the_position_that_it_was_taken_from(world: World, share: str) -> None:
    bot = holding(world)
    before = bot.position
    sell_by_hand(world, before.quantity * D(share))
    assert mend(world) == ["book_sale"]
    bot = again(world)
    if share == "1":
        assert bot.position.direction is None
        assert bot.position.totals.trades == 1
        assert abs(bot.position.totals.profit) < 20, "the sale's proceeds count"
    else:
        assert bot.position.direction == "LONG"
        assert before.quantity / 2 <= bot.position.quantity < before.quantity / 2 + D("0.00001")
        run_until(world, [bot], world.market_ms() + 1_000_000)
        assert bot.position.direction is None
    assert ledger.compare(world.files, world.client()) == []


def test_coins_that_were_withdrawn_are_written_off(world: World) -> None:
    bot = holding(world)
    half = floor_to(bot.position.quantity / 2, D("0.00001"))
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "BTC", "amount": str(half)})
    assert mend(world) == ["write_off"]
    assert again(world).position.quantity == bot.position.quantity - half


def test_more_sold_than_the_bot_claims_takes_its_all_and_leaves_the_rest_to_the_owner(world: World) -> None:
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "1"})
    bot = holding(world)
    sell_by_hand(world, bot.position.quantity + D("0.5"))
    kinds = mend(world)
    assert sorted(set(kinds)) == ["acknowledge"], "the wallet still holds what the bot claims: it keeps its coins"
    assert again(world).position.quantity == bot.position.quantity


def test_a_sale_of_the_owners_coins_and_the_bots_in_one_books_the_bots_part(world: World) -> None:
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "1"})
    bot = holding(world)
    sell_by_hand(world, D(1) + bot.position.quantity / 2)
    assert mend(world)[0] == "book_sale"
    assert 0 < again(world).position.quantity < bot.position.quantity


def test_a_deposit_and_a_withdrawal_are_acknowledged_and_no_bots_profit(world: World) -> None:
    bot = holding(world)
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "ETH", "amount": "2"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "100"})
    assert mend(world) == ["acknowledge", "acknowledge"]
    assert again(world).position == bot.position


def test_a_running_bot_is_not_changed_under_its_feet(world: World) -> None:
    holding(world)
    sell_by_hand(world, D("0.001"))
    client = world.client()
    client.connect()
    found = reconcile.examine(world.files, client)
    before = (world.home / "bot_1_position.json").read_bytes()
    import subprocess
    import sys

    code = f"import time; from core.storage import *; l=Lock(Path({str(world.home / 'bot_1.lock')!r})); l.acquire(); print('held', flush=True); time.sleep(30)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match="stop it first"):
            reconcile.apply(world.files, client, found.proposals, {"BTCUSDT": client.symbol("BTCUSDT")}, "test")
    finally:
        holder.kill()
        holder.wait()
    assert (world.home / "bot_1_position.json").read_bytes() == before


def test_claims_are_the_sum_of_all_bots_and_unknown_while_an_order_is_unsettled(world: World) -> None:
    one, two = holding(world, 1), holding(world, 2)
    venue, owned = one.exchange.venue, one.position.quantity + two.position.quantity
    assert claims.missing(world.files, venue, "BTC", owned) == 0
    assert claims.missing(world.files, venue, "BTC", owned - D("0.01")) == D("0.01")
    world.ask("POST", "/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_after", "times": 1})
    from core.bot.execution import Leg

    assert one.executor.send(Leg("SELL", "MARKET", "exit", "x", quantity=D("0.001"))).outcome == "unknown"
    assert claims.missing(world.files, venue, "BTC", owned) is None


def test_a_bot_notices_within_one_check_that_its_coins_were_sold_and_sends_no_failing_orders(world: World) -> None:
    bot = world.bot(1, "BTCUSDT", Script(["BUY"] + ["SELL"] * 9), "1000", stop_loss_pct=90, protection="bot")
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 1000)
    sell_by_hand(world, bot.position.quantity)
    orders = len(world.client()._client.get_all_orders(symbol="BTCUSDT"))
    run_until(world, [bot], world.market_ms() + 960_000)
    for _ in range(4):  # the second look comes some seconds of wall time after the first
        world.wall += 2000
        bot.step()
    assert "foreign" in {w["kind"] for w in bot.status.fields["warnings"]}
    run_until(world, [bot], world.market_ms() + 6 * 900_000)
    assert len(world.client()._client.get_all_orders(symbol="BTCUSDT")) == orders
    assert bot.status.fields["checks_completed"] >= 7, "it goes on checking"
    assert mend(world) == ["book_sale"]


def test_a_bot_whose_coins_are_there_warns_of_nothing(world: World) -> None:
    one = world.bot(1, "BTCUSDT", Script(["BUY"]), "1000", protection="bot")
    two = world.bot(2, "BTCUSDT", Script(["BUY", "SELL", "BUY"]), "1000", protection="bot")
    assert one.start() and two.start()
    run_until(world, [one, two], world.market_ms() + 5 * 900_000)
    assert all("foreign" not in {w["kind"] for w in bot.status.fields["warnings"]} for bot in (one, two))
    assert ledger.compare(world.files, world.client()) == []
