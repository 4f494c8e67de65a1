"""Files: atomic JSON with a previous copy, append-only lines, locks, tails.

Every file access that money hangs on goes through a `Files` object that is handed in,
so that a test can stop the world before and after each call. Decimals are written as
JSON numbers in plain digits and read back as Decimals: no value passes through a float.

Guarantees of `write_json(durable=True)`: after a power cut the file is the old one or
the new one, whole; the copy before it is kept beside it as `NAME.prev`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import simplejson

from core.errors import AlreadyRunning, StateError
from core.model import plain


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} can't be written: not a finite number")
        return simplejson.RawJSON(plain(value))
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text in which a Decimal is a plain number; NaN and infinity are refused."""
    return simplejson.dumps(value, default=_default, use_decimal=False, allow_nan=False, ensure_ascii=False, indent=indent, tuple_as_array=True)


def loads(text: str | bytes) -> Any:
    """JSON text to Python; numbers with a point or an exponent become Decimals, NaN is refused."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a number")

    return simplejson.loads(text, use_decimal=True, parse_constant=refuse, allow_nan=True)


def fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Files:
    """All files of one BOTYARD_HOME. Paths given are relative to it."""

    def __init__(self, home: str | os.PathLike[str]):
        self.home = Path(home)

    def path(self, name: str) -> Path:
        return self.home / name

    def exists(self, name: str) -> bool:
        return self.path(name).exists()

    def write_json(self, name: str, value: Any, *, durable: bool = True, keep_previous: bool = True, mode: int = 0o600) -> None:
        """Replace a JSON file at once. Raises OSError when the disk can't take it; the old file then stands."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (dumps(value, indent=1) + "\n").encode()
        # Two threads may write the same file (the loop and the one that hears signals).
        own = f"{os.getpid()}-{threading.get_ident()}"
        temporary = path.with_name(f".{path.name}.{own}.tmp")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if keep_previous and path.exists():
                # A hard link, so that there is no moment without a current file.
                link = path.with_name(f".{path.name}.{own}.prev.tmp")
                with contextlib.suppress(FileNotFoundError):
                    link.unlink()
                os.link(path, link)
                os.replace(link, path.with_name(path.name + ".prev"))
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            fsync_folder(path.parent)

    def read_json(self, name: str, *, schema: int, migrate: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> dict[str, Any] | None:
        """The object in a file, None where there is no file.

        Raises StateError when it can't be read, isn't an object, or is of a newer schema;
        an older one goes through `migrate`.
        """
        path = self.path(name)
        value = self.read_any(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise StateError(path, "it holds no JSON object", self.remedy(path))
        version = value.get("schema")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise StateError(path, "it names no schema version", self.remedy(path))
        if version > schema:
            raise StateError(
                path, f"it is of schema {version}, this Botyard knows {schema}", "Update Botyard, or restore the file that belongs to this version."
            )
        if version < schema:
            if migrate is None:
                raise StateError(path, f"it is of schema {version} and can't be migrated to {schema}", self.remedy(path))
            value = migrate(value)
        return value

    def read_any(self, name: str) -> Any:
        """Whatever JSON a file holds, None where there is no file; StateError when it can't be read."""
        path = self.path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            # The rename that replaces a file leaves no gap: without it, a .prev means that somebody took it.
            if path.with_name(path.name + ".prev").exists():
                raise StateError(path, "the file is missing though its previous copy is there", self.remedy(path)) from None
            return None
        except OSError as e:
            raise StateError(path, f"it can't be read ({e.strerror or e})", "Mend the file's rights or the disk.") from e
        try:
            return loads(data)
        except (ValueError, UnicodeDecodeError, RecursionError) as e:
            what = "it is empty" if not data.strip() else f"it is not valid JSON ({e})"
            raise StateError(path, what, self.remedy(path)) from e

    def remedy(self, path: Path) -> str:
        previous = path.with_name(path.name + ".prev")
        if previous.exists():
            try:
                readable = isinstance(loads(previous.read_bytes()), dict)
            except (OSError, ValueError, RecursionError):
                readable = False
            if not readable:
                both = f"{path.name} and {previous.name}"
                return f"The previous copy can't be read either: restore {path.name} from a backup, or, if nothing is open at the exchange, move {both} away."
            return f"Compare it with the previous copy: if that is right, copy it back (cp {previous.name} {path.name}) and start again."
        return f"Restore {path.name} from a backup, or, if nothing is open at the exchange, move it away and start again."

    def append_line(self, name: str, value: Any, *, durable: bool = True) -> None:
        """Append one JSON line, whole, in one write."""
        path = self.path(name)
        data = (dumps(value) + "\n").encode()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            start = os.fstat(fd).st_size
            written = os.write(fd, data)
            if written != len(data):
                os.ftruncate(fd, start)
                raise OSError(28, f"only {written} of {len(data)} bytes could be written", str(path))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        if durable and start == 0:
            fsync_folder(path.parent)

    def cut_torn_line(self, name: str) -> int:
        """Cut a last line without its newline (a death in mid-write); bytes cut."""
        path = self.path(name)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return 0
        with path.open("r+b") as f:
            keep = size
            while keep:
                start = max(0, keep - 65536)
                f.seek(start)
                block = f.read(keep - start)
                cut = block.rfind(b"\n")
                if cut >= 0:
                    keep = start + cut + 1
                    break
                keep = start
            if keep < size:
                f.truncate(keep)
                os.fsync(f.fileno())
            return size - keep

    def read_lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Every whole JSON line, oldest first; StateError names the line that can't be read."""
        path = self.path(name)
        try:
            f = path.open("rb")
        except FileNotFoundError:
            return
        with f:
            for number, line in enumerate(f, 1):
                if not line.endswith(b"\n"):
                    return  # still being written, or torn; cut_torn_line mends it at the owner's start
                if not line.strip():
                    continue
                try:
                    value = loads(line)
                    if not isinstance(value, dict):
                        raise ValueError("not an object")
                except (ValueError, UnicodeDecodeError) as e:
                    raise StateError(path, f"line {number} can't be read ({e})", "Restore the file from a backup, or correct that line by hand.") from e
                yield value

    def read_from(self, name: str, cursor: int, limit: int = 1 << 20) -> tuple[list[bytes], int]:
        """Whole lines after byte `cursor` (at most `limit` bytes) and the new cursor.

        A file that has become shorter than the cursor was truncated: reading begins anew."""
        path = self.path(name)
        try:
            with path.open("rb") as f:
                size = os.fstat(f.fileno()).st_size
                if cursor > size or cursor < 0:
                    cursor = 0
                f.seek(cursor)
                data = f.read(limit)
        except FileNotFoundError:
            return [], 0
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == limit:
            return [], cursor + limit  # one line longer than the limit: skip it
        return data[:end].splitlines(), cursor + end

    def tail(self, name: str, lines: int, limit: int = 1 << 20) -> tuple[list[bytes], int]:
        """The last whole lines of a file (looking back at most `limit` bytes) and the cursor after them."""
        path = self.path(name)
        try:
            with path.open("rb") as f:
                size = os.fstat(f.fileno()).st_size
                start = max(0, size - limit)
                f.seek(start)
                data = f.read(size - start)
        except FileNotFoundError:
            return [], 0
        end = data.rfind(b"\n") + 1
        found = data[:end].splitlines()
        if start > 0 and found:
            found = found[1:]
        return found[-lines:] if lines > 0 else [], start + end

    def lock(self, name: str) -> Lock:
        return Lock(self.path(name))


# A POSIX lock knows processes only: two threads of one would both get it, and the first to
# close the file would free it for everybody.
_threads: dict[str, threading.Lock] = {}
_threads_guard = threading.Lock()


class Lock:
    """A POSIX record lock on a file: gone with its process, and it tells its holder's pid.

    A process must not open a locked file a second time: closing any descriptor of it
    would release the lock. `holder()` asks from other processes.
    """

    def __init__(self, path: Path):
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock or raise AlreadyRunning with the holder's pid."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = _ask(fd)
            os.close(fd)
            raise AlreadyRunning(f"{self.path.name} is held by process {pid or 'unknown'}", pid) from None
        self._fd = fd

    def wait(self) -> None:
        """Take the lock, waiting for it as long as it takes (only for locks held for moments)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        self._fd = fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def keep(self) -> None:
        """Held, but is its file still the one that others ask? Taken anew where somebody deleted or replaced it.

        Raises AlreadyRunning where another process holds the new one by now, OSError where no file can be made."""
        if self._fd is None:
            return
        ours = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            before, self._fd = self._fd, None
            try:
                self.acquire()
            except BaseException:
                self._fd = before
                raise
            os.close(before)

    def holder(self) -> int | None:
        """The pid of the process that holds it, None where nobody does."""
        if self._fd is not None:
            return os.getpid()
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return _ask(fd)
        finally:
            os.close(fd)

    def __enter__(self) -> Lock:
        """Wait for it and hold it, against other processes and against this one's other threads."""
        with _threads_guard:
            self._thread = _threads.setdefault(str(self.path.absolute()), threading.Lock())
        self._thread.acquire()
        try:
            self.wait()
        except BaseException:
            self._thread.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._thread.release()


def _ask(fd: int) -> int | None:
    """F_GETLK: who would keep us from an exclusive lock on the whole file?"""
    if sys.platform == "darwin":
        query = struct.pack("qqihh", 0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        _, _, pid, kind, _ = struct.unpack("qqihh", fcntl.fcntl(fd, fcntl.F_GETLK, query))
    else:
        query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, query))
    return None if kind == fcntl.F_UNLCK else int(pid)


def installation(files: Files) -> str:
    """This yard's own short name (8 letters and digits), made once; part of every client order id."""
    import secrets

    with files.lock("data/installation.lock"):
        value = files.read_json("data/installation.json", schema=1)
        if value is None:
            name = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(8))
            value = {"schema": 1, "installation": name}
            files.write_json("data/installation.json", value)
    return str(value["installation"])
