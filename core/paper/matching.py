"""Orders against the price path: what fills, when and at which price (DESIGN §5, "The path").

A market order fills at the last print plus slippage, inside the current candle; a limit
order that crosses fills at once at the last print; one that rests is reached when the
straight walk to a print passes or touches its price. Fills are found lazily, up to now,
whenever somebody could see them. Stop orders will be triggered in `_fill_price`, order
lists be tied together in `_after_fill`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.market.fees import EXACT, fee, lock_amount, quote_amount
from core.market.path import reached
from core.model import ZERO, Rules, Side, ceil_to, floor_to
from core.paper.accounts import Accounts
from core.paper.limits import Limits
from core.paper.markets import Market, Print
from core.paper.store import Account, PaperFill, PaperOrder, Store
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


def insufficient() -> WireError:
    return WireError(-2010, "Account has insufficient balance for requested action.")


@dataclass(slots=True)
class Placed:
    order: PaperOrder
    fills: list[PaperFill] = field(default_factory=list)


class Matching:
    """All open orders, and the one place where money changes hands."""

    def __init__(self, store: Store, accounts: Accounts, limits: Limits, market: Market, slippage_pct: Decimal):
        self._store, self._accounts, self._limits, self.market = store, accounts, limits, market
        self._slippage = slippage_pct / HUNDRED
        self._symbols: dict[str, SymbolInfo] = {}
        self.open: dict[int, PaperOrder] = {}
        self._books: dict[str, dict[int, PaperOrder]] = {}
        self._walked: dict[str, int] = {}
        self._next_order = self._next_fill = 1

    def load(self, next_order: int, next_fill: int) -> None:
        """Take the open orders from the store; whatever memory held before is forgotten."""
        self.open, self._books, self._walked = {}, {}, {}
        for order in self._store.open_orders():
            self._keep(order, order.since_ms)
        self._next_order, self._next_fill = next_order, next_fill

    @property
    def next_ids(self) -> tuple[int, int]:
        return self._next_order, self._next_fill

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

    # --- prices --------------------------------------------------------------------

    def market_price(self, info: SymbolInfo, side: str, now: int) -> Decimal:
        """What a market order pays or gets: the last print, slipped against it, inside the current candle."""
        last = self.market.price(info.name, now)
        if last is None or self.market.halted(info.name, now) or info.entry["status"] != "TRADING":
            raise WireError(-2010, "Market is closed.")
        if not self._slippage:
            return last
        tick = info.rules.tick
        if side == "BUY":
            price = ceil_to(EXACT.multiply(last, 1 + self._slippage), tick)
        else:
            price = floor_to(EXACT.multiply(last, 1 - self._slippage), tick)
        candle = self.market.candle(info.name, now)
        if candle is not None:
            _, _, _, high, low, _ = candle
            price = min(max(price, low), high)
        return price

    # --- placing -------------------------------------------------------------------

    def place_market(self, account: Account, info: SymbolInfo, order: PaperOrder, now: int) -> Placed:
        """Fill a MARKET order now; what a partial_fill fault leaves over expires."""
        price = self.market_price(info, order.side, now)
        asset = info.quote if order.side == "BUY" else info.base
        need = quote_amount(price, order.quantity) if order.side == "BUY" else order.quantity
        if account.balances.get(asset) is None or account.balances[asset].free < need:
            raise insufficient()
        self._number(order)
        quantity = order.quantity if order.fraction is None else floor_to(order.quantity * order.fraction, info.lot)
        fills = [self._fill(account, info, order, price, quantity, now, maker=False)] if quantity else []
        if order.remaining:
            order.status, order.expiry_reason = "EXPIRED", "INSUFFICIENT_LIQUIDITY"
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, now)
        return Placed(order, fills)

    def place_limit(self, account: Account, info: SymbolInfo, order: PaperOrder, now: int) -> Placed:
        """Fill a crossing LIMIT order at the last print; what is left rests (GTC) or expires (IOC, FOK)."""
        last = self.market.price(info.name, now)
        crosses = last is not None and (order.price >= last if order.side == "BUY" else order.price <= last)
        closed = last is None or self.market.halted(info.name, now) or info.entry["status"] != "TRADING"
        if closed and (crosses or order.life != "GTC"):
            raise WireError(-2010, "Market is closed.")
        asset = info.quote if order.side == "BUY" else info.base
        need = lock_amount(_side(order), order.price, order.quantity)
        held = account.balances.get(asset)
        if held is None or held.free < need:
            raise insufficient()
        self._number(order)
        held.free -= need
        held.locked += need
        order.locked = need
        fills: list[PaperFill] = []
        if crosses and last is not None:
            quantity = self._first_quantity(info, order)
            if quantity and (quantity == order.quantity or order.life != "FOK"):
                fills.append(self._fill(account, info, order, last, quantity, now, maker=False))
        if order.remaining and order.life != "GTC":
            order.expiry_reason = "UNFILLED_FOK_ORDER_EXPIRED" if order.life == "FOK" else "UNFILLED_IOC_QUANTITY_EXPIRED"
            self._release(account, order, asset)
            order.status = "EXPIRED"
        elif order.remaining:
            order.since_ms = now
            self._keep(order, now)
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, now)
        return Placed(order, fills)

    def cancel(self, account: Account, order: PaperOrder, now: int) -> None:
        info = self.info(order.symbol, now)
        asset = info.quote if order.side == "BUY" else info.base
        self._forget(order)
        self._release(account, order, asset)
        order.status, order.update_ms = "CANCELED", now
        self._store.put_order(order)
        self._accounts.changed(account, {asset}, now)

    def _number(self, order: PaperOrder) -> None:
        order.id = self._next_order
        self._next_order += 1
        self._limits.count_order(order.account)

    def _first_quantity(self, info: SymbolInfo, order: PaperOrder) -> Decimal:
        """What the next fill takes: all that is left, or once the part that a fault allows."""
        if order.fraction is None:
            return order.remaining
        quantity = floor_to(order.quantity * order.fraction, info.rules.step)
        order.fraction = None
        return min(quantity, order.remaining)

    # --- resting orders --------------------------------------------------------------

    def catch_up(self, symbols: Iterable[str], now: int) -> None:
        """Fill whatever the path reached up to now on these symbols."""
        for symbol in symbols:
            if symbol in self._books and self._walked[symbol] < now:
                self._walk(symbol, now)

    def _walk(self, symbol: str, now: int) -> None:
        at = self._walked[symbol]
        while book := self._books.get(symbol):
            below = max((o.price for o in book.values() if o.side == "BUY"), default=None)
            above = min((o.price for o in book.values() if o.side == "SELL"), default=None)
            hit = self.market.reach(symbol, at, now, below, above)
            if hit is None:
                break
            came_from, print_ = hit
            at = print_.ms
            # Along the walk: what lies nearest to where it came from is met first.
            for order in sorted(book.values(), key=lambda o: (abs(o.price - came_from), o.id)):
                if print_.ms > order.since_ms and order.open:
                    self._reach(order, came_from, print_)
        if symbol in self._books:
            self._walked[symbol] = now

    def _reach(self, order: PaperOrder, came_from: Decimal, to: Print) -> None:
        price = _fill_price(order, came_from, to)
        if price is None:
            return
        info, account = self.info(order.symbol, to.ms), self._accounts.by_name[order.account]
        quantity = self._first_quantity(info, order)
        if quantity:
            self._fill(account, info, order, price, quantity, to.ms, maker=True)
        order.since_ms = to.ms
        if not order.remaining:
            self._forget(order)
        self._store.put_order(order)
        self._accounts.changed(account, {info.base, info.quote}, to.ms)

    # --- money ---------------------------------------------------------------------

    def _fill(self, account: Account, info: SymbolInfo, order: PaperOrder, price: Decimal, quantity: Decimal, ms: int, *, maker: bool) -> PaperFill:
        """One execution: balances in memory, the fill in the store, the order's sums."""
        quote = quote_amount(price, quantity)
        rate = account.maker if maker else account.taker
        base_held, quote_held = account.holding(info.base), account.holding(info.quote)
        if not order.executed:
            self._limits.first_fill(account.name, maker)
        order.executed += quantity
        order.executed_quote += quote
        order.status = "FILLED" if not order.remaining else "PARTIALLY_FILLED"
        order.update_ms = ms
        pays, spent = (quote_held, quote) if order.side == "BUY" else (base_held, quantity)
        if order.locked:
            # The last fill frees all that is left of the lock, so that nothing stays locked by rounding.
            part = order.locked if not order.remaining else min(order.locked, lock_amount(_side(order), order.price, quantity))
            order.locked -= part
            pays.locked -= part
            pays.free += part - spent
        else:
            pays.free -= spent
        if order.side == "BUY":
            fee_asset, charge = info.base, fee(quantity, rate)
            base_held.free += quantity - charge
        else:
            fee_asset, charge = info.quote, fee(quote, rate)
            quote_held.free += quote - charge
        fill = PaperFill(self._next_fill, order.id, account.name, info.name, order.side, price, quantity, quote, charge, fee_asset, ms, maker)
        self._next_fill += 1
        self._store.put_fill(fill)
        return fill

    def _release(self, account: Account, order: PaperOrder, asset: str) -> None:
        held = account.holding(asset)
        held.locked -= order.locked
        held.free += order.locked
        order.locked = ZERO


def _side(order: PaperOrder) -> Side:
    return "BUY" if order.side == "BUY" else "SELL"


def _fill_price(order: PaperOrder, came_from: Decimal, to: Print) -> Decimal | None:
    """Where a resting order fills on the walk to a print, None when it isn't reached."""
    price = reached("below" if order.side == "BUY" else "above", order.price, came_from, to.price, to.opens)
    if price is None:
        return None
    # The rest of an order that filled in part may lie beyond the whole walk: the market then
    # gives its own price, which is better than the limit and really was printed.
    if not min(came_from, to.price) <= price <= max(came_from, to.price):
        return to.price
    return price
