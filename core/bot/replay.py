"""What happened to a bot's orders while its files weren't there, told once more, in order. Pure.

From the exchange's list of orders and fills to steps (an order came, filled, ended), and from
steps to a position, by the fold that books everything else (core/bot/fold.py). What an order
was for is read from the journal where it knows, else from side and type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.bot import fold
from core.bot.ids import number_of, owner_of, wall_ms_of
from core.model import NEW, PARTIALLY_FILLED, TERMINAL, ZERO, Fill, Order, OrderRequest, Position, Role, Update

UNTOLD = "caught_up"  # the tag of an order whose reason only the other machine knew

AfterFills = Callable[[Position, tuple[Fill, ...]], Position]
Said = Mapping[str, tuple[Role, str]]  # client id: role and tag, as the journal has them


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened: an order came to the exchange (`joins`), filled or ended (`update`)."""

    key: tuple[int, int, int, int]  # market ms, order number, join < fill < end, which fill
    joins: Update | None
    update: Update | None


def unknown_orders(position: Position, told: Sequence[Update], installation: str, journaled: Said) -> list[Update]:
    """Those of the account's orders that are this bot's and that its files know nothing of, oldest first.

    An order with a number that was given already is over and booked, unless it did something and no file has it."""
    known = {o.client_id for o in position.orders} | {f.client_id for f in position.fills}
    found = []
    for u in told:
        if u.request is None or owner_of(u.client_id, installation) != position.bot_id or u.client_id in known:
            continue
        lives = u.executed > 0 or u.status not in TERMINAL
        if number_of(u.client_id) >= position.next_order or (lives and u.client_id not in journaled):
            found.append(u)
    return sorted(found, key=lambda u: (number_of(u.client_id), u.created_ms))


def steps(position: Position, told: Sequence[Update], fills: Mapping[str, Sequence[Fill]]) -> list[Step]:
    """What happened, in its order. `told`: unknown orders and news of known ones; `fills` by client id, all of them."""
    known = {o.client_id for o in position.orders}
    booked = {(f.client_id, f.trade_id) for f in position.fills}
    found = []
    for u in told:
        number, last = number_of(u.client_id), u.created_ms
        if u.client_id not in known:
            found.append(Step((u.created_ms, number, 0, 0), u, None))
        for i, fill in enumerate(sorted(fills.get(u.client_id, ()), key=_when)):
            last = max(last, fill.time_ms)
            if (u.client_id, fill.trade_id) not in booked:
                found.append(Step((fill.time_ms, number, 1, i), None, Update(u.client_id, PARTIALLY_FILLED, u.order_id, fills=(fill,))))
        if u.status in TERMINAL:
            found.append(Step((max(last, u.time_ms), number, 2, 0), None, replace(u, fills=())))
    return sorted(found, key=lambda s: s.key)


def _when(fill: Fill) -> tuple[int, int, str]:
    return fill.time_ms, int(fill.trade_id) if fill.trade_id.isdigit() else 0, fill.trade_id


def role_of(position: Position, request: OrderRequest, others: Sequence[OrderRequest]) -> Role:
    """What an order was for, from its side and type. `others`: the orders among which its pair may be."""
    if request.side == position.entry_side:
        return "entry"
    if request.kind.startswith("STOP"):
        return "stop"
    mine = wall_ms_of(request.client_id)
    paired = any(o.kind.startswith("STOP") and o.side == request.side and wall_ms_of(o.client_id) == mine for o in others)
    return "target" if request.kind == "LIMIT_MAKER" and paired else "exit"


_TAGS: dict[Role, str] = {"stop": "stop_loss", "target": "take_profit", "entry": "entry"}


def take(position: Position, step: Step, others: Sequence[OrderRequest], journaled: Said, wall_ms: int, after_fills: AfterFills) -> Position:
    """The position after one step."""
    if step.joins is not None:
        return _join(position, step.joins, others, journaled)
    assert step.update is not None
    before = position
    order = next((o for o in position.orders if o.client_id == step.update.client_id), None)
    position = fold.tell(position, step.update, wall_ms)
    if position == before:
        return position
    position = after_fills(position, position.unjournaled[len(before.unjournaled) :] if len(position.unjournaled) > len(before.unjournaled) else ())
    if order is not None and order.role == "stop" and position.protection == "exchange" and all(o.role != "stop" for o in position.orders):
        position = replace(position, protection="bot")  # it was taken back to be moved, or to sell
    return position


def _join(position: Position, u: Update, others: Sequence[OrderRequest], journaled: Said) -> Position:
    request = u.request
    assert request is not None
    role, tag = journaled.get(u.client_id) or (role_of(position, request, others), "")
    tag = tag or _TAGS.get(role, UNTOLD)
    trade = position.trade if position.direction else position.trade + 1
    order = Order(request, role, tag, NEW, u.order_id, created_ms=u.created_ms, wall_created_ms=wall_ms_of(u.client_id), trade=trade)
    position = replace(position, orders=(*position.orders, order), next_order=max(position.next_order, number_of(u.client_id) + 1))
    if role == "stop":
        return replace(position, stop_loss=request.stop_price, protection="exchange")
    if role == "target":
        return replace(position, take_profit=request.price)
    if role == "entry":
        position = replace(position, cooldown=0)  # it did buy: whatever it had waited for was over
        if not position.has_traded and not position.initial_investment:
            cost = request.quote_quantity or (request.quantity or ZERO) * (request.price or ZERO) or u.executed_quote
            position = replace(position, initial_investment=cost)
    return position
