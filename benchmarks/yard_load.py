"""What many bots together ask of an exchange and of the host: weight a minute, requests by path, CPU, memory.

    python3 benchmarks/yard_load.py --bots 100 --seconds 180

Starts that many real bots (no screen) at the default intervals on a paper exchange of its own at
speed 1, in a temporary home on a free port; `--holding` per cent of them buy at once and then
hold, with stop and target at the exchange. Measures for `--seconds` from the moment when all run,
and ends everything. Linux only (PSS from /proc).

`--apart` shows what the same bots ask where nothing is shared (data/shared.db can't be opened).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "tests")]
from bots import COINS, cpu_s, pss_mb
from core.paper.exchange import TABLE
from core.storage import dumps
from processes import BUY_ONCE, Home, until

PATHS = sorted({path for _, path in TABLE if path.startswith("/api/")})
AT_ONCE = 4  # so many start together, as the yard staggers a mass start


def weight(home: Home) -> int:
    """Used in the running minute, this question's own 1 left out."""
    return int(requests.get(home.url + "/api/v3/ping", timeout=10).headers["X-MBX-USED-WEIGHT-1M"]) - 1


def asked(home: Home) -> dict[str, int]:
    """Requests by method and path so far: each carries a fault that does nothing but count."""
    rows = requests.get(home.url + "/paper/faults", timeout=10).json()
    return {"BAN" if r["fault"] == "ban" else f"{r['method']} {r['path']}": int(r["struck"]) for r in rows if r["struck"]}


def count_all(home: Home) -> None:
    for path in PATHS:
        for method in sorted({m for m, p in TABLE if p == path}):
            home.post("/paper/faults", {"method": method, "path": path, "fault": "latency", "times": None, "params": {"ms": 0}})


def start(home: Home, bots: int, holding: int) -> list[subprocess.Popen[str]]:
    started: list[subprocess.Popen[str]] = []
    for first in range(1, bots + 1, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, bots + 1))
        for n in numbers:
            strategy = "buy_once" if (n - 1) * 100 // bots < holding else "volatile"
            started.append(home.bot(n, f"Bot {n}", COINS[n % len(COINS)], strategy, "50"))
        for n in numbers:
            home.checked(n, seconds=120)
    return started


def measure(home: Home, seconds: int, bots: list[subprocess.Popen[str]], paper: subprocess.Popen[str]) -> dict[str, Any]:
    total, pings = 0, 1
    before, cpu, paper_cpu, began = asked(home), [cpu_s(b.pid) for b in bots], cpu_s(paper.pid), time.time()
    known = weight(home)
    while (left := began + seconds - time.time()) > 0:
        to_end = 60 - time.time() % 60
        if to_end > 0.6 and to_end - 0.3 < left:  # the count just before it begins anew
            time.sleep(to_end - 0.3)
            total, known, pings = total + weight(home) - known, 0, pings + 1
            time.sleep(0.5)
        else:
            time.sleep(min(left, 0.7))
    total, took = total + weight(home) - known - pings, time.time() - began
    after = asked(home)
    a_minute = {k: round((after[k] - before.get(k, 0)) * 60 / took, 1) for k in sorted(after) if after[k] > before.get(k, 0)}
    return {
        "seconds": round(took, 1),
        "weight_a_minute": round(total * 60 / took),
        "requests_a_minute": a_minute,
        "bots_cpu_percent_of_a_core": round(sum(cpu_s(b.pid) - c for b, c in zip(bots, cpu, strict=True)) / took * 100, 1),
        "paper_cpu_percent_of_a_core": round((cpu_s(paper.pid) - paper_cpu) / took * 100, 1),
        "bots_pss_mb": {"sum": round(sum(pss_mb(b.pid) for b in bots), 1), "each": round(sum(pss_mb(b.pid) for b in bots) / len(bots), 1)},
    }


def ban(home: Home, seconds: int) -> dict[str, Any]:
    """One request is answered with 418: what all of them send each second until its end, and in the 25 s after it."""
    home.post("/paper/faults", {"method": "GET", "path": "/api/v3/openOrders", "fault": "ban", "times": 1, "params": {"seconds": seconds}})
    until(lambda: asked(home).get("BAN"), "somebody is banned", 30)
    began, last, rows = time.time(), sum(asked(home).values()), []
    for second in range(1, seconds + 26):
        time.sleep(max(0.0, began + second - time.time()))
        now = sum(asked(home).values())
        rows.append(now - last)
        last = now
    return {"seconds": seconds, "requests_in_each_second_of_the_ban": rows[:seconds], "and_after_it": rows[seconds:]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bots", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=180, help="how long is measured, from when all run")
    parser.add_argument("--holding", type=int, default=100, help="per cent of the bots that hold a position with stop and target at the exchange")
    parser.add_argument("--ban", type=int, default=0, metavar="SECONDS", help="afterwards one of them is banned for so long: what do all of them send?")
    parser.add_argument("--apart", action="store_true", help="nothing is shared")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home", PAPER_SPEED="1", CHECK_INTERVAL="900", PAPER_START="2024-03-15T08:20", PAPER_BALANCE_USDT="1000000")
        try:
            home.strategy("buy_once", BUY_ONCE)
            if arguments.apart:
                (home.path / "data" / "shared.db").mkdir(parents=True)
            paper = home.paper()
            count_all(home)
            began, weight_before = time.time(), weight(home)
            bots = start(home, arguments.bots, arguments.holding)
            if arguments.holding:
                until(lambda: requests.get(home.url + "/paper/status", timeout=5).json()["open_lists"], "stops at the exchange", 30)
            found = {
                "bots": len(bots),
                "shared": not arguments.apart,
                "start": {"seconds": round(time.time() - began, 1), "requests": asked(home), "weight_of_its_last_minute": weight(home) - weight_before},
                **measure(home, arguments.seconds, bots, paper),
                **({"ban": ban(home, arguments.ban)} if arguments.ban else {}),
                "open_lists": requests.get(home.url + "/paper/status", timeout=5).json()["open_lists"],
            }
        finally:
            home.end()
    print(dumps(found, indent=1) if arguments.json else "\n".join(f"{k}: {json.dumps(v)}" for k, v in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
