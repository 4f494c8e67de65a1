"""Stops, order lists and cancelReplace beside what was recorded: keys, their order, types; and the client's own requests."""

from __future__ import annotations

import json

import pytest

from core.paper import validation
from core.paper.exchange import TABLE
from paper_fixed import FILTERS, FIXTURES, FixedMarket, Hands, flat
from test_paper_wire import recorded, recorded_json, shape

SELL = {"side": "SELL", "quantity": "1", "aboveType": "LIMIT_MAKER", "abovePrice": "104", "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": "97"}
SELL |= {"belowPrice": "96", "belowTimeInForce": "GTC"}
OLD_BUY = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "1", "price": "96", "stopPrice": "104"}
REPLACE = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "1", "price": "98", "type": "LIMIT", "timeInForce": "GTC"}


@pytest.fixture
def hands():
    hands = Hands(FixedMarket(flat(), filters=[f for f in FILTERS if not f["filterType"].startswith("MAX")]))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    return hands


def oco(hands):
    return hands.ask("POST", "/api/v3/orderList/oco", symbol="BTCUSDT", **SELL)


def same(name, told, *ignore):
    should = recorded_json(name)
    assert shape(told, ignore) == shape(should, ignore), name
    assert str(shape(told, ignore)) == str(shape(should, ignore)), f"the order of keys in {name}"


@recorded
def test_order_lists_have_the_keys_and_types_that_were_recorded(hands):
    found = oco(hands)
    # The recorded stop leg is an iceberg.
    same("spot_rest_new_order_list_oco_trade_1", found, "icebergQty")
    should = recorded_json("spot_rest_new_order_list_oco_trade_1")["orderReports"][1]
    assert list(found["orderReports"][1]) == list(should) and shape(found["orderReports"][1]) == shape(should)
    same("spot_rest_new_oco_deprecated_trade_1", hands.ask("POST", "/api/v3/order/oco", **OLD_BUY))
    same("spot_rest_query_order_list_user_data_1", hands.ask("GET", "/api/v3/orderList", orderListId=found["orderListId"]))
    same("spot_rest_query_all_order_lists_user_data_1", hands.ask("GET", "/api/v3/allOrderList"))
    same("spot_rest_query_open_order_lists_user_data_1", hands.ask("GET", "/api/v3/openOrderList"))
    same("spot_rest_cancel_order_list_trade_1", hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=found["orderListId"]))
    oco(hands)
    told = hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")[-1]
    should = recorded_json("spot_rest_cancel_all_open_orders_on_a_symbol_trade_1")[-1]
    assert str(shape(told, ("icebergQty",))) == str(shape(should, ("icebergQty",)))


@recorded
def test_cancel_replace_has_the_keys_types_codes_and_texts_that_were_recorded(hands):
    def told(mode="STOP_ON_FAILURE", **params):
        response = hands.signed("POST", "/api/v3/order/cancelReplace", **{**REPLACE, "cancelReplaceMode": mode, **params})
        return response.status, json.loads(response.body)

    name = "spot_rest_cancel_an_existing_order_and_send_a_new_order_trade_"
    old = hands.order("BUY", "LIMIT", quantity="1", price="99")["orderId"]
    status, answer = told(cancelOrderId=old)
    assert status == 200
    same(name + "1", answer)
    assert told(cancelOrderId=old) == (400, recorded_json(name + "2"))
    old = hands.order("SELL", "LIMIT_MAKER", quantity="1", price="104")["orderId"]
    maker = {"type": "LIMIT_MAKER", "timeInForce": "GTC", "price": "101"}
    params = {k: v for k, v in {**REPLACE, **maker, "cancelReplaceMode": "ALLOW_FAILURE", "cancelOrderId": old}.items() if k != "timeInForce"}
    response = hands.signed("POST", "/api/v3/order/cancelReplace", **params)
    assert response.status == 409
    same(name + "3", json.loads(response.body))
    assert json.loads(response.body)["data"]["newOrderResponse"] == recorded_json(name + "3")["data"]["newOrderResponse"]
    status, answer = told("ALLOW_FAILURE", cancelOrderId=old, newOrderRespType="ACK")
    assert status == 409
    same(name + "4", answer)
    response = hands.signed("POST", "/api/v3/order/cancelReplace", **params)
    assert (response.status, json.loads(response.body)) == (400, recorded_json(name + "5"))


@recorded
def test_a_stops_answers_have_the_keys_of_their_kind(hands):
    stop = {"quantity": "1", "stopPrice": "98"}
    told = [hands.order("SELL", "STOP_LOSS", newOrderRespType=answer, **stop) for answer in ("ACK", "RESULT", "FULL")]
    for name, answer in zip("123", told, strict=True):  # where `fills` lies differs between the captures and the documentation
        assert set(answer) - set(recorded_json(f"spot_rest_new_order_trade_{name}")) == ({"stopPrice"} if name != "1" else set())
        assert set(recorded_json(f"spot_rest_new_order_trade_{name}")) <= set(answer)
    assert list(told[1])[-4:] == ["side", "stopPrice", "workingTime", "selfTradePreventionMode"]
    limit = hands.order("SELL", "LIMIT_MAKER", quantity="1", price="104", newOrderRespType="FULL")
    assert "stopPrice" not in limit and limit["fills"] == []
    for order in hands.ask("GET", "/api/v3/openOrders"):
        assert list(order) == list(recorded_json("spot_rest_query_order_user_data_1"))


@recorded
def test_what_python_binance_was_recorded_to_send_is_well_formed_here():
    seen = set()
    for line in (FIXTURES / "wire_python_binance_1.0.37.jsonl").read_text().splitlines():
        sent = json.loads(line)
        endpoint = TABLE.get((sent.get("m"), sent.get("path")))
        if endpoint is None or "signature" not in sent["q"] + sent["body"]:
            continue
        values, count = validation.parse(sent["q"], sent["body"].encode())
        if "1e-05" in values.values():
            continue  # sent to see it refused
        validation.check_shape(values, count, endpoint.needs, endpoint.takes, endpoint.signed)
        if endpoint.check is not None:
            endpoint.check(values)
        seen.add((sent["m"], sent["path"]))
    paths = {("POST", "orderList/oco"), ("DELETE", "orderList"), ("GET", "orderList"), ("GET", "allOrderList"), ("GET", "openOrderList")}
    assert {(m, f"/api/v3/{p}") for m, p in paths | {("POST", "order/cancelReplace")}} <= seen


def test_lists_made_with_pending_orders_are_not_offered(hands):
    for path in ("orderList/oto", "orderList/otoco", "orderList/opo"):
        assert hands.raw("POST", f"/api/v3/{path}").status == 404
    entry = hands.get("/api/v3/exchangeInfo", symbol="BTCUSDT")["symbols"][0]
    assert (entry["ocoAllowed"], entry["cancelReplaceAllowed"], entry["otoAllowed"], entry["opoAllowed"]) == (True, True, False, False)
