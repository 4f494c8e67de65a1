"""What an account is worth to its bots in one quote asset: sizing by equity and by risk asks for it.

Equity = the quote asset in the wallet (free and locked, the owner's own with it) + the coins
that bots own and trade against it, at the price now. Other coins that nobody claims don't
count. What can't be told is None with the reason: it defers an entry, and is never guessed
smaller or larger. Owns no file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from core.account.claims import Claim, claims
from core.errors import ExchangeError, RateLimited, StateError
from core.exchange import Exchange
from core.model import ZERO, Balance, plain
from core.storage import Files

LOOKS = 3  # bots trade meanwhile: an answer counts where claims and wallet belong to one moment


@dataclass(frozen=True, slots=True)
class Equity:
    """`value` in the quote asset, None where it can't be told, and why. `passing`: it may be told in a moment."""

    value: Decimal | None
    why: str = ""
    passing: bool = False


def worth(found: list[Claim], wallet: dict[str, Balance], quote: str, price: Callable[[str], Decimal]) -> Equity:
    """Equity from the claims of all bots, the wallet, and prices by symbol. Pure but for `price`, which may raise ExchangeError."""
    held = wallet.get(quote)
    total = held.total if held else ZERO
    mine = [c for c in found if c.quote == quote]
    busy = [c.bot_id for c in mine if c.unsettled]
    if busy:
        return _unknown(f"an order of bot {', '.join(map(str, busy))} is not booked yet")
    for asset in sorted({c.asset for c in mine}):
        claimed, there = sum((c.amount for c in found if c.asset == asset), ZERO), wallet.get(asset)
        if claimed > (there.total if there else ZERO):
            return _unknown(f"the bots claim {plain(claimed)} {asset}, the account holds {plain(there.total if there else ZERO)}")
    # What rests at the exchange is locked there. Where less is, an order has filled that its bot has not booked yet.
    for asset in sorted({c.asset for c in mine}):
        there = wallet.get(asset)
        if sum((c.resting for c in found if c.asset == asset), ZERO) > (there.locked if there else ZERO):
            return _unknown(f"an order in {asset} has just filled")
    if sum((c.bids for c in mine), ZERO) > (held.locked if held else ZERO):
        return _unknown(f"an order in {quote} has just filled")
    prices: dict[str, Decimal] = {}
    for claim in (c for c in mine if c.amount):
        if claim.symbol not in prices:
            try:
                told = price(claim.symbol)
            except RateLimited:
                raise
            except ExchangeError as e:
                return _unknown(f"the price of {claim.symbol} can't be read: {e}")
            if not isinstance(told, Decimal) or not told.is_finite() or told <= 0:
                return _unknown(f"the price of {claim.symbol} is told as {told}")
            prices[claim.symbol] = told
        total += claim.amount * prices[claim.symbol]
    if not total.is_finite():
        return _unknown(f"the account's {quote} are told as {total}")
    return Equity(total)


def _unknown(why: str, passing: bool = True) -> Equity:
    return Equity(None, f"equity can't be told: {why}", passing)


def equity(files: Files, exchange: Exchange, quote: str) -> Equity:
    """An account's equity now. RateLimited passes through; whatever else fails is an answer that can't be told."""
    try:
        before = claims(files, exchange.venue)
        for _ in range(LOOKS):
            wallet = exchange.fresh_balances()
            after = claims(files, exchange.venue)
            if after == before:
                return worth(after, wallet, quote, exchange.price)
            before = after
    except RateLimited:
        raise
    except ExchangeError as e:
        return _unknown(f"the balance can't be read: {e}")
    except (StateError, OSError) as e:
        return _unknown(f"a bot's position can't be read: {e}", passing=False)
    return _unknown("the bots are trading just now")
