"""The bots' pots: what each may spend of the account's quote asset, and what its percentages refer to. Pure.

A pot is a record's `trade_amount`, what the bot's closed trades came to, less what its owner
took out of that profit. Records and position files come as the plain objects that the files
hold. Bots whose sizing is one of POTLESS spend from the account as a whole: no part of it is
theirs alone, so they claim nothing of it beforehand.

A change of `trade_amount` by hand (core/fleet/pot.py, or an update of the record) leaves a note in the record, `pot`:
    paid_out     profit that was taken out, quote asset
    since_trade  number of the first trade whose profit the note knows; a bot that was set to
                 another market begins its totals anew, and the note ends with the old ones
    profit, percent   what the bot had made at the change, and what that was in percent then
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from core.model import ZERO, plain

BY_EQUITY = ("equity", "risk")
POTLESS = ("all_available", *BY_EQUITY)
_PLACES = Decimal("0.0001")


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
    """What a bot's next entry would spend: nothing while it holds a position, nor where it has no pot (POTLESS)."""
    if record.get("sizing") in POTLESS:
        return ZERO
    if position is not None and position.get("position"):
        return ZERO
    return max(pot_of(record, position), ZERO)


def pot_of(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Decimal:
    """The whole pot, with what of it is in an open position; for a bot without one, its `trade_amount`."""
    amount = capital(record, position)
    if record.get("sizing") == "fixed" or record.get("sizing") in POTLESS:
        return amount
    return amount + profit_of(position) - paid_out(record, position)


def left_of(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Decimal:
    """Quote asset of the wallet (free and locked) that a bot's pot may still spend: the pot less what
    its open position has cost so far. 0 for a bot without a pot."""
    if record.get("sizing") in POTLESS:
        return ZERO
    return max(pot_of(record, position) + _cash(position), ZERO)


def capital(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Decimal:
    """What a bot's percentages refer to, quote asset: the money its owner has given it (`trade_amount`,
    as it was last topped up or paid out). For a bot without a pot it is a reference only.

    Profit is no part of it, so a guard that divides a profit or a loss by it sees a smaller or a
    larger share after a change by hand, never a profit or a loss that was not made."""
    return Decimal(str(record["trade_amount"]))


def profit_of(position: Mapping[str, Any] | None) -> Decimal:
    """What the closed trades came to, quote asset."""
    return Decimal(str(((position or {}).get("totals") or {}).get("profit", 0)))


def paid_out(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Decimal:
    """Profit that the owner took out of the pot; 0 where the note tells of totals that are gone."""
    note = _note(record, position)
    return Decimal(str(note["paid_out"])) if note else ZERO


def first_trade(position: Mapping[str, Any] | None) -> int:
    """Number of the first trade that the position file's totals count."""
    if not position:
        return 1
    closed = int((position.get("totals") or {}).get("trades", 0))
    return int(position.get("trade") or 0) - closed + (0 if position.get("position") else 1)


def profit_pct(record: Mapping[str, Any], position: Mapping[str, Any] | None, profit: Decimal) -> Decimal | None:
    """A bot's profit in percent of what was put into it, to four places; None where nothing was.

    Up to a change of the pot: of the first investment (sized by equity: of `trade_amount`, the reference).
    What was made since: of the capital since.
    So a change by hand moves the percentage by nothing, and later profits are measured by the money that made them."""
    note = _note(record, position)
    if note is None:
        first = Decimal(str((position or {}).get("initial_investment") or 0))
        if record.get("sizing") in BY_EQUITY or not first:
            first = capital(record, position)
        return (profit / first * 100).quantize(_PLACES) if first else None
    since = (profit - Decimal(str(note["profit"]))) / capital(record, position) * 100
    return (Decimal(str(note["percent"])) + since).quantize(_PLACES)


def note_on(record: Mapping[str, Any], position: Mapping[str, Any] | None, from_profit: Decimal = ZERO) -> dict[str, Any] | None:
    """The note to keep when `record`'s amount is about to change, `from_profit` of the change being profit that
    is paid out; None for a bot that has never traded."""
    if not position or not position.get("has_traded"):
        return None
    profit = profit_of(position)
    percent = profit_pct(record, position, profit) or ZERO
    return {"since_trade": first_trade(position), "paid_out": paid_out(record, position) + from_profit, "profit": profit, "percent": percent}


def _note(record: Mapping[str, Any], position: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    note = record.get("pot")
    if not isinstance(note, Mapping) or note.get("since_trade") != first_trade(position):
        return None
    return note


def _cash(position: Mapping[str, Any] | None) -> Decimal:
    """Quote asset that the open trade's fills brought (negative: cost), fees in it taken off; 0 when flat."""
    if not position or position.get("position") != "LONG":
        return ZERO
    total = ZERO
    for fill in position.get("fills") or ():
        worth = Decimal(str(fill["quote"]))
        total += worth if fill["side"] == "SELL" else -worth
        if fill["fee_asset"] == position.get("quote"):
            total -= Decimal(str(fill["fee"]))
    return total
