"""Fees in a third coin (BNB): profit counts what they were worth, the books count what they were.

And resting orders that the exchange has forgotten, as a testnet does that was reset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as proof
from hypothesis import strategies as st

import toy
from bots import Script, run_checks, trader
from core.account import ledger
from core.bot import fold
from core.bot.execution import FORGOTTEN_AFTER_MS, NOT_FOUND_IN_A_ROW
from core.bot.journal import Journal, fill_row
from core.bot.position import from_json, to_json
from core.bot.trader import Trader
from core.dash import trades
from core.errors import OrderNotFound, Unavailable
from core.exchange import Capabilities
from core.model import Fill, Order, OrderRequest, Position, Update, Venue
from core.storage import Files, dumps, loads
from paper_fixed import FILTERS, FixedMarket
from stepped import World, run_until

D = Decimal
BNB = D(500)
RISING = [("100", "100", "100", "100")] * 11 + [("100", "104", "100", "104")] * 3


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    market = FixedMarket(list(RISING), bnb=str(BNB), filters=[f for f in FILTERS if f["filterType"] != "MAX_NUM_ORDERS"])
    made = World(tmp_path, opener=lambda _: market, CHECK_INTERVAL="60", KLINE_INTERVAL="1m", RISK_INTERVAL="60")
    made.step_to(market.first_ms + 9 * 60_000 + 2000)
    made.ask("POST", "/paper/accounts/paper/deposit", {"asset": "BNB", "amount": "1"})
    made.ask("POST", "/paper/accounts/paper/bnb_fees", {"enabled": True})
    yield made
    made.close()


def traded(world: World) -> Trader:
    """A bot that has bought, waited and sold."""
    bot = world.bot(1, "BTCUSDT", Script(["BUY", "HOLD", "HOLD", "SELL"]), "500", timeframe="1m", check_interval=60, offset=0, protection="bot")
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 5 * 60_000)
    assert bot.position.totals.trades == 1
    return bot


def test_a_trade_whose_fees_were_taken_in_bnb_tells_the_profit_after_them(world: World) -> None:
    bot = traded(world)
    rows = list(world.files.read_lines("bot_1_fills.jsonl"))
    assert [r["fee_asset"] for r in rows] == ["BNB", "BNB"]
    assert [r["fee_quote"] for r in rows] == [r["fee"] * BNB for r in rows]
    bought, sold = rows
    fees = D(bought["fee"] + sold["fee"]) * BNB
    assert fees == pytest.approx((bought["quote"] + sold["quote"]) * D("0.00075"), abs=D("0.0001"))
    assert bot.position.totals.profit == sold["quote"] - bought["quote"] - fees
    page = trades.trades(rows, None)
    assert [t["profit"] for t in page] == [bot.position.totals.profit]
    client = world.client()
    client.connect()
    assert ledger.compare(world.files, client) == []
    moved = ledger.movements(world.files, client.venue)
    assert moved["USDT"] - fees == bot.position.totals.profit, "profits add up to cash less what went in the third coin"
    assert not bot.status.fields["warnings"]


@pytest.mark.parametrize("path", ["/api/v3/ticker/price", "/api/v3/exchangeInfo"])
def test_a_price_that_cant_be_read_keeps_no_fill_from_the_books_and_is_told(world: World, path: str) -> None:
    bot = world.bot(1, "BTCUSDT", Script(["BUY"]), "500", timeframe="1m", check_interval=60, offset=0, protection="bot")
    assert bot.start()
    real = bot.exchange.value

    def struck(asset: str, quote: str) -> Decimal | None:
        world.ask("POST", "/paper/faults", {"method": "GET", "path": path, "fault": "error", "times": None})
        try:
            return real(asset, quote)
        finally:
            world.ask("DELETE", "/paper/faults")

    bot.exchange.value = struck  # type: ignore[method-assign]
    run_until(world, [bot], world.market_ms() + 1000)
    assert bot.position.direction == "LONG"
    assert [f.fee_quote for f in bot.position.fills] == [None]
    assert [w["kind"] for w in bot.status.fields["warnings"]] == ["fee"]
    assert "BNB could not be valued in USDT" in bot.status.fields["warnings"][0]["text"]
    client = world.client()
    client.connect()
    assert ledger.compare(world.files, client) == []


def test_an_asset_without_a_pair_has_no_value_and_one_with_a_pair_has_its_price(world: World) -> None:
    client = world.client()
    client.connect()
    assert client.value("BNB", "USDT") == BNB
    assert client.value("DOGE", "USDT") is None
    assert client.value("BTCU", "SDT") is None, "the text of a pair is no proof of what it trades"


def test_files_of_before_without_the_field_are_read_and_those_with_it_come_back_the_same(world: World) -> None:
    bot = world.bot(1, "BTCUSDT", Script(["BUY"]), "500", timeframe="1m", check_interval=60, offset=0, protection="bot")
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 1000)
    held = bot.position
    assert held.fills[0].fee_quote is not None
    value = loads(dumps(to_json(held)))
    assert from_json(value) == held
    for row in (*value["fills"], *value["unjournaled"]):
        del row["fee_quote"]
    assert from_json(value).fills == tuple(replace(f, fee_quote=None) for f in held.fills)
    row = loads(dumps(fill_row(held, held.fills[0])))
    del row["fee_quote"]
    assert trades.cash([row]) == -held.fills[0].quote


VENUE = Venue("binance", "spot", "main", "paper", "x")
fees = st.sampled_from(["BTC", "USDT", "BNB"])
amounts = st.integers(1, 10**6).map(lambda n: D(n) / 1000)


@st.composite
def some_fills(draw: st.DrawFn) -> tuple[Fill, ...]:
    made = []
    for n in range(draw(st.integers(1, 6))):
        side = "BUY" if n == 0 or draw(st.booleans()) else "SELL"
        price, quantity = draw(amounts), draw(amounts)
        own = Fill(str(n), "7", "a" if side == "BUY" else "b", "BTCUSDT", side, price, quantity, price * quantity, draw(amounts) / 1000, draw(fees), n)  # type: ignore[arg-type]
        third = own.fee_asset == "BNB" and draw(st.booleans())
        made.append(replace(own, fee_quote=draw(amounts) if third else None))
    return tuple(made)


@given(some_fills())
@proof(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_the_books_are_the_same_with_and_without_the_worth_of_a_fee(tmp_path_factory: pytest.TempPathFactory, fills: tuple[Fill, ...]) -> None:
    told = []
    for kept in (fills, tuple(replace(f, fee_quote=None) for f in fills)):
        files = Files(tmp_path_factory.mktemp("books"))
        position = Position(1, VENUE, "BTCUSDT", "BTC", "USDT", direction="LONG", fills=kept)
        Journal(files, 1).append_fills(position, kept)
        told.append((ledger.movements(files, VENUE), position.owned))
        assert trades.cash(files.read_lines("bot_1_fills.jsonl")) == position.cash
    assert told[0] == told[1]
    worth = sum((f.fee_quote or D(0) for f in fills), D(0))
    assert Position(1, VENUE, "BTCUSDT", "BTC", "USDT", fills=fills).cash == told[0][0].get("USDT", D(0)) - worth


def test_a_fill_told_twice_keeps_the_worth_that_its_fee_had_when_it_was_booked() -> None:
    order = Order(OrderRequest("a", "BTCUSDT", "BUY", "MARKET", D(1)), "entry")
    start = fold.begin(Position(1, VENUE, "BTCUSDT", "BTC", "USDT"), order)
    own = Fill("1", "7", "a", "BTCUSDT", "BUY", D(100), D(1), D(100), D("0.001"), "BNB", 1, fee_quote=D("0.5"))
    half = fold.tell(start, Update("a", "PARTIALLY_FILLED", "7", D(1), fills=(own,)), 5)
    assert fold.tell(half, Update("a", "PARTIALLY_FILLED", "7", D(1), fills=(replace(own, fee_quote=D(9)),)), 6).fills == half.fills


# --- orders that the exchange has forgotten ------------------------------------------------


@pytest.fixture
def clock() -> toy.StepClock:
    return toy.StepClock()


class Forgetful(toy.ToyExchange):
    """A toy that can hold pairs, count what it is asked, and forget all orders as a reset testnet does."""

    def __init__(self, clock: toy.StepClock):
        super().__init__(clock)
        self.capabilities = Capabilities(quote_sized=False, client_id_unique="forever", protection=True)
        self.closes = [D(100)] * 120
        self.asked = 0
        self.forgot = self.lists_them = self.fails = False

    def order(self, symbol: str, client_id: str) -> Update:
        self.asked += 1
        if self.fails:
            self.fails = False
            raise Unavailable("a lapse")
        if self.forgot:
            raise OrderNotFound("Order does not exist.")
        return super().order(symbol, client_id)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return super().open_orders(symbol) if not self.forgot or self.lists_them else []

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        self.forgot = False  # what is new is known
        return super().place_pair(target, stop, list_id, latest_ms)

    def forget(self) -> None:
        """All open orders are gone, and their coins are free again."""
        for client_id in [u.client_id for u in super().open_orders()]:
            self._end(client_id, "CANCELED")
            self._drop_pair(client_id, "CANCELED")
        self.forgot = True


def protected(home: Path, clock: toy.StepClock) -> tuple[Trader, Forgetful]:
    exchange = Forgetful(clock)
    bot = trader(home, clock, exchange, Script(["BUY"]))
    assert bot.start()
    run_checks(bot, clock, 1)
    for _ in range(6):
        bot.step()
        clock.now += 2000
    assert {(o.role, o.status) for o in bot.position.orders} == {("stop", "NEW"), ("target", "NEW")}
    return bot, exchange


def run_for(bot: Trader, clock: toy.StepClock, ms: int) -> None:
    end = clock.now + ms
    while clock.now < end:
        bot.step()
        clock.now += 1000
    bot.step()


def told(home: Path, what: str) -> int:
    path = home / "data/events.jsonl"
    return sum(what in json.loads(line)["text"] for line in path.read_text().splitlines()) if path.exists() else 0


def test_a_pair_that_the_exchange_has_forgotten_is_given_up_after_a_minute_told_and_placed_again(tmp_path: Path, clock: toy.StepClock) -> None:
    bot, exchange = protected(tmp_path, clock)
    first = {o.client_id for o in bot.position.orders}
    exchange.forget()
    run_for(bot, clock, FORGOTTEN_AFTER_MS - 3000)
    assert {o.client_id for o in bot.position.orders} == first, "not before a minute has passed"
    run_for(bot, clock, 10_000)
    now = {o.client_id for o in bot.position.orders}
    assert {o.role for o in bot.position.orders} == {"stop", "target"} and first.isdisjoint(now)
    warning = next(w["text"] for w in bot.status.fields["warnings"] if w["kind"] == "forgotten")
    assert "no longer knows order" in warning and "was the testnet reset?" in warning
    assert told(tmp_path, "was the testnet reset?") == 2, "each of the two orders, once"
    events = [json.loads(line) for line in (tmp_path / "data/events.jsonl").read_text().splitlines()]
    assert {e["severity"] for e in events if e["kind"] == "forgotten"} == {"risk"}
    run_for(bot, clock, 2 * FORGOTTEN_AFTER_MS)
    assert {o.client_id for o in bot.position.orders} == now
    assert len([r for r in exchange.sent if r.side == "SELL"]) == 4, "two pairs, no more"


@pytest.mark.parametrize("how", ["still listed", "still found at the end", "its fills are there"])
def test_an_order_of_which_anything_else_still_tells_is_kept(tmp_path: Path, clock: toy.StepClock, how: str) -> None:
    bot, exchange = protected(tmp_path, clock)
    kept = bot.position.orders
    exchange.forgot = True  # the questions fail; the orders themselves stand
    if how == "still listed":
        exchange.lists_them = True
    elif how == "its fills are there":
        stop = next(o for o in kept if o.role == "stop")
        exchange.trades.append(replace(exchange.trades[0], trade_id="9", order_id=stop.order_id, client_id=stop.client_id, side="SELL"))
    else:
        sure = exchange.open_orders

        def found_again(symbol: str | None = None) -> list[Update]:
            exchange.forgot = False
            listed = sure(symbol)
            return [] if len(listed) else listed

        exchange.open_orders = found_again  # type: ignore[method-assign]
    run_for(bot, clock, 3 * FORGOTTEN_AFTER_MS)
    stop = next(o for o in bot.position.orders if o.role == "stop")
    assert stop.client_id in {o.client_id for o in kept}
    assert told(tmp_path, "no longer knows order " + stop.client_id) == 0


def test_a_question_that_fails_otherwise_begins_the_count_anew(tmp_path: Path, clock: toy.StepClock) -> None:
    bot, exchange = protected(tmp_path, clock)
    first = {o.client_id for o in bot.position.orders}
    exchange.forget()
    run_for(bot, clock, FORGOTTEN_AFTER_MS - 6000)
    exchange.fails = True
    run_for(bot, clock, FORGOTTEN_AFTER_MS - 6000)
    assert {o.client_id for o in bot.position.orders} == first
    run_for(bot, clock, 15_000)
    assert first.isdisjoint(o.client_id for o in bot.position.orders)


def test_a_restart_begins_the_count_anew_and_asks_at_least_so_often(tmp_path: Path, clock: toy.StepClock) -> None:
    bot, exchange = protected(tmp_path, clock)
    first = {o.client_id for o in bot.position.orders}
    exchange.forget()
    run_for(bot, clock, FORGOTTEN_AFTER_MS - 6000)
    again = trader(tmp_path, clock, exchange, Script([]))
    assert again.start()
    exchange.asked = 0
    run_for(again, clock, FORGOTTEN_AFTER_MS - 6000)
    assert {o.client_id for o in again.position.orders} == first
    run_for(again, clock, 15_000)
    assert first.isdisjoint(o.client_id for o in again.position.orders)
    assert exchange.asked >= NOT_FOUND_IN_A_ROW


def test_with_its_coins_gone_too_the_bot_says_both_and_sends_nothing_in_a_loop(tmp_path: Path, clock: toy.StepClock) -> None:
    """The testnet gave the account fresh balances: neither the orders nor the coins are there."""
    bot, exchange = protected(tmp_path, clock)
    exchange.forget()
    exchange.wallet["BTC"] = [D(0), D(0)]
    sent = len(exchange.sent)
    run_checks(bot, clock, 3)
    run_for(bot, clock, 3 * FORGOTTEN_AFTER_MS)
    kinds = {w["kind"] for w in bot.status.fields["warnings"]}
    assert {"forgotten", "foreign"} <= kinds
    run_checks(bot, clock, 10, limit=6000)
    assert len(exchange.sent) - sent <= 2 * 14, "one pair at most is tried after each check"
