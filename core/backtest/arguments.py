"""The words of a backtest on a command line, which utils/backtest.py and utils/optimize.py share: arguments, exit codes, progress. Owns no files."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TextIO

from core import commandline
from core.backtest import prepare
from core.backtest.result import UNIT
from core.config import market_time
from core.errors import InputError, NotFound, StrategyError

OK, DISHONEST, NOT_WRITTEN, NO_CANDLES, BROKEN = commandline.DONE, commandline.FOUND, commandline.FOUND, commandline.NOT_NOW, commandline.BROKEN


def parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The arguments that say what is traded, on which candles, with which money and settings."""
    main = commandline.Parser(prog=prog, description=description, epilog=epilog)
    what = main.add_argument_group("what is traded")
    what.add_argument("--strategy", required=True, metavar="KEY", help="the strategy's key")
    what.add_argument("--symbol", required=True, type=str.upper, metavar="S", help="such as BTCUSDT")
    what.add_argument("--timeframe", metavar="T", help="of the candles (the strategy's, else what the file's name says, else 5m)")
    what.add_argument("--param", action="append", default=[], type=_pair, metavar="K=V", help="a parameter of the strategy; may be given again")
    what.add_argument("--strategies", type=Path, metavar="FOLDER", help="a folder with strategies of your own")
    data = main.add_argument_group("candles")
    data.add_argument("--from", dest="from_ms", type=_time, metavar="TIME", help="trade from here, UTC, such as 2024-01-31; candles before are the warm-up")
    data.add_argument("--to", dest="to_ms", type=_time, metavar="TIME", help="trade until before here")
    data.add_argument("--data", type=Path, metavar="PATH", help="a candle file, a store or a folder of files, instead of the yard's own store")
    data.add_argument("--mode", choices=("paper", "testnet", "live"), help="whose candles of the store, where it holds several")
    data.add_argument("--venue", metavar="KEY", help="the same, exactly, such as binance/spot/live")
    data.add_argument("--finer", metavar="T", help="timeframe of finer candles that drive the price inside each candle")
    data.add_argument("--finer-data", type=Path, metavar="PATH", help="where the finer candles are")
    data.add_argument("--quote", type=str.upper, metavar="ASSET", help="what an unknown symbol is traded against")
    data.add_argument("--split", action="store_true", help="close before a redenomination and go on behind it, instead of refusing")
    money = main.add_argument_group("money and the exchange")
    money.add_argument("--cash", type=number, default=Decimal(10000), metavar="AMOUNT", help="money at the start, quote asset (10000)")
    money.add_argument("--trade-amount", type=number, metavar="AMOUNT", help="the bot's pot (all the cash)")
    money.add_argument("--sizing", choices=prepare.BACKTEST_SIZINGS, default="compound", help="what an entry spends (compound)")
    money.add_argument("--fee-pct", type=number, default=Decimal("0.1"), metavar="PCT", help="fee of each fill (0.1)")
    money.add_argument("--fee-mode", choices=("received", "quote"), default="received", help="the asset that pays it (received, as Binance does)")
    money.add_argument("--slippage-pct", type=number, default=Decimal(0), metavar="PCT", help="how much worse market orders fill, inside the candle (0)")
    free = "any price and any quantity, however small, in parts of --unit; no order book, and so no bounds on spread and slippage"
    money.add_argument("--no-filters", dest="filters", action="store_false", help=free)
    money.add_argument("--unit", type=number, default=UNIT, metavar="COINS", help="smallest part of a coin without filters (0.000001)")
    out = main.add_argument_group("the way out")
    out.add_argument("--stop-loss-pct", type=number, metavar="PCT", help="below the entry (the strategy's, else 2; 0: none)")
    out.add_argument("--take-profit-pct", type=number, metavar="PCT", help="above the entry (the strategy's, else 5; 0: none)")
    out.add_argument("--trailing-stop-pct", type=number, metavar="PCT", help="the stop follows the highest high, this far below")
    out.add_argument("--trailing-activation-pct", type=number, metavar="PCT", help="... once the price was this far above the entry")
    out.add_argument("--break-even-pct", type=number, metavar="PCT", help="the stop goes to the entry, fees covered, once this far above")
    out.add_argument("--time-stop-candles", type=int, metavar="N", help="out after so many closed candles")
    out.add_argument("--cooldown-checks", type=int, default=1, metavar="N", help="checks skipped after a stop (1)")
    out.add_argument("--protection", choices=("bot", "exchange"), default="exchange", help="who holds stop and target (exchange)")
    when = main.add_argument_group("when it decides")
    every = "seconds between checks (none: every closed candle, at its close)"
    when.add_argument("--check-interval", dest="check_interval_s", type=int, metavar="SECONDS", help=every)
    when.add_argument("--offset", dest="offset_s", type=number, default=Decimal(0), metavar="SECONDS", help="by which checks are shifted, as a bot's are (0)")
    when.add_argument("--risk-interval", dest="risk_interval_s", type=int, default=5, metavar="SECONDS", help="between looks at stop and target (5)")
    when.add_argument("--kline-limit", type=int, default=100, metavar="N", help="candles a strategy is handed; its warm-up raises it (100)")
    main.add_argument("--json", action="store_true", help="the whole result as one JSON object")
    return main


def wanted_of(given: argparse.Namespace) -> prepare.Wanted:
    """What was asked for; InputError where a parameter is said twice."""
    params: dict[str, str] = {}
    for name, value in given.param:
        if name in params:
            raise InputError(f"--param {name} is given twice; once is right")
        params[name] = value
    fields = {f: getattr(given, f) for f in prepare.Wanted.__dataclass_fields__ if f != "params" and hasattr(given, f)}
    return prepare.Wanted(params=params, **fields)


def fail(prog: str, text: str, as_json: bool) -> int:
    """What to tell after Ctrl-C; 130."""
    return commandline.fail(prog, text, as_json, commandline.INTERRUPTED)


def guarded(prog: str, as_json: bool, task: Callable[[], int]) -> int:
    """Run it; what goes wrong is said in a line, with the exit code that belongs to it. Candles that are not there can be fetched: 3."""

    def told() -> int:
        try:
            return task()
        except NotFound as e:
            return commandline.fail(prog, e, as_json, NO_CANDLES)
        except StrategyError as e:
            return commandline.fail(prog, e, as_json, commandline.USAGE if "there is no strategy" in str(e) else BROKEN)

    return commandline.guarded(prog, as_json, told)


class Progress:
    """A line on the terminal that says how far it is and how long it will take; silent where stderr is no terminal."""

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic):
        self.what, self.stream, self.clock = what, stream or sys.stderr, clock
        self.shown = self.stream.isatty()
        self.began, self.told = self.clock(), -1.0

    def __call__(self, part: float, words: str = "") -> None:
        """`part` of the work, from 0 to 1, is done."""
        now = self.clock()
        if not self.shown or (now - self.told < 0.2 and part < 1):
            return
        self.told = now
        left = (now - self.began) * (1 - part) / part if part > 0 else None
        self.stream.write(f"\r{self.what}: {part * 100:3.0f} %{'' if left is None else f', {_span(left)} left'} {words}\x1b[K")
        self.stream.flush()

    def done(self) -> None:
        if self.shown and self.told >= 0:
            self.stream.write("\r\x1b[K")
            self.stream.flush()


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _pair(text: str) -> tuple[str, str]:
    name, cut, value = text.partition("=")
    if not cut or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE, such as fast=10")
    return name.strip(), value.strip()


def _time(text: str) -> int:
    try:
        return market_time(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{text!r} must be {e}") from None


def number(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} must be a number")
    return value
