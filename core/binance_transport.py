"""The transport under Binance's client: what leaves this process, and what certainly did not.

Logs each request and answer at DEBUG with secrets cut, and holds an order back whose time
stamp would be later than what the intent on disk allows for. Knows no order and no symbol.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs, parse_qsl, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from core.binance_limits import orders_in, weight
from core.clock import wall_ms
from core.config import is_loopback
from core.exchange import Priority

log = logging.getLogger("botyard.binance")

_SECRET_PARTS = re.compile(r"(signature=)[0-9a-fA-F]+")


class Gate(Protocol):
    """Who counts the requests of this host (core/account/budget.py is it): asked before each, told of each answer."""

    def take(self, weight: int, priority: Priority, orders: int = 0) -> None:
        """Return, and the request goes out; or raise RateLimited, and nothing is sent."""

    def told(self, status: int, headers: Mapping[str, str], retry_after_s: float | None = None, orders: int = 0, code: int = 0) -> None:
        """What became of it; status 0: no answer came. `code`: the exchange's own, of a refusal."""

    def learn(self, weight_limit: int, orders_10s: int | None = None, orders_day: int | None = None) -> None:
        """The limits, as the exchange says."""


class NotSent(requests.RequestException):
    """The request was stopped on our side, before a byte of it left."""


def cut_secrets(text: str) -> str:
    return _SECRET_PARTS.sub(r"\1***", text)


def _entry() -> Priority:
    return "entry"


class Wire(HTTPAdapter):
    """The transport, watched: logs each exchange at DEBUG with secrets cut, and holds an
    order back whose time stamp would be later than what the intent on disk allows for."""

    def __init__(self, gate: Gate | None = None, priority: Callable[[], Priority] = _entry):
        super().__init__()
        self.gate, self.priority = gate, priority
        self.latest_order_ms: int | None = None
        self.beat: Callable[[], None] | None = None  # called before each request: its owner lives

    def carry(self, session: requests.Session, url: str) -> None:
        """All that `session` sends goes through here; `url` is where to."""
        if is_loopback(urlsplit(url).hostname or ""):
            session.trust_env = False  # a proxy must not be asked for our own machine
        session.mount("http://", self)
        session.mount("https://", self)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return watched(self._counted, self, request, *args, **kwargs)

    def _counted(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Sent if the gate lets it through; what is no API of the exchange's (/paper) isn't counted."""
        parts = urlsplit(request.url or "")
        if self.gate is None or not parts.path.startswith(("/api/", "/sapi/")):
            return super().send(request, *args, **kwargs)
        method = request.method or "GET"
        orders = orders_in(method, parts.path)
        self.gate.take(weight(method, parts.path, dict(parse_qsl(parts.query))), self.priority(), orders)
        try:
            response = super().send(request, *args, **kwargs)
        except BaseException:
            self.gate.told(0, {}, orders=orders)
            raise
        if response.status_code in (418, 429):
            text = response.text[:1000]
            self.gate.told(response.status_code, response.headers, silence_s(response.headers, text), orders, _code(text))
        else:
            self.gate.told(response.status_code, response.headers, orders=orders)
        return response


def silence_s(headers: Mapping[str, str], text: str, now_ms: Callable[[], int] = wall_ms) -> float:
    """Seconds to wait, from Retry-After, or from 'banned until MS' in the text; 60 where neither says."""
    header = headers.get("Retry-After", "")
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    banned = re.search(r"banned until (\d{13})", text)
    return max(1.0, (int(banned[1]) - now_ms()) / 1000) if banned else 60.0


def _code(text: str) -> int:
    found = re.search(r'"code"\s*:\s*(-?\d{1,6})\b', text)
    return int(found[1]) if found else 0


def watched(send: Callable[..., requests.Response], wire: Any, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
    """`send` with the checks and the log of `Wire`, for other transports too."""
    body = request.body.decode() if isinstance(request.body, bytes) else (request.body or "")
    if request.method == "POST" and wire.latest_order_ms is not None and "timestamp=" in body:
        stamped = int(parse_qs(body)["timestamp"][0])
        if stamped > wire.latest_order_ms:
            raise NotSent(f"held back: stamped {stamped - wire.latest_order_ms} ms later than the intent on disk allows")
    if getattr(wire, "beat", None) is not None:
        wire.beat()
    logging_on = log.isEnabledFor(logging.DEBUG)
    if logging_on:
        log.debug("→ %s %s %s", request.method, cut_secrets(request.url or ""), cut_secrets(body))
    response = send(request, *args, **kwargs)
    if logging_on:
        log.debug("← %s %s", response.status_code, response.text[:1500])
    return response


def never_connected(e: requests.ConnectionError) -> bool:
    """True only where the connection could not be opened, so that nothing was sent."""
    if isinstance(e, requests.ConnectTimeout):
        return True
    reason = e.args[0] if e.args else None
    inner = getattr(reason, "reason", None)
    return isinstance(inner, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def short(e: Exception) -> str:
    """An exception in one line that a person reads: host and cause of a failed connection, no URL's signature."""
    reason = getattr(e.args[0], "reason", None) if e.args else None
    if reason is not None:  # urllib3 tells of pools and retries around the one thing that counts
        pool = getattr(e.args[0], "pool", None)
        where = f"{pool.host}:{pool.port}: " if pool is not None else ""
        return cut_secrets(f"{type(e).__name__}: {where}{re.sub(r'^.*: ', '', str(reason))}")[:300]
    return cut_secrets(f"{type(e).__name__}: {e}")[:300]
