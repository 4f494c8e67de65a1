"""Processes that may not be our children: watched and signalled without mistaking one for another.

On Linux a process is held by its pidfd, so that a signal can't reach a stranger who was
given the same pid. Elsewhere the pid itself must do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

_PROC = Path("/proc")


class Handle:
    """One process, whoever started it. Use it as a context, or call `close`."""

    def __init__(self, pid: int):
        self.pid = pid
        self._fd: int | None = None
        self._gone = False
        try:
            self._fd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            self._gone = True
        except OSError:
            self._fd = None  # a kernel or a sandbox without pidfds

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process is gone. PermissionError when it is somebody else's."""
        if self._gone:
            return False
        try:
            if self._fd is not None:
                signal.pidfd_send_signal(self._fd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            self._gone = True
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; True when it is gone (a zombie counts as gone)."""
        if self._gone:
            return True
        if self._fd is not None:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            self._gone = bool(poll.poll(max(0, int(timeout_s * 1000))))
            return self._gone
        deadline = time.monotonic() + timeout_s
        while exists(self.pid):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        self._gone = True
        return True

    def alive(self) -> bool:
        return not self.wait(0)


def _ps(field: str, pid: int) -> str:
    """One field of a process where there is no /proc; empty when the process is gone."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["ps", "-o", f"{field}=", "-p", str(pid)], capture_output=True, text=True, timeout=5)
        return done.stdout.strip()
    return ""


def exists(pid: int) -> bool:
    """Whether a process runs under this pid; zombies don't."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = _stat(pid)
    running = stat[0] if stat else _ps("stat", pid)[:1]
    return running not in ("Z", "X", "")  # nothing told: it went just now


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (the name before it may hold anything)."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def is_stopped(pid: int) -> bool:
    """Whether the process stands still (SIGSTOP, Ctrl-Z, a debugger): then it hears nothing but SIGKILL."""
    stat = _stat(pid)
    return (stat[0] if stat else _ps("stat", pid)[:1]) in ("T", "t")


def parent(pid: int) -> int | None:
    stat = _stat(pid)
    text = stat[1] if stat else ("" if _PROC.joinpath("self").exists() else _ps("ppid", pid))
    return int(text) if text.isdigit() else None


def ancestors(pid: int) -> list[int]:
    """The pids above a process, nearest first, without init."""
    found: list[int] = []
    above = parent(pid)
    while above is not None and above > 1 and above not in found:
        found.append(above)
        above = parent(above)
    return found


def children(pid: int) -> list[int]:
    """The pids right below a process."""
    if _PROC.joinpath("self").exists():
        return [int(p.name) for p in _PROC.iterdir() if p.name.isdigit() and (stat := _stat(int(p.name))) and stat[1] == str(pid)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, timeout=5)
        return [int(line.split()[0]) for line in done.stdout.splitlines() if line.split()[1:] == [str(pid)]]
    return []


def was_started_with(pid: int, name: str, value: str) -> bool:
    """Whether the process was started with NAME=VALUE in its environment."""
    try:
        return f"{name}={value}".encode() in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        if _PROC.joinpath("self").exists():
            return False  # gone, or another user's
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["ps", "-E", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, timeout=5)
        return f" {name}={value} " in done.stdout.replace("\n", " ") + " "
    return False


def handles_signal(pid: int, number: int) -> bool | None:
    """Whether the process catches (or ignores) a signal; None where that can't be told."""
    try:
        text = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    masks = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith(("SigCgt:", "SigIgn:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)
