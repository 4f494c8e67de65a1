"""What is shown of a bot, from its record, its status file, its lock and the yard's notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core import config
from core.fleet.health import DEFAULT_BOUND_MS, health, stuck_bound_ms

NOW = 1_800_000_000_000
PID = 4711


def record(wanted: str = "running") -> dict[str, Any]:
    return {"id": 1, "name": "BTC Bot", "status": wanted}


def status(age_ms: int = 500, pid: int = PID, **more: Any) -> dict[str, Any]:
    return {"schema": 1, "pid": pid, "state": "running", "guard": False, "heartbeat_wall_ms": NOW - age_ms, "exit": None, **more}


def word(code: int, kind: str = "error", reason: str = "the reason") -> dict[str, Any]:
    return {"state": "ended", "exit": {"code": code, "kind": kind, "reason": reason, "signal": None, "wall_ms": NOW - 5000}}


@pytest.mark.parametrize(
    ("wanted", "told", "pid", "note", "expected", "why"),
    [
        ("running", status(), PID, None, "running", ""),
        ("running", status(DEFAULT_BOUND_MS), PID, None, "running", ""),
        ("running", status(DEFAULT_BOUND_MS + 1), PID, None, "stuck", "last sign of life 38 s ago"),
        ("running", status(200_000), PID, None, "stuck", "3 min ago"),
        ("stopped", status(), PID, None, "running", "started it by hand"),
        ("running", status(thinking_since_wall_ms=NOW - 60_000), PID, None, "running", ""),
        ("running", status(thinking_since_wall_ms=NOW - 121_000), PID, None, "stuck", "has not answered for 2 min; stop and target are watched"),
        ("running", status(speed=0), PID, None, "running", "idle: the market's clock stands still"),
        ("running", None, PID, None, "starting", "process 4711 is starting"),
        ("running", status(pid=1), PID, None, "starting", "is starting"),
        ("running", status(state="starting"), PID, None, "starting", "is starting"),
        ("running", status(pid=1, **word(1)), PID, {"pid": PID, "since_wall_ms": NOW - 60_000}, "stuck", "no sign of life since its start 60 s ago"),
        ("running", None, None, None, "starting", "not been started yet"),
        ("running", None, None, {"state": "queued", "why": "about to be started"}, "starting", "about to be started"),
        ("running", status(**word(1)), None, {"state": "starting", "why": ""}, "starting", "being started"),
        ("running", status(), None, None, "crashed", "without a last word"),
        ("running", status(**word(4, reason="bot_1_position.json: it is empty")), None, None, "crashed", "exit code 4: bot_1_position.json: it is empty"),
        ("running", status(), None, {"state": "given_up", "why": "given up after 10 starts"}, "crashed", "given up after 10"),
        ("running", status(**word(0, "by_hand", "stopped by SIGTERM")), None, None, "stopped", "stopped by SIGTERM; it is wanted running still"),
        ("running", status(**word(0, "by_hand")), None, {"state": "by_hand", "why": "ended by hand (SIGINT)"}, "stopped", "ended by hand (SIGINT)"),
        ("running", status(**word(0, "asked")), None, {"state": "waiting", "why": "screen is missing"}, "crashed", "screen is missing"),
        ("stopped", None, None, None, "stopped", ""),
        ("stopped", status(**word(0, "asked")), None, None, "stopped", ""),
        ("stopped", status(**word(5, reason="keys")), None, None, "stopped", "exit code 5: keys"),
    ],
)
def test_a_bot_is_shown_as(wanted: str, told: Any, pid: Any, note: Any, expected: str, why: str) -> None:
    found = health(record(wanted), told, pid, NOW, note)
    assert (found["status"], found["guarded"]) == (expected, False)
    assert why in found["why"]
    assert bool(why) == bool(found["why"])


@pytest.mark.parametrize(("wanted", "expected"), [("running", "crashed"), ("stopped", "stopped")])
def test_a_guard_is_shown_beside_a_status_that_it_does_not_change(wanted: str, expected: str) -> None:
    found = health(record(wanted), status(guard=True), PID, NOW, {"state": "given_up", "why": "given up"})
    assert (found["status"], found["guarded"]) == (expected, True)
    assert "guarded" in found["why"]


def test_the_last_word_of_a_guard_is_not_taken_for_the_bots() -> None:
    assert "nothing is open" not in health(record(), status(guard=True, **word(0, "asked", "nothing is open")), None, NOW)["why"]


def test_the_yards_whole_status_serves_as_well_as_its_note_on_the_bot() -> None:
    whole = {"schema": 1, "pid": 1, "bots": {"1": {"state": "queued", "why": "queued"}, "2": {"state": "given_up", "why": "no"}}}
    assert health(record(), None, None, NOW, whole) == {"status": "starting", "guarded": False, "why": "queued"}


def test_a_bot_that_may_wait_longer_for_answers_counts_as_stuck_later(home: Path) -> None:
    def bound(timeout: str) -> int:
        return stuck_bound_ms(config.load({"BOTYARD_HOME": str(home), "HTTP_TIMEOUT": timeout}))

    assert bound("10") == DEFAULT_BOUND_MS
    assert bound("1") == 30_000
    assert bound("60") == 188_000
