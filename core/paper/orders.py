"""POST /order and what belongs to it: the order is checked, filtered, counted and handed to matching."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.market import filters
from core.market.fees import EXACT
from core.model import ZERO, floor_to
from core.paper import reports, validation
from core.paper.endpoint import Call, Endpoint
from core.paper.matching import SymbolInfo
from core.paper.store import PaperOrder
from core.paper.wire import WireError, filter_failure, pad8

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

_ids = random.SystemRandom()
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def fresh_client_id() -> str:
    """22 letters and digits, as Binance makes them for who sends none."""
    return "".join(_ids.choices(_LETTERS, k=22))


def draft(x: PaperExchange, call: Call) -> tuple[SymbolInfo, PaperOrder]:
    """The order that the parameters ask for, through enums, precision and filters; nothing is done yet."""
    values = call.values
    validation.order_enums(values)
    info = x.matching.info(values["symbol"], call.now)
    numbers = validation.order_numbers(values, info)
    kind, side = values["type"], values["side"]
    iceberg = numbers.get("icebergQty", ZERO)
    if iceberg and values.get("timeInForce", "GTC") != "GTC":
        raise WireError(-1106, "Parameter 'icebergQty' sent when not required.")
    order = PaperOrder(
        id=0,
        account=call.account.name,
        symbol=info.name,
        client_id=values.get("newClientOrderId") or fresh_client_id(),
        side=side,
        kind=kind,
        life=values.get("timeInForce", "GTC"),
        price=numbers.get("price", ZERO),
        quantity=numbers.get("quantity", ZERO),
        quote_quantity=numbers.get("quoteOrderQty", ZERO),
        time_ms=call.now,
        update_ms=call.now,
        working_ms=call.now,
        iceberg=iceberg,
        stop_price=numbers.get("stopPrice", ZERO),
        strategy_id=validation.whole(values, "strategyId"),
        strategy_type=validation.whole(values, "strategyType"),
        stp=values.get("selfTradePreventionMode", info.entry["defaultSelfTradePreventionMode"]),
        since_ms=call.now,
    )
    _filter(x, call, info, order, numbers)
    return info, order


def _filter(x: PaperExchange, call: Call, info: SymbolInfo, order: PaperOrder, numbers: dict[str, Decimal]) -> None:
    last = x.matching.market.price(info.name, call.now)
    price, notional = numbers.get("price"), None
    if order.quote_quantity and last is not None and order.kind in info.entry["orderTypes"]:
        _size_by_quote(x, call, info, order)
        notional = order.quote_quantity
    reference = x.average_price(info.name, call.now)
    failed = filters.violation(
        info.rules, order.side, order.kind, order.quantity, price, reference, last,  # type: ignore[arg-type]
        stop_price=numbers.get("stopPrice"), iceberg=order.iceberg or None, notional=notional,
    )  # fmt: skip
    if failed:
        raise filter_failure(failed)
    account = call.account
    on_symbol = x.matching.open_of(account.name, info.name)
    held = account.balances.get(info.base)
    failed = filters.account_violation(
        info.rules, order.side, order.kind != "MARKET", order.quantity,  # type: ignore[arg-type]
        order.quote_quantity or EXACT.multiply(price or last or ZERO, order.quantity), info.base, info.quote,
        filters.Holdings(
            len(on_symbol),
            len(x.matching.open_of(account.name)) if x.exchange_filters else 0,
            held.free + held.locked if held else ZERO,
            sum((o.remaining for o in on_symbol if o.side == "BUY"), ZERO),
        ),
        x.exchange_filters,
        x.asset_filters,
    )  # fmt: skip
    if failed:
        raise filter_failure(failed)


def _size_by_quote(x: PaperExchange, call: Call, info: SymbolInfo, order: PaperOrder) -> None:
    """quoteOrderQty to a base quantity: rounded down to the step on both sides (captured 2025-03-18)."""
    price = x.matching.market_price(info, order.side, call.now)
    smallest = next((f for f in info.entry["filters"] if f["filterType"] in ("NOTIONAL", "MIN_NOTIONAL")), None)
    if smallest and order.quote_quantity < Decimal(smallest["minNotional"]) and smallest.get("applyMinToMarket", smallest.get("applyToMarket")):
        raise filter_failure(smallest["filterType"])
    order.quantity = floor_to(EXACT.divide(order.quote_quantity, price), info.lot)
    if order.quantity < max(info.rules.min_quantity, info.rules.market_min_quantity) or not order.quantity:
        raise WireError(-2010, "Order book liquidity is less than `LOT_SIZE` filter minimum quantity.")


def _engine_refusals(x: PaperExchange, call: Call, info: SymbolInfo, order: PaperOrder) -> None:
    """What the matching engine refuses before it looks at money (-2010)."""
    if order.kind not in info.entry["orderTypes"]:
        raise WireError(-2010, f"{validation.KINDS[order.kind].refusal} orders are not supported for this symbol.")
    if order.quote_quantity and not info.entry["quoteOrderQtyMarketAllowed"]:
        raise WireError(-2010, "Quote order qty market orders are not supported for this symbol.")
    if order.iceberg:
        if not info.entry["icebergAllowed"]:
            raise WireError(-2010, "Iceberg orders are not supported for this symbol.")
        if order.iceberg > order.quantity:
            raise WireError(-2010, "IcebergQty exceeds QTY.")
    if "selfTradePreventionMode" in call.values and order.stp not in info.entry["allowedSelfTradePreventionModes"]:
        raise WireError(-2010, "This symbol does not allow the specified self-trade prevention mode.")
    if x.matching.live(call.account.name, order.client_id):
        raise WireError(-2010, "Duplicate order sent.")


def new_order(x: PaperExchange, call: Call) -> Any:
    info, order = draft(x, call)
    x.limits.check_order(call.account.name)
    _engine_refusals(x, call, info, order)
    fault = x.faults.take("partial_fill", "POST", call.request.path)
    if fault is not None:
        order.fraction = fault.params["fraction"]
    place = x.matching.place_market if order.kind == "MARKET" else x.matching.place_limit
    try:
        done = place(call.account, info, order, call.now)
    except WireError:
        if fault is not None:
            fault.struck -= 1  # nothing was placed: the fault still waits for its order
        raise
    ten, day = x.limits.order_counts(call.account.name)
    call.headers["X-MBX-ORDER-COUNT-10S"], call.headers["X-MBX-ORDER-COUNT-1D"] = str(ten), str(day)
    return reports.placed(done.order, done.fills, call.values.get("newOrderRespType", validation.KINDS[order.kind].answer))


def test_order(x: PaperExchange, call: Call) -> Any:
    """Validated like an order, never handed to the engine."""
    rates = validation.flag(call.values, "computeCommissionRates", False)
    info, order = draft(x, call)
    if order.kind not in info.entry["orderTypes"]:
        raise WireError(-2010, f"{validation.KINDS[order.kind].refusal} orders are not supported for this symbol.")
    if not rates:
        return {}
    none = {"maker": "0.00000000", "taker": "0.00000000"}
    return {
        "standardCommissionForOrder": {"maker": pad8(call.account.maker), "taker": pad8(call.account.taker)},
        "specialCommissionForOrder": none,
        "taxCommissionForOrder": none,
        "discount": DISCOUNT,
    }


# Fees in BNB are a later matter: the account pays them from what it receives.
DISCOUNT = {"enabledForAccount": False, "enabledForSymbol": True, "discountAsset": "BNB", "discount": "0.75000000"}


def by_id(x: PaperExchange, call: Call) -> PaperOrder | None:
    """The order that orderId or origClientOrderId names; the newest one of a re-used client id.

    -1102 without either, -2039 when both are given and name different orders."""
    values, account = call.values, call.account.name
    number, client_id = validation.whole(values, "orderId"), values.get("origClientOrderId")
    if number is None and client_id is None:
        raise WireError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    if number is not None:
        order = x.matching.open.get(number)
        if order is None:
            order = next(iter(x.store.orders("id = ?", (number,))), None)
        if order is None or order.account != account or order.symbol != values["symbol"]:
            return None
        if client_id is not None and order.client_id != client_id:
            raise WireError(-2039, "Client order ID is not correct for this order ID.")
        return order
    found = x.store.orders("account = ? AND symbol = ? AND client_id = ?", (account, values["symbol"], client_id), "ORDER BY id DESC LIMIT 1")
    return x.matching.open.get(found[0].id, found[0]) if found else None


def cancel_order(x: PaperExchange, call: Call) -> Any:
    only = call.values.get("cancelRestrictions")
    if only not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise WireError(-1145, "Invalid cancelRestrictions")
    x.matching.info(call.values["symbol"], call.now)
    order = by_id(x, call)
    if order is None or not order.open:
        raise WireError(-2011, "Unknown order sent.")
    if only is not None and only != f"ONLY_{order.status}":
        raise WireError(-2011, "Order was not canceled due to cancel restrictions.")
    x.matching.cancel(call.account, order, call.now)
    return reports.canceled(order, call.values.get("newClientOrderId") or fresh_client_id())


def cancel_open(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    orders = x.matching.open_of(call.account.name, call.values["symbol"])
    if not orders:
        raise WireError(-2011, "Unknown order sent.")
    cancel_id = fresh_client_id()
    for order in orders:
        x.matching.cancel(call.account, order, call.now)
    return [reports.canceled(order, cancel_id) for order in orders]


_ORDER_ID = frozenset({"symbol", "orderId", "origClientOrderId"})
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/api/v3/order"): Endpoint(
        new_order, signed=True, needs=("symbol", "side", "type"), takes=validation.ORDER_TAKES, check=validation.order_shape, free=True
    ),
    ("POST", "/api/v3/order/test"): Endpoint(
        test_order,
        weight=lambda v: 20 if v.get("computeCommissionRates") == "true" else 1,
        signed=True,
        needs=("symbol", "side", "type"),
        takes=validation.ORDER_TAKES | {"computeCommissionRates"},
        check=validation.order_shape,
    ),
    ("DELETE", "/api/v3/order"): Endpoint(
        cancel_order, signed=True, needs=("symbol",), takes=_ORDER_ID | {"newClientOrderId", "cancelRestrictions"}, free=True
    ),
    ("DELETE", "/api/v3/openOrders"): Endpoint(cancel_open, signed=True, needs=("symbol",), takes=frozenset({"symbol"}), free=True),
}
