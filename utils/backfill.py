#!/usr/bin/env python3
"""Fill, check, import and export the candle history (data/history.db).

    python3 utils/backfill.py BTCUSDT ETHUSDT --timeframe 1m,5m          everything the exchange has, back to its first candle
    python3 utils/backfill.py BTCUSDT --timeframe 1m --from 2024-01-01   back to a date; only what is missing is asked for
    python3 utils/backfill.py BTCUSDT --timeframe 1m --keep 400d         the last 400 days; older candles are dropped
    python3 utils/backfill.py BTCUSDT --timeframe 1m --file FILE         import: candle store, Binance's CSV, [[ms,o,h,l,c,v]] JSON (.gz too)
    python3 utils/backfill.py BTCUSDT --timeframe 1m --export FILE.csv   Binance's 12 columns (.gz packs it, - is the standard output)
    python3 utils/backfill.py --check                                    gaps, candles off the grid, told twice or impossible
    python3 utils/backfill.py --list                                     what is stored

The store is filled for a venue: that of --mode (paper: the paper exchange, which must run; testnet and live: public data, no keys
needed), or the one that --venue names. A backfill may be stopped at any moment and started again. Exit codes: 0 done, or nothing
is wrong; 1 --check found something; 2 wrong arguments, settings or files; 3 exchange or store failed; 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv", "binance", "numpy"))

import argparse
import contextlib
import re
import sqlite3
import time
from collections.abc import Callable

from core import commandline as words
from core import config
from core.account import access
from core.binance_client import BinanceClient
from core.clock import utc_text, wall_ms
from core.errors import AccessRefused, BotyardError, InputError, Refused
from core.market import intake, timeframes
from core.market.backfill import Backfill, Task
from core.market.history import PATIENT_S, CandleStore
from core.model import MODES, Venue
from core.storage import Files, dumps, installation

RESUMES = "What was taken until now is stored; the same command goes on from there."
_REMEDIES = {  # part of what SQLite says → what to do
    "full": "make room on its disk",
    "readonly": "the user that runs this must be allowed to write the file and its folder",
    "unable to open": "the user that runs this must be allowed to write in its folder",
    "disk I/O": "make room on its disk, or look whether the disk is damaged",
    "malformed": "it is damaged: move it away and fetch the candles again",
    "not a database": "it is damaged, or something else: move it away and fetch the candles again",
}
_LINE_S = 5.0  # between two lines of progress where they go into a file
_SHOWN = 5


def parser() -> argparse.ArgumentParser:
    main = words.Parser(prog="backfill.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    main.add_argument("symbols", nargs="*", metavar="SYMBOL", type=str.upper, help="such as BTCUSDT")
    main.add_argument("--timeframe", metavar="T[,T]", type=_timeframes, action="extend", help="such as 1m or 1m,5m,1h (KLINE_INTERVAL)")
    main.add_argument("--from", dest="start", metavar="DATE", type=_moment, help="no candles before it, such as 2024-01-31 (UTC)")
    main.add_argument("--to", dest="end", metavar="DATE", type=_moment, help="no candles from it on")
    main.add_argument("--keep", metavar="DAYS", type=_days, help="how long candles are kept, such as 400d")
    main.add_argument("--recheck", action="store_true", help="ask again for candles that the exchange did not have")
    main.add_argument("--mode", choices=MODES, help="whose candles (TRADING_MODE)")
    main.add_argument("--venue", metavar="KEY", help="whose candles, as --list names it; not for fetching")
    main.add_argument("--json", action="store_true", help="answer as one JSON object")
    what = main.add_mutually_exclusive_group()
    what.add_argument("--file", metavar="PATH", help="import this file, or --check it without importing")
    what.add_argument("--export", metavar="PATH", help="write the stored candles as CSV; - is the standard output")
    what.add_argument("--list", action="store_true", help="show what is stored")
    main.add_argument("--check", action="store_true", help="look for gaps and wrong candles; changes nothing")
    main.add_argument("--replace", action="store_true", help="with --file: where file and store differ, the file is right")
    return main


def main(argv: list[str]) -> int:
    given = parser().parse_args(argv)
    return words.guarded("backfill.py", given.json, lambda: work(given), stopped=f"ended by Ctrl-C. {RESUMES}")


def work(given: argparse.Namespace) -> int:
    settings = config.load()
    store = CandleStore(Files(settings.home).path("data/history.db"), busy_s=PATIENT_S)
    try:
        return Command(given, settings, store).run()
    except InputError:
        raise
    except sqlite3.Error as e:
        remedy = next((told for part, told in _REMEDIES.items() if part in str(e)), "try again in a moment")
        return words.fail("backfill.py", f"{store.path}: {e}; {remedy}. {RESUMES}", given.json, words.code_of(e))
    except words.FAILURES as e:
        return words.fail("backfill.py", f"{words.text_of(e).rstrip('.')}. {RESUMES}", given.json, words.code_of(e))
    finally:
        store.close()


class Command:
    def __init__(self, given: argparse.Namespace, settings: config.Settings, store: CandleStore):
        self.given, self.settings, self.store = given, settings, store
        self.mode = given.mode or settings.trading_mode
        self.frames: list[str] = list(dict.fromkeys(given.timeframe or [settings.kline_interval]))

    def run(self) -> int:
        g = self.given
        if g.replace and not g.file:
            raise InputError("--replace goes with --file")
        if g.keep is not None and (g.file or g.export or g.check or g.list):
            raise InputError("--keep goes with fetching alone")
        if g.list:
            return self.list()
        if g.check and not g.file:
            return self.check()
        if not g.symbols:
            raise InputError("name at least one symbol, such as: python3 utils/backfill.py BTCUSDT --timeframe 1m (see --help)")
        if g.file or g.export:
            if len(g.symbols) != 1 or len(self.frames) != 1:
                raise InputError("--file and --export take one symbol and one --timeframe")
            symbol, timeframe = g.symbols[0], self.frames[0]
            if g.check:
                return self.tell_checked([intake.check_file(g.file, symbol, timeframe)])
            return self.take(symbol, timeframe) if g.file else self.export(symbol, timeframe)
        if g.venue:
            raise InputError("--venue names what is stored; candles are fetched for --mode")
        return self.fetch()

    # --- fetching ---------------------------------------------------------------------------

    def fetch(self) -> int:
        exchange = self.client()
        progress = Progress(self.given.json)
        backfill = Backfill(exchange, self.store, tell=progress.tell, waits=progress.waits)
        start = self.given.start
        market_ms = backfill.now_ms() if start is not None or self.given.keep is not None else 0
        if start is not None and start >= market_ms:
            raise InputError(f"--from {_date(start)} lies in the future: in this market it is {_date(market_ms)} (UTC); name an earlier moment")
        if start is not None and self.given.end is not None and self.given.end <= start:
            raise InputError(f"--to {_date(self.given.end)} is not after --from {_date(start)}; nothing lies between them")
        if self.given.keep is not None:
            kept_from = market_ms - self.given.keep
            start = kept_from if start is None else max(start, kept_from)
        wanted = [(symbol, timeframe) for symbol in self.given.symbols for timeframe in self.frames]
        tasks, problems = [], []
        for symbol, timeframe in wanted:
            try:
                tasks.append(backfill.plan(symbol, timeframe, start, self.given.end, self.given.recheck))
            except AccessRefused:
                raise
            except (InputError, Refused) as e:
                problems.append(f"{symbol} {timeframe}: {e}")
        progress.begin(sum(task.to_fetch for task in tasks))
        for task in tasks:
            backfill.run(task)
        progress.end()
        dropped = 0
        if self.given.keep is not None:
            dropped = sum(self.store.forget_before(exchange.venue, task.symbol, task.timeframe, kept_from) for task in tasks)
        now = max((task.now_ms for task in tasks), default=0)
        self.store.tidy(now, exchange.venue)
        key = exchange.venue.candle_key()
        if self.given.json:
            rows = [
                {"symbol": t.symbol, "timeframe": t.timeframe, "from_ms": t.first_ms, "to_ms": t.end_ms, "stored": t.stored, "not_there": t.lacking}
                for t in tasks
            ]
            print(dumps({"venue": key, "series": rows, "dropped": dropped, "requests": backfill.requests, "problems": problems}, indent=1))
        else:
            for t in tasks:
                absent = f", {t.lacking:,} that the exchange does not have" if t.lacking else ""
                print(f"{t.symbol} {t.timeframe} ({key}): {_date(t.first_ms)} to {_date(t.end_ms)}, {t.stored:,} candles fetched{absent}")
            if dropped:
                print(f"{dropped:,} candles older than {self.given.keep // timeframes.DAY} days dropped")
        for problem in problems:
            print(problem, file=sys.stderr)
        return words.USAGE if problems else words.DONE

    def client(self) -> BinanceClient:
        made = access.client(self.settings, self.mode, priority="page", public=True)
        made.connect(installation(Files(self.settings.home)))
        return made

    # --- what needs no exchange -----------------------------------------------------------------

    def venue(self) -> str:
        """The key that --venue or --mode mean. On paper the store says it where it holds one market alone, else the paper exchange."""
        if self.given.venue:
            return str(self.given.venue)
        own = Venue(mode=self.mode).candle_key()
        if self.mode != "paper":
            return own
        stored = {s.venue for s in self.store.series() if s.venue.startswith(own + "/")}
        if len(stored) == 1 and not self.given.file:
            return stored.pop()
        try:
            return self.client().venue.candle_key()
        except BotyardError as e:
            known = ", ".join(sorted(stored)) or "such as binance/spot/paper/synthetic:1"
            raise InputError(f"which paper market? {e}. Or name it by --venue ({known}), or --mode live for Binance's own candles") from e

    def take(self, symbol: str, timeframe: str) -> int:
        key = self.venue()
        progress = Progress(self.given.json)
        progress.begin(0)
        taken = intake.take(self.store, self.given.file, key, symbol, timeframe, wall_ms(), replace=self.given.replace, tell=progress.imports)
        progress.end()
        if self.given.json:
            print(dumps({"venue": key, "symbol": symbol, "timeframe": timeframe, **taken._asdict()}, indent=1))
        else:
            print(f"{symbol} {timeframe} ({key}): {taken.new:,} new candles, {taken.same:,} that were there already, {taken.replaced:,} replaced")
            for note in taken.notes:
                print("  " + note)
        return words.DONE

    def export(self, symbol: str, timeframe: str) -> int:
        key = self.venue()
        start = self.given.start if self.given.start is not None else 0
        out = None if self.given.export == "-" else self.given.export
        number = intake.export(self.store, key, symbol, timeframe, start, self.given.end, out, sys.stdout)
        said = dumps({"venue": key, "symbol": symbol, "timeframe": timeframe, "candles": number}, indent=1)
        told = said if self.given.json else f"{symbol} {timeframe} ({key}): {number:,} candles written"
        print(told, file=sys.stdout if out else sys.stderr)
        return words.DONE

    def check(self) -> int:
        wanted = [
            s
            for s in self.store.series()
            if (not self.given.symbols or s.symbol in self.given.symbols)
            and (not self.given.timeframe or s.timeframe in self.frames)
            and (not self.given.venue or s.venue == self.given.venue)
            and (not self.given.mode or s.venue.startswith(Venue(mode=self.mode).candle_key()))
        ]
        if not wanted:
            raise InputError(f"{self.store.path} holds nothing of that; --list shows what it holds")
        return self.tell_checked([intake.check_store(self.store, s, self.given.start, self.given.end) for s in wanted])

    def tell_checked(self, found: list[intake.Checked]) -> int:
        if self.given.json:
            print(dumps({"series": [c.told() for c in found], "wrong": sum(c.wrong for c in found)}, indent=1))
        for c in [] if self.given.json else found:
            print(f"{c.name}: {c.candles:,} candles" + (f", {_date(c.first_ms)} to {_date(c.last_ms)}" if c.candles else ""))
            explained = [g for g in c.gaps if g.reason is not None]
            open_ones = [g for g in c.gaps if g.reason is None]
            if explained:
                print(f"  {len(explained)} gaps, {sum(g.missing for g in explained):,} candles, that the exchange does not have")
            if open_ones:
                print(f"  {len(open_ones)} gaps, {sum(g.missing for g in open_ones):,} candles missing")
            for g in open_ones[:_SHOWN]:
                print(f"    {_date(g.first_ms)} to {_date(g.last_ms)}: {g.missing:,}")
            for p in c.problems[:_SHOWN]:
                print(f"  {p.kind}: {p.text}" + (f" (line {p.line})" if p.line else ""))
            if len(c.problems) > _SHOWN:
                print(f"  and {len(c.problems) - _SHOWN:,} more wrong candles (--json lists all)")
            if not c.wrong:
                print("  nothing is wrong")
        return words.FOUND if any(c.wrong for c in found) else words.DONE

    def list(self) -> int:
        known = self.store.series()
        if self.given.json:
            print(dumps({"series": [s._asdict() for s in known]}, indent=1))
        else:
            for s in known:
                print(f"{s.venue:<34} {s.symbol:<12} {s.timeframe:<4} {s.candles:>10,}  {_date(s.first_ms)} to {_date(s.last_ms)}")
            if not known:
                print("nothing is stored yet")
        return words.DONE


class Progress:
    """One line on standard error: rewritten on a terminal, every five seconds elsewhere, none with --json."""

    def __init__(self, silent: bool, clock: Callable[[], float] = time.monotonic):
        self._silent, self._clock = silent, clock
        self._tty = sys.stderr.isatty()
        self._total, self._began, self._last, self._done = 0, 0.0, 0.0, 0
        self._of: dict[tuple[str, str], int] = {}

    def begin(self, total: int) -> None:
        self._total, self._began = total, self._clock()
        self._last = self._began

    def imports(self, looked_at: int, taken: int) -> None:
        """Of a file nobody knows beforehand how long it is."""
        now = self._clock()
        if self._silent or now - self._last < (0.2 if self._tty else _LINE_S):
            return
        self._last, self._done = now, looked_at
        text = f"{taken:,} candles stored" if taken else f"{looked_at:,} candles looked at"
        print(f"\r{text:<60}" if self._tty else text, end="" if self._tty else "\n", file=sys.stderr, flush=True)

    def tell(self, task: Task) -> None:
        self._of[task.symbol, task.timeframe] = task.fetched
        self._done = sum(self._of.values())
        now = self._clock()
        if self._silent or (now - self._last < (0.2 if self._tty else _LINE_S) and self._done < self._total):
            return
        self._last = now
        spent = max(now - self._began, 0.001)
        left = spent / self._done * (self._total - self._done)
        text = f"{task.symbol} {task.timeframe}  {self._done:,} of {self._total:,} candles ({self._done * 100 // self._total} %)  "
        text += f"{self._done / spent:,.0f}/s  {int(left) // 60}:{int(left) % 60:02d} left"
        print(f"\r{text:<90}" if self._tty else text, end="" if self._tty else "\n", file=sys.stderr, flush=True)

    def waits(self, seconds: float, why: str) -> None:
        if not self._silent:
            print(("\n" if self._tty else "") + f"waiting {seconds:.0f} s: {why}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._tty and self._done and not self._silent:
            print(file=sys.stderr)


def _timeframes(text: str) -> list[str]:
    try:
        return [timeframes.known(part.strip()) for part in text.split(",")]
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _moment(text: str) -> int:
    try:
        return config.market_time(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None


def _days(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,4})d", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of days, such as 400d")
    return int(found[1]) * timeframes.DAY


def _date(ms: int) -> str:
    return utc_text(ms)[:16].replace("T", " ")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main(sys.argv[1:]))
