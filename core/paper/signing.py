"""Keys, signatures and request times, as strict as Binance is (BINANCE.md §2)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from decimal import Decimal

from core.paper.wire import Request, WireError

_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_OLDEST_MS = 1_483_228_800_000  # 2017-01-01: Binance refuses older stamps outright
DEFAULT_RECV_WINDOW = Decimal(5000)
MAX_RECV_WINDOW = Decimal(60000)


def payload(query: str, body: bytes) -> bytes:
    """What is signed: the raw query and the raw body, one after the other, the signature's pair removed from each."""
    return _without(query.encode("utf-8", "surrogateescape")) + _without(body)


def _without(raw: bytes) -> bytes:
    if b"signature=" not in raw:
        return raw
    return b"&".join(pair for pair in raw.split(b"&") if not pair.startswith(b"signature="))


def sign(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def api_key(request: Request) -> str:
    """The key of the header; 401 -2014 where it is missing or malformed."""
    key = request.headers.get("x-mbx-apikey", "")
    if not _KEY.fullmatch(key):
        raise WireError(-2014, "API-key format invalid.", 401)
    return key


def check_time(values: Mapping[str, str], wall_ms: int) -> None:
    """-1021 unless `timestamp` lies in the receive window. Both `timestamp` and `recvWindow` have passed their formats."""
    stamp = int(values["timestamp"])
    if stamp >= 10**14:  # microseconds
        stamp //= 1000
    window = Decimal(values["recvWindow"]) if "recvWindow" in values else DEFAULT_RECV_WINDOW
    if window > MAX_RECV_WINDOW:
        raise WireError(-1131, "recvWindow must be less than 60000")
    if stamp >= wall_ms + 1000:
        raise WireError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if stamp < _OLDEST_MS or wall_ms - stamp > window:
        raise WireError(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_signature(request: Request, secret: str, signature: str) -> None:
    if not hmac.compare_digest(sign(secret, payload(request.query, request.body)), signature.lower()):
        raise WireError(-1022, "Signature for this request is not valid.")
