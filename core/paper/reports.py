"""Orders, order lists and fills as Binance writes them: keys, their order, padding (BINANCE.md §1.3-1.5, §1.8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.paper.store import PaperFill, PaperList, PaperOrder
from core.paper.wire import pad8


def _conditional(order: PaperOrder) -> dict[str, Any]:
    """Keys that appear only when they apply."""
    found: dict[str, Any] = {}
    if order.stop_price:
        found["stopPrice"] = pad8(order.stop_price)
    if order.iceberg:
        found["icebergQty"] = pad8(order.iceberg)
    if order.strategy_id is not None:
        found["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        found["strategyType"] = order.strategy_type
    return found


def placed(order: PaperOrder, fills: Sequence[PaperFill], answer: str) -> dict[str, Any]:
    """The answer to a new order: ACK, RESULT or FULL."""
    out: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.time_ms,
    }
    if answer == "ACK":
        return out
    out |= {
        "price": pad8(order.price),
        "origQty": pad8(order.quantity),
        "executedQty": pad8(order.executed),
        "origQuoteOrderQty": pad8(order.quote_quantity),
        "cummulativeQuoteQty": pad8(order.executed_quote),
        "status": order.status,
        "timeInForce": order.life,
        "type": order.kind,
        "side": order.side,
        **_conditional(order),
        "workingTime": order.working_ms,
    }
    if answer == "FULL":
        out["fills"] = [
            {"price": pad8(f.price), "qty": pad8(f.quantity), "commission": pad8(f.fee), "commissionAsset": f.fee_asset, "tradeId": f.id} for f in fills
        ]
    out["selfTradePreventionMode"] = order.stp
    if order.expiry_reason:
        out["expiryReason"] = order.expiry_reason
    return out


def queried(order: PaperOrder) -> dict[str, Any]:
    """An order as a query, openOrders or allOrders shows it."""
    out: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "price": pad8(order.price),
        "origQty": pad8(order.quantity),
        "executedQty": pad8(order.executed),
        "cummulativeQuoteQty": pad8(order.executed_quote),
        "status": order.status,
        "timeInForce": order.life,
        "type": order.kind,
        "side": order.side,
        "stopPrice": pad8(order.stop_price),
        "icebergQty": pad8(order.iceberg),
        "time": order.time_ms,
        "updateTime": order.update_ms,
        "isWorking": order.working_ms >= 0,
        "workingTime": order.working_ms,
        "origQuoteOrderQty": pad8(order.quote_quantity),
        "selfTradePreventionMode": order.stp,
    }
    if order.strategy_id is not None:
        out["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        out["strategyType"] = order.strategy_type
    if order.expiry_reason:
        out["expiryReason"] = order.expiry_reason
    return out


def canceled(order: PaperOrder, cancel_id: str) -> dict[str, Any]:
    """The answer to a cancel: `origClientOrderId` is the order's id, `clientOrderId` that of the cancel."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.id,
        "orderListId": order.list_id,
        "clientOrderId": cancel_id,
        "transactTime": order.update_ms,
        "price": pad8(order.price),
        "origQty": pad8(order.quantity),
        "executedQty": pad8(order.executed),
        "origQuoteOrderQty": pad8(order.quote_quantity),
        "cummulativeQuoteQty": pad8(order.executed_quote),
        "status": order.status,
        "timeInForce": order.life,
        "type": order.kind,
        "side": order.side,
        **_conditional(order),
        "selfTradePreventionMode": order.stp,
    }


def order_list(found: PaperList, legs: Sequence[PaperOrder], ms: int | None = None) -> dict[str, Any]:
    """A list as a query shows it; `ms`: the time of what happened to it, where that is told."""
    return {
        "orderListId": found.id,
        "contingencyType": "OCO",
        "listStatusType": "ALL_DONE" if found.done else "EXEC_STARTED",
        "listOrderStatus": "ALL_DONE" if found.done else "EXECUTING",
        "listClientOrderId": found.client_id,
        "transactionTime": found.time_ms if ms is None else ms,
        "symbol": found.symbol,
        "orders": [{"symbol": leg.symbol, "orderId": leg.id, "clientOrderId": leg.client_id} for leg in legs],
    }


def trade(fill: PaperFill) -> dict[str, Any]:
    """A fill as myTrades shows it."""
    return {
        "symbol": fill.symbol,
        "id": fill.id,
        "orderId": fill.order_id,
        "orderListId": fill.list_id,
        "price": pad8(fill.price),
        "qty": pad8(fill.quantity),
        "quoteQty": pad8(fill.quote),
        "commission": pad8(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.time_ms,
        "isBuyer": fill.side == "BUY",
        "isMaker": fill.maker,
        "isBestMatch": True,
    }
