"""The shapes on the wire: a request in, a response out, a refusal, and how numbers are written.

The core of the paper exchange is synchronous and knows no sockets: `PaperExchange.handle`
takes a `Request` and gives a `Response`. The socket (server.py) and the in-process
transport (adapter.py) both turn what they have into these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.market.fees import EXACT, UNIT


@dataclass(slots=True)
class Request:
    """One request. `query` is the raw query string, `body` the raw bytes, header names are in lower case."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    remote: str = "127.0.0.1"


@dataclass(slots=True)
class Response:
    """One answer. `cut`: close the connection without a word. `hold_s`: keep the answer back
    for so many seconds (`hang` says that this is a hang, not a slow line)."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hold_s: float = 0.0
    hang: bool = False


class WireError(Exception):
    """A refusal as Binance words it: HTTP status, its own code, its text; `data` where a part of what was asked is done."""

    def __init__(self, code: int, msg: str, status: int = 400, headers: Mapping[str, str] | None = None, data: Any = None):
        self.status, self.code, self.msg, self.headers, self.data = status, code, msg, dict(headers or {}), data
        super().__init__(f"{status} {code} {msg}")


def filter_failure(name: str) -> WireError:
    return WireError(-1013, f"Filter failure: {name}")


def mandatory(name: str) -> WireError:
    return WireError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def either(one: str, other: str) -> WireError:
    return WireError(-1102, f"Param '{one}' or '{other}' must be sent, but both were empty/null!")


def invalid_symbol() -> WireError:
    return WireError(-1121, "Invalid symbol.")


def pad8(value: Decimal) -> str:
    """A number as production prints it: plain digits, zero-padded to 8 decimals (BINANCE.md §1.0)."""
    return format(value.quantize(UNIT, context=EXACT), "f")


def compact(value: Any) -> bytes:
    """JSON without spaces, as Binance sends it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# Header names as captured; Date and Content-Length are the socket's business.
HEADERS: dict[str, str] = {
    "Content-Type": "application/json;charset=UTF-8",
    "Server": "nginx",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
}

# Keys that carry a time, for clients that ask for microseconds (X-MBX-TIME-UNIT).
_TIMES = frozenset({"serverTime", "transactTime", "transactionTime", "time", "updateTime", "workingTime", "openTime", "closeTime", "T"})


def in_microseconds(value: Any) -> Any:
    """The same answer with its times in µs; a kline row is known by its 12 fields."""
    if isinstance(value, dict):
        return {k: v * 1000 if k in _TIMES and isinstance(v, int) and v > 0 else in_microseconds(v) for k, v in value.items()}
    if isinstance(value, list):
        if len(value) == 12 and isinstance(value[0], int):
            return [value[0] * 1000, *value[1:6], value[6] * 1000 + 999, *value[7:]]
        return [in_microseconds(v) for v in value]
    return value
