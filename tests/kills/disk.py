"""A disk that forgets: what was written but not synced is lost when the power goes.

`Disk` stands in for the `os` that core/storage.py uses. It lets every call through to the
real folder, keeps beside it what a power cut would leave (contents synced by fsync of the
file, names by fsync of the folder), and makes each call a kill point of its own. `cut`
turns a folder into what the cut leaves of it. Three kinds of disk, all of which POSIX allows:

- `lost`: nothing that was not synced is there.
- `torn`: the names are all there, but of what was not synced in a file half of the new bytes.
- `mixed`: each name and each file's new bytes by a seeded coin.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from kills.seams import Points

KINDS = ("lost", "torn", "mixed")
_CALLS = frozenset({"open", "write", "fsync", "replace", "link", "close", "ftruncate", "unlink"})
_CHANGING = frozenset({"write", "fsync", "replace", "link", "ftruncate", "unlink"})


class Disk:
    """`os` for core.storage. All below `home` at the start counts as synced."""

    def __init__(self, home: Path, points: Points):
        self._home, self._points = home, points
        self.changes = 0
        self._next = 0
        self._now: dict[str, int] = {}  # name → content's number, as the kernel shows it
        self._names: dict[str, int] = {}  # the same, as the disk has it
        self._data: dict[int, bytes] = {}  # content's number → what the disk has of it
        for path in sorted(home.rglob("*")):
            self._now[str(path.relative_to(home))] = self._new(path.read_bytes() if path.is_file() else b"")
        self._names = dict(self._now)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _CALLS:
            return real

        def call(*args: Any, **named: Any) -> Any:
            label = f"os.{name} {self._label(args[0])}"
            self._points.reach(f"before {label}")
            found = real(*args, **named)
            self._note(name, args, found)
            if name in _CHANGING:
                self.changes += 1
            self._points.reach(f"after {label}")
            return found

        return call

    # --- what the disk has ---------------------------------------------------------

    def _new(self, data: bytes) -> int:
        self._next += 1
        self._data[self._next] = data
        return self._next

    def _label(self, what: Any) -> str:
        return Path(os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what).name

    def _relative(self, path: Any) -> str | None:
        found = Path(path)
        return str(found.relative_to(self._home)) if found.is_relative_to(self._home) else None

    def _note(self, name: str, args: tuple[Any, ...], found: Any) -> None:
        if name == "open":
            self._known(args[0])
        elif name in ("replace", "link"):
            source, target = self._relative(args[0]), self._relative(args[1])
            if source is not None and target is not None:
                self._now[target] = self._now.pop(source) if name == "replace" else self._now[source]
        elif name == "fsync":
            path = Path(os.readlink(f"/proc/self/fd/{args[0]}"))
            if path.is_dir():
                self._sync_folder(path)
            elif (relative := self._relative(path)) is not None:
                self._known(path)
                self._data[self._now[relative]] = path.read_bytes()

    def _known(self, path: Any) -> None:
        """A name seen for the first time is a new, empty file (or folder) that the disk knows nothing of."""
        relative = self._relative(path)
        if relative is not None and relative not in self._now and relative != ".":
            self._now[relative] = self._new(b"")

    def _sync_folder(self, folder: Path) -> None:
        relative = self._relative(folder)
        if relative is None:
            return
        for name in [n for n in self._names if str(Path(n).parent) == relative]:
            del self._names[name]
        for path in folder.iterdir():
            self._known(path)
            name = str(path.relative_to(self._home))
            self._names[name] = self._now[name]

    # --- the cut --------------------------------------------------------------------

    def cut(self, folder: Path, kind: str, seed: int) -> None:
        """Make `folder`, a copy of home as the kernel shows it now, what the disk is left with."""
        dice = random.Random(seed)
        shown = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*"))}
        contents = {name: p.read_bytes() for name, p in shown.items() if p.is_file()}
        folders = [name for name, p in shown.items() if p.is_dir()]
        for name in contents:
            self._now.setdefault(name, self._new(b""))
        written = {self._now[name]: data for name, data in contents.items()}  # by content, names aside
        left: dict[str, int] = {}
        for name in sorted({*contents, *(n for n in self._names if n not in folders)}):
            new, old = self._now.get(name) if name in contents else None, self._names.get(name)
            kept = old if kind == "lost" else new if kind == "torn" else dice.choice((old, new))
            # A folder whose own name is lost takes all in it along.
            above = [str(p) for p in Path(name).parents if str(p) != "."]
            if kept is not None and (kind == "torn" or all(a in self._names for a in above)):
                left[name] = kept
        for name in contents:
            (folder / name).unlink()
        for name, number in left.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._after(self._data[number], written.get(number, self._data[number]), kind, dice))

    @staticmethod
    def _after(synced: bytes, written: bytes, kind: str, dice: random.Random) -> bytes:
        if kind == "lost" or synced == written:
            return synced
        if written.startswith(synced):  # appended, or a new file: some of the new bytes
            tail = len(written) - len(synced)
            return written[: len(synced) + (tail // 2 if kind == "torn" else dice.randint(0, tail))]
        return synced if kind == "torn" else dice.choice((synced, written))
