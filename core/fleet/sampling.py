"""Measures what bots, yard, paper exchange and dashboard use of the machine. Owns no file.

The yard steps one `Sampling`; a thread of its own takes a sample every 15 s, so that a slow
disk or a thousand files hold nobody up. What it found is in data/yard_status.json (the yard
writes it): `resources` beside each bot's note, `units` and `machine`. Rules: core/fleet/resources.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from core.clock import wall_ms
from core.config import ROOT
from core.errors import BotyardError, Conflict, NotFound
from core.fleet import locks, maintenance, state
from core.fleet.registry import Registry
from core.fleet.resources import MB, Judge, Usage, limits_of
from core.fleet.supervisor import Supervisor
from core.fleet.tidying import Tidying
from core.storage import Files

INTERVAL_S = 15.0
SEARCH_S = 60.0  # the dashboard has no lock: it is looked for among all processes, so not often
REMEDY = "Free some: old files in archive/, large logs, backups kept in this folder. A bot that can't write buys nothing and may not be able to close."
_BOT_FILE = re.compile(r"bot_([1-9]\d{0,17})[._]", re.ASCII)
log = logging.getLogger("botyard.yard")
Tell = Callable[[int | None, str, str, str], None]  # bot or None, kind, text, severity


class Sampler:
    """Asks the system. Not for several threads at once."""

    def __init__(self, home: Path):
        self.home = home
        self._processes: dict[int, psutil.Process] = {}

    def process(self, pid: int) -> tuple[float | None, float | None] | None:
        """(MB of memory, percent of one processor since the last call), None when the process is gone."""
        try:
            known = self._processes.get(pid)
            if known is None or not known.is_running():  # a pid may be another's by now: psutil compares their starts
                known = self._processes[pid] = psutil.Process(pid)
                known.cpu_percent(None)
                return _memory_mb(known), None
            return _memory_mb(known), float(known.cpu_percent(None))
        except psutil.NoSuchProcess:
            self._processes.pop(pid, None)
            return None
        except psutil.Error:
            return None, None  # another user's

    def forget(self, alive: Iterable[int]) -> None:
        for pid in set(self._processes) - set(alive):
            del self._processes[pid]

    def disk_mb(self) -> dict[int, float]:
        """MB in each bot's own files: bot_N* in the home, data/commands/bot_N."""
        found: dict[int, int] = {}
        for entry in _entries(self.home):
            match = _BOT_FILE.match(entry.name)
            if match:
                found[int(match[1])] = found.get(int(match[1]), 0) + _size(entry)
        for folder in _entries(self.home / "data/commands"):
            name = folder.name.removeprefix("bot_")
            if name.isascii() and name.isdigit():
                found[int(name)] = found.get(int(name), 0) + sum(_size(e) for e in _entries(Path(folder.path)))
        return {bot_id: size / MB for bot_id, size in found.items()}

    def machine(self) -> dict[str, Any]:
        """`{"disk_free_mb", "memory_available_mb", "load"}`: of the home's disk, of the machine, its mean of one minute."""
        free = available = load = None
        with contextlib.suppress(OSError):
            free = round(shutil.disk_usage(self.home).free / MB, 1)
        with contextlib.suppress(psutil.Error, OSError):
            available = round(psutil.virtual_memory().available / MB, 1)
        with contextlib.suppress(OSError):
            load = round(os.getloadavg()[0], 2)
        return {"disk_free_mb": free, "memory_available_mb": available, "load": load}

    def dashboard(self) -> int | None:
        """The process that serves this home's page, found by its command line and its environment."""
        home = str(self.home.resolve())
        for process in psutil.process_iter(["cmdline"]):
            if any(Path(a).name == "simple_dash.py" for a in (process.info["cmdline"] or [])[1:3]):
                with contextlib.suppress(psutil.Error, OSError):
                    named = process.environ().get("BOTYARD_HOME", "").strip()
                    if str(Path(named).expanduser().resolve() if named else ROOT.resolve()) == home:
                        return int(process.pid)
        return None


def _memory_mb(process: psutil.Process) -> float | None:
    """PSS where the kernel tells it in one short file, else the resident set."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / MB
    return float(process.memory_info().rss) / MB


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


class Sampling:
    """`turn` takes one sample and tells what is to be told; `step` sees to it that a thread does it.

    `records` are the bots' records now; `tell` posts an event; `replace` is to start a bot anew that
    uses too much memory (`bot_id, pid`), on a thread of the caller's, which calls `replaced` once it is done."""

    def __init__(
        self,
        files: Files,
        supervisor: Supervisor,
        *,
        records: Callable[[], Iterable[Mapping[str, Any]]],
        tell: Tell,
        replace: Callable[[int, int, str], None],
        monotonic: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
    ):
        self.files, self.supervisor = files, supervisor
        self._records, self._tell, self._replace, self._monotonic, self._interval_s = records, tell, replace, monotonic, interval_s
        self.sampler, self.judge = Sampler(files.home), Judge()
        self.tidying = Tidying(files, monotonic=monotonic, sleep=lambda seconds: self._ending.wait(seconds))
        self._bots: dict[int, Usage] = {}
        self._units: dict[str, Usage] = {}
        self._machine: dict[str, Any] = {}
        self._dashboard: int | None = None
        self._searched = float("-inf")
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    # --- what was found ------------------------------------------------------------------

    def of_bot(self, bot_id: int) -> dict[str, Any] | None:
        """`{"memory_mb", "cpu_pct", "disk_mb", "at_wall_ms"}` of a running bot's last sample, None where it has none."""
        usage = self._bots.get(bot_id)
        return None if usage is None else usage.as_json()

    def units(self) -> dict[str, Any]:
        """The same of `yard`, `paper` and `dashboard`, as far as they run; their `disk_mb` is null."""
        return {name: {**usage.as_json(), "pid": usage.pid} for name, usage in self._units.items()}

    def machine(self) -> dict[str, Any]:
        return dict(self._machine)

    # --- the thread ----------------------------------------------------------------------

    def step(self) -> None:
        """For the yard's loop: quick, and it raises nothing."""
        if (self._thread is None or not self._thread.is_alive()) and not self._ending.is_set():
            self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        told = ""
        while not self._ending.is_set():
            try:
                self.turn()
                told = ""
            except Exception as e:  # noqa: BLE001 - measuring must end neither itself nor the yard
                if str(e) != told:
                    told = str(e)
                    log.warning("what the bots use of the machine can't be measured now: %s: %s", type(e).__name__, e)
            self.tidying.step()
            self._ending.wait(self._interval_s)

    def close(self) -> None:
        self._ending.set()

    # --- one sample ----------------------------------------------------------------------

    def turn(self) -> None:
        """Take one sample of everything, and judge it."""
        now, wall, disk = self._monotonic(), wall_ms(), self.sampler.disk_mb()
        bots: dict[int, Usage] = {}
        for bot_id, pid in self.supervisor.running().items():
            used = self.sampler.process(pid)
            if used is not None:
                bots[bot_id] = Usage(pid, *used, disk.get(bot_id, 0.0), wall)
        units: dict[str, Usage] = {}
        for name, unit_pid in self._unit_pids(now).items():
            used = self.sampler.process(unit_pid) if unit_pid is not None else None
            if unit_pid is not None and used is not None:
                units[name] = Usage(unit_pid, *used, None, wall)
            elif name == "dashboard":
                self._dashboard = None
        self._bots, self._units, self._machine = bots, units, self.sampler.machine()
        self.sampler.forget(u.pid for u in (*bots.values(), *units.values()))
        for record in self._records():
            if record["id"] in bots:
                self._judged(record, bots[record["id"]], now)
        self._judge_disk()

    def _unit_pids(self, now: float) -> dict[str, int | None]:
        if self._dashboard is None and now - self._searched >= SEARCH_S:
            self._searched = now
            self._dashboard = self.sampler.dashboard()
        # The yard's own lock must not be asked: closing it again would release it.
        return {"yard": os.getpid(), "paper": self.supervisor.unit_pid("paper"), "dashboard": self._dashboard}

    def _judged(self, record: Mapping[str, Any], usage: Usage, now: float) -> None:
        for verdict in self.judge.bot(record["id"], usage, limits_of(record), now):
            if verdict.kind == "memory":
                self._replace(record["id"], usage.pid, verdict.text)
            else:
                self._tell(record["id"], f"bot_{verdict.kind}", verdict.text, "warning")

    def _judge_disk(self) -> None:
        free = self._machine.get("disk_free_mb")
        news = None if free is None else self.judge.free(free)
        if news is not None:
            severity, level = news
            self._tell(None, "disk_free", f"The disk of {self.files.home} has {free:.0f} MB left, less than {level} MB. {REMEDY}", severity)

    def replaced(self, bot_id: int) -> None:
        """A bot was started anew for its memory: not again for a while."""
        self.judge.restarted(bot_id, self._monotonic())


def replace(files: Files, supervisor: Supervisor, bot_id: int, pid: int, told: Callable[[Mapping[str, Any]], None]) -> int | None:
    """End the bot that is process `pid` gracefully and start it anew; its new pid.

    None, and nothing done: it is not wanted, a guard, another process by now, in maintenance,
    somebody else is at it, or the outcome of an order of its own is unknown. `told` is called
    with its record before it is ended. Raises what stop and start raise: then it may be stopped."""
    try:
        with locks.action(files, f"bot_{bot_id}", 0):
            record = Registry(files).bot(bot_id)
            if record["status"] != "running" or supervisor.pid(bot_id) != pid or supervisor.is_guard(bot_id, pid):
                return None
            if maintenance.read(files).on or _unresolved(files, bot_id):
                return None
            told(record)
            supervisor.stop(bot_id, by="its limit of memory")
            return supervisor.start(record)
    except (Conflict, NotFound):
        return None


def _unresolved(files: Files, bot_id: int) -> bool:
    """Whether the outcome of an order is unknown, by the position file (asked for at once) or the status."""
    try:
        position = state.read_position(files, bot_id) or {}
    except (BotyardError, OSError):
        return True
    status = state.read_status(files, bot_id) or {}
    return bool(position.get("pending_order") or status.get("unresolved"))
