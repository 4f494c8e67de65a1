"""What clients that nobody here wrote send, and what people send by mistake: each gets Binance's answer or a clear one."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from core.paper.markets.synthetic import SyntheticMarket
from core.paper.signing import sign
from paper_fixed import MINUTE, START, FixedMarket, Hands, flat
from paper_served import serving
from patience import patience

HOUR = 60 * MINUTE


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


def test_surplus_parameters_are_told_apart_as_binance_does(hands):
    """-1101 where more came than there are at all, -1104 where one of them means nothing."""
    assert hands.get("/api/v3/time", a=1, b=2) == (400, -1101, "Too many parameters; expected '0' and received '2'.")
    sent = {"symbol": "BTCUSDT", "interval": "1h", "limit": 5, "timeout": 5000}
    assert hands.get("/api/v3/klines", **sent) == (400, -1104, "Not all sent parameters were read; read '3' parameter(s) but was sent '4'.")


def test_a_get_is_read_from_its_query_alone(hands):
    text = f"timestamp={hands.wall}"
    text += "&signature=" + sign("paper", text.encode())
    answer = hands.raw("GET", "/api/v3/account", body=text.encode(), x_mbx_apikey="paper")
    assert answer.status == 400 and b"'timestamp' was not sent" in answer.body
    assert hands.raw("GET", "/api/v3/account", text, x_mbx_apikey="paper").status == 200


def test_a_symbol_of_another_status_is_refused_alone_and_left_out_among_others(hands):
    get = hands.get
    assert get("/api/v3/ticker/price", symbol="BTCUSDT", symbolStatus="TRADING")["symbol"] == "BTCUSDT"
    other = (400, -1220, "The symbol's status does not match the requested symbolStatus.")
    assert get("/api/v3/ticker/24hr", symbol="BTCUSDT", symbolStatus="HALT") == other
    assert get("/api/v3/depth", symbol="BTCUSDT", symbolStatus="HALT") == other
    assert get("/api/v3/ticker/price", symbols='["BTCUSDT"]', symbolStatus="HALT") == get("/api/v3/ticker/bookTicker", symbolStatus="BREAK") == []
    assert get("/api/v3/ticker/price", symbolStatus="SLEEPING") == (400, -1122, "Invalid symbolStatus.")


def test_values_as_long_as_a_line_allows_are_refused_and_break_nothing(hands):
    assert hands.get("/api/v3/klines", symbol="BTCUSDT", interval="9" * 7000 + "m", timeZone=1) == (400, -1120, "Invalid interval.")
    assert hands.get("/api/v3/exchangeInfo", permissions="[" * 7000)[1] == -1130
    assert hands.get("/api/v3/ticker/price", symbols='["' + "A" * 7000 + '"]')[1] == -1100
    assert hands.get("/api/v3/ticker", symbol="BTCUSDT", windowSize="9" * 7000 + "d")[1] == -1130
    assert hands.ask("GET", "/api/v3/account", recvWindow="9" * 7000)[1] == -1100


def test_what_cannot_happen_here_has_happened_to_nobody(hands):
    """Clients ask for it all the same; ccxt asks for the coins before anything else."""
    for path, params in (("myPreventedMatches", {"orderId": 1}), ("myAllocations", {}), ("order/amendments", {"orderId": 1})):
        assert hands.ask("GET", f"/api/v3/{path}", symbol="BTCUSDT", **params) == []
        assert hands.ask("GET", f"/api/v3/{path}", symbol="NOPE", **params) == (400, -1121, "Invalid symbol.")
    assert hands.ask("GET", "/api/v3/myPreventedMatches", symbol="BTCUSDT")[1] == -1102
    assert hands.get("/api/v3/historicalBlockTrades", symbol="BTCUSDT") == []
    assert hands.get("/api/v3/executionRules", symbol="BTCUSDT") == {"symbolRules": []}
    assert hands.get("/api/v3/referencePrice", symbol="BTCUSDT") == (400, -2043, "This symbol doesn't have a reference price.")
    coins = {c["coin"]: c for c in hands.ask("GET", "/sapi/v1/capital/config/getall")}
    assert coins["USDT"]["free"] == "10000.00000000" and coins["BTC"]["free"] == "0" and coins["BTC"]["trading"] is True
    assert hands.get("/sapi/v1/margin/allPairs") == hands.ask("GET", "/sapi/v1/margin/isolated/allPairs") == []


# --- price statistics -----------------------------------------------------------------------


def of_minutes(market, start, now):
    """The statistics of [start, now], from one-minute candles alone."""
    rows = []
    while start <= now:
        rows += market.klines("BTCUSDT", "1m", start, min(now, start + 999 * MINUTE), 1000, now)
        start += 1000 * MINUTE
    volume, quote = (sum(D(r[i]) for r in rows) for i in (5, 7))
    return {
        "openPrice": D(rows[0][1]), "highPrice": max(D(r[2]) for r in rows), "lowPrice": min(D(r[3]) for r in rows), "lastPrice": D(rows[-1][4]),
        "volume": volume, "quoteVolume": quote, "count": sum(r[8] for r in rows),
    }  # fmt: skip


def told(value):
    return {k: value[k] if k == "count" else D(value[k]) for k in ("openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume", "count")}


@pytest.fixture(scope="module")
def synthetic():
    found = Hands(SyntheticMarket(7), PAPER_START="2024-03-01")
    found.step(13 * HOUR + 37 * MINUTE + 12_345)
    return found


@pytest.mark.parametrize(("size", "ms"), [("1m", MINUTE), ("59m", 59 * MINUTE), ("1h", HOUR), ("23h", 23 * HOUR), ("1d", 24 * HOUR), ("3d", 72 * HOUR)])
def test_a_rolling_window_begins_on_a_minute_and_tells_what_its_minutes_say(synthetic, size, ms):
    now = synthetic.paper("GET", "clock")["market_ms"]
    found = synthetic.get("/api/v3/ticker", symbol="BTCUSDT", windowSize=size)
    start = (now - ms) // MINUTE * MINUTE
    assert (found["openTime"], found["closeTime"]) == (start, now)
    assert told(found) == of_minutes(synthetic.market, start, now)
    assert D(found["priceChange"]) == D(found["lastPrice"]) - D(found["openPrice"])


@pytest.mark.parametrize(("zone", "minutes"), [("0", 0), ("8", 480), ("-1:00", -60), ("05:45", 345), ("+14", 840), ("-12", -720)])
def test_a_trading_day_is_that_of_its_time_zone(synthetic, zone, minutes):
    now = synthetic.paper("GET", "clock")["market_ms"]
    found = synthetic.get("/api/v3/ticker/tradingDay", symbol="BTCUSDT", timeZone=zone)
    start, shift = found["openTime"], minutes * MINUTE
    assert (start + shift) % (24 * HOUR) == 0 and start <= now <= found["closeTime"] == start + 24 * HOUR - 1
    assert told(found) == of_minutes(synthetic.market, start, now)


def test_windows_that_there_are_not_are_refused(hands):
    for path in ("ticker", "ticker/tradingDay"):
        assert hands.get(f"/api/v3/{path}") == (400, -1102, "Param 'symbol' or 'symbols' must be sent, but both were empty/null!")
    for size in ("0m", "60m", "24h", "8d", "1w", "d", "1M"):
        assert hands.get("/api/v3/ticker", symbol="BTCUSDT", windowSize=size)[1] == -1130
    for zone in ("15", "-13", "14:01", "8:60", "UTC"):
        assert hands.get("/api/v3/ticker/tradingDay", symbol="BTCUSDT", timeZone=zone)[1] == -1130


# --- numbers in /paper/... --------------------------------------------------------------


@pytest.mark.parametrize("amount", ["١٢", "1_0", " 5 ", "+5", "0x10", "", "1e99999", ".5", "5.", "Infinity", "sNaN", "-0", "-1", 10**40, "1" * 40])
def test_an_amount_that_is_no_plain_number_moves_no_money(hands, amount):
    told = hands.paper("POST", "accounts/paper/deposit", {"asset": "USDT", "amount": amount})
    assert told[0] == 400 and "amount" in told[2]
    assert hands.owns() == {"USDT": (D(10000), D(0))}


def test_an_account_never_holds_more_than_its_sums_can_tell_exactly(hands):
    deposit = {"asset": "BTC", "amount": "999999999999999.99999999"}
    assert hands.paper("POST", "accounts/paper/deposit", deposit)["balances"][0]["free"] == "999999999999999.99999999"
    assert "more than" in hands.paper("POST", "accounts/paper/deposit", {"asset": "BTC", "amount": 1})[2]
    assert hands.owns()["BTC"] == (D("999999999999999.99999999"), D(0))


def test_half_a_surrogate_pair_is_refused_and_leaves_no_fault_behind(hands):
    body = b'{"method": "GET", "path": "/api/v3/ping", "fault": "error", "params": {"msg": "\\ud800"}}'
    answer = hands.raw("POST", "/paper/faults", body=body)
    assert answer.status == 400 and b"surrogates" in answer.body
    assert hands.paper("GET", "faults") == []
    assert hands.get("/api/v3/ping") == {}


@pytest.mark.parametrize("host", ["[", "[::1", "evil.example", "127.0.0.1.evil.example"])
def test_a_host_that_is_none_of_ours_is_refused(hands, host):
    assert hands.raw("GET", "/paper/status", host=host).status == 403


def test_a_speed_too_fine_to_be_meant_is_refused(hands):
    assert hands.paper("POST", "clock", {"speed": "1e-300"})[0] == 400
    assert hands.paper("POST", "clock", {"speed": 0.000001})["speed"] == 0.000001
    assert hands.paper("GET", "clock")["market_ms"] == START


# --- on the socket -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("strangers")) as found:
        yield found


def test_a_body_that_is_not_what_its_headers_say_is_the_senders_fault(server):
    told = server.session.post(server.url + "/api/v3/order", data=b"abcde", headers={"Content-Encoding": "gzip"}, timeout=patience(10))
    assert (told.status_code, told.json()["code"]) == (400, -1000)
    told = server.session.post(server.url + "/paper/accounts", data=b"a" * 10_000_000, timeout=patience(10))
    assert (told.status_code, told.json()["code"]) == (413, -1000)
    assert server.answers()
