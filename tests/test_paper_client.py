"""Unmodified python-binance with stops and order lists: over the socket, in process, and through kills."""

from __future__ import annotations

import random
import threading
import time
from decimal import Decimal as D

import pytest
import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException

from core.paper.adapter import PaperAdapter
from core.paper.markets import open_market
from paper_fixed import FixedMarket, Hands, flat, until
from paper_served import pointed, serving
from patience import patience

S = "BTCUSDT"


def code(call, **params):
    with pytest.raises(BinanceAPIException) as caught:
        call(**params)
    return caught.value.status_code, caught.value.code


def use(client):
    """Every new request, in the client's own words; the statuses and fills that came of them."""
    client.order_market_buy(symbol=S, quantity="0.1")
    last = D(client.get_symbol_ticker(symbol=S)["price"])

    def at(percent):
        return f"{last * (100 + D(percent)) / 100:.2f}"

    kinds = {
        "STOP_LOSS": {"stopPrice": at(-20)},
        "STOP_LOSS_LIMIT": {"stopPrice": at(-20), "price": at(-21), "timeInForce": "GTC"},
        "TAKE_PROFIT": {"stopPrice": at(20)},
        "TAKE_PROFIT_LIMIT": {"stopPrice": at(20), "price": at(19), "timeInForce": "GTC"},
        "LIMIT_MAKER": {"price": at(20)},
    }
    for kind, params in kinds.items():
        made = client.create_order(symbol=S, side="SELL", type=kind, quantity="0.001", **params)
        assert set(made) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
        told = client.get_order(symbol=S, orderId=made["orderId"])
        assert (told["type"], told["isWorking"]) == (kind, kind == "LIMIT_MAKER")
    assert [o["type"] for o in client.get_open_orders(symbol=S)] == list(kinds)
    assert len(client.cancel_all_open_orders(symbol=S)) == 5
    assert code(client.create_order, symbol=S, side="SELL", type="STOP_LOSS", quantity="0.001", stopPrice=at(1)) == (400, -2010)
    assert code(client.create_order, symbol=S, side="SELL", type="LIMIT_MAKER", quantity="0.001", price=at(-1)) == (400, -2010)

    legs = {"aboveType": "LIMIT_MAKER", "abovePrice": at(20), "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": at(-20), "belowPrice": at(-21)}
    found = client.create_oco_order(symbol=S, side="SELL", quantity="0.002", belowTimeInForce="GTC", **legs)
    assert found["listClientOrderId"].startswith("x-") and len(client.get_open_orders(symbol=S)) == 2
    assert client.v3_get_order_list(orderListId=found["orderListId"])["listOrderStatus"] == "EXECUTING"
    assert len(client._get("openOrderList", True, data={})) == 1
    told = client.cancel_order(symbol=S, orderId=found["orders"][1]["orderId"])
    assert (told["contingencyType"], told["listOrderStatus"]) == ("OCO", "ALL_DONE")
    assert code(client.cancel_order, symbol=S, orderId=found["orders"][0]["orderId"]) == (400, -2011)
    found = client.order_oco_sell(symbol=S, quantity="0.002", aboveType="TAKE_PROFIT", aboveStopPrice=at(20), belowType="STOP_LOSS", belowStopPrice=at(-20))
    assert client.v3_delete_order_list(symbol=S, orderListId=found["orderListId"])["listStatusType"] == "ALL_DONE"
    bought = client.order_oco_buy(symbol=S, quantity="0.002", belowType="LIMIT_MAKER", belowPrice=at(-20), aboveType="STOP_LOSS", aboveStopPrice=at(20))
    assert client.cancel_all_open_orders(symbol=S)[0]["orderListId"] == bought["orderListId"]
    old = client._post("order/oco", True, data={"symbol": S, "side": "SELL", "quantity": "0.002", "price": at(20), "stopPrice": at(-20)})
    assert client.v3_get_all_order_list()[-1]["orderListId"] == old["orderListId"]
    assert code(client.create_oco_order, symbol=S, side="SELL", quantity="0.002", price=at(20), stopPrice=at(-20)) == (400, -1102)

    moved = {"symbol": S, "side": "SELL", "type": "STOP_LOSS", "quantity": "0.003", "stopPrice": at(-15), "cancelReplaceMode": "STOP_ON_FAILURE"}
    told = client.cancel_replace_order(**moved, cancelOrderId=old["orders"][0]["orderId"])
    assert (told["cancelResult"], told["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert code(client.cancel_replace_order, **moved, cancelOrderId=old["orders"][0]["orderId"]) == (400, -2022)
    stop = told["newOrderResponse"]["orderId"]
    wrong = {**moved, "stopPrice": at(15)}
    assert code(client.cancel_replace_order, **wrong, cancelOrderId=stop) == (409, -2021)
    assert client.toggle_bnb_burn_spot_margin(spotBNBBurn="true")["spotBNBBurn"] is True
    assert client.get_bnb_burn_spot_margin()["spotBNBBurn"] is True
    client.order_market_buy(symbol="BNBUSDT", quantity="1")
    assert client.order_market_sell(symbol=S, quantity="0.01")["fills"][0]["commissionAsset"] == "BNB"
    assert client.get_asset_balance("BTC")["locked"] == "0.00000000"
    trades = [(t["price"], t["qty"], t["commission"], t["commissionAsset"], t["time"]) for t in client.get_my_trades(symbol=S)]
    return trades, [(o["type"], o["status"]) for o in client.get_all_orders(symbol=S)], [b for b in client.get_account()["balances"] if D(b["free"])]


def test_python_binance_places_moves_and_cancels_stops_and_lists_over_the_socket_and_in_process(home):
    with serving(home) as server:
        over_socket = use(server.client())
        assert server.stop() == 0
    hands = Hands(open_market(Hands(FixedMarket(flat())).settings), PAPER_START="2024-03-01")
    hands.x.wall = lambda: time.time_ns() // 1_000_000
    client = pointed(Client("paper", "paper", ping=False), "http://127.0.0.1")
    client.session.mount("http://127.0.0.1", PaperAdapter(hands.x))
    assert use(client) == over_socket


def test_lists_survive_sigkill_whole_and_lock_and_trade_once(home):
    """Lists stream in, are cancelled and reached by a quick market, until the process is killed; three times over."""
    acknowledged: dict[int, dict] = {}
    for turn in range(3):
        with serving(home, PAPER_SPEED="3000") as server:

            def stream(seed, server=server):
                dice, client = random.Random(seed), server.client()
                while True:
                    try:
                        last = D(client.get_symbol_ticker(symbol=S)["price"])
                        if dice.random() < 0.3:
                            client.order_market_buy(symbol=S, quantity="0.004")
                        elif dice.random() < 0.3 and acknowledged:
                            client.v3_delete_order_list(symbol=S, orderListId=max(acknowledged))
                        else:
                            up, down = last * (1 + D(dice.randint(5, 60)) / 10000), last * (1 - D(dice.randint(5, 60)) / 10000)
                            legs = {"aboveType": "LIMIT_MAKER", "abovePrice": f"{up:.2f}", "belowType": "STOP_LOSS", "belowStopPrice": f"{down:.2f}"}
                            found = client.create_oco_order(symbol=S, side="SELL", quantity="0.001", **legs)
                            acknowledged[found["orderListId"]] = found
                    except BinanceAPIException as e:
                        assert e.code in (-2010, -1013, -2011), e
                    except requests.RequestException:
                        return  # killed

            before = len(acknowledged)
            threads = [threading.Thread(target=stream, args=(turn * 10 + i,)) for i in range(2)]
            for t in threads:
                t.start()
            until(lambda at=before: len(acknowledged) >= at + 40)
            server.process.kill()
            for t in threads:
                t.join(patience(10))
            server.process.wait(patience(10))
    with serving(home) as server:
        server.paper("POST", "clock", {"speed": 0})
        client = server.client()
        lists = {found["orderListId"]: found for found in client.v3_get_all_order_list(limit=1000)}
        orders, at = {}, 0
        while rows := client.get_all_orders(symbol=S, orderId=at, limit=1000):
            orders |= {o["orderId"]: o for o in rows}
            at = max(orders) + 1
        assert acknowledged.keys() <= lists.keys(), "a list was acknowledged and is gone"
        legs: dict[int, list[dict]] = {}
        for o in orders.values():
            if o["orderListId"] >= 0:
                legs.setdefault(o["orderListId"], []).append(o)
        assert legs.keys() == lists.keys()
        ends = set()
        for number, pair in legs.items():
            done = tuple(sorted(o["status"] for o in pair))
            assert done in {("NEW", "NEW"), ("CANCELED", "CANCELED"), ("EXPIRED", "FILLED")}, done
            assert (lists[number]["listOrderStatus"] == "EXECUTING") == (done == ("NEW", "NEW"))
            ends.add(done)
        assert ("EXPIRED", "FILLED") in ends and ("CANCELED", "CANCELED") in ends
        btc = sum((D(o["executedQty"]) * (D("0.999") if o["side"] == "BUY" else -1) for o in orders.values()), D(0))
        owned = {b["asset"]: (D(b["free"]), D(b["locked"])) for b in client.get_account()["balances"]}
        assert sum(owned["BTC"]) == btc
        assert owned["BTC"][1] == sum((D(pair[0]["origQty"]) for pair in legs.values() if pair[0]["status"] == pair[1]["status"] == "NEW"), D(0))
