"""A bot's pot in its owner's hands: topped up or paid out. Writes through core/fleet/registry.py; owns no file.

A top-up raises the record's `trade_amount`. A payout takes profit first, as far as some is
left in the pot, and keeps `trade_amount`; the rest lowers it. What the bot has made stays as
it was made: `totals` and `initial_investment` are the bot's own and aren't touched, and the
note in the record (core/account/pots.py) keeps its percentages where they were. Nothing is
moved at the exchange: what is paid out is no bot's any more, and the owner's to withdraw.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.account import access, pots
from core.bot import decisions, position, setup
from core.config import Settings
from core.errors import Conflict, InputError
from core.exchange import Exchange
from core.fleet import locks, records
from core.fleet.audit import audit
from core.fleet.registry import Registry
from core.market import sizing
from core.model import SENDING, ZERO, Position, Symbol, plain
from core.storage import Files, installation


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a pot, quote asset. `from_profit`: how much of a payout was profit. `warning`: a word, or empty."""

    bot_id: int
    quote: str
    amount: Decimal
    before: Decimal
    after: Decimal
    trade_amount: Decimal
    from_profit: Decimal
    warning: str


def change_pot(files: Files, settings: Settings, bot_id: int, amount: Any, by: str, exchange: Exchange | None = None) -> Changed:
    """Top a bot's pot up by `amount` of its quote asset, or pay out where it is below 0. Counts from the bot's next check.

    InputError, with the figures: not a number, 0, a sizing without a pot, a pot that would be too
    small or too large for one entry, more than isn't tied up, with STRICT_POTS more than the account
    has to give. Conflict: an order's outcome isn't known, or somebody else changes the bot. NotFound,
    StateError, ExchangeError. Nothing was changed then."""
    try:
        change = records.number(amount)
    except ValueError:
        change = ZERO
    if not change:
        raise InputError(f"amount: {str(amount)[:40]!r} is not right; it must be a number other than 0, such as 100 to top up or -50 to pay out")
    with locks.held(files, "data/action/pots.lock", 20, "another pot is just being changed; try again in a moment"):
        outcome = "done"
        detail: dict[str, Any] = {"amount": change}
        try:
            found, record, note = _weigh(files, settings, bot_id, change, exchange)
            detail.update(pot_before=found.before, pot_after=found.after, from_profit=found.from_profit, quote=found.quote)
            Registry(files).set_pot(record, found.trade_amount, note)
            return found
        except BaseException as e:
            outcome = f"{type(e).__name__}: {e}"
            raise
        finally:
            with contextlib.suppress(OSError):
                audit(files, by, "pot", bot_id, **detail, outcome=outcome)


def _weigh(files: Files, settings: Settings, bot_id: int, change: Decimal, exchange: Exchange | None) -> tuple[Changed, dict[str, Any], dict[str, Any] | None]:
    """What the change would come to, the record it rests on, and the note to keep; raises where it may not be."""
    record = Registry(files).bot(bot_id)
    if record["sizing"] in pots.POTLESS:
        raise InputError(f"bot {bot_id} has no pot of its own (sizing {record['sizing']}): it spends from the account; change its sizing or max_entry instead")
    held = position.PositionStore(files, bot_id).load()
    if held is not None and any(o.status == SENDING for o in held.orders):
        raise Conflict(f"an order of bot {bot_id} has no known outcome yet; try again in a moment")
    client = exchange or _client(files, settings, record)
    symbol = client.symbol(held.symbol if held is not None and not held.idle else record["symbol"])
    file = None if held is None else position.to_json(held)
    before = pots.pot_of(record, file)
    after = before + change
    stop = setup.stop_loss_of(record, settings, files.home / "strategies")
    _exitable(stop, symbol, client.price(symbol.name), before, after, change)
    profit, taken = pots.profit_of(file), pots.paid_out(record, file)
    from_profit, warning = ZERO, ""
    if change < 0:
        left = max(_loose(record, held), ZERO)
        if -change > left:
            raise InputError(
                f"amount: {plain(-change)} {symbol.quote} is more than can be paid out; of the pot of {plain(before)} {symbol.quote} "
                f"{plain(left)} are not tied up in a position or an order"
            )
        if record["sizing"] != "fixed":  # a fixed pot holds no profit: it lies in the account, unclaimed
            from_profit = min(-change, max(profit - taken, ZERO))
    else:
        warning = _beyond(files, client, record, symbol, change)
        if warning and settings.strict_pots:
            raise InputError(f"amount: {warning}; top up by less, or add funds (STRICT_POTS)")
    note = pots.note_on(record, file, from_profit)
    amount = record["trade_amount"] + change + from_profit
    return Changed(bot_id, symbol.quote, change, before, after, amount, from_profit, warning), record, note


def _client(files: Files, settings: Settings, record: dict[str, Any]) -> Exchange:
    client = access.client(settings, record["mode"], record["account"], sleep=lambda _s: None)
    client.connect(installation(files))
    return client


def _exitable(stop: Decimal, symbol: Symbol, price: Decimal, before: Decimal, after: Decimal, change: Decimal) -> None:
    """InputError where the pot after it couldn't buy what can be sold again, or is too large for one order."""
    least, most = sizing.smallest_entry(symbol, price, stop), sizing.largest_entry(symbol)
    if after < least:
        raise InputError(
            f"amount: {plain(change)} {symbol.quote} would leave {plain(after)} of the pot of {plain(before)}; for {symbol.name} it must stay at "
            f"{plain(least)} {symbol.quote} at least, so that what is bought can be sold again"
        )
    if change > 0 and after > most:
        raise InputError(f"amount: the pot would be {plain(after)} {symbol.quote}; {symbol.name} takes {plain(most)} in one order at most")


def _loose(record: dict[str, Any], held: Position | None) -> Decimal:
    """Of the pot, what neither the open position nor a resting entry has taken up."""
    note = record["pot"] or {}
    plan = decisions.Plan(
        record["trade_amount"], record["sizing"] or "compound", paid_out=note.get("paid_out", ZERO), paid_out_since=note.get("since_trade", 1)
    )
    if held is None:
        return plan.trade_amount
    left = decisions.room(plan, held)
    return ZERO if left is None else min(left, decisions.pot(plan, held))


def _beyond(files: Files, client: Exchange, record: dict[str, Any], symbol: Symbol, change: Decimal) -> str:
    """A word where the account has less to give than the top-up: what is free and no running bot's pot counts on."""
    balance = client.balances().get(symbol.quote)
    free, total = (balance.free, balance.total) if balance else (ZERO, ZERO)
    promised = ZERO
    for other in Registry(files).bots():
        same = all(other[k] == record[k] for k in ("mode", "account", "exchange", "market"))
        if not same or (other["status"] != "running" and other["id"] != record["id"]):
            continue
        file = files.read_json(position.name(other["id"]), schema=position.SCHEMA)
        if file is None or file.get("quote") == symbol.quote:  # of one that never ran nobody knows yet: counted
            promised += pots.left_of(other, file)
    give = max(min(free, total - promised), ZERO)
    if change <= give:
        return ""
    return (
        f"{plain(change)} {symbol.quote} is more than the account has to give: {plain(free)} {symbol.quote} are free, {plain(give)} of them are in no bot's pot"
    )
