"""The kill matrix as a command.

    PYTHONPATH=.:tests python -m kills                      every scenario, outcome and point, by SIGKILL
    PYTHONPATH=.:tests python -m kills --cut lost           the same, by power cut (lost, torn, mixed)
    PYTHONPATH=.:tests python -m kills --second 40          the second life is killed, too
    PYTHONPATH=.:tests python -m kills --of 5 --seed 3      each fifth point only

Prints a line per scenario and outcome, then the figures; exit code 1 when a pass was not right.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core import config
from kills import disk
from kills.scenarios import SCENARIOS
from kills.world import Plan, Run, carry_out

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): orphans of ours become our children


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="kills", description="Kill bots at every point and judge them after their restart.")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this one (may be repeated)")
    parser.add_argument("--outcome", action="append", help="only this one (may be repeated)")
    parser.add_argument("--cut", choices=disk.KINDS, default="", help="a power cut in place of a mere SIGKILL")
    parser.add_argument("--second", type=int, default=0, metavar="N", help="kill the second life at one of its first N points")
    parser.add_argument("--of", type=int, default=1, metavar="N", help="each N-th point only, the first one by the seed")
    parser.add_argument("--each", type=int, default=1, metavar="N", help="each N-th pair of scenario and outcome only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="lives judged at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    given = parser.parse_args(argv)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print("this system can't adopt orphans (prctl PR_SET_CHILD_SUBREAPER): Linux is needed", file=sys.stderr)
        return 2
    for name in (*config.names(), "BOTYARD_HOME"):
        os.environ.pop(name, None)
    logging.disable(logging.CRITICAL)
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="botyard-kills-", dir=shm if os.access(shm, os.W_OK) else None))
    try:
        return _matrix(given, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _matrix(given: argparse.Namespace, folder: Path) -> int:
    tokens = os.pipe()
    os.write(tokens[1], b"t" * given.jobs)
    began, figures, wrong = time.monotonic(), {"runs": 0, "found": 0, "points": 0, "passes": 0, "killed": 0}, []
    turn = given.seed
    for scenario in (s for s in SCENARIOS.values() if not given.scenario or s.name in given.scenario):
        for outcome in (o for o in scenario.outcomes if not given.outcome or o.name in given.outcome):
            turn += 1
            if turn % given.each:
                continue
            figures["runs"] += 1
            results = folder / f"results-{figures['runs']}.jsonl"
            rest = (given.seed + figures["runs"]) % given.of
            plan = Plan(cut=given.cut, seed=given.seed, of=given.of, rest=rest)
            run = Run(scenario, outcome, plan, folder / f"run-{figures['runs']}", results, tokens, given.second)
            killed = carry_out(run)
            rows: list[dict[str, Any]] = [json.loads(line) for line in results.read_text().splitlines()]
            passes = [r for r in rows if "problems" in r]
            points = next((r["points"] for r in rows if "points" in r), None)
            bad = [r for r in passes if r["problems"]]
            if points is None:
                bad.append({"scenario": scenario.name, "outcome": outcome.name, "place": "nowhere", "n": 0, "problems": ["the run did not come to its end"]})
                points = {"found": 0, "struck": 0}
            expected = sum(1 for n in range(1, points["struck"] + 1) if given.of == 1 or n % given.of == rest)
            if points["struck"] and (len(passes) != expected + 1 or killed < expected):
                bad.append({"scenario": scenario.name, "outcome": outcome.name, "place": "everywhere", "n": 0,
                            "problems": [f"{expected} points, but {len(passes) - 1} passes and {killed} SIGKILLs"]})  # fmt: skip
            figures["found"] += points["found"]
            figures["points"] += points["struck"]
            figures["passes"] += len(passes)
            figures["killed"] += killed
            wrong += bad
            shutil.rmtree(run.folder, ignore_errors=True)
            if not given.json:
                print(f"{scenario.name:24} {outcome.name:46} {points['found']:6} {points['struck']:5} {len(passes):5} {killed:5}  {len(bad)} wrong", flush=True)
                for row in bad[:3]:
                    print(f"    killed {row['place']} ({row['n']}): {'; '.join(row['problems'])}", flush=True)
    figures["seconds"] = round(time.monotonic() - began, 1)
    if given.json:
        print(json.dumps({"figures": figures, "wrong": wrong}))
    else:
        print(f"{figures}, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
