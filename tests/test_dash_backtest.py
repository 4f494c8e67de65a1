"""Backtests from the page: asked for over HTTP, run by real processes over a real store, watched, cancelled, killed, refused."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import ROOT
from core.dash import backtests
from core.errors import InputError
from core.fleet.processes import exists
from core.market.history import CandleStore
from dash_yard import Home, make_app, settings, until

STEP = 300_000
END_MS = 1_700_000_100_000 // STEP * STEP
OWN = "binance/spot/paper/synthetic:1"
TRADER = """
from strategies.base import Param, Strategy
import numpy as np

class Ticker(Strategy):
    params = (Param("every", int, 12, 2, 1000, "candles between two signals"),)
    warmup = 5

    def signals(self, candles):
        found = np.zeros(len(candles), np.int8)
        n = (candles["open_time"].to_numpy() // 300_000).astype(np.int64)
        found[n % self.p.every == 0] = 1
        found[n % self.p.every == self.p.every // 2] = -1
        return found
"""
SLOW = """
from strategies.base import Strategy
import time

class Slow(Strategy):
    warmup = 5

    def signals(self, candles):
        time.sleep(60)
"""
NEWS = """
class Reader:
    needs = ("news",)
    def analyze(self, data):
        return {"signal": "HOLD", "reasoning": "", "recommended_symbol": "ETHUSDT"}
"""


def walk(rows: int, seed: int = 1) -> list[list[Any]]:
    """Binance's rows of 5m candles that end at END_MS."""
    draw, price, made = random.Random(seed), 30_000.0, []
    for i in range(rows):
        o, price = price, price * (1 + draw.gauss(0, 0.002))
        high, low, ms = max(o, price) * 1.001, min(o, price) * 0.999, END_MS - (rows - i) * STEP
        made.append([ms, f"{o:.2f}", f"{high:.2f}", f"{low:.2f}", f"{price:.2f}", "12.50000", ms + STEP - 1, "0.00", 0, "0.00", "0.00", "0"])
    return made


class Yard:
    def __init__(self, home: Path):
        self.home = Home(home)
        (home / "strategies").mkdir()
        for name, text in (("ticker", TRADER), ("slow", SLOW), ("reader", NEWS)):
            (home / "strategies" / f"{name}_strategy.py").write_text(text)
        self.settings = settings(home)
        self.app = make_app(self.home.files, self.settings)
        self.client = self.app.test_client()
        self.at = {"Host": f"127.0.0.1:{self.settings.dashboard_port}"}

    def candles(self, rows: int = 3000, venue: str = OWN, symbol: str = "BTCUSDT") -> None:
        store = CandleStore(self.home.files.path("data/history.db"))
        store.fill(venue, symbol, "5m", walk(rows), END_MS + 10**9)
        store.close()

    def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        headers = {**self.at, **more.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **({} if body is None else {"json": body}), **more)

    def start(self, bot: int, **body: Any) -> int:
        told = self.ask("POST", f"/api/bot/{bot}/backtest", body)
        assert told.status_code == 202, told.get_data(True)
        return int(told.get_json()["run"])

    def look(self, run: int) -> dict[str, Any]:
        told = self.ask("GET", f"/api/backtests/{run}")
        assert told.status_code == 200, told.get_data(True)
        return dict(told.get_json())

    def ended(self, run: int) -> dict[str, Any]:
        until(lambda: self.look(run)["state"] not in ("starting", "running"), 60)
        return self.look(run)

    def pid(self, run: int) -> int:
        found: list[int] = []

        def held() -> bool:
            pid = self.home.files.lock(f"data/backtests/{run}/lock").holder()
            found.extend([pid] if pid else [])
            return bool(pid)

        until(held)
        return found[0]

    def clean_up(self) -> None:
        of: backtests.Backtests = self.app.extensions["board"].backtests
        for run in of.ids():
            if self.home.files.lock(f"data/backtests/{run}/lock").holder():
                of.cancel(run)
        self.app.extensions["board"].close()


@pytest.fixture
def yard(home: Path) -> Iterator[Yard]:
    made = Yard(home)
    yield made
    made.clean_up()


def test_a_bots_settings_are_run_over_stored_candles_by_a_process_of_its_own(yard: Yard) -> None:
    yard.candles()
    bot = yard.home.record(strategy="ticker", params={"every": 24}, stop_loss_pct=1, take_profit_pct=3, check_interval=300, offset=0)
    about = yard.ask("GET", f"/api/bot/{bot}/backtest").get_json()
    assert about["timeframe"] == "5m" and about["refused"] is None and about["runs"] == []
    assert about["stored"][0] == {"venue": OWN, "mode": "paper", "from": END_MS - 3000 * STEP, "to": END_MS, "candles": 3000}
    assert about["defaults"]["venue"] == OWN and about["defaults"]["cash"] == 500
    run = yard.start(bot, fee_pct="0.2", slippage_pct=0)
    assert yard.pid(run) != os.getpid() and os.getpriority(os.PRIO_PROCESS, yard.pid(run)) >= 10
    done = yard.ended(run)
    assert done["state"] == "done" and done["error"] is None and done["files"] == ["report.html", "trades.csv", "result.json"]
    said, result = done["result"]["settings"], done["result"]
    assert (said["params"], said["stop_loss_pct"], said["take_profit_pct"], said["fee_pct"]) == ({"every": 24}, "1", "3", "0.2")
    assert (said["check_interval_s"], said["trade_amount"], said["cash"], said["protection"]) == (300, "500", "500", "exchange")
    assert result["trades_total"] == result["metrics"]["trades"] > 50 and result["candles"] <= 3000 and result["venue"] == OWN
    assert result["metrics"]["buy_hold_pct"] is not None and len(result["equity"]) > 100 and any("slippage" in w for w in result["warnings"])
    assert not any("--" in w for w in result["warnings"])
    (kept,) = yard.ask("GET", f"/api/bot/{bot}/backtest").get_json()["runs"]
    assert kept["run"] == run and kept["state"] == "done" and kept["brief"]["trades"] == result["trades_total"]


def test_what_the_page_runs_trades_as_the_command_does(yard: Yard) -> None:
    yard.candles()
    bot = yard.home.record(strategy="ticker", stop_loss_pct=1, take_profit_pct=2, protection="bot", sizing="fixed")
    run = yard.start(bot, timing="candles", cash=1000, **{"from": "2023-11-06", "to": "2023-11-12T12:00"})
    assert yard.ended(run)["state"] == "done"
    mine = json.loads(yard.ask("GET", f"/api/backtests/{run}/result.json").data)
    words = "--strategy ticker --symbol BTCUSDT --timeframe 5m --from 2023-11-06 --to 2023-11-12T12:00 --stop-loss-pct 1 --take-profit-pct 2 --json"
    more = f"--protection bot --sizing fixed --cash 1000 --trade-amount 500 --venue {OWN} --strategies {yard.home.files.path('strategies')}"
    done = subprocess.run(
        [sys.executable, str(ROOT / "utils" / "backtest.py"), *words.split(), *more.split()],
        env={**os.environ, "BOTYARD_HOME": str(yard.home.files.home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert len(mine["trades"]) > 20 and mine["trades"] == theirs["trades"]
    assert mine["metrics"] == theirs["metrics"]


def test_its_files_come_with_a_door_of_their_own(yard: Yard) -> None:
    yard.candles()
    run = yard.start(yard.home.record(strategy="ticker"))
    done = yard.ended(run)
    report = yard.ask("GET", f"/api/backtests/{run}/report.html")
    policy = report.headers["Content-Security-Policy"]
    assert report.status_code == 200 and report.mimetype == "text/html" and b"<!doctype html>" in report.data[:100]
    assert policy.startswith("sandbox allow-scripts") and "allow-same-origin" not in policy and "connect-src" not in policy and "default-src 'none'" in policy
    assert report.headers["Cross-Origin-Opener-Policy"] == "unsafe-none" and report.headers["X-Frame-Options"] == "DENY"
    trades = yard.ask("GET", f"/api/backtests/{run}/trades.csv")
    assert trades.headers["Content-Disposition"] == f'attachment; filename="backtest-{run}-trades.csv"'
    assert len(list(csv.reader(io.StringIO(trades.get_data(True))))) == done["result"]["trades_total"] + 1
    assert "sandbox" not in trades.headers["Content-Security-Policy"] and trades.headers["X-Content-Type-Options"] == "nosniff"
    for name in ("run.json", "lock", "summary.json", "..%2f..%2f..%2factive_bots.json", ".env"):
        assert yard.ask("GET", f"/api/backtests/{run}/{name}").status_code in (403, 404), name


def test_one_that_runs_can_be_cancelled_and_one_that_has_ended_is_removed(yard: Yard) -> None:
    yard.candles(300)
    run = yard.start(yard.home.record(strategy="slow"))
    pid = yard.pid(run)
    until(lambda: yard.look(run)["phase"] == "running", 30)
    assert yard.ask("GET", f"/api/backtests/{run}/report.html").status_code == 404
    told = yard.ask("DELETE", f"/api/backtests/{run}").get_json()
    assert told == {"success": True, "run": run, "state": "cancelled"} and not exists(pid)
    assert yard.look(run)["state"] == "cancelled" and yard.look(run)["result"] is None
    assert yard.ask("DELETE", f"/api/backtests/{run}").get_json()["state"] == "removed"
    gone = yard.ask("GET", f"/api/backtests/{run}")
    assert gone.status_code == 404 and "no backtest" in gone.get_json()["error"]


def test_one_that_is_killed_says_so_and_a_new_dashboard_finds_one_that_goes_on(yard: Yard) -> None:
    yard.candles(300)
    bot = yard.home.record(strategy="slow")
    run = yard.start(bot)
    pid = yard.pid(run)
    again = make_app(yard.home.files, yard.settings)
    try:
        found = again.extensions["board"].backtests
        assert found.state(run)["state"] == "running" and found.runs(bot)[0]["state"] == "running"
    finally:
        again.extensions["board"].close()
    os.kill(pid, signal.SIGKILL)
    died = yard.ended(run)
    assert (died["state"], died["kind"]) == ("failed", "died") and "killed from outside" in died["error"]
    assert yard.ask("GET", "/api/overview").status_code == 200


def test_two_at_a_time_are_the_most_and_the_last_twenty_are_kept(yard: Yard) -> None:
    yard.candles(300)
    bot = yard.home.record(strategy="slow")
    first, second = yard.start(bot), yard.start(bot)
    third = yard.ask("POST", f"/api/bot/{bot}/backtest", {})
    assert third.status_code == 409 and f"{first} and {second} are still running" in third.get_json()["error"]
    yard.ask("DELETE", f"/api/backtests/{first}")
    of: backtests.Backtests = yard.app.extensions["board"].backtests
    for n in range(100, 100 + backtests.KEPT + 5):
        yard.home.files.write_json(f"data/backtests/{n}/run.json", {"schema": 1, "bot_id": bot, "record": {}}, durable=False)
    run = yard.start(bot)
    assert run == 125 and of.ids()[1:] == list(range(106, 126))
    assert of.ids()[0] == second  # it runs still


def test_why_it_can_not_be_done_is_said_in_words(yard: Yard) -> None:
    news = yard.home.record(strategy="reader")
    told = yard.ask("POST", f"/api/bot/{news}/backtest", {})
    assert told.status_code == 400 and "decides by news as well" in told.get_json()["error"]
    assert "recorded while it ran" in yard.ask("GET", f"/api/bot/{news}/backtest").get_json()["refused"]
    bare = yard.home.record(strategy="ticker")
    done = yard.ended(yard.start(bare, venue="binance/spot/live"))
    assert done["kind"] == "no_candles" and "No BTCUSDT 5m candles of binance/spot/live are stored yet" in done["error"]
    yard.candles(300)
    elsewhere = yard.ended(yard.start(bare, **{"from": "2020-01-01", "to": "2020-02-01"}))
    assert elsewhere["kind"] == "no_candles" and "BTCUSDT 5m" in elsewhere["error"]
    sized = yard.home.record(strategy="ticker", sizing="equity", sizing_pct=10)
    assert "a backtest has no account whose equity it could ask" in yard.ended(yard.start(sized))["error"]
    gone = yard.home.record(strategy="nowhere")
    assert "there is no 'nowhere'" in yard.ask("POST", f"/api/bot/{gone}/backtest", {}).get_json()["error"]
    yard.candles(300, venue="binance/spot/paper/synthetic:2")
    assert "choose one of" in yard.ended(yard.start(bare))["error"]
    assert yard.ended(yard.start(bare, venue=OWN))["state"] == "done"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"cash": "all of it"}, "cash"),
        ({"cash": 1}, "cash"),
        ({"cash": "1e400"}, "cash"),
        ({"fee_pct": 10}, "fee_pct"),
        ({"fee_pct": -1}, "fee_pct"),
        ({"slippage_pct": [1]}, "slippage_pct"),
        ({"from": "yesterday"}, "from"),
        ({"from": "0001-01-01T00:00+23:59"}, "from"),
        ({"from": True}, "from"),
        ({"from": {"a": 1}}, "from"),
        ({"to": 10**30}, "to"),
        ({"from": "2024-02-01", "to": "2024-01-01"}, "from"),
        ({"from": "2009-01-01"}, "candles of 1m lie between"),
        ({"protection": "prayer"}, "protection"),
        ({"protection": ["bot"]}, "protection"),
        ({"timing": 3}, "timing"),
        ({"venue": "../../etc/passwd"}, "venue"),
        ({"venue": "binance/spot/paper/../../x"}, "venue"),
        ({"venue": "binance/spot/paper/a b; rm"}, "venue"),
        ({"venue": 7}, "venue"),
        ({"fetch": "yes"}, "fetch"),
        ({"strategy": "other"}, "no such field"),
        ({"cash": "x", "fee_pct": "y", "to": "z"}, "to: "),
    ],
)
def test_what_is_not_right_is_refused_by_name_and_starts_nothing(yard: Yard, body: dict[str, Any], named: str) -> None:
    bot = yard.home.record(strategy="ticker", timeframe="1m")
    told = yard.ask("POST", f"/api/bot/{bot}/backtest", body)
    assert told.status_code == 400 and named in told.get_json()["error"], told.get_data(True)
    assert not yard.home.files.path("data/backtests").exists()


def test_the_door_is_that_of_all_others(yard: Yard) -> None:
    bot = yard.home.record(strategy="ticker")
    paths = ("/api/backtests/1", "/api/backtests/1/report.html", f"/api/bot/{bot}/backtest")
    for method, path in (("POST", paths[2]), ("DELETE", paths[0]), ("GET", paths[0]), ("GET", paths[1])):
        assert yard.ask(method, path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert yard.ask(method, path, headers={"Host": "evil.example"}).status_code == 403
    assert yard.ask("POST", f"/api/bot/{bot}/backtest", data="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    for raw in ("0", "-1", "1e3", "%2e%2e", "9" * 20, "٣"):
        for path in (f"/api/backtests/{raw}", f"/api/backtests/{raw}/report.html"):
            assert yard.ask("GET", path).status_code in (400, 404), path
        assert yard.ask("DELETE", f"/api/backtests/{raw}").status_code in (400, 404)
    assert yard.ask("POST", "/api/bot/99/backtest", {}).status_code == 404


def test_half_a_run_on_the_disk_breaks_nothing(yard: Yard) -> None:
    bot = yard.home.record(strategy="ticker")
    folder = yard.home.files.path("data/backtests")
    for n, text in (("1", ""), ("2", "{"), ("3", "[]"), ("4", '{"bot_id": 1, "schema": 1}')):
        (folder / n).mkdir(parents=True)
        (folder / n / "run.json").write_text(text)
    (folder / "notes").mkdir()
    assert [r["run"] for r in yard.ask("GET", f"/api/bot/{bot}/backtest").get_json()["runs"]] == [4]
    assert yard.start(bot) == 5
    assert yard.look(4)["state"] == "failed" and yard.ask("GET", "/api/backtests/2").status_code == 404


def test_the_dashboard_loads_neither_numpy_nor_pandas_for_it() -> None:
    code = "import sys, simple_dash, core.dash.backtests; sys.exit('numpy' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_a_phase_that_takes_too_long_is_ended_whatever_it_is_in_the_middle_of(home: Path) -> None:
    code = "import sys, threading\nfrom core.dash.backtest_worker import Job\nJob(sys.argv[1], 1).phase('running', 0.2)\nthreading.Event().wait(30)"
    done = subprocess.run([sys.executable, "-c", code, str(home)], cwd=ROOT, timeout=60)
    end = json.loads((home / "data/backtests/1/end.json").read_text())
    assert done.returncode == 1 and end["kind"] == "time" and "longer than" in end["error"]


def test_a_strategy_that_wants_more_memory_than_there_is_ends_alone(yard: Yard) -> None:
    yard.candles(300)
    text = SLOW.replace("import time", "import numpy as np").replace("time.sleep(60)", "return np.ones(10**9)").replace("Slow", "Hog")
    (yard.home.files.path("strategies") / "hog_strategy.py").write_text(text)
    done = yard.ended(yard.start(yard.home.record(strategy="hog")))
    assert done["state"] == "failed" and "Unable to allocate" in done["error"] and yard.ask("GET", "/api/overview").status_code == 200


def test_a_running_bots_word_on_the_market_is_shown_and_an_old_one_is_not(yard: Yard) -> None:
    bot = yard.home.record(strategy="ticker", status="running")
    told = {"word": "trend_up", "since_ms": END_MS, "earlier": False, "candle_ms": END_MS}
    yard.home.status(bot, pid=7, regime=told)
    assert yard.ask("GET", "/api/overview").get_json()["bots"][0]["regime"] is None
    yard.app.extensions["board"].supervisor.pids[bot] = 7
    assert yard.ask("GET", "/api/overview").get_json()["bots"][0]["regime"] == told


def test_a_moment_is_text_or_milliseconds() -> None:
    from decimal import Decimal

    clean = backtests.checked({"from": 1_700_000_000_000, "to": "2023-12-01"}, Decimal(10))
    assert clean["from_ms"] == 1_700_000_000_000 and clean["to_ms"] == 1_701_388_800_000 and clean["cash"] == "10"
    with pytest.raises(InputError, match="cash: must be at least"):
        backtests.checked({"cash": 9}, Decimal(10))
