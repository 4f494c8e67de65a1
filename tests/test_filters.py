"""The exchange's filters and fees, as pure functions."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.market import fees, filters
from core.model import Rules
from paper_fixed import FILTERS, FIXTURES

RULES = Rules.from_binance(FILTERS)


def broken(side="BUY", kind="LIMIT", quantity="1", price="100", average="100", last="100", rules=RULES, **more):
    return filters.violation(rules, side, kind, D(quantity), None if price is None else D(price), None if average is None else D(average), D(last), **more)


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ({}, None),
        ({"price": "100.005"}, "PRICE_FILTER"),
        ({"price": "0.001"}, "PRICE_FILTER"),
        ({"price": "1000000.01"}, "PRICE_FILTER"),
        ({"stop_price": D("100.001")}, "PRICE_FILTER"),
        ({"price": "200.01"}, "PERCENT_PRICE_BY_SIDE"),
        ({"price": "200"}, None),
        ({"price": "49.99"}, "PERCENT_PRICE_BY_SIDE"),
        ({"price": "49.99", "side": "SELL"}, "PERCENT_PRICE_BY_SIDE"),
        ({"price": "200.01", "average": None, "last": "101"}, None),
        ({"quantity": "0.00005"}, "LOT_SIZE"),
        ({"quantity": "1.00005"}, "LOT_SIZE"),
        ({"quantity": "9000.0001"}, "LOT_SIZE"),
        ({"iceberg": D("0.00015")}, "LOT_SIZE"),
        ({"iceberg": D("0.0999")}, "ICEBERG_PARTS"),
        ({"iceberg": D("0.1")}, None),
        ({"kind": "MARKET", "price": None, "quantity": "140.0001"}, "MARKET_LOT_SIZE"),
        ({"quantity": "140.0001"}, None),
        ({"quantity": "0.0499"}, "NOTIONAL"),
        ({"quantity": "0.05"}, None),
        ({"kind": "MARKET", "price": None, "quantity": "0.0499"}, "NOTIONAL"),
        ({"kind": "MARKET", "price": None, "quantity": "0.0499", "average": "101"}, None),
        ({"kind": "MARKET", "price": None, "quantity": "0.04", "notional": D(5)}, None),
        ({"quantity": "9000", "price": "150", "average": "1000"}, "PERCENT_PRICE_BY_SIDE"),
        ({"quantity": "9000", "price": "1500", "average": "1000", "last": "1000"}, "NOTIONAL"),
    ],
)
def test_an_order_is_held_to_each_filter_and_the_first_broken_one_is_named(order, name):
    assert broken(**order) == name


def test_old_style_filters_are_held_to_as_well():
    old = Rules.from_binance(
        [
            {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "avgPriceMins": 5},
            {"filterType": "MIN_NOTIONAL", "minNotional": "10.00000000", "applyToMarket": False, "avgPriceMins": 0},
        ]
    )
    assert broken(rules=old, price="501") == "PERCENT_PRICE"
    assert broken(rules=old, quantity="0.09") == "MIN_NOTIONAL"
    assert broken(rules=old, quantity="0.09", price=None, kind="MARKET") is None


def test_a_stop_at_market_is_worth_its_stop_price_and_held_to_the_market_lots():
    assert broken(side="SELL", kind="STOP_LOSS", quantity="0.05", price=None, stop_price=D(100)) is None
    assert broken(side="SELL", kind="STOP_LOSS", quantity="0.05", price=None, stop_price=D("99.99")) == "NOTIONAL"
    assert broken(side="SELL", kind="TAKE_PROFIT", quantity="141", price=None, stop_price=D(110)) == "MARKET_LOT_SIZE"
    assert broken(side="SELL", kind="STOP_LOSS_LIMIT", quantity="141", price="90", stop_price=D(95)) is None


def test_rules_without_raw_filters_are_held_to_by_their_figures():
    assert broken(rules=Rules(min_notional=D(5)), quantity="0.04") == "NOTIONAL"
    assert broken(rules=Rules(), quantity="0.00000001", price="0.00000001") is None


def test_twenty_digits_break_a_filter_not_the_arithmetic():
    assert broken(quantity="99999999999999999999.99999999", price=None, kind="MARKET") == "LOT_SIZE"
    assert broken(rules=Rules(step=D("0.00000001"), tick=D("0.00000001")), quantity="9" * 20 + ".00000001", price="9" * 20) is None


def test_an_account_is_held_to_counts_position_and_assets():
    def check(side="BUY", wanted=(1,), quantity="1", on_symbol=0, everywhere=0, base="0", buys="0", exchange=(), assets=(), rules=RULES, **more):
        held = filters.Holdings(on_symbol, everywhere, D(base), D(buys), **more)
        return filters.account_violation(rules, side, filters.Wanted(*wanted), D(quantity), D(100), "BTC", "USDT", held, exchange, assets)

    assert check(on_symbol=2) is None
    assert check(on_symbol=3) == "MAX_NUM_ORDERS"
    assert check(on_symbol=3, wanted=(0,)) is None
    assert check(on_symbol=1, wanted=(2, 1, 1)) is None
    assert check(on_symbol=2, wanted=(2, 1, 1)) == "MAX_NUM_ORDERS"
    algo = Rules.from_binance([{"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}, {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 2}])
    assert check(rules=algo, wanted=(2, 1, 1), algo_on_symbol=4, lists_on_symbol=1) is None
    assert check(rules=algo, wanted=(2, 2, 1), algo_on_symbol=4, lists_on_symbol=1) == "MAX_NUM_ALGO_ORDERS"
    assert check(rules=algo, wanted=(1, 0, 0), algo_on_symbol=5, lists_on_symbol=2) is None
    assert check(rules=algo, wanted=(2, 1, 1), lists_on_symbol=2) == "MAX_NUM_ORDER_LISTS"
    everywhere = [{"filterType": "EXCHANGE_MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 7}]
    assert check(exchange=everywhere, wanted=(1, 1, 0), algo_everywhere=6) is None
    assert check(exchange=everywhere, wanted=(1, 1, 0), algo_everywhere=7) == "EXCHANGE_MAX_NUM_ALGO_ORDERS"
    lists = [{"filterType": "EXCHANGE_MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 7}]
    assert check(exchange=lists, wanted=(2, 1, 1), lists_everywhere=7) == "EXCHANGE_MAX_NUM_ORDER_LISTS"
    assert check(base="400", buys="99") is None
    assert check(base="400", buys="99.5") == "MAX_POSITION"
    assert check(base="400", buys="99.5", side="SELL") is None
    assert check(everywhere=5, exchange=[{"filterType": "EXCHANGE_MAX_NUM_ORDERS", "maxNumOrders": 5}]) == "EXCHANGE_MAX_NUM_ORDERS"
    assert check(quantity="2", assets=[{"filterType": "MAX_ASSET", "asset": "BTC", "limit": "1.5"}]) == "MAX_ASSET"
    assert check(assets=[{"filterType": "MAX_ASSET", "asset": "USDT", "limit": "99"}]) == "MAX_ASSET"
    assert check(assets=[{"filterType": "MAX_ASSET", "asset": "JPY", "limit": "1"}]) is None


def test_the_average_is_the_mean_of_the_prints():
    assert filters.average([D(1), D(2), D(2)]) == D("1.66666667")
    assert filters.average([]) is None


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the captures are not there")
@pytest.mark.parametrize("name", ["real_spot_order_market_sell_fee_in_quote_20210130", "real_spot_order_market_sell_fee_in_quote_20210210"])
def test_fees_are_those_that_binance_was_seen_to_take(name):
    order = json.loads((FIXTURES / f"{name}.json").read_text())
    for f in order["fills"]:
        assert fees.fill_fee("SELL", D(f["price"]), D(f["qty"]), D("0.001")) == D(f["commission"])


def test_a_buy_pays_in_the_base_asset_and_a_sale_in_the_quote_asset():
    assert fees.fill_fee("BUY", D(50000), D("0.001"), D("0.001")) == D("0.000001")
    assert fees.fill_fee("SELL", D(50000), D("0.001"), D("0.001")) == D("0.05")


amounts = st.decimals("0.00000001", "99999999", places=8)


@given(price=amounts, quantity=amounts, rate=st.decimals("0", "0.1", places=5))
def test_a_lock_covers_its_fills_and_a_fee_never_exceeds_what_is_received(price, quantity, rate):
    assert fees.lock_amount("BUY", price, quantity) >= fees.quote_amount(price, quantity) >= 0
    assert 0 <= fees.fee(quantity, rate) <= quantity
