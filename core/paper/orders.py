"""POST /order and DELETE /order: an order is checked, filtered, counted and handed to matching.

Order lists (lists.py) and cancelReplace (replacing.py) are made of the same steps: `draft`,
`count_filters`, `refusals`, `send`; `by_id`, `withdraw`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.market import filters, resting
from core.market.fees import EXACT
from core.model import ZERO, floor_to
from core.paper import reports, validation
from core.paper.accounts import discount
from core.paper.endpoint import Call, Endpoint
from core.paper.matching import SymbolInfo
from core.paper.store import PaperOrder
from core.paper.wire import WireError, either, filter_failure, pad8

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

_ids = random.SystemRandom()
_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def fresh_client_id() -> str:
    """22 letters and digits, as Binance makes them for who sends none."""
    return "".join(_ids.choices(_LETTERS, k=22))


def draft(x: PaperExchange, call: Call, values: Mapping[str, str], names: Mapping[str, str] = validation.PLAIN) -> tuple[SymbolInfo, PaperOrder]:
    """The order that the parameters ask for, through enums, precision and its own filters; nothing is done yet.

    `names`: as in `validation.order_shape`. `count_filters` must follow."""
    validation.order_enums(values)
    info = x.matching.info(values["symbol"], call.now)
    numbers = validation.order_numbers(values, info, names)
    kind, side = values["type"], values["side"]
    iceberg = numbers.get("icebergQty", ZERO)
    if iceberg and values.get("timeInForce", "GTC") != "GTC":
        if names:
            raise WireError(-1160, f"Parameter '{names['icebergQty']}' is not supported if `aboveTimeInForce`/`belowTimeInForce` is not GTC.")
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
        working_ms=-1 if kind in resting.STOPS else call.now,
        iceberg=iceberg,
        stop_price=numbers.get("stopPrice", ZERO),
        strategy_id=validation.whole(values, "strategyId"),
        strategy_type=validation.whole(values, "strategyType"),
        stp=values.get("selfTradePreventionMode", info.entry["defaultSelfTradePreventionMode"]),
        since_ms=call.now,
    )
    last = x.matching.market.price(info.name, call.now)
    notional = None
    if order.quote_quantity and last is not None and order.kind in info.entry["orderTypes"]:
        _size_by_quote(x, call, info, order)
        notional = order.quote_quantity
    failed = filters.violation(
        info.rules, side, kind, order.quantity, numbers.get("price"), x.average_price(info.name, call.now), last,  # type: ignore[arg-type]
        stop_price=numbers.get("stopPrice"), iceberg=iceberg or None, notional=notional,
    )  # fmt: skip
    if failed:
        raise filter_failure(failed)
    return info, order


def count_filters(x: PaperExchange, call: Call, info: SymbolInfo, orders: Sequence[PaperOrder], lists: int = 0) -> None:
    """The filters that look at what the account has and has open, for orders that come together."""
    account, name, first = call.account, call.account.name, orders[0]
    on_symbol, everywhere = x.matching.open_of(name, info.name), x.matching.open_of(name)
    held = account.balances.get(info.base)
    bring = {o.id if o.list_id < 0 else -o.list_id: o.remaining for o in on_symbol if o.side == "BUY"}  # a list buys once
    last = x.matching.market.price(info.name, call.now)
    failed = filters.account_violation(
        info.rules,
        resting.side_of(first),
        filters.Wanted(sum(o.kind != "MARKET" for o in orders), sum(o.kind in resting.STOPS for o in orders), lists),
        first.quantity,
        first.quote_quantity or max(EXACT.multiply(o.price or o.stop_price or last or ZERO, o.quantity) for o in orders),
        info.base,
        info.quote,
        filters.Holdings(
            len(on_symbol),
            len(everywhere),
            held.free + held.locked if held else ZERO,
            sum(bring.values(), ZERO),
            sum(o.kind in resting.STOPS for o in on_symbol),
            sum(o.kind in resting.STOPS for o in everywhere),
            len(x.matching.lists_of(name, info.name)),
            len(x.matching.lists_of(name)),
        ),
        x.exchange_filters,
        x.asset_filters,
    )
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


def offered(info: SymbolInfo, order: PaperOrder, values: Mapping[str, str]) -> None:
    """-2010 for a type that the symbol doesn't take, and for what this exchange takes nowhere: trailing stops."""
    if order.kind not in info.entry["orderTypes"]:
        raise WireError(-2010, f"{validation.KINDS[order.kind].refusal} orders are not supported for this symbol.")
    if "trailingDelta" in values:
        raise WireError(-2010, "Trailing stop orders are not supported for this symbol.")


def refusals(x: PaperExchange, call: Call, info: SymbolInfo, order: PaperOrder, values: Mapping[str, str]) -> None:
    """What the matching engine refuses before it looks at prices and money (-2010)."""
    offered(info, order, values)
    if order.quote_quantity and not info.entry["quoteOrderQtyMarketAllowed"]:
        raise WireError(-2010, "Quote order qty market orders are not supported for this symbol.")
    if order.iceberg:
        if not info.entry["icebergAllowed"]:
            raise WireError(-2010, "Iceberg orders are not supported for this symbol.")
        if order.iceberg > order.quantity:
            raise WireError(-2010, "IcebergQty exceeds QTY.")
    if "selfTradePreventionMode" in values and order.stp not in info.entry["allowedSelfTradePreventionModes"]:
        raise WireError(-2010, "This symbol does not allow the specified self-trade prevention mode.")
    if x.matching.live(call.account.name, order.client_id):
        raise WireError(-2010, "Duplicate order sent.")


@contextmanager
def fraction(x: PaperExchange, call: Call, orders: Sequence[PaperOrder]) -> Iterator[None]:
    """Place orders inside: a partial_fill fault for this path limits their first fill."""
    fault = x.faults.take("partial_fill", "POST", call.request.path)
    if fault is not None:
        for order in orders:
            order.fraction = fault.params["fraction"]
    try:
        yield
    except WireError:
        if fault is not None:
            fault.struck -= 1  # nothing was placed: the fault still waits for its order
        raise


def counted(x: PaperExchange, call: Call) -> None:
    """Tell the account's order counts with the answer."""
    ten, day = x.limits.order_counts(call.account.name)
    call.headers["X-MBX-ORDER-COUNT-10S"], call.headers["X-MBX-ORDER-COUNT-1D"] = str(ten), str(day)


def send(x: PaperExchange, call: Call, info: SymbolInfo, order: PaperOrder) -> Any:
    """Hand a drafted and filtered order to the engine; its answer."""
    refusals(x, call, info, order, call.values)
    with fraction(x, call, [order]):
        done = x.matching.place(call.account, info, order, call.now)
    counted(x, call)
    return reports.placed(done.order, done.fills, call.values.get("newOrderRespType", validation.KINDS[order.kind].answer))


def new_order(x: PaperExchange, call: Call) -> Any:
    info, order = draft(x, call, call.values)
    count_filters(x, call, info, [order])
    x.limits.check_order(call.account.name)
    return send(x, call, info, order)


def test_order(x: PaperExchange, call: Call) -> Any:
    """Validated like an order, never handed to the engine."""
    rates = validation.flag(call.values, "computeCommissionRates", False)
    info, order = draft(x, call, call.values)
    count_filters(x, call, info, [order])
    offered(info, order, call.values)
    if not rates:
        return {}
    none = {"maker": "0.00000000", "taker": "0.00000000"}
    return {
        "standardCommissionForOrder": {"maker": pad8(call.account.maker), "taker": pad8(call.account.taker)},
        "specialCommissionForOrder": none,
        "taxCommissionForOrder": none,
        "discount": discount(call.account),
    }


def by_id(x: PaperExchange, call: Call, number_name: str = "orderId", client_name: str = "origClientOrderId") -> PaperOrder | None:
    """The order that an id or a client id names; the newest one of a re-used client id.

    -1102 without either, -2039 when both are given and name different orders."""
    values, account = call.values, call.account.name
    number, client_id = validation.whole(values, number_name), values.get(client_name)
    if number is None and client_id is None:
        raise either(client_name, number_name)
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


def restriction(call: Call) -> str | None:
    """`cancelRestrictions`, checked."""
    only = call.values.get("cancelRestrictions")
    if only not in (None, "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise WireError(-1145, "Invalid cancelRestrictions")
    return only


def withdraw(x: PaperExchange, call: Call, order: PaperOrder | None, only: str | None = None, cancel_id: str | None = None) -> Any:
    """Cancel an order, with its list; the report of the one or of the list. -2011 when it isn't open."""
    if order is None or not order.open:
        raise WireError(-2011, "Unknown order sent.")
    if only is not None and only != f"ONLY_{order.status}":
        raise WireError(-2011, "Order was not canceled due to cancel restrictions.")
    cancel_id = cancel_id or fresh_client_id()
    order_list = x.matching.lists.get(order.list_id)
    if order_list is None:
        x.matching.cancel(call.account, order, call.now)
        return reports.canceled(order, cancel_id)
    legs = x.matching.legs(order_list)
    gone = x.matching.cancel(call.account, order, call.now)
    return reports.order_list(order_list, legs, call.now) | {"orderReports": [reports.canceled(leg, cancel_id) for leg in gone]}


def cancel_order(x: PaperExchange, call: Call) -> Any:
    only = restriction(call)
    x.matching.info(call.values["symbol"], call.now)
    return withdraw(x, call, by_id(x, call), only, call.values.get("newClientOrderId"))


def cancel_open(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    orders = sorted(x.matching.open_of(call.account.name, call.values["symbol"]), key=lambda o: o.id)
    if not orders:
        raise WireError(-2011, "Unknown order sent.")
    cancel_id = fresh_client_id()
    return [withdraw(x, call, order, cancel_id=cancel_id) for order in orders if order.open]


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
