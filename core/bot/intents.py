"""Intents into orders: each kind is carried out, or refused by name (seam 5).

Sizes are settled here: an entry in the quote asset where the exchange takes that, an exit
never above what is owned and free, both on the symbol's step and above its minimums.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from core.bot import fold, own_coins, protection
from core.bot.decisions import Plan
from core.bot.execution import Executor, Leg, Result
from core.errors import ExchangeError, RateLimited, Unsupported
from core.market import liquidity, sizing
from core.model import ZERO, Intent, Position, Symbol, floor_to, plain


def carry_out(executor: Executor, intent: Intent, symbol: Symbol, price: Decimal) -> Result:
    """Do what the intent says, at `price` as the last one known; a refusal names what can't be done."""
    position = executor.position
    if intent.action == "none":
        return Result("done")
    if intent.action == "cancel":
        order = next((o for o in position.orders if intent.tag in (o.tag, o.client_id)), None)
        return executor.cancel(order) if order else Result("done", f"nothing open is tagged {intent.tag!r}")  # it may just have filled
    if intent.action == "protect":
        return protection.protect(executor, symbol, intent.stop_loss, intent.take_profit)
    problem = _problem(executor, intent, symbol)
    if problem:
        return Result("refused", f"{intent.action}: {problem}")
    leaving = is_leaving(intent)
    try:
        quantity, quote = _size(executor, intent, symbol, price, leaving)
    except Unsupported as e:
        return Result("refused", f"{intent.action}: {e}")
    except RateLimited:
        raise
    except ExchangeError as e:
        return Result("not_sent", f"{intent.action}: the balance can't be read: {e}")
    kind = intent.kind.upper()
    limit = floor_to(intent.price, symbol.rules.tick) if kind == "LIMIT" and intent.price is not None else None
    side = intent.side if intent.side is not None else position.entry_side
    leg = Leg(side, kind, intent.role, intent.tag, quantity, quote, limit, life=intent.life if kind == "LIMIT" else None)

    def first_investment(p: Position) -> Position:
        first = not leaving and not p.has_traded and not p.initial_investment
        return replace(p, initial_investment=quote or (quantity or ZERO) * (limit or price)) if first else p

    return executor.send(leg, first_investment)


def too_dear(executor: Executor, intent: Intent, symbol: Symbol, plan: Plan) -> Result:
    """Whether the book allows this entry at market: `done`, `refused` (why), or `not_sent` where it can't be read.

    Asked before the intent is written. Ways out are never asked: they don't wait for a better price."""
    if intent.kind != "market" or is_leaving(intent) or intent.action not in ("open", "add"):
        return Result("done")
    if _problem(executor, intent, symbol) or (intent.size_base is None and intent.size_quote is None):
        return Result("done")  # `carry_out` refuses it by name
    try:
        book = executor.exchange.book(symbol.name)
    except RateLimited:
        raise
    except Unsupported as e:
        return Result("refused", f"{intent.action}: {e}")
    except ExchangeError as e:
        return Result("not_sent", f"{intent.action}: the order book can't be read: {e}")
    side = intent.side or executor.position.entry_side
    done = "bought" if side == "BUY" else "sold"
    nobody = "sells" if not book.asks else "buys"
    size = {"base": intent.size_base} if intent.size_base is not None else {"quote": intent.size_quote}
    found = liquidity.cost(book.bids, book.asks, side, **size)
    if found is None:
        return Result("refused", f"the order book has an empty side, nobody {nobody} {symbol.base} now: nothing was {done}")
    tick = symbol.rules.tick
    if not liquidity.within(found.spread, found.mid, plan.max_spread_pct, tick):
        return Result("refused", f"the spread is {found.spread_pct:.2f} %, this bot's limit is {plain(plan.max_spread_pct)} %: nothing was {done}")
    if found.slippage is None or found.slippage_pct is None:
        asset = symbol.base if intent.size_base is not None else symbol.quote
        wanted = f"{plain(intent.size_base or intent.size_quote or ZERO)} {asset}"
        return Result("refused", f"the book is too thin: it holds {plain(floor_to(found.held, Decimal('1E-8')))} of {wanted}: nothing was {done}")
    if not liquidity.within(found.slippage, found.best, plan.max_slippage_pct, tick):
        text = f"the slippage would be {found.slippage_pct:.2f} %, this bot's limit is {plain(plan.max_slippage_pct)} %: nothing was {done}"
        return Result("refused", text)
    return Result("done")


def is_leaving(intent: Intent) -> bool:
    return intent.action in ("close", "reduce") or intent.role in ("exit", "stop", "target")


def _problem(executor: Executor, intent: Intent, symbol: Symbol) -> str:
    can, venue, kind = executor.exchange.capabilities, executor.exchange.venue, intent.kind.upper()
    if kind not in ("MARKET", "LIMIT") or kind not in symbol.order_types:
        return f"{symbol.name} takes no {intent.kind} orders"
    if kind == "LIMIT" and (intent.price is None or intent.life not in can.lives):
        return f"a limit order needs a price and a life of {', '.join(sorted(can.lives))}"
    for name, value in (("size_base", intent.size_base), ("size_quote", intent.size_quote), ("price", intent.price)):
        if value is not None and not (isinstance(value, Decimal) and value.is_finite() and value > 0):
            return f"{name} is {value!r}; it must be a Decimal above 0"
    if intent.side is None:
        return "the side is missing"
    if not is_leaving(intent) and intent.side == "SELL" and not can.shorts:
        return f"{venue.exchange} {venue.market} has no shorts"
    if is_leaving(intent) and executor.position.direction is None:
        return "there is no position to leave"
    return ""


def _size(executor: Executor, intent: Intent, symbol: Symbol, price: Decimal, leaving: bool) -> tuple[Decimal | None, Decimal | None]:
    """(base, quote) of the order: one of the two. Unsupported where the size can't be traded."""
    market = intent.kind == "market"
    at = intent.price if intent.price is not None and not market else price
    if leaving:
        return exit_size(executor, intent, symbol, at, market), None
    if intent.size_base is not None:
        wanted = floor_to(intent.size_base, sizing.quantity_step(symbol.rules, market))
        if sizing.sellable(wanted, at, symbol.rules, market) <= 0:
            raise Unsupported(f"{plain(intent.size_base)} {symbol.base} is below the symbol's minimum")
        return wanted, None
    if intent.size_quote is None:
        raise Unsupported(f"an entry needs a size in {symbol.quote} or {symbol.base}")
    if market and executor.exchange.capabilities.quote_sized:
        return None, floor_to(intent.size_quote, Decimal(1).scaleb(-symbol.quote_precision))
    quantity = sizing.quantity_for(intent.size_quote, at, symbol.rules)
    if sizing.sellable(quantity, at, symbol.rules, market) <= 0:
        raise Unsupported(f"{plain(intent.size_quote)} {symbol.quote} buys less than the symbol's minimum")
    return quantity, None


def resting(position: Position) -> Decimal:
    """Base asset that the position's own open ways out still mean to sell (buy back, for a short).

    It is theirs until they are over. On an account that other bots share, the free balance
    doesn't show it: what lies free there may be another bot's. Target and stop are one pair."""
    left: dict[bool, Decimal] = {}
    for order in position.orders:
        if order.side != position.entry_side and order.request.quantity is not None and not order.terminal:
            paired = order.role in ("stop", "target") and any(o.role == "stop" and not o.terminal for o in position.orders)
            amount = max(order.request.quantity - fold.known_fills(position, order), ZERO)
            left[paired] = max(left.get(True, ZERO), amount) if paired else left.get(False, ZERO) + amount
    return sum(left.values(), ZERO)


def exit_size(executor: Executor, intent: Intent, symbol: Symbol, price: Decimal, market: bool) -> Decimal:
    """Sell what is owned, capped by the free balance, floored to the step (DESIGN §1.4)."""
    position = executor.position
    owned = position.quantity - resting(position) if position.direction else ZERO
    wanted = min(owned, intent.size_base) if intent.size_base is not None else owned
    if intent.size_quote is not None:
        wanted = min(owned, intent.size_quote / price)
    if position.direction == "SHORT":
        return floor_to(wanted, sizing.quantity_step(symbol.rules, market))
    free, ours = own_coins.within_reach(executor, owned)
    amount = sizing.sellable(min(wanted, ours), price, symbol.rules, market)
    if amount > 0:
        return amount
    if ours < wanted and sizing.sellable(wanted, price, symbol.rules, market) > 0:
        text = f"the bot owns {plain(owned)} {symbol.base}, but only {plain(free)} are free: somebody sold, moved or locked them"
        if ours < free:
            text = f"the bot owns {plain(owned)} {symbol.base}; of the {plain(free)} that are free {plain(free - ours)} are other bots': coins are missing"
        raise Unsupported(text)
    raise Unsupported(f"{plain(wanted)} {symbol.base} is below what {symbol.name} lets be sold")
