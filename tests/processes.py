"""Real processes for tests: the paper exchange and bots, on free ports, ended by their pid."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

import patience

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(ask: Callable[[], T], what: str, seconds: float = 20) -> T:
    """Ask until the answer is true, whether or not the process can be asked yet; fail with what was waited for."""

    def answer() -> T | None:
        with contextlib.suppress(requests.RequestException, FileNotFoundError, json.JSONDecodeError):
            return ask()
        return None

    found = patience.until(answer, what, seconds)
    assert found is not None
    return found


class Home:
    """One BOTYARD_HOME with its own ports and its own environment."""

    def __init__(self, folder: Path, **values: str):
        self.path = folder
        folder.mkdir(exist_ok=True)
        (folder / ".env").touch(mode=0o600)
        self.port = free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PAPER_", "BINANCE_", "TRADING_"))}
        self.env = {
            **clean,
            "BOTYARD_HOME": str(folder),
            "PAPER_PORT": str(self.port),
            "PAPER_START": "2024-03-01",
            "PAPER_SPEED": "60",
            "CHECK_INTERVAL": "300",
            **values,
        }
        self.children: list[subprocess.Popen[str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *argv: str, **env: str) -> subprocess.Popen[str]:
        out = (self.path / f"out-{len(self.children)}.txt").open("w")
        child = subprocess.Popen(
            [sys.executable, *argv],
            cwd=ROOT,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        out.close()
        self.children.append(child)
        return child

    def paper(self) -> subprocess.Popen[str]:
        child = self.start("-m", "core.paper")
        until(lambda: requests.get(self.url + "/paper/status", timeout=patience.patience(5)).status_code == 200, "the paper exchange")
        return child

    def bot(
        self, bot_id: int = 1, name: str = "BTC Bot", symbol: str = "BTCUSDT", strategy: str = "volatile", amount: str = "500", *more: str, **env: str
    ) -> subprocess.Popen[str]:
        return self.start("integrated_trader.py", str(bot_id), name, symbol, strategy, amount, *more, **env)

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())

    def status(self, bot_id: int = 1) -> dict[str, Any]:
        return dict(self.json(f"bot_{bot_id}_status.json"))

    def position(self, bot_id: int = 1) -> dict[str, Any]:
        return dict(self.json(f"bot_{bot_id}_position.json"))

    def lines(self, name: str) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in (self.path / name).read_text().splitlines()]
        return []

    def log(self, bot_id: int = 1) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.path / f"bot_{bot_id}.log").read_text()
        return ""

    def checked(self, bot_id: int = 1, times: int = 1, seconds: float = 20) -> None:
        until(
            lambda: self.status(bot_id)["state"] == "running" and self.status(bot_id)["checks_completed"] >= times,
            f"{times} check(s) of bot {bot_id}: {self.log(bot_id)[-2000:]}",
            seconds,
        )

    def strategy(self, key: str, source: str) -> None:
        (self.path / "strategies").mkdir(exist_ok=True)
        (self.path / "strategies" / f"{key}_strategy.py").write_text(source)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(self.url + path, json=body, timeout=patience.patience(5))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGCONT)
                    child.terminate()
        for child in self.children:
            try:
                child.wait(patience.patience(3))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stderr:
                child.stderr.close()


BUY_ONCE = '''
class BuyOnce:
    """Buys whenever it may, and never sells."""
    key = "buy_once"
    warmup = 2
    def analyze(self, data):
        return {"signal": "BUY", "reasoning": "always"}
'''

BUY_SELL = '''
class BuySell:
    """Buys on candles with an even number, sells on the others."""
    key = "buy_sell"
    warmup = 2
    def analyze(self, data):
        even = int(data[-1][0]) // 300000 % 2 == 0
        return {"signal": "BUY" if even else "SELL", "reasoning": "by the clock"}
'''
