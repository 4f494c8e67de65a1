"""Fees in BNB: three quarters of the fee at BNB's price, while the account's BNB suffices."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest

from paper_fixed import FIXTURES, FixedMarket, Hands, flat

RISING = [("100", "102", "98", "101"), ("101", "106", "100", "105")]


def paying(bnb="1", price="500", rows=None, **changed):
    hands = Hands(FixedMarket(rows or flat(), bnb=price, **changed))
    if bnb is not None:
        hands.paper("POST", "accounts/paper/deposit", {"asset": "BNB", "amount": bnb})
    assert hands.paper("POST", "accounts/paper/bnb_fees", {"enabled": True})["bnb_fees"] is True
    return hands


def test_both_sides_pay_three_quarters_in_bnb_and_receive_all():
    hands = paying()
    bought = hands.order("BUY", quantity="2")["fills"][0]
    assert (bought["commission"], bought["commissionAsset"]) == ("0.00030000", "BNB")  # 200 × 0.001 × 0.75 / 500
    sold = hands.order("SELL", quantity="2")["fills"][0]
    assert (sold["commission"], sold["commissionAsset"]) == ("0.00030000", "BNB")
    assert hands.owns() == {"USDT": (D(10000), 0), "BNB": (D("0.9994"), 0)}
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert {t["commissionAsset"] for t in trades} == {"BNB"}


def test_where_the_bnb_does_not_suffice_the_full_fee_comes_out_of_what_is_received():
    hands = paying(bnb="0.0005")
    assert hands.order("BUY", quantity="2")["fills"][0]["commissionAsset"] == "BNB"
    second = hands.order("BUY", quantity="2")["fills"][0]  # 0.0002 BNB are left, 0.0003 are needed
    assert (second["commission"], second["commissionAsset"]) == ("0.00200000", "BTC")
    assert hands.owns()["BNB"] == (D("0.0002"), 0)
    third = hands.order("SELL", quantity="1")["fills"][0]
    assert (third["commission"], third["commissionAsset"]) == ("0.00015000", "BNB")
    none = paying(bnb=None).order("BUY", quantity="1")["fills"][0]
    assert (none["commission"], none["commissionAsset"]) == ("0.00100000", "BTC")


def test_bnb_that_an_order_holds_pays_no_fee():
    hands = paying(bnb="1", price="100")
    assert hands.order("SELL", "LIMIT", quantity="1", price="150", symbol="BNBUSDT")["status"] == "NEW"
    assert hands.order("BUY", quantity="1")["fills"][0]["commissionAsset"] == "BTC"
    assert hands.owns()["BNB"] == (0, D(1))


def test_where_nothing_tells_bnbs_price_the_fee_comes_out_of_what_is_received():
    hands = paying(price=None)
    assert hands.order("BUY", quantity="1")["fills"][0]["commissionAsset"] == "BTC"


def test_through_another_asset_where_there_is_no_pair_with_bnb():
    hands = paying(price="500")
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 1000})
    # ETHBTC stands at 100 BTC in this market, BTC at 100 USDT, BNB at 500 USDT.
    fill = hands.order("BUY", quantity="1", symbol="ETHBTC")["fills"][0]
    assert (fill["commission"], fill["commissionAsset"]) == ("0.01500000", "BNB")


def test_trading_bnb_itself_eats_the_position():
    hands = paying(bnb=None, price="500")
    bought = hands.order("BUY", quantity="2", symbol="BNBUSDT")["fills"][0]
    assert (bought["commission"], bought["commissionAsset"]) == ("0.00150000", "BNB")
    assert hands.owns()["BNB"] == (D("1.9985"), 0)
    assert hands.order("SELL", quantity="2", symbol="BNBUSDT") == (400, -2010, "Account has insufficient balance for requested action.")
    all_of_it = hands.order("SELL", quantity="1.9985", symbol="BNBUSDT")["fills"][0]
    assert all_of_it["commissionAsset"] == "USDT"  # nothing is left to pay with


def test_resting_orders_stops_and_lists_pay_in_bnb_too():
    hands = paying(rows=RISING)
    hands.order("BUY", quantity="3")
    hands.order("SELL", "STOP_LOSS", quantity="1", stopPrice="99")
    params = {"aboveType": "LIMIT_MAKER", "abovePrice": "104", "belowType": "STOP_LOSS", "belowStopPrice": "90"}
    hands.ask("POST", "/api/v3/orderList/oco", symbol="BTCUSDT", side="SELL", quantity="2", **params)
    hands.step(120_000)
    trades = hands.ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert [(t["price"], t["commission"], t["commissionAsset"]) for t in trades[1:]] == [
        ("99.00000000", "0.00014850", "BNB"),
        ("104.00000000", "0.00031200", "BNB"),
    ]
    assert hands.owns() == {"USDT": (D(10000) - 300 + 99 + 208, 0), "BNB": (1 - sum(D(t["commission"]) for t in trades), 0)}


def test_it_is_switched_with_the_account_by_the_controls_and_by_the_client_and_lasts(home):
    folder = home / "data" / "paper"
    hands = Hands(FixedMarket(flat(), bnb="500"), home, folder)
    value = {"name": "b", "api_key": "b", "api_secret": "b", "balances": {"USDT": 1000, "BNB": 1}, "bnb_fees": True}
    assert hands.paper("POST", "accounts", value)["bnb_fees"] is True
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    assert json.loads(hands.signed("POST", "/api/v3/order", "b", "b", **order).body)["fills"][0]["commissionAsset"] == "BNB"
    assert hands.ask("GET", "/sapi/v1/bnbBurn") == {"spotBNBBurn": False, "interestBNBBurn": False}
    assert hands.ask("POST", "/sapi/v1/bnbBurn", spotBNBBurn="true")["spotBNBBurn"] is True
    hands.x.store._db.close()
    again = Hands(FixedMarket(flat(), bnb="500"), home, folder)
    assert [a["bnb_fees"] for a in again.paper("GET", "accounts")] == [True, True]
    discount = {"enabledForAccount": True, "enabledForSymbol": True, "discountAsset": "BNB", "discount": "0.75000000"}
    assert again.ask("GET", "/api/v3/account/commission", symbol="BTCUSDT")["discount"] == discount
    assert again.paper("POST", "accounts/b/bnb_fees", {"enabled": False})["bnb_fees"] is False
    assert again.ask("GET", "/sapi/v1/bnbBurn")["spotBNBBurn"] is True
    for wrong in ({"enabled": "yes"}, {"enabled": None}, {}, {"on": True}):
        assert again.paper("POST", "accounts/b/bnb_fees", wrong)[0] == 400
    assert again.paper("POST", "accounts/nobody/bnb_fees", {"enabled": True})[0] == 404
    assert again.paper("POST", "accounts", {"name": "c", "api_key": "c", "api_secret": "c", "bnb_fees": 1})[0] == 400


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="the captures are not there")
def test_the_captured_fee_in_bnb_is_reproduced():
    seen = json.loads((FIXTURES / "real_spot_order_market_sell_fee_in_bnb_20210414.json").read_text())
    price = seen["fills"][0]["price"]
    steps = [{"filterType": "LOT_SIZE", "minQty": "0.01", "maxQty": "9000", "stepSize": "0.01"}]
    hands = paying(price="555.2", rows=flat(price), filters=steps)  # BNB on that day
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 100})
    told = hands.order("SELL", quantity=seen["executedQty"])
    assert told["cummulativeQuoteQty"] == seen["cummulativeQuoteQty"]
    assert told["fills"][0]["commission"] == seen["fills"][0]["commission"] and told["fills"][0]["commissionAsset"] == "BNB"
