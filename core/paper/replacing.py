"""POST /order/cancelReplace: one request cancels an order and sends another (BINANCE.md §1.6).

Parameters, filters and the order count are looked at before the cancel. What then fails
is told with -2022 (nothing is done) or, in a 409, with -2021 (a part is done and stays).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.paper import validation
from core.paper.endpoint import Call, Endpoint
from core.paper.orders import by_id, count_filters, draft, restriction, send, withdraw
from core.paper.wire import WireError, either

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange


def _shape(values: Mapping[str, str]) -> None:
    validation.order_shape(values)
    if not {"cancelOrderId", "cancelOrigClientOrderId"} & values.keys():
        raise either("cancelOrigClientOrderId", "cancelOrderId")


def _refused(e: WireError) -> dict[str, Any]:
    return {"code": e.code, "msg": e.msg}


def cancel_replace(x: PaperExchange, call: Call) -> Any:
    values = call.values
    if values["cancelReplaceMode"] not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise validation.not_valid("cancelReplaceMode")
    if values.get("orderRateLimitExceededMode", "DO_NOTHING") not in ("DO_NOTHING", "CANCEL_ONLY"):
        raise validation.not_valid("orderRateLimitExceededMode")
    only = restriction(call)
    info, order = draft(x, call, values)
    count_filters(x, call, info, [order])
    exceeded: WireError | None = None
    try:
        x.limits.check_order(call.account.name)
    except WireError as e:
        if values.get("orderRateLimitExceededMode") != "CANCEL_ONLY":
            raise
        exceeded = e
    if not info.entry["cancelReplaceAllowed"]:
        raise WireError(-2010, "Order cancel-replace is not supported for this symbol.")

    results = {"cancelResult": "SUCCESS", "newOrderResult": "SUCCESS"}
    canceled: Any
    placed: Any = None
    try:
        canceled = withdraw(x, call, by_id(x, call, "cancelOrderId", "cancelOrigClientOrderId"), only, values.get("cancelNewClientOrderId"))
    except WireError as e:
        canceled, results["cancelResult"] = _refused(e), "FAILURE"
    if exceeded is not None:
        placed, results["newOrderResult"] = _refused(exceeded), "FAILURE"
    elif results["cancelResult"] == "FAILURE" and values["cancelReplaceMode"] == "STOP_ON_FAILURE":
        results["newOrderResult"] = "NOT_ATTEMPTED"
        x.limits.count_order(call.account.name)  # it counts all the same
    else:
        try:
            placed = send(x, call, info, order)
        except WireError as e:
            placed, results["newOrderResult"] = _refused(e), "FAILURE"
    data = {**results, "cancelResponse": canceled, "newOrderResponse": placed}
    done = [result == "SUCCESS" for result in results.values()]
    if all(done):
        return data
    if any(done):
        status, headers = (429, exceeded.headers) if exceeded is not None else (409, {})
        raise WireError(-2021, "Order cancel-replace partially failed.", status, headers, data)
    status, headers = (429, exceeded.headers) if exceeded is not None else (400, {})
    raise WireError(-2022, "Order cancel-replace failed.", status, headers, data)


_CANCEL = frozenset(
    {"cancelReplaceMode", "cancelOrderId", "cancelOrigClientOrderId", "cancelNewClientOrderId", "cancelRestrictions", "orderRateLimitExceededMode"}
)
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("POST", "/api/v3/order/cancelReplace"): Endpoint(
        cancel_replace,
        signed=True,
        needs=("symbol", "side", "type", "cancelReplaceMode"),
        takes=validation.ORDER_TAKES | _CANCEL,
        check=_shape,
        free=True,
    ),
}
