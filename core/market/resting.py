"""Where a resting order waits on the path, and when the walk to a print meets it. Pure (DESIGN §5, "The path").

A stop waits at its stop price until it triggers; from then on, and for all other orders
from the start, the order's own price counts. Paper exchange and backtester both walk their
orders by `meet`. Owns no files.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol, TypeVar

from core.market.fees import lock_amount
from core.market.path import Beyond, reached
from core.market.triggers import touches
from core.model import ZERO, Side


class Resting(Protocol):
    """What is asked of an order that rests. `price` and `stop_price` are 0 where it has none; `working_ms` is -1
    until a stop has triggered; prints up to `since_ms` can't fill it."""

    @property
    def id(self) -> int: ...
    @property
    def side(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def price(self) -> Decimal: ...
    @property
    def stop_price(self) -> Decimal: ...
    @property
    def remaining(self) -> Decimal: ...
    @property
    def working_ms(self) -> int: ...
    @property
    def since_ms(self) -> int: ...
    @property
    def open(self) -> bool: ...


Order = TypeVar("Order", bound=Resting)

# Orders with a stop price; Binance calls them algo orders.
STOPS = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})
# Those of them that execute as MARKET.
AT_MARKET = frozenset({"STOP_LOSS", "TAKE_PROFIT"})


def side_of(order: Resting) -> Side:
    return "BUY" if order.side == "BUY" else "SELL"


def waits(order: Resting) -> bool:
    """Whether it is a stop that has not triggered."""
    return order.kind in STOPS and order.working_ms < 0


def beyond(order: Resting) -> Beyond:
    """Where the price must go to meet it: a stop loss lies behind its side, all others before it (BINANCE.md §1.2)."""
    behind = waits(order) and order.kind.startswith("STOP_LOSS")
    return "above" if (order.side == "BUY") == behind else "below"


def level(order: Resting) -> Decimal:
    return order.stop_price if waits(order) else order.price


def needs(order: Resting) -> Decimal:
    """What it must hold: base asset for a sale; for a buy the quote asset at its price, or at its stop price where it has no other."""
    return lock_amount(side_of(order), order.price or order.stop_price, order.remaining)


def crosses(order: Resting, price: Decimal) -> bool:
    """Whether the limit `order` would trade at `price`."""
    return order.price >= price if order.side == "BUY" else order.price <= price


def triggers(order: Resting, price: Decimal) -> bool:
    """Whether a waiting stop is touched where the price stands."""
    return waits(order) and touches(beyond(order), order.stop_price, price)


def distance(order: Resting, came_from: Decimal) -> Decimal:
    """How far along the walk it lies; 0 where the walk begins at it or beyond."""
    away = came_from - level(order) if beyond(order) == "below" else level(order) - came_from
    return max(ZERO, away)


def met_at(order: Resting, came_from: Decimal, to: Decimal, opens: bool) -> Decimal | None:
    """The price at which the walk to a print meets the order, None when it doesn't: its own, or the open beyond it."""
    price = reached(beyond(order), level(order), came_from, to, opens)
    if price is None:
        return None
    # The rest of an order that filled in part may lie beyond the whole walk: the market then
    # gives its own price, which is better than the limit and really was printed.
    if not min(came_from, to) <= price <= max(came_from, to):
        return to
    return price


def meet(
    book: Mapping[int, Order],
    came_from: Decimal,
    to_ms: int,
    to_price: Decimal,
    opens: bool,
    reach: Callable[[Order, Decimal, int], None],
    trigger: Callable[[Order, Decimal, int], None],
) -> None:
    """One walk to a print, order by order: what lies nearest to where it came from is met first.

    `reach` is called for a limit that is met, `trigger` for a stop, each with price and time;
    both take what is over out of `book` (orders by their id)."""
    queue = [(distance(o, came_from), o.id) for o in book.values() if o.since_ms < to_ms]
    heapq.heapify(queue)
    rests_from: dict[int, Decimal] = {}  # stops that triggered on this walk: the price from which their limit rests
    while queue:
        _, number = heapq.heappop(queue)
        order = book.get(number)
        if order is None:  # the other of its list was nearer
            continue
        price = met_at(order, rests_from.get(number, came_from), to_price, opens and number not in rests_from)
        if price is None:
            continue
        if not waits(order):
            reach(order, price, to_ms)
            continue
        trigger(order, price, to_ms)
        if order.open and not crosses(order, price):
            rests_from[number] = price
            heapq.heappush(queue, (distance(order, came_from), number))
