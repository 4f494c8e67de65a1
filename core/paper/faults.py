"""Faults that a test or a curious owner orders: cut lines, lost answers, refusals, partial fills.

Each names a method (or `*`), an exact path, how often it strikes (`times`, null: until
cleared) and how probably. The dice are seeded by the fault's number, so that a scenario
plays the same each time. Faults live in memory and end with the process.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.errors import InputError
from core.paper.jsonio import check_keys, number

# Struck where the request comes in; one of them decides what becomes of it.
ENDS = frozenset({"drop_before", "drop_after", "hang_after", "error", "rate_limit", "ban"})
# Struck on the way, by whom they concern.
INSIDE = frozenset({"partial_fill", "late_visibility", "missing_candles", "latency"})
KINDS = sorted(ENDS | INSIDE)
METHODS = ("GET", "POST", "PUT", "DELETE", "*")
PARAMS: dict[str, frozenset[str]] = {
    "drop_before": frozenset(),
    "drop_after": frozenset(),
    "hang_after": frozenset({"seconds"}),
    "error": frozenset({"status", "code", "msg", "executed", "body"}),
    "rate_limit": frozenset({"seconds"}),
    "ban": frozenset({"seconds"}),
    "latency": frozenset({"ms"}),
    "partial_fill": frozenset({"fraction"}),
    "late_visibility": frozenset(),
    "missing_candles": frozenset({"count"}),
}


@dataclass(slots=True)
class Fault:
    id: int
    method: str
    path: str
    fault: str
    times: int | None
    probability: Decimal
    params: dict[str, Any] = field(default_factory=dict)
    struck: int = 0
    dice: random.Random = field(default_factory=random.Random)

    def shown(self) -> dict[str, Any]:
        left = None if self.times is None else self.times - self.struck
        return {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "fault": self.fault,
            "times": self.times,
            "probability": self.probability,
            "params": self.params,
            "struck": self.struck,
            "left": left,
        }


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._next = 1

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, value: dict[str, Any]) -> Fault:
        """A fault from its JSON object; InputError says what is wrong with it."""
        check_keys(value, {"method", "path", "fault"}, {"times", "probability", "params"})
        method, path, kind = value["method"], value["path"], value["fault"]
        if method not in METHODS:
            raise InputError(f"method: must be one of {', '.join(METHODS)}")
        if not isinstance(path, str) or not path.startswith("/") or "?" in path or path.startswith("/paper"):
            raise InputError("path: must be the exact path of a request, such as /api/v3/order, without its query; /paper itself has no faults")
        if kind not in PARAMS:
            raise InputError(f"fault: must be one of {', '.join(KINDS)}")
        times = value.get("times")
        if times is not None:
            times = int(number("times", times, low=1, high=10**9, whole=True))
        probability = value.get("probability")
        probability = Decimal(1) if probability is None else number("probability", probability, low=0, high=1)
        params = value.get("params")
        params = {} if params is None else params
        if not isinstance(params, dict):
            raise InputError("params: must be an object")
        params = _params(kind, params)
        fault = Fault(self._next, method, path, kind, times, probability, params, dice=random.Random(self._next))
        self._next += 1
        self._faults.append(fault)
        return fault

    def shown(self) -> list[dict[str, Any]]:
        return [f.shown() for f in self._faults]

    def clear(self) -> int:
        cleared, self._faults = len(self._faults), []
        return cleared

    def end(self, method: str, path: str) -> Fault | None:
        """The fault that decides this request, struck now; None for none."""
        return self._strike(ENDS, method, path)

    def take(self, kind: str, method: str, path: str) -> Fault | None:
        """A fault of `kind` for this request, struck now; None for none."""
        return self._strike({kind}, method, path) if self._faults else None

    def _strike(self, kinds: frozenset[str] | set[str], method: str, path: str) -> Fault | None:
        for f in self._faults:
            if f.fault not in kinds or f.path != path:
                continue
            # What concerns one kind of request only strikes there, whatever method its author wrote.
            if f.method not in ("*", method) and f.fault not in ("partial_fill", "late_visibility"):
                continue
            if f.times is not None and f.struck >= f.times:
                continue
            if f.probability < 1 and f.dice.random() >= float(f.probability):
                continue
            f.struck += 1
            return f
        return None


def _params(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """The params of a kind, checked, with what is missing filled in."""
    unknown = sorted(set(params) - PARAMS[kind])
    if unknown and kind != "late_visibility":
        known = ", ".join(sorted(PARAMS[kind])) or "none"
        raise InputError(f"params: {kind} knows no {', '.join(unknown)}; it takes {known}")
    out: dict[str, Any] = {}
    if kind in ("hang_after", "rate_limit", "ban"):
        default = {"hang_after": 60, "rate_limit": 1, "ban": 120}[kind]
        out["seconds"] = number("params.seconds", params.get("seconds", default), low=0, high=86400)
    elif kind == "latency":
        out["ms"] = number("params.ms", params.get("ms", 500), low=0, high=3_600_000)
    elif kind == "partial_fill":
        out["fraction"] = number("params.fraction", params.get("fraction", Decimal("0.5")), low=0, high=1)
    elif kind == "missing_candles":
        out["count"] = int(number("params.count", params.get("count", 1), low=1, high=1000, whole=True))
    elif kind == "error":
        out["status"] = int(number("params.status", params.get("status", 500), low=200, high=599, whole=True))
        out["code"] = int(number("params.code", params.get("code", -1001), low=-(10**6), high=10**6, whole=True))
        out["msg"] = params.get("msg", "Internal error; unable to process your request. Please try again.")
        out["executed"] = params.get("executed", False)
        if not isinstance(out["msg"], str):
            raise InputError("params.msg: must be a text")
        if not isinstance(out["executed"], bool):
            raise InputError("params.executed: must be true (done, then answered with the error) or false")
        if "body" in params:
            if not isinstance(params["body"], str):
                raise InputError("params.body: must be the text to answer with instead of JSON")
            out["body"] = params["body"]
    return out
