"""What bots use of the machine: the rules alone, the measuring of real processes, and what the yard makes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import notify
from core.errors import InputError
from core.fleet import control, records
from core.fleet.resources import CPU_S, MEMORY_SAMPLES, RESTART_PAUSE_S, Judge, Usage, check_limits, limits_of
from core.fleet.sampling import Sampler
from core.fleet.yard import Yard, read_status
from fleet_help import Yardful, until, yardful
from patience import patience

LIMITS = limits_of({})
GOOD = {"name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500}


def used(memory: float | None = 10, cpu: float | None = 1, disk: float | None = 1, pid: int = 7) -> Usage:
    return Usage(pid, memory, cpu, disk, 0)


# --- the rules alone -----------------------------------------------------------------------------


def test_limits_are_numbers_above_0_and_what_is_not_given_is_the_default() -> None:
    assert check_limits({"memory_mb": 200, "cpu_pct": Decimal("12.5"), "disk_mb": None}) == {"memory_mb": 200, "cpu_pct": Decimal("12.5")}
    assert limits_of({"limits": {"memory_mb": 200}}) == {"memory_mb": 200, "cpu_pct": 90, "disk_mb": 500}
    assert limits_of({"limits": None}) == {"memory_mb": 500, "cpu_pct": 90, "disk_mb": 500}
    assert limits_of({"limits": {"memory_mb": "much", "daily_loss_pct": 3}}) == limits_of({})


@pytest.mark.parametrize("value", [0, -1, True, "500", float("nan"), float("inf"), Decimal("NaN"), 10**40, [1], Decimal("1e10")])
def test_a_limit_that_is_no_such_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match="memory_mb must be a number above 0"):
        check_limits({"memory_mb": value})
    with pytest.raises(InputError, match=r"limits: .*memory_mb must be a number above 0"):
        records.check({**GOOD, "limits": {"memory_mb": value}}, complete=True)


def test_an_unknown_limit_is_named() -> None:
    with pytest.raises(ValueError, match="'memory' is no limit"):
        check_limits({"memory": 5})


def test_memory_above_its_limit_for_three_samples_in_a_row_asks_for_a_new_start_and_no_more_often_than_every_ten_minutes() -> None:
    judge = Judge()
    assert [judge.bot(1, used(memory=m), LIMITS, t) for t, m in enumerate((600, 600, 499, 501, 501))] == [[]] * 5
    found = judge.bot(1, used(memory=612), LIMITS, 5)
    assert [v.kind for v in found] == ["memory"]
    assert found[0].text == "uses 612 MB of memory, more than its limit of 500 MB"
    assert judge.bot(1, used(memory=612), LIMITS, 6), "it is asked for until somebody did it"
    judge.restarted(1, 7)
    for t in range(8, 8 + MEMORY_SAMPLES + 2):
        assert judge.bot(1, used(memory=700, pid=8), LIMITS, t) == []
    assert judge.bot(1, used(memory=700, pid=8), LIMITS, 6.9 + RESTART_PAUSE_S) == []
    assert judge.bot(1, used(memory=700, pid=8), LIMITS, 7 + RESTART_PAUSE_S) != []


def test_a_new_process_begins_anew_and_memory_that_can_not_be_told_is_no_excess() -> None:
    judge = Judge()
    for pid in (1, 2, 3, 4):
        assert judge.bot(1, used(memory=600, pid=pid), LIMITS, pid) == []
    for t in range(5):
        assert judge.bot(1, used(memory=None), LIMITS, t) == []


def test_a_processor_kept_busy_for_five_minutes_is_told_once_until_it_was_quiet() -> None:
    judge = Judge()
    told = [t for t in range(0, 1000, 15) if judge.bot(1, used(cpu=99), LIMITS, t)]
    assert told == [CPU_S]
    judge.bot(1, used(cpu=10), LIMITS, 1000)
    told = [t for t in range(1015, 2000, 15) if judge.bot(1, used(cpu=99), LIMITS, t)]
    assert told == [1015 + CPU_S]
    judge.bot(1, used(cpu=None), LIMITS, 2000)
    assert not [t for t in range(0, 1000, 15) if judge.bot(2, used(cpu=99 if t % 300 else 1), LIMITS, t)]


def test_files_beyond_their_limit_are_told_once_until_they_were_within() -> None:
    judge = Judge()
    found = [bool(judge.bot(1, used(disk=mb), LIMITS, t)) for t, mb in enumerate((499, 501, 502, 400, 600, 600))]
    assert found == [False, True, False, False, True, False]


def test_free_disk_is_told_at_500_and_at_100_mb_once_each_and_again_only_after_it_had_recovered() -> None:
    judge = Judge()
    told = [judge.free(mb) for mb in (900, 499, 505, 480, 99, 105, 98, 130, 90, 400, 700, 450)]
    assert told == [None, ("warning", 500), None, None, ("risk", 100), None, None, None, ("risk", 100), None, None, ("warning", 500)]
    assert Judge().free(50) == ("risk", 100)


# --- the measuring ---------------------------------------------------------------------------------

EATER = "import sys, time\nx = b'x' * 80_000_000\nprint('fed', flush=True)\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass\n"


def test_memory_and_processor_of_a_process_that_really_eats_both(tmp_path: Path) -> None:
    eater = subprocess.Popen([sys.executable, "-c", EATER], stdout=subprocess.PIPE)
    try:
        assert eater.stdout is not None
        assert eater.stdout.readline() == b"fed\n"
        sampler = Sampler(tmp_path)
        first = sampler.process(eater.pid)
        assert first is not None
        assert first[0] is not None
        assert 80 < first[0] < 120
        assert first[1] is None, "there is no interval behind the first sample"
        until(lambda: _cpu_s(eater.pid) >= 0.3)
        second = sampler.process(eater.pid)
        assert second is not None
        assert second[1] is not None
        assert second[1] > 5
    finally:
        eater.kill()
        eater.wait()
        assert eater.stdout is not None
        eater.stdout.close()
    assert sampler.process(eater.pid) is None


def _cpu_s(pid: int) -> float:
    return float(psutil.Process(pid).cpu_times().user)


def test_a_bots_disk_is_its_own_files_and_its_commands_and_no_other_bots(tmp_path: Path) -> None:
    (tmp_path / "bot_1.log").write_bytes(b"x" * 1_000_000)
    (tmp_path / "bot_1_fills.jsonl").write_bytes(b"x" * 500_000)
    (tmp_path / "bot_10.log").write_bytes(b"x" * 2_000_000)
    (tmp_path / "bot_x.log").write_bytes(b"x" * 9_000_000)
    (tmp_path / "data/commands/bot_1").mkdir(parents=True)
    (tmp_path / "data/commands/bot_1/1.json").write_bytes(b"x" * 250_000)
    assert Sampler(tmp_path).disk_mb() == {1: 1.75, 10: 2.0}
    assert Sampler(tmp_path / "nowhere").disk_mb() == {}


def test_the_machine_and_its_own_pages_are_told(tmp_path: Path) -> None:
    told = Sampler(tmp_path).machine()
    assert told.keys() == {"disk_free_mb", "memory_available_mb", "load"}
    assert all(v is not None and v >= 0 for v in told.values())
    assert Sampler(tmp_path).dashboard() is None, "no page of this home runs"
    page = tmp_path / "simple_dash.py"
    page.write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n")
    env = {**os.environ, "BOTYARD_HOME": str(tmp_path)}
    child = subprocess.Popen([sys.executable, str(page)], env=env, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert Sampler(tmp_path).dashboard() == child.pid
        assert Sampler(tmp_path / "other").dashboard() is None
    finally:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


# --- the yard --------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def y(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield made


@pytest.fixture
def yard(y: Yardful) -> Yard:
    paper = [sys.executable, "-c", "raise SystemExit(1)"]
    return Yard(y.files, y.settings, y.supervisor, paper_argv=paper, settings_now=lambda: y.settings, monotonic=Clock())


def look(yard: Yard, times: int = 1) -> None:
    for _ in range(times):
        yard.step()
        assert yard.settle(20)


def sample(yard: Yard, times: int = 1) -> None:
    for _ in range(times):
        yard.sampling.turn()
        assert yard.settle(20)


def told(of: Yardful, *kinds: str) -> list[Mapping[str, Any]]:
    return [e for e in notify.recent(of.files) if e["kind"] in kinds]


@pytest.fixture
def heavy(y: Yardful, yard: Yard) -> Callable[..., int]:
    """A running stand-in that really uses 60 MB more than its limit of 50 allows; its pid."""

    def make(**fields: Any) -> int:
        y.bots("Heavy", "Light", status="running", limits={"memory_mb": 50}, **fields)
        y.how(1, eat_mb=60)
        look(yard, 2)
        y.beating(2)
        return y.beating(1)

    return make


def test_a_bot_above_its_limit_of_memory_is_ended_gracefully_and_started_anew_and_that_is_told_once(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    pid, light = heavy(), y.supervisor.pid(2)
    sample(yard, MEMORY_SAMPLES - 1)
    assert y.supervisor.pid(1) == pid
    y.how(1)
    sample(yard)
    assert y.beating(1) != pid
    assert y.supervisor.pid(2) == light
    assert [(e["severity"], e["bot_id"]) for e in told(y, "bot_memory")] == [("warning", 1)]
    assert "more than its limit of 50 MB: it is ended and started anew" in told(y, "bot_memory")[0]["text"]
    look(yard, 2)
    assert told(y, "bot_crashed", "bot_by_hand", "bot_refused") == []
    assert y.registry.bot(1)["status"] == "running"


def test_it_is_not_started_anew_again_within_ten_minutes(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    heavy()
    sample(yard, MEMORY_SAMPLES)
    second = y.beating(1)
    look(yard)
    sample(yard, MEMORY_SAMPLES + 2)
    assert y.supervisor.pid(1) == second
    yard.monotonic.now += RESTART_PAUSE_S  # type: ignore[attr-defined]
    sample(yard)
    assert y.beating(1) != second
    assert len(told(y, "bot_memory")) == 2


def test_a_bot_that_does_not_know_what_became_of_an_order_is_left_alone_until_it_does(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    pid = heavy()
    y.position(1, None, pending_order={"client_id": "x"})
    sample(yard, MEMORY_SAMPLES + 2)
    assert y.supervisor.pid(1) == pid
    assert told(y, "bot_memory") == []
    y.position(1, "LONG")
    sample(yard)
    assert y.beating(1) != pid


def test_in_maintenance_and_once_it_is_not_wanted_nobody_ends_it_for_its_memory(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    pid = heavy()
    y.registry.set_wanted(1, "stopped")
    sample(yard, MEMORY_SAMPLES + 1)
    assert y.supervisor.pid(1) == pid
    y.registry.set_wanted(1, "running")
    y.files.path("data/maintenance.json").write_text("broken")  # counts as on, and stops nobody by itself
    sample(yard, MEMORY_SAMPLES + 1)
    assert y.supervisor.pid(1) == pid


def test_a_bot_whose_new_start_fails_is_started_by_the_next_look(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    heavy()
    y.how(1, before_lock=1)
    sample(yard, MEMORY_SAMPLES)
    assert y.supervisor.pid(1) is None
    y.how(1)
    look(yard)
    y.beating(1)


def test_files_beyond_their_limit_and_a_disk_that_runs_full_are_told_once_with_the_remedy(
    y: Yardful, yard: Yard, heavy: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    y.files.path("bot_2_decisions.jsonl").write_bytes(b"x" * 3_000_000)
    heavy()
    y.registry.update(2, {"limits": {"disk_mb": 2, "memory_mb": 500}}, "a person")
    look(yard)
    monkeypatch.setattr(yard.sampling.sampler, "machine", lambda: {"disk_free_mb": 80.0, "memory_available_mb": 1.0, "load": 0.5})
    sample(yard, 2)
    assert [(e["severity"], e["bot_id"]) for e in told(y, "bot_disk")] == [("warning", 2)]
    free = told(y, "disk_free")
    assert [e["severity"] for e in free] == ["risk"]
    assert "has 80 MB left, less than 100 MB. Free some" in free[0]["text"]


def test_what_each_uses_is_shown_beside_the_yards_notes(y: Yardful, yard: Yard, heavy: Callable[..., int]) -> None:
    heavy()
    sample(yard, 2)
    yard.write_status("running")
    status = read_status(y.files)
    assert status is not None
    shown = status["bots"]["1"]["resources"]
    assert shown.keys() == {"memory_mb", "cpu_pct", "disk_mb", "at_wall_ms"}
    assert 60 < shown["memory_mb"] < 120
    assert shown["cpu_pct"] is not None
    assert status["machine"]["disk_free_mb"] > 0
    assert status["units"]["yard"]["pid"] == os.getpid()
    assert status["units"]["yard"]["memory_mb"] > 1
    control.stop_bot(y.files, y.settings, 1, "a person", y.supervisor)
    sample(yard)
    yard.write_status("running")
    assert (read_status(y.files) or {})["bots"]["1"]["resources"] is None


def test_the_thread_measures_and_the_loop_never_waits_for_it(y: Yardful, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> dict[int, float]:
        begun.set()
        go.wait(patience(20))
        return {}

    monkeypatch.setattr(yard.sampling.sampler, "disk_mb", slow)
    yard.sampling.step()
    assert begun.wait(patience(20))
    look(yard, 2)
    assert yard.sampling.machine() == {}
    go.set()
    until(yard.sampling.machine)
    yard.sampling.close()
