"""The interface to any exchange, and what each form can do.

A form (Binance spot is the first) turns its wire into the types of core/model.py and
its failures into core/errors.py. tests/test_exchange_conformance.py runs against every
form; whoever adds one adds it there.

Contract, for every form:
- Reads raise `Unavailable` (already tried 3 times, 1 s apart) or `Refused`.
- `place` sends exactly once. It raises `OutcomeUnknown` when the answer was lost,
  `Refused` when nothing was done for certain. It never repeats.
- Prices, quantities and fees are exact Decimals. No symbol is taken apart by its text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from core.errors import Unsupported
from core.model import Balance, Candles, Fill, OrderRequest, Symbol, Update, Venue

# Why a request is made: whoever counts requests lets getting out go before getting in, and both before the page.
Priority = Literal["exit", "entry", "page"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a form can do at all; a symbol may allow less (`Symbol.order_types`)."""

    markets: frozenset[str] = frozenset({"spot"})
    order_kinds: frozenset[str] = frozenset({"MARKET", "LIMIT"})
    lives: frozenset[str] = frozenset({"GTC", "IOC", "FOK"})
    protection: bool = False  # can hold a stop and a target for us
    shorts: bool = False
    quote_sized: bool = True  # takes a market order's size in the quote asset
    # How long a client id keeps guarding against a second order: "open" (only while the
    # first is open, as on Binance), "forever", or "never".
    client_id_unique: str = "open"
    timeframes: tuple[str, ...] = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w")


@dataclass(frozen=True, slots=True)
class TimeReading:
    """One look at the exchange's clocks. On a real exchange both are one and speed is 1."""

    server_ms: int
    market_ms: int
    speed: float = 1.0


# What can be traded so far; a record that names another venue must not be traded on this one.
VENUES = {"exchange": ("binance",), "market": ("spot",), "account": ("main",)}


def venue_problems(record: Mapping[str, Any]) -> list[str]:
    """Why nothing here can trade the venue that a bot's record names; empty where it can."""
    return [
        f"{field}: {record[field]!r} is not there yet; it must be {' or '.join(known)}"
        for field, known in VENUES.items()
        if record.get(field) is not None and record[field] not in known
    ]


def live_problem(record: Mapping[str, Any]) -> str | None:
    """Why a bot may not trade real money: nobody typed the word for it. None where somebody did, and in other modes.

    The consent is bound to the bot's id, so that a record copied by hand doesn't carry it along."""
    if record.get("mode") != "live":
        return None
    given = record.get("live_since")
    if isinstance(given, Mapping) and isinstance(given.get("wall_ms"), int) and given.get("bot_id") == record.get("id"):
        return None
    return f"mode: live was not agreed to by a person; switch the bot to live on the page, or by python3 utils/yard.py live {record.get('id')}"


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What an account and its key may do. `restrictions`: the exchange's own words on the key, None where it tells none."""

    can_trade: bool
    restrictions: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """What others offer now: (price, quantity in the base asset), the best first. A side may be empty."""

    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]


class Exchange(ABC):
    """One account on one exchange."""

    venue: Venue
    capabilities: Capabilities
    priority: Priority = "entry"  # of whatever is asked from now on; forms that count requests read it

    @abstractmethod
    def time(self) -> TimeReading:
        """The exchange's clocks now."""

    @abstractmethod
    def symbol(self, name: str) -> Symbol:
        """One symbol with its rules, fresh from the exchange; `NotFound` if there is none."""

    @abstractmethod
    def symbols(self) -> list[Symbol]:
        """Every symbol (for a search and for utilities; a bot asks for its own only)."""

    @abstractmethod
    def candles(self, symbol: str, timeframe: str, limit: int, start_ms: int | None = None) -> Candles:
        """The last `limit` candles (or the first ones from `start_ms`), oldest first, the open one included."""

    @abstractmethod
    def price(self, symbol: str) -> Decimal:
        """The last price."""

    def prices(self, symbols: Iterable[str]) -> dict[str, Decimal]:
        """The last prices of several symbols; forms that can ask for all at once do. `Refused` where one is no symbol."""
        return {name: self.price(name) for name in symbols}

    def book(self, symbol: str, depth: int = 100) -> Book:
        """The order book, at most `depth` prices a side. Asked before an entry at market."""
        raise Unsupported(f"{self.venue.exchange} {self.venue.market} shows no order book")

    @abstractmethod
    def balances(self) -> dict[str, Balance]:
        """Every asset the account holds, by name; assets it holds none of may be missing."""

    def fresh_balances(self) -> dict[str, Balance]:
        """As `balances`, asked of the exchange now, also where reads are shared: for who counts the whole account's worth."""
        return self.balances()

    @abstractmethod
    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        """Send one order, once. The update carries the fills that the answer told.

        `latest_ms` (the exchange's wall clock): a request that would be stamped later is held
        back, because the intent on disk says until when it may still arrive."""

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        """Send a target and a stop of which one ends the other (an OCO), once, as one request.

        Both are of the same symbol, side and quantity. Raises as `place` does; `Unsupported`
        where `capabilities.protection` is False."""
        raise Unsupported(f"{self.venue.exchange} {self.venue.market} can't hold a target and a stop as a pair")

    @abstractmethod
    def cancel(self, symbol: str, client_id: str) -> Update:
        """Cancel one open order (its pair goes with it); `OrderNotFound` when none is open under this id."""

    @abstractmethod
    def order(self, symbol: str, client_id: str) -> Update:
        """One order by its client id, without fills; `OrderNotFound` when it isn't known (yet)."""

    def glance(self, symbol: str, client_id: str) -> tuple[Update, int] | None:
        """A resting order as a recent look at all open orders tells it, and how many ms ago that look began.

        None where there is none so recent, or where it doesn't list the order: then `order` must be asked."""
        return None

    def turn(self, what: str) -> AbstractContextManager[bool]:
        """Around a fetch whose result others will find where they look first: one at a time.

        True: somebody else was at it meanwhile, look again. The wait is short and bounded; then everybody fetches."""
        return nullcontext(False)

    @abstractmethod
    def open_orders(self, symbol: str | None = None) -> list[Update]:
        """All open orders of the account (anyone's), without fills, each with its `request`."""

    def orders_since(self, symbol: str, since_ms: int | None = None) -> list[Update]:
        """All orders of the account (anyone's, whatever became of them) that the exchange took in at
        `since_ms` or later, None: all it knows; oldest first, with `request` and `created_ms`, without fills."""
        raise Unsupported(f"{self.venue.exchange} {self.venue.market} can't list the orders of the past")

    @abstractmethod
    def fills(self, symbol: str, order_id: str | None = None, since_ms: int | None = None) -> list[Fill]:
        """Executions of one order, or of the symbol since a time, oldest first."""

    def value(self, asset: str, quote: str) -> Decimal | None:
        """What one unit of `asset` is worth in `quote` now; None where this form can't tell.

        Asked for fees in a third coin. A read that is not tried again: booking waits for it."""
        return None

    def key_rights(self) -> KeyRights:
        """What the account and its key may do; `AccessRefused` when the key isn't accepted."""
        raise Unsupported(f"{self.venue.exchange} {self.venue.market} can't tell what its key may do")

    def connect(self, installation: str | None = None) -> None:
        """Once, before anything else: learn what the venue is, refuse one that isn't ours."""

    def attach_heartbeat(self, beat: Callable[[], None]) -> None:
        """`beat` is called before each request, by forms that wait for answers: who waits for the
        exchange, and goes on asking, isn't stuck. It must be quick and raise nothing."""

    def attach_order_path(self, send: Callable[[str, str, Decimal], Update]) -> None:
        """A bot offers its write-ahead path (symbol, side, quantity) to forms that have a plain
        `place_market_order` for scripts."""

    def request_time_ms(self) -> int:
        """The exchange's wall clock as a request now would be stamped."""
        return self.time().server_ms

    def recv_window_ms(self) -> int:
        """How long after its time stamp the exchange may still accept a request."""
        return 5000

    def require(self, condition: bool, what: str) -> None:
        if not condition:
            raise Unsupported(f"{self.venue.exchange} {self.venue.market} can't do this: {what}")


@contextmanager
def at_priority(exchange: Exchange, priority: Priority) -> Iterator[None]:
    """What is asked inside is asked for this reason."""
    before, exchange.priority = exchange.priority, priority
    try:
        yield
    finally:
        exchange.priority = before
