"""Looks at the house all the while: time without a stop, whose orders lie at the exchange, how long a recovery takes.

A position counts by the fills at the exchange, not by what its bot knows. It has a stop when
one of its bot rests at the exchange for all of it, or when its bot runs, knows of it and gives
signs of life: then the last heartbeat is the last moment at which it surely had one. Told apart,
as a figure: the same, but a bot that waits for an order's outcome doesn't count, because it
looks at no price until it knows. Time
during which the exchange itself was down doesn't count (its market stands still then and
nobody could sell), nor does a bot that its owner stopped (told apart in the figures).
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from chaos.house import House
from chaos.truth import STOPS, Ordered, Truth
from core.bot.ids import owner_of
from core.clock import wall_ms
from core.errors import BotyardError
from core.fleet import state

SLOWER = float(os.environ.get("CHAOS_SLOWER", "1"))  # the suite's short run must pass on a busy machine as well
RESTART_BOUND_S = 15.0 * SLOWER
WORTH = Decimal(6)  # quote asset: what is worth less can't be sold (the exchange's minimum is 5)
LOOK_S = 0.25
STRANGE_S = 3.0  # so long an open order may be unknown to its bot's file: it is over, and being booked


@dataclass
class _Gap:
    """A position of one bot: when it was last known to have a stop (wall ms), and whether its time was told as too long."""

    safe_ms: int
    looked_ms: int
    told: bool = False
    why: str = ""


@dataclass
class Figures:
    worst_gap_s: float = 0.0
    worst_gap: str = ""
    worst_unlooked_s: float = 0.0
    worst_unlooked: str = ""
    unwatched_by_owner_s: float = 0.0
    recoveries: dict[str, list[float]] = field(default_factory=lambda: {"bot": [], "yard": [], "paper": [], "dashboard": [], "frozen bot": []})
    looks: int = 0
    most_open: int = 0


class Watch:
    """Runs in a thread of its own until `end`. `wrong` gets (seconds since the start, text)."""

    def __init__(self, house: House, truth: Truth, elapsed: Callable[[], float], on_paper: Callable[[], None]):
        self.house, self.truth, self.elapsed, self._on_paper = house, truth, elapsed, on_paper
        self.wrong: list[tuple[float, str]] = []
        self.figures = Figures()
        self.frozen: set[int] = set()
        self._gaps: dict[tuple[int, bool], _Gap] = {}
        self._strange: dict[str, float] = {}
        self._waiting: dict[tuple[str, int], tuple[float, int]] = {}  # what was ended → when, its pid
        self._paper_pid: int | None = None
        self._up_since = 0.0
        self._kinds: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(30)

    def ended(self, whom: str, bot: int, pid: int) -> None:
        """It was ended just now: how long until its successor works?"""
        self._waiting[(whom, bot)] = (time.monotonic(), pid)

    def thawed(self, bot: int) -> None:
        """It goes on, or was replaced meanwhile: nobody waits for its successor any more."""
        self.frozen.discard(bot)
        self._waiting.pop(("frozen bot", bot), None)

    def say(self, text: str) -> None:
        self.wrong.append((self.elapsed(), text))

    # --- the loop -------------------------------------------------------------------

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # noqa: BLE001 - a look that fails is itself a finding
                self.say(f"the watch itself failed: {traceback.format_exc(limit=-3)}")
                if len(self.wrong) > 50:
                    return

    def look(self) -> None:
        self.figures.looks += 1
        up = self._exchange_up()
        # First the exchange, then the files: an intent is in its file before the exchange has it.
        self.truth.follow()
        lying = self.truth.open_orders()
        try:
            wanted = self.house.wanted()
        except BotyardError as e:
            self.say(f"the list of bots can't be read: {e}")
            return
        known = {n: self._file(n) for n in self.house.ids}
        pids = {n: self.house.pid("bot", n) for n in self.house.ids}
        statuses = {n: state.read_status(self.house.files, n) or {} for n in self.house.ids}
        self._look_at_orders(lying, known)
        for n in self.house.ids:
            self._look_at_position(n, lying, known[n], statuses[n], pids[n], wanted.get(n, False), up)
        self.figures.most_open = max(self.figures.most_open, sum(1 for h in self.truth.holdings.values() if h.worth >= WORTH))
        self._look_at_recoveries(pids, statuses, wanted)

    def _exchange_up(self) -> bool:
        """Up for a second at least: bots must first hear that it is back."""
        pid = self.house.pid("paper")
        now = time.monotonic()
        if pid != self._paper_pid:
            self._paper_pid, self._up_since = pid, now
            if pid is not None:
                threading.Thread(target=self._on_paper, name="faults", daemon=True).start()
        return pid is not None and now - self._up_since >= 1.0

    def _file(self, n: int) -> dict[str, Any]:
        try:
            return state.read_position(self.house.files, n) or {}
        except BotyardError as e:
            self.say(f"bot {n}: {e}")
            return {}

    def _look_at_orders(self, lying: list[Ordered], known: dict[int, dict[str, Any]]) -> None:
        now, strange = time.monotonic(), set()
        for order in lying:
            owner = owner_of(order.client_id, self.house.installation)
            if owner is None or owner not in known:
                if order.client_id not in self._strange:
                    self.say(f"a foreign order lies at the exchange: {order}")
                self._strange[order.client_id] = now
                strange.add(order.client_id)
            elif order.client_id not in {o["request"]["client_id"] for o in known[owner].get("orders", ())}:
                strange.add(order.client_id)
                since = self._strange.setdefault(order.client_id, now)
                if since and now - since > STRANGE_S:
                    self._strange[order.client_id] = 0.0  # told once
                    self.say(f"bot {owner} doesn't know its open order {order}")
        for gone in set(self._strange) - strange:
            del self._strange[gone]

    def _look_at_position(self, n: int, lying: list[Ordered], file: dict[str, Any], status: dict[str, Any], pid: int | None, wanted: bool, up: bool) -> None:
        holding, now = self.truth.holdings[n], wall_ms()
        stops = [o for o in lying if o.side == "SELL" and o.kind in STOPS and owner_of(o.client_id, self.house.installation) == n]
        bare = (holding.owned - sum((o.quantity - o.executed for o in stops), Decimal(0))) * holding.price
        alive = pid is not None and status.get("pid") == pid and status.get("state") == "running"
        if bare >= WORTH and up and not wanted:
            gap = self._gaps.get((n, False))
            self.figures.unwatched_by_owner_s += (now - gap.looked_ms) / 1000 if gap else 0
        for strict in (False, True):
            if bare < WORTH:
                self._gaps.pop((n, strict), None)
                continue
            gap = self._gaps.setdefault((n, strict), _Gap(now, now))
            watched = bool(alive and file.get("position") and file.get("stop_loss") and not (strict and status.get("unresolved")))
            beat = int(status.get("heartbeat_wall_ms") or 0)
            if watched and beat > gap.safe_ms:
                self._note(n, (beat - gap.safe_ms) / 1000, gap.why, strict)
                gap.safe_ms, gap.told, gap.why = beat, False, ""
            elif not up or not wanted:
                gap.safe_ms += now - gap.looked_ms
            else:
                open_s = (now - gap.safe_ms) / 1000
                gap.why = gap.why if watched else self._why(n, file, status, pid)
                self._note(n, open_s, gap.why, strict)
                if open_s > RESTART_BOUND_S and not gap.told and not strict:
                    gap.told = True
                    self.say(f"bot {n} has had no stop for {open_s:.1f} s (coins worth {bare:.2f}): {gap.why or 'no sign of life'}")
            gap.looked_ms = now

    def _why(self, n: int, file: dict[str, Any], status: dict[str, Any], pid: int | None) -> str:
        if n in self.frozen:
            return f"process {pid} is frozen (SIGSTOP)"
        if pid is None:
            return "nobody holds its lock"
        if status.get("pid") != pid or status.get("state") != "running":
            return f"process {pid} is still starting (status: process {status.get('pid')}, {status.get('state')})"
        if status.get("unresolved"):
            sending = [o["request"]["client_id"] for o in file.get("orders", ()) if o["status"] == "SENDING"]
            return f"process {pid} runs, but waits for an order's outcome {sending}"
        if not file.get("position"):
            return f"process {pid} runs, but its file knows of no position"
        return f"process {pid} runs, its file names no stop" if not file.get("stop_loss") else f"process {pid} gives no sign of life"

    def _note(self, n: int, seconds: float, why: str, strict: bool) -> None:
        words, seconds = f"bot {n} at {self.elapsed():.0f} s: {why or 'between two heartbeats'}", round(seconds, 2)
        if strict and seconds > self.figures.worst_unlooked_s:
            self.figures.worst_unlooked_s, self.figures.worst_unlooked = seconds, words
        elif not strict and seconds > self.figures.worst_gap_s:
            self.figures.worst_gap_s, self.figures.worst_gap = seconds, words

    def _look_at_recoveries(self, pids: dict[int, int | None], statuses: dict[int, dict[str, Any]], wanted: dict[int, bool]) -> None:
        for (whom, n), (since, old) in list(self._waiting.items()):
            kind = "bot" if whom == "frozen bot" else whom
            pid = pids.get(n) if kind == "bot" else self.house.pid(kind)
            if kind == "bot" and not wanted.get(n, False):
                del self._waiting[(whom, n)]
            elif pid is not None and pid != old:
                own = statuses.get(n, {})
                if kind == "bot" and not (own.get("pid") == pid and own.get("state") == "running"):
                    continue
                if kind == "paper" and not self.house.paper_answers():
                    continue
                if kind == "dashboard" and self.house.ask("GET", "/healthz", timeout_s=1)[0] != 200:
                    continue
                self.figures.recoveries[whom].append(round(time.monotonic() - since, 2))
                del self._waiting[(whom, n)]
