"""Where a resting order waits on the path, and when the walk to a print meets it. Pure (DESIGN §5, "The path").

A stop waits at its stop price until it triggers; from then on, and for all other orders
from the start, the order's own price counts. Owns no files.
"""

from __future__ import annotations

from decimal import Decimal

from core.market.fees import lock_amount
from core.market.path import Beyond, reached
from core.market.triggers import touches
from core.model import ZERO, Side
from core.paper.store import PaperOrder

# Orders with a stop price; Binance calls them algo orders.
STOPS = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
# Those of them that execute as MARKET.
AT_MARKET = frozenset({"STOP_LOSS", "TAKE_PROFIT"})


def side_of(order: PaperOrder) -> Side:
    return "BUY" if order.side == "BUY" else "SELL"


def waits(order: PaperOrder) -> bool:
    """Whether it is a stop that has not triggered."""
    return order.kind in STOPS and order.working_ms < 0


def beyond(order: PaperOrder) -> Beyond:
    """Where the price must go to meet it: a stop loss lies behind its side, all others before it (BINANCE.md §1.2)."""
    behind = waits(order) and order.kind.startswith("STOP_LOSS")
    return "above" if (order.side == "BUY") == behind else "below"


def level(order: PaperOrder) -> Decimal:
    return order.stop_price if waits(order) else order.price


def needs(order: PaperOrder) -> Decimal:
    """What it must hold: base asset for a sale; for a buy the quote asset at its price, or at its stop price where it has no other."""
    return lock_amount(side_of(order), order.price or order.stop_price, order.remaining)


def crosses(order: PaperOrder, price: Decimal) -> bool:
    """Whether the limit `order` would trade at `price`."""
    return order.price >= price if order.side == "BUY" else order.price <= price


def triggers(order: PaperOrder, price: Decimal) -> bool:
    """Whether a waiting stop is touched where the price stands."""
    return waits(order) and touches(beyond(order), order.stop_price, price)


def distance(order: PaperOrder, came_from: Decimal) -> Decimal:
    """How far along the walk it lies; 0 where the walk begins at it or beyond."""
    away = came_from - level(order) if beyond(order) == "below" else level(order) - came_from
    return max(ZERO, away)


def met_at(order: PaperOrder, came_from: Decimal, to: Decimal, opens: bool) -> Decimal | None:
    """The price at which the walk to a print meets the order, None when it doesn't: its own, or the open beyond it."""
    price = reached(beyond(order), level(order), came_from, to, opens)
    if price is None:
        return None
    # The rest of an order that filled in part may lie beyond the whole walk: the market then
    # gives its own price, which is better than the limit and really was printed.
    if not min(came_from, to) <= price <= max(came_from, to):
        return to
    return price
