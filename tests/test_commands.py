"""The commands for people as one family: the same exit codes, one line for what went wrong, one JSON document with --json also then."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import commandline
from core.errors import AlreadyRunning, BotyardError, Conflict, InputError, NotFound, SettingsError, StateError, StrategyError, Unavailable
from core.storage import Files
from processes import free_port

Run = Callable[..., tuple[int, str, str]]

BACKTEST = ("--strategy", "scalping", "--symbol", "BTCUSDT")
# Each command with arguments that are right, and which need a home.
COMMANDS: dict[str, tuple[str, ...]] = {
    "yard": ("list",),
    "guards": ("show",),
    "holdings": (),
    "reconcile": (),
    "backfill": ("--list",),
    "backtest": BACKTEST,
    "optimize": (*BACKTEST, "--vary", "fast"),
    "backup": ("create",),
    "send_summary": ("--dry-run",),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run a command of utils/ in this process: its exit code, output, errors."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.env").touch(mode=0o600)
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PAPER_PORT", str(free_port()))
    monkeypatch.setenv("SESSION_PREFIX", "commands_")

    def one(command: str, *arguments: str) -> tuple[int, str, str]:
        try:
            code = importlib.import_module(f"utils.{command}").main(list(arguments))
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return one


def failure(out: str) -> str:
    """The error that a command told as JSON, on standard output and as its only document."""
    told = json.loads(out)
    assert told["success"] is False and set(told) == {"success", "error"}, told
    return str(told["error"])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_that_is_not_there_is_2_in_one_line_and_in_json(command: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BOTYARD_HOME", str(tmp_path / "nowhere"))
    code, out, err = run(command, *COMMANDS[command], "--json")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"{command}.py: ") and "create it" in err
    assert "nowhere is not a folder" in failure(out)
    assert run(command, *COMMANDS[command])[:2] == (2, "")


@pytest.mark.parametrize("command", [*COMMANDS, "test_connection"])
def test_a_wrong_argument_is_2_in_one_line_and_in_json(command: str, run: Run) -> None:
    code, out, err = run(command, *COMMANDS.get(command, ()), "--json", "--no-such-thing")
    assert (code, err.count("\n")) == (2, 1), err
    assert "--no-such-thing" in failure(out) and "--help" in err
    assert run(command, *COMMANDS.get(command, ()), "--no-such-thing")[:2] == (2, "")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("yard", ("start", "99")),
        ("yard", ("logs", "99")),
        ("yard", ("levels", "99", "--stop-loss", "1")),
        ("guards", ("set", "--bot", "99", "trades_per_day", "--soft", "3")),
        ("guards", ("set", "--bot", "x", "trades_per_day", "--soft", "3")),
        ("guards", ("reset", "--account", "foo")),
        ("holdings", ("pot", "99", "+5")),
        ("holdings", ("pot", "x", "+5")),
        ("holdings", ("cancel-orphan", "some-id")),
        ("backup", ("check", "/no/such/file")),
        ("backtest", ("--strategy", "no_such", "--symbol", "BTCUSDT")),
        ("send_summary", ()),
    ],
)
def test_what_an_argument_or_setting_names_and_is_not_there_is_2(command: str, arguments: tuple[str, ...], run: Run) -> None:
    code, out, err = run(command, *arguments, "--json")
    assert (code, err.count("\n")) == (2, 1), err
    assert failure(out)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("yard", ("list",)), ("yard", ("start", "1")), ("yard", ("start", "--all")), ("holdings", ("pot", "1", "+5")), ("send_summary", ("--dry-run",))],
)
def test_a_list_of_bots_that_can_not_be_read_is_3_with_the_way_to_mend_it(command: str, arguments: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "home/active_bots.json").write_text("{broken")
    code, out, err = run(command, *arguments, "--json")
    assert (code, err.count("\n")) == (3, 1), err
    assert "Restore active_bots.json" in failure(out)


def test_guards_that_can_not_be_told_in_full_are_not_called_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home/active_bots.json").write_text("{broken")
    code, out, _ = run("guards")
    assert code == 3 and "Restore active_bots.json" in out and "No limits" not in out
    assert "Restore" in json.loads(run("guards", "--json")[1])["error"]


@pytest.mark.parametrize("command", ["holdings", "reconcile", "backfill"])
def test_without_the_paper_exchange_it_is_3_and_said_who_starts_it(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    code, out, err = run(command, *(("BTCUSDT", "--timeframe", "1m") if command == "backfill" else ()), "--json")
    assert code == 3 and "./start.sh" in failure(out)
    assert "HTTPConnectionPool" not in err and "Max retries" not in err and "Connection refused" in err


def test_a_limit_on_an_account_that_no_bot_can_trade_in_is_refused_unless_forced(run: Run, tmp_path: Path) -> None:
    Files(tmp_path / "home").write_json("active_bots.json", [])
    limit = ("set", "--account", "paper/main/EUR", "daily_loss_pct", "--soft", "3")
    code, out, err = run("guards", *limit, "--json")
    assert code == 2 and "--force" in failure(out) and not (tmp_path / "home/guards.json").exists()
    code, out, err = run("guards", *limit, "--force")
    assert code == 0 and "guards nothing" in out, err
    assert run("guards", "set", "--account", "paper/main/EUR", "daily_loss_pct")[0] == 0, "what is there can always be taken away"


def test_where_the_exchange_can_not_be_asked_what_a_bot_trades_against_the_limit_is_taken_with_a_warning(run: Run, tmp_path: Path) -> None:
    record = {"id": 4, "name": "B", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 100, "status": "stopped"}
    Files(tmp_path / "home").write_json("active_bots.json", [record])
    code, out, err = run("guards", "set", "--account", "paper/main/EUR", "daily_loss_pct", "--soft", "3", "--json")
    assert code == 0 and "bot 4 may" in json.loads(out)["warning"], err


def test_every_failure_has_its_code() -> None:
    codes = {
        2: [InputError("x"), NotFound("x"), SettingsError(["x"])],
        3: [Conflict("x"), AlreadyRunning("x"), StateError("f", "x", "y"), Unavailable("x"), OSError(28, "full", "f"), BotyardError("x")],
        4: [StrategyError("x")],
    }
    assert {code: [commandline.code_of(e) for e in found] for code, found in codes.items()} == {c: [c] * len(f) for c, f in codes.items()}


def test_a_failure_is_one_line_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    def task(problem: BaseException) -> Callable[[], int]:
        def raising() -> int:
            raise problem

        return raising

    cases = ((SettingsError(["A: wrong", "B: wrong"]), 2), (OSError(28, "x", "/f"), 3), (KeyboardInterrupt(), 130), (BotyardError("two\nlines"), 3))
    for problem, code in cases:
        assert commandline.guarded("this.py", True, task(problem)) == code
        out, err = capsys.readouterr()
        assert err.count("\n") == 1 and json.loads(out)["error"] in err
    commandline.fail("this.py", "the key s3cret was refused", True, secrets=["s3cret"])
    assert "s3cret" not in "".join(capsys.readouterr())
    with pytest.raises(ZeroDivisionError):  # a bug is no failure: it shows where it is
        commandline.guarded("this.py", False, lambda: 1 // 0)


def test_ctrl_c_ends_a_command_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.config.load", interrupted)
    for command, arguments in COMMANDS.items():
        code, out, err = run(command, *arguments, "--json")
        assert (code, err.count("\n")) == (130, 1), (command, err)
        assert "Ctrl-C" in failure(out)


@pytest.mark.parametrize("text", ["0", "1000000", "0000000001999999", "1" * 40, "٣", "1_0", "-1", ""])
def test_what_is_no_bots_number_is_refused_by_bot_and_commands_alike(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 999999"):
        commandline.bot_id(text)
