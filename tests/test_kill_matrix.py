"""A seeded sample of the kill matrix (tests/kills): forks of a warm process, ended by SIGKILL or by a power cut.

The whole matrix: `PYTHONPATH=.:tests python -m kills`. Real screen sessions: `python -m kills.screens`.
With KILLS=whole in the environment both run from here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.clock import RealClock
from core.exchange import Exchange
from core.storage import Files
from kills import screens
from kills.disk import Disk
from kills.seams import Points, seam, watched

ROOT = Path(__file__).resolve().parents[1]
WHOLE = os.environ.get("KILLS") == "whole"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl's subreaper and /proc")


def matrix(*arguments: str) -> dict[str, Any]:
    """The matrix in a process of its own: it adopts and reaps whatever it forks."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-m", "kills", "--json", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=3600)
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert not told["wrong"], json.dumps(told["wrong"][:3], indent=1)
    figures: dict[str, Any] = told["figures"]
    print(figures)
    return figures


@pytest.mark.timeout(3600 if WHOLE else 280)
def test_a_sigkill_at_any_point_with_any_outcome_leaves_books_position_stop_and_profit_right() -> None:
    figures = matrix(*(("--each", "1") if WHOLE else ("--each", "3", "--of", "20")), "--seed", "3")
    assert figures["runs"] >= 20
    assert figures["killed"] >= figures["passes"] - figures["runs"] >= 50, "each pass but the last of a run is a death by SIGKILL"


@pytest.mark.timeout(3600 if WHOLE else 280)
@pytest.mark.parametrize("cut", ["lost", "torn", "mixed"])
def test_a_power_cut_at_any_call_to_the_disk_leaves_them_right_too(cut: str) -> None:
    which = ("--of", "1") if WHOLE else ("--of", "60", "--scenario", "entry", "--scenario", "cycle in parts")
    assert matrix("--cut", cut, *which)["passes"] >= 35


@pytest.mark.timeout(3600 if WHOLE else 280)
def test_a_second_death_in_the_life_that_mends_changes_nothing() -> None:
    assert matrix("--second", "40", *(("--each", "1") if WHOLE else ("--each", "6", "--of", "20")), "--seed", "5")["killed"] >= 40


@pytest.mark.skipif(not WHOLE, reason="30 real screen sessions take minutes: KILLS=whole")
@pytest.mark.timeout(900)
def test_thirty_real_screen_sessions_killed_around_an_order_come_back_right(tmp_path: Path) -> None:
    kills, wrong, _ = screens.run(tmp_path / "home", rounds=10, seed=1)
    assert (kills, wrong) == (30, [])


def test_a_method_that_is_new_on_a_seam_is_a_kill_point_by_itself(tmp_path: Path) -> None:
    class Files2(Files):
        def write_rows(self, name: str) -> str:
            return name

    places: list[str] = []
    changes = iter(range(100))
    points = Points(tmp_path, lambda: next(changes), places.append)
    points.armed = True
    assert watched(Files2, points)(tmp_path).write_rows("x") == "x"
    assert places == ["before Files2.write_rows", "after Files2.write_rows"]
    assert {"place", "place_pair", "cancel", "order", "fills", "balances"} <= set(seam(Exchange))
    assert {"wall_ms", "market_ms", "wait", "wake"} <= set(seam(RealClock))


def test_the_disk_that_forgets_keeps_what_was_synced_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import storage

    home = tmp_path / "home"
    home.mkdir()
    disk = Disk(home, Points(home, lambda: 0, lambda _: None))
    monkeypatch.setattr(storage, "os", disk)
    files = Files(home)
    files.write_json("money.json", {"schema": 1, "n": 1})
    files.append_line("book.jsonl", {"n": 1})
    files.append_line("book.jsonl", {"n": 2}, durable=False)
    files.write_json("beat.json", {"schema": 1}, durable=False)
    files.write_json("money.json", {"schema": 1, "n": 2}, durable=False)
    disk.cut(home, "lost", 1)
    assert sorted(p.name for p in home.iterdir()) == ["book.jsonl", "money.json"]
    assert files.read_json("money.json", schema=1) == {"schema": 1, "n": 1}
    assert [row["n"] for row in files.read_lines("book.jsonl")] == [1]


def test_without_its_fsync_the_disk_that_forgets_tears_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import storage

    disk = Disk(tmp_path, Points(tmp_path, lambda: 0, lambda _: None))
    monkeypatch.setattr(storage, "os", disk)
    files = Files(tmp_path)
    files.write_json("beat.json", {"schema": 1}, durable=False)
    whole = (tmp_path / "beat.json").read_bytes()
    disk.cut(tmp_path, "torn", 1)
    assert (tmp_path / "beat.json").read_bytes() == whole[: len(whole) // 2]
