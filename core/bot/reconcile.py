"""Books against the exchange, and what could be done about a difference.

`examine` reads only. Each proposal explains itself and is carried out by `apply` while its
bot is stopped: foreign sales are booked into the position that they were taken from;
coins that left without a trade are written off it; everything else is acknowledged as a
deposit or a withdrawal. Nothing is ever sold or bought here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from core.account import ledger
from core.account.claims import Claim, claims
from core.bot import fold
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.clock import wall_ms
from core.errors import AlreadyRunning, Conflict, NotFound
from core.exchange import Exchange
from core.model import ZERO, Fill, Position, Symbol, floor_to, plain
from core.storage import Files

_EIGHT = Decimal("0.00000001")
Kind = Literal["book_sale", "write_off", "acknowledge"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One repair: `amount` of `asset` (negative: it left the wallet), for `bot_id` where a bot is concerned."""

    kind: Kind
    asset: str
    amount: Decimal
    text: str
    bot_id: int | None = None
    symbol: str = ""
    fills: tuple[Fill, ...] = ()

    def row(self) -> dict[str, Any]:
        return {"kind": self.kind, "asset": self.asset, "amount": self.amount, "bot_id": self.bot_id, "symbol": self.symbol, "text": self.text}


@dataclass(frozen=True, slots=True)
class Finding:
    """One account: the differences per asset, who claims what, what is proposed, what keeps from knowing."""

    differences: list[ledger.Difference]
    claims: list[Claim]
    proposals: list[Proposal]
    unsettled: list[int]


def examine(files: Files, exchange: Exchange) -> Finding:
    """Compare and propose. Meaningful only while no order is unsettled (`unsettled` names those bots)."""
    found = claims(files, exchange.venue)
    unsettled = [c.bot_id for c in found if c.unsettled]
    differences = ledger.compare(files, exchange)
    if unsettled:
        return Finding(differences, found, [], unsettled)
    left = {d.asset: d.foreign for d in differences}
    # A bot's coins are touched only where the wallet can't cover what all bots claim.
    wallet = {asset: b.total for asset, b in exchange.balances().items()}
    short = {c.asset: sum((o.amount for o in found if o.asset == c.asset), ZERO) - wallet.get(c.asset, ZERO) for c in found}
    proposals: list[Proposal] = []
    for claim in found:
        if short[claim.asset] > 0 and left.get(claim.asset, ZERO) < 0 and claim.amount > 0:
            proposals += _for_bot(files, exchange, claim, left, short)
    for asset, amount in left.items():
        if amount:
            what = "came in from outside (a deposit, a sale or a gift of yours)" if amount > 0 else "left (a withdrawal, a purchase or a fee of yours)"
            proposals.append(Proposal("acknowledge", asset, amount, f"{plain(abs(amount))} {asset} {what}: take it into the books"))
    return Finding(differences, found, proposals, [])


def _for_bot(files: Files, exchange: Exchange, claim: Claim, left: dict[str, Decimal], short: dict[str, Decimal]) -> list[Proposal]:
    """Sales by hand first, then coins that left without one; `left` and `short` are reduced by what is explained."""
    position = PositionStore(files, claim.bot_id).load()
    if position is None or position.direction != "LONG":
        return []
    proposals = []
    room = min(-left[claim.asset], short[claim.asset], position.quantity)
    sales: list[Fill] = []
    for sale in _foreign_sales(files, exchange, position):
        part = min(sale.quantity, room)
        if part > 0:
            sales.append(_part(sale, part))
            room -= part
    if sales:
        sold = sum((s.quantity for s in sales), ZERO)
        text = f"bot {claim.bot_id}: {plain(sold)} {claim.asset} of it were sold by hand ({len(sales)} fill(s)): book the sale into its position"
        proposals.append(Proposal("book_sale", claim.asset, -sold, text, claim.bot_id, claim.symbol, tuple(sales)))
        for sale in sales:
            left[position.quote] = left.get(position.quote, ZERO) - sale.quote
            left[sale.fee_asset] = left.get(sale.fee_asset, ZERO) + sale.fee
    if room > 0:
        text = f"bot {claim.bot_id}: {plain(room)} {claim.asset} of it left the account without a sale: write them off its position"
        proposals.append(Proposal("write_off", claim.asset, -room, text, claim.bot_id, claim.symbol))
    taken = sum((s.quantity for s in sales), ZERO) + room
    left[claim.asset] += taken
    short[claim.asset] -= taken
    return proposals


def _part(sale: Fill, quantity: Decimal) -> Fill:
    """So much of a sale, at its price; the rest of it was the owner's own."""
    if quantity == sale.quantity:
        return sale
    share = quantity / sale.quantity
    return replace(sale, quantity=quantity, quote=floor_to(sale.quote * share, _EIGHT), fee=floor_to(sale.fee * share, _EIGHT))


def _foreign_sales(files: Files, exchange: Exchange, position: Position) -> list[Fill]:
    """The account's sales of the symbol since the position's entry that no bot of ours made."""
    ours = _our_trades(files)
    told = exchange.fills(position.symbol, since_ms=position.opened_ms)
    return [f for f in told if f.side == "SELL" and (position.symbol, f.trade_id) not in ours]


def _our_trades(files: Files) -> set[tuple[str, str]]:
    known: set[tuple[str, str]] = set()
    for name in ledger.journals(files):
        known |= {(row["symbol"], row["trade_id"]) for row in files.read_lines(name)}
    return known


def apply(files: Files, exchange: Exchange, proposals: Iterable[Proposal], symbols: dict[str, Symbol], by: str) -> None:
    """Carry proposals out. A bot concerned must be stopped: Conflict otherwise, and nothing is done for it."""
    for proposal in proposals:
        if proposal.kind == "acknowledge":
            ledger.acknowledge(files, exchange.venue, proposal.asset, proposal.amount, by)
        else:
            _change(files, proposal, symbols[proposal.symbol], exchange.price(proposal.symbol))


def _change(files: Files, proposal: Proposal, symbol: Symbol, price: Decimal) -> None:
    bot_id = proposal.bot_id or 0
    lock = files.lock(f"bot_{bot_id}.lock")
    try:
        lock.acquire()
    except AlreadyRunning as e:
        raise Conflict(f"bot {bot_id} is running: stop it first (python3 utils/yard.py stop {bot_id}), then apply again") from e
    try:
        store, journal = PositionStore(files, bot_id), Journal(files, bot_id)
        position = store.load()
        if position is None:
            raise NotFound(f"bot {bot_id} has no position any more")
        journal.open()
        journal.catch_up(position)
        position = replace(position, unjournaled=())
        fills = proposal.fills or (_written_off(position, -proposal.amount),)
        after = fold.settle(fold.outside(position, fills, wall_ms()), price, symbol.rules)
        store.save(after)
        journal.append_fills(after, after.unjournaled)
        store.save(replace(after, unjournaled=()))
    finally:
        lock.release()


def _written_off(position: Position, amount: Decimal) -> Fill:
    """Coins that left for nothing: a sale at price 0, told apart by its trade id."""
    own_id = f"written-off-{wall_ms()}"
    side: Literal["BUY", "SELL"] = "SELL"
    return Fill(own_id, own_id, own_id, position.symbol, side, ZERO, amount, ZERO, ZERO, position.quote, position.opened_ms or 0)
