"""Order lists on the paper exchange: placed whole, locked once, ended together, told as Binance tells them."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest

from paper_fixed import FILTERS, MINUTE, START, FixedMarket, Hands, flat

# Prints: 100 at 0, 98 at 15 s, 102 at 45 s, 101 at 59.999 s; then 101, 100, 106, 105.
RISING = [("100", "102", "98", "101"), ("101", "106", "100", "105"), ("105", "105", "105", "105")]
DOWN = [("100", "100", "100", "100"), ("95", "96", "94", "95"), ("97", "99", "96", "98")]
SELL = {"side": "SELL", "quantity": "2", "aboveType": "LIMIT_MAKER", "abovePrice": "104", "belowType": "STOP_LOSS", "belowStopPrice": "97"}
BUY = {"side": "BUY", "quantity": "2", "belowType": "LIMIT_MAKER", "belowPrice": "99", "aboveType": "STOP_LOSS", "aboveStopPrice": "103"}
MANY = [f if f["filterType"] != "MAX_NUM_ORDERS" else {**f, "maxNumOrders": 200} for f in FILTERS]


def holding(rows, **changed):
    hands = Hands(FixedMarket(rows, filters=MANY, **changed))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    return hands


@pytest.fixture
def hands():
    return holding(RISING)


def oco(hands, params, **changed):
    return hands.ask("POST", "/api/v3/orderList/oco", symbol="BTCUSDT", **{k: v for k, v in {**params, **changed}.items() if v is not None})


def states(hands, found):
    return [hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=o["orderId"]) for o in found["orders"]]


def fills(hands):
    return [(t["orderId"], D(t["price"]), D(t["qty"]), t["time"] - START, t["isMaker"]) for t in hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")]


def test_a_list_is_two_orders_that_lock_once(hands):
    found = oco(hands, SELL, listClientOrderId="mine", aboveClientOrderId="up", belowClientOrderId="down")
    assert (found["contingencyType"], found["listStatusType"], found["listOrderStatus"]) == ("OCO", "EXEC_STARTED", "EXECUTING")
    assert (found["listClientOrderId"], found["transactionTime"]) == ("mine", START)
    stop, limit = found["orderReports"]
    assert (stop["type"], stop["clientOrderId"], stop["stopPrice"], stop["workingTime"], stop["status"]) == ("STOP_LOSS", "down", "97.00000000", -1, "NEW")
    assert (limit["type"], limit["clientOrderId"], limit["workingTime"], limit["status"]) == ("LIMIT_MAKER", "up", START, "NEW")
    assert "stopPrice" not in limit and stop["orderListId"] == limit["orderListId"] == found["orderListId"]
    assert [o["orderId"] for o in found["orders"]] == [stop["orderId"], limit["orderId"]]
    assert hands.owns() == {"BTC": (D(8), D(2)), "USDT": (D(10000), 0)}
    assert [o["orderId"] for o in hands.ask("GET", "/api/v3/openOrders", symbol="BTCUSDT")] == [stop["orderId"], limit["orderId"]]


def test_the_reports_follow_the_answer_that_was_asked_for(hands):
    assert list(oco(hands, SELL, newOrderRespType="ACK")["orderReports"][0])[-1] == "transactTime"
    assert oco(hands, SELL, newOrderRespType="FULL")["orderReports"][0]["fills"] == []


def test_when_the_limit_trades_the_stop_expires_in_the_same_instant(hands):
    found = oco(hands, SELL)
    hands.step(3 * MINUTE)
    stop, limit = states(hands, found)
    assert (stop["status"], stop["expiryReason"], stop["updateTime"], stop["isWorking"]) == ("EXPIRED", "OCO_TRIGGER", START + MINUTE + 45_000, False)
    assert (limit["status"], limit["updateTime"]) == ("FILLED", START + MINUTE + 45_000)
    assert fills(hands) == [(limit["orderId"], D(104), D(2), MINUTE + 45_000, True)]
    assert hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")[0]["orderListId"] == found["orderListId"]
    assert hands.owns() == {"BTC": (D(8), 0), "USDT": (D(10000) + D("207.792"), 0)}
    told = hands.ask("GET", "/api/v3/orderList", orderListId=found["orderListId"])
    assert (told["listStatusType"], told["listOrderStatus"]) == ("ALL_DONE", "ALL_DONE")


def test_when_the_stop_triggers_the_limit_expires(hands):
    found = oco(hands, SELL, belowStopPrice="99")
    hands.step(MINUTE)
    stop, limit = states(hands, found)
    assert (stop["status"], limit["status"], limit["expiryReason"], limit["updateTime"]) == ("FILLED", "EXPIRED", "OCO_TRIGGER", START + 15_000)
    assert fills(hands) == [(stop["orderId"], D(99), D(2), 15_000, False)]
    assert hands.owns()["BTC"] == (D(8), 0)


def test_a_stop_that_triggers_without_trading_ends_the_other_too():
    hands = holding(DOWN)
    found = oco(hands, SELL, belowType="STOP_LOSS_LIMIT", belowStopPrice="99", belowPrice="98", belowTimeInForce="GTC")
    hands.step(MINUTE + 1)
    stop, limit = states(hands, found)
    assert (stop["status"], stop["isWorking"], limit["status"]) == ("NEW", True, "EXPIRED")
    assert hands.owns()["BTC"] == (D(8), D(2))
    assert hands.ask("GET", "/api/v3/orderList", orderListId=found["orderListId"])["listOrderStatus"] == "EXECUTING"
    hands.step(2 * MINUTE)
    assert states(hands, found)[0]["status"] == "FILLED"
    assert hands.owns()["BTC"] == (D(8), 0)
    assert hands.ask("GET", "/api/v3/openOrderList") == []


def test_a_list_that_buys_locks_for_the_dearer_order_and_frees_what_the_winner_does_not_need(hands):
    found = oco(hands, BUY)
    assert hands.owns()["USDT"] == (D(9794), D(206))
    hands.step(MINUTE)
    stop, limit = states(hands, found)
    assert (stop["status"], limit["status"]) == ("EXPIRED", "FILLED")
    assert hands.owns() == {"USDT": (D(9802), 0), "BTC": (D("11.998"), 0)}
    found = oco(hands, BUY)
    hands.step(MINUTE)
    assert [o["status"] for o in states(hands, found)] == ["FILLED", "EXPIRED"]
    assert hands.owns()["USDT"] == (D(9802) - 206, 0)


def test_both_ways_of_asking_and_all_pairs_of_types_are_taken():
    pairs = [
        ("SELL", "LIMIT_MAKER", "STOP_LOSS_LIMIT"),
        ("SELL", "TAKE_PROFIT", "STOP_LOSS"),
        ("SELL", "TAKE_PROFIT_LIMIT", "STOP_LOSS_LIMIT"),
        ("BUY", "STOP_LOSS_LIMIT", "LIMIT_MAKER"),
        ("BUY", "STOP_LOSS", "TAKE_PROFIT"),
        ("BUY", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"),
    ]
    hands = holding(flat())
    for side, above, below in pairs:
        params = {"side": side, "quantity": "1"}
        for leg, kind, price in (("above", above, "105"), ("below", below, "95")):
            params[f"{leg}Type"] = kind
            if "LIMIT" in kind:
                params[f"{leg}Price"] = price
            if kind.endswith("_LIMIT"):
                params[f"{leg}TimeInForce"] = "GTC"
            if kind != "LIMIT_MAKER":
                params[f"{leg}StopPrice"] = price
        found = oco(hands, params)
        assert [r["type"] for r in found["orderReports"]] == ([below, above] if side == "SELL" else [above, below])
    old = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "1", "price": "105", "stopPrice": "95"}
    found = hands.ask("POST", "/api/v3/order/oco", **old, limitClientOrderId="l", stopClientOrderId="s")
    assert [(r["type"], r["clientOrderId"]) for r in found["orderReports"]] == [("STOP_LOSS", "s"), ("LIMIT_MAKER", "l")]
    found = hands.ask("POST", "/api/v3/order/oco", **old, stopLimitPrice="94", stopLimitTimeInForce="GTC", listClientOrderId="old")
    assert (found["orderReports"][0]["type"], found["orderReports"][0]["price"], found["listClientOrderId"]) == ("STOP_LOSS_LIMIT", "94.00000000", "old")
    bought = hands.ask("POST", "/api/v3/order/oco", **{**old, "side": "BUY", "price": "95", "stopPrice": "105"})
    assert [r["type"] for r in bought["orderReports"]] == ["STOP_LOSS", "LIMIT_MAKER"]
    assert hands.owns()["BTC"][1] == 5


@pytest.mark.parametrize("leg", [0, 1])
def test_cancelling_one_order_cancels_the_list_and_answers_with_it(hands, leg):
    found = oco(hands, SELL)
    told = hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=found["orders"][leg]["orderId"], newClientOrderId="bye")
    assert (told["listStatusType"], told["listOrderStatus"], told["orders"]) == ("ALL_DONE", "ALL_DONE", found["orders"])
    assert [(r["status"], r["clientOrderId"], r["origClientOrderId"]) for r in told["orderReports"]] == [
        ("CANCELED", "bye", o["clientOrderId"]) for o in found["orders"]
    ]
    for order in found["orders"]:
        assert hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"]) == (400, -2011, "Unknown order sent.")
    assert hands.owns()["BTC"] == (D(10), 0)


def test_a_list_is_cancelled_by_its_number_or_its_name_and_only_once(hands):
    first, second = oco(hands, SELL), oco(hands, SELL, listClientOrderId="named")
    by_number = hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=first["orderListId"])
    by_name = hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", listClientOrderId="named", newClientOrderId="bye")
    assert [t["orderListId"] for t in (by_number, by_name)] == [first["orderListId"], second["orderListId"]]
    assert {r["clientOrderId"] for r in by_name["orderReports"]} == {"bye"}
    unknown = (400, -2011, "Unknown order list sent.")
    assert hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=first["orderListId"]) == unknown
    assert hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=99) == unknown
    neither = (400, -1102, "Param 'listClientOrderId' or 'orderListId' must be sent, but both were empty/null!")
    assert hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT") == neither
    assert oco(hands, SELL, listClientOrderId="named")["orderListId"] == second["orderListId"] + 1  # the name is free again
    assert hands.owns()["BTC"] == (D(8), D(2))


def test_cancelling_all_open_orders_tells_lists_as_lists(hands):
    single = hands.order("SELL", "LIMIT", quantity="1", price="110")
    found = oco(hands, SELL)
    stop = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="90")
    told = hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert [t.get("orderId", t.get("contingencyType")) for t in told] == [single["orderId"], "OCO", stop["orderId"]]
    assert [r["orderId"] for r in told[1]["orderReports"]] == [o["orderId"] for o in found["orders"]]
    assert hands.owns()["BTC"] == (D(10), 0)


def test_lists_are_asked_for_one_by_one_the_open_ones_and_all(hands):
    ids = []
    for i in range(4):
        ids.append(oco(hands, SELL, listClientOrderId=f"list{i}")["orderListId"])
        hands.step(1000)
    hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=ids[0])

    def all_lists(**params):
        return [t["orderListId"] for t in hands.ask("GET", "/api/v3/allOrderList", **params)]

    assert hands.ask("GET", "/api/v3/orderList", origClientOrderId="list2")["orderListId"] == ids[2]
    assert [t["orderListId"] for t in hands.ask("GET", "/api/v3/openOrderList")] == ids[1:]
    assert all_lists() == ids and all_lists(limit=2) == ids[2:] and all_lists(fromId=ids[2]) == ids[2:]
    assert all_lists(startTime=START + 1000, endTime=START + 2000) == ids[1:3]
    assert hands.ask("GET", "/api/v3/orderList", orderListId=99) == (400, -2018, "Order list does not exist.")
    assert hands.ask("GET", "/api/v3/orderList")[1] == -1128
    assert hands.ask("GET", "/api/v3/allOrderList", fromId=1, startTime=START)[1] == -1128
    assert hands.ask("GET", "/api/v3/allOrderList", startTime=START, endTime=START + 86_400_001)[1] == -1127
    hands.paper("POST", "accounts", {"name": "b", "api_key": "b", "api_secret": "b"})
    assert json.loads(hands.signed("GET", "/api/v3/openOrderList", "b", "b").body) == []
    assert hands.signed("GET", "/api/v3/orderList", "b", "b", orderListId=ids[1]).status == 400


def test_a_list_counts_as_two_orders_and_as_one_list():
    hands = Hands(FixedMarket(flat(), filters=[{"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 3}]), PAPER_SPEED="1")
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    oco(hands, SELL)
    assert [row["count"] for row in hands.ask("GET", "/api/v3/rateLimit/order")] == [2, 2]
    assert oco(hands, SELL) == (400, -1013, "Filter failure: MAX_NUM_ORDERS")
    assert hands.order("SELL", "LIMIT", quantity="1", price="110")["status"] == "NEW"
    assert [row["count"] for row in hands.ask("GET", "/api/v3/rateLimit/order")] == [3, 3]
    hands = Hands(FixedMarket(flat(), filters=[{"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 1}]))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    found = oco(hands, SELL)
    assert oco(hands, SELL) == (400, -1013, "Filter failure: MAX_NUM_ORDER_LISTS")
    hands.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=found["orderListId"])
    assert "orderListId" in oco(hands, SELL)
    hands = Hands(FixedMarket(flat(), filters=[{"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}]))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 20})
    assert sum("orderListId" in oco(hands, SELL) for _ in range(5)) == 5  # one stop each
    assert oco(hands, SELL) == (400, -1013, "Filter failure: MAX_NUM_ALGO_ORDERS")


def test_too_many_unfilled_orders_refuse_a_list_whole():
    hands = Hands(FixedMarket(flat()), PAPER_SPEED="1")
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    for _ in range(99):
        order = hands.order("BUY", "LIMIT", quantity="1", price="99")
        hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])
    assert oco(hands, SELL) == (429, -1015, "Too many new orders; current limit is 100 orders per 10 SECOND.")
    assert hands.order("BUY", "LIMIT", quantity="1", price="99")["status"] == "NEW"


def test_a_partial_fill_ends_the_other_order_and_leaves_the_list_at_work(hands):
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/orderList/oco", "fault": "partial_fill", "times": 1, "params": {"fraction": 0.5}})
    found = oco(hands, SELL, abovePrice="101.5")
    hands.step(45_000)
    stop, limit = states(hands, found)
    assert (stop["status"], limit["status"], limit["executedQty"]) == ("EXPIRED", "PARTIALLY_FILLED", "1.00000000")
    assert hands.owns()["BTC"] == (D(8), D(1))
    assert hands.ask("GET", "/api/v3/orderList", orderListId=found["orderListId"])["listOrderStatus"] == "EXECUTING"
    told = hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=limit["orderId"])
    assert [r["orderId"] for r in told["orderReports"]] == [limit["orderId"]] and len(told["orders"]) == 2
    assert hands.owns()["BTC"] == (D(9), 0)


def test_a_list_that_buys_in_part_keeps_only_what_the_winner_still_needs(hands):
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/orderList/oco", "fault": "partial_fill", "times": 1, "params": {"fraction": 0.5}})
    oco(hands, BUY)
    assert hands.owns()["USDT"] == (D(9794), D(206))
    hands.step(15_000)
    assert hands.owns()["USDT"] == (D(9802), D(99))


def test_lost_answers_and_late_lists_are_found_again(hands):
    path = "/api/v3/orderList/oco"
    hands.paper("POST", "faults", {"method": "POST", "path": path, "fault": "drop_before", "times": 1})
    assert hands.signed("POST", path, symbol="BTCUSDT", listClientOrderId="a", **SELL).cut
    assert hands.ask("GET", "/api/v3/orderList", origClientOrderId="a")[1] == -2018
    hands.paper("POST", "faults", {"method": "POST", "path": path, "fault": "drop_after", "times": 1})
    assert hands.signed("POST", path, symbol="BTCUSDT", listClientOrderId="b", **SELL).cut
    hands.paper("POST", "faults", {"method": "GET", "path": "/api/v3/orderList", "fault": "late_visibility", "times": 2})
    assert [hands.ask("GET", "/api/v3/orderList", origClientOrderId="b")[1] for _ in range(2)] == [-2018] * 2
    assert len(hands.ask("GET", "/api/v3/orderList", origClientOrderId="b")["orders"]) == 2
    assert oco(hands, SELL, listClientOrderId="b") == (400, -2010, "Duplicate order sent.")
    assert hands.owns()["BTC"] == (D(8), D(2))


def test_a_list_outlasts_a_restart_whole_and_goes_on(home):
    folder = home / "data" / "paper"
    first = Hands(FixedMarket(RISING, filters=MANY), home, folder)
    first.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    found = oco(first, SELL)
    done = oco(first, SELL, quantity="1")
    first.ask("DELETE", "/api/v3/orderList", symbol="BTCUSDT", orderListId=done["orderListId"])
    first.x.store._db.close()  # as a kill would leave it
    second = Hands(FixedMarket(RISING, filters=MANY), home, folder)
    assert second.ask("GET", "/api/v3/openOrderList") == [{k: v for k, v in found.items() if k != "orderReports"}]
    assert second.owns()["BTC"] == (D(8), D(2))
    second.step(3 * MINUTE)
    assert [o["status"] for o in states(second, found)] == ["EXPIRED", "FILLED"]
    assert second.owns()["BTC"] == (D(8), 0)
    second.paper("POST", "reset")
    second.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    assert oco(second, SELL)["orderListId"] == done["orderListId"] + 1  # a number never means two lists


def test_a_list_that_can_not_be_written_was_never_there(hands, monkeypatch):
    whole = hands.x.store.commit
    monkeypatch.setattr(hands.x.store, "commit", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert oco(hands, SELL)[:2] == (500, -1001)
    monkeypatch.setattr(hands.x.store, "commit", whole)
    assert hands.ask("GET", "/api/v3/openOrders") == hands.ask("GET", "/api/v3/openOrderList") == []
    assert hands.owns()["BTC"] == (D(10), 0)
    assert "orderListId" in oco(hands, SELL)


def test_a_database_of_the_first_schema_is_brought_up_to_date(home):
    folder = home / "data" / "paper"
    first = Hands(FixedMarket(flat()), home, folder)
    first.order("BUY", quantity="1")
    rests = first.order("BUY", "LIMIT", quantity="1", price="99")
    db = first.x.store._db
    for line in ("DROP INDEX orders_by_list", "DROP TABLE lists", "ALTER TABLE fills DROP COLUMN list_id", "ALTER TABLE accounts DROP COLUMN bnb_fees"):
        db.execute(line)
    db.execute("PRAGMA user_version=1")
    db.close()
    second = Hands(FixedMarket(flat()), home, folder)
    assert second.ask("GET", "/api/v3/openOrders")[0]["orderId"] == rests["orderId"]
    assert second.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")[0]["orderListId"] == -1
    assert "orderListId" in oco(second, SELL, quantity="0.5")
