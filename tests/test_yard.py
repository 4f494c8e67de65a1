"""The yard: what it brings back, what it leaves, and what it survives. Bots are real processes."""

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

from core import notify
from core.config import ROOT
from core.errors import AlreadyRunning, Conflict, InputError, StateError
from core.fleet import control, locks, maintenance
from core.fleet.policy import BY_HAND_AFTER_S, MOST_STARTS, Watch, pause_s
from core.fleet.processes import Handle, exists
from core.fleet.screen import ScreenSupervisor
from core.fleet.supervisor import StartFailed
from core.fleet.yard import Yard, read_status
from fleet_help import Yardful, until, yardful
from patience import patience

HOLD = "import os, signal; from core.storage import Files; l = Files(os.environ['BOTYARD_HOME']).lock('{}'); l.acquire(); signal.pause()"
PAPER = [sys.executable, "-c", HOLD.format("data/paper/paper.lock")]
RUNNER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from fleet_help import Yardful
from core.fleet import policy
from core.fleet.__main__ import run
policy.BY_HAND_AFTER_S = 2.0
y = Yardful(Path({home!r}), {form!r}, prefix={prefix!r})
sys.exit(run(y.files, y.settings, y.supervisor, paper_argv={paper!r}))
"""


class Clock:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- when a bot is started again: the rules alone ---------------------------------------------


def test_pauses_grow_from_1_to_30_seconds_and_there_is_none_while_business_is_open() -> None:
    assert [pause_s(n) for n in range(9)] == [1, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pause_s(7, business_open=True) == 0


def test_ten_starts_in_a_row_without_a_completed_check_end_the_trying_and_a_check_resets_the_count() -> None:
    watch = Watch()
    for n in range(1, MOST_STARTS):
        watch.seen(n, 0)
        assert watch.ended(None, False, 0.0) == "crashed"
    watch.seen(50, 0)
    watch.completed()
    assert watch.ended(None, False, 0.0) == "crashed"
    assert watch.due == 1
    for n in range(1, MOST_STARTS):
        watch.seen(n, 0)
        assert watch.ended(None, True, 0.0) == "crashed"
    watch.seen(99, 0)
    assert watch.ended(None, True, 0.0) == "given_up"
    watch.seen(100, 0)  # a person began anew
    assert watch.starts == 1


@pytest.mark.parametrize(("code", "what"), [(0, "ended"), (2, "ended"), (4, "ended"), (5, "ended"), (1, "crashed"), (139, "crashed")])
def test_a_last_word_with_code_0_2_4_or_5_is_final_and_any_other_is_a_crash(code: int, what: str) -> None:
    watch = Watch()
    watch.seen(1, 0)
    assert watch.ended({"code": code, "kind": "error", "reason": "why"}, False, 0.0) == what
    assert (watch.due is None) == (what == "ended")


@pytest.mark.parametrize(("code", "what"), [(0, "ended"), (2, "given_up"), (4, "ended"), (5, "given_up")])
def test_a_position_whose_bot_can_not_run_is_guarded_where_a_guard_can_read_it(code: int, what: str) -> None:
    watch = Watch()
    watch.seen(1, 0)
    assert watch.ended({"code": code, "kind": "error", "reason": "why"}, True, 0.0) == what
    assert (watch.due is None) == (what == "ended")


# --- the yard, step by step ---------------------------------------------------------------------


@pytest.fixture(params=["process", "screen"])
def home_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home", request.param) as made:
        yield made


@pytest.fixture
def y(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Callable[[Yardful], Yard]:
    def make(of: Yardful) -> Yard:
        return Yard(of.files, of.settings, of.supervisor, paper_argv=PAPER, settings_now=lambda: of.settings, monotonic=clock)

    return make


def look(yard: Yard, times: int = 1) -> None:
    """Look around, and wait for the starts that this begins."""
    for _ in range(times):
        yard.step()
        assert yard.settle(20)


def kill(of: Yardful, bot_id: int) -> int:
    """kill -9, as a crash in C would; returns when the process is gone."""
    pid = of.supervisor.pid(bot_id)
    assert pid is not None
    with Handle(pid) as process:
        process.signal(signal.SIGKILL)
        assert process.wait(patience(5))
    return pid


def kinds(of: Yardful) -> list[str]:
    return [e["kind"] for e in notify.recent(of.files)]


def note(yard: Yard, bot_id: int = 1) -> dict[str, Any]:
    yard.write_status("running")
    found = read_status(yard.files)
    assert found is not None
    return dict(found["bots"][str(bot_id)])


def test_wanted_bots_are_started_and_running_ones_adopted_as_they_are(home_of: Yardful, make: Callable[[Yardful], Yard]) -> None:
    runs, *_ = home_of.bots("Runs", "Gone", "Unwanted", status="running")
    home_of.registry.set_wanted(3, "stopped")
    pid = home_of.supervisor.start(runs)
    yard = make(home_of)
    look(yard)
    assert home_of.supervisor.running().keys() == {1, 2}
    assert home_of.supervisor.pid(1) == pid
    assert read_status(home_of.files)["adopted"] is True  # type: ignore[index]
    look(yard, 3)
    assert [len(home_of.runs(n)) for n in (1, 2, 3)] == [1, 1, 0]
    assert kinds(home_of) == []


def test_a_killed_bot_is_brought_back_after_a_pause_and_it_is_told(home_of: Yardful, make: Callable[[Yardful], Yard], clock: Clock) -> None:
    home_of.bots("BTC Bot", status="running")
    yard = make(home_of)
    look(yard)
    home_of.beating(1)
    look(yard)  # sees its completed check
    old = kill(home_of, 1)
    look(yard)
    assert home_of.supervisor.pid(1) is None
    assert note(yard)["state"] == "waiting"
    clock.now += 0.9
    look(yard)
    assert home_of.supervisor.pid(1) is None
    clock.now += 0.2
    look(yard)
    assert home_of.supervisor.pid(1) not in (None, old)
    assert kinds(home_of) == ["bot_crashed"]
    home_of.beating(1)
    look(yard, 2)
    assert kinds(home_of) == ["bot_crashed", "bot_back"]


def test_while_a_position_is_open_a_killed_bot_is_brought_back_at_once(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("BTC Bot", status="running")
    y.how(1, checks=0)
    y.position(1)
    yard = make(y)
    look(yard)
    for n in range(3):
        kill(y, 1)
        look(yard)
        assert len(y.runs(1)) == n + 2
    assert notify.recent(y.files)[0]["severity"] == "risk"


def test_bots_with_open_positions_are_started_first(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots(*"ABCDE", status="running")
    y.position(5)
    y.position(4, position=None, orders=[{"status": "NEW"}])
    order: list[int] = []
    start = y.supervisor.start

    def remember(record: Any, *, guard: bool = False) -> int:
        order.append(record["id"])
        return start(record, guard=guard)

    y.supervisor.start = remember  # type: ignore[method-assign]
    look(make(y))
    assert set(order[:2]) == {4, 5}
    assert y.supervisor.running().keys() == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("code", [2, 4, 5])
def test_a_bot_with_a_final_last_word_is_not_started_again_until_a_person_does(y: Yardful, make: Callable[[Yardful], Yard], clock: Clock, code: int) -> None:
    y.bots("BTC Bot", status="running")
    y.how(1, after_lock=code)
    yard = make(y)
    look(yard)
    until(lambda: y.supervisor.pid(1) is None)
    for _ in range(5):
        clock.now += 60
        look(yard)
    assert len(y.runs(1)) == 1
    assert note(yard)["why"] == f"exit code {code}: the stand-in was told so"
    assert kinds(y) == ["bot_refused"]
    y.how(1)
    pid = control.start_bot(y.files, y.settings, 1, "a test", y.supervisor, yard=False)
    look(yard)
    assert (y.supervisor.pid(1), note(yard)["state"]) == (pid, "up")


def test_a_bot_that_never_completes_a_check_is_given_up_and_guarded_only_while_a_position_is_open(
    y: Yardful, make: Callable[[Yardful], Yard], clock: Clock
) -> None:
    y.bots("BTC Bot", status="running")
    y.how(1, crash=True)
    yard = make(y)
    for _ in range(MOST_STARTS * 3):
        look(yard)
        until(lambda: y.supervisor.pid(1) is None)
        clock.now += 31
    assert [r["guard"] for r in y.runs(1)] == [False] * MOST_STARTS
    assert note(yard)["state"] == "given_up"
    assert kinds(y) == ["bot_crashed", "bot_given_up"]
    y.position(1)
    y.how(1)
    look(yard)
    assert y.runs(1)[-1]["guard"] is True
    y.beating(1)
    look(yard, 3)
    assert len(y.runs(1)) == MOST_STARTS + 1
    assert note(yard)["state"] == "given_up"
    kill(y, 1)
    clock.now += 31
    look(yard)
    assert [r["guard"] for r in y.runs(1)[-2:]] == [True, True]
    pid = control.start_bot(y.files, y.settings, 1, "a test", y.supervisor, yard=False)  # the guard gives way
    look(yard)
    assert (y.supervisor.pid(1), y.runs(1)[-1]["guard"], note(yard)["state"]) == (pid, False, "up")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_bot_ended_by_hand_counts_as_stopped_ten_seconds_later(y: Yardful, make: Callable[[Yardful], Yard], clock: Clock, how: signal.Signals) -> None:
    y.bots("BTC Bot", status="running")
    yard = make(y)
    look(yard)
    pid = y.beating(1)
    with Handle(pid) as process:
        process.signal(how)
        assert process.wait(patience(5))
    look(yard)
    clock.now += BY_HAND_AFTER_S - 0.1
    look(yard)
    assert y.registry.bot(1)["status"] == "running"
    assert note(yard)["state"] == "by_hand"
    clock.now += 0.2
    look(yard, 2)
    assert y.registry.bot(1)["status"] == "stopped"
    assert len(y.runs(1)) == 1
    assert kinds(y) == ["bot_by_hand"]


def test_what_ended_by_hand_together_with_the_yard_stays_wanted_and_is_resumed(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("BTC Bot", status="running")
    look(make(y))
    pid = y.beating(1)
    with Handle(pid) as process:
        process.signal(signal.SIGTERM)  # a reboot ends bots and yard; nobody looks any more
        assert process.wait(patience(5))
    assert y.status(1)["exit"]["kind"] == "by_hand"
    look(make(y))
    assert y.supervisor.pid(1) not in (None, pid)
    assert y.registry.bot(1)["status"] == "running"


def test_a_stop_is_no_crash_even_when_the_bot_had_to_be_killed(y: Yardful, make: Callable[[Yardful], Yard], clock: Clock) -> None:
    y.bots("BTC Bot", status="running")
    y.how(1, deaf=True)
    yard = make(y)
    look(yard)
    y.beating(1)
    look(yard)
    told = control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor, timeout_s=0.5)
    assert told == {"stopped": True, "warning": None}
    clock.now += 60
    look(yard, 2)
    assert (len(y.runs(1)), kinds(y)) == (1, [])


def test_while_somebody_else_acts_on_a_bot_the_yard_leaves_it_alone(y: Yardful, make: Callable[[Yardful], Yard], clock: Clock) -> None:
    y.bots("BTC Bot", status="running")
    yard = make(y)
    look(yard)
    y.beating(1)
    look(yard)
    with locks.action(y.files, "bot_1"):
        kill(y, 1)
        clock.now += 60
        look(yard, 3)
        assert (len(y.runs(1)), kinds(y)) == (1, [])
    look(yard)
    clock.now += 60
    look(yard)
    assert len(y.runs(1)) == 2


def test_a_list_that_can_not_be_trusted_is_told_and_what_runs_goes_on(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("BTC Bot", status="running")
    yard = make(y)
    look(yard)
    pid = y.beating(1)
    path = y.files.path("active_bots.json")
    good = path.read_text()
    path.write_text(good[:40])
    look(yard, 3)
    yard.write_status("running")
    assert "active_bots.json" in read_status(y.files)["error"]  # type: ignore[index]
    assert y.supervisor.pid(1) == pid
    assert kinds(y) == ["registry_broken"]
    assert path.read_text() == good[:40]
    path.write_text(good)
    look(yard)
    yard.write_status("running")
    assert read_status(y.files)["error"] is None  # type: ignore[index]


def test_a_bot_that_may_not_run_is_noted_and_keeps_no_other_from_running(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("Testnet", status="running", mode="testnet")
    y.bots("Live", status="running", mode="live", first=2)  # by hand: nobody agreed to it
    y.bots("Paper", status="running", first=3)
    yard = make(y)
    look(yard, 3)
    assert y.supervisor.running().keys() == {3}
    assert "TRADING_MODE" in note(yard, 1)["why"]
    assert "TRADING_MODE" in note(yard, 2)["why"]
    assert kinds(y) == ["bot_refused", "bot_refused"]


def test_a_bot_without_a_sign_of_life_is_told_and_can_be_ended_by_hand_too(y: Yardful) -> None:
    (bot,) = y.bots("BTC Bot", status="running")
    y.supervisor.start(bot)
    pid = y.beating(1)
    with pytest.raises(Conflict, match="not stuck"):
        control.end_stuck(y.files, y.settings, 1, "a test", y.supervisor)
    os.kill(pid, signal.SIGSTOP)
    status = y.status(1)
    status["heartbeat_wall_ms"] -= 60_000
    y.files.write_json("bot_1_status.json", status, keep_previous=False)
    new = control.end_stuck(y.files, y.settings, 1, "a test", y.supervisor, timeout_s=1)
    assert new != pid
    assert not exists(pid)


def test_the_paper_exchange_runs_for_paper_bots_and_is_brought_back_with_growing_pauses(y: Yardful, make: Callable[[Yardful], Yard], clock: Clock) -> None:
    y.bots("BTC Bot")
    yard = make(y)
    look(yard)
    assert y.supervisor.unit_pid("paper") is None
    y.registry.set_wanted(1, "running")
    look(yard)
    for pause in (1, 2, 4):
        pid = y.supervisor.unit_pid("paper")
        assert pid is not None
        look(yard)
        with Handle(pid) as process:
            process.signal(signal.SIGKILL)
            assert process.wait(patience(5))
        look(yard)
        clock.now += pause - 0.1
        look(yard)
        assert y.supervisor.unit_pid("paper") is None
        clock.now += 0.2
        look(yard)
    pid = y.supervisor.unit_pid("paper")
    y.registry.set_wanted(1, "stopped")
    look(yard)
    assert y.supervisor.unit_pid("paper") == pid  # it stays, until everything is stopped
    assert kinds(y).count("paper_crashed") == 3


def test_the_paper_exchange_runs_where_somebody_asked_for_it(y: Yardful, make: Callable[[Yardful], Yard]) -> None:
    y.bots("BTC Bot")
    control.want_paper(y.files)
    look(make(y))
    assert y.supervisor.unit_pid("paper") is not None


# --- what people do -----------------------------------------------------------------------------


def run_yard(of: Yardful, form: str = "process") -> subprocess.Popen[bytes]:
    """A yard process as `python3 -m core.fleet` runs it, over stand-in bots."""
    code = RUNNER.format(root=str(ROOT), tests=str(ROOT / "tests"), home=str(of.files.home), form=form, prefix=of.prefix, paper=PAPER)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    until(lambda: of.supervisor.unit_pid("yard") == process.pid or process.poll() is not None)
    return process


@pytest.fixture
def with_yard(y: Yardful) -> Iterator[Yardful]:
    """A home whose yard's lock is held, so that nobody starts a yard; it looks at nothing."""
    y.supervisor.start_unit("yard", [sys.executable, "-c", HOLD.format("data/yard.lock")])
    yield y


def test_a_start_a_restart_and_a_stop_leave_what_is_wanted_and_who_did_it(with_yard: Yardful) -> None:
    y = with_yard
    y.bots("BTC Bot")
    first = control.start_bot(y.files, y.settings, 1, "alice", y.supervisor)
    assert y.registry.bot(1)["status"] == "running"
    with pytest.raises(AlreadyRunning):
        control.start_bot(y.files, y.settings, 1, "bob", y.supervisor)
    second = control.restart_bot(y.files, y.settings, 1, "alice", y.supervisor)
    assert (second != first, exists(first), y.registry.bot(1)["status"]) == (True, False, "running")
    y.beating(1)
    y.position(1)
    told = control.stop_bot(y.files, y.settings, 1, "alice", y.supervisor)
    assert "unwatched" in told["warning"]
    assert (exists(second), y.registry.bot(1)["status"], y.status(1)["exit"]["kind"]) == (False, "stopped", "asked")
    acts = [(line["by"], line["what"], line["detail"].get("outcome", "")[:14]) for line in y.files.read_lines("data/audit.jsonl") if line["by"] != "registry"]
    assert acts == [("alice", "start", "done"), ("bob", "start", "AlreadyRunning"), ("alice", "restart", "done"), ("alice", "stop", "done")]


def test_start_all_starts_every_bot_those_with_a_position_first_and_goes_on_past_one_that_may_not(with_yard: Yardful) -> None:
    y = with_yard
    y.bots("First", "Second", "Third", "Fourth")
    y.position(3)
    y.registry.update(2, {"mode": "testnet"})
    fourth = control.start_bot(y.files, y.settings, 4, "alice", y.supervisor)
    said: list[str] = []
    done = control.start_all(y.files, y.settings, "alice", y.supervisor, progress=said.append)["bots"]
    assert list(done) == [3, 1, 2, 4], "those with something open come first"
    assert [(i, b["started"], b["error"] is None) for i, b in done.items()] == [(3, True, True), (1, True, True), (2, False, False), (4, False, True)]
    assert "testnet" in done[2]["error"] and done[4]["pid"] == fourth and len(said) == 4
    assert {b["id"]: b["status"] for b in y.registry.bots()} == {1: "running", 2: "stopped", 3: "running", 4: "running"}
    maintenance.enter(y.files, y.supervisor, "alice", "disk", lambda text: None)
    with pytest.raises(Conflict, match="maintenance mode is on"):
        control.start_all(y.files, y.settings, "alice", y.supervisor)


def test_a_start_that_fails_says_why_and_a_mode_that_is_not_allowed_is_not_even_wanted(with_yard: Yardful) -> None:
    y = with_yard
    y.bots("BTC Bot")
    y.bots("Testnet", mode="testnet", first=2)
    y.how(1, before_lock=5)
    with pytest.raises(StartFailed, match="exit code 5"):
        control.start_bot(y.files, y.settings, 1, "a test", y.supervisor)
    with pytest.raises(InputError, match="TRADING_MODE"):
        control.start_bot(y.files, y.settings, 2, "a test", y.supervisor)
    assert y.registry.bot(2)["status"] == "stopped"


def test_closing_tells_a_running_bot_and_starts_a_stopped_one_as_a_guard(with_yard: Yardful) -> None:
    y = with_yard
    y.bots("Runs", "Stopped", "Flat")
    control.start_bot(y.files, y.settings, 1, "a test", y.supervisor)
    y.position(1)
    y.position(2)
    for n in (1, 2):
        control.close_position(y.files, y.settings, n, "a test", y.supervisor)
        found = until(lambda n=n: list(y.files.read_lines(f"commands_{n}.jsonl")))
        assert [c["command"] for c in found] == ["close"]
    assert [y.runs(n)[0]["guard"] for n in (1, 2)] == [False, True]
    assert y.registry.bot(2)["status"] == "stopped"
    with pytest.raises(Conflict, match="nothing to close"):
        control.close_position(y.files, y.settings, 3, "a test", y.supervisor)


def test_stop_all_stops_bots_without_a_record_too_and_on_demand_yard_and_paper(with_yard: Yardful) -> None:
    y = with_yard
    bots = y.bots("A", "B", "C")
    for record in [*bots, {**bots[0], "id": 12}]:
        y.supervisor.start(record)
    y.registry.set_wanted(1, "running")
    y.supervisor.start_unit("paper", PAPER)
    control.want_paper(y.files)
    done = control.stop_all(y.files, y.settings, "a test", y.supervisor)
    assert {n: b["stopped"] for n, b in done["bots"].items()} == {1: True, 2: True, 3: True, 12: True}
    assert y.supervisor.running() == {}
    assert (y.supervisor.unit_pid("yard") is None, y.supervisor.unit_pid("paper") is None) == (False, False)
    done = control.stop_all(y.files, y.settings, "a test", y.supervisor, everything=True)
    assert (done["yard"], done["paper"]) == (True, True)
    assert (y.supervisor.unit_pid("yard"), y.supervisor.unit_pid("paper")) == (None, None)
    assert not y.files.exists("data/paper_wanted")


def test_stop_all_with_everything_ends_the_yard_first_so_that_it_starts_no_guard_for_what_was_just_stopped(with_yard: Yardful) -> None:
    y = with_yard
    (bot,) = y.bots("A")
    y.supervisor.start(bot)
    said: list[str] = []
    control.stop_all(y.files, y.settings, "a test", y.supervisor, everything=True, progress=said.append)
    assert said[0] == "yard is stopped"
    assert "bot 1 is stopped" in said[1]


def test_stop_all_waits_for_a_start_that_is_just_under_way(with_yard: Yardful) -> None:
    y = with_yard
    (bot,) = y.bots("A", status="running")
    holds = threading.Event()

    def start_slowly() -> None:
        with locks.action(y.files, "bot_1"):
            holds.set()
            until(lambda: y.registry.bot(1)["status"] == "stopped")
            y.supervisor.start(bot)

    starter = threading.Thread(target=start_slowly)
    starter.start()
    assert holds.wait(patience(5))
    control.stop_all(y.files, y.settings, "a test", y.supervisor)
    starter.join(patience(5))
    assert (len(y.runs(1)), y.supervisor.running()) == (1, {})


def test_a_disk_that_takes_nothing_keeps_no_bot_from_being_stopped(with_yard: Yardful, monkeypatch: pytest.MonkeyPatch) -> None:
    y = with_yard
    (bot,) = y.bots("A", status="running")
    pid = y.supervisor.start(bot)
    y.beating(1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(y.files, "write_json", full)
    monkeypatch.setattr(y.files, "append_line", full)
    told = control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    assert "No space left" in told["warning"]
    assert not exists(pid)


def test_stop_all_stops_what_runs_even_when_the_list_can_not_be_trusted(with_yard: Yardful) -> None:
    y = with_yard
    (bot,) = y.bots("A")
    y.supervisor.start(bot)
    y.files.path("active_bots.json").write_text("[{")
    done = control.stop_all(y.files, y.settings, "a test", y.supervisor)
    assert "active_bots.json" in done["error"]
    assert y.supervisor.running() == {}


def test_one_bot_can_be_stopped_even_when_the_list_can_not_be_trusted(with_yard: Yardful) -> None:
    y = with_yard
    (bot,) = y.bots("A", status="running")
    pid = y.supervisor.start(bot)
    y.files.path("active_bots.json").write_text("[{")
    told = control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    assert "could not be written" in told["warning"] and "active_bots.json" in told["warning"]
    assert not exists(pid)
    with pytest.raises(StateError):  # nothing to stop any more: the broken list is what there is to tell
        control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    assert y.files.path("active_bots.json").read_text() == "[{"


# --- the yard as a process ------------------------------------------------------------------------


def test_a_yard_process_brings_back_what_was_killed_leaves_what_was_quit_and_its_successor_adopts(tmp_path: Path) -> None:
    with yardful(tmp_path / "home", "screen") as y:
        y.bots("Killed", "Quit", status="running")
        yard = run_yard(y, "screen")
        killed, quitted = y.beating(1), y.beating(2)
        until(lambda: (read_status(y.files) or {}).get("adopted"))
        kill(y, 1)
        keeper = y.supervisor
        assert isinstance(keeper, ScreenSupervisor)
        (session,) = [s for s in keeper.sessions() if s.name == keeper.name("bot_2")]
        keeper.quit(session)
        back = int(until(lambda: keeper.pid(1)))
        assert back != killed
        until(lambda: y.registry.bot(2)["status"] == "stopped")  # after two seconds here
        assert keeper.pid(2) is None
        assert not exists(quitted)
        second = run_yard(y, "screen")
        assert second.wait(patience(10)) == 3
        assert b"runs already" in second.stderr.read()  # type: ignore[union-attr]
        yard.send_signal(signal.SIGTERM)
        assert yard.wait(patience(10)) == 0
        assert (keeper.pid(1), keeper.unit_pid("paper") is not None) == (back, True)
        assert read_status(y.files)["state"] == "ended"  # type: ignore[index]
        third = run_yard(y, "screen")
        until(lambda: (s := read_status(y.files)) and s["pid"] == third.pid and s["adopted"])
        assert keeper.pid(1) == back
        assert len(y.runs(1)) == 2
        third.send_signal(signal.SIGHUP)
        assert third.wait(patience(10)) == 0
        for process in (yard, second, third):
            process.stderr.close()  # type: ignore[union-attr]


def command(y: Yardful, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BOTYARD_HOME": str(y.files.home), "SESSION_PREFIX": y.prefix}
    return subprocess.run([sys.executable, str(ROOT / "utils" / "yard.py"), *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_lists_shows_logs_and_answers_with_stable_exit_codes(with_yard: Yardful) -> None:
    y = with_yard
    y.bots("BTC Bot 🤖", "Second")
    y.supervisor.start(y.registry.bot(1))
    y.beating(1)
    shown = command(y, "list")
    assert (shown.returncode, "BTC Bot 🤖" in shown.stdout, "running" in shown.stdout) == (0, True, True)
    listed = json.loads(command(y, "list", "--json").stdout)
    assert [(b["id"], b["status"], b["pid"]) for b in listed["bots"]] == [(1, "running", y.supervisor.pid(1)), (2, "stopped", None)]
    assert command(y, "logs", "1", "-n", "5").stdout.endswith("🤖 STARTING BOT: BTC Bot 🤖\n")
    again = command(y, "start", "1", "--json")
    assert (again.returncode, json.loads(again.stdout)["success"]) == (3, False)
    for arguments, code in ((("stop", "9"), 2), (("close", "2"), 3), (("stop",), 2), (("start", "x"), 2), (("dance",), 2)):
        done = command(y, *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    stopped = command(y, "stop", "--all")
    assert (stopped.returncode, "bot 1 is stopped" in stopped.stdout) == (0, True)
    assert (y.supervisor.running(), y.supervisor.unit_pid("yard")) == ({}, None)


def test_the_yard_is_started_in_a_session_of_its_own_where_its_lock_is_free(tmp_path: Path) -> None:
    with yardful(tmp_path / "home", "screen") as y:
        y.files.write_json("active_bots.json", [])
        pid = control.ensure_yard(y.files, y.settings, y.supervisor)
        assert control.ensure_yard(y.files, y.settings, y.supervisor) == pid
        assert y.sessions() == [f"{y.prefix}yard"]
        until(lambda: (read_status(y.files) or {}).get("adopted"))
        assert control.stop_all(y.files, y.settings, "a test", y.supervisor, everything=True)["yard"] is True
        assert (exists(pid), y.sessions()) == (False, [])
