"""Orders against the price path: what fills, when and at which price (DESIGN §5, "The path").

A market order fills at the last print plus slippage, inside the current candle; a limit
order that crosses fills at once at the last print; one that rests is reached when the
straight walk to a print passes or touches its price. A stop triggers likewise, at its stop
price or at the open beyond it, and trades at once at that price (no slippage); one whose
limit doesn't allow that rests at its limit, also for the rest of that same walk. Fills are
found lazily, up to now, whenever somebody could see them.

Of the two orders of a list the first to trade or to trigger makes the other expire in that
same moment. The list locks once, what the dearer of the two needs; the first of them holds
it, and the winner takes it over. A BUY at market locks at its stop price; where a candle
opens so far above that lock and free balance don't pay for it, it expires (REJECTED).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.market import liquidity, resting
from core.market.fees import quote_amount
from core.model import ZERO, Rules, floor_to
from core.paper.accounts import Accounts
from core.paper.limits import Limits
from core.paper.markets import Market, Print
from core.paper.money import Money, insufficient
from core.paper.store import Account, PaperFill, PaperList, PaperOrder, Store
from core.paper.wire import WireError

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What matching needs of a symbol, worked out once from its exchangeInfo entry."""

    name: str
    base: str
    quote: str
    rules: Rules
    entry: dict[str, Any]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> SymbolInfo:
        return cls(entry["symbol"], entry["baseAsset"], entry["quoteAsset"], Rules.from_binance(entry["filters"]), entry)

    @property
    def lot(self) -> Decimal:
        """The step of market orders: both lot filters bind them."""
        return max(self.rules.step, self.rules.market_step)


@dataclass(slots=True)
class Placed:
    order: PaperOrder
    fills: list[PaperFill] = field(default_factory=list)


class Matching:
    """All open orders and order lists, and how they meet the path."""

    def __init__(self, store: Store, accounts: Accounts, limits: Limits, market: Market, slippage_pct: Decimal):
        self._store, self._accounts, self._limits, self.market = store, accounts, limits, market
        self._slippage = slippage_pct / HUNDRED
        self._money = Money(store, accounts, limits, market)
        self._symbols: dict[str, SymbolInfo] = {}
        self.open: dict[int, PaperOrder] = {}
        self.lists: dict[int, PaperList] = {}
        self._legs: dict[int, list[PaperOrder]] = {}
        self._books: dict[str, dict[int, PaperOrder]] = {}
        self._walked: dict[str, int] = {}
        self._next_order = self._next_list = 1

    def load(self, next_order: int, next_fill: int, next_list: int) -> None:
        """Take the open orders and lists from the store; whatever memory held before is forgotten."""
        self.open, self._books, self._walked = {}, {}, {}
        for order in self._store.open_orders():
            self._keep(order, order.since_ms)
        self.lists = {found.id: found for found in self._store.lists("done = 0")}
        self._legs = {number: [self.open.get(leg.id, leg) for leg in self._store.legs(number)] for number in self.lists}
        self._next_order, self._money.next_fill, self._next_list = next_order, next_fill, next_list

    @property
    def next_ids(self) -> tuple[int, int, int]:
        return self._next_order, self._money.next_fill, self._next_list

    def info(self, symbol: str, now: int) -> SymbolInfo:
        """A listed symbol, or -1121."""
        if not self.market.listed(symbol, now):
            raise WireError(-1121, "Invalid symbol.")
        found = self._symbols.get(symbol)
        if found is None:
            entry = self.market.symbol(symbol)
            if entry is None:
                raise WireError(-1121, "Invalid symbol.")
            found = self._symbols[symbol] = SymbolInfo.of(entry)
        return found

    # --- who is open ---------------------------------------------------------------

    def _keep(self, order: PaperOrder, since: int) -> None:
        self.open[order.id] = order
        book = self._books.setdefault(order.symbol, {})
        if not book:
            self._walked[order.symbol] = since
        book[order.id] = order
        self._walked[order.symbol] = min(self._walked[order.symbol], since)

    def _forget(self, order: PaperOrder) -> None:
        self.open.pop(order.id, None)
        book = self._books.get(order.symbol, {})
        book.pop(order.id, None)
        if not book:
            self._books.pop(order.symbol, None)
            self._walked.pop(order.symbol, None)

    def open_of(self, account: str, symbol: str | None = None) -> list[PaperOrder]:
        orders = self.open.values() if symbol is None else self._books.get(symbol, {}).values()
        return [o for o in orders if o.account == account]

    def live(self, account: str, client_id: str) -> PaperOrder | None:
        return next((o for o in self.open.values() if o.client_id == client_id and o.account == account), None)

    def symbols_with_orders(self, account: str | None = None) -> list[str]:
        return [s for s, book in self._books.items() if account is None or any(o.account == account for o in book.values())]

    def lists_of(self, account: str, symbol: str | None = None) -> list[PaperList]:
        return [found for found in self.lists.values() if found.account == account and symbol in (None, found.symbol)]

    def legs(self, order_list: PaperList) -> list[PaperOrder]:
        """Both orders of a list, open or not."""
        return self._legs[order_list.id] if order_list.id in self._legs else self._store.legs(order_list.id)

    # --- prices --------------------------------------------------------------------

    def market_price(self, info: SymbolInfo, side: str, now: int) -> Decimal:
        """What a market order pays or gets: the last print, slipped against it, inside the current candle."""
        last = self.market.price(info.name, now)
        if last is None or self._closed(info, now):
            raise WireError(-2010, "Market is closed.")
        return self.slipped(info, side, now, last)

    def slipped(self, info: SymbolInfo, side: str, now: int, last: Decimal) -> Decimal:
        """The last price, slipped against a market order of this side."""
        if not self._slippage:
            return last
        candle = self.market.candle(info.name, now)
        return liquidity.slipped(last, side, self._slippage, info.rules.tick, None if candle is None else (candle[4], candle[3]))

    def _closed(self, info: SymbolInfo, now: int) -> bool:
        return self.market.price(info.name, now) is None or self.market.halted(info.name, now) or info.entry["status"] != "TRADING"

    # --- placing -------------------------------------------------------------------

    def place(self, account: Account, info: SymbolInfo, order: PaperOrder, now: int) -> Placed:
        """A new order of any kind: filled, resting or expired when this returns. -2010 leaves nothing behind."""
        if order.kind == "MARKET":
            return self._place_market(account, info, order, now)
        last = self.market.price(info.name, now)
        self._may_rest(order, last)
        takes = order.kind == "LIMIT" and last is not None and resting.crosses(order, last)
        if (takes or (order.kind == "LIMIT" and order.life != "GTC")) and self._closed(info, now):
            raise WireError(-2010, "Market is closed.")
        self._money.lock(account, info, order, resting.needs(order))
        self._number(order)
        order.since_ms = now
        fills = self._take(account, info, order, last if takes else None, now) if order.kind == "LIMIT" else []
        if order.open:
            self._keep(order, now)
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, now)
        return Placed(order, fills)

    def place_list(self, account: Account, info: SymbolInfo, order_list: PaperList, legs: Sequence[PaperOrder], now: int) -> None:
        """Both orders of a list, or (-2010) none. The first of them holds what is locked for both."""
        last = self.market.price(info.name, now)
        for leg in legs:
            self._may_rest(leg, last)
        self._money.lock(account, info, legs[0], max(resting.needs(leg) for leg in legs))
        order_list.id = self._next_list
        self._next_list += 1
        for leg in legs:
            self._number(leg)
            leg.list_id, leg.since_ms = order_list.id, now
            self._keep(leg, now)
            self._store.put_order(leg)
        self.lists[order_list.id], self._legs[order_list.id] = order_list, list(legs)
        self._store.put_list(order_list)
        self._accounts.changed(account, {info.base, info.quote}, now)

    @staticmethod
    def _may_rest(order: PaperOrder, last: Decimal | None) -> None:
        """-2010 for a stop that is touched and a LIMIT_MAKER that would take, where the price stands."""
        if last is None:
            raise WireError(-2010, "Market is closed.")
        if resting.triggers(order, last):
            raise WireError(-2010, "Stop price would trigger immediately.")
        if order.kind == "LIMIT_MAKER" and resting.crosses(order, last):
            raise WireError(-2010, "Order would immediately match and take.")

    def _place_market(self, account: Account, info: SymbolInfo, order: PaperOrder, now: int) -> Placed:
        price = self.market_price(info, order.side, now)
        need = quote_amount(price, order.quantity) if order.side == "BUY" else order.quantity
        if self._money.free(account, info, order) < need:
            raise insufficient()
        self._number(order)
        fills = self._take_at_market(account, info, order, price, now)
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, now)
        return Placed(order, fills)

    def cancel(self, account: Account, order: PaperOrder, now: int) -> list[PaperOrder]:
        """Cancel an open order, and with it the list it belongs to; the orders cancelled."""
        info = self.info(order.symbol, now)
        gone = [leg for leg in self._legs.get(order.list_id, [order]) if leg.open]
        for leg in gone:
            self._end(account, info, leg, "CANCELED", None, now)
            self._store.put_order(leg)
        self._accounts.changed(account, {info.base, info.quote}, now)
        return gone

    def _number(self, order: PaperOrder) -> None:
        order.id = self._next_order
        self._next_order += 1
        self._limits.count_order(order.account)

    # --- what becomes of an order ------------------------------------------------------

    def _end(self, account: Account, info: SymbolInfo, order: PaperOrder, status: str, reason: str | None, ms: int) -> None:
        """Close an order that is not filled: nothing of it stays locked or in the book."""
        self._money.release(account, info, order)
        order.status, order.expiry_reason, order.update_ms = status, reason, ms
        self._closed_one(order)

    def _closed_one(self, order: PaperOrder) -> None:
        """Forget a finished order, and its list when that was the last of it."""
        self._forget(order)
        order_list = self.lists.get(order.list_id)
        if order_list is not None and not any(leg.open for leg in self._legs[order_list.id]):
            order_list.done = True
            self._store.put_list(order_list)
            del self.lists[order_list.id], self._legs[order_list.id]

    def _win(self, account: Account, info: SymbolInfo, order: PaperOrder, ms: int) -> None:
        """An order trades or triggers: the other of its list expires, and what was locked for both is its own now."""
        for other in self._legs.get(order.list_id, ()):
            if other is not order and other.open:
                order.locked, other.locked = order.locked + other.locked, ZERO
                self._end(account, info, other, "EXPIRED", "OCO_TRIGGER", ms)
                self._store.put_order(other)
                self._money.release(account, info, order, resting.needs(order))

    def _first_quantity(self, order: PaperOrder, step: Decimal) -> Decimal:
        """What the next fill takes: all that is left, or once the part that a fault allows."""
        if order.fraction is None:
            return order.remaining
        quantity = floor_to(order.quantity * order.fraction, step)
        order.fraction = None
        return min(quantity, order.remaining)

    def _take(self, account: Account, info: SymbolInfo, order: PaperOrder, price: Decimal | None, ms: int) -> list[PaperFill]:
        """A limit order begins to work: it takes at `price` (None: it doesn't cross). What an IOC or FOK leaves expires."""
        fills = []
        if price is not None:
            quantity = self._first_quantity(order, info.rules.step)
            if quantity and (quantity == order.quantity or order.life != "FOK"):
                fills.append(self._money.fill(account, info, order, price, quantity, ms, maker=False))
        if order.remaining and order.life != "GTC":
            reason = "UNFILLED_FOK_ORDER_EXPIRED" if order.life == "FOK" else "UNFILLED_IOC_QUANTITY_EXPIRED"
            self._end(account, info, order, "EXPIRED", reason, ms)
        return fills

    def _take_at_market(self, account: Account, info: SymbolInfo, order: PaperOrder, price: Decimal, ms: int) -> list[PaperFill]:
        """An order at market takes at `price`; what a fault leaves over expires."""
        quantity = self._first_quantity(order, info.lot)
        fills = [self._money.fill(account, info, order, price, quantity, ms, maker=False)] if quantity else []
        if order.remaining:
            self._end(account, info, order, "EXPIRED", "INSUFFICIENT_LIQUIDITY", ms)
        return fills

    # --- resting orders --------------------------------------------------------------

    def catch_up(self, symbols: Iterable[str], now: int) -> None:
        """Fill whatever the path reached up to now on these symbols."""
        for symbol in symbols:
            if symbol in self._books and self._walked[symbol] < now:
                self._walk(symbol, now)

    def _walk(self, symbol: str, now: int) -> None:
        at = self._walked[symbol]
        while book := self._books.get(symbol):
            below = max((resting.level(o) for o in book.values() if resting.beyond(o) == "below"), default=None)
            above = min((resting.level(o) for o in book.values() if resting.beyond(o) == "above"), default=None)
            hit = self.market.reach(symbol, at, now, below, above)
            if hit is None:
                break
            came_from, print_ = hit
            at = print_.ms
            self._meet(book, came_from, print_)
        if symbol in self._books:
            self._walked[symbol] = now

    def _meet(self, book: dict[int, PaperOrder], came_from: Decimal, to: Print) -> None:
        """One walk to a print, order by order: what lies nearest to where it came from is met first."""
        resting.meet(book, came_from, to.ms, to.price, to.opens, self._reach, self._trigger)

    def _reach(self, order: PaperOrder, price: Decimal, ms: int) -> None:
        """A resting limit is met: it trades as maker."""
        info, account = self.info(order.symbol, ms), self._accounts.by_name[order.account]
        quantity = self._first_quantity(order, info.rules.step)
        if quantity:
            self._win(account, info, order, ms)
            self._money.fill(account, info, order, price, quantity, ms, maker=True)
        self._written(account, info, order, ms)

    def _trigger(self, order: PaperOrder, price: Decimal, ms: int) -> None:
        """A stop is met: it works from now on, and takes at `price` where its limit allows that."""
        info, account = self.info(order.symbol, ms), self._accounts.by_name[order.account]
        self._win(account, info, order, ms)
        order.working_ms = order.update_ms = ms
        if order.kind not in resting.AT_MARKET:
            self._take(account, info, order, price if resting.crosses(order, price) else None, ms)
        elif order.side == "BUY" and quote_amount(price, order.quantity) > order.locked + self._money.free(account, info, order):
            self._end(account, info, order, "EXPIRED", "REJECTED", ms)
        else:
            self._take_at_market(account, info, order, price, ms)
        self._written(account, info, order, ms)

    def _written(self, account: Account, info: SymbolInfo, order: PaperOrder, ms: int) -> None:
        order.since_ms = ms
        if not order.open:
            self._closed_one(order)
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, ms)
