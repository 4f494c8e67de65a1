"""A chaos run as a command.

    PYTHONPATH=.:tests python -m chaos --seed 1 --bots 20 --minutes 5
    PYTHONPATH=.:tests python -m chaos --seed 1 --bots 20 --minutes 5 --plan     the schedule only, as data

Prints the schedule as it plays, then the figures; exit code 1 when something was wrong: then
the seed, the moment and what was wrong are told, and the home is kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from chaos.plan import make
from chaos.run import Run, Told
from core import config


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="chaos", description="Kill, freeze and mislead a whole yard by a seeded schedule, and judge what is left.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bots", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long the schedule plays; coming to rest takes up to two more")
    parser.add_argument("--speed", type=int, default=15, help="market seconds a second; a candle is a market minute")
    parser.add_argument("--kill-every", type=float, default=4.0, metavar="SECONDS", help="mean time between kills")
    parser.add_argument("--all-at-once", action="store_true", help="once, kill all bots, the yard and the dashboard in the same moment")
    parser.add_argument("--plan", action="store_true", help="print the schedule as JSON lines and end")
    parser.add_argument("--keep", action="store_true", help="keep the home also when nothing was wrong")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end in place of words")
    given = parser.parse_args(argv)
    acts = make(given.seed, given.bots, given.minutes * 60, kill_every_s=given.kill_every, all_at_once=given.all_at_once)
    if given.plan:
        for act in acts:
            print(json.dumps(act.row()))
        return 0
    for name in (*config.names(), "BOTYARD_HOME"):
        os.environ.pop(name, None)
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # through the clearing up
    folder = Path(tempfile.mkdtemp(prefix="botyard-chaos-"))

    def say(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    say(f"seed {given.seed}, {given.bots} bots, {given.minutes:g} minutes, home {folder}")
    told = Run(folder, given.seed, given.bots, given.minutes * 60, given.speed, acts, say).whole()
    if given.json:
        print(json.dumps({"figures": told.figures, "wrong": told.wrong, "home": str(folder)}))
    else:
        _print(told)
    if told.wrong or given.keep:
        say(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if told.wrong else 0


def _print(told: Told) -> None:
    for name, value in told.figures.items():
        print(f"{name:24} {value}")
    for at_s, text in told.wrong:
        print(f"WRONG (seed {told.seed}) at {at_s:7.2f} s: {text}")
    print(f"seed {told.seed}: {len(told.wrong)} wrong")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
