"""What every form of exchange must do. Whoever adds one adds it to FORMS and passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

import toy
from core.account.shared import Shared
from core.account.shared_exchange import SharedExchange
from core.errors import ExchangeError, NotFound, OrderNotFound, OutcomeUnknown, Refused, Unavailable
from core.exchange import Exchange
from core.model import TERMINAL, OrderRequest, Venue
from stepped import World

D = Decimal


@dataclass
class Form:
    """One form under test: the exchange, a symbol of it, and how to break its line."""

    exchange: Exchange
    symbol: str
    lose_answer: Callable[[], None]
    lose_request: Callable[[], None]
    silence: Callable[[], None]


def toy_form(tmp_path: Path) -> Iterator[Form]:
    clock = toy.StepClock()
    made = toy.ToyExchange(clock)
    made.closes = [D(100)] * 20

    def lose(how: str) -> None:
        made.lose = how

    yield Form(made, "BTC/USD", lambda: lose("after"), lambda: lose("before"), lambda: setattr(made, "broken", True))


def binance_form(tmp_path: Path, **values: str) -> Iterator[Form]:
    world = World(tmp_path, PAPER_START="2024-03-01", **values)
    client = world.client()
    client.connect()

    def fault(name: str, path: str, method: str = "POST", times: int | None = 1) -> None:
        world.ask("POST", "/paper/faults", {"method": method, "path": path, "fault": name, "times": times})

    def silence() -> None:
        fault("drop_before", "/api/v3/ticker/price", "GET", None)

    yield Form(client, "BTCUSDT", lambda: fault("drop_after", "/api/v3/order"), lambda: fault("drop_before", "/api/v3/order"), silence)
    world.close()


def shared_form(tmp_path: Path) -> Iterator[Form]:
    """What a bot is given: the same, with reads that it shares with others."""
    for form in binance_form(tmp_path, PAPER_SPEED="1"):
        exchange = SharedExchange(form.exchange, Shared(tmp_path / "shared.db", sleep=lambda _: None))
        exchange.connect()
        exchange.time()
        yield replace(form, exchange=exchange)


FORMS = {"toy": toy_form, "binance on paper": binance_form, "binance on paper, shared": shared_form}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Form]:
    yield from FORMS[request.param](tmp_path)


def market_buy(form: Form, client_id: str = "conformance-1", cash: str = "100") -> OrderRequest:
    symbol = form.exchange.symbol(form.symbol)
    step = symbol.rules.step
    quantity = (D(cash) / form.exchange.price(form.symbol) / step).to_integral_value() * step
    return OrderRequest(client_id, form.symbol, "BUY", "MARKET", quantity=quantity)


def resting_buy(form: Form, client_id: str = "conformance-2") -> OrderRequest:
    symbol = form.exchange.symbol(form.symbol)
    tick, step = symbol.rules.tick, symbol.rules.step
    price = (form.exchange.price(form.symbol) * D("0.9") / tick).to_integral_value() * tick
    quantity = (D(100) / price / step).to_integral_value() * step
    return OrderRequest(client_id, form.symbol, "BUY", "LIMIT", quantity=quantity, price=price, life="GTC")


def test_it_says_what_venue_it_is_and_what_it_can_do(form: Form) -> None:
    assert isinstance(form.exchange.venue, Venue)
    assert {"MARKET", "LIMIT"} <= form.exchange.capabilities.order_kinds


def test_a_symbol_comes_with_its_assets_and_rules(form: Form) -> None:
    symbol = form.exchange.symbol(form.symbol)
    assert symbol.name == form.symbol
    assert symbol.base == "BTC"
    assert symbol.tradeable
    assert symbol.rules.tick > 0 and symbol.rules.step > 0 and symbol.rules.min_notional > 0
    assert form.symbol in {s.name for s in form.exchange.symbols()}


def test_an_unknown_symbol_is_not_found(form: Form) -> None:
    with pytest.raises(NotFound):
        form.exchange.symbol("NOSUCH")


def test_candles_come_oldest_first_as_twelve_fields_with_the_open_one_last(form: Form) -> None:
    found = form.exchange.candles(form.symbol, "5m", 10)
    assert len(found) == 10
    times = [int(r[0]) for r in found.rows]
    assert times == sorted(times)
    assert all(len(r) == 12 and D(r[3]) <= D(r[1]) <= D(r[2]) for r in found.rows)
    now = form.exchange.time().market_ms
    assert int(found.rows[-1][6]) >= now
    assert all(int(r[6]) < now for r in found.closed_before(now).rows)


def test_price_and_balances_are_exact_decimals(form: Form) -> None:
    assert isinstance(form.exchange.price(form.symbol), Decimal)
    quote = form.exchange.symbol(form.symbol).quote
    balance = form.exchange.balances()[quote]
    assert isinstance(balance.free, Decimal) and balance.total == balance.free + balance.locked > 0


def test_the_book_shows_exact_levels_the_best_first_around_the_last_price(form: Form) -> None:
    book, last = form.exchange.book(form.symbol, 5), form.exchange.price(form.symbol)
    assert 1 <= len(book.bids) <= 5 and 1 <= len(book.asks) <= 5
    assert all(isinstance(v, Decimal) and v > 0 for level in (*book.bids, *book.asks) for v in level)
    assert [p for p, _ in book.bids] == sorted((p for p, _ in book.bids), reverse=True)
    assert [p for p, _ in book.asks] == sorted(p for p, _ in book.asks)
    assert book.bids[0][0] <= last <= book.asks[0][0]
    assert book.bids[0][0] < book.asks[0][0]


def test_a_market_order_is_told_with_its_fills_and_the_wallet_agrees(form: Form) -> None:
    before = form.exchange.balances()
    quote = form.exchange.symbol(form.symbol).quote
    request = market_buy(form)
    told = form.exchange.place(request)
    assert told.status == "FILLED"
    assert told.client_id == request.client_id
    assert told.executed == request.quantity == sum(f.quantity for f in told.fills)
    after = form.exchange.balances()
    assert after[quote].free == before[quote].free - sum(f.quote for f in told.fills)
    received = sum(f.quantity - (f.fee if f.fee_asset == "BTC" else 0) for f in told.fills)
    assert after["BTC"].free == (before["BTC"].free if "BTC" in before else 0) + received
    asked = form.exchange.order(form.symbol, request.client_id)
    assert (asked.status, asked.executed, asked.order_id) == (told.status, told.executed, told.order_id)
    booked = form.exchange.fills(form.symbol, order_id=told.order_id)
    assert [(f.trade_id, f.quantity, f.quote, f.fee, f.fee_asset) for f in booked] == [
        (f.trade_id, f.quantity, f.quote, f.fee, f.fee_asset) for f in told.fills
    ]


def test_more_than_the_wallet_holds_is_refused_and_changes_nothing(form: Form) -> None:
    before = form.exchange.balances()
    with pytest.raises(Refused):
        form.exchange.place(market_buy(form, cash="100000000"))
    assert form.exchange.balances() == before


def test_a_resting_order_is_listed_until_it_is_cancelled(form: Form) -> None:
    request = resting_buy(form)
    assert form.exchange.place(request).status == "NEW"
    listed = form.exchange.open_orders(form.symbol)
    assert [u.client_id for u in listed] == [request.client_id]
    asked = listed[0].request
    assert asked is not None, "it tells what was asked for: the order may be anyone's"
    assert (asked.side, asked.kind, asked.price, asked.quantity) == (request.side, request.kind, request.price, request.quantity)
    quote = form.exchange.symbol(form.symbol).quote
    assert form.exchange.balances()[quote].locked > 0
    gone = form.exchange.cancel(form.symbol, request.client_id)
    assert (gone.client_id, gone.status) == (request.client_id, "CANCELED")
    assert form.exchange.open_orders(form.symbol) == []
    assert form.exchange.balances()[quote].locked == 0
    with pytest.raises(OrderNotFound):
        form.exchange.cancel(form.symbol, request.client_id)


def test_an_unknown_order_is_not_found(form: Form) -> None:
    with pytest.raises(OrderNotFound):
        form.exchange.order(form.symbol, "never-sent")


def test_a_lost_answer_is_an_unknown_outcome_and_the_order_is_found_by_its_id(form: Form) -> None:
    request = market_buy(form)
    form.lose_answer()
    with pytest.raises(OutcomeUnknown):
        form.exchange.place(request)
    found = form.exchange.order(form.symbol, request.client_id)
    assert found.status in TERMINAL
    assert found.executed == request.quantity


def test_a_request_that_may_not_have_arrived_is_an_unknown_outcome_too(form: Form) -> None:
    request = market_buy(form)
    form.lose_request()
    with pytest.raises(OutcomeUnknown):
        form.exchange.place(request)
    with pytest.raises(OrderNotFound):
        form.exchange.order(form.symbol, request.client_id)


def test_a_read_that_fails_says_that_it_is_unavailable(form: Form) -> None:
    form.silence()
    with pytest.raises(Unavailable):
        form.exchange.price(form.symbol)


def test_an_order_type_that_it_does_not_take_is_refused_by_name(form: Form) -> None:
    request = OrderRequest("conformance-3", form.symbol, "SELL", "TRAILING_STOP", quantity=D(1))
    with pytest.raises(ExchangeError):
        form.exchange.place(request)


def test_the_orders_of_the_past_are_listed_whatever_became_of_them_with_what_was_asked_for(form: Form) -> None:
    began = form.exchange.time().market_ms
    bought, rested = market_buy(form, "conformance-4"), resting_buy(form, "conformance-5")
    form.exchange.place(bought)
    form.exchange.place(rested)
    form.exchange.cancel(form.symbol, rested.client_id)
    told = form.exchange.orders_since(form.symbol, began)
    assert [(u.client_id, u.status, u.executed) for u in told] == [("conformance-4", "FILLED", bought.quantity), ("conformance-5", "CANCELED", D(0))]
    assert [(u.request.side, u.request.kind, u.request.quantity, u.request.price, u.request.life) for u in told if u.request] == [
        ("BUY", "MARKET", bought.quantity, None, None),
        ("BUY", "LIMIT", rested.quantity, rested.price, "GTC"),
    ]
    assert all(u.created_ms >= began and u.order_id and u.fills == () for u in told)
    assert form.exchange.orders_since(form.symbol, None) == told
    assert form.exchange.orders_since(form.symbol, began - 3 * 86_400_000) == told
    assert form.exchange.orders_since(form.symbol, form.exchange.time().market_ms + 1) == []
