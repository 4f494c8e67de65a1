"""Binance's request limits: what each request costs, and what the exchange allows. Pure.

Who counts is core/account/budget.py; who asks it is core/binance_transport.py.
Costs: binance-spot-api-docs (rest-api.md, 2026-08).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PAPER = (6000, 100, 200_000)  # weight a minute, orders in 10 s and a day; times the market's speed (contract)
_UNLIMITED = 10**9  # a paper market that stands still refuses nothing

_WEIGHTS: dict[tuple[str, str], int] = {
    ("GET", "exchangeInfo"): 20,
    ("GET", "klines"): 2,
    ("GET", "uiKlines"): 2,
    ("GET", "avgPrice"): 2,
    ("GET", "trades"): 25,
    ("GET", "historicalTrades"): 25,
    ("GET", "aggTrades"): 4,
    ("GET", "account"): 20,
    ("GET", "order"): 4,
    ("GET", "allOrders"): 20,
    ("GET", "orderList"): 4,
    ("GET", "allOrderList"): 20,
    ("GET", "openOrderList"): 6,
    ("GET", "account/commission"): 20,
    ("GET", "rateLimit/order"): 40,
    ("GET", "myFilters"): 40,
    ("GET", "myAllocations"): 20,
    ("GET", "order/amendments"): 4,
    ("GET", "historicalBlockTrades"): 25,
    ("GET", "executionRules"): 2,
    ("GET", "referencePrice"): 2,
    ("GET", "referencePrice/calculation"): 2,
    ("GET", "/sapi/v1/capital/config/getall"): 10,
}
_ORDERS = {"order": 1, "order/cancelReplace": 1, "order/oco": 2, "orderList/oco": 2, "orderList/oto": 2, "orderList/otoco": 3}


def weight(method: str, path: str, query: Mapping[str, str]) -> int:
    """Request weight of one request, `path` from /api or /sapi on.

    A placed or cancelled order weighs 1 until its answer says that it was accepted, then nothing.
    /sapi has limits of its own; what bots ask there weighs 1."""
    name = path.removeprefix("/api/v3/")
    if name in ("ticker/price", "ticker/bookTicker"):
        return 2 if "symbol" in query else 4
    if name in ("ticker/24hr", "ticker", "ticker/tradingDay"):
        named = 1 if "symbol" in query else query["symbols"].count(",") + 1 if "symbols" in query else None
        if name != "ticker/24hr":
            return min(200, 4 * (named or 1))
        return 80 if named is None or named > 100 else 2 if named <= 20 else 40
    if name == "depth":
        text = query.get("limit", "100")
        levels = int(text) if text.isascii() and text.isdigit() else 100
        return 5 if levels <= 100 else 25 if levels <= 500 else 50 if levels <= 1000 else 250
    if (method, name) == ("GET", "openOrders"):
        return 6 if "symbol" in query else 80
    if (method, name) == ("GET", "myTrades"):
        return 5 if "orderId" in query else 20
    if (method, name) == ("GET", "myPreventedMatches"):
        return 20 if "orderId" in query else 2
    return _WEIGHTS.get((method, name), 1)


def orders_in(method: str, path: str) -> int:
    """How many orders a request places, as the account's order count takes them."""
    return _ORDERS.get(path.removeprefix("/api/v3/"), 0) if method == "POST" else 0


def told(info: Mapping[str, Any]) -> tuple[int, int | None, int | None] | None:
    """(weight a minute, orders in 10 s, orders a day) as exchangeInfo's `rateLimits` name them; a word that can't be read changes none."""
    found: dict[tuple[Any, Any, Any], int] = {}
    for row in info.get("rateLimits") or ():
        if isinstance(row, dict) and isinstance(row.get("limit"), int) and row["limit"] > 0:
            found[row.get("rateLimitType"), row.get("interval"), row.get("intervalNum")] = row["limit"]
    a_minute = found.get(("REQUEST_WEIGHT", "MINUTE", 1))
    return None if a_minute is None else (a_minute, found.get(("ORDERS", "SECOND", 10)), found.get(("ORDERS", "DAY", 1)))


def at_speed(speed: float) -> tuple[int, int, int]:
    """The paper exchange's limits while its market runs at `speed`; 0: it stands still."""
    a_minute, ten_seconds, a_day = (_UNLIMITED if speed == 0 else int(limit * max(1.0, speed)) for limit in _PAPER)
    return a_minute, ten_seconds, a_day
