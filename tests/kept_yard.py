"""A yard with its keeper, real bots and a real paper exchange, over a market that falls when the test says so."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from core import config, notify
from core.binance_client import BinanceClient
from core.fleet.processes import Handle
from core.fleet.registry import Registry
from core.fleet.subprocess_form import ProcessSupervisor
from core.fleet.yard import Yard
from core.storage import Files
from patience import patience
from processes import BUY_ONCE, free_port, until

START_MS = 1_709_251_200_000  # 2024-03-01
MINUTE = 60_000
FALL_MS = START_MS + 60 * MINUTE
HIGH, LOW = 50_000, 48_000  # the stop lies at 49,000


def falling_market(folder: Path) -> None:
    """One-minute candles that stand at HIGH until FALL_MS and at LOW from there on."""
    folder.mkdir()
    first = START_MS - 1200 * MINUTE
    rows = []
    for n in range(1200 + 600):
        ms, price = first + n * MINUTE, HIGH if first + n * MINUTE < FALL_MS else LOW
        rows.append([ms, price, price, price, price, 10])
    for name in ("BTC_USDT", "ETH_USDT"):
        (folder / f"{name}-1m.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))


class KeptYard:
    """`yard` runs in a thread of the test; what it starts are real processes."""

    def __init__(self, home: Path, **values: str):
        home.mkdir()
        falling_market(home / "candles")
        self.port = free_port()
        given = {
            "PAPER_PORT": str(self.port),
            "PAPER_MARKET": "replay",
            "PAPER_DATA": str(home / "candles"),
            "PAPER_START": "2024-03-01",
            "PAPER_SPEED": "1",
            "HTTP_TIMEOUT": "2",
            "RISK_INTERVAL": "1",
            "CHECK_INTERVAL": "300",
            **values,
        }
        (home / ".env").write_text("".join(f"{k}={v}\n" for k, v in given.items()))
        (home / ".env").chmod(0o600)
        (home / "strategies").mkdir()
        self.files = Files(home)
        self.strategy("buy_once", BUY_ONCE)
        self.settings = config.load({"BOTYARD_HOME": str(home)})
        self.supervisor = ProcessSupervisor(self.files, self.settings)
        self.registry = Registry(self.files)
        self.files.write_json("active_bots.json", [])
        self.yard: Yard | None = None
        self._stop, self._thread = threading.Event(), threading.Thread()

    def strategy(self, key: str, source: str) -> None:
        (self.files.home / "strategies" / f"{key}_strategy.py").write_text(source)

    def bot(self, bot_id: int = 1, strategy: str = "buy_once", status: str = "running", **fields: Any) -> None:
        record = {"id": bot_id, "name": f"Bot {bot_id}", "symbol": "BTCUSDT", "strategy": strategy, "trade_amount": 500, "status": status, **fields}
        self.files.write_json("active_bots.json", [*(self.files.read_any("active_bots.json") or []), record])

    def begin(self) -> None:
        self._stop.clear()
        self.yard = Yard(self.files, self.settings, self.supervisor, settings_now=lambda: self.settings, keeper=True)
        self._thread = threading.Thread(target=self.yard.run, args=(self._stop,))
        self._thread.start()

    def end_yard(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(patience(10))

    def paper(self, path: str, body: dict[str, Any] | None = None) -> Any:
        url = f"{self.settings.paper_url}/paper/{path}"
        answer = requests.get(url, timeout=patience(5)) if body is None else requests.post(url, json=body, timeout=patience(5))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fall(self) -> None:
        """The price passes every stop."""
        self.paper("clock", {"step_to_ms": FALL_MS + MINUTE})

    def status(self, bot_id: int = 1) -> dict[str, Any]:
        return self.files.read_any(f"bot_{bot_id}_status.json") or {}

    def position(self, bot_id: int = 1) -> dict[str, Any]:
        return self.files.read_any(f"bot_{bot_id}_position.json") or {}

    def log(self, bot_id: int = 1) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.files.path(f"bot_{bot_id}.log").read_text()
        return ""

    def kinds(self) -> list[str]:
        return [e["kind"] for e in notify.recent(self.files)]

    def holds(self, bot_id: int = 1, at_exchange: bool = True) -> int:
        """Wait until the bot holds a position whose stop is where it belongs; its pid."""
        orders = 2 if at_exchange else 0

        def ready() -> bool:
            p = self.position(bot_id)
            done = self.status(bot_id).get("checks_completed") and self.status(bot_id).get("pid") == self.supervisor.pid(bot_id)
            return bool(done) and p.get("position") == "LONG" and [o["status"] for o in p["orders"]] == ["NEW"] * orders

        until(ready, f"a position of bot {bot_id}: {self.log(bot_id)[-1500:]}", 40)
        pid = self.supervisor.pid(bot_id)
        assert pid is not None
        return pid

    def flat(self, seconds: float, bot_id: int = 1) -> None:
        until(lambda: self.position(bot_id).get("position", "LONG") is None, f"the sale of bot {bot_id}: {self.log(bot_id)[-2500:]}", seconds)

    def client(self) -> BinanceClient:
        made = BinanceClient(self.settings, "paper")
        made.connect()
        return made

    def close(self) -> None:
        self.end_yard()
        for unit in (*(f"bot_{n}" for n in self.supervisor.running()), "paper"):
            pid = self.supervisor.unit_pid(unit)
            if pid is not None and pid != os.getpid():
                with Handle(pid) as process:
                    process.signal(signal.SIGKILL)
                    process.wait(patience(5))


@contextlib.contextmanager
def kept_yard(home: Path, **values: str) -> Iterator[KeptYard]:
    made = KeptYard(home, **values)
    try:
        yield made
    finally:
        made.close()


def books_are_right(y: KeptYard) -> bool:
    """Wallet = baseline + journals, for every asset."""
    from core.account import ledger

    return ledger.compare(y.files, y.client()) == []


def sold(y: KeptYard, bot_id: int = 1) -> Decimal:
    """Base asset that the bot's journal says was sold."""
    return sum((Decimal(str(f["quantity"])) for f in y.files.read_lines(f"bot_{bot_id}_fills.jsonl") if f["side"] == "SELL"), Decimal(0))
