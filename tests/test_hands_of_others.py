"""Hands of others on protected bots: each thing they do is explained, none ends in a loop, every way to mend it works.

On the real paper exchange in stepped time, the bots' stops lying there as pairs. Elsewhere:
tests/test_reconcile.py (unprotected bots), tests/test_hands.py (commands on the toy),
tests/test_protection.py (one pair taken away; seven bots on one coin).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bots import Script
from core.account import ledger
from core.bot import reconcile
from core.bot.trader import Trader
from core.model import OrderRequest, floor_to
from core.storage import dumps
from paper_fixed import FILTERS, FixedMarket
from stepped import World, run_until

D = Decimal
MINUTE = 60_000
FLAT = ("100", "100", "100", "100")
ROOMY = [f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"] + [{"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}]
CHECKS = 50


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    market = FixedMarket([FLAT] * 10, filters=ROOMY)
    made = World(tmp_path, opener=lambda _: market, RISK_INTERVAL="30", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
    made.step_to(market.first_ms + 9 * MINUTE + 2000)
    yield made
    made.close()


def begun(world: World, *signals: str) -> Trader:
    bot = world.bot(1, "BTCUSDT", Script(signals), "500", timeframe="1m", check_interval=60, offset=0, cooldown_checks=0)
    assert bot.start()
    return bot


def protected(world: World, *signals: str) -> Trader:
    """A bot that bought at its first check, its pair lying at the exchange."""
    bot = begun(world, "BUY", *signals)
    run_until(world, [bot], world.market_ms() + 6000)
    settle(world, bot)
    assert {(o.role, o.status) for o in bot.position.orders} == {("stop", "NEW"), ("target", "NEW")}
    return bot


def settle(world: World, bot: Trader) -> None:
    for _ in range(8):
        world.wall += 1000
        bot.step()


def checks(world: World, bot: Trader, count: int) -> None:
    wanted = bot.status.fields["checks_completed"] + count
    while bot.status.fields["checks_completed"] < wanted:
        run_until(world, [bot], (world.market_ms() // MINUTE + 1) * MINUTE + 3000)
        settle(world, bot)


def take_away_the_pair(world: World) -> None:
    client = world.client()
    client.cancel("BTCUSDT", client.open_orders("BTCUSDT")[0].client_id)
    assert client.open_orders("BTCUSDT") == []


def sell_by_hand(world: World, quantity: Decimal) -> None:
    client = world.client()
    client.place(OrderRequest("web_1", "BTCUSDT", "SELL", "MARKET", quantity=floor_to(quantity, D("0.0001"))))


def sent(world: World) -> int:
    """Orders of bots that the exchange took in."""
    return sum(not o["clientOrderId"].startswith("web_") for o in world.client()._client.get_all_orders(symbol="BTCUSDT", limit=1000))


def kinds(bot: Trader) -> set[str]:
    return {w["kind"] for w in bot.status.fields["warnings"]}


def warning(bot: Trader, kind: str) -> str:
    return str(next(w["text"] for w in bot.status.fields["warnings"] if w["kind"] == kind))


def mend(world: World, bot: Trader, choice: str, *signals: str) -> Trader:
    """Put it right in one of the ways there are; the bot that goes on."""
    if choice != "reconcile":
        folder = world.home / "data/commands/bot_1"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1.json").write_text(dumps({"schema": 1, "command": "mend", "by": "a test", "data": {"choice": choice}}))
        for _ in range(40):  # after exits that failed the bot keeps quiet for a minute of wall time at most
            if "last_command" in bot.status.fields:
                break
            world.wall += 2000
            bot.step()
        assert bot.status.fields["last_command"]["outcome"] == "done", bot.status.fields["last_command"]
    client = world.client()
    client.connect()
    found = reconcile.examine(world.files, client)
    assert choice == "reconcile" or all(p.bot_id is None for p in found.proposals), "the command has booked what concerns the bot"
    reconcile.apply(world.files, client, found.proposals, {"BTCUSDT": client.symbol("BTCUSDT")}, "test")
    return begun(world, *signals)


def agrees(world: World) -> None:
    client = world.client()
    client.connect()
    assert ledger.compare(world.files, client) == []


def trades_on(world: World, bot: Trader) -> None:
    """Out of what it holds, in again, protected again; books = wallet."""
    before = bot.position.totals.trades
    if bot.position.direction is None:
        bot.strategy.left[:] = []  # type: ignore[union-attr]
    else:
        bot.strategy.left[:] = ["SELL", "SELL"]  # type: ignore[union-attr]
        checks(world, bot, 2)
        assert bot.position.direction is None and bot.position.totals.trades == before + 1
        agrees(world)
    bot.strategy.left[:] = ["BUY"]  # type: ignore[union-attr]
    checks(world, bot, 2)
    settle(world, bot)
    assert bot.position.direction == "LONG" and bot.position.protection == "exchange"
    assert "foreign" not in kinds(bot)
    agrees(world)


WAYS = [("HOLD", "reconcile"), ("HOLD", "book"), ("HOLD", "close"), ("SELL", "book"), ("BUY", "reconcile")]


@pytest.mark.parametrize(("signal", "choice"), WAYS)
@pytest.mark.parametrize("sold", ["half", "all", "more"])
def test_a_sale_by_hand_is_explained_within_a_check_ends_in_no_loop_and_can_be_put_right(world: World, sold: str, signal: str, choice: str) -> None:
    if sold == "more":
        world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "3"})
    bot = protected(world, "HOLD", *[signal] * CHECKS)
    claim = bot.position.quantity
    take_away_the_pair(world)
    sell_by_hand(world, {"half": claim / 2, "all": claim, "more": claim + 1}[sold])
    before = sent(world)
    checks(world, bot, 1)
    if sold == "more":
        # Two coins of the owner's are left, of which nobody can say whose they were: what is missing is told all the same.
        assert claim - 2 > 0
    assert "are missing" in warning(bot, "foreign") and "Choose on the page" in warning(bot, "foreign")
    checks(world, bot, CHECKS)
    assert sent(world) - before <= 3, "one pair for what is left, or one sale of it"
    assert not bot.executor.unresolved
    bought = [f for f in world.client().fills("BTCUSDT") if f.side == "BUY"]
    assert len(bought) == 1, "nothing is bought while coins are missing"
    if bot.position.direction is None:
        choice = "reconcile"  # what was left is sold: only what the owner sold remains to be taken into the books
    trades_on(world, mend(world, bot, choice))


def test_a_deposit_and_a_withdrawal_change_nothing_and_are_acknowledged(world: World) -> None:
    bot = protected(world)
    position, before = bot.position, sent(world)
    world.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BTC", "amount": "2"})
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "USDT", "amount": "1000"})
    checks(world, bot, CHECKS)
    assert sent(world) == before and kinds(bot) == set()
    assert (bot.position.fills, bot.position.orders) == (position.fills, position.orders)
    client = world.client()
    client.connect()
    found = reconcile.examine(world.files, client)
    assert [(p.kind, p.asset, p.amount) for p in found.proposals] == [("acknowledge", "BTC", D(2)), ("acknowledge", "USDT", D(-1000))]
    assert all("take it into the books" in p.text for p in found.proposals)
    trades_on(world, mend(world, bot, "reconcile"))


@pytest.mark.parametrize("choice", ["reconcile", "book", "close"])
@pytest.mark.parametrize("signal", ["HOLD", "SELL"])
def test_coins_withdrawn_from_under_a_bot_are_told_and_written_off(world: World, signal: str, choice: str) -> None:
    bot = protected(world, "HOLD", *[signal] * CHECKS)
    take_away_the_pair(world)
    world.ask("POST", "/paper/accounts/paper/withdraw", {"asset": "BTC", "amount": "2"})
    before = sent(world)
    checks(world, bot, 1)
    assert "2 BTC are missing" in warning(bot, "foreign")
    checks(world, bot, CHECKS)
    assert sent(world) - before <= 3
    if bot.position.direction is None:
        choice = "reconcile"
    trades_on(world, mend(world, bot, choice))


def test_a_pair_that_somebody_cancels_again_and_again_is_placed_again_as_often_and_no_oftener(world: World) -> None:
    bot = protected(world)
    before = sent(world)
    for n in range(1, 11):
        take_away_the_pair(world)
        checks(world, bot, 1)
        assert {o.role for o in bot.position.orders} == {"stop", "target"}
        assert sent(world) - before == 2 * n
    told = [e for e in world.files.read_lines("data/events.jsonl") if "taken away" in e["text"]]
    assert len(told) == 10
    checks(world, bot, CHECKS)
    assert sent(world) - before == 20
    trades_on(world, bot)


@pytest.mark.parametrize("signal", ["HOLD", "SELL"])
def test_a_halted_symbol_is_told_its_position_kept_and_sold_when_trading_resumes(world: World, signal: str) -> None:
    bot = protected(world, *[signal] * CHECKS)
    halt(world, "BREAK")
    before = sent(world)
    checks(world, bot, CHECKS)
    assert bot.position.direction == "LONG"
    if signal == "SELL":
        assert "BTCUSDT can't be traded now (status BREAK)" in warning(bot, "exit")
    assert sent(world) - before <= 2, "the pair is put back once, after the refusal that told of the halt"
    halt(world, "TRADING")
    world.wall += 61_000  # a halted symbol is asked for again each minute
    trades_on(world, bot)
    assert "exit" not in kinds(bot)


def halt(world: World, status: str) -> None:
    """As Binance halts a symbol: its entry in exchangeInfo says so, and its orders at market are refused."""
    market = world.exchange.market
    entry = market.symbol("BTCUSDT")
    assert entry is not None
    entry["status"] = status
    world.exchange._entries.clear()


def test_a_siblings_stop_that_fired_unheard_is_no_alarm_until_half_a_minute_is_over(tmp_path: Path) -> None:
    low = ("97", "97", "97", "97")
    world = World(tmp_path, opener=lambda _: FixedMarket([FLAT] * 10 + [low] * 90, filters=ROOMY), RISK_INTERVAL="30", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
    try:
        world.step_to(world.market_ms() + 9 * MINUTE + 2000)
        plan = {"timeframe": "1m", "check_interval": 60, "offset": 0, "cooldown_checks": 0}
        gone = world.bot(1, "BTCUSDT", Script(("BUY",)), "500", **plan)
        bot = world.bot(2, "BTCUSDT", Script(("BUY",)), "500", **plan, stop_loss_pct=D(10))
        assert gone.start() and bot.start()
        run_until(world, [gone, bot], world.market_ms() + 6000)
        for _ in range(8):
            world.wall += 1000
            gone.step()
            bot.step()
        assert len(gone.position.orders) == 2 and len(bot.position.orders) == 2
        world.step_to(world.market_ms() + 3 * MINUTE)  # nobody steps the first bot: its stop fires unheard
        heard = world.wall
        while world.wall < heard + 25_000:
            bot.wallet.ask()
            bot.step()
            world.wall += 1000
            assert bot.wallet.problem == ""
        for _ in range(20):  # its process stays away, and so does the yard: now it is told
            bot.wallet.ask()
            bot.step()
            world.wall += 1000
        assert "missing" in bot.wallet.problem
        settle(world, gone)
        assert gone.position.direction is None
        bot.wallet.ask()
        settle(world, bot)
        assert bot.wallet.problem == "" and ledger.compare(world.files, world.client()) == []
    finally:
        world.close()
