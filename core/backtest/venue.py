"""The exchange of a backtest: one account in memory, one symbol, and the orders that rest on its tape. Owns no files.

It refuses, prices and fills as the paper exchange does, by the same pure functions of
core/market (filters, resting, liquidity, fees). Fees come out of the asset received, or, where
the settings say so, always out of the quote asset. `now_ms` is set by whoever drives it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal

from core.backtest.tape import Tape, at_least, at_most
from core.errors import OrderNotFound, Refused, Unsupported
from core.exchange import Book, Capabilities, Exchange, TimeReading
from core.market import filters, liquidity, resting
from core.market.fees import EXACT, UNIT, lock_amount
from core.model import CANCELED, EXPIRED, FILLED, NEW, TERMINAL, ZERO, Balance, Candles, Fill, OrderRequest, Side, Symbol, Update, Venue, floor_to

CLOSED = "Market is closed."
POOR = "Account has insufficient balance for requested action."
FINE = Decimal(1).scaleb(-16)  # what amounts are cut to where no filters hold
MANY = Decimal(10) ** 20  # coins, more than anybody buys


@dataclass(slots=True)
class Held:
    """An asset's free and locked amount."""

    free: Decimal = ZERO
    locked: Decimal = ZERO


class Account:
    """What the bots of a backtest own together. `log` says after each fill (ms, asset, free + locked)."""

    def __init__(self, quote: str, cash: Decimal):
        self.assets: dict[str, Held] = {quote: Held(cash)}
        self.log: list[tuple[int, str, Decimal]] = [(0, quote, cash)]
        self.orders = self.trades = 0  # the last ids given

    def of(self, asset: str) -> Held:
        return self.assets.setdefault(asset, Held())

    def note(self, ms: int, *assets: str) -> None:
        for asset in assets:
            held = self.of(asset)
            self.log.append((ms, asset, held.free + held.locked))


@dataclass(slots=True)
class SimOrder:
    """One order. What it doesn't have is 0, as core/market/resting.py wants it; `pair` names the other of its list."""

    id: int
    request: OrderRequest
    quantity: Decimal
    time_ms: int
    working_ms: int
    since_ms: int
    status: str = NEW
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    locked: Decimal = ZERO
    pair: int | None = None
    reason: str = ""
    fills: list[Fill] = field(default_factory=list)

    @property
    def side(self) -> Side:
        return self.request.side

    @property
    def kind(self) -> str:
        return self.request.kind

    @property
    def price(self) -> Decimal:
        return self.request.price or ZERO

    @property
    def stop_price(self) -> Decimal:
        return self.request.stop_price or ZERO

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed

    @property
    def open(self) -> bool:
        return self.status not in TERMINAL

    def update(self) -> Update:
        return Update(self.request.client_id, self.status, str(self.id), self.executed, self.executed_quote, tuple(self.fills), self.time_ms, self.reason)


class SimExchange(Exchange):
    """One symbol's market for one account. `fee_rate` and `slippage` are parts (0.001 is 0.1 %), `quantum` is what amounts are cut to."""

    capabilities = Capabilities(order_kinds=frozenset({"MARKET", "LIMIT", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT"}), protection=True)

    def __init__(
        self, account: Account, symbol: Symbol, tape: Tape, venue: Venue, fee_rate: Decimal, fee_in_quote: bool, slippage: Decimal, quantum: Decimal = UNIT
    ):
        self.account, self.info, self.tape, self.venue = account, symbol, tape, venue
        self._rate, self._fee_in_quote, self._slippage, self._quantum = fee_rate, fee_in_quote, slippage, quantum
        self.now_ms = 0
        self.book_of: dict[int, SimOrder] = {}
        self._walked = 0
        self._by_client: dict[str, SimOrder] = {}
        self._changed: list[SimOrder] = []  # on the walk now

    # --- what the bot asks ------------------------------------------------------------

    def time(self) -> TimeReading:
        return TimeReading(self.now_ms, self.now_ms)

    def request_time_ms(self) -> int:
        return self.now_ms

    def symbol(self, name: str) -> Symbol:
        return self.info

    def symbols(self) -> list[Symbol]:
        return [self.info]

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        raise Unsupported("a backtest hands its candles in itself")

    def price(self, symbol: str) -> Decimal:
        found = self.tape.last(self.now_ms)
        if found is None:
            raise Refused(f"{symbol} has no price before its first candle")
        return found

    def book(self, symbol: str, depth: int = 100) -> Book:
        last = self.price(symbol)
        if not self.info.rules.tick:  # no rules, so no tick that bids and asks could lie apart by: whoever comes gets the last print
            return Book(((last, MANY),), ((last, MANY),))
        sides = {s: tuple(liquidity.printed(last, s, self.info.rules, self._slipped(s, last), 20)) for s in ("BUY", "SELL")}
        return Book(sides["SELL"], sides["BUY"])

    def balances(self) -> dict[str, Balance]:
        return {a: Balance(a, h.free, h.locked) for a, h in self.account.assets.items()}

    def order(self, symbol: str, client_id: str) -> Update:
        found = self._by_client.get(client_id)
        if found is None:
            raise OrderNotFound(f"no order {client_id}")
        return found.update()

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return [o.update() for o in self.book_of.values()]

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        return [f for o in self._by_client.values() if order_id in (None, str(o.id)) for f in o.fills]

    # --- placing ------------------------------------------------------------------------

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        last = self.tape.last(self.now_ms)
        if last is None:
            raise Refused(CLOSED)
        quantity = self._by_quote(request, last) if request.quote_quantity is not None else request.quantity or ZERO
        self._filtered(request, quantity, last, request.quote_quantity)
        self._counted([(request, quantity)], last)
        order = self._draft(request, quantity)
        if order.kind == "MARKET":
            price = self._at_market(order.side, last)
            if self._pays(order).free < self._cost(order.side, price, quantity):
                raise Refused(POOR)
            self._number(order)
            self._fill(order, price, self.now_ms, maker=False)
        else:
            self._rest(order, last)
        return order.update()

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        last = self.tape.last(self.now_ms)
        if last is None:
            raise Refused(CLOSED)
        for leg in (stop, target):
            self._filtered(leg, leg.quantity or ZERO, last, None)
        self._counted([(leg, leg.quantity or ZERO) for leg in (stop, target)], last)
        below, above = stop.stop_price or ZERO, target.price or ZERO
        if not (below < last < above if stop.side == "SELL" else above < last < below):
            raise Refused("The relationship of the prices for the orders is not correct.")
        first, other = (self._draft(leg, leg.quantity or ZERO) for leg in (stop, target))
        need = max(resting.needs(first), resting.needs(other))
        pays = self._pays(first)
        if pays.free < need:
            raise Refused(POOR)
        pays.free, pays.locked, first.locked = pays.free - need, pays.locked + need, need
        for order in (first, other):
            self._number(order)
            self._keep(order)
        first.pair, other.pair = other.id, first.id
        return other.update(), first.update()

    def cancel(self, symbol: str, client_id: str) -> Update:
        order = self._by_client.get(client_id)
        if order is None or not order.open:
            raise OrderNotFound(f"no open order {client_id}")
        pair = self.book_of.get(order.pair) if order.pair is not None else None
        for leg in (order, pair):
            if leg is not None:
                self._end(leg, CANCELED, "")
        return order.update()

    def _draft(self, request: OrderRequest, quantity: Decimal) -> SimOrder:
        working = -1 if request.kind in resting.STOPS else self.now_ms
        return SimOrder(0, request, quantity, self.now_ms, working, self.now_ms)

    def _number(self, order: SimOrder) -> None:
        self.account.orders += 1
        order.id = self.account.orders
        self._by_client[order.request.client_id] = order

    def _keep(self, order: SimOrder) -> None:
        if not self.book_of:
            self._walked = self.now_ms
        self.book_of[order.id] = order

    def _rest(self, order: SimOrder, last: Decimal) -> None:
        """A limit, a maker or a lone stop: it rests, and takes at once where it may."""
        if resting.triggers(order, last):
            raise Refused("Stop price would trigger immediately.")
        crosses = resting.crosses(order, last) if order.kind in ("LIMIT", "LIMIT_MAKER") else False
        if order.kind == "LIMIT_MAKER" and crosses:
            raise Refused("Order would immediately match and take.")
        life = order.request.life or "GTC"
        if order.kind == "LIMIT" and (crosses or life != "GTC") and self.tape.halted(self.now_ms):
            raise Refused(CLOSED)
        need, pays = self._lock(order.side, order.price or order.stop_price, order.remaining), self._pays(order)
        if pays.free < need:
            raise Refused(POOR)
        pays.free, pays.locked, order.locked = pays.free - need, pays.locked + need, need
        self._number(order)
        if crosses:
            self._fill(order, last, self.now_ms, maker=False)
        elif order.kind == "LIMIT" and life != "GTC":
            self._end(order, EXPIRED, f"UNFILLED_{life}_ORDER_EXPIRED")
        else:
            self._keep(order)

    def _by_quote(self, request: OrderRequest, last: Decimal) -> Decimal:
        """An amount of the quote asset as a quantity, floored to the step."""
        price, rules = self._at_market(request.side, last), self.info.rules
        unit = EXACT.multiply(price, 1 + self._rate) if self._fee_in_quote and request.side == "BUY" else price
        step = max(rules.step, rules.market_step)
        quantity = EXACT.divide(request.quote_quantity or ZERO, unit)
        quantity = floor_to(quantity, step) if step else quantity.quantize(UNIT, ROUND_FLOOR, EXACT)
        if not quantity or quantity < max(rules.min_quantity, rules.market_min_quantity):
            raise Refused("Order book liquidity is less than `LOT_SIZE` filter minimum quantity.")
        return quantity

    def _filtered(self, request: OrderRequest, quantity: Decimal, last: Decimal, notional: Decimal | None) -> None:
        average = self.tape.average(self.now_ms) if self.info.rules.filters else last
        failed = filters.violation(
            self.info.rules, request.side, request.kind, quantity, request.price, average, last, stop_price=request.stop_price, notional=notional
        )
        if failed:
            raise Refused(f"Filter failure: {failed}")

    def _counted(self, wanted: list[tuple[OrderRequest, Decimal]], last: Decimal) -> None:
        rules = self.info.rules
        if not rules.filters:
            return
        (first, quantity), base = wanted[0], self.account.of(self.info.base)
        opened = list(self.book_of.values())
        paired = {o.pair for o in opened if o.pair is not None}
        stops = sum(o.kind in resting.STOPS for o in opened)
        buys = sum((o.remaining for o in opened if o.side == "BUY"), ZERO)
        held = filters.Holdings(len(opened), len(opened), base.free + base.locked, buys, stops, stops, len(paired) // 2, len(paired) // 2)
        adds = filters.Wanted(sum(r.kind != "MARKET" for r, _ in wanted), sum(r.kind in resting.STOPS for r, _ in wanted), int(len(wanted) > 1))
        worth = first.quote_quantity or max(EXACT.multiply(r.price or r.stop_price or last, q) for r, q in wanted)
        failed = filters.account_violation(rules, first.side, adds, quantity, worth, self.info.base, self.info.quote, held)
        if failed:
            raise Refused(f"Filter failure: {failed}")

    # --- prices and money ---------------------------------------------------------------

    def _at_market(self, side: Side, last: Decimal) -> Decimal:
        if self.tape.halted(self.now_ms):
            raise Refused(CLOSED)
        return self._slipped(side, last)

    def _slipped(self, side: str, last: Decimal) -> Decimal:
        within = self.tape.range(self.now_ms) if self._slippage else None
        return liquidity.slipped(last, side, self._slippage, self.info.rules.tick, within)

    def _cut(self, amount: Decimal) -> Decimal:
        return amount.quantize(self._quantum, ROUND_FLOOR, EXACT)

    def _pays(self, order: SimOrder) -> Held:
        return self.account.of(self.info.quote if order.side == "BUY" else self.info.base)

    def _cost(self, side: Side, price: Decimal, quantity: Decimal) -> Decimal:
        """What an execution takes from the account, in the asset it pays with."""
        if side == "SELL":
            return quantity
        quote = self._cut(EXACT.multiply(price, quantity))
        return quote + self._cut(EXACT.multiply(quote, self._rate)) if self._fee_in_quote else quote

    def _lock(self, side: Side, price: Decimal, quantity: Decimal) -> Decimal:
        need = lock_amount(side, price, quantity)
        return need + self._cut(EXACT.multiply(need, self._rate)) if self._fee_in_quote and side == "BUY" else need

    def _fill(self, order: SimOrder, price: Decimal, ms: int, *, maker: bool) -> None:
        """The order executes, whole."""
        info, quantity = self.info, order.remaining
        quote = self._cut(EXACT.multiply(price, quantity))
        base_held, quote_held, buys = self.account.of(info.base), self.account.of(info.quote), order.side == "BUY"
        in_quote = self._fee_in_quote or not buys
        fee = self._cut(EXACT.multiply(quote if in_quote else quantity, self._rate))
        self._release(order)
        if buys:
            base_held.free += quantity
            quote_held.free -= quote
        else:
            base_held.free -= quantity
            quote_held.free += quote
        (quote_held if in_quote else base_held).free -= fee
        order.executed, order.executed_quote, order.status = order.executed + quantity, order.executed_quote + quote, FILLED
        self.account.trades += 1
        order.fills.append(
            Fill(
                str(self.account.trades), str(order.id), order.request.client_id, info.name, order.side, price, quantity, quote, fee,
                info.quote if in_quote else info.base, ms, maker,
            )
        )  # fmt: skip
        self.account.note(ms, info.base, info.quote)
        self.book_of.pop(order.id, None)

    def _release(self, order: SimOrder) -> None:
        if order.locked:
            pays = self._pays(order)
            pays.free, pays.locked, order.locked = pays.free + order.locked, pays.locked - order.locked, ZERO

    def _end(self, order: SimOrder, status: str, reason: str) -> None:
        self._release(order)
        order.status, order.reason = status, reason
        self.book_of.pop(order.id, None)

    # --- resting orders -------------------------------------------------------------------

    def _next_hit(self, until_ms: int) -> tuple[Decimal, int, Decimal, bool] | None:
        waiting = self.book_of.values()
        below = max((resting.level(o) for o in waiting if resting.beyond(o) == "below"), default=None)
        above = min((resting.level(o) for o in waiting if resting.beyond(o) == "above"), default=None)
        return self.tape.reach(self._walked, until_ms, None if below is None else at_most(below), None if above is None else at_least(above))

    def next_met(self, until_ms: int) -> int | None:
        """When the path first meets an order, `until_ms` at the latest; nothing is done yet."""
        hit = self._next_hit(until_ms) if self.book_of and self._walked < until_ms else None
        return None if hit is None else hit[1]

    def advance(self, until_ms: int) -> tuple[int, list[Update]] | None:
        """Walk on to `until_ms`, but not beyond the first print that does something to an order: (its ms, what changed)."""
        while self.book_of and self._walked < until_ms:
            hit = self._next_hit(until_ms)
            if hit is None:
                break
            came_from, ms, price, opens = hit
            self._walked = ms
            with self._noting() as changed:
                resting.meet(self.book_of, came_from, ms, price, opens, self._reach, self._trigger)
            if changed:
                return ms, [o.update() for o in changed]
        self._walked = max(self._walked, until_ms)
        return None

    @contextmanager
    def _noting(self) -> Iterator[list[SimOrder]]:
        self._changed = []
        yield self._changed

    def _win(self, order: SimOrder) -> None:
        """It trades or triggers: the other of its pair expires, and what was locked for both is its own."""
        other = self.book_of.get(order.pair) if order.pair is not None else None
        if other is None:
            return
        order.locked, other.locked = order.locked + other.locked, ZERO
        self._end(other, EXPIRED, "OCO_TRIGGER")
        self._changed.append(other)

    def _reach(self, order: SimOrder, price: Decimal, ms: int) -> None:
        self._win(order)
        self._fill(order, price, ms, maker=True)
        self._changed.append(order)

    def _trigger(self, order: SimOrder, price: Decimal, ms: int) -> None:
        self._win(order)
        order.working_ms = order.since_ms = ms
        at_market = order.kind in resting.AT_MARKET
        if at_market and order.side == "BUY" and self._cost("BUY", price, order.quantity) > order.locked + self._pays(order).free:
            self._end(order, EXPIRED, "REJECTED")
            self._changed.append(order)
        elif at_market or resting.crosses(order, price):
            self._fill(order, price, ms, maker=False)
            self._changed.append(order)
