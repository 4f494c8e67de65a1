"""A short chaos run (tests/chaos): a small yard on a schedule of kills, freezes, commands and faults, judged; and that the judges notice.

The long one: `PYTHONPATH=.:tests python -m chaos --seed 1 --bots 20 --minutes 7 --speed 30`, or CHAOS=whole in the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import patience
from chaos import judge, mix, plan, roster
from chaos.truth import Filled
from core.paper.faults import KINDS, Faults
from core.storage import dumps, loads

ROOT = Path(__file__).resolve().parents[1]
WHOLE = os.environ.get("CHAOS") == "whole"
SLOWER = 1.0 if WHOLE else patience.SLOWER
D = Decimal


def chaos(*arguments: str) -> dict[str, Any]:
    """A run in a process of its own; its figures, when nothing was wrong."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "CHAOS_SLOWER": str(SLOWER)}
    done = subprocess.run([sys.executable, "-m", "chaos", "--json", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=1500)
    assert done.stdout, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert not told["wrong"], f"home {told['home']}, {json.dumps(told['figures'])}\n" + "\n".join(f"{at} s: {text}" for at, text in told["wrong"])
    figures: dict[str, Any] = told["figures"]
    print(figures)
    return figures


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("screen") is None, reason="needs screen and /proc")
@pytest.mark.timeout(1600 if WHOLE else 280)
def test_a_yard_that_is_killed_frozen_and_misled_loses_nothing_and_leaves_no_position_without_a_stop() -> None:
    size = ("--bots", "20", "--minutes", "8") if WHOLE else ("--bots", "4", "--minutes", "0.55", "--kill-every", "2.5")
    figures = chaos("--seed", "1", "--speed", "30", *size)
    assert figures["orders"] >= (2000 if WHOLE else 10)
    assert figures["faults"] > 0
    assert sum(n for act, n in figures["acts"].items() if act.startswith("kill") and act.endswith("done")) >= (60 if WHOLE else 4)
    assert figures["longest_without_stop_s"] <= 15 * SLOWER


def test_a_seed_makes_the_same_schedule_again_and_a_longer_run_begins_like_a_shorter_one() -> None:
    long, again, other = (plan.make(seed, 20, 600) for seed in (7, 7, 8))
    assert long == again
    assert long != other
    short = plan.make(7, 20, 120)
    assert short == [a for a in long if a.at_s < 117]
    assert {a.whom for a in long if a.what == "kill"} == {"bot", "yard", "paper", "dashboard"}
    assert {a.what for a in long} == {"kill", "freeze", "ban", *plan.COMMANDS}


def test_the_faults_are_of_every_kind_and_about_a_tenth_of_the_requests_on_each_path() -> None:
    given, known = mix.faults(5), Faults()
    for fault in given:
        known.add(loads(dumps(fault)))
    assert {f["fault"] for f in given} | {"ban"} == set(KINDS)
    ends: dict[tuple[str, str], float] = {}
    for f in given:
        if f["fault"] != "latency":
            key = (f["method"], f["path"])
            ends[key] = ends.get(key, 0) + f["probability"]
    assert all(0.07 < share < 0.25 for share in ends.values()), ends


def test_the_roster_has_seven_bots_on_one_coin_and_each_protection_and_sizing() -> None:
    bots = roster.records(20)
    assert sum(1 for b in bots if b["symbol"] == roster.CROWDED) == 7
    assert len({b["symbol"] for b in bots}) >= 6
    assert {b["protection"] for b in bots} == {"exchange", "bot"}
    assert {b["sizing"] for b in bots} >= {"compound", "fixed", "all_available"}
    assert any(b.get("trailing_stop_pct") for b in bots)


# --- the judge notices ----------------------------------------------------------------------


def fill(number: int, side: str, client_id: str, quantity: str = "0.01") -> Filled:
    quote = D(quantity) * 50_000
    return Filled(number, number, "BTCUSDT", side, D(50_000), D(quantity), quote, quote / 1000, "USDT", client_id)


def row(f: Filled) -> dict[str, Any]:
    return {"symbol": f.symbol, "trade_id": str(f.id), "client_id": f.client_id, "side": f.side, "quantity": f.quantity, "quote": f.quote,
            "fee": f.fee, "fee_asset": f.fee_asset, "base": "BTC", "quote_asset": "USDT", "trade": 1}  # fmt: skip


FILLS = [fill(1, "BUY", "byx-1-1-a"), fill(2, "SELL", "byx-1-2-a")]


def test_a_fill_that_is_missing_doubled_invented_or_altered_in_the_journals_is_noticed() -> None:
    rows = [row(f) for f in FILLS]
    assert judge.journals(FILLS, {1: rows, 2: []}) == []
    assert "in 0 journals" in judge.journals(FILLS, {1: rows[:1]})[0]
    assert "in 2 journals" in judge.journals(FILLS, {1: rows, 2: rows[:1]})[0]
    assert "doesn't know" in judge.journals(FILLS[:1], {1: rows})[0]
    assert "the exchange has" in judge.journals([replace(FILLS[0], fee=D(0)), FILLS[1]], {1: rows})[0]


def test_an_intent_that_was_executed_twice_is_noticed_and_an_order_filled_in_parts_is_not() -> None:
    parts = [fill(1, "BUY", "byx-1-1-a"), fill(2, "BUY", "byx-1-1-a"), fill(3, "SELL", "byx-1-2-a", "0.02"), fill(4, "BUY", "byx-1-3-a")]
    assert judge.entries(1, parts, roster.BASES) == []
    twice = [fill(1, "BUY", "byx-1-1-a"), fill(2, "BUY", "byx-1-2-a")]
    assert "executed twice" in judge.entries(1, twice, roster.BASES)[0]


def test_a_profit_counts_what_was_paid_in_a_third_coin_by_its_worth_and_fees_in_the_coin_itself_not_at_all() -> None:
    sale = row(FILLS[1])
    assert judge.cash(sale) == D(500) - D("0.5")
    assert judge.cash({**sale, "fee_asset": "BNB", "fee_quote": D("0.4")}) == D("499.6")
    assert judge.cash({**row(FILLS[0]), "fee_asset": "BTC"}) == -500
