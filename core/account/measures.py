"""What is measured from where: the day's base, the peak, the bots that came and went. Pure.

A scope's part of the guards' state:
    day           UTC date of market time that the bases belong to; "" : they begin at the next look
    members       bot id → first (its value when it was first seen), value (at the day's start),
                  last (when it was last written), capital (at the day's start), ident (its market)
    gone, gone_day  what bots that left had made, in all and on this day
    peak, peak_capital, peak_since  the highest value so far, the capital then, and the wall ms of its beginning
    trips, told, resets, reset_wall  what tripped, what was told on which day, who reset what when

A bot's value is what it made so far, realised and unrealised: money given to it or taken out
of it moves its capital, never its value. All money is in the scope's quote asset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from core.account.limits import DAILY, Facts
from core.account.members import Member, Trade
from core.model import ZERO

PEAK_STEP = Decimal("0.001")  # of the capital: a peak is written when it rose by so much; between, it is in memory
BACK_MS = 3_600_000  # clocks of two processes differ: midnight is not taken back within this time


@dataclass(frozen=True, slots=True)
class Measured:
    facts: Facts
    day: str
    changed: bool  # the state is worth a write


def entry_of(state: dict[str, Any], scope: str) -> dict[str, Any]:
    """The scope's part of the state, made where there is none."""
    part: dict[str, Any] = state["scopes"].setdefault(scope, {})
    for name, empty in (("day", ""), ("members", {}), ("gone", ZERO), ("gone_day", ZERO), ("peak", None), ("peak_capital", ZERO), ("peak_since", 0)):
        part.setdefault(name, empty)
    for name, none in (("trips", {}), ("told", {}), ("resets", []), ("reset_wall", {})):
        part.setdefault(name, none)
    return part


def measure(
    state: dict[str, Any],
    scope: str,
    members: Mapping[int, Member],
    worth: Mapping[str, Decimal | None],
    market_ms: int,
    wall_ms: int,
    memory: dict[str, Any],
    problem: str = "",
    count_trades: bool = True,
) -> Measured:
    """Bring the scope's part of the state up to date, and say what its members come to.

    `worth`: usable prices by symbol. `memory` is this process's own, kept between looks. What can't be
    told leaves the state as it is: no base is set and nobody leaves while a file or a price is missing."""
    part = entry_of(state, scope)
    history = "; ".join(m.history_problem or m.problem for m in members.values() if m.history_problem or m.problem) or problem
    problem = problem or "; ".join(m.problem for m in members.values() if m.problem)
    day = _day(part["day"], market_ms)
    trades = None if history or not count_trades else _trades(members, part["reset_wall"], day)
    lost, today = trades if trades is not None else (None, None)
    count = None if problem else sum(1 for m in members.values() if m.direction is not None or m.entering)
    values = {i: m.value(worth.get(m.symbol)) for i, m in members.items()}
    missing = sorted({m.symbol for i, m in members.items() if values[i] is None})
    if missing:
        problem = problem or f"the price of {', '.join(missing)} is missing, late or not a price"
    if problem:
        return Measured(Facts(None, None, None, None, lost, today, count, None, problem, history), day, False)
    known = {i: v for i, v in values.items() if v is not None}
    changed = _bases(part, members, known, day, memory)
    rows = part["members"]
    profit = part["gone_day"] + sum((known[i] - rows[str(i)]["value"] for i in known), ZERO)
    capital = sum((max(rows[str(i)]["capital"], members[i].cost) for i in known), ZERO)
    value = part["gone"] + sum((known[i] - rows[str(i)]["first"] for i in known), ZERO)
    now = sum((members[i].capital(known[i]) for i in known), ZERO)
    peak, peak_capital, raised = _peak(part, value, now, wall_ms, memory)
    changed = changed or raised
    if changed:
        for i, v in known.items():
            rows[str(i)]["last"] = v
    coins: dict[str, Decimal] = {}
    for m in members.values():
        price = worth.get(m.symbol)
        if m.direction is not None and price is not None:
            coins[m.base] = coins.get(m.base, ZERO) + abs(m.owned) * price
    return Measured(Facts(capital, profit, peak - value, peak_capital, lost, today, count, coins, "", history), day, changed)


def _day(known: str, market_ms: int) -> str:
    """The UTC day; the one already begun while a clock is a little behind it."""
    day = datetime.fromtimestamp(market_ms / 1000, UTC).strftime("%Y-%m-%d")
    if known > day and datetime.fromtimestamp((market_ms + BACK_MS) / 1000, UTC).strftime("%Y-%m-%d") == known:
        return known
    return day


def _bases(part: dict[str, Any], members: Mapping[int, Member], values: Mapping[int, Decimal], day: str, memory: dict[str, Any]) -> bool:
    rows, last = part["members"], memory.setdefault("last", {})
    changed = False
    for key in [k for k, row in rows.items() if int(k) not in values or row["ident"] != members[int(k)].ident]:
        row = rows.pop(key)
        final = last.get((key, row["ident"]), row["last"])
        part["gone"] += final - row["first"]
        part["gone_day"] += final - row["value"]
        changed = True
    begins = part["day"] != day
    if begins:
        part["day"], part["gone_day"], changed = day, ZERO, True
        part["trips"] = {k: t for k, t in part["trips"].items() if not _over(t, day)}
        part["told"] = {k: d for k, d in part["told"].items() if d == day}
    for i, value in values.items():
        capital = members[i].capital(value)
        row = rows.get(str(i))
        if row is None:
            rows[str(i)] = {"ident": members[i].ident, "first": value, "value": value, "last": value, "capital": capital}
            changed = True
        elif begins:
            row |= {"value": value, "last": value, "capital": capital}
        last[(str(i), members[i].ident)] = value
    return changed


def _over(trip: Mapping[str, Any], day: str) -> bool:
    return trip["level"] == "soft" and trip["limit"] in DAILY and trip["day"] != day


def _peak(part: dict[str, Any], value: Decimal, capital: Decimal, wall_ms: int, memory: dict[str, Any]) -> tuple[Decimal, Decimal, bool]:
    """(peak, capital then, whether the state is to be written)."""
    stored, since = part["peak"], part["peak_since"]
    if stored is None:
        part["peak"], part["peak_capital"], part["peak_since"] = value, capital, since or wall_ms
        memory["peak"] = (part["peak_since"], value, capital)
        return value, capital, True
    own = memory.get("peak")
    if own is None or own[0] != since or own[1] < stored:
        own = (since, stored, part["peak_capital"])
    if value > own[1]:
        own = (since, value, capital)
    memory["peak"] = own
    if own[1] - stored >= max(own[2], ZERO) * PEAK_STEP and own[1] > stored:
        part["peak"], part["peak_capital"] = own[1], own[2]
        return own[1], own[2], True
    return own[1], own[2], False


def _trades(members: Mapping[int, Member], reset_wall: Mapping[str, int], day: str) -> tuple[int, int]:
    """(closed trades in a row without profit, trades opened on this day), each since its last reset."""
    closed: Iterable[Trade] = (t for m in members.values() for t in m.trades)
    since = reset_wall.get("consecutive_losses", 0)
    lost = 0
    for trade in sorted((t for t in closed if t.last_wall > since), key=lambda t: t.last_wall, reverse=True):
        if trade.profit > 0:
            break
        lost += 1
    begin = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    since = reset_wall.get("trades_per_day", 0)
    opened = sum(1 for m in members.values() for t in m.opened if begin <= t.opened_ms < begin + 86_400_000 and t.opened_wall > since)
    return lost, opened
