"""Whatever accounts do together, however answers are lost and processes killed: for each account and coin,
what it holds is what came in, less what went out, plus its fills, less their fees, and only open orders lock."""

from __future__ import annotations

import random
import sqlite3
import threading
from decimal import Decimal as D

import pytest
import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paper_books import faults_in
from paper_fixed import MINUTE, FixedMarket, Hands, until
from paper_served import pointed, serving
from patience import patience

PAIRS = {"BTCUSDT": ("BTC", "USDT"), "ETHBTC": ("ETH", "BTC"), "BNBUSDT": ("BNB", "USDT"), "ETHUSDT": ("ETH", "USDT")}
NAMES = ("a", "b", "c")
COINS = ("USDT", "BTC", "ETH", "BNB")
PATHS = ("/api/v3/order", "/api/v3/orderList/oco", "/api/v3/order/cancelReplace")

levels = st.integers(9000, 11000).map(lambda n: str(D(n) / 100))
sizes = st.integers(1, 100_000).map(lambda n: str(D(n) / 10_000))
sides = st.sampled_from(["BUY", "SELL"])
symbols = st.sampled_from(["BTCUSDT", "ETHBTC"])
lives = st.sampled_from(["GTC", "GTC", "IOC", "FOK"])
market = st.fixed_dictionaries({"type": st.just("MARKET"), "quantity": sizes})
by_quote = st.fixed_dictionaries({"type": st.just("MARKET"), "quoteOrderQty": sizes})
limit = st.fixed_dictionaries({"type": st.just("LIMIT"), "timeInForce": lives, "quantity": sizes, "price": levels})
stop = st.fixed_dictionaries({"type": st.sampled_from(["STOP_LOSS", "TAKE_PROFIT"]), "quantity": sizes, "stopPrice": levels})
stop_limit = st.fixed_dictionaries(
    {"type": st.sampled_from(["STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"]), "timeInForce": lives, "quantity": sizes, "stopPrice": levels, "price": levels}
)
order = st.one_of(market, by_quote, limit, limit, stop, stop_limit)
oco = st.one_of(
    st.fixed_dictionaries({"aboveType": st.just("LIMIT_MAKER"), "abovePrice": levels, "belowType": st.just("STOP_LOSS"), "belowStopPrice": levels}),
    st.fixed_dictionaries({"aboveType": st.just("STOP_LOSS"), "aboveStopPrice": levels, "belowType": st.just("LIMIT_MAKER"), "belowPrice": levels}),
)
fault = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "DELETE"]),
        "path": st.sampled_from(PATHS),
        "fault": st.sampled_from(["drop_after", "drop_before", "partial_fill", "error", "hang_after"]),
        "times": st.integers(1, 3),
    }
)
who = st.sampled_from(NAMES)
action = st.one_of(
    st.tuples(st.just("order"), who, symbols, sides, order),
    st.tuples(st.just("order"), who, symbols, sides, order),
    st.tuples(st.just("oco"), who, symbols, sides, sizes, oco),
    st.tuples(st.just("replace"), who, symbols, sides, order, st.integers(1, 30)),
    st.tuples(st.just("cancel"), who, symbols, st.integers(1, 30)),
    st.tuples(st.just("cancel all"), who, symbols),
    st.tuples(st.just("transfer"), who, st.sampled_from(["deposit", "withdraw"]), st.sampled_from(COINS), sizes),
    st.tuples(st.just("bnb"), who, st.booleans()),
    st.tuples(st.just("fault"), fault),
    st.tuples(st.just("step"), st.integers(1, 2 * MINUTE)),
    st.tuples(st.just("step"), st.integers(1, 2 * MINUTE)),
)
bars = st.lists(st.tuples(*[st.integers(9000, 11000)] * 4), min_size=3, max_size=15)


def act(hands, kind, *rest):
    def ask(method, path, name, **params):
        return hands.signed(method, f"/api/v3/{path}", name, name, **params).status

    if kind == "order":
        name, symbol, side, params = rest
        return ask("POST", "order", name, symbol=symbol, side=side, **params)
    if kind == "oco":
        name, symbol, side, quantity, params = rest
        return ask("POST", "orderList/oco", name, symbol=symbol, side=side, quantity=quantity, **params)
    if kind == "replace":
        name, symbol, side, params, number = rest
        return ask("POST", "order/cancelReplace", name, symbol=symbol, side=side, cancelReplaceMode="ALLOW_FAILURE", cancelOrderId=number, **params)
    if kind == "cancel":
        return ask("DELETE", "order", rest[0], symbol=rest[1], orderId=rest[2])
    if kind == "cancel all":
        return ask("DELETE", "openOrders", rest[0], symbol=rest[1])
    if kind == "transfer":
        return hands.paper("POST", f"accounts/{rest[0]}/{rest[1]}", {"asset": rest[2], "amount": rest[3]})
    if kind == "bnb":
        return hands.paper("POST", f"accounts/{rest[0]}/bnb_fees", {"enabled": rest[1]})
    if kind == "fault":
        return hands.paper("POST", "faults", rest[0])
    return hands.step(rest[0])


def opened(rows):
    four = [sorted(row) for row in rows]
    hands = Hands(FixedMarket([tuple(f"{D(v) / 100}" for v in (o, high, low, c)) for low, o, c, high in four], bnb="50"), PAPER_SLIPPAGE_PCT="0.3")
    for i, name in enumerate(NAMES):
        account = {"name": name, "api_key": name, "api_secret": name, "bnb_fees": i == 0, "balances": {"USDT": 900, "BTC": 9, "ETH": 5, "BNB": 0.01}}
        assert hands.paper("POST", "accounts", account)["name"] == name
    return hands


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=bars, todo=st.lists(action, max_size=30))
def test_the_books_of_all_accounts_add_up_after_every_request(rows, todo):
    hands = opened(rows)
    for one in todo:
        act(hands, *one)
        assert faults_in(hands.x.store._db, PAIRS) == [], one
    hands.paper("DELETE", "faults")
    for name in NAMES:
        for symbol in ("BTCUSDT", "ETHBTC"):
            act(hands, "cancel all", name, symbol)
        assert all(locked == 0 for _, locked in hands.owns(name, name).values())
    assert faults_in(hands.x.store._db, PAIRS) == []
    in_memory = {(a.name, asset): (h.free, h.locked) for a in hands.x.accounts.by_name.values() for asset, h in a.balances.items()}
    hands.x._load()
    assert in_memory == {(a.name, asset): (h.free, h.locked) for a in hands.x.accounts.by_name.values() for asset, h in a.balances.items()}


def test_a_book_that_does_not_add_up_is_found():
    hands = opened([(9900, 10000, 10000, 10100)] * 3)
    act(hands, "order", "a", "BTCUSDT", "BUY", {"type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "90"})
    act(hands, "order", "b", "BTCUSDT", "SELL", {"type": "MARKET", "quantity": "1"})
    assert faults_in(hands.x.store._db, PAIRS) == []
    for table, what in (("balances", "free"), ("balances", "locked"), ("orders", "locked"), ("orders", "executed"), ("fills", "fee"), ("transfers", "amount")):
        hands.x.store.write(f"UPDATE {table} SET {what} = '7.5'")
        assert faults_in(hands.x.store._db, PAIRS), (table, what)
        hands.x.store.rollback()


@pytest.fixture
def home(tmp_path):
    return tmp_path


def test_the_books_add_up_after_kills_in_the_middle_of_everything(home):
    """Three accounts trade, with parts filled and answers lost, on a market ten hours a second long, until the process is killed; twice."""
    done: list[int] = []
    odd: list[BinanceAPIException] = []

    def life(server, seed):
        dice, name = random.Random(seed), NAMES[seed % 3]
        client = pointed(Client(name, name, ping=False), server.url)
        client.session.trust_env = False
        while True:
            try:
                last = D(client.get_symbol_ticker(symbol="BTCUSDT")["price"])
                side, near = dice.choice(["BUY", "SELL"]), (last * (1 + D(dice.randint(-60, 60)) / 10_000)).quantize(D("0.01"))
                up, down = (f"{last * k:.2f}" for k in (D("1.003"), D("0.997")))
                kind = dice.randrange(5)
                if kind == 0:
                    client.create_order(symbol="BTCUSDT", side=side, type="MARKET", quantity="0.003")
                elif kind == 1:
                    client.create_order(
                        symbol="BTCUSDT", side=side, type="LIMIT", timeInForce=dice.choice(["GTC", "IOC", "FOK"]), quantity="0.004", price=str(near)
                    )
                elif kind == 2:
                    client.cancel_all_open_orders(symbol="BTCUSDT")
                else:
                    above, below = ("LIMIT_MAKER", "STOP_LOSS") if side == "SELL" else ("STOP_LOSS", "LIMIT_MAKER")
                    prices = {"abovePrice": up, "belowStopPrice": down} if side == "SELL" else {"aboveStopPrice": up, "belowPrice": down}
                    client.create_oco_order(symbol="BTCUSDT", side=side, quantity="0.002", aboveType=above, belowType=below, **prices)
                done.append(seed)
            except BinanceAPIException as e:
                if e.code not in (-1013, -1007, -2010, -2011):
                    odd.append(e)
            except requests.RequestException:
                if server.process.poll() is not None:
                    return

    for turn in range(2):
        with serving(home, PAPER_SPEED="36000", PAPER_SLIPPAGE_PCT="0.1") as server:
            if not turn:
                for i, name in enumerate(NAMES):
                    balances = {"USDT": 20000, "BTC": "0.5", "BNB": 1}
                    server.paper("POST", "accounts", {"name": name, "api_key": name, "api_secret": name, "bnb_fees": i == 0, "balances": balances})
            for path in PATHS[:2]:
                for kind, params in (("partial_fill", {"fraction": 0.37}), ("drop_after", {}), ("error", {"status": 504, "code": -1007, "executed": True})):
                    server.paper("POST", "faults", {"method": "POST", "path": path, "fault": kind, "probability": 0.2, "params": params})
            threads = [threading.Thread(target=life, args=(server, turn * 3 + i)) for i in range(3)]
            for t in threads:
                t.start()
            before = len(done)
            until(lambda at=before: len(done) >= at + 60)
            server.process.kill()
            for t in threads:
                t.join(patience(20))
            server.process.wait(patience(10))
        with sqlite3.connect(home / "data" / "paper" / "paper.db") as db:
            assert faults_in(db, PAIRS) == []
            assert db.execute("SELECT count(*) FROM fills").fetchone()[0] > 20
        db.close()
    assert not odd
