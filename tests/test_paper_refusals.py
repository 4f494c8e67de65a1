"""What the paper exchange refuses, with Binance's own status, code and text."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from core.paper import signing
from paper_fixed import FIXTURES, MINUTE, START, WALL, FixedMarket, Hands, flat

ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "99"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
ID = "^[a-zA-Z0-9-_]{1,36}$"


def illegal(name, legal):
    return -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."


def missing(name):
    return -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def surplus(name):
    return -1106, f"Parameter '{name}' sent when not required."


def failed(name):
    return -1013, f"Filter failure: {name}"


BAD = [
    # what is changed (None: left out), in which order, code and text
    ({"symbol": None}, ORDER, *missing("symbol")),
    ({"side": None}, ORDER, *missing("side")),
    ({"type": None}, ORDER, *missing("type")),
    ({"timeInForce": None}, ORDER, *missing("timeInForce")),
    ({"quantity": None}, ORDER, *missing("quantity")),
    ({"price": None}, ORDER, *missing("price")),
    ({"quantity": None}, MARKET, -1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!"),
    ({"type": "STOP_LOSS_LIMIT"}, ORDER, -1102, "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!"),
    ({"quantity": ""}, ORDER, -1105, "Parameter 'quantity' was empty."),
    ({"newClientOrderId": ""}, ORDER, -1105, "Parameter 'newClientOrderId' was empty."),
    ({"quantity": "1e-05"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "-1"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "+1"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": ".5"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "1."}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "NaN"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "1" * 21}, ORDER, *illegal("quantity", DECIMAL)),
    ({"quantity": "١"}, ORDER, *illegal("quantity", DECIMAL)),
    ({"price": "1E+2"}, ORDER, *illegal("price", DECIMAL)),
    ({"quoteOrderQty": "ten", "quantity": None}, MARKET, *illegal("quoteOrderQty", DECIMAL)),
    ({"symbol": "btcusdt"}, ORDER, *illegal("symbol", "^[A-Z0-9-_.]{1,20}$")),
    ({"symbol": "BTC/USDT"}, ORDER, *illegal("symbol", "^[A-Z0-9-_.]{1,20}$")),
    ({"newClientOrderId": "a" * 37}, ORDER, *illegal("newClientOrderId", ID)),
    ({"newClientOrderId": "a b"}, ORDER, *illegal("newClientOrderId", ID)),
    ({"timeInForce": "GTC"}, MARKET, *surplus("timeInForce")),
    ({"price": "99"}, MARKET, *surplus("price")),
    ({"stopPrice": "99"}, MARKET, *surplus("stopPrice")),
    ({"stopPrice": "99"}, ORDER, *surplus("stopPrice")),
    ({"quoteOrderQty": "99"}, ORDER, *surplus("quoteOrderQty")),
    ({"icebergQty": "0.1", "timeInForce": "IOC"}, ORDER, *surplus("icebergQty")),
    ({"quoteOrderQty": "99"}, MARKET, -1128, "Combination of optional parameters invalid."),
    ({"quantiy": "1"}, ORDER, -1104, "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."),
    ({"timeInForce": "GTX"}, ORDER, -1115, "Invalid timeInForce."),
    ({"type": "STOP"}, MARKET, -1116, "Invalid orderType."),
    ({"side": "HOLD"}, ORDER, -1117, "Invalid side."),
    ({"side": "buy"}, ORDER, -1117, "Invalid side."),
    ({"symbol": "NOPEUSDT"}, ORDER, -1121, "Invalid symbol."),
    ({"symbol": "BNBUSDT"}, ORDER, -1121, "Invalid symbol."),  # not listed yet
    ({"newOrderRespType": "SHORT"}, ORDER, -1130, "Data sent for parameter 'newOrderRespType' is not valid."),
    ({"strategyType": "5"}, ORDER, -1134, "strategyType was less than 1000000."),
    ({"quantity": "1.000000001"}, ORDER, -1111, "Parameter 'quantity' has too much precision."),
    ({"price": "99.000000001"}, ORDER, -1111, "Parameter 'price' has too much precision."),
    ({"quoteOrderQty": "0.30000000000000004", "quantity": None}, MARKET, -1111, "Parameter 'quoteOrderQty' has too much precision."),
    ({"quantity": "0"}, ORDER, -1013, "Invalid quantity."),
    ({"quantity": "0.00"}, MARKET, -1013, "Invalid quantity."),
    ({"price": "0"}, ORDER, -1013, "Invalid price."),
    ({"price": "99.001"}, ORDER, *failed("PRICE_FILTER")),
    ({"price": "40"}, ORDER, *failed("PERCENT_PRICE_BY_SIDE")),
    ({"price": "201"}, ORDER, *failed("PERCENT_PRICE_BY_SIDE")),
    ({"quantity": "0.00001"}, ORDER, *failed("LOT_SIZE")),
    ({"quantity": "1.00005"}, MARKET, *failed("LOT_SIZE")),
    ({"quantity": "141"}, MARKET, *failed("MARKET_LOT_SIZE")),
    ({"quantity": "0.05"}, ORDER, *failed("NOTIONAL")),
    ({"quantity": "0.0499"}, MARKET, *failed("NOTIONAL")),
    ({"quoteOrderQty": "4.99", "quantity": None}, MARKET, *failed("NOTIONAL")),
    ({"quantity": "501"}, ORDER, *failed("MAX_POSITION")),
    ({"icebergQty": "0.5"}, ORDER, -2010, "Iceberg orders are not supported for this symbol."),
    ({"quantity": "102"}, ORDER, -2010, "Account has insufficient balance for requested action."),
    ({"quantity": "100.0001"}, MARKET, -2010, "Account has insufficient balance for requested action."),
    ({"side": "SELL"}, MARKET, -2010, "Account has insufficient balance for requested action."),
    ({"quoteOrderQty": "10001", "quantity": None}, MARKET, -2010, "Account has insufficient balance for requested action."),
    ({"pegPriceType": "PRIMARY_PEG"}, ORDER, -1020, "This operation is not supported."),
]


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


@pytest.mark.parametrize(("changed", "order", "code", "text"), BAD, ids=[f"{i}{b[2]}" for i, b in enumerate(BAD)])
def test_a_bad_order_is_refused_in_binances_words_and_changes_nothing(hands, changed, order, code, text):
    params = {k: v for k, v in {**order, **changed}.items() if v is not None}
    assert hands.ask("POST", "/api/v3/order", **params) == (400, code, text)
    assert hands.owns() == {"USDT": (10000, 0)}
    assert hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT") == []


@pytest.mark.parametrize("kind", ["LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"])
def test_a_type_that_the_symbol_does_not_list_is_refused_by_name(kind):
    hands = Hands(FixedMarket(flat(), orderTypes=["LIMIT", "MARKET"], ocoAllowed=False, cancelReplaceAllowed=False))
    params = {"quantity": "1"}
    if "LIMIT" in kind:
        params["price"] = "99"
    if kind.endswith("_LIMIT"):
        params["timeInForce"] = "GTC"
    if kind != "LIMIT_MAKER":
        params["stopPrice"] = "102" if kind.startswith("STOP_LOSS") else "98"
    words = kind.replace("_", " ").capitalize()
    assert hands.order("BUY", kind, **params) == (400, -2010, f"{words} orders are not supported for this symbol.")
    assert hands.order("BUY", "LIMIT", quantity="1", price="99")["status"] == "NEW"


def test_there_are_at_least_forty_kinds_of_bad_orders():
    assert len({(code, text) for *_, code, text in BAD}) >= 40


def sent(hands, text, key="paper", **headers):
    if key is not None:
        headers["x_mbx_apikey"] = key
    response = hands.raw("GET", "/api/v3/account", text, **headers)
    value = json.loads(response.body)
    return response.status, value.get("code"), value.get("msg")


def with_signature(text, secret="paper"):
    return text + "&signature=" + signing.sign(secret, text.encode())


def test_keys_times_and_signatures_are_refused_in_this_order(hands):
    good = f"timestamp={WALL}"
    ahead = "Timestamp for this request was 1000ms ahead of the server's time."
    late = "Timestamp for this request is outside of the recvWindow."
    assert sent(hands, with_signature(good))[0] == 200
    assert sent(hands, "", key=None) == (401, -2014, "API-key format invalid.")
    assert sent(hands, "", key="pa per") == (401, -2014, "API-key format invalid.")
    assert sent(hands, "", key="other") == (401, -2015, "Invalid API-key, IP, or permissions for action.")
    assert sent(hands, "signature=" + "a" * 64) == (400, *missing("timestamp"))
    assert sent(hands, good) == (400, *missing("signature"))
    assert sent(hands, good + "&signature=xyz") == (400, *illegal("signature", "^[A-Fa-f0-9]{64}$"))
    assert sent(hands, with_signature("timestamp=now")) == (400, *illegal("timestamp", "^[0-9]{1,20}$"))
    assert sent(hands, with_signature(f"timestamp={WALL - 5001}")) == (400, -1021, late)
    assert sent(hands, with_signature(f"timestamp={WALL - 5000}"))[0] == 200
    assert sent(hands, with_signature(f"recvWindow=10000&timestamp={WALL - 10000}"))[0] == 200
    assert sent(hands, with_signature(f"recvWindow=100.5&timestamp={WALL - 101}")) == (400, -1021, late)
    assert sent(hands, with_signature(f"recvWindow=60001&timestamp={WALL}")) == (400, -1131, "recvWindow must be less than 60000")
    assert sent(hands, with_signature(f"timestamp={WALL + 1000}")) == (400, -1021, ahead)
    assert sent(hands, with_signature(f"timestamp={WALL + 999}"))[0] == 200
    assert sent(hands, with_signature("timestamp=1400000000000")) == (400, -1021, late)
    assert sent(hands, with_signature(f"timestamp={WALL}123"))[0] == 200  # microseconds
    assert sent(hands, with_signature(good, "wrong")) == (400, -1022, "Signature for this request is not valid.")
    assert sent(hands, with_signature(good).replace(good, f"timestamp={WALL - 1}")) == (400, -1022, "Signature for this request is not valid.")
    upper = with_signature(good)
    assert sent(hands, upper[:-64] + upper[-64:].upper())[0] == 200
    # -1021 before -1022: who is late need not sign well.
    assert sent(hands, with_signature(f"timestamp={WALL - 9000}", "wrong"))[1] == -1021


def test_a_parameter_sent_twice_is_refused_and_the_query_wins_over_the_body(hands):
    assert sent(hands, with_signature(f"timestamp={WALL}&timestamp={WALL}")) == (400, -1101, "Duplicate values for a parameter detected.")
    query, body = f"price=98&timestamp={WALL}", urlencode(ORDER)
    signature = signing.sign("paper", (query + body).encode())
    response = hands.raw("POST", "/api/v3/order", query, (body + f"&signature={signature}").encode(), x_mbx_apikey="paper")
    assert json.loads(response.body)["price"] == "98.00000000"


def test_requests_about_orders_are_refused_in_binances_words(hands):
    ask = hands.ask
    assert ask("GET", "/api/v3/order", symbol="BTCUSDT") == (400, -1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    assert ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=7) == (400, -2013, "Order does not exist.")
    assert ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="x") == (400, -2013, "Order does not exist.")
    assert ask("GET", "/api/v3/order", symbol="NOPE", orderId=7) == (400, -1121, "Invalid symbol.")
    assert ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId="x") == (400, *illegal("orderId", "^[0-9]{1,20}$"))
    assert ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId="9" * 20) == (400, -1130, "Data sent for parameter 'orderId' is not valid.")
    assert ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=7) == (400, -2011, "Unknown order sent.")
    assert ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT") == (400, -2011, "Unknown order sent.")
    placed = hands.order("BUY", "LIMIT", quantity="1", price="99", newClientOrderId="one")
    other = hands.order("BUY", "LIMIT", quantity="1", price="99", newClientOrderId="two")
    assert hands.order("BUY", "LIMIT", quantity="1", price="99", newClientOrderId="one") == (400, -2010, "Duplicate order sent.")
    wrong = ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=placed["orderId"], origClientOrderId="two")
    assert wrong == (400, -2039, "Client order ID is not correct for this order ID.")
    assert ask("GET", "/api/v3/order", symbol="ETHBTC", orderId=placed["orderId"]) == (400, -2013, "Order does not exist.")
    restricted = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    assert ask("DELETE", "/api/v3/order", **restricted, cancelRestrictions="NEVER") == (400, -1145, "Invalid cancelRestrictions")
    refusal = (400, -2011, "Order was not canceled due to cancel restrictions.")
    assert ask("DELETE", "/api/v3/order", **restricted, cancelRestrictions="ONLY_PARTIALLY_FILLED") == refusal
    assert ask("DELETE", "/api/v3/order", **restricted, cancelRestrictions="ONLY_NEW")["status"] == "CANCELED"
    assert ask("DELETE", "/api/v3/order", **restricted) == (400, -2011, "Unknown order sent.")
    assert other["status"] == "NEW"
    day = {"startTime": START, "endTime": START + 86_400_001}
    assert ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", **day) == (400, -1127, "More than 24 hours between startTime and endTime.")
    combination = (400, -1128, "Combination of optional parameters invalid.")
    assert ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=1, startTime=START) == combination
    assert ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=1, endTime=START) == combination
    assert ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=0) == (400, -1130, "Data sent for parameter 'limit' is not valid.")


def test_too_many_open_orders_on_a_symbol_are_refused(hands):
    for _ in range(3):
        assert hands.order("BUY", "LIMIT", quantity="0.1", price="99")["status"] == "NEW"
    assert hands.order("BUY", "LIMIT", quantity="0.1", price="99") == (400, -1013, "Filter failure: MAX_NUM_ORDERS")
    assert hands.order("BUY", quantity="0.1")["status"] == "FILLED"


def test_an_order_gone_for_ninety_days_without_a_fill_is_archived(hands):
    placed = hands.order("BUY", "LIMIT", quantity="1", price="99")
    hands.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    hands.step(91 * 86_400_000)
    told = hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=placed["orderId"])
    assert told == (400, -2026, "Order was canceled or expired with no executed qty over 90 days ago and has been archived.")


def test_market_data_is_refused_in_binances_words(hands):
    get = hands.get
    assert get("/api/v3/klines", symbol="BTCUSDT") == (400, *missing("interval"))
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="7m") == (400, -1120, "Invalid interval.")
    assert get("/api/v3/klines", symbol="NOPE", interval="1m") == (400, -1121, "Invalid symbol.")
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="1m", startTime="-1") == (400, *illegal("startTime", "^[0-9]{1,20}$"))
    unread = "Not all sent parameters were read; read '2' parameter(s) but was sent '3'."
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="1m", start=1) == (400, -1104, unread)
    assert get("/api/v3/ping", symbol="BTCUSDT") == (400, -1101, "Too many parameters; expected '0' and received '1'.")
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="1d", timeZone=5) == (400, -1020, "This operation is not supported.")
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="1m", timeZone=15) == (400, -1130, "Data sent for parameter 'timeZone' is not valid.")
    assert get("/api/v3/klines", symbol="BTCUSDT", interval="1m", timeZone="-3:30") == get("/api/v3/klines", symbol="BTCUSDT", interval="1m")
    assert get("/api/v3/ticker/price", symbol="NOPE") == (400, -1121, "Invalid symbol.")
    assert get("/api/v3/ticker/price", symbols='["BTCUSDT","BTCUSDT"]') == (400, -1151, "Symbol is present multiple times in the list.")
    assert get("/api/v3/ticker/price", symbols="BTCUSDT")[1] == -1100
    assert get("/api/v3/exchangeInfo", symbol="NOPE") == (400, -1121, "Invalid symbol.")
    assert get("/api/v3/exchangeInfo", symbols='["BTCUSDT","NOPE"]') == (400, -1121, "Invalid symbol.")
    assert get("/api/v3/exchangeInfo", symbol="BTCUSDT", permissions="SPOT") == (400, -1128, "Combination of optional parameters invalid.")
    assert get("/api/v3/exchangeInfo", symbol="BTCUSDT", symbolStatus="HALT") == (400, -1128, "Combination of optional parameters invalid.")
    assert hands.raw("GET", "/api/v3/nothing").status == 404
    assert hands.raw("PATCH", "/api/v3/order").status == 404
    assert hands.raw("POST", "/api/v3/userDataStream").status == 410


def test_inside_a_gap_the_market_is_closed_but_resting_orders_may_wait():
    hands = Hands(FixedMarket([*flat(minutes=2), None, None, *flat(minutes=3)]))
    closed = (400, -2010, "Market is closed.")
    hands.step(2 * MINUTE + 1000)
    assert hands.get("/api/v3/ticker/price", symbol="BTCUSDT")["price"] == "100.00000000"
    assert hands.order("BUY", quantity="1") == closed
    assert hands.order("BUY", quoteOrderQty="100") == closed
    assert hands.order("BUY", "LIMIT", quantity="1", price="100") == closed
    assert hands.order("BUY", "LIMIT", quantity="1", price="99", timeInForce="IOC") == closed
    assert hands.order("BUY", "LIMIT", quantity="1", price="99")["status"] == "NEW"
    hands.step(2 * MINUTE)
    assert hands.order("BUY", quantity="1")["status"] == "FILLED"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the captures are not there")
def test_every_refusal_that_this_exchange_can_give_is_worded_as_recorded():
    recorded = {(r["http"], r["body"]["code"], r["body"]["msg"]) for r in json.loads((FIXTURES / "spot_errors.json").read_text())}
    ours = {(400, code, text) for *_, code, text in BAD}
    elsewhere = {-1003, -1015, -1021, -1022, -1120, -1145, -2011, -2013, -2014, -2015, -2026}  # other tests here say these word for word
    said = {"Duplicate order sent.", "Stop price would trigger immediately.", "Order would immediately match and take."}
    said.add("The relationship of the prices for the orders is not correct.")
    left = {r for r in recorded - ours if r[1] not in elsewhere and r[2] not in said}
    assert left == set()
