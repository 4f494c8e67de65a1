"""Maintenance mode: everything stops, nothing starts, and what was wanted comes back. Bots are real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core import config, notify
from core.clock import wall_ms
from core.config import ROOT
from core.errors import Conflict, InputError
from core.fleet import control, locks, maintenance
from core.fleet.health import health
from core.fleet.screen import ScreenSupervisor
from core.fleet.yard import Yard, read_status
from core.storage import Files
from fleet_help import Yardful, until, yardful
from patience import patience
from processes import BUY_ONCE, Home

HOLD = "import os, signal; from core.storage import Files; l = Files(os.environ['BOTYARD_HOME']).lock('{}'); l.acquire(); signal.pause()"
PAPER = [sys.executable, "-c", HOLD.format("data/paper/paper.lock")]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["process", "screen"])
def home_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home", request.param) as made:
        yield held(made)


@pytest.fixture
def y(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield held(made)


def held(made: Yardful) -> Yardful:
    """Its yard's lock is held, so that lifting starts no yard process: the tests step their own."""
    made.supervisor.start_unit("yard", [sys.executable, "-c", HOLD.format("data/yard.lock")])
    return made


@pytest.fixture
def make() -> Callable[[Yardful], Yard]:
    def make(of: Yardful) -> Yard:
        return Yard(of.files, of.settings, of.supervisor, paper_argv=PAPER, settings_now=lambda: of.settings, monotonic=Clock())

    return make


def turn(of: Yardful, on: bool, note: str = "", **more: Any) -> dict[str, Any]:
    return control.set_maintenance(of.files, of.settings, on, "a person", note, of.supervisor, **more)


def look(yard: Yard, times: int = 1) -> None:
    for _ in range(times):
        yard.step()
        assert yard.settle(20)


def wanted(of: Yardful) -> dict[int, str]:
    return {r["id"]: r["status"] for r in of.registry.bots()}


def test_every_bot_stops_guards_too_nothing_is_started_and_lifting_it_brings_back_what_is_wanted_positions_first(
    home_of: Yardful, make: Callable[[Yardful], Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, unwanted, _ = home_of.bots("Flat", "Holds", "Unwanted", "Wanted", status="running")
    home_of.registry.set_wanted(3, "stopped")
    home_of.position(2)
    home_of.position(3, protection="exchange")
    home_of.supervisor.start(unwanted, guard=True)
    yard = make(home_of)
    look(yard)
    for bot_id in (1, 2, 3, 4):
        home_of.beating(bot_id)
    assert home_of.supervisor.running().keys() == {1, 2, 3, 4}
    said: list[str] = []
    done = turn(home_of, True, "new disk", progress=said.append)
    assert home_of.supervisor.running() == {}
    assert {n: b["stopped"] for n, b in done["bots"].items()} == {1: True, 2: True, 3: True, 4: True}
    assert [u["bot"] for u in done["unwatched_before"]] == [u["bot"] for u in done["unwatched"]] == [2]  # 3 has its stop at the exchange
    assert "bot 2 (Holds) will be unwatched" in said[0]
    assert all(home_of.status(n)["exit"]["kind"] == "asked" for n in (1, 2, 3, 4))
    look(yard, 3)
    assert home_of.supervisor.running() == {}
    assert wanted(home_of) == {1: "running", 2: "running", 3: "stopped", 4: "running"}
    assert [e["kind"] for e in notify.recent(home_of.files)] == ["maintenance"]  # nobody crashed
    yard.write_status("running")
    told = read_status(home_of.files)
    assert told is not None
    assert told["maintenance"]["on"] is True
    found = health(home_of.registry.bot(1), home_of.status(1), None, wall_ms(), told)
    assert (found["status"], "new disk" in found["why"], "a person" in found["why"]) == ("stopped", True, True)
    order: list[int] = []
    start = home_of.supervisor.start

    def remember(record: Any, *, guard: bool = False) -> int:
        order.append(record["id"])
        return start(record, guard=guard)

    monkeypatch.setattr(home_of.supervisor, "start", remember)
    monkeypatch.setattr("core.fleet.workers.WORKERS", 1)
    turn(home_of, False)
    yard = make(home_of)
    look(yard, 2)
    assert home_of.supervisor.running().keys() == {1, 2, 4}
    assert order == [2, 1, 4]


def test_the_same_yard_resumes_also_when_it_was_on_and_lifted_between_two_looks(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("A", "B", status="running")
    yard = make(y)
    look(yard, 2)
    turn(y, True)
    look(yard)
    turn(y, False)
    look(yard, 2)
    assert y.supervisor.running().keys() == {1, 2}
    for bot_id in (1, 2):
        y.beating(bot_id)
    turn(y, True)
    turn(y, False)
    look(yard, 2)
    assert y.supervisor.running().keys() == {1, 2}
    assert [len(y.runs(n)) for n in (1, 2)] == [3, 3]


def test_a_look_that_had_begun_before_takes_no_stop_for_an_end(y: Yardful, make: Callable[[Yardful], Yard], monkeypatch: pytest.MonkeyPatch) -> None:
    y.bots("A", status="running")
    yard = make(y)
    look(yard, 2)
    y.beating(1)
    see = yard._look_at_maintenance
    monkeypatch.setattr(yard, "_look_at_maintenance", lambda: (see(), turn(y, True)))
    look(yard)
    monkeypatch.undo()
    look(yard)
    turn(y, False)
    look(yard, 2)
    assert y.supervisor.running().keys() == {1}


def test_a_start_a_restart_and_a_close_are_refused_with_the_way_to_lift_it_and_change_nothing(y: Yardful) -> None:
    running, _ = y.bots("Runs", "Stopped")
    y.position(2)
    y.registry.set_wanted(1, "running")
    turn(y, True)
    for act in (control.start_bot, control.restart_bot, control.close_position, control.end_stuck):
        with pytest.raises(Conflict, match=r"maintenance mode is on since .*lift it with: utils/yard.py maintenance off"):
            act(y.files, y.settings, 2, "a person", y.supervisor)
    with pytest.raises(Conflict, match="bot 1 can't be started: maintenance"):
        y.supervisor.start(running, guard=True)  # the one gate: also for whoever comes past control
    assert wanted(y) == {1: "running", 2: "stopped"}
    assert y.supervisor.running() == {}
    assert not y.files.exists("data/commands/bot_2")


def test_records_are_made_and_edited_meanwhile_and_a_bot_can_be_wanted_stopped(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("A", status="running")
    turn(y, True)
    y.registry.update(1, {"trade_amount": 600}, "a person")
    control.stop_bot(y.files, y.settings, 1, "a person", y.supervisor)
    turn(y, False)
    look(make(y), 2)
    assert y.supervisor.running() == {}
    assert y.registry.bot(1)["trade_amount"] == 600


def test_a_start_that_is_just_under_way_is_waited_for_and_stopped(y: Yardful) -> None:
    record, *_ = y.bots("A", status="running")
    begun, go = threading.Event(), threading.Event()

    def starts() -> None:
        with locks.action(y.files, "bot_1"):
            begun.set()
            assert go.wait(patience(20))
            maintenance_was.append(maintenance.read(y.files).on)

    maintenance_was: list[bool] = []
    other = threading.Thread(target=starts)
    y.supervisor.start(record)  # its process is there, its starter still holds the lock
    other.start()
    assert begun.wait(patience(20))
    answers: list[dict[str, Any]] = []
    mine = threading.Thread(target=lambda: answers.append(turn(y, True)))
    mine.start()
    until(lambda: maintenance.read(y.files).on)
    go.set()
    mine.join(patience(40))
    other.join(patience(20))
    assert maintenance_was == [True]
    assert answers[0]["bots"][1] == {"stopped": True, "error": None}
    assert y.supervisor.running() == {}


def test_it_survives_a_new_yard_and_a_reboot(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("A", status="running")
    turn(y, True)
    look(make(y), 3)
    assert y.supervisor.running() == {}
    assert y.runs(1) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "on": "no", "wall_ms": 5}', '{"schema": 9, "on": false, "wall_ms": 5}'])
def test_a_file_that_can_not_be_read_counts_as_on_what_runs_goes_on_and_it_says_how_to_mend_it(y: Yardful, make: Callable[[Yardful], Yard], text: str) -> None:
    running, *_ = y.bots("Runs", "Wanted", status="running")
    pid = y.supervisor.start(running)
    y.files.path(maintenance.FILE).write_text(text)
    yard = make(y)
    look(yard, 3)
    assert y.supervisor.running() == {1: pid}
    assert [(e["kind"], e["severity"]) for e in notify.recent(y.files)] == [("maintenance", "risk")]
    with pytest.raises(Conflict, match=r"maintenance\.json.*Write it anew: utils/yard.py maintenance off"):
        control.start_bot(y.files, y.settings, 2, "a person", y.supervisor)
    turn(y, False)
    look(yard, 2)
    assert y.supervisor.running().keys() == {1, 2}
    assert y.supervisor.pid(1) == pid


def test_a_bot_ended_by_hand_right_before_counts_as_stopped_also_in_maintenance(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("A", status="running")
    yard = make(y)
    look(yard, 2)
    pid = y.beating(1)
    os.kill(pid, signal.SIGINT)
    until(lambda: y.supervisor.pid(1) is None)
    look(yard)
    turn(y, True)
    look(yard)
    yard.monotonic.now += 11  # type: ignore[attr-defined]
    look(yard)
    assert wanted(y) == {1: "stopped"}


def test_a_note_that_is_too_long_or_a_disk_that_takes_nothing_stops_nobody(y: Yardful, monkeypatch: pytest.MonkeyPatch) -> None:
    record, *_ = y.bots("A", status="running")
    pid = y.supervisor.start(record)
    with pytest.raises(InputError, match="note: it must be at most 200"):
        turn(y, True, "x" * 201)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(y.files), "write_json", full)
    with pytest.raises(OSError, match="No space"):
        turn(y, True)
    monkeypatch.undo()
    assert y.supervisor.running() == {1: pid}
    assert not maintenance.read(y.files).on


def test_a_list_of_bots_that_can_not_be_read_keeps_no_bot_from_stopping(y: Yardful) -> None:
    record, *_ = y.bots("A", status="running")
    y.supervisor.start(record)
    y.position(1)
    y.files.path("active_bots.json").write_text("{")
    done = turn(y, True)
    assert y.supervisor.running() == {}
    assert "active_bots.json" in done["error"]
    assert [u["bot"] for u in done["unwatched"]] == [1]


def yard_py(of: Yardful, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BOTYARD_HOME": str(of.files.home), "SESSION_PREFIX": of.prefix}
    return subprocess.run([sys.executable, str(ROOT / "utils/yard.py"), *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_turns_it_on_and_off_and_tells_how_it_stands(y: Yardful) -> None:
    record, *_ = y.bots("A", status="running")
    y.supervisor.start(record)
    y.position(1)
    off = yard_py(y, "maintenance", "status")
    assert (off.returncode, off.stdout) == (0, "maintenance mode is off\n")
    on = yard_py(y, "maintenance", "on", "--note", "new disk")
    assert on.returncode == 0, on.stderr
    assert "bot 1 (A) will be unwatched" in on.stdout
    assert "bot 1 is stopped" in on.stdout
    assert "(new disk)" in on.stdout
    assert y.supervisor.running() == {}
    told = json.loads(yard_py(y, "maintenance", "status", "--json").stdout)
    assert (told["success"], told["maintenance"]["on"], [u["bot"] for u in told["unwatched"]]) == (True, True, [1])
    refused = yard_py(y, "start", "1")
    assert refused.returncode == 3
    assert "maintenance mode is on" in refused.stderr
    assert yard_py(y, "maintenance", "off", "--json").returncode == 0
    assert not maintenance.read(y.files).on


def test_a_bot_in_the_middle_of_an_order_is_let_finish_it_and_leaves_its_stop_at_the_exchange(tmp_path: Path) -> None:
    h = Home(tmp_path / "home", CHECK_INTERVAL="3600", KLINE_INTERVAL="1m", HTTP_TIMEOUT="15")
    try:
        h.strategy("buy_once", BUY_ONCE)
        h.paper()
        h.post("/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "hang_after", "times": 1, "params": {"seconds": 4}})
        h.bot(1, "BTC Bot", "BTCUSDT", "buy_once")
        until(lambda: (h.path / "bot_1_position.json").exists() and h.position().get("pending_order"), 30)
        settings = config.load({"BOTYARD_HOME": str(h.path), "PAPER_PORT": str(h.port)})
        files = Files(h.path)
        done = maintenance.enter(files, ScreenSupervisor(files, settings), "a person")
        assert done["bots"][1] == {"stopped": True, "error": None}
        word = h.status()["exit"]
        assert (word["code"], word["kind"], word["reason"]) == (0, "asked", "stopped by SIGTERM")
        held = h.position()
        assert (held["position"], held["pending_order"], held["protection"]) == ("LONG", None, "exchange")
        assert {o["role"] for o in held["orders"]} == {"stop", "target"}
        assert done["unwatched"] == []
    finally:
        h.end()
