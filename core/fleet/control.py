"""What a person can do to bots; the dashboard and utils/yard.py share it. Owns data/paper_wanted.

Each act holds the bot's action lock, so that page, command and yard never start one bot
twice, and leaves a line in data/audit.jsonl. `by` says who asked, in a few words.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.bot import commands
from core.clock import wall_ms
from core.config import Settings
from core.errors import AlreadyRunning, BotyardError, Conflict, InputError, StateError
from core.fleet import locks, maintenance, preflight, records, state
from core.fleet.audit import audit
from core.fleet.checks import Check
from core.fleet.health import health, stuck_bound_ms
from core.fleet.paper_unit import PAPER_WANTED
from core.fleet.pot import change_pot as change_pot  # one of the things a person can do
from core.fleet.registry import Registry
from core.fleet.screen import ScreenSupervisor
from core.fleet.supervisor import Supervisor
from core.fleet.workers import STAGGER_S
from core.fleet.yard import read_status
from core.storage import Files

# What of core/fleet/preflight.py keeps a live bot from being started.
AT_EACH_START = ("settings", "keys", "account", "trading", "withdrawals", "symbol")
YARD_ARGV = [sys.executable, "-m", "core.fleet"]


def make_supervisor(files: Files, settings: Settings) -> Supervisor:
    """The form of supervisor that this yard uses."""
    return ScreenSupervisor(files, settings)


# --- the yard and the paper exchange ---------------------------------------------------------


def ensure_yard(files: Files, settings: Settings, supervisor: Supervisor | None = None) -> int:
    """Start the yard process where its lock is free; its pid. StartFailed when it can't be started."""
    keeper = supervisor or make_supervisor(files, settings)
    held = keeper.unit_pid("yard")
    if held is not None:
        return held
    with locks.action(files, "yard"):
        held = keeper.unit_pid("yard")
        return held if held is not None else keeper.start_unit("yard", YARD_ARGV)


def want_paper(files: Files) -> None:
    """Ask the yard for the paper exchange (a coin search, a new paper bot's check). It stays until `stop --all`."""
    path = files.path(PAPER_WANTED)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def yard_status(files: Files) -> dict[str, Any] | None:
    """The yard's status file: heartbeat, `adopted`, `error`, its notes on bots, the paper exchange."""
    return read_status(files)


def set_maintenance(
    files: Files,
    settings: Settings,
    on: bool,
    by: str,
    note: str = "",
    supervisor: Supervisor | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Turn maintenance mode on (every bot finishes its step and stops, nothing starts) or off (what is wanted starts).

    Answers as core/fleet/maintenance.py `enter`. InputError (the note), OSError (the disk took nothing: nothing has changed)."""
    keeper = supervisor or make_supervisor(files, settings)
    if on:
        return maintenance.enter(files, keeper, by, note, progress or (lambda text: None))
    done = maintenance.lift(files, by, note)
    ensure_yard(files, settings, keeper)
    return done


# --- one bot --------------------------------------------------------------------------------


def start_bot(files: Files, settings: Settings, bot_id: int, by: str, supervisor: Supervisor | None = None, *, yard: bool = True) -> int:
    """Want a bot running and start it; its pid once it holds its lock.

    Raises NotFound, InputError (its mode isn't allowed), AlreadyRunning, StartFailed."""
    keeper, registry = supervisor or make_supervisor(files, settings), Registry(files)
    record = registry.bot(bot_id)
    _allowed(record, settings)
    _vetted(files, settings, record)
    with locks.action(files, f"bot_{bot_id}"), _audited(files, by, "start", bot_id):
        maintenance.refuse(files, f"bot {bot_id} can't be started")  # before it is wanted
        record = registry.set_wanted(bot_id, "running", f"start by {by}")
        if yard:
            ensure_yard(files, settings, keeper)
        return keeper.start(record)


def stop_bot(files: Files, settings: Settings, bot_id: int, by: str, supervisor: Supervisor | None = None, *, timeout_s: float = 15) -> dict[str, Any]:
    """Want a bot stopped and stop it; returns when its process is gone: `{"stopped": True, "warning": str | None}`.

    The warning says so where an open position is now unwatched. Raises NotFound, StopFailed."""
    keeper, registry = supervisor or make_supervisor(files, settings), Registry(files)
    begun, warnings = time.monotonic(), []
    try:
        registry.bot(bot_id)
    except StateError as e:  # a list that can't be read must not keep a bot from being stopped
        if keeper.pid(bot_id) is None:
            raise
        warnings.append(f"that it is wanted stopped could not be written: {e}")
    with locks.action(files, f"bot_{bot_id}", timeout_s), _audited(files, by, "stop", bot_id):
        try:
            if not warnings:
                registry.set_wanted(bot_id, "stopped", f"stop by {by}")
        except OSError as e:  # nor must a full disk
            warnings.append(f"that it is wanted stopped could not be written ({e.strerror or e}): it may be started again after a reboot")
        keeper.stop(bot_id, by=by, timeout_s=max(3.0, timeout_s - (time.monotonic() - begun)))
    warnings.append(unwatched(files, bot_id) or "")
    return {"stopped": True, "warning": "; ".join(filter(None, warnings)) or None}


def restart_bot(files: Files, settings: Settings, bot_id: int, by: str, supervisor: Supervisor | None = None) -> int:
    """Stop a bot and start it again, wanted all the while; its new pid. Raises what start and stop raise."""
    keeper, registry = supervisor or make_supervisor(files, settings), Registry(files)
    record = registry.bot(bot_id)
    _allowed(record, settings)
    _vetted(files, settings, record)
    with locks.action(files, f"bot_{bot_id}"), _audited(files, by, "restart", bot_id):
        maintenance.refuse(files, f"bot {bot_id} can't be restarted")  # before it is stopped
        record = registry.set_wanted(bot_id, "running", f"restart by {by}")
        ensure_yard(files, settings, keeper)
        keeper.stop(bot_id, by=by)
        return keeper.start(record)


def end_stuck(files: Files, settings: Settings, bot_id: int, by: str, supervisor: Supervisor | None = None, *, timeout_s: float = 6) -> int:
    """End a bot that is stuck and start it anew; its new pid. Conflict when it isn't stuck."""
    keeper, registry = supervisor or make_supervisor(files, settings), Registry(files)
    with locks.action(files, f"bot_{bot_id}"), _audited(files, by, "end stuck", bot_id):
        maintenance.refuse(files, f"bot {bot_id} can't be started anew")
        record, status = registry.bot(bot_id), state.read_status(files, bot_id)
        found = health(record, status, keeper.pid(bot_id), wall_ms(), yard_status(files), stuck_bound_ms(settings))
        if found["status"] != "stuck":
            raise Conflict(f"bot {bot_id} is {found['status']}, not stuck; restart it instead")
        keeper.stop(bot_id, by=by, timeout_s=timeout_s)
        return keeper.start(record)


def close_position(files: Files, settings: Settings, bot_id: int, by: str, supervisor: Supervisor | None = None) -> None:
    """Have a bot sell its position: a running one is told, a stopped one is started as a guard and told.

    Returns when the command is given. Conflict when there is nothing to close."""
    keeper = supervisor or make_supervisor(files, settings)
    record = Registry(files).bot(bot_id)
    with locks.action(files, f"bot_{bot_id}"), _audited(files, by, "close", bot_id):
        maintenance.refuse(files, f"bot {bot_id} can't close its position")
        business = state.open_business(state.read_position(files, bot_id))
        if business is None:
            raise Conflict(f"bot {bot_id} has no open position: there is nothing to close")
        if keeper.pid(bot_id) is None:
            _allowed(record, settings, guard=True)
            if record["mode"] == "paper":
                want_paper(files)
            ensure_yard(files, settings, keeper)
            with contextlib.suppress(AlreadyRunning):
                keeper.start(record, guard=True)
        keeper.command(bot_id, "close", by)


def command_bot(
    files: Files,
    settings: Settings,
    bot_id: int,
    command: str,
    by: str,
    data: Mapping[str, Any] | None = None,
    supervisor: Supervisor | None = None,
    *,
    wait_s: float = 10,
) -> dict[str, Any]:
    """Give a running bot a command (core/bot/commands.py) and wait for its word on it.

    Answers `{"outcome": "done"|"refused"|"waiting", "text"}`; `waiting`: no word within `wait_s`, the
    bot does it when it can. NotFound, InputError (no such command), Conflict (the bot isn't running)."""
    keeper = supervisor or make_supervisor(files, settings)
    Registry(files).bot(bot_id)
    commands.check(command, data or {})
    with _audited(files, by, command, bot_id):
        number = keeper.command(bot_id, command, by, data)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            told = (state.read_status(files, bot_id) or {}).get("last_command") or {}
            if told.get("number") == number:
                return {"outcome": told["outcome"], "text": told["text"]}
            if keeper.pid(bot_id) is None:
                raise Conflict(f"bot {bot_id} ended before it could {command}: see its log")
            time.sleep(0.05)
    return {"outcome": "waiting", "text": "the bot has not answered yet; it does it at its next step"}


def go_live(files: Files, settings: Settings, bot_id: int, confirm: str, by: str) -> list[Check]:
    """Let a bot trade with real money from its next start on; what was looked at. InputError, and nothing changed, when a check failed.

    `confirm` is the word that the person typed."""
    registry = Registry(files)
    record = registry.bot(bot_id)
    change = {"mode": "live", "confirm": confirm}
    if not records.going_live(change, record):
        raise Conflict(f"bot {bot_id} is live already")
    with locks.action(files, f"bot_{bot_id}"), _audited(files, by, "go live", bot_id):
        checks = preflight.run(settings, files, record, None, registry.bots())
        preflight.insist(checks)
        registry.update(bot_id, change, by)
    return checks


def delete_bot(files: Files, bot_id: int, by: str) -> None:
    """Take a bot off the list, its files into archive/. NotFound, Conflict."""
    with _audited(files, by, "delete", bot_id):
        Registry(files).delete(bot_id)


def unwatched(files: Files, bot_id: int) -> str | None:
    """What to tell when a bot has stopped: None, or that nobody watches its position now."""
    try:
        position = state.read_position(files, bot_id)
    except (StateError, OSError) as e:
        return f"its position can't be read, so nobody knows whether one is open: {e}"
    business = state.open_business(position)
    if business is None:
        return None
    if position is not None and position.get("protection") == "exchange" and not state.exposed(position):
        return f"{business}; its stop and target stay at the exchange"
    return f"{business} and is unwatched while the bot is stopped: its stop loss will not fire; close it, or start the bot again"


# --- all of them ----------------------------------------------------------------------------


def start_all(
    files: Files, settings: Settings, by: str, supervisor: Supervisor | None = None, *, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Start every bot of the list that doesn't run, those with something open first, each once the one before it is up.

    Answers `{"bots": {id: {"started": bool, "pid": int|None, "error": str|None}}}`; it goes on past errors.
    StateError (the list), Conflict (maintenance mode), StartFailed (the yard)."""
    keeper, say = supervisor or make_supervisor(files, settings), progress or (lambda text: None)
    records = sorted(Registry(files).bots(), key=lambda r: (not state.has_open_business(files, r["id"]), r["id"]))
    maintenance.refuse(files, "bots can't be started")
    if records:
        ensure_yard(files, settings, keeper)
    bots: dict[int, dict[str, Any]] = {}
    for record in records:
        bot_id = record["id"]
        try:
            pid = start_bot(files, settings, bot_id, by, keeper, yard=False)
        except AlreadyRunning as e:
            bots[bot_id] = {"started": False, "pid": e.pid, "error": None}
            say(f"bot {bot_id} runs already")
        except (BotyardError, OSError) as e:
            bots[bot_id] = {"started": False, "pid": None, "error": str(e)}
            say(f"bot {bot_id}: {e}")
        else:
            bots[bot_id] = {"started": True, "pid": pid, "error": None}
            say(f"bot {bot_id} runs (process {pid})")
            _let_up(files, keeper, bot_id, pid)
    return {"bots": bots}


def _let_up(files: Files, keeper: Supervisor, bot_id: int, pid: int) -> None:
    """Wait until a bot's imports are done, as the yard does between its starts (core/fleet/workers.py): many at once would all come up last."""
    deadline = time.monotonic() + STAGGER_S
    while time.monotonic() < deadline and keeper.pid(bot_id) == pid:
        status = state.read_status(files, bot_id)
        if status is not None and status.get("pid") == pid and status.get("state") != "starting":
            return
        time.sleep(0.05)


def stop_all(
    files: Files,
    settings: Settings,
    by: str,
    supervisor: Supervisor | None = None,
    *,
    everything: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Stop every bot; with `everything` the yard and the paper exchange after them.

    Answers `{"bots": {id: {"stopped": bool, "warning": str|None, "error": str|None}}, "yard", "paper"}`,
    the last two None where they were not asked for, else True or an error's text. It goes on past errors."""
    keeper, registry = supervisor or make_supervisor(files, settings), Registry(files)
    say = progress or (lambda text: None)
    known: set[int] = set()
    problem: str | None = None
    try:
        known = {r["id"] for r in registry.bots()}
        for bot_id in sorted(known):  # first of all, so that the yard brings none of them back meanwhile
            registry.set_wanted(bot_id, "stopped", f"stop all by {by}")
    except (StateError, OSError) as e:
        problem = str(e)  # a broken list or a full disk must not keep bots from being stopped
    # Also those without a process: the yard may be just about to start one, and holds its action lock.
    todo = sorted(known | set(keeper.running()))

    def stop(bot_id: int) -> dict[str, Any]:
        was_running = False
        try:
            was_running = keeper.pid(bot_id) is not None
            if bot_id in known:
                result = stop_bot(files, settings, bot_id, by, keeper)
            else:  # started by hand, without a record
                with locks.action(files, f"bot_{bot_id}"):
                    keeper.stop(bot_id, by=by)
                result = {"stopped": True, "warning": unwatched(files, bot_id)}
        except (BotyardError, OSError) as e:
            say(f"bot {bot_id}: {e}")
            return {"stopped": False, "warning": None, "error": str(e)}
        if was_running or result["warning"]:
            say(f"bot {bot_id} is stopped" + (f": {result['warning']}" if result["warning"] else ""))
        return {**result, "error": None}

    answer: dict[str, Any] = {"bots": {}, "error": problem, "yard": None, "paper": None}

    def stop_rest(unit: str) -> None:
        answer[unit] = _stop_unit(files, keeper, unit)
        say(f"{unit} is stopped" if answer[unit] is True else str(answer[unit]))

    if everything:
        stop_rest("yard")  # before the bots: it would start guards that book what a stopped bot left
        todo = sorted(known | set(keeper.running()))
    with ThreadPoolExecutor(max_workers=8) as pool:
        answer["bots"] = results = dict(zip(todo, pool.map(stop, todo), strict=True))
    if everything:
        stop_rest("paper")
        files.path(PAPER_WANTED).unlink(missing_ok=True)
    audit(files, by, "stop all", everything=everything, failed=[i for i, r in results.items() if r["error"]])
    return answer


def _stop_unit(files: Files, keeper: Supervisor, unit: str) -> bool | str:
    try:
        with locks.action(files, unit):
            keeper.stop_unit(unit)
    except (BotyardError, OSError) as e:
        return str(e)
    return True


def _allowed(record: dict[str, Any], settings: Settings, guard: bool = False) -> None:
    problem = records.mode_problem(record, settings.trading_mode, guard)
    if problem:
        raise InputError(f"bot {record['id']} can't be started: {problem}")


def _vetted(files: Files, settings: Settings, record: dict[str, Any]) -> None:
    """InputError where a live bot would find its keys dangerous or its symbol gone; nothing keeps a bot from guarding.

    An exchange that doesn't answer is no reason, nor is a wrong clock: the bot itself waits for both."""
    if record["mode"] == "live" and not state.has_open_business(files, record["id"]):
        found = preflight.failures(preflight.short(settings, None, record["symbol"]), AT_EACH_START)
        if found:
            raise InputError(f"bot {record['id']} can't be started: {found}")


@contextlib.contextmanager
def _audited(files: Files, by: str, what: str, bot_id: int) -> Any:
    """Leave one line for an act, with what came of it."""
    begun = time.monotonic()
    outcome = "done"
    try:
        yield
    except BaseException as e:
        outcome = f"{type(e).__name__}: {e}"
        raise
    finally:
        with contextlib.suppress(OSError):  # a full disk must not keep a bot from being stopped
            audit(files, by, what, bot_id, outcome=outcome, ms=int((time.monotonic() - begun) * 1000))
