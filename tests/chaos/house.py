"""The processes of a chaos run: a home of its own, real screen sessions of its own prefix, real ports.

Bots, yard and paper exchange are found by who holds their lock; the dashboard has none and is
our own child. Signals go through a handle that can't reach a stranger under the same pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from chaos import roster
from core import config
from core.fleet import control
from core.fleet.processes import Handle
from core.fleet.registry import Registry
from core.fleet.screen import ScreenSupervisor
from core.storage import Files, installation
from fleet_help import Yardful
from processes import ROOT, free_port

HTTP_TIMEOUT_S = 3
BY = "chaos"


class House:
    """One BOTYARD_HOME under trouble. `speed` is market seconds a second."""

    def __init__(self, folder: Path, bots: int, seed: int, speed: int):
        self.path, self.speed = folder, speed
        self.yard_prefix = Yardful(folder, "screen")
        self.prefix = self.yard_prefix.prefix
        self.values = {
            "SESSION_PREFIX": self.prefix,
            "PAPER_PORT": str(free_port()),
            "DASHBOARD_PORT": str(free_port()),
            "PAPER_START": "2024-03-01",
            "PAPER_SPEED": str(speed),
            "PAPER_SEED": str(seed),
            "PAPER_BALANCE_USDT": "25000",
            "KLINE_INTERVAL": "1m",
            "CHECK_INTERVAL": "60",
            "RISK_INTERVAL": str(max(1, speed)),
            "HTTP_TIMEOUT": str(HTTP_TIMEOUT_S),
            "STOP_LOSS_PCT": "0.12",
            "TAKE_PROFIT_PCT": "0.15",
        }
        (folder / ".env").write_text("".join(f"{k}={v}\n" for k, v in self.values.items()))
        (folder / "strategies").mkdir()
        for key, source in roster.STRATEGIES.items():
            (folder / "strategies" / f"{key}_strategy.py").write_text(source)
        self.files = Files(folder)
        self.settings = config.load({"BOTYARD_HOME": str(folder), **self.values})
        self.keeper = ScreenSupervisor(self.files, self.settings)
        self.records = roster.records(bots)
        self.files.write_json("active_bots.json", self.records)
        self.installation = installation(self.files)
        self.dashboard: subprocess.Popen[str] | None = None
        self.ended = False

    @property
    def ids(self) -> list[int]:
        return [int(r["id"]) for r in self.records]

    @property
    def paper_url(self) -> str:
        return self.settings.paper_url

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.dashboard_port}"

    def wanted(self) -> dict[int, bool]:
        """Bot id → whether it is wanted running."""
        return {int(r["id"]): r["status"] == "running" for r in Registry(self.files).bots()}

    # --- who runs -------------------------------------------------------------------

    def pid(self, whom: str, bot: int = 0) -> int | None:
        if whom == "dashboard":
            return self.dashboard.pid if self.dashboard is not None and self.dashboard.poll() is None else None
        return self.keeper.unit_pid(f"bot_{bot}" if whom == "bot" else whom)

    def signal(self, whom: str, bot: int, number: int) -> int | None:
        """Send a signal to whoever holds the lock; its pid, None where nobody did."""
        pid = self.pid(whom, bot)
        if pid is None:
            return None
        with Handle(pid) as process:
            if self.pid(whom, bot) != pid or not process.signal(number):
                return None
            if number == signal.SIGKILL:
                process.wait(5)
        if whom == "dashboard" and number == signal.SIGKILL and self.dashboard is not None:
            self.dashboard.wait()
        return pid

    # --- starting -------------------------------------------------------------------

    def start_yard(self) -> None:
        control.ensure_yard(self.files, self.settings, self.keeper)

    def start_dashboard(self) -> None:
        if self.ended or self.pid("dashboard") is not None:
            return
        environment = {**os.environ, "BOTYARD_HOME": str(self.path)}
        with (self.path / "dashboard.out").open("a") as out:
            self.dashboard = subprocess.Popen(
                [sys.executable, "simple_dash.py"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
                start_new_session=True,
            )

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, timeout_s: float = 20) -> tuple[int, Any]:
        """The dashboard's answer; 0 and the reason where it gives none."""
        try:
            answer = requests.request(method, self.page_url + path, json=body if method == "POST" else None, timeout=timeout_s)
            return answer.status_code, answer.json()
        except (requests.RequestException, ValueError) as e:
            return 0, f"{type(e).__name__}"

    def paper_answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(self.paper_url + "/paper/status", timeout=2).status_code == 200
        return False

    # --- ending ---------------------------------------------------------------------

    def stop_bots(self) -> list[str]:
        """Stop every bot as a person would; what went wrong."""
        done = control.stop_all(self.files, self.settings, BY, self.keeper)
        return [f"bot {n} could not be stopped: {r['error']}" for n, r in done["bots"].items() if r["error"]]

    def stop_rest(self) -> list[str]:
        """Yard, paper exchange and dashboard, by the ways that people have."""
        wrong = []
        if self.dashboard is not None and self.dashboard.poll() is None:
            self.dashboard.terminate()
            try:
                self.dashboard.wait(10)
            except subprocess.TimeoutExpired:
                wrong.append("the dashboard did not end within 10 s of SIGTERM")
                self.dashboard.kill()
                self.dashboard.wait()
        done = control.stop_all(self.files, self.settings, BY, self.keeper, everything=True)
        return wrong + [f"{unit}: {done[unit]}" for unit in ("yard", "paper") if done[unit] is not True]

    def left_behind(self) -> list[str]:
        """Processes of this home and sessions of this prefix that are still there."""
        deadline = time.monotonic() + 5
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> list[str]:
        found = [f"session {name}" for name in self.yard_prefix.sessions()]
        mark = f"BOTYARD_HOME={self.path}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(f"process {entry.name}: {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')[:120]}")
        return found

    def clean_up(self) -> None:
        """Whatever happened: nothing of this home stays. Bots that are frozen go, too."""
        self.ended = True
        if self.dashboard is not None and self.dashboard.poll() is None:
            self.dashboard.kill()
            self.dashboard.wait()
        for _ in range(3):  # what the yard had just launched may take its lock a moment later
            self.signal("yard", 0, signal.SIGKILL)
            self.yard_prefix.clean_up()
            if not self._left():
                return
            time.sleep(0.5)
