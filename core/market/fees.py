"""What a fill moves: the quote amount, the fee and what has to be locked for an order. Pure.

Amounts are kept to 8 decimals, as Binance keeps them. The fee is taken from the asset
received: the base asset of a buy, the quote asset of a sale (BINANCE.md §4; the captured
fees there are exact at 8 digits). A remainder below 1e-8 is dropped, in nobody's favour
that a wallet could show.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from core.model import Side

UNIT = Decimal("0.00000001")
# Wide enough for any product of two numbers a wire may carry (20 + 8 digits each), so that
# rounding happens where we say so and nowhere else.
EXACT = Context(prec=80)


def floor8(value: Decimal) -> Decimal:
    """`value` cut to 8 decimals."""
    return value.quantize(UNIT, ROUND_FLOOR, EXACT)


def ceil8(value: Decimal) -> Decimal:
    """`value` raised to 8 decimals."""
    return value.quantize(UNIT, ROUND_CEILING, EXACT)


def quote_amount(price: Decimal, quantity: Decimal) -> Decimal:
    """What `quantity` at `price` comes to, in the quote asset, cut to 8 decimals."""
    return floor8(EXACT.multiply(price, quantity))


def lock_amount(side: Side, price: Decimal, quantity: Decimal) -> Decimal:
    """What a limit order locks: quote asset for a buy (raised to 8 decimals, so that its fills are always covered), base for a sale."""
    return ceil8(EXACT.multiply(price, quantity)) if side == "BUY" else quantity


def fee(received: Decimal, rate: Decimal) -> Decimal:
    """The fee on `received` (of either asset) at `rate` (0.001 is 0.1 %), in that same asset, cut to 8 decimals."""
    return floor8(EXACT.multiply(received, rate))


def fill_fee(side: Side, price: Decimal, quantity: Decimal, rate: Decimal) -> Decimal:
    """The fee of one fill: in the base asset for a buy, in the quote asset for a sale."""
    return fee(quantity if side == "BUY" else quote_amount(price, quantity), rate)
