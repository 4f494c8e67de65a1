"""The price path: what a candle printed, and when a resting order was reached.

Pure, exact and the same for paper exchange and backtester (DESIGN.md §5). A candle of
length Δ prints four prices: its open at 0, the extreme nearer to the open at Δ/4 (a tie:
the low), the other at 3Δ/4, its close at Δ−1 ms. Between prints the price is the last
print. Prices may be Decimals or integers of one unit: only comparisons and differences
are taken.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeVar

Number = TypeVar("Number", Decimal, int)
Beyond = Literal["below", "above"]


def prints(open_ms: int, length_ms: int, o: Number, h: Number, low: Number, c: Number) -> tuple[tuple[int, Number], ...]:
    """The four prints of a candle, as (ms, price), in order."""
    first, second = (low, h) if o - low <= h - o else (h, low)
    return (
        (open_ms, o),
        (open_ms + length_ms // 4, first),
        (open_ms + 3 * length_ms // 4, second),
        (open_ms + length_ms - 1, c),
    )


def price(candle: tuple[int, int, Number, Number, Number, Number], ms: int) -> Number:
    """The last print of `(open_ms, close_ms, open, high, low, close)` at or before `ms`.

    After the close that is the close. ValueError before the open: the candle has printed nothing yet.
    """
    open_ms, close_ms, o, h, low, c = candle
    if ms < open_ms:
        raise ValueError(f"a candle that opens at {open_ms} has no price at {ms}; ask the candle before it")
    said = o
    for at, value in prints(open_ms, close_ms - open_ms + 1, o, h, low, c):
        if at > ms:
            break
        said = value
    return said


def reached(side: Beyond, level: Number, from_price: Number, to_price: Number, opens: bool) -> Number | None:
    """The price at which an order resting at `level` fills on the walk to a print, or None.

    `side` says where the price must go: "below" for a limit buy and a long's stop, "above"
    for a limit sell and a short's stop. `from_price` is the print before, `to_price` this
    one, `opens` whether this one opens a candle. Both ends of the walk belong to it: an
    order resting at the very price the walk starts from is touched. The fill is at the
    order's own price; where a candle opens beyond it, at that open.
    """
    if side == "below":
        if opens and to_price <= level:
            return to_price
        return level if from_price <= level or to_price <= level else None
    if opens and to_price >= level:
        return to_price
    return level if from_price >= level or to_price >= level else None
