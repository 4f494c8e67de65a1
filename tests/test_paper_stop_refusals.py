"""What the paper exchange refuses of stops, targets and order lists, with Binance's own code and text."""

from __future__ import annotations

import pytest

from paper_fixed import FILTERS, FixedMarket, Hands, flat

STOP = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": "1", "stopPrice": "98"}
STOP_LIMIT = {**STOP, "type": "STOP_LOSS_LIMIT", "price": "97", "timeInForce": "GTC"}
TARGET = {**STOP, "type": "TAKE_PROFIT", "stopPrice": "102"}
MAKER = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT_MAKER", "quantity": "1", "price": "101"}
SELL = {
    "symbol": "BTCUSDT", "side": "SELL", "quantity": "1", "aboveType": "LIMIT_MAKER", "abovePrice": "104",
    "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": "97", "belowPrice": "96", "belowTimeInForce": "GTC",
}  # fmt: skip
BUY = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "1", "belowType": "LIMIT_MAKER", "belowPrice": "96", "aboveType": "STOP_LOSS", "aboveStopPrice": "104"}
OLD = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "1", "price": "104", "stopPrice": "97"}
DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
AT_ONCE = (-2010, "Stop price would trigger immediately.")
RELATION = (-2010, "The relationship of the prices for the orders is not correct.")
FUNDS = (-2010, "Account has insufficient balance for requested action.")


def missing(name):
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def surplus(name):
    return -1106, f"Parameter '{name}' sent when not required."


def failed(name):
    return -1013, f"Filter failure: {name}"


def neither(one, other):
    return -1102, f"Param '{one}' or '{other}' must be sent, but both were empty/null!"


BAD = [
    # where, what is changed (None: left out), in which order, code and text
    ("order", {"stopPrice": None}, STOP, *neither("stopPrice", "trailingDelta")),
    ("order", {"price": "97"}, STOP, *surplus("price")),
    ("order", {"timeInForce": "GTC"}, STOP, *surplus("timeInForce")),
    ("order", {"quoteOrderQty": "100"}, STOP, *surplus("quoteOrderQty")),
    ("order", {"quantity": None, "quoteOrderQty": "100"}, STOP, *missing("quantity")),
    ("order", {"timeInForce": None}, STOP_LIMIT, *missing("timeInForce")),
    ("order", {"price": None}, STOP_LIMIT, *missing("price")),
    ("order", {"stopPrice": "0"}, STOP, -1013, "Invalid price."),
    ("order", {"stopPrice": "9.8e1"}, STOP, -1100, f"Illegal characters found in parameter 'stopPrice'; legal range is '{DECIMAL}'."),
    ("order", {"stopPrice": "98.000000001"}, STOP, -1111, "Parameter 'stopPrice' has too much precision."),
    ("order", {"stopPrice": "98.001"}, STOP, *failed("PRICE_FILTER")),
    ("order", {"price": "49"}, STOP_LIMIT, *failed("PERCENT_PRICE_BY_SIDE")),
    ("order", {"quantity": "0.051"}, STOP, *failed("NOTIONAL")),  # 4.998 at the stop price
    ("order", {"quantity": "141"}, STOP, *failed("MARKET_LOT_SIZE")),
    ("order", {"stopPrice": "100"}, STOP, *AT_ONCE),
    ("order", {"stopPrice": "101"}, STOP_LIMIT, *AT_ONCE),
    ("order", {"stopPrice": "100"}, TARGET, *AT_ONCE),
    ("order", {"side": "BUY"}, STOP, *AT_ONCE),
    ("order", {"side": "BUY"}, TARGET, *AT_ONCE),
    ("order", {"stopPrice": None, "trailingDelta": "100"}, STOP, -2010, "Trailing stop orders are not supported for this symbol."),
    ("order", {"trailingDelta": "100"}, STOP_LIMIT, -2010, "Trailing stop orders are not supported for this symbol."),
    ("order", {"quantity": "11"}, STOP, *FUNDS),
    ("order", {"side": "BUY", "stopPrice": "102", "quantity": "98.1"}, STOP, *FUNDS),
    ("order", {"timeInForce": "GTC"}, MAKER, *surplus("timeInForce")),
    ("order", {"stopPrice": "99"}, MAKER, *surplus("stopPrice")),
    ("order", {"price": None}, MAKER, *missing("price")),
    ("order", {"price": "100"}, MAKER, -2010, "Order would immediately match and take."),
    ("orderList/oco", {"aboveType": None}, SELL, *missing("aboveType")),
    ("orderList/oco", {"belowType": None}, SELL, *missing("belowType")),
    ("orderList/oco", {"quantity": None}, SELL, *missing("quantity")),
    ("orderList/oco", {"abovePrice": None}, SELL, *missing("abovePrice")),
    ("orderList/oco", {"belowTimeInForce": None}, SELL, *missing("belowTimeInForce")),
    ("orderList/oco", {"belowStopPrice": None}, SELL, *neither("belowStopPrice", "belowTrailingDelta")),
    ("orderList/oco", {"aboveStopPrice": "104"}, SELL, *surplus("aboveStopPrice")),
    ("orderList/oco", {"aboveTimeInForce": "GTC"}, SELL, *surplus("aboveTimeInForce")),
    ("orderList/oco", {"belowPrice": "96", "belowType": "STOP_LOSS", "belowTimeInForce": None}, SELL, *surplus("belowPrice")),
    ("orderList/oco", {"price": "104"}, SELL, -1104, "Not all sent parameters were read; read '11' parameter(s) but was sent '12'."),
    ("orderList/oco", {"belowStopPrice": "x"}, SELL, -1100, f"Illegal characters found in parameter 'belowStopPrice'; legal range is '{DECIMAL}'."),
    (
        "orderList/oco",
        {"aboveClientOrderId": "a b"},
        SELL,
        -1100,
        "Illegal characters found in parameter 'aboveClientOrderId'; legal range is '^[a-zA-Z0-9-_]{1,36}$'.",
    ),
    ("orderList/oco", {"belowStopPrice": "97.000000001"}, SELL, -1111, "Parameter 'belowStopPrice' has too much precision."),
    ("orderList/oco", {"belowTimeInForce": "NOW"}, SELL, -1115, "Invalid timeInForce."),
    ("orderList/oco", {"side": "HOLD"}, SELL, -1117, "Invalid side."),
    ("orderList/oco", {"symbol": "NOPE"}, SELL, -1121, "Invalid symbol."),
    ("orderList/oco", {"aboveType": "STOP", "abovePrice": None}, SELL, -1116, "Invalid orderType."),
    ("orderList/oco", {"aboveType": "MARKET", "abovePrice": None}, SELL, -1158, "Order type not supported in OCO."),
    ("orderList/oco", {"aboveType": "LIMIT", "aboveTimeInForce": "GTC"}, SELL, -1158, "Order type not supported in OCO."),
    ("orderList/oco", {"aboveType": "LIMIT_MAKER", "aboveStopPrice": None, "abovePrice": "104"}, BUY, -1168, "At least one OCO order must be contingent."),
    (
        "orderList/oco",
        {"belowType": "STOP_LOSS", "belowStopPrice": "96", "belowPrice": None, "aboveType": "LIMIT_MAKER", "aboveStopPrice": None, "abovePrice": "104"},
        BUY,
        -1165,
        "A limit order in a buy OCO must be below.",
    ),
    (
        "orderList/oco",
        {"belowType": "LIMIT_MAKER", "belowStopPrice": None, "belowTimeInForce": None, "aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "104"},
        SELL,
        -1166,
        "A limit order in a sell OCO must be above.",
    ),
    ("orderList/oco", {"belowType": "STOP_LOSS", "belowStopPrice": "96", "belowPrice": None}, BUY, -1196, "A stop loss order in a buy OCO must be above."),
    (
        "orderList/oco",
        {"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "104"},
        SELL,
        -1197,
        "A stop loss order in a sell OCO must be below.",
    ),
    ("orderList/oco", {"aboveType": "TAKE_PROFIT"}, BUY, -1198, "A take profit order in a buy OCO must be below."),
    (
        "orderList/oco",
        {"belowType": "TAKE_PROFIT", "belowPrice": None, "belowTimeInForce": None},
        SELL,
        -1199,
        "A take profit order in a sell OCO must be above.",
    ),
    (
        "orderList/oco",
        {"belowIcebergQty": "0.5", "belowTimeInForce": "IOC"},
        SELL,
        -1160,
        "Parameter 'belowIcebergQty' is not supported if `aboveTimeInForce`/`belowTimeInForce` is not GTC.",
    ),
    ("orderList/oco", {"abovePegPriceType": "PRIMARY_PEG"}, SELL, -1020, "This operation is not supported."),
    ("orderList/oco", {"belowStrategyType": "5"}, SELL, -1134, "strategyType was less than 1000000."),
    ("orderList/oco", {"quantity": "0"}, SELL, -1013, "Invalid quantity."),
    ("orderList/oco", {"abovePrice": "104.001"}, SELL, *failed("PRICE_FILTER")),
    ("orderList/oco", {"abovePrice": "201"}, SELL, *failed("PERCENT_PRICE_BY_SIDE")),
    ("orderList/oco", {"quantity": "0.0501", "belowPrice": "96"}, SELL, *failed("NOTIONAL")),  # the limit alone would do
    ("orderList/oco", {"quantity": "1.00001"}, SELL, *failed("LOT_SIZE")),
    ("orderList/oco", {"abovePrice": "100"}, SELL, *RELATION),
    ("orderList/oco", {"belowStopPrice": "100"}, SELL, *RELATION),
    ("orderList/oco", {"belowPrice": "100"}, BUY, *RELATION),
    ("orderList/oco", {"aboveStopPrice": "99"}, BUY, *RELATION),
    ("orderList/oco", {"aboveType": "TAKE_PROFIT", "abovePrice": None, "aboveStopPrice": "99"}, SELL, *RELATION),
    ("orderList/oco", {"belowTrailingDelta": "100"}, SELL, -2010, "Trailing stop orders are not supported for this symbol."),
    ("orderList/oco", {"aboveIcebergQty": "0.5"}, SELL, -2010, "Iceberg orders are not supported for this symbol."),
    ("orderList/oco", {"aboveClientOrderId": "one", "belowClientOrderId": "one"}, SELL, -2010, "Duplicate order sent."),
    ("orderList/oco", {"quantity": "11"}, SELL, *FUNDS),
    ("orderList/oco", {"quantity": "97"}, BUY, *FUNDS),  # the limit alone could be paid
    ("order/oco", {"price": None}, OLD, *missing("price")),
    ("order/oco", {"stopPrice": None}, OLD, *neither("stopPrice", "trailingDelta")),
    ("order/oco", {"stopLimitPrice": "96"}, OLD, *missing("stopLimitTimeInForce")),
    ("order/oco", {"stopLimitTimeInForce": "GTC"}, OLD, *surplus("stopLimitTimeInForce")),
    ("order/oco", {"aboveType": "LIMIT_MAKER"}, OLD, -1104, "Not all sent parameters were read; read '7' parameter(s) but was sent '8'."),
    ("order/oco", {"price": "97", "stopPrice": "104"}, OLD, *RELATION),
    ("order/oco", {"side": "BUY"}, OLD, *RELATION),
]


@pytest.mark.parametrize(("path", "changed", "order", "code", "text"), BAD, ids=[f"{i}{b[3]}" for i, b in enumerate(BAD)])
def test_a_bad_stop_or_list_is_refused_in_binances_words_and_changes_nothing(path, changed, order, code, text):
    hands = Hands(FixedMarket(flat()))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    params = {k: v for k, v in {**order, **changed}.items() if v is not None}
    assert hands.ask("POST", f"/api/v3/{path}", **params) == (400, code, text)
    assert hands.owns() == {"USDT": (10000, 0), "BTC": (10, 0)}
    assert hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT") == hands.ask("GET", "/api/v3/allOrderList") == []


@pytest.mark.parametrize(("path", "order"), [("order", STOP), ("order", STOP_LIMIT), ("order", TARGET), ("order", MAKER), ("orderList/oco", SELL),
                                             ("orderList/oco", BUY), ("order/oco", OLD)])  # fmt: skip
def test_what_they_are_changed_from_is_taken(path, order):
    hands = Hands(FixedMarket(flat()))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    assert "symbol" in hands.ask("POST", f"/api/v3/{path}", **order)


def test_lists_of_a_symbol_that_has_none_and_names_in_use_are_refused():
    hands = Hands(FixedMarket(flat(), ocoAllowed=False))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    assert hands.ask("POST", "/api/v3/orderList/oco", **SELL) == (400, -2010, "OCO orders are not supported for this symbol")
    hands = Hands(FixedMarket(flat(), filters=[f for f in FILTERS if not f["filterType"].startswith("MAX")]))
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 10})
    hands.ask("POST", "/api/v3/orderList/oco", **SELL, listClientOrderId="list", belowClientOrderId="leg")
    duplicate = (400, -2010, "Duplicate order sent.")
    assert hands.ask("POST", "/api/v3/orderList/oco", **SELL, listClientOrderId="list") == duplicate
    assert hands.ask("POST", "/api/v3/orderList/oco", **SELL, aboveClientOrderId="leg") == duplicate
    assert hands.ask("POST", "/api/v3/order", **STOP, newClientOrderId="leg") == duplicate
    assert hands.owns()["BTC"] == (9, 1)


def test_a_dry_run_knows_the_new_types():
    hands = Hands(FixedMarket(flat()))
    assert hands.ask("POST", "/api/v3/order/test", **STOP) == {}
    assert hands.ask("POST", "/api/v3/order/test", **{**STOP, "stopPrice": "98.001"}) == (400, *failed("PRICE_FILTER"))
    trailing = {k: v for k, v in STOP.items() if k != "stopPrice"} | {"trailingDelta": "100"}
    assert hands.ask("POST", "/api/v3/order/test", **trailing)[1] == -2010
    assert hands.owns() == {"USDT": (10000, 0)}
