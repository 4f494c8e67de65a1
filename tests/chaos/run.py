"""One chaos run: everything comes up, the schedule plays, everything comes to rest, and is judged."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from chaos import judge, roster
from chaos.house import BY, HTTP_TIMEOUT_S, House
from chaos.mix import Mix
from chaos.plan import Act
from chaos.truth import Truth
from chaos.watch import SLOWER, Watch
from core.errors import BotyardError
from core.fleet import control, state
from core.model import floor_to

COME_BACK_S = 60.0  # after the last act: until every bot has completed a check
GUARDS_S = 30.0
REST_S = 60.0  # with the market's clock stopped: until no order is unresolved


@dataclass
class Told:
    """What a run came to."""

    seed: int
    wrong: list[tuple[float, str]] = field(default_factory=list)  # seconds since the start, what
    figures: dict[str, Any] = field(default_factory=dict)


class Run:
    """`folder` must be new. `say` is told what happens, a line at a time."""

    def __init__(self, folder: Path, seed: int, bots: int, seconds: float, speed: int, acts: list[Act], say: Callable[[str], None] = print):
        self.house = House(folder, bots, seed, speed)
        self.seed, self.seconds, self._say = seed, seconds, say
        self.acts = acts
        self.truth = Truth(folder / "data/paper/paper.db", roster.BASES, self.house.installation)
        self.mix = Mix(self.house.paper_url, HTTP_TIMEOUT_S + 2.0)
        self.began = time.monotonic()
        self.watch = Watch(self.house, self.truth, self.elapsed, self._faults_anew)
        self.done: Counter[str] = Counter()
        self._told = Told(seed)
        self._faulty = False
        self._faults_lock = threading.Lock()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="act")
        self._timers: list[threading.Timer] = []

    def elapsed(self) -> float:
        return round(time.monotonic() - self.began, 2)

    def wrong(self, text: str) -> None:
        self._told.wrong.append((self.elapsed(), text))

    def whole(self) -> Told:
        """Play it. The home stays; nothing that runs does."""
        try:
            self._up()
            self._play()
            self._rest()
        except Exception as e:  # noqa: BLE001 - told with the seed, and the house is cleared all the same
            self.wrong(f"the run broke off: {type(e).__name__}: {e}")
        finally:
            self._faulty = False
            self._over.set()
            for timer in self._timers:
                timer.cancel()
            self.watch.end()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._thaw_all()
            self.house.clean_up()
            self.truth.close()
        left = self.house.left_behind()
        self._told.wrong += [*self.watch.wrong, *((self.elapsed(), f"left behind: {text}") for text in left)]
        self._told.wrong.sort()
        self._count()
        return self._told

    # --- coming up ------------------------------------------------------------------

    def _up(self) -> None:
        self.house.start_yard()
        self.house.start_dashboard()
        self._until(self.house.paper_answers, 30, "the paper exchange")
        self._faulty = True
        self._faults_anew()
        self.watch.start()
        threading.Thread(target=self._count_faults, name="count", daemon=True).start()

    def _faults_anew(self) -> None:
        """The paper exchange is new: it has no faults yet."""
        with self._faults_lock:
            if self._faulty:
                try:
                    self._until(self.house.paper_answers, 20, "the paper exchange")
                    self.mix.give()
                except (AssertionError, requests.RequestException) as e:
                    self._say(f"{self.elapsed():7.2f} s  the faults could not be given: {e}")

    # --- the schedule ---------------------------------------------------------------

    def _play(self) -> None:
        for act in self.acts:
            while (rest := act.at_s - self.elapsed()) > 0:
                time.sleep(rest)
            self._carry_out(act)
        while self.elapsed() < self.seconds:
            time.sleep(0.2)

    def _count_faults(self) -> None:
        """A thread of its own: an exchange that is frozen must not hold up the schedule."""
        while not self._over.wait(1):
            self.mix.look()

    def _carry_out(self, act: Act) -> None:
        if act.what == "kill":
            if act.whom == "paper":
                self.mix.look()
            self._noted(act, self._kill(act))
        elif act.what == "freeze":
            self._noted(act, self._freeze(act))
        else:
            self._pool.submit(self._command, act)

    def _noted(self, act: Act, outcome: str) -> None:
        kind = f"{act.what} {act.whom}" if act.what in ("kill", "freeze") else act.what
        self.done[f"{kind}: {outcome.split(':')[0].split(' (')[0]}"] += 1
        self._say(f"{act.words()} → {outcome}")

    def _kill(self, act: Act) -> str:
        if act.whom == "all":
            everybody = [("yard", 0), ("dashboard", 0), *(("bot", n) for n in self.house.ids)]
            found = [self._kill(Act(act.at_s, "kill", whom, n, act.data)) for whom, n in everybody]
            return f"done ({sum(1 for f in found if f.startswith('done'))} processes)"
        pid = self.house.signal(act.whom, act.bot, signal.SIGKILL)
        if pid is None:
            return "nobody there"
        self.watch.frozen.discard(act.bot if act.whom == "bot" else 0)
        self.watch.ended(act.whom, act.bot, pid)
        if act.whom in ("yard", "dashboard"):
            again = self.house.start_yard if act.whom == "yard" else self.house.start_dashboard
            self._later(float(act.data["back_s"]), again)
        return f"done (process {pid})"

    def _freeze(self, act: Act) -> str:
        pid = self.house.signal(act.whom, act.bot, signal.SIGSTOP)
        if pid is None:
            return "nobody there"
        if act.whom == "bot":
            self.watch.frozen.add(act.bot)
            self.watch.ended("frozen bot", act.bot, pid)

        def thaw() -> None:
            if self.house.pid(act.whom, act.bot) == pid:
                self.house.signal(act.whom, act.bot, signal.SIGCONT)
            if act.whom == "bot":
                self.watch.thawed(act.bot)

        self._later(float(act.data["for_s"]), thaw)
        return f"done (process {pid})"

    def _thaw_all(self) -> None:
        self.house.signal("paper", 0, signal.SIGCONT)
        for bot in list(self.watch.frozen):
            self.house.signal("bot", bot, signal.SIGCONT)
            self.watch.thawed(bot)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        def careful() -> None:
            if not self.house.ended:
                try:
                    do()
                except (BotyardError, OSError) as e:
                    self._say(f"{self.elapsed():7.2f} s  {do}: {type(e).__name__}: {e}")

        timer = threading.Timer(seconds, careful)
        timer.daemon = True
        timer.start()
        self._timers.append(timer)

    # --- commands by hand -----------------------------------------------------------

    def _command(self, act: Act) -> None:
        try:
            outcome = self._by_hand(act)
        except Exception as e:  # noqa: BLE001 - whatever a command meets is told; what it must not do, the judge sees
            outcome = f"{type(e).__name__}: {e}"
        self._noted(act, outcome[:160])

    def _by_hand(self, act: Act) -> str:
        path = f"/api/bot/{act.bot}/"
        if act.what == "ban":
            self.mix.ban(int(act.data["for_s"]))
            return "done"
        if act.what == "restart":
            return f"done (process {control.restart_bot(self.house.files, self.house.settings, act.bot, BY, self.house.keeper)})"
        if act.what == "check":
            return str(control.command_bot(self.house.files, self.house.settings, act.bot, "check", BY, supervisor=self.house.keeper)["outcome"])
        if act.what == "stop":
            code, told = self.house.ask("POST", path + "stop")
            self._later(float(act.data["back_s"]), lambda: self._start_again(act.bot))
            return f"{code}: {told.get('note') or told.get('error') if isinstance(told, dict) else told}"
        body: dict[str, Any] | None = None
        if act.what == "skip":
            body = {"entries": act.data["entries"]}
        elif act.what == "levels":
            p = judge.position(self.house, act.bot)
            if p is None or p.entry_price is None:
                return "flat: nothing to move"
            stop, target = (p.entry_price * (1 + sign * Decimal(str(act.data[f"{name}_pct"])) / 100) for name, sign in (("stop", -1), ("target", 1)))
            body = {"stop_loss": float(floor_to(stop, Decimal("0.0001"))), "take_profit": float(floor_to(target, Decimal("0.0001")))}
        code, told = self.house.ask("POST", path + act.what, body)
        words = told if not isinstance(told, dict) else told.get("error") or told.get("text") or told.get("outcome") or ""
        return f"{code}: {words}"

    def _start_again(self, bot: int) -> None:
        """By the page, or where it doesn't answer as utils/yard.py would."""
        if self.house.ask("POST", f"/api/bot/{bot}/start")[0] == 0:
            control.start_bot(self.house.files, self.house.settings, bot, BY, self.house.keeper)

    # --- coming to rest ---------------------------------------------------------------

    def _rest(self) -> None:
        """Faults and kills end, everybody comes back, the market stands still, nothing stays open to question; then all are stopped."""
        self._say(f"{self.elapsed():7.2f} s  faults and kills end")
        self._thaw_all()
        self._until(self.house.paper_answers, 30, "the paper exchange")
        with self._faults_lock:
            self._faulty = False
            self._over.set()
            self.mix.clear()
        self.house.start_yard()
        for n, wanted in self.house.wanted().items():
            if not wanted:
                self._start_again(n)
        since = time.time() * 1000
        self._until(lambda: all(self._checked(n, since) for n in self.house.ids), COME_BACK_S, self._who_is_missing(since))
        self._say(f"{self.elapsed():7.2f} s  all bots have come back")
        self._post("/paper/clock", {"speed": 0})
        self._until(self._at_rest, REST_S, lambda: f"no order to be unresolved: {judge.open_questions(self.house)}")
        self.watch.end()
        for text in self.house.stop_bots():
            self.wrong(text)
        # The yard may have a guard book what it saw of a bot that was stopped (DESIGN §5): such a run ends by itself.
        self._until(self._nobody_runs, GUARDS_S, lambda: f"the guards to end: {self.house.keeper.running()}")
        for text in judge.judge(self.house, self.truth):
            self.wrong(text)
        for text in self.house.stop_rest():
            self.wrong(text)
        for text in self.house.left_behind():
            self.wrong(f"left behind by an orderly stop: {text}")

    def _checked(self, n: int, since_ms: float) -> bool:
        status = state.read_status(self.house.files, n) or {}
        last = status.get("last_check") or {}
        return status.get("pid") == self.house.pid("bot", n) and status.get("state") == "running" and (last.get("wall_ms") or 0) > since_ms

    def _who_is_missing(self, since_ms: float) -> Callable[[], str]:
        def words() -> str:
            found = []
            for n in self.house.ids:
                if not self._checked(n, since_ms):
                    status = state.read_status(self.house.files, n) or {}
                    found.append(f"bot {n} (process {self.house.pid('bot', n)}, {status.get('state')}, {[w['text'] for w in status.get('warnings', ())]})")
            return f"a check of each bot; missing: {'; '.join(found)}"

        return words

    def _at_rest(self) -> bool:
        """For two seconds on end: a last check may still send something."""
        for _ in range(8):
            unresolved = [n for n in self.house.ids if (state.read_status(self.house.files, n) or {}).get("unresolved")]
            if unresolved or judge.open_questions(self.house):
                return False
            time.sleep(0.25)
        return True

    def _nobody_runs(self) -> bool:
        """For three seconds on end: the yard looks every two."""
        for _ in range(12):
            if self.house.keeper.running():
                return False
            time.sleep(0.25)
        return True

    def _post(self, path: str, body: dict[str, Any]) -> None:
        answer = requests.post(self.house.paper_url + path, json=body, timeout=5 * SLOWER)
        assert answer.status_code == 200, answer.text

    def _until(self, ask: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> None:
        deadline = time.monotonic() + seconds * SLOWER
        while not ask():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s for {what if isinstance(what, str) else what()}")
            time.sleep(0.1)

    # --- figures ----------------------------------------------------------------------

    def _count(self) -> None:
        truth, watched = self.truth, self.watch.figures
        struck = sum(self.mix.struck.values())
        self._told.figures = {
            "seed": self.seed,
            "bots": len(self.house.ids),
            "seconds": self.elapsed(),
            "orders": truth.count_orders(),
            "fills": len(truth.fills()),
            "requests": self.mix.asked,
            "faults": struck,
            "faults_pct": round(100 * struck / max(1, self.mix.asked), 1),
            "faults_by_kind": dict(sorted(self.mix.struck.items())),
            "acts": dict(sorted(self.done.items())),
            "longest_without_stop_s": watched.worst_gap_s,
            "longest_without_stop": watched.worst_gap,
            "longest_unlooked_s": watched.worst_unlooked_s,
            "longest_unlooked": watched.worst_unlooked,
            "most_positions": watched.most_open,
            "unwatched_by_owner_s": round(watched.unwatched_by_owner_s, 1),
            "longest_recovery_s": {k: max(v) for k, v in watched.recoveries.items() if v},
            "recoveries": {k: len(v) for k, v in watched.recoveries.items() if v},
            "looks": watched.looks,
        }
        truth.close()
