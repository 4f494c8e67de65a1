"""What a bot lives through, and what the exchange does at the decisive request.

Market time is in minutes from paper_fixed.START; each candle is flat at its price, checks
fall two seconds into a minute. `arm` is the minute from which the points count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.model import KlineRow
from paper_fixed import MINUTE, START
from strategies.base import Strategy

D = Decimal
ORDER, PAIR, TRADES = "/api/v3/order", "/api/v3/orderList/oco", "/api/v3/myTrades"


def fault(kind: str, path: str = ORDER, method: str = "POST", times: int | None = 1, **params: Any) -> dict[str, Any]:
    return {"method": method, "path": path, "fault": kind, "times": times, "params": params}


@dataclass(frozen=True)
class Outcome:
    """`faults` of the paper exchange; `late`: the request on `path` arrives three seconds after its
    line was cut. `refusal`: the exchange may have been left without the pair for a while."""

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    late: str = ""
    partial: bool = False
    refusal: bool = False


def _of(path: str, method: str = "POST") -> list[Outcome]:
    """What can become of one request."""
    refused = {"code": -2010, "status": 400, "msg": "Account has insufficient balance for requested action."}
    if method == "DELETE":
        refused = {"code": -1013, "status": 400, "msg": "Not now."}
    found = [
        Outcome("executed"),
        Outcome("not received", (fault("drop_before", path, method),), refusal=True),
        Outcome("executed, answer lost", (fault("drop_after", path, method),)),
        Outcome("executed, answer held", (fault("hang_after", path, method, seconds=60),)),
        Outcome("executed, answered 500", (fault("error", path, method, executed=True),)),
        Outcome("not executed, answered 500", (fault("error", path, method, executed=False),), refusal=True),
        Outcome("refused", (fault("error", path, method, executed=False, **refused),), refusal=True),
        Outcome("rate limit", (fault("rate_limit", path, method, seconds=3),), refusal=True),
        Outcome("executed, answer lost, not seen at first", (fault("drop_after", path, method), fault("late_visibility", ORDER, "GET", 5))),
    ]
    if method == "POST":
        found.append(Outcome("arrives late", late=path, refusal=True))
        found.append(Outcome("partly", (fault("partial_fill", path, fraction=0.5),), partial=True))
        found.append(Outcome("partly, answer lost", (fault("partial_fill", path, fraction=0.5), fault("drop_after", path)), partial=True))
        lost = (fault("partial_fill", path, fraction=0.5), fault("drop_after", path), fault("error", TRADES, "GET", 4))
        found.append(Outcome("partly, answer lost, fills not told at first", lost, partial=True))
    return found


@dataclass(frozen=True)
class Scenario:
    name: str
    prices: tuple[str, ...]  # by minute; the last one stays
    outcomes: tuple[Outcome, ...]
    arm: int
    end: int
    sell_from: int = 10**6  # SELL is said of candles from this minute on, BUY of those before
    down_until: int | None = None  # the market's minute when the killed bot is started again
    faults_at: int = 0  # the minute from which the outcome's faults strike
    long_at_end: bool = False
    protected: bool = True
    stop_at_end: str | None = None  # the price that the last stop order was triggered at
    record: dict[str, Any] = field(default_factory=dict)


_IN_PARTS = fault("partial_fill", ORDER, times=2, fraction=0.37)
_WATCHED = {"protection": "bot", "stop_loss_pct": D(50), "take_profit_pct": D(1000)}
_PAIR = {"protection": "exchange", "stop_loss_pct": D(2), "take_profit_pct": D(50)}

# The stop follows the price up, and is met on the way down.
_UP_AND_DOWN = ("100", "100", "100", "103", "103", "103", "101")
_TRAILING = {**_PAIR, "trailing_stop_pct": D(1), "cooldown_checks": 100}
_MOVE: dict[str, Any] = {"arm": 4, "end": 9, "sell_from": 5, "faults_at": 4, "stop_at_end": "101.97", "record": _TRAILING}

SCENARIOS = {
    s.name: s
    for s in (
        Scenario("entry", ("101.37",), tuple(_of(ORDER)), arm=2, end=5, long_at_end=True, protected=False, record=_WATCHED),
        Scenario("exit", ("101.37", "101.37", "101.37", "103.11"), tuple(_of(ORDER)), arm=4, end=7, sell_from=3, faults_at=4, protected=False, record=_WATCHED),
        Scenario("pair", ("101.37",), tuple(_of(PAIR)), arm=2, end=5, long_at_end=True, record=_PAIR),
        Scenario("stop move, cancel", _UP_AND_DOWN, tuple(_of(ORDER, "DELETE")), **_MOVE),
        Scenario("stop move, new pair", _UP_AND_DOWN, tuple(_of(PAIR)), **_MOVE),
        Scenario(
            "stop fired while down",
            ("101.37", "101.37", "101.37", "101.37", "101.37", "101.37", "95"),
            (
                Outcome("executed"),
                Outcome("executed, not seen at first", (fault("late_visibility", ORDER, "GET", 5),)),
                Outcome("executed, query answered 500", (fault("error", ORDER, "GET", 4),)),
                Outcome("executed, fills not told at first", (fault("error", TRADES, "GET", 4),)),
            ),
            arm=2,
            end=9,
            sell_from=5,
            faults_at=6,
            down_until=8,
            record={**_PAIR, "cooldown_checks": 100},
        ),
        Scenario(
            "cycle in parts",
            ("101.37", "101.37", "101.37", "103.11"),
            (
                Outcome("partly", (_IN_PARTS,), partial=True),
                Outcome("partly, fills not told at first", (_IN_PARTS, fault("error", TRADES, "GET", 4)), partial=True),
                Outcome("partly, answers lost", (_IN_PARTS, fault("drop_after", ORDER, times=2)), partial=True),
                Outcome("the pair partly", (fault("partial_fill", PAIR, times=1, fraction=0.37),), partial=True),
            ),
            arm=2,
            end=8,
            sell_from=3,
            record={**_PAIR, "cooldown_checks": 100},
        ),
    )
}


def candles(scenario: Scenario) -> list[tuple[str, str, str, str] | None]:
    return [(p, p, p, p) for p in scenario.prices]


def minute(n: int) -> int:
    return START + n * MINUTE


class ByCandle(Strategy):
    """Says BUY, later SELL, by the candle's time alone: a second life hears the same."""

    key = "by_candle"
    warmup = 1  # type: ignore[assignment]
    sell_from = 10**6

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        return {"signal": "SELL" if int(data[-1][0]) >= minute(self.sell_from) else "BUY", "reasoning": "by the candle's time"}
