"""Rate limits by the wall's clock: request weight per address, orders per account.

Windows are fixed and aligned to the clock (BINANCE.md §5). Limits are multiplied by
max(1, speed), because a bot on a faster market asks more often. At speed 0 (stepped
time) everything is counted and nothing refused. Counts live in memory: they outlast
no restart, as an address's weight would not outlast a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from core.paper.wire import WireError

WEIGHT, RAW, ORDERS_10S, ORDERS_DAY = 6000, 300_000, 100, 200_000  # captured 2026-08-04
MINUTE, FIVE_MINUTES, TEN_SECONDS, DAY = 60_000, 300_000, 10_000, 86_400_000
# Refused requests in one minute after which going on earns a ban, and how long it lasts.
PATIENCE = 10
BAN_MS, LONGEST_BAN_MS = 120_000, 3 * DAY


@dataclass(slots=True)
class _Count:
    """A number that begins anew with each window."""

    length: int
    window: int = -1
    used: int = 0

    def at(self, wall_ms: int) -> int:
        window = wall_ms // self.length
        if window != self.window:
            self.window, self.used = window, 0
        return self.used


class _Address:
    __slots__ = ("banned_until", "bans", "raw", "refused", "weight")

    def __init__(self) -> None:
        self.weight, self.raw, self.refused = _Count(MINUTE), _Count(FIVE_MINUTES), _Count(MINUTE)
        self.bans = 0
        self.banned_until = 0


class Limits:
    """What is used up. `speed` is the market's; 0 switches refusals off."""

    def __init__(self, wall: Callable[[], int]):
        self._wall = wall
        self.speed = Decimal(1)
        self._addresses: dict[str, _Address] = {}
        self._orders: dict[str, tuple[_Count, _Count]] = {}

    def clear(self) -> None:
        """Forget every count and ban."""
        self._addresses.clear()
        self._orders.clear()

    def scaled(self, limit: int) -> int:
        return int(limit * max(Decimal(1), self.speed))

    def table(self) -> list[dict[str, Any]]:
        """exchangeInfo's `rateLimits`, as they hold now."""
        return [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.scaled(WEIGHT)},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": self.scaled(ORDERS_10S)},
            {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": self.scaled(ORDERS_DAY)},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": self.scaled(RAW)},
        ]

    # --- request weight ------------------------------------------------------------

    def _address(self, remote: str) -> _Address:
        found = self._addresses.get(remote)
        if found is None:
            found = self._addresses[remote] = _Address()
        return found

    def charge(self, remote: str, weight: int) -> None:
        """Count one request; 429 when it is one too many, 418 for going on regardless."""
        wall, a = self._wall(), self._address(remote)
        refuse = self.speed != 0
        if refuse and a.banned_until > wall:
            raise banned(a.banned_until, wall)
        raw, used = a.raw.at(wall), a.weight.at(wall)
        a.raw.used = raw + 1
        limit, raw_limit = self.scaled(WEIGHT), self.scaled(RAW)
        if refuse and (used + weight > limit or raw >= raw_limit):
            a.refused.used = a.refused.at(wall) + 1
            if a.refused.used > PATIENCE:
                a.banned_until = wall + min(BAN_MS << min(a.bans, 20), LONGEST_BAN_MS)
                a.bans += 1
                a.refused.used = 0
                raise banned(a.banned_until, wall)
            if raw >= raw_limit:
                text = f"Too many requests; current limit is {raw_limit} requests per 5 MINUTE."
                raise WireError(-1003, text, 429, {"Retry-After": str(_until_next(wall, FIVE_MINUTES))})
            raise too_much_weight(limit, _until_next(wall, MINUTE))
        a.weight.used = used + weight

    def give_back(self, remote: str, weight: int) -> None:
        """A successful order or cancel weighs nothing (since 2026-04-02)."""
        a = self._address(remote)
        a.weight.used = max(0, a.weight.at(self._wall()) - weight)

    def used(self, remote: str) -> int:
        return self._address(remote).weight.at(self._wall())

    # --- orders --------------------------------------------------------------------

    def _counts(self, account: str) -> tuple[_Count, _Count]:
        found = self._orders.get(account)
        if found is None:
            found = self._orders[account] = (_Count(TEN_SECONDS), _Count(DAY))
        wall = self._wall()
        found[0].at(wall)
        found[1].at(wall)
        return found

    def check_order(self, account: str, orders: int = 1) -> None:
        """429 -1015 when the account has too many unfilled orders in a window."""
        if self.speed == 0:
            return
        wall = self._wall()
        for count, limit, words in zip(self._counts(account), (ORDERS_10S, ORDERS_DAY), ("10 SECOND", "1 DAY"), strict=True):
            if count.used + orders > self.scaled(limit):
                text = f"Too many new orders; current limit is {self.scaled(limit)} orders per {words}."
                raise WireError(-1015, text, 429, {"Retry-After": str(_until_next(wall, count.length))})

    def count_order(self, account: str, orders: int = 1) -> None:
        for count in self._counts(account):
            count.used += orders

    def first_fill(self, account: str, maker: bool) -> None:
        """An order's first fill gives back: 1 as taker, 5 as maker (order_count_decrement.md)."""
        for count in self._counts(account):
            count.used = max(0, count.used - (5 if maker else 1))

    def order_counts(self, account: str) -> tuple[int, int]:
        ten, day = self._counts(account)
        return ten.used, day.used


def _until_next(wall_ms: int, length: int) -> int:
    """Whole seconds to the next window."""
    return -(-(length - wall_ms % length) // 1000)


def too_much_weight(limit: int, retry_after_s: int) -> WireError:
    text = (
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API."
    )
    return WireError(-1003, text, 429, {"Retry-After": str(retry_after_s)})


def banned(until_ms: int, wall_ms: int) -> WireError:
    text = f"Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams for live updates to avoid bans."
    return WireError(-1003, text, 418, {"Retry-After": str(max(1, -(-(until_ms - wall_ms) // 1000)))})
