"""Which events become messages, and when. Reads `notify.json` (optional) of BOTYARD_HOME; never writes it.

`Rules` holds every default. A person who wants other ones puts `notify.json` beside
`.env`, with any of the names below, for example

    {"schema": 1, "trades": true, "quiet_hours": [22, 7], "per_day": 20, "bots": {"3": "risk"}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from core.errors import BotyardError, StateError
from core.storage import Files

FILE = "notify.json"
LEVELS = ("info", "warning", "risk", "none")
Level = Literal["info", "warning", "risk", "none"]

TRADES = frozenset({"opened", "closed"})
ASKED = frozenset({"alert", "summary"})  # somebody wants it now, or at this hour
ALWAYS = ASKED | {"bot_back"}  # whoever was told of a crash is told of its end
# Each is news of its own: two stops in an hour are two losses, not one told twice.
NEVER_FOLDED = ASKED | TRADES | {"stop_hit", "guard_hard", "kill_switch"}


@dataclass(frozen=True)
class Rules:
    """Severities: info < warning < risk. Alerts about risk wait for no hour and count into no daily maximum."""

    least: Level = "warning"  # events below it are not sent; "none" sends none
    trades: bool = False  # also a message for each position opened or closed
    bots: Mapping[int, Level] = field(default_factory=dict)  # `least` of single bots
    quiet_hours: tuple[int, int] | None = None  # UTC hours [from, to): what isn't about risk waits for their end
    per_day: int = 50  # messages a UTC day and channel that aren't about risk
    fold_minutes: int = 30  # the same kind of event of the same bot is told at most once in this time, with its count
    keep_hours: int = 6  # what could not be sent for so long is given up, unless it is about risk
    keep_risk_hours: int = 72

    def wanted(self, kind: str, severity: str, bot_id: int | None) -> bool:
        """Whether an event becomes a message at all."""
        if kind in ASKED:
            return True
        least = self.bots.get(bot_id, self.least) if bot_id is not None else self.least
        if least == "none":
            return False
        if kind in TRADES and self.trades:
            return bot_id not in self.bots or least == "info"
        return (kind in ALWAYS and least != "risk") or LEVELS.index(severity) >= LEVELS.index(least)

    def quiet_until(self, now_ms: int) -> int | None:
        """The end (wall ms) of the quiet hours that now lies in, None outside of them."""
        if self.quiet_hours is None or self.quiet_hours[0] == self.quiet_hours[1]:
            return None
        start, end = self.quiet_hours
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        inside = start <= now.hour < end if start < end else now.hour >= start or now.hour < end
        if not inside:
            return None
        until = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(hours=end)
        return int((until if until > now else until + timedelta(days=1)).timestamp() * 1000)

    def keep_ms(self, severity: str) -> int:
        return (self.keep_risk_hours if severity == "risk" else self.keep_hours) * 3_600_000


def read(files: Files) -> Rules:
    """The rules of a home: the defaults, or what its notify.json changes of them. StateError says what is wrong there."""
    value = files.read_json(FILE, schema=1)
    if value is None:
        return Rules()
    try:
        return _checked({k: v for k, v in value.items() if k != "schema"})
    except ValueError as e:
        raise StateError(files.path(FILE), str(e), "Correct it or move it away; the yard takes it up within a minute.") from None


def read_or_default(files: Files) -> tuple[Rules, str]:
    """As `read`; a file that is wrong leaves the defaults, and the second value says what is wrong."""
    try:
        return read(files), ""
    except (BotyardError, OSError) as e:
        return Rules(), str(e)


def _checked(given: Mapping[str, Any]) -> Rules:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name == "least":
            found[name] = _level(name, value)
        elif name == "trades":
            if not isinstance(value, bool):
                raise ValueError("trades must be true or false")
            found[name] = value
        elif name == "bots":
            if not isinstance(value, Mapping) or not all(str(k).isascii() and str(k).isdigit() for k in value):
                raise ValueError('bots must be an object such as {"3": "risk"}')
            found[name] = {int(k): _level(f"bots.{k}", v) for k, v in value.items()}
        elif name == "quiet_hours":
            if value is not None and not (isinstance(value, list) and len(value) == 2 and all(_whole(v, 0, 24) for v in value)):
                raise ValueError("quiet_hours must be two hours (UTC) such as [22, 7], or null")
            found[name] = None if value is None else (int(value[0]), int(value[1]) % 24 if value[0] > value[1] else int(value[1]))
        elif name in ("per_day", "fold_minutes", "keep_hours", "keep_risk_hours"):
            low = 1 if name.startswith("keep") else 0
            if not _whole(value, low, 10_000):
                raise ValueError(f"{name} must be a whole number from {low} to 10000")
            found[name] = int(value)
        else:
            raise ValueError(f"{name[:40]!r} is no rule; known are least, trades, bots, quiet_hours, per_day, fold_minutes, keep_hours, keep_risk_hours")
    return Rules(**found)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _level(name: str, value: Any) -> str:
    if value not in LEVELS or not isinstance(value, str):
        raise ValueError(f"{name} must be one of {', '.join(LEVELS)}")
    return value
