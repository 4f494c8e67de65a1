"""Order lists: one cancels the other (BINANCE.md §1.8). POST /orderList/oco and the deprecated /order/oco, cancel, queries.

Both ways of asking are turned into the same two legs, each under the plain names of a
single order; the stop leg comes first, as in Binance's own answers. OTO and the lists
made with it are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from core.paper import reports, validation
from core.paper.endpoint import Call, Endpoint
from core.paper.orders import count_filters, counted, draft, fraction, fresh_client_id, refusals, withdraw
from core.paper.store import PaperList, PaperOrder
from core.paper.wire import WireError, either, mandatory

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

DAY = 86_400_000
_COMMON = ("symbol", "side", "quantity", "newOrderRespType", "selfTradePreventionMode")
# Plain name of a leg's parameter, what is put after `above` and `below`.
_PARTS = {
    "type": "Type",
    "newClientOrderId": "ClientOrderId",
    "price": "Price",
    "stopPrice": "StopPrice",
    "trailingDelta": "TrailingDelta",
    "timeInForce": "TimeInForce",
    "icebergQty": "IcebergQty",
    "strategyId": "StrategyId",
    "strategyType": "StrategyType",
    "pegPriceType": "PegPriceType",
    "pegOffsetValue": "PegOffsetValue",
    "pegOffsetType": "PegOffsetType",
}
_ABOVE = {plain: f"above{part}" for plain, part in _PARTS.items()}
_BELOW = {plain: f"below{part}" for plain, part in _PARTS.items()}
_OLD_LIMIT = {
    "price": "price",
    "newClientOrderId": "limitClientOrderId",
    "icebergQty": "limitIcebergQty",
    "strategyId": "limitStrategyId",
    "strategyType": "limitStrategyType",
}
_OLD_STOP = {
    "price": "stopLimitPrice",
    "stopPrice": "stopPrice",
    "timeInForce": "stopLimitTimeInForce",
    "newClientOrderId": "stopClientOrderId",
    "icebergQty": "stopIcebergQty",
    "trailingDelta": "trailingDelta",
    "strategyId": "stopStrategyId",
    "strategyType": "stopStrategyType",
}


class Leg(NamedTuple):
    """One order as it was asked for, under plain names, and what its parameters were called."""

    values: dict[str, str]
    names: Mapping[str, str]


def _leg(values: Mapping[str, str], names: Mapping[str, str], kind: str | None = None) -> Leg:
    found = {name: values[name] for name in _COMMON if name in values}
    found |= {plain: values[sent] for plain, sent in names.items() if sent in values}
    return Leg(found if kind is None else {**found, "type": kind}, names)


# --- are the legs well formed? --------------------------------------------------------


def _new_legs(values: Mapping[str, str]) -> tuple[Leg, Leg]:
    return _leg(values, _ABOVE), _leg(values, _BELOW)


def _old_legs(values: Mapping[str, str]) -> tuple[Leg, Leg]:
    limit, stop = _leg(values, _OLD_LIMIT, "LIMIT_MAKER"), _leg(values, _OLD_STOP, "STOP_LOSS_LIMIT" if "stopLimitPrice" in values else "STOP_LOSS")
    return (limit, stop) if values["side"] == "SELL" else (stop, limit)


def _shape(values: Mapping[str, str]) -> None:
    for leg in _new_legs(values):
        validation.order_shape(leg.values, leg.names)


def _old_shape(values: Mapping[str, str]) -> None:
    if "stopLimitPrice" in values and "stopLimitTimeInForce" not in values:
        raise mandatory("stopLimitTimeInForce")
    for leg in _old_legs(values):
        validation.order_shape(leg.values, leg.names)


def _slots(above: str, below: str, side: str) -> None:
    """Which type may lie where: a limit or take profit before the price, as seen by the side, a stop loss behind it."""
    for kind in (above, below):
        if kind not in validation.KINDS:
            raise WireError(-1116, "Invalid orderType.")
        if kind in ("LIMIT", "MARKET"):
            raise WireError(-1158, "Order type not supported in OCO.")
    if above == below == "LIMIT_MAKER":
        raise WireError(-1168, "At least one OCO order must be contingent.")
    buys = side == "BUY"
    before, behind = (below, above) if buys else (above, below)
    if behind == "LIMIT_MAKER":
        raise WireError(-1165, "A limit order in a buy OCO must be below.") if buys else WireError(-1166, "A limit order in a sell OCO must be above.")
    if before.startswith("STOP_LOSS"):
        if buys:
            raise WireError(-1196, "A stop loss order in a buy OCO must be above.")
        raise WireError(-1197, "A stop loss order in a sell OCO must be below.")
    if behind.startswith("TAKE_PROFIT"):
        if buys:
            raise WireError(-1198, "A take profit order in a buy OCO must be below.")
        raise WireError(-1199, "A take profit order in a sell OCO must be above.")


# --- placing -------------------------------------------------------------------------


def new_oco(x: PaperExchange, call: Call) -> Any:
    return _place(x, call, *_new_legs(call.values))


def old_oco(x: PaperExchange, call: Call) -> Any:
    return _place(x, call, *_old_legs(call.values))


def _place(x: PaperExchange, call: Call, above: Leg, below: Leg) -> Any:
    values, account = call.values, call.account
    if values["side"] not in ("BUY", "SELL"):
        raise WireError(-1117, "Invalid side.")
    _slots(above.values["type"], below.values["type"], values["side"])
    asked = (below, above) if values["side"] == "SELL" else (above, below)  # the stop leg first
    drafts = [draft(x, call, leg.values, leg.names) for leg in asked]
    info, legs = drafts[0][0], [order for _, order in drafts]
    count_filters(x, call, info, legs, lists=1)
    x.limits.check_order(account.name, len(legs))
    if not info.entry["ocoAllowed"]:
        raise WireError(-2010, "OCO orders are not supported for this symbol")
    for leg, order in zip(asked, legs, strict=True):
        refusals(x, call, info, order, leg.values)
    found = PaperList(0, account.name, info.name, values.get("listClientOrderId") or fresh_client_id(), call.now)
    if legs[0].client_id == legs[1].client_id or any(there.client_id == found.client_id for there in x.matching.lists_of(account.name)):
        raise WireError(-2010, "Duplicate order sent.")
    last = x.matching.market.price(info.name, call.now)
    stop, other = legs
    lowest = min(other.price or other.stop_price, other.stop_price or other.price)
    highest = max(other.price, other.stop_price)
    if last is None or not (stop.stop_price < last < lowest if stop.side == "SELL" else highest < last < stop.stop_price):
        raise WireError(-2010, "The relationship of the prices for the orders is not correct.")
    with fraction(x, call, legs):
        x.matching.place_list(account, info, found, legs, call.now)
    counted(x, call)
    told = [reports.placed(leg, (), values.get("newOrderRespType", "RESULT")) for leg in legs]
    return reports.order_list(found, legs) | {"orderReports": told}


# --- cancelling and asking --------------------------------------------------------------


def _named(x: PaperExchange, call: Call, client_name: str) -> PaperList | None:
    """The account's list that `orderListId` or the client id names; the newest of a re-used client id."""
    number, client_id = validation.whole(call.values, "orderListId"), call.values.get(client_name)
    where, value = ("id = ?", number) if number is not None else ("client_id = ?", client_id)
    found = next(iter(x.store.lists(f"account = ? AND {where}", (call.account.name, value), "ORDER BY id DESC LIMIT 1")), None)
    return None if found is None else x.matching.lists.get(found.id, found)


def cancel_list(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    if not {"orderListId", "listClientOrderId"} & call.values.keys():
        raise either("listClientOrderId", "orderListId")
    found = _named(x, call, "listClientOrderId")
    if found is None or found.done or found.symbol != call.values["symbol"]:
        raise WireError(-2011, "Unknown order list sent.")
    working: PaperOrder = next(leg for leg in x.matching.legs(found) if leg.open)
    return withdraw(x, call, working, cancel_id=call.values.get("newClientOrderId"))


def query_list(x: PaperExchange, call: Call) -> Any:
    if not {"orderListId", "origClientOrderId"} & call.values.keys():
        raise WireError(-1128, "Combination of optional parameters invalid. Recommendation: 'orderListId' should also be sent.")
    found = _named(x, call, "origClientOrderId")
    if found is None or x.faults.take("late_visibility", "GET", call.request.path):
        raise WireError(-2018, "Order list does not exist.")
    return reports.order_list(found, x.matching.legs(found))


def all_lists(x: PaperExchange, call: Call) -> Any:
    values = call.values
    first = validation.whole(values, "fromId")
    start, end = validation.moment(values, "startTime"), validation.moment(values, "endTime")
    if first is not None and (start is not None or end is not None):
        raise WireError(-1128, "Combination of optional parameters invalid.")
    if start is not None and end is not None and end - start > DAY:
        raise WireError(-1127, "More than 24 hours between startTime and endTime.")
    where = "account = ?"
    bound: list[Any] = [call.account.name]
    for text, value in ((" AND id >= ?", first), (" AND time_ms >= ?", start), (" AND time_ms <= ?", end)):
        if value is not None:
            where += text
            bound.append(value)
    newest = first is None and start is None
    found = x.store.lists(where, bound, f"ORDER BY id {'DESC' if newest else 'ASC'} LIMIT {validation.limit(values, 500, 1000)}")
    return [reports.order_list(f, x.matching.legs(f)) for f in (reversed(found) if newest else found)]


def open_lists(x: PaperExchange, call: Call) -> Any:
    return [reports.order_list(found, x.matching.legs(found)) for found in x.matching.lists_of(call.account.name)]


_LIST_TAKES = frozenset({*_COMMON, "listClientOrderId"})
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/api/v3/orderList/oco"): Endpoint(
        new_oco,
        signed=True,
        needs=("symbol", "side", "quantity", "aboveType", "belowType"),
        takes=_LIST_TAKES | frozenset(_ABOVE.values()) | frozenset(_BELOW.values()),
        check=_shape,
        free=True,
    ),
    ("POST", "/api/v3/order/oco"): Endpoint(
        old_oco,
        signed=True,
        needs=("symbol", "side", "quantity", "price"),
        takes=_LIST_TAKES | frozenset(_OLD_LIMIT.values()) | frozenset(_OLD_STOP.values()),
        check=_old_shape,
        free=True,
    ),
    ("DELETE", "/api/v3/orderList"): Endpoint(
        cancel_list, signed=True, needs=("symbol",), takes=frozenset({"symbol", "orderListId", "listClientOrderId", "newClientOrderId"}), free=True
    ),
    ("GET", "/api/v3/orderList"): Endpoint(query_list, weight=4, signed=True, takes=frozenset({"orderListId", "origClientOrderId"})),
    ("GET", "/api/v3/allOrderList"): Endpoint(all_lists, weight=20, signed=True, takes=frozenset({"fromId", "startTime", "endTime", "limit"})),
    ("GET", "/api/v3/openOrderList"): Endpoint(open_lists, weight=6, signed=True),
}
