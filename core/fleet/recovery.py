"""What the yard does to a bot's process beyond a plain start: a stuck one replaced, a fill booked, a stop rescued.

Each runs on a worker's thread (core/fleet/workers.py) under the bot's action lock. The keeper
(core/fleet/keeper.py) asks for the last two. Owns no file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.clock import wall_ms
from core.errors import BotyardError, Conflict, NotFound
from core.fleet import locks, maintenance, state
from core.fleet.health import health, silent
from core.fleet.policy import Watch
from core.fleet.processes import is_stopped
from core.fleet.supervisor import StopFailed
from core.fleet.workers import CameUp

if TYPE_CHECKING:
    from core.fleet.yard import Yard

END_STUCK_S = 1.2  # SIGTERM for most of it: whoever hangs hears it seldom, and its files are safe against a kill
log = logging.getLogger("botyard.yard")


class Recovery:
    def __init__(self, yard: Yard):
        self.yard, self.files, self.supervisor = yard, yard.files, yard.supervisor

    def stuck(self, record: Mapping[str, Any], pid: int) -> str:
        """Why the process `pid` of this bot (its guard, too) counts as stuck, "" where it doesn't."""
        bot_id = record["id"]
        status, watch = state.read_status(self.files, bot_id), self.yard.watch(bot_id)
        if status is not None and status.get("pid") == pid:
            status = {**status, "guard": False}  # a guard must live as a bot must
            age = wall_ms() - int(status.get("heartbeat_wall_ms") or 0)
            exposed = self.yard.exposed_ms if age > self.yard.exposed_ms and state.is_exposed(self.files, bot_id) else None
        else:
            exposed = None
        note = {"pid": watch.pid, "since_wall_ms": watch.since_wall_ms}
        found = health(record, status, pid, wall_ms(), note, self.yard.bound_ms, exposed)
        watch.why = found["why"] if self.yard.watch(bot_id).state == "up" else watch.why
        return found["why"] if found["status"] == "stuck" else ""

    @contextlib.contextmanager
    def acting(self, bot_id: int) -> Iterator[dict[str, Any] | None]:
        """Hold the bot's action lock; its record, None where somebody else is at it or the yard ends: the next look sees."""
        watch = self.yard.watch(bot_id)
        with contextlib.ExitStack() as held:
            record, given = None, False
            try:
                held.enter_context(locks.action(self.files, f"bot_{bot_id}", 0))
                record = None if self.yard.workers.ending else self.yard.registry.bot(bot_id)
                given = True
                yield record
            except (Conflict, NotFound) as e:
                log.debug("bot %s: %s", bot_id, e)
                if watch.state == "starting":  # nothing came of it, for now
                    watch.state, watch.due, watch.why = "waiting", self.yard.monotonic() + 1, str(e)
            if not given:
                yield None

    def came_up(self, bot_id: int) -> bool:
        """A start is over: the bot runs, or it is gone. Its imports are what keeps a processor busy."""
        pid, status = self.supervisor.pid(bot_id), state.read_status(self.files, bot_id)
        return pid is None or (status is not None and status.get("pid") == pid and status.get("state") != "starting")

    def replace(self, bot_id: int, pid: int) -> CameUp | None:
        """End a stuck process, and start anew what is wanted, if the count of starts allows it."""
        with self.acting(bot_id) as record:
            why = self.stuck(record, pid) if record is not None and self.supervisor.pid(bot_id) == pid else ""
            if record is None or not why or maintenance.read(self.files).on:
                return None
            guard, watch = self.supervisor.is_guard(bot_id, pid), self.yard.watch(bot_id)
            self.yard.tell(record, "bot_stuck", f"is stuck: {why}; it is ended{' and started anew' if record['status'] == 'running' else ''}", "risk")
            self._end_stuck(bot_id, pid)
            if record["status"] != "running" or guard:
                return None  # the next look starts a guard again where one is needed
            self._after_stuck(record, watch, f"was stuck: {why}")
            if watch.state != "given_up" and (watch.due is None or watch.due > self.yard.monotonic()):
                return None
            self.yard.start_wanted(record, watch)
            return lambda: self.came_up(bot_id)
        return None

    def _after_stuck(self, record: Mapping[str, Any], watch: Watch, reason: str) -> None:
        business = state.has_open_business(self.files, record["id"])
        if watch.ended({"code": None, "reason": reason}, business, self.yard.monotonic()) == "given_up":
            self.yard.tell_end(record, watch, "given_up", business)

    def _end_stuck(self, bot_id: int, pid: int) -> None:
        """SIGTERM and, quickly, SIGKILL; at once where the process is stopped and hears nothing. StopFailed is for the next look."""
        try:
            self.supervisor.stop(bot_id, by="the yard: it was stuck", timeout_s=END_STUCK_S, at_once=is_stopped(pid))
        except StopFailed as e:
            log.error("bot %s: %s", bot_id, e)
            raise Conflict(str(e)) from e

    # --- asked for by the keeper (core/fleet/keeper.py) --------------------------------------------

    def state_of(self, bot_id: int) -> str:
        """What the yard remembers of a bot (`Watch.state`)."""
        watch = self.yard.watches.get(bot_id)
        return watch.state if watch is not None else "new"

    def since_of(self, bot_id: int) -> int:
        """When the yard first saw the bot's process, wall ms; now where it hasn't yet."""
        watch = self.yard.watches.get(bot_id)
        return watch.since_wall_ms if watch is not None and watch.pid is not None else wall_ms()

    def records(self) -> list[dict[str, Any]]:
        """The bots' records as the last look found them."""
        return self.yard.records

    def book(self, bot_id: int, why: str) -> None:
        """Have what the exchange did booked by a guard that ends by itself, if nobody runs."""
        self.yard.workers.submit(f"bot_{bot_id}", 0, lambda: self._book(bot_id, why))

    def _book(self, bot_id: int, why: str) -> None:
        with self.acting(bot_id) as record:
            if record is None or self.supervisor.pid(bot_id) is not None:
                return
            problem = self.yard.mode_problem(record, guard=True)
            try:
                if problem:
                    raise Conflict(problem)
                pid = self.supervisor.start(record, guard=True, once=True)
                log.info("bot %s (%s): %s; process %s books it", bot_id, record["name"], why, pid)
            except (BotyardError, OSError) as e:
                log.warning("bot %s: %s, which could not be booked yet: %s", bot_id, why, e)

    def rescue(self, bot_id: int, why: str) -> None:
        """The stop of a wanted bot was passed while nobody looks: bring it back now, or guard it."""
        self.yard.workers.submit(f"bot_{bot_id}", 0, lambda: self._rescue(bot_id, why))

    def _rescue(self, bot_id: int, why: str) -> CameUp | None:
        with self.acting(bot_id) as record:
            if record is None or record["status"] != "running" or maintenance.read(self.files).on:
                return None
            watch, pid = self.yard.watch(bot_id), self.supervisor.pid(bot_id)
            if pid is not None and not silent(state.read_status(self.files, bot_id), pid, watch.since_wall_ms, wall_ms()):
                return None  # it is back
            self.yard.tell(record, "stop_unwatched", f"{why}: it is {'ended and ' if pid is not None else ''}started at once", "risk")
            if pid is not None:
                self._end_stuck(bot_id, pid)
                self._after_stuck(record, watch, "gave no sign of life when its stop was passed")
            # One that hangs at its start would hang again: a guard sells, then the tries go on.
            self.yard.start_wanted(record, watch, guard=watch.state == "given_up" or watch.starts > 0)
            return lambda: self.came_up(bot_id)
        return None
