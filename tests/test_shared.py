"""Several real processes before one real paper exchange: one asks for all, one ban silences all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from core.account import access, budget
from core.account.budget import RESUME_SHARES
from core.account.shared import WAIT_MS
from core.account.shared_exchange import SharedExchange
from core.bot.feed import Feed
from core.clock import RealClock
from core.config import Settings, load
from core.errors import BudgetSpent, RateLimited
from core.market.history import CandleStore
from core.storage import Files, dumps, installation
from patience import patience
from processes import BUY_ONCE, Home, until

D = Decimal
FORK = multiprocessing.get_context("fork")
PATIENCE_S = patience(20)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home", PAPER_SPEED="1", PAPER_START="2024-03-01")
    made.paper()
    installation(Files(made.path))
    yield made
    made.end()


@pytest.fixture
def processes() -> Iterator[list[Any]]:
    started: list[Any] = []
    yield started
    for child in started:
        if child.is_alive():
            child.kill()
        child.join(patience(5))


class Counter:
    """How often a path was asked for: a fault that changes nothing, and counts."""

    def __init__(self, home: Home, path: str, method: str = "GET"):
        self.home, self.path = home, path
        home.post("/paper/faults", {"method": method, "path": path, "fault": "latency", "times": None, "params": {"ms": 0}})

    def __call__(self) -> int:
        rows = requests.get(self.home.url + "/paper/faults", timeout=patience(5)).json()
        return sum(r["struck"] for r in rows if (r["path"], r["fault"]) == (self.path, "latency") and r["params"]["ms"] == 0)


def bot(settings: Settings, known: str) -> SharedExchange:
    made = access.for_bot(settings, "paper")
    made.connect(known)
    made.time()
    return made


def _prices(settings: Settings, known: str, symbol: str, barrier: Any, told: Any) -> None:
    exchange = bot(settings, known)
    exchange.price(symbol)
    barrier.wait(PATIENCE_S)  # everybody's wish is known
    barrier.wait(PATIENCE_S)
    asked = _now()
    told.put((symbol, str(exchange.price(symbol)), asked))


def test_many_processes_that_ask_for_prices_in_one_moment_cost_one_request(home: Home, processes: list[Any]) -> None:
    settings, known, n = load(home.env), installation(Files(home.path)), 6
    barrier, told = FORK.Barrier(n + 1), FORK.Queue()
    for i in range(n):
        processes.append(FORK.Process(target=_prices, args=(settings, known, ("BTCUSDT", "ETHUSDT", "SOLUSDT")[i % 3], barrier, told)))
        processes[-1].start()
    barrier.wait(PATIENCE_S)
    count = Counter(home, "/api/v3/ticker/price")
    time.sleep(1.05)  # what they asked for to say their wish is old now
    barrier.wait(PATIENCE_S)
    rows = [told.get(timeout=PATIENCE_S) for _ in range(n)]
    found, moments = {(symbol, price) for symbol, price, _ in rows}, [asked for *_, asked in rows]
    seconds = (max(moments) - min(moments)) // 1000  # 0, where this host lets them ask in one moment
    assert 1 <= count() <= 1 + seconds
    assert {s for s, _ in found} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert seconds or len(found) == 3  # equal for all who asked for the same


def _ask(settings: Settings, known: str, go: Any, told: Any) -> None:
    exchange = bot(settings, known)
    go.wait(PATIENCE_S)
    began = time.monotonic()
    price = exchange.price("BTCUSDT")
    told.put((price, time.monotonic() - began))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fetcher_that_dies_or_hangs_holds_the_others_up_no_longer_than_the_bound(home: Home, processes: list[Any], number: signal.Signals) -> None:
    settings, known, n = load(home.env), installation(Files(home.path)), 4
    go, first, told, nothing = FORK.Event(), FORK.Event(), FORK.Queue(), FORK.Queue()
    fetcher = FORK.Process(target=_ask, args=(settings, known, first, nothing))
    processes += [fetcher, *(FORK.Process(target=_ask, args=(settings, known, go, told)) for _ in range(n))]
    for child in processes:
        child.start()
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/ticker/price", "fault": "latency", "times": 1, "params": {"ms": 60_000}})
    count = Counter(home, "/api/v3/ticker/price")
    first.set()
    until(lambda: any(r["struck"] for r in requests.get(home.url + "/paper/faults", timeout=patience(5)).json()), "the fetcher's request")
    os.kill(fetcher.pid, number)
    if number is signal.SIGKILL:
        fetcher.join(patience(5))
    go.set()
    found = [told.get(timeout=PATIENCE_S) for _ in range(n)]
    assert all(price > 0 for price, _ in found)
    assert max(took for _, took in found) < WAIT_MS / 1000 + patience(1)
    if number is signal.SIGKILL:
        assert count() == 1  # the dead one's lease was seen to be nobody's: one of the others asked for all
    else:
        assert count() <= n


def _candles(settings: Settings, known: str, folder: Path, barrier: Any, told: Any) -> None:
    exchange = bot(settings, known)
    clock = RealClock(exchange.time)
    clock.sync()
    feed = Feed(exchange, clock, CandleStore(folder / "data/history.db"))
    barrier.wait(PATIENCE_S)
    told.put(dumps(feed.closed_candles("BTCUSDT", "5m", 100)))
    clock.close()


def test_bots_that_want_one_series_at_one_moment_cost_one_request(home: Home, processes: list[Any]) -> None:
    settings, known, n = load(home.env), installation(Files(home.path)), 5
    barrier, told, count = FORK.Barrier(n), FORK.Queue(), Counter(home, "/api/v3/klines")
    for _ in range(n):
        processes.append(FORK.Process(target=_candles, args=(settings, known, home.path, barrier, told)))
        processes[-1].start()
    found = [told.get(timeout=PATIENCE_S) for _ in range(n)]
    assert len(set(found)) == 1 and len(found[0]) > 100
    assert count() == 1


# --- the budget --------------------------------------------------------------------------------


def _now() -> int:
    return time.time_ns() // 1_000_000


def _busy(settings: Settings, known: str, start: Any, end_ms: Any, told: Any) -> None:
    """Asks for what weighs 20 as often as it is let until `end_ms`, and notes before and after each (wall ms)."""
    client = access.client(settings, "paper", priority="entry")
    client.connect(known)
    client.measure_offset()
    start.wait(PATIENCE_S)
    done: list[tuple[int, int]] = []
    refused = 0
    while _now() < end_ms.value:
        before = _now()
        try:
            client.balances()
            done.append((before, _now()))
        except RateLimited as e:
            refused += 1
            time.sleep(min(e.retry_after_s, 0.2))
    told.put((done, refused))


def test_one_418_silences_every_process_until_its_end_and_no_burst_follows(home: Home, processes: list[Any]) -> None:
    settings, known, n = load(home.env), installation(Files(home.path)), 5
    end_ms = FORK.Value("q", _now() + 60_000)
    start, told = FORK.Barrier(n), FORK.Queue()
    for _ in range(n):
        processes.append(FORK.Process(target=_busy, args=(settings, known, start, end_ms, told)))
        processes[-1].start()
    until(lambda: access.gate(settings, "paper").state()["used"] > 300, "requests")
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/account", "fault": "ban", "times": 1, "params": {"seconds": 2}})
    state = until(lambda: (s := access.gate(settings, "paper").state()) and s["banned_until_wall_ms"] and s, "the ban")
    banned_until = state["banned_until_wall_ms"]
    end_ms.value = banned_until + 2500
    count = Counter(home, "/api/v3/account")
    time.sleep(max(0, (banned_until - 300) / 1000 - time.time()))
    assert count() <= n  # what was under way already when the one was told
    found = [told.get(timeout=PATIENCE_S) for _ in range(n)]
    assert all(refused > 0 for _, refused in found)
    # Nothing is sent in the ban but what was let through before it was told.
    assert not [before for done, _ in found for before, _ in done if banned_until - 1500 < before < banned_until - 100]
    after = sorted(at for done, _ in found for before, at in done if before >= banned_until - 100)
    assert after
    for i, at in enumerate(after):
        assert 20 * (i + 1) <= 6000 * RESUME_SHARES["entry"] * (at - banned_until + 1000) / 60_000


def _not_over_the_minutes_end() -> None:
    if time.time() % 60 > 54:
        time.sleep(60 - time.time() % 60 + 0.05)


def test_exits_go_out_while_entries_are_refused(home: Home) -> None:
    settings, known = load(home.env), installation(Files(home.path))
    entering, leaving = access.client(settings, "paper", priority="entry"), access.client(settings, "paper", priority="exit")
    for client in (entering, leaving):
        client.connect(known)
        client.time()
    gate = access.gate(settings, "paper")
    gate.learn(100)
    count = Counter(home, "/api/v3/ticker/price")
    _not_over_the_minutes_end()
    gate.take(79, "exit")
    with pytest.raises(BudgetSpent) as refused:
        entering.price("BTCUSDT")
    assert count() == 0 and 0 < refused.value.retry_after_s <= 60
    assert leaving.price("BTCUSDT") > 0
    assert count() == 1


def test_the_limits_follow_the_exchange_and_the_papers_speed(home: Home) -> None:
    settings = load(home.env)
    client, gate = access.client(settings, "paper"), access.gate(settings, "paper")
    client.connect()
    client.symbol("BTCUSDT")
    assert (gate.state()["limit"], gate.state()["orders_10s_limit"]) == (6000, 100)
    for speed, limit in ((60, 360_000), (0.5, 6000)):
        home.post("/paper/clock", {"speed": speed})
        client.time()
        assert gate.state()["limit"] == limit
    home.post("/paper/clock", {"speed": 0})
    client.time()
    client.symbol("BTCUSDT")
    assert gate.state()["limit"] >= 10**9  # nothing is refused there either


def test_what_the_exchange_counts_is_what_the_budget_holds(home: Home) -> None:
    settings = load(home.env)
    client, gate = access.client(settings, "paper", priority="exit"), access.gate(settings, "paper")
    client.connect()
    _not_over_the_minutes_end()
    asks: list[Callable[[], object]] = [
        lambda: client.symbol("BTCUSDT"),
        lambda: client.candles("BTCUSDT", "5m", 10),
        lambda: client.price("BTCUSDT"),
        lambda: client.prices(["BTCUSDT", "ETHUSDT"]),
        lambda: client.book("BTCUSDT"),
        client.balances,
        client.open_orders,
        lambda: client.open_orders("BTCUSDT"),
        lambda: client.fills("BTCUSDT"),
        lambda: client.fills("BTCUSDT", order_id="1"),
    ]
    for ask in asks:
        ask()
        told = requests.get(home.url + "/api/v3/ping", timeout=patience(5)).headers["X-MBX-USED-WEIGHT-1M"]
        assert gate.state()["used"] >= int(told) - 1 - asks.index(ask)  # our own pings are not in it
        assert gate.state()["used"] <= int(told)


def test_a_ban_while_a_bot_holds_a_position_and_its_stop_is_honoured_right_after(home: Home) -> None:
    home.strategy("buy_once", BUY_ONCE)
    record = {"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "buy_once", "trade_amount": 500, "protection": "bot", "stop_loss_pct": 0.5}
    (home.path / "active_bots.json").write_text(dumps([record]))
    child = home.bot(strategy="buy_once", RISK_INTERVAL="1")
    held = until(lambda: (p := home.position())["position"] == "LONG" and p, "a position", 30)
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/ticker/price", "fault": "ban", "times": 1, "params": {"seconds": 5}})
    settings = load(home.env)
    until_ms = until(lambda: access.gate(settings, "paper").state().get("banned_until_wall_ms"), "the ban")
    count = Counter(home, "/api/v3/ticker/price")
    stop = D(str(held["stop_loss"]))
    for _ in range(500):  # forward to where the price lies below the stop
        home.post("/paper/clock", {"advance_ms": 3_600_000})
        row = requests.get(home.url + "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1", timeout=patience(5)).json()[0]
        if max(D(row[1]), D(row[4])) < stop * D("0.99"):
            break
    assert count() == 0 and time.time() * 1000 < until_ms, "it took longer than the ban"
    sold = until(lambda: [f for f in home.lines("bot_1_fills.jsonl") if f["side"] == "SELL"], "the sale", 20)
    assert 0 <= sold[0]["wall_ms"] - until_ms < patience(3000)
    child.terminate()
    assert child.wait(patience(5)) == 0


# --- a database that can't be used -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["locked", "corrupt", "full"])
def test_a_budget_that_can_not_be_used_neither_stops_nor_holds_up_a_way_out(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "budget.db"
    lock = None
    if kind == "corrupt":
        path.write_bytes(b"\x00\xff" * 5000)
    else:
        first = budget.Budget(path, "h", lambda: 0)
        first.take(1, "exit")
        first.close()
    if kind == "locked":
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
    made = budget.Budget(path, "h", lambda: time.time_ns() // 1_000_000)
    if kind == "full":
        db = made._open()
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count={pages}")
        db.execute("CREATE TEMP TRIGGER full BEFORE UPDATE ON hosts BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
    began = time.monotonic()
    for _ in range(5):
        made.take(20, "exit", orders=1)
        made.told(200, {"X-MBX-USED-WEIGHT-1M": "20"}, orders=1)
    assert time.monotonic() - began < patience(0.9)  # half a second at most for the first, then it is left alone
    if lock is not None:
        lock.close()
    made.close()
