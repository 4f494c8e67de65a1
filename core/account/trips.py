"""What tripped, as it is kept and as it is told to people. Pure: no file, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.account import limits as rules
from core.account.limits import Finding
from core.account.members import Member
from core.clock import utc_text
from core.model import Event


def day_of(market_ms: int) -> str:
    return utc_text(market_ms)[:10]


def active(trip: Mapping[str, Any], market_ms: int) -> bool:
    """Soft trips of daily measures end with their day, all others stand until they are reset."""
    return trip["level"] == "hard" or trip["limit"] not in rules.DAILY or trip["day"] == day_of(market_ms)


def scope_words(scope: str) -> str:
    return f"bot {scope[4:]}" if scope.startswith("bot_") else f"account {scope}"


def tripped_words(scope: str, trip: Mapping[str, Any]) -> str:
    passing = trip["level"] == "soft" and trip["limit"] in rules.DAILY
    which = f"--bot {scope[4:]}" if scope.startswith("bot_") else f"--account {scope}"
    end = "ends with the UTC day" if passing else f"reset it with python3 utils/guards.py reset {which} --limit {trip['limit']}"
    return f"a guard of {scope_words(scope)} has tripped: {trip['text']} ({end})"


def trip_of(finding: Finding, day: str, market_ms: int, wall_ms: int) -> dict[str, Any]:
    return {
        "key": finding.key,
        "limit": finding.limit,
        "level": finding.level,
        "coin": finding.coin,
        "value": finding.value,
        "at": finding.at,
        "text": finding.text,
        "day": day,
        "market_ms": market_ms,
        "wall_ms": wall_ms,
    }


def event_of(kind: str, scope: str, members: Mapping[int, Member], finding: Finding, market_ms: int, wall_ms: int) -> Event:
    bot_id = int(scope[4:]) if scope.startswith("bot_") else None
    mode = next((m.mode for m in members.values()), None) if bot_id is not None else scope.split("/")[0]
    data = {"scope": scope, "limit": finding.limit, "level": finding.level, "mode": mode}
    severity: Any = "risk" if finding.level == "hard" else "warning"
    return Event(kind, f"Guard of {scope_words(scope)}: {finding.text}", severity, bot_id, market_ms, wall_ms, data)
