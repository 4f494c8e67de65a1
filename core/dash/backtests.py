"""Backtests that the page asked for: started, watched, ended and kept. Each runs in a process of its own.

Owns `data/backtests/N/run.json` (what was asked) and `cancelled` of each run N, and removes what
is older than the last KEPT runs. All else in the folder is written by core/dash/backtest_worker.py,
which alone loads numpy and pandas. Who a run is, its lock says (`data/backtests/N/lock`), so a
reload of the page, or a new dashboard, finds what goes on.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.bot.decisions import PROTECTIONS
from core.clock import wall_ms
from core.config import ROOT, Settings, market_time
from core.dash.market import Unreachable
from core.errors import Conflict, InputError, NotFound
from core.fleet import records
from core.fleet.processes import Handle
from core.fleet.supervisor import child_environment
from core.market import timeframes
from core.market.history import CandleStore
from core.model import MODES, Venue, plain
from core.storage import Files, loads

FOLDER = "data/backtests"
STORE = "data/history.db"
SCHEMA = 1
KEPT = 20
AT_ONCE = 2
MOST_CANDLES = 3_000_000
DEFAULT_DAYS = 90
DAY_MS = 86_400_000
FIRST_MS, LAST_MS = 1_230_768_000_000, 4_102_444_800_000  # 2009 and 2100: no candle lies outside
START_S, STOP_S = 5.0, 2.0
TIMINGS = ("bot", "candles")
FILES = {"report.html": "text/html", "trades.csv": "text/csv", "result.json": "application/json"}
FIELDS = ("from", "to", "cash", "fee_pct", "slippage_pct", "protection", "timing", "venue", "fetch")
DIED = (
    "Its process ended without a word: it was killed from outside, or used up the memory or the time it may have. "
    "Try a shorter time or a longer timeframe; nothing else was touched. What it said last is in the file {out}."
)


def run_id(raw: str) -> int:
    """A run's number from a path."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", raw, re.ASCII):
        raise InputError("a backtest's number is a whole number from 1, as in /api/backtests/1")
    return int(raw)


def checked(given: Mapping[str, Any], trade_amount: Decimal) -> dict[str, Any]:
    """What a person asks for, cleaned: times in ms or None, amounts as plain text. InputError lists all that is wrong."""
    problems = [f"{str(name)[:40]!r}: no such field; known are {', '.join(FIELDS)}" for name in given if name not in FIELDS]
    values = {name: None if given.get(name) == "" else given.get(name) for name in FIELDS}
    clean: dict[str, Any] = {}
    for name in ("from", "to"):
        clean[f"{name}_ms"] = None
        if values[name] is not None:
            try:
                clean[f"{name}_ms"] = _moment(values[name])
            except (ValueError, OverflowError):
                problems.append(f"{name}: must be a UTC time from 2009 to 2100 such as 2024-01-31 or 2024-01-31T12:00, or ms since 1970")
    if clean["from_ms"] is not None and clean["to_ms"] is not None and clean["from_ms"] >= clean["to_ms"]:
        problems.append("from: must lie before to")
    bounds = {"cash": (trade_amount, Decimal(10) ** 12), "fee_pct": (Decimal("0.1"), Decimal("9.99")), "slippage_pct": (Decimal(0), Decimal("9.99"))}
    for name, (default, most) in bounds.items():
        try:
            amount = default if values[name] is None else records.number(values[name])
            if not 0 <= amount <= most or (name == "cash" and not amount):
                raise ValueError
            clean[name] = plain(amount)
        except ValueError:
            problems.append(f"{name}: must be a number {'above 0 to 1000000000000' if name == 'cash' else f'from 0 to {most} percent'}")
    if "cash" in clean and Decimal(clean["cash"]) < trade_amount:
        problems.append(f"cash: must be at least the bot's amount of the first buy, {plain(trade_amount)}")
    for name, choices, usual in (("protection", PROTECTIONS, None), ("timing", TIMINGS, "bot")):
        clean[name] = usual if values[name] is None else values[name]
        if clean[name] is not None and clean[name] not in choices:
            problems.append(f"{name}: must be one of {', '.join(choices)}")
    clean["venue"] = values["venue"]
    if clean["venue"] is not None and (not isinstance(clean["venue"], str) or mode_of(clean["venue"]) is None):
        problems.append(f"venue: must name whose candles, such as {Venue(mode='live').candle_key()}, as GET .../backtest lists them")
    clean["fetch"] = values["fetch"] or False
    if not isinstance(clean["fetch"], bool):
        problems.append("fetch: must be true or false")
    if problems:
        raise InputError("; ".join(problems))
    return clean


def _moment(value: Any) -> int:
    ms = value if isinstance(value, int) and not isinstance(value, bool) else market_time(value) if isinstance(value, str) else -1
    if not FIRST_MS <= ms <= LAST_MS:
        raise ValueError
    return ms


def mode_of(venue: str) -> str | None:
    """The mode that a candle key names, None where it is none."""
    for mode in MODES:
        own = Venue(mode=mode).candle_key()
        if venue == own or (mode == "paper" and re.fullmatch(re.escape(own) + r"/[\w:.-]{1,80}", venue, re.ASCII)):
            return mode
    return None


class Backtests:
    """All runs of one home. Methods may be called from several threads."""

    def __init__(self, files: Files, settings: Settings, clock_ms: Callable[[], int] = wall_ms):
        self.files, self.settings, self.clock_ms = files, settings, clock_ms
        self._starting = threading.Lock()
        self._launched: dict[int, subprocess.Popen[bytes]] = {}

    # --- what there is -----------------------------------------------------------------

    def stored(self, symbol: str, timeframe: str) -> list[dict[str, Any]]:
        """Whose candles of a symbol the store holds, and from when to when."""
        path = self.files.path(STORE)
        if not path.exists():
            return []
        store = CandleStore(path, read_only=True)
        try:
            length = timeframes.MS.get(timeframe, timeframes.MS["1d"])
            return [{"venue": s.venue, "from": s.first_ms, "to": s.last_ms + length, "candles": s.candles} for s in store.spans(symbol, timeframe)]
        except sqlite3.Error as e:
            raise Unreachable(f"The candle store can't be read just now ({e}); try again in a moment") from None
        finally:
            store.close()

    def about(self, row: Mapping[str, Any], timeframe: str, refused: str | None) -> dict[str, Any]:
        """What the page needs to ask for a backtest of this bot: candles there are, defaults, runs, `refused` where it can't be done."""
        stored = self.stored(row["symbol"], timeframe)
        known = {s["venue"] for s in stored}
        for mode in MODES:
            key = Venue(mode=mode).candle_key()
            if mode == "paper" and any(v.startswith(key + "/") for v in known):
                continue
            if key not in known:
                stored.append({"venue": key, "from": None, "to": None, "candles": 0})
        mine = [s for s in stored if mode_of(s["venue"]) == row["mode"]]
        best = max(mine, key=lambda s: (s["candles"], s["venue"]), default=None)
        return {
            "symbol": row["symbol"],
            "timeframe": timeframe,
            "quote": row["quote"],
            "stored": [{**s, "mode": mode_of(s["venue"])} for s in stored if mode_of(s["venue"])],
            "defaults": {"venue": best["venue"] if best else None, "cash": row["trade_amount"], "fee_pct": Decimal("0.1"), "days": DEFAULT_DAYS},
            "refused": refused,
            "runs": self.runs(int(row["id"])),
        }

    def ids(self) -> list[int]:
        folder = self.files.path(FOLDER)
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []

    def runs(self, bot_id: int) -> list[dict[str, Any]]:
        """The runs of one bot, the newest first, in a line each."""
        found = []
        for run in reversed(self.ids()):
            asked = self._read(run, "run.json")
            if asked and asked.get("bot_id") == bot_id:
                found.append({"run": run, "wall_ms": asked.get("wall_ms"), "state": self.state(run)["state"], "brief": self._read(run, "brief.json")})
        return found

    def state(self, run: int) -> dict[str, Any]:
        """`{"run", "bot_id", "state", "phase", "part", "left_s", "words", "error", "asked", "files"}`. NotFound.

        `state`: starting, running, done, failed, cancelled."""
        asked = self._read(run, "run.json")
        if asked is None:
            there = self.ids()
            raise NotFound(f"There is no backtest {run}" + (f"; there are {there[0]} to {there[-1]}" if there else "; none is kept"))
        told = {k: v for k, v in asked.items() if k not in ("schema", "record")}
        found: dict[str, Any] = {"run": run, "bot_id": asked.get("bot_id"), "phase": None, "part": None, "left_s": None, "words": "", "error": None}
        found |= {"asked": told, "files": []}
        end = self._read(run, "end.json")
        if end is None:
            running = self.files.lock(f"{FOLDER}/{run}/lock").holder() is not None
            child = self._launched.get(run)
            if running or (child is not None and child.poll() is None):
                progress = self._read(run, "progress.json") or {}
                return {**found, "state": "running" if running else "starting", **{k: progress.get(k) for k in ("phase", "part", "left_s", "words")}}
            end = self._read(run, "end.json") or {"state": "failed", "kind": "died", "error": DIED.format(out=f"{FOLDER}/{run}/out")}  # it may just have ended
        if end.get("state") != "done" and self._path(run, "cancelled").exists():
            end = {"state": "cancelled", "error": None}
        written = [name for name in FILES if self._path(run, name).exists()] if end.get("state") == "done" else []
        return {**found, "state": end.get("state"), "kind": end.get("kind"), "error": end.get("error"), "files": written}

    def look(self, run: int) -> dict[str, Any]:
        """`state`, and of a run that is done its `result`."""
        found = self.state(run)
        return {**found, "result": self._read(run, "summary.json") if found["state"] == "done" else None}

    def file(self, run: int, name: str) -> bytes:
        """One of the files of a run that is done."""
        if name not in FILES:
            raise NotFound(f"A backtest has {', '.join(FILES)}, and no {name[:40]}")
        if name not in self.state(run)["files"]:
            raise NotFound(f"Backtest {run} has no {name}; a run that is done has one")
        return self._path(run, name).read_bytes()

    # --- what is done ---------------------------------------------------------------------

    def start(self, record: Mapping[str, Any], quote: str | None, timeframe: str, given: Mapping[str, Any]) -> int:
        """The number of a run that has begun. InputError; Conflict while AT_ONCE others run."""
        asked = checked(given, Decimal(str(record["trade_amount"])))
        length = timeframes.MS.get(timeframe, timeframes.MS["1d"])
        if asked["venue"] is None:
            asked["venue"] = Venue(mode=record.get("mode") or "paper").candle_key()
        wide = ((asked["to_ms"] or self.clock_ms()) - (asked["from_ms"] or 0)) // length if asked["from_ms"] is not None else 0
        if wide > MOST_CANDLES:
            raise InputError(f"from: {wide:,} candles of {timeframe} lie between from and to; at most {MOST_CANDLES:,} may: choose a shorter time")
        with self._starting:
            busy = [run for run in self.ids() if self._goes(run)]
            if len(busy) >= AT_ONCE:
                raise Conflict(f"Backtests {' and '.join(map(str, busy))} are still running, and {AT_ONCE} at a time are the most; wait for one, or cancel it")
            run = self._new_folder()
            kept = {k: v for k, v in record.items() if k in records.FIELDS and k not in ("live_since", "pot", "status", "profit", "trades")}
            what = {"schema": SCHEMA, "bot_id": record["id"], "bot": record["name"], "symbol": record["symbol"], "strategy": record["strategy"]}
            what |= {"timeframe": timeframe, "quote": quote, "wall_ms": self.clock_ms(), **asked, "record": kept}
            self.files.write_json(f"{FOLDER}/{run}/run.json", what, durable=False, keep_previous=False)
            self._launch(run)
            self._prune()
        return run

    def _launch(self, run: int) -> None:
        env = child_environment(self.files.home)
        # One run is one core: the mathematics below numpy would take all of them.
        env |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        argv = [sys.executable, "-m", "core.dash.backtest_worker", str(self.files.home.resolve()), str(run)]
        try:
            with self._path(run, "out").open("wb") as said:
                child = subprocess.Popen(argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        except OSError as e:
            shutil.rmtree(self._path(run, ""), ignore_errors=True)
            raise Unreachable(f"The backtest's process could not be started ({e.strerror or e}); try again in a moment") from e
        self._launched[run] = child
        threading.Thread(target=child.wait, name=f"reap backtest {run}", daemon=True).start()
        deadline = time.monotonic() + START_S
        while child.poll() is None and self.files.lock(f"{FOLDER}/{run}/lock").holder() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def cancel(self, run: int) -> dict[str, Any]:
        """End a run; one that has ended is removed instead. `{"run", "state": cancelled|removed}`; it is gone when this returns."""
        if self.state(run)["state"] not in ("starting", "running"):
            shutil.rmtree(self._path(run, ""), ignore_errors=True)
            return {"run": run, "state": "removed"}
        self._path(run, "cancelled").touch()
        child = self._launched.get(run)
        pid = self.files.lock(f"{FOLDER}/{run}/lock").holder() or (child.pid if child is not None and child.poll() is None else None)
        if pid is not None:
            with Handle(pid) as process, contextlib.suppress(PermissionError):
                # Asked again now that it is held: the number may have gone to a stranger meanwhile.
                if self.files.lock(f"{FOLDER}/{run}/lock").holder() == pid or (child is not None and child.pid == pid):
                    process.signal(signal.SIGTERM)
                    if not process.wait(STOP_S):
                        process.signal(signal.SIGKILL)
                        process.wait(STOP_S)
        return {"run": run, "state": "cancelled"}

    def _new_folder(self) -> int:
        run = max(self.ids(), default=0)
        self.files.path(FOLDER).mkdir(parents=True, exist_ok=True)
        while True:  # two dashboards over one home may want the same number
            run += 1
            with contextlib.suppress(FileExistsError):
                self._path(run, "").mkdir()
                return run

    def _prune(self) -> None:
        for run in self.ids()[:-KEPT]:
            if not self._goes(run):
                shutil.rmtree(self._path(run, ""), ignore_errors=True)
                self._launched.pop(run, None)

    def _goes(self, run: int) -> bool:
        try:
            return self.state(run)["state"] in ("starting", "running")
        except NotFound:  # half a folder: it holds nothing that could run
            return False

    def _path(self, run: int, name: str) -> Path:
        return self.files.path(f"{FOLDER}/{run}/{name}" if name else f"{FOLDER}/{run}")

    def _read(self, run: int, name: str) -> dict[str, Any] | None:
        """A small file of a run; None where there is none, or half a one."""
        try:
            value = loads(self._path(run, name).read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None
