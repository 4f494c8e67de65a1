"""Binance's spot filters as pure functions: does an order keep a symbol's rules?

Used by the paper exchange and by the backtester, so that both refuse the same orders.
Source: binance-spot-api-docs, filters.md (BINANCE.md §3.1). All arithmetic is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from core.market.fees import EXACT, UNIT
from core.model import ZERO, Rules, Side

# Kinds that execute against the book at whatever price it has, at once or when they trigger.
MARKET_KINDS = frozenset({"MARKET", "STOP_LOSS", "TAKE_PROFIT"})


def average(prices: Iterable[Decimal]) -> Decimal | None:
    """The mean of the prints of a filter's window (`avgPriceMins`), to 8 decimals; None when there are none."""
    total, count = ZERO, 0
    for price in prices:
        total += price
        count += 1
    return EXACT.divide(total, Decimal(count)).quantize(UNIT, context=EXACT) if count else None


def violation(
    rules: Rules,
    side: Side,
    kind: str,
    quantity: Decimal,
    price: Decimal | None,
    average_price: Decimal | None,
    last_price: Decimal | None,
    *,
    stop_price: Decimal | None = None,
    iceberg: Decimal | None = None,
    notional: Decimal | None = None,
) -> str | None:
    """The name of the first filter that the order breaks, or None.

    `price` is None for orders without one; one at market that waits for a stop price is
    worth what it would bring there. `average_price` is the mean over the filters'
    `avgPriceMins` (`average`), `last_price` stands in where it is None or the filter asks
    for 0 minutes. `notional` overrides quantity × price: the amount of an order sized in
    the quote asset.
    """
    for p in (price, stop_price):
        if p is not None and _breaks_price(rules, p):
            return "PRICE_FILTER"
    if price is not None:
        failed = _percent_price(rules, side, price, average_price, last_price)
        if failed:
            return failed
    if _breaks_lot(quantity, rules.min_quantity, rules.max_quantity, rules.step):
        return "LOT_SIZE"
    if iceberg and _breaks_lot(iceberg, rules.min_quantity, rules.max_quantity, rules.step):
        return "LOT_SIZE"
    if kind in MARKET_KINDS and _breaks_lot(quantity, rules.market_min_quantity, rules.market_max_quantity, rules.market_step):
        return "MARKET_LOT_SIZE"
    failed = _notional(rules, kind, quantity, price if price is not None else stop_price, average_price, last_price, notional)
    if failed:
        return failed
    if iceberg:
        parts = next((int(f["limit"]) for f in rules.filters if f["filterType"] == "ICEBERG_PARTS"), 0)
        whole, rest = EXACT.divmod(quantity, iceberg)
        if parts and whole + (1 if rest else 0) > parts:
            return "ICEBERG_PARTS"
    return None


def _breaks_price(rules: Rules, price: Decimal) -> bool:
    return bool(
        (rules.min_price and price < rules.min_price) or (rules.max_price and price > rules.max_price) or (rules.tick and EXACT.remainder(price, rules.tick))
    )


def _breaks_lot(quantity: Decimal, low: Decimal, high: Decimal, step: Decimal) -> bool:
    return bool((low and quantity < low) or (high and quantity > high) or (step and EXACT.remainder(quantity, step)))


def _reference(minutes: object, average_price: Decimal | None, last_price: Decimal | None) -> Decimal | None:
    return last_price if not minutes or average_price is None else average_price


def _percent_price(rules: Rules, side: Side, price: Decimal, average_price: Decimal | None, last_price: Decimal | None) -> str | None:
    for f in rules.filters:
        if f["filterType"] == "PERCENT_PRICE":
            up, down = f["multiplierUp"], f["multiplierDown"]
        elif f["filterType"] == "PERCENT_PRICE_BY_SIDE":
            who = "bid" if side == "BUY" else "ask"
            up, down = f[f"{who}MultiplierUp"], f[f"{who}MultiplierDown"]
        else:
            continue
        reference = _reference(f.get("avgPriceMins"), average_price, last_price)
        if reference is None:
            continue
        if price > EXACT.multiply(reference, Decimal(str(up))) or price < EXACT.multiply(reference, Decimal(str(down))):
            return str(f["filterType"])
    return None


class _Notional(NamedTuple):
    name: str
    low: Decimal
    low_on_market: bool
    high: Decimal | None
    high_on_market: bool
    minutes: object


def _notionals(rules: Rules) -> Iterator[_Notional]:
    """MIN_NOTIONAL and NOTIONAL as the exchange gave them; from the merged fields where it gave no filters."""
    if not rules.filters:
        if rules.min_notional or rules.max_notional is not None:
            yield _Notional("NOTIONAL", rules.min_notional, rules.min_notional_on_market, rules.max_notional, rules.max_notional_on_market, 5)
        return
    for f in rules.filters:
        if f["filterType"] == "MIN_NOTIONAL":
            yield _Notional("MIN_NOTIONAL", Decimal(str(f["minNotional"])), bool(f.get("applyToMarket")), None, False, f.get("avgPriceMins"))
        elif f["filterType"] == "NOTIONAL":
            high = Decimal(str(f["maxNotional"])) if "maxNotional" in f else None
            low_on_market, high_on_market = bool(f.get("applyMinToMarket")), bool(f.get("applyMaxToMarket"))
            yield _Notional("NOTIONAL", Decimal(str(f["minNotional"])), low_on_market, high, high_on_market, f.get("avgPriceMins"))


def _notional(
    rules: Rules, kind: str, quantity: Decimal, price: Decimal | None, average_price: Decimal | None, last_price: Decimal | None, notional: Decimal | None
) -> str | None:
    market = kind in MARKET_KINDS
    for f in _notionals(rules):
        amount = notional
        if amount is None:
            at = price if price is not None else _reference(f.minutes, average_price, last_price)
            if at is None:
                continue
            amount = EXACT.multiply(at, quantity)
        if (not market or f.low_on_market) and amount < f.low:
            return f.name
        if f.high is not None and (not market or f.high_on_market) and amount > f.high:
            return f.name
    return None


class Holdings(NamedTuple):
    """What an account has when it asks for an order: what the account's filters look at."""

    open_on_symbol: int  # open orders on the symbol
    open_everywhere: int  # open orders on all symbols
    base_total: Decimal  # free + locked of the base asset
    open_buys: Decimal  # base asset that open buys on the symbol may still bring
    algo_on_symbol: int = 0  # those of the open orders that have a stop price
    algo_everywhere: int = 0
    lists_on_symbol: int = 0  # open order lists
    lists_everywhere: int = 0


class Wanted(NamedTuple):
    """What a request adds to what is open: an order list adds two orders and one list."""

    orders: int  # orders that may rest; 0 for one at market
    algo: int = 0
    lists: int = 0


# Filter, the key of its limit, what it counts of what is open and of what is wanted.
_COUNTING = (
    ("MAX_NUM_ORDERS", "maxNumOrders", "open", "orders"),
    ("MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders", "algo", "algo"),
    ("MAX_NUM_ORDER_LISTS", "maxNumOrderLists", "lists", "lists"),
)


def account_violation(
    rules: Rules,
    side: Side,
    wanted: Wanted,
    quantity: Decimal,
    notional: Decimal,
    base: str,
    quote: str,
    held: Holdings,
    exchange_filters: Iterable[Mapping[str, Any]] = (),
    asset_filters: Iterable[Mapping[str, Any]] = (),
) -> str | None:
    """The first filter broken that looks at the account, or None."""
    for f in rules.filters:
        for name, key, counted, adds in _COUNTING:
            if f["filterType"] == name and _too_many(int(f[key]), getattr(held, f"{counted}_on_symbol"), getattr(wanted, adds)):
                return name
        if f["filterType"] == "MAX_POSITION" and side == "BUY" and held.base_total + held.open_buys + quantity > Decimal(str(f["maxPosition"])):
            return "MAX_POSITION"
    for f in exchange_filters:
        for name, key, counted, adds in _COUNTING:
            if f["filterType"] == f"EXCHANGE_{name}" and _too_many(int(f[key]), getattr(held, f"{counted}_everywhere"), getattr(wanted, adds)):
                return f"EXCHANGE_{name}"
    for f in asset_filters:
        if f["filterType"] == "MAX_ASSET":
            limit = Decimal(str(f["limit"]))
            if (f["asset"] == base and quantity > limit) or (f["asset"] == quote and notional > limit):
                return "MAX_ASSET"
    return None


def _too_many(limit: int, there: int, more: int) -> bool:
    return more > 0 and there + more > limit
