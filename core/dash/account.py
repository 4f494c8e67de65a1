"""The view "Account & risk": what an account holds, its guards, its request budget; and what a person changes there. Owns no file.

`account` asks the exchange, in the asking request's own thread; `yard` reads files only. What
is changed goes through core/fleet and core/account, as the commands in utils/ do it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from core.account import access, guard_files
from core.account import limits as rules
from core.account.budget import FILE as BUDGET_FILE
from core.account.guards import Guards, Shown
from core.account.members import account_scope, bot_scope
from core.dash.board import Board
from core.dash.hands import asking
from core.dash.market import Unreachable
from core.dash.rows import mode_of
from core.dash.trades import dec
from core.errors import Conflict, ExchangeError, InputError, NotFound, StateError
from core.exchange import Exchange
from core.fleet import control, guarding
from core.fleet import holdings as account_of
from core.fleet import kill as switch
from core.fleet import pot as pots

BY = "dashboard"
WORD = "FLATTEN"  # typed before anything is sold
LEVELS = ("entries", "flatten", "off")
Prices = dict[str, tuple[Any, int]]


# --- what is shown ---------------------------------------------------------------------------


def yard(board: Board) -> dict[str, Any]:
    """`GET /api/yard`: kill switch, maintenance, what bots and units use of the machine. Files only.

    `left`: what is open, also of bots that are not in the list, while everything is being sold or the list
    can't be read: `[{"id", "name", "running", "open", "error"}]`; else empty."""
    with board.lock:
        problem = ""
        try:
            records = board.records()
        except StateError as e:  # the kill switch must be seen and pulled all the same
            records, problem = [], str(e)
        yard_now, now = board.yard(), board.clock_ms()
        told = board.standing.machine(yard_now, records, now)
        told["warnings"] += [problem.rstrip(".")] if problem else []
        stands = {"kill": board.standing.kill(), "maintenance": board.standing.maintenance()}
    left = switch.standing(board.files, board.supervisor) if problem or stands["kill"]["level"] == "flatten" else []
    return {**stands, **told, "left": [asdict(s) for s in left if s.open], "as_of": now}


def account(board: Board, mode: str) -> dict[str, Any]:
    """`GET /api/account?mode=`: `{"mode", "holdings", "error", "guards": {"accounts", "bots", "problem"}, "budgets", "as_of"}`.

    An exchange that can't be asked leaves `holdings` null and says why in `error`; guards are then judged
    by the prices in the bots' heartbeats. InputError for a mode that isn't there."""
    board.market.desk(mode)
    prices, market_ms, rows = _known(board, mode)
    held: dict[str, Any] | None = None
    error = None

    def look(client: Exchange) -> dict[str, Any]:
        nonlocal market_ms
        wanted = sorted({r["symbol"] for r in rows if r["position"]})
        if wanted:
            asked_at = board.clock_ms()
            with contextlib.suppress(ExchangeError):  # one price that is missing: what needs it can't be judged, and says so
                prices.update({s: (p, asked_at) for s, p in client.prices(wanted).items()})
        market_ms = client.time().market_ms
        return account_of.account(board.files, client)

    try:
        held = asking(board, mode, look)
    except (Unreachable, StateError) as e:
        error = str(e)
    return {
        "mode": mode,
        "holdings": held,
        "error": error,
        "guards": _guards(board, mode, rows, prices, market_ms),
        "budgets": budgets(board, mode),
        "as_of": board.clock_ms(),
    }


def _known(board: Board, mode: str) -> tuple[Prices, int, list[dict[str, Any]]]:
    """Prices and market time as the bots of a mode last told them, and the mode's rows."""
    prices: Prices = {}
    market_ms = 0
    rows = [r for r in board.overview()["bots"] if r["mode"] == mode]
    with board.lock:
        for row in rows:
            status = board.watch.look(row["id"]).status or {}
            price, beat, market = status.get("price"), status.get("heartbeat_wall_ms"), status.get("market_ms")
            if isinstance(price, int | Decimal) and isinstance(beat, int) and beat > prices.get(row["symbol"], (0, 0))[1]:
                prices[row["symbol"]] = (Decimal(price), beat)
            if isinstance(market, int):
                market_ms = max(market_ms, market)
    return prices, market_ms, rows


def _guards(board: Board, mode: str, rows: list[dict[str, Any]], prices: Prices, market_ms: int) -> dict[str, Any]:
    """The guards of a mode's accounts, and of its bots that have limits or trips. `problem`: why nothing can be judged."""
    empty: dict[str, Any] = {"accounts": [], "bots": [], "names": _names(), "problem": None}
    try:
        guards = Guards(board.files, board.clock_ms)
        set_limits = guards.account_limits()
        wanted: dict[str, rules.Limits] = {s: set_limits.get(s) or {} for s in _scopes(board, rows, set_limits) if s.startswith(f"{mode}/")}
        wrong: dict[str, str] = {}
        for row in rows:
            scope = bot_scope(row["id"])
            try:
                own = rules.of_record(row)
            except ValueError as e:
                own, wrong[scope] = {}, f"its limits can't be used: they must be {e}"
            if own or scope in wrong or any(t["scope"] == scope for t in row["guards"]):
                wanted[scope] = own
        shown = [_shown(s, board, {bot_scope(r["id"]): r for r in rows}, wrong) for s in guards.show(wanted, prices, market_ms)]
    except StateError as e:
        return {**empty, "problem": str(e)}
    return {**empty, "accounts": [s for s in shown if s["bot"] is None], "bots": [s for s in shown if s["bot"] is not None]}


def _names() -> list[dict[str, Any]]:
    """Every limit there is, for the editor."""
    return [
        {"name": name, "words": rules.WORDS[name], "most": most, "count": name in rules.COUNTS, "account_only": name in rules.ACCOUNT_ONLY}
        for name, most in rules.MOST.items()
    ]


def _shown(s: Shown, board: Board, rows: Mapping[str, Mapping[str, Any]], wrong: Mapping[str, str]) -> dict[str, Any]:
    """One scope, a line for each limit and each trip of one that is no longer set."""
    unknown = {f.limit: f.text for f in s.findings if f.level == "unknown"}
    lines = []
    for name in rules.MOST:
        trips = [t for t in s.trips if t["limit"] == name]
        if name not in s.limits and not trips:
            continue
        levels = s.limits.get(name) or {}
        known = [(coin, v) for coin, v in s.values.get(name) or [] if v is not None]
        coin, value = max(known, key=lambda pair: pair[1]) if known else ("", None)
        at = levels.get("soft") or levels.get("hard")
        hard = any(t["level"] == "hard" for t in trips)
        lines.append(
            {
                "limit": name,
                "words": rules.WORDS[name],
                "count": name in rules.COUNTS,
                "soft": levels.get("soft"),
                "hard": levels.get("hard"),
                "value": None if value is None else round(value, 4),
                "coin": coin,
                "percent": None if value is None or not at else round(value / at * 100, 1),
                "reached": next((f.level for f in s.findings if f.limit == name and f.level in ("hard", "soft")), None),
                "unknown": unknown.get(name),
                "tripped": None if not trips else {"level": "hard" if hard else "soft", "wall_ms": min(t["wall_ms"] for t in trips), "text": trips[0]["text"]},
            }
        )
    row = rows.get(s.scope)
    return {
        "scope": s.scope,
        "bot": row["id"] if row else None,
        "name": row["name"] if row else s.scope,
        "lines": lines,
        "capital": s.facts.capital,
        "problem": wrong.get(s.scope) or None,
        "resets": [dict(r) for r in s.resets[-3:]],
    }


def _scopes(board: Board, rows: list[dict[str, Any]], known: Mapping[str, Any]) -> list[str]:
    """Accounts that a bot trades on, and those that have limits."""
    traded = {account_scope(r["mode"], str(r["account"] or "main"), r["quote"]) for r in rows if r["quote"]}
    return sorted(traded | set(known))


def budgets(board: Board, mode: str) -> list[dict[str, Any]]:
    """The request budget of a mode's host, for each account that its bots use: `{"host", "account", ...Budget.state}`."""
    if not board.files.exists(BUDGET_FILE):
        return []
    found = []
    for name in sorted({str(r.get("account") or "main") for r in board.records() if mode_of(r) == mode} | {"main"}):
        budget = access.gate(board.settings, mode, name)  # type: ignore[arg-type]
        try:
            state = budget.state()
        finally:
            budget.close()
        if state:
            found.append({"host": budget.host, "account": name, **state})
    return found


# --- what is changed ---------------------------------------------------------------------------


def _only(given: Mapping[str, Any], *names: str) -> None:
    unknown = [k[:40] for k in given if k not in names]
    if unknown:
        raise InputError(f"The body has {', '.join(map(repr, unknown))}; it takes {', '.join(names)}")


def flatten_needs_word(board: Board) -> str:
    """Why selling everything needs the typed word: a live bot, an open position, one that can't be told; else ""."""
    try:
        rows = board.overview()["bots"]
    except (StateError, OSError):
        return "what is open can't be told: the list of bots can't be read"
    if any(r["mode"] == "live" for r in rows):
        return "a live bot is in the list"
    if any(r["position"] or r["state_error"] for r in rows):
        return "a position is open"
    return ""


def kill(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"level": "entries"|"flatten"|"off", "confirm"?}`; what core/fleet/kill.py answers. InputError: nothing was changed."""
    _only(given, "level", "confirm")
    level, confirm = given.get("level"), given.get("confirm")
    if not isinstance(level, str) or level not in LEVELS:
        raise InputError(f"level: must be one of {', '.join(LEVELS)}")
    if level == "flatten" and (why := flatten_needs_word(board)) and confirm != WORD:
        raise InputError(f"confirm: type {WORD}, in capitals, to sell everything ({why})")
    if level == "off":
        switch.lift(board.files, board.settings, BY, board.supervisor)
        done: dict[str, Any] = {}
    else:
        done = switch.pull(board.files, board.settings, level, BY, board.supervisor, begin=board.see_flatten_through)
    with board.lock:
        return {**done, "kill": board.standing.kill()}


def set_maintenance(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """`{"on": true|false, "note"?}`; waits until every bot has stopped. As control.set_maintenance answers."""
    _only(given, "on", "note")
    on, note = given.get("on"), given.get("note", "")
    if not isinstance(on, bool):
        raise InputError("on: must be true or false")
    if note is not None and not isinstance(note, str):
        raise InputError("note: must be a text")
    return control.set_maintenance(board.files, board.settings, on, BY, note or "", board.supervisor)


def _account_named(board: Board, given: Mapping[str, Any]) -> str:
    """The account's scope that a body names, by `scope` or by mode, quote and account. InputError, NotFound where no bot trades there."""
    scope = given.get("scope")
    if scope is None and given.get("mode") is not None:
        parts = (given.get("mode"), given.get("account") or "main", given.get("quote"))
        if not all(isinstance(p, str) for p in parts):
            raise InputError('The body must name an account, such as {"mode": "paper", "quote": "USDT"}')
        scope = "/".join(str(p) for p in parts)
    if not isinstance(scope, str) or not re.fullmatch(r"[a-z]{1,10}/[a-z0-9_\-]{1,30}/[A-Z0-9]{1,30}", scope, re.ASCII):
        raise InputError("scope: must be mode/account/quote asset, such as paper/main/USDT")
    known = _scopes(board, board.overview()["bots"], guard_files.read_accounts(board.files))
    if scope not in known:
        raise NotFound(f"No bot trades on the account {scope}; there is {', '.join(known) or 'none yet'}")
    return scope


def set_guards(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an account's limits: `{"scope"| "mode"+"quote"(+"account"), "limits": {name: {"soft", "hard"}}}`."""
    _only(given, "scope", "mode", "quote", "account", "limits", "before")
    scope, limits = _account_named(board, given), given.get("limits")
    if isinstance(limits, Mapping):  # a form sends what was left empty, too
        limits = {k: {n: x for n, x in v.items() if x != ""} if isinstance(v, Mapping) else v for k, v in limits.items()}
    if not isinstance(limits, Mapping):
        raise InputError(f"limits: they must be an object of limits such as {rules.EXAMPLE}")
    if given.get("before") is not None and _levels(given["before"]) != _levels(guarding.limits_of(board.files, scope)):
        raise Conflict("these limits were changed by somebody else meanwhile; look again, then set yours")
    return {"scope": scope, "limits": guarding.set_limits(board.files, scope, limits, BY)}


def _levels(limits: Any) -> dict[str, dict[str, Decimal | None]]:
    """The levels that are set, for a comparison."""
    if not isinstance(limits, Mapping):
        raise InputError("before: it must be the limits as they were shown")
    found: dict[str, dict[str, Decimal | None]] = {}
    for name, both in limits.items():
        levels: dict[str, Decimal | None] = {k: dec(v) for k, v in both.items() if v is not None} if isinstance(both, Mapping) else {"soft": dec(both)}
        if levels:
            found[str(name)] = levels
    return found


def reset_guard(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """Begin a limit's measure anew: `{"bot"|"scope", "limit": name|"all"}`. Answers what had tripped."""
    _only(given, "bot", "scope", "limit")
    bot, limit = given.get("bot"), given.get("limit")
    if (bot is None) == (given.get("scope") is None):
        raise InputError("The body must name either bot (its number) or scope (an account such as paper/main/USDT)")
    if not isinstance(limit, str):
        raise InputError(f"limit: must be all or one of {', '.join(rules.MOST)}")
    if bot is None:
        scope = _account_named(board, {"scope": given["scope"]})
    elif isinstance(bot, int) and not isinstance(bot, bool) and bot > 0:
        scope = bot_scope(board.registry.bot(bot)["id"])
    else:
        raise InputError("bot: must be a bot's number, such as 1")
    return {"scope": scope, "limit": limit, "tripped": guarding.reset(board.files, scope, limit, BY)}


def change_pot(board: Board, bot_id: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Top a pot up or pay out: `{"amount": 100|-50}`; pot before and after, the bot's new row."""
    _only(given, "amount")
    amount = given.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal | str):
        raise InputError("amount: must be a number other than 0, such as 100 to top up or -50 to pay out")
    mode = mode_of(board.registry.bot(bot_id))
    changed = asking(board, mode, lambda c: pots.change_pot(board.files, board.settings, bot_id, amount, BY, c), bring_up=True)
    return {**asdict(changed), "bot": board.row(bot_id)}


def cancel_orphan(board: Board, given: Mapping[str, Any]) -> dict[str, Any]:
    """Take back an order of this yard that no bot knows: `{"mode", "client_id"}`; what became of it, in words."""
    _only(given, "mode", "client_id")
    mode, client_id = given.get("mode", "paper"), given.get("client_id")
    if not isinstance(mode, str) or not isinstance(client_id, str) or not 1 <= len(client_id) <= 64:
        raise InputError('The body must be such as {"mode": "paper", "client_id": "by..."}')
    update = asking(board, mode, lambda c: account_of.cancel_orphan(board.files, c, client_id, BY))
    return {"text": account_of.words(update)}
