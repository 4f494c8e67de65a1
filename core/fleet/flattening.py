"""Sees a flatten through to its end, also past bots and a yard that are dead or hang. Owns no file.

A running bot obeys the kill switch by itself. `Flattening` does the rest, in whatever process a
person pressed the switch: it makes sure that the yard runs, starts a guard for whoever has
something open and no process, and replaces by a guard whoever has something open and gives no
sign of life. A bot that lives is never ended, however long its order takes: it asks the exchange
what became of it. A death at any moment is covered by the request that the position file holds.

Every start and end happens under the bot's action lock, after a new look at it: page, command and
yard may all be at it at once, and a bot has one process or none.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from core import notify
from core.clock import wall_ms
from core.config import Settings
from core.errors import BotyardError, StateError
from core.fleet import control, kill, locks, maintenance, records, reserve, state
from core.fleet.processes import is_stopped
from core.fleet.supervisor import Supervisor
from core.fleet.yard import read_status as read_yard_status
from core.model import Event
from core.storage import Files

POLL_S = 0.2
ANSWER_S = 10.0  # a bot that lives writes a sign of life every two seconds, and before each request
REQUEST_S = 2.0  # ... so that a request may take HTTP_TIMEOUT, and this for what lies around it
STOPPED_S = 3.0  # a stopped process (SIGSTOP) can do nothing at all: only one that is stopped for a moment is spared
START_S = 30.0  # a busy machine needs its time for imports, and a new start would need it again
OWN_WATCH_S = 3.0  # for so long we must have seen the silence ourselves: a wall clock that jumps ends nobody
AGAIN_S = 5.0  # a guard that could not be started is tried again
LOCK_S = 5.0  # whoever starts or ends the bot just now: the next look sees what came of it
END_S = 2.0  # SIGTERM has most of it: whoever hangs hears it seldom
WORKERS = 4
PAGE_S = 300.0  # the page goes on for so long; the yard and the bots go on for ever
PROBE = "data/kill_probe"
log = logging.getLogger("botyard.kill")


@dataclass(slots=True)
class Course:
    """What became of one bot. Times are seconds since the switch was pulled. `open`: None when flat;
    `heard`: it can't be about to buy; `hung`: it gives no sign of life; `guard`: one was started for it."""

    id: int
    name: str
    before: str | None = None
    open: str | None = None
    flat_s: float | None = None
    heard: bool = True
    hung: bool = False
    guard: bool = False
    steps: list[tuple[float, str]] = field(default_factory=list)
    again: float = 0.0
    told: str = ""

    def as_json(self) -> dict[str, Any]:
        steps = [{"s": round(s, 1), "text": text} for s, text in self.steps]
        flat = None if self.flat_s is None else round(self.flat_s, 1)
        now = {"open": self.open, "flat_s": flat, "heard": self.heard, "hung": self.hung, "guard": self.guard}
        return {"id": self.id, "name": self.name, "before": self.before, **now, "steps": steps}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`flat`: nothing is open, and no bot that lives may be about to buy. `stopped`: why the watch ended early."""

    flat: bool
    seconds: float
    bots: list[Course]
    yard: str
    stopped: str = ""

    @property
    def left(self) -> list[Course]:
        return [c for c in self.bots if c.open]

    @property
    def unheard(self) -> list[Course]:
        """Flat bots that have not said that they saw the switch."""
        return [c for c in self.bots if not c.open and not c.heard]


class Silence:
    """How long one process has given no sign of life."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, bool] | None = None
        self._since = 0.0

    def hangs(self, pid: int, beat_wall_ms: int, bound_s: float, monotonic: float) -> str:
        """Why it counts as hung, "" where it doesn't. `beat_wall_ms`: its last sign of life, 0 for none yet."""
        still = is_stopped(pid)
        if self._seen != (pid, beat_wall_ms, still):
            self._seen, self._since = (pid, beat_wall_ms, still), monotonic
        watched = monotonic - self._since
        if still:
            return f"process {pid} stands still (it was stopped by a signal)" if watched >= STOPPED_S else ""
        age = max(watched, (wall_ms() - beat_wall_ms) / 1000) if beat_wall_ms else watched
        return f"process {pid} has given no sign of life for {age:.0f} s" if age >= bound_s and watched >= OWN_WATCH_S else ""


class Flattening:
    """One press of the switch. `say` hears each step as a line for a person. Used by one thread."""

    def __init__(self, files: Files, settings: Settings, keeper: Supervisor, by: str, say: Callable[[str], None] = lambda text: None):
        self.files, self.settings, self.keeper, self.by, self.say = files, settings, keeper, by, say
        self.answer_s = max(ANSWER_S, float(settings.http_timeout) + REQUEST_S)
        self.courses: dict[int, Course] = {}
        self.yard = ""
        self.ending = threading.Event()
        self._begun = time.monotonic()
        self._silence: dict[str, Silence] = {}
        self._busy: dict[str, Future[None]] = {}
        self._yard_again = 0.0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="flatten")

    def run(self, seconds: float) -> Outcome:
        """Go on until everything is flat, the switch is lifted, or `seconds` are over. A start under way is waited for."""
        stopped = ""
        try:
            while True:
                self._look()
                stopped = self._lifted()
                if stopped or not self._waiting() or self.ending.is_set() or self.seconds() >= seconds:
                    break
                self.ending.wait(POLL_S)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
        bots = [self.courses[i] for i in sorted(self.courses)]
        return Outcome(not self._waiting(), self.seconds(), bots, self.yard, stopped)

    def seconds(self) -> float:
        return time.monotonic() - self._begun

    # --- looking -----------------------------------------------------------------------------

    def _look(self) -> None:
        pids = self.keeper.running()
        for s in kill.standing(self.files, self.keeper):
            course = self.courses.setdefault(s.id, Course(s.id, s.name, s.open))
            pid = pids.get(s.id)
            status = state.read_status(self.files, s.id) if pid is not None else None
            own = status if status is not None and status.get("pid") == pid else None
            hung = self._hangs(s.id, pid, own) if pid is not None else ""
            course.hung = bool(hung)
            course.heard = pid is None or heard(own)
            if course.open and not s.open:
                course.flat_s = self.seconds()
                self._step(course, "flat")
            course.open = s.open
            if s.open:
                course.before = course.before or s.open
                course.flat_s = None
                self._progress(course, s, own, pid)
                self._act(course, s, pid, hung)
        if any(c.open for c in self.courses.values()) and reserve.full(self.files) and reserve.give_back(self.files):
            self._say(f"the disk is full: {reserve.RESERVE_BYTES >> 20} MB that were put by for this are free now")
        self._look_at_yard()

    def _waiting(self) -> bool:
        """Whether something is open, or a bot that lives has not seen the switch: its entry may be under way.

        One that hangs with nothing open has sent nothing; it finds the switch when it goes on."""
        return any(c.open or not (c.heard or c.hung) for c in self.courses.values())

    def _lifted(self) -> str:
        try:
            switch = kill.read(self.files)
        except (StateError, OSError):
            return ""  # whoever can't read it buys nothing; it is looked at again
        if switch is None:
            return "the switch was lifted meanwhile: what is open is not sold any more"
        return "" if switch["what"] == "flatten" else f"the switch was set to {switch['what']} by {switch['by']} meanwhile: what is open is not sold any more"

    def _hangs(self, bot_id: int, pid: int, own: Mapping[str, Any] | None) -> str:
        beat = own.get("heartbeat_wall_ms") if own else 0
        starting = own is None or own.get("state") == "starting"
        bound = max(START_S, self.answer_s) if starting else self.answer_s
        silence = self._silence.setdefault(f"bot_{bot_id}", Silence())
        return silence.hangs(pid, beat if isinstance(beat, int) else 0, bound, time.monotonic())

    def _progress(self, course: Course, s: kill.Standing, own: Mapping[str, Any] | None, pid: int | None) -> None:
        troubles = [str(w.get("text")) for w in (own or {}).get("warnings") or [] if isinstance(w, Mapping) and w.get("kind") != "guard"]
        word = "; ".join(filter(None, (s.open, "" if pid else "no process", s.error, troubles[-1] if troubles else "")))
        if word != course.told:
            course.told = word
            self._step(course, word)

    # --- acting --------------------------------------------------------------------------------

    def _act(self, course: Course, s: kill.Standing, pid: int | None, hung: str) -> None:
        if s.error or (pid is not None and not hung) or time.monotonic() < course.again:
            return  # a file that can't be read is not mended by a guard
        if pid is None:
            self._submit(f"bot_{course.id}", lambda: self._guard(course))
        else:
            self._submit(f"bot_{course.id}", lambda: self._replace(course, pid, hung))

    def _submit(self, unit: str, do: Callable[[], None]) -> None:
        if unit not in self._busy or self._busy[unit].done():
            self._busy[unit] = self._pool.submit(do)

    def _guard(self, course: Course) -> None:
        course.again = time.monotonic() + AGAIN_S
        problem = kill.send_guard(self.files, self.settings, self.keeper, course.id, wait_s=LOCK_S)
        if problem:
            self._tell_problem(course, f"no guard could be started: {problem}")
        else:
            pid, course.guard = self.keeper.pid(course.id), True
            self._step(course, f"process {pid} was started, which sells" if pid else "a guard was started and has ended already")
        course.again = time.monotonic() + AGAIN_S

    def _replace(self, course: Course, pid: int, hung: str) -> None:
        """End a bot that hangs and start a guard in its place, if the guard can be started at all."""
        course.again = time.monotonic() + AGAIN_S
        bot_id = course.id
        try:
            with locks.action(self.files, f"bot_{bot_id}", LOCK_S):
                status = state.read_status(self.files, bot_id)
                own = status if status is not None and status.get("pid") == pid else None
                if self.keeper.pid(bot_id) != pid or not self._hangs(bot_id, pid, own) or not state.has_open_business(self.files, bot_id) or self._lifted():
                    return
                problem = self._no_guard(bot_id)
                if problem:
                    return self._tell_problem(course, f"it hangs ({hung}), and is not ended, because no guard could take its place: {problem}")
                self._step(course, f"it hangs ({hung}): it is ended")
                self.keeper.stop(bot_id, by=f"the kill switch ({self.by}): it hung", timeout_s=END_S, at_once=is_stopped(pid))
                kill.start_guard(self.files, self.settings, self.keeper, kill.record_for(self.files, bot_id))
            course.guard = True
            self._step(course, f"a guard took its place{f' (process {now})' if (now := self.keeper.pid(bot_id)) else ''}")
            self.post(f"{course.name} (bot {bot_id}) hung while the kill switch sold everything ({hung}): it was ended, and a guard sells.")
        except (BotyardError, OSError) as e:
            self._tell_problem(course, str(e))
        finally:
            course.again = time.monotonic() + AGAIN_S

    def _no_guard(self, bot_id: int) -> str:
        """What would keep a guard from starting, "" for nothing: nobody is ended for whom there is no other."""
        mode = maintenance.read(self.files)
        if mode.on:
            return mode.why
        try:
            problem = records.mode_problem(kill.record_for(self.files, bot_id), self.settings.trading_mode, guard=True)
            if problem:
                return problem
            self._probe()
        except BotyardError as e:
            return str(e)
        except OSError as e:
            return f"the disk takes nothing ({e.strerror or e}): free some space"
        return ""

    def _probe(self) -> None:
        """OSError where the disk takes nothing: then it takes no sign of life either, and no guard's request."""
        probe = self.files.path(PROBE)
        try:
            with probe.open("wb") as f:
                f.write(b"x" * 4096)
                f.flush()
                os.fsync(f.fileno())
        finally:
            probe.unlink(missing_ok=True)

    # --- the yard --------------------------------------------------------------------------------

    def _look_at_yard(self) -> None:
        """Started where it doesn't run, and where it hangs: it may hold the lock under which a bot is started."""
        if time.monotonic() < self._yard_again:
            return
        pid = self._unit("yard")
        if pid is None:
            return self._submit("yard", lambda: self._start_yard(None, ""))
        status = read_yard_status(self.files)
        beat = status.get("heartbeat_wall_ms") if status and status.get("pid") == pid else 0
        hung = self._silence.setdefault("yard", Silence()).hangs(pid, beat if isinstance(beat, int) else 0, START_S, time.monotonic())
        if hung:
            self._submit("yard", lambda: self._start_yard(pid, hung))
        elif not self.yard:
            self.yard = f"runs (process {pid})"

    def _unit(self, unit: str) -> int | None:
        try:
            return self.keeper.unit_pid(unit)
        except StateError:
            return None

    def _start_yard(self, pid: int | None, hung: str) -> None:
        try:
            if pid is not None and self.keeper.unit_pid("yard") == pid:
                self._say(f"the yard hangs ({hung}): it is ended and started anew")
                with locks.action(self.files, "yard", LOCK_S):
                    if self.keeper.unit_pid("yard") == pid:
                        self.keeper.stop_unit("yard", timeout_s=END_S, at_once=is_stopped(pid))
            now = control.ensure_yard(self.files, self.settings, self.keeper)
            self.yard = f"{'hung and was started anew' if pid else 'did not run and was started'} (process {now})"
        except (BotyardError, OSError) as e:
            self.yard = f"could not be started: {e}"
        self._say(f"the yard {self.yard}")
        self._yard_again = time.monotonic() + AGAIN_S

    # --- telling -----------------------------------------------------------------------------------

    def _tell_problem(self, course: Course, text: str) -> None:
        if not course.steps or course.steps[-1][1] != text:
            self._step(course, text)

    def _step(self, course: Course, text: str) -> None:
        course.steps.append((self.seconds(), text))
        self._say(f"bot {course.id} ({course.name}): {text}")

    def _say(self, text: str) -> None:
        with self._lock:
            self.say(f"{self.seconds():6.1f} s  {text}")

    def post(self, text: str) -> None:
        try:
            notify.post(self.files, Event("kill_switch", text, "risk", wall_ms=wall_ms()))
        except OSError as e:
            log.error("an event can't be written: %s", e)


def heard(own: Mapping[str, Any] | None) -> bool:
    """Whether a running bot can't be about to buy. `own`: its status, None where its process has written none yet.

    Guards and starting bots buy nothing before their first step, which looks at the switch; the others say that they saw it."""
    if own is None or own.get("guard") or own.get("state") != "running":
        return True
    return any(isinstance(w, Mapping) and w.get("kind") == "guard" and "kill switch" in str(w.get("text")) for w in own.get("warnings") or [])


def finish(flattening: Flattening, seconds: float) -> Outcome:
    """Run it, and tell everybody how it ended."""
    outcome = flattening.run(seconds)
    if not flattening.ending.is_set():  # else somebody else goes on with it
        flattening.post(f"{summary(outcome)} (kill switch pulled by {flattening.by})")
    return outcome


def summary(outcome: Outcome) -> str:
    """The end of it in a sentence or two."""
    if outcome.flat:
        hung = ", ".join(f"bot {c.id}" for c in outcome.unheard)
        note = f" {hung} can't be reached, with nothing open: the switch is the first thing found when it goes on." if hung else ""
        return f"Everything is flat after {outcome.seconds:.1f} s.{note} No bot buys until the switch is lifted."
    parts = [f"bot {c.id} ({c.open})" for c in outcome.left] + [f"bot {c.id} (flat, has not said that it saw the switch)" for c in outcome.unheard]
    what = f"Still open after {outcome.seconds:.1f} s: {', '.join(parts)}."
    return f"{what} {outcome.stopped[:1].upper()}{outcome.stopped[1:]}." if outcome.stopped else f"{what} Bots and yard go on trying."


_background: dict[str, tuple[Flattening, threading.Thread]] = {}
_background_lock = threading.Lock()


def begin(files: Files, settings: Settings, keeper: Supervisor, by: str, seconds: float = PAGE_S) -> None:
    """See a flatten through on a thread of this process, one for each home; a second press takes over from the first."""
    flattening = Flattening(files, settings, keeper, by, lambda text: log.warning("kill switch: %s", text))
    thread = threading.Thread(target=finish, args=(flattening, seconds), name="flatten", daemon=True)
    with _background_lock:
        before = _background.get(str(files.home.resolve()))
        if before is not None:
            before[0].ending.set()
        _background[str(files.home.resolve())] = (flattening, thread)
        thread.start()


def end(files: Files, wait_s: float = 5.0) -> None:
    """End what `begin` began for this home: the process is about to end."""
    with _background_lock:
        found = _background.pop(str(files.home.resolve()), None)
    if found is not None:
        found[0].ending.set()
        found[1].join(wait_s)
