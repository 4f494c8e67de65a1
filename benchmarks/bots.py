"""What bots cost: memory, CPU and the time to the first decision, on a paper exchange of its own.

    python3 benchmarks/bots.py --bots 20 --seconds 60

Starts that many real bots (no screen) in a temporary home on free ports, prints medians,
and ends everything. Linux only: memory is PSS from /proc, which shares out what processes
have in common.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from processes import Home, until

COINS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT", "DOTUSDT", "LTCUSDT", "LINKUSDT")


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_decision_s(home: Home, bot_id: int, started: float) -> float:
    until(lambda: home.lines(f"bot_{bot_id}_decisions.jsonl"), f"bot {bot_id}'s first decision", 60)
    return float(home.lines(f"bot_{bot_id}_decisions.jsonl")[0]["wall_ms"]) / 1000 - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bots", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60, help="how long CPU is measured")
    parser.add_argument("--speed", default="1", help="market seconds per second")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home", PAPER_SPEED=arguments.speed, CHECK_INTERVAL="900", PAPER_START="2024-03-15T08:20")
        try:
            paper = home.paper()
            first: list[float] = []
            bots: list[subprocess.Popen[str]] = []
            for n in range(1, arguments.bots + 1):
                started = time.time()
                strategy = "volatile" if n % 2 else "simple_profitable"
                bots.append(home.bot(n, f"Bot {n}", COINS[n % len(COINS)], strategy, "100"))
                first.append(first_decision_s(home, n, started))
            before = [cpu_s(b.pid) for b in bots]
            paper_before = cpu_s(paper.pid)
            time.sleep(arguments.seconds)
            used = [(cpu_s(b.pid) - c) / arguments.seconds * 100 for b, c in zip(bots, before, strict=True)]
            memory = [pss_mb(b.pid) for b in bots]
            weight = requests.get(home.url + "/api/v3/ping", timeout=5).headers["X-MBX-USED-WEIGHT-1M"]
            found = {
                "bots": len(bots),
                "first_decision_s": {"median": round(statistics.median(first), 2), "max": round(max(first), 2)},
                "pss_mb": {"median": round(statistics.median(memory), 1), "max": round(max(memory), 1)},
                "cpu_percent_of_a_core": {"median": round(statistics.median(used), 2), "sum": round(sum(used), 1)},
                "paper_exchange": {"pss_mb": round(pss_mb(paper.pid), 1), "cpu_percent": round((cpu_s(paper.pid) - paper_before) / arguments.seconds * 100, 1)},
                "weight_this_minute": int(weight),
            }
        finally:
            home.end()
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
