"""The bots' pots against the account: told at a start, never a reason to touch another's money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from core.model import ZERO, plain


def shortfall(needs: Iterable[tuple[str, Decimal]], quote: str, wallet: Decimal) -> str:
    """A sentence where the flat bots' pots come to more than the account holds, else empty.

    `needs`: (bot's name, what its next entry would spend), quote asset; `wallet`: free and locked.
    """
    listed = [(name, need) for name, need in needs if need > 0]
    total = sum((need for _, need in listed), ZERO)
    if total <= wallet:
        return ""
    names = ", ".join(f"{name} {plain(need)}" for name, need in listed)
    return f"the bots' pots come to {plain(total)} {quote}, the account holds {plain(wallet)} {quote} ({names}); whoever comes last will wait for funds"


def need_of(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Decimal:
    """What a bot's next entry would spend: nothing while it holds a position, nor where it takes what is there."""
    if record.get("sizing") == "all_available":
        return ZERO
    if position is not None and position.get("position"):
        return ZERO
    profit = ZERO
    if position is not None and record.get("sizing") != "fixed":
        profit = Decimal(str((position.get("totals") or {}).get("profit", 0)))
    return max(Decimal(str(record["trade_amount"])) + profit, ZERO)
