"""Backup of a home while its bots trade (core/fleet/restore.py brings it back). Owns data/backups/.

A backup is one tar.gz: `manifest.json` first (version, times, each file's size and SHA-256, venues,
installation), then the files under `home/`. It is written beside, fsynced and renamed, mode 600.

What may be read when, so that the copies fit together though nothing stops for them:

- Market time before a bot's position: every order that the copy lacks is younger, so a restored
  bot knows from when on it must ask the exchange (core/bot/catchup.py).
- Position, then its `.prev`, then the fills, then the position again, until both readings are one:
  then the journal is of that very moment. Where they never are, the first position stays with the
  later journal: a journal may know more than its position (told twice, a fill is written once), but
  fills that a position has dropped from its list of what is not journaled must be in the journal.
  For the same reason no journal is taken where there was no position yet.
- Decisions, log and status follow; they are for people.
- The list of bots before `ids.json`: an id in the list is never above the highest remembered.
  `outbox.db` before `events.jsonl`: a place read to that lies behind the end would send all anew.
- `archive/` after the bots, and all again where it has changed meanwhile: a deleted bot's fills
  move there, and must be in the copy once.
- The paper exchange last, its clock after its database: like a real exchange it may know more than
  the bots, never less.

Left out: locks, commands under way, stop notes, what is fetched again (shared.db, budget.db, and
history.db unless asked for), other backups; `.env` unless asked for.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.bot import catchup, position, status
from core.bot.journal import decisions_name, fills_name
from core.clock import wall_ms
from core.config import ROOT, env_file
from core.errors import Conflict, InputError, StateError
from core.storage import Files, dumps, fsync_folder, installation, loads

FORMAT, VERSION = "botyard backup", 1
FOLDER = "data/backups"
MANIFEST, INSIDE = "manifest.json", "home/"
LOG_TAIL = 4 << 20  # bytes of each log
SAME_TRIES = 5  # readings of a position and its journal that must come out as of one moment
WHOLE_TRIES = 3  # passes, where a bot was deleted meanwhile
SQLITE_WAIT_S = 20.0
_BOT = re.compile(r"bot_([1-9]\d{0,8})(?:_[a-z]+\.jsonl?|\.log|\.lock)(?:\.prev)?")
_PASSING = re.compile(r"(\.lock|\.tmp|-wal|-shm|-journal)$")
_DATA_LEFT_OUT = {"shared.db", "budget.db", "history.db", "paper_wanted", "restored.json", "restored.json.prev", "yard_status.json"}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup: where it lies, its manifest, what a person should know, older ones that were removed."""

    path: Path
    manifest: dict[str, Any]
    words: list[str]
    removed: list[Path]

    def row(self) -> dict[str, Any]:
        """For scripts and the page."""
        told = {k: self.manifest[k] for k in ("wall_ms", "installation", "venues", "with", "bots")}
        size = {"bytes": self.path.stat().st_size, "files": len(self.manifest["files"])}
        return {"file": str(self.path), **size, **told, "words": self.words, "removed": [str(p) for p in self.removed]}


def create(
    files: Files,
    target: Path | None = None,
    *,
    secrets: bool = False,
    paper: bool = True,
    history: bool = False,
    keep: int | None = None,
    progress: Progress = lambda text: None,
    between: Callable[[str], None] = lambda name: None,
) -> Made:
    """Take a backup into `target` (a file that isn't there yet, or a folder; None: data/backups of this home).

    `keep`: so many of this yard's backups stay in that folder, the newest. `between` is called after each
    copy, for tests. Raises InputError (the target), StateError (a database that can't be copied), OSError
    (the disk); then nothing is left behind."""
    if not files.home.is_dir():
        raise InputError(f"{files.home} is no folder: BOTYARD_HOME must name the home that is to be backed up")
    if keep is not None and keep < 1:
        raise InputError(f"keep is {keep}: at least one backup must be kept")
    own, began = installation(files), wall_ms()
    pattern = f"botyard-{own}-"
    path = _place(files, target, pattern, began)
    _sweep(path.parent)
    stage = Path(tempfile.mkdtemp(prefix=f".botyard-backup-{os.getpid()}-", dir=path.parent))
    try:
        for attempt in range(WHOLE_TRIES):
            taking = Taking(files, stage / str(attempt), between, progress)
            archived = _names(files.path("archive"))
            taking.everything(secrets=secrets, history=history)
            if _names(files.path("archive")) == archived:
                break
            progress("A bot was archived meanwhile: once more")
        else:
            raise Conflict("bots are being archived all the while: try again in a moment")
        if paper:
            taking.paper()
        measured = {name: _measure(taking.stage / name) for name in _names(taking.stage)}
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "schema": {"position": position.SCHEMA},
            "wall_ms": began,
            "installation": own,
            "venues": sorted(taking.venues),
            "with": {"secrets": secrets, "paper": paper and (taking.stage / "data/paper/paper.db").exists(), "history": history},
            "bots": taking.bots,
            "files": measured,
        }
        progress(f"Packing {len(measured)} files")
        _pack(taking.stage, manifest, stage / "packed")
        _name(stage / "packed", path)
    except FileExistsError:
        raise Conflict(f"{path} is there already: name another file, or a folder") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    removed = []
    if keep is not None:
        for old in sorted(path.parent.glob(f"{pattern}*.tar.gz"))[:-keep]:
            if old != path:
                old.unlink(missing_ok=True)
                removed.append(old)
    return Made(path, manifest, taking.words, removed)


def listed(files: Files) -> list[dict[str, Any]]:
    """The backups in this home's own folder, the newest first: file, bytes, when it was made (seconds, wall)."""
    found = sorted(files.path(FOLDER).glob("botyard-*.tar.gz"), reverse=True)
    return [{"file": str(p), "name": p.name, "bytes": p.stat().st_size, "modified_wall_s": int(p.stat().st_mtime)} for p in found]


def _place(files: Files, target: Path | None, pattern: str, now: int) -> Path:
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%S") + f"{now % 1000:03d}Z"
    if target is None:
        target = files.path(FOLDER)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
    if target.is_dir():
        return target / f"{pattern}{stamp}.tar.gz"
    if target.exists():
        raise Conflict(f"{target} is there already: name another file, or a folder")
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is no folder: make it first, or name another place")
    return target


def _sweep(folder: Path) -> None:
    """What backups that were killed have left half done."""
    for left in folder.glob(".botyard-backup-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not _lives(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _name(packed: Path, path: Path) -> None:
    """The finished file under its name, at once; FileExistsError where there is one."""
    try:
        os.link(packed, path)  # unlike a rename it replaces nothing
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():  # a stick's file system may know no links
            raise FileExistsError(path) from None
        packed.rename(path)
    fsync_folder(path.parent)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _names(folder: Path) -> list[str]:
    """Every plain file under a folder, as names relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.is_symlink()) if folder.is_dir() else []


def _measure(path: Path) -> dict[str, Any]:
    with path.open("rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _pack(stage: Path, manifest: dict[str, Any], target: Path) -> None:
    def header(name: str, size: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, manifest["wall_ms"] // 1000
        return info

    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as out:
        with (
            gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
        ):
            text = dumps(manifest, indent=1).encode()
            tar.addfile(header(MANIFEST, len(text)), io.BytesIO(text))
            for name, measured in manifest["files"].items():
                with (stage / name).open("rb") as f:
                    tar.addfile(header(INSIDE + name, measured["size"]), f)
        out.flush()
        os.fsync(out.fileno())


@dataclass(slots=True)
class Taking:
    """One pass: copies go to `stage`, one after the other; `between` is called after each reading and copy."""

    files: Files
    stage: Path
    between: Callable[[str], None]
    progress: Progress
    bots: dict[str, dict[str, Any]] = field(default_factory=dict)
    venues: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)

    def everything(self, *, secrets: bool, history: bool) -> None:
        """All but the paper exchange, in the order that this module's docstring gives."""
        self.stage.mkdir()
        home = self.files.home
        for path in sorted(home.glob("*.json")) + sorted(home.glob("*.json.prev")):
            if path.is_file() and not path.name.startswith("bot_"):
                self.copy(path.name)
        records = self._records()
        ids = {int(m[1]) for p in home.glob("bot_*") if (m := _BOT.fullmatch(p.name))} | set(records)
        for n, bot_id in enumerate(sorted(ids), 1):
            self.progress(f"Bot {bot_id} ({n} of {len(ids)})")
            self.bot(bot_id, records.get(bot_id))
        self.progress("What belongs to no bot")
        for name in _names(home / "archive"):
            self.copy(f"archive/{name}")
        for name in _names(home / "strategies"):
            ours = home.resolve() == ROOT.resolve()
            if "__pycache__" not in name and (name.endswith(("_strategy.py", ".yml", ".yaml")) if ours else name.endswith((".py", ".yml", ".yaml", ".json"))):
                self.copy(f"strategies/{name}")
        data = [p.name for p in self.files.path("data").glob("*") if p.is_file() and not p.is_symlink()]
        left = _DATA_LEFT_OUT if secrets else _DATA_LEFT_OUT | {"dashboard_secret.json", "dashboard_secret.json.prev"}
        for name in sorted(data, key=lambda n: (not n.endswith(".db"), n)):  # outbox.db before events.jsonl
            if not _PASSING.search(name) and (name not in left or (history and name == "history.db")):
                self.copy(f"data/{name}")
        if secrets:
            file = env_file(self.files.home)
            self.keep(".env", file.read_bytes() if file.is_file() else None)

    def paper(self) -> None:
        """The paper exchange, after everything that trades on it."""
        self.progress("The paper exchange")
        self.database("data/paper/paper.db")
        self.keep("data/paper/clock", self.read("data/paper/clock"))

    # --- one file ---

    def read(self, name: str) -> bytes | None:
        try:
            return self.files.path(name).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return None

    def keep(self, name: str, data: bytes | None) -> None:
        if data is None:
            return
        target = self.stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.between(f"kept {name}")

    def copy(self, name: str) -> None:
        if name.endswith(".db"):
            self.database(name)
            return
        data = self.read(name)
        if data is not None and name.endswith(".jsonl"):
            data = data[: data.rfind(b"\n") + 1]  # the last line may be under way
        self.keep(name, data)

    def database(self, name: str) -> None:
        """One moment of an SQLite database, by its own backup; the copy is a single file."""
        source, target = self.files.path(name), self.stage / name
        if not source.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(source, timeout=SQLITE_WAIT_S)) as theirs, contextlib.closing(sqlite3.connect(target)) as ours:
                theirs.backup(ours)
                ours.execute("PRAGMA journal_mode = DELETE")
                if ours.execute("PRAGMA quick_check").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("it is damaged")
        except sqlite3.Error as e:
            raise StateError(source, f"the database can't be copied ({e})", "Mend it, or move it away if it can be done without, then try again.") from e
        self.between(f"kept {name}")

    # --- one bot ---

    def bot(self, bot_id: int, record: dict[str, Any] | None = None) -> None:
        since = self._since(bot_id, record)
        self.between(f"asked for the time of bot {bot_id}")
        place, journal = position.name(bot_id), fills_name(bot_id)
        for attempt in range(SAME_TRIES):
            first = self.read(place)
            self.between(f"read {place}")
            before = self.read(place + ".prev")
            self.between(f"read {place}.prev")
            fills = self.read(journal)
            self.between(f"read {journal}")
            if self.read(place) == first:
                break
            if attempt == SAME_TRIES - 1:
                self.words.append(f"bot {bot_id} wrote all the while: its journal is a little younger than its position, which its start after a restore mends")
        self.keep(place, first)
        self.keep(place + ".prev", before)
        if fills is not None and (first, before) != (None, None):
            self.keep(journal, fills[: fills.rfind(b"\n") + 1])
        try:
            if first is not None:
                self.venues.add(position.from_json(loads(first)).venue.key())
        except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError):
            self.words.append(f"bot {bot_id}: its position file can't be read; the backup has it as it is")
        self.bots[str(bot_id)] = {"since_ms": since}
        self.copy(decisions_name(bot_id))
        self.keep(f"bot_{bot_id}.log", self._tail(f"bot_{bot_id}.log"))
        self.copy(status.name(bot_id))

    def _since(self, bot_id: int, record: dict[str, Any] | None) -> int | None:
        """A market time before everything that the copy will lack, ms; None: not known, all must be asked for."""
        known: list[Any] = [wall_ms()]
        pending = catchup.read(self.files)
        if pending.get("bots", {}).get(str(bot_id)) == catchup.TO_DO:
            known.append(pending.get("since_ms", {}).get(str(bot_id)))
        try:
            told = self.files.read_any(status.name(bot_id))
        except StateError:
            told = None
        told = told if isinstance(told, dict) else {}
        if told.get("market_ms") is not None:
            known.append(told["market_ms"])
        if "paper" in (told.get("mode") or "paper", (record or {}).get("mode") or "paper"):
            clock = (self.read("data/paper/clock") or b"").split()
            known += [int(clock[1])] if len(clock) == 2 and clock[1].isdigit() else []
        whole = [ms for ms in known if isinstance(ms, int) and not isinstance(ms, bool)]
        return max(0, min(whole) - catchup.MARGIN_MS) if len(whole) == len(known) else None

    def _records(self) -> dict[int, dict[str, Any]]:
        """The bots' records as copied, by id; none where the list can't be read (the copy has it as it is)."""
        try:
            rows = loads((self.stage / "active_bots.json").read_bytes())
            return {r["id"]: r for r in rows if isinstance(r["id"], int) and not isinstance(r["id"], bool)}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            self.words.append("the list of bots can't be read; the backup has it as it is")
            return {}

    def _tail(self, name: str) -> bytes | None:
        try:
            with self.files.path(name).open("rb") as f:
                size = f.seek(0, os.SEEK_END)
                f.seek(max(0, size - LOG_TAIL))
                data = f.read()
        except FileNotFoundError:
            return None
        return data if size <= LOG_TAIL else data[data.find(b"\n") + 1 :]
