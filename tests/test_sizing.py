"""Sizes as properties: what is bought can be sold again, and no more is sold than is owned."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import hypothesis.strategies as st
from hypothesis import given

from core.bot.decisions import Plan, entry_budget
from core.market import sizing
from core.market.fees import floor8
from core.market.filters import violation
from core.model import ZERO, Rules, Symbol, ceil_to, floor_to
from test_fold import flat

D = Decimal
powers = st.integers(-8, 1).map(lambda n: D(1).scaleb(n))


@st.composite
def symbols(draw: st.DrawFn) -> tuple[Symbol, Decimal]:
    """A symbol with rules as exchanges have them, and a price on its tick."""
    tick, step = draw(powers), draw(powers)
    market_step = draw(st.sampled_from([ZERO, step, step * 10]))
    price = tick * draw(st.integers(1, 10**6))
    rules = Rules(
        tick=tick,
        step=step,
        min_quantity=step * draw(st.integers(1, 100)),
        max_quantity=step * draw(st.integers(10**6, 10**9)),
        market_step=market_step,
        market_min_quantity=market_step * draw(st.integers(0, 10)),
        market_max_quantity=draw(st.sampled_from([ZERO, step * 10**7])),
        min_notional=draw(st.sampled_from([D("0.0001"), D(1), D(5), D(10), D(100)])),
    )
    return Symbol("X", "B", "Q", True, rules), price


percents = st.integers(0, 990).map(lambda n: D(n) / 10)
quantities = st.integers(0, 10**16).map(lambda n: D(n).scaleb(-8))


@given(symbols(), percents, st.sampled_from([D(0), D("0.0005"), D("0.001")]))
def test_the_smallest_entry_can_be_sold_at_its_stop_after_the_fee(market: tuple[Symbol, Decimal], stop_pct: Decimal, fee: Decimal) -> None:
    symbol, price = market
    rules = symbol.rules
    stop = sizing.level(price, stop_pct, rules, above=False) if stop_pct else price
    entry = sizing.smallest_entry(symbol, price, stop_pct or None)
    if stop <= 0:
        assert entry > sizing.NO_MAXIMUM, "what can't be protected is not bought"
        return
    bought = floor_to(entry / price, sizing.quantity_step(rules))
    left = bought - ceil_to(bought * fee, D("0.00000001"))
    sale = sizing.sellable(left, stop, rules)
    top = sizing.maximum_quantity(rules)
    if top is not None and (floor_to(top, sizing.quantity_step(rules)) < sizing.minimum_quantity(rules) or top * stop < rules.min_notional):
        return  # a symbol whose own rules leave nothing that could be traded
    assert sale > 0
    assert violation(rules, "SELL", "MARKET", sale, None, stop, stop) is None


@given(symbols(), quantities, st.booleans())
def test_what_is_sold_is_owned_lies_on_the_step_and_above_the_minimums(market: tuple[Symbol, Decimal], owned: Decimal, at_market: bool) -> None:
    symbol, price = market
    rules = symbol.rules
    sale = sizing.sellable(owned, price, rules, at_market)
    assert ZERO <= sale <= owned
    if sale:
        assert sale % sizing.quantity_step(rules, at_market) == 0
        assert sale >= sizing.minimum_quantity(rules, at_market)
        assert sale * price >= rules.min_notional
        assert violation(rules, "SELL", "MARKET" if at_market else "LIMIT", sale, None, price, price) is None


@given(symbols(), quantities)
def test_a_sale_in_parts_ends_with_less_than_can_be_sold(market: tuple[Symbol, Decimal], owned: Decimal) -> None:
    symbol, price = market
    for _ in range(2000):
        sale = sizing.sellable(owned, price, symbol.rules)
        if not sale:
            break
        owned -= sale
        if sale * 1000 < owned:
            return  # a maximum far below what is owned: many parts
    assert owned >= 0
    assert sizing.sellable(owned, price, symbol.rules) == 0


@given(symbols(), quantities)
def test_a_size_in_quote_never_costs_more_than_it_says(market: tuple[Symbol, Decimal], quote: Decimal) -> None:
    symbol, price = market
    assert floor8(sizing.quantity_for(quote, price, symbol.rules) * price) <= quote


@given(symbols(), percents)
def test_levels_lie_on_the_tick_and_on_their_side(market: tuple[Symbol, Decimal], percent: Decimal) -> None:
    symbol, price = market
    below, above = (sizing.level(price, percent, symbol.rules, above=a) for a in (False, True))
    assert below % symbol.rules.tick == above % symbol.rules.tick == 0
    assert below <= price <= above


@given(symbols(), st.integers(-100, 100))
def test_the_largest_entry_stays_within_what_one_order_may_buy_and_sell_also_where_the_price_moves_a_little(market: tuple[Symbol, Decimal], moved: int) -> None:
    symbol, price = market
    top = sizing.maximum_quantity(symbol.rules)
    assert top is not None
    filled_at = price * (1 + D(moved) / 10_000)
    assert sizing.largest_entry(symbol, price) / filled_at < top


def test_a_pot_above_what_one_order_may_buy_buys_that_much() -> None:
    rules = Rules(tick=D("0.01"), step=D("0.1"), min_quantity=D("0.1"), max_quantity=D(1000), market_max_quantity=D(50), min_notional=D(5))
    symbol = Symbol("X", "B", "Q", True, rules)
    assert entry_budget(Plan(D(200)), flat(), symbol, D(10), D(5000)) == (D(200), "")
    assert entry_budget(Plan(D(2000)), flat(), symbol, D(10), D(5000)) == (D(490), "")
    tiny = Symbol("X", "B", "Q", True, replace(rules, market_max_quantity=D("0.4")))
    assert entry_budget(Plan(D(2000)), flat(), tiny, D(10), D(5000))[0] == 0


def test_a_price_of_one_tick_has_no_stop_and_is_not_entered() -> None:
    rules = Rules(tick=D("0.00000001"), step=D(1), min_quantity=D(1), max_quantity=D(10**9), min_notional=D("0.0001"))
    symbol = Symbol("X", "B", "Q", True, rules)
    assert sizing.level(D("0.00000001"), D(2), rules, above=False) == 0
    assert sizing.smallest_entry(symbol, D("0.00000001"), D(2)) > sizing.NO_MAXIMUM
