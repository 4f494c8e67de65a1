"""The faults of a chaos run: about a tenth of all requests, in every way that the paper exchange knows.

Faults live in the paper exchange's memory and end with it, so they are given anew after each
of its deaths. A fault that delays nothing, last on each path, counts what was asked for.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import Any

import requests

READS = ("/api/v3/time", "/api/v3/exchangeInfo", "/api/v3/klines", "/api/v3/ticker/price", "/api/v3/depth")
PRIVATE = ("/api/v3/account", "/api/v3/openOrders", "/api/v3/myTrades", "/api/v3/orderList")
PLACES = ("/api/v3/order", "/api/v3/orderList/oco")
BANNED = "/api/v3/ticker/price"  # what a ban is told on: every bot that watches asks for it
HTML = "<html><body>502 Bad Gateway</body></html>"


def _fault(method: str, path: str, fault: str, percent: float, **params: Any) -> dict[str, Any]:
    return {"method": method, "path": path, "fault": fault, "probability": round(percent / 100, 5), "params": params}


def _reads(path: str, hang_s: float) -> list[dict[str, Any]]:
    return [
        _fault("GET", path, "drop_before", 2),
        _fault("GET", path, "drop_after", 2),
        _fault("GET", path, "hang_after", 0.4, seconds=hang_s),
        _fault("GET", path, "error", 3, status=500, code=-1001),
        _fault("GET", path, "error", 1, status=503, code=-1008, msg="Server is currently overloaded with other requests. Please try again in a few minutes."),
        _fault("GET", path, "error", 1, status=502, code=-1000, body=HTML),
        _fault("GET", path, "rate_limit", 0.1, seconds=1),
        _fault("GET", path, "latency", 2, ms=300),
    ]


def _changes(method: str, path: str, hang_s: float) -> list[dict[str, Any]]:
    unknown = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
    return [
        _fault(method, path, "drop_before", 2),
        _fault(method, path, "drop_after", 2),
        _fault(method, path, "hang_after", 0.8, seconds=hang_s),
        _fault(method, path, "error", 0.8, status=500, code=-1001, executed=False),
        _fault(method, path, "error", 0.8, status=500, code=-1006, executed=True, msg="An unexpected response was received from the message bus."),
        _fault(method, path, "error", 0.8, status=504, code=-1007, executed=True, msg=unknown),
        _fault(method, path, "error", 0.8, status=504, code=-1007, executed=False, msg=unknown),
        _fault(method, path, "error", 0.5, status=502, code=-1000, executed=True, body=HTML),
        _fault(method, path, "error", 0.5, status=503, code=-1008, executed=False, msg="Server is currently overloaded with other requests."),
        _fault(method, path, "error", 0.5, status=400, code=-1021, executed=False, msg="Timestamp for this request is outside of the recvWindow."),
        _fault(method, path, "error", 0.3, status=400, code=-1015, executed=False, msg="Too many new orders."),
        _fault(method, path, "rate_limit", 0.1, seconds=1),
        _fault(method, path, "latency", 2, ms=500),
    ]


def faults(hang_s: float) -> list[dict[str, Any]]:
    """Every fault, in the order in which it is given. `hang_s` must be longer than a bot waits for an answer."""
    found = [f for path in (*READS, *PRIVATE) for f in _reads(path, hang_s)]
    found += _reads("/api/v3/order", hang_s)
    found += _changes("DELETE", "/api/v3/order", hang_s) + _changes("DELETE", "/api/v3/orderList", hang_s)
    for path in PLACES:
        found += _changes("POST", path, hang_s)
        found.append(_fault("POST", path, "error", 0.4, status=400, code=-2010, executed=False, msg="Account has insufficient balance for requested action."))
    for path in PLACES:
        found += [_fault("POST", path, "partial_fill", 5, fraction=0.5), _fault("POST", path, "partial_fill", 3, fraction=0.25)]
    found.append(_fault("GET", "/api/v3/order", "late_visibility", 5))
    found += [_fault("GET", "/api/v3/klines", "missing_candles", 3, count=1), _fault("GET", "/api/v3/klines", "missing_candles", 1, count=5)]
    return found + [{"method": "*", "path": path, "fault": "latency", "probability": 1, "params": {"ms": 0}} for path in (*READS, *PRIVATE, *PLACES)]


class Mix:
    """The faults at one paper exchange, over its deaths: what was asked for, and what struck."""

    def __init__(self, url: str, hang_s: float):
        self.url, self._faults = url, faults(hang_s)
        self._http = requests.Session()
        self.struck: Counter[str] = Counter()  # of exchanges that are gone
        self.paths: Counter[str] = Counter()
        self.asked = 0
        self._now: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def give(self) -> None:
        """All of them, to an exchange that has none of them yet."""
        self.keep()
        self._call("DELETE", "/paper/faults")
        for fault in self._faults:
            self._call("POST", "/paper/faults", fault)

    def ban(self, seconds: int) -> None:
        """One refusal that tells of a ban, told to whoever asks for a price next."""
        self._call("POST", "/paper/faults", {"method": "GET", "path": BANNED, "fault": "ban", "times": 1, "params": {"seconds": seconds}})

    def clear(self) -> None:
        self.look()
        self._call("DELETE", "/paper/faults")
        self.keep()

    def look(self) -> None:
        """What has struck so far; kept in mind, because a kill takes it away."""
        with contextlib.suppress(requests.RequestException, ValueError):
            now = list(requests.get(self.url + "/paper/faults", timeout=1).json())
            with self._lock:
                # An exchange that has struck less than before is another one, whose faults are not given yet.
                if sum(f["struck"] for f in now) >= sum(f["struck"] for f in self._now):
                    self._now = now

    def keep(self) -> None:
        """The exchange is gone: add what was seen last."""
        with self._lock:
            gone, self._now = self._now, []
        for fault in gone:
            if fault["fault"] == "latency" and not fault["params"]["ms"]:
                self.asked += fault["struck"]
            elif fault["struck"]:
                name = fault["fault"] + (f" {fault['params']['code']}{' executed' if fault['params']['executed'] else ''}" if fault["fault"] == "error" else "")
                self.struck[name] += fault["struck"]
                self.paths[f"{fault['method']} {fault['path']}"] += fault["struck"]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        answer = self._http.request(method, self.url + path, json=body, timeout=5)
        if answer.status_code != 200:
            raise AssertionError(f"{method} {path} {body}: {answer.status_code} {answer.text[:300]}")
