"""The books of an account: wallet = baseline + the sum of all fills and fees in the journals.

The baseline (`data/baseline.json`) is what lay in the account when this yard first saw it,
written once, before the first order, and every deposit or withdrawal that the owner
acknowledged since (`acknowledge`). Whatever else appears is a foreign change: it is shown
by `compare`, never absorbed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.clock import wall_ms
from core.errors import NotFound
from core.exchange import Exchange
from core.model import ZERO, Venue
from core.storage import Files

FILE = "data/baseline.json"
SCHEMA = 1
# Client ids of fills that moved nothing at the exchange: coins that their owner brought under a
# bot, or took back from it. They lay in the account before and after.
ADOPTED, RELEASED = "adopted-", "released-"
WRITTEN_OFF = "written-off-"  # begins the trade id of coins that left for nothing


@dataclass(frozen=True, slots=True)
class Difference:
    """One asset whose wallet is not what the books say."""

    asset: str
    wallet: Decimal
    books: Decimal

    @property
    def foreign(self) -> Decimal:
        return self.wallet - self.books


def _read(files: Files) -> dict[str, Any]:
    return files.read_json(FILE, schema=SCHEMA) or {"schema": SCHEMA, "accounts": {}}


def journals(files: Files) -> list[str]:
    """Every journal of fills, those of deleted bots too, as names under home."""
    here = sorted(files.home.glob("bot_*_fills.jsonl"))
    archived = sorted((files.home / "archive").glob("**/*_fills.jsonl*")) if (files.home / "archive").is_dir() else []
    return [str(Path(p).relative_to(files.home)) for p in (*here, *archived)]


def movements(files: Files, venue: Venue) -> dict[str, Decimal]:
    """What the fills of all bots on this account changed, per asset, fees included."""
    moved: dict[str, Decimal] = defaultdict(lambda: ZERO)
    mine = venue.key()
    for name in journals(files):
        for row in files.read_lines(name):
            if Venue(**row["venue"]).key() != mine or str(row.get("client_id", "")).startswith((ADOPTED, RELEASED)):
                continue
            sign = 1 if row["side"] == "BUY" else -1
            moved[row["base"]] += sign * Decimal(row["quantity"])
            moved[row["quote_asset"]] -= sign * Decimal(row["quote"])
            moved[row["fee_asset"]] -= Decimal(row["fee"])
    return dict(moved)


def ensure_baseline(files: Files, exchange: Exchange) -> dict[str, Decimal]:
    """The account's baseline, written now if the yard has never seen the account.

    Called by every bot before its first order; the lock makes one of them write it."""
    key = exchange.venue.key()
    with files.lock("data/baseline.lock"):
        value = _read(files)
        known = value["accounts"].get(key)
        if known is None:
            wallet = {b.asset: b.total for b in exchange.balances().values()}
            # Where the file was lost, what the journals explain is not part of the baseline.
            for asset, change in movements(files, exchange.venue).items():
                wallet[asset] = wallet.get(asset, ZERO) - change
            known = {"wall_ms": wall_ms(), "assets": {a: v for a, v in sorted(wallet.items()) if v}}
            value["accounts"][key] = known
            files.write_json(FILE, value)
        return {asset: Decimal(v) for asset, v in known["assets"].items()}


def acknowledge(files: Files, venue: Venue, asset: str, amount: Decimal, by: str) -> None:
    """The owner says that this change (negative: a withdrawal) was his; the books follow it."""
    key = venue.key()
    with files.lock("data/baseline.lock"):
        value = _read(files)
        if key not in value["accounts"]:
            raise NotFound(f"the yard has never seen the account {key}")
        value["accounts"][key].setdefault("acknowledged", []).append({"asset": asset, "amount": amount, "wall_ms": wall_ms(), "by": by})
        files.write_json(FILE, value)


def books(files: Files, venue: Venue) -> dict[str, Decimal] | None:
    """What should lie in the wallet, per asset; None where the account was never seen."""
    known = _read(files)["accounts"].get(venue.key())
    if known is None:
        return None
    total: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for part in (known["assets"], movements(files, venue)):
        for asset, value in part.items():
            total[asset] += Decimal(value)
    for row in known.get("acknowledged", ()):
        total[row["asset"]] += Decimal(row["amount"])
    return dict(total)


def compare(files: Files, exchange: Exchange) -> list[Difference]:
    """Every asset whose wallet differs from the books. Only meaningful while no order is unresolved."""
    told = books(files, exchange.venue)
    if told is None:
        return []
    wallet = {b.asset: b.total for b in exchange.balances().values()}
    return [
        Difference(asset, wallet.get(asset, ZERO), told.get(asset, ZERO))
        for asset in sorted({*told, *wallet})
        if wallet.get(asset, ZERO) != told.get(asset, ZERO)
    ]
