"""Set-up: what start.sh and test.sh promise, tried with the real scripts in scratch folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import config

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("start.sh", "test.sh", ".ci/run", "utils/setup.sh")


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def tools(folder: Path, *names: str) -> Path:
    """A PATH of its own: links to the tools named and to nothing else."""
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def sh(code: str, cwd: Path, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run bash with the functions of utils/setup.sh."""
    env = {"PATH": str(path) if path else os.environ["PATH"], "HOME": str(cwd), **environment}
    whole = f"set -euo pipefail; . '{ROOT}/utils/setup.sh'; {code}"
    return subprocess.run([shutil.which("bash"), "-c", whole], cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


BASICS = ("bash", "env", "dirname", "cat", "cksum", "cp", "id", "git", "rm", "mkdir")


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A checkout whose virtual environment is already made, with a stand-in for the dashboard that tells how it was started."""
    folder = tmp_path / "a yard"  # a blank, as in people's folders
    (folder / "utils").mkdir(parents=True)
    for name in ("start.sh", "utils/setup.sh", "requirements.txt", ".env.example", "active_bots.json"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "simple_dash.py").write_text("import os, sys\nprint('served from', os.getcwd(), sys.argv[1:])\n", encoding="utf-8")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/.made").touch()
    script(folder / ".venv/bin/python", f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >>pip.log; exit 0; fi\nexec "{sys.executable}" "$@"\n')
    return folder


def start(yard: Path, cwd: Path, *arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(path) if path else os.environ["PATH"], "HOME": str(yard), **environment}
    command = [shutil.which("bash"), str(yard / "start.sh"), *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


# --- files -------------------------------------------------------------------------


def test_every_setting_has_a_line_in_the_order_of_the_code_with_its_help():
    assert list(example()) == list(config.names())
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert [name for name, (_, help_) in config.names().items() if f"# {help_}\n" not in text] == []


def test_the_example_is_right_and_differs_from_the_defaults_only_for_the_demo(home):
    shutil.copy(ROOT / ".env.example", home / ".env")
    assert config.load({"BOTYARD_HOME": str(home)}).trading_mode == "paper"
    changed = {name for name, value in example().items() if value != config.names()[name][0]}
    assert changed <= {"PAPER_SPEED", "PAPER_SEED", "PAPER_START"}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_every_requirement_is_pinned_and_no_index_is_named(name):
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_-]+==[0-9][A-Za-z0-9.]*", line)] == []


def test_what_the_owner_asked_for_is_among_the_requirements():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8").lower()
    names = ("flask", "python-binance", "ta", "python-dotenv", "twilio", "openai", "requests", "pytest", "waitress", "simplejson", "pandas", "numpy", "aiohttp")
    assert [n for n in names if f"\n{n}==" not in text] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_sound_and_may_be_run(name):
    assert subprocess.run(["bash", "-n", ROOT / name], check=False).returncode == 0
    if name != "utils/setup.sh":
        assert os.access(ROOT / name, os.X_OK)
        assert "set -euo pipefail" in (ROOT / name).read_text(encoding="utf-8")


# --- start.sh ----------------------------------------------------------------------


def test_a_first_start_installs_writes_the_settings_and_serves_from_any_folder(yard, tmp_path):
    done = start(yard, tmp_path, "--flag")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"served from {yard} ['--flag']\n"
    assert "-r requirements.txt" in (yard / "pip.log").read_text(encoding="utf-8")
    assert (yard / ".env").read_text(encoding="utf-8") == (ROOT / ".env.example").read_text(encoding="utf-8")
    assert (yard / ".env").stat().st_mode & 0o777 == 0o600


def test_a_second_start_installs_nothing_and_leaves_the_settings_alone(yard, tmp_path):
    start(yard, tmp_path)
    (yard / "pip.log").unlink()
    (yard / ".env").write_text("TRADING_MODE=paper\n", encoding="utf-8")
    done = start(yard, tmp_path)
    assert done.returncode == 0 and not (yard / "pip.log").exists()
    assert (yard / ".env").read_text(encoding="utf-8") == "TRADING_MODE=paper\n"


def test_changed_requirements_are_installed_again(yard, tmp_path):
    start(yard, tmp_path)
    (yard / "pip.log").unlink()
    with (yard / "requirements.txt").open("a", encoding="utf-8") as f:
        f.write("another==1\n")
    start(yard, tmp_path)
    assert (yard / "pip.log").exists()


def test_packages_that_could_not_be_installed_end_the_start_and_are_tried_again(yard, tmp_path):
    script(yard / ".venv/bin/python", f'#!/bin/sh\nif [ "$1" = -m ]; then exit 1; fi\nexec "{sys.executable}" "$@"\n')
    for _ in range(2):
        done = start(yard, tmp_path)
        assert done.returncode == 1
        assert "the packages could not be installed" in done.stderr and "served" not in done.stdout


def test_a_home_of_its_own_gets_the_settings(yard, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert start(yard, tmp_path, BOTYARD_HOME=str(home)).returncode == 0
    assert (home / ".env").exists() and not (yard / ".env").exists()


def test_a_home_that_is_no_folder_ends_the_start_with_the_way_to_mend_it(yard, tmp_path):
    done = start(yard, tmp_path, BOTYARD_HOME=str(tmp_path / "nowhere"))
    assert done.returncode == 1 and "mkdir -p" in done.stderr


def test_git_is_told_to_leave_the_bots_of_the_checkout_alone(yard, tmp_path):
    for command in (["init", "-q"], ["add", "active_bots.json"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "bots"]):
        subprocess.run(["git", *command], cwd=yard, check=True)

    def flags() -> str:
        return subprocess.run(["git", "ls-files", "-v", "active_bots.json"], cwd=yard, capture_output=True, text=True, check=True).stdout

    other = tmp_path / "other"
    other.mkdir()
    start(yard, tmp_path, BOTYARD_HOME=str(other))
    assert flags().startswith("H")
    start(yard, tmp_path)
    assert flags().startswith("S")


def test_without_screen_and_rights_the_exact_command_is_shown_and_the_page_is_served(yard, tmp_path):
    path = tools(tmp_path / "bin", *BASICS)
    script(path / "apt-get", "#!/bin/sh\nexit 1\n")
    done = start(yard, tmp_path, path=path)
    assert done.returncode == 0, done.stderr
    assert "sudo apt-get update && sudo apt-get install -y screen" in done.stderr and "served" in done.stdout


# --- its parts ---------------------------------------------------------------------


def test_an_old_python3_is_passed_over_for_a_newer_one(tmp_path):
    path = tools(tmp_path / "bin", *BASICS)
    script(path / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    missing = sh("ensure_venv", tmp_path, path)
    assert missing.returncode == 1 and "Python 3.11 or newer is needed; found: Python 3.9.2" in missing.stderr
    (path / "python3.12").symlink_to(sys.executable)
    assert sh("find_python", tmp_path, path).stdout.strip() == str(path / "python3.12")


def test_a_machine_without_any_python_is_told_so(tmp_path):
    done = sh("ensure_venv", tmp_path, tools(tmp_path / "bin", *BASICS))
    assert done.returncode == 1 and "found: no python3 at all" in done.stderr


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get update && sudo apt-get install -y screen"),
        ("dnf", "sudo dnf install -y screen"),
        ("pacman", "sudo pacman -S --noconfirm screen"),
        ("apk", "sudo apk add screen"),
        ("brew", "brew install screen"),
    ],
)
def test_each_package_manager_has_its_command(tmp_path, manager, command):
    path = tools(tmp_path / "bin", *BASICS)
    script(path / manager, "#!/bin/sh\nexit 0\n")
    assert sh("install_command screen", tmp_path, path).stdout == command


def test_a_package_list_that_is_out_of_date_is_fetched_once(tmp_path):
    path = tools(tmp_path / "bin", *[b for b in BASICS if b != "id"])
    script(path / "id", "#!/bin/sh\necho 0\n")
    # Installing fails until `update` has run.
    script(path / "apt-get", '#!/bin/sh\necho "$1" >>calls\n[ "$1" = update ] && : >updated\n[ -f updated ]\n')
    assert sh("install_packages screen", tmp_path, path).returncode == 0
    assert (tmp_path / "calls").read_text(encoding="utf-8").split() == ["install", "update", "install"]


def test_nothing_is_installed_where_a_password_would_be_asked(tmp_path):
    path = tools(tmp_path / "bin", *[b for b in BASICS if b != "id"])
    script(path / "id", "#!/bin/sh\necho 1000\n")
    script(path / "sudo", "#!/bin/sh\nexit 1\n")
    script(path / "apt-get", "#!/bin/sh\n: >called\n")
    assert sh("install_packages screen", tmp_path, path).returncode == 1
    assert not (tmp_path / "called").exists()


def test_a_real_virtual_environment_is_made_and_used_again(tmp_path):
    path = tools(tmp_path / "bin", *BASICS)
    (path / "python3").symlink_to(sys.executable)
    first = sh("ensure_venv", tmp_path, path)
    assert first.returncode == 0 and "Creating the virtual environment" in first.stderr
    assert (tmp_path / ".venv/bin/python").exists()
    second = sh("ensure_venv", tmp_path, path)
    assert second.returncode == 0 and second.stderr == ""


# --- the README --------------------------------------------------------------------


def test_the_readmes_strategy_works_as_it_stands(tmp_path):
    from market_data import walk
    from strategies.registry import load

    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "sma_cross_strategy.py").write_text(code, encoding="utf-8")
    registry = load(tmp_path)
    assert registry.broken == {}
    strategy = registry.build("sma_cross", {"slow": 30})
    signals = strategy.signals(walk(500, seed=2))
    assert strategy.warmup == 31 and {-1, 0, 1} == set(signals.tolist())
    assert abs(signals.cumsum()).max() <= 1  # a sale follows a buy and a buy a sale


def test_the_readme_names_every_command_and_nothing_that_is_not_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [f.name for f in (ROOT / "utils").glob("*.py") if f.name != "__init__.py" and f"utils/{f.name}" not in text] == []
    assert [name for name in re.findall(r"python3 ((?:utils/)?\w+\.py)", text) if not (ROOT / name).exists()] == []
