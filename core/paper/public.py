"""Market data as Binance serves it, made from the market's candles and prints; price statistics are in windows.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.config import TIMEFRAMES
from core.market import liquidity
from core.market.fees import quote_amount
from core.paper import validation
from core.paper.endpoint import Call, Endpoint
from core.paper.markets import Print
from core.paper.matching import SymbolInfo
from core.paper.wire import WireError, compact, invalid_symbol, pad8

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

DAY = 86_400_000
LEVELS = 20  # of the book; its best prices are the last price ± one tick
STATUSES = ("TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY")


def ping(x: PaperExchange, call: Call) -> Any:
    return {}


def server_time(x: PaperExchange, call: Call) -> Any:
    """Wall time: it is what signatures are checked against."""
    return {"serverTime": call.wall}


# --- symbols -----------------------------------------------------------------------


def _combination() -> WireError:
    return WireError(-1128, "Combination of optional parameters invalid.")


def symbols(x: PaperExchange, call: Call) -> tuple[list[SymbolInfo], bool]:
    """The symbols asked for (all listed ones without a word) and whether one alone was asked for.

    `symbolStatus` leaves out those of another state; one alone of another state is -1220."""
    values = call.values
    if "symbol" in values and "symbols" in values:
        raise _combination()
    if "symbol" in values:
        return [one_symbol(x, call)], True
    if "symbols" in values:
        names = json.loads(values["symbols"])
        if len(set(names)) != len(names):
            raise WireError(-1151, "Symbol is present multiple times in the list.")
    else:
        names = [name for name in x.symbol_names if x.market.listed(name, call.now)]
    status = _status(values)
    found = [x.matching.info(name, call.now) for name in names]
    return [info for info in found if status in (None, info.entry["status"])], False


def one_symbol(x: PaperExchange, call: Call) -> SymbolInfo:
    status = _status(call.values)
    info = x.matching.info(call.values["symbol"], call.now)
    if status not in (None, info.entry["status"]):
        raise WireError(-1220, "The symbol's status does not match the requested symbolStatus.")
    return info


def _status(values: Mapping[str, str]) -> str | None:
    status = values.get("symbolStatus")
    if status not in (None, *STATUSES):
        raise WireError(-1122, "Invalid symbolStatus.")
    return status


def exchange_info(x: PaperExchange, call: Call) -> Any:
    values = call.values
    named = "symbol" in values or "symbols" in values
    if named and ("permissions" in values or "symbolStatus" in values):
        raise _combination()
    wanted, sets = _permissions(values), validation.flag(values, "showPermissionSets", True)
    infos, _ = symbols(x, call)
    rows = []
    for info in infos:
        if wanted and not any(wanted & set(group) for group in info.entry["permissionSets"]):
            continue
        rows.append(x.entry_json(info, sets))
    head = {"timezone": "UTC", "serverTime": call.wall, "rateLimits": x.limits.table(), "exchangeFilters": x.exchange_filters}
    return compact(head)[:-1] + b',"symbols":[' + b",".join(rows) + b"]}"


def _permissions(values: Mapping[str, str]) -> set[str]:
    text = values.get("permissions")
    if text is None:
        return set()
    if not text.startswith("["):
        return {text}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise validation.not_valid("permissions") from None
    if not isinstance(found, list) or not all(isinstance(p, str) for p in found):
        raise validation.not_valid("permissions")
    return set(found)


# --- candles -----------------------------------------------------------------------


def _grid(interval: str) -> int:
    """An interval's length in ms; of days and longer ones at least a day, which no time zone shifts by. -1120 for none of Binance's."""
    if interval not in TIMEFRAMES:
        raise WireError(-1120, "Invalid interval.")
    return int(interval[:-1]) * {"s": 1000, "m": 60_000, "h": 3_600_000}.get(interval[-1], DAY)


def klines(x: PaperExchange, call: Call) -> Any:
    values = call.values
    info = x.matching.info(values["symbol"], call.now)
    if validation.zone(values) % _grid(values["interval"]):
        raise WireError(-1020, "This operation is not supported.")  # candles cut at another hour than UTC's are not made here
    limit = validation.limit(values, 500, 1000)
    try:
        rows = x.market.klines(info.name, values["interval"], validation.moment(values, "startTime"), validation.moment(values, "endTime"), limit, call.now)
    except ValueError:
        raise WireError(-1120, "Invalid interval.") from None
    fault = x.faults.take("missing_candles", "GET", call.request.path)
    if fault is not None:
        # The latest closed ones are gone; an open one stays.
        closed = [i for i, row in enumerate(rows) if row[6] < call.now]
        gone = set(closed[-fault.params["count"] :])
        rows = [row for i, row in enumerate(rows) if i not in gone]
    return rows


# --- prices ------------------------------------------------------------------------


def last_price(x: PaperExchange, info: SymbolInfo, now: int) -> Decimal:
    price = x.market.price(info.name, now)
    if price is None:
        raise invalid_symbol()
    return price


def ticker_price(x: PaperExchange, call: Call) -> Any:
    infos, one = symbols(x, call)
    rows = [{"symbol": i.name, "price": pad8(last_price(x, i, call.now))} for i in infos]
    return rows[0] if one else rows


def _book(x: PaperExchange, info: SymbolInfo, now: int, levels: int) -> tuple[list[list[str]], list[list[str]]]:
    """The last price and a tick each side. With slippage the best price is good for one step only, the rest
    costs what a market order would pay (PAPER_SLIPPAGE_PCT)."""
    price = last_price(x, info, now)

    def side(name: str) -> list[list[str]]:
        found = liquidity.printed(price, name, info.rules, x.matching.slipped(info, name, now, price), levels)
        return [[pad8(at), pad8(held)] for at, held in found]

    return side("SELL"), side("BUY")


def best(x: PaperExchange, info: SymbolInfo, now: int) -> tuple[list[str], list[str]]:
    """Best bid and best ask, each (price, quantity); a price of one tick leaves no bid below it."""
    bids, asks = _book(x, info, now, 1)
    return bids[0] if bids else ["0.00000000", "0.00000000"], asks[0]


def book_ticker(x: PaperExchange, call: Call) -> Any:
    infos, one = symbols(x, call)
    rows = []
    for info in infos:
        bid, ask = best(x, info, call.now)
        rows.append({"symbol": info.name, "bidPrice": bid[0], "bidQty": bid[1], "askPrice": ask[0], "askQty": ask[1]})
    return rows[0] if one else rows


def depth(x: PaperExchange, call: Call) -> Any:
    info = one_symbol(x, call)
    bids, asks = _book(x, info, call.now, min(LEVELS, validation.limit(call.values, 100, 5000)))
    return {"lastUpdateId": call.now, "bids": bids, "asks": asks}


def avg_price(x: PaperExchange, call: Call) -> Any:
    info = x.matching.info(call.values["symbol"], call.now)
    price = x.average_price(info.name, call.now)
    if price is None:
        raise invalid_symbol()
    return {"mins": 5, "price": pad8(price), "closeTime": call.now}


# --- trades: one for each print, its id is its ms -----------------------------------


def trade_quantity(info: SymbolInfo, ms: int) -> Decimal:
    """Some size on the step, the same whenever asked."""
    return max(info.rules.min_quantity, info.rules.step or Decimal(1)) * (1 + (ms // 997) % 500)


def _latest(x: PaperExchange, symbol: str, until: int, count: int, floor_ms: int = 0) -> list[Print]:
    """The last `count` prints up to `until`: the window looked at doubles until it holds enough."""
    window = count * 20_000
    while True:
        after = max(until - window, floor_ms - 1)
        found = list(x.market.prints(symbol, after, until))
        if len(found) >= count or after < floor_ms or not x.market.listed(symbol, after) or window > 400 * DAY:
            return found[-count:]
        window *= 2


def _from(x: PaperExchange, symbol: str, start: int, until: int, count: int) -> list[Print]:
    found: list[Print] = []
    for p in x.market.prints(symbol, start - 1, until):
        found.append(p)
        if len(found) == count:
            break
    return found


def _trades(x: PaperExchange, call: Call) -> tuple[SymbolInfo, list[Print]]:
    values, now = call.values, call.now
    info = x.matching.info(values["symbol"], now)
    limit = validation.limit(values, 500, 1000)
    start, end, first = validation.moment(values, "startTime"), validation.moment(values, "endTime"), validation.whole(values, "fromId")
    if first is not None:
        if start is not None or end is not None:
            raise _combination()
        start = min(first, now + 1)
    until = now if end is None else min(end, now)
    if start is not None:
        return info, _from(x, info.name, start, until, limit)
    return info, _latest(x, info.name, until, limit)


def trades(x: PaperExchange, call: Call) -> Any:
    info, found = _trades(x, call)
    rows = []
    for p in found:
        quantity = trade_quantity(info, p.ms)
        rows.append(
            {
                "id": p.ms,
                "price": pad8(p.price),
                "qty": pad8(quantity),
                "quoteQty": pad8(quote_amount(p.price, quantity)),
                "time": p.ms,
                "isBuyerMaker": p.ms % 2 == 1,
                "isBestMatch": True,
            }
        )
    return rows


def agg_trades(x: PaperExchange, call: Call) -> Any:
    info, found = _trades(x, call)
    return [
        {"a": p.ms, "p": pad8(p.price), "q": pad8(trade_quantity(info, p.ms)), "f": p.ms, "l": p.ms, "T": p.ms, "m": p.ms % 2 == 1, "M": True}
        for p in found
    ]  # fmt: skip


# --- weights (BINANCE.md §1.1) ------------------------------------------------------


def _depth_weight(values: Mapping[str, str]) -> int:
    text = values.get("limit", "100")
    limit = int(text) if text.isascii() and text.isdigit() else 100
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def _ticker_weight(values: Mapping[str, str]) -> int:
    return 2 if "symbol" in values else 4


_ONE = frozenset({"symbol"})
_SOME = frozenset({"symbol", "symbols", "symbolStatus"})
_KLINES = Endpoint(klines, weight=2, needs=("symbol", "interval"), takes=frozenset({"symbol", "interval", "startTime", "endTime", "timeZone", "limit"}))
_RANGE = frozenset({"symbol", "fromId", "startTime", "endTime", "limit"})
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/ping"): Endpoint(ping),
    ("GET", "/api/v3/time"): Endpoint(server_time),
    ("GET", "/api/v3/exchangeInfo"): Endpoint(
        exchange_info, weight=20, takes=frozenset({"symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"})
    ),
    ("GET", "/api/v3/klines"): _KLINES,
    ("GET", "/api/v3/uiKlines"): _KLINES,
    ("GET", "/api/v3/ticker/price"): Endpoint(ticker_price, weight=_ticker_weight, takes=_SOME),
    ("GET", "/api/v3/ticker/bookTicker"): Endpoint(book_ticker, weight=_ticker_weight, takes=_SOME),
    ("GET", "/api/v3/depth"): Endpoint(depth, weight=_depth_weight, needs=("symbol",), takes=frozenset({"symbol", "limit", "symbolStatus"})),
    ("GET", "/api/v3/avgPrice"): Endpoint(avg_price, weight=2, needs=("symbol",), takes=_ONE),
    ("GET", "/api/v3/trades"): Endpoint(trades, weight=25, needs=("symbol",), takes=frozenset({"symbol", "limit"})),
    ("GET", "/api/v3/historicalTrades"): Endpoint(trades, weight=25, needs=("symbol",), takes=frozenset({"symbol", "limit", "fromId"})),
    ("GET", "/api/v3/aggTrades"): Endpoint(agg_trades, weight=4, needs=("symbol",), takes=_RANGE),
}
