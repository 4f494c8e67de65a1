"""What tests of the kill switch share: a home of real bots with open positions, and its end with nothing left running."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.account import ledger
from core.binance_client import BinanceClient
from core.config import load
from core.fleet.screen import parse_sessions
from core.storage import Files
from patience import patience
from processes import BUY_ONCE, ROOT, Home, until

COINS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


@contextlib.contextmanager
def killable(folder: Path, **values: str) -> Iterator[Home]:
    """A home whose yard and guards are started by commands: their settings come from its `.env`, not from our environment."""
    prefix = f"t{secrets.token_hex(4)}_"
    made = Home(folder, SESSION_PREFIX=prefix, **values)
    shared = ("PAPER_PORT", "PAPER_START", "PAPER_SPEED", "CHECK_INTERVAL", "SESSION_PREFIX", *values)
    (made.path / ".env").write_text("".join(f"{name}={made.env[name]}\n" for name in shared))
    made.strategy("buy_once", BUY_ONCE)
    try:
        yield made
    finally:
        end(made)


def end(home: Home) -> None:
    """The yard first, which would bring the others back; then whoever holds a lock, by pid; then the sessions, by their full names."""
    files = Files(home.path)
    for _ in range(3):
        for name in ("data/yard.lock", *sorted(p.name for p in home.path.glob("bot_*.lock"))):
            pid = files.lock(name).holder()
            if pid is not None and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        listed = subprocess.run(["screen", "-ls"], capture_output=True, text=True, timeout=patience(10)).stdout
        for session in parse_sessions(listed):
            if session.name.startswith(home.env["SESSION_PREFIX"]):
                subprocess.run(["screen", "-S", session.full, "-X", "quit"], capture_output=True, timeout=patience(10))
        time.sleep(0.1)
    home.end()
    for path in home.path.glob("bot_*.lock"):
        assert files.lock(path.name).holder() is None, f"{path.name} is still held"


def records(home: Home, count: int, **more: Any) -> None:
    value = [
        {"id": n, "name": f"Bot {n}", "symbol": COINS[n % len(COINS)], "strategy": "buy_once", "trade_amount": 500, "status": "running", **more}
        for n in range(1, count + 1)
    ]
    Files(home.path).write_json("active_bots.json", value)


def start(home: Home, count: int, first: int = 1) -> list[subprocess.Popen[str]]:
    return [home.bot(n, f"Bot {n}", COINS[n % len(COINS)], "buy_once", "500") for n in range(first, count + 1)]


def held(home: Home, count: int) -> list[int]:
    return [n for n in range(1, count + 1) if (home.path / f"bot_{n}_position.json").exists() and home.position(n)["position"] == "LONG"]


def with_positions(home: Home, count: int) -> list[subprocess.Popen[str]]:
    """A paper exchange and `count` bots, each with a position."""
    home.paper()
    records(home, count)
    children = start(home, count)
    until(lambda: len(held(home, count)) == count, f"{count} positions", patience(10 + 3 * count))
    return children


def command(home: Home, name: str, *arguments: str, typed: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "utils" / f"{name}.py"), *arguments]
    return subprocess.run(argv, cwd=ROOT, env={**home.env, **more}, input=typed or "", capture_output=True, text=True, timeout=patience(60))


def sales(home: Home, bot_id: int) -> list[dict[str, Any]]:
    """A row for each SELL order in the bot's journal; `wallet_is_the_books` says that the exchange knows of no other."""
    rows = [r for r in home.lines(f"bot_{bot_id}_fills.jsonl") if r["side"] == "SELL"]
    return list({r["order_id"]: r for r in rows}.values())


def wallet_is_the_books(home: Home) -> None:
    """Nothing was sold twice, and nothing is left: what the exchange holds is what the journals say."""
    client = BinanceClient(load({**home.env}), "paper")
    client.connect()
    until(lambda: ledger.compare(Files(home.path), client) == [], "books = wallet", patience(10))
    assert client.open_orders() == []
