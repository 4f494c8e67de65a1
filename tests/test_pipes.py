"""Commands whose output goes into `head`: no word of a broken pipe, and what they do is done to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.storage import Files
from patience import patience

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = sorted(p.name for p in (ROOT / "utils").glob("*.py"))
TELLS = """
import os, sys
sys.path.insert(0, {root!r})
from core.bootstrap import ensure_packages, reader_gone
ensure_packages(())
for n in range(20_000):
    print("line", n)
sys.stdout.flush()
open("done", "w").write(f"{{reader_gone()}}")
sys.exit(7)
"""


def closed_pipe(argv: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it with nobody to read what it says."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        env = {**os.environ, "BOTYARD_HOME": str(folder), **more}
        return subprocess.run(argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=patience(30))
    finally:
        os.close(writer)


def test_a_command_without_a_reader_goes_on_to_its_end_and_keeps_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS.format(root=str(ROOT)))
    done = closed_pipe([sys.executable, "tells.py"], tmp_path)
    assert done.returncode == 7 and done.stderr == "" and (tmp_path / "done").read_text() == "True"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_speaks_of_a_broken_pipe(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").touch(mode=0o600)
    told = closed_pipe([sys.executable, str(ROOT / "utils" / name), "--help"], tmp_path)
    assert told.returncode == 0 and "roken pipe" not in told.stderr and "Traceback" not in told.stderr, told.stderr


def test_the_kill_switch_is_pulled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / ".env").touch(mode=0o600)
    Files(tmp_path).write_json("active_bots.json", [])
    done = closed_pipe([sys.executable, str(ROOT / "utils" / "kill_switch.py"), "--entries"], tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads((tmp_path / "data" / "kill.json").read_text())["what"] == "entries"
