"""Reading to the end what Binance tells in pages: an account's past orders, and its fills. Pure.

The client hands in how one page is asked for. Facts: binance-spot-api-docs (rest-api.md, allOrders and myTrades).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.model import Fill, Update

FULL = 1000  # rows a page holds at most
DAY_MS = 86_400_000  # the longest span of times that one request may name
FAR_MS = 30 * DAY_MS  # from further back, all pages by order id are fewer than a page for each day


def orders(page: Callable[..., list[Update]], since_ms: int | None, now_ms: Callable[[], int]) -> list[Update]:
    """All orders from `since_ms` on (None: all that are known), oldest first: a day at a time until one is found, on by order id.

    `page`: takes orderId (the first wanted), or startTime and endTime in ms; `now_ms` is asked for only where a time is given."""
    found: list[Update] = []
    if since_ms is None or (now := now_ms()) - since_ms > FAR_MS:
        last = found = page(orderId=1)
    else:
        last, start = found, since_ms
        while not found and start <= now + DAY_MS:
            last = found = page(startTime=start, endTime=start + DAY_MS)
            start += DAY_MS
    while last:  # whatever the span of times left out has a higher number
        last = page(orderId=int(last[-1].order_id) + 1)
        found = found + last
    return [u for u in found if u.created_ms >= (since_ms or 0)]


def fills(page: Callable[..., list[Fill]], order_id: str | None, since_ms: int | None) -> list[Fill]:
    """The fills of one order, or from a time on, oldest first; on by trade id.

    `page`: takes orderId, startTime (ms), fromId (the first trade wanted), or none of them."""
    query: dict[str, Any] = {}
    if order_id is not None:
        query["orderId"] = int(order_id)
    elif since_ms is not None:
        query["startTime"] = since_ms
    found: list[Fill] = []
    while True:
        told = page(**query)
        found += told
        if len(told) < FULL:
            return found
        query.pop("startTime", None)
        query["fromId"] = int(told[-1].trade_id) + 1
