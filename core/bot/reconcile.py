"""Books against the exchange, and what could be done about a difference.

`examine` reads only. Each proposal explains itself and is carried out by `apply` while its
bot is stopped: foreign sales are booked into the position that they were taken from;
coins that left without a trade are written off it; everything else is acknowledged as a
deposit or a withdrawal. Nothing is ever sold or bought here. The command utils/reconcile.py
and the dashboard tell a finding in the same words (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from core.account import ledger
from core.account.claims import Claim, bears_first, claims
from core.bot import catchup, fold
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.clock import wall_ms
from core.errors import AlreadyRunning, Conflict, NotFound
from core.exchange import Exchange
from core.model import ZERO, Fill, Position, Role, Side, Symbol, floor_to, plain
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
    # A bot that was restored and has not caught up yet knows nothing of what it did since.
    unsettled = sorted({c.bot_id for c in found if c.unsettled} | set(catchup.pending(files)))
    differences = ledger.compare(files, exchange)
    if unsettled:
        return Finding(differences, found, [], unsettled)
    left = {d.asset: d.foreign for d in differences}
    # A bot's coins are touched only where the wallet can't cover what all bots claim.
    wallet = {asset: b.total for asset, b in exchange.balances().items()}
    short = {c.asset: sum((o.amount for o in found if o.asset == c.asset), ZERO) - wallet.get(c.asset, ZERO) for c in found}
    proposals: list[Proposal] = []
    for claim in sorted(found, key=bears_first):
        if short[claim.asset] > 0 and left.get(claim.asset, ZERO) < 0 and claim.amount > 0:
            proposals += _for_bot(files, exchange, claim, left, short)
    for asset, amount in left.items():
        if amount:
            what = "came in from outside (a deposit, a sale or a gift of yours)" if amount > 0 else "left (a withdrawal, a purchase or a fee of yours)"
            proposals.append(Proposal("acknowledge", asset, amount, f"{plain(abs(amount))} {asset} {what}: take it into the books"))
    return Finding(differences, found, proposals, [])


def report(found: Finding, after: Finding, applied: bool) -> dict[str, Any]:
    """For scripts and the page: the finding before any repair, and what is left after it."""
    return {
        "agree": not after.differences,
        "unsettled": after.unsettled,
        "differences": [{"asset": d.asset, "wallet": d.wallet, "books": d.books, "foreign": d.foreign} for d in found.differences],
        "claims": [{"bot_id": c.bot_id, "asset": c.asset, "amount": c.amount, "symbol": c.symbol} for c in found.claims],
        "proposals": [p.row() for p in found.proposals],
        "applied": applied and not after.differences,
        "left": [{"asset": d.asset, "foreign": d.foreign} for d in after.differences],
    }


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


def mend(files: Files, exchange: Exchange, bot_id: int, choice: str, by: str) -> str:
    """Put the books of a stopped bot right, as a running one does it itself (core/bot/hands.py); what was done, in words.

    `book` books what happened to its missing coins. `close` also ends the position: what is left of
    its coins is its owner's again, valued at the price now. Conflict where there is nothing to do, an
    order is unsettled or open, or the bot runs."""
    found = examine(files, exchange)
    if found.unsettled:
        who = ", ".join(map(str, found.unsettled))
        raise Conflict(f"an order of bot {who} is not booked yet: start it, wait until its outcome is known, then try again")
    position = PositionStore(files, bot_id).load()
    if position is None or position.direction != "LONG":
        raise Conflict(f"bot {bot_id} has no open position: nothing of it can be missing")
    mine = [p for p in found.proposals if p.bot_id == bot_id]
    if not mine and choice == "book":
        raise Conflict(f"no coins of bot {bot_id} are missing: there is nothing to mend")
    if choice == "close" and position.orders:
        raise Conflict(f"bot {bot_id} still has an order at the exchange: start it, it takes the order back and closes the book itself")
    symbol = exchange.symbol(position.symbol)
    apply(files, exchange, mine, {symbol.name: symbol}, by)
    done = [p.text for p in mine]
    after = PositionStore(files, bot_id).load()
    if choice == "close" and after is not None and after.direction == "LONG":
        done.append(_hand_over(files, exchange, after, symbol))
    return "; ".join(done)


def _hand_over(files: Files, exchange: Exchange, position: Position, symbol: Symbol) -> str:
    """End a position without a sale: its owner takes the coins at the price now. The wallet doesn't move, nor do the books."""
    price = exchange.price(symbol.name)
    fill = moveless(position, f"{ledger.RELEASED}{wall_ms()}", price, position.quantity, exchange.time().market_ms)
    text = f"{plain(position.quantity)} {position.base} are yours again, valued at {plain(price)}"
    _change(files, Proposal("book_sale", position.base, -position.quantity, text, position.bot_id, symbol.name, (fill,)), symbol, price)
    return text


def moveless(position: Position, own_id: str, price: Decimal, quantity: Decimal, market_ms: int) -> Fill:
    """Coins that come under a bot (`ledger.ADOPTED` begins the id) or go back to their owner
    (`ledger.RELEASED`) at a price, without a trade at the exchange."""
    adopted = own_id.startswith(ledger.ADOPTED)
    side: Side = "BUY" if adopted else "SELL"
    role: Role = "entry" if adopted else "exit"
    worth, tag = floor_to(price * quantity, _EIGHT), "adopted" if adopted else "released"
    return Fill(own_id, own_id, own_id, position.symbol, side, price, quantity, worth, ZERO, position.quote, market_ms, role=role, tag=tag)


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
        fills = fills_of(proposal, position)
        after = fold.settle(fold.outside(position, fills, wall_ms()), price, symbol.rules)
        store.save(after)
        journal.append_fills(after, after.unjournaled)
        store.save(replace(after, unjournaled=()))
    finally:
        lock.release()


def fills_of(proposal: Proposal, position: Position) -> tuple[Fill, ...]:
    """What a proposal books into its bot's position."""
    return proposal.fills or (_written_off(position, -proposal.amount),)


def _written_off(position: Position, amount: Decimal) -> Fill:
    """Coins that left for nothing: a sale at price 0, told apart by its trade id."""
    own_id = f"{ledger.WRITTEN_OFF}{wall_ms()}"
    side: Literal["BUY", "SELL"] = "SELL"
    return Fill(own_id, own_id, own_id, position.symbol, side, ZERO, amount, ZERO, ZERO, position.quote, position.opened_ms or 0)
