"""Bots that hang: a stopped process, a strategy that never returns, a socket that never answers.

Each is found and replaced by the yard, and its position is watched meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from core.fleet import locks
from core.fleet.health import DEFAULT_BOUND_MS, SHORTEST_EXPOSED_MS, exposed_bound_ms, health, late, silent_ms
from core.fleet.processes import Handle, exists, is_stopped
from core.fleet.state import exposed
from core.fleet.yard import Yard
from fleet_help import Yardful, yardful
from kept_yard import KeptYard, books_are_right, kept_yard
from patience import patience
from processes import free_port, until

NOW = 1_800_000_000_000
PID = 4711
RECORD = {"id": 1, "name": "BTC Bot", "status": "running"}
LOOPS = '''
import os, pathlib
class Loops:
    """Buys whenever it may; loops for ever while the file `loop` lies in its home."""
    key = "loops"
    warmup = 2
    def analyze(self, data):
        while (pathlib.Path(os.environ["BOTYARD_HOME"]) / "loop").exists():
            pass
        return {"signal": "BUY", "reasoning": "always"}
'''


def status(age_ms: int, **more: Any) -> dict[str, Any]:
    return {"schema": 1, "pid": PID, "state": "running", "guard": False, "heartbeat_wall_ms": NOW - age_ms, "exit": None, **more}


# --- the bounds: pure ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ms", "state", "exposed_ms", "expected"),
    [
        (DEFAULT_BOUND_MS, "running", None, "running"),
        (DEFAULT_BOUND_MS + 1, "running", None, "stuck"),
        (11_000, "running", 11_000, "running"),
        (11_001, "running", 11_000, "stuck"),
        (11_001, "running", None, "running"),
        (11_001, "starting", 11_000, "starting"),  # a busy machine needs its time for imports
        (DEFAULT_BOUND_MS + 1, "starting", 11_000, "stuck"),
    ],
)
def test_a_bot_whose_position_nobody_else_watches_counts_as_stuck_sooner(age_ms: int, state: str, exposed_ms: int | None, expected: str) -> None:
    found = health(RECORD, status(age_ms, state=state), PID, NOW, None, DEFAULT_BOUND_MS, exposed_ms)
    assert found["status"] == expected
    assert ("nobody else watches" in found["why"]) == (expected == "stuck" and age_ms < DEFAULT_BOUND_MS)


def test_the_shorter_bound_leaves_a_request_its_time_out_and_a_bot_two_heartbeats(tmp_path: Path) -> None:
    with yardful(tmp_path / "home") as y:
        assert exposed_bound_ms(y.settings) == 11_000
        for seconds, bound in ((1, SHORTEST_EXPOSED_MS), (20, 21_000)):
            object.__setattr__(y.settings, "http_timeout", seconds)
            assert exposed_bound_ms(y.settings) == bound


def order(role: str = "stop", state: str = "NEW") -> dict[str, Any]:
    return {"role": role, "status": state}


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, False),
        ({"position": None, "orders": []}, False),
        ({"position": "LONG", "stop_loss": 1, "protection": "exchange", "orders": [order(), order("target")]}, False),
        ({"position": "LONG", "stop_loss": 1, "protection": "exchange", "orders": []}, True),
        ({"position": "LONG", "stop_loss": 1, "protection": "bot", "orders": []}, True),
        ({"position": "LONG", "stop_loss": 1, "protection": "exchange", "orders": [order("target")]}, True),
        ({"position": "LONG", "stop_loss": None, "protection": "bot", "orders": []}, False),  # its owner turned the stop off
        ({"position": None, "stop_loss": None, "orders": [order("entry", "SENDING")]}, True),
        ({"position": None, "stop_loss": None, "orders": [order("entry")]}, False),
    ],
)
def test_a_position_is_exposed_when_its_stop_lies_not_at_the_exchange_or_an_outcome_is_unknown(position: Any, expected: bool) -> None:
    assert exposed(position) is expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"last_check": {"wall_ms": NOW - 648_001, "market_ms": NOW - 648_001}}, True),
        ({"last_check": {"wall_ms": NOW - 637_000, "market_ms": NOW - 637_000}}, False),
        ({"last_check": None}, True),  # none since it was started 20 minutes ago
        ({"last_check": None, "started_wall_ms": NOW - 600_000}, False),
        ({"last_check": None, "guard": True}, False),
        ({"last_check": None, "speed": 0}, False),  # market time stands still
        ({"last_check": {"wall_ms": NOW - 900_000, "market_ms": NOW - 100_000}}, False),  # it ended, and stands still since
        ({"last_check": {"wall_ms": NOW - 100_000, "market_ms": NOW - 6_000_000}, "speed": 60}, True),
        ({"last_check": None, "speed": None}, False),
    ],
)
def test_a_bot_that_lives_and_completes_no_check_for_two_intervals_is_late(more: dict[str, Any], expected: bool) -> None:
    told = status(500, started_wall_ms=NOW - 1_200_000, market_ms=NOW, speed=1.0, last_check={"wall_ms": NOW - 1000, "market_ms": NOW - 1000}) | more
    assert bool(late(told, 300, NOW, DEFAULT_BOUND_MS)) is expected


def test_a_late_bot_is_shown_as_running_with_the_reason() -> None:
    found = health(RECORD, status(500), PID, NOW, {"pid": PID, "late": "it lives, but has completed no check for 11 min"})
    assert found == {"status": "running", "guarded": False, "why": "it lives, but has completed no check for 11 min"}


def test_silence_is_counted_from_the_last_sign_of_life_or_from_the_start() -> None:
    assert silent_ms(status(700), PID, 0, NOW) == 700
    assert silent_ms(status(700), 1, NOW - 9000, NOW) == 9000
    assert silent_ms(None, PID, NOW - 9000, NOW) == 9000


# --- replaced by the yard: stand-in bots ----------------------------------------------------------------


@pytest.fixture
def s(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield made


def yard_of(s: Yardful) -> Yard:
    return Yard(s.files, s.settings, s.supervisor, paper_argv=["false"], settings_now=lambda: s.settings, monotonic=lambda: 1000.0)


def look(yard: Yard, times: int = 1) -> None:
    for _ in range(times):
        yard.step()
        assert yard.settle(20)


def aged(s: Yardful, ms: int = 60_000) -> None:
    """The heartbeat as if it were so old."""
    value = s.status(1)
    value["heartbeat_wall_ms"] -= ms
    s.files.write_json("bot_1_status.json", value, keep_previous=False)


def kinds(s: Yardful) -> list[str]:
    from core import notify

    return [e["kind"] for e in notify.recent(s.files) if e["kind"] != "paper_crashed"]


def test_a_start_that_somebody_else_is_just_at_is_left_to_him_without_an_error(s: Yardful) -> None:
    s.bots("A", status="running")
    yard = yard_of(s)
    yard.watch(1).state = "starting"
    with locks.action(s.files, "bot_1"), yard.recovery.acting(1) as record:
        assert record is None
    assert yard.watch(1).state == "waiting", "it is looked at again"
    with yard.recovery.acting(1) as record:
        assert record is not None
        assert record["id"] == 1
    with yard.recovery.acting(2) as record:
        assert record is None, "there is no such bot"


def test_a_stopped_process_is_killed_at_once_and_started_anew(s: Yardful) -> None:
    s.bots("BTC Bot", status="running")
    s.position(1)
    yard = yard_of(s)
    look(yard)
    pid = s.beating(1)
    look(yard)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid), "the stop")
    aged(s)
    began = time.monotonic()
    look(yard)
    assert time.monotonic() - began < patience(5)
    assert not exists(pid)
    assert s.beating(1) != pid
    look(yard)
    assert kinds(s) == ["bot_stuck", "bot_back"]


def test_a_flat_bot_that_was_stuck_waits_for_its_pause_and_its_start_counts(s: Yardful) -> None:
    s.bots("BTC Bot", status="running")
    s.how(1, checks=0)
    yard = yard_of(s)
    look(yard)
    pid = s.beating(1)
    look(yard)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid), "the stop")
    aged(s)
    look(yard)
    assert s.supervisor.pid(1) is None
    watch = yard.watches[1]
    assert (watch.state, watch.starts, watch.due) == ("waiting", 1, 1001.0)
    assert "was stuck" in watch.why


def test_a_guard_that_hangs_is_replaced_too(s: Yardful) -> None:
    s.bots("BTC Bot", status="running")
    s.position(1)
    yard = yard_of(s)
    look(yard)
    watch = yard.watches[1]
    s.supervisor.stop(1, by="a test")
    watch.state, watch.due, watch.pid = "given_up", 0.0, None
    look(yard)
    pid = s.beating(1)
    assert s.status(1)["guard"] is True
    os.kill(pid, signal.SIGSTOP)
    until(lambda: is_stopped(pid), "the stop")
    aged(s)
    watch.due = 0.0
    look(yard, 2)
    assert s.beating(1) != pid
    assert (s.status(1)["guard"], watch.state) == (True, "given_up")


# --- real bots ---------------------------------------------------------------------------------------------


@pytest.fixture
def y(tmp_path: Path) -> Iterator[KeptYard]:
    with kept_yard(tmp_path / "home") as made:
        yield made


def replaced(y: KeptYard, pid: int, seconds: float, act: Callable[[], None]) -> float:
    """Seconds until another process than `pid` holds the bot's lock, after `act`."""
    began = time.monotonic()
    act()
    until(lambda: y.supervisor.pid(1) not in (None, pid), f"another process: {y.kinds()}", seconds)
    return time.monotonic() - began


def test_the_stop_of_a_stopped_process_is_sold_within_the_restart_bound(y: KeptYard) -> None:
    y.bot(1, protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)

    def act() -> None:
        os.kill(pid, signal.SIGSTOP)
        y.fall()

    began = time.monotonic()
    took = replaced(y, pid, 20, act)
    y.flat(20)
    print(f"replaced after {took:.1f} s, sold after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < patience(15)
    assert not exists(pid)
    assert "stop_unwatched" in y.kinds() or "bot_stuck" in y.kinds()
    assert books_are_right(y)


def test_a_bot_whose_strategy_never_returns_watches_its_stop_and_is_replaced(y: KeptYard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.fleet.health.THOUGHT_MS", 4000)
    y.strategy("loops", LOOPS)
    y.bot(1, "loops", protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)
    y.files.path("loop").touch()
    began = time.monotonic()
    y.paper("clock", {"advance_ms": 300_000})  # the next check hangs
    took = replaced(y, pid, 20, lambda: None)
    y.fall()  # the next process hangs at its check too, and sells all the same
    y.flat(15)
    print(f"replaced after {took:.1f} s, sold after {time.monotonic() - began:.1f} s")
    assert took < patience(15)
    assert "bot_stuck" in y.kinds()
    assert books_are_right(y)


class Relay:
    """Stands between a yard and its paper exchange; while `drip` is set, answers come a byte a second."""

    def __init__(self, listen: int, to: int):
        self.to, self.drip, self._open = to, threading.Event(), True
        self._server = socket.create_server(("127.0.0.1", listen))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                while answers and data and self.drip.is_set():
                    sink.sendall(data[:1])
                    data = data[1:]
                    time.sleep(0.5)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self) -> None:
        self._open = False
        self.drip.clear()
        self._server.close()


def test_a_socket_that_never_comes_to_its_end_is_found_and_the_bot_replaced(y: KeptYard, monkeypatch: pytest.MonkeyPatch) -> None:
    real = free_port()
    monkeypatch.setenv("PAPER_PORT", str(real))  # the exchange alone listens there; all others ask at the relay
    y.supervisor.start_unit("paper", [sys.executable, "-m", "core.paper"])
    monkeypatch.delenv("PAPER_PORT")
    relay = Relay(y.port, real)
    try:
        y.bot(1, protection="bot")
        y.begin()
        pid = y.holds(1, at_exchange=False)
        took = replaced(y, pid, 20, relay.drip.set)
        relay.drip.clear()
        y.fall()
        y.flat(20)
        print(f"a dripping socket: replaced after {took:.1f} s")
        assert took < patience(15)
        assert "bot_stuck" in y.kinds()
        assert books_are_right(y)
    finally:
        relay.close()


def test_a_bot_that_waits_for_slow_answers_is_slow_and_not_stuck(y: KeptYard) -> None:
    y.bot(1, protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)
    # Each price hangs until the time-out, again and again: every request is a sign of life.
    y.paper("faults", {"method": "GET", "path": "/api/v3/ticker/price", "fault": "hang_after", "times": 99, "params": {"seconds": 30}})
    until(lambda: y.log().count("The exchange failed (look)") >= 1, f"a failed look: {y.log()[-800:]}", 30)
    assert (y.supervisor.pid(1), y.kinds().count("bot_stuck")) == (pid, 0)
    requests.delete(f"{y.settings.paper_url}/paper/faults", timeout=patience(5))
    y.fall()
    y.flat(30)


@pytest.mark.parametrize(
    "source",
    ["raise RuntimeError('no')\n", "class Loops:\n    key = 'broken'\n    warmup = 2\n    def analyze(self, data):\n        import os\n        os._exit(1)\n"],
    ids=["raises at import", "ends at its check"],
)
def test_a_position_whose_bot_can_not_be_brought_back_is_guarded_and_its_stop_is_sold(y: KeptYard, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.fleet.policy.MOST_STARTS", 3)
    y.strategy("broken", y.files.path("strategies/buy_once_strategy.py").read_text().replace("buy_once", "broken"))
    y.bot(1, "broken", protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)
    y.strategy("broken", source)
    y.paper("clock", {"advance_ms": 300_000})
    with Handle(pid) as process:
        process.signal(signal.SIGKILL)
    until(lambda: y.status().get("guard") and y.status().get("pid") == y.supervisor.pid(1), f"a guard: {y.kinds()} {y.log()[-800:]}", 60)
    assert "bot_given_up" in y.kinds()
    y.fall()
    y.flat(15)
    until(lambda: y.supervisor.pid(1) is None, "the guard's end", 5)
    assert books_are_right(y)


def test_a_strategy_that_loops_at_its_start_keeps_no_passed_stop_from_being_sold(y: KeptYard) -> None:
    y.strategy("loops", LOOPS)
    y.bot(1, "loops", protection="bot")
    y.begin()
    pid = y.holds(1, at_exchange=False)
    y.strategy("loops", "while True:\n    pass\n")
    with Handle(pid) as process:
        process.signal(signal.SIGKILL)
    until(lambda: y.supervisor.pid(1) not in (None, pid), "the restart")
    began = time.monotonic()
    y.fall()
    y.flat(30)
    print(f"sold {time.monotonic() - began:.1f} s after the fall")
    assert time.monotonic() - began < patience(15)
    assert books_are_right(y)


def test_killed_together_with_the_yard_everything_comes_back_and_positions_first(y: KeptYard) -> None:
    for n in range(1, 7):
        y.bot(n, strategy="buy_once" if n > 3 else "holds")
    y.strategy("holds", y.files.path("strategies/buy_once_strategy.py").read_text().replace("buy_once", "holds").replace('"BUY"', '"HOLD"'))
    y.begin()
    for n in (4, 5, 6):
        y.holds(n)
    until(lambda: all(y.status(n).get("checks_completed") for n in range(1, 7)), "all checks", 60)
    y.end_yard()
    pids = {n: y.supervisor.pid(n) for n in range(1, 7)}
    for pid in (*pids.values(), y.supervisor.unit_pid("paper")):
        assert pid is not None
        with Handle(pid) as process:
            process.signal(signal.SIGKILL)
            assert process.wait(patience(5))
    began = time.monotonic()
    y.begin()
    order: list[int] = []

    def back() -> bool:
        order.extend(n for n in range(1, 7) if n not in order and y.supervisor.pid(n) is not None)
        return all(y.status(n).get("state") == "running" and y.status(n).get("pid") == y.supervisor.pid(n) for n in range(1, 7))

    until(back, "all of them", 60)
    took = time.monotonic() - began
    print(f"6 bots and the paper exchange back after {took:.1f} s, in the order {order}")
    assert set(order[:3]) == {4, 5, 6}
    assert took < patience(30)
    assert books_are_right(y)
    assert [y.position(n).get("position") for n in (4, 5, 6)] == ["LONG"] * 3
