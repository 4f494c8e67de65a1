"""A limit on spread and slippage before an entry at market: the pure function, on the toy, and on the paper exchange."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toy
from bots import Script, run_checks, trader
from core.bot.trader import Trader
from core.errors import InputError
from core.exchange import Book
from core.fleet import records
from core.market import liquidity
from core.model import Decision, Intent, OrderRequest
from paper_fixed import FILTERS, FixedMarket
from stepped import World, run_until

D = Decimal
SMALLEST = D("0.00000001")


def ladder(*steps: tuple[int, int]) -> list[liquidity.Level]:
    """Asks from 100 on: (ticks above the one before, quantity in thousandths)."""
    price, found = D(100), []
    for ticks, thousandths in steps:
        price += D(ticks) / 100
        found.append((price, D(thousandths) / 1000))
    return found


LADDERS = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 100_000)), min_size=1, max_size=30).map(lambda s: ladder(*s))
SIZES = st.decimals("0.001", "3000000", places=3)


@given(LADDERS, SIZES, st.booleans())
def test_an_average_lies_between_the_best_and_the_last_price_taken_or_the_book_is_too_thin(asks: list[liquidity.Level], size: Decimal, in_base: bool) -> None:
    total = sum((q if in_base else p * q for p, q in asks), D(0))
    average, held = liquidity.expected(asks, **{"base" if in_base else "quote": size})
    if size > total:
        assert average is None and held == total
    else:
        assert average is not None and held == size
        assert asks[0][0] <= average <= asks[-1][0]


@given(LADDERS, SIZES, SIZES)
def test_a_larger_size_never_gets_a_better_price(asks: list[liquidity.Level], one: Decimal, other: Decimal) -> None:
    less, more = (liquidity.expected(asks, quote=s)[0] for s in sorted((one, other)))
    assert less is not None or more is None
    if less is not None and more is not None:
        assert more >= less - SMALLEST


@given(LADDERS, st.integers(1, 100_000))
def test_a_size_in_coins_and_what_it_costs_in_quote_meet_the_same_average(asks: list[liquidity.Level], thousandths: int) -> None:
    average, _ = liquidity.expected(asks, base=D(thousandths) / 1000)
    if average is not None:
        again, _ = liquidity.expected(asks, quote=average * D(thousandths) / 1000 * (1 - D("1e-20")))
        assert again is not None and abs(again - average) < SMALLEST


@given(st.integers(1, 10_000), st.decimals("0.01", "50", places=2), st.integers(1, 3))
def test_one_tick_of_spread_each_side_is_always_allowed(price: int, limit: Decimal, tick: int) -> None:
    mid = D(price + 5)
    assert liquidity.within(D(2 * tick), mid, limit, D(tick))
    wider = D(2 * tick) + SMALLEST
    assert liquidity.within(wider, mid, limit, D(tick)) == (wider <= mid * limit / 100)


def test_a_sale_meets_the_bids_and_an_empty_side_is_no_market() -> None:
    bids, asks = [(D(99), D(1)), (D(98), D(1))], [(D(101), D(1))]
    found = liquidity.cost(bids, asks, "SELL", base=D(2))
    assert found is not None
    assert (found.best, found.average, found.spread_pct) == (D(99), D("98.5"), D(2))
    assert liquidity.cost([], asks, "BUY", base=D(1)) is None
    assert liquidity.cost(bids, [], "BUY", base=D(1)) is None
    with pytest.raises(ValueError, match="above 0"):
        liquidity.expected(asks, base=D(0))


# --- a bot on the toy ---------------------------------------------------------------


class Yard:
    def __init__(self, home: Path, signals: tuple[str, ...], **record: Any):
        self.clock = toy.StepClock()
        self.exchange = toy.ToyExchange(self.clock)
        self.exchange.closes = [D(100)] * 20
        self.bot: Trader = trader(home, self.clock, self.exchange, Script(signals), {"timeframe": "1m", "check_interval": 60, "offset": 0, **record})
        assert self.bot.start()

    def check(self, count: int = 1) -> dict[str, Any]:
        run_checks(self.bot, self.clock, count)
        return dict(self.bot.status.fields["last_check"])

    def warnings(self) -> list[str]:
        return [w["kind"] for w in self.bot.status.fields["warnings"]]


def book(bid: str, ask: str, quantity: str = "1000") -> Book:
    return Book(((D(bid), D(quantity)),), ((D(ask), D(quantity)),))


def test_a_wide_spread_keeps_a_bot_from_buying_until_it_is_narrow_again(tmp_path: Path) -> None:
    yard = Yard(tmp_path, ("BUY", "BUY", "BUY"))
    yard.exchange.shown = book("98.4", "101.6")
    told = yard.check()
    assert told["why_not"] == "the spread is 3.20 %, this bot's limit is 1 %: nothing was bought"
    assert yard.exchange.sent == [] and yard.warnings() == ["liquidity"]
    assert yard.check()["slot_ms"] - told["slot_ms"] == 60_000, "the slot counts as done: the next check asks again, not a loop"
    assert yard.exchange.sent == []
    yard.exchange.shown = book("99.6", "100.4")
    yard.check()
    assert yard.bot.position.direction == "LONG"
    assert yard.warnings() == []


def test_a_warning_of_the_book_goes_when_nothing_is_held_back_any_more(tmp_path: Path) -> None:
    yard = Yard(tmp_path, ("BUY", "HOLD"))
    yard.exchange.shown = book("90", "110")
    yard.check()
    assert yard.warnings() == ["liquidity"]
    yard.check()
    assert yard.warnings() == []


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (Book(((D("99.99"), D(1)),), ((D("100.01"), D(1)), (D("104.01"), D(10)))), "the slippage would be 3.20 %, this bot's limit is 1 %: nothing was bought"),
        (Book(((D("99.99"), D(1)),), ((D("100.01"), D(1)),)), "the book is too thin: it holds 1 of 5 BTC: nothing was bought"),
        (Book(((D("99.99"), D(1)),), ()), "the order book has an empty side, nobody sells BTC now: nothing was bought"),
        (Book((), ((D("100.01"), D(100)),)), "the order book has an empty side, nobody buys BTC now: nothing was bought"),
    ],
)
def test_a_thin_steep_or_empty_book_is_named_and_nothing_is_sent(tmp_path: Path, shown: Book, why: str) -> None:
    class Five(Script):
        manages_position = True

        def decide(self, view: Any, position: Any) -> Any:
            return Decision(signal="BUY", intents=(Intent("open", "BUY", size_base=D(5), role="entry"),))

    clock = toy.StepClock()
    exchange = toy.ToyExchange(clock)
    exchange.closes, exchange.shown = [D(100)] * 20, shown
    bot = trader(tmp_path, clock, exchange, Five(), {"timeframe": "1m", "check_interval": 60, "offset": 0})
    assert bot.start()
    run_checks(bot, clock, 1)
    assert bot.status.fields["last_check"]["why_not"] == why
    assert exchange.sent == []


def test_a_book_that_can_not_be_read_defers_only_the_entry(tmp_path: Path) -> None:
    yard = Yard(tmp_path, ("BUY",) * 50)
    yard.exchange.book_broken = True
    before = yard.clock.now
    for _ in range(10):
        yard.bot.step()
        yard.clock.wait(*yard.bot.deadlines())
    assert yard.exchange.sent == [] and "can't be read" in str(yard.bot.status.fields["warnings"])
    yard.exchange.book_broken = False
    yard.check()
    assert yard.bot.position.direction == "LONG" and yard.clock.now - before < 60_000, "tried again within the same slot"
    yard.exchange.book_broken = True
    yard.bot.strategy.left = ["SELL"]  # type: ignore[union-attr]
    yard.check()
    assert yard.bot.position.direction is None, "getting out asks for no book"


def test_a_stop_is_sold_into_any_book(tmp_path: Path) -> None:
    yard = Yard(tmp_path, ("BUY",))
    yard.check()
    yard.exchange.shown = Book((), ())
    yard.exchange.move("90")
    for _ in range(200):
        yard.bot.step()
        if yard.bot.position.direction is None:
            break
        yard.clock.wait(*yard.bot.deadlines())
    assert yard.bot.position.direction is None
    assert [r.side for r in yard.exchange.sent] == ["BUY", "SELL"]


def test_a_bots_own_limits_count_and_a_coarse_tick_blocks_no_coin(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    yard = Yard(tmp_path / "own", ("BUY",), max_spread_pct=D(4))
    yard.exchange.shown = book("98.4", "101.6")
    yard.check()
    assert yard.bot.position.direction == "LONG"
    (tmp_path / "coarse").mkdir()
    coarse = Yard(tmp_path / "coarse", ("BUY",))
    coarse.bot.listing.take(replace(coarse.bot.symbol, rules=replace(coarse.bot.symbol.rules, tick=D(2))))
    coarse.exchange.shown = book("98", "102")
    coarse.check()
    assert coarse.bot.position.direction == "LONG", "4 % of spread is two ticks here: no market can be narrower"


@pytest.mark.parametrize("field", ["max_spread_pct", "max_slippage_pct"])
def test_a_limit_must_lie_above_0_and_up_to_50_percent(field: str) -> None:
    assert records.check({field: "0.25"}, complete=False) == {field: D("0.25")}
    assert records.check({field: None}, complete=False) == {field: None}
    for wrong in (0, -1, 51, "wide"):
        with pytest.raises(InputError, match=field):
            records.check({field: wrong}, complete=False)


# --- on the paper exchange -------------------------------------------------------------


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[Any]:
    made: list[World] = []

    def make(**values: str) -> World:
        market = FixedMarket([("100", "110", "90", "100")] * 30, filters=FILTERS)
        made.append(World(tmp_path, opener=lambda _: market, CHECK_INTERVAL="60", KLINE_INTERVAL="1m", PAPER_BALANCE_USDT="10000000", **values))
        made[-1].step_to(market.first_ms + 9 * 60_000 + 2000)
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_the_paper_book_shows_what_a_market_order_of_any_size_then_pays(worlds: Any) -> None:
    world = worlds(PAPER_SLIPPAGE_PCT="0.5")
    client = world.client()
    client.connect()
    shown, last = client.book("BTCUSDT"), client.price("BTCUSDT")
    assert (shown.bids[0][0], shown.asks[0][0]) == (last - D("0.01"), last + D("0.01")), "the best prices stay a tick away"
    for side, size in (("BUY", D(50)), ("SELL", D(49))):
        found = liquidity.cost(shown.bids, shown.asks, side, base=size)
        assert found is not None and found.average is not None
        told = client.place(OrderRequest(f"size-{side}", "BTCUSDT", side, "MARKET", quantity=size))
        assert told.status == "FILLED"
        assert abs(told.fills[0].price - found.average) <= D("0.01")


@pytest.mark.parametrize(("slippage", "bought"), [("0", True), ("0.5", True), ("3", False)])
def test_a_bot_on_the_paper_exchange_keeps_to_its_limit_of_slippage(worlds: Any, slippage: str, bought: bool) -> None:
    world = worlds(PAPER_SLIPPAGE_PCT=slippage)
    bot = world.bot(1, "BTCUSDT", Script(("BUY",)), "5000", timeframe="1m", check_interval=60, offset=0)
    assert bot.start()
    run_until(world, [bot], world.market_ms() + 61_000)
    rows = list(world.files.read_lines("bot_1_decisions.jsonl"))
    if bought:
        assert [f["side"] for f in world.files.read_lines("bot_1_fills.jsonl")][:1] == ["BUY"]
    else:
        assert bot.position.direction is None and bot.position.next_order == 1
        assert any("the slippage would be" in r["why_not"] and "this bot's limit is 1 %" in r["why_not"] for r in rows)
