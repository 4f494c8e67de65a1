"""Bots in sessions of GNU screen: `screen -r bot_1` shows one. Owns data/started/*.out.

Facts that shape this (seen with screen 4.09): `-S bot_1` matches by prefix and hits bot_10
when bot_1 is gone, so sessions are always named in full, `PID.bot_1`. Without -U emoji
break. A session whose daemon was killed stays listed as dead until it is wiped.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from core.config import ROOT
from core.fleet.processes import Handle, ancestors, children, was_started_with
from core.fleet.supervisor import STARTED, Launched, StartFailed, Supervisor, child_environment, read_output

APPEARS_S = 5.0  # how long a session may take to be listed
_LINE = re.compile(r"^\s+(\d+)\.(\S+)\s.*\(([^()]*)\)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Session:
    pid: int
    name: str
    dead: bool

    @property
    def full(self) -> str:
        return f"{self.pid}.{self.name}"


def parse_sessions(listing: str) -> list[Session]:
    """The sessions in the output of `screen -ls`."""
    return [Session(int(pid), name, "dead" in state.lower() or "removed" in state.lower()) for pid, name, state in _LINE.findall(listing)]


class ScreenSupervisor(Supervisor):
    """Each unit in a session `{SESSION_PREFIX}{unit}` of its own."""

    def name(self, unit: str) -> str:
        return self.settings.session_prefix + unit

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run screen itself with an argument list; StartFailed when the program is missing or hangs."""
        program = shutil.which("screen")
        if program is None:
            how = "brew install screen" if sys.platform == "darwin" else "sudo apt-get install screen (or your system's: dnf, pacman, apk)"
            raise StartFailed(f"the program screen is missing; install it with: {how}")
        try:
            return subprocess.run(
                [program, *arguments],
                env=child_environment(self.files.home),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=10,
            )
        except subprocess.TimeoutExpired:
            raise StartFailed(f"screen did not answer within 10 s ({' '.join(arguments[:2])})") from None

    def sessions(self) -> list[Session]:
        """Every session of this user, dead ones included, of whichever yard."""
        return parse_sessions(self._run("-ls").stdout)  # its exit code says nothing useful

    def _of_this_home(self, session: Session) -> bool:
        return was_started_with(session.pid, "BOTYARD_HOME", str(self.files.home.resolve()))

    def _launch(self, unit: str, argv: list[str]) -> Launched:
        out = self.files.path(f"{STARTED}/{unit}.out")
        out.parent.mkdir(parents=True, exist_ok=True)
        out.unlink(missing_ok=True)
        listen = ["-L", "-Logfile", str(out).replace("%", "%%")] if self._can_listen() else []
        done = self._run("-U", "-dmS", self.name(unit), *listen, *argv)
        if done.returncode:
            raise StartFailed(f"screen could not start a session for {unit}: {' '.join(done.stdout.split()) or f'exit code {done.returncode}'}")
        return _ScreenLaunch(self, self._appeared(unit, out), out, bool(listen))

    def _appeared(self, unit: str, out: Path) -> Session | None:
        """The session just asked for, None where it has ended already.

        screen returns before its daemon has made the socket: on a busy machine the session is
        listed only later. The daemon opens the log after its socket, so a log without a
        session tells of one that is over."""
        deadline = time.monotonic() + APPEARS_S
        while True:
            begun = out.exists()
            found = [s for s in self.sessions() if s.name == self.name(unit) and self._of_this_home(s)]
            alive = [s for s in found if not s.dead]
            if alive:
                return max(alive, key=lambda s: s.pid)
            if (begun and not found) or time.monotonic() >= deadline:
                return None
            time.sleep(0.02)

    def _can_listen(self) -> bool:
        """-Logfile came with 4.6; macOS ships an older one."""
        match = re.search(r"version (\d+)\.(\d+)", self._run("--version").stdout)
        return match is not None and (int(match[1]), int(match[2])) >= (4, 6)

    def _push(self, unit: str, pid: int) -> None:
        above = ancestors(pid)
        for session in self.sessions():
            # Only the session made for this unit: a person may run the bot in a window of his own.
            if session.name == self.name(unit) and session.pid in above:
                self.quit(session)

    def _clear(self, unit: str) -> None:
        """End sessions of exactly this unit and home that hold no lock; forget dead ones of its name."""
        for session in self.sessions():
            if session.name != self.name(unit):
                continue
            if session.dead:
                self._run("-wipe", session.full)
            elif self._of_this_home(session):
                self.end(session)

    def quit(self, session: Session) -> None:
        self._run("-S", session.full, "-X", "quit")

    def end(self, session: Session) -> None:
        """End a session of this home, with what runs in it: a program that catches the hang-up outlives its session (seen)."""
        with contextlib.ExitStack() as stack:
            process = stack.enter_context(Handle(session.pid))
            inside = [stack.enter_context(Handle(pid)) for pid in children(session.pid)]
            if not self._of_this_home(session):
                return  # it ended meanwhile, and its pid may be a stranger's by now
            self.quit(session)
            for one in (process, *inside):
                if not one.wait(1):
                    one.signal(signal.SIGKILL)
                    one.wait(1)


class _ScreenLaunch:
    def __init__(self, supervisor: ScreenSupervisor, session: Session | None, out: Path, listening: bool):
        self._supervisor, self._session, self._out, self._listening = supervisor, session, out, listening
        self._process = Handle(session.pid) if session else None

    def alive(self) -> bool:
        return self._process is not None and self._process.alive()

    def output(self) -> str:
        return read_output(self._out)

    def settled(self) -> None:
        # From here on the unit's own log tells everything; this one would grow for ever.
        if self._listening and self._session and self.alive():
            self._supervisor._run("-S", self._session.full, "-X", "log", "off")
        self._close()

    def end(self) -> None:
        if self._session and self.alive():
            self._supervisor.end(self._session)
        self._close()

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
