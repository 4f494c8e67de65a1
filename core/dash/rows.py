"""A bot's line in the overview, and the totals. Pure: files have been read already.

Amounts are in the symbol's quote asset. Times named `*_at` are market ms, `*_wall` wall ms.
Totals are kept per mode and quote asset: play money and money never meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from core.account import pots
from core.dash.trades import ZERO, amount, cash, dec, neat, owned, pct
from core.dash.watch import BotState
from core.fleet import state

FRESH_MS = 60_000  # a heartbeat's price older than this is not shown as the current one
SUMS = ("profit", "unrealised", "invested", "open_value", "pots")
COUNTS = ("trades", "wins", "bots", "running", "positions")
OPTIONAL = (
    "exchange", "market", "account", "params", "sizing", "timeframe", "lookback", "check_interval", "offset",
    "stop_loss_pct", "take_profit_pct", "cooldown_checks", "limits",
    "protection", "trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles",
    "max_spread_pct", "max_slippage_pct", "sizing_pct", "risk_pct", "max_entry",
    "follow_recommended", "symbols",
)  # fmt: skip


def mode_of(record: Mapping[str, Any]) -> str:
    """A bot whose record names no mode is paper."""
    return str(record.get("mode") or "paper")


def quote_of(record: Mapping[str, Any], position: Mapping[str, Any] | None, known: Callable[[str, str], str | None]) -> str | None:
    """The quote asset: from the position file, else from what the exchange has said of the symbol."""
    if position and position.get("quote"):
        return str(position["quote"])
    return known(mode_of(record), str(record.get("symbol") or ""))


def row(
    record: Mapping[str, Any],
    state: BotState,
    health: Mapping[str, Any],
    *,
    running: bool,
    watched: bool,
    now_wall_ms: int,
    quote: str | None,
    price_now: tuple[Decimal, int] | None = None,
    last_decision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One bot of `/api/overview`.

    `watched`: it runs, be it as a guard only. `price_now` is the exchange's last price with
    its wall time, used where the bot's own heartbeat is too old to be called current.
    """
    position, status = state.position or {}, state.status or {}
    totals = position.get("totals") or {}
    traded = "profit" in totals
    profit = amount(totals.get("profit")) if traded else amount(record.get("profit"))
    trades = int(amount(totals.get("trades") if traded else record.get("trades")))
    wins = int(amount(totals.get("wins")))
    last = status.get("last_check") or last_decision or {}
    activity, activity_wall = state.log.activity()
    exit_word = status.get("exit") or {}
    warned = [w for w in status.get("warnings") or [] if isinstance(w, Mapping)]
    notices = [str(w.get("text")) for w in warned]
    why = str(health.get("why") or "")
    shown = {
        "id": record.get("id"),
        "name": record.get("name"),
        "symbol": record.get("symbol"),
        "strategy": record.get("strategy"),
        "trade_amount": dec(record.get("trade_amount")),
        "mode": mode_of(record),
        "quote": quote,
        "status": health.get("status"),
        "guarded": bool(health.get("guarded")),
        "wanted": record.get("status"),
        "why": state.error or why,
        "profit": profit,
        "profit_pct": _percent(record, position, profit),
        "paid_out": _paid_out(record, position),
        "pot": _pot(record, position),
        "trades": trades,
        "wins": wins,
        "win_rate": pct(Decimal(wins), Decimal(trades)) if trades else None,
        "position": _position(position, status, watched, now_wall_ms, price_now),
        "dust": amount(position.get("dust")),
        "last_signal": _signal(last),
        "why_no_trade": _why_not(last, running, exit_word, state.error, why),
        "last_activity": activity,
        "last_activity_wall": activity_wall,
        "next_check_at": status.get("next_check_ms") if running else None,
        "next_check_wall": status.get("next_check_wall_ms") if running else None,
        "heartbeat_wall": status.get("heartbeat_wall_ms"),
        "speed": status.get("speed"),
        "regime": status.get("regime") if running else None,
        "unresolved": bool(status.get("unresolved")) or bool(position.get("pending_order")),
        "warnings": state.log.warnings,
        "errors": state.log.errors + (1 if state.error else 0),
        "problems": list(state.log.problems)[-5:],
        "notices": notices,
        # The bot's word on coins of its own that the account no longer holds; its owner must choose (commands.CHOICES).
        "missing": next((str(w.get("text")) for w in warned if w.get("kind") == "foreign"), None),
        "skip_entries": int(amount(position.get("skip_entries"))),
        "state_error": state.error,
        "exit": exit_word or None,
    }
    for name in OPTIONAL:
        shown[name] = record.get(name)
    return shown


def _percent(record: Mapping[str, Any], position: Mapping[str, Any], profit: Decimal) -> Decimal | None:
    """None for files that hold something else than numbers: the page shows what can be read of them."""
    try:
        return pots.profit_pct(record, position, profit)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return None


def _paid_out(record: Mapping[str, Any], position: Mapping[str, Any]) -> Decimal:
    try:
        return pots.paid_out(record, position)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return ZERO


def _pot(record: Mapping[str, Any], position: Mapping[str, Any]) -> Decimal | None:
    """The whole pot, None for a bot without one of its own, and where the files can't tell."""
    try:
        return None if record.get("sizing") in pots.POTLESS else neat(pots.pot_of(record, position))
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        return None


def _signal(last: Mapping[str, Any]) -> dict[str, Any] | None:
    if not last.get("signal"):
        return None
    return {
        "signal": last.get("signal"),
        "reasoning": last.get("reasoning") or "",
        "action": last.get("action"),
        "price": dec(last.get("price")),
        "at": last.get("market_ms"),
        "wall": last.get("wall_ms"),
    }


def _why_not(last: Mapping[str, Any], running: bool, exit_word: Mapping[str, Any], error: str | None, why: str) -> str | None:
    """What kept the bot from trading, the weightiest reason first; null when nothing did."""
    if error:
        return f"Its state can't be read: {error}"
    if not running:
        reason = exit_word.get("reason")
        return why or (f"It is not running: {reason}" if reason else "It is not running.")
    if last.get("why_not"):
        return str(last["why_not"])
    if not last:
        return "It has not checked yet."
    action = last.get("action")
    if last.get("signal") == "HOLD" and action in (None, "", "none"):
        return "Its strategy says HOLD."
    return None


def _position(
    position: Mapping[str, Any], status: Mapping[str, Any], watched: bool, now_wall_ms: int, price_now: tuple[Decimal, int] | None
) -> dict[str, Any] | None:
    side = position.get("position")
    if not side:
        return None
    heartbeat = status.get("heartbeat_wall_ms") or 0
    price, price_wall = dec(status.get("price")), int(heartbeat)
    if price_now is not None and (price is None or price_now[1] > price_wall):
        price, price_wall = price_now
    entry, quantity = dec(position.get("entry_price")), amount(position.get("quantity"))
    fills = [f for f in position.get("fills") or [] if isinstance(f, Mapping)]
    base, quote = str(position.get("base") or ""), str(position.get("quote") or "")
    profit = spent = None
    if price is not None and fills:
        named = [{**f, "quote_asset": quote} for f in fills]
        profit = cash(named) + owned(named, base) * price
        entry_side = "SELL" if side == "SHORT" else "BUY"
        spent = sum((amount(f.get("quote")) for f in fills if f.get("side") == entry_side), ZERO)
    elif price is not None and entry is not None:
        profit = (price - entry) * quantity * (-1 if side == "SHORT" else 1)
    if not spent and entry is not None:
        spent = entry * quantity
    protection = position.get("protection")
    return {
        "side": side,
        "entry_price": neat(entry),
        "quantity": quantity,
        "stop_loss": dec(position.get("stop_loss")),
        "take_profit": dec(position.get("take_profit")),
        "price": price,
        "price_wall": price_wall or None,
        "price_stale": price is None or now_wall_ms - price_wall > FRESH_MS,
        "profit": neat(profit),
        "profit_pct": pct(profit, spent) if profit is not None and spent else None,
        "invested": neat(spent),
        "value": neat(quantity * price) if price is not None else None,
        "opened_at": position.get("opened_ms") or position.get("timestamp"),
        "protection": protection,
        # Nobody looks after it: neither bot nor guard is running, and the exchange holds no stop.
        "unwatched": not watched and (protection != "exchange" or state.exposed(position)),
    }


def attention(row: Mapping[str, Any]) -> list[str]:
    """Why a person should look at this bot, the weightiest first; empty where all is well. `row` is the overview's."""
    position = row["position"]
    reasons = {
        "unwatched": position is not None and position["unwatched"],
        "unreadable": row["state_error"] is not None,
        "missing": row["missing"] is not None,
        str(row["status"]): row["status"] in ("crashed", "stuck"),
        "guard": bool(row["guards"]),
        "errors": row["errors"] > 0,
    }
    return [reason for reason, holds in reasons.items() if holds]


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """{mode: {quote: sums}}; bots whose quote asset isn't known yet add nothing."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for r in rows:
        if not r["quote"]:
            continue
        t = found.setdefault(r["mode"], {}).setdefault(
            r["quote"],
            {**dict.fromkeys(SUMS, ZERO), **dict.fromkeys(COUNTS, 0)},
        )
        t["profit"] += r["profit"]
        t["trades"] += r["trades"]
        t["wins"] += r["wins"]
        t["bots"] += 1
        t["running"] += r["status"] in ("running", "starting", "stuck")
        t["pots"] += (r["trade_amount"] or ZERO) + r["profit"] - r["paid_out"]
        p = r["position"]
        if p:
            t["positions"] += 1
            t["invested"] += p["invested"] or ZERO
            t["open_value"] += p["value"] or ZERO
            t["unrealised"] += p["profit"] or ZERO
    for quotes in found.values():
        for t in quotes.values():
            t["win_rate"] = pct(Decimal(t["wins"]), Decimal(t["trades"])) if t["trades"] else None
    return found
