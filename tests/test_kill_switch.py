"""The kill switch over real processes: bots with open positions, one of them dead, no yard and no page.

Times are measured and printed (`-s` shows them), asserted loosely only.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import notify
from core.account import guard_files, ledger
from core.binance_client import BinanceClient
from core.clock import wall_ms
from core.config import load
from core.fleet import control
from core.fleet.guarding import Guarding
from core.fleet.screen import parse_sessions
from core.model import Venue
from core.storage import Files
from fleet_help import yardful
from kill_help import end
from patience import patience
from processes import BUY_ONCE, ROOT, Home, until

COINS = ("BTCUSDT", "ETHUSDT", "BNBUSDT")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    prefix = f"t{secrets.token_hex(4)}_"
    made = Home(tmp_path / "home", SESSION_PREFIX=prefix)
    # Guards are started as by a person's command: their settings come from the file, not from our environment.
    shared = ("PAPER_PORT", "PAPER_START", "PAPER_SPEED", "CHECK_INTERVAL", "SESSION_PREFIX")
    (made.path / ".env").write_text("".join(f"{name}={made.env[name]}\n" for name in shared))
    made.strategy("buy_once", BUY_ONCE)
    yield made
    end(made)
    listed = subprocess.run(["screen", "-ls"], capture_output=True, text=True, timeout=patience(10)).stdout
    for session in parse_sessions(listed):
        if session.name.startswith(prefix):
            subprocess.run(["screen", "-S", session.full, "-X", "quit"], capture_output=True, timeout=patience(10))
    for n in range(1, 7):
        assert Files(made.path).lock(f"bot_{n}.lock").holder() is None, f"bot {n} is still there"


def records(home: Home, count: int, **more: Any) -> None:
    value = [
        {"id": n, "name": f"Bot {n}", "symbol": COINS[n % len(COINS)], "strategy": "buy_once", "trade_amount": 500, "status": "running", **more}
        for n in range(1, count + 1)
    ]
    Files(home.path).write_json("active_bots.json", value)


def start(home: Home, count: int) -> list[subprocess.Popen[str]]:
    return [home.bot(n, f"Bot {n}", COINS[n % len(COINS)], "buy_once", "500") for n in range(1, count + 1)]


def held(home: Home, count: int) -> list[int]:
    return [n for n in range(1, count + 1) if (home.path / f"bot_{n}_position.json").exists() and home.position(n)["position"] == "LONG"]


def command(home: Home, name: str, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(ROOT / "utils" / f"{name}.py"), *arguments]
    return subprocess.run(argv, cwd=ROOT, env=home.env, input=typed or "", capture_output=True, text=True, timeout=90)


def wallet_is_the_books(home: Home) -> None:
    settings = load({**home.env})
    client = BinanceClient(settings, "paper")
    client.connect()
    until(lambda: ledger.compare(Files(home.path), client) == [], "books = wallet", 10)
    assert client.open_orders() == []


def test_six_bots_with_open_positions_are_flat_and_stay_flat_until_it_is_lifted(home):
    """The sixth has died: a guard is started for it. There is neither a yard nor a page."""
    home.paper()
    records(home, 6)
    children = start(home, 6)
    until(lambda: len(held(home, 6)) == 6, "six positions", 60)
    children[5].kill()
    children[5].wait()
    begun = time.monotonic()
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "40")
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"\nsix bots, one of them dead: everything flat after {took:.1f} s")
    print(done.stdout)
    assert held(home, 6) == [] and took < patience(40)
    sold = [[r["tag"] for r in home.lines(f"bot_{n}_fills.jsonl") if r["side"] == "SELL"] for n in range(1, 7)]
    assert all(tags and set(tags) == {"kill"} for tags in sold), sold
    wallet_is_the_books(home)
    # The survivors go on, and buy nothing, also after further checks.
    home.checked(1, home.status(1)["checks_completed"] + 2)
    assert held(home, 6) == [] and "the kill switch is on" in home.log(1)
    told = json.loads(command(home, "kill_switch", "status", "--json").stdout)
    assert told["switch"]["what"] == "flatten" and told["open"] == 0
    assert command(home, "kill_switch", "--off").returncode == 0
    until(lambda: held(home, 1) == [1], "bot 1 to buy again", 30)


def test_a_woken_bot_sells_within_seconds(home):
    home.paper()
    records(home, 2)
    start(home, 2)
    until(lambda: len(held(home, 2)) == 2, "two positions", 40)
    answer = command(home, "kill_switch", "--flatten", "--yes", "--json")
    found = json.loads(answer.stdout)
    assert answer.returncode == 0 and found["woken"] == [1, 2] and found["open"] == [], answer.stdout
    switch = json.loads((home.path / "data/kill.json").read_text())
    sold = max(r["wall_ms"] for n in (1, 2) for r in home.lines(f"bot_{n}_fills.jsonl") if r["side"] == "SELL")
    print(f"\ntwo running bots: sold {(sold - switch['wall_ms']) / 1000:.2f} s after the switch was written")
    assert sold - switch["wall_ms"] < 10_000


def test_the_yard_trips_an_accounts_guard_and_every_bot_of_it_sells(home):
    """A real yard with its keeper: the fees of two entries are more than this account may lose."""
    guard_files.set_limits(Files(home.path), "paper/main/USDT", {"daily_loss_pct": {"hard": "0.08"}})
    home.paper()
    records(home, 2)
    yard = home.start("-m", "core.fleet")
    try:
        until(lambda: any(e["kind"] == "guard_hard" for e in home.lines("data/events.jsonl")), "the guard to trip", 60)
        until(lambda: held(home, 2) == [] and all(home.position(n)["totals"]["trades"] == 1 for n in (1, 2)), "both bots to be flat", 20)
        sold = [r["tag"] for n in (1, 2) for r in home.lines(f"bot_{n}_fills.jsonl") if r["side"] == "SELL"]
        assert set(sold) == {"guard"}
        trip = next(t for t in home.json("data/guards_state.json")["scopes"]["paper/main/USDT"]["trips"].values() if t["level"] == "hard")
        last = max(r["wall_ms"] for n in (1, 2) for r in home.lines(f"bot_{n}_fills.jsonl"))
        print(f"\ntwo bots and a yard: flat {(last - trip['wall_ms']) / 1000:.2f} s after the trip was written")
        wallet_is_the_books(home)
    finally:
        yard.terminate()
        yard.wait(patience(15))
        command(home, "yard", "stop", "--all")


def test_without_the_word_nothing_is_sold(home):
    records(home, 1, status="stopped")
    for typed in ("", "yes\n", "flatten\n"):
        done = command(home, "kill_switch", "--flatten", typed=typed)
        assert done.returncode == 2 and "Nothing was done" in done.stderr
    assert not (home.path / "data/kill.json").exists()
    assert command(home, "kill_switch").returncode == 0


def test_entries_are_stopped_and_the_switch_is_told_and_lifted(home):
    records(home, 1, status="stopped")
    assert command(home, "kill_switch", "--entries").returncode == 0
    assert "no entries" in command(home, "kill_switch", "status").stdout
    told = home.lines("data/events.jsonl")[-1]
    assert told["kind"] == "kill_switch" and told["severity"] == "risk"
    assert [r["what"] for r in home.lines("data/audit.jsonl")] == ["kill switch"]
    assert command(home, "guards").returncode == 1, "the command for the guards says so too"
    assert command(home, "kill_switch", "--off", "status").returncode == 2
    (home.path / "data/kill.json").write_text("{")
    assert command(home, "kill_switch", "status").returncode == 3
    assert command(home, "kill_switch", "--off").returncode == 0, "a broken file can be lifted"
    assert "is off" in command(home, "kill_switch").stdout


def test_limits_are_set_shown_and_reset_by_a_command(home):
    records(home, 1, status="stopped")
    account = "paper/main/USDT"
    assert command(home, "guards").stdout.startswith("No limits are set")
    assert command(home, "guards", "set", "--account", account, "daily_loss_pct", "--soft", "3", "--hard", "5").returncode == 0
    assert command(home, "guards", "set", "--bot", "1", "trades_per_day", "--soft", "10").returncode == 0
    wrong = command(home, "guards", "set", "--bot", "1", "open_positions", "--soft", "2")
    assert wrong.returncode == 2 and "for accounts only" in wrong.stderr
    assert command(home, "guards", "set", "--bot", "9", "trades_per_day", "--soft", "2").returncode == 2
    assert command(home, "guards", "set", "--account", "paper", "open_positions", "--soft", "2").returncode == 2
    shown = command(home, "guards").stdout
    assert "daily_loss_pct" in shown and "soft 3 %, hard 5 %" in shown and "trades_per_day" in shown
    found = json.loads(command(home, "guards", "show", "--json").stdout)
    assert {s["scope"]: s["limits"] for s in found["scopes"]} == {
        account: {"daily_loss_pct": {"soft": 3, "hard": 5}},
        "bot_1": {"trades_per_day": {"soft": 10}},
    }
    assert command(home, "guards", "reset", "--account", account).returncode == 0
    assert command(home, "guards", "reset", "--bot", "9").returncode == 2
    assert command(home, "guards", "set", "--bot", "1", "trades_per_day").returncode == 0
    assert "trades_per_day" not in command(home, "guards").stdout


def test_the_yard_starts_a_guard_for_a_stopped_bot_in_a_scope_that_must_be_flat(tmp_path, monkeypatch):
    """By its own look, also for what was stopped or tripped after the switch was pulled."""
    monkeypatch.setattr(control, "ensure_yard", lambda *_: 0)  # the stand-in bots need no paper exchange
    with yardful(tmp_path) as y:
        y.bots("A", "B", "C")
        y.position(1)
        y.position(2, None)
        y.how(1, beat=True)
        guarding = Guarding(y.files, y.supervisor, lambda: y.settings)
        paper = Venue("binance", "spot", "main", "paper")
        guarding.look({}, paper, 1_700_000_000_000)
        assert not y.supervisor.running()
        guard_files.write_kill(y.files, "flatten", "test", wall_ms())
        guarding.look({}, Venue("binance", "spot", "main", "live"), 1_700_000_000_000)
        assert not y.supervisor.running(), "another mode's bots are another keeper's"
        guarding.look({}, paper, 1_700_000_000_000)
        until(lambda: y.runs(1), "the guard of bot 1", 20)
        assert "--guard" in json.dumps(y.runs(1)[0]) and y.runs(2) == [] and y.registry.bot(1)["status"] == "stopped"


def test_the_yards_look_writes_trips_tells_them_and_says_once_what_it_cannot_judge(tmp_path):
    with yardful(tmp_path) as y:
        y.bots("A", "B", "C", limits={"consecutive_losses": 2})
        guarding = Guarding(y.files, y.supervisor, lambda: y.settings)
        paper = Venue("binance", "spot", "main", "paper")
        guarding.look({}, paper, 1_700_000_000_000)
        assert sorted(guarding.guards.state()["scopes"]) == ["bot_1", "bot_2", "bot_3"]
        y.files.path(guard_files.STATE).write_text("{")
        for _ in range(3):
            guarding.look({}, paper, 1_700_000_000_000)
        told = [e for e in notify.recent(y.files) if e["kind"] == "guards_broken"]
        assert len(told) == 1 and "guards_state.json" in told[0]["text"] and told[0]["severity"] == "risk"
