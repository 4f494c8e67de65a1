"""Stop and target held at the exchange: what to place, when, and what to do without it.

By default stop and target lie at the exchange as a pair of which one ends the other (an
OCO): LIMIT_MAKER at the target, below it STOP_LOSS where the symbol allows it, else
STOP_LOSS_LIMIT 1 % lower (DESIGN §5, Protection). While the pair lives, its fill is the
exit. What the exchange can't hold, the bot watches, and says so.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal

from core.bot import own_coins
from core.bot.execution import Executor, Leg, Result
from core.errors import ExchangeError, RateLimited
from core.exchange import Capabilities
from core.market import sizing
from core.model import SENDING, Position, Side, Symbol, floor_to, opposite, plain

LIMIT_BELOW_STOP = Decimal("0.99")
LOOKS_BEYOND = 2  # looks beyond a level without a fill before the bot acts itself


def held(position: Position) -> bool:
    """The exchange holds the stop (and the target, where there is one) as far as we know."""
    return position.protection == "exchange" and any(o.role == "stop" and not o.terminal and o.status != SENDING for o in position.orders)


def stop_leg(position: Position, symbol: Symbol, quantity: Decimal, stop: Decimal) -> Leg | None:
    """The stop as this symbol allows it, None where it allows none."""
    side: Side = opposite(position.entry_side)
    if "STOP_LOSS" in symbol.order_types:
        return Leg(side, "STOP_LOSS", "stop", "stop_loss", quantity, stop_price=stop)
    if "STOP_LOSS_LIMIT" in symbol.order_types:
        limit = floor_to(stop * LIMIT_BELOW_STOP, symbol.rules.tick)
        return Leg(side, "STOP_LOSS_LIMIT", "stop", "stop_loss", quantity, price=limit, stop_price=stop, life="GTC")
    return None


def why_not(position: Position, symbol: Symbol, can: Capabilities) -> str:
    """Why the exchange can't hold this position's stop; empty where it can."""
    if position.direction != "LONG":
        return "only a long is protected at the exchange so far"
    if position.stop_loss is None:
        return "the stop is turned off"
    if not can.protection or not {"STOP_LOSS", "STOP_LOSS_LIMIT"} & symbol.order_types:
        return f"{symbol.name} takes no stop orders"
    if position.take_profit is not None and "LIMIT_MAKER" not in symbol.order_types:
        return f"{symbol.name} takes no LIMIT_MAKER orders"
    return ""


def protect(executor: Executor, symbol: Symbol, stop: Decimal | None = None, target: Decimal | None = None) -> Result:
    """Place the pair for the open position (levels given override its own); the position then says `exchange`.

    Refused: `protection` becomes `bot`, and the bot watches."""
    position = executor.position
    if stop is not None or target is not None:
        position = replace(position, stop_loss=stop or position.stop_loss, take_profit=target or position.take_profit)
    text = why_not(position, symbol, executor.exchange.capabilities)
    if text or position.stop_loss is None:
        return _watch(executor, text)
    try:
        _, free = own_coins.within_reach(executor, position.quantity)
    except RateLimited:
        raise
    except ExchangeError as e:
        return Result("not_sent", f"the balance can't be read: {e}")
    quantity = sizing.sellable(min(position.quantity, free), position.stop_loss * LIMIT_BELOW_STOP, symbol.rules, market=False)
    if quantity <= 0:
        return _watch(executor, f"{plain(min(position.quantity, free))} {symbol.base} free are too few for a stop order")
    lower = stop_leg(position, symbol, quantity, position.stop_loss)
    if lower is None:
        return _watch(executor, f"{symbol.name} takes no stop orders")
    levels = position

    def mark(p: Position) -> Position:
        return replace(p, protection="exchange", stop_loss=levels.stop_loss, take_profit=levels.take_profit)

    if position.take_profit is None:
        result = executor.send(lower, mark)
    else:
        upper = Leg(lower.side, "LIMIT_MAKER", "target", "take_profit", quantity, price=position.take_profit)
        result = executor.send_pair(upper, lower, mark)
    return _watch(executor, result.text) if result.outcome == "refused" else result


def _watch(executor: Executor, why: str) -> Result:
    set_protection(executor, "bot")
    return Result("refused", why)


def set_protection(executor: Executor, who: Literal["exchange", "bot", "none"]) -> None:
    if executor.position.protection != who:
        executor.store.save(replace(executor.position, protection=who))
