"""An exchange whose reads are shared with the other bots of the account: one asks, all know. Owns no file.

Shared, with the longest time between the fetch's begin and the question (wall):

- prices, 1 s: one request for every symbol that anybody asked for within a minute.
- open orders, 2 s: a look at a symbol's, or at the whole account's, where that weighs less than a
  question for each. Only what a look lists, unchanged, is believed; all else is asked for singly.
- balances, 2 s, and only looks that began after the last order that anybody of this account sent
  or cancelled, and after the last fill that this bot heard of.
- a symbol's rules, 60 s, for a process's first question only: whoever asks again wants to know it anew.

On a paper market whose speed is not 1 nothing is shared: by market time it would be too old.
Closed candles are shared by core/market/history.py; `turn` lets one bot fetch them at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

from core.account.shared import Moment, Shared
from core.errors import Refused
from core.exchange import Book, Exchange, KeyRights, Priority, TimeReading
from core.model import NEW, PARTIALLY_FILLED, Balance, Candles, Fill, OrderRequest, Rules, Symbol, Update

PRICE_AGE_MS = 1000
PRICE_WISH_MS = 60_000
APART_MS = 5000  # after a common request for prices was refused each asks for its own so long
ORDERS_AGE_MS = 2000
ORDERS_WISH_MS = 10_000
LEAST_REST_MS = 500  # between two questions for one order, however long a look at all took
BALANCES_AGE_MS = 2000
RULES_AGE_MS = 60_000
ORDER_WAY_MS = 15_000  # so long an order may be under way; a request's time-out lies below it
# Request weights (core/binance_limits.py): one order, a symbol's open orders, the whole account's.
ONE_ORDER, SYMBOLS_ORDERS, ALL_ORDERS = 4, 6, 80

T = TypeVar("T")


class SharedExchange(Exchange):
    """`inner` with shared reads; everything else is passed on to it."""

    def __init__(self, inner: Exchange, shared: Shared):
        self.inner, self.shared = inner, shared
        self.venue, self.capabilities = inner.venue, inner.capabilities
        self._reading: tuple[TimeReading, int] | None = None  # and the monotonic clock then
        self._heard_wall = 0  # when this process last heard of an execution
        self._rules_asked: set[str] = set()
        self._gone: set[str] = set()  # symbols whose price the exchange refused: they would spoil the others' request

    def __getattr__(self, name: str) -> Any:
        """Names that only some forms have (`get_account_balance`, `place_market_order`, ...)."""
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def priority(self) -> Priority:  # type: ignore[override]
        return self.inner.priority

    @priority.setter
    def priority(self, value: Priority) -> None:
        self.inner.priority = value

    # --- what may be shared -------------------------------------------------------------

    def _sharing(self) -> bool:
        if not self.shared.usable:
            return False
        return self.venue.mode != "paper" or (self._reading is not None and self._reading[0].speed == 1)

    def _now(self) -> Moment:
        if self._reading is None:
            return self.shared.now()
        reading, at = self._reading
        now = self.shared.now()
        return Moment(now.wall, now.mono, reading.market_ms + int((now.mono - at) * reading.speed))

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self.venue.key()} {kind} {name}".strip()

    # --- prices ---------------------------------------------------------------------------

    def price(self, symbol: str) -> Decimal:
        if not self._sharing() or symbol in self._gone:
            return self._own_price(symbol)
        room, asked = self._key("price"), self._now()
        self.shared.wish(room, symbol, every_ms=PRICE_WISH_MS // 3)
        if self.shared.find(self._key("apart"), asked, APART_MS):
            return self._own_price(symbol)

        def find() -> Decimal | None:
            seen = self.shared.find(self._key("price", symbol), asked, PRICE_AGE_MS)
            return None if seen is None else Decimal(seen.value)

        def fetch() -> Decimal:
            began = self._now()
            names = {symbol, *self.shared.wishes(room, PRICE_WISH_MS)}
            try:
                told = self.inner.prices(sorted(names)) if len(names) > 1 else {symbol: self.inner.price(symbol)}
            except Refused:
                if len(names) == 1:
                    raise
                self.shared.put({self._key("apart"): 1}, began)  # one of them is no symbol any more
                return self._own_price(symbol)
            self.shared.put({self._key("price", name): str(value) for name, value in told.items()}, began)
            return told[symbol]

        found = self.shared.once(room, find, fetch)
        return self._own_price(symbol) if found is None else found

    def _own_price(self, symbol: str) -> Decimal:
        try:
            price = self.inner.price(symbol)
        except Refused:
            self._gone.add(symbol)
            self.shared.drop_wish(self._key("price"), symbol)
            raise
        self._gone.discard(symbol)
        return price

    def prices(self, symbols: Iterable[str]) -> dict[str, Decimal]:
        return self.inner.prices(symbols)

    # --- open orders -----------------------------------------------------------------------

    def glance(self, symbol: str, client_id: str) -> tuple[Update, int] | None:
        if not self._sharing():
            return None
        room, asked = self._key("orders"), self._now()
        self.shared.wish(room, client_id, symbol, every_ms=ORDERS_WISH_MS // 3)

        def find() -> dict[str, Any] | None:
            for key in (self._key("orders", "*"), self._key("orders", symbol)):
                seen = self.shared.find(key, asked, ORDERS_AGE_MS - 1)
                if seen is not None and seen.began.wall > self._heard_wall:
                    return {"orders": seen.value, "began": seen.began.mono}
            return None

        def fetch(one: str | None) -> dict[str, Any]:
            began = self._now()
            told = {u.client_id: [u.status, u.order_id, str(u.executed), str(u.executed_quote), u.time_ms, u.symbol] for u in self.inner.open_orders(one)}
            self.shared.put({self._key("orders", one or "*"): told}, began)
            return {"orders": told, "began": began.mono}

        found = find()
        if found is None:
            whose = self._worth(room, symbol)
            if whose == "":
                return None
            one = None if whose == "*" else whose
            found = self.shared.once(self._key("orders", whose), find, lambda: fetch(one))
        row = None if found is None else found["orders"].get(client_id)
        if found is None or row is None or row[0] not in (NEW, PARTIALLY_FILLED):
            return None
        age = max(0, self.shared.now().mono - found["began"])
        if age >= ORDERS_AGE_MS:  # it was long under way; asking again at once would not make it quicker
            age = ORDERS_AGE_MS - LEAST_REST_MS
        return Update(client_id, row[0], row[1], Decimal(row[2]), Decimal(row[3]), time_ms=row[4], symbol=row[5]), age

    def _worth(self, room: str, symbol: str) -> str:
        """What weighs least for everybody's orders: "*" for all at once, the symbol's, or "" for one question each."""
        asked: dict[str, int] = {}
        for theirs in self.shared.wishes(room, ORDERS_WISH_MS).values():
            asked[theirs] = asked.get(theirs, 0) + 1
        if sum(min(n * ONE_ORDER, SYMBOLS_ORDERS) for n in asked.values()) > ALL_ORDERS:
            return "*"
        return symbol if asked.get(symbol, 0) * ONE_ORDER > SYMBOLS_ORDERS else ""

    # --- balances ----------------------------------------------------------------------------

    def balances(self) -> dict[str, Balance]:
        if not self._sharing():
            return self.inner.balances()
        key, asked = self._key("balances"), self._now()
        if (self.shared.stamped(key) or 0) >= asked.wall:
            return self.inner.balances()  # an order is under way: nothing that is seen now can be shared

        def find() -> dict[str, Balance] | None:
            seen = self.shared.find(key, asked, BALANCES_AGE_MS)
            changed = self.shared.stamped(key)
            if seen is None or changed is None or seen.began.wall <= max(changed, self._heard_wall):
                return None
            return {asset: Balance(asset, Decimal(free), Decimal(locked)) for asset, (free, locked) in seen.value.items()}

        def fetch() -> dict[str, Balance]:
            began = self._now()
            told = self.inner.balances()
            self.shared.put({key: {b.asset: [str(b.free), str(b.locked)] for b in told.values()}}, began)
            return told

        found = self.shared.once(key, find, fetch)
        return self.inner.balances() if found is None else found

    def fresh_balances(self) -> dict[str, Balance]:
        return self.inner.fresh_balances()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Around whatever changes the account: no look that began before its end tells the balances."""
        sharing, key = self._sharing(), self._key("balances")
        if sharing:
            self.shared.stamp(key, self.shared.now().wall + ORDER_WAY_MS)
        try:
            yield
        finally:
            self._heard()
            if sharing:
                self.shared.stamp(key, self.shared.now().wall)

    def _heard(self) -> None:
        self._heard_wall = self.shared.now().wall

    # --- rules ---------------------------------------------------------------------------------

    def symbol(self, name: str) -> Symbol:
        first = name not in self._rules_asked
        self._rules_asked.add(name)
        if not self._sharing():
            return self.inner.symbol(name)
        key, asked = self._key("rules", name), self._now()

        def find() -> Symbol | None:
            seen = self.shared.find(key, asked, RULES_AGE_MS)
            return None if seen is None else _symbol(seen.value)

        def fetch() -> Symbol:
            began = self._now()
            told = self.inner.symbol(name)
            row = _symbol_row(told)
            if _symbol(row) == told:  # forms whose rules come otherwise are not shared
                self.shared.put({key: row}, began)
            return told

        found = self.shared.once(key, find, fetch) if first else fetch()
        return self.inner.symbol(name) if found is None else found

    # --- one at a time ---------------------------------------------------------------------------

    @contextmanager
    def turn(self, what: str) -> Iterator[bool]:  # type: ignore[override]
        with self.shared.turn(self._key("turn", what)) as turn:
            while turn.waiting():
                pass
            yield turn.waited

    # --- passed on, and what they tell -------------------------------------------------------------

    def time(self) -> TimeReading:
        reading = self.inner.time()
        self._reading = reading, self.shared.now().mono
        return reading

    def connect(self, installation: str | None = None) -> None:
        self.inner.connect(installation)
        self.venue = self.inner.venue

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        with self._changing():
            return self.inner.place(request, latest_ms)

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        with self._changing():
            return self.inner.place_pair(target, stop, list_id, latest_ms)

    def cancel(self, symbol: str, client_id: str) -> Update:
        with self._changing():
            return self.inner.cancel(symbol, client_id)

    def order(self, symbol: str, client_id: str) -> Update:
        update = self.inner.order(symbol, client_id)
        if update.executed or update.status != NEW:
            self._heard()
        return update

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        found = self.inner.fills(symbol, order_id, since_ms)
        if found:
            self._heard()
        return found

    def symbols(self) -> list[Symbol]:
        return self.inner.symbols()

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        return self.inner.candles(symbol, timeframe, limit, start_ms)

    def book(self, symbol: str, depth: int = 100) -> Book:
        return self.inner.book(symbol, depth)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return self.inner.open_orders(symbol)

    def orders_since(self, symbol: str, since_ms: int | None = None) -> list[Update]:
        return self.inner.orders_since(symbol, since_ms)

    def value(self, asset: str, quote: str) -> Decimal | None:
        return self.inner.value(asset, quote)

    def key_rights(self) -> KeyRights:
        return self.inner.key_rights()

    def attach_heartbeat(self, beat: Callable[[], None]) -> None:
        self.inner.attach_heartbeat(beat)

    def attach_order_path(self, send: Callable[[str, str, Decimal], Update]) -> None:
        self.inner.attach_order_path(send)

    def request_time_ms(self) -> int:
        return self.inner.request_time_ms()

    def recv_window_ms(self) -> int:
        return self.inner.recv_window_ms()


def _symbol_row(symbol: Symbol) -> dict[str, Any]:
    return {
        "name": symbol.name,
        "base": symbol.base,
        "quote": symbol.quote,
        "tradeable": symbol.tradeable,
        "filters": [dict(f) for f in symbol.rules.filters],
        "order_types": sorted(symbol.order_types),
        "status": symbol.status,
        "precision": [symbol.base_precision, symbol.quote_precision],
    }


def _symbol(row: dict[str, Any]) -> Symbol:
    base_precision, quote_precision = row["precision"]
    rules, types = Rules.from_binance(row["filters"]), frozenset(row["order_types"])
    return Symbol(row["name"], row["base"], row["quote"], row["tradeable"], rules, types, row["status"], base_precision, quote_precision)
