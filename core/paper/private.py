"""What an account may ask about itself: balances, orders, fills, rates, limits; and the few /sapi paths that bots use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.errors import InputError
from core.model import plain
from core.paper import reports, validation
from core.paper.accounts import discount
from core.paper.endpoint import Call, Endpoint
from core.paper.jsonio import check_keys
from core.paper.limits import ORDERS_10S, ORDERS_DAY
from core.paper.orders import by_id
from core.paper.wire import WireError, pad8
from core.storage import dumps, loads

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

DAY = 86_400_000
ARCHIVED_AFTER = 90 * DAY


def account(x: PaperExchange, call: Call) -> Any:
    a = call.account
    omit = validation.flag(call.values, "omitZeroBalances", False)
    if omit:
        assets = sorted(asset for asset, h in a.balances.items() if h.free or h.locked)
    else:
        assets = x.listed_assets + sorted(set(a.balances) - set(x.listed_assets))
    balances = []
    for asset in assets:
        held = a.balances.get(asset)
        balances.append({"asset": asset, "free": pad8(held.free) if held else "0.00000000", "locked": pad8(held.locked) if held else "0.00000000"})
    return {
        "makerCommission": int(a.maker * 10_000),
        "takerCommission": int(a.taker * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": pad8(a.maker), "taker": pad8(a.taker), "buyer": "0.00000000", "seller": "0.00000000"},
        "canTrade": restrictions(x, a.name).get("canTrade", True),
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": a.updated_ms,
        "accountType": "SPOT",
        "balances": balances,
        "permissions": ["SPOT"],
        "uid": a.uid,
    }


def query_order(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    order = by_id(x, call)
    if order is None or x.faults.take("late_visibility", "GET", call.request.path):
        raise WireError(-2013, "Order does not exist.")
    if order.status in ("CANCELED", "EXPIRED") and not order.executed and call.now - order.update_ms > ARCHIVED_AFTER:
        raise WireError(-2026, "Order was canceled or expired with no executed qty over 90 days ago and has been archived.")
    return reports.queried(order)


def open_orders(x: PaperExchange, call: Call) -> Any:
    symbol = call.values.get("symbol")
    if symbol is not None:
        x.matching.info(symbol, call.now)
    return [reports.queried(o) for o in sorted(x.matching.open_of(call.account.name, symbol), key=lambda o: o.id)]


def _span(values: Mapping[str, str]) -> tuple[int | None, int | None]:
    start, end = validation.moment(values, "startTime"), validation.moment(values, "endTime")
    if start is not None and end is not None and end - start > DAY:
        raise WireError(-1127, "More than 24 hours between startTime and endTime.")
    return start, end


def _window(call: Call, first: int | None, start: int | None, end: int | None) -> tuple[str, list[Any], bool]:
    """SQL for one account and symbol, from an id or within times; and whether the newest rows come first."""
    where = "account = ? AND symbol = ?"
    values: list[Any] = [call.account.name, call.values["symbol"]]
    if first is not None:
        where += " AND id >= ?"
        values.append(first)
    if start is not None:
        where += " AND time_ms >= ?"
        values.append(start)
    if end is not None:
        where += " AND time_ms <= ?"
        values.append(end)
    return where, values, first is None and start is None


def all_orders(x: PaperExchange, call: Call) -> Any:
    x.matching.info(call.values["symbol"], call.now)
    start, end = _span(call.values)
    where, values, newest = _window(call, validation.whole(call.values, "orderId"), start, end)
    found = x.store.orders(where, values, f"ORDER BY id {'DESC' if newest else 'ASC'} LIMIT {validation.limit(call.values, 500, 1000)}")
    return [reports.queried(o) for o in (reversed(found) if newest else found)]


def my_trades(x: PaperExchange, call: Call) -> Any:
    values = call.values
    x.matching.info(values["symbol"], call.now)
    given = frozenset(values) & {"orderId", "fromId", "startTime", "endTime"}
    if given not in _TRADE_COMBINATIONS:
        raise WireError(-1128, "Combination of optional parameters invalid.")
    start, end = _span(values)
    where, bound, newest = _window(call, validation.whole(values, "fromId"), start, end)
    if "orderId" in values:
        where += " AND order_id = ?"
        bound.append(validation.whole(values, "orderId"))
    found = x.store.fills(where, bound, f"ORDER BY id {'DESC' if newest else 'ASC'} LIMIT {validation.limit(values, 500, 1000)}")
    return [reports.trade(f) for f in (reversed(found) if newest else found)]


_TRADE_COMBINATIONS = [frozenset(c.split()) for c in ("", "orderId", "startTime", "endTime", "fromId", "startTime endTime", "orderId fromId")]


def commission(x: PaperExchange, call: Call) -> Any:
    info = x.matching.info(call.values["symbol"], call.now)
    none = {"maker": "0.00000000", "taker": "0.00000000", "buyer": "0.00000000", "seller": "0.00000000"}
    return {
        "symbol": info.name,
        "standardCommission": {**none, "maker": pad8(call.account.maker), "taker": pad8(call.account.taker)},
        "specialCommission": none,
        "taxCommission": none,
        "discount": discount(call.account),
    }


def order_counts(x: PaperExchange, call: Call) -> Any:
    ten, day = x.limits.order_counts(call.account.name)
    return [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": x.limits.scaled(ORDERS_10S), "count": ten},
        {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": x.limits.scaled(ORDERS_DAY), "count": day},
    ]


def my_filters(x: PaperExchange, call: Call) -> Any:
    """Filters that count against the account: those of the exchange, the symbol's counting ones, the assets'."""
    info = x.matching.info(call.values["symbol"], call.now)
    counting = [f for f in info.entry["filters"] if f["filterType"].startswith("MAX_")]
    assets = [f for f in x.asset_filters if f["asset"] in (info.base, info.quote)]
    return {"exchangeFilters": x.exchange_filters, "symbolFilters": counting, "assetFilters": assets}


# --- /sapi -------------------------------------------------------------------------


def trade_fee(x: PaperExchange, call: Call) -> Any:
    if "symbol" in call.values:
        names = [x.matching.info(call.values["symbol"], call.now).name]
    else:
        names = [n for n in x.symbol_names if x.market.listed(n, call.now)]
    return [{"symbol": n, "makerCommission": plain(call.account.maker), "takerCommission": plain(call.account.taker)} for n in names]


def system_status(x: PaperExchange, call: Call) -> Any:
    return {"status": 0, "msg": "normal"}


def account_status(x: PaperExchange, call: Call) -> Any:
    return {"data": "Normal"}


def api_trading_status(x: PaperExchange, call: Call) -> Any:
    triggers = {"GCR": 150, "IFER": 150, "UFR": 300}
    return {"data": {"isLocked": False, "plannedRecoverTime": 0, "triggerCondition": triggers, "updateTime": call.account.updated_ms}}


def api_restrictions(x: PaperExchange, call: Call) -> Any:
    """What the key may do: read and trade spot, nothing else, unless /paper/accounts/NAME/restrictions says so. A withdrawal can't be made here."""
    told = {k: v for k, v in restrictions(x, call.account.name).items() if k != "canTrade"}
    return {
        **RESTRICTIONS,
        "createTime": x.created_ms,
        **told,
    }


RESTRICTIONS = {
    "ipRestrict": False,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": False,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableFixApiTrade": False,
    "enableFixReadOnly": False,
    "enableSpotAndMarginTrading": True,
    "enablePortfolioMarginTrading": False,
}


def restrictions(x: PaperExchange, name: str) -> dict[str, Any]:
    """What an account's key was made to say of itself; empty for one that was never changed. Kept in the store's `meta`."""
    kept = x.store.meta().get(f"restrictions:{name}")
    return dict(loads(kept.encode())) if kept else {}


def set_restrictions(x: PaperExchange, name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Make a key pretend other rights (the names of apiRestrictions, and canTrade of the account); what it says from now on.

    Nothing is enforced by them: it is what is told that tests and people want to see refused."""
    x.accounts.named(name)
    check_keys(value, set(), {*RESTRICTIONS, "canTrade"})
    wrong = sorted(k for k, v in value.items() if not isinstance(v, bool))
    if wrong:
        raise InputError(f"{', '.join(wrong)}: must be true or false")
    now = {**restrictions(x, name), **value}
    x.store.set_meta(f"restrictions:{name}", dumps(now))
    return {"canTrade": True, **RESTRICTIONS, **now}


def bnb_burn(x: PaperExchange, call: Call) -> Any:
    """Whether fees are paid in BNB; a POST sets it first. Margin interest is none of this exchange's."""
    if call.request.method == "POST" and "spotBNBBurn" in call.values:
        x.accounts.pay_fees_in_bnb(call.account, validation.flag(call.values, "spotBNBBurn", False), call.now)
    return {"spotBNBBurn": call.account.bnb_fees, "interestBNBBurn": False}


_SYMBOL = frozenset({"symbol"})
_RANGE = frozenset({"symbol", "orderId", "startTime", "endTime", "limit"})
_ORDER_ID = frozenset({"symbol", "orderId", "origClientOrderId"})
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/account"): Endpoint(account, weight=20, signed=True, takes=frozenset({"omitZeroBalances"})),
    ("GET", "/api/v3/order"): Endpoint(query_order, weight=4, signed=True, needs=("symbol",), takes=_ORDER_ID),
    ("GET", "/api/v3/openOrders"): Endpoint(open_orders, weight=lambda v: 6 if "symbol" in v else 80, signed=True, takes=_SYMBOL),
    ("GET", "/api/v3/allOrders"): Endpoint(all_orders, weight=20, signed=True, needs=("symbol",), takes=_RANGE),
    ("GET", "/api/v3/myTrades"): Endpoint(my_trades, weight=lambda v: 5 if "orderId" in v else 20, signed=True, needs=("symbol",), takes=_RANGE | {"fromId"}),
    ("GET", "/api/v3/account/commission"): Endpoint(commission, weight=20, signed=True, needs=("symbol",), takes=_SYMBOL),
    ("GET", "/api/v3/rateLimit/order"): Endpoint(order_counts, weight=40, signed=True),
    ("GET", "/api/v3/myFilters"): Endpoint(my_filters, weight=40, signed=True, needs=("symbol",), takes=_SYMBOL),
    ("GET", "/sapi/v1/asset/tradeFee"): Endpoint(trade_fee, signed=True, takes=_SYMBOL),
    ("GET", "/sapi/v1/system/status"): Endpoint(system_status),
    ("GET", "/sapi/v1/account/status"): Endpoint(account_status, signed=True),
    ("GET", "/sapi/v1/account/apiTradingStatus"): Endpoint(api_trading_status, signed=True),
    ("GET", "/sapi/v1/bnbBurn"): Endpoint(bnb_burn, signed=True),
    ("POST", "/sapi/v1/bnbBurn"): Endpoint(bnb_burn, signed=True, takes=frozenset({"spotBNBBurn", "interestBNBBurn"})),
    ("GET", "/sapi/v1/account/apiRestrictions"): Endpoint(api_restrictions, signed=True),
}
