"""Binance's wire as our types, and back: parameters of orders, answers about symbols, orders and fills.

What a request weighs is here too. Pure functions. An answer whose shape or numbers can't be right raises LookupError, TypeError
or ValueError; the client makes of it what it means (unavailable, or an unknown outcome).

Wire facts: binance-spot-api-docs (rest-api.md, errors.md, filters.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from core.model import FILLED, NEW, ZERO, Fill, OrderRequest, Rules, Symbol, Update, plain


def order_params(request: OrderRequest) -> dict[str, str]:
    """An order as Binance's parameters: plain decimal text, nothing that is not needed."""
    params = {"symbol": request.symbol, "side": request.side, "type": request.kind, "newClientOrderId": request.client_id}
    for name, value in (("quantity", request.quantity), ("quoteOrderQty", request.quote_quantity), ("price", request.price), ("stopPrice", request.stop_price)):
        if value is not None:
            params[name] = plain(value)
    if request.life is not None and request.kind != "MARKET":
        params["timeInForce"] = request.life
    return params


def listed(answer: Any) -> list[Any]:
    """An answer that must be a list. An empty text comes from the library as {}, which is none."""
    if not isinstance(answer, list):
        raise TypeError(f"a list was expected, not {type(answer).__name__}")
    return answer


def number(value: Any) -> Decimal:
    """A price, size or amount of the wire: a decimal string, finite, not below 0. ValueError or TypeError else."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no decimal text")
    found = Decimal(value)
    if not found.is_finite() or found < 0:
        raise ValueError(f"{value!r} is no amount")
    return found


def parse_symbol(entry: dict[str, Any]) -> Symbol:
    """One entry of exchangeInfo's `symbols`."""
    return Symbol(
        name=entry["symbol"],
        base=entry["baseAsset"],
        quote=entry["quoteAsset"],
        tradeable=entry["status"] == "TRADING" and bool(entry.get("isSpotTradingAllowed", True)),
        rules=Rules.from_binance(entry["filters"]),
        order_types=frozenset(entry.get("orderTypes", ())),
        status=entry["status"],
        base_precision=int(entry.get("baseAssetPrecision", 8)),
        quote_precision=int(entry.get("quoteAssetPrecision", entry.get("quotePrecision", 8))),
    )


def parse_order(row: dict[str, Any], client_id: str | None = None) -> Update:
    """An order's answer (POST, GET, DELETE). `fills` only where the answer tells them (FULL)."""
    time_ms = int(row.get("transactTime") or row.get("updateTime") or row.get("time") or 0)
    order_id, own_id = str(row["orderId"]), client_id or str(row["clientOrderId"])
    fills = tuple(
        Fill(
            trade_id=str(f["tradeId"]),
            order_id=order_id,
            client_id=own_id,
            symbol=row["symbol"],
            side=row["side"],
            price=number(f["price"]),
            quantity=number(f["qty"]),
            quote=number(f["price"]) * number(f["qty"]),
            fee=number(f["commission"]),
            fee_asset=f["commissionAsset"],
            time_ms=time_ms,
        )
        for f in row.get("fills", ())
    )
    status = str(row.get("status", NEW))
    # An answer of the short kind (ACK) tells neither status nor sums; one that tells a status tells the sums.
    executed = number(row["executedQty"]) if "status" in row else ZERO
    quote = number(row.get("cummulativeQuoteQty", "0"))
    if status == FILLED and not executed:
        raise ValueError(f"order {order_id} is told as filled with nothing executed")
    if len(fills) == 1 and fills[0].quantity == executed and quote > 0:
        fills = (replace(fills[0], quote=quote),)  # the exchange's own product, with its rounding
    elif sum((f.quote for f in fills), ZERO) != quote:
        fills = ()  # each product was rounded there: its list of trades tells them to the last digit
    return Update(
        client_id=own_id,
        status=status,
        order_id=order_id,
        executed=executed,
        executed_quote=quote,
        fills=fills,
        time_ms=time_ms,
        reason=str(row.get("expiryReason", "")),
        symbol=row["symbol"],
    )


def parse_past(row: dict[str, Any]) -> Update:
    """A row of allOrders: what became of an order, what was asked for, and when. A sum that is
    told as below 0 is not known any more (very old orders): 0."""
    told = parse_order({**row, "cummulativeQuoteQty": "0"} if str(row.get("cummulativeQuoteQty", "")).startswith("-") else row)

    def size(key: str) -> Decimal | None:
        return number(row.get(key, "0")) or None

    life = row.get("timeInForce") if row["type"] == "LIMIT" or (row["type"].endswith("_LIMIT")) else None
    sizes = (size("origQty"), size("origQuoteOrderQty"), size("price"), size("stopPrice"))
    request = OrderRequest(told.client_id, told.symbol, row["side"], row["type"], *sizes, life)
    return replace(told, request=request, created_ms=int(row["time"]))


def parse_trade(row: dict[str, Any]) -> Fill:
    """One row of myTrades; it names the order by its id only."""
    return Fill(
        trade_id=str(row["id"]),
        order_id=str(row["orderId"]),
        client_id="",
        symbol=row["symbol"],
        side="BUY" if row["isBuyer"] else "SELL",
        price=number(row["price"]),
        quantity=number(row["qty"]),
        quote=number(row["quoteQty"]),
        fee=number(row["commission"]),
        fee_asset=row["commissionAsset"],
        time_ms=int(row["time"]),
        maker=bool(row["isMaker"]),
    )


def parse_list(answer: dict[str, Any]) -> tuple[Update, ...]:
    """An order list's answer: an update for each of its orders."""
    return tuple(parse_order(r) for r in answer["orderReports"])


# --- what a request costs (rest-api.md, 2026-08) -----------------------------------------

_WEIGHTS: dict[tuple[str, str], int] = {
    ("GET", "exchangeInfo"): 20,
    ("GET", "klines"): 2,
    ("GET", "uiKlines"): 2,
    ("GET", "avgPrice"): 2,
    ("GET", "trades"): 25,
    ("GET", "historicalTrades"): 25,
    ("GET", "aggTrades"): 4,
    ("GET", "account"): 20,
    ("GET", "order"): 4,
    ("GET", "allOrders"): 20,
    ("GET", "orderList"): 4,
    ("GET", "allOrderList"): 20,
    ("GET", "openOrderList"): 6,
    ("GET", "account/commission"): 20,
    ("GET", "rateLimit/order"): 40,
    ("GET", "myFilters"): 40,
}
_ORDERS = {"order": 1, "order/cancelReplace": 1, "order/oco": 2, "orderList/oco": 2, "orderList/oto": 2, "orderList/otoco": 3}


def weight(method: str, path: str, query: Mapping[str, str]) -> int:
    """Request weight of one request, `path` from /api or /sapi on.

    A placed or cancelled order weighs 1 until its answer says that it was accepted, then nothing.
    /sapi has limits of its own; what bots ask there weighs 1."""
    name = path.removeprefix("/api/v3/")
    if name in ("ticker/price", "ticker/bookTicker"):
        return 2 if "symbol" in query else 4
    if name == "ticker/24hr":
        count = 1 if "symbol" in query else query["symbols"].count(",") + 1 if "symbols" in query else 1000
        return 2 if count <= 20 else 40 if count <= 100 else 80
    if name == "depth":
        text = query.get("limit", "100")
        levels = int(text) if text.isascii() and text.isdigit() else 100
        return 5 if levels <= 100 else 25 if levels <= 500 else 50 if levels <= 1000 else 250
    if (method, name) == ("GET", "openOrders"):
        return 6 if "symbol" in query else 80
    if (method, name) == ("GET", "myTrades"):
        return 5 if "orderId" in query else 20
    return _WEIGHTS.get((method, name), 1)


def orders_in(method: str, path: str) -> int:
    """How many orders a request places, as the account's order count takes them."""
    return _ORDERS.get(path.removeprefix("/api/v3/"), 0) if method == "POST" else 0
