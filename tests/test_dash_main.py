"""`python3 simple_dash.py`: from any folder, alone, and harmless where it can't start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from core import config
from core.config import ROOT
from core.fleet import control
from core.storage import Files
from dash_yard import Home, free_port, until
from patience import patience


def environment(home: Path, port: int, **more: str) -> dict[str, str]:
    return {**os.environ, "BOTYARD_HOME": str(home), "DASHBOARD_PORT": str(port), "PAPER_PORT": str(free_port()), "SESSION_PREFIX": f"t{os.getpid()}_", **more}


def run(env: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "simple_dash.py"), *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_a_taken_port_is_told_and_nothing_is_touched(home: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = run(environment(home, other.getsockname()[1]), tmp_path)
    assert done.returncode == 1 and "DASHBOARD_PORT" in done.stderr and "Traceback" not in done.stderr
    assert sorted(p.name for p in home.iterdir()) == [".env"]


def test_help_prints_the_usage_and_serves_nothing(home: Path, tmp_path: Path) -> None:
    done = run(environment(home, free_port()), tmp_path, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: simple_dash.py") and "DASHBOARD_PORT" in done.stdout
    wrong = run(environment(home, free_port()), tmp_path, "--port", "80")
    assert wrong.returncode == 2 and "--port" in wrong.stderr
    assert sorted(p.name for p in home.iterdir()) == [".env"]


@pytest.mark.parametrize("module", ["core.fleet", "core.paper"])
def test_the_processes_behind_it_begin_nothing_when_asked_for_help(home: Path, module: str) -> None:
    env = environment(home, free_port())
    for argument, code in (("--help", 0), ("--port", 2)):
        done = subprocess.run([sys.executable, "-m", module, argument], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == code and module in (done.stderr if code else done.stdout)
    assert sorted(p.name for p in home.iterdir()) == [".env"]


def test_bad_settings_are_all_listed(home: Path, tmp_path: Path) -> None:
    done = run(environment(home, free_port(), TRADING_MODE="yolo", CHECK_INTERVAL="0", DASHBOARD_HOST="0.0.0.0"), tmp_path)
    assert done.returncode == 2 and "TRADING_MODE" in done.stderr and "CHECK_INTERVAL" in done.stderr and "Traceback" not in done.stderr


def test_an_open_address_without_a_password_is_refused(home: Path, tmp_path: Path) -> None:
    done = run(environment(home, free_port(), DASHBOARD_HOST="0.0.0.0"), tmp_path)
    assert done.returncode == 2 and "DASHBOARD_PASSWORD" in done.stderr


@pytest.mark.skipif(shutil.which("screen") is None, reason="the program screen is not installed")
def test_it_serves_starts_the_yard_and_says_at_its_end_what_goes_on(home: Path, tmp_path: Path) -> None:
    (home / "active_bots.json").write_text("[]")
    port = free_port()
    env = environment(home, port)
    settings = config.load(env)
    files = Files(home)
    process = subprocess.Popen([sys.executable, str(ROOT / "simple_dash.py")], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and f"http://127.0.0.1:{port}" in process.stdout.readline()

        def healthy() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=patience(5)) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        until(healthy, 20)
        second = run(env, tmp_path)
        assert second.returncode == 1 and healthy()  # a second start harms nothing
        keeper = control.make_supervisor(files, settings)
        first = keeper.unit_pid("yard")
        assert first is not None
        until(lambda: (control.yard_status(files) or {}).get("pid") == first, 20)
        os.kill(first, signal.SIGKILL)
        until(lambda: keeper.unit_pid("yard") not in (None, first), 20)  # the page starts a yard that died again
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=patience(20))
        assert process.returncode == 0 and "yard" in said and "stop --all" in said
        assert control.make_supervisor(files, settings).unit_pid("yard") is not None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        control.stop_all(files, settings, "test", everything=True)
    assert control.make_supervisor(files, settings).unit_pid("yard") is None
    assert Home(home).files.read_any("active_bots.json") == []
