"""A market that prints what a test says, and a paper exchange on it with hands on every clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import patience
from core.config import Settings, load
from core.market import path
from core.paper import signing
from core.paper.exchange import PaperExchange
from core.paper.markets import Print
from core.paper.wire import Request, Response

MINUTE = 60_000
START = 1_700_000_040_000  # on a minute
WALL = 1_795_000_000_000
D = Decimal
FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "binance"
FILTERS: list[dict[str, Any]] = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"},
    {"filterType": "LOT_SIZE", "minQty": "0.00010000", "maxQty": "9000.00000000", "stepSize": "0.00010000"},
    {"filterType": "ICEBERG_PARTS", "limit": 10},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "140.00000000", "stepSize": "0.00000000"},
    {
        "filterType": "PERCENT_PRICE_BY_SIDE",
        "bidMultiplierUp": "2",
        "bidMultiplierDown": "0.5",
        "askMultiplierUp": "2",
        "askMultiplierDown": "0.5",
        "avgPriceMins": 5,
    },
    {
        "filterType": "NOTIONAL",
        "minNotional": "5.00000000",
        "applyMinToMarket": True,
        "maxNotional": "9000000.00000000",
        "applyMaxToMarket": False,
        "avgPriceMins": 5,
    },
    {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 3},
    {"filterType": "MAX_POSITION", "maxPosition": "500.00000000"},
]
TYPES = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]


def entry(name: str, base: str, quote: str, **changed: Any) -> dict[str, Any]:
    """A symbol as exchangeInfo of 2026 tells it."""
    switches = ("icebergAllowed", "ocoAllowed", "otoAllowed", "opoAllowed", "quoteOrderQtyMarketAllowed", "allowTrailingStop", "cancelReplaceAllowed")
    return {
        "symbol": name,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        **dict.fromkeys(("quotePrecision", "quoteAssetPrecision", "baseCommissionPrecision", "quoteCommissionPrecision"), 8),
        "orderTypes": TYPES,
        **{k: k in ("quoteOrderQtyMarketAllowed", "ocoAllowed", "cancelReplaceAllowed") for k in switches},
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": FILTERS,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "TRANSFER"],
        **changed,
    }


class FixedMarket:
    """1m candles from START on, as (open, high, low, close); None is a minute without a candle. The last one repeats for ever.

    `bnb`: the price at which BNBUSDT stands; None: it is not listed yet. What else is named changes BTCUSDT's entry."""

    source = "fixed"
    first_ms = START

    def __init__(self, candles: list[tuple[str, str, str, str] | None], end_ms: int | None = None, bnb: str | None = None, **changed: Any):
        self._bnb = None if bnb is None else D(bnb)
        self._candles = [None if c is None else tuple(map(D, c)) for c in candles]
        self.end_ms = end_ms
        self._entries = {e["symbol"]: e for e in (entry("BTCUSDT", "BTC", "USDT", **changed), entry("ETHBTC", "ETH", "BTC"), entry("BNBUSDT", "BNB", "USDT"))}

    def symbols(self) -> list[dict[str, Any]]:
        return list(self._entries.values())

    def symbol(self, name: str) -> dict[str, Any] | None:
        return self._entries.get(name)

    def listed(self, name: str, ms: int) -> bool:
        return name in self._entries and (name != "BNBUSDT" or self._bnb is not None) and ms >= START

    def _minute(self, ms: int) -> int:
        return (ms - START) // MINUTE

    def _bar(self, n: int) -> tuple[int, int, Decimal, Decimal, Decimal, Decimal] | None:
        if n < 0:
            return None
        if n < len(self._candles):
            found = self._candles[n]
        else:
            c = self._candles[-1][3]  # type: ignore[index]
            found = (c, c, c, c)
        return None if found is None else (START + n * MINUTE, START + (n + 1) * MINUTE - 1, *found)  # type: ignore[return-value]

    def candle(self, symbol: str, ms: int) -> tuple[int, int, Decimal, Decimal, Decimal, Decimal] | None:
        return self._bar(self._minute(ms))

    def halted(self, symbol: str, ms: int) -> bool:
        return self._bar(self._minute(ms)) is None

    def price(self, symbol: str, ms: int) -> Decimal | None:
        if symbol == "BNBUSDT" and self._bnb is not None:
            return self._bnb
        n = self._minute(ms)
        while n >= 0:
            bar = self._bar(n)
            if bar is not None:
                return path.price(bar, ms)
            n -= 1
        return None

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> Iterator[Print]:
        for n in range(max(self._minute(after_ms), 0), self._minute(until_ms) + 1):
            bar = self._bar(n)
            if bar is not None:
                for i, (ms, price) in enumerate(path.prints(bar[0], MINUTE, *bar[2:])):
                    if after_ms < ms <= until_ms:
                        yield Print(ms, price, i == 0)

    def reach(self, symbol: str, after_ms: int, until_ms: int, below: Decimal | None, above: Decimal | None) -> tuple[Decimal, Print] | None:
        came = self.price(symbol, after_ms)
        for p in self.prints(symbol, after_ms, until_ms):
            from_price = p.price if came is None else came
            if (below is not None and min(from_price, p.price) <= below) or (above is not None and max(from_price, p.price) >= above):
                return from_price, p
            came = p.price
        return None

    def klines(self, symbol: str, interval: str, start_ms: int | None, end_ms: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        length = {"1m": MINUTE, "1h": 60 * MINUTE, "1d": 1440 * MINUTE}.get(interval)
        if length is None:
            raise ValueError(interval)
        if length != MINUTE:
            return []
        bars = [b for n in range(self._minute(now_ms) + 1) if (b := self._bar(n)) is not None]
        bars = [b for b in bars if (start_ms is None or b[0] >= start_ms) and (end_ms is None or b[0] <= end_ms)]
        bars = bars[-limit:] if start_ms is None else bars[:limit]
        return [[b[0], *(f"{v:.8f}" for v in b[2:]), "1.00000000", b[1], "1.00000000", 1, "0.50000000", "0.50000000", "0"] for b in bars]


class Hands:
    """A paper exchange on a fixed market. Time moves only by hand: `wall` in ms, market time by `step`."""

    def __init__(self, market: Any, home: Path | None = None, folder: Path | None = None, **settings: str):
        self.wall = WALL
        self.ns = 0
        self.market = market
        values = {"PAPER_SPEED": "0", "PAPER_BALANCE_USDT": "10000", **settings}
        self.settings: Settings = load({**values, **({"BOTYARD_HOME": str(home)} if home else {})})
        self.x = PaperExchange(self.settings, opener=lambda s: self.market, folder=folder, wall=lambda: self.wall, monotonic_ns=lambda: self.ns)

    def raw(self, method: str, path: str, query: str = "", body: bytes = b"", remote: str = "127.0.0.1", **headers: str) -> Response:
        return self.x.handle(Request(method, path, query, body, {k.replace("_", "-").lower(): v for k, v in headers.items()}, remote))

    def get(self, path: str, **params: Any) -> Any:
        return self._told(self.raw("GET", path, urlencode(params)))

    def signed(self, method: str, path: str, key: str = "paper", secret: str = "paper", **params: Any) -> Response:
        text = urlencode({**params, "timestamp": self.wall})
        text += "&signature=" + signing.sign(secret, text.encode())
        if method == "GET":
            return self.raw(method, path, text, x_mbx_apikey=key)
        return self.raw(method, path, "", text.encode(), x_mbx_apikey=key)

    def ask(self, method: str, path: str, **params: Any) -> Any:
        return self._told(self.signed(method, path, **params))

    def order(self, side: str, kind: str = "MARKET", symbol: str = "BTCUSDT", **params: Any) -> Any:
        if kind == "LIMIT":
            params.setdefault("timeInForce", "GTC")
        return self.ask("POST", "/api/v3/order", symbol=symbol, side=side, type=kind, **params)

    def paper(self, method: str, path: str, value: Any = None) -> Any:
        return self._told(self.raw(method, f"/paper/{path}", "", b"" if value is None else json.dumps(value).encode()))

    def step(self, ms: int) -> None:
        self.paper("POST", "clock", {"advance_ms": ms})

    def owns(self, key: str = "paper", secret: str = "paper") -> dict[str, tuple[Decimal, Decimal]]:
        told = json.loads(self.signed("GET", "/api/v3/account", key, secret, omitZeroBalances="true").body)
        return {b["asset"]: (D(b["free"]), D(b["locked"])) for b in told["balances"]}

    @staticmethod
    def _told(response: Response) -> Any:
        value = json.loads(response.body)
        return value if response.status == 200 else (response.status, value.get("code"), value.get("msg", value.get("error")))


def flat(price: str = "100", minutes: int = 10) -> list[tuple[str, str, str, str] | None]:
    return [(price, price, price, price)] * minutes


def until(condition: Any, seconds: float = 15) -> None:
    """Wait for an event of another process."""
    patience.until(condition, "what did not come about", seconds)
