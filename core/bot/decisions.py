"""The decisions: pure functions of market, position and settings (seam 8).

Live, paper and backtest call these and nothing else to decide. They read no clock, no
disk and no exchange; whatever they need is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from core.account.pots import BY_EQUITY, POTLESS
from core.bot import fold
from core.market import sizing
from core.market.triggers import touched
from core.model import SENDING, ZERO, Decision, Fill, Intent, KlineRow, Position, Rules, Symbol, floor_to, opposite, plain

LOOKS_BEYOND = 2
ONE = Decimal(1)
PROTECTIONS = ("exchange", "bot")
ENTRY_COST_PCT = Decimal(1)  # spread and slippage that an entry at market may meet, unless the record says otherwise
SIZINGS = ("compound", "fixed", "all_available", "equity", "risk")
NO_STOP = "sizing by risk needs a stop: set stop_loss_pct above 0, or choose another sizing"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bot's record, strategy and settings come to, looked up at each check."""

    trade_amount: Decimal
    sizing: str = "compound"
    stop_loss_pct: Decimal | None = Decimal(2)
    take_profit_pct: Decimal | None = Decimal(5)
    cooldown_checks: int = 1
    protection: str = "exchange"  # who holds stop and target, where the exchange can: exchange or bot
    trailing_stop_pct: Decimal | None = None  # the stop follows the highest high, this far below
    trailing_activation_pct: Decimal | None = None  # ... once the price was this far above the entry
    break_even_pct: Decimal | None = None  # the stop goes to the entry (fees covered) once this far above
    time_stop_candles: int | None = None  # out after so many closed candles
    max_spread_pct: Decimal = ENTRY_COST_PCT  # no entry at market where the book's spread is wider, percent of the middle
    max_slippage_pct: Decimal = ENTRY_COST_PCT  # ... or where its size would pay so much more than the best price
    sizing_pct: Decimal | None = None  # sizing `equity`: percent of the account's equity that an entry spends
    risk_pct: Decimal | None = None  # sizing `risk`: percent of it that is lost where the stop is hit, fees included
    max_entry: Decimal | None = None  # no entry above this, quote asset, whatever the sizing comes to
    paid_out: Decimal = ZERO  # profit that the owner took out of the pot (core/account/pots.py)
    paid_out_since: int = 1  # ... which counts while the totals begin with this trade


def pot(plan: Plan, position: Position) -> Decimal:
    """What the bot may spend on an entry, quote asset: its own money, never another bot's."""
    if plan.sizing == "fixed" or plan.sizing in POTLESS:
        return plan.trade_amount
    first = position.trade - position.totals.trades + (0 if position.direction else 1)
    taken = plan.paid_out if first == plan.paid_out_since else ZERO
    return plan.trade_amount + position.totals.profit - taken


def purse(plan: Plan, position: Position) -> str:
    """What an entry may spend, in words for the log."""
    most = f", {plain(plan.max_entry)} {position.quote} at most" if plan.max_entry is not None else ""
    if plan.sizing == "equity":
        return f"An entry: {plain(plan.sizing_pct or ZERO)} % of the account's equity in {position.quote}{most}"
    if plan.sizing == "risk":
        return f"An entry: such that the stop costs {plain(plan.risk_pct or ZERO)} % of the account's equity in {position.quote}{most}"
    return f"Pot: {plain(pot(plan, position))} {position.quote}{most}"


def room(plan: Plan, position: Position) -> Decimal | None:
    """Quote asset that entries may still cost now: the pot less what the open position has cost so
    far and what resting entries would cost. None: no bound of its own (a sizing without a pot, or a short)."""
    if plan.sizing in POTLESS or position.direction == "SHORT":
        return None
    resting = ZERO
    for o in position.orders:
        r = o.request
        if r.side == "BUY" and not o.terminal:
            resting += (r.quote_quantity or (r.quantity or ZERO) * (r.price or ZERO)) - o.executed_quote
    return pot(plan, position) + position.cash - max(resting, ZERO)


def loss_at_stop(symbol: Symbol, price: Decimal, stop_loss_pct: Decimal, fee_rate: Decimal = sizing.DEFAULT_FEE) -> Decimal:
    """The part of an entry's money that is lost where the stop is hit, the fees of both sides included.

    The stop as it would be placed, on the tick. What it may slip beyond that isn't known beforehand."""
    stop = sizing.level(price, stop_loss_pct, symbol.rules, above=False)
    return 1 - (1 - fee_rate) ** 2 * stop / price


def share_of_equity(plan: Plan, symbol: Symbol, price: Decimal, equity: Decimal | None) -> tuple[Decimal, str]:
    """What sizing `equity` or `risk` would spend, before any bound, and why it can't be told (empty: it can)."""
    if equity is None or not equity.is_finite():
        return ZERO, "equity can't be told"
    if not price.is_finite() or price <= 0:
        return ZERO, f"equity can't be told: the price of {symbol.name} is {price}"
    if plan.sizing == "equity":
        return (equity * plan.sizing_pct / 100, "") if plan.sizing_pct else (ZERO, "sizing by equity needs sizing_pct")
    if not plan.stop_loss_pct or plan.stop_loss_pct <= 0:
        return ZERO, NO_STOP
    if not plan.risk_pct:
        return ZERO, "sizing by risk needs risk_pct"
    return equity * plan.risk_pct / 100 / loss_at_stop(symbol, price, plan.stop_loss_pct), ""


def entry_budget(
    plan: Plan, position: Position, symbol: Symbol, price: Decimal, free_quote: Decimal, equity: Decimal | None = None, size: Decimal = ONE
) -> tuple[Decimal, str]:
    """Quote asset for an entry now, and why there is none (empty text: there is).

    `equity`: the account's, in the quote asset (core/account/equity.py); asked of sizings `equity` and `risk` only.
    `size`: the part of what the sizing comes to that the strategy asks for, 0 < size <= 1."""
    budget, name = pot(plan, position), "pot"
    if plan.sizing == "all_available":
        budget, name = free_quote, "free balance"
    elif plan.sizing in POTLESS:
        budget, why = share_of_equity(plan, symbol, price, equity)
        if why:
            return ZERO, why
        budget, name = min(budget, free_quote), f"size by {plan.sizing}"
    if size != ONE:
        budget, name = budget * size, f"{plain(size * 100)} % of the {name} that the strategy asks for"
    if plan.max_entry is not None:
        budget = min(budget, plan.max_entry)
    quantum = Decimal(1).scaleb(-symbol.quote_precision)
    smallest, largest = sizing.smallest_entry(symbol, price, plan.stop_loss_pct), sizing.largest_entry(symbol, price)
    if largest < min(budget, smallest):
        return ZERO, f"{symbol.name} takes at most {plain(largest)} {symbol.quote} in one order, too little for a position that could be sold again"
    budget = floor_to(min(budget, largest), quantum)
    if budget < smallest:
        have = f"{name} of {plain(budget)} {symbol.quote} is" if size == ONE else f"{name} come to {plain(budget)} {symbol.quote}, which is"
        return ZERO, f"the {have} below the smallest entry that could be sold again, {plain(smallest)} {symbol.quote}"
    if budget > free_quote:
        return ZERO, f"low funds: the pot is {plain(budget)} {symbol.quote}, free are {plain(free_quote)} {symbol.quote}"
    return budget, ""


def look(position: Position, price: Decimal, looks_beyond: int = 0) -> Decision:
    """A look at stop and target: what the bot does at this price when nobody else guards.

    `looks_beyond`: looks before this one that saw the price beyond the same level. Where the
    exchange holds the stop, the bot acts only when that did nothing for two looks."""
    if position.direction is None or position.quantity <= 0:
        return Decision()
    if any(o.status == SENDING or o.request.kind == "MARKET" for o in position.orders):
        return Decision(why_not="an order is already on its way")
    hit = touched(position.direction, position.stop_loss, position.take_profit, price)
    if hit and looks_beyond < LOOKS_BEYOND - 1 and any(o.role == "stop" for o in position.orders):
        return Decision(why_not="the exchange holds the stop")
    if hit == "stop_loss":
        return leave(position, hit, f"price {plain(price)} has reached the stop {plain(position.stop_loss or ZERO)}")
    if hit == "take_profit" and (looks_beyond or not any(o.role in ("exit", "target") for o in position.orders)):
        return leave(position, hit, f"price {plain(price)} has reached the target {plain(position.take_profit or ZERO)}")
    return Decision()


def leave(position: Position, tag: str, reason: str) -> Decision:
    """Out of the whole position at market. Resting orders go first: they lock what is to be
    sold, and would buy again."""
    cancels = tuple(Intent("cancel", tag=o.client_id, reason=reason) for o in position.orders)
    close = Intent("close", side=opposite(position.entry_side), size_all=True, role="exit", tag=tag, reason=reason)
    return Decision(intents=(*cancels, close), signal="SELL" if position.direction == "LONG" else "BUY", reasoning=reason)


def check(
    signal: str,
    reasoning: str,
    plan: Plan,
    position: Position,
    symbol: Symbol,
    price: Decimal,
    free_quote: Decimal | None,
    equity: Decimal | None = None,
    no_equity: str = "",
    size: Decimal = ONE,
) -> Decision:
    """One check of a strategy that only signals: open on BUY when flat, close on SELL when long.

    `free_quote` None: the balance could not be read; that defers only an entry. So does `equity`
    None where the sizing asks for it; `no_equity` says why. `size`: the part of the pot that the strategy asks for.
    """

    def hold(why: str) -> Decision:
        return Decision(signal=signal, reasoning=reasoning, why_not=why)

    if signal not in ("BUY", "SELL"):
        return hold("")
    if any(o.role not in ("stop", "target") or o.status == SENDING for o in position.orders):
        return hold("an order is still open")
    if position.direction is not None:
        against = "SELL" if position.direction == "LONG" else "BUY"
        if signal != against:
            return hold(f"already {position.direction.lower()}")
        return replace(leave(position, "signal", reasoning), signal=signal)
    if signal == "SELL":
        return hold("nothing to sell")
    if position.cooldown > 0:
        return hold(f"cooling down after a stop: {position.cooldown} more check(s)")
    if not symbol.tradeable:
        return hold(f"{symbol.name} can't be traded now (status {symbol.status})")
    if free_quote is None:
        return hold("the free balance could not be read")
    if plan.sizing in BY_EQUITY and equity is None:
        return hold(no_equity or "equity can't be told")
    budget, why = entry_budget(plan, position, symbol, price, free_quote, equity, size)
    if why:
        return hold(why)
    return Decision(
        intents=(Intent("open", side="BUY", size_quote=budget, role="entry", tag="entry", reason=reasoning),),
        signal=signal,
        reasoning=reasoning,
    )


def levels(position: Position, plan: Plan, rules: Rules) -> tuple[Decimal | None, Decimal | None]:
    """Stop and target from the average fill price, rounded down to the tick; None: turned off."""
    entry = position.entry_price
    if entry is None:
        return None, None
    short = position.direction == "SHORT"
    stop = sizing.level(entry, plan.stop_loss_pct, rules, above=short) if plan.stop_loss_pct else None
    target = sizing.level(entry, plan.take_profit_pct, rules, above=not short) if plan.take_profit_pct else None
    return stop, target


def moved_stop(position: Position, plan: Plan, rules: Rules, rows: Sequence[KlineRow]) -> Decimal | None:
    """A better stop for the open position after these closed candles, None where it stays.

    Trailing and break-even move on closed candles only, those that opened after the entry,
    and only in the position's favour. The entry's own price counts as reached: without an
    activation a trailing stop stands from the first candle on, also where there is no stop loss."""
    entry, opened = position.entry_price, position.opened_ms
    if entry is None or opened is None or position.direction is None or not (plan.trailing_stop_pct or plan.break_even_pct):
        return None
    long = position.direction == "LONG"
    since = [r for r in rows if int(r[0]) >= opened]
    if not since:
        return None
    best = max(entry, *(Decimal(str(r[2])) for r in since)) if long else min(entry, *(Decimal(str(r[3])) for r in since))
    gain = (best / entry - 1) * 100 if long else (1 - best / entry) * 100
    found = []
    if plan.trailing_stop_pct and gain >= (plan.trailing_activation_pct or ZERO):
        found.append(sizing.level(best, plan.trailing_stop_pct, rules, above=not long))
    if plan.break_even_pct and gain >= plan.break_even_pct:
        found.append(sizing.level(entry, 2 * _fee_rate(position) * 100, rules, above=long))
    if not found:
        return None
    stop = max(found) if long else min(found)
    old = position.stop_loss
    return stop if old is None or (stop > old if long else stop < old) else None


def _fee_rate(position: Position) -> Decimal:
    """The part of the money that the entry's fees took; at least the usual one, because a discount may end before the exit."""
    paid = ZERO
    for f in position.fills:
        if f.side == position.entry_side:
            paid += f.fee * f.price if f.fee_asset == position.base else f.fee if f.fee_asset == position.quote else f.fee_quote or ZERO
    return max(paid / position.entry_quote, sizing.DEFAULT_FEE) if position.entry_quote else sizing.DEFAULT_FEE


def timed_out(position: Position, plan: Plan, rows: Sequence[KlineRow]) -> Decision:
    """Out after `time_stop_candles` closed candles, counted from the first that opened after the entry.

    Where the entry lies before the first of `rows` (a strategy's window may be shorter than the time
    stop), the candles in between are counted by time, those of an outage among them."""
    if position.direction is None or position.opened_ms is None or not plan.time_stop_candles:
        return Decision()
    held = sum(1 for r in rows if int(r[0]) >= position.opened_ms)
    if rows and (before := int(rows[0][0]) - position.opened_ms) > 0:
        held += before // (int(rows[0][6]) - int(rows[0][0]) + 1)
    if held < plan.time_stop_candles:
        return Decision()
    return leave(position, "time_stop", f"{held} candles are over since the entry")


def after_stop(plan: Plan, tag: str) -> int:
    """Checks to skip after an exit."""
    return plan.cooldown_checks if tag == "stop_loss" else 0


def after_fills(position: Position, plan: Plan, rules: Rules, news: tuple[Fill, ...]) -> Position:
    """What follows from an update, in the same write: stop and target after new entry fills
    (a level that was moved since stays otherwise), settling, cool-down."""
    if position.direction is None or not position.fills:
        return position
    if any(f.side == position.entry_side for f in news):
        stop, target = levels(position, plan, rules)
        position = replace(position, stop_loss=stop, take_profit=target)
    last = position.fills[-1]
    settled = fold.settle(position, last.price, rules)
    if settled.direction is None:
        return replace(settled, cooldown=after_stop(plan, last.tag))
    return settled
