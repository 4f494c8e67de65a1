"""Backups under load, with real processes: bots that trade several times a second are copied, killed, and restored elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.account import ledger
from core.binance_client import BinanceClient
from core.bot import catchup
from core.bot.ids import number_of
from core.config import load
from core.fleet import backup, restore
from core.model import TERMINAL
from core.storage import Files, installation
from processes import BUY_SELL, Home, until

SYMBOLS = {1: "BTCUSDT", 2: "BTCUSDT", 3: "BTCUSDT", 4: "ETHUSDT"}
COPIES = 2


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[list[Home]]:
    made: list[Home] = []
    yield made
    for home in reversed(made):
        home.end()


def start(home: Home) -> None:
    for bot_id, symbol in SYMBOLS.items():
        home.bot(bot_id, f"Bot {bot_id}", symbol, "buy_sell", "1000")


def fills(home: Home) -> int:
    return sum(len(home.lines(f"bot_{n}_fills.jsonl")) for n in SYMBOLS)


def more(home: Home, count: int) -> None:
    wanted = fills(home) + count
    until(lambda: fills(home) >= wanted, f"{wanted} fills: {home.log(1)[-1500:]}", 40)


def kill(home: Home) -> None:
    """The bots, not the paper exchange."""
    for child in home.children:
        if "integrated_trader.py" in child.args and child.poll() is None:  # type: ignore[operator]
            child.kill()
            child.wait()


def right(home: Home) -> int:
    """With the clock stopped and the bots killed: books = wallet, journals = the exchange's trades; how many of our orders there are."""
    files = Files(home.path)
    client = BinanceClient(load({k: v for k, v in home.env.items() if k.startswith(("PAPER_", "BOTYARD_"))}), "paper")
    client.connect(installation(files))
    assert ledger.compare(files, client) == []
    orders = 0
    for bot_id, symbol in SYMBOLS.items():
        prefix = f"by{installation(files)}-{bot_id}-"
        mine = {u.order_id: u for u in client.orders_since(symbol) if u.client_id.startswith(prefix)}
        theirs = sorted((f.trade_id, mine[f.order_id].client_id) for f in client.fills(symbol, since_ms=0) if f.order_id in mine)
        assert sorted((r["trade_id"], r["client_id"]) for r in files.read_lines(f"bot_{bot_id}_fills.jsonl")) == theirs
        numbers = [number_of(u.client_id) for u in mine.values()]
        assert len(numbers) == len(set(numbers)), "no number twice"
        resting = {u.client_id: u for u in mine.values() if u.status not in TERMINAL}
        told = home.position(bot_id)
        assert {o["request"]["client_id"] for o in told["orders"]} == set(resting)
        assert max(numbers) < told["next_order"]
        stops = {float(u.request.stop_price) for u in resting.values() if u.request and u.request.stop_price}
        assert stops <= {told["stop_loss"]}
        orders += len(numbers)
    return orders


def settle(home: Home) -> None:
    """The clock stands still; what the bots have under way becomes known; then they are gone."""
    home.post("/paper/clock", {"speed": 0})

    def known() -> bool:
        told = [home.position(n) for n in SYMBOLS]
        return not any(home.status(n)["unresolved"] for n in SYMBOLS) and not any(o["status"] == "SENDING" for p in told for o in p["orders"])

    since = time.time() * 1000
    until(lambda: all(home.status(n)["heartbeat_wall_ms"] > since + 4500 for n in SYMBOLS) and known(), "a quiet yard", 30)
    kill(home)


def caught_up(home: Home) -> None:
    until(lambda: catchup.pending(Files(home.path)) == [], f"every bot's catch-up: {home.log(1)[-1500:]}", 30)


SETTINGS: dict[str, Any] = {"PAPER_SPEED": "900", "CHECK_INTERVAL": "300", "RISK_INTERVAL": "60", "PAPER_BALANCE_USDT": "100000"}


def yard(folder: Path, homes: list[Home]) -> Home:
    home = Home(folder / "one", **SETTINGS)
    homes.append(home)
    home.strategy("buy_sell", BUY_SELL)
    home.paper()
    return home


def elsewhere(copy: Path, folder: Path, homes: list[Home], port: int | None = None) -> Home:
    restore.restore(copy, folder)
    home = Home(folder, **SETTINGS)
    homes.append(home)
    if port is not None:
        home.port, home.env["PAPER_PORT"] = port, str(port)
    return home


def test_copies_taken_under_load_go_on_against_the_exchange_that_lived_on(tmp_path: Path, homes: list[Home]) -> None:
    one = yard(tmp_path, homes)
    start(one)
    copies, last = [], one
    for n in range(COPIES):
        more(one, 6)
        copies.append(backup.create(Files(one.path), tmp_path / f"{n}.tar.gz").path)
    more(one, 12)
    for n, copy in enumerate(copies):
        kill(last)
        one.post("/paper/clock", {"speed": 900})
        last = elsewhere(copy, tmp_path / f"home {n}", homes, port=one.port)
        start(last)
        caught_up(last)
        more(last, 4)
        settle(last)
        assert right(last) > 10 * (n + 1)
        assert not any(w["kind"] == "twin" for n in SYMBOLS for w in last.status(n)["warnings"])


def test_copies_taken_under_load_go_on_with_their_own_copy_of_the_paper_exchange(tmp_path: Path, homes: list[Home]) -> None:
    one = yard(tmp_path, homes)
    start(one)
    copies = []
    for n in range(COPIES):
        more(one, 6)
        copies.append(backup.create(Files(one.path), tmp_path / f"{n}.tar.gz").path)
    one.end()
    for n, copy in enumerate(copies):
        home = elsewhere(copy, tmp_path / f"home {n}", homes)
        home.paper()
        start(home)
        caught_up(home)
        more(home, 4)
        settle(home)
        assert right(home) > 5 * (n + 1)
        home.end()
