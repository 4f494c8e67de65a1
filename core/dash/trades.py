"""Trades, orders and the equity curve, put together from fills. Pure.

Fills are the lines of `bot_N_fills.jsonl` (ARCHITECTURE.md). A *trade* is a closed
position: all fills with the same `trade` number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

ZERO = Decimal(0)
CENT_OF_A_CENT = Decimal("0.0001")


def dec(value: Any) -> Decimal | None:
    """A finite Decimal from a JSON number or numeric text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def amount(value: Any) -> Decimal:
    """As `dec`, with 0 for what is not there."""
    return dec(value) or ZERO


def pct(part: Decimal, whole: Decimal) -> Decimal | None:
    """`part` in percent of `whole`, to four places; None where there is no whole."""
    return (part / whole * 100).quantize(CENT_OF_A_CENT) if whole else None


def neat(value: Decimal | None, places: int = 12) -> Decimal | None:
    """A quotient without the long tail of digits that a division leaves."""
    if value is None or -value.as_tuple().exponent <= places:  # type: ignore[operator]
        return value
    return round(value, places)


def cash(fills: Iterable[Mapping[str, Any]]) -> Decimal:
    """Quote asset that the fills brought: sold − bought − fees taken in it − the worth of fees in a third coin."""
    total = ZERO
    for f in fills:
        total += amount(f.get("quote")) if f.get("side") == "SELL" else -amount(f.get("quote"))
        if f.get("fee_asset") == f.get("quote_asset"):
            total -= amount(f.get("fee"))
        elif f.get("fee_asset") != f.get("base"):
            total -= amount(f.get("fee_quote"))
    return total


def owned(fills: Iterable[Mapping[str, Any]], base: str) -> Decimal:
    """Base asset that the fills left, after fees taken in it."""
    total = ZERO
    for f in fills:
        total += amount(f.get("quantity")) if f.get("side") == "BUY" else -amount(f.get("quantity"))
        if base and f.get("fee_asset") == base:
            total -= amount(f.get("fee"))
    return total


def average(fills: Sequence[Mapping[str, Any]]) -> Decimal | None:
    """Average price of some fills, None where there are none."""
    quantity = sum((amount(f.get("quantity")) for f in fills), ZERO)
    return neat(sum((amount(f.get("quote")) for f in fills), ZERO) / quantity) if quantity else None


def one_trade(number: int, fills: Sequence[Mapping[str, Any]], open_now: bool) -> dict[str, Any]:
    """A trade from its fills; `profit` is all cash of its fills, fees in the quote asset
    and what a third coin's were worth taken off, null while it is open. `fees` are by asset."""
    first = fills[0]
    entry_side = first.get("side")
    entries = [f for f in fills if f.get("side") == entry_side]
    exits = [f for f in fills if f.get("side") != entry_side]
    closed = bool(exits) and not open_now
    spent = sum((amount(f.get("quote")) for f in entries), ZERO)
    profit = cash(fills) if closed else None
    fees: dict[str, Decimal] = {}
    for f in fills:
        asset = str(f.get("fee_asset") or "")
        if asset and amount(f.get("fee")):
            fees[asset] = fees.get(asset, ZERO) + amount(f.get("fee"))
    return {
        "trade": number,
        "symbol": first.get("symbol"),
        "quote": first.get("quote_asset"),
        "side": "LONG" if entry_side == "BUY" else "SHORT",
        "open": not closed,
        "entry_at": first.get("time_ms"),
        "entry_price": average(entries),
        "exit_at": exits[-1].get("time_ms") if closed else None,
        "exit_price": average(exits) if closed else None,
        "quantity": sum((amount(f.get("quantity")) for f in entries), ZERO),
        "invested": spent,
        "profit": profit,
        "profit_pct": pct(profit, spent) if profit is not None else None,
        "exit_reason": (exits[-1].get("tag") or exits[-1].get("role")) if closed else None,
        "fees": fees,
    }


def trades(fills: Iterable[Mapping[str, Any]], open_trade: int | None) -> list[dict[str, Any]]:
    """All trades, oldest first. `open_trade` is the number of the position still open."""
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for f in fills:
        number = f.get("trade")
        groups.setdefault(number if isinstance(number, int) else 0, []).append(f)
    return [one_trade(n, groups[n], n == open_trade) for n in sorted(groups)]


def equity(made: Iterable[Mapping[str, Any]], start: Decimal) -> list[dict[str, Any]]:
    """A point before the first closed trade and one after each: `value` is the pot,
    trade_amount and all that was made or lost since."""
    points: list[dict[str, Any]] = []
    value = start
    for t in made:
        if t["open"]:
            continue
        if not points:
            points.append({"at": t["entry_at"], "value": value})
        value += t["profit"] or ZERO
        points.append({"at": t["exit_at"], "value": value})
    return points


def orders(open_orders: Iterable[Mapping[str, Any]], fills: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Open orders of the position file first, then those that fills tell of, newest first."""
    found = [_open_order(o) for o in open_orders]
    known = {o["client_id"] for o in found}
    done: dict[str, list[Mapping[str, Any]]] = {}
    for f in fills:
        key = str(f.get("client_id") or f.get("order_id") or f.get("trade_id"))
        if key not in known:
            done.setdefault(key, []).append(f)
    past = []
    for parts in done.values():
        last = parts[-1]
        past.append(
            {
                "open": False,
                "client_id": last.get("client_id"),
                "order_id": last.get("order_id"),
                "symbol": last.get("symbol"),
                "side": last.get("side"),
                "kind": None,
                "role": last.get("role"),
                "tag": last.get("tag"),
                "status": "FILLED",
                "quantity": sum((amount(f.get("quantity")) for f in parts), ZERO),
                "executed": sum((amount(f.get("quantity")) for f in parts), ZERO),
                "price": average(parts),
                "stop_price": None,
                "created_at": last.get("time_ms"),
            }
        )
    past.sort(key=lambda o: o["created_at"] or 0, reverse=True)
    return found + past


def _open_order(order: Mapping[str, Any]) -> dict[str, Any]:
    nested = order.get("request")
    flat: dict[str, Any] = {**nested, **order} if isinstance(nested, Mapping) else dict(order)
    return {
        "open": True,
        "client_id": flat.get("client_id"),
        "order_id": flat.get("order_id"),
        "symbol": flat.get("symbol"),
        "side": flat.get("side"),
        "kind": flat.get("kind"),
        "role": flat.get("role"),
        "tag": flat.get("tag"),
        "status": flat.get("status") or flat.get("state"),
        "quantity": dec(flat.get("quantity")) or dec(flat.get("quote_quantity")),
        "executed": amount(flat.get("executed")),
        "price": dec(flat.get("price")),
        "stop_price": dec(flat.get("stop_price")),
        "created_at": flat.get("created_ms"),
    }
