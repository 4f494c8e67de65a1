"""How much to buy and how much can be sold: pure functions on a symbol's rules.

All amounts are Decimals in the asset that the name says.
"""

from __future__ import annotations

from decimal import Decimal

from core.model import ZERO, Rules, Symbol, ceil_to, floor_to

ONE = Decimal(1)
# Taken off the price at which the stop's sale is valued: a stop-limit lies 1 % under the
# stop, and the exchange values market orders at an average that may lag behind.
RESERVE = Decimal("0.05")
ROOM = Decimal("0.02")
DEFAULT_FEE = Decimal("0.001")
NO_MAXIMUM = Decimal(10) ** 9  # quote asset, where a symbol names no maximum notional


def quantity_step(rules: Rules, market: bool = True) -> Decimal:
    """The step that a quantity must be a multiple of (both filters bind a market order)."""
    return max(rules.step, rules.market_step) if market else rules.step


def minimum_quantity(rules: Rules, market: bool = True) -> Decimal:
    return max(rules.min_quantity, rules.market_min_quantity) if market else rules.min_quantity


def maximum_quantity(rules: Rules, market: bool = True) -> Decimal | None:
    limits = [q for q in (rules.max_quantity, rules.market_max_quantity if market else ZERO) if q > 0]
    return min(limits) if limits else None


def sellable(quantity: Decimal, price: Decimal, rules: Rules, market: bool = True) -> Decimal:
    """What of `quantity` can be sold now: floored to the step, 0 where a minimum forbids it."""
    amount = floor_to(max(quantity, ZERO), quantity_step(rules, market))
    top = maximum_quantity(rules, market)
    if top is not None and amount > top:
        amount = floor_to(top, quantity_step(rules, market))
    if amount <= 0 or amount < minimum_quantity(rules, market):
        return ZERO
    if (rules.min_notional_on_market or not market) and amount * price < rules.min_notional:
        return ZERO
    return amount


def smallest_entry(symbol: Symbol, price: Decimal, stop_loss_pct: Decimal | None, fee_rate: Decimal = DEFAULT_FEE) -> Decimal:
    """The smallest amount of quote asset whose position can still be sold at its stop.

    The stop's sale must clear the exchange's minimums after the entry's fee was taken in
    the coin itself (the rule freqtrade's users know as the stake's reserve)."""
    rules = symbol.rules
    fall = (stop_loss_pct or ZERO) / 100
    # Where the tick is coarse, the stop lies further down than its percentage says.
    worst = floor_to(price * (ONE - fall), rules.tick) * (ONE - RESERVE)
    if worst <= 0:
        return NO_MAXIMUM * 10  # a stop at 0 is never reached: nothing that is bought here could be protected
    step = quantity_step(rules)
    sale = max(minimum_quantity(rules), rules.min_notional / worst)
    sale = max(ceil_to(sale, step), step)
    bought = ceil_to(sale / (ONE - fee_rate), step)
    return ceil_to(bought * price, Decimal("0.01") if price >= 1 else Decimal("0.00000001"))


def largest_entry(symbol: Symbol, price: Decimal | None = None) -> Decimal:
    """The largest amount of quote asset for one order; at a price, for one at market that buys no more than may be sold at once.

    The exchange turns an amount of quote asset into a quantity by prices of its own, and refuses
    one above the symbol's maximum: hence a little less than that (ROOM)."""
    largest = symbol.rules.max_notional or NO_MAXIMUM
    top = maximum_quantity(symbol.rules)
    return largest if price is None or top is None else min(largest, top * price * (ONE - ROOM))


def quantity_for(quote: Decimal, price: Decimal, rules: Rules) -> Decimal:
    """Base asset that `quote` buys at `price`, floored to the step, within the maximum."""
    if price <= 0:
        return ZERO
    step = quantity_step(rules)
    amount = floor_to(quote / price, step)
    top = maximum_quantity(rules)
    return floor_to(top, step) if top is not None and amount > top else amount


def level(price: Decimal, percent: Decimal, rules: Rules, *, above: bool) -> Decimal:
    """A stop or target `percent` away from `price`, rounded down to the tick."""
    factor = ONE + percent / 100 if above else ONE - percent / 100
    return floor_to(price * factor, rules.tick)
