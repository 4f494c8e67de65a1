"""What an order and a fill move in an account: locks, executions, fees, also in BNB.

Every change goes to memory and, through `Accounts.changed`, to the store within the
request's transaction. The fee comes out of the asset received (BINANCE.md §4). With
`bnb_fees` an account pays three quarters of it in BNB, at BNB's last price in the quote
asset (through a third asset where there is no such pair); where its free BNB doesn't
suffice, or nothing tells BNB's price, the full fee comes out of the asset received.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from core.market import resting
from core.market.fees import EXACT, fee, floor8, lock_amount, quote_amount
from core.model import ZERO
from core.paper.accounts import Accounts
from core.paper.limits import Limits
from core.paper.markets import Market
from core.paper.store import Account, Holding, PaperFill, PaperOrder, Store
from core.paper.wire import WireError

if TYPE_CHECKING:
    from core.paper.matching import SymbolInfo

BNB = "BNB"
BNB_SHARE = Decimal("0.75")  # of the fee: a multiplier, as Binance's `discount.discount`


def insufficient() -> WireError:
    return WireError(-2010, "Account has insufficient balance for requested action.")


def pays_with(info: SymbolInfo, order: PaperOrder) -> str:
    return info.quote if order.side == "BUY" else info.base


class Money:
    """The one place where money changes hands. `next_fill` is the next trade id."""

    def __init__(self, store: Store, accounts: Accounts, limits: Limits, market: Market):
        self._store, self._accounts, self._limits, self._market = store, accounts, limits, market
        self._routes: dict[str, tuple[str | None, str] | None] = {}
        self.next_fill = 1

    def free(self, account: Account, info: SymbolInfo, order: PaperOrder) -> Decimal:
        """What the account has free of the asset that the order pays with."""
        held = account.balances.get(pays_with(info, order))
        return held.free if held else ZERO

    def lock(self, account: Account, info: SymbolInfo, order: PaperOrder, amount: Decimal) -> None:
        """Lock `amount` for the order; -2010 when that much isn't free."""
        if self.free(account, info, order) < amount:
            raise insufficient()
        held = account.holding(pays_with(info, order))
        held.free -= amount
        held.locked += amount
        order.locked = amount

    def release(self, account: Account, info: SymbolInfo, order: PaperOrder, keep: Decimal = ZERO) -> None:
        """Free what the order has locked, but for `keep`."""
        held, part = account.holding(pays_with(info, order)), order.locked - keep
        held.locked -= part
        held.free += part
        order.locked = keep

    def fill(self, account: Account, info: SymbolInfo, order: PaperOrder, price: Decimal, quantity: Decimal, ms: int, *, maker: bool) -> PaperFill:
        """One execution: balances in memory, the fill in the store, the order's sums. The caller tells `Accounts.changed`."""
        quote = quote_amount(price, quantity)
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
            own = lock_amount(resting.side_of(order), order.price or order.stop_price, quantity)
            part = order.locked if not order.remaining else min(order.locked, own)
            order.locked -= part
            pays.locked -= part
            pays.free += part - spent
        else:
            pays.free -= spent
        gets, received = (base_held, quantity) if order.side == "BUY" else (quote_held, quote)
        gets.free += received
        asset, charge = self._charge(account, info, order, price, quantity, received, ms, maker)
        fill = PaperFill(self.next_fill, order.id, account.name, info.name, order.side, price, quantity, quote, charge, asset, ms, maker, order.list_id)
        self.next_fill += 1
        self._store.put_fill(fill)
        return fill

    # --- fees ----------------------------------------------------------------------

    def _charge(
        self, account: Account, info: SymbolInfo, order: PaperOrder, price: Decimal, quantity: Decimal, received: Decimal, ms: int, maker: bool
    ) -> tuple[str, Decimal]:
        """Take the fee of a fill whose proceeds have been credited; the asset it was taken in, and how much."""
        rate = account.maker if maker else account.taker
        if account.bnb_fees and rate:
            worth = EXACT.multiply(EXACT.multiply(price, quantity), EXACT.multiply(rate, BNB_SHARE))
            charge, held = self._in_bnb(info, worth, price, ms), account.balances.get(BNB)
            if charge is not None and held is not None and held.free >= charge:
                held.free -= charge
                if BNB not in (info.base, info.quote):
                    self._accounts.changed(account, {BNB}, ms)
                return BNB, charge
        asset: str = info.base if order.side == "BUY" else info.quote
        charge = fee(received, rate)
        gets: Holding = account.holding(asset)
        gets.free -= charge
        return asset, charge

    def _in_bnb(self, info: SymbolInfo, worth: Decimal, price: Decimal, ms: int) -> Decimal | None:
        """`worth` of the quote asset in BNB at `ms`, cut to 8 decimals; None when nothing tells BNB's price."""
        if info.quote == BNB:
            return floor8(worth)
        if info.base == BNB:
            return floor8(EXACT.divide(worth, price))
        route = self._route(info.quote)
        if route is None:
            return None
        through, pair = route
        if through is not None:
            step = self._price(through, ms)
            if step is None:
                return None
            worth = EXACT.multiply(worth, step)
        bnb = self._price(pair, ms)
        return None if bnb is None else floor8(EXACT.divide(worth, bnb))

    def _price(self, symbol: str, ms: int) -> Decimal | None:
        return self._market.price(symbol, ms) if self._market.listed(symbol, ms) else None

    def _route(self, asset: str) -> tuple[str | None, str] | None:
        """The symbols that tell what `asset` is in BNB: (asset in a third one, or None; BNB in that one)."""
        if asset not in self._routes:
            entries = self._market.symbols()
            bnb = {e["quoteAsset"]: str(e["symbol"]) for e in entries if e["baseAsset"] == BNB}
            found: tuple[str | None, str] | None = (None, bnb[asset]) if asset in bnb else None
            if found is None:
                found = next(((str(e["symbol"]), bnb[e["quoteAsset"]]) for e in entries if e["baseAsset"] == asset and e["quoteAsset"] in bnb), None)
            self._routes[asset] = found
        return self._routes[asset]
