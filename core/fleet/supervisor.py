"""Starts, stops and lists bots. Owns data/stop/*.json, data/commands/ (as a sender) and data/started/.

Who a bot is, its lock tells: the process that holds `bot_N.lock` of this home, never a
session's name. The forms (`screen.py`, `subprocess_form.py`) say how a process is kept;
everything that must hold for each of them stands here. Besides bots there are two other
units, `yard` and `paper`, which are started and stopped in the same way.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from core.bot import status as bot_status
from core.clock import wall_ms
from core.config import ROOT, Settings
from core.errors import AlreadyRunning, BotyardError, Conflict, StateError
from core.fleet import maintenance, state
from core.fleet.processes import Handle, handles_signal
from core.model import plain
from core.storage import Files

YARD_LOCK = "data/yard.lock"
PAPER_LOCK = "data/paper/paper.lock"
STARTED = "data/started"  # what a unit said before it held its lock
Argv = Callable[[Mapping[str, Any], bool], list[str]]


class StartFailed(BotyardError):
    """A unit ended, or hung, before it held its lock. `code` is its exit code where it left one."""

    def __init__(self, message: str, code: int | None = None, reason: str = ""):
        self.code, self.reason = code, reason
        super().__init__(message)


class StopFailed(BotyardError):
    """The process is still there after everything was tried; `pid` is its pid."""

    def __init__(self, message: str, pid: int):
        self.pid = pid
        super().__init__(message)


class Launched(Protocol):
    """A unit that was just launched, until it holds its lock."""

    def alive(self) -> bool: ...

    def output(self) -> str:
        """What it has said so far, for a person."""

    def settled(self) -> None:
        """It holds its lock: stop listening."""

    def end(self) -> None:
        """It never will: take it away."""


def bot_argv(record: Mapping[str, Any], guard: bool) -> list[str]:
    """The command that runs a bot. Its arguments are a list from here to exec: no shell reads the name."""
    amount = plain(record["trade_amount"])
    arguments = [str(record["id"]), record["name"], record["symbol"], record["strategy"], amount]
    if record["name"].startswith("-"):  # else it would be taken for an option
        return [sys.executable, str(ROOT / "integrated_trader.py"), *(["--guard"] if guard else []), "--", *arguments]
    return [sys.executable, str(ROOT / "integrated_trader.py"), *arguments, *(["--guard"] if guard else [])]


def lock_name(unit: str) -> str:
    return {"yard": YARD_LOCK, "paper": PAPER_LOCK}.get(unit, f"{unit}.lock")


def child_environment(home: Path) -> dict[str, str]:
    """Our own environment, with the home named and a sane terminal. Nothing of `.env` is added: a child reads it itself."""
    env = {k: v for k, v in os.environ.items() if k not in ("STY", "WINDOW", "BOTYARD_IN_VENV")}
    env["BOTYARD_HOME"] = str(home.resolve())
    if env.get("TERM", "") in ("", "dumb", "unknown"):
        env["TERM"] = "xterm"  # screen refuses to start without a terminal it knows
    if not any(env.get(k) for k in ("LC_ALL", "LC_CTYPE", "LANG")):
        env["LANG"] = "C.UTF-8"
    return env


class Supervisor(ABC):
    """Keeps the processes of one home. Methods may be called from several threads, but for
    one bot only by whoever holds its action lock (core/fleet/locks.py)."""

    def __init__(self, files: Files, settings: Settings, argv: Argv = bot_argv, start_wait_s: float = 20):
        self.files, self.settings, self.argv, self.start_wait_s = files, settings, argv, start_wait_s

    # --- what a form must say -----------------------------------------------------------

    @abstractmethod
    def _launch(self, unit: str, argv: list[str]) -> Launched:
        """Start a unit's process, detached from ours. StartFailed when even that can't be done."""

    @abstractmethod
    def _push(self, unit: str, pid: int) -> None:
        """Between SIGTERM and SIGKILL: end what keeps the process, if anything does."""

    @abstractmethod
    def _clear(self, unit: str) -> None:
        """Take away what is left of a unit without a process that holds its lock."""

    # --- who runs -----------------------------------------------------------------------

    def unit_pid(self, unit: str) -> int | None:
        """The process that holds the unit's lock, None where nobody does."""
        try:
            return self.files.lock(lock_name(unit)).holder()
        except OSError as e:
            raise StateError(self.files.path(lock_name(unit)), f"the lock can't be asked ({e.strerror or e})", "Mend the file's rights or the disk.") from e

    def pid(self, bot_id: int) -> int | None:
        return self.unit_pid(f"bot_{bot_id}")

    def running(self) -> dict[int, int]:
        """Bot id → pid of every bot of this home that holds its lock, guards included."""
        found = {}
        for path in self.files.home.glob("bot_*.lock"):
            match = re.fullmatch(r"bot_([1-9]\d{0,17})\.lock", path.name, re.ASCII)
            if match and (pid := self.pid(int(match.group(1)))) is not None:
                found[int(match.group(1))] = pid
        return dict(sorted(found.items()))

    def is_guard(self, bot_id: int, pid: int) -> bool:
        """Whether process `pid` only guards the bot's position: by its own word, or, before it has given one, by ours."""
        status = state.read_status(self.files, bot_id)
        if status and status.get("pid") == pid and status.get("state") != "starting":
            return bool(status.get("guard"))
        with contextlib.suppress(StateError, OSError):
            started = self.files.read_json(f"{STARTED}/bot_{bot_id}.json", schema=1) or {}
            return bool(started.get("guard")) and started.get("pid") == pid
        return False

    # --- start --------------------------------------------------------------------------

    def start(self, record: Mapping[str, Any], *, guard: bool = False, once: bool = False) -> int:
        """Start a bot; its pid once it holds its lock. A guard gives way to a start; `once`: one that only books.

        Raises AlreadyRunning, Conflict (maintenance mode is on), or StartFailed with the bot's exit code and reason."""
        bot_id = int(record["id"])
        maintenance.refuse(self.files, f"bot {bot_id} can't be started")  # the one gate: every start goes through here
        held = self.pid(bot_id)
        if held is not None:
            if guard or not self.is_guard(bot_id, held):
                raise AlreadyRunning(f"bot {bot_id} is already running (process {held})", held)
            self.stop(bot_id, by="start")
        self.files.path(bot_status.stop_name(bot_id)).unlink(missing_ok=True)
        since = wall_ms()
        try:
            argv = self.argv(record, guard)
            if once:
                argv.insert(argv.index("--guard"), "--once")
            pid = self.start_unit(f"bot_{bot_id}", argv)
            self.files.write_json(f"{STARTED}/bot_{bot_id}.json", {"schema": 1, "pid": pid, "guard": guard}, durable=False, keep_previous=False)
            return pid
        except StartFailed as e:
            word = state.last_word(state.read_status(self.files, bot_id), since_wall_ms=since)
            if word is None:
                raise
            reason = str(word.get("reason") or "")
            raise StartFailed(f"bot {bot_id} ended at its start with exit code {word.get('code')}: {reason}", word.get("code"), reason) from e

    def start_unit(self, unit: str, argv: list[str]) -> int:
        """Start any unit; its pid once it holds its lock. AlreadyRunning, StartFailed."""
        held = self.unit_pid(unit)
        if held is not None:
            raise AlreadyRunning(f"{unit} is already running (process {held})", held)
        self._clear(unit)
        launched = self._launch(unit, argv)
        deadline = time.monotonic() + self.start_wait_s
        while True:
            alive = launched.alive()  # asked before the lock: a process that took it and ended at once counts as ended
            pid = self.unit_pid(unit)
            if pid is not None:
                launched.settled()
                return pid
            if not alive:
                raise StartFailed(f"{unit} ended before it was running: {launched.output() or 'it said nothing'}", reason=launched.output())
            if time.monotonic() >= deadline:
                launched.end()
                said = launched.output()  # screen writes it out at its end
                raise StartFailed(f"{unit} was not running within {self.start_wait_s:g} s and was ended{': ' + said if said else ''}", reason=said)
            time.sleep(0.02)

    # --- stop ---------------------------------------------------------------------------

    def stop(self, bot_id: int, *, by: str, timeout_s: float = 15, at_once: bool = False, grace_s: int | None = None) -> None:
        """Stop a bot; returns when its process is gone (also when there was none). StopFailed otherwise.

        `at_once`: by SIGKILL alone, for a process that can hear nothing else. `grace_s` lets it
        finish a step that takes so long; else it cuts its step off within two seconds."""
        note = bot_status.stop_name(bot_id)

        def tell(pid: int) -> None:
            # Before the signal: the bot then knows that one of ours sent it.
            value = {"schema": 1, "pid": pid, "wall_ms": wall_ms(), "by": by, "grace_s": grace_s}
            with contextlib.suppress(OSError):  # a full disk must not keep a bot from being stopped
                self.files.write_json(note, value, durable=False, keep_previous=False)

        self.stop_unit(f"bot_{bot_id}", timeout_s=timeout_s, tell=tell, at_once=at_once)
        self.files.path(note).unlink(missing_ok=True)

    def stop_unit(self, unit: str, *, timeout_s: float = 15, tell: Callable[[int], None] | None = None, at_once: bool = False) -> None:
        """SIGTERM, a bounded wait, the form's push, SIGKILL, and a check that it is gone.

        Everything together takes `timeout_s` at most, but for moments."""
        for _ in range(3):  # somebody may start it again by hand meanwhile
            pid = self.unit_pid(unit)
            if pid is None:
                break
            with Handle(pid) as process:
                if self.unit_pid(unit) != pid:
                    continue  # the handle may be a stranger's
                self._end(unit, process, timeout_s, tell, at_once)
        pid = self.unit_pid(unit)
        if pid is not None:
            raise StopFailed(f"{unit} was ended, but is running again (process {pid}): somebody else starts it", pid)
        self._clear(unit)

    def _end(self, unit: str, process: Handle, timeout_s: float, tell: Callable[[int], None] | None, at_once: bool) -> None:
        steps: list[tuple[Callable[[], object], float]] = [
            (lambda: process.signal(signal.SIGTERM), 0.7),
            (lambda: self._push(unit, process.pid), 0.15),
            (lambda: process.signal(signal.SIGKILL), 0.15),
        ]
        if at_once:
            steps = [(lambda: process.signal(signal.SIGKILL), 1.0)]
        try:
            for act, share in steps:
                if tell is not None:
                    tell(process.pid)
                act()
                if process.wait(timeout_s * share):
                    return
        except PermissionError:
            raise StopFailed(f"{unit} (process {process.pid}) belongs to another user: it can only be stopped by that user", process.pid) from None
        raise StopFailed(f"{unit} (process {process.pid}) is still there after SIGTERM and SIGKILL: it hangs in the system; look at it with ps", process.pid)

    # --- what a bot tells, what it is told -----------------------------------------------

    def read_log(self, bot_id: int, cursor: int | None = None, lines: int = 200) -> tuple[list[str], int]:
        """The last `lines` lines of a bot's log, or the whole lines after byte `cursor`, and the next cursor."""
        name = f"bot_{bot_id}.log"
        found, after = self.files.tail(name, lines) if cursor is None else self.files.read_from(name, cursor)
        return [line.decode("utf-8", "replace") for line in found], after

    def read_state(self, bot_id: int) -> dict[str, Any]:
        """`{"status", "position", "error"}`; a file that can't be trusted is null and told in `error`."""
        found: dict[str, Any] = {"status": state.read_status(self.files, bot_id), "position": None, "error": None}
        try:
            found["position"] = state.read_position(self.files, bot_id)
        except (StateError, OSError) as e:
            found["error"] = str(e)
        return found

    def command(self, bot_id: int, command: str, by: str, data: Mapping[str, Any] | None = None, wait_s: float = 10) -> str:
        """Leave a command (core/bot/commands.py) for a running bot and wake it; the command's own
        number, under which the bot's status tells what came of it. Conflict when the bot isn't running."""
        pid = self.pid(bot_id)
        if pid is None:
            raise Conflict(f"bot {bot_id} is not running, it can't be told to {command}; start it first")
        # The name sorts by time, so that commands are done in their order.
        number = f"{wall_ms():015d}-{secrets.token_hex(4)}"
        value = {"schema": 1, "command": command, "by": by, "data": dict(data or {})}
        self.files.write_json(f"data/commands/bot_{bot_id}/{number}.json", value, durable=False, keep_previous=False)
        with Handle(pid) as process:
            deadline = time.monotonic() + wait_s
            # A bot that has not yet set its handler would die of the signal: it finds the file by itself.
            while self.pid(bot_id) == pid:
                ready = handles_signal(pid, signal.SIGUSR1)
                if ready is None:
                    status = state.read_status(self.files, bot_id)
                    ready = bool(status and status.get("pid") == pid)
                if ready:
                    process.signal(signal.SIGUSR1)
                    break
                if time.monotonic() >= deadline or process.wait(0.02):
                    break
        return number


def read_output(path: Path, limit: int = 4000) -> str:
    """The end of what a unit said, as plain text of at most a few lines."""
    with contextlib.suppress(OSError):
        text = path.read_bytes()[-limit:].decode("utf-8", "replace")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
        return " | ".join([line for line in lines if line][-6:])
    return ""
