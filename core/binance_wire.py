"""Binance's wire as our types, and back: parameters of orders, answers about markets, accounts, orders and fills.

Pure functions. An answer whose shape or numbers can't be right raises LookupError, TypeError
or ValueError; the client makes of it what it means (unavailable, or an unknown outcome).

Wire facts: binance-spot-api-docs (rest-api.md, errors.md, filters.md).
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from core.exchange import Book
from core.model import FILLED, NEW, ZERO, Balance, Fill, OrderRequest, Rules, Symbol, Update, plain


def order_params(request: OrderRequest) -> dict[str, str]:
    """An order as Binance's parameters: plain decimal text, nothing that is not needed."""
    params = {"symbol": request.symbol, "side": request.side, "type": request.kind, "newClientOrderId": request.client_id}
    for name, value in (("quantity", request.quantity), ("quoteOrderQty", request.quote_quantity), ("price", request.price), ("stopPrice", request.stop_price)):
        if value is not None:
            params[name] = plain(value)
    if request.life is not None and request.kind != "MARKET":
        params["timeInForce"] = request.life
    return params


def pair_params(target: OrderRequest, stop: OrderRequest, list_id: str) -> dict[str, str]:
    """An OCO as the parameters of `POST /api/v3/orderList/oco`: the two legs as above and below the price.

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


def parse_klines(answer: Any) -> list[list[Any]]:
    """The 12-field rows as they came, once each is seen to hold times and prices."""
    rows = listed(answer)
    for row in rows:
        int(row[0]), int(row[6]), row[10], [number(v) for v in row[1:6]]
    return rows


def parse_book(answer: dict[str, Any]) -> Book:
    """depth: both sides, best first; levels with nothing in them are left out."""

    def side(rows: Any) -> tuple[tuple[Decimal, Decimal], ...]:
        return tuple((price, quantity) for row in listed(rows) if (price := number(row[0])) > 0 and (quantity := number(row[1])) > 0)

    return Book(side(answer["bids"]), side(answer["asks"]))


def parse_balances(account: dict[str, Any]) -> dict[str, Balance]:
    """The account's assets by name."""
    return {b["asset"]: Balance(b["asset"], number(b["free"]), number(b["locked"])) for b in account["balances"]}


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


def parse_cancel(answer: dict[str, Any], client_id: str) -> Update:
    """What became of a cancelled order. One leg of a pair takes the whole list with it: its own report is told."""
    if "orderReports" not in answer:
        return parse_order(answer, client_id)
    reports = {r.get("origClientOrderId") or r["clientOrderId"]: r for r in answer["orderReports"]}
    return parse_order(reports[client_id], client_id)
