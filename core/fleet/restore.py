"""A backup's way back: looked through to its end, then into an empty home at once. Writes nothing else.

Whatever is wrong with the file (cut, damaged, of a newer version, not ours, a path that leads
out, a link, a device) is found before anything is written. What is written goes into a folder
beside the home that becomes the home by one rename: a death before it leaves the home as it was.

`data/restored.json` tells the bots to ask the exchange, before they buy anything, what happened
since the copy was made (core/bot/catchup.py).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from core.bot import catchup, position
from core.clock import utc_text, wall_ms
from core.errors import Conflict, InputError, NotFound
from core.fleet.backup import FORMAT, INSIDE, MANIFEST, VERSION
from core.storage import Files, fsync_folder, loads

MANIFEST_MOST = 64 << 20  # bytes
_BLOCK = 512
_PART = 1 << 20

Sink = Callable[[str, bytes], None]


def look_through(path: Path, sink: Sink = lambda name, part: None) -> dict[str, Any]:
    """The manifest of a backup that is whole and right to its last byte; InputError says what is wrong with another.

    `sink` is handed every file's bytes, in parts, by its name under home."""
    try:
        with path.open("rb") as f:
            return _look_through(f, sink)
    except FileNotFoundError:
        raise NotFound(f"{path} is not there: name the backup's file") from None
    except IsADirectoryError:
        raise NotFound(f"{path} is a folder: name the backup's file") from None
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, UnicodeDecodeError) as e:
        raise InputError(f"{path} is no backup of Botyard, or was cut or damaged on its way ({e}): take another copy of it, or another backup") from None
    except _Wrong as e:
        raise InputError(f"{path}: {e}") from None


class _Wrong(Exception):
    pass


class _Bounded:
    """The unpacked stream, of which no more is read than the manifest foresees: a small file may unpack to a huge one."""

    def __init__(self, stream: gzip.GzipFile, most: int):
        self.stream, self.left = stream, most

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise _Wrong("it unpacks to more than its manifest says: it is not one of Botyard's backups")
        return data


def _look_through(f: IO[bytes], sink: Sink) -> dict[str, Any]:
    with gzip.GzipFile(fileobj=f) as unpacked:
        stream = _Bounded(unpacked, MANIFEST_MOST)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK * 20) as tar:  # type: ignore[call-overload]
            first = tar.next()
            if first is None or first.name != MANIFEST or not first.isreg() or first.size > MANIFEST_MOST // 2:
                raise _Wrong(f"it does not begin with {MANIFEST}: it is not one of Botyard's backups")
            content = tar.extractfile(first)
            assert content is not None
            manifest = _manifest(content.read())
            files: dict[str, Any] = manifest["files"]
            stream.left = sum(2 * _BLOCK + f["size"] + len(n) * 3 + 2 * _BLOCK for n, f in files.items()) + 4 * _PART
            seen: set[str] = set()
            while (member := tar.next()) is not None:
                name = member.name.removeprefix(INSIDE)
                if not member.isreg() or not member.name.startswith(INSIDE) or name not in files or name in seen or member.size != files[name]["size"]:
                    raise _Wrong(f"{member.name!r} does not belong there (a link, a device, a size or a name that the manifest does not know)")
                seen.add(name)
                content = tar.extractfile(member)
                assert content is not None
                digest, size = hashlib.sha256(), 0
                sink(name, b"")
                while part := content.read(_PART):
                    digest.update(part)
                    size += len(part)
                    sink(name, part)
                if size != member.size or digest.hexdigest() != files[name]["sha256"]:
                    raise _Wrong(f"{name} is not what it was when the backup was made (its checksum differs): take another copy of the backup")
            missing = sorted(set(files) - seen)
            if missing:
                raise _Wrong(f"{len(missing)} file(s) are missing ({', '.join(missing[:5])}): it was cut on its way")
        while stream.read(_PART):  # to the end, where gzip's own checksum stands
            pass
    return manifest


def _manifest(data: bytes) -> dict[str, Any]:
    try:
        value = loads(data)
        if value["format"] != FORMAT:
            raise _Wrong("its manifest is another program's")
        if value["version"] > VERSION or value["schema"]["position"] > position.SCHEMA:
            raise _Wrong(f"it is of version {value['version']}, this Botyard knows {VERSION}: update Botyard, then restore it")
        right = (
            all(isinstance(f["size"], int) and f["size"] >= 0 and isinstance(f["sha256"], str) for f in value["files"].values())
            and all(k.isdigit() and (v["since_ms"] is None or isinstance(v["since_ms"], int)) for k, v in value["bots"].items())
            and isinstance(value["wall_ms"], int)
            and isinstance(value["installation"], str)
            and {"secrets", "paper", "history"} <= set(value["with"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _Wrong(f"its manifest can't be read ({e})") from None
    if not right:
        raise _Wrong("its manifest can't be right")
    names = set(value["files"])
    for name in names:
        parts = name.split("/")
        if any(p in ("", ".", "..") for p in parts) or re.search(r"[\x00-\x1f\\]", name) or any("/".join(parts[:n]) in names for n in range(1, len(parts))):
            raise _Wrong(f"it holds a path that leads out of the home: {name!r}")
    return dict(value)


def restore(path: Path, home: Path, *, dry_run: bool = False, progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Make `home`, which must be empty or not there, what the backup holds; what is to be done next, in `next`.

    InputError: the file is not right. Conflict: the home holds something, or can't be put there. OSError: the disk.
    In each case the home is as it was."""
    home = Path(os.path.abspath(home))
    _empty(home)
    progress("Looking through the backup")
    manifest = look_through(path)
    told = {
        "file": str(path),
        "home": str(home),
        "dry_run": dry_run,
        "installation": manifest["installation"],
        "backup_wall_ms": manifest["wall_ms"],
        "venues": manifest["venues"],
        "with": manifest["with"],
        "bots": sorted(int(k) for k in manifest["bots"]),
        "files": len(manifest["files"]),
        "bytes": sum(f["size"] for f in manifest["files"].values()),
        "next": next_steps(manifest, home),
    }
    free = shutil.disk_usage(home.parent).free
    if told["bytes"] + (16 << 20) > free:
        raise Conflict(f"{told['bytes']} bytes are to be written, {home.parent} has {free} free: make room, or choose another place")
    if dry_run:
        return told
    _sweep(home)
    stage = Path(tempfile.mkdtemp(prefix=f".{home.name}.restoring-{os.getpid()}-", dir=home.parent))
    try:
        progress(f"Writing {told['files']} files")
        _unpack(path, stage)
        since = {k: v["since_ms"] for k, v in manifest["bots"].items()}
        marks = {"bots": dict.fromkeys(since, catchup.TO_DO), "since_ms": since, "done": {}}
        times = {"backup_wall_ms": manifest["wall_ms"], "restored_wall_ms": wall_ms()}
        Files(stage).write_json(catchup.FILE, {"schema": catchup.SCHEMA, **times, **marks})
        _flush(stage)
        _empty(home)
        try:
            stage.rename(home)  # onto an empty folder, or none: one step
        except OSError as e:
            remedy = "name a plain folder (no mounted one) whose parent can be written"
            raise Conflict(f"{home} can't be put in place ({e.strerror or e}): {remedy}; nothing was restored") from e
        fsync_folder(home.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return told


def _empty(home: Path) -> None:
    if home.is_symlink() or (home.exists() and not home.is_dir()):
        raise Conflict(f"{home} is no folder: name one that is empty or not there yet")
    if home.is_dir() and (found := next(home.iterdir(), None)) is not None:
        raise Conflict(f"{home} is not empty ({found.name} is there): restore into an empty folder; nothing was touched")
    if not home.parent.is_dir():
        raise Conflict(f"{home.parent} is no folder: make it first, or name another place")


def _unpack(path: Path, stage: Path) -> None:
    def sink(name: str, part: bytes) -> None:
        target = stage / name
        if not part:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "ab") as f:
            f.write(part)

    look_through(path, sink)


def _flush(folder: Path) -> None:
    """Everything on the disk before the folder gets its name."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    fsync_folder(folder)


def _sweep(home: Path) -> None:
    """What restores that were killed have left beside this home."""
    for left in home.parent.glob(f".{home.name}.restoring-*"):
        pid = left.name.rsplit("-", 2)[1]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(left, ignore_errors=True)


def next_steps(manifest: dict[str, Any], home: Path) -> list[str]:
    """What a person must do, in order."""
    steps = [
        "The yard that this backup is of must not go on with the same account: stop it for good first (there: python3 utils/yard.py stop --all, "
        "and its service). Two yards of one installation would sell each other's coins; a bot that sees the other trade stops buying."
    ]
    if not manifest["with"]["secrets"]:
        steps.append(f"The backup holds no .env: put yours (keys, settings) into {home} before you start.")
    if any("/paper" in v for v in manifest["venues"]):
        if manifest["with"]["paper"]:
            steps.append("The paper exchange is in the backup, with its market as it was then: it goes on from there.")
        else:
            steps.append("The backup holds no paper exchange: on a new one the paper bots' coins do not exist; their books will not agree with it.")
    steps += [
        f"Start: BOTYARD_HOME={home} ./start.sh. Each bot asks the exchange what it did since {utc_text(manifest['wall_ms'])}, and buys nothing before that.",
        f"Then compare: BOTYARD_HOME={home} python3 utils/reconcile.py (add --mode live or testnet for those accounts).",
    ]
    return steps
