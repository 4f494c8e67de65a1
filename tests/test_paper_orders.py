"""The life of an order on the paper exchange: what fills, when, at which price, and what it moves."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from paper_fixed import MINUTE, START, FixedMarket, Hands, flat

# Prints of the first candles: 100 at 0, 98 at 15 s (the low, by the tie), 102 at 45 s, 101 at 59.999 s; then 101 … 105.
RISING = [("100", "102", "98", "101"), ("101", "106", "100", "105"), ("105", "105", "105", "105")]
GAP = [("100", "100", "100", "100"), ("95", "96", "94", "95"), ("108", "109", "107", "108")]


@pytest.fixture
def hands():
    return Hands(FixedMarket(RISING))


def state(hands, order):
    return hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])


def fills(hands, order):
    return [(f["price"], f["qty"], f["time"], f["isMaker"]) for f in hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=order["orderId"])]


def test_a_market_buy_fills_at_the_last_print_and_pays_its_fee_in_the_coin(hands):
    hands.step(20_000)
    order = hands.order("BUY", quantity="10")
    assert (order["status"], order["executedQty"], order["cummulativeQuoteQty"], order["price"]) == ("FILLED", "10.00000000", "980.00000000", "0.00000000")
    assert order["fills"] == [{"price": "98.00000000", "qty": "10.00000000", "commission": "0.01000000", "commissionAsset": "BTC", "tradeId": 1}]
    assert order["transactTime"] == order["workingTime"] == START + 20_000
    assert hands.owns() == {"USDT": (D(9020), 0), "BTC": (D("9.99"), 0)}


def test_selling_all_that_was_bought_fails_for_the_fee_and_what_is_owned_sells(hands):
    hands.order("BUY", quantity="10")
    assert hands.order("SELL", quantity="10") == (400, -2010, "Account has insufficient balance for requested action.")
    order = hands.order("SELL", quantity="9.99")
    assert order["fills"][0]["commission"] == "0.99900000" and order["fills"][0]["commissionAsset"] == "USDT"
    assert hands.owns() == {"USDT": (D("9998.001"), 0)}


def test_an_order_sized_in_the_quote_asset_is_rounded_down_to_the_step_on_both_sides(hands):
    bought = hands.order("BUY", quoteOrderQty="33.3333")
    assert (bought["origQty"], bought["origQuoteOrderQty"], bought["cummulativeQuoteQty"]) == ("0.33330000", "33.33330000", "33.33000000")
    assert bought["status"] == "FILLED"
    sold = hands.order("SELL", quoteOrderQty="10.005")
    assert sold["executedQty"] == "0.10000000"


def test_a_crossing_limit_fills_at_once_at_the_last_price_and_frees_the_rest_of_its_lock(hands):
    order = hands.order("BUY", "LIMIT", quantity="1", price="101.5")
    assert order["status"] == "FILLED" and order["fills"][0]["price"] == "100.00000000"
    assert hands.owns() == {"USDT": (D(9900), 0), "BTC": (D("0.999"), 0)}


def test_a_resting_buy_locks_is_reached_on_the_walk_and_fills_at_its_own_price_at_the_prints_time(hands):
    order = hands.order("BUY", "LIMIT", quantity="2", price="99.5")
    assert order["status"] == "NEW"
    assert hands.owns() == {"USDT": (D(9801), D(199))}
    hands.step(14_999)
    assert state(hands, order)["status"] == "NEW"
    hands.step(1)
    told = state(hands, order)
    assert (told["status"], told["updateTime"]) == ("FILLED", START + 15_000)
    assert fills(hands, order) == [("99.50000000", "2.00000000", START + 15_000, True)]
    assert hands.owns() == {"USDT": (D(9801), 0), "BTC": (D("1.998"), 0)}


def test_a_touch_is_enough_and_a_price_never_touched_is_not(hands):
    touched = hands.order("BUY", "LIMIT", quantity="1", price="98")
    missed = hands.order("BUY", "LIMIT", quantity="1", price="97.99")
    hands.step(3 * MINUTE)
    assert state(hands, touched)["status"] == "FILLED"
    assert state(hands, missed)["status"] == "NEW"


def test_a_candle_that_opens_beyond_a_resting_order_fills_it_at_that_open():
    hands = Hands(FixedMarket(GAP))
    buy = hands.order("BUY", "LIMIT", quantity="1", price="97")
    hands.step(2 * MINUTE - 1)
    sell = hands.order("SELL", "LIMIT", quantity="0.5", price="100")
    hands.step(MINUTE)
    assert fills(hands, buy) == [("95.00000000", "1.00000000", START + MINUTE, True)]
    assert fills(hands, sell) == [("108.00000000", "0.50000000", START + 2 * MINUTE, True)]
    assert hands.owns()["USDT"] == (D(10000) - 95 + D("53.946"), 0)


def test_an_order_placed_after_a_print_is_not_filled_by_it(hands):
    hands.step(15_000)  # the low has just printed
    order = hands.order("BUY", "LIMIT", quantity="1", price="97.99")
    hands.step(5_000)
    late = hands.order("SELL", "LIMIT", quantity="1", price="104")
    assert late == (400, -2010, "Account has insufficient balance for requested action.")
    hands.step(MINUTE)
    assert state(hands, order)["status"] == "NEW"


def test_orders_met_on_one_walk_fill_in_the_order_in_which_it_meets_them(hands):
    deep = hands.order("BUY", "LIMIT", quantity="1", price="98.5")
    near = hands.order("BUY", "LIMIT", quantity="1", price="99.5")
    hands.step(MINUTE)
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert [t["orderId"] for t in trades] == [near["orderId"], deep["orderId"]]


def test_a_jump_of_thirty_days_finds_the_fill_at_its_own_time(hands):
    order = hands.order("BUY", "LIMIT", quantity="1", price="99")
    hands.step(30 * 86_400_000)
    assert fills(hands, order) == [("99.00000000", "1.00000000", START + 15_000, True)]


def test_ioc_and_fok_that_do_not_cross_expire_with_their_reason_and_lock_nothing(hands):
    for life, reason in (("IOC", "UNFILLED_IOC_QUANTITY_EXPIRED"), ("FOK", "UNFILLED_FOK_ORDER_EXPIRED")):
        order = hands.order("BUY", "LIMIT", quantity="1", price="99", timeInForce=life)
        assert (order["status"], order["executedQty"], order["expiryReason"]) == ("EXPIRED", "0.00000000", reason)
        assert hands.order("BUY", "LIMIT", quantity="1", price="100", timeInForce=life)["status"] == "FILLED"
    assert hands.owns()["USDT"] == (D(9800), 0)


def test_a_cancel_frees_the_lock_and_answers_with_an_id_of_its_own(hands):
    order = hands.order("BUY", "LIMIT", quantity="1", price="99", newClientOrderId="mine")
    told = hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine")
    assert (told["origClientOrderId"], told["status"], told["orderId"]) == ("mine", "CANCELED", order["orderId"])
    assert told["clientOrderId"] not in ("mine", "")
    named = hands.order("BUY", "LIMIT", quantity="1", price="99")
    assert hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=named["orderId"], newClientOrderId="bye")["clientOrderId"] == "bye"
    assert hands.owns() == {"USDT": (D(10000), 0)}


def test_a_client_id_guards_only_while_its_order_is_open_and_then_names_the_newest(hands):
    first = hands.order("BUY", quantity="1", newClientOrderId="same")
    second = hands.order("BUY", quantity="2", newClientOrderId="same")
    assert second["orderId"] > first["orderId"]
    assert hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="same")["orderId"] == second["orderId"]


def test_slippage_goes_against_the_taker_and_stays_inside_the_candle_and_on_the_tick():
    hands = Hands(FixedMarket(RISING), PAPER_SLIPPAGE_PCT="0.333")
    assert hands.order("BUY", quantity="1")["fills"][0]["price"] == "100.34000000"
    assert hands.order("SELL", quantity="0.5")["fills"][0]["price"] == "99.66000000"
    hands.step(45_000)
    assert hands.order("BUY", quantity="1")["fills"][0]["price"] == "102.00000000"  # the candle's high
    assert hands.order("BUY", "LIMIT", quantity="1", price="103")["fills"][0]["price"] == "102.00000000"


def test_all_orders_and_trades_answer_by_id_by_time_and_the_latest_by_default(hands):
    ids = []
    for _ in range(4):
        ids.append(hands.order("BUY", quantity="1")["orderId"])
        hands.step(1000)

    def orders(**params):
        return [o["orderId"] for o in hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", **params)]

    def trades(**params):
        return [t["orderId"] for t in hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", **params)]

    for ask in (orders, trades):
        assert ask() == ids
        assert ask(limit=2) == ids[2:]
        assert ask(startTime=START + 1000) == ids[1:]
        assert ask(startTime=START, limit=2) == ids[:2]
        assert ask(endTime=START + 1000) == ids[:2]
        assert ask(startTime=START + 1000, endTime=START + 2000) == ids[1:3]
        assert ask(startTime=(START + 1000) * 1000) == ids[1:]  # microseconds
    assert orders(orderId=ids[2]) == ids[2:]
    assert trades(fromId=3) == ids[2:]
    assert trades(orderId=ids[1]) == [ids[1]]
    assert hands.ask("GET", "/api/v3/allOrders", symbol="ETHBTC") == []


def test_a_dry_run_validates_and_does_nothing(hands):
    good = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1000"}
    assert hands.ask("POST", "/api/v3/order/test", **{**good, "quantity": "1"}) == {}
    assert hands.ask("POST", "/api/v3/order/test", **good) == (400, -1013, "Filter failure: MARKET_LOT_SIZE")
    assert hands.owns() == {"USDT": (D(10000), 0)}


def test_a_partial_fill_leaves_a_market_order_expired_and_a_limit_order_working(hands):
    fault = {"method": "POST", "path": "/api/v3/order", "fault": "partial_fill", "times": 1, "params": {"fraction": 0.4}}
    hands.paper("POST", "faults", fault)
    market = hands.order("BUY", quantity="1")
    assert (market["status"], market["executedQty"], market["expiryReason"]) == ("EXPIRED", "0.40000000", "INSUFFICIENT_LIQUIDITY")
    assert hands.owns() == {"USDT": (D(9960), 0), "BTC": (D("0.3996"), 0)}
    hands.paper("POST", "faults", fault)
    limit = hands.order("BUY", "LIMIT", quantity="1", price="100")
    assert (limit["status"], limit["executedQty"]) == ("PARTIALLY_FILLED", "0.40000000")
    assert hands.owns()["USDT"] == (D(9860), D(60))
    hands.step(15_000)
    assert state(hands, limit)["status"] == "FILLED"
    assert [f[1] for f in fills(hands, limit)] == ["0.40000000", "0.60000000"]
    hands.paper("POST", "faults", fault)
    ioc = hands.order("BUY", "LIMIT", quantity="1", price="100", timeInForce="IOC")
    assert (ioc["status"], ioc["executedQty"], ioc["expiryReason"]) == ("EXPIRED", "0.40000000", "UNFILLED_IOC_QUANTITY_EXPIRED")
    hands.paper("POST", "faults", fault)
    fok = hands.order("BUY", "LIMIT", quantity="1", price="100", timeInForce="FOK")
    assert (fok["status"], fok["executedQty"]) == ("EXPIRED", "0.00000000")
    hands.paper("POST", "faults", fault)
    rests = hands.order("BUY", "LIMIT", quantity="1", price="97")
    assert rests["executedQty"] == "0.00000000"
    assert hands.owns()["USDT"][1] == D(97)


def test_a_resting_order_with_a_partial_fill_goes_on_at_the_next_print_that_reaches_it(hands):
    hands.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order", "fault": "partial_fill", "times": 1, "params": {"fraction": 0.5}})
    order = hands.order("BUY", "LIMIT", quantity="1", price="99")
    hands.step(30_000)
    assert state(hands, order)["status"] == "PARTIALLY_FILLED"
    cancel = hands.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"], cancelRestrictions="ONLY_NEW")
    assert cancel == (400, -2011, "Order was not canceled due to cancel restrictions.")
    hands.step(30_000)  # the walk from 98 up to 102 passes 99
    assert fills(hands, order) == [("99.00000000", "0.50000000", START + 15_000, True), ("99.00000000", "0.50000000", START + 45_000, True)]


def test_fees_are_those_of_the_account_and_of_its_part_in_the_fill(hands):
    account = {"name": "vip", "api_key": "vip", "api_secret": "vip", "balances": {"USDT": "1000"}, "maker": 0, "taker": "0.0005"}
    hands.paper("POST", "accounts", account)
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    assert hands.signed("POST", "/api/v3/order", "vip", "vip", **order).status == 200
    assert hands.owns("vip", "vip")["BTC"] == (D("0.9995"), 0)
    limit = {**order, "type": "LIMIT", "timeInForce": "GTC", "price": "99"}
    assert hands.signed("POST", "/api/v3/order", "vip", "vip", **limit).status == 200
    hands.step(MINUTE)
    assert hands.owns("vip", "vip")["BTC"] == (D("1.9995"), 0)
    assert hands.owns() == {"USDT": (D(10000), 0)}  # the other account saw nothing of it
    assert hands.ask("GET", "/api/v3/openOrders") == []


def test_the_book_is_the_last_price_and_a_tick(hands):
    told = hands.get("/api/v3/ticker/bookTicker", symbol="BTCUSDT")
    assert (told["bidPrice"], told["askPrice"]) == ("99.99000000", "100.01000000")
    book = hands.get("/api/v3/depth", symbol="BTCUSDT", limit=2)
    assert [b[0] for b in book["bids"]] == ["99.99000000", "99.98000000"]


def test_what_is_in_a_closed_or_open_candle_is_what_klines_show_at_market_time(hands):
    hands.step(MINUTE + 1)
    rows = hands.get("/api/v3/klines", symbol="BTCUSDT", interval="1m")
    assert len(rows) == 2
    assert len(hands.get("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=5000)) == 2


def test_a_market_with_one_candle_only_can_be_asked_for_everything():
    hands = Hands(FixedMarket(flat(minutes=1)))
    assert hands.get("/api/v3/avgPrice", symbol="BTCUSDT")["price"] == "100.00000000"
    assert hands.get("/api/v3/ticker/24hr", symbol="BTCUSDT")["lastPrice"] == "100.00000000"
    assert len(hands.get("/api/v3/trades", symbol="BTCUSDT")) == 1
    assert hands.get("/api/v3/aggTrades", symbol="BTCUSDT", startTime=START)[0]["p"] == "100.00000000"
