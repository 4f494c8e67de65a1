"""Maintenance mode: every bot stops where it is, and nothing starts until it is lifted. Owns data/maintenance.json.

The file is written before the first bot is stopped, and asked under each bot's action lock
before every start (core/fleet/supervisor.py), so no start slips through, whoever asks for
it. What is wanted stays as it was: lifting it brings everything back, bots with positions
first. Yard, page and paper exchange go on. It survives restarts and a reboot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core import notify
from core.clock import wall_ms
from core.errors import BotyardError, Conflict, InputError, StateError
from core.fleet import locks, state
from core.fleet.audit import audit
from core.fleet.registry import Registry
from core.model import Event
from core.storage import Files

if TYPE_CHECKING:
    from core.fleet.supervisor import Supervisor

FILE = "data/maintenance.json"
SCHEMA = 1
LIFT = "utils/yard.py maintenance off"
MOST_NOTE = 200
GRACE_S = 20  # nobody is in a hurry: a bot is let finish a step that waits for the exchange, an order above all
STOP_S = 30.0  # of which SIGTERM has the first 70 %
WORKERS = 8


@dataclass(frozen=True, slots=True)
class Mode:
    """What the file says. `wall_ms` is when it was last changed, 0 where it never was.

    `problem` is set where the file can't be read: then `on` holds, since nobody knows."""

    on: bool = False
    by: str = ""
    wall_ms: int = 0
    note: str = ""
    problem: str | None = None

    @property
    def why(self) -> str:
        """For a person, why nothing is started; "" while it is off."""
        if self.problem:
            return f"whether maintenance mode is on can't be read, so nothing is started: {self.problem}"
        if not self.on:
            return ""
        when = datetime.fromtimestamp(self.wall_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        return f"maintenance mode is on since {when} UTC, by {self.by}{f' ({self.note})' if self.note else ''}"

    def as_json(self) -> dict[str, Any]:
        """As data/yard_status.json, the page and `yard.py maintenance status --json` show it."""
        return {"on": self.on, "by": self.by, "wall_ms": self.wall_ms, "note": self.note, "why": self.why, "problem": self.problem}


def read(files: Files) -> Mode:
    """The mode now. It raises nothing: a file that can't be read counts as on, and `problem` says how to mend it."""
    try:
        value = files.read_json(FILE, schema=SCHEMA)
        if value is None:
            return Mode()
        on, when = value.get("on"), value.get("wall_ms")
        if not isinstance(on, bool) or not isinstance(when, int) or isinstance(when, bool) or not 0 <= when < 10**14:
            raise StateError(files.path(FILE), "it does not say whether maintenance is on, and since when", "")
        return Mode(on, str(value.get("by") or "hand"), when, str(value.get("note") or ""))
    except (StateError, OSError) as e:
        what = e.reason if isinstance(e, StateError) else str(e)
        return Mode(on=True, problem=f"{files.path(FILE)}: {what}. Write it anew: {LIFT}, or utils/yard.py maintenance on")


def write(files: Files, on: bool, by: str, note: str = "") -> Mode:
    """Turn it on or off, on disk when this returns. InputError for a note that can't be kept, OSError."""
    note = " ".join(note.split())
    if len(note) > MOST_NOTE or not note.isprintable():
        raise InputError(f"note: it must be at most {MOST_NOTE} characters of plain text")
    mode = Mode(on, by, max(wall_ms(), read(files).wall_ms + 1), note)  # each change has a time of its own
    value = {"schema": SCHEMA, "on": on, "by": by, "wall_ms": mode.wall_ms, "note": note}
    files.write_json(FILE, value, keep_previous=False)
    return mode


def refuse(files: Files, what: str) -> None:
    """Conflict while it is on; `what` is what can't be done now."""
    mode = read(files)
    if mode.on:
        raise Conflict(f"{what}: {mode.why}" + ("" if mode.problem else f"; lift it with: {LIFT}"))


def unwatched(files: Files) -> list[dict[str, Any]]:
    """Open business that nobody watches while its bot is stopped: `[{"bot", "name", "text"}]`, by id.

    Left out is what has its stop at the exchange. A position file that can't be read is named too.
    A list of bots that can't be read leaves the position files themselves to go by."""
    names = dict[int, str]()
    with contextlib.suppress(BotyardError, OSError):
        names = {r["id"]: str(r["name"]) for r in Registry(files).bots()}
    files_of = {int(p.name.split("_")[1]) for p in files.home.glob("bot_*_position.json") if p.name.split("_")[1].isdigit()}
    found = []
    for bot_id in sorted(set(names) | files_of):
        try:
            position = state.read_position(files, bot_id)
        except (StateError, OSError) as e:
            text = f"its position can't be read: {e}"
        else:
            business = state.open_business(position)
            if business is None or (position is not None and position.get("protection") == "exchange" and not state.exposed(position)):
                continue
            text = f"{business}, and its stop lies not at the exchange"
        found.append({"bot": bot_id, "name": names.get(bot_id, ""), "text": text})
    return found


def enter(files: Files, keeper: Supervisor, by: str, note: str = "", say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Turn it on, then have every bot and guard finish its step and stop. It goes on past errors.

    Answers `{"maintenance": Mode.as_json(), "bots": {id: {"stopped", "error"}}, "unwatched_before", "unwatched", "error"}`:
    who would be unwatched is told (`say`) before the first bot stops. InputError, OSError: then nothing was stopped."""
    before = unwatched(files)
    for one in before:
        say(f"bot {one['bot']} ({one['name']}) will be unwatched: {one['text']}")
    mode = write(files, True, by, note)
    problem: str | None = None
    known: set[int] = set()
    try:
        known = {r["id"] for r in Registry(files).bots()}
    except (StateError, OSError) as e:
        problem = str(e)  # a broken list must not keep bots from being stopped

    def stop(bot_id: int) -> dict[str, Any]:
        try:
            # Also those without a process: somebody who asked before may be just about to start one, under this lock.
            with locks.action(files, f"bot_{bot_id}"):
                runs = keeper.pid(bot_id) is not None
                if runs:
                    keeper.stop(bot_id, by="maintenance", timeout_s=STOP_S, grace_s=GRACE_S)
        except (BotyardError, OSError) as e:
            say(f"bot {bot_id}: {e}")
            return {"stopped": False, "error": str(e)}
        if runs:
            say(f"bot {bot_id} is stopped")
        return {"stopped": runs, "error": None}

    todo = sorted(known | set(keeper.running()))
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        bots = dict(zip(todo, pool.map(stop, todo), strict=True))
    after = unwatched(files)
    stopped = sum(b["stopped"] for b in bots.values())
    names = ", ".join(f"bot {u['bot']}" for u in after)
    text = f"Maintenance mode is on, by {by}: {stopped} bot(s) stopped, none starts until it is lifted"
    _tell(files, by, text + (f"; unwatched until then: {names}." if after else "."), "risk" if after else "info")
    _audit(files, by, "maintenance on", note=note, failed=[i for i, b in bots.items() if b["error"]])
    return {"maintenance": mode.as_json(), "bots": bots, "unwatched_before": before, "unwatched": after, "error": problem}


def lift(files: Files, by: str, note: str = "") -> dict[str, Any]:
    """Turn it off; a yard that runs then starts what is wanted. Answers as `enter` does. InputError, OSError."""
    was = read(files)
    mode = write(files, False, by, note)
    if was.on:
        _tell(files, by, f"Maintenance mode is lifted, by {by}: bots that are wanted start.", "info")
    _audit(files, by, "maintenance off", note=note)
    return {"maintenance": mode.as_json(), "bots": {}, "unwatched_before": [], "unwatched": [], "error": None}


def _tell(files: Files, by: str, text: str, severity: str) -> None:
    with contextlib.suppress(OSError):
        notify.post(files, Event("maintenance", text, severity, None, wall_ms=wall_ms(), data={"by": by}))  # type: ignore[arg-type]


def _audit(files: Files, by: str, what: str, **detail: Any) -> None:
    with contextlib.suppress(OSError):  # a full disk must not keep bots from being stopped
        audit(files, by, what, **detail)
