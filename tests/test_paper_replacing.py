"""cancelReplace on the paper exchange: both done, either, neither; each told with Binance's own code and status."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest

from paper_fixed import FILTERS, FixedMarket, Hands, flat

UNKNOWN = {"code": -2011, "msg": "Unknown order sent."}
MAKER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT_MAKER", "quantity": "1", "price": "98"}


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


def replace(hands, mode="STOP_ON_FAILURE", **params):
    response = hands.signed("POST", "/api/v3/order/cancelReplace", **{**MAKER, "cancelReplaceMode": mode, **params})
    return response.status, json.loads(response.body)


def rests(hands, **params):
    return hands.order("BUY", "LIMIT", quantity="1", price="99", **params)["orderId"]


def test_one_order_is_put_in_the_place_of_another(hands):
    old = rests(hands, newClientOrderId="old")
    status, told = replace(hands, cancelOrderId=old, cancelNewClientOrderId="bye", newClientOrderId="new", newOrderRespType="RESULT")
    assert status == 200 and list(told) == ["cancelResult", "newOrderResult", "cancelResponse", "newOrderResponse"]
    assert (told["cancelResult"], told["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert [told["cancelResponse"][k] for k in ("orderId", "clientOrderId", "origClientOrderId", "status")] == [old, "bye", "old", "CANCELED"]
    assert [told["newOrderResponse"][k] for k in ("clientOrderId", "type", "status")] == ["new", "LIMIT_MAKER", "NEW"]
    assert hands.owns() == {"USDT": (D(9902), D(98))}
    status, told = replace(hands, cancelOrigClientOrderId="new", newClientOrderId="new")  # its own name is free by then
    assert status == 200 and list(told["newOrderResponse"])[-1] == "transactTime"  # ACK


def test_the_money_of_the_old_order_pays_for_the_new_one(hands):
    old = hands.order("BUY", "LIMIT", quantity="101", price="99")["orderId"]
    status, _ = replace(hands, cancelOrderId=old, quantity="102")
    assert status == 200
    assert hands.owns()["USDT"] == (D(4), D(9996))


def test_without_the_cancel_the_new_order_is_not_attempted_but_counts():
    hands = Hands(FixedMarket(flat()), PAPER_SPEED="1")
    told = replace(hands, cancelOrderId=7)
    data = {"cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED", "cancelResponse": UNKNOWN, "newOrderResponse": None}
    assert told == (400, {"code": -2022, "msg": "Order cancel-replace failed.", "data": data})
    assert hands.ask("GET", "/api/v3/openOrders") == []
    assert [row["count"] for row in hands.ask("GET", "/api/v3/rateLimit/order")] == [1, 1]


def test_with_allow_failure_the_new_order_is_sent_all_the_same(hands):
    status, told = replace(hands, "ALLOW_FAILURE", cancelOrderId=7)
    assert (status, told["code"], told["msg"]) == (409, -2021, "Order cancel-replace partially failed.")
    assert (told["data"]["cancelResult"], told["data"]["cancelResponse"]) == ("FAILURE", UNKNOWN)
    assert told["data"]["newOrderResult"] == "SUCCESS"
    assert hands.ask("GET", "/api/v3/openOrders")[0]["orderId"] == told["data"]["newOrderResponse"]["orderId"]


def test_a_cancel_stays_done_when_the_new_order_is_refused(hands):
    old = rests(hands)
    status, told = replace(hands, cancelOrderId=old, price="100")
    refused = {"code": -2010, "msg": "Order would immediately match and take."}
    assert (status, told["code"], told["data"]["newOrderResponse"]) == (409, -2021, refused)
    assert (told["data"]["cancelResult"], told["data"]["newOrderResult"]) == ("SUCCESS", "FAILURE")
    assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=old)["status"] == "CANCELED"
    assert hands.owns() == {"USDT": (D(10000), 0)}


def test_when_both_fail_nothing_is_done(hands):
    status, told = replace(hands, "ALLOW_FAILURE", cancelOrderId=7, price="100")
    assert (status, told["code"], told["data"]["cancelResult"], told["data"]["newOrderResult"]) == (400, -2022, "FAILURE", "FAILURE")


def test_parameters_and_filters_are_looked_at_before_the_cancel(hands):
    old = rests(hands)
    assert replace(hands, cancelOrderId=old, price="98.001") == (400, {"code": -1013, "msg": "Filter failure: PRICE_FILTER"})
    assert replace(hands, cancelOrderId=old, price="40")[1]["msg"] == "Filter failure: PERCENT_PRICE_BY_SIDE"
    neither = "Param 'cancelOrigClientOrderId' or 'cancelOrderId' must be sent, but both were empty/null!"
    assert replace(hands) == (400, {"code": -1102, "msg": neither})
    assert replace(hands, "SOMETIMES", cancelOrderId=old)[1] == {"code": -1130, "msg": "Data sent for parameter 'cancelReplaceMode' is not valid."}
    assert replace(hands, cancelOrderId=old, cancelRestrictions="NEVER")[1]["code"] == -1145
    assert replace(hands, cancelOrderId=old, orderRateLimitExceededMode="TRY")[1]["code"] == -1130
    assert replace(hands, cancelOrderId=old, timeInForce="GTC")[1]["code"] == -1106
    assert hands.ask("POST", "/api/v3/order/cancelReplace", **MAKER, cancelOrderId=old)[1] == -1102
    assert hands.ask("GET", "/api/v3/openOrders")[0]["orderId"] == old
    for _ in range(2):
        rests(hands)
    assert replace(hands, cancelOrderId=old)[1]["msg"] == "Filter failure: MAX_NUM_ORDERS"  # three are open, and the filter comes first


def test_restrictions_hold_for_the_cancel(hands):
    old = rests(hands)
    status, told = replace(hands, cancelOrderId=old, cancelRestrictions="ONLY_PARTIALLY_FILLED")
    assert (status, told["code"]) == (400, -2022)
    assert told["data"]["cancelResponse"] == {"code": -2011, "msg": "Order was not canceled due to cancel restrictions."}
    assert replace(hands, cancelOrderId=old, cancelRestrictions="ONLY_NEW")[0] == 200


def test_an_order_of_a_list_takes_its_list_with_it():
    hands = Hands(FixedMarket(flat(), filters=[f for f in FILTERS if not f["filterType"].startswith("MAX")]))
    params = {"aboveType": "STOP_LOSS", "aboveStopPrice": "105", "belowType": "LIMIT_MAKER", "belowPrice": "95"}
    found = hands.ask("POST", "/api/v3/orderList/oco", symbol="BTCUSDT", side="BUY", quantity="1", **params)
    status, told = replace(hands, cancelOrderId=found["orders"][0]["orderId"])
    assert status == 200 and told["cancelResponse"]["listOrderStatus"] == "ALL_DONE"
    assert [o["type"] for o in hands.ask("GET", "/api/v3/openOrders")] == ["LIMIT_MAKER"]


def test_when_too_many_orders_were_sent_nothing_is_done_or_the_cancel_alone():
    hands = Hands(FixedMarket(flat()), PAPER_SPEED="1")
    for _ in range(99):
        hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=rests(hands))
    old = rests(hands)
    full = {"code": -1015, "msg": "Too many new orders; current limit is 100 orders per 10 SECOND."}
    assert replace(hands, cancelOrderId=old) == (429, full)
    assert len(hands.ask("GET", "/api/v3/openOrders")) == 1
    status, told = replace(hands, cancelOrderId=old, orderRateLimitExceededMode="CANCEL_ONLY")
    assert (status, told["code"], told["data"]["newOrderResponse"]) == (429, -2021, full)
    assert (told["data"]["cancelResult"], told["data"]["newOrderResult"]) == ("SUCCESS", "FAILURE")
    assert hands.ask("GET", "/api/v3/openOrders") == []


def test_a_lost_answer_leaves_both_done(hands):
    old = rests(hands)
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order/cancelReplace", "fault": "drop_after", "times": 1})
    assert hands.signed("POST", "/api/v3/order/cancelReplace", **MAKER, cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=old, newClientOrderId="n").cut
    assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=old)["status"] == "CANCELED"
    assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="n")["status"] == "NEW"


def test_a_symbol_that_does_not_allow_it_refuses():
    hands = Hands(FixedMarket(flat(), cancelReplaceAllowed=False))
    old = rests(hands)
    assert replace(hands, cancelOrderId=old) == (400, {"code": -2010, "msg": "Order cancel-replace is not supported for this symbol."})
    assert len(hands.ask("GET", "/api/v3/openOrders")) == 1
