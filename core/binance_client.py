"""Binance spot, for paper, testnet and live: the only module that imports python-binance.

One `BinanceClient` is one account in one mode: what is asked, when it is asked again, and what
is sent once. A read is tried 3 times, 1 s apart; `place` and `cancel` are sent exactly once.
Beside it: binance_wire.py (types), binance_errors.py (what a failure means), binance_clock.py
(the time in signatures), binance_limits.py (what requests cost), binance_pages.py (long lists),
binance_transport.py (what leaves the process), binance_paper.py (what only paper tells).

Wire facts: binance-spot-api-docs (rest-api.md, errors.md, filters.md).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, TypeVar

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from core import binance_limits as limits
from core import binance_pages as pages
from core import binance_wire as wire
from core.binance_clock import SignatureClock
from core.binance_errors import NO_SUCH_SYMBOL, failure, refusal
from core.binance_paper import PaperSide, source_of
from core.binance_transport import Gate, Wire
from core.binance_wire import listed, number
from core.clock import wall_ms
from core.config import Settings
from core.errors import AccessRefused, ClockRefused, ExchangeError, NotFound, RateLimited, Refused, Unavailable, Unsupported
from core.exchange import Book, Capabilities, Exchange, KeyRights, TimeReading
from core.model import ZERO, Balance, Candles, Fill, Mode, OrderRequest, Symbol, Update, Venue

TESTNET_URL = "https://testnet.binance.vision"
READ_TRIES = 3
READ_PAUSE_S = 1.0

# What a call may end in: the library's exceptions, requests' own (it wraps none of them),
# and an answer whose shape can't be right.
_FAILURES = (BinanceAPIException, BinanceRequestException, requests.RequestException, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)

T = TypeVar("T")


class _Client(Client):
    """python-binance whose time stamps follow the clock that was handed in, not time.time()."""

    def __init__(self, clock: SignatureClock, *args: Any, **kwargs: Any):
        self._clock = clock
        super().__init__(*args, **kwargs)

    @property
    def timestamp_offset(self) -> float:
        """Read by python-binance on top of time.time(), whenever it signs."""
        return self._clock.now_ms() - time.time() * 1000

    @timestamp_offset.setter
    def timestamp_offset(self, value: float) -> None:
        """python-binance sets one when it is made, by the host's clock: it counts for nothing here."""


def base_url(settings: Settings, mode: Mode) -> str:
    """Where a mode's REST API lives, without the trailing /api."""
    if mode == "paper":
        return settings.paper_url
    url = settings.binance_testnet_url or TESTNET_URL if mode == "testnet" else settings.binance_url or f"https://api.binance.{settings.binance_tld}"
    return url.removesuffix("/api")


def _client(settings: Settings, keys: tuple[str, str], url: str, clock: SignatureClock, transport: Wire) -> _Client:
    client = _Client(clock, *keys, requests_params={"timeout": float(settings.http_timeout)}, ping=False)
    client.API_URL = f"{url}/api"
    client.MARGIN_API_URL = f"{url}/sapi"
    client.REQUEST_RECVWINDOW = settings.recv_window
    transport.carry(client.session, url)
    return client


class BinanceClient(Exchange):
    """Binance spot in one mode. `clock_ms` (wall), `monotonic_ms` and `sleep` are handed in for tests;
    a `clock_ms` that comes alone is taken for steady.

    Every request to the API passes `gate` first, with `priority` as it stands; None counts nothing.
    `public`: for candles, prices and rules alone, which need no keys.

    `place_market_order` goes through the write-ahead path of the bot that owns this
    client (attached by core/bot/execution.py); without one it refuses, because an order
    whose intent is not on disk first is not sent.
    """

    def __init__(
        self,
        settings: Settings,
        mode: Mode = "paper",
        account: str = "main",
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock_ms: Callable[[], int] = wall_ms,
        monotonic_ms: Callable[[], int] | None = None,
        gate: Gate | None = None,
        public: bool = False,
    ):
        self.settings, self.mode, self._gate = settings, mode, gate
        self.venue = Venue("binance", "spot", account, mode)
        kinds = frozenset({"MARKET", "LIMIT", "LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT"})
        self.capabilities = Capabilities(order_kinds=kinds, protection=True)
        self.url = base_url(settings, mode)
        key, secret = settings.keys(mode)
        if public and not (key and secret):
            key = secret = ""  # python-binance sends no key then: enough for candles, prices and rules
        elif mode != "paper" and not (key and secret):
            prefix = "BINANCE_TESTNET" if mode == "testnet" else "BINANCE"
            raise AccessRefused(f"No keys for {mode}: put {prefix}_API_KEY and {prefix}_API_SECRET into .env")
        self.clock = SignatureClock(clock_ms, monotonic_ms)
        self._client = _client(settings, (key, secret), self.url, self.clock, Wire(gate, lambda: self.priority))
        self._paper = PaperSide(self._client.session, self.url, float(settings.http_timeout))
        self._speed: float | None = None  # of the paper market, as last read
        self._sleep = sleep
        self._order_path: Callable[[str, str, Decimal], Update] | None = None
        self._pairs: dict[str, bool] = {}  # pairs that were looked for to value a fee, and whether they exist

    # --- set-up ---------------------------------------------------------------

    def mount(self, adapter: Any) -> None:
        """Another transport in place of sockets (the paper exchange in this process)."""
        adapter.latest_order_ms = None
        adapter.beat = self._client.session.get_adapter(self.url).beat
        self._client.session.mount("http://", adapter)

    def connect(self, installation: str | None = None) -> None:
        """Learn what the venue is. On paper: which market, and that it is this yard's own exchange."""
        if self.mode == "paper":
            try:
                status = self._read(self._paper.status)
            except Unavailable as e:
                how = "the yard starts it (./start.sh, or utils/yard.py start), `python3 -m core.paper` runs it by hand"
                raise Unavailable(f"the paper exchange on port {self.settings.paper_port} does not answer: {how} ({e})") from e
            self.venue = Venue("binance", "spot", self.venue.account, "paper", source_of(status, installation, self.settings.paper_port))

    # --- reads ------------------------------------------------------------------

    def time(self) -> TimeReading:
        """The exchange's clocks; each reading is a measurement for the signatures too."""
        began = self.clock.monotonic_ms()
        if self.mode == "paper":
            reading = self._read(self._paper.clock, tries=1)
            if reading.speed != self._speed:
                self._speed = reading.speed
                if self._gate is not None:
                    self._gate.learn(*limits.at_speed(reading.speed))
        else:
            now = self.server_ms(tries=1)
            reading = TimeReading(now, now, 1.0)
        self.clock.noticed(reading.server_ms, began)
        return reading

    def server_ms(self, tries: int = READ_TRIES) -> int:
        """The exchange's wall clock, which signatures are judged by."""
        return self._read(lambda: int(self._client.get_server_time()["serverTime"]), tries=tries)

    def symbol(self, name: str) -> Symbol:
        def ask() -> Symbol:
            info = self._client._get("exchangeInfo", data={"symbol": name}, version="v3")
            told = limits.told(info)
            if told is not None and self._gate is not None and self._speed != 0:
                self._gate.learn(*told)
            # It refuses a symbol that it doesn't know; an answer without it tells nothing.
            return wire.parse_symbol({s["symbol"]: s for s in info["symbols"]}[name])

        try:
            return self._read(ask)
        except Refused as e:
            if e.code in NO_SUCH_SYMBOL:
                raise NotFound(f"{name!r} is no symbol of {self.venue.exchange} {self.mode}; search for it by its coin's name") from e
            raise

    def symbols(self) -> list[Symbol]:
        return self._read(lambda: [wire.parse_symbol(s) for s in self._client.get_exchange_info()["symbols"]])

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        def ask() -> Candles:
            told = self._client.get_klines(symbol=symbol, interval=timeframe, limit=limit, startTime=start_ms)
            return Candles(symbol, timeframe, wire.parse_klines(told))

        return self._read(ask)

    def price(self, symbol: str) -> Decimal:
        return self._read(lambda: number(self._client.get_symbol_ticker(symbol=symbol)["price"]))

    def prices(self, symbols: Iterable[str]) -> dict[str, Decimal]:
        """One request for all of them: `GET /api/v3/ticker/price?symbols=[...]`, weight 4."""
        wanted = list(dict.fromkeys(symbols))
        if len(wanted) < 2:
            return {name: self.price(name) for name in wanted}

        def ask() -> dict[str, Decimal]:
            told = self._client._get("ticker/price", data={"symbols": json.dumps(wanted, separators=(",", ":"))}, version="v3")
            found = {str(row["symbol"]): number(row["price"]) for row in listed(told)}
            return {name: found[name] for name in wanted}

        return self._read(ask)

    def book(self, symbol: str, depth: int = 100) -> Book:
        """`GET /api/v3/depth`: weight 5 up to 100 levels."""
        return self._read(lambda: wire.parse_book(self._client.get_order_book(symbol=symbol, limit=depth)))

    def value(self, asset: str, quote: str) -> Decimal | None:
        """By the price of the pair that trades the one for the other; None where there is none. Tried once."""
        name = asset + quote  # how Binance is wont to name it; what it is, the exchange says

        def ask() -> bool:
            info = self._client._get("exchangeInfo", data={"symbol": name}, version="v3")
            return [(s["baseAsset"], s["quoteAsset"]) for s in info["symbols"]] == [(asset, quote)]

        if name not in self._pairs:
            try:
                self._pairs[name] = self._read(ask, tries=1)
            except Refused as e:
                if e.code not in NO_SUCH_SYMBOL:
                    raise
                self._pairs[name] = False
        return self._read(lambda: number(self._client.get_symbol_ticker(symbol=name)["price"]), tries=1) if self._pairs[name] else None

    def balances(self) -> dict[str, Balance]:
        return self._read(lambda: wire.parse_balances(self._client.get_account(omitZeroBalances="true")), signed=True)

    def key_rights(self) -> KeyRights:
        """From `canTrade` of /api/v3/account and, in live alone, /sapi/v1/account/apiRestrictions: the testnet has no /sapi."""
        can_trade = self._read(lambda: bool(self._client.get_account(omitZeroBalances="true")["canTrade"]), signed=True)
        if self.mode != "live":
            return KeyRights(can_trade)
        try:
            return KeyRights(can_trade, self._read(lambda: dict(self._client.get_account_api_permissions()), signed=True))
        except Refused as e:
            if e.status != 404:
                raise
            return KeyRights(can_trade)  # a Binance of another country may lack the path

    def order(self, symbol: str, client_id: str) -> Update:
        return self._read(lambda: wire.parse_order(self._client.get_order(symbol=symbol, origClientOrderId=client_id)), signed=True)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return self._read(lambda: [wire.parse_past(o) for o in listed(self._client.get_open_orders(symbol=symbol))], signed=True)

    def orders_since(self, symbol: str, since_ms: int | None = None) -> list[Update]:
        """`GET /api/v3/allOrders`, weight 20 a page."""

        def page(**query: int) -> list[Update]:
            return self._read(lambda: [wire.parse_past(r) for r in listed(self._client.get_all_orders(symbol=symbol, limit=pages.FULL, **query))], signed=True)

        return pages.orders(page, since_ms, lambda: self.time().market_ms)

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        """`GET /api/v3/myTrades`, weight 20 a page, or 5 for one order."""

        def page(**query: int) -> list[Fill]:
            return self._read(lambda: [wire.parse_trade(r) for r in listed(self._client.get_my_trades(symbol=symbol, limit=pages.FULL, **query))], signed=True)

        return pages.fills(page, order_id, since_ms)

    def recv_window_ms(self) -> int:
        return self.settings.recv_window

    # --- orders -------------------------------------------------------------------

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        """Send one order, once. `latest_ms` (server time): the latest time stamp it may carry."""
        if request.kind not in self.capabilities.order_kinds:
            raise Unsupported(f"Order type {request.kind} is not built for Binance spot yet; use one of {', '.join(sorted(self.capabilities.order_kinds))}")
        return self._stamped(latest_ms, lambda: wire.parse_order(self._client.create_order(**wire.order_params(request), newOrderRespType="FULL")))

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        """An OCO by `POST /api/v3/orderList/oco`, sent once as `place` is."""
        params = wire.pair_params(target, stop, list_id)
        return self._stamped(latest_ms, lambda: wire.parse_list(self._client.create_oco_order(**params, newOrderRespType="RESULT")))

    def _stamped(self, latest_ms: int | None, call: Callable[[], T]) -> T:
        """Send what changes something, held back if it would be stamped later than `latest_ms`."""
        self.measure_offset()
        adapter = self._client.session.get_adapter(self.url)
        adapter.latest_order_ms = latest_ms
        try:
            return self._send(call)
        finally:
            adapter.latest_order_ms = None

    def test_order(self, request: OrderRequest) -> None:
        """Have an order checked without sending it to the market; raises what `place` would."""
        self.measure_offset()
        self._send(lambda: self._client.create_test_order(**wire.order_params(request)))

    def cancel(self, symbol: str, client_id: str) -> Update:
        self.measure_offset()
        return self._send(lambda: wire.parse_cancel(self._client.cancel_order(symbol=symbol, origClientOrderId=client_id), client_id))

    # --- the names that scripts use -------------------------------------------------

    def get_account_balance(self, asset: str) -> Decimal:
        """Free amount of one asset; 0 where the account holds none."""
        found = self.balances().get(asset)
        return found.free if found else ZERO

    def get_klines(self, symbol: str, interval: str, limit: int | None = None) -> list[list[Any]]:
        """Binance's 12-field rows, oldest first, the open candle last."""
        return list(self.candles(symbol, interval, limit or self.settings.kline_limit).rows)

    def place_market_order(self, symbol: str, side: str, qty: Decimal) -> Update:
        """A market order of `qty` base asset, through the write-ahead path of its bot."""
        if self._order_path is None:
            raise Refused("No write-ahead path is attached to this client; orders go out through a bot's Executor, so that their intent is on disk first")
        return self._order_path(symbol, side, qty)

    def get_current_price(self, symbol: str) -> Decimal:
        return self.price(symbol)

    def is_symbol_tradeable(self, symbol: str) -> bool:
        try:
            return self.symbol(symbol).tradeable
        except NotFound:
            return False

    # --- the edge: calls and their failures --------------------------------------------

    def measure_offset(self, again: bool = False) -> None:
        """Ask the exchange for its time if signatures need it, or `again`."""

        def measure() -> None:  # each try by itself: a try that failed is no part of the trip
            began = self.clock.monotonic_ms()
            self.clock.measured(int(self._client.get_server_time()["serverTime"]), began)

        if again or self.clock.due():
            self._read(measure)

    def attach_order_path(self, send: Callable[[str, str, Decimal], Update]) -> None:
        self._order_path = send

    def attach_heartbeat(self, beat: Callable[[], None]) -> None:
        self._client.session.get_adapter(self.url).beat = beat

    def request_time_ms(self) -> int:
        """Server time by our estimate, as a signature now would carry it."""
        self.measure_offset()
        return self.clock.now_ms()

    def _read(self, call: Callable[[], T], *, tries: int = READ_TRIES, signed: bool = False) -> T:
        refreshed = False
        if signed:
            self.measure_offset()
        attempt = 1
        while True:
            try:
                return call()
            except (*_FAILURES, Unavailable) as e:
                error = translate(e, order=False)
                if isinstance(error, ClockRefused) and not refreshed:
                    refreshed = True
                    self.measure_offset(again=True)
                    continue
                if not isinstance(error, Unavailable) or isinstance(error, RateLimited) or attempt >= tries:
                    raise error from e
                attempt += 1
                self._sleep(READ_PAUSE_S)

    def _send(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except _FAILURES as e:
            error = translate(e, order=True)
            if isinstance(error, ClockRefused):
                self.clock.doubt()
            raise error from e


def translate(e: Exception, *, order: bool) -> ExchangeError:
    """A library's failure as ours. `order`: the request may have changed something."""
    if isinstance(e, BinanceAPIException):
        return refusal(int(e.status_code or 0), int(e.code or 0), str(e.message)[:300], getattr(e.response, "headers", {}), order=order)
    return failure(e, order=order)


class PublicClient:
    """Public data only, no keys: what the paper exchange follows with PAPER_MARKET=binance."""

    def __init__(self, settings: Settings):
        self._client = _client(settings, ("", ""), base_url(settings, "live"), SignatureClock(), Wire())

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except _FAILURES as e:
            raise translate(e, order=False) from e

    def fetch_klines(self, symbol: str, interval: str, start: int | None, end: int | None, limit: int) -> list[list[Any]]:
        return list(self._ask(lambda: self._client.get_klines(symbol=symbol, interval=interval, startTime=start, endTime=end, limit=limit)))

    def fetch_price(self, symbol: str) -> Decimal:
        return Decimal(self._ask(lambda: self._client.get_symbol_ticker(symbol=symbol))["price"])

    def fetch_exchange_info(self) -> dict[str, Any]:
        return dict(self._ask(self._client.get_exchange_info))
