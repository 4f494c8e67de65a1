"""The yard's look at all guards: judges every bot and account by prices handed in, and tells what tripped.

`Guarding.look` is called by the keeper's thread (core/fleet/keeper.py), once per mode and
account. Running bots obey the state that it writes; for a stopped bot with a position open in
a scope that is to be flat, a guard is started, which sells and ends. Owns no file of its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from core import notify
from core.account import guard_files
from core.account import limits as rules
from core.account.guards import Guards, Prices, Shown
from core.account.limits import Limits
from core.account.members import Member, account_scope, bot_scope
from core.clock import wall_ms
from core.config import Settings
from core.errors import BotyardError, ExchangeError, InputError, NotFound, StateError
from core.fleet import kill, state
from core.fleet.audit import audit
from core.fleet.registry import Registry
from core.fleet.supervisor import Supervisor
from core.model import Event, Venue
from core.storage import Files

AGAIN_S = 10.0  # a guard that could not be started is tried again
log = logging.getLogger("botyard.guards")


def scopes_of(members: Mapping[int, Member], accounts: Mapping[str, Limits], mode: str = "", account: str = "") -> dict[str, Limits]:
    """Every scope that has limits, of one mode and account or ("") of all."""
    found: dict[str, Limits] = {}
    for name, limits in accounts.items():
        parts = name.split("/")
        if (not mode or parts[0] == mode) and (not account or parts[1] == account):
            found[name] = limits
    for m in members.values():
        if (not mode or m.mode == mode) and (not account or m.account == account):
            try:
                mine = rules.of_record({"limits": m.limits})
            except ValueError as e:
                log.warning("bot %d: its limits can't be used, they must be %s", m.bot_id, e)
                continue
            if mine:
                found[bot_scope(m.bot_id)] = mine
    return found


class Guarding:
    """One mode and account. Not shared between threads."""

    def __init__(self, files: Files, supervisor: Supervisor, settings_now: Callable[[], Settings], *, wall: Callable[[], int] = wall_ms):
        self.files, self.supervisor, self._settings_now = files, supervisor, settings_now
        self.guards = Guards(files, wall)
        self.problem = ""
        self._wall = wall
        self._sent: dict[int, float] = {}

    def look(self, prices: Mapping[str, tuple[Decimal, int]], venue: Venue, market_ms: int) -> None:
        """Judge everything of this venue. What fails is told once, and tried again at the next look."""
        try:
            members = self.guards.members.read(guard_files.bots_of(self.guards.state()))
            scopes = scopes_of(members, self.guards.account_limits(), venue.mode, venue.account)
            _, news = self.guards.look(scopes, prices, market_ms)
            self._post(news)
            self.problem = ""
        except ExchangeError as e:
            log.info("the guards were not judged: %s", e)  # their lock was held: the next look
        except (BotyardError, OSError) as e:
            if str(e) != self.problem:
                self.problem = str(e)
                log.error("%s", e)
                text = f"The guards can't judge, and nothing is bought until this is mended: {e}"
                self._post([Event("guards_broken", text, "risk", None, market_ms, self._wall(), {"mode": venue.mode})])
        self._send_guards(venue, market_ms)

    def _send_guards(self, venue: Venue, market_ms: int) -> None:
        """Stopped bots with something open in a scope that must be flat."""
        try:
            records = Registry(self.files).bots()
        except (BotyardError, OSError):
            return
        for record in records:
            bot_id = record["id"]
            if record["status"] != "stopped" or (record["mode"], record["account"]) != (venue.mode, venue.account):
                continue
            if time.monotonic() < self._sent.get(bot_id, 0) or not state.has_open_business(self.files, bot_id) or self.supervisor.pid(bot_id) is not None:
                continue
            try:
                quote = str((state.read_position(self.files, bot_id) or {}).get("quote"))
            except (StateError, OSError):
                continue
            order = self.guards.order(bot_id, account_scope(venue.mode, venue.account, quote), market_ms)
            if order.flatten:
                self._sent[bot_id] = time.monotonic() + AGAIN_S
                log.warning("bot %d: %s; a guard is started that sells", bot_id, order.flatten)
                threading.Thread(target=self._send, args=(bot_id,), name=f"guard {bot_id}", daemon=True).start()

    def _send(self, bot_id: int) -> None:
        try:
            problem = kill.send_guard(self.files, self._settings_now(), self.supervisor, bot_id)
        except Exception as e:  # noqa: BLE001 - whatever it was, the next look tries again
            problem = f"{type(e).__name__}: {e}"
        if problem:
            log.warning("bot %d: the guard could not be started: %s", bot_id, problem)

    def _post(self, news: list[Event]) -> None:
        for event in news:
            log.warning("%s", event.text)
            try:
                notify.post(self.files, event)
            except OSError as e:
                log.error("an event can't be written: %s", e)


# --- for page and command --------------------------------------------------------------------


def view(files: Files) -> dict[str, Any]:
    """Every scope with limits as it stands, by the prices that the bots' status files tell.

    `{"switch", "error", "scopes": [{"scope", "limits", "rows": [{"limit", "coin", "value", "soft", "hard",
    "percent_of_level", "level"}], "trips", "resets", "problem"}]}`; `level`: ok, warning, soft, hard or unknown."""
    guards = Guards(files, wall_ms)
    answer: dict[str, Any] = {"switch": None, "error": "", "scopes": []}
    try:
        answer["switch"] = guards.kill_switch()
        members = guards.members.read(guard_files.bots_of(guards.state()))
        answer["error"] = guards.members.records_problem
        scopes = scopes_of(members, guards.account_limits())
        for name in guards.state()["scopes"]:
            scopes.setdefault(name, {})
        prices, market = _known_prices(files, members)
        for scope, limits in sorted(scopes.items()):
            mode = scope.split("/")[0] if "/" in scope else next((m.mode for m in members.values() if bot_scope(m.bot_id) == scope), "paper")
            shown = guards.show({scope: limits}, prices.get(mode, {}), market.get(mode, wall_ms()))[0]
            if limits or shown.trips:
                answer["scopes"].append(_rows(shown))
    except (BotyardError, OSError) as e:
        answer["error"] = str(e)
    return answer


def _known_prices(files: Files, members: Mapping[int, Member]) -> tuple[dict[str, dict[str, tuple[Decimal, int]]], dict[str, int]]:
    prices: dict[str, dict[str, tuple[Decimal, int]]] = {}
    market: dict[str, int] = {}
    for m in members.values():
        status = state.read_status(files, m.bot_id) or {}
        wall, price = status.get("heartbeat_wall_ms"), status.get("price")
        if isinstance(price, int | Decimal) and isinstance(wall, int) and status.get("symbol"):
            known = prices.setdefault(m.mode, {})
            if known.get(status["symbol"], (0, 0))[1] < wall:
                known[status["symbol"]] = (Decimal(price), wall)
        if isinstance(status.get("market_ms"), int) and isinstance(wall, int) and wall_ms() - wall < 60_000:
            market[m.mode] = max(market.get(m.mode, 0), status["market_ms"])
    return prices, market


def _rows(shown: Shown) -> dict[str, Any]:
    rows = []
    for name, levels in shown.limits.items():
        for coin, value in shown.values[name]:
            of = levels.get("soft", levels.get("hard"))
            reached = next((f.level for f in shown.findings if f.limit == name and f.coin == coin and f.level != "warning"), "")
            near = any(f.limit == name and f.coin == coin for f in shown.findings)
            share = None if value is None or not of else (value / of * 100).quantize(Decimal("0.1"))
            row = {"limit": name, "coin": coin, "value": None if value is None else value.quantize(Decimal("0.01")), "percent_of_level": share}
            rows.append({**row, "soft": levels.get("soft"), "hard": levels.get("hard"), "level": reached or ("warning" if near else "ok")})
    trips = [dict(t) for t in shown.trips]
    problem = shown.facts.problem or shown.facts.history_problem
    return {"scope": shown.scope, "limits": shown.limits, "rows": rows, "trips": trips, "resets": list(shown.resets)[-10:], "problem": problem}


def traded(files: Files, scope: str) -> tuple[set[str], dict[int, str]]:
    """(accounts that bots trade in, the symbols of bots that may be of `scope`: what a bot trades against is in its files once it has bought).

    BotyardError, OSError."""
    guards = Guards(files, wall_ms)
    members = guards.members.read(guard_files.bots_of(guards.state()))
    if guards.members.records_problem:
        raise BotyardError(guards.members.records_problem)
    known = {m.account_scope for m in members.values() if m.account_scope}
    return known, {m.bot_id: m.symbol for m in members.values() if m.quote is None and scope.startswith(f"{m.mode}/{m.account}/")}


def reset(files: Files, scope: str, limit: str, by: str) -> list[str]:
    """Take the trips of a limit (or `all`) back and begin its measure anew; the limits that had tripped.

    InputError (no such limit or scope), StateError, OSError."""
    _known(files, scope)
    gone = Guards(files, wall_ms).reset(scope, limit, by)
    _tell(files, by, "guard reset", f"The guards of {scope} were reset by {by} ({limit}).", scope=scope, limit=limit, tripped=gone)
    return gone


def set_limits(files: Files, scope: str, limits: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Replace the guards' limits of a bot (its record) or an account (guards.json); what they are now. InputError, StateError, OSError."""
    _known(files, scope)
    if scope.startswith("bot_"):
        bot_id, registry = int(scope[4:]), Registry(files)
        others = {k: v for k, v in (registry.bot(bot_id).get("limits") or {}).items() if k not in rules.MOST}
        clean: dict[str, Any] = dict(registry.update(bot_id, {"limits": {**others, **limits}}, by).get("limits") or {})
        return {k: v for k, v in clean.items() if k in rules.MOST}
    clean = dict(guard_files.set_limits(files, scope, limits))
    _tell(files, by, "guard limits", f"The limits of {scope} were changed by {by}.", scope=scope, limits=clean)
    return clean


def limits_of(files: Files, scope: str) -> dict[str, Any]:
    """The guards' limits of a bot or an account as they stand."""
    _known(files, scope)
    if scope.startswith("bot_"):
        return dict(rules.of_record(Registry(files).bot(int(scope[4:]))))
    return dict(guard_files.read_accounts(files).get(scope) or {})


def _known(files: Files, scope: str) -> None:
    if scope.startswith("bot_"):
        if not scope[4:].isascii() or not scope[4:].isdigit():
            raise InputError(f"{scope[:40]!r} is no bot; it must be bot_N")
        with contextlib.suppress(NotFound):
            Registry(files).bot(int(scope[4:]))
            return
        if not files.exists(f"{scope}_position.json"):
            raise NotFound(f"there is no bot {scope[4:]}")
        return
    try:
        guard_files.check_scope(scope)
    except ValueError as e:
        raise InputError(str(e)) from None


def _tell(files: Files, by: str, what: str, text: str, **detail: Any) -> None:
    with contextlib.suppress(OSError):
        audit(files, by, what, None, **detail)
    with contextlib.suppress(OSError):
        notify.post(files, Event(what.replace(" ", "_"), text, "warning", wall_ms=wall_ms()))


__all__ = ["Guarding", "Prices", "limits_of", "reset", "set_limits", "view"]
