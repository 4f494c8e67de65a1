"""The paper exchange's own controls: clock, accounts, faults, status, and who may use them."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest

from paper_fixed import MINUTE, START, WALL, FixedMarket, Hands, flat


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


def refused(told, *words):
    status, _, text = told
    assert status == 400, told
    assert all(w in text for w in words), text


# --- clock ---------------------------------------------------------------------------


def test_market_time_follows_the_wall_times_the_speed_and_wall_time_is_the_servers():
    hands = Hands(FixedMarket(flat()), PAPER_SPEED="60")
    assert hands.paper("GET", "clock") == {"market_ms": START, "wall_ms": WALL, "speed": 60, "source": "fixed"}
    hands.ns += 1_500_000_000
    hands.wall += 1500
    assert hands.paper("GET", "clock")["market_ms"] == START + 90_000
    assert hands.get("/api/v3/time") == {"serverTime": WALL + 1500}
    assert hands.paper("POST", "clock", {"speed": 0})["speed"] == 0
    hands.ns += 10_000_000_000
    assert hands.paper("GET", "clock")["market_ms"] == START + 90_000
    assert hands.paper("POST", "clock", {"speed": 0.5})["market_ms"] == START + 90_000
    hands.ns += 1_000_000_000
    assert hands.paper("GET", "clock")["market_ms"] == START + 90_500


def test_the_clock_is_moved_by_steps_and_never_back(hands):
    assert hands.paper("POST", "clock", {"advance_ms": 1000})["market_ms"] == START + 1000
    assert hands.paper("POST", "clock", {"step_to_ms": START + MINUTE})["market_ms"] == START + MINUTE
    assert hands.paper("POST", "clock", {"step_to_ms": START + MINUTE})["market_ms"] == START + MINUTE
    refused(hands.paper("POST", "clock", {"step_to_ms": START}), "step_to_ms", "never runs back")
    assert hands.paper("GET", "clock")["market_ms"] == START + MINUTE


@pytest.mark.parametrize(
    "value",
    [{}, {"speed": 1, "advance_ms": 1}, {"speed": -1}, {"speed": 100001}, {"speed": "fast"}, {"speed": True}, {"speed": None}, {"advance_ms": -1},
     {"advance_ms": 1.5}, {"advance_ms": 10**18}, {"step_to_ms": "soon"}, {"jump": 1}, [1], "x"],
)  # fmt: skip
def test_a_wrong_word_to_the_clock_is_refused_and_moves_nothing(hands, value):
    refused(hands.paper("POST", "clock", value))
    assert hands.paper("GET", "clock")["market_ms"] == START


def test_what_is_no_json_is_refused(hands):
    for body in (b"", b"{", b"\xff", b'{"speed": NaN}'):
        assert hands.raw("POST", "/paper/clock", "", body).status == 400


def test_at_the_end_of_the_data_the_clock_stops_and_status_says_so():
    hands = Hands(FixedMarket(flat(minutes=2), end_ms=START + 2 * MINUTE - 1))
    assert hands.paper("GET", "status")["state"] == "stopped"
    hands.step(60 * MINUTE)
    assert hands.paper("GET", "status")["state"] == "ended"
    assert hands.paper("GET", "clock")["market_ms"] == START + 2 * MINUTE - 1


def test_status_tells_what_others_ask_it_for(hands):
    hands.order("BUY", "LIMIT", quantity="1", price="99")
    told = hands.paper("GET", "status")
    assert told.keys() >= {"installation", "market", "state", "market_ms", "wall_ms", "speed", "pid", "version", "settings_differ", "open_orders"}
    assert (told["market"], told["state"], told["open_orders"], told["settings_differ"]) == ("fixed", "stopped", 1, [])
    running = Hands(FixedMarket(flat()), PAPER_SPEED="1").paper("GET", "status")
    assert running["state"] == "running"


# --- accounts --------------------------------------------------------------------------


def test_the_account_that_is_always_there_has_the_balance_and_nothing_else(hands):
    told = hands.paper("GET", "accounts")
    balances = [{"asset": "USDT", "free": "10000.00000000", "locked": "0.00000000"}]
    assert told == [{"name": "paper", "api_key": "paper", "balances": balances, "bnb_fees": False}]


def test_an_account_is_added_and_trades_by_itself(hands):
    value = {"name": "other", "api_key": "k2", "api_secret": "s2", "balances": {"USDT": "500.5", "BTC": 1}}
    assert hands.paper("POST", "accounts", value)["name"] == "other"
    assert hands.owns("k2", "s2") == {"USDT": (D("500.5"), 0), "BTC": (D(1), 0)}
    assert [a["name"] for a in hands.paper("GET", "accounts")] == ["paper", "other"]
    assert "s2" not in json.dumps(hands.paper("GET", "accounts"))
    order = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "1"}
    assert hands.signed("POST", "/api/v3/order", "k2", "s2", **order).status == 200
    number = hands.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=1)
    assert number == (400, -2013, "Order does not exist.")  # it is the other account's


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"name": "paper"}, "already"), ({"api_key": "paper"}, "already"), ({"name": "a b"}, "name"), ({"name": 5}, "name"), ({"api_key": ""}, "api_key"),
        ({"api_secret": ""}, "api_secret"), ({"balances": []}, "balances"), ({"balances": {"usdt": 1}}, "asset"), ({"balances": {"USDT": -1}}, "USDT"),
        ({"balances": {"USDT": "1e99"}}, "USDT"), ({"balances": {"USDT": "0.000000001"}}, "decimals"), ({"maker": 2}, "maker"), ({"fee": 1}, "fee"),
        ({"name": None}, "name"),
    ],
)  # fmt: skip
def test_a_wrong_account_is_refused(hands, changed, word):
    value = {"name": "other", "api_key": "k2", "api_secret": "s2", "balances": {}, **changed}
    refused(hands.paper("POST", "accounts", value), word)
    assert len(hands.paper("GET", "accounts")) == 1


def test_deposits_and_withdrawals_move_the_free_balance(hands):
    hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": "0.5"})
    hands.paper("POST", "accounts/paper/withdraw", {"asset": "USDT", "amount": 9999.5})
    assert hands.owns() == {"USDT": (D("0.5"), 0), "BTC": (D("0.5"), 0)}
    refused(hands.paper("POST", "accounts/paper/withdraw", {"asset": "USDT", "amount": 1}), "more than")
    refused(hands.paper("POST", "accounts/paper/withdraw", {"asset": "ETH", "amount": 1}), "more than")
    refused(hands.paper("POST", "accounts/paper/deposit", {"asset": "USDT", "amount": 0}), "above 0")
    refused(hands.paper("POST", "accounts/paper/deposit", {"asset": "USDT"}), "amount")
    assert hands.paper("POST", "accounts/nobody/deposit", {"asset": "USDT", "amount": 1})[0] == 404
    assert hands.owns() == {"USDT": (D("0.5"), 0), "BTC": (D("0.5"), 0)}


# --- who may come in -------------------------------------------------------------------


def test_the_controls_refuse_foreign_hosts_and_other_sites_pages(hands):
    def status(method="GET", **headers):
        return hands.raw(method, "/paper/clock", "", b'{"speed": 0}', **headers).status

    assert status() == status(host="127.0.0.1:8750") == status(host="localhost:8750") == status(host="[::1]:8750") == 200
    assert status(host="evil.example:8750") == status(host="127.0.0.1.evil.example") == status(host="192.168.1.4") == 403
    own = {"host": "127.0.0.1:8750", "origin": "http://127.0.0.1:8750"}
    assert status("POST", **own) == status("POST", **own, sec_fetch_site="same-origin") == 200
    assert status("POST", host="127.0.0.1:8750", origin="http://127.0.0.1:5001") == 403
    assert status("POST", host="127.0.0.1:8750", origin="null") == 403
    assert status("POST", sec_fetch_site="cross-site") == status("POST", sec_fetch_site="same-site") == status("POST", sec_fetch_site="none") == 403
    assert status("GET", sec_fetch_site="none") == 200
    assert hands.raw("DELETE", "/paper/clock").status == 405
    assert hands.raw("GET", "/paper/nothing").status == 404


# --- faults ----------------------------------------------------------------------------


def fault(hands, kind, path="/api/v3/ping", method="GET", **more):
    return hands.paper("POST", "faults", {"method": method, "path": path, "fault": kind, **more})


def test_faults_strike_as_often_as_they_say_and_are_listed_and_cleared(hands):
    added = fault(hands, "error", times=2, params={"status": 503, "code": -1008, "msg": "busy"})
    assert added["left"] == 2 and added["probability"] == 1
    assert [hands.get("/api/v3/ping") for _ in range(3)] == [(503, -1008, "busy"), (503, -1008, "busy"), {}]
    assert hands.paper("GET", "faults")[0]["struck"] == 2
    fault(hands, "error")  # until cleared
    assert all(hands.get("/api/v3/ping")[0] == 500 for _ in range(5))
    assert hands.get("/api/v3/time") == {"serverTime": WALL}  # the path is exact
    assert hands.paper("DELETE", "faults") == {"cleared": 2}
    assert hands.get("/api/v3/ping") == {}
    assert hands.paper("GET", "faults") == []


def test_chance_is_seeded(hands):
    def struck():
        fault(hands, "error", probability=0.5)
        answers = [hands.get("/api/v3/ping") == {} for _ in range(40)]
        hands.paper("DELETE", "faults")
        return answers

    first = struck()
    assert 5 < sum(first) < 35
    hands = Hands(FixedMarket(flat()))
    fault(hands, "error", probability=0.5)
    assert [hands.get("/api/v3/ping") == {} for _ in range(40)] == first


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"method": "GET", "path": "/api/v3/ping"}, "fault"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "explode"}, "fault"),
        ({"method": "get", "path": "/api/v3/ping", "fault": "error"}, "method"),
        ({"method": "GET", "path": "ping", "fault": "error"}, "path"),
        ({"method": "GET", "path": "/paper/clock", "fault": "error"}, "path"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "times": 0}, "times"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "times": 1.5}, "times"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "probability": 2}, "probability"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "params": []}, "params"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "params": {"status": 99}}, "params.status"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "params": {"executed": 1}}, "params.executed"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "hang_after", "params": {"ms": 1}}, "ms"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "partial_fill", "params": {"fraction": 1.1}}, "params.fraction"),
        ({"method": "GET", "path": "/api/v3/ping", "fault": "error", "when": 1}, "when"),
    ],
)
def test_a_wrong_fault_is_refused(hands, value, word):
    refused(hands.paper("POST", "faults", value), word)
    assert hands.paper("GET", "faults") == []


def test_a_dropped_request_was_done_or_not_as_the_fault_says(hands):
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    for kind, done in (("drop_before", 0), ("drop_after", 1)):
        fault(hands, kind, "/api/v3/order", "POST", times=1)
        assert hands.signed("POST", "/api/v3/order", **order).cut
        assert len(hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT")) == done
    fault(hands, "hang_after", "/api/v3/order", "POST", times=1, params={"seconds": 3})
    held = hands.signed("POST", "/api/v3/order", **order)
    assert (held.hold_s, held.hang, held.status) == (3, True, 200)
    for executed, done in ((False, 2), (True, 3)):
        fault(hands, "error", "/api/v3/order", "POST", times=1, params={"status": 504, "code": -1007, "msg": "Timeout", "executed": executed})
        assert hands.ask("POST", "/api/v3/order", **order) == (504, -1007, "Timeout")
        assert len(hands.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT")) == done


def test_limits_bans_and_pages_of_a_gateway_can_be_played(hands):
    fault(hands, "rate_limit", times=1, params={"seconds": 7})
    told = hands.raw("GET", "/api/v3/ping")
    assert (told.status, told.headers["Retry-After"], json.loads(told.body)["code"]) == (429, "7", -1003)
    fault(hands, "ban", times=1, params={"seconds": 30})
    told = hands.raw("GET", "/api/v3/ping")
    assert (told.status, told.headers["Retry-After"]) == (418, "30")
    assert f"IP banned until {WALL + 30_000}." in json.loads(told.body)["msg"]
    fault(hands, "error", times=1, params={"status": 403, "body": "<html>no</html>"})
    told = hands.raw("GET", "/api/v3/ping")
    assert (told.status, told.body, told.headers["Content-Type"]) == (403, b"<html>no</html>", "text/html")
    fault(hands, "latency", times=1, params={"ms": 250})
    told = hands.raw("GET", "/api/v3/ping")
    assert (told.hold_s, told.hang, told.status) == (0.25, False, 200)


def test_an_order_can_be_invisible_for_its_first_queries(hands):
    order = hands.order("BUY", quantity="1")
    fault(hands, "late_visibility", "/api/v3/order", times=2)
    query = {"symbol": "BTCUSDT", "orderId": order["orderId"]}
    told = [hands.ask("GET", "/api/v3/order", **query) for _ in range(3)]
    assert told[:2] == [(400, -2013, "Order does not exist.")] * 2 and told[2]["status"] == "FILLED"


def test_closed_candles_can_be_missing_and_the_open_one_stays(hands):
    hands.step(3 * MINUTE + 1)
    whole = hands.get("/api/v3/klines", symbol="BTCUSDT", interval="1m")
    fault(hands, "missing_candles", "/api/v3/klines", times=1, params={"count": 2})
    assert hands.get("/api/v3/klines", symbol="BTCUSDT", interval="1m") == [whole[0], whole[3]]
