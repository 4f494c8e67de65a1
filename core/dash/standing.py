"""What stands over all bots, from the files alone: kill switch, maintenance mode, tripped guards, the machine.

Quick enough for every look at the page; no exchange is asked. Owns no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from core.account import guard_files
from core.account.members import account_scope, bot_scope
from core.account.trips import active
from core.clock import utc_text
from core.dash.watch import signature
from core.errors import StateError
from core.fleet import maintenance, resources
from core.storage import Files

STALE_MS = 60_000  # the yard samples every 15 s: what is older than this is told as old


class Standing:
    """Files are read again only when they changed. Not for several threads at once: the caller locks."""

    def __init__(self, files: Files):
        self.files = files
        self._known: dict[str, tuple[Any, Any]] = {}

    def _read(self, name: str, read: Any) -> Any:
        """Once per change of the file; a StateError is an answer, too, and not kept."""
        now = signature(str(self.files.path(name)))
        known = self._known.get(name)
        if known is None or known[0] != now:
            try:
                known = (now, read(self.files))
            except (StateError, OSError) as e:
                return e
            self._known[name] = known
        return known[1]

    def kill(self) -> dict[str, Any]:
        """`{"level": "off"|"entries"|"flatten"|"unknown", "by", "wall_ms", "problem"}`.

        Unknown: the file can't be read; bots buy nothing then (core/account/guards.py)."""
        found = self._read(guard_files.KILL, guard_files.read_kill)
        if isinstance(found, Exception):
            return {"level": "unknown", "by": "", "wall_ms": None, "problem": str(found)}
        if found is None:
            return {"level": "off", "by": "", "wall_ms": None, "problem": None}
        return {"level": found["what"], "by": found["by"], "wall_ms": found["wall_ms"], "problem": None}

    def maintenance(self) -> dict[str, Any]:
        """As core/fleet/maintenance.py, Mode.as_json."""
        mode: maintenance.Mode = self._read(maintenance.FILE, maintenance.read)
        if mode.problem:  # what can't be read now may be readable in a moment, though the file is the same
            self._known.pop(maintenance.FILE, None)
        return mode.as_json()

    def trips(self, row: Mapping[str, Any], market_ms: Any) -> list[dict[str, Any]]:
        """What keeps this bot of the overview from buying: `[{"scope", "limit", "level", "text", "wall_ms"}]`, hard ones first.

        A soft trip of a day ends with it; where market time isn't known it is left out."""
        state = self._read(guard_files.STATE, guard_files.read_state)
        if isinstance(state, Exception):
            return []
        now = market_ms if isinstance(market_ms, int) and 0 <= market_ms < 10**14 else 0
        scopes = [bot_scope(int(row["id"]))]
        if row.get("quote"):
            scopes.append(account_scope(str(row["mode"]), str(row.get("account") or "main"), str(row["quote"])))
        found = [
            {"scope": scope, "limit": t["limit"], "level": t["level"], "text": str(t.get("text") or t["limit"]), "wall_ms": t.get("wall_ms")}
            for scope in scopes
            for t in (state["scopes"].get(scope) or {"trips": {}})["trips"].values()
            if active(t, now)
        ]
        return sorted(found, key=lambda t: t["level"] != "hard")

    def machine(self, yard: Mapping[str, Any], records: list[dict[str, Any]], now_wall_ms: int) -> dict[str, Any]:
        """The yard's last sample: `{"machine", "units", "bots": [{"id", "name", "resources", "limits"}], "warnings"}`; MB, percent of a processor."""
        notes = yard.get("bots")
        notes = notes if isinstance(notes, Mapping) else {}
        machine, units = yard.get("machine") or {}, yard.get("units") or {}
        bots, warnings = [], _disk_words(machine)
        for record in records:
            note = notes.get(str(record["id"]))
            used = note.get("resources") if isinstance(note, Mapping) else None
            limits = resources.limits_of(record)
            used = used if isinstance(used, Mapping) else None
            bots.append({"id": record["id"], "name": record["name"], "resources": used, "limits": limits})
            for name, what, unit in (("memory_mb", "memory", "MB"), ("cpu_pct", "processor", "%"), ("disk_mb", "files", "MB")):
                value = (used or {}).get(name)
                if isinstance(value, int | float | Decimal) and value > limits[name]:
                    warnings.append(f"{record['name']}: {what} {float(value):.0f} {unit}, above its limit of {limits[name]:g} {unit}")
        if not yard.get("running"):
            warnings.append("The yard is not running: nothing is measured now, and these figures are its last ones")
        else:
            newest = max((int(u.get("at_wall_ms") or 0) for u in units.values() if isinstance(u, Mapping)), default=0)
            if newest and now_wall_ms - newest > STALE_MS:
                warnings.append(f"The last sample is of {utc_text(newest)} UTC")
        return {"machine": machine, "units": units, "bots": bots, "warnings": warnings}


def _disk_words(machine: Mapping[str, Any]) -> list[str]:
    free = machine.get("disk_free_mb") if isinstance(machine, Mapping) else None
    if free is None or float(free) >= resources.FREE_WARNING_MB:
        return []
    return [f"The disk has {float(free):.0f} MB left; a bot that can't write buys nothing and may not be able to close. Free some"]
