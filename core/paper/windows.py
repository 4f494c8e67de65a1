"""Price statistics of a stretch of time: ticker/24hr, ticker (a window that rolls), ticker/tradingDay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.market.fees import EXACT
from core.model import ZERO
from core.paper import public, validation
from core.paper.endpoint import Call, Endpoint
from core.paper.matching import SymbolInfo
from core.paper.wire import either, pad8

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ROLLING = 4  # the weight of each symbol in a rolling window or a trading day, 200 at most together (BINANCE.md §1.1)
_WINDOW = re.compile(r"(?:([1-9]|[1-5][0-9])m|([1-9]|1[0-9]|2[0-3])h|([1-7])d)", re.ASCII)


def _kind(values: Mapping[str, str]) -> str:
    kind = values.get("type", "FULL")
    if kind not in ("FULL", "MINI"):
        raise validation.not_valid("type")
    return kind


def _rows(x: PaperExchange, symbol: str, start: int, now: int) -> list[list[Any]]:
    """Candles that open in [start, now]: minutes (or what the data has) up to a full hour, hours from there, days where it takes many."""
    hour = min(-(-start // HOUR) * HOUR, now + 1)
    day = min(-(-hour // DAY) * DAY, now + 1) if now - start > 2 * DAY else now + 1
    rows: list[list[Any]] = []
    for begin, end, intervals in ((start, hour, ("1m", "5m", "15m")), (hour, day, ("1h",)), (day, now + 1, ("1d",))):
        for interval in intervals if begin < end else ():
            found = x.market.klines(symbol, interval, begin, end - 1, 1000, now)
            rows += found
            if found:
                break
    return rows


def _statistics(x: PaperExchange, info: SymbolInfo, rows: list[list[Any]], start: int, end: int, now: int, kind: str) -> dict[str, Any]:
    """The keys that all three share, in Binance's order; what the data doesn't tell (quote volume, trades) is 0, and the average then the last price."""
    last = public.last_price(x, info, now)
    first = Decimal(rows[0][1]) if rows else last
    volume = sum((Decimal(r[5]) for r in rows), ZERO)
    quote = sum((Decimal(r[7]) for r in rows), ZERO)
    change = last - first
    percent = EXACT.divide(change * 100, first) if first else ZERO
    moved = {
        "priceChange": pad8(change),
        "priceChangePercent": format(percent.quantize(Decimal("0.001"), context=EXACT), "f"),
        "weightedAvgPrice": pad8(EXACT.divide(quote, volume) if volume and quote else last),
    }
    return {
        "symbol": info.name,
        **(moved if kind == "FULL" else {}),
        "openPrice": pad8(first),
        "highPrice": pad8(max((Decimal(r[2]) for r in rows), default=last)),
        "lowPrice": pad8(min((Decimal(r[3]) for r in rows), default=last)),
        "lastPrice": pad8(last),
        "volume": pad8(volume),
        "quoteVolume": pad8(quote),
        "openTime": start,
        "closeTime": end,
        "firstId": start,
        "lastId": min(end, now),
        "count": sum(int(r[8]) for r in rows),
    }


# --- the last 24 hours ------------------------------------------------------------------


def ticker_24hr(x: PaperExchange, call: Call) -> Any:
    kind = _kind(call.values)
    infos, one = public.symbols(x, call)
    rows = [_day(x, info, call.now, kind) for info in infos]
    return rows[0] if one else rows


def _day(x: PaperExchange, info: SymbolInfo, now: int, kind: str) -> dict[str, Any]:
    """From hourly candles (daily ones where the data is coarser)."""
    rows: list[list[Any]] = []
    for interval in ("1h", "1d"):
        rows = x.market.klines(info.name, interval, now - DAY, now, 1000, now)
        if rows:
            break
    found = _statistics(x, info, rows, now - DAY, now, now, kind)
    if kind == "MINI":
        return found
    bid, ask = public.best(x, info, now)
    now_and_before = {
        "prevClosePrice": found["openPrice"],
        "lastPrice": found["lastPrice"],
        "lastQty": pad8(public.trade_quantity(info, now)),
        "bidPrice": bid[0],
        "bidQty": bid[1],
        "askPrice": ask[0],
        "askQty": ask[1],
    }
    head = {k: found[k] for k in ("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice")}
    return {**head, **now_and_before, **{k: v for k, v in found.items() if k not in head and k not in now_and_before}}


# --- a window that rolls, and the trading day --------------------------------------------


def _some(values: Mapping[str, str]) -> None:
    if "symbol" not in values and "symbols" not in values:
        raise either("symbol", "symbols")


def _length(values: Mapping[str, str]) -> int:
    """`windowSize` in ms: 1m to 59m, 1h to 23h, 1d to 7d; a day without a word."""
    text = values.get("windowSize", "1d")
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise validation.not_valid("windowSize")
    return int(text[:-1]) * {"m": MINUTE, "h": HOUR, "d": DAY}[text[-1]]


def ticker(x: PaperExchange, call: Call) -> Any:
    """It begins on a minute and ends now, so that it is up to 59,999 ms longer than asked for."""
    kind, length, now = _kind(call.values), _length(call.values), call.now
    start = (now - length) // MINUTE * MINUTE
    return _told(x, call, start, now, kind)


def trading_day(x: PaperExchange, call: Call) -> Any:
    """The calendar day of the time zone so far; `closeTime` is that day's end."""
    kind, shift = _kind(call.values), validation.zone(call.values)
    start = (call.now + shift) // DAY * DAY - shift
    return _told(x, call, start, start + DAY - 1, kind)


def _told(x: PaperExchange, call: Call, start: int, end: int, kind: str) -> Any:
    infos, one = public.symbols(x, call)
    rows = [_statistics(x, info, _rows(x, info.name, start, call.now), start, end, call.now, kind) for info in infos]
    return rows[0] if one else rows


# --- weights (BINANCE.md §1.1) ------------------------------------------------------------


def _count(values: Mapping[str, str], all_of_them: int) -> int:
    if "symbol" in values:
        return 1
    return values["symbols"].count(",") + 1 if "symbols" in values else all_of_them


def _day_weight(values: Mapping[str, str]) -> int:
    count = _count(values, 1000)
    return 2 if count <= 20 else 40 if count <= 100 else 80


def _rolling_weight(values: Mapping[str, str]) -> int:
    return min(200, ROLLING * _count(values, 1))


_TAKES = frozenset({"symbol", "symbols", "symbolStatus", "type"})
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/ticker/24hr"): Endpoint(ticker_24hr, weight=_day_weight, takes=_TAKES),
    ("GET", "/api/v3/ticker"): Endpoint(ticker, weight=_rolling_weight, takes=_TAKES | {"windowSize"}, check=_some),
    ("GET", "/api/v3/ticker/tradingDay"): Endpoint(trading_day, weight=_rolling_weight, takes=_TAKES | {"timeZone"}, check=_some),
}
