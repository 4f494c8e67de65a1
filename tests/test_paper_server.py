"""The paper exchange as a process and as a transport, with unmodified python-binance before it."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
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
from paper_served import ROOT, free_port, pointed, serving
from patience import patience


def trade(client):
    """What a bot may ask of python-binance, one after the other; its fills and what it owns at the end."""
    assert client.ping() == {}
    assert "serverTime" in client.get_server_time()
    assert client.get_system_status() == {"status": 0, "msg": "normal"}
    assert client.get_account_status() == {"data": "Normal"}
    assert client.get_account_api_permissions()["enableWithdrawals"] is False
    assert client.get_account_api_trading_status()["data"]["isLocked"] is False
    info = client.get_symbol_info("BTCUSDT")
    assert info["orderTypes"] == ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
    assert client.get_exchange_info()["symbols"]
    price = D(client.get_symbol_ticker(symbol="BTCUSDT")["price"])
    assert client.get_all_tickers() and client.get_orderbook_ticker(symbol="BTCUSDT") and client.get_orderbook_tickers()
    assert client.get_ticker(symbol="BTCUSDT")["lastPrice"]
    assert client.get_avg_price(symbol="BTCUSDT")["mins"] == 5
    assert client.get_order_book(symbol="BTCUSDT", limit=5)["bids"]
    assert len(client.get_klines(symbol="BTCUSDT", interval="5m", limit=3)) == 3
    assert len(client.get_ui_klines(symbol="BTCUSDT", interval="5m", limit=3)) == 3
    assert client.get_historical_klines("BTCUSDT", "1h", 1709000000000, 1709100000000)
    assert client.get_recent_trades(symbol="BTCUSDT", limit=2) and client.get_aggregate_trades(symbol="BTCUSDT", limit=2)
    assert client.get_historical_trades(symbol="BTCUSDT", limit=2)
    assert client.get_trade_fee(symbol="BTCUSDT")[0]["takerCommission"] == "0.001"
    assert client.create_test_order(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01") == {}
    bought = client.order_market_buy(symbol="BTCUSDT", quoteOrderQty="500")
    rests = client.order_limit_buy(symbol="BTCUSDT", quantity="0.01", price=f"{price * D('0.9'):.2f}")
    assert client.get_order(symbol="BTCUSDT", orderId=rests["orderId"])["status"] == "NEW"
    assert len(client.get_open_orders()) == len(client.get_open_orders(symbol="BTCUSDT")) == 1
    client.cancel_order(symbol="BTCUSDT", orderId=rests["orderId"])
    with pytest.raises(BinanceAPIException, match="insufficient balance") as caught:
        client.order_market_sell(symbol="BTCUSDT", quantity=bought["executedQty"])
    assert (caught.value.code, caught.value.status_code) == (-2010, 400)
    with pytest.raises(BinanceAPIException) as caught:
        client.order_market_buy(symbol="BTCUSDT", quantity=0.00001)
    assert caught.value.code == -1100
    client.order_market_sell(symbol="BTCUSDT", quantity="0.005")
    with pytest.raises(BinanceAPIException) as caught:
        client.stream_get_listen_key()
    assert caught.value.status_code == 410
    assert len(client.get_all_orders(symbol="BTCUSDT")) == 3
    assert client.get_asset_balance("BTC")["locked"] == "0.00000000"
    fills = [(t["price"], t["qty"], t["commission"], t["time"]) for t in client.get_my_trades(symbol="BTCUSDT")]
    return fills, [b for b in client.get_account()["balances"] if D(b["free"])]


def test_python_binance_trades_the_same_over_the_socket_and_in_process(home):
    with serving(home) as server:
        over_socket = trade(server.client())
        assert server.stop() == 0
    hands = Hands(open_market(Hands(FixedMarket(flat())).settings), PAPER_START="2024-03-01")
    hands.x.wall = lambda: time.time_ns() // 1_000_000
    client = pointed(Client("paper", "paper", ping=False), "http://127.0.0.1")
    client.session.mount("http://127.0.0.1", PaperAdapter(hands.x))
    assert trade(client) == over_socket


def test_the_transport_shows_faults_as_a_socket_would():
    hands = Hands(FixedMarket(flat()))
    slept = []
    client = pointed(Client("paper", "paper", ping=False, requests_params={"timeout": 2}), "http://127.0.0.1")
    client.session.mount("http://127.0.0.1", PaperAdapter(hands.x, sleep=slept.append))
    for kind, params, error in (
        ("drop_before", {}, requests.ConnectionError),
        ("drop_after", {}, requests.ConnectionError),
        ("hang_after", {"seconds": 5}, requests.ReadTimeout),
    ):
        hands.paper("POST", "faults", {"method": "GET", "path": "/api/v3/ping", "fault": kind, "times": 1, "params": params})
        with pytest.raises(error):
            client.ping()
    hands.paper("POST", "faults", {"method": "GET", "path": "/api/v3/ping", "fault": "latency", "times": 1, "params": {"ms": 300}})
    assert client.ping() == {} and slept == [0.3]


def test_lines_are_cut_and_answers_held_on_the_socket(home):
    with serving(home) as server:
        client, impatient = server.client(), server.client(timeout=0.5)

        def fault(kind, **params):
            server.paper("POST", "faults", {"method": "POST", "path": "/api/v3/order", "fault": kind, "times": 1, "params": params})

        def orders():
            return len(client.get_all_orders(symbol="BTCUSDT"))

        for kind, params, error, done in (
            ("drop_before", {}, requests.ConnectionError, 0),
            ("drop_after", {}, requests.ConnectionError, 1),
            ("hang_after", {"seconds": 30}, requests.ReadTimeout, 2),
        ):
            fault(kind, **params)
            with pytest.raises(error):
                (impatient if kind == "hang_after" else client).order_market_buy(symbol="BTCUSDT", quantity="0.01")
            assert orders() == done
        fault("error", status=403, body="<html>blocked</html>")
        with pytest.raises(BinanceAPIException, match="Invalid JSON error message"):
            client.order_market_buy(symbol="BTCUSDT", quantity="0.01")
        assert server.stop() == 0  # at once, though an answer is still held


def test_one_process_a_home_a_taken_port_and_bad_settings_are_told_apart(home, tmp_path):
    with serving(home) as server:

        def run(**changed):
            done = subprocess.run([sys.executable, "-m", "core.paper"], cwd=ROOT, env={**server.env, **changed}, capture_output=True, text=True, timeout=120)
            return done.returncode, done.stderr

        code, text = run()
        assert code == 3 and str(server.process.pid) in text
        other = tmp_path / "other"
        other.mkdir()
        (other / ".env").touch()
        code, text = run(BOTYARD_HOME=str(other))
        assert code == 2 and "PAPER_PORT" in text and "Traceback" not in text
        code, text = run(BOTYARD_HOME=str(other), PAPER_SPEED="quick", PAPER_SEED="x")
        assert code == 2 and "PAPER_SPEED" in text and "PAPER_SEED" in text
        code, text = run(BOTYARD_HOME=str(other), PAPER_PORT=str(free_port()), PAPER_START="2001-01-01")
        assert code == 2 and "PAPER_START" in text and "Traceback" not in text
        assert not (other / "data" / "paper" / "clock").exists()  # who can't serve begins no market
        assert server.session.get(server.url + "/paper/status", headers={"Host": "evil.example"}, timeout=patience(5)).status_code == 403
        assert server.stop(signal.SIGHUP) == 0
    told = (home / "data" / "paper" / "paper.log").read_text()
    assert server.url in told and server.url in (home / "output.txt").read_text()


def test_resting_orders_fill_while_nobody_asks(home):
    with serving(home, PAPER_SPEED="20000") as server:
        client = server.client()
        price = D(client.get_symbol_ticker(symbol="BTCUSDT")["price"])
        client.order_limit_buy(symbol="BTCUSDT", quantity="0.01", price=f"{price * D('0.998'):.2f}")
        log = home / "data" / "paper" / "paper.db"

        def filled():
            with sqlite3.connect(f"file:{log}?mode=ro", uri=True) as db:
                return db.execute("SELECT count(*) FROM fills").fetchone()[0] == 1

        until(filled)


def test_what_was_acknowledged_survives_sigkill_in_mid_stream_and_no_coin_is_lost(home):
    """Orders stream in from two threads until the process is killed, three times over."""
    acknowledged: dict[int, dict] = {}
    sent = random.Random(5)
    last_seen = 0
    for _ in range(3):
        with serving(home, PAPER_SPEED="1000") as server:
            assert server.paper("GET", "clock")["market_ms"] >= last_seen

            def stream(seed):
                dice, client = random.Random(seed), server.client()
                while True:
                    try:
                        if dice.random() < 0.6:
                            side = client.order_market_buy if dice.random() < 0.5 else client.order_market_sell
                            order = side(symbol="BTCUSDT", quantity="0.0002")
                        else:
                            price = D(client.get_symbol_ticker(symbol="BTCUSDT")["price"]) * D("0.97")
                            order = client.order_limit_buy(symbol="BTCUSDT", quantity="0.0003", price=f"{price:.2f}")
                        acknowledged[order["orderId"]] = order
                    except BinanceAPIException as e:
                        assert e.code in (-2010, -1013), e
                    except requests.RequestException:
                        return  # killed

            before = len(acknowledged)
            threads = [threading.Thread(target=stream, args=(sent.random(),)) for _ in range(2)]
            for t in threads:
                t.start()
            until(lambda at=before: len(acknowledged) >= at + 60)
            last_seen = server.paper("GET", "clock")["market_ms"]
            server.process.kill()
            for t in threads:
                t.join(patience(10))
            server.process.wait(patience(10))
    with serving(home, PAPER_SPEED="1000") as server:
        assert server.paper("GET", "clock")["market_ms"] >= last_seen
        server.paper("POST", "clock", {"speed": 0})
        client = server.client()
        found, at = {}, 0
        while rows := client.get_all_orders(symbol="BTCUSDT", orderId=at, limit=1000):
            found |= {o["orderId"]: o for o in rows}
            at = max(found) + 1
        for number, order in acknowledged.items():
            assert number in found, f"order {number} was acknowledged and is gone"
            assert D(found[number]["executedQty"]) >= D(order["executedQty"])
        trades, at = [], 0
        while rows := client.get_my_trades(symbol="BTCUSDT", fromId=at, limit=1000):
            trades += rows
            at = rows[-1]["id"] + 1
        assert {f["tradeId"] for o in acknowledged.values() for f in o["fills"]} <= {t["id"] for t in trades}
        usdt, btc = D(10000), D(0)
        for t in trades:
            sign = 1 if t["isBuyer"] else -1
            btc += sign * D(t["qty"]) - (D(t["commission"]) if t["commissionAsset"] == "BTC" else 0)
            usdt -= sign * D(t["quoteQty"]) + (D(t["commission"]) if t["commissionAsset"] == "USDT" else 0)
        owned = {b["asset"]: (D(b["free"]), D(b["locked"])) for b in client.get_account()["balances"]}
        assert sum(owned["USDT"]) == usdt and sum(owned["BTC"]) == btc
        still = client.get_open_orders(symbol="BTCUSDT")
        assert owned["USDT"][1] == sum((D(o["price"]) * (D(o["origQty"]) - D(o["executedQty"])) for o in still), D(0))
