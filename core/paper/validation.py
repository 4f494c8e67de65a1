"""Is this request well formed? Parameters, formats, mandatory ones, enums, precision.

The order of checks is BINANCE.md §3.2: key → mandatory and format → time and signature →
enums → precision → filters → order count → matching engine. The texts are Binance's
(§3.3). The order types stand in one table, `KINDS`: a new one is a row here and a branch
in matching.py. The orders of a list come under names of their own (`abovePrice`); they are
looked at under the plain names, and what is told of them uses the names that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import unquote_plus

from core.paper.matching import SymbolInfo
from core.paper.wire import WireError, either, mandatory

DECIMAL = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ID = r"^[a-zA-Z0-9-_]{1,36}$"
SYMBOL = r"^[A-Z0-9-_.]{1,20}$"
SYMBOLS = r'^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$'
WHOLE = r"^[0-9]{1,20}$"
SIGNATURE = r"^[A-Fa-f0-9]{64}$"
WINDOW = r"^([0-9]{1,5})(\.[0-9]{1,3})?$"

_LEGAL = {
    **dict.fromkeys(("quantity", "quoteOrderQty", "price", "stopPrice", "icebergQty"), DECIMAL),
    **dict.fromkeys(("stopLimitPrice", "limitIcebergQty", "stopIcebergQty"), DECIMAL),
    **{f"{leg}{name}": DECIMAL for leg in ("above", "below") for name in ("Price", "StopPrice", "IcebergQty")},
    **dict.fromkeys(("newClientOrderId", "origClientOrderId", "listClientOrderId", "aboveClientOrderId", "belowClientOrderId"), CLIENT_ID),
    **dict.fromkeys(("limitClientOrderId", "stopClientOrderId", "cancelOrigClientOrderId", "cancelNewClientOrderId"), CLIENT_ID),
    **dict.fromkeys(("orderId", "fromId", "limit", "startTime", "endTime", "strategyId", "strategyType", "trailingDelta"), WHOLE),
    **dict.fromkeys(("orderListId", "cancelOrderId", "timestamp", "preventedMatchId", "fromPreventedMatchId", "fromAllocationId", "fromExecutionId"), WHOLE),
    **{f"{leg}{name}": WHOLE for leg in ("above", "below", "limit", "stop") for name in ("StrategyId", "StrategyType", "TrailingDelta")},
    "symbol": SYMBOL,
    "symbols": SYMBOLS,
    "signature": SIGNATURE,
    "recvWindow": WINDOW,
}
_PATTERNS = {name: re.compile(text[1:-1], re.ASCII) for name, text in _LEGAL.items()}
_LONGEST = (1 << 63) - 1
_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-5][0-9]))?", re.ASCII)
MINUTE, HOUR = 60_000, 3_600_000


def parse(query: str, body: bytes) -> tuple[dict[str, str], int]:
    """Parameters by name and how many were sent. A name sent twice in one place is -1101;
    sent in both places, the query string wins (BINANCE.md §1.0)."""
    values = _pairs(query)
    count = len(values)
    if body:
        in_body = _pairs(body.decode("utf-8", "replace"))
        count += len(in_body)
        values = {**in_body, **values}
    return values, count


def _pairs(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    if not text:
        return values
    coded = "%" in text or "+" in text
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if coded:
            name, value = unquote_plus(name), unquote_plus(value)
        if name in values:
            raise WireError(-1101, "Duplicate values for a parameter detected.")
        values[name] = value
    return values


def check_shape(values: Mapping[str, str], sent: int, needs: Iterable[str], takes: frozenset[str], signed: bool) -> None:
    """Mandatory ones there, none empty, each in its format, none that nobody reads.

    Surplus ones are -1101 where more came than the endpoint takes at all, else -1104 (both seen from api.binance.com)."""
    for name in needs:
        if name not in values:
            raise mandatory(name)
    if signed:
        for name in ("timestamp", "signature"):
            if name not in values:
                raise mandatory(name)
    for name, value in values.items():
        if value == "":
            raise WireError(-1105, f"Parameter '{name}' was empty.")
        pattern = _PATTERNS.get(name)
        if pattern is not None and not pattern.fullmatch(value):
            raise WireError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_LEGAL[name]}'.")
    read = sum(name in takes or (signed and name in ("timestamp", "recvWindow", "signature")) for name in values)
    if read < len(values):
        most = len(takes) + (3 if signed else 0)
        if sent > most:
            raise WireError(-1101, f"Too many parameters; expected '{most}' and received '{sent}'.")
        raise WireError(-1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.")


def whole(values: Mapping[str, str], name: str) -> int | None:
    """A whole number that passed its format; -1130 when no 64-bit number holds it."""
    if name not in values:
        return None
    found = int(values[name])
    if found > _LONGEST:
        raise not_valid(name)
    return found


def moment(values: Mapping[str, str], name: str) -> int | None:
    """A time parameter in ms; microseconds are known by their size."""
    found = whole(values, name)
    return found // 1000 if found is not None and found >= 10**14 else found


def limit(values: Mapping[str, str], default: int, most: int) -> int:
    """`limit`, at least 1; above the most it is cut to it."""
    found = whole(values, "limit")
    if found is None:
        return default
    if found < 1:
        raise not_valid("limit")
    return min(found, most)


def zone(values: Mapping[str, str]) -> int:
    """`timeZone` in ms east of UTC, as `8`, `-1:00` or `05:45`, from -12:00 to +14:00; 0 without a word."""
    found = _ZONE.fullmatch(values.get("timeZone", "0"))
    shift = 0 if found is None else (int(found[2]) * HOUR + int(found[3] or 0) * MINUTE) * (-1 if found[1] == "-" else 1)
    if found is None or not -12 * HOUR <= shift <= 14 * HOUR:
        raise not_valid("timeZone")
    return shift


def flag(values: Mapping[str, str], name: str, default: bool) -> bool:
    text = values.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise not_valid(name)
    return text == "true"


def not_valid(name: str) -> WireError:
    return WireError(-1130, f"Data sent for parameter '{name}' is not valid.")


# --- orders ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """An order type: what it must have, what it may not have, how it is answered by default."""

    needs: tuple[str, ...]
    bars: tuple[str, ...]
    answer: str
    refusal: str  # for a symbol that doesn't list it
    either: tuple[str, str] | None = None


_TRIGGERS = ("stopPrice", "trailingDelta")
KINDS: dict[str, Kind] = {
    "LIMIT": Kind(("timeInForce", "quantity", "price"), ("quoteOrderQty", *_TRIGGERS), "FULL", "Limit"),
    "MARKET": Kind((), ("timeInForce", "price", "icebergQty", *_TRIGGERS), "FULL", "Market", ("quantity", "quoteOrderQty")),
    "LIMIT_MAKER": Kind(("quantity", "price"), ("timeInForce", "quoteOrderQty", *_TRIGGERS), "ACK", "Limit maker"),
    "STOP_LOSS": Kind(("quantity",), ("timeInForce", "price", "icebergQty", "quoteOrderQty"), "ACK", "Stop loss", _TRIGGERS),
    "STOP_LOSS_LIMIT": Kind(("timeInForce", "quantity", "price"), ("quoteOrderQty",), "ACK", "Stop loss limit", _TRIGGERS),
    "TAKE_PROFIT": Kind(("quantity",), ("timeInForce", "price", "icebergQty", "quoteOrderQty"), "ACK", "Take profit", _TRIGGERS),
    "TAKE_PROFIT_LIMIT": Kind(("timeInForce", "quantity", "price"), ("quoteOrderQty",), "ACK", "Take profit limit", _TRIGGERS),
}
LIVES = ("GTC", "IOC", "FOK")
ANSWERS = ("ACK", "RESULT", "FULL")
STP_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT", "TRANSFER")
ORDER_TAKES = frozenset(
    {
        "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId", "strategyId", "strategyType", "stopPrice",
        "trailingDelta", "icebergQty", "newOrderRespType", "selfTradePreventionMode", "pegPriceType", "pegOffsetValue", "pegOffsetType",
    }
)  # fmt: skip


PLAIN: Mapping[str, str] = {}
PEGS = ("pegPriceType", "pegOffsetValue", "pegOffsetType")


def order_shape(values: Mapping[str, str], names: Mapping[str, str] = PLAIN) -> None:
    """What the order's type asks for and what it bars. An unknown type is left to `order_enums`.

    `names`: what a parameter was called when it was sent, where that differs."""
    kind = KINDS.get(values["type"])
    if kind is None:
        return
    for name in kind.needs:
        if name not in values:
            raise mandatory(names.get(name, name))
    if kind.either and not any(name in values for name in kind.either):
        one, other = (names.get(name, name) for name in kind.either)
        raise either(one, other)
    for name in kind.bars:
        if name in values:
            raise WireError(-1106, f"Parameter '{names.get(name, name)}' sent when not required.")
    if "quantity" in values and "quoteOrderQty" in values:
        raise WireError(-1128, "Combination of optional parameters invalid.")
    if any(name in values for name in PEGS):
        raise WireError(-1020, "This operation is not supported.")


def order_enums(values: Mapping[str, str]) -> None:
    if "timeInForce" in values and values["timeInForce"] not in LIVES:
        raise WireError(-1115, "Invalid timeInForce.")
    if values["type"] not in KINDS:
        raise WireError(-1116, "Invalid orderType.")
    if values["side"] not in ("BUY", "SELL"):
        raise WireError(-1117, "Invalid side.")
    if values.get("newOrderRespType", "ACK") not in ANSWERS:
        raise not_valid("newOrderRespType")
    if values.get("selfTradePreventionMode", "NONE") not in STP_MODES:
        raise not_valid("selfTradePreventionMode")
    if (whole(values, "strategyType") or 1_000_000) < 1_000_000:
        raise WireError(-1134, "strategyType was less than 1000000.")
    whole(values, "strategyId")


_ZERO = {"quantity": "Invalid quantity.", "quoteOrderQty": "Invalid quantity.", "price": "Invalid price.", "stopPrice": "Invalid price."}


def order_numbers(values: Mapping[str, str], info: SymbolInfo, names: Mapping[str, str] = PLAIN) -> dict[str, Decimal]:
    """The order's numbers; -1111 for more decimals than the asset has, -1013 for zero."""
    base, quote = int(info.entry["baseAssetPrecision"]), int(info.entry["quotePrecision"])
    precision = {"quantity": base, "icebergQty": base, "price": quote, "stopPrice": quote, "quoteOrderQty": int(info.entry["quoteAssetPrecision"])}
    found: dict[str, Decimal] = {}
    for name, digits in precision.items():
        text = values.get(name)
        if text is not None:
            if len(text.partition(".")[2]) > digits:
                raise WireError(-1111, f"Parameter '{names.get(name, name)}' has too much precision.")
            found[name] = Decimal(text)
    for name, words in _ZERO.items():
        if name in found and not found[name]:
            raise WireError(-1013, words)
    return found
