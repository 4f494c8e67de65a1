"""What the strategies' files hold, for page and yard: asked of a short-lived process (catalogue_child.py). Owns no file.

A person's file may do anything at its import: never end, hold the interpreter in C, call
os._exit, take all memory. In a process of its own it can keep neither page nor yard from going
on, and neither of them loads numpy or pandas for it. One process reads all files and says which it
has begun and ended; where it ends without an answer, or gives no sign of life, the file that it
was in is the culprit: that one is named and left out, and another process reads the rest. A file
that was left out is tried again when it changes; so is all that is broken, after RETRY_S, because
a package may have been installed meanwhile. Params go over as JSON and money comes back as text.

A bot doesn't come here: it executes its own file and no other, and its restart is the yard's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import simplejson

from core.errors import InputError, StrategyError
from core.storage import loads
from strategies import places
from strategies.bounded import BOUND_S

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0  # until the process gives its first sign of life
SILENCE_S = 3.0  # between two, at least; else the bound itself
PATIENCE_S = 5.0  # that who asks waits for a new answer before it gets what is known so far
RETRY_S = 60.0
STILL = "it is still being read: its import has not ended yet; ask again in a moment"
KEPT = 200  # answers about single strategies

Signature = tuple[tuple[str, int, int, int], ...]


class Catalogue:
    """The strategies shipped and those in `folder`. Any thread may ask; `bound_s` as in strategies/bounded.py."""

    def __init__(self, folder: Path, bound_s: float = BOUND_S):
        self.folder, self.bound_s = folder, bound_s
        self._lock = threading.Lock()
        self._dead: dict[places.Stamp, str] = {}
        self._known: tuple[Signature, float, dict[str, Any]] | None = None
        self._survey: _Survey | None = None
        self._built: dict[tuple[Signature, str, str], dict[str, Any]] = {}

    def told(self) -> dict[str, Any]:
        """`{"strategies": [...], "broken": {file: reason}, "reading": [file, ...]}`. While a new answer is in the
        making it is what is known of it so far; `reading`, and `broken` too, then name the files that are still being read."""
        now = self._signature()
        with self._lock:
            known = self._known
            if known is not None and known[0] == now and not (known[2]["broken"] and time.monotonic() - known[1] > RETRY_S):
                return known[2]
            survey = self._survey
            if survey is None or survey.signature != now:
                survey = self._survey = _Survey(self, now)
                survey.start()
        changed = known is None or known[0] != now
        if survey.done.wait(PATIENCE_S if changed else 0):
            if survey.problem:
                raise StrategyError(survey.problem)
            return survey.found
        return known[2] if known is not None and not changed else survey.so_far()

    def build(self, key: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the strategy declares with these parameters: `{"stop_loss_pct": Decimal or None, "manages_position": bool}`.

        StrategyError (no such key, broken file), InputError (parameters)."""
        text = simplejson.dumps(params or {}, use_decimal=True, sort_keys=True, default=str)
        asked = (self._signature(), key, text)
        found = self._built.get(asked) or (None if params else self._by_default(asked[0], key))
        if found is None:
            found = self._ask({"key": key, "params": params or {}})
            with self._lock:
                if len(self._built) >= KEPT:
                    self._built.clear()
                if "built" in found:
                    self._built[asked] = found
        if "built" not in found:
            raise InputError(found["error"]) if found["input"] else StrategyError(found["error"])
        stop = found["built"]["stop_loss_pct"]
        return {**found["built"], "stop_loss_pct": None if stop is None else Decimal(stop)}

    def _by_default(self, now: Signature, key: str) -> dict[str, Any] | None:
        """With the parameters' defaults the survey has built each already; None where that is of older files."""
        known = self._known
        if known is not None and known[0] == now:
            for told in known[2]["strategies"]:
                if told["key"] == key:
                    return {"built": {name: told[name] for name in ("stop_loss_pct", "manages_position")}}
        return None

    def _signature(self) -> Signature:
        found = []
        for folder in places.folders(self.folder):
            with contextlib.suppress(OSError):
                for path in places.paths(folder):
                    try:
                        info = path.stat()
                        found.append((str(path), info.st_ino, info.st_mtime_ns, info.st_size))
                    except OSError:
                        found.append((str(path), 0, 0, 0))
        return tuple(found)

    def _ask(self, question: Mapping[str, Any], seen: _Seen | None = None) -> dict[str, Any]:
        """The answer of a process, however many files end the one that reads them. StrategyError where none can be had."""
        tries, why = 3, ""
        while tries:
            with self._lock:
                dead = list(self._dead.items())
            seen = seen or _Seen()
            seen.begun.clear()
            child = _Child({**question, "folder": str(self.folder), "bound_s": self.bound_s, "dead": dead}, self.bound_s, seen)
            try:
                found = child.run()
            except OSError as e:
                raise StrategyError(f"the strategies can't be read: no process can be started for it ({e.strerror or e})") from e
            with self._lock:
                self._dead.update(seen.left)
            if found is not None:
                return found
            why = child.why
            guilty = {}
            for path in seen.begun:
                with contextlib.suppress(StrategyError, OSError):
                    guilty[places.stamp(Path(path))] = why
            if len(guilty) == 1:
                with self._lock:
                    self._dead.update(guilty)
            else:
                tries -= 1
                question = {**question, "alone": True}
        raise StrategyError(f"the strategies can't be read: {why}")


@dataclass
class _Seen:
    """What a process has told so far, by file: begun and not ended, working, broken, and left behind."""

    begun: dict[str, None] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    left: dict[places.Stamp, str] = field(default_factory=dict)

    def hear(self, said: Mapping[str, Any]) -> None:
        if "begun" in said:
            self.begun[said["begun"]] = None
        path = said.get("ended")
        if path is not None:
            self.begun.pop(path, None)
            if said["told"]:
                self.told[path] = said["told"]
            if said["why"]:
                self.broken[path] = said["why"]
            if said["left"]:
                self.left[_stamp(said["left"][0])] = said["left"][1]


def _stamp(raw: list[Any]) -> places.Stamp:
    return str(raw[0]), int(raw[1]), int(raw[2]), int(raw[3])


class _Survey(threading.Thread):
    """One look at all files, beside whoever waits for it."""

    def __init__(self, owner: Catalogue, signature: Signature):
        super().__init__(name="strategies", daemon=True)
        self.owner, self.signature = owner, signature
        self.seen = _Seen()
        self.done = threading.Event()
        self.found: dict[str, Any] = {}
        self.problem = ""

    def so_far(self) -> dict[str, Any]:
        """What is known while it goes on; of two files with one key only the end of it tells whose it is."""
        seen = self.seen
        told = sorted({t["key"]: t for t in reversed(list(seen.told.values()))}.values(), key=lambda t: str(t["key"]))
        reading = sorted(Path(p).name for p in list(seen.begun)) or ["strategies"]
        broken = {Path(p).name: why for p, why in list(seen.broken.items())}
        return {"strategies": told, "broken": {**broken, **dict.fromkeys(reading, STILL)}, "reading": reading}

    def run(self) -> None:
        owner = self.owner
        try:
            found = owner._ask({}, self.seen)
            self.found = {"strategies": found["strategies"], "broken": found["broken"], "reading": []}
        except StrategyError as e:
            self.problem = str(e)
        with owner._lock:
            if not self.problem:
                owner._known = (self.signature, time.monotonic(), self.found)
            if owner._survey is self:
                owner._survey = None
        self.done.set()


class _Child:
    """One process that reads the files. `why`: how it ended without an answer."""

    def __init__(self, question: Mapping[str, Any], bound_s: float, seen: _Seen):
        self.question, self.bound_s, self.seen = question, bound_s, seen
        self.why = ""

    def run(self) -> dict[str, Any] | None:
        """Its answer; None where it ended, or had to be ended, without one."""
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "core.bot.catalogue_child", str(write)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(write,),
                start_new_session=True,
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        try:
            assert process.stdin is not None
            with contextlib.suppress(OSError), process.stdin as stdin:
                stdin.write(simplejson.dumps(self.question, use_decimal=True, default=str).encode())
            answer = self._listen(read)
        finally:
            os.close(read)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # and whatever the files have started
            code = process.wait()
        if answer is None and not self.why:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self.why = f"it ends the process that reads it ({how}); take what runs at its import out of it, then save it"
        return answer

    def _listen(self, read: int) -> dict[str, Any] | None:
        """Hear it out; None when it has ended or gives no sign of life."""
        rest, patience = b"", START_S
        ears = select.poll()
        ears.register(read, select.POLLIN)
        while ears.poll(patience * 1000):
            got = os.read(read, 1 << 16)
            if not got:
                return None
            patience = max(self.bound_s, SILENCE_S)
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                try:
                    said = loads(line)
                except ValueError:
                    continue  # not one of ours: a file has written where it has nothing to write
                if "answer" in said:
                    answer: dict[str, Any] = said["answer"]
                    return answer
                self.seen.hear(said)
        self.why = f"it doesn't end its import: it holds the interpreter, with no sign of life for {patience:g} s. Take what runs there out of it, then save it"
        return None


_shared: dict[Path, Catalogue] = {}
_sharing = threading.Lock()


def of(folder: Path) -> Catalogue:
    """This process's catalogue of a folder."""
    with _sharing:
        return _shared.setdefault(folder, Catalogue(folder))
