#!/usr/bin/env python3
"""Backtest a strategy: what it would have traded on stored candles, by the bot's own decisions.

    python3 utils/backtest.py --strategy scalping --symbol BTCUSDT --timeframe 5m --data BTC_USDT-5m.json.gz
    python3 utils/backtest.py --strategy scalping --symbol BTCUSDT --from 2024-01-01 --to 2024-07-01 --report report.html
    python3 utils/backtest.py --strategy mine --symbol BTCUSDT --check-lookahead --check-warmup

Candles come from the store (utils/backfill.py fills it) or from --data: a candle file, another
store, or a folder of candle files. Without --check-interval every closed candle is decided on
and filled at the next candle's open; with it, checks fall when a bot's would.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv", "numpy", "pandas"))

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.backtest import arguments as words
from core.backtest import prepare
from core.errors import InputError
from core.market.candle_files import is_store

if TYPE_CHECKING:
    from strategies.base import Strategy

CODES = (
    "exit codes: 0 done; 1 a --check found that the strategy looks ahead or needs more candles than it declares; 2 wrong arguments, "
    "settings or files; 3 no candles, or it can't be done now; 4 the strategy broke; 130 ended by Ctrl-C"
)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    main = words.parser("backtest.py", (__doc__ or "").split("\n\n")[0], CODES)
    files = main.add_argument_group("what comes out")
    files.add_argument("--report", type=Path, metavar="FILE.html", help="write a report that needs no network")
    files.add_argument("--csv", type=Path, metavar="FILE", help="write the trades")
    several = main.add_argument_group("several symbols: --symbol BTCUSDT,ETHUSDT")
    several.add_argument("--pot", choices=("each", "one"), default="each", help="the cash for each of them, or once for all, in equal parts (each)")
    honest = main.add_argument_group("is it honest")
    honest.add_argument("--check-lookahead", action="store_true", help="do signals change when the future is cut off? (runs no backtest)")
    honest.add_argument("--check-warmup", action="store_true", help="how many candles does it really need? (runs no backtest)")
    honest.add_argument("--points", type=int, default=100, metavar="N", help="moments that are checked (100)")
    honest.add_argument("--seed", type=int, default=1, metavar="N", help="which moments (1)")
    given: argparse.Namespace = main.parse_args(argv)
    return given


def main(argv: Sequence[str]) -> int:
    given = arguments(argv)
    return words.guarded("backtest.py", given.json, lambda: work(given))


def work(given: argparse.Namespace) -> int:
    wanted = words.wanted_of(given)
    if "," in wanted.symbol:
        return _several(given, wanted)
    prepared = prepare.prepare(wanted)
    if given.check_lookahead or given.check_warmup:
        return _honesty(given, wanted, prepared)
    from core.backtest import engine, honesty, metrics, report

    progress = words.Progress("backtesting")
    result = engine.run(prepared.config, prepared.bars, prepared.strategy, prepared.finer, progress=progress)
    result = replace(result, warnings=(*result.warnings, *honesty.doubts(prepared)))
    progress.done()
    figures = metrics.of(result, prepared.bars)
    notes = report.notes(result, prepared.bars)
    if given.report:
        report.write(given.report, report.html_text(result, prepared.bars, figures))
    if given.csv:
        report.write(given.csv, report.csv_text(result.trades))
    if given.json:
        print(report.json_text(result, figures, notes))
        return words.OK
    c = prepared.config
    print(f"{c.strategy.key} on {c.symbol.name} {c.timeframe}")
    rows = report.figure_rows(figures, c.symbol.quote)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")
    for reason, n in result.refused.items():
        print(f"  not done {n:,} times: {reason}")
    for note in notes:
        print(f"! {note}")
    for path in (given.report, given.csv):
        if path:
            print(f"written: {path}")
    return words.OK


def _several(given: argparse.Namespace, wanted: prepare.Wanted) -> int:
    """The same on each of several symbols, and what it comes to together."""
    from core.backtest import honesty, metrics, report, several
    from core.storage import dumps

    names = [name for name in wanted.symbol.split(",") if name]
    if len(set(names)) != len(names) or given.check_lookahead or given.check_warmup:
        raise InputError("several symbols: name each once, and check a strategy's honesty on one of them")
    if given.data and not given.data.is_dir() and len(names) > 1 and not is_store(given.data):
        raise InputError(f"several symbols need a folder of candle files or a store; {given.data} is one file")
    prepared = [prepare.prepare(replace(wanted, symbol=name)) for name in names]
    progress = words.Progress("backtesting")
    results = [replace(r, warnings=(*r.warnings, *honesty.doubts(p))) for r, p in zip(several.run(prepared, given.pot, progress), prepared, strict=True)]
    progress.done()
    whole = several.total(results, [p.bars for p in prepared], wanted.cash if given.pot == "one" else None)
    figures, parts = metrics.of(whole), [metrics.of(r, p.bars) for r, p in zip(results, prepared, strict=True)]
    notes = {p.config.symbol.name: report.notes(r, p.bars) for r, p in zip(results, prepared, strict=True)}
    if given.report:
        for r, p, f in zip(results, prepared, parts, strict=True):
            path = given.report.with_stem(f"{given.report.stem}-{p.config.symbol.name}")
            report.write(path, report.html_text(r, p.bars, f))
            print(f"written: {path}", file=sys.stderr)
    if given.csv:
        report.write(given.csv, report.csv_text(whole.trades))
    if given.json:
        symbols = {r.config.symbol.name: report.summary(r, f, notes[r.config.symbol.name]) for r, f in zip(results, parts, strict=True)}
        print(dumps({"schema": report.SCHEMA, "pot": given.pot, "metrics": figures.describe(), "symbols": symbols}))
        return words.OK
    quote = whole.config.symbol.quote
    print(f"{whole.config.strategy.key} on {', '.join(names)} {whole.config.timeframe}, " + ("one pot each" if given.pot == "each" else "one pot"))
    rows = [report.figure_rows(f, quote) for f in (figures, *parts)]
    shown = [i for i, (name, _) in enumerate(rows[0]) if name in _COMPARED]
    width = max(len(rows[0][i][0]) for i in shown)
    columns = [["together", *(rows[0][i][1] for i in shown)], *([n, *(row[i][1] for i in shown)] for n, row in zip(names, rows[1:], strict=True))]
    widths = [max(map(len, column)) for column in columns]
    for line, name in enumerate(["", *(rows[0][i][0] for i in shown)]):
        print(f"  {name:<{width}}  " + "  ".join(column[line].rjust(w) for column, w in zip(columns, widths, strict=True)))
    for name, r in zip(names, results, strict=True):
        for reason, n in r.refused.items():
            print(f"  {name}: not done {n:,} times: {reason}")
    for name, said in notes.items():
        for note in said:
            print(f"! {name}: {note}")
    return words.OK


_COMPARED = (
    *("Final equity", "Return", "Buy and hold", "CAGR", "Sharpe", "Sortino", "Calmar", "Maximum drawdown", "Trades", "Win rate", "Profit factor"),
    *("Best trade", "Worst trade", "Average trade", "Time in the market", "Fees"),
)


def _honesty(given: argparse.Namespace, wanted: prepare.Wanted, prepared: prepare.Prepared) -> int:
    from core.backtest import honesty
    from core.storage import dumps

    progress = words.Progress("checking")
    found: dict[str, Any] = {}

    def build() -> Strategy:
        return prepare.build(wanted, wanted.params)

    if given.check_lookahead:
        found["lookahead"] = honesty.lookahead(prepared, build, points=given.points, seed=given.seed, progress=progress)
    if given.check_warmup:
        found["warmup"] = honesty.warmup(prepared, build, points=given.points, seed=given.seed, progress=progress)
    progress.done()
    if given.json:
        print(dumps({name: answer.describe() for name, answer in found.items()}))
    else:
        for answer in found.values():
            print(answer.text())
    return words.OK if all(answer.honest for answer in found.values()) else words.DISHONEST


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
