"""One backtest for the page, in a process of its own: `python3 -m core.dash.backtest_worker HOME NUMBER`.

Reads `data/backtests/NUMBER/run.json`, which core/dash/backtests.py wrote, and owns all else in that
folder: `lock` (held while it works), `progress.json`, `brief.json` and `summary.json` (what the page
shows), `result.json`, `trades.csv`, `report.html`, and `end.json`, its last word. It fills the candle
store where that was asked for. It is polite (niceness NICE), and bounded in memory and time: bots
come first. The page never imports this module: numpy and pandas are loaded here alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from core.storage import Files

if TYPE_CHECKING:
    from core.backtest.metrics import Metrics
    from core.backtest.prepare import Prepared, Wanted
    from core.backtest.result import Result
    from core.config import Settings
    from core.market.bars import Bars

NICE = 15
MEMORY = 2 << 30  # bytes of its own data
RUN_S, FETCH_S = 900.0, 3600.0  # wall seconds
TOLD_S = 0.3  # between two words on progress
POINTS, TRADES = 400, 200  # in the summary; the files have all


class Cancelled(BaseException):
    """SIGTERM."""


class Job:
    """One run. `end` is its last act."""

    def __init__(self, home: Path, run: int):
        self.files, self.folder = Files(home), f"data/backtests/{run}"
        self._phase, self._began, self._told = "", 0.0, 0.0
        self._bound: threading.Timer | None = None
        self._over = threading.Lock()

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        self.files.write_json(f"{self.folder}/{name}", {"schema": 1, **value}, durable=False, keep_previous=False)

    def phase(self, name: str, bound_s: float = RUN_S) -> None:
        """`fetching`, `reading`, `running` or `writing` begins; longer than `bound_s` it may not last."""
        if self._bound is not None:
            self._bound.cancel()
        self._bound = threading.Timer(bound_s, self._too_long, (bound_s,))
        self._bound.daemon = True
        self._bound.start()
        self._phase, self._began, self._told = name, time.monotonic(), 0.0
        self.progress(0.0)

    def progress(self, part: float, words: str = "") -> None:
        """`part` of this phase, 0 to 1, is done."""
        now = time.monotonic()
        if now - self._told < TOLD_S:
            return
        self._told, spent = now, now - self._began
        left = spent * (1 - part) / part if part > 0 and spent > 1 else None
        self.write("progress.json", {"phase": self._phase, "part": round(part, 4), "left_s": None if left is None else round(left, 1), "words": words})

    def end(self, state: str, error: str | None = None, kind: str | None = None) -> None:
        with self._over:
            self.write("end.json", {"state": state, "error": error, "kind": kind})

    def _too_long(self, bound_s: float) -> None:
        """From a thread: whatever the strategy or the engine is in the middle of, it ends here."""
        self.end("failed", f"It took longer than {bound_s / 60:.0f} minutes. Choose a shorter time or a longer timeframe.", "time")
        os._exit(1)


def main(argv: list[str]) -> int:
    home, run = Path(argv[0]), int(argv[1])
    job = Job(home, run)
    job.files.lock(f"{job.folder}/lock").acquire()
    signal.signal(signal.SIGTERM, _on_term)
    try:
        _be_modest()
        job.phase("reading")
        work(job)
        job.end("done")
    except Cancelled:
        job.end("cancelled")
    except MemoryError:
        job.end("failed", f"It needs more than the {MEMORY >> 30} GB of memory that it may use. Choose a shorter time or a longer timeframe.", "memory")
    except Exception as e:  # noqa: BLE001 - the page must be told whatever it was
        return _failed(job, e)
    return 0


def _failed(job: Job, e: Exception) -> int:
    from core.errors import BotyardError, NotFound, StrategyError

    kind = "no_candles" if isinstance(e, NotFound) else "strategy" if isinstance(e, StrategyError) else "input" if isinstance(e, BotyardError) else "error"
    text = str(e) if isinstance(e, BotyardError) else f"{type(e).__name__}: {e}"
    if not isinstance(e, BotyardError):
        import traceback

        traceback.print_exc()
    with contextlib.suppress(Exception):  # settings that can't be read have no secrets to hide
        from core.config import load

        for secret in load().secrets():
            text = text.replace(secret, "***")
    job.end("failed", text[:4000], kind)
    return 1


def work(job: Job) -> None:
    """Candles, run, files. Whatever it raises is told to the page."""
    from core import config
    from core.backtest import engine, honesty, metrics, report

    asked = job.files.read_json(f"{job.folder}/run.json", schema=1) or {}
    settings = config.load()
    wanted, plan = described(asked, settings, job.files.home)
    venue = str(asked["venue"])
    if asked.get("fetch"):
        venue = fetch(job, settings, asked, wanted)
        job.phase("reading")
    venue = stored_as(wanted, venue, job.files)
    prepared = read(wanted, plan, venue)
    job.phase("running")
    result = engine.run(prepared.config, prepared.bars, prepared.strategy, progress=job.progress)
    result = dataclasses.replace(result, warnings=(*result.warnings, *honesty.doubts(prepared)))
    job.phase("writing")
    figures = metrics.of(result, prepared.bars)
    notes = [n.replace("Set --slippage-pct to be careful", "Give a slippage to be careful") for n in report.notes(result, prepared.bars)]
    if (asked.get("record") or {}).get("limits"):
        notes.append("The bot's limits (guards) are not part of a backtest: they would have stopped it where it lost.")
    folder = job.files.path(job.folder)
    report.write(folder / "result.json", report.json_text(result, figures, notes))
    report.write(folder / "trades.csv", report.csv_text(result.trades))
    report.write(folder / "report.html", report.html_text(result, prepared.bars, figures))
    job.write("summary.json", summary(result, prepared.bars, figures, notes, venue))
    job.write("brief.json", {"return_pct": figures.return_pct, "buy_hold_pct": figures.buy_hold_pct, "trades": figures.trades})


def described(asked: Mapping[str, Any], settings: Settings, home: Path) -> tuple[Wanted, Mapping[str, Any]]:
    """What was asked for by the bot's own set-up (core/bot/setup.py), and what of its plan `Wanted` has no word for."""
    from core.backtest.prepare import Wanted
    from core.bot import setup
    from strategies import registry

    # In paper a bot needs nobody's consent; what else the record says is the same in each mode.
    record = {**asked["record"], "mode": "paper"}
    folder = home / "strategies"
    limit = int(record.get("lookback") or settings.kline_limit)
    strategy = registry.load(folder).build(record["strategy"], record.get("params") or {}, limit)
    made = setup.build(settings, int(record["id"]), record["name"], record["symbol"], record["strategy"], Decimal(record["trade_amount"]), record, strategy)
    plan, as_bot = made.plan, asked.get("timing") != "candles"
    wanted = Wanted(
        strategy=made.strategy,
        symbol=made.symbol,
        timeframe=made.timeframe,
        params=made.params,
        from_ms=asked.get("from_ms"),
        to_ms=asked.get("to_ms"),
        quote=asked.get("quote"),
        cash=Decimal(asked["cash"]),
        trade_amount=plan.trade_amount,
        sizing=plan.sizing,
        fee_pct=Decimal(asked["fee_pct"]),
        slippage_pct=Decimal(asked["slippage_pct"]),
        stop_loss_pct=plan.stop_loss_pct or Decimal(0),
        take_profit_pct=plan.take_profit_pct or Decimal(0),
        trailing_stop_pct=plan.trailing_stop_pct,
        trailing_activation_pct=plan.trailing_activation_pct,
        break_even_pct=plan.break_even_pct,
        time_stop_candles=plan.time_stop_candles,
        cooldown_checks=plan.cooldown_checks,
        protection=asked.get("protection") or plan.protection,
        check_interval_s=made.check_interval_s if as_bot else None,
        offset_s=Decimal(made.offset_ms) / 1000 if as_bot else Decimal(0),
        risk_interval_s=made.risk_interval_s,
        kline_limit=made.kline_limit,
        split=True,
        strategies=folder,
    )
    return wanted, {"max_entry": plan.max_entry, "max_spread_pct": plan.max_spread_pct, "max_slippage_pct": plan.max_slippage_pct}


def fetch(job: Job, settings: Settings, asked: Mapping[str, Any], wanted: Wanted) -> str:
    """Fill the store with what is missing; the key under which it lies there. A kill at any moment loses nothing (core/market/backfill.py).

    Without a beginning: from the first candle that is stored, else DEFAULT_DAYS back, by market time."""
    from core.account import access
    from core.dash.backtests import DAY_MS, DEFAULT_DAYS, mode_of
    from core.errors import InputError
    from core.market.backfill import Backfill, Task
    from core.market.history import PATIENT_S, CandleStore
    from core.storage import installation
    from strategies import registry

    job.phase("fetching", FETCH_S)
    mode = mode_of(str(asked["venue"]))
    exchange = access.client(settings, mode, priority="page", public=True)  # type: ignore[arg-type]
    exchange.connect(installation(job.files))
    key = exchange.venue.candle_key()
    if str(asked["venue"]) not in (key, exchange.venue.candle_key().rpartition("/")[0]):
        raise InputError(f"candles of {asked['venue']} can't be fetched: the paper exchange now is {key}. Choose that one, or don't fetch")
    strategy = registry.load(wanted.strategies).build(wanted.strategy, wanted.params, wanted.kline_limit)
    store = CandleStore(job.files.path("data/history.db"), busy_s=PATIENT_S)

    def tell(task: Task) -> None:
        job.progress(task.fetched / task.to_fetch if task.to_fetch else 1.0, f"{task.fetched:,} of {task.to_fetch:,} candles")

    def waits(seconds: float, why: str) -> None:
        job.progress(0.0, f"waiting {seconds:.0f} s: {why}")

    try:
        backfill = Backfill(exchange, store, tell=tell, waits=waits)
        stored = [one.first_ms for one in store.spans(wanted.symbol, str(wanted.timeframe)) if one.venue == key]
        if wanted.from_ms is None and stored:
            start = stored[0]
        else:
            begin = wanted.from_ms if wanted.from_ms is not None else (wanted.to_ms or backfill.now_ms()) - DEFAULT_DAYS * DAY_MS
            start = _warm(begin, strategy.candles_needed(wanted.kline_limit), str(wanted.timeframe))
        backfill.run(backfill.plan(wanted.symbol, str(wanted.timeframe), start, wanted.to_ms))
    finally:
        store.close()
    return key


def _warm(from_ms: int, needed: int, timeframe: str) -> int:
    """Where candles must begin, so that the strategy is warm at `from_ms`."""
    from core.market import timeframes

    return max(from_ms - needed * timeframes.MS.get(timeframe, timeframes.MS["1d"]), 0)


def stored_as(wanted: Wanted, venue: str, files: Files) -> str:
    """The one key of the store that `venue` (a key, or a market without its source) means. NotFound in words that fit the page."""
    from core.errors import InputError, NotFound
    from core.market.history import CandleStore

    path = files.path("data/history.db")
    spans = []
    if path.exists():
        store = CandleStore(path, read_only=True)
        try:
            spans = store.spans(wanted.symbol, str(wanted.timeframe))
        finally:
            store.close()
    mine = [s.venue for s in spans if s.venue == venue or s.venue.startswith(venue + "/")]
    if len(mine) > 1:
        raise InputError(f"{wanted.symbol} {wanted.timeframe} is stored of several markets; choose one of {', '.join(mine)}")
    if not mine:
        raise NotFound(f"No {wanted.symbol} {wanted.timeframe} candles of {venue} are stored yet. Let them be fetched first.")
    return mine[0]


def read(wanted: Wanted, plan: Mapping[str, Any], venue: str) -> Prepared:
    """Candles and settings, checked; `plan` holds what `Wanted` has no word for."""
    from core.backtest import prepare

    prepared = prepare.prepare(dataclasses.replace(wanted, venue=venue))
    config = prepared.config
    return dataclasses.replace(prepared, config=dataclasses.replace(config, plan=dataclasses.replace(config.plan, **plan)))


def summary(result: Result, bars: Bars, figures: Metrics, notes: list[str], venue: str) -> dict[str, Any]:
    """What the page draws: small, whatever the run was. Equity as [ms, value, buy and hold]; the last TRADES trades."""
    from core.backtest import report

    drawn = report.chart_data(result, bars)["equity"]
    step = max(1, -(-len(drawn) // POINTS))
    kept = [*drawn[::step], *([drawn[-1]] if drawn and (len(drawn) - 1) % step else [])]
    return {
        "figures": report.figure_rows(figures, result.config.symbol.quote),
        "metrics": figures.describe(),
        "equity": [[t * 1000, value, hold] for t, value, _, hold in kept],
        "trades": [t.describe() for t in result.trades[-TRADES:]],
        "trades_total": len(result.trades),
        "warnings": notes,
        "refused": dict(result.refused),
        "settings": result.config.describe(),
        "candles": len(bars),
        "venue": venue,
    }


def _be_modest() -> None:
    os.nice(NICE)
    # Not the address space: numpy reserves far more of that than it ever uses.
    for kind, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_CPU, int(RUN_S + FETCH_S)), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def _on_term(_number: int, _frame: object) -> NoReturn:
    raise Cancelled


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
