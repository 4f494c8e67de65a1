"""What every test may rely on: no setting of the person who runs it reaches a test."""

from __future__ import annotations

import os
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import toy
from chromium import browser, chromium  # noqa: F401 - fixtures
from core import config


def _handed_over(fd: Any) -> None:
    """For os.fsync in the tests' own processes: checks the file, and doesn't wait for the disk.

    What was written survives any kill without it, and what a power cut leaves is reckoned in kills/disk.py.
    Bots, yards and exchanges that run as processes of their own wait for the disk as ever.
    """
    os.fstat(fd if isinstance(fd, int) else fd.fileno())


def _quick_folder() -> None:
    """Temporary folders lie in memory, where there is room: half of a bot's time in a test went by waiting for the disk.

    A mount that forbids programs would fail the tests that run a checkout of their own, and a TMPDIR that is set counts.
    """
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK | os.X_OK):
        return
    told = os.statvfs(memory)
    if told.f_bavail * told.f_frsize >= ROOM and not told.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None  # asked for before, it would stay


ROOM = 3 << 30
# A slow machine fails no property, and every run tries the same examples.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")
os.fsync = _handed_over
_quick_folder()
for _name in (*config.names(), "BOTYARD_HOME"):
    os.environ.pop(_name, None)
config._PROJECTS_OWN = Path(__file__).parent / "there-is-no-such.env"  # ./start.sh leaves one in the project's root


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A BOTYARD_HOME of its own. Its empty `.env` keeps the one in the project's root from being read."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".env").touch(mode=0o600)
    return folder


@pytest.fixture
def clock() -> toy.StepClock:
    return toy.StepClock()


@pytest.fixture
def exchange(clock: toy.StepClock) -> toy.ToyExchange:
    made = toy.ToyExchange(clock)
    made.closes = [Decimal(100)] * 120
    return made
