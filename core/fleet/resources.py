"""What a bot may use of the machine, and when somebody must hear or act. Pure: no process is asked here.

A bot's record may hold `limits` with memory_mb, cpu_pct and disk_mb. 1 MB is 1,000,000
bytes; 100 % is one processor. Memory is the proportional share (PSS) where the system tells
it, so that what bots share is not counted for each. core/fleet/sampling.py does the measuring.

- Memory above its limit for 3 samples: the bot is ended and started anew, at most once in
  10 minutes, and never while the outcome of an order of its own is unknown.
- CPU above its limit in every sample of 5 minutes, files above theirs: told once.
- The home's free disk under 500 MB, and again under 100 MB: told once each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

DEFAULTS: dict[str, Decimal] = {"memory_mb": Decimal(500), "cpu_pct": Decimal(90), "disk_mb": Decimal(500)}
NAMES = frozenset(DEFAULTS)
MOST = Decimal(1_000_000_000)
MB = 1_000_000
MEMORY_SAMPLES = 3
CPU_S = 300.0
RESTART_PAUSE_S = 600.0
FREE_WARNING_MB, FREE_RISK_MB = 500, 100
FREE_AGAIN = 1.2  # told anew only after there was this much more than the level: free space wavers


def check_limits(limits: Mapping[str, Any]) -> dict[str, Decimal]:
    """The three limits as given, cleaned; null means the default and is left out. ValueError completes "it must be ..."."""
    clean: dict[str, Decimal] = {}
    problems = []
    for name, value in limits.items():
        if name not in NAMES:
            problems.append(f"{name[:40]!r} is no limit (known are {', '.join(DEFAULTS)})")
        elif value is not None:
            right = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
            found = Decimal(str(value)) if right and (not isinstance(value, int) or abs(value) <= MOST) else Decimal(0)
            if not found.is_finite() or not 0 < found <= MOST:
                problems.append(f"{name} must be a number above 0, at most {MOST}")
            else:
                clean[name] = found
    if problems:
        raise ValueError(f'an object of limits such as {{"memory_mb": 500, "cpu_pct": 90, "disk_mb": 500}}; in it {"; ".join(problems)}')
    return clean


def limits_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The limits that hold for a bot; what its record doesn't say, or says wrongly, is the default."""
    given = record.get("limits")
    mine = {k: v for k, v in given.items() if k in NAMES} if isinstance(given, Mapping) else {}
    try:
        found = check_limits(mine)
    except ValueError:
        found = {}
    return {name: float(found.get(name, default)) for name, default in DEFAULTS.items()}


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample of one process. None: it can't be told (the first sample has no interval behind it)."""

    pid: int
    memory_mb: float | None
    cpu_pct: float | None
    disk_mb: float | None
    at_wall_ms: int

    def as_json(self) -> dict[str, Any]:
        return {"memory_mb": _one(self.memory_mb), "cpu_pct": _one(self.cpu_pct), "disk_mb": _one(self.disk_mb), "at_wall_ms": self.at_wall_ms}


def _one(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`memory`: start it anew; `cpu`, `disk`: tell it. `text` goes on after the bot's name."""

    kind: Literal["memory", "cpu", "disk"]
    text: str


@dataclass
class _Seen:
    pid: int = 0
    heavy: int = 0  # samples in a row above the limit of memory
    busy_since: float | None = None
    told_cpu: bool = False
    told_disk: bool = False
    restarted: float = float("-inf")


@dataclass
class Judge:
    """Remembers earlier samples; times are monotonic seconds."""

    seen: dict[int, _Seen] = field(default_factory=dict)
    free_told: int | None = None  # the level of free disk that was told last

    def bot(self, bot_id: int, usage: Usage, limits: Mapping[str, float], now: float) -> list[Verdict]:
        """What one sample of a bot comes to. `memory` is said at each sample until `restarted` is called."""
        s = self.seen.setdefault(bot_id, _Seen())
        if usage.pid != s.pid:
            s.pid, s.heavy, s.busy_since, s.told_cpu = usage.pid, 0, None, False
        found = []
        over = usage.memory_mb is not None and usage.memory_mb > limits["memory_mb"]
        s.heavy = s.heavy + 1 if over else 0
        if s.heavy >= MEMORY_SAMPLES and now - s.restarted >= RESTART_PAUSE_S:
            found.append(Verdict("memory", f"uses {usage.memory_mb:.0f} MB of memory, more than its limit of {limits['memory_mb']:g} MB"))
        if usage.cpu_pct is None or usage.cpu_pct <= limits["cpu_pct"]:
            s.busy_since, s.told_cpu = None, False
        elif s.busy_since is None:
            s.busy_since = now
        elif now - s.busy_since >= CPU_S and not s.told_cpu:
            s.told_cpu = True
            found.append(Verdict("cpu", f"has used more than {limits['cpu_pct']:g} % of a processor for {CPU_S / 60:.0f} minutes ({usage.cpu_pct:.0f} % now)"))
        if usage.disk_mb is None or usage.disk_mb <= limits["disk_mb"]:
            s.told_disk = False
        elif not s.told_disk:
            s.told_disk = True
            found.append(Verdict("disk", f"has files of {usage.disk_mb:.0f} MB, more than its limit of {limits['disk_mb']:g} MB"))
        return found

    def restarted(self, bot_id: int, now: float) -> None:
        s = self.seen.setdefault(bot_id, _Seen())
        s.restarted, s.heavy = now, 0

    def free(self, mb: float) -> tuple[Literal["warning", "risk"], int] | None:
        """Severity and level to tell of the home's free disk, None where nothing is news."""
        if self.free_told is not None and mb >= self.free_told * FREE_AGAIN:
            self.free_told = FREE_WARNING_MB if mb < FREE_WARNING_MB else None
        level = FREE_RISK_MB if mb < FREE_RISK_MB else FREE_WARNING_MB if mb < FREE_WARNING_MB else None
        if level is None or (self.free_told is not None and self.free_told <= level):
            return None
        self.free_told = level
        return ("risk" if level == FREE_RISK_MB else "warning"), level
