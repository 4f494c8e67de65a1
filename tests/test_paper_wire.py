"""The paper exchange beside what Binance and python-binance were recorded to send: signatures, keys, types, padding."""

from __future__ import annotations

import json
import re

import pytest

from core.paper import signing
from core.paper.exchange import TABLE
from core.paper.wire import Request
from paper_fixed import FIXTURES, MINUTE, FixedMarket, Hands, flat

recorded = pytest.mark.skipif(not FIXTURES.is_dir(), reason="the captures are not there")
# The recording was made with these.
SECRETS = {"vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A": "secret", "k": "secret"}


def test_the_documented_signature_is_reproduced():
    message = b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
    secret = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"  # the documentation's example
    assert signing.sign(secret, message) == "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"


def test_query_and_body_are_signed_one_after_the_other_without_the_signature():
    assert signing.payload("a=1&signature=xx", b"b=2") == b"a=1b=2"
    assert signing.payload("a=1", b"signature=xx&b=2") == b"a=1b=2"


@recorded
def test_every_recorded_request_of_python_binance_verifies():
    verified = 0
    for line in (FIXTURES / "wire_python_binance_1.0.37.jsonl").read_text().splitlines():
        sent = json.loads(line)
        if "m" not in sent or "signature=" not in sent["q"] + sent["body"]:
            continue
        request = Request(sent["m"], sent["path"], sent["q"], sent["body"].encode(), {k.lower(): v for k, v in sent["hdr"].items()})
        signature = re.search("signature=([0-9a-f]+)", sent["q"] + sent["body"]).group(1)
        signing.check_signature(request, SECRETS[signing.api_key(request)], signature)
        verified += 1
    assert verified >= 50


def recorded_json(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


def shape(value, ignore=()):
    """Keys in order, and types; of a list its first row."""
    if isinstance(value, dict):
        return {k: shape(v, ignore) for k, v in value.items() if k not in ignore}
    if isinstance(value, list):
        return [shape(value[0], ignore)] if value else []
    return type(value).__name__


@pytest.fixture
def hands():
    hands = Hands(FixedMarket([("100", "101", "98", "100"), *flat()]))
    hands.step(MINUTE)
    return hands


PUBLIC = [
    ("spot_rest_test_connectivity_1", "/api/v3/ping", {}),
    ("spot_rest_check_server_time_1", "/api/v3/time", {}),
    ("spot_rest_order_book_1", "/api/v3/depth", {"symbol": "BTCUSDT"}),
    ("spot_rest_recent_trades_list_1", "/api/v3/trades", {"symbol": "BTCUSDT"}),
    ("spot_rest_old_trade_lookup_1", "/api/v3/historicalTrades", {"symbol": "BTCUSDT", "fromId": 1}),
    ("spot_rest_compressed_aggregate_trades_list_1", "/api/v3/aggTrades", {"symbol": "BTCUSDT"}),
    ("spot_rest_current_average_price_1", "/api/v3/avgPrice", {"symbol": "BTCUSDT"}),
    ("spot_rest_24hr_ticker_price_change_statistics_1", "/api/v3/ticker/24hr", {"symbol": "BTCUSDT"}),
    ("spot_rest_24hr_ticker_price_change_statistics_2", "/api/v3/ticker/24hr", {"symbols": '["BTCUSDT"]'}),
    ("spot_rest_24hr_ticker_price_change_statistics_3", "/api/v3/ticker/24hr", {"symbol": "BTCUSDT", "type": "MINI"}),
    ("spot_rest_24hr_ticker_price_change_statistics_4", "/api/v3/ticker/24hr", {"symbols": '["BTCUSDT"]', "type": "MINI"}),
    ("spot_rest_rolling_window_price_change_statistics_1", "/api/v3/ticker", {"symbol": "BTCUSDT", "windowSize": "1m"}),
    ("spot_rest_rolling_window_price_change_statistics_2", "/api/v3/ticker", {"symbols": '["BTCUSDT","ETHBTC"]', "windowSize": "1m"}),
    ("spot_rest_rolling_window_price_change_statistics_3", "/api/v3/ticker", {"symbol": "BTCUSDT", "type": "MINI", "windowSize": "1m"}),
    ("spot_rest_rolling_window_price_change_statistics_4", "/api/v3/ticker", {"symbols": '["BTCUSDT","ETHBTC"]', "type": "MINI", "windowSize": "1m"}),
    ("spot_rest_trading_day_ticker_1", "/api/v3/ticker/tradingDay", {"symbol": "BTCUSDT"}),
    ("spot_rest_trading_day_ticker_2", "/api/v3/ticker/tradingDay", {"symbols": '["BTCUSDT","ETHBTC"]'}),
    ("spot_rest_trading_day_ticker_3", "/api/v3/ticker/tradingDay", {"symbol": "BTCUSDT", "type": "MINI"}),
    ("spot_rest_trading_day_ticker_4", "/api/v3/ticker/tradingDay", {"symbols": '["BTCUSDT","ETHBTC"]', "type": "MINI"}),
    ("spot_rest_symbol_price_ticker_1", "/api/v3/ticker/price", {"symbol": "BTCUSDT"}),
    ("spot_rest_symbol_price_ticker_2", "/api/v3/ticker/price", {}),
    ("spot_rest_symbol_order_book_ticker_1", "/api/v3/ticker/bookTicker", {"symbol": "BTCUSDT"}),
    ("spot_rest_symbol_order_book_ticker_2", "/api/v3/ticker/bookTicker", {"symbols": '["BTCUSDT","ETHBTC"]'}),
]


@recorded
@pytest.mark.parametrize(("name", "path", "params"), PUBLIC, ids=[p[0] for p in PUBLIC])
def test_market_data_has_the_keys_and_types_that_were_recorded(hands, name, path, params):
    told, should = hands.get(path, **params), recorded_json(name)
    assert list(shape(told)) == list(shape(should)) if isinstance(told, dict) else True
    assert shape(told) == shape(should)


@recorded
def test_what_an_account_asks_has_the_keys_and_types_that_were_recorded(hands):
    def same(name, told, ignore=()):
        assert shape(told, ignore) == shape(recorded_json(name), ignore), name
        assert str(shape(told, ignore)) == str(shape(recorded_json(name), ignore)), f"the order of keys in {name}"

    same("real_spot_order_market_quoteOrderQty_buy_testnet_20250318", hands.order("BUY", quoteOrderQty="100"))
    same("real_spot_order_market_quoteOrderQty_sell_testnet_20250318", hands.order("SELL", quoteOrderQty="50"))
    same("spot_rest_new_order_trade_1", hands.order("BUY", quantity="1", newOrderRespType="ACK"))
    same("spot_rest_new_order_trade_2", hands.order("BUY", quantity="1", newOrderRespType="RESULT"))
    rests = hands.order("BUY", "LIMIT", quantity="1", price="97")
    assert rests["fills"] == []
    same("spot_rest_query_order_user_data_1", hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=rests["orderId"]))
    orders = hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    assert shape(orders) == shape(recorded_json("spot_rest_all_orders_user_data_1"))
    assert shape(hands.ask("GET", "/api/v3/openOrders")) == shape(recorded_json("spot_rest_current_open_orders_user_data_1"))
    same("spot_rest_account_trade_list_user_data_1", hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT"))
    same("spot_rest_account_information_user_data_1", hands.ask("GET", "/api/v3/account"))
    same("spot_rest_query_commission_rates_user_data_1", hands.ask("GET", "/api/v3/account/commission", symbol="BTCUSDT"))
    same("spot_rest_query_unfilled_order_count_user_data_1", hands.ask("GET", "/api/v3/rateLimit/order"))
    same("spot_rest_cancel_order_trade_1", hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=rests["orderId"]))
    hands.order("BUY", "LIMIT", quantity="1", price="97")
    same("spot_rest_cancel_all_open_orders_on_a_symbol_trade_1", hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT"))
    dry = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    same("spot_rest_test_new_order_trade_1", hands.ask("POST", "/api/v3/order/test", **dry))
    same("spot_rest_test_new_order_trade_2", hands.ask("POST", "/api/v3/order/test", **dry, computeCommissionRates="true"))
    assert hands.ask("GET", "/api/v3/myFilters", symbol="BTCUSDT").keys() == recorded_json("spot_rest_query_relevant_filters_user_data_1").keys()


@recorded
def test_exchange_info_has_the_keys_of_2026_in_their_order(hands):
    should = recorded_json("real_spot_exchangeInfo_BTCUSD_binance_us_20260904")
    told = hands.get("/api/v3/exchangeInfo", symbol="BTCUSDT")
    assert list(told) == list(should)
    assert list(told["symbols"][0]) == list(should["symbols"][0])
    assert Hands(FixedMarket(flat()), PAPER_SPEED="1").get("/api/v3/exchangeInfo")["rateLimits"] == recorded_json("real_rateLimits_spot_20260804")


def test_exchange_info_shows_what_is_listed_and_what_is_asked_for(hands):
    def names(**params):
        return [s["symbol"] for s in hands.get("/api/v3/exchangeInfo", **params)["symbols"]]

    assert names() == ["BTCUSDT", "ETHBTC"]  # BNBUSDT is not listed yet
    assert names(symbol="ETHBTC") == ["ETHBTC"]
    assert names(symbols='["ETHBTC","BTCUSDT"]') == ["ETHBTC", "BTCUSDT"]
    assert names(permissions="SPOT") == ["BTCUSDT", "ETHBTC"]
    assert names(permissions='["MARGIN","LEVERAGED"]') == []
    assert names(symbolStatus="HALT") == []
    assert hands.get("/api/v3/exchangeInfo", symbol="BTCUSDT", showPermissionSets="false")["symbols"][0]["permissionSets"] == []
    assert hands.get("/api/v3/exchangeInfo", symbol="BTCUSDT")["symbols"][0]["permissionSets"] == [["SPOT"]]


def test_numbers_are_padded_to_eight_and_json_is_compact(hands):
    response = hands.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="1")
    assert b" " not in response.body
    assert b'"executedQty":"1.00000000"' in response.body
    assert b'"orderListId":-1' in response.body
    assert b'"commission":"0.00100000"' in response.body


def test_answers_carry_binances_headers(hands):
    response = hands.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="1")
    for name in ("X-MBX-USED-WEIGHT", "X-MBX-USED-WEIGHT-1M", "x-mbx-uuid", "X-MBX-ORDER-COUNT-10S", "X-MBX-ORDER-COUNT-1D"):
        assert name in response.headers
    assert response.headers["Content-Type"] == "application/json;charset=UTF-8"
    refused = hands.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0")
    assert "X-MBX-USED-WEIGHT-1M" in refused.headers and "X-MBX-ORDER-COUNT-10S" not in refused.headers


def test_times_come_in_microseconds_for_who_asks_for_them(hands):
    told = json.loads(hands.raw("GET", "/api/v3/time", x_mbx_time_unit="MICROSECOND").body)
    assert told == {"serverTime": hands.wall * 1000}
    row = json.loads(hands.raw("GET", "/api/v3/klines", "symbol=BTCUSDT&interval=1m&limit=1", x_mbx_time_unit="MICROSECOND").body)[0]
    assert row[0] % 1_000_000 == 0 and row[6] == row[0] + 60_000_000 - 1


def test_every_endpoint_of_the_first_stage_is_there():
    paths = "ping time exchangeInfo klines uiKlines ticker/price ticker/bookTicker ticker/24hr depth avgPrice trades aggTrades historicalTrades account order"
    paths += " openOrders allOrders myTrades account/commission rateLimit/order myFilters"
    for path in paths.split():
        assert ("GET", f"/api/v3/{path}") in TABLE, path
    for method, path in (("POST", "order"), ("POST", "order/test"), ("DELETE", "order"), ("DELETE", "openOrders")):
        assert (method, f"/api/v3/{path}") in TABLE
