"""Who claims what: the coins that the bots' position files say they own, against the wallet.

Read from the position files, which are small; a file that can't be read makes the answer
unknown, never smaller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.errors import StateError
from core.model import SENDING, TERMINAL, ZERO, Venue
from core.storage import Files

_NAME = re.compile(r"bot_(\d{1,9})_position\.json")
POSITION_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Claim:
    """What one bot says it owns of one asset, in coins; `unsettled`: an order of it may be changing that now."""

    bot_id: int
    asset: str
    amount: Decimal
    symbol: str
    unsettled: bool


def position_files(files: Files) -> dict[int, dict[str, Any]]:
    """Every position file under home by bot id; StateError names one that can't be read."""
    found = {}
    for path in sorted(files.home.glob("bot_*_position.json")):
        match = _NAME.fullmatch(path.name)
        if match:
            value = files.read_json(path.name, schema=POSITION_SCHEMA)
            if value is not None:
                found[int(match[1])] = value
    return found


def claims(files: Files, venue: Venue) -> list[Claim]:
    """Every bot's claim on this account: its position and its dust."""
    found = []
    for bot_id, value in position_files(files).items():
        try:
            theirs, base = Venue(**value["venue"]), str(value["base"])
            amount = (ZERO if value["position"] == "SHORT" else Decimal(value["quantity"])) + Decimal(value["dust"])
            orders = list(value["orders"])
        except (KeyError, TypeError, ArithmeticError) as e:
            path = files.path(f"bot_{bot_id}_position.json")
            raise StateError(path, f"its content can't be right ({e})", files.remedy(path)) from e
        if theirs.key() == venue.key() and (amount or orders):
            found.append(Claim(bot_id, base, amount, str(value["symbol"]), any(_unsettled(value, o) for o in orders)))
    return found


def _unsettled(position: Mapping[str, Any], order: Mapping[str, Any]) -> bool:
    """Its outcome is not known, or more was executed than the file has fills for."""
    if order["status"] == SENDING or order["status"] in TERMINAL:
        return True
    booked = sum((Decimal(f["quantity"]) for f in position["fills"] if f["client_id"] == order["request"]["client_id"]), ZERO)
    return Decimal(order["executed"]) != booked


def missing(files: Files, venue: Venue, asset: str, wallet: Decimal) -> Decimal | None:
    """Coins that the bots claim beyond what the wallet holds (free and locked), 0 where all is there.

    None while an order of a bot on this coin is unsettled: it can't be told then."""
    mine = [c for c in claims(files, venue) if c.asset == asset]
    if any(c.unsettled for c in mine):
        return None
    return max(sum((c.amount for c in mine), ZERO) - wallet, ZERO)
