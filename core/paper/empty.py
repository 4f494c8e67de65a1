"""Questions whose answer is always the same here, because nothing of the kind can happen on this exchange.

Orders meet the market's price, never one another, so nothing is prevented as a self-trade;
there is no smart order routing, no amending, no block trade, no reference price, no margin
and no network to deposit through. Clients ask all the same, some of them (ccxt) before they do anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.paper import validation
from core.paper.endpoint import Call, Endpoint
from core.paper.public import symbols
from core.paper.wire import WireError, either, pad8

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange


def nothing(x: PaperExchange, call: Call) -> Any:
    """No row for a symbol that is there."""
    x.matching.info(call.values["symbol"], call.now)
    validation.limit(call.values, 500, 1000)
    return []


def no_margin(x: PaperExchange, call: Call) -> Any:
    """No pair is traded on margin. Whoever has a key may ask, with or without a signature, which is not looked at."""
    return []


def execution_rules(x: PaperExchange, call: Call) -> Any:
    symbols(x, call)
    return {"symbolRules": []}


def reference_price(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    raise WireError(-2043, "This symbol doesn't have a reference price.")


def coins(x: PaperExchange, call: Call) -> Any:
    """Every coin and what the account has of it; none travels over a network."""
    zero, rows = "0", []
    for asset in x.listed_assets + sorted(set(call.account.balances) - set(x.listed_assets)):
        held = call.account.balances.get(asset)
        rows.append(
            {
                "coin": asset,
                "depositAllEnable": False,
                "withdrawAllEnable": False,
                "name": asset,
                "free": pad8(held.free) if held else zero,
                "locked": pad8(held.locked) if held else zero,
                **dict.fromkeys(("freeze", "withdrawing", "ipoing", "ipoable", "storage"), zero),
                "isLegalMoney": False,
                "trading": True,
                "networkList": [],
            }
        )
    return rows


def _prevented(values: Mapping[str, str]) -> None:
    if "preventedMatchId" not in values and "orderId" not in values:
        raise either("preventedMatchId", "orderId")


_SYMBOL = frozenset({"symbol"})
_MARGIN = Endpoint(no_margin, takes=frozenset({"symbol", "timestamp", "recvWindow", "signature"}))
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/myPreventedMatches"): Endpoint(
        nothing,
        weight=lambda v: 20 if "orderId" in v else 2,
        signed=True,
        needs=("symbol",),
        takes=frozenset({"symbol", "preventedMatchId", "orderId", "fromPreventedMatchId", "limit"}),
        check=_prevented,
    ),
    ("GET", "/api/v3/myAllocations"): Endpoint(
        nothing,
        weight=20,
        signed=True,
        needs=("symbol",),
        takes=frozenset({"symbol", "startTime", "endTime", "fromAllocationId", "limit", "orderId"}),
    ),
    ("GET", "/api/v3/order/amendments"): Endpoint(
        nothing, weight=4, signed=True, needs=("symbol", "orderId"), takes=frozenset({"symbol", "orderId", "fromExecutionId", "limit"})
    ),
    ("GET", "/api/v3/historicalBlockTrades"): Endpoint(nothing, weight=25, needs=("symbol",), takes=frozenset({"symbol", "fromId", "limit"})),
    ("GET", "/api/v3/executionRules"): Endpoint(execution_rules, weight=2, takes=frozenset({"symbol", "symbols", "symbolStatus"})),
    ("GET", "/api/v3/referencePrice"): Endpoint(reference_price, weight=2, needs=("symbol",), takes=_SYMBOL),
    ("GET", "/api/v3/referencePrice/calculation"): Endpoint(reference_price, weight=2, needs=("symbol",), takes=_SYMBOL | {"symbolStatus"}),
    ("GET", "/sapi/v1/capital/config/getall"): Endpoint(coins, weight=10, signed=True),
    ("GET", "/sapi/v1/margin/allPairs"): _MARGIN,
    ("GET", "/sapi/v1/margin/isolated/allPairs"): _MARGIN,
}
