"""The edge to Binance: what each failure means, what is sent, what is believed, what is logged.

The unmodified python-binance on the paper exchange in this process; faults put in the answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from core.binance_client import BinanceClient, base_url, translate
from core.binance_transport import NotSent, cut_secrets, never_connected, watched
from core.binance_wire import number, order_params, parse_order
from core.clock import wall_ms
from core.config import load
from core.errors import (
    AccessRefused,
    ClockRefused,
    ExchangeError,
    NotFound,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unavailable,
)
from core.model import OrderRequest
from patience import patience
from stepped import World

D = Decimal
ORDER = "/api/v3/order"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, PAPER_START="2024-03-01")
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> BinanceClient:
    made = world.client()
    made.connect()
    made.measure_offset()
    return made


def fault(world: World, kind: str, path: str, method: str = "GET", times: int | None = 1, **params: Any) -> None:
    world.ask("POST", "/paper/faults", {"method": method, "path": path, "fault": kind, "times": times, "params": params})


def buy(own_id: str = "by-test-1", quantity: str = "0.01") -> OrderRequest:
    return OrderRequest(own_id, "BTCUSDT", "BUY", "MARKET", quantity=D(quantity))


@pytest.mark.parametrize(
    ("status", "code", "text", "asked", "sent"),
    [
        (500, -1000, "internal", Unavailable, OutcomeUnknown),
        (502, 0, "bad gateway", Unavailable, OutcomeUnknown),
        (503, -1008, "overloaded", Unavailable, OutcomeUnknown),
        (504, -1007, "timeout waiting for the backend", Unavailable, OutcomeUnknown),
        (400, -1000, "an unknown error", Unavailable, OutcomeUnknown),
        (400, -1001, "disconnected", Unavailable, OutcomeUnknown),
        (400, -1006, "unexpected response", Unavailable, OutcomeUnknown),
        (400, -1007, "send status unknown", Unavailable, OutcomeUnknown),
        (408, 0, "request timeout", Unavailable, OutcomeUnknown),
        (429, -1003, "too many requests", RateLimited, RateLimited),
        (418, -1003, "banned", RateLimited, RateLimited),
        (403, 0, "firewall", Unavailable, Refused),
        (400, -1013, "Filter failure: LOT_SIZE", Refused, Refused),
        (400, -1021, "Timestamp for this request", ClockRefused, ClockRefused),
        (401, -2014, "API-key format invalid.", AccessRefused, AccessRefused),
        (401, -2015, "Invalid API-key, IP, or permissions for action.", AccessRefused, AccessRefused),
        (400, -1022, "Signature for this request is not valid.", AccessRefused, AccessRefused),
        (400, -2010, "Account has insufficient balance for requested action.", Refused, Refused),
        (400, -2011, "Unknown order sent.", OrderNotFound, OrderNotFound),
        (400, -2011, "Order was not canceled due to cancel restrictions.", Refused, Refused),
        (400, -2013, "Order does not exist.", OrderNotFound, OrderNotFound),
    ],
)
def test_each_code_and_status_becomes_the_error_that_says_who_must_act(
    world: World, client: BinanceClient, status: int, code: int, text: str, asked: type[Exception], sent: type[Exception]
) -> None:
    fault(world, "error", ORDER, "GET", None, status=status, code=code, msg=text)
    fault(world, "error", ORDER, "POST", 1, status=status, code=code, msg=text)
    with pytest.raises(ExchangeError) as read:
        client.order("BTCUSDT", "nobody")
    assert type(read.value) is asked
    with pytest.raises(ExchangeError) as write:
        client.place(buy())
    assert type(write.value) is sent
    assert text in str(write.value)


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "hang_after"])
def test_a_lost_answer_to_an_order_is_unknown_and_it_is_not_sent_again(world: World, client: BinanceClient, kind: str) -> None:
    fault(world, kind, ORDER, "POST")
    with pytest.raises(OutcomeUnknown):
        client.place(buy())
    assert [f["struck"] for f in world.ask("GET", "/paper/faults")] == [1]
    assert len(client.fills("BTCUSDT")) == (0 if kind == "drop_before" else 1)


def test_a_line_that_could_not_be_opened_sent_nothing(tmp_path: Path) -> None:
    client = BinanceClient(load({"BOTYARD_HOME": str(tmp_path), "PAPER_PORT": "1"}), sleep=lambda _: None)
    client.clock.measured(wall_ms(), client.clock.monotonic_ms())
    with pytest.raises(Unavailable, match="not sent"):
        client.place(buy())


def test_only_a_connection_that_was_never_opened_counts_as_not_sent() -> None:
    assert never_connected(requests.ConnectTimeout())
    assert not never_connected(requests.ConnectionError("Connection aborted."))
    assert not never_connected(requests.exceptions.SSLError("handshake"))
    assert isinstance(translate(requests.ReadTimeout(), order=True), OutcomeUnknown)
    assert isinstance(translate(requests.ConnectionError("aborted"), order=True), OutcomeUnknown)
    assert isinstance(translate(NotSent("held back"), order=True), Unavailable)


def test_a_read_is_tried_three_times_a_second_apart(world: World, client: BinanceClient) -> None:
    fault(world, "drop_before", "/api/v3/ticker/price", times=2)
    before = world.wall
    assert client.price("BTCUSDT") > 0
    assert world.wall - before == 2000
    fault(world, "drop_before", "/api/v3/ticker/price", times=3)
    with pytest.raises(Unavailable):
        client.price("BTCUSDT")
    assert client.price("BTCUSDT") > 0, "three tries were used up, not more"


def test_a_read_that_is_refused_or_limited_is_not_repeated(world: World, client: BinanceClient) -> None:
    fault(world, "rate_limit", "/api/v3/ticker/price", times=1, seconds=7)
    with pytest.raises(RateLimited) as limited:
        client.price("BTCUSDT")
    assert limited.value.retry_after_s == 7
    before = world.wall
    with pytest.raises(NotFound, match="NOSUCH"):
        client.symbol("NOSUCH")
    assert world.wall == before


def test_the_clock_is_measured_anew_when_the_exchange_refuses_our_time(world: World, client: BinanceClient) -> None:
    client.clock.measured(world.wall - 60_000, client.clock.monotonic_ms())
    with pytest.raises(ClockRefused):
        client.place(buy("late-1"))
    assert client.place(buy("late-2")).status == "FILLED", "measured before the next order"
    client.clock.measured(world.wall + 60_000, client.clock.monotonic_ms())
    assert "USDT" in client.balances(), "a read measures by itself and asks again"


def test_tries_that_failed_are_no_part_of_the_measured_way(world: World, client: BinanceClient) -> None:
    fault(world, "drop_before", "/api/v3/time", times=2)
    client.measure_offset(again=True)
    assert abs(client.clock.now_ms() - world.wall) < 500


def test_an_order_stamped_later_than_its_intent_allows_is_held_back(world: World, client: BinanceClient, tmp_path: Path) -> None:
    sent: list[Any] = []

    class Wire:
        latest_order_ms = 1000

    request = requests.Request("POST", "http://127.0.0.1/api/v3/order", data="symbol=BTCUSDT&timestamp=1001&signature=00").prepare()
    with pytest.raises(NotSent):
        watched(sent.append, Wire(), request)
    assert sent == []
    request.prepare_body("symbol=BTCUSDT&timestamp=1000&signature=00", None)
    watched(lambda r: sent.append(r) or requests.Response(), Wire(), request)  # type: ignore[func-returns-value]
    assert len(sent) == 1


NONSENSE = [
    "",
    "<html>busy</html>",
    "[]",
    "{}",
    "null",
    "7",
    '"text"',
    '{"price": "NaN"}',
    '{"price": "-1"}',
    '{"price": "Infinity"}',
    '{"price": 1.5}',
    '{"price": null}',
    "[[1,2]]",
    '[["a"]]',
]


@pytest.mark.parametrize("body", NONSENSE)
def test_an_answer_that_makes_no_sense_is_no_answer(world: World, client: BinanceClient, body: str) -> None:
    def garbled(path: str, method: str = "GET") -> None:
        world.ask("DELETE", "/paper/faults")
        fault(world, "error", path, method, None, status=200, body=body)

    garbled("/api/v3/ticker/price")
    with pytest.raises(Unavailable):
        client.price("BTCUSDT")
    garbled("/api/v3/exchangeInfo")
    with pytest.raises(Unavailable):
        client.symbol("BTCUSDT")
    garbled("/api/v3/account")
    with pytest.raises(Unavailable):
        client.balances()
    garbled(ORDER)
    with pytest.raises(Unavailable):
        client.order("BTCUSDT", "some")
    garbled("/api/v3/time")
    with pytest.raises(Unavailable):
        client.server_ms()
    if body != "[]":
        garbled("/api/v3/klines")
        with pytest.raises(Unavailable):
            client.candles("BTCUSDT", "5m", 5)
        garbled("/api/v3/myTrades")
        with pytest.raises(Unavailable):
            client.fills("BTCUSDT")
    garbled(ORDER, "POST")
    with pytest.raises(OutcomeUnknown):
        client.place(buy())


def row(**changes: Any) -> dict[str, Any]:
    full = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": "a", "transactTime": 5, "status": "FILLED", "side": "BUY"}
    sums = {"executedQty": "1.0", "cummulativeQuoteQty": "100.0"}
    return {**full, **sums, **changes}


def test_an_order_told_as_filled_with_nothing_executed_is_not_believed() -> None:
    with pytest.raises(ValueError, match="nothing executed"):
        parse_order(row(executedQty="0.0"))
    bare = row()
    del bare["executedQty"]
    with pytest.raises(KeyError):
        parse_order(bare)
    short = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": "a", "transactTime": 5}
    assert (parse_order(short).status, parse_order(short).executed) == ("NEW", 0)


def test_fills_whose_products_are_not_what_the_exchange_summed_are_asked_for_again() -> None:
    fills = [{"tradeId": n, "price": "0.33333333", "qty": "0.33333333", "commission": "0", "commissionAsset": "BTC"} for n in (1, 2)]
    told = parse_order(row(executedQty="0.66666666", cummulativeQuoteQty="0.22222220", fills=fills))
    assert told.fills == () and told.executed == D("0.66666666")
    exact = [{"tradeId": n, "price": "50", "qty": "0.5", "commission": "0", "commissionAsset": "BTC"} for n in (1, 2)]
    assert len(parse_order(row(cummulativeQuoteQty="50.0", fills=exact)).fills) == 2


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-0.1", "", "1,5", None, 1.5, True, []])
def test_what_is_no_amount_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError, ArithmeticError)):
        number(value)


def test_numbers_go_out_as_plain_text() -> None:
    request = OrderRequest("a", "X", "BUY", "LIMIT", quantity=D("1E+3"), price=D("0.0000000100"), life="GTC")
    params = order_params(request)
    assert (params["quantity"], params["price"]) == ("1000", "0.00000001")
    assert "E" not in "".join(params[k] for k in ("quantity", "price"))
    assert order_params(OrderRequest("a", "X", "BUY", "MARKET", quote_quantity=D("1E-7")))["quoteOrderQty"] == "0.0000001"


def test_debug_logs_show_the_request_without_key_and_signature(world: World, caplog: pytest.LogCaptureFixture) -> None:
    import socket
    import threading

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        answer = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"balances":[]}'

        def serve() -> None:
            line, _ = server.accept()
            with line:
                line.recv(65536)
                line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        values = {"BINANCE_TESTNET_URL": url, "BINANCE_TESTNET_API_KEY": "keykeykey", "BINANCE_TESTNET_API_SECRET": "hushhushhush"}
        client = BinanceClient(load({"BOTYARD_HOME": str(world.home), **values}), "testnet")
        client.clock.measured(wall_ms(), client.clock.monotonic_ms())
        caplog.set_level(logging.DEBUG, "botyard.binance")
        assert client.balances() == {}
        thread.join(patience(5))
    assert "signature=***" in caplog.text
    assert "keykeykey" not in caplog.text and "hushhushhush" not in caplog.text
    assert cut_secrets("x?signature=0aFf&y=1") == "x?signature=***&y=1"


def test_each_mode_has_its_own_address_and_testnet_needs_keys(tmp_path: Path) -> None:
    settings = load({"BOTYARD_HOME": str(tmp_path), "BINANCE_TLD": "us"})
    assert base_url(settings, "testnet") == "https://testnet.binance.vision"
    assert base_url(settings, "live") == "https://api.binance.us"
    with pytest.raises(AccessRefused, match="BINANCE_TESTNET_API_KEY"):
        BinanceClient(settings, "testnet")


def test_a_plain_market_order_needs_a_write_ahead_path(client: BinanceClient) -> None:
    with pytest.raises(Refused, match="write-ahead"):
        client.place_market_order("BTCUSDT", "BUY", D("0.01"))
