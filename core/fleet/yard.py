"""The yard process: brings back what is wanted and gone. Owns data/yard_status.json.

One per home, by data/yard.lock; `python3 -m core.fleet` runs it. It belongs to no bot and
no bot needs it to protect its position. It goes on when the page is closed; when it ends,
bots and paper exchange go on, and the next yard adopts them.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from core import config, notify
from core.clock import wall_ms
from core.config import Settings
from core.errors import AlreadyRunning, BotyardError, Conflict, NotFound, SettingsError
from core.fleet import locks, maintenance, records, state
from core.fleet.following import Followers
from core.fleet.health import exposed_bound_ms, late, stuck_bound_ms
from core.fleet.keeper import Judge, Keeper
from core.fleet.paper_unit import PaperUnit
from core.fleet.policy import Watch, pause_s
from core.fleet.recovery import Recovery
from core.fleet.registry import Registry
from core.fleet.sampling import Sampling, replace
from core.fleet.supervisor import StartFailed, Supervisor
from core.fleet.workers import CameUp, Workers
from core.model import Event
from core.notify.outbox import Outbox
from core.storage import Files

STATUS = "data/yard_status.json"
STEP_S = 0.5
HEARTBEAT_S = 1.0
log = logging.getLogger("botyard.yard")


def read_status(files: Files) -> dict[str, Any] | None:
    """The yard's last word on everything, None where there is none or it can't be read."""
    try:
        return files.read_json(STATUS, schema=1)
    except (BotyardError, OSError):
        return None


class Yard:
    """`step` is one look at everything; `run` repeats it. Starts are done by threads of its own,
    so that a slow one keeps nothing else waiting."""

    def __init__(
        self,
        files: Files,
        settings: Settings,
        supervisor: Supervisor,
        *,
        paper_argv: list[str] | None = None,
        settings_now: Callable[[], Settings] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        outbox: Outbox | None = None,
        keeper: bool = False,
    ):
        self.files, self.settings, self.supervisor, self.outbox = files, settings, supervisor, outbox
        self.registry = Registry(files)
        self._settings_now = settings_now or (lambda: config.load({**os.environ, "BOTYARD_HOME": str(files.home)}))
        self.monotonic = monotonic
        self.bound_ms, self.exposed_ms = stuck_bound_ms(settings), exposed_bound_ms(settings)
        self._started_wall_ms = wall_ms()
        self.records: list[dict[str, Any]] = []
        self._maintenance = maintenance.Mode()
        self.watches: dict[int, Watch] = {}
        self._paper = PaperUnit(
            files,
            supervisor,
            paper_argv or [sys.executable, "-m", "core.paper"],
            monotonic,
            submit=lambda job: self.workers.submit("paper", -1, job),
            crashed=self._paper_crashed,
        )
        self.sampling = Sampling(files, supervisor, records=lambda: self.records, tell=self._tell_usage, replace=self._replace_heavy, monotonic=monotonic)
        self._problem = ""
        self._adopted = False
        self._written = float("-inf")
        self.workers = Workers()
        self.followers = Followers(
            files,
            supervisor,
            submit=lambda bot_id, job: self.workers.submit(f"bot_{bot_id}", 2, job),
            tell=lambda record, text: self.tell(record, "followed", text, "info"),
            monotonic=monotonic,
        )
        self.recovery = Recovery(self)
        self.keeper = Keeper(files, supervisor, self.recovery, self._settings_now, judge=self._judge) if keeper else None

    def _judge(self) -> Judge:
        from core.fleet.guarding import Guarding  # here: it starts bots by way of control, which knows this module

        return Guarding(self.files, self.supervisor, self._settings_now)

    # --- the loop -------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Look around until `stop` is set; then end itself only."""
        while not stop.is_set():
            try:
                self.step()
            except Exception:  # the loop must outlive whatever one look runs into
                log.exception("a look at the bots failed; the next one follows")
            self.sampling.step()
            stop.wait(STEP_S)
        self.workers.ending = True
        if self.keeper is not None:
            self.keeper.close()
        self.sampling.close()
        self.settle(2.0)
        if self.outbox is not None:
            self.outbox.close()
        self.write_status("ended")

    def step(self) -> None:
        """One look: the list, every bot, the paper exchange, the heartbeat."""
        known = self._read_records()
        self._look_at_maintenance()
        wanted_now: list[tuple[bool, int]] = []
        for record in self.records:
            try:
                if known and self._look(record):
                    wanted_now.append((state.has_open_business(self.files, record["id"]), record["id"]))
            except Exception as e:  # noqa: BLE001 - one bot's trouble must not keep the others from being watched
                self.watch(record["id"]).why = f"the yard could not look after it: {e}"
                log.warning("bot %s: %s", record["id"], e)
        if not self.workers.busy("paper"):
            self._paper.look(self.records)  # before its bots: they can't do anything without it
        for open_business, bot_id in sorted(wanted_now, key=lambda w: (not w[0], w[1])):
            self.workers.submit(f"bot_{bot_id}", 0 if open_business else 2, lambda b=bot_id: self._start(b))  # type: ignore[misc]
        if known:
            for gone in set(self.watches) - {r["id"] for r in self.records}:
                del self.watches[gone]
        if self.keeper is not None:
            self.keeper.step()
        if self.outbox is not None:
            self.outbox.step()
        self._adopted = self._adopted or known
        if self.monotonic() - self._written >= HEARTBEAT_S:
            self.write_status("running")

    def _read_records(self) -> bool:
        """Read the list; while it can't be trusted, what runs goes on and nothing is started."""
        try:
            self.records = self.registry.bots()
        except (BotyardError, OSError) as e:
            if str(e) != self._problem:
                self._problem = str(e)
                log.error("%s", e)
                self._post("registry_broken", f"The list of bots can't be trusted: {e} Running bots go on; none is started.", "risk")
            return False
        if self._problem:
            log.info("the list of bots can be read again")
        self._problem = ""
        return True

    def write_status(self, state_word: str) -> None:
        self._written = self.monotonic()
        notes = {
            str(bot_id): {"state": w.state, "why": w.why, "pid": w.pid, "since_wall_ms": w.since_wall_ms, "starts": w.starts, "late": w.late}
            for bot_id, w in sorted(self.watches.items())
        }
        value = {
            "schema": 1,
            "pid": os.getpid(),
            "state": state_word,
            "started_wall_ms": self._started_wall_ms,
            "heartbeat_wall_ms": wall_ms(),
            "adopted": self._adopted,
            "error": self._problem or None,
            "bots": {n: {**note, "resources": self.sampling.of_bot(int(n))} for n, note in notes.items()},
            "maintenance": self._maintenance.as_json(),
            "units": self.sampling.units(),
            "machine": self.sampling.machine(),
            "paper": self._paper.note(),
            "keeper": self.keeper.note() if self.keeper is not None else {},
        }
        try:
            self.files.write_json(STATUS, value, durable=False, keep_previous=False)
        except OSError as e:
            log.error("the yard's status can't be written: %s", e)

    # --- maintenance ------------------------------------------------------------------------

    def _look_at_maintenance(self) -> None:
        before, now = self._maintenance, maintenance.read(self.files)
        self._maintenance = now
        if now.problem and now.problem != before.problem:
            self._post("maintenance", f"{now.why[:1].upper()}{now.why[1:]}. Running bots go on.", "risk")
        if now != before and not now.on:
            # Also where it was on and lifted between two looks: who ended meanwhile was stopped for it.
            for bot_id, watch in self.watches.items():
                if watch.state not in ("queued", "starting", "by_hand") and (watch.state != "up" or self.supervisor.pid(bot_id) is None):
                    watch.rest()

    def _pause(self, watch: Watch, pid: int | None, wanted: bool) -> None:
        """While it is on nothing is started, ended or replaced; who runs is about to be stopped by whoever turned it on."""
        if pid is None and wanted:
            watch.paused(self._maintenance.why)
        elif not wanted:
            watch.rest()

    # --- one bot --------------------------------------------------------------------------

    def watch(self, bot_id: int) -> Watch:
        return self.watches.setdefault(bot_id, Watch())

    def _look(self, record: Mapping[str, Any]) -> bool:
        """Look at one bot; True when it is to be started now."""
        bot_id, wanted = record["id"], record["status"] == "running"
        if self.workers.busy(f"bot_{bot_id}"):
            return False
        watch, pid = self.watch(bot_id), self.supervisor.pid(bot_id)
        if self._maintenance.on and watch.state != "by_hand":
            self._pause(watch, pid, wanted)
            return False
        if pid is not None:
            self._look_at_running(record, watch, pid, wanted)
            return False
        if not wanted:
            watch.rest()
            return False
        if watch.state == "up":
            self._classify(bot_id, watch)
        elif watch.state == "by_hand" and watch.due is not None and self.monotonic() >= watch.due:
            self._stopped_by_hand(record, watch)
        if watch.state in ("new", "stopped", "maintenance"):
            watch.state, watch.why = "queued", "it is wanted and about to be started"
            return True
        if watch.state == "queued":
            return True
        if watch.state == "given_up" and not state.has_open_business(self.files, bot_id):
            return False
        return watch.state in ("waiting", "given_up") and watch.due is not None and self.monotonic() >= watch.due

    def _look_at_running(self, record: Mapping[str, Any], watch: Watch, pid: int, wanted: bool) -> None:
        bot_id = record["id"]
        status = state.read_status(self.files, bot_id)
        own = status if status is not None and status.get("pid") == pid else None
        guard = self.supervisor.is_guard(bot_id, pid)
        if not wanted:
            watch.rest()
        elif not guard:
            self._look_at_own(record, watch, pid, own)
        if (wanted or guard) and self.recovery.stuck(record, pid):
            business = state.has_open_business(self.files, bot_id)
            self.workers.submit(f"bot_{bot_id}", 0 if business else 2, lambda: self.recovery.replace(bot_id, pid))

    def _look_at_own(self, record: Mapping[str, Any], watch: Watch, pid: int, own: Mapping[str, Any] | None) -> None:
        """A wanted bot's own process runs, or is about to."""
        watch.seen(pid, wall_ms())
        if own is None:
            return
        if own.get("checks_completed"):
            watch.completed()
        if own.get("recommended"):
            self.followers.look(record, pid, own)
        if watch.crashed and own.get("state") == "running":
            watch.crashed = False
            self.tell(record, "bot_back", f"runs again (process {pid})", "info")
        why = late(own, record.get("check_interval") or self.settings.check_interval, wall_ms(), self.bound_ms)
        if why and not watch.late:
            self.tell(record, "bot_late", f"is late: {why}", "warning")
        watch.late = why

    def _classify(self, bot_id: int, watch: Watch) -> None:
        """Its process is gone. Under the action lock, so that a stop or restart under way is not taken for a crash."""
        try:
            with locks.action(self.files, f"bot_{bot_id}", 0):
                record = self.registry.bot(bot_id)
                if record["status"] != "running" or self.supervisor.pid(bot_id) is not None:
                    return
                if maintenance.read(self.files).on:  # it was stopped for that since this look began
                    return
                status = state.read_status(self.files, bot_id)
        except (Conflict, NotFound):
            return
        if status is not None and status.get("pid") == watch.pid and status.get("checks_completed"):
            watch.completed()  # between two looks
        word = state.last_word(status, pid=watch.pid)
        self._told_end(record, watch, word, state.has_open_business(self.files, bot_id))

    def _told_end(self, record: Mapping[str, Any], watch: Watch, word: Mapping[str, Any] | None, business: bool) -> None:
        again = watch.crashed
        what = watch.ended(word, business, self.monotonic())
        if what == "crashed" and again:
            log.warning("bot %s: %s", record["id"], watch.why)  # one event for a row of crashes
        else:
            self.tell_end(record, watch, what, business)

    def tell_end(self, record: Mapping[str, Any], watch: Watch, what: str, business: bool) -> None:
        if what == "crashed":
            self.tell(record, "bot_crashed", f"has crashed: {watch.why}", "risk" if business else "warning")
        elif what == "given_up":
            guarded = "; its position is guarded" if business else ""
            self.tell(record, "bot_given_up", f"is not started any more: {watch.why}{guarded}. Look at its log, then start it by hand", "risk")
        elif what == "by_hand":
            log.info("bot %s: %s", record["id"], watch.why)
        elif watch.why and not watch.why.startswith("exit code 0"):
            self.tell(record, "bot_refused", f"has ended and is not restarted: {watch.why}", "risk" if business else "warning")

    def _stopped_by_hand(self, record: Mapping[str, Any], watch: Watch) -> None:
        bot_id = record["id"]
        try:
            with locks.action(self.files, f"bot_{bot_id}", 0):
                if self.supervisor.pid(bot_id) is not None or self.registry.bot(bot_id)["status"] != "running":
                    return
                self.registry.set_wanted(bot_id, "stopped", "it was ended by hand")
        except (Conflict, NotFound):
            return
        business = state.has_open_business(self.files, bot_id)
        watch.rest()
        text = "was ended by hand and counts as stopped" + ("; its open position is unwatched" if business else "")
        self.tell(record, "bot_by_hand", text, "risk" if business else "warning")

    # --- starting (on a worker's thread) -----------------------------------------------------

    def _start(self, bot_id: int) -> CameUp | None:
        with self.recovery.acting(bot_id) as record:
            if record is not None and record["status"] == "running":
                self.start_wanted(record, self.watch(bot_id))
                return lambda: self.recovery.came_up(bot_id)
        return None

    def start_wanted(self, record: dict[str, Any], watch: Watch, guard: bool = False) -> None:
        """Start a wanted bot, on a worker's thread under its action lock; `guard`: only a guard for now."""
        bot_id, guard = record["id"], guard or watch.state == "given_up"
        problem = self.mode_problem(record, guard)
        if problem:
            watch.state, watch.due, watch.why = "ended", None, problem
            self.tell(record, "bot_refused", f"can't be started: {problem}", "warning")
            return
        if guard:
            watch.guard_starts += 1
            watch.due = self.monotonic() + pause_s(watch.guard_starts)
        else:
            watch.state, watch.why = "starting", "it is being started"
        try:
            pid = self.supervisor.start(record, guard=guard)
        except AlreadyRunning:
            return
        except (BotyardError, OSError) as e:
            self._start_failed(record, watch, e, guard)
            return
        log.info("bot %s (%s): %s, process %s", bot_id, record["name"], "guarded" if guard else "started", pid)
        if not guard:
            watch.seen(pid, wall_ms())

    def _start_failed(self, record: Mapping[str, Any], watch: Watch, error: Exception, guard: bool) -> None:
        log.warning("bot %s: %s", record["id"], error)
        if guard:
            return
        watch.starts += 1
        business = state.has_open_business(self.files, record["id"])
        code = error.code if isinstance(error, StartFailed) else None
        reason = error.reason if isinstance(error, StartFailed) and code is not None else str(error)
        self._told_end(record, watch, {"code": code, "reason": reason}, business)

    def mode_problem(self, record: Mapping[str, Any], guard: bool = False) -> str | None:
        """Settings are read anew: an edit counts at the next start."""
        try:
            settings = self._settings_now()
        except SettingsError as e:
            return f"the settings are not right: {'; '.join(e.problems)}"
        return records.mode_problem(record, settings.trading_mode, guard)

    # --- what bots use of the machine (core/fleet/sampling.py, on its thread) -----------------------

    def _replace_heavy(self, bot_id: int, pid: int, text: str) -> None:
        def anew() -> None:
            def told(record: Mapping[str, Any]) -> None:
                self.sampling.replaced(bot_id)
                self.tell(record, "bot_memory", f"{text}: it is ended and started anew", "warning")

            try:
                replace(self.files, self.supervisor, bot_id, pid, told)
            except (BotyardError, OSError) as e:
                log.warning("bot %s: %s", bot_id, e)
                if self.supervisor.pid(bot_id) is None:
                    self.watch(bot_id).rest()  # the next look starts it as any other that is wanted

        self.workers.submit(f"bot_{bot_id}", 2, anew)

    def _tell_usage(self, bot_id: int | None, kind: str, text: str, severity: str) -> None:
        record = next((r for r in self.records if r["id"] == bot_id), None)
        if record is None:
            self._post(kind, text, severity)
        else:
            self.tell(record, kind, text, severity)

    def settle(self, timeout_s: float) -> bool:
        """Wait until no start is under way; False when one still is."""
        return self.workers.settle(timeout_s)

    # --- telling --------------------------------------------------------------------------------

    def tell(self, record: Mapping[str, Any], kind: str, text: str, severity: str) -> None:
        self._post(kind, f"{record['name']} (bot {record['id']}) {text}.", severity, record["id"], record["mode"])

    def _paper_crashed(self) -> None:
        self._post("paper_crashed", "The paper exchange has ended; it is started again. Paper bots wait for it.", "warning", mode="paper")

    def _post(self, kind: str, text: str, severity: str, bot_id: int | None = None, mode: str | None = None) -> None:
        log.log(logging.INFO if severity == "info" else logging.WARNING, "%s", text)
        try:
            notify.post(self.files, Event(kind, text, severity, bot_id, wall_ms=wall_ms(), data={"mode": mode}))  # type: ignore[arg-type]
        except OSError as e:
            log.error("an event can't be written: %s", e)
