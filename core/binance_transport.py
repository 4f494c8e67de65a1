"""The transport under Binance's client: what leaves this process, and what certainly did not.

Logs each request and answer at DEBUG with secrets cut, and holds an order back whose time
stamp would be later than what the intent on disk allows for. Knows no order and no symbol.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import requests
import urllib3
from requests.adapters import HTTPAdapter

log = logging.getLogger("botyard.binance")

_SECRET_PARTS = re.compile(r"(signature=)[0-9a-fA-F]+")


class NotSent(requests.RequestException):
    """The request was stopped on our side, before a byte of it left."""


def cut_secrets(text: str) -> str:
    return _SECRET_PARTS.sub(r"\1***", text)


class Wire(HTTPAdapter):
    """The transport, watched: logs each exchange at DEBUG with secrets cut, and holds an
    order back whose time stamp would be later than what the intent on disk allows for."""

    latest_order_ms: int | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return watched(super().send, self, request, *args, **kwargs)


def watched(send: Callable[..., requests.Response], wire: Any, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
    """`send` with the checks and the log of `Wire`, for other transports too."""
    body = request.body.decode() if isinstance(request.body, bytes) else (request.body or "")
    if request.method == "POST" and wire.latest_order_ms is not None and "timestamp=" in body:
        stamped = int(parse_qs(body)["timestamp"][0])
        if stamped > wire.latest_order_ms:
            raise NotSent(f"held back: stamped {stamped - wire.latest_order_ms} ms later than the intent on disk allows")
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
    """An exception in one line without URLs' signatures."""
    return cut_secrets(f"{type(e).__name__}: {e}")[:300]
