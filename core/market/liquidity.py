"""What a market order would cost right now: pure functions on an order book's levels.

Levels are (price, quantity in the base asset), best first, as `core.exchange.Book` holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from core.model import ZERO, Side

Level = tuple[Decimal, Decimal]
HUNDRED = Decimal(100)
TICKS_ALLOWED = 2  # one tick of spread on each side: where a tick is coarse, no market can be narrower


@dataclass(frozen=True, slots=True)
class Cost:
    """What a size would meet. `average` is None where the book doesn't hold the size."""

    best: Decimal
    mid: Decimal
    spread: Decimal  # quote asset, best ask - best bid
    average: Decimal | None  # expected price of the whole size
    held: Decimal  # what the book holds of the size, in the asset the size was given in

    @property
    def spread_pct(self) -> Decimal:
        """Percent of the middle."""
        return self.spread / self.mid * HUNDRED

    @property
    def slippage(self) -> Decimal | None:
        """How far the average lies behind the best price, in the quote asset."""
        return None if self.average is None else abs(self.average - self.best)

    @property
    def slippage_pct(self) -> Decimal | None:
        """Percent of the best price."""
        return None if self.slippage is None else self.slippage / self.best * HUNDRED


def expected(levels: Sequence[Level], *, base: Decimal | None = None, quote: Decimal | None = None) -> tuple[Decimal | None, Decimal]:
    """(average price, what the levels hold of the size) for a size in the base or the quote asset.

    The average is None where they hold less than the size. It lies between the first and the last
    price that is taken."""
    left = size = base if base is not None else quote if quote is not None else ZERO
    if size <= 0:
        raise ValueError(f"a size of {size} can't be bought or sold; it must be above 0")
    coins = money = ZERO
    for price, quantity in levels:
        offered = quantity if base is not None else quantity * price
        if offered >= left:
            coins += left if base is not None else left / price
            money += left * price if base is not None else left
            # Rounding of a division must not put the average outside of what was taken.
            return min(max(money / coins, min(levels[0][0], price)), max(levels[0][0], price)), size
        left -= offered
        coins += quantity
        money += quantity * price
    return None, size - left


def cost(
    bids: Sequence[Level], asks: Sequence[Level], side: Side, *, base: Decimal | None = None, quote: Decimal | None = None
) -> Cost | None:
    """What a market order of a size meets; None where one side of the book is empty."""
    if not bids or not asks:
        return None
    bid, ask = bids[0][0], asks[0][0]
    average, held = expected(asks if side == "BUY" else bids, base=base, quote=quote)
    return Cost(ask if side == "BUY" else bid, (bid + ask) / 2, ask - bid, average, held)


def within(amount: Decimal, of: Decimal, limit_pct: Decimal, tick: Decimal) -> bool:
    """A spread or slippage (quote asset) is no more than `limit_pct` percent of `of`, or no more than two ticks."""
    return amount <= max(of * limit_pct / HUNDRED, tick * TICKS_ALLOWED)
