"""What news may cost: the limits, what a model costs, and what today has cost so far.

The count is a table of data/news.db, so that it holds over restarts and for all bots of the
yard together. A call is paid for before it is made, at the most it can cost, and settled
when its answer has said what it did cost: a death in between errs on the dear side.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from core.clock import utc_text
from core.config import is_loopback
from core.news.sentiment import ANSWER_TOKENS

NANO = 10**9  # money is kept as whole billionths of a dollar


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits of the news room. Days are UTC days of wall time, money is US dollars."""

    fetches_a_day: int = 500  # requests to the CryptoNews API (its smallest plan has 20,000 a month)
    calls_a_day: int = 300  # articles rated
    money_a_day: Decimal = Decimal("0.50")
    wait_s: float = 3.0  # for which a check waits at most; what comes later serves the next
    fetch_s: float = 5.0
    rate_s: float = 10.0
    work_s: float = 30.0  # of one round in the background
    items: int = 10  # articles asked for
    attempts: int = 3  # to rate an article that gets no answer
    refresh_ms: int = 600_000  # a coin's articles are asked for again, for all bots together
    pause_ms: int = 60_000  # after an outage
    key_pause_ms: int = 600_000  # after a refused key
    claim_ms: int = 60_000  # an article that a bot is having rated is left to it
    stale_ms: int = 3_600_000  # older knowledge than this is none
    age_ms: int = 86_400_000  # older articles are not looked at
    keep_ms: int = 4 * 86_400_000  # articles are remembered for so long
    shown: int = 8  # articles handed to a strategy, the newest first


Price = tuple[Decimal, Decimal]  # dollars for a million tokens in and out

# From OpenAI's price list. A model that is not here is counted at a price that few exceed,
# so that the limit means something for it too; on this machine it is its owner's own, and free.
PRICES: dict[str, Price] = {
    "gpt-4o-mini": (Decimal("0.15"), Decimal("0.60")),
    "gpt-4.1-nano": (Decimal("0.10"), Decimal("0.40")),
    "gpt-4.1-mini": (Decimal("0.40"), Decimal("1.60")),
    "gpt-4.1": (Decimal("2.00"), Decimal("8.00")),
    "gpt-4o": (Decimal("2.50"), Decimal("10.00")),
}
UNKNOWN = (Decimal("30.00"), Decimal("60.00"))


def price_of(model: str, base_url: str) -> Price:
    """What a model costs at an address (empty: OpenAI's own)."""
    own = bool(base_url) and is_loopback(urlsplit(base_url).hostname or "")
    return PRICES.get(model) or ((Decimal(0), Decimal(0)) if own else UNKNOWN)


def cost(price: Price, tokens_in: int, tokens_out: int) -> Decimal:
    """Dollars of one call."""
    return (price[0] * tokens_in + price[1] * tokens_out) / 1_000_000


def highest_cost(price: Price, tokens_in: int) -> Decimal:
    return cost(price, tokens_in, ANSWER_TOKENS)


class Budget:
    """Counts in an open database; each call belongs into a transaction of its caller's."""

    TABLE = "CREATE TABLE IF NOT EXISTS spent (day TEXT, what TEXT, calls INTEGER NOT NULL, nano_usd INTEGER NOT NULL, PRIMARY KEY (day, what))"

    def __init__(self, db: sqlite3.Connection, limits: Limits):
        self.db, self.limits = db, limits

    def spent(self, what: str, wall_ms: int) -> tuple[int, Decimal]:
        """Calls and dollars of this UTC day."""
        row = self.db.execute("SELECT calls, nano_usd FROM spent WHERE day=? AND what=?", (utc_text(wall_ms)[:10], what)).fetchone()
        return (0, Decimal(0)) if row is None else (int(row[0]), Decimal(row[1]) / NANO)

    def reserve(self, what: str, most: Decimal, wall_ms: int) -> str:
        """Count a call of at most `most` dollars. The day's limit in words, if it forbids it; else ''."""
        calls, money = self.spent(what, wall_ms)
        allowed = self.limits.calls_a_day if what == "model" else self.limits.fetches_a_day
        if calls >= allowed:
            return f"today's {allowed} {'ratings' if what == 'model' else 'requests for news'} are used up"
        if money + most > self.limits.money_a_day:
            return f"today's {self.limits.money_a_day} dollars for ratings are used up"
        self._add(what, 1, most, wall_ms)
        return ""

    def settle(self, what: str, reserved: Decimal, actual: Decimal, reserved_wall_ms: int) -> None:
        """The answer has said what the call cost. A service that says less than nothing, or more than was
        reserved, is not believed beyond what was reserved."""
        self._add(what, 0, min(max(actual, Decimal(0)), reserved) - reserved, reserved_wall_ms)

    def give_back(self, what: str, reserved: Decimal, reserved_wall_ms: int) -> None:
        """The service turned the call away: it cost nothing."""
        self._add(what, -1, -reserved, reserved_wall_ms)

    def _add(self, what: str, calls: int, money: Decimal, wall_ms: int) -> None:
        self.db.execute(
            "INSERT INTO spent VALUES (?, ?, ?, ?) "
            "ON CONFLICT (day, what) DO UPDATE SET calls = calls + excluded.calls, nano_usd = nano_usd + excluded.nano_usd",
            (utc_text(wall_ms)[:10], what, calls, int((money * NANO).to_integral_value())),
        )
