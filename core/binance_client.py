"""Binance spot, for paper, testnet and live: the only module that imports python-binance.

One `BinanceClient` is one account in one mode. It turns Binance's wire (decimal strings,
codes, HTTP statuses) into core/model.py's types and core/errors.py's tree:

- A read is tried 3 times, 1 s apart; `place` and `cancel` are sent exactly once.
- Unknown is not failed: a time-out, a dropped connection, a 5xx, -1000, -1001, -1006 or
  -1007 on an order raises `OutcomeUnknown`. A connection that could not even be opened
  raises `Unavailable`: nothing was sent.
- Signatures carry the exchange's time at the last measurement, carried on by the monotonic
  clock: whatever happens to the host's wall clock in between doesn't touch them.

Wire facts: binance-spot-api-docs (rest-api.md, errors.md, filters.md).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, TypeVar

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from core.binance_transport import Gate, NotSent, Wire, never_connected, short, silence_s
from core.binance_wire import listed, number, order_params, parse_list, parse_order, parse_past, parse_symbol, parse_trade
from core.clock import wall_ms
from core.config import Settings, is_loopback
from core.errors import (
    AccessRefused,
    ClockRefused,
    ExchangeError,
    NotFound,
    OrderNotFound,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unavailable,
    Unsupported,
)
from core.exchange import Book, Capabilities, Exchange, KeyRights, Priority, TimeReading
from core.model import ZERO, Balance, Candles, Fill, Mode, OrderRequest, Symbol, Update, Venue, plain

log = logging.getLogger("botyard.binance")

TESTNET_URL = "https://testnet.binance.vision"
READ_TRIES = 3
DAY_MS = 86_400_000
READ_PAUSE_S = 1.0
OFFSET_AGE_S = (15.0, 180.0)  # between two measurements: short while the clocks move against each other
STEADY_MS = 250  # they do, where a measurement finds more than this
PAPER_LIMITS = (6000, 100, 200_000)  # weight a minute, orders in 10 s and a day; times the market's speed (contract)
UNLIMITED = 10**9  # a paper market that stands still refuses nothing
LONGEST_WAY_MS = 1000  # a reading that took longer says too little of when it was made

_UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007})
_ACCESS_CODES = frozenset({-1002, -1022, -2014, -2015})
_NOT_FOUND_CODES = frozenset({-2011, -2013, -2026})

# What a call may end in: the library's exceptions, requests' own (it wraps none of them),
# and an answer whose shape can't be right.
_FAILURES = (BinanceAPIException, BinanceRequestException, requests.RequestException, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)

T = TypeVar("T")


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class _Client(Client):
    """python-binance whose time stamps follow the clocks that were handed in, not time.time()."""

    clock_ms: Callable[[], int] = staticmethod(wall_ms)
    monotonic_ms: Callable[[], int] = staticmethod(_monotonic_ms)
    _base_ms: int | None = None  # the exchange's time minus the monotonic clock's, as last measured

    def server_now_ms(self) -> int:
        """The exchange's time by our estimate; the wall's before anything was measured."""
        return self.clock_ms() if self._base_ms is None else self._base_ms + self.monotonic_ms()

    @property
    def _ahead_ms(self) -> int:
        return self.server_now_ms() - self.clock_ms()

    @property
    def timestamp_offset(self) -> float:
        """Read by python-binance on top of time.time(), whenever it signs."""
        return self.server_now_ms() - time.time() * 1000

    @timestamp_offset.setter
    def timestamp_offset(self, value: float) -> None:
        """How far the exchange's clock is ahead of the wall at this moment, ms."""
        self._base_ms = self.clock_ms() + int(value) - self.monotonic_ms()


def base_url(settings: Settings, mode: Mode) -> str:
    """Where a mode's REST API lives, without the trailing /api."""
    if mode == "paper":
        return settings.paper_url
    url = settings.binance_testnet_url or TESTNET_URL if mode == "testnet" else settings.binance_url or f"https://api.binance.{settings.binance_tld}"
    return url.removesuffix("/api")


def _client(settings: Settings, key: str, secret: str, url: str, gate: Gate | None = None, priority: Callable[[], Priority] = lambda: "entry") -> _Client:
    client = _Client(key, secret, requests_params={"timeout": float(settings.http_timeout)}, ping=False)
    client.API_URL = f"{url}/api"
    client.MARGIN_API_URL = f"{url}/sapi"
    client.REQUEST_RECVWINDOW = settings.recv_window
    host = re.sub(r"^https?://", "", url).split("/")[0].rsplit(":", 1)[0]
    if is_loopback(host):
        client.session.trust_env = False  # a proxy must not be asked for our own machine
    wire = Wire()
    wire.gate, wire.priority = gate, priority
    client.session.mount("http://", wire)
    client.session.mount("https://", wire)
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
        self._client = _client(settings, key, secret, self.url, gate, lambda: self.priority)
        self._speed: float | None = None  # of the paper market, as last read
        self._sleep = sleep
        self._client.clock_ms = clock_ms
        self._monotonic_ms = monotonic_ms or (_monotonic_ms if clock_ms is wall_ms else clock_ms)
        self._client.monotonic_ms = self._monotonic_ms
        self._client._base_ms = None  # the library set an offset by other clocks while it was made: nothing is measured yet
        self._offset_at: float | None = None  # seconds of the monotonic clock
        self._offset_age = OFFSET_AGE_S[0]
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
                status: dict[str, Any] = self._read(lambda: self._paper("status"))
            except Unavailable as e:
                how = "the yard starts it (./start.sh, or utils/yard.py start), `python3 -m core.paper` runs it by hand"
                raise Unavailable(f"the paper exchange on port {self.settings.paper_port} does not answer: {how} ({e})") from e
            theirs = status.get("installation")
            if installation and theirs and theirs != installation:
                raise AccessRefused(
                    f"The paper exchange on port {self.settings.paper_port} belongs to another yard ({theirs}, this is {installation}). "
                    f"Give each yard a PAPER_PORT of its own."
                )
            market, generation = str(status.get("market") or ""), int(status.get("generation") or 1)
            # A market that was reset is another one, with another wallet, even from the same seed.
            source = market if generation == 1 else f"{market}#{generation}"
            self.venue = Venue("binance", "spot", self.venue.account, "paper", source)

    def _paper(self, what: str) -> dict[str, Any]:
        response = self._client.session.get(f"{self.url}/paper/{what}", timeout=float(self.settings.http_timeout))
        if response.status_code != 200:
            raise Unavailable(f"the paper exchange answered {response.status_code} to /paper/{what}", status=response.status_code)
        return dict(response.json())

    # --- reads ------------------------------------------------------------------

    def time(self) -> TimeReading:
        """The exchange's clocks; each reading is a measurement for the signatures too."""
        began = self._monotonic_ms()
        if self.mode == "paper":

            def ask() -> TimeReading:
                clock = self._paper("clock")
                return TimeReading(int(clock["wall_ms"]), int(clock["market_ms"]), float(number(str(clock["speed"]))))

            reading = self._read(ask, tries=1)
            if reading.speed != self._speed:
                self._speed = reading.speed
                if self._gate is not None:
                    times = max(1.0, reading.speed)
                    self._gate.learn(*(UNLIMITED if reading.speed == 0 else int(limit * times) for limit in PAPER_LIMITS))
        else:
            now = self.server_ms(tries=1)
            reading = TimeReading(now, now, 1.0)
        if self._monotonic_ms() - began < LONGEST_WAY_MS:
            self._measured(reading.server_ms, began)
        return reading

    def server_ms(self, tries: int = READ_TRIES) -> int:
        """The exchange's wall clock, which signatures are judged by."""
        return self._read(self._server_ms, tries=tries)

    def _server_ms(self) -> int:
        return int(self._client.get_server_time()["serverTime"])

    def symbol(self, name: str) -> Symbol:
        def ask() -> Symbol:
            info = self._client._get("exchangeInfo", data={"symbol": name}, version="v3")
            self._learn(info)
            # It refuses a symbol that it doesn't know; an answer without it tells nothing.
            return parse_symbol({s["symbol"]: s for s in info["symbols"]}[name])

        try:
            return self._read(ask)
        except Refused as e:
            if e.code in (-1121, -1100):
                raise NotFound(f"{name!r} is no symbol of {self.venue.exchange} {self.mode}; search for it by its coin's name") from e
            raise

    def _learn(self, info: dict[str, Any]) -> None:
        """The limits that exchangeInfo's `rateLimits` name; a word that can't be read changes none."""
        if self._gate is None or self._speed == 0:
            return
        found: dict[tuple[Any, Any, Any], int] = {}
        for row in info.get("rateLimits") or ():
            if isinstance(row, dict) and isinstance(row.get("limit"), int) and row["limit"] > 0:
                found[row.get("rateLimitType"), row.get("interval"), row.get("intervalNum")] = row["limit"]
        weight = found.get(("REQUEST_WEIGHT", "MINUTE", 1))
        if weight is not None:
            self._gate.learn(weight, found.get(("ORDERS", "SECOND", 10)), found.get(("ORDERS", "DAY", 1)))

    def symbols(self) -> list[Symbol]:
        return self._read(lambda: [parse_symbol(s) for s in self._client.get_exchange_info()["symbols"]])

    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        def ask() -> Candles:
            rows = listed(self._client.get_klines(symbol=symbol, interval=timeframe, limit=limit, startTime=start_ms))
            for row in rows:
                int(row[0]), int(row[6]), row[10], [number(v) for v in row[1:6]]
            return Candles(symbol, timeframe, rows)

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

        def side(rows: Any) -> tuple[tuple[Decimal, Decimal], ...]:
            return tuple((price, quantity) for row in listed(rows) if (price := number(row[0])) > 0 and (quantity := number(row[1])) > 0)

        def ask() -> Book:
            told = self._client.get_order_book(symbol=symbol, limit=depth)
            return Book(side(told["bids"]), side(told["asks"]))

        return self._read(ask)

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
                if e.code not in (-1121, -1100):
                    raise
                self._pairs[name] = False
        return self._read(lambda: number(self._client.get_symbol_ticker(symbol=name)["price"]), tries=1) if self._pairs[name] else None

    def balances(self) -> dict[str, Balance]:
        def ask() -> dict[str, Balance]:
            rows = self._client.get_account(omitZeroBalances="true")["balances"]
            return {b["asset"]: Balance(b["asset"], number(b["free"]), number(b["locked"])) for b in rows}

        return self._read(ask, signed=True)

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
        return self._read(lambda: parse_order(self._client.get_order(symbol=symbol, origClientOrderId=client_id)), signed=True)

    def open_orders(self, symbol: str | None = None) -> list[Update]:
        return self._read(lambda: [parse_past(o) for o in listed(self._client.get_open_orders(symbol=symbol))], signed=True)

    def orders_since(self, symbol: str, since_ms: int | None = None) -> list[Update]:
        """`GET /api/v3/allOrders`, weight 20 a page: a day at a time until one is found, on by order id, 1000 a page.

        A span of times may be 24 hours at most; from further back than a month all pages are read by order id."""

        def page(**query: int) -> list[Update]:
            return self._read(lambda: [parse_past(r) for r in listed(self._client.get_all_orders(symbol=symbol, limit=1000, **query))], signed=True)

        found: list[Update] = []
        if since_ms is None or (now := self.time().market_ms) - since_ms > 30 * DAY_MS:
            last = found = page(orderId=1)
        else:
            last, start = found, since_ms
            while not found and start <= now + DAY_MS:
                last = found = page(startTime=start, endTime=start + DAY_MS)
                start += DAY_MS
        while last:  # whatever the span of times left out has a higher number
            last = page(orderId=int(last[-1].order_id) + 1)
            found = found + last
        return [u for u in found if u.created_ms >= (since_ms or 0)]

    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        """Pages through myTrades by trade id, 1000 at a time (weight 20, or 5 for one order)."""
        found: list[Fill] = []
        query: dict[str, Any] = {"symbol": symbol, "limit": 1000}
        if order_id is not None:
            query["orderId"] = int(order_id)
        elif since_ms is not None:
            query["startTime"] = since_ms
        while True:
            page = self._read(lambda: [parse_trade(r) for r in listed(self._client.get_my_trades(**query))], signed=True)
            found += page
            if len(page) < 1000:
                return found
            query.pop("startTime", None)
            query["fromId"] = int(page[-1].trade_id) + 1

    def recv_window_ms(self) -> int:
        return self.settings.recv_window

    # --- orders -------------------------------------------------------------------

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        """Send one order, once. `latest_ms` (server time): the latest time stamp it may carry."""
        if request.kind not in self.capabilities.order_kinds:
            raise Unsupported(f"Order type {request.kind} is not built for Binance spot yet; use one of {', '.join(sorted(self.capabilities.order_kinds))}")
        return self._stamped(latest_ms, lambda: parse_order(self._client.create_order(**order_params(request), newOrderRespType="FULL")))

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        """An OCO by `POST /api/v3/orderList/oco`: the two legs as above and below the price.

        Selling, the target (LIMIT_MAKER) lies above and the stop below; buying, the other way round."""
        above, below = (target, stop) if target.side == "SELL" else (stop, target)
        params = {"symbol": target.symbol, "side": target.side, "quantity": plain(target.quantity or ZERO), "listClientOrderId": list_id}
        for where, leg in (("above", above), ("below", below)):
            params |= {f"{where}Type": leg.kind, f"{where}ClientOrderId": leg.client_id}
            if leg.price is not None:
                params[f"{where}Price"] = plain(leg.price)
            if leg.stop_price is not None:
                params[f"{where}StopPrice"] = plain(leg.stop_price)
            if leg.life is not None and leg.kind.endswith("_LIMIT"):
                params[f"{where}TimeInForce"] = leg.life
        return self._stamped(latest_ms, lambda: parse_list(self._client.create_oco_order(**params, newOrderRespType="RESULT")))

    def _stamped(self, latest_ms: int | None, call: Callable[[], T]) -> T:
        """Send what changes something, held back if it would be stamped later than `latest_ms`."""
        self.measure_offset()
        wire = self._client.session.get_adapter(self.url)
        wire.latest_order_ms = latest_ms
        try:
            return self._send(call)
        finally:
            wire.latest_order_ms = None

    def test_order(self, request: OrderRequest) -> None:
        """Have an order checked without sending it to the market; raises what `place` would."""
        self.measure_offset()
        self._send(lambda: self._client.create_test_order(**order_params(request)))

    def cancel(self, symbol: str, client_id: str) -> Update:
        self.measure_offset()

        def ask() -> Update:
            answer = self._client.cancel_order(symbol=symbol, origClientOrderId=client_id)
            if "orderReports" not in answer:
                return parse_order(answer, client_id)
            # One leg of a pair: the whole list was cancelled.
            reports = {r.get("origClientOrderId") or r["clientOrderId"]: r for r in answer["orderReports"]}
            return parse_order(reports[client_id], client_id)

        return self._send(ask)

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
        """Set the signatures' offset to the exchange's clock, with the round trip halved."""
        if not again and self._offset_at is not None and self._monotonic_ms() / 1000 - self._offset_at < self._offset_age:
            return

        def measure() -> tuple[int, int]:  # each try by itself: a try that failed is no part of the trip
            began = self._monotonic_ms()
            return self._server_ms(), began

        self._measured(*self._read(measure))

    def _measured(self, server_ms: int, began_ms: int) -> None:
        """The exchange told its time, somewhere between `began_ms` and now. Measured again soon where it moved, later where it didn't."""
        now = self._monotonic_ms()
        before, base = self._client._base_ms, server_ms - (began_ms + now) // 2
        shortest, longest = OFFSET_AGE_S
        if before is None or abs(base - before) >= STEADY_MS + (now - began_ms) // 2:
            self._offset_age = shortest
        elif self._offset_at is not None and now / 1000 - self._offset_at >= shortest:  # two in a moment tell nothing of a drift
            self._offset_age = min(longest, self._offset_age * 2)
        self._client._base_ms, self._offset_at = base, now / 1000

    def attach_order_path(self, send: Callable[[str, str, Decimal], Update]) -> None:
        self._order_path = send

    def attach_heartbeat(self, beat: Callable[[], None]) -> None:
        self._client.session.get_adapter(self.url).beat = beat

    def request_time_ms(self) -> int:
        """Server time by our estimate, as a signature now would carry it."""
        self.measure_offset()
        return self._client.server_now_ms()

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
                self._offset_at = None  # measured anew before the next one
            raise error from e


def translate(e: Exception, *, order: bool) -> ExchangeError:
    """A library's failure as ours. `order`: the request may have changed something."""
    unknown = OutcomeUnknown if order else Unavailable
    if isinstance(e, ExchangeError):
        return e
    if isinstance(e, BinanceAPIException):
        code, status, text = int(e.code or 0), int(e.status_code or 0), str(e.message)[:300]
        if status in (418, 429):
            return RateLimited(text, retry_after(e, text), code, status)
        if status >= 500 or status == 408 or code in _UNKNOWN_CODES:
            return unknown(f"HTTP {status}, code {code}: {text}", code, status)
        if code in _NOT_FOUND_CODES and "restrictions" not in text:
            return OrderNotFound(text, code, status)
        if code in _ACCESS_CODES:
            return AccessRefused(f"{text} (code {code})", code, status)
        if code == -1021:
            return ClockRefused(text, code, status)
        if status == 403 and not order:
            return Unavailable(f"HTTP 403: {text}", code, status)
        return Refused(f"{text} (code {code})", code, status)
    if isinstance(e, NotSent) or (isinstance(e, requests.ConnectionError) and never_connected(e)):
        return Unavailable(f"not sent: {short(e)}")
    if isinstance(e, requests.RequestException):
        return unknown(short(e))
    return unknown(f"an answer that can't be read: {short(e)}")


def retry_after(e: BinanceAPIException, text: str) -> float:
    """Seconds to wait, from Retry-After, or from 'banned until MS' in the text; 60 where neither says."""
    return silence_s(getattr(e.response, "headers", {}), text)


class PublicClient:
    """Public data only, no keys: what the paper exchange follows with PAPER_MARKET=binance."""

    def __init__(self, settings: Settings):
        url = settings.binance_url.removesuffix("/api") or f"https://api.binance.{settings.binance_tld}"
        self._client = _client(settings, "", "", url)

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


def public_client(settings: Settings) -> PublicClient:
    return PublicClient(settings)
