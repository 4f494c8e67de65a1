"""The paper exchange as a transport of a requests session: python-binance without a socket.

    client = Client("paper", "paper", ping=False)
    client.API_URL = "http://127.0.0.1/api"
    client.session.mount("http://127.0.0.1", PaperAdapter(exchange))

Requests go straight into `PaperExchange.handle`, as quick as the CPU allows. What a socket
would show of a fault is raised here: a cut line is a ConnectionError, an answer held
longer than the client's time-out a ReadTimeout.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from core.paper.exchange import PaperExchange
from core.paper.wire import Request

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 418: "I'm a teapot", 429: "Too Many Requests"}


class PaperAdapter(BaseAdapter):
    """`sleep` is called with the seconds of a held answer that the client's time-out allows."""

    def __init__(self, exchange: PaperExchange, sleep: Callable[[float], None] = time.sleep, remote: str = "127.0.0.1"):
        super().__init__()
        self.exchange, self._sleep, self._remote = exchange, sleep, remote

    def send(  # type: ignore[override]
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: float | tuple[float, float] | None = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        started = time.monotonic()
        path, _, query = request.path_url.partition("?")
        body = request.body or b""
        answer = self.exchange.handle(
            Request(
                request.method or "GET",
                path,
                query,
                body.encode() if isinstance(body, str) else bytes(body),
                {str(k).lower(): v if isinstance(v, str) else v.decode("latin-1") for k, v in request.headers.items()},
                self._remote,
            )
        )
        if answer.cut:
            raise requests.exceptions.ConnectionError("the connection was cut", request=request)
        if answer.hold_s:
            patience = timeout[1] if isinstance(timeout, tuple) else timeout
            if patience is not None and answer.hold_s >= patience:
                raise requests.exceptions.ReadTimeout(f"no answer within {patience} s", request=request)
            self._sleep(answer.hold_s)
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response._content = answer.body  # what a read of `raw` would give
        response.encoding = "utf-8"
        response.url = request.url or ""
        response.request = request
        response.reason = REASONS.get(answer.status, "")
        response.elapsed = timedelta(seconds=time.monotonic() - started)
        return response

    def close(self) -> None:
        """The exchange belongs to whoever made it."""
