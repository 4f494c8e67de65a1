"""What to show of a bot: pure, from its record, its status file, its lock and the yard's notes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from core.config import Settings
from core.fleet.state import last_word

# Reads are tried 3 times, 1 s apart, each for HTTP_TIMEOUT at most: a bot in the middle of
# that is slow, not stuck. This is the bound for the default of 10 s.
DEFAULT_BOUND_MS = 38_000
# Where nobody but the bot watches the stop: one request, for HTTP_TIMEOUT at most, lies between
# two signs of life. A bot beats every 2 s at least, so that nothing below this bound would be fair.
SHORTEST_EXPOSED_MS = 6_000
# A price beyond a stop needs no such patience: whoever looks at it sells within seconds. A start
# is given longer, because a busy machine needs its time for imports.
SILENT_MS, SILENT_START_MS = 5_000, 8_000
# A strategy that takes a minute is slow; the bot watches its stop meanwhile. One that takes longer never ends.
THOUGHT_MS = 120_000


def stuck_bound_ms(settings: Settings) -> int:
    """The age of a heartbeat, in ms of wall time, past which a bot counts as stuck."""
    return max(30_000, int(3 * (settings.http_timeout + 1) + 5) * 1000)


def exposed_bound_ms(settings: Settings) -> int:
    """The same bound for a bot whose stop lies not at the exchange, or whose order's outcome is unknown (`state.exposed`)."""
    return max(SHORTEST_EXPOSED_MS, int((settings.http_timeout + 1) * 1000))


def silent_ms(status: Mapping[str, Any] | None, pid: int, since_wall_ms: int, now_wall_ms: int) -> int:
    """How long process `pid` has given no sign of life; before its first one, since the yard saw it."""
    own = status is not None and status.get("pid") == pid
    return max(0, now_wall_ms - (_whole(status.get("heartbeat_wall_ms")) if own and status else since_wall_ms))


def silent(status: Mapping[str, Any] | None, pid: int, since_wall_ms: int, now_wall_ms: int) -> bool:
    """Whether process `pid` is too long silent to be relied on while the price lies beyond its stop."""
    runs = status is not None and status.get("pid") == pid and status.get("state") != "starting"
    return silent_ms(status, pid, since_wall_ms, now_wall_ms) > (SILENT_MS if runs else SILENT_START_MS)


def late(status: Mapping[str, Any], check_interval_s: int, now_wall_ms: int, bound_ms: int) -> str:
    """Why a bot that lives counts as late with its checks, "" where it doesn't: two intervals and the bound
    have passed (wall time) without a completed one, though market time goes on. A guard makes none."""
    speed = status.get("speed")
    if status.get("guard") or status.get("state") != "running" or not isinstance(speed, int | float | Decimal) or speed <= 0:
        return ""
    last = status.get("last_check") or {}
    since = max(_whole(last.get("wall_ms")), _whole(status.get("started_wall_ms")))
    if not since or now_wall_ms - since <= 2 * check_interval_s * 1000 / float(speed) + bound_ms:
        return ""
    market, checked = _whole(status.get("market_ms")), _whole(last.get("market_ms"))
    if checked and market - checked <= check_interval_s * 1000:
        return ""  # market time stands still: nothing was due
    return f"it lives, but has completed no check for {_seconds(now_wall_ms - since)}: see its warnings and its log"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def notes_of(yard_status: Mapping[str, Any] | None, bot_id: int) -> dict[str, Any] | None:
    """The yard's note on one bot, from the object in data/yard_status.json."""
    notes = (yard_status or {}).get("bots")
    note = notes.get(str(bot_id)) if isinstance(notes, Mapping) else None
    return dict(note) if isinstance(note, Mapping) else None


def health(
    record: Mapping[str, Any],
    status: Mapping[str, Any] | None,
    pid: int | None,
    now_wall_ms: int,
    yard_notes: Mapping[str, Any] | None = None,
    bound_ms: int = DEFAULT_BOUND_MS,
    exposed_ms: int | None = None,
) -> dict[str, Any]:
    """`{"status": "running"|"stopped"|"starting"|"stuck"|"crashed", "guarded": bool, "why": str}`.

    `pid` holds the bot's lock; `yard_notes` is the yard's note on this bot, or its whole status.
    `exposed_ms`: the shorter bound, given where only this bot watches its position's stop."""
    note = notes_of(yard_notes, record["id"]) if yard_notes and "bots" in yard_notes else yard_notes
    note = note or {}
    own = status if status is not None and pid is not None and status.get("pid") == pid else None
    guarded = bool(own and own.get("guard"))
    if pid is not None and not guarded:
        return _alive(record, own, pid, now_wall_ms, note, bound_ms, exposed_ms)
    found = _gone(record, status, note)
    found["guarded"] = guarded
    if guarded:
        found["why"] = "; ".join(filter(None, (found["why"], "its position is guarded: stop and target are watched, nothing is bought")))
    return found


def _answer(status: str, why: str) -> dict[str, Any]:
    return {"status": status, "guarded": False, "why": why}


def _alive(
    record: Mapping[str, Any], own: Mapping[str, Any] | None, pid: int, now_wall_ms: int, note: Mapping[str, Any], bound_ms: int, exposed_ms: int | None
) -> dict[str, Any]:
    """A process holds the lock and is no guard. `own` is its status file, None while it has written none."""
    if own is None:
        since = note.get("since_wall_ms")
        if note.get("pid") == pid and isinstance(since, int) and now_wall_ms - since > bound_ms:
            return _answer("stuck", f"process {pid} has given no sign of life since its start {_seconds(now_wall_ms - since)} ago")
        return _answer("starting", f"process {pid} is starting")
    beat = own.get("heartbeat_wall_ms")
    if not isinstance(beat, int):
        return _answer("starting", f"process {pid} has given no heartbeat yet")
    age = now_wall_ms - beat
    if age > bound_ms:
        return _answer("stuck", f"process {pid} gave its last sign of life {_seconds(age)} ago")
    # A start may wait longer: a busy machine needs its time for imports, and a new start would need it again.
    if exposed_ms is not None and age > exposed_ms and own.get("state") == "running":
        return _answer("stuck", f"process {pid} gave its last sign of life {_seconds(age)} ago, and nobody else watches its position or its order")
    if own.get("state") == "starting":
        return _answer("starting", f"process {pid} is starting")
    asked = _whole(own.get("thinking_since_wall_ms"))
    if asked and now_wall_ms - asked > THOUGHT_MS:
        return _answer("stuck", f"its strategy has not answered for {_seconds(now_wall_ms - asked)}; stop and target are watched")
    if record["status"] == "running" and note.get("pid") == pid and note.get("late"):
        return _answer("running", str(note["late"]))
    if own.get("speed") is not None and own["speed"] <= 0 and not own.get("guard"):
        return _answer("running", "idle: the market's clock stands still, so nothing is due")
    return _answer("running", "" if record["status"] == "running" else "it runs though it is wanted stopped: somebody started it by hand")


def _gone(record: Mapping[str, Any], status: Mapping[str, Any] | None, note: Mapping[str, Any]) -> dict[str, Any]:
    """No process of its own, a guard at most."""
    word = last_word(status) if status is not None and not status.get("guard") else None
    told = f"exit code {word.get('code')}: {word.get('reason')}" if word else ""
    if record["status"] != "running":
        return _answer("stopped", told if word and word.get("code") else "")
    if note.get("state") == "maintenance":
        return _answer("stopped", str(note.get("why")))
    if note.get("state") in ("queued", "starting"):
        return _answer("starting", str(note.get("why") or "it is being started"))
    if status is None and not note:
        return _answer("starting", "it is wanted, and has not been started yet")
    if word and word.get("code") == 0 and note.get("state") not in ("waiting", "given_up"):
        # A last word that says 0 is no crash: its owner ended it while no yard was there to take note.
        return _answer("stopped", str(note.get("why") or f"{word.get('reason')}; it is wanted running still, and the yard's next start resumes it"))
    return _answer("crashed", str(note.get("why") or told or "its process is gone without a last word"))


def _seconds(ms: int) -> str:
    return f"{ms // 1000} s" if ms < 120_000 else f"{ms // 60_000} min"
