"""What clients that nobody here wrote send, and what people send by mistake: each gets Binance's answer or a clear one."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from paper_fixed import START, FixedMarket, Hands, flat
from paper_served import serving
from patience import patience


@pytest.fixture
def hands():
    return Hands(FixedMarket(flat()))


def test_surplus_parameters_are_told_apart_as_binance_does(hands):
    """-1101 where more came than there are at all, -1104 where one of them means nothing."""
    assert hands.get("/api/v3/time", a=1, b=2) == (400, -1101, "Too many parameters; expected '0' and received '2'.")
    sent = {"symbol": "BTCUSDT", "interval": "1h", "limit": 5, "timeout": 5000}
    assert hands.get("/api/v3/klines", **sent) == (400, -1104, "Not all sent parameters were read; read '3' parameter(s) but was sent '4'.")


# --- numbers in /paper/... --------------------------------------------------------------


@pytest.mark.parametrize("amount", ["١٢", "1_0", " 5 ", "+5", "0x10", "", "1e99999", ".5", "5.", "Infinity", "sNaN", "-0", "-1", 10**40, "1" * 40])
def test_an_amount_that_is_no_plain_number_moves_no_money(hands, amount):
    told = hands.paper("POST", "accounts/paper/deposit", {"asset": "USDT", "amount": amount})
    assert told[0] == 400 and "amount" in told[2]
    assert hands.owns() == {"USDT": (D(10000), D(0))}


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
