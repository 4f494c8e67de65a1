"""Stops, targets and LIMIT_MAKER on the paper exchange: when they trigger, at which price, what they lock and how they end."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from paper_fixed import MINUTE, START, FixedMarket, Hands, flat

# Prints: 100 at 0, 98 at 15 s, 102 at 45 s, 101 at 59.999 s; then 101, 100, 106, 105.
RISING = [("100", "102", "98", "101"), ("101", "106", "100", "105"), ("105", "105", "105", "105")]
# After a flat minute the market opens at 95, or at 108.
DOWN = [("100", "100", "100", "100"), ("95", "96", "94", "95"), ("97", "99", "96", "98")]
UP = [("100", "100", "100", "100"), ("108", "109", "107", "108"), ("104", "105", "103", "104")]


def holding(rows, **changed):
    """An exchange on these candles, with 100 BTC beside the 10000 USDT."""
    hands = Hands(FixedMarket(rows, **changed))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 100})
    return hands


def state(hands, order):
    return hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])


def fills(hands, order):
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=order["orderId"])
    return [(f["price"], f["qty"], f["time"] - START, f["isMaker"]) for f in trades]


def e8(*numbers):
    return tuple(f"{D(n):.8f}" for n in numbers)


def test_a_stop_waits_locks_and_sells_at_its_own_price_when_the_walk_passes_it():
    hands = holding(RISING)
    order = hands.order("SELL", "STOP_LOSS", quantity="2", stopPrice="99")
    assert list(order) == ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    told = state(hands, order)
    assert (told["status"], told["isWorking"], told["workingTime"], told["stopPrice"], told["price"]) == ("NEW", False, -1, *e8(99, 0))
    assert hands.owns()["BTC"] == (D(98), D(2))
    hands.step(14_999)
    assert state(hands, order)["status"] == "NEW"
    hands.step(1)
    told = state(hands, order)
    assert (told["status"], told["isWorking"], told["workingTime"], told["updateTime"]) == ("FILLED", True, START + 15_000, START + 15_000)
    assert fills(hands, order) == [(*e8(99, 2), 15_000, False)]
    assert hands.owns() == {"BTC": (D(98), 0), "USDT": (D("10197.802"), 0)}


@pytest.mark.parametrize(
    ("side", "kind", "params", "price", "ms"),
    [
        ("SELL", "STOP_LOSS", {"stopPrice": "98"}, "98", 15_000),  # a touch is enough
        ("SELL", "STOP_LOSS_LIMIT", {"stopPrice": "99", "price": "98.5"}, "99", 15_000),
        ("SELL", "TAKE_PROFIT", {"stopPrice": "101.5"}, "101.5", 45_000),
        ("SELL", "TAKE_PROFIT_LIMIT", {"stopPrice": "101.5", "price": "101"}, "101.5", 45_000),
        ("BUY", "STOP_LOSS", {"stopPrice": "101.5"}, "101.5", 45_000),
        ("BUY", "STOP_LOSS_LIMIT", {"stopPrice": "101.5", "price": "103"}, "101.5", 45_000),
        ("BUY", "TAKE_PROFIT", {"stopPrice": "99"}, "99", 15_000),
        ("BUY", "TAKE_PROFIT_LIMIT", {"stopPrice": "99", "price": "99.5"}, "99", 15_000),
    ],
)
def test_each_kind_triggers_on_its_side_and_trades_at_its_stop_price(side, kind, params, price, ms):
    hands = holding(RISING)
    if kind.endswith("_LIMIT"):
        params = {**params, "timeInForce": "GTC"}
    order = hands.order(side, kind, quantity="2", **params)
    locked = hands.owns()["USDT" if side == "BUY" else "BTC"][1]
    assert locked == (2 * D(params.get("price", params["stopPrice"])) if side == "BUY" else 2)
    hands.step(2 * MINUTE)
    assert fills(hands, order) == [(*e8(price, 2), ms, False)]
    assert all(locked == 0 for _, locked in hands.owns().values())


@pytest.mark.parametrize(
    ("rows", "side", "kind", "params", "expected"),
    [
        (DOWN, "SELL", "STOP_LOSS", {"stopPrice": "99"}, ("95", 60_000)),
        (DOWN, "SELL", "STOP_LOSS_LIMIT", {"stopPrice": "99", "price": "94.5"}, ("95", 60_000)),
        (UP, "BUY", "STOP_LOSS", {"stopPrice": "101"}, ("108", 60_000)),
        (UP, "SELL", "TAKE_PROFIT", {"stopPrice": "101"}, ("108", 60_000)),
        (DOWN, "BUY", "TAKE_PROFIT", {"stopPrice": "99"}, ("95", 60_000)),
        (DOWN, "BUY", "TAKE_PROFIT_LIMIT", {"stopPrice": "99", "price": "98"}, ("95", 60_000)),
    ],
)
def test_a_candle_that_opens_beyond_a_stop_fills_it_at_that_open(rows, side, kind, params, expected):
    hands = holding(rows)
    if kind.endswith("_LIMIT"):
        params = {**params, "timeInForce": "GTC"}
    order = hands.order(side, kind, quantity="2", **params)
    hands.step(2 * MINUTE)
    assert fills(hands, order) == [(*e8(expected[0], 2), expected[1], False)]
    assert all(locked == 0 for _, locked in hands.owns().values())


def test_a_stop_limit_opened_beyond_its_limit_rests_there_and_fills_when_the_price_comes_back():
    hands = holding(DOWN)
    order = hands.order("SELL", "STOP_LOSS_LIMIT", quantity="2", stopPrice="99", price="98", timeInForce="GTC")
    hands.step(MINUTE + 30_000)
    told = state(hands, order)
    assert (told["status"], told["isWorking"], told["workingTime"]) == ("NEW", True, START + MINUTE)
    assert hands.owns()["BTC"] == (D(98), D(2))
    hands.step(MINUTE + 15_000)  # 97, 96, and the walk up to 99
    assert fills(hands, order) == [(*e8(98, 2), 2 * MINUTE + 45_000, True)]


def test_a_stop_whose_limit_lies_further_along_the_same_walk_rests_for_the_rest_of_it():
    hands = holding(RISING)
    near = hands.order("SELL", "TAKE_PROFIT_LIMIT", quantity="1", stopPrice="101", price="101.8", timeInForce="GTC")
    far = hands.order("SELL", "TAKE_PROFIT_LIMIT", quantity="1", stopPrice="101", price="104", timeInForce="GTC")
    between = hands.order("SELL", "LIMIT", quantity="1", price="101.5")
    hands.step(59_000)
    assert fills(hands, near) == [(*e8("101.8", 1), 45_000, True)]
    assert (state(hands, far)["status"], state(hands, far)["isWorking"]) == ("NEW", True)
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert [t["orderId"] for t in trades] == [between["orderId"], near["orderId"]]  # in the order in which the walk met them
    hands.step(MINUTE)
    assert fills(hands, far) == [(*e8(104, 1), MINUTE + 45_000, True)]


def test_a_stop_behind_its_own_limit_rests_until_the_price_returns():
    hands = holding(RISING)
    order = hands.order("SELL", "STOP_LOSS_LIMIT", quantity="1", stopPrice="99", price="100", timeInForce="GTC")
    hands.step(44_000)
    assert state(hands, order)["isWorking"] and fills(hands, order) == []
    hands.step(1_000)
    assert fills(hands, order) == [(*e8(100, 1), 45_000, True)]


def test_a_triggered_ioc_or_fok_that_finds_nothing_expires_with_its_reason():
    hands = holding(DOWN)
    for life in ("IOC", "FOK"):
        hands.order("SELL", "STOP_LOSS_LIMIT", quantity="1", stopPrice="99", price="98", timeInForce=life, newClientOrderId=life)
    assert hands.owns()["BTC"] == (D(98), D(2))
    hands.step(MINUTE + 1)
    for life, reason in (("IOC", "UNFILLED_IOC_QUANTITY_EXPIRED"), ("FOK", "UNFILLED_FOK_ORDER_EXPIRED")):
        told = hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId=life)
        assert (told["status"], told["expiryReason"], told["executedQty"]) == ("EXPIRED", reason, *e8(0))
    assert hands.owns()["BTC"] == (D(100), 0)


def test_a_buy_stop_that_a_gap_makes_too_dear_takes_free_money_and_without_it_expires():
    hands = Hands(FixedMarket(UP))
    rich = hands.order("BUY", "STOP_LOSS", quantity="90", stopPrice="101")
    assert hands.owns()["USDT"] == (D(910), D(9090))
    hands.step(2 * MINUTE)
    assert fills(hands, rich) == [(*e8(108, 90), MINUTE, False)]
    assert hands.owns()["USDT"] == (D(280), 0)
    hands = Hands(FixedMarket(UP))
    poor = hands.order("BUY", "STOP_LOSS", quantity="95", stopPrice="101")
    hands.step(2 * MINUTE)
    told = state(hands, poor)
    assert (told["status"], told["expiryReason"], told["updateTime"], told["executedQty"]) == ("EXPIRED", "REJECTED", START + MINUTE, *e8(0))
    assert hands.owns() == {"USDT": (D(10000), 0)}


def test_inside_a_gap_of_the_data_a_stop_waits_for_the_next_open():
    hands = holding([("100", "100", "100", "100"), None, None, ("90", "91", "89", "90")])
    order = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="95")
    hands.step(2 * MINUTE)
    assert state(hands, order)["status"] == "NEW"
    hands.step(2 * MINUTE)
    assert fills(hands, order) == [(*e8(90, 1), 3 * MINUTE, False)]


def test_a_jump_of_thirty_days_triggers_at_its_own_time():
    hands = holding(RISING)
    order = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="98.5")
    hands.step(30 * 86_400_000)
    assert fills(hands, order) == [(*e8("98.5", 1), 15_000, False)]


def test_prints_before_an_order_came_do_not_reach_it_though_another_accounts_order_has_to_be_walked():
    hands = holding(RISING)
    hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="90")
    hands.paper("POST", "accounts", {"name": "b", "api_key": "b", "api_secret": "b", "balances": {"BTC": 1}})
    hands.x.clock.step_to(START + 45_000)  # nobody has looked since: the walk to 98 and from there to 102 is still to be made
    late = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": "1", "stopPrice": "101"}
    assert hands.signed("POST", "/api/v3/order", "b", "b", **late).status == 200
    hands.step(10_000)
    assert hands.owns("b", "b") == {"BTC": (0, 1)}
    hands.step(10_000)
    assert hands.owns("b", "b") == {"USDT": (D("100.899"), 0)}


def test_slippage_is_not_added_to_a_stop():
    hands = Hands(FixedMarket(RISING), PAPER_SLIPPAGE_PCT="0.5")
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 1})
    order = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="99")
    hands.step(MINUTE)
    assert fills(hands, order)[0][0] == e8(99)[0]


def test_a_limit_maker_rests_as_maker_or_is_refused():
    hands = holding(RISING)
    for price in ("100", "100.5"):
        assert hands.order("BUY", "LIMIT_MAKER", quantity="1", price=price) == (400, -2010, "Order would immediately match and take.")
    assert hands.order("SELL", "LIMIT_MAKER", quantity="1", price="100") == (400, -2010, "Order would immediately match and take.")
    assert hands.owns() == {"USDT": (D(10000), 0), "BTC": (D(100), 0)}
    order = hands.order("SELL", "LIMIT_MAKER", quantity="1", price="101", newOrderRespType="RESULT")
    assert (order["status"], order["type"], order["workingTime"], "stopPrice" in order) == ("NEW", "LIMIT_MAKER", START, False)
    hands.step(MINUTE)
    assert fills(hands, order) == [(*e8(101, 1), 45_000, True)]


def test_a_cancel_of_a_stop_frees_its_lock_and_tells_its_stop_price():
    hands = holding(RISING)
    order = hands.order("BUY", "STOP_LOSS", quantity="2", stopPrice="105")
    assert hands.owns()["USDT"] == (D(9790), D(210))
    told = hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])
    assert (told["status"], told["stopPrice"], told["type"]) == ("CANCELED", *e8(105), "STOP_LOSS")
    assert hands.owns()["USDT"] == (D(10000), 0)


def test_a_partial_fill_of_a_triggered_stop_expires_at_market_and_rests_with_a_limit():
    hands = holding(RISING)
    fault = {"method": "POST", "path": "/api/v3/order", "fault": "partial_fill", "times": 1, "params": {"fraction": 0.4}}
    hands.paper("POST", "faults", fault)
    market = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="99")
    hands.paper("POST", "faults", fault)
    limit = hands.order("SELL", "STOP_LOSS_LIMIT", quantity="1", stopPrice="99", price="98.5", timeInForce="GTC")
    hands.paper("POST", "faults", fault)
    refused = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="101")
    assert refused == (400, -2010, "Stop price would trigger immediately.")
    assert hands.paper("GET", "faults")[-1]["left"] == 1  # nothing was placed: it waits for its order
    hands.step(15_000)
    told = state(hands, market)
    assert (told["status"], told["executedQty"], told["expiryReason"]) == ("EXPIRED", *e8("0.4"), "INSUFFICIENT_LIQUIDITY")
    told = state(hands, limit)
    assert (told["status"], told["executedQty"], told["isWorking"]) == ("PARTIALLY_FILLED", *e8("0.4"), True)
    assert hands.owns()["BTC"] == (D("98.6"), D("0.6"))
    hands.step(MINUTE)
    assert [f[1] for f in fills(hands, limit)] == list(e8("0.4", "0.6"))
    assert hands.owns()["BTC"] == (D("98.6"), 0)


def test_five_stops_a_symbol_and_account_are_the_most():
    five = {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}
    hands = holding(flat(), filters=[five])
    for _ in range(5):
        assert "orderId" in hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="90")
    full = (400, -1013, "Filter failure: MAX_NUM_ALGO_ORDERS")
    assert hands.order("SELL", "TAKE_PROFIT_LIMIT", quantity="1", stopPrice="110", price="110", timeInForce="GTC") == full
    assert hands.order("SELL", "LIMIT_MAKER", quantity="1", price="110")["orderId"]
    assert hands.order("SELL", "LIMIT", quantity="1", price="110")["status"] == "NEW"
    hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    hands.x.exchange_filters = [{"filterType": "EXCHANGE_MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 1}]
    hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="90")
    told = hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="90")
    assert told == (400, -1013, "Filter failure: EXCHANGE_MAX_NUM_ALGO_ORDERS")


def test_faults_strike_stops_as_they_strike_orders():
    hands = holding(RISING)
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_after", "times": 1})
    lost = hands.signed("POST", "/api/v3/order", symbol="BTCUSDT", side="SELL", type="STOP_LOSS", quantity="1", stopPrice="99", newClientOrderId="lost")
    assert lost.cut
    assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="lost")["status"] == "NEW"
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order", "fault": "error", "times": 1, "params": {"executed": True, "code": -1007}})
    assert hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="99", newClientOrderId="unknown")[1] == -1007
    hands.step(MINUTE)
    for name in ("lost", "unknown"):
        assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId=name)["status"] == "FILLED"
