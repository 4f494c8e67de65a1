"""What must hold for every form of supervisor, and what only screen can get wrong. Bots are real processes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import AlreadyRunning, Conflict
from core.fleet.processes import Handle, ancestors, exists, handles_signal
from core.fleet.screen import ScreenSupervisor, Session, parse_sessions
from core.fleet.supervisor import StartFailed, bot_argv
from fleet_help import STANDIN, Yardful, until, yardful
from patience import patience


@pytest.fixture(params=["screen", "process"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home", request.param) as made:
        yield made


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home", "screen") as made:
        yield made


def test_a_started_bot_is_known_by_its_lock_and_a_stop_returns_when_its_process_is_gone(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    pid = yard.supervisor.start(bot)
    assert yard.supervisor.running() == {1: pid}
    assert exists(pid)
    yard.beating(1)
    yard.supervisor.stop(1, by="a test")
    assert not exists(pid)
    assert yard.supervisor.running() == {}
    assert yard.status(1)["exit"]["kind"] == "asked"
    assert yard.sessions() == []
    assert not yard.files.exists("data/stop/bot_1.json")


def test_stopping_bot_1_leaves_bot_10_alone_however_often_it_is_stopped(yard: Yardful) -> None:
    (one,) = yard.bots("One")
    (ten,) = yard.bots("Ten", first=10)
    yard.supervisor.start(one)
    pid = yard.supervisor.start(ten)
    yard.supervisor.stop(1, by="a test")
    assert yard.supervisor.running() == {10: pid}
    yard.supervisor.stop(1, by="a test")
    assert yard.supervisor.running() == {10: pid}
    assert exists(pid)


def test_a_second_start_is_refused_with_the_pid_of_the_first(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    pid = yard.supervisor.start(bot)
    with pytest.raises(AlreadyRunning) as refused:
        yard.supervisor.start(bot)
    assert refused.value.pid == pid
    assert len(yard.runs(1)) == 1


def test_a_bot_that_ends_at_its_start_is_told_with_its_exit_code_and_reason(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    yard.how(1, before_lock=2)
    with pytest.raises(StartFailed, match="exit code 2: the stand-in was told so") as failed:
        yard.supervisor.start(bot)
    assert failed.value.code == 2
    assert yard.sessions() == []


def test_a_program_that_can_not_even_begin_is_told_in_its_own_words(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    yard.supervisor.argv = lambda record, guard: [sys.executable, str(STANDIN) + ".missing"]
    with pytest.raises(StartFailed, match="No such file"):
        yard.supervisor.start(bot)


def test_a_bot_that_never_takes_its_lock_is_ended_again(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    bots_own, wait_s = yard.supervisor.argv, yard.supervisor.start_wait_s
    yard.supervisor.argv = lambda record, guard: ["sh", "-c", "trap '' TERM HUP; echo I hang >&2; exec sleep 600"]
    yard.supervisor.start_wait_s = 1
    with pytest.raises(StartFailed, match="not running within 1 s and was ended: I hang"):
        yard.supervisor.start(bot)
    assert yard.sessions() == []
    yard.supervisor.argv, yard.supervisor.start_wait_s = bots_own, wait_s
    assert yard.supervisor.start(bot)


def test_a_bot_that_is_deaf_to_signals_is_gone_after_the_stop_all_the_same(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    yard.how(1, deaf=True)
    pid = yard.supervisor.start(bot)
    yard.supervisor.stop(1, by="a test", timeout_s=1)
    assert not exists(pid)
    assert yard.sessions() == []


@pytest.mark.parametrize("name", ["$(touch owned); `id`", "Bot \"quoted\" 'n' <b>🤖</b>", "-rf --guard", "%n %t", "🚀" * 60])
def test_a_name_is_text_and_reaches_the_bot_unchanged(yard: Yardful, name: str) -> None:
    (bot,) = yard.bots(name)
    yard.supervisor.start(bot)
    yard.beating(1)  # it tells of its run after it has its lock
    assert yard.runs(1)[0]["argv"][1] == name
    lines, cursor = yard.supervisor.read_log(1)
    assert lines == [f"2021-02-10 00:00:00 - INFO - 🤖 STARTING BOT: {name}"]
    assert yard.supervisor.read_log(1, cursor) == ([], cursor)


def test_the_command_of_a_name_that_looks_like_an_option_keeps_it_a_name(tmp_path: Path) -> None:
    record = {"id": 3, "name": "--guard", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500}
    assert bot_argv(record, False)[2:] == ["--", "3", "--guard", "BTCUSDT", "volatile", "500"]
    assert bot_argv({**record, "name": "A"}, True)[2:] == ["3", "A", "BTCUSDT", "volatile", "500", "--guard"]


def test_two_homes_may_both_have_a_bot_1(tmp_path: Path) -> None:
    with yardful(tmp_path / "a", "screen") as a, yardful(tmp_path / "b", "screen", prefix=a.prefix) as b:
        pids = [y.supervisor.start(y.bots("One")[0]) for y in (a, b)]
        assert sorted(a.sessions()) == [f"{a.prefix}bot_1"] * 2
        a.supervisor.stop(1, by="a test")
        assert not exists(pids[0])
        assert b.supervisor.running() == {1: pids[1]}
        a.supervisor.stop(1, by="a test")
        assert exists(pids[1])
        assert len(b.sessions()) == 1


def test_a_guard_gives_way_to_a_start_but_not_to_another_guard(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    guard = yard.supervisor.start(bot, guard=True)
    with pytest.raises(AlreadyRunning):
        yard.supervisor.start(bot, guard=True)
    pid = yard.supervisor.start(bot)
    assert pid != guard
    assert not exists(guard)
    assert [r["guard"] for r in yard.runs(1)] == [True, False]


def test_a_command_reaches_the_running_bot_and_a_stopped_one_refuses_it(yard: Yardful) -> None:
    (bot,) = yard.bots("BTC Bot")
    with pytest.raises(Conflict, match="not running"):
        yard.supervisor.command(1, "close", "a test")
    pid = yard.supervisor.start(bot)
    yard.supervisor.command(1, "close", "a test")
    found = until(lambda: list(yard.files.read_lines("commands_1.jsonl")))
    assert found == [{"schema": 1, "command": "close", "by": "a test", "data": {}}]
    assert yard.supervisor.pid(1) == pid


def test_a_file_that_can_not_be_trusted_is_told_by_read_state_and_raises_nothing(yard: Yardful) -> None:
    yard.bots("BTC Bot")
    assert yard.supervisor.read_state(1) == {"status": None, "position": None, "error": None}
    yard.files.path("bot_1_position.json").write_text('{"schema": 1, "posi')
    yard.files.path("bot_1_status.json").write_text("")
    told = yard.supervisor.read_state(1)
    assert told["status"] is None
    assert told["position"] is None
    assert "bot_1_position.json" in told["error"]


def test_the_environment_of_a_bot_names_its_home_and_nothing_of_the_env_file(screens: Yardful, monkeypatch: pytest.MonkeyPatch) -> None:
    (bot,) = screens.bots("BTC Bot")
    (screens.files.home / ".env").write_text("BINANCE_API_SECRET=not-for-children\n")
    monkeypatch.delenv("TERM", raising=False)
    pid = screens.supervisor.start(bot)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert f"BOTYARD_HOME={screens.files.home}".encode() in environment.split(b"\0")
    assert b"not-for-children" not in environment


def test_a_bot_started_by_hand_outside_screen_is_found_and_stopped(screens: Yardful) -> None:
    screens.bots("BTC Bot")
    environment = {**os.environ, "BOTYARD_HOME": str(screens.files.home)}
    with subprocess.Popen([sys.executable, str(STANDIN), "1", "BTC Bot"], env=environment, stdout=subprocess.DEVNULL) as process:
        until(lambda: screens.supervisor.pid(1) == process.pid)
        screens.supervisor.stop(1, by="a test")
        assert process.wait(patience(5)) == 0


def test_a_session_left_over_without_a_bot_is_cleared_by_exactly_its_name(screens: Yardful) -> None:
    keeper = screens.supervisor
    assert isinstance(keeper, ScreenSupervisor)
    for unit in ("bot_1", "bot_10"):
        keeper._run("-U", "-dmS", keeper.name(unit), "sleep", "60")
    until(lambda: len(screens.sessions()) == 2)
    keeper.stop(1, by="a test")
    assert screens.sessions() == [keeper.name("bot_10")]


def test_a_dead_session_of_its_name_keeps_no_bot_from_starting(screens: Yardful) -> None:
    (bot,) = screens.bots("BTC Bot")
    keeper = screens.supervisor
    assert isinstance(keeper, ScreenSupervisor)
    pid = keeper.start(bot)
    daemon = ancestors(pid)[0]
    with Handle(pid) as process:
        os.kill(daemon, signal.SIGKILL)
        assert process.wait(patience(5))  # it hears the hang-up of its terminal, and goes
    assert [s.dead for s in keeper.sessions() if s.pid == daemon] == [True]
    keeper.start(bot)
    assert [s.dead for s in keeper.sessions() if s.name == keeper.name("bot_1")] == [False]


def attached(session: str) -> str:
    """What a person sees who types `screen -r SESSION` at a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"}
    with subprocess.Popen(["screen", "-U", "-r", session], stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True) as viewer:
        os.close(theirs)
        seen = b""
        while b"STARTING" not in seen or b"\n" not in seen.split(b"STARTING")[-1]:
            assert select.select([ours], [], [], 10)[0], f"only this was seen: {seen!r}"
            seen += os.read(ours, 4096)
        os.write(ours, b"\x01d")  # detach, as people do
        while select.select([ours], [], [], 10)[0]:
            try:
                if not os.read(ours, 4096):
                    break
            except OSError:  # the terminal's other end is closed
                break
        assert viewer.wait(patience(10)) == 0
    os.close(ours)
    return seen.decode("utf-8")


def test_the_session_shows_what_the_bot_says_and_ends_with_it(screens: Yardful) -> None:
    (bot,) = screens.bots("Emoji 🤖")
    keeper = screens.supervisor
    assert isinstance(keeper, ScreenSupervisor)
    pid = keeper.start(bot)
    (session,) = [s for s in keeper.sessions() if s.name == keeper.name("bot_1")]
    assert session.pid in ancestors(pid)
    seen = attached(session.full)
    assert "🤖" in seen.split("STARTING")[0], seen
    assert "STARTING BOT: Emoji 🤖" in seen
    with Handle(pid) as process:
        process.signal(signal.SIGINT)
        assert process.wait(patience(5))
    until(lambda: screens.sessions() == [])
    assert screens.status(1)["exit"]["kind"] == "by_hand"


def test_without_the_program_screen_the_error_says_how_to_install_it(screens: Yardful, monkeypatch: pytest.MonkeyPatch) -> None:
    (bot,) = screens.bots("BTC Bot")
    monkeypatch.setenv("PATH", str(screens.files.home))
    with pytest.raises(StartFailed, match="install"):
        screens.supervisor.start(bot)
    monkeypatch.undo()


def test_listings_of_screen_are_read_with_dates_and_without_dead_or_attached() -> None:
    listing = (
        "There are screens on:\n"
        "\t123.bot_1\t(11/21/26 10:34:49)\t(Detached)\n"
        "\t124.yard.with.dots\t(Attached)\n"
        "\t125.x_bot_10\t(11/21/26 10:34:49)\t(Dead ???)\n"
        "Remove dead screens with 'screen -wipe'.\n"
        "3 Sockets in /run/screen/S-user.\n"
    )
    assert parse_sessions(listing) == [Session(123, "bot_1", False), Session(124, "yard.with.dots", False), Session(125, "x_bot_10", True)]
    assert parse_sessions("No Sockets found in /run/screen/S-user.\n") == []


def test_a_handle_tells_a_process_that_is_gone_and_what_signals_it_hears() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        with Handle(process.pid) as handle:
            assert handle.alive()
            assert handles_signal(process.pid, signal.SIGUSR1) in (False, None)
            assert handle.signal(signal.SIGTERM)
            assert handle.wait(patience(5))
            process.wait()
            assert not handle.signal(signal.SIGTERM)
        with Handle(process.pid) as late:
            assert not late.alive()
