"""Who claims what: the coins that the bots' position files say they own, against the wallet.

Read from the position files, which are small; a file that can't be read makes the answer
unknown, never smaller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from core.errors import StateError
from core.model import SENDING, TERMINAL, ZERO, Update, Venue
from core.storage import Files

NAME = re.compile(r"bot_(\d{1,9})_position\.json")
POSITION_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """What one bot says it owns of one asset, in coins; `unsettled`: an order of it may be changing that now."""

    bot_id: int
    asset: str
    amount: Decimal
    symbol: str
    unsettled: bool
    quote: str = ""
    resting: Decimal = ZERO  # coins of it that its own open sales hold at the exchange
    dust: Decimal = ZERO  # what of `amount` is dust
    bids: Decimal = ZERO  # quote asset that its open purchases hold at the exchange

    @property
    def loose(self) -> Decimal:
        """Coins of it that lie free in the wallet, among everybody's."""
        return max(self.amount - self.resting, ZERO)


def position_files(files: Files) -> dict[int, dict[str, Any]]:
    """Every position file under home by bot id; StateError names one that can't be read."""
    found = {}
    for path in sorted(files.home.glob("bot_*_position.json")):
        match = NAME.fullmatch(path.name)
        if match:
            value = files.read_json(path.name, schema=POSITION_SCHEMA)
            if value is not None:
                found[int(match[1])] = value
    return found


def claims(files: Files, venue: Venue) -> list[Claim]:
    """Every bot's claim on this account: its position and its dust."""
    told = (claim_of(files, bot_id, value, venue) for bot_id, value in position_files(files).items())
    return [claim for claim in told if claim is not None]


def claim_of(files: Files, bot_id: int, value: Mapping[str, Any], venue: Venue) -> Claim | None:
    """What one position file claims on this account, None where it claims nothing; StateError where it can't be right."""
    try:
        theirs, base = Venue(**value["venue"]), str(value["base"])
        dust = Decimal(value["dust"])
        amount = (ZERO if value["position"] == "SHORT" else Decimal(value["quantity"])) + dust
        orders, quote = list(value["orders"]), str(value["quote"])
        resting, bids = _resting(value, orders)
    except (KeyError, TypeError, ArithmeticError) as e:
        path = files.path(f"bot_{bot_id}_position.json")
        raise StateError(path, f"its content can't be right ({e})", files.remedy(path)) from e
    if theirs.key() != venue.key() or not (amount or orders):
        return None
    return Claim(bot_id, base, amount, str(value["symbol"]), any(_unsettled(value, o) for o in orders), quote, resting, dust, bids)


def _unsettled(position: Mapping[str, Any], order: Mapping[str, Any]) -> bool:
    """Its outcome is not known, or more was executed than the file has fills for."""
    if order["status"] == SENDING or order["status"] in TERMINAL:
        return True
    past = Decimal(order.get("past_quantity") or 0)  # booked in trades that are closed by now
    booked = sum((Decimal(f["quantity"]) for f in position["fills"] if f["client_id"] == order["request"]["client_id"]), past)
    return Decimal(order["executed"]) != booked


def _resting(position: Mapping[str, Any], orders: list[Any]) -> tuple[Decimal, Decimal]:
    """(base asset that open sales still mean to sell, quote asset that open purchases still mean to spend).

    A stop and its target are one pair, and hold their coins once."""
    left: dict[Any, Decimal] = {}
    bids = ZERO
    for o in orders:
        asked = o["request"]
        if asked["side"] == "SELL" and asked.get("quantity") is not None and o["status"] not in TERMINAL:
            pair = o["wall_created_ms"] if o["role"] in ("stop", "target") else asked["client_id"]
            left[pair] = max(left.get(pair, ZERO), Decimal(asked["quantity"]) - Decimal(o["executed"]))
        elif asked["side"] == "BUY" and None not in (asked.get("quantity"), asked.get("price")) and o["status"] not in TERMINAL:
            bids += (Decimal(asked["quantity"]) - Decimal(o["executed"])) * Decimal(asked["price"])
    return sum(left.values(), ZERO), bids


def bears_first(claim: Claim) -> tuple[int, Decimal, int]:
    """Sort key: whose coins are taken for the missing ones where the wallet doesn't hold what all bots claim.

    Coins in a bot's own order at the exchange are there. So first a bot whose order holds only a
    part of what it owns (the rest was not there when the order was placed), the one that lacks most
    before others, then those without an order by their numbers, then those whose order holds
    everything. The same order counts for what a bot may sell and for what utils/reconcile.py
    proposes, so that it doesn't matter who sells first."""
    held = 1 if not claim.resting else 0 if claim.loose else 2
    return held, ZERO if held else -claim.loose, claim.bot_id


def may_sell(found: list[Claim], bot_id: int, own: Decimal, free: Decimal) -> Decimal:
    """Coins of `free` (the wallet's free balance of one asset) that a bot may sell: `own` (its coins that
    rest in no order), less what it bears of a shortage. `found`: the claims on this asset."""
    others = [c for c in found if c.bot_id != bot_id]
    short = own + sum((c.loose for c in others), ZERO) - free
    mine = next((replace(c, amount=own + c.resting) for c in found if c.bot_id == bot_id), Claim(bot_id, "", own, "", False))
    for claim in sorted([*others, mine], key=bears_first):
        if short <= 0:
            break
        part = min(claim.loose, short)
        short -= part
        if claim is mine:
            return own - part
    return own


def missing(files: Files, venue: Venue, asset: str, wallet: Decimal) -> Decimal | None:
    """Coins that the bots claim beyond what the wallet holds (free and locked), 0 where all is there.

    None while an order of a bot on this coin is unsettled: it can't be told then."""
    mine = [c for c in claims(files, venue) if c.asset == asset]
    if any(c.unsettled for c in mine):
        return None
    return max(sum((c.amount for c in mine), ZERO) - wallet, ZERO)


def unbooked(files: Files, venue: Venue, asset: str, open_orders: Callable[[str], Iterable[Update]]) -> bool:
    """Whether an order on this coin that a bot takes for open is so no more at the exchange, or has executed further.

    Then the wallet is ahead of that bot's file: its stop has fired, say, and it has not heard of it yet.
    `open_orders` asks the exchange by symbol, and is asked after the files were read."""
    listed: dict[str, dict[str, Decimal]] = {}
    for value in position_files(files).values():
        if Venue(**value["venue"]).key() != venue.key() or value["base"] != asset:
            continue
        for order in value["orders"]:
            symbol = str(value["symbol"])
            if symbol not in listed:
                listed[symbol] = {u.client_id: u.executed for u in open_orders(symbol)}
            if listed[symbol].get(order["request"]["client_id"]) != Decimal(order["executed"]):
                return True
    return False
