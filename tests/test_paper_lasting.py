"""The paper exchange's rate limits, and what of it lasts: restarts, resets, writes that fail, prices that can't be had."""

from __future__ import annotations

import json
from decimal import Decimal as D

import pytest

from core.errors import SettingsError, StateError, Unavailable
from paper_fixed import MINUTE, START, WALL, FixedMarket, Hands, flat


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


def refused(told, *words):
    status, _, text = told
    assert status == 400, told
    assert all(w in text for w in words), text


# --- limits ----------------------------------------------------------------------------


@pytest.fixture
def counted():
    return Hands(FixedMarket(flat()), PAPER_SPEED="1")


def used(hands, remote="127.0.0.1"):
    return int(hands.raw("GET", "/api/v3/ping", remote=remote).headers["X-MBX-USED-WEIGHT-1M"])


def test_weights_add_up_per_address_and_begin_anew_with_the_wall_minute(counted):
    assert used(counted) == 1
    counted.get("/api/v3/exchangeInfo")
    counted.get("/api/v3/klines", symbol="BTCUSDT", interval="1m")
    counted.get("/api/v3/ticker/price")
    counted.get("/api/v3/depth", symbol="BTCUSDT", limit=1000)
    counted.ask("GET", "/api/v3/openOrders")
    counted.ask("GET", "/api/v3/openOrders", symbol="BTCUSDT")
    counted.ask("GET", "/api/v3/account")
    counted.get("/api/v3/ticker/24hr")
    assert used(counted) == 1 + 20 + 2 + 4 + 50 + 80 + 6 + 20 + 80 + 1
    assert used(counted, "127.0.0.2") == 1
    counted.wall += 60_000 - counted.wall % 60_000
    assert used(counted) == 1


def test_an_order_that_succeeds_weighs_nothing_and_one_that_fails_weighs_one(counted):
    before = used(counted)
    order = counted.order("BUY", "LIMIT", quantity="1", price="99")
    counted.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])
    assert used(counted) == before + 1
    counted.order("BUY", quantity="0")
    assert used(counted) == before + 3


def test_too_much_weight_is_refused_and_going_on_is_banned_for_longer_each_time(counted):
    counted.wall += 60_000 - counted.wall % 60_000 + 23_000
    assert not any(counted.raw("GET", "/api/v3/exchangeInfo").status - 200 for _ in range(300))
    told = counted.raw("GET", "/api/v3/ping")
    assert (told.status, told.headers["Retry-After"]) == (429, "37")
    assert json.loads(told.body) == {
        "code": -1003,
        "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
    }
    assert counted.raw("GET", "/paper/status").status == 200  # the controls weigh nothing
    for _ in range(9):
        assert counted.raw("GET", "/api/v3/ping").status == 429
    told = counted.raw("GET", "/api/v3/ping")
    assert (told.status, told.headers["Retry-After"]) == (418, "120")
    until = counted.wall + 120_000
    text = f"Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live updates to avoid bans."
    assert json.loads(told.body) == {"code": -1003, "msg": text}
    counted.wall += 60_000
    assert counted.raw("GET", "/api/v3/ping").status == 418
    counted.wall += 60_000
    assert counted.raw("GET", "/api/v3/ping").status == 200


def test_each_ban_is_twice_as_long_as_the_one_before_and_three_days_at_most(counted):
    lasted = []
    for _ in range(14):
        while (told := counted.raw("GET", "/api/v3/exchangeInfo")).status != 418:
            pass
        lasted.append(int(told.headers["Retry-After"]))
        counted.wall += lasted[-1] * 1000
    assert lasted[:4] == [120, 240, 480, 960]
    assert lasted[-2:] == [3 * 86_400] * 2


def test_orders_are_counted_per_account_and_fills_give_back(counted):
    def counts():
        return [row["count"] for row in counted.ask("GET", "/api/v3/rateLimit/order")]

    counted.order("BUY", quantity="1")
    assert counts() == [0, 0]  # a fill as taker gives one back
    for _ in range(2):
        counted.order("BUY", "LIMIT", quantity="1", price="99")
    assert counts() == [2, 2]
    counted.order("BUY", quantity="0")
    assert counts() == [2, 2]
    counted.ask("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert counts() == [2, 2]
    counted.wall += 10_000
    assert counts() == [0, 2]


def test_too_many_unfilled_orders_are_refused(counted):
    for _ in range(100):
        order = counted.order("BUY", "LIMIT", quantity="1", price="99")
        counted.ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"])
    told = counted.order("BUY", "LIMIT", quantity="1", price="99")
    assert told == (429, -1015, "Too many new orders; current limit is 100 orders per 10 SECOND.")


def test_limits_grow_with_the_speed_and_exchange_info_says_so():
    hands = Hands(FixedMarket(flat()), PAPER_SPEED="10")
    assert [r["limit"] for r in hands.get("/api/v3/exchangeInfo")["rateLimits"]] == [60_000, 1000, 2_000_000, 3_000_000]
    assert Hands(FixedMarket(flat()), PAPER_SPEED="0.5").get("/api/v3/exchangeInfo")["rateLimits"][0]["limit"] == 6000


def test_in_stepped_time_everything_is_counted_and_nothing_refused(hands):
    for _ in range(400):
        assert hands.raw("GET", "/api/v3/exchangeInfo").status == 200
    assert used(hands) == 8001


# --- what lasts --------------------------------------------------------------------------


def test_everything_survives_a_restart_and_time_stands_still_meanwhile(home):
    folder = home / "data" / "paper"
    first = Hands(FixedMarket(RISING), home, folder)
    rests = first.order("BUY", "LIMIT", quantity="1", price="99")
    first.order("BUY", quantity="2")
    first.paper("POST", "accounts", {"name": "b", "api_key": "b", "api_secret": "b", "balances": {"ETH": 3}})
    first.step(1000)
    before = first.paper("GET", "accounts")
    first.x.store._db.close()  # as a kill would leave it: nothing is tidied up
    second = Hands(FixedMarket(RISING), home, folder)
    assert second.paper("GET", "accounts") == before
    assert second.paper("GET", "clock")["market_ms"] == START + 1000
    assert second.ask("GET", "/api/v3/openOrders")[0]["orderId"] == rests["orderId"]
    second.step(MINUTE)
    assert second.ask("GET", "/api/v3/order", symbol="BTCUSDT", orderId=rests["orderId"])["status"] == "FILLED"
    assert second.order("BUY", quantity="1")["orderId"] == rests["orderId"] + 2


RISING = [("100", "102", "98", "101"), ("101", "106", "100", "105")]


def test_time_that_was_only_looked_at_is_kept_too(home):
    folder = home / "data" / "paper"
    first = Hands(FixedMarket(RISING), home, folder, PAPER_SPEED="1000")
    first.ns += 60_000_000
    seen = first.paper("GET", "clock")["market_ms"]
    assert seen == START + 60_000
    second = Hands(FixedMarket(RISING), home, folder, PAPER_SPEED="1000")
    assert second.paper("GET", "clock")["market_ms"] == seen
    second.x._clock_file.write(START)  # a file that was put back can't turn back the database
    assert second.x.store.meta()["market_ms"] == str(START)


def test_settings_shape_a_new_market_only_and_a_difference_is_told(home):
    folder = home / "data" / "paper"
    Hands(FixedMarket(flat()), home, folder)
    again = Hands(FixedMarket(flat()), home, folder, PAPER_BALANCE_USDT="5", PAPER_SEED="7", PAPER_SPEED="2")
    assert again.owns() == {"USDT": (D(10000), 0)}
    assert again.paper("GET", "clock")["speed"] == 0
    assert again.paper("GET", "status")["settings_differ"] == [
        {"name": "PAPER_SPEED", "market": "0", "setting": "2"},
        {"name": "PAPER_SEED", "market": "1", "setting": "7"},
        {"name": "PAPER_BALANCE_USDT", "market": "10000", "setting": "5"},
    ]
    again.step(MINUTE)
    order = again.order("BUY", quantity="1")
    again.paper("POST", "faults", {"method": "GET", "path": "/api/v3/ping", "fault": "error"})
    assert again.paper("POST", "reset")["market_ms"] == START
    assert again.owns() == {"USDT": (D(5), 0)}
    assert again.paper("GET", "status")["settings_differ"] == again.paper("GET", "faults") == []
    assert again.ask("GET", "/api/v3/allOrders", symbol="BTCUSDT") == []
    again.paper("POST", "accounts/paper/deposit", {"asset": "USDT", "amount": 1000})
    assert again.order("BUY", quantity="1")["orderId"] > order["orderId"]  # an id never means two orders
    third = Hands(FixedMarket(flat()), home, folder, PAPER_BALANCE_USDT="5", PAPER_SEED="7", PAPER_SPEED="2")
    assert third.paper("GET", "status")["generation"] == 2


def test_a_write_that_fails_leaves_nothing_behind(hands, monkeypatch):
    whole = hands.x.store.commit
    monkeypatch.setattr(hands.x.store, "commit", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert hands.order("BUY", quantity="1")[:2] == (500, -1001)
    monkeypatch.setattr(hands.x.store, "commit", whole)
    assert hands.owns() == {"USDT": (D(10000), 0)}
    assert hands.order("BUY", quantity="1")["status"] == "FILLED"


def test_prices_that_cannot_be_had_are_no_reason_to_forget_or_to_hide(hands, monkeypatch):
    order = hands.order("BUY", "LIMIT", quantity="1", price="99")

    def offline(*_):
        raise Unavailable("no network")

    monkeypatch.setattr(hands.market, "reach", offline)
    monkeypatch.setattr(hands.market, "price", offline)
    hands.step(MINUTE)
    assert hands.get("/api/v3/ticker/price", symbol="BTCUSDT")[:2] == (503, -1008)
    assert hands.order("BUY", quantity="1")[:2] == (503, -1008)
    assert hands.paper("GET", "status")["open_orders"] == 1
    hands.x.tick()
    monkeypatch.undo()
    assert hands.ask("GET", "/api/v3/openOrders")[0]["orderId"] == order["orderId"]
    assert hands.owns() == {"USDT": (D(9901), D(99))}


def test_a_database_that_is_none_is_named(home):
    folder = home / "data" / "paper"
    folder.mkdir(parents=True)
    (folder / "paper.db").write_text("this is not a database, it is a line of text that somebody put here")
    with pytest.raises(StateError, match=r"paper\.db"):
        Hands(FixedMarket(flat()), home, folder)


def test_a_start_outside_the_data_is_refused_with_what_would_be_right():
    with pytest.raises(SettingsError, match="PAPER_START"):
        Hands(FixedMarket(flat()), PAPER_START="2001-01-01")
    with pytest.raises(SettingsError, match="after the data's end"):
        Hands(FixedMarket(flat(), end_ms=START + MINUTE), PAPER_START="2030-01-01")


def test_the_real_markets_time_is_the_walls_and_cannot_be_moved():
    market = FixedMarket(flat())
    market.source = "binance"
    hands = Hands(market, PAPER_SPEED="1", PAPER_MARKET="binance")
    assert hands.paper("GET", "clock")["market_ms"] == WALL
    hands.wall += 5000
    assert hands.paper("GET", "clock")["market_ms"] == WALL + 5000
    refused(hands.paper("POST", "clock", {"advance_ms": 1}), "can't be moved")
    hands.wall -= 60_000  # somebody set the machine's clock back
    assert hands.paper("GET", "clock")["market_ms"] == WALL + 5000
