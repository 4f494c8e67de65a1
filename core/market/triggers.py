"""Whether a price touches a position's stop or target. Pure; bot, paper exchange and backtester call the same.

A long's stop is touched at or below its level and its target at or above; a short's the other way round.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeVar

from core.market.path import Beyond
from core.model import Direction

Number = TypeVar("Number", Decimal, int, float)
Trigger = Literal["stop_loss", "take_profit"]


def stop_side(direction: Direction) -> Beyond:
    """Where the price must go for the stop: below for a long, above for a short."""
    return "below" if direction == "LONG" else "above"


def target_side(direction: Direction) -> Beyond:
    """Where the price must go for the target: above for a long, below for a short."""
    return "above" if direction == "LONG" else "below"


def touches(side: Beyond, level: Number, price: Number) -> bool:
    """Whether `price` is at `level` or beyond it, on that side."""
    return price <= level if side == "below" else price >= level


def stop_touched(direction: Direction, stop: Number | None, price: Number) -> bool:
    """Whether the stop-loss level is touched; never without a level."""
    return stop is not None and touches(stop_side(direction), stop, price)


def target_touched(direction: Direction, target: Number | None, price: Number) -> bool:
    """Whether the take-profit level is touched; never without a level."""
    return target is not None and touches(target_side(direction), target, price)


def touched(direction: Direction, stop: Number | None, target: Number | None, price: Number) -> Trigger | None:
    """Which of the two is touched. The stop goes first: where both are (a stop above the target), getting out counts."""
    if stop_touched(direction, stop, price):
        return "stop_loss"
    if target_touched(direction, target, price):
        return "take_profit"
    return None
