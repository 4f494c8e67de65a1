"""Bots in mode live, as processes: a second paper exchange stands in for Binance (BINANCE_URL)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from patience import patience
from processes import BUY_ONCE, ROOT, Home, until

RECORD = {"name": "Real", "symbol": "BTCUSDT", "strategy": "buy_once", "trade_amount": 500, "status": "stopped", "check_interval": 300}


class Live:
    """A yard that may go live, and what it takes for Binance: wall and market time are one there."""

    def __init__(self, folder: Path):
        self.binance = Home(folder / "binance", PAPER_START="", PAPER_SPEED="1")
        self.binance.paper()
        keys = {"TRADING_MODE": "live", "BINANCE_URL": self.binance.url, "BINANCE_API_KEY": "paper", "BINANCE_API_SECRET": "paper"}
        self.home = Home(folder / "home", SESSION_PREFIX="tlive_", **keys)
        self.home.strategy("buy_once", BUY_ONCE)
        self.records({"id": 1, **RECORD})

    def records(self, *records: dict[str, Any]) -> None:
        (self.home.path / "active_bots.json").write_text(json.dumps(records))

    def record(self, bot_id: int = 1) -> dict[str, Any]:
        return next(r for r in self.home.json("active_bots.json") if r["id"] == bot_id)

    def restrict(self, **rights: bool) -> None:
        self.binance.post("/paper/accounts/paper/restrictions", rights)

    def run(self, *argv: str) -> tuple[int, str]:
        """A command for people; its exit code and all it said."""
        done = subprocess.run(
            [sys.executable, *argv], cwd=ROOT, env=self.home.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def agreed(self) -> None:
        code, said = self.run("utils/yard.py", "live", "1", "--confirm", "LIVE")
        assert code == 0, said

    def bot(self, bot_id: int = 1, name: str = "Real") -> subprocess.Popen[str]:
        return self.home.bot(bot_id, name, "BTCUSDT", "buy_once", "500")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    yield made
    made.home.end()
    made.binance.end()


def test_the_word_makes_a_bot_live_and_it_really_trades_while_its_hand_made_twin_may_not(live: Live) -> None:
    code, said = live.run("utils/yard.py", "live", "1", "--confirm", "LIVE")
    assert code == 0 and "✅ withdrawals" in said and "real money" in said, said
    assert live.record()["live_since"]["by"].startswith("yard.py (")
    live.bot()
    until(lambda: live.home.position()["protection"] == "exchange", f"an entry with its stop: {live.home.log()[-1500:]}", 30)
    position = live.home.position()
    assert position["position"] == "LONG" and position["venue"]["mode"] == "live" and position["venue"]["source"] == ""
    assert live.home.status()["mode"] == "live"
    assert [line["venue"]["mode"] for line in live.home.lines("bot_1_fills.jsonl")] == ["live"]
    mine = {**live.record()}
    live.records(mine, {**mine, "id": 2, "name": "Twin"}, {"id": 3, **RECORD, "name": "Hand", "mode": "live"})
    for bot_id, name in ((2, "Twin"), (3, "Hand")):
        assert live.bot(bot_id, name).wait(patience(20)) == 2
        assert f"python3 utils/yard.py live {bot_id}" in live.home.status(bot_id)["exit"]["reason"]
        code, said = live.run("utils/yard.py", "start", str(bot_id))
        assert code == 2 and "was not agreed to by a person" in said
    assert live.home.status(1)["exit"] is None


def test_without_the_word_or_with_a_failed_check_nothing_changes(live: Live) -> None:
    before = live.record()
    for argv, words in (
        (("--confirm", "live"), "type LIVE"),
        (("--json",), "type LIVE"),
        ((), "give --confirm LIVE"),
    ):
        code, said = live.run("utils/yard.py", "live", "1", *argv)
        assert code == 2 and words in said, said
    live.restrict(enableWithdrawals=True)
    code, said = live.run("utils/yard.py", "live", "1", "--confirm", "LIVE")
    assert code == 2 and "Turn withdrawals off" in said
    assert {k: v for k, v in live.record().items() if v is not None} == before
    assert not (live.home.path / "data/yard.lock").exists(), "no yard was started for it"


def test_keys_that_may_withdraw_end_an_idle_bot_with_code_5_and_keep_it_from_being_started(live: Live) -> None:
    live.agreed()
    live.restrict(enableWithdrawals=True)
    assert live.bot().wait(patience(20)) == 5
    assert "may withdraw" in live.home.status()["exit"]["reason"]
    code, said = live.run("utils/yard.py", "start", "1")
    assert code == 2 and "Turn withdrawals off" in said
    assert live.record()["status"] == "stopped"


def test_keys_that_may_withdraw_do_not_keep_a_bot_from_guarding_what_it_holds(live: Live) -> None:
    live.agreed()
    first = live.bot()
    until(lambda: live.home.position()["protection"] == "exchange", "an entry", 30)
    first.terminate()
    assert first.wait(patience(10)) == 0
    live.restrict(enableWithdrawals=True)
    live.bot()
    until(lambda: [w for w in live.home.status()["warnings"] if w["kind"] == "rights"], f"the warning: {live.home.log()[-800:]}")
    until(lambda: live.home.status()["state"] == "running", "the bot at work")
    assert "guarded on" in live.home.log()


def test_test_connection_tells_of_the_keys_when_live_is_allowed(live: Live) -> None:
    live.restrict(enableWithdrawals=True)
    code, said = live.run("utils/test_connection.py", "--json", "--mode", "live")
    rows = {r["check"]: r for r in json.loads(said)["rows"]}
    assert code == 1
    assert rows["Live withdrawals"]["status"] == "fail" and "Turn withdrawals off" in rows["Live withdrawals"]["remedy"]
    assert rows["Live keys"]["status"] == "ok" and rows["Live address"]["status"] == "warn"
