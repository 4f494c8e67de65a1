"""What tests of the fleet share: a home with stand-in bots, and its cleaning up."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import patience
from core import config
from core.config import Settings
from core.fleet.registry import Registry
from core.fleet.screen import ScreenSupervisor, parse_sessions
from core.fleet.subprocess_form import ProcessSupervisor
from core.fleet.supervisor import Supervisor
from core.storage import Files

STANDIN = Path(__file__).with_name("standin_bot.py")
FORMS: dict[str, type[Supervisor]] = {"screen": ScreenSupervisor, "process": ProcessSupervisor}


def standin_argv(record: Mapping[str, Any], guard: bool) -> list[str]:
    arguments = [str(record[k]) for k in ("id", "name", "symbol", "strategy", "trade_amount")]
    return [sys.executable, str(STANDIN), *arguments, *(["--guard"] if guard else [])]


def until(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Wait for something that other processes bring about; its value."""
    return patience.until(condition, "what did not come about", timeout_s)


class Yardful:
    """One home, with a session prefix that no other test has."""

    def __init__(self, folder: Path, form: str = "process", prefix: str | None = None, **supervisor: Any):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".env").touch(mode=0o600)
        self.prefix = prefix if prefix is not None else f"t{secrets.token_hex(4)}_"
        self.files = Files(folder)
        self.settings: Settings = config.load({"BOTYARD_HOME": str(folder), "SESSION_PREFIX": self.prefix})
        self.supervisor = FORMS[form](self.files, self.settings, argv=standin_argv, **supervisor)
        self.registry = Registry(self.files)

    def bots(self, *names: str, status: str = "stopped", first: int = 1, **fields: Any) -> list[dict[str, Any]]:
        records = [
            {"id": n, "name": name, "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500, "status": status, **fields}
            for n, name in enumerate(names, first)
        ]
        self.files.write_json("active_bots.json", [*(self.files.read_any("active_bots.json") or []), *records])
        return [self.registry.bot(r["id"]) for r in records]

    def how(self, bot_id: int, **how: Any) -> None:
        self.files.write_json(f"standin_{bot_id}.json", how, keep_previous=False)

    def position(self, bot_id: int, position: str | None = "LONG", **more: Any) -> None:
        """A position file, as far as the fleet reads it."""
        value = {"schema": 1, "position": position, "pending_order": None, "orders": [], "protection": "bot", **more}
        self.files.write_json(f"bot_{bot_id}_position.json", value)

    def runs(self, bot_id: int) -> list[dict[str, Any]]:
        return list(self.files.read_lines(f"runs_{bot_id}.jsonl"))

    def status(self, bot_id: int) -> dict[str, Any]:
        return self.files.read_json(f"bot_{bot_id}_status.json", schema=1) or {}

    def beating(self, bot_id: int) -> int:
        """Wait until the bot has a heartbeat of its own; its pid."""

        def beats() -> int | None:
            pid, status = self.supervisor.pid(bot_id), self.status(bot_id)
            return pid if pid is not None and status.get("pid") == pid and status.get("state") == "running" else None

        return int(until(beats))

    def sessions(self) -> list[str]:
        return [s.name for s in parse_sessions(_screen("-ls")) if s.name.startswith(self.prefix)]

    def clean_up(self) -> None:
        """End what this home started: its lock holders by pid, its sessions by their full names."""
        for unit in ("yard", *(f"bot_{i}" for i in self.supervisor.running()), "paper"):
            pid = self.supervisor.unit_pid(unit)
            if pid is not None and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for session in parse_sessions(_screen("-ls")):
            if session.name.startswith(self.prefix):
                _screen("-S", session.full, "-X", "quit")
                if session.dead:
                    _screen("-wipe", session.full)


def _screen(*arguments: str) -> str:
    return subprocess.run(["screen", *arguments], capture_output=True, text=True, timeout=patience.patience(10)).stdout


@contextlib.contextmanager
def yardful(folder: Path, form: str = "process", **more: Any) -> Iterator[Yardful]:
    made = Yardful(folder, form, **more)
    try:
        yield made
    finally:
        made.clean_up()
