"""The kill switch in a person's hand, for page and command alike: no entries anywhere, or everything sold.

The switch is written and fsynced first (data/kill.json, core/account/guard_files.py); then every
running bot is woken, and for stopped bots with a position open a guard is started, which sells
and ends. It works with the yard dead and with the page dead: every bot looks at the switch
itself at each step. What hangs or is dead is core/fleet/flattening.py's. Owns no other file.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from core import notify
from core.account import guard_files
from core.clock import wall_ms
from core.config import Settings
from core.errors import AlreadyRunning, BotyardError, InputError, NotFound, StateError
from core.fleet import control, locks, records, reserve, state
from core.fleet.audit import audit
from core.fleet.processes import Handle, handles_signal
from core.fleet.registry import Registry
from core.fleet.supervisor import Supervisor
from core.model import Event
from core.storage import Files


@dataclass(frozen=True, slots=True)
class Standing:
    """One bot under the switch. `open`: what it still has open, None when flat; `error`: why that can't be told or ended."""

    id: int
    name: str
    running: bool
    open: str | None
    error: str = ""


def pull(
    files: Files, settings: Settings, what: str, by: str, supervisor: Supervisor | None = None, *, guards: bool = True, begin: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Pull the switch: `entries` or `flatten`. Answers `{"what", "woken": [ids], "guards": [ids], "errors": {id: text}}`.

    `begin` is called for a flatten once the switch is written; without `guards` stopped bots are left to it.
    Raises InputError (no such way), OSError when the switch can't be written: nothing has happened then."""
    keeper = supervisor or control.make_supervisor(files, settings)
    try:
        guard_files.write_kill(files, what, by, wall_ms())
    except OSError:
        if not reserve.give_back(files):
            raise
        guard_files.write_kill(files, what, by, wall_ms())
    answer: dict[str, Any] = {"what": what, "woken": wake_all(files, keeper), "guards": [], "errors": {}}
    if what == "flatten" and begin is not None:
        begin()
    if what == "flatten" and guards:
        answer["guards"], answer["errors"] = send_guards(files, settings, keeper)
    words = {"entries": "no bot buys any more", "flatten": "everything is being sold, and no bot buys any more"}[what]
    _tell(files, by, f"The kill switch was pulled by {by}: {words}. It is lifted by hand only.", "risk", answer)
    return answer


def lift(files: Files, settings: Settings, by: str, supervisor: Supervisor | None = None) -> None:
    """Lift the switch; bots buy again when their strategies say so and no guard has tripped. OSError: it is still on."""
    guard_files.write_kill(files, None, by, wall_ms())
    reserve.keep(files)
    wake_all(files, supervisor or control.make_supervisor(files, settings))
    _tell(files, by, f"The kill switch was lifted by {by}: bots may buy again.", "warning", {"what": None})


def read(files: Files) -> dict[str, Any] | None:
    """`{"what", "by", "wall_ms"}`, None while it is off. StateError: then nothing is bought either."""
    return guard_files.read_kill(files)


def wake_all(files: Files, keeper: Supervisor) -> list[int]:
    """SIGUSR1 to every running bot that hears it; the others find the switch at their first step."""
    woken = []
    for bot_id in sorted(keeper.running()):
        with contextlib.suppress(OSError, BotyardError):
            pid = keeper.pid(bot_id)
            if pid is None:
                continue
            with Handle(pid) as process:
                ready = handles_signal(pid, signal.SIGUSR1)
                if ready is None:  # the system doesn't tell: a bot with a status of its own has its handler
                    status = state.read_status(files, bot_id)
                    ready = bool(status and status.get("pid") == pid)
                if ready and keeper.pid(bot_id) == pid:
                    process.signal(signal.SIGUSR1)
                    woken.append(bot_id)
    return woken


def send_guards(files: Files, settings: Settings, keeper: Supervisor) -> tuple[list[int], dict[int, str]]:
    """A guard for each bot that has something open and no process; (those started, what kept others from it)."""
    started, errors = [], {}
    todo = [s for s in standing(files, keeper) if s.open and not s.running]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for s, problem in zip(todo, pool.map(lambda s: send_guard(files, settings, keeper, s.id), todo), strict=True):
            if problem:
                errors[s.id] = problem
            else:
                started.append(s.id)
    return started, errors


def send_guard(files: Files, settings: Settings, keeper: Supervisor, bot_id: int, wait_s: float = 20) -> str:
    """Start a guard, which obeys the switch and the guards by itself; "" or what kept it from being started.

    `wait_s`: how long somebody else may be at this bot."""
    try:
        record = record_for(files, bot_id)
        problem = records.mode_problem(record, settings.trading_mode, guard=True)
        if problem:
            return problem
        with locks.action(files, f"bot_{bot_id}", wait_s):
            if keeper.pid(bot_id) is None:
                start_guard(files, settings, keeper, record)
    except (BotyardError, OSError) as e:
        return str(e)
    return ""


def record_for(files: Files, bot_id: int) -> dict[str, Any]:
    """What a guard of this bot is started with: its record, or, for a paper bot that runs without one, what its position file tells.

    Raises StateError, and NotFound where even that is too little."""
    try:
        return Registry(files).bot(bot_id)
    except NotFound:
        position = state.read_position(files, bot_id) or {}
        venue, strategy, symbol = position.get("venue"), position.get("strategy"), position.get("symbol")
        if not isinstance(venue, Mapping) or venue.get("mode") != "paper" or not isinstance(strategy, Mapping) or not symbol:
            raise
        amount = Decimal(str(position.get("initial_investment") or 1))  # a guard buys nothing: any amount above 0 will do
        what = {"id": bot_id, "name": f"Bot {bot_id}", "symbol": str(symbol), "strategy": str(strategy.get("key") or "none")}
        return {**what, "trade_amount": max(amount, Decimal(1)), "mode": "paper", "account": venue.get("account") or "main", "status": "stopped"}


def start_guard(files: Files, settings: Settings, keeper: Supervisor, record: Mapping[str, Any]) -> None:
    """The start itself, for who holds the bot's action lock. Raises what Supervisor.start raises, but AlreadyRunning."""
    if record["mode"] == "paper" and keeper.unit_pid("paper") is None:
        control.want_paper(files)
        control.ensure_yard(files, settings, keeper)  # the yard starts the paper exchange
    with contextlib.suppress(AlreadyRunning):
        keeper.start(record, guard=True)


def standing(files: Files, keeper: Supervisor) -> list[Standing]:
    """Every bot that the list, a position file or a process knows of."""
    names: dict[int, str] = {}
    with contextlib.suppress(BotyardError, OSError):
        names = {r["id"]: str(r["name"]) for r in Registry(files).bots()}
    running = set(keeper.running())
    found = set(names) | running
    for path in files.home.glob("bot_*_position.json"):
        middle = path.name[4:-14]
        if middle.isascii() and middle.isdigit():
            found.add(int(middle))
    result = []
    for bot_id in sorted(found):
        error, business = "", None
        try:
            business = state.open_business(state.read_position(files, bot_id))
        except (StateError, OSError) as e:
            error, business = str(e), "nobody knows what is open"
        result.append(Standing(bot_id, names.get(bot_id, f"bot {bot_id}"), bot_id in running, business, error))
    return result


def report(files: Files, keeper: Supervisor) -> dict[str, Any]:
    """`{"switch": {...}|None, "error", "bots": [Standing], "open": count}` for a page or a script."""
    switch, error = None, ""
    try:
        switch = read(files)
    except StateError as e:
        error = str(e)
    bots = standing(files, keeper)
    return {"switch": switch, "error": error, "bots": [asdict(s) for s in bots], "open": sum(1 for s in bots if s.open)}


def check(what: str) -> None:
    if what not in guard_files.KILLS:
        raise InputError(f"{what[:40]!r} is no way to pull the kill switch; it must be one of {', '.join(guard_files.KILLS)}")


def _tell(files: Files, by: str, text: str, severity: Any, detail: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # a full disk must not keep anybody from being told on the screen
        audit(files, by, "kill switch", None, switch=detail)
    with contextlib.suppress(OSError):
        notify.post(files, Event("kill_switch", text, severity, wall_ms=wall_ms()))
