"""A toy exchange: symbols with a slash, six-field candles, sizes in coins only, no stop orders.

A second form of the interface, whole and in memory, so that nothing in the rooms above can
lean on Binance. Prices are what the test says; time is the test's. `lose` makes it lose
answers on purpose.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from core.errors import NotFound, OrderNotFound, OutcomeUnknown, Refused, Unavailable
from core.exchange import Book, Capabilities, Exchange, TimeReading
from core.model import ZERO, Balance, Candles, Fill, OrderRequest, Rules, Symbol, Update, Venue, row12

D = Decimal
FEE = D("0.001")


class StepClock:
    """Time that moves only when somebody waits: straight to the next deadline."""

    stepped = True
    speed = 1.0

    def __init__(self, start_ms: int = 1_700_000_000_000):
        self.now = start_ms
        self.woken = False

    def wall_ms(self) -> int:
        return self.now

    def market_ms(self) -> int:
        return self.now

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        if self.woken:
            self.woken = False
            return
        self.now = max(self.now, min(d for d in (market_deadline, wall_deadline) if d is not None))

    def wake(self) -> None:
        self.woken = True


class ToyExchange(Exchange):
    def __init__(self, clock: StepClock, price: str = "100", usd: str = "1000"):
        self.clock = clock
        self.venue = Venue("toy", "spot", "main", "paper", "toy")
        self.capabilities = Capabilities(quote_sized=False, client_id_unique="forever")
        self.last = D(price)
        self.wallet = {"USD": [D(usd), ZERO], "BTC": [ZERO, ZERO]}
        self.orders: dict[str, tuple[OrderRequest, Update]] = {}
        self.trades: list[Fill] = []
        self.closes: list[Decimal] = []
        self.lose: str | None = None  # before | after | hidden N (N queries don't find it)
        self.hidden = 0
        self.broken = False
        self.shown: Book | None = None  # the book; None: a cent around the last price, deep
        self.book_broken = False
        self.partial: Decimal | None = None
        self.sent: list[OrderRequest] = []
        self.pairs: dict[str, str] = {}  # each leg's client id → the other's
        self.rules = Rules(tick=D("0.01"), step=D("0.001"), min_quantity=D("0.001"), max_quantity=D("1000"), min_notional=D("5"))

    def _up(self) -> None:
        if self.broken:
            raise Unavailable("the toy is broken for now")

    def time(self) -> TimeReading:
        self._up()
        return TimeReading(self.clock.wall_ms(), self.clock.market_ms())

    def symbol(self, name: str) -> Symbol:
        self._up()
        if name != "BTC/USD":
            raise NotFound(f"{name!r} is no symbol of the toy exchange; it has BTC/USD")
        kinds = {"MARKET", "LIMIT"} | ({"LIMIT_MAKER", "STOP_LOSS"} if self.capabilities.protection else set())
        return Symbol("BTC/USD", "BTC", "USD", True, self.rules, frozenset(kinds))

    def symbols(self) -> list[Symbol]:
        return [self.symbol("BTC/USD")]

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        self._up()
        length = {"1m": 60_000, "5m": 300_000}[timeframe]
        last = self.clock.market_ms() // length * length
        closes = [*self.closes, self.last][-limit:]
        rows = []
        for i, close in enumerate(closes):
            opened = last - (len(closes) - 1 - i) * length
            six = [opened, close, close, close, close, D(1)]
            rows.append(row12(*six, opened + length - 1))
        return Candles(symbol, timeframe, rows)

    def price(self, symbol: str) -> Decimal:
        self._up()
        return self.last

    def book(self, symbol: str, depth: int = 100) -> Book:
        self._up()
        if self.book_broken:
            raise Unavailable("the toy's book can't be read for now")
        around = Book(((self.last - self.rules.tick, D(10**6)),), ((self.last + self.rules.tick, D(10**6)),))
        shown = self.shown or around
        return Book(shown.bids[:depth], shown.asks[:depth])

    def balances(self) -> dict[str, Balance]:
        self._up()
        return {a: Balance(a, free, locked) for a, (free, locked) in self.wallet.items()}

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        self.sent.append(request)
        if self.lose == "before":
            raise OutcomeUnknown("cut before it was read")
        if self.broken:
            raise Unavailable("not sent: the toy is broken")
        if request.client_id in self.orders:
            raise Refused("this id was used before")
        if request.quantity is None or request.quote_quantity is not None:
            raise Refused("the toy takes sizes in coins only")
        quantity, price = request.quantity, request.price or self.last
        coin, need = ("USD", quantity * price) if request.side == "BUY" else ("BTC", quantity)
        if self.wallet[coin][0] < need:
            raise Refused("not enough " + coin)
        self.wallet[coin][0] -= need
        self.wallet[coin][1] += need
        self.orders[request.client_id] = (request, Update(request.client_id, "NEW", str(len(self.orders) + 1), time_ms=self.clock.now, symbol=request.symbol))
        if request.kind == "MARKET" or self._crosses(request):
            self._fill(request.client_id, self.last, self.partial or D(1))
            if self.partial is not None and request.kind == "MARKET":
                self._end(request.client_id, "EXPIRED")
        if self.lose == "after":
            raise OutcomeUnknown("done, but the answer was cut")
        return self._with_fills(request.client_id)

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        """Both rest, their coins are locked once; only for sales, as this toy needs no more."""
        self.sent += [target, stop]
        if self.lose == "before":
            raise OutcomeUnknown("cut before it was read")
        assert target.side == stop.side == "SELL" and target.quantity == stop.quantity is not None
        assert target.price is not None and stop.stop_price is not None
        if not stop.stop_price < self.last < target.price:
            raise Refused("the prices don't lie around the market's")
        if self.wallet["BTC"][0] < target.quantity:
            raise Refused("not enough BTC")
        self.wallet["BTC"][0] -= target.quantity
        self.wallet["BTC"][1] += target.quantity
        self.pairs |= {target.client_id: stop.client_id, stop.client_id: target.client_id}
        for leg in (target, stop):
            number = str(len(self.orders) + 1)
            self.orders[leg.client_id] = (leg, Update(leg.client_id, "NEW", number, time_ms=self.clock.now, symbol=leg.symbol))
        if self.lose == "after":
            raise OutcomeUnknown("done, but the answer was cut")
        return self.orders[target.client_id][1], self.orders[stop.client_id][1]

    def _drop_pair(self, client_id: str, status: str) -> None:
        """What the other leg's end makes of this one; its lock was the other's too."""
        other = self.pairs.get(client_id)
        if other is not None and self.orders[other][1].status == "NEW":
            request, update = self.orders[other]
            self.orders[other] = (request, replace(update, status=status))

    def _crosses(self, request: OrderRequest) -> bool:
        if request.stop_price is not None:
            return self.last <= request.stop_price
        assert request.price is not None
        return self.last <= request.price if request.side == "BUY" else self.last >= request.price

    def _fill(self, client_id: str, price: Decimal, share: Decimal = Decimal(1)) -> None:
        request, update = self.orders[client_id]
        assert request.quantity is not None
        quantity = request.quantity - update.executed if share == 1 else (request.quantity * share).quantize(D("0.001"))
        quote = quantity * price
        get, give = ("BTC", "USD") if request.side == "BUY" else ("USD", "BTC")
        received = quantity if request.side == "BUY" else quote
        fee = (received * FEE).quantize(D("0.00000001"))
        self.wallet[give][1] -= quantity * (request.price or self.last) if request.side == "BUY" else quantity
        if request.side == "BUY":
            self.wallet["USD"][0] += quantity * (request.price or self.last) - quote
        self.wallet[get][0] += received - fee
        fill = Fill(str(1000 + len(self.trades)), update.order_id, client_id, request.symbol, request.side, price, quantity, quote, fee, get, self.clock.now)
        self.trades.append(fill)
        done = update.executed + quantity
        status = "FILLED" if done == request.quantity else "PARTIALLY_FILLED"
        self.orders[client_id] = (request, replace(update, status=status, executed=done, executed_quote=update.executed_quote + quote))

    def _end(self, client_id: str, status: str) -> None:
        request, update = self.orders[client_id]
        assert request.quantity is not None
        if update.status in ("NEW", "PARTIALLY_FILLED"):
            left = request.quantity - update.executed
            coin, amount = ("USD", left * (request.price or self.last)) if request.side == "BUY" else ("BTC", left)
            self.wallet[coin][1] -= amount
            self.wallet[coin][0] += amount
            self.orders[client_id] = (request, replace(update, status=status))

    def move(self, price: str, share: str = "1") -> None:
        """The market moves; resting orders that it reaches fill (or a share of them)."""
        self.last = D(price)
        for client_id, (request, _) in list(self.orders.items()):
            level = request.price if request.stop_price is None else request.stop_price
            open_now = self.orders[client_id][1].status in ("NEW", "PARTIALLY_FILLED")
            if open_now and level is not None and self._crosses(request):
                self._fill(client_id, level, D(share))
                self._drop_pair(client_id, "EXPIRED")

    def _with_fills(self, client_id: str) -> Update:
        return replace(self.orders[client_id][1], fills=tuple(f for f in self.trades if f.client_id == client_id))

    def cancel(self, symbol: str, client_id: str) -> Update:
        self._up()
        if client_id not in self.orders or self.orders[client_id][1].status not in ("NEW", "PARTIALLY_FILLED"):
            raise OrderNotFound("no such open order")
        self._end(client_id, "CANCELED")
        self._drop_pair(client_id, "CANCELED")
        return self.orders[client_id][1]

    def order(self, symbol: str, client_id: str) -> Update:
        self._up()
        if self.hidden > 0:
            self.hidden -= 1
            raise OrderNotFound("not seen yet")
        if client_id not in self.orders:
            raise OrderNotFound("no such order")
        return self.orders[client_id][1]

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        self._up()
        return [replace(u, request=r) for r, u in self.orders.values() if u.status in ("NEW", "PARTIALLY_FILLED")]

    def orders_since(self, symbol: str, since_ms: int | None = None) -> list[Update]:
        self._up()
        told = [replace(u, request=r, created_ms=u.time_ms) for r, u in self.orders.values()]
        return [u for u in told if u.created_ms >= (since_ms or 0)]

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        self._up()
        return [replace(f, client_id="") for f in self.trades if (order_id is None or f.order_id == order_id) and (since_ms is None or f.time_ms >= since_ms)]
