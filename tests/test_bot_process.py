"""One bot as a real process: exit codes, last words, signals, kills, foreign exchanges."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from core.account import ledger
from core.binance_client import BinanceClient
from core.config import load
from core.storage import Files, dumps
from patience import patience
from processes import BUY_ONCE, BUY_SELL, ROOT, Home, until

D = Decimal


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.end()


def ended(child: subprocess.Popen[str], seconds: float = 20) -> tuple[int, str]:
    _, err = child.communicate(timeout=seconds)
    return child.returncode, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("0", "x", "BTCUSDT", "volatile", "500"), "BOT_ID"),
        (("one", "x", "BTCUSDT", "volatile", "500"), "BOT_ID"),
        (("1", "x", "BTCUSDT", "volatile", "-5"), "TRADE_AMOUNT"),
        (("1", "x", "BTCUSDT", "volatile", "nan"), "TRADE_AMOUNT"),
        (("1", "x", "BTCUSDT", "volatile", "1e999999"), "TRADE_AMOUNT"),
        (("1", "", "BTCUSDT", "volatile", "500"), "BOT_NAME"),
        (("1", "x", "", "volatile", "500"), "SYMBOL"),
        (("1", "x", b"BTC\xff", "volatile", "500"), "SYMBOL"),
        (("1", "x", "BTCUSDT"), "required"),
    ],
)
def test_bad_arguments_end_with_code_2_and_say_which(home: Home, arguments: tuple[Any, ...], said: str) -> None:
    code, err = ended(home.start("integrated_trader.py", *arguments))
    assert code == 2
    assert said in err
    if arguments[0] == "1":  # it is known whose they are: the bot's own files say it too
        last = home.status()["exit"]
        assert (last["code"], last["kind"]) == (2, "error") and said in last["reason"] and said in home.log()


def test_bad_arguments_leave_the_word_of_a_running_bot_alone(home: Home) -> None:
    home.paper()
    first = home.bot()
    home.checked()
    assert ended(home.bot(amount="-5"))[0] == 2
    assert first.poll() is None and home.status()["exit"] is None and home.status()["pid"] == first.pid


def test_a_home_that_is_not_there_is_not_made_by_a_bot(home: Home, tmp_path: Path) -> None:
    missing = tmp_path / "no_such"
    code, err = ended(home.bot(BOTYARD_HOME=str(missing)))
    assert code == 2 and "BOTYARD_HOME" in err and not missing.exists()


@pytest.mark.parametrize("venue", [{"exchange": "kraken"}, {"market": "futures"}, {"account": "second"}])
def test_a_bot_of_a_venue_that_is_not_there_yet_does_not_trade_on_another(home: Home, venue: dict[str, str]) -> None:
    record = {"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500, **venue}
    (home.path / "active_bots.json").write_text(dumps([record]))
    code, _ = ended(home.bot())
    assert code == 2
    assert all(f"{k}: '{v}'" in home.status()["exit"]["reason"] for k, v in venue.items())


def test_an_unknown_strategy_ends_with_code_2_and_its_last_word_names_the_known_ones(home: Home) -> None:
    code, _ = ended(home.bot(strategy="no_such"))
    assert code == 2
    last = home.status()["exit"]
    assert last["code"] == 2
    assert "volatile" in last["reason"]


def test_bad_settings_end_with_code_2_and_list_every_problem(home: Home) -> None:
    code, err = ended(home.bot(CHECK_INTERVAL="soon", RECV_WINDOW="99999999"))
    assert code == 2
    assert "CHECK_INTERVAL" in err and "RECV_WINDOW" in err
    assert "CHECK_INTERVAL" in home.status()["exit"]["reason"]


def test_a_contradiction_between_arguments_and_record_ends_with_code_2(home: Home) -> None:
    (home.path / "active_bots.json").write_text('[{"id": 1, "name": "BTC Bot", "symbol": "ETHUSDT", "strategy": "volatile", "trade_amount": 500}]')
    code, _ = ended(home.bot())
    assert code == 2
    assert "SYMBOL" in home.status()["exit"]["reason"]


def test_a_bot_made_live_by_hand_is_refused_with_a_clear_word(home: Home) -> None:
    (home.path / "active_bots.json").write_text(
        '[{"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500, "mode": "live"}]'
    )
    code, _ = ended(home.bot(TRADING_MODE="live"))
    assert code == 2
    assert "utils/yard.py live 1" in home.status()["exit"]["reason"]


def test_a_second_process_of_a_bot_ends_with_code_3_and_leaves_the_first_alone(home: Home) -> None:
    home.paper()
    first = home.bot()
    home.checked()
    code, err = ended(home.bot())
    assert code == 3
    assert str(first.pid) in err
    assert first.poll() is None
    assert home.status()["pid"] == first.pid


def test_an_unreadable_position_ends_with_code_4_and_the_way_to_mend_it(home: Home) -> None:
    home.paper()
    (home.path / "bot_1_position.json").write_text('{"schema": 1, "posi')
    code, _ = ended(home.bot())
    assert code == 4
    last = home.status()["exit"]["reason"]
    assert "bot_1_position.json" in last and "backup" in last
    assert requests.get(home.url + "/paper/status", timeout=patience(3)).json()["open_orders"] == 0


def test_a_bots_list_that_cant_be_read_ends_with_code_4(home: Home) -> None:
    (home.path / "active_bots.json").write_text("[{")
    code, _ = ended(home.bot())
    assert code == 4
    assert (home.path / "active_bots.json").read_text() == "[{"


def test_another_yards_paper_exchange_is_refused_with_code_5(home: Home, tmp_path: Path) -> None:
    home.paper()
    other = Home(tmp_path / "other")
    other.env["PAPER_PORT"] = str(home.port)
    try:
        code, _ = ended(other.bot())
        assert code == 5
        assert "another yard" in other.status()["exit"]["reason"]
    finally:
        other.end()


def test_two_yards_on_one_host_both_run_a_bot_1(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    try:
        for yard in (home, other):
            yard.paper()
            yard.bot()
        for yard in (home, other):
            yard.checked()
        assert home.status()["pid"] != other.status()["pid"]
    finally:
        other.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_waiting_bot_within_two_seconds(home: Home, number: signal.Signals) -> None:
    home.paper()
    child = home.bot(CHECK_INTERVAL="36000")  # ten minutes here: it does not wait for its next check
    home.checked()
    started = time.monotonic()
    child.send_signal(number)
    assert child.wait(patience(5)) == 0
    assert time.monotonic() - started < patience(2)
    last = home.status()["exit"]
    assert (last["code"], last["signal"], last["kind"]) == (0, number.name, "by_hand")


def test_a_signal_ends_a_bot_whose_exchange_does_not_answer_within_two_seconds(home: Home) -> None:
    home.paper()
    child = home.bot(HTTP_TIMEOUT="60")
    home.checked()
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/klines", "fault": "latency", "times": None, "params": {"ms": 50_000}})
    until(lambda: any(fault["struck"] for fault in requests.get(home.url + "/paper/faults", timeout=patience(5)).json()), "a bot that hangs in a call")
    started = time.monotonic()
    child.terminate()
    assert child.wait(patience(5)) == 0
    assert time.monotonic() - started < patience(2.1)
    assert home.status()["exit"]["code"] == 0


def test_a_signal_ends_a_bot_whose_strategy_never_returns_within_two_seconds(home: Home) -> None:
    home.strategy(
        "endless",
        'class Endless:\n    key = "endless"\n    warmup = 2\n    def analyze(self, data):\n        open("'
        + str(home.path / "in")
        + '", "w").close()\n        while True:\n            pass\n',
    )
    home.paper()
    child = home.bot(strategy="endless")
    until((home.path / "in").exists, "the endless strategy")
    started = time.monotonic()
    child.terminate()
    assert child.wait(patience(5)) == 0
    assert time.monotonic() - started < patience(2.1)
    assert "SIGTERM" in home.status()["exit"]["reason"]


def test_a_locked_candle_store_does_not_hold_up_a_bot(home: Home) -> None:
    home.paper()
    (home.path / "data").mkdir(exist_ok=True)
    lock = sqlite3.connect(home.path / "data/history.db", isolation_level=None)
    lock.execute("PRAGMA journal_mode=WAL")
    lock.execute("BEGIN EXCLUSIVE")
    try:
        child = home.bot()
        home.checked()
        child.terminate()
        assert child.wait(patience(3)) == 0
    finally:
        lock.close()


def test_a_killed_bot_that_holds_a_position_goes_on_and_sells_what_it_bought(home: Home) -> None:
    home.strategy("buy_sell", BUY_SELL)
    home.env["PAPER_SPEED"] = "300"  # a check a second
    home.paper()
    child = home.bot(strategy="buy_sell")
    until(lambda: home.position()["position"] == "LONG", "a position", 40)
    child.kill()
    child.wait()
    held = home.position()
    again = home.bot(strategy="buy_sell")
    until(
        lambda: len({f["trade"] for f in home.lines("bot_1_fills.jsonl")}) >= 1 and any(f["side"] == "SELL" for f in home.lines("bot_1_fills.jsonl")),
        "the sale",
        40,
    )
    fills = home.lines("bot_1_fills.jsonl")
    first = [f for f in fills if f["trade"] == 1]
    assert first[0]["price"] == held["entry_price"]
    sold = D(str(sum(D(str(f["quantity"])) for f in first if f["side"] == "SELL")))
    assert sold + D(str(home.position()["dust"] + home.position()["dust_in"])) == D(str(held["quantity"]))
    again.terminate()
    again.wait(patience(5))
    home.post("/paper/clock", {"speed": 0})
    client = BinanceClient(load(home.env), "paper")
    client.connect()
    assert ledger.compare(Files(home.path), client) == []


def test_a_paper_bot_runs_beside_a_testnet_bot(home: Home, tmp_path: Path) -> None:
    home.strategy("buy_once", BUY_ONCE)
    home.paper()
    testnet = Home(tmp_path / "testnet")
    try:
        testnet.paper()
        testnet.post("/paper/accounts", {"name": "me", "api_key": "k" * 64, "api_secret": "s" * 64, "balances": {"USDT": "777"}})
        (home.path / "active_bots.json").write_text(
            '[{"id": 1, "name": "Paper", "symbol": "BTCUSDT", "strategy": "buy_once", "trade_amount": 500},'
            ' {"id": 2, "name": "Testnet", "symbol": "ETHUSDT", "strategy": "buy_once", "trade_amount": 300, "mode": "testnet"}]'
        )
        keys = {"TRADING_MODE": "testnet", "BINANCE_TESTNET_URL": testnet.url, "BINANCE_TESTNET_API_KEY": "k" * 64, "BINANCE_TESTNET_API_SECRET": "s" * 64}
        home.env.update(keys)
        # A real exchange has one clock: the second server's market time is the wall's.
        testnet.post("/paper/clock", {"speed": 1})
        home.bot(1, "Paper", "BTCUSDT", "buy_once", "500")
        home.bot(2, "Testnet", "ETHUSDT", "buy_once", "300")
        until(lambda: home.position(1)["position"] == "LONG", "the paper bot's entry", 30)
        home.checked(1)
        until(lambda: home.status(2)["state"] == "running" and home.status(2)["checks_completed"] > 0, "the testnet bot's check", 30)
        baseline = home.json("data/baseline.json")["accounts"]
        assert sorted(k.split("/")[3] for k in baseline) == ["paper", "testnet"]
        assert baseline["binance/spot/main/testnet"]["assets"] == {"USDT": 777}
        for name in home.path.glob("bot_*"):
            assert "s" * 64 not in name.read_text(errors="replace"), f"the secret stands in {name.name}"
    finally:
        testnet.end()


def test_a_testnet_bot_without_keys_ends_with_code_5(home: Home) -> None:
    (home.path / "active_bots.json").write_text(
        '[{"id": 1, "name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500, "mode": "testnet"}]'
    )
    code, _ = ended(home.bot(TRADING_MODE="testnet"))
    assert code == 5
    assert "BINANCE_TESTNET_API_KEY" in home.status()["exit"]["reason"]


def test_a_bot_waits_for_an_exchange_that_is_not_there_yet(home: Home) -> None:
    home.bot()
    until(lambda: home.status()["warnings"], "a warning")
    assert home.status()["warnings"][0]["kind"] == "start"
    home.paper()
    home.checked(seconds=20)


def test_without_packages_the_script_says_start_sh(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    (copy / "core").mkdir(parents=True)
    for name in ("integrated_trader.py", "core/__init__.py", "core/bootstrap.py"):
        (copy / name).write_text((ROOT / name).read_text())
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(copy / "integrated_trader.py"), "1", "n", "BTCUSDT", "volatile", "5"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "start.sh" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["fleet", "paper"])
def test_without_packages_the_processes_behind_the_page_say_start_sh(tmp_path: Path, module: str) -> None:
    for name in ("core/__init__.py", "core/bootstrap.py", f"core/{module}/__init__.py", f"core/{module}/__main__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = subprocess.run([sys.executable, "-S", "-m", f"core.{module}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "start.sh" in done.stderr and "Traceback" not in done.stderr


def test_after_a_reset_of_the_paper_exchange_the_books_begin_anew_and_an_open_position_is_refused(home: Home) -> None:
    home.strategy("buy_once", BUY_ONCE)
    home.paper()
    child = home.bot(strategy="buy_once")
    until(lambda: home.position()["position"] == "LONG", "a position", 30)
    child.terminate()
    child.wait(patience(5))
    home.post("/paper/reset", {})
    code, _ = ended(home.bot(strategy="buy_once"))
    assert code == 4
    assert "was reset" in home.status()["exit"]["reason"]
    home.bot(2, "Two", "ETHUSDT", "buy_once", "100")
    home.checked(2)
    sources = sorted(key.split("/")[-1] for key in home.json("data/baseline.json")["accounts"])
    assert sources == ["synthetic:1", "synthetic:1#2"]


def test_a_deleted_lock_file_lets_no_second_process_of_a_bot_start(home: Home) -> None:
    home.paper()
    first = home.bot()
    home.checked()
    (home.path / "bot_1.lock").unlink()
    until((home.path / "bot_1.lock").exists, "the lock's file anew", 10)
    code, err = ended(home.bot())
    assert (code, first.poll()) == (3, None)
    assert f"already running as process {first.pid}" in err


def test_a_bot_whose_place_another_process_has_taken_ends_with_code_3_and_leaves_the_files_to_it(home: Home) -> None:
    home.paper()
    first = home.bot()
    home.checked()
    first.send_signal(signal.SIGSTOP)
    (home.path / "bot_1.lock").unlink()
    second = home.bot()
    until(lambda: home.status()["pid"] == second.pid and home.status()["state"] == "running", "the second process", 20)
    first.send_signal(signal.SIGCONT)
    assert first.wait(patience(10)) == 3
    assert second.poll() is None
    assert f"Bot 1 runs as process {second.pid} by now" in home.log()
    until(lambda: home.status()["pid"] == second.pid, "the second one's status")
    assert home.status()["exit"] is None
