"""What a chaos run does and when: pure, from a seed, so that a failing seed plays the same schedule again."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

QUIET_S = 12.0  # nothing happens before: the yard comes up
KILLED = ("bot",) * 14 + ("paper",) * 2 + ("yard",) * 2 + ("dashboard",) * 2
COMMANDS = ("close", "levels", "skip", "stop", "restart", "check")
LONG_FREEZE_S = 60.0  # longer than any bound: somebody has to replace this bot


@dataclass(frozen=True, slots=True)
class Act:
    """One act: `at_s` seconds after the run's start. `bot` 0: it concerns no bot.

    `what` is kill, freeze, ban or a command; `whom` is what is killed; `data` holds what else
    it needs (`back_s`: after so long the harness starts it again, as systemd would; `for_s`)."""

    at_s: float
    what: str
    whom: str = "bot"
    bot: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        return asdict(self)

    def words(self) -> str:
        name = f"bot {self.bot}" if self.bot else self.whom
        more = "".join(f" {k}={v}" for k, v in self.data.items())
        return f"{self.at_s:7.2f} s  {self.what} {name}{more}"


def make(seed: int, bots: int, seconds: float, *, kill_every_s: float = 4.0, all_at_once: bool = False) -> list[Act]:
    """The schedule of a run of `seconds`, in order. The last seconds are left alone, so that what was ended last comes back.

    `all_at_once`: once all bots, the yard and the dashboard are killed in the same moment."""
    acts: list[Act] = []
    end = seconds - 3.0

    def times(stream: str, mean: float) -> list[tuple[float, random.Random]]:
        """Each kind of act has dice of its own: a longer run begins like a shorter one."""
        found: list[tuple[float, random.Random]] = []
        dice, at = random.Random(f"{seed}:{stream}"), QUIET_S
        while True:
            at += mean * (0.4 + 1.2 * dice.random())
            moment = random.Random(dice.random())
            if at >= end:
                return found
            found.append((round(at, 3), moment))

    for at, dice in times("kill", kill_every_s):
        whom = dice.choice(KILLED)
        if whom == "bot":
            acts.append(Act(at, "kill", "bot", dice.randint(1, bots)))
        else:
            acts.append(Act(at, "kill", whom, data={} if whom == "paper" else {"back_s": round(0.5 + 2 * dice.random(), 2)}))
    for n, (at, dice) in enumerate(times("freeze", 15.0)):
        length = round(0.5 + 3.5 * dice.random(), 2)
        if n % 5 == 3:
            acts.append(Act(at, "freeze", "paper", data={"for_s": length}))
        else:
            acts.append(Act(at, "freeze", "bot", dice.randint(1, bots), {"for_s": LONG_FREEZE_S if n % 5 == 2 else length}))
    if all_at_once:
        acts.append(Act(round(seconds * 0.6, 3), "kill", "all", data={"back_s": 1.0}))
    for at, dice in times("ban", 30.0):
        acts.append(Act(at, "ban", "exchange", data={"for_s": dice.choice((1, 2, 3))}))
    for at, dice in times("command", 6.0):
        what, bot = dice.choice(COMMANDS), dice.randint(1, bots)
        data: dict[str, Any] = {}
        if what == "levels":
            data = {"stop_pct": round(0.05 + 0.4 * dice.random(), 3), "target_pct": round(0.05 + 0.6 * dice.random(), 3)}
        elif what == "skip":
            data = {"entries": dice.randint(0, 2)}
        elif what == "stop":
            data = {"back_s": round(1 + 9 * dice.random(), 2)}
        acts.append(Act(at, what, "bot", bot, data))
    return sorted(acts, key=lambda a: a.at_s)
