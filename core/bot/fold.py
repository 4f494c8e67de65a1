"""The fold: whatever tells of an order, into the position. Pure and idempotent.

`tell` may be called with the same update twice, with fills one by one or all at once, and
in any order: the position that comes out is the same. An order stays in the position until
it is terminal *and* all its fills are known; what is told of it afterwards changes nothing.
A fill is known by the exchange's trade id. An entry that fills in part may outlive the trade
that it began: what of it was booked there it remembers itself (`Order.past`).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from core.market.sizing import sellable
from core.model import FILLED, NEW, PARTIALLY_FILLED, SENDING, TERMINAL, ZERO, Fill, Order, Position, Role, Rules, Totals, Update

_RANK = {SENDING: 0, NEW: 1, PARTIALLY_FILLED: 2}
_ENTERING = ("entry", "safety")


def known_fills(position: Position, order: Order) -> Decimal:
    """Base asset of the order's fills that are booked, in the open trade or in closed ones."""
    return sum((f.quantity for f in position.fills if f.client_id == order.client_id), order.past_quantity)


def complete(position: Position, order: Order) -> bool:
    """Nothing more can come of this order: it is over, and all its fills are here."""
    return order.status in TERMINAL and known_fills(position, order) >= order.executed


def lacks_fills(position: Position, order: Order) -> bool:
    """The exchange says that more was executed than the position's fills account for."""
    return known_fills(position, order) < order.executed


def begin(position: Position, order: Order) -> Position:
    """The intent: the order joins the position as SENDING, its number is used up."""
    trade = position.trade if position.direction else position.trade + 1
    return replace(position, orders=(*position.orders, replace(order, trade=trade)), next_order=position.next_order + 1)


def drop(position: Position, client_id: str) -> Position:
    """The order never came to be: refused, or not sent."""
    return replace(position, orders=tuple(o for o in position.orders if o.client_id != client_id))


def tell(position: Position, update: Update, wall_ms: int) -> Position:
    """The position after hearing `update` (seam 4)."""
    order = next((o for o in position.orders if o.client_id == update.client_id), None)
    if order is None:
        return position  # over and booked, or not ours
    order = _merge(order, update)
    known = {(f.trade_id, f.client_id) for f in position.fills} | {(trade_id, order.client_id) for trade_id in order.past}
    news = tuple(
        replace(
            f, client_id=order.client_id, order_id=f.order_id or order.order_id, role=order.role, tag=order.tag, trade=order.trade, wall_ms=f.wall_ms or wall_ms
        )
        for f in update.fills
        if (f.trade_id, order.client_id) not in known
    )
    position = replace(position, orders=tuple(order if o.client_id == order.client_id else o for o in position.orders))
    if news:
        position = _book(position, order, news)
        # What the fills themselves tell is known even where the status was not told.
        order = replace(order, executed=max(order.executed, known_fills(position, order)))
        position = replace(position, orders=tuple(order if o.client_id == order.client_id else o for o in position.orders))
    if complete(position, order):
        position = drop(position, order.client_id)
    return position


def _merge(order: Order, update: Update) -> Order:
    """The later of two statuses, the larger of two sums: order of telling doesn't matter."""
    status = order.status
    if status not in TERMINAL and (update.status in TERMINAL or _RANK.get(update.status, 0) > _RANK.get(status, 0)):
        status = update.status
    if status in TERMINAL and update.status == FILLED:
        status = FILLED
    return replace(
        order,
        status=status,
        order_id=order.order_id or update.order_id,
        executed=max(order.executed, update.executed),
        executed_quote=max(order.executed_quote, update.executed_quote),
        reason=order.reason or update.reason,
    )


def _book(position: Position, order: Order, news: tuple[Fill, ...]) -> Position:
    fills = tuple(sorted((*position.fills, *news), key=_when))
    changes: dict[str, object] = {"fills": fills, "unjournaled": tuple(sorted((*position.unjournaled, *news), key=_when))}
    if position.direction is None:
        entering = order.role in _ENTERING
        changes.update(
            direction="LONG" if (order.side == "BUY") == entering else "SHORT",
            trade=max(order.trade, position.trade),
            dust_in=position.dust,
            dust=ZERO,
            has_traded=True,
        )
    changes["opened_ms"] = min(f.time_ms for f in fills)
    return replace(position, **changes)  # type: ignore[arg-type]


def _when(fill: Fill) -> tuple[int, int, str]:
    return (fill.time_ms, int(fill.trade_id) if fill.trade_id.isdigit() else 0, fill.trade_id)


def outside(position: Position, fills: tuple[Fill, ...], wall_ms: int) -> Position:
    """Fills that no order of the bot made (its owner sold by hand, or took coins away), booked
    as if it had: in the open trade, as exits or entries by their side."""
    known = {f.trade_id for f in position.fills}
    role: Role = "exit"
    news = tuple(
        replace(f, role="entry" if f.side == position.entry_side else role, tag=f.tag or "by_hand", trade=position.trade, wall_ms=wall_ms)
        for f in fills
        if f.trade_id not in known
    )
    both = tuple(sorted((*position.fills, *news), key=_when))
    return replace(position, fills=both, unjournaled=tuple(sorted((*position.unjournaled, *news), key=_when)))


def adopt(position: Position, fill: Fill, wall_ms: int) -> Position:
    """Coins that their owner brings under the bot: an entry of the open trade, or of a new one."""
    if any(f.trade_id == fill.trade_id for f in position.fills):
        return position
    if position.direction is None:
        position = replace(position, direction="LONG", trade=position.trade + 1, dust_in=position.dust, dust=ZERO, has_traded=True, opened_ms=fill.time_ms)
    return outside(position, (fill,), wall_ms)


def settle(position: Position, price: Decimal, rules: Rules) -> Position:
    """Close the trade when nothing that can be sold is left and no way out is still open.

    What can't be sold becomes `dust` (seam 3). Entries that still rest at the exchange
    belong to the next trade. Profit counts what was received less what was paid, fees
    included; dust carries no value until it is sold.
    """
    if position.direction is None or not position.fills:
        return position
    if not any(f.side != position.entry_side for f in position.fills):
        return position  # nothing was sold yet: an entry too small to sell waits for its owner
    if any(o.role not in _ENTERING or o.status == SENDING or lacks_fills(position, o) for o in position.orders):
        return position
    if position.quantity > 0 and sellable(position.quantity, price, rules) > 0:
        return position
    return write_off(position)


def write_off(position: Position) -> Position:
    """The trade is closed; what is left of it is dust."""
    left = position.quantity
    profit = position.cash
    totals = Totals(
        profit=position.totals.profit + profit,
        trades=position.totals.trades + 1,
        wins=position.totals.wins + (profit > 0),
        losses=position.totals.losses + (profit <= 0),
    )
    return replace(
        position,
        direction=None,
        fills=(),
        dust=position.dust + left if position.direction == "LONG" else position.dust + position.dust_in,
        dust_in=ZERO,
        stop_loss=None,
        take_profit=None,
        protection="bot",
        totals=totals,
        opened_ms=None,
        orders=tuple(_outliving(position, o) for o in position.orders),
    )


def _outliving(position: Position, order: Order) -> Order:
    """An order that stays open when the trade closes: it belongs to the next one, and knows what was booked in this one."""
    own = [f for f in position.fills if f.client_id == order.client_id]
    quantity = sum((f.quantity for f in own), order.past_quantity)
    return replace(order, trade=position.trade + 1, past=(*order.past, *(f.trade_id for f in own)), past_quantity=quantity)
