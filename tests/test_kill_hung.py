"""The kill switch against bots that hang, with the yard dead: real bots, a real paper exchange, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.clock import wall_ms
from core.config import load
from core.fleet import control, flattening, kill
from core.fleet.flattening import OWN_WATCH_S, STOPPED_S, Silence, heard
from core.storage import Files
from kill_help import command, held, killable, records, sales, start, wallet_is_the_books, with_positions
from patience import patience
from processes import ROOT, Home, until

HOLDS_THE_INTERPRETER = '''
import os, pathlib, re
class Holds:
    """Buys whenever it may. While the file `loop` lies in its home it is in C, for ever, and gives no thread its turn."""
    key = "holds"
    warmup = 2
    def analyze(self, data):
        if (pathlib.Path(os.environ["BOTYARD_HOME"]) / "loop").exists():
            re.match(r"(a+)+$", "a" * 64 + "b")
        return {"signal": "BUY", "reasoning": "always"}
'''


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with killable(tmp_path / "home") as made:
        yield made


def pid_of(home: Home, bot_id: int) -> int | None:
    return Files(home.path).lock(f"bot_{bot_id}.lock").holder()


def guards(home: Home, bot_id: int) -> int:
    """How many processes have guarded this bot, as they say in its log."""
    return home.log(bot_id).count("guard: no entries")


def flatten(home: Home, seconds: float = 60) -> tuple[int, dict[str, Any]]:
    done = command(home, "kill_switch", "--flatten", "--yes", "--json", "--wait", str(patience(seconds)))
    return done.returncode, json.loads(done.stdout)


def steps(answer: dict[str, Any], bot_id: int) -> str:
    return " | ".join(s["text"] for b in answer["bots"] if b["id"] == bot_id for s in b["steps"])


def test_a_stopped_bot_and_one_that_loops_in_c_are_replaced_and_sold_with_the_yard_dead(home: Home) -> None:
    home.strategy("holds", HOLDS_THE_INTERPRETER)
    home.paper()
    records(home, 3)
    listed = json.loads((home.path / "active_bots.json").read_text())
    listed[2]["strategy"] = "holds"
    Files(home.path).write_json("active_bots.json", listed)
    children = [*start(home, 2), home.bot(3, "Bot 3", "BTCUSDT", "holds", "500")]
    until(lambda: len(held(home, 3)) == 3, "three positions", patience(20))
    (home.path / "loop").touch()
    silent = until(lambda: wall_ms() - home.status(3)["heartbeat_wall_ms"] > 6000, "bot 3 to fall silent", patience(30))
    os.kill(children[1].pid, signal.SIGSTOP)
    code, answer = flatten(home)
    print(f"\nflat after {answer['seconds']} s: " + "; ".join(f"bot {b['id']} after {b['flat_s']} s" for b in answer["bots"]))
    assert silent and code == 0 and answer["flat"] and answer["open"] == [], answer
    assert "did not run and was started" in answer["yard"]
    assert answer["guards"] == [2, 3] and answer["errors"] == {}
    assert "stands still" in steps(answer, 2) and "no sign of life" in steps(answer, 3) and "ended" not in steps(answer, 1)
    assert children[1].wait(patience(5)) == -signal.SIGKILL and children[2].wait(patience(5)) is not None and children[0].poll() is None
    assert [len(sales(home, n)) for n in (1, 2, 3)] == [1, 1, 1] and held(home, 3) == []
    wallet_is_the_books(home)


def test_a_bot_that_stands_still_while_its_sale_is_on_the_way_has_sold_once(home: Home) -> None:
    """The exchange has executed the sale; the answer never reached the bot, which is ended with the request in its file."""
    child = with_positions(home, 1)[0]
    home.post("/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "hang_after", "times": 1, "params": {"seconds": 60}})
    press = subprocess.Popen(
        [sys.executable, str(ROOT / "utils/kill_switch.py"), "--flatten", "--yes", "--wait", str(patience(60))],
        env=home.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: any(o["status"] == "SENDING" for o in home.position(1)["orders"]), "the sale to be on its way", patience(20))
    os.kill(child.pid, signal.SIGSTOP)
    told, _ = press.communicate(timeout=patience(70))
    assert press.returncode == 0 and "stands still" in told and "Everything is flat" in told, told
    assert len(sales(home, 1)) == 1 and home.position(1)["totals"]["trades"] == 1
    wallet_is_the_books(home)


def test_a_bot_that_asks_for_an_unknown_sale_is_left_alive(home: Home) -> None:
    """The sale's answer was lost and the exchange says for a while that it knows nothing of it: the bot asks on, and is not ended."""
    child = with_positions(home, 1)[0]
    home.post("/paper/faults", {"method": "POST", "path": "/api/v3/order", "fault": "drop_before", "times": 1})
    code, answer = flatten(home)
    assert code == 0 and answer["bots"][0]["flat_s"] > 5, "the answer -2013 needs its patience"
    assert child.poll() is None and pid_of(home, 1) == child.pid and "ended" not in steps(answer, 1)
    assert len(sales(home, 1)) == 1
    wallet_is_the_books(home)


def test_page_and_command_and_a_second_command_at_once_start_one_guard_for_each_bot(home: Home) -> None:
    children = with_positions(home, 2)
    os.kill(children[0].pid, signal.SIGSTOP)
    children[1].kill()
    children[1].wait()
    settings = load({**home.env})
    files = Files(settings.home)
    keeper = control.make_supervisor(files, settings)
    kill.pull(files, settings, "flatten", "dashboard", keeper, guards=False, begin=lambda: flattening.begin(files, settings, keeper, "dashboard", patience(60)))
    argv = [sys.executable, str(ROOT / "utils/kill_switch.py"), "--flatten", "--yes", "--wait", str(patience(60))]
    presses = [subprocess.Popen(argv, env=home.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    told = [p.communicate(timeout=patience(70))[0] for p in presses]
    flattening.end(files, patience(10))
    assert [p.returncode for p in presses] == [0, 0], told
    assert [len(sales(home, n)) for n in (1, 2)] == [1, 1] and guards(home, 1) == 1 and guards(home, 2) <= 1, "the yard may bring bot 2 back itself"
    wallet_is_the_books(home)


def test_lifted_meanwhile_it_ends_nobody_and_says_that_something_is_open(home: Home) -> None:
    child = with_positions(home, 1)[0]
    os.kill(child.pid, signal.SIGSTOP)
    settings = load({**home.env})
    files = Files(settings.home)
    keeper = control.make_supervisor(files, settings)
    kill.pull(files, settings, "flatten", "a test", keeper, guards=False)
    work = flattening.Flattening(files, settings, keeper, "a test")
    work.say = lambda text: kill.lift(files, settings, "another", keeper) if "position is open" in text else None
    outcome = work.run(patience(30))
    assert not outcome.flat and "lifted" in outcome.stopped and "lifted" in flattening.summary(outcome)
    assert child.poll() is None and sales(home, 1) == []


def test_nobody_is_ended_whose_guard_could_not_start(home: Home) -> None:
    """In maintenance mode, and on a disk that takes nothing: its own process is all that the position has."""
    child = with_positions(home, 1)[0]
    files = Files(home.path)
    assert command(home, "kill_switch", "--entries").returncode == 0
    os.kill(child.pid, signal.SIGSTOP)
    files.write_json("data/maintenance.json", {"schema": 1, "on": True, "by": "a test", "wall_ms": wall_ms(), "note": "moving"})
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "5")
    assert done.returncode == 1 and "maintenance mode is on" in done.stdout and "is not ended" in done.stdout and child.poll() is None, done.stdout
    files.write_json("data/maintenance.json", {"schema": 1, "on": False, "by": "a test", "wall_ms": wall_ms() + 1, "note": ""})
    (home.path / "data" / "kill_probe").mkdir()
    done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "5")
    assert done.returncode == 1 and "the disk takes nothing" in done.stdout and child.poll() is None, done.stdout
    (home.path / "data" / "kill_probe").rmdir()
    code, _ = flatten(home)
    assert code == 0 and len(sales(home, 1)) == 1
    wallet_is_the_books(home)


def test_an_exchange_that_does_not_answer_is_told_and_the_bot_goes_on_trying(tmp_path: Path) -> None:
    with killable(tmp_path / "home", HTTP_TIMEOUT="1") as home:
        home.paper()
        records(home, 1)
        child = start(home, 1)[0]
        until(lambda: held(home, 1) == [1], "a position", patience(20))
        paper = home.children[0]
        os.kill(paper.pid, signal.SIGSTOP)
        begun = time.monotonic()
        done = command(home, "kill_switch", "--flatten", "--yes", "--wait", "20")
        assert done.returncode == 1 and time.monotonic() - begun < patience(30), done.stdout
        assert "Still open" in done.stdout and "exchange failed" in done.stdout, done.stdout
        assert child.poll() is None and pid_of(home, 1) == child.pid, "it lives, so it is not ended"
        os.kill(paper.pid, signal.SIGCONT)
        until(lambda: held(home, 1) == [], "the bot to sell by itself", patience(20))
        wallet_is_the_books(home)


def test_a_yard_that_stands_still_is_replaced_too(home: Home) -> None:
    """It may hold the lock under which a bot is started."""
    home.paper()
    records(home, 0)
    yard = home.start("-m", "core.fleet")
    until(lambda: Files(home.path).lock("data/yard.lock").holder() == yard.pid, "the yard", patience(20))
    os.kill(yard.pid, signal.SIGSTOP)
    settings = load({**home.env})
    files = Files(settings.home)
    keeper = control.make_supervisor(files, settings)
    work = flattening.Flattening(files, settings, keeper, "a test")
    kill.pull(files, settings, "flatten", "a test", keeper, guards=False)
    work.courses[1] = flattening.Course(1, "Bot 1", open="a test waits")  # so that it goes on looking
    outcome = work.run(patience(5))
    assert "hung and was started anew" in outcome.yard and yard.wait(patience(5)) == -signal.SIGKILL
    assert files.lock("data/yard.lock").holder() not in (None, yard.pid)


# --- pure -----------------------------------------------------------------------------------------------


def test_silence_is_counted_by_our_own_watch_and_a_jump_of_the_wall_clock_ends_nobody() -> None:
    mine, now = os.getpid(), wall_ms()
    found = Silence()
    assert found.hangs(mine, now, 10, 100.0) == "" and found.hangs(mine, now, 10, 109.9) == "" and found.hangs(mine, now, 10, 110.0)
    assert found.hangs(mine, now + 1, 10, 111.0) == "", "a sign of life begins the count anew"
    jumped = Silence()
    assert jumped.hangs(mine, now - 3_600_000, 10, 0.0) == "", "the clock may have jumped"
    assert jumped.hangs(mine, now - 3_600_000, 10, OWN_WATCH_S), "silent before the switch was pulled: not waited for again"


def test_a_stopped_process_is_hung_after_seconds_and_a_moment_is_forgiven() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        found, now = Silence(), wall_ms()
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: found.hangs(child.pid, now, 10, 0.0) == "" and found.hangs(child.pid, now, 10, STOPPED_S), "it to stand still")
        os.kill(child.pid, signal.SIGCONT)
        until(lambda: not found.hangs(child.pid, now, 10, STOPPED_S + 1), "it to go on")
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, True),
        ({"state": "starting"}, True),
        ({"state": "running", "guard": True}, True),
        ({"state": "running", "warnings": []}, False),
        ({"state": "running", "warnings": [{"kind": "guard", "text": "Nothing is bought: trades_per_day"}]}, False),
        ({"state": "running", "warnings": [{"kind": "guard", "text": "Nothing is bought: the kill switch is on (by me)"}]}, True),
    ],
)
def test_flat_is_believed_of_a_running_bot_only_when_it_has_seen_the_switch(own: Any, expected: bool) -> None:
    assert heard(own) is expected
