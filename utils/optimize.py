#!/usr/bin/env python3
"""Backtest a strategy with many settings, and show how each fares in and out of the sample.

    python3 utils/optimize.py --strategy scalping --symbol BTCUSDT --vary fast=5,10,20 --vary slow=30:120:30
    python3 utils/optimize.py --strategy scalping --symbol BTCUSDT --vary fast --vary slow --vary stop_loss_pct=1:6 --random 200
    python3 utils/optimize.py ... --write-to-bot 3

What varies: parameters of the strategy, stop_loss_pct, take_profit_pct and the other ways out. Values are
5,10,20 (these), 20:100:20 (from, to, step) or 5:30 (a range); a name alone takes the range that the
strategy declares. The first part of the time ranks; the rest (--out-of-sample) only shows whether the rank
holds. The same question, asked again, goes on where it was killed.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv", "numpy", "pandas"))

import argparse
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from core import config as settings_module
from core.backtest import arguments as words
from core.backtest import report, sweep
from core.errors import AlreadyRunning, BotyardError, Conflict, InputError
from core.model import plain
from core.storage import Files, dumps

CODES = (
    "exit codes: 0 done; 1 the sweep is done, but the bot was not changed; 2 wrong arguments, settings or files; "
    "3 no candles, or it can't be done now; 4 no combination could be computed; 130 ended by Ctrl-C (ask again to go on)"
)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    main = words.parser("optimize.py", (__doc__ or "").split("\n\n")[0], CODES)
    vary = main.add_argument_group("what varies")
    vary.add_argument("--vary", action="append", default=[], metavar="NAME[=VALUES]", help="a name and its values; may be given again")
    vary.add_argument("--random", type=int, metavar="N", help="draw so many combinations, instead of all of a grid")
    vary.add_argument("--seed", type=int, default=1, metavar="N", help="which ones are drawn (1)")
    rank = main.add_argument_group("how it is judged")
    rank.add_argument("--metric", choices=sweep.METRICS, default="sharpe", help="what ranks (sharpe)")
    rank.add_argument("--out-of-sample", type=words.number, default=Decimal(30), metavar="PCT", help="the last part of the time, which doesn't rank (30)")
    out = main.add_argument_group("how it runs and what comes out")
    out.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one a core)")
    out.add_argument("--out", type=Path, metavar="FILE", help="where results are kept for going on (data/sweeps/ in the yard's home)")
    out.add_argument("--fresh", action="store_true", help="compute everything anew")
    out.add_argument("--top", type=int, default=20, metavar="N", help="lines of the table (20)")
    out.add_argument("--csv", type=Path, metavar="FILE", help="write all results")
    out.add_argument("--write-to-bot", type=int, metavar="N", help="put the winner into this bot's record")
    out.add_argument("--yes", action="store_true", help="... without asking")
    given: argparse.Namespace = main.parse_args(argv)
    return given


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    return words.guarded("optimize.py", given.json, lambda: work(given))


def work(given: argparse.Namespace) -> int:
    if given.jobs < 1:
        raise InputError(f"--jobs: {given.jobs} must be a number of processes from 1")
    wanted = words.wanted_of(given)
    if wanted.finer or wanted.finer_data:
        raise InputError("--finer is for a single backtest; a sweep takes the candles as they are")
    vary: dict[str, str] = {}
    for text in given.vary:
        name, _, values = text.partition("=")
        if name.strip() in vary:
            raise InputError(f"--vary {name.strip()} is given twice; once is right")
        vary[name.strip()] = values
    asked = sweep.plan(wanted, vary, draws=given.random, seed=given.seed, out_of_sample_pct=given.out_of_sample)
    path = (given.out or _home() / "data" / "sweeps" / asked.file_name).expanduser().absolute()
    if given.fresh and path.exists():
        path.unlink()
    progress = words.Progress("sweeping")
    try:
        outcome = sweep.run(asked, path, jobs=given.jobs, progress=progress)
    except AlreadyRunning as e:
        raise Conflict(f"this sweep is being computed already: {e}") from None
    except KeyboardInterrupt:
        progress.done()
        return words.fail("optimize.py", f"ended by Ctrl-C. What is computed is kept in {path}; the same command goes on from there.", given.json)
    progress.done()
    rows = sweep.ranked(outcome.rows, given.metric)
    notes = [*(sweep.doubts(asked, rows[0]) if rows else ()), *sweep.warnings(asked, outcome, given.metric)]
    if given.csv:
        report.write(given.csv, report.as_csv(_csv(rows)))
    if given.json:
        print(dumps(_json(asked, outcome, rows, notes, path)))
    else:
        _show(given, asked, outcome, rows, notes, path)
    if not rows:
        return words.BROKEN
    return _write_to_bot(given, asked, rows[0]) if given.write_to_bot is not None else words.OK


def _show(given: argparse.Namespace, asked: sweep.Sweep, outcome: sweep.Outcome, rows: list[sweep.Row], notes: list[str], path: Path) -> None:
    split = f"; ranked by {given.metric} until {report.utc(asked.split_ms)}, 'out' is after" if asked.split_ms else f"; ranked by {given.metric}"
    print(f"{asked.wanted.strategy} on {asked.wanted.symbol} {asked.timeframe}: {len(asked.combinations):,} combinations{split}")
    lines = sweep.table(rows[: max(given.top, 1)], given.metric)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines if rows else []:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if len(rows) > given.top:
        print(f"  ... {len(rows) - given.top:,} more (--top, --csv)")
    if outcome.skipped:
        print(f"  {outcome.skipped:,} combinations are not allowed by the strategy")
    for combination, reason in list(outcome.failed.items())[:5]:
        print(f"  failed: {combination}: {reason}")
    for note in notes:
        print(f"! {note}")
    began = f", {outcome.resumed:,} of them by a former run" if outcome.resumed else ""
    print(f"{len(rows):,} computed{began}; {outcome.seconds:.1f} s; kept in {path}")


def _json(asked: sweep.Sweep, outcome: sweep.Outcome, rows: list[sweep.Row], notes: list[str], path: Path) -> dict[str, Any]:
    return {
        "schema": sweep.SCHEMA,
        "question": asked.head,
        "rows": [{"values": r.combination, "in": r.inside, "out": r.outside} for r in rows],
        "skipped": outcome.skipped,
        "failed": outcome.failed,
        "resumed": outcome.resumed,
        "seconds": Decimal(f"{outcome.seconds:.3f}"),
        "warnings": notes,
        "file": str(path),
    }


def _csv(rows: list[sweep.Row]) -> list[list[object]]:
    if not rows:
        return [["nothing"]]
    figures = list(rows[0].inside)
    sides = ["in", "out"] if rows[0].outside is not None else ["in"]
    lines: list[list[object]] = [[*rows[0].combination, *(f"{side}_{name}" for side in sides for name in figures)]]
    for r in rows:
        told = {"in": r.inside, "out": r.outside or {}}
        lines.append([*r.combination.values(), *(told[side].get(name) for side in sides for name in figures)])
    return lines


def _write_to_bot(given: argparse.Namespace, asked: sweep.Sweep, best: sweep.Row) -> int:
    """Put the winner into the record, after a look at what it changes."""
    from core.fleet.registry import Registry  # only here: a sweep needs no yard

    number = given.write_to_bot
    try:
        bots = Registry(Files(_home()))
        record = bots.bot(number)
        wrong = [
            f"its {name} is {record.get(name)}, the sweep's {value}"
            for name, value in (("strategy", asked.wanted.strategy), ("symbol", asked.wanted.symbol))
            if record.get(name) != value
        ]
        if wrong:
            raise InputError(f"bot {number} was not changed: {' and '.join(wrong)}; sweep what it trades, or change the bot first")
        params = {n: v for n, v in best.combination.items() if n not in asked.exits}
        changes: dict[str, Any] = {n: v for n, v in best.combination.items() if n in asked.exits}
        if params or asked.wanted.params:
            changes["params"] = {**(record.get("params") or {}), **asked.wanted.params, **params}
        running = Files(_home()).lock(f"bot_{number}.lock").holder() is not None
        told = _state(number, record, running)
        print(f"Bot {number} ({record.get('name')}, {told}) would get: {_words(changes)}", file=sys.stderr)
        own = record.get("timeframe")
        if own and own != asked.timeframe:
            print(f"  but it trades {own} candles, the sweep was on {asked.timeframe}", file=sys.stderr)
        if not given.yes and not _agreed():
            print("Not written.", file=sys.stderr)
            return words.NOT_WRITTEN
        bots.update(number, changes, by="utils/optimize.py")
    except (BotyardError, OSError) as e:
        print(f"{e}", file=sys.stderr)
        return words.NOT_WRITTEN
    print(f"Written to bot {number}; {_counts(number, changes, running)}", file=sys.stderr)
    return words.OK


def _state(number: int, record: Mapping[str, Any], running: bool) -> str:
    """What a person should know before changing a bot: whose money, whether it runs, what is open."""
    from core.fleet import state

    mode = "LIVE, real money" if record.get("mode") == "live" else record.get("mode") or "paper"
    business = state.open_business(state.read_position(Files(_home()), number))
    return ", ".join(part for part in (mode, "running" if running else "not running", business) if part)


def _counts(number: int, changes: Mapping[str, Any], running: bool) -> str:
    """When what was written begins to count."""
    if not running:
        return "it counts when the bot is started."
    now = [name for name in changes if name != "params"]
    later = list(changes.get("params") or ())
    parts = [f"{', '.join(now)} from its next check on"] if now else []
    parts += [f"{', '.join(later)} when it is started again: python3 utils/yard.py restart {number}"] if later else []
    return "; ".join(parts) + "."


def _agreed() -> bool:
    if not sys.stdin.isatty():
        print("Nobody can be asked here; --yes says so beforehand.", file=sys.stderr)
        return False
    print("Write it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _words(changes: dict[str, Any]) -> str:
    flat = {**changes.get("params", {}), **{name: v for name, v in changes.items() if name != "params"}}
    return ", ".join(f"{name}={plain(v) if isinstance(v, Decimal) else v}" for name, v in flat.items())


def _home() -> Path:
    return settings_module.load().home


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
