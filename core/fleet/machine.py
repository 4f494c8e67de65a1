"""The machine under a yard: Python and packages, screen, the folder, its disk, who may read the keys. Owns no file.

Changes nothing; a file written to see whether the folder takes one is removed again.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core import config
from core.config import ROOT
from core.fleet.checks import Check
from core.fleet.resources import FREE_RISK_MB, FREE_WARNING_MB, MB


def python_version() -> Iterator[Check]:
    # One that is too old doesn't come this far: core/bootstrap.py says so.
    yield Check("Python", "ok", f"{'.'.join(str(n) for n in sys.version_info[:3])} in {sys.prefix}")


def packages(requirements: Path = ROOT / "requirements.txt") -> Iterator[Check]:
    """The pinned packages, against those that are installed."""
    missing, other = [], []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if not found:
            continue
        try:
            installed = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(found[1])
            continue
        if installed != found[2]:
            other.append(f"{found[1]} {installed} (wanted {found[2]})")
    if missing:
        yield Check("Packages", "fail", f"missing: {', '.join(missing)}", "Run ./start.sh")
    elif other:
        yield Check("Packages", "warn", f"other versions: {', '.join(other)}", "Run ./start.sh")
    else:
        yield Check("Packages", "ok", "all there, in the versions that were tested")


def screen() -> Iterator[Check]:
    path = shutil.which("screen")
    if path is None:
        yield Check("screen", "fail", "not installed: bots run in it", "sudo apt-get install screen (or dnf, pacman -S, apk add, brew install)")
        return
    # Old releases leave with 1 after --version; what they print counts.
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    yield Check("screen", "ok", (said.stdout or said.stderr).strip().splitlines()[0] if said.stdout or said.stderr else path)


def disk(home: Path) -> Iterator[Check]:
    free_mb = shutil.disk_usage(home).free / MB
    text = f"{free_mb / 1000:.1f} GB free in {home}"
    if free_mb < FREE_RISK_MB:
        yield Check("Disk", "fail", text, "Free some space: a bot that can't write its files stops trading.")
    elif free_mb < FREE_WARNING_MB:
        yield Check("Disk", "warn", text, "Free some space before it runs out.")
    else:
        yield Check("Disk", "ok", text)


def writable(home: Path) -> Iterator[Check]:
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".botyard-check-") as f:
            f.write(b"x")
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        yield Check("Folder", "fail", f"{home} can't be written: {e.strerror or e}", f"Make it yours: sudo chown -R $USER '{home}'")
    else:
        yield Check("Folder", "ok", f"{home} can be written")


def env_file(home: Path) -> Iterator[Check]:
    """Whether the file with the keys is there, and who may read it."""
    path = config.env_file(home)
    if not path.is_file():
        yield Check(".env", "warn", "there is none: every setting has its default", f"cp .env.example '{path}' && chmod 600 '{path}'")
        return
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Check(".env", "warn", f"{path} can be read by others on this machine (mode {mode:o})", f"chmod 600 '{path}'")
    else:
        yield Check(".env", "ok", f"{path}, readable by you alone")
