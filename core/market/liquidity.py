"""What a market order would cost right now: pure functions on an order book's levels; and the
book and the slippage of a market that is made of prints (paper exchange, backtest).

Levels are (price, quantity in the base asset), best first, as `core.exchange.Book` holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from core.market import sizing
from core.market.fees import EXACT, UNIT
from core.model import ZERO, Rules, Side, ceil_to, floor_to

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


def cost(bids: Sequence[Level], asks: Sequence[Level], side: Side, *, base: Decimal | None = None, quote: Decimal | None = None) -> Cost | None:
    """What a market order of a size meets; None where one side of the book is empty."""
    if not bids or not asks:
        return None
    bid, ask = bids[0][0], asks[0][0]
    average, held = expected(asks if side == "BUY" else bids, base=base, quote=quote)
    return Cost(ask if side == "BUY" else bid, (bid + ask) / 2, ask - bid, average, held)


def within(amount: Decimal, of: Decimal, limit_pct: Decimal, tick: Decimal) -> bool:
    """A spread or slippage (quote asset) is no more than `limit_pct` percent of `of`, or no more than two ticks."""
    return amount <= max(of * limit_pct / HUNDRED, tick * TICKS_ALLOWED)


# --- a market of prints ---------------------------------------------------------------

LEVEL_WORTH = Decimal(100_000)  # quote asset that lies on a level, where no single order may be larger


def slipped(last: Decimal, side: str, slippage: Decimal, tick: Decimal, within_candle: tuple[Decimal, Decimal] | None) -> Decimal:
    """What a market order gets where the last print is `last`: slipped against it by `slippage` (0.001 is 0.1 %)
    to the tick, but inside the candle's (low, high), where there is one."""
    if not slippage:
        return last
    price = ceil_to(EXACT.multiply(last, 1 + slippage), tick) if side == "BUY" else floor_to(EXACT.multiply(last, 1 - slippage), tick)
    return price if within_candle is None else min(max(price, within_candle[0]), within_candle[1])


def printed(last: Decimal, side: str, rules: Rules, slipped_price: Decimal, levels: int) -> list[Level]:
    """What a BUY or SELL at market finds around a last print: the best price lies a tick away.

    Where the order would slip beyond it, the best price is good for one step only, and the rest costs what
    matching would take. A level holds the largest order that the symbol takes, because matching fills an
    order of any size at one price: whoever reads the book must find the same."""
    away = 1 if side == "BUY" else -1
    tick, step = rules.tick or UNIT, rules.step or UNIT
    quantity = max(floor_to(EXACT.divide(LEVEL_WORTH, last), step), sizing.maximum_quantity(rules) or ZERO, step)
    best = last + tick * away
    deeper = (slipped_price - best) * away > 0
    start = slipped_price if deeper else best + tick * away
    rows = [(best, step if deeper else quantity), *((start + tick * away * i, quantity) for i in range(levels - 1))]
    return [(price, held) for price, held in rows if price > 0]
