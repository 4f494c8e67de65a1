"""Which code a result came from: one short hash of every source file that can decide it. Owns no files; reads this project's.

A strategy's own version is that of its file alone. What it imports, and the engine, the bot's
decisions and the market's rules, count as much: results of before and after a change of any of
them must never stand in one table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGINS = (Path(__file__).with_name("sweep_worker.py"), Path(__file__).with_name("sweep.py"))
PACKAGES = ("numpy", "pandas", "ta")  # what computes signals and candles, and is not ours
# A line that imports, also inside a function: (from what, which names) or what. A text that only looks like one does no harm.
_FROM = re.compile(r"^[ \t]*from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)", re.M)
_PLAIN = re.compile(r"^[ \t]*import[ \t]+([\w. ,]+)", re.M)


def code_version(strategy_file: Path) -> str:
    """Twelve letters that change when any source changes which a backtest by this strategy runs, or a package that computes for it.

    Sources are found by their import lines, from the engine and the strategy's file onwards, in this project and in the
    strategy's folder; the files' places and times don't count. What a strategy reads by itself, while it runs, is not seen.
    OSError where a source can't be read."""
    found = hashlib.sha256()
    for name, content in sorted((_name(p, strategy_file), p.read_bytes()) for p in sources([*BEGINS, strategy_file], strategy_file.parent)):
        found.update(f"{name} {len(content)}\n".encode())
        found.update(content)
    for package in PACKAGES:
        found.update(f"{package} {_installed(package)}\n".encode())
    return found.hexdigest()[:12]


def sources(begins: Iterable[Path], folder: Path) -> set[Path]:
    """The files themselves and all that they import, as far as it lies in this project or in `folder`."""
    known: set[Path] = set()
    waiting = [p.resolve() for p in begins]
    while waiting:
        path = waiting.pop()
        if path in known:
            continue
        known.add(path)
        if path.suffix == ".py":
            waiting += (p for p in _imported(path, folder.resolve()) if p not in known)
        else:
            waiting.append(ROOT / "strategies" / "declared.py")  # a strategy told in YAML is read by that
    return known


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for module, names in _FROM.findall(text):
        yield from _files(module, path, folder)
        for name in re.findall(r"\w+", names):
            yield from _files(module + ("." if module.strip(".") else "") + name, path, folder)
    for modules in _PLAIN.findall(text):
        for module in modules.split(","):
            yield from _files(module.split(" as ")[0].strip(), path, folder)


def _files(module: str, path: Path, folder: Path) -> Iterator[Path]:
    """The files that a dotted name may mean: in the project, beside the strategy, or, with dots in front, beside the importer."""
    parts = [p for p in module.split(".") if p]
    if not parts:
        return
    dots = len(module) - len(module.lstrip("."))
    for place in (path.parents[dots - 1],) if dots else (ROOT, folder):
        whole = place.joinpath(*parts)
        for candidate in (whole.with_suffix(".py"), whole / "__init__.py"):
            if candidate.is_file():
                yield candidate.resolve()


def _name(path: Path, strategy_file: Path) -> str:
    """A source's name that is the same wherever the project and the strategy's folder lie."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else f"beside the strategy: {path.name}" if path != strategy_file else "the strategy"


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
