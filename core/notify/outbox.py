"""The outbox: takes events in, and sends what the rules want sent.

Owns data/outbox.lock, data/outbox.db (through store.py) and data/outbox_status.json. The
yard steps one `Outbox`; a thread of its own does the work, so that a slow service holds
nobody up. Who holds the lock sends; nobody else does.

A message is recorded as being sent before it is sent. An outcome that is not known (a
time-out, a 5xx, a cut line, the sender's death) is looked up by the message's short code.
Alerts about risk go out at least once: when the look-up finds nothing, or can't be made,
they are repeated and say so. All else goes out at most once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import config
from core.clock import wall_ms
from core.config import Settings
from core.errors import AlreadyRunning, BotyardError, SettingsError
from core.notify import channels, intake, rules
from core.notify.channels import Channel, Outcome
from core.notify.rules import ASKED, NEVER_FOLDED, Rules
from core.notify.store import Message, Store
from core.storage import Files

LOCK = "data/outbox.lock"
STATUS = "data/outbox_status.json"
LOOK_S = 1.0  # between two looks at the events' file
SHOWN_MS = 3 * 86_400_000  # what could not be sent is shown for so long
FIRST_START_MS = 600_000  # an outbox that is new takes in events of the last ten minutes, not a history
log = logging.getLogger("botyard.notify")


@dataclass(frozen=True)
class Pace:
    """Waits, in ms of wall time. Tests make them short."""

    first_pause: int = 2_000  # after a failure, doubled with each further one ...
    longest_pause: int = 300_000  # ... up to this
    refused_pause: int = 60_000  # where keys, number or text are not accepted; a person must act
    longest_refused: int = 3_600_000
    look_up_after: int = 3_000
    settle: int = 20_000  # a message that was taken is in the service's list by then
    patience: int = 300_000  # look-ups that can't be made for so long no longer keep an alert about risk from being repeated


@dataclass
class _Line:
    """One channel, and how it fares."""

    channel: Channel
    failures: int = 0
    paused_until: int = 0
    problem: str = ""


@dataclass
class _Env:
    signature: tuple[Any, ...] = ()
    rules: Rules = field(default_factory=Rules)
    problems: list[str] = field(default_factory=list)


class Outbox:
    """`turn` is one look at everything, on the caller's thread; `step` sees to it that a thread does it.

    `make` makes the channels from settings; `produce`, called at each look with the wall time and the
    settings, may post events of its own (summaries). Settings and rules are read anew when their files change."""

    def __init__(
        self,
        files: Files,
        settings: Settings,
        *,
        make: Callable[[Settings], Mapping[str, Channel]] = channels.build,
        produce: Callable[[int, Settings], None] | None = None,
        clock_ms: Callable[[], int] = wall_ms,
        pace: Pace | None = None,
        settings_now: Callable[[], Settings] | None = None,
    ):
        self.files, self.settings, self.pace = files, settings, pace or Pace()
        self._make, self._produce, self._clock = make, produce, clock_ms
        self._settings_now = settings_now or (lambda: config.load({**os.environ, "BOTYARD_HOME": str(files.home)}))
        self._lock, self._held = files.lock(LOCK), False
        self.store: Store | None = None
        self._lines: dict[str, _Line] = {}
        self._env = _Env()
        self._written: dict[str, Any] = {}
        self._pruned = 0
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._busy = threading.Lock()
        self._told = self._not_made = ""

    # --- the thread --------------------------------------------------------------------

    def step(self) -> None:
        """For the yard's loop: quick, and it raises nothing."""
        if (self._thread is None or not self._thread.is_alive()) and not self._ending.is_set():
            self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self.turn()
                self._told = ""
            except AlreadyRunning:
                pass  # utils/send_summary.py is sending; it soon ends
            except Exception as e:  # noqa: BLE001 - the thread must outlive whatever one look runs into
                text = self._clean(f"{type(e).__name__}: {e}")
                if text != self._told:
                    self._told = text
                    log.error("messages can't be sent now: %s", text)
                    self._write_status(problem=text)
            self._ending.wait(LOOK_S)

    def close(self, timeout_s: float = 2.0) -> None:
        """End; an attempt that outlasts `timeout_s` is cut off with the process, and looked up at the next start."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if self._busy.acquire(timeout=0.1):
            try:
                if self.store is not None:
                    self.store.close()
                    self.store = None
                self._lock.release()
                self._held = False
            finally:
                self._busy.release()

    # --- one look ----------------------------------------------------------------------

    def turn(self) -> None:
        """Take in what is new, send what is due. AlreadyRunning when another process is at it; StateError, OSError."""
        with self._busy:
            if self._ending.is_set():
                return
            store = self._open()
            self._refresh(store)
            now = self._clock()
            self._have_made(now)
            acted = True
            while acted and not self._ending.is_set():
                self._take_in(store, self._clock())  # each time: an alert about risk overtakes what waits
                acted = any([self._one(store, line) for line in self._lines.values()])  # a list: each channel gets its turn
                self._write_status()
            if now - self._pruned > 3_600_000:
                self._pruned = now
                intake.turn_over(self.files, store, now)
                store.prune(now, now - self._env.rules.keep_ms("risk"), now - self._env.rules.keep_ms("info"))

    def _have_made(self, now: int) -> None:
        """Whatever keeps a summary from being made keeps no alert from being sent."""
        try:
            if self._produce is not None:
                self._produce(now, self.settings)
            self._not_made = ""
        except Exception as e:  # noqa: BLE001 - see above
            text = self._clean(f"{type(e).__name__}: {e}")
            if text != self._not_made:
                self._not_made = text
                log.error("a summary can't be made now: %s", text)

    def _open(self) -> Store:
        if not self._held:
            self._lock.acquire()
            self._held = True
        if self.store is None:
            self.store = Store(self.files)
            cut = self.store.cut_off()
            if cut:
                log.warning("%s message(s) were being sent when the last sender ended; they are looked up", cut)
        return self.store

    def _refresh(self, store: Store) -> None:
        """Settings and rules, when a file of theirs has changed."""
        signature = tuple(_signature(p) for p in (config.env_file(self.files.home), self.files.path(rules.FILE)))
        if signature == self._env.signature:
            return
        first, problems = not self._env.signature, []
        if not first:
            try:
                self.settings = self._settings_now()
            except SettingsError as e:
                problems = [f"the settings are not right, those from before hold: {'; '.join(e.problems)}"]
        found, wrong = rules.read_or_default(self.files)
        # Before the signature is kept: where a channel can't be made, nothing is taken in for none.
        self._lines = {name: _Line(channel) for name, channel in self._make(self.settings).items()}
        self._env = _Env(signature, rules=found, problems=[*problems, *([wrong] if wrong else [])])
        for text in self._env.problems:
            log.warning("%s", text)
        if not first:
            store.try_again(self._clock())  # what failed may have been mended

    # --- taking in ---------------------------------------------------------------------

    def _take_in(self, store: Store, now: int) -> None:
        """Every new line of events, exactly once."""
        intake.take_in(self.files, store, lambda event, new: self._accept(store, event, now, new))

    def _accept(self, store: Store, event: dict[str, Any], now: int, new: bool) -> None:
        kind, severity, bot_id = event["kind"], event["severity"], event["bot_id"]
        paper = event["data"].get("mode") == "paper"
        r = self._env.rules
        age = now - event["wall_ms"]
        if not r.wanted(kind, severity, bot_id) or age > r.keep_ms(severity) or (new and age > FIRST_START_MS):
            return
        if paper and not self.settings.notify_paper and kind not in ASKED:
            return
        label = "" if kind == "summary" else "Botyard" + (" ALERT" if severity == "risk" else "") + (" (paper)" if paper else "") + ": "
        text = self._clean(event["text"])
        text = text if kind in ASKED or len(text) <= 400 else text[:400] + "..."
        fold = None if kind in NEVER_FOLDED or not r.fold_minutes else f"{kind}:{severity}:{bot_id}"
        for name in self._lines:
            store.add(name, event["key"], event, label, text, fold, now, r.fold_minutes * 60_000)

    # --- sending -----------------------------------------------------------------------

    def _one(self, store: Store, line: _Line) -> bool:
        """Act upon one message of a channel; whether there was one."""
        now = self._clock()
        doubtful = store.due(line.channel.name, now, ("unknown",))
        if doubtful is not None:
            self._look_up(store, line, doubtful)
            return True
        if now < line.paused_until:
            return False
        message = store.due(line.channel.name, now, ("queued",))
        if message is None:
            return False
        if self._may_go(store, message, now):
            self._send(store, line, message)
        return True

    def _may_go(self, store: Store, m: Message, now: int) -> bool:
        r = self._env.rules
        if now - m.created_ms > r.keep_ms(m.severity):
            store.change(m, state="expired", done_ms=now, why=m.why or "it could not be sent in time")
            return False
        if m.severity == "risk" or m.first_ms is not None:
            return True
        quiet = r.quiet_until(now) if m.kind not in ASKED else None
        if quiet is not None:
            # A night may be longer than messages keep: the waiting doesn't count.
            store.change(m, due_ms=quiet, created_ms=quiet)
            return False
        if store.attempted_since(m.channel, now - now % 86_400_000) >= r.per_day:
            store.change(m, state="over_limit", done_ms=now, why=f"more than {r.per_day} messages today (per_day in {rules.FILE})")
            return False
        return True

    def _send(self, store: Store, line: _Line, m: Message) -> None:
        text = m.label + ("(possible repeat) " if m.repeat else "") + m.text + (f" ({m.count} times)" if m.count > 1 else "")
        began = self._clock()
        store.change(m, state="sending", attempts=m.attempts + 1, attempt_ms=began, first_ms=m.first_ms or began)
        outcome = line.channel.send(text, m.ref)
        now, why = self._clock(), self._clean(outcome.why)
        if outcome.result != "sent":
            level = logging.WARNING if why != m.why else logging.DEBUG  # a row of failures is one line
            log.log(level, "%s: message %s (%s) was not confirmed: %s (%s)", line.channel.name, m.ref, m.kind, outcome.result, why)
        if outcome.result == "sent":
            line.failures, line.paused_until, line.problem = 0, 0, ""
            store.change(m, state="sent", done_ms=now, why="")
            log.info("%s: message %s (%s) is sent", line.channel.name, m.ref, m.kind)
        elif outcome.result == "unknown":
            self._pause(line, outcome, now, why)
            store.change(m, state="unknown", due_ms=now + self.pace.look_up_after, lookups=0, absent=0, why=why)
        elif outcome.result == "refused":
            if m.severity == "risk":  # a person may yet mend the number: an alert is not thrown away
                store.change(m, state="queued", due_ms=now + self._doubled(m.attempts, self.pace.refused_pause, self.pace.longest_refused), why=why)
            else:
                store.change(m, state="refused", done_ms=now, why=why)
        else:
            self._pause(line, outcome, now, why)
            store.change(m, state="queued", due_ms=line.paused_until, why=why)

    def _pause(self, line: _Line, outcome: Outcome, now: int, why: str) -> None:
        """A service in trouble is left alone for a while, with all that waits for it."""
        p = self.pace
        first, longest = (p.refused_pause, p.longest_refused) if outcome.result == "access" else (p.first_pause, p.longest_pause)
        wait = max(self._doubled(line.failures, first, longest), int(outcome.retry_after_s * 1000))
        line.failures, line.paused_until, line.problem = line.failures + 1, now + wait, why

    @staticmethod
    def _doubled(n: int, first: int, longest: int) -> int:
        return min(longest, first << min(n, 20))

    def _look_up(self, store: Store, line: _Line, m: Message) -> None:
        """An unknown outcome: ask the service, then repeat what must arrive and give up the rest."""
        p, found = self.pace, line.channel.find(m.ref, m.first_ms or m.created_ms)
        now = self._clock()
        since = m.attempt_ms or m.created_ms
        if found == "found":
            log.info("%s: message %s (%s) had gone out, its look-up says", line.channel.name, m.ref, m.kind)
            store.change(m, state="sent", done_ms=now, why="")
        elif found == "absent" and (m.absent < 1 or now - since < p.settle):
            store.change(m, absent=m.absent + 1, due_ms=max(now + p.look_up_after, since + p.settle))
        elif found == "unknown" and now - since < (p.patience if m.severity == "risk" else self._env.rules.keep_ms(m.severity)):
            store.change(m, lookups=m.lookups + 1, due_ms=now + self._doubled(m.lookups, p.look_up_after, p.longest_pause))
        elif m.severity == "risk":
            due = now if found == "absent" else max(now, line.paused_until)
            store.change(m, state="queued", repeat=1, due_ms=due)
        else:
            store.change(m, state="given_up", done_ms=now, why=f"{m.why or 'no answer came'}; it may have arrived, and is not repeated")

    # --- showing -----------------------------------------------------------------------

    def _write_status(self, problem: str = "") -> None:
        """What the page shows, when it has changed; a disk that is full is told in the log alone."""
        shown: dict[str, Any] = {"schema": 1, "problems": [*self._env.problems, *([problem] if problem else [])], "waiting": 0, "unsent": []}
        shown["channels"] = [{"name": n, "problem": line.problem} for n, line in self._lines.items()]
        try:
            if self.store is not None and not problem:
                shown["waiting"] = self.store.waiting()
                shown["unsent"] = [_shown(m) for m in self.store.unsent(self._clock() - SHOWN_MS)]
            if shown != self._written:
                self.files.write_json(STATUS, {**shown, "pid": os.getpid(), "wall_ms": self._clock()}, durable=False, keep_previous=False)
                self._written = shown
        except (BotyardError, OSError) as e:
            log.error("%s can't be written: %s", STATUS, e)

    def _clean(self, text: str) -> str:
        for secret in self.settings.secrets():
            text = text.replace(secret, "***")
        return "".join(c if c.isprintable() else " " for c in text)


def _shown(m: Message) -> dict[str, Any]:
    return {
        "ref": m.ref, "channel": m.channel, "kind": m.kind, "severity": m.severity, "bot_id": m.bot_id, "text": m.text, "count": m.count,
        "wall_ms": m.created_ms, "state": m.state, "why": m.why, "attempts": m.attempts,
    }  # fmt: skip


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
