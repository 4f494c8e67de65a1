"""Where strategies' files lie, and which of them are files at all. Reads names and what the system tells of them; owns no file."""

from __future__ import annotations

import stat
from pathlib import Path

from core.errors import StrategyError

FOLDER = Path(__file__).resolve().parent
ENDING = "_strategy.py"
DECLARED = (".yaml", ".yml")

Stamp = tuple[str, int, int, int]  # of a file as it is now: path, inode, time of the last change in ns, size


def folders(own: str | Path | None) -> list[Path]:
    """The folders to look in, ours first."""
    found = [FOLDER]
    if own is not None and Path(own).resolve() != FOLDER and Path(own).is_dir():
        found.append(Path(own).resolve())
    return found


def paths(folder: Path) -> list[Path]:
    """What is named as a strategy, those in Python first. What begins with a dot is an editor's. OSError where the folder can't be read."""
    found = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    return [p for p in found if p.name.endswith(ENDING)] + [p for p in found if p.suffix in DECLARED]


def shipped(path: Path) -> bool:
    """A copy of one that is shipped, as a backup of the project's own folder brings it: not a second strategy."""
    original = FOLDER / path.name
    try:
        return original.is_file() and path.is_file() and original.read_bytes() == path.read_bytes()
    except OSError:
        return False


def stamp(path: Path) -> Stamp:
    """A file as it is now. StrategyError for what is no plain file, which must not even be opened: a pipe's end may never come."""
    try:
        info = path.stat()
    except FileNotFoundError:
        raise StrategyError("it is a link to a file that isn't there; mend the link or remove it") from None
    if not stat.S_ISREG(info.st_mode):
        what = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe" if stat.S_ISFIFO(info.st_mode) else "a device or a socket"
        raise StrategyError(f"it is {what}; a strategy is a plain file with text. Give it another name or move it elsewhere")
    return str(path), info.st_ino, info.st_mtime_ns, info.st_size
