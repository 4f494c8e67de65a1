"""Many backtests of one strategy: every combination on all cores, in and out of the sample, resumable.

Owns one results file a sweep (JSON lines, by default in `data/sweeps/`): a head that says what
was asked, then a line a combination, as they finish. The same question continues the same
file; a killed sweep loses at most the combinations that were being computed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from core.backtest import honesty, prepare, provenance, report, space, sweep_worker
from core.backtest.prepare import Prepared, Wanted
from core.backtest.space import Axis
from core.backtest.sweep_worker import Job, Shared
from core.errors import Conflict, InputError, StateError
from core.market import timeframes
from core.market.bars import Bars
from core.model import Symbol, plain
from core.storage import Files, dumps, loads
from strategies import registry

SCHEMA = 1
METRICS = ("sharpe", "sortino", "calmar", "return_pct", "cagr_pct", "profit_factor", "expectancy_pct", "win_rate_pct", "max_drawdown_pct")
LESS_IS_BETTER = frozenset({"max_drawdown_pct"})
FEW = 30  # trades; chance alone explains the figures of fewer
_CODE = ("version", "code")  # of the head: whose figures these are
DEATHS = 3  # of workers, without a result in between, that end a sweep
Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A combination and its figures: `inside` of the sample, which ranks it, and `outside`, which it never saw."""

    combination: dict[str, Any]
    inside: Mapping[str, Any]
    outside: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep ready to run: the question, the candles, the combinations."""

    wanted: Wanted
    axes: list[Axis]
    combinations: list[dict[str, Any]]
    bars: Bars
    symbol: Symbol
    timeframe: str
    split_ms: int | None
    head: dict[str, Any]

    @property
    def exits(self) -> frozenset[str]:
        return frozenset(a.name for a in self.axes if a.of_exit)

    @property
    def key(self) -> str:
        """What was asked, in ten letters: the same question has the same key."""
        return hashlib.sha256(repr(sorted(self.head.items())).encode()).hexdigest()[:10]

    @property
    def file_name(self) -> str:
        return f"{self.wanted.strategy}-{self.wanted.symbol}-{self.timeframe}-{self.key}.jsonl"


@dataclass(slots=True)
class Outcome:
    """What a sweep came to. `skipped`: combinations that the strategy doesn't allow; `failed`: combination → why."""

    rows: list[Row] = field(default_factory=list)
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    resumed: int = 0  # of all these, how many a former run had left
    seconds: float = 0.0


def plan(wanted: Wanted, vary: Mapping[str, str], *, draws: int | None = None, seed: int = 1, out_of_sample_pct: Decimal = Decimal(30)) -> Sweep:
    """Read the candles and lay out the combinations. `draws`: so many at random instead of a grid. InputError, NotFound or StrategyError."""
    if not 0 <= out_of_sample_pct <= 90:
        raise InputError(f"out of sample: {out_of_sample_pct} must be a percentage from 0 to 90")
    if draws is not None and not 0 < draws <= space.MOST:
        raise InputError(f"random: {draws} must be a number of combinations from 1 to {space.MOST:,}")
    entry = registry.load(wanted.strategies)[wanted.strategy]
    axes = space.axes(tuple(getattr(entry.cls, "params", ())), vary)
    twice = [a.name for a in axes if a.name in wanted.params]
    if twice:
        raise InputError(f"{', '.join(twice)}: given as fixed and as varying; one of the two is right")
    combinations = list(space.grid(axes)) if draws is None else space.drawn(axes, draws, seed)
    strategy = entry.build({**wanted.params, **_allowed(entry, wanted, axes, combinations)}, wanted.kline_limit)
    timeframe = prepare.timeframe_of(wanted, strategy)
    bars = prepare.candles(wanted, timeframe, wanted.data)
    symbol = prepare.symbol_of(wanted.symbol, bars, quote=wanted.quote, data=wanted.data)
    prepare.configure(wanted, strategy, symbol, timeframe)
    traded = prepare.trimmed(bars, 0, wanted.from_ms, wanted.to_ms)
    split_ms = _split(traded, out_of_sample_pct)
    asked = {k: str(v) for k, v in asdict(wanted).items() if k not in ("data", "finer_data", "strategies")}
    varied = {a.name: [space.told({a.name: v}) for v in a.grid()] if draws is None else [str(a.low), str(a.high), str(a.values)] for a in axes}
    head = {
        "schema": SCHEMA,
        "asked": asked,
        "version": entry.version,
        "code": provenance.code_version(entry.file),
        "timeframe": timeframe,
        "varied": varied,
        "drawn": None if draws is None else [draws, seed],
        "split_ms": split_ms,
        "candles": _fingerprint(bars),
    }
    return Sweep(wanted, axes, combinations, bars, symbol, timeframe, split_ms, head)


def run(sweep: Sweep, path: Path, *, jobs: int, progress: Progress | None = None) -> Outcome:
    """Compute what the file at `path` doesn't have yet, on `jobs` processes, and return everything.

    InputError where the file answers another question; AlreadyRunning where another process computes it."""
    files, began = Files(path.parent), time.monotonic()
    lock = files.lock(f".{path.name}.lock")
    lock.acquire()
    try:
        done = _resume(files, path, sweep)
        outcome = Outcome(resumed=len(done))
        todo = [(i, c) for i, c in enumerate(sweep.combinations) if space.told(c) not in done]

        def finished(number: int, figures: Mapping[str, Any]) -> None:
            combination = sweep.combinations[number]
            line = {"key": space.told(combination), **figures}
            files.append_line(path.name, line, durable=False)  # what a power cut takes is computed again
            done[line["key"]] = line
            if progress is not None:
                progress((len(done) - outcome.resumed) / len(todo), f"({len(done)} of {len(sweep.combinations)})")

        if todo:
            _compute(sweep, todo, max(1, min(jobs, len(todo))), finished)
        for combination in sweep.combinations:
            _sort_in(outcome, combination, done[space.told(combination)])
        outcome.seconds = time.monotonic() - began
        return outcome
    finally:
        lock.release()


def ranked(rows: Sequence[Row], metric: str) -> list[Row]:
    """Best first by the metric in the sample; those that have none come last, and so do those without a trade."""

    def order(row: Row) -> tuple[bool, bool, float]:
        value = row.inside.get(metric)
        told = 0.0 if value is None else float(value)
        return not row.inside.get("trades"), value is None, told if metric in LESS_IS_BETTER else -told

    return sorted(rows, key=order)


def warnings(sweep: Sweep, outcome: Outcome, metric: str) -> list[str]:
    """What speaks against believing the winner."""
    best = next(iter(ranked(outcome.rows, metric)), None)
    if best is None:
        return ["no combination could be computed"]
    found = []
    if best.inside.get(metric) is None:
        found.append(f"no combination has a {metric} in the sample, so nothing is ranked: take a longer time, or another --metric.")
    trades = int(best.inside.get("trades") or 0)
    if trades < FEW:
        found.append(f"the best rests on {trades} trades in the sample: chance alone explains it. Take a longer time, or a shorter timeframe.")
    for axis in sweep.axes:
        edges, value = axis.edges(), best.combination[axis.name]
        if edges and value in edges:
            bound = axis.param.low if value == edges[0] else axis.param.high
            if bound is None or value != bound:
                told = space.told({axis.name: value})
                found.append(f"the best lies on the edge of what was tried ({told}): the optimum may lie beyond. Widen {axis.name}.")
    if best.outside is not None:
        inside, outside = (float(side.get(metric) or 0) for side in (best.inside, best.outside))
        if (best.inside.get("return_pct") or 0) > 0 and (best.outside.get("return_pct") or 0) < 0:
            found.append("the best gains in the sample and loses outside of it: it fits the past, not the market.")
        elif metric not in LESS_IS_BETTER and inside > 0 and outside < inside / 2:
            found.append(f"the best's {metric} falls from {inside:.2f} to {outside:.2f} outside of the sample.")
        together = rank_correlation(outcome.rows, metric)
        if together is not None and together < 0.2:
            found.append(f"ranks inside and outside of the sample hardly agree (correlation {together:+.2f}): the order of this table says little.")
    if len(outcome.rows) >= 100:
        found.append(f"{len(outcome.rows):,} combinations were tried: the best of so many looks good by luck too.")
    return found


def doubts(sweep: Sweep, best: Row) -> tuple[str, ...]:
    """Where a bot with the winner's parameters would have heard something else (honesty.doubts)."""
    wanted = sweep.wanted
    strategy = prepare.build(wanted, {**wanted.params, **{n: v for n, v in best.combination.items() if n not in sweep.exits}})
    bars = prepare.trimmed(sweep.bars, strategy.candles_needed(wanted.kline_limit), wanted.from_ms, wanted.to_ms)
    return honesty.doubts(Prepared(prepare.configure(wanted, strategy, sweep.symbol, sweep.timeframe), bars, strategy))


def rank_correlation(rows: Sequence[Row], metric: str) -> float | None:
    """Spearman's: the correlation of the ranks inside and outside of the sample, −1 to 1; None with fewer than 5 pairs or no spread.

    Source: C. Spearman, "The Proof and Measurement of Association between Two Things", 1904."""
    pairs = [(float(a), float(b)) for r in rows if r.outside for a, b in [(r.inside.get(metric), r.outside.get(metric))] if a is not None and b is not None]
    if len(pairs) < 5:
        return None
    inside, outside = (_ranks(np.array(side)) for side in zip(*pairs, strict=True))
    if inside.std() == 0 or outside.std() == 0:
        return None
    return float(np.corrcoef(inside, outside)[0, 1])


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Ranks from 0; equal values share their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[where]


# --- laying out ---------------------------------------------------------------------------


def _allowed(entry: registry.Entry, wanted: Wanted, axes: Sequence[Axis], combinations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters of the first combination that the strategy allows; InputError where it allows none."""
    reason = "there is no combination"
    for combination in combinations:
        params = {a.name: combination[a.name] for a in axes if not a.of_exit}
        try:
            entry.build({**wanted.params, **params})
        except InputError as e:
            reason = str(e)
            continue
        return params
    raise InputError(f"no combination is allowed: {reason}")


def _split(traded: Bars, out_of_sample_pct: Decimal) -> int | None:
    if not out_of_sample_pct:
        return None
    first, last = int(traded.open_ms[0]), timeframes.next_open(int(traded.open_ms[-1]), traded.timeframe)
    split = timeframes.floor(last - int((last - first) * out_of_sample_pct / 100), traded.timeframe)
    if not first < split <= int(traded.open_ms[-1]):
        raise InputError(f"out of sample: {out_of_sample_pct} % of {len(traded)} candles leaves nothing on one side; take a longer time, or 0")
    return split


def _fingerprint(bars: Bars) -> str:
    found = hashlib.sha256()
    for column in bars.columns():
        found.update(np.ascontiguousarray(column).data)
    return f"{len(bars)} from {int(bars.open_ms[0])}: {found.hexdigest()[:16]}"


# --- the results file -----------------------------------------------------------------------


def _resume(files: Files, path: Path, sweep: Sweep) -> dict[str, dict[str, Any]]:
    """What a former run of the same question has left, by the combinations' text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.cut_torn_line(path.name)
    try:
        lines = list(files.read_lines(path.name))
    except StateError as e:
        raise InputError(f"{path}: {e.reason}. It holds results that can be computed again: remove it, or name another file with --out") from None
    if not lines:
        files.append_line(path.name, {"sweep": sweep.key, **sweep.head})
        return {}
    if lines[0].get("sweep") != sweep.key:
        now = loads(dumps(sweep.head))  # as it comes back from a file
        what = "of another question"
        if {k: v for k, v in lines[0].items() if k not in ("sweep", *_CODE)} == {k: v for k, v in now.items() if k not in _CODE}:
            what = "that other code computed: the strategy, or what it runs on, has changed since"
        raise InputError(f"{path} holds results {what}; remove it (--fresh does), or name another file with --out")
    wanted = {space.told(c) for c in sweep.combinations}
    return {str(line["key"]): line for line in lines[1:] if line.get("key") in wanted}


def _sort_in(outcome: Outcome, combination: dict[str, Any], line: Mapping[str, Any]) -> None:
    if "skipped" in line:
        outcome.skipped += 1
    elif "error" in line:
        outcome.failed[space.told(combination)] = str(line["error"])
    else:
        outcome.rows.append(Row(combination, line["in"], line.get("out")))


# --- the processes ----------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: tuple[int, dict[str, Any]] | None = None


def _compute(sweep: Sweep, todo: list[tuple[int, dict[str, Any]]], jobs: int, finished: Callable[[int, Mapping[str, Any]], None]) -> None:
    shared = Shared(sweep.bars)
    job = Job(sweep.wanted, sweep.symbol, sweep.timeframe, len(sweep.bars), shared.memory.name, sweep.split_ms)
    # A fresh interpreter each: a fork would copy locks that other threads hold.
    context = multiprocessing.get_context("spawn")
    queue, workers, deaths = todo[::-1], [], 0

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=sweep_worker.main, args=(theirs, job, sweep.exits), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        workers.append(worker)
        give(worker)

    def give(worker: _Worker) -> None:
        worker.task = queue.pop() if queue else None
        if worker.task is not None:
            worker.pipe.send(worker.task)

    try:
        for _ in range(jobs):
            start()
        while any(w.task is not None for w in workers):
            for ready in wait([w.pipe for w in workers if w.task is not None]):
                worker = next(w for w in workers if w.pipe is ready)
                try:
                    number, figures = worker.pipe.recv()
                except (EOFError, OSError):
                    deaths += 1
                    _bury(worker, workers, deaths, finished)
                    if queue:
                        start()
                    continue
                deaths = 0
                finished(number, figures)
                give(worker)
    finally:
        for worker in workers:
            worker.pipe.close()  # an idle one ends by itself
        for worker in workers:
            if worker.task is not None:
                worker.process.terminate()
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        shared.remove()


def _bury(worker: _Worker, workers: list[_Worker], deaths: int, finished: Callable[[int, Mapping[str, Any]], None]) -> None:
    """A worker died (memory, a crash in C): its combination is marked, the others go on."""
    worker.pipe.close()
    worker.process.join(5)
    workers.remove(worker)
    if deaths >= DEATHS:
        raise Conflict(f"{deaths} processes in a row died (the last with exit code {worker.process.exitcode}); try fewer --jobs, or look for a crash")
    if worker.task is not None:
        finished(worker.task[0], {"error": f"its process died (exit code {worker.process.exitcode})"})


def table(rows: Sequence[Row], metric: str) -> list[list[str]]:
    """Heads and lines: the combination, then figures inside and outside of the sample side by side."""
    names = list(rows[0].combination) if rows else []
    outside = any(r.outside for r in rows)
    shown = tuple(dict.fromkeys((metric, "return_pct", "max_drawdown_pct", "trades")))
    heads = ["#", *names, *(f"{n} in" for n in shown), *((f"{n} out" for n in shown) if outside else ())]
    lines = [heads]
    for i, row in enumerate(rows, 1):
        values = [plain(v) if isinstance(v, Decimal) else str(v) for v in row.combination.values()]
        sides = [row.inside, *([row.outside or {}] if outside else [])]
        lines.append([str(i), *values, *(_told(side.get(n)) for side in sides for n in shown)])
    return lines


def _told(figure: Any) -> str:
    return "–" if figure is None else str(figure) if isinstance(figure, int) else report.short(float(figure))
