"""Bots as plain detached processes, for where there is no screen. Owns data/started/*.out.

Each gets a session of its own (setsid), so that no Ctrl-C or hang-up of ours reaches it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

from core.config import ROOT
from core.fleet.supervisor import STARTED, Launched, StartFailed, Supervisor, child_environment, read_output


class ProcessSupervisor(Supervisor):
    def _launch(self, unit: str, argv: list[str]) -> Launched:
        out = self.files.path(f"{STARTED}/{unit}.out")
        out.parent.mkdir(parents=True, exist_ok=True)
        # Lines for people go to the unit's own log; stderr tells why one ended before it had a log.
        with out.open("wb") as said:
            try:
                process = subprocess.Popen(
                    argv,
                    env=child_environment(self.files.home),
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
            except OSError as e:
                raise StartFailed(f"{unit} could not be started: {e}") from e
        # Somebody must take its exit code, or it stays a zombie as long as we live.
        threading.Thread(target=process.wait, name=f"reap {unit}", daemon=True).start()
        return _ProcessLaunch(process, out)

    def _push(self, unit: str, pid: int) -> None:
        """Nothing keeps a plain process but itself."""

    def _clear(self, unit: str) -> None:
        """Nothing is left of a plain process that is gone."""


class _ProcessLaunch:
    def __init__(self, process: subprocess.Popen[bytes], out: Path):
        self._process, self._out = process, out

    def alive(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        return read_output(self._out)

    def settled(self) -> None:
        pass

    def end(self) -> None:
        # It leads a session of its own: its helpers go with it.
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
