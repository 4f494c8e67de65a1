"""utils/test_connection.py against a real paper exchange, and on machines where something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.fleet import machine, services
from core.fleet.checks import Check
from patience import patience
from utils import test_connection as command

ROOT = Path(__file__).resolve().parent.parent
BOTS = [
    {"id": 1, "symbol": "BTCUSDT", "trade_amount": 100, "mode": "paper"},
    {"id": 2, "symbol": "ETHUSDT", "trade_amount": 1, "mode": "paper"},
    {"id": 3, "symbol": "NOSUCHUSDT", "trade_amount": 100},
    {"id": 4, "symbol": "BTCUSDT", "trade_amount": 100, "mode": "testnet"},
]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def run(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "BOTYARD_HOME": str(home), **settings}
    return subprocess.run([sys.executable, ROOT / "utils/test_connection.py", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    assert done.stderr == ""
    return {r["check"]: r for r in json.loads(done.stdout)["rows"]}


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A yard's home whose paper exchange runs, with the settings that lead to it."""
    home = tmp_path_factory.mktemp("home")
    (home / ".env").touch(mode=0o600)
    (home / "active_bots.json").write_text(json.dumps(BOTS), encoding="utf-8")
    settings = {"PAPER_PORT": str(free_port()), "PAPER_SEED": "3", "PAPER_START": "2024-03-01"}
    env = {"PATH": os.environ["PATH"], "BOTYARD_HOME": str(home), **settings}
    process = subprocess.Popen([sys.executable, "-m", "core.paper"], cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{settings['PAPER_PORT']}/paper/status", timeout=patience(5)).close()
                break
            except OSError:
                assert process.poll() is None, "the paper exchange ended at once"
                time.sleep(0.05)
        yield home, settings
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(patience(15))


def test_a_yard_whose_exchange_answers_is_looked_at_in_full(paper):
    home, settings = paper
    done = run(home, "--json", "--order", **settings)
    found = rows(done)
    assert found["Paper exchange"]["status"] == "ok" and "synthetic:3" in found["Paper exchange"]["text"]
    assert found["Paper clock"]["status"] == "ok"
    assert "10000 USDT" in found["Paper account"]["text"]
    assert found["Paper symbol BTCUSDT"]["status"] == "ok"
    assert found["Paper order"]["status"] == "ok"
    # What is wrong is told with what would be right.
    assert "bot 2: 1 USDT is too little" in found["Paper symbol ETHUSDT"]["text"] and "at least" in found["Paper symbol ETHUSDT"]["remedy"]
    assert "is no symbol of binance paper" in found["Paper symbol NOSUCHUSDT"]["text"]
    assert found["Bots"]["status"] == "warn" and "bot 4" in found["Bots"]["text"]
    assert done.returncode == 1 and json.loads(done.stdout)["status"] == "fail"


def test_a_sound_yard_is_ready_and_nothing_is_changed_by_looking(paper, tmp_path):
    _, settings = paper
    home = tmp_path / "sound"
    home.mkdir()
    (home / ".env").touch(mode=0o600)
    (home / "active_bots.json").write_text(json.dumps(BOTS[:1]), encoding="utf-8")
    done = run(home, **settings)
    assert done.returncode == 0, done.stdout
    assert "✅ Paper symbol BTCUSDT" in done.stdout
    assert sorted(f.name for f in home.iterdir()) == [".env", "active_bots.json"]


def test_another_yards_paper_exchange_is_refused(paper, home):
    _, settings = paper
    (home / "data").mkdir()
    (home / "data/installation.json").write_text('{"schema": 1, "installation": "anothery"}', encoding="utf-8")
    found = rows(run(home, "--json", **settings))["Paper exchange"]
    assert found["status"] == "fail" and "belongs to another yard" in found["text"]


def test_a_paper_exchange_that_is_not_running_is_a_warning(home):
    (home / "active_bots.json").write_text("[]", encoding="utf-8")
    done = run(home, "--json", PAPER_PORT=str(free_port()))
    assert rows(done)["Paper exchange"]["status"] == "warn" and done.returncode == 0


def test_every_wrong_setting_is_a_row(home):
    done = run(home, "--json", TRADING_MODE="gold", CHECK_INTERVAL="0")
    texts = [r["text"] for r in json.loads(done.stdout)["rows"] if r["check"] == "Settings"]
    assert done.returncode == 1 and len(texts) == 2 and texts[0].startswith("TRADING_MODE") and texts[1].startswith("CHECK_INTERVAL")


def test_keys_that_are_missing_are_asked_for_by_name(home):
    (home / "active_bots.json").write_text("[]", encoding="utf-8")
    found = rows(run(home, "--json", TRADING_MODE="testnet"))["Testnet exchange"]
    assert found["status"] == "fail" and "BINANCE_TESTNET_API_KEY" in found["remedy"]


def test_no_secret_is_printed(home):
    port = free_port()  # nobody listens there
    keys = {"BINANCE_TESTNET_API_KEY": "key-of-mine", "BINANCE_TESTNET_API_SECRET": "secret-of-mine", "BINANCE_TESTNET_URL": f"http://127.0.0.1:{port}"}
    done = run(home, "--json", "--order", "--mode", "testnet", TRADING_MODE="testnet", **keys)
    assert rows(done)["Testnet exchange"]["status"] == "fail"
    assert "of-mine" not in done.stdout + done.stderr


def test_a_file_of_bots_that_cannot_be_read_is_a_row_and_the_rest_goes_on(home):
    (home / "active_bots.json").write_text("{nonsense", encoding="utf-8")
    found = rows(run(home, "--json", PAPER_PORT=str(free_port())))
    assert found["Bots"]["status"] == "fail" and "Live" in found and "Disk" in found


def test_settings_that_others_may_read_are_a_warning_with_the_command(home):
    (home / ".env").chmod(0o644)
    row = next(iter(machine.env_file(home)))
    assert row.ok == "warn" and row.remedy == f"chmod 600 '{home / '.env'}'"


def test_missing_and_other_packages_are_named(tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package-here==1.0\nflask==0.0.1\n", encoding="utf-8")
    row = next(iter(machine.packages(file)))
    assert row.ok == "fail" and "no-such-package-here" in row.text
    file.write_text("# a comment\nflask==0.0.1\n", encoding="utf-8")
    row = next(iter(machine.packages(file)))
    assert row.ok == "warn" and "wanted 0.0.1" in row.text


def test_a_disk_that_is_full_and_a_missing_screen_are_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=10 << 20))
    assert next(iter(machine.disk(tmp_path))).ok == "fail"
    monkeypatch.setenv("PATH", str(tmp_path))
    row = next(iter(machine.screen()))
    assert row.ok == "fail" and "install screen" in row.remedy


def test_a_check_that_breaks_becomes_a_row():
    def broken() -> Iterator[Check]:
        yield Check("x", "ok", "first")
        raise ZeroDivisionError("oops")

    found = list(command.guarded("x", broken))
    assert [r.ok for r in found] == ["ok", "fail"] and "ZeroDivisionError: oops" in found[1].text


def test_wrong_arguments_are_exit_two(home):
    assert run(home, "--nonsense").returncode == 2
    assert run(home, "--mode", "gold").returncode == 2


def test_the_ways_to_send_messages_are_tried_without_sending_anything(home):
    from core.config import load
    from message_server import SETTINGS, TELEGRAM, TOKEN, MessageServer, make_channels

    def found(**env: str) -> dict[str, Check]:
        settings = load({"BOTYARD_HOME": str(home), **env})
        return {r.name: r for r in services.messages(settings, make_channels(server.url))}

    with MessageServer() as server:
        assert [(r.ok, r.text[:10]) for r in found().values()] == [("ok", "not set up"), ("ok", "not set up")]
        half = found(TWILIO_ACCOUNT_SID="AC1")["SMS"]
        assert half.ok == "warn" and "TWILIO_AUTH_TOKEN, TWILIO_FROM, SMS_TO missing" in half.text
        both = found(**SETTINGS, **TELEGRAM)
        assert {r.ok for r in both.values()} == {"ok"}
        wrong = found(**{**SETTINGS, "TWILIO_AUTH_TOKEN": "wrong-token"}, TELEGRAM_BOT_TOKEN="1:wrong", TELEGRAM_CHAT_ID="1")
        assert {r.ok for r in wrong.values()} == {"fail"} and "wrong" not in "".join(r.text for r in wrong.values()) and TOKEN not in str(wrong)
        assert server.sms == [] and server.telegrams == []
        (home / "notify.json").write_text('{"schema": 1, "per_day": "many"}')
        assert "per_day" in found()["Messages"].text
