"""The systemd unit: what it says, that systemd takes it, and that its own command brings bots back."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core.config import ROOT
from fleet_help import _screen
from patience import patience
from processes import BUY_ONCE, free_port, until

SCRIPT = ROOT / "utils/service.py"


def service(*arguments: str, script: Path = SCRIPT, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "BOTYARD_HOME"}
    return subprocess.run([sys.executable, str(script), *arguments], env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False)


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def command(text: str) -> list[str]:
    """ExecStart as systemd would run it: quotes taken away, %% and $$ single."""
    (line,) = directives(text)["ExecStart"]
    return [part.replace("%%", "%").replace("$$", "$") for part in shlex.split(line)]


# --- what it says ------------------------------------------------------------------------------


def test_systemd_takes_the_unit_also_with_blanks_and_percents_in_its_paths(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    folder, home = tmp_path / "a yard 100%", tmp_path / "its home %n"
    (folder / "utils").mkdir(parents=True)
    home.mkdir()
    for name in ("service.py", "serve.sh", "botyard.service"):
        shutil.copy(ROOT / "utils" / name, folder / "utils" / name)
    told = service("print", "--home", str(home), script=folder / "utils/service.py")
    assert told.returncode == 0, told.stderr
    path = tmp_path / "botyard.service"
    path.write_text(told.stdout, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert command(told.stdout) == ["/usr/bin/env", "bash", f"{folder}/utils/serve.sh"]
    assert f'"BOTYARD_HOME={home}"'.replace("%", "%%") in directives(told.stdout)["Environment"]
    assert "@" not in "".join(line for line in told.stdout.splitlines() if not line.startswith("#"))


def test_a_stop_ends_everything_at_once_and_a_bot_out_of_memory_not_the_others() -> None:
    told = directives(service("print").stdout)
    assert told["KillMode"] == ["control-group"]
    assert told["OOMPolicy"] == ["continue"]
    assert told["Restart"] == ["on-failure"]
    assert told["After"] == told["Wants"] == ["network-online.target"]
    assert told["WantedBy"] == ["multi-user.target"]
    assert told["User"] == [getpass.getuser()] or os.stat(ROOT).st_uid != os.getuid()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("--user", "nobody_of_that_name"), "no user nobody_of_that_name"), (("--home", "/no/such/folder"), "not a folder"), (("--name", "a/b"), "--name")],
)
def test_what_can_not_be_filled_in_is_refused_by_name(arguments: tuple[str, ...], word: str) -> None:
    done = service("print", *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stdout == ""


def test_a_folder_that_a_unit_can_not_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "it's"
    (folder / "utils").mkdir(parents=True)
    for name in ("service.py", "botyard.service"):
        shutil.copy(ROOT / "utils" / name, folder / "utils" / name)
    done = service("print", script=folder / "utils/service.py")
    assert (done.returncode, "without quotes" in done.stderr) == (2, True)


def test_where_it_has_no_right_or_there_is_no_systemd_it_writes_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    if Path("/run/systemd/system").is_dir() and os.getuid() == 0:
        pytest.skip("here it would really be installed")
    for verb in ("install", "remove"):
        done = service(verb)
        assert done.returncode == 3
        assert "sudo python3" in done.stderr or "not started by systemd" in done.stderr
    assert not Path("/etc/systemd/system/botyard.service").exists()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Path, Path]:
    """The command as on a machine of systemd's, with a systemctl that only writes down what it is told: (module, folder of units, its notes)."""
    spec = importlib.util.spec_from_file_location("service", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    units, told = tmp_path / "units", tmp_path / "told"
    units.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(f'#!/bin/sh\necho "$@" >>"{told}"\n[ ! -e "{tmp_path}/refuse" ] || {{ echo "it is masked" >&2; exit 1; }}\n')
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.delenv("BOTYARD_HOME", raising=False)
    monkeypatch.setattr(module, "RUNS", units)
    return module, units, told


def test_install_writes_the_unit_has_it_start_now_and_at_boot_and_remove_takes_it_away(machine: tuple[Any, Path, Path]) -> None:
    module, units, told = machine
    path = units / "botyard.service"
    for _ in range(2):  # a second time is as good
        assert module.main(["install", "--into", str(units)]) == 0
    assert path.read_text() == service("print").stdout
    assert path.stat().st_mode & 0o777 == 0o644
    assert told.read_text().splitlines() == ["daemon-reload", "enable --now botyard.service"] * 2
    told.unlink()
    for _ in range(2):
        assert module.main(["remove", "--into", str(units)]) == 0
    assert told.read_text().splitlines() == ["disable --now botyard.service", "daemon-reload"]
    assert list(units.iterdir()) == []


def test_a_systemctl_that_refuses_is_told_with_its_own_words(machine: tuple[Any, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    module, units, told = machine
    (told.parent / "refuse").touch()
    assert module.main(["install", "--into", str(units)]) == 3
    assert "systemctl daemon-reload failed: it is masked" in capsys.readouterr().err


# --- what its command does ----------------------------------------------------------------------


class House:
    """A checkout and a home of its own, run by the unit's ExecStart as systemd runs it."""

    def __init__(self, folder: Path):
        self.folder, self.home = folder / "a yard 100%", folder / "home"
        self.prefix = f"t{secrets.token_hex(4)}_"
        self.page, self.paper = free_port(), free_port()
        ignore = shutil.ignore_patterns(".*_cache", ".git", ".venv", "data", "bot_*", "archive", "__pycache__", "node_modules")
        shutil.copytree(ROOT, self.folder, ignore=ignore)
        # start.sh finds its environment made: the packages are those of these tests.
        (self.folder / ".venv/bin").mkdir(parents=True)
        (self.folder / ".venv/.made").touch()
        python = self.folder / ".venv/bin/python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        stamp = subprocess.run(["sh", "-c", "cat requirements.txt | cksum"], cwd=self.folder, capture_output=True, text=True, check=True).stdout
        (self.folder / ".venv/.requirements.stamp").write_text(stamp)
        self.home.mkdir()
        settings = {"DASHBOARD_PORT": self.page, "PAPER_PORT": self.paper, "SESSION_PREFIX": self.prefix, "PAPER_START": "2024-03-01", "CHECK_INTERVAL": 60}
        (self.home / ".env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        (self.home / ".env").chmod(0o600)
        (self.home / "strategies").mkdir()
        (self.home / "strategies/buy_once_strategy.py").write_text(BUY_ONCE)
        self.out = (folder / "out.txt").open("wb")
        self.main: subprocess.Popen[bytes] | None = None

    def bots(self, *strategies: str) -> None:
        common = {"symbol": "BTCUSDT", "trade_amount": 500, "status": "running"}
        records = [{"id": n, "name": f"Bot {n}", "strategy": s, **common} for n, s in enumerate(strategies, 1)]
        (self.home / "active_bots.json").write_text(json.dumps(records))

    def start(self) -> None:
        told = service("print", "--home", str(self.home), script=self.folder / "utils/service.py")
        assert told.returncode == 0, told.stderr
        given = [shlex.split(line)[0].replace("%%", "%").partition("=") for line in directives(told.stdout)["Environment"]]
        # What systemd gives a unit of the system, and no more: no terminal, no folder of ours.
        env = {"PATH": os.environ["PATH"], "HOME": os.path.expanduser("~"), "USER": getpass.getuser(), **{k: v for k, _, v in given}}
        assert env["BOTYARD_HOME"] == str(self.home)
        self.main = subprocess.Popen(command(told.stdout), cwd="/", env=env, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out, start_new_session=True)

    def processes(self) -> list[psutil.Process]:
        """Everything of this house: what systemd would find in the unit's control group."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and process.environ().get("BOTYARD_HOME") == str(self.home):
                    found.append(process)
        return found

    def signal_all(self, number: int) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def gone(self) -> bool:
        if self.main is not None:
            self.main.poll()
        return not self.processes()

    def json(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.home / name).read_text()))

    def up(self, *bots: int) -> dict[int, int]:
        """Wait until these bots look after their positions, in processes of today; their pids."""

        def pids() -> dict[int, int] | None:
            alive, found = {p.pid for p in self.processes()}, {}
            for bot_id in bots:
                status = self.json(f"bot_{bot_id}_status.json")
                if status["pid"] in alive and status["state"] == "running":
                    found[bot_id] = status["pid"]
            return found if len(found) == len(bots) else None

        found = until(pids, f"bots {bots}, see {self.out.name}", 60)
        assert found is not None
        return found

    def page_pid(self) -> int | None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any(Path(a).name == "simple_dash.py" for a in process.cmdline()):
                    return int(process.pid)
        return None

    def starts(self) -> list[int]:
        """The bots in the order in which the yard started them."""
        lines = (self.home / "data/yard.log").read_text().splitlines()
        return [int(line.split("bot ")[1].split()[0]) for line in lines if " - bot " in line and ": started, process" in line]

    def wanted(self) -> list[str]:
        return [r["status"] for r in json.loads((self.home / "active_bots.json").read_text())]

    def end(self) -> None:
        for _ in range(3):
            self.signal_all(signal.SIGKILL)
        if self.main is not None:
            self.main.wait(patience(10))
        for line in _screen("-ls").splitlines():
            name = line.split()[0] if line.split() else ""
            if name.partition(".")[2].startswith(self.prefix):
                _screen("-wipe", name)
        self.out.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    if shutil.which("screen") is None:
        pytest.skip("there is no screen here")
    made = House(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_after_a_reboot_the_units_command_brings_the_bots_back_those_with_positions_first_and_its_stop_leaves_them_wanted(house: House) -> None:
    house.bots("volatile", "volatile", "buy_once")
    house.start()
    before = house.up(1, 2, 3)
    until(lambda: house.json("bot_3_position.json")["position"] == "LONG", "bot 3 to buy")
    held = house.json("bot_3_position.json")

    house.signal_all(signal.SIGKILL)  # the power is gone
    until(house.gone, "the end of all")
    first = len(house.starts())
    house.start()
    after = house.up(1, 2, 3)
    assert not set(before.values()) & set(after.values())
    assert 3 in house.starts()[first:][:2]  # the one with a position; two are started at a time
    assert house.json("bot_3_position.json")["entry_price"] == held["entry_price"]
    until(house.page_pid, "the page")

    house.signal_all(signal.SIGTERM)  # what `systemctl stop` sends, to all at once
    until(house.gone, "the end of all, by SIGTERM alone", 40)
    assert house.wanted() == ["running"] * 3
    assert [house.json(f"bot_{n}_status.json")["exit"]["code"] for n in (1, 2, 3)] == [0, 0, 0]
    assert house.main is not None
    assert house.main.wait(patience(5)) == 0
    house.start()
    house.up(1, 2, 3)


def test_a_page_that_ends_is_started_again_and_no_bot_notices(house: House) -> None:
    house.bots("volatile")
    house.start()
    bot = house.up(1)

    old = until(house.page_pid, "the page")
    assert old is not None
    os.kill(old, signal.SIGKILL)
    until(lambda: house.page_pid() not in (None, old), "the page again")
    assert house.up(1) == bot
