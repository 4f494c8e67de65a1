"""The types that all rooms exchange. No behaviour that touches disk, network or time.

Money and quantities are `Decimal`, in the symbol's quote or base asset. Times are
integers, ms since the epoch, UTC: `*_ms` is market time, `wall_*` is wall time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any, Literal

Side = Literal["BUY", "SELL"]
Direction = Literal["LONG", "SHORT"]
Role = Literal["entry", "exit", "stop", "target", "safety"]
Mode = Literal["paper", "testnet", "live"]

ZERO = Decimal(0)
HIGHEST_ID = 999_999  # of a bot
MODES: tuple[Mode, ...] = ("paper", "testnet", "live")

# Order states, in the order in which they can follow one another (fold relies on it).
SENDING = "SENDING"  # intent on disk, outcome not known
NEW = "NEW"
PARTIALLY_FILLED = "PARTIALLY_FILLED"
FILLED = "FILLED"
CANCELED = "CANCELED"
EXPIRED = "EXPIRED"
REJECTED = "REJECTED"
TERMINAL = frozenset({FILLED, CANCELED, EXPIRED, REJECTED, "EXPIRED_IN_MATCH"})


def plain(value: Decimal) -> str:
    """A Decimal as plain digits, never in scientific notation, without trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def opposite(side: Side) -> Side:
    return "SELL" if side == "BUY" else "BUY"


@dataclass(frozen=True, slots=True)
class Venue:
    """Where something happened. Rows of different venues never share a total.

    `source` is empty but in paper mode, where it says which market the prices are
    from: `synthetic:SEED`, `replay:NAME` or `binance`.
    """

    exchange: str = "binance"
    market: str = "spot"
    account: str = "main"
    mode: Mode = "paper"
    source: str = ""

    def key(self) -> str:
        return "/".join(p for p in (self.exchange, self.market, self.account, self.mode, self.source) if p)

    def candle_key(self) -> str:
        """Candles carry no account; real ones no mode either beyond which host they are from."""
        return "/".join(p for p in (self.exchange, self.market, self.mode, self.source) if p)

    def same_account(self, other: Venue) -> bool:
        """Equal in all but the paper market's source, which a file may have learned later."""
        return (self.exchange, self.market, self.account, self.mode) == (
            other.exchange,
            other.market,
            other.account,
            other.mode,
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What a symbol allows, from the exchange's own filters. 0 or None: no such limit.

    `step`/`min_quantity`/`max_quantity` bind every order, the `market_*` ones market
    orders in addition. `min_notional` and `max_notional` are in the quote asset.
    """

    tick: Decimal = ZERO
    min_price: Decimal = ZERO
    max_price: Decimal = ZERO
    step: Decimal = ZERO
    min_quantity: Decimal = ZERO
    max_quantity: Decimal = ZERO
    market_step: Decimal = ZERO
    market_min_quantity: Decimal = ZERO
    market_max_quantity: Decimal = ZERO
    min_notional: Decimal = ZERO
    min_notional_on_market: bool = True
    max_notional: Decimal | None = None
    max_notional_on_market: bool = False
    max_orders: int | None = None
    max_algo_orders: int | None = None
    filters: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_binance(cls, filters: Sequence[Mapping[str, Any]]) -> Rules:
        """Rules from exchangeInfo's `filters` (spot; MIN_NOTIONAL and NOTIONAL both occur).

        Source: binance-spot-api-docs, filters.md."""
        by_type = {f["filterType"]: f for f in filters}

        def number(kind: str, key: str) -> Decimal:
            return Decimal(str(by_type.get(kind, {}).get(key, "0")))

        old, new = by_type.get("MIN_NOTIONAL"), by_type.get("NOTIONAL")
        count, algo = by_type.get("MAX_NUM_ORDERS"), by_type.get("MAX_NUM_ALGO_ORDERS")
        return cls(
            tick=number("PRICE_FILTER", "tickSize"),
            min_price=number("PRICE_FILTER", "minPrice"),
            max_price=number("PRICE_FILTER", "maxPrice"),
            step=number("LOT_SIZE", "stepSize"),
            min_quantity=number("LOT_SIZE", "minQty"),
            max_quantity=number("LOT_SIZE", "maxQty"),
            market_step=number("MARKET_LOT_SIZE", "stepSize"),
            market_min_quantity=number("MARKET_LOT_SIZE", "minQty"),
            market_max_quantity=number("MARKET_LOT_SIZE", "maxQty"),
            min_notional=max(number("NOTIONAL", "minNotional"), number("MIN_NOTIONAL", "minNotional")),
            min_notional_on_market=bool((new and new.get("applyMinToMarket")) or (old and old.get("applyToMarket"))),
            max_notional=Decimal(str(new["maxNotional"])) if new and "maxNotional" in new else None,
            max_notional_on_market=bool(new and new.get("applyMaxToMarket")),
            max_orders=int(count["maxNumOrders"]) if count else None,
            max_algo_orders=int(algo["maxNumAlgoOrders"]) if algo else None,
            filters=tuple(dict(f) for f in filters),
        )


@dataclass(frozen=True, slots=True)
class Symbol:
    """A market's name and what the exchange says of it. Its text is never taken apart."""

    name: str
    base: str
    quote: str
    tradeable: bool
    rules: Rules
    order_types: frozenset[str] = frozenset({"MARKET", "LIMIT"})
    status: str = "TRADING"
    base_precision: int = 8
    quote_precision: int = 8


# A Binance kline row: [open_ms, open, high, low, close, volume, close_ms, quote_volume,
# trades, taker_base, taker_quote, "0"]; prices and volumes are decimal strings.
KlineRow = list[Any]


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles of one symbol and timeframe, oldest first, as Binance's 12-field rows.

    Forms of exchange whose rows are shorter fill them up (`row12`)."""

    symbol: str
    timeframe: str
    rows: Sequence[KlineRow]

    def __len__(self) -> int:
        return len(self.rows)

    def closed_before(self, market_ms: int) -> Candles:
        """Only candles whose close time lies before market time."""
        rows = list(self.rows)
        while rows and int(rows[-1][6]) >= market_ms:
            rows.pop()
        return replace(self, rows=rows)

    def last(self, n: int) -> Candles:
        return replace(self, rows=list(self.rows)[-n:]) if n > 0 else replace(self, rows=[])


def row12(open_ms: int, o: object, h: object, low: object, c: object, v: object, close_ms: int) -> KlineRow:
    """A 12-field row from six values; what is not known is "0"."""
    return [int(open_ms), str(o), str(h), str(low), str(c), str(v), int(close_ms), "0", 0, "0", "0", "0"]


@dataclass(frozen=True, slots=True)
class Balance:
    asset: str
    free: Decimal
    locked: Decimal

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `trade_id` is the exchange's, unique within a symbol.

    `trade` counts the bot's positions from 1, so that a closed position (a *trade*)
    can be put together from its fills. `time_ms` is market time, `wall_ms` is when we
    booked it. `fee_quote` is what a fee in a third coin (BNB) was worth in the quote asset
    when it was booked: None where the fee is in base or quote, or no price could be read.
    It counts for profit only; the books move `fee` of `fee_asset`.
    """

    trade_id: str
    order_id: str
    client_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    quote: Decimal
    fee: Decimal
    fee_asset: str
    time_ms: int
    maker: bool = False
    role: Role = "entry"
    tag: str = ""
    trade: int = 0
    wall_ms: int = 0
    fee_quote: Decimal | None = None


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """The exact request, as written to disk before it is sent."""

    client_id: str
    symbol: str
    side: Side
    kind: str  # MARKET, LIMIT, later LIMIT_MAKER, STOP_LOSS, ...
    quantity: Decimal | None = None  # base asset
    quote_quantity: Decimal | None = None  # quote asset, MARKET only
    price: Decimal | None = None
    stop_price: Decimal | None = None
    life: str | None = None  # GTC, IOC, FOK


@dataclass(frozen=True, slots=True)
class Update:
    """Whatever tells of an order: its answer, a query, a stream event, the backtest.

    `fills` may be none, some or all of the order's fills; `executed` and
    `executed_quote` are cumulative.
    """

    client_id: str
    status: str
    order_id: str = ""
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    fills: tuple[Fill, ...] = ()
    time_ms: int = 0
    reason: str = ""
    symbol: str = ""
    # Told by `Exchange.orders_since` alone: what was asked for, and when the exchange took it in (market ms).
    request: OrderRequest | None = None
    created_ms: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """An order of a bot, as its position file keeps it until it is over."""

    request: OrderRequest
    role: Role
    tag: str = ""
    status: str = SENDING
    order_id: str = ""
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    created_ms: int = 0
    wall_created_ms: int = 0
    # -2013 may only be believed once server time has passed this moment (DESIGN §1.3).
    not_found_final_after_ms: int = 0
    trade: int = 0  # the position that it belongs to
    reason: str = ""
    # Its fills that belong to trades that are closed by now: their trade ids, and the base asset they come to.
    past: tuple[str, ...] = ()
    past_quantity: Decimal = ZERO

    @property
    def client_id(self) -> str:
        return self.request.client_id

    @property
    def side(self) -> Side:
        return self.request.side

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class StrategyRef:
    """Which strategy decided: its key, the version of its code, its parameters."""

    key: str = ""
    version: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a bot's closed trades came to, in the quote asset."""

    profit: Decimal = ZERO
    trades: int = 0
    wins: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Everything a bot owns and owes: its fills, its open orders, its dust.

    `quantity`, `entry_price` and the like are computed from the fills, never kept.
    """

    bot_id: int
    venue: Venue
    symbol: str
    base: str
    quote: str
    direction: Direction | None = None
    fills: tuple[Fill, ...] = ()
    orders: tuple[Order, ...] = ()
    dust: Decimal = ZERO
    dust_in: Decimal = ZERO  # dust that an entry moved into the position
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    protection: Literal["exchange", "bot", "none"] = "bot"
    memo: Mapping[str, Any] = field(default_factory=dict)
    strategy: StrategyRef = StrategyRef()
    next_order: int = 1
    trade: int = 0  # number of the open (or last) position
    totals: Totals = Totals()
    has_traded: bool = False
    initial_investment: Decimal = ZERO
    opened_ms: int | None = None
    cooldown: int = 0  # checks still to be skipped
    last_candle_ms: int | None = None  # open time of the last candle decided on when the file was written
    unjournaled: tuple[Fill, ...] = ()
    skip_entries: int = 0  # entries that the owner wants left out

    @property
    def owned(self) -> Decimal:
        """Base asset that the fills left: bought − sold − fees taken in it (negative for a short)."""
        total = ZERO
        for f in self.fills:
            total += f.quantity if f.side == "BUY" else -f.quantity
            if f.fee_asset == self.base:
                total -= f.fee
        return total

    @property
    def quantity(self) -> Decimal:
        """What the open position holds (long) or owes (short), in the base asset."""
        if self.direction is None:
            return ZERO
        if self.direction == "SHORT":
            return max(-self.owned, ZERO)
        return max(self.owned + self.dust_in, ZERO)

    @property
    def cash(self) -> Decimal:
        """Quote asset that the fills brought: sold − bought − fees taken in it − the worth of fees in a third coin.

        The sum of all trades' profits is thus the quote asset's movement in the books less
        the `fee_quote` of all fills: that part left the wallet in the third coin."""
        total = ZERO
        for f in self.fills:
            total += f.quote if f.side == "SELL" else -f.quote
            if f.fee_asset == self.quote:
                total -= f.fee
            elif f.fee_asset != self.base and f.fee_quote is not None:
                total -= f.fee_quote
        return total

    @property
    def entry_side(self) -> Side:
        return "SELL" if self.direction == "SHORT" else "BUY"

    @property
    def entry_quote(self) -> Decimal:
        """What the entries cost (long) or brought (short) before fees, in the quote asset."""
        return sum((f.quote for f in self.fills if f.side == self.entry_side), ZERO)

    @property
    def entry_price(self) -> Decimal | None:
        """Average price of the entry fills; None when flat or not yet filled."""
        bought = sum((f.quantity for f in self.fills if f.side == self.entry_side), ZERO)
        return self.entry_quote / bought if self.direction and bought else None

    @property
    def pending_order(self) -> Order | None:
        """The order whose outcome is not known, if there is one."""
        return next((o for o in self.orders if o.status == SENDING), None)

    @property
    def flat(self) -> bool:
        return self.direction is None

    @property
    def idle(self) -> bool:
        """Flat and without any open order: symbol, venue and strategy may change."""
        return self.direction is None and not self.orders

    def profit_at(self, price: Decimal) -> Decimal:
        """Profit if the position were closed at `price` with no further fee."""
        return self.cash + self.owned * price


# --- decisions ------------------------------------------------------------------

Action = Literal["open", "add", "reduce", "close", "place", "cancel", "protect", "none"]


@dataclass(frozen=True, slots=True)
class Intent:
    """What a decision wants done. Exactly one of the sizes, or none for `cancel`.

    `size_quote` in the quote asset, `size_base` in the base asset, `size_all` all that
    the position holds. `kind` is "market" or "limit"; a limit needs `price` and `life`.
    `tag` names the order for the strategy (unique among its open orders).
    """

    action: Action
    side: Side | None = None
    size_quote: Decimal | None = None
    size_base: Decimal | None = None
    size_all: bool = False
    kind: str = "market"
    price: Decimal | None = None
    life: str = "GTC"
    role: Role = "entry"
    tag: str = ""
    reason: str = ""
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one check or one look came to: the intents, the memo to keep, and why."""

    intents: tuple[Intent, ...] = ()
    signal: str = "HOLD"
    reasoning: str = ""
    why_not: str = ""  # what kept it from acting on its signal
    memo: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)  # the named series it rests on, as kept in its row


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """A named series' value (JSON's types; None: not known, `note` says why) and the market time from which it was known."""

    value: Any
    known_ms: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to hear of. `kind` is stable, `text` is for people."""

    kind: str
    text: str
    severity: Literal["info", "warning", "risk"] = "info"
    bot_id: int | None = None
    market_ms: int = 0
    wall_ms: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


# --- rounding (the one place) -----------------------------------------------------


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """`value` rounded down to a multiple of `step` (0: unchanged)."""
    return value if not step else (value / step).to_integral_value(rounding=ROUND_DOWN) * step


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """`value` rounded up to a multiple of `step` (0: unchanged)."""
    return value if not step else (value / step).to_integral_value(rounding=ROUND_UP) * step
