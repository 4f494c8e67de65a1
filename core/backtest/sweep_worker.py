"""One process of a sweep: waits for combinations, backtests each, sends the figures back. Owns no files.

The candles lie in memory that all processes share; each sees them as its own read-only
columns, nothing is copied. A worker ends when its pipe closes, so also when the parent is killed.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from core.backtest import engine, metrics, prepare
from core.backtest.prepare import Wanted
from core.errors import InputError, NotFound, StrategyError
from core.market.bars import Bars
from core.model import Symbol
from strategies import registry

KEPT = (
    *("return_pct", "cagr_pct", "sharpe", "sortino", "calmar", "max_drawdown_pct", "trades", "win_rate_pct", "profit_factor"),
    *("expectancy_pct", "exposure_pct", "average_trade_ms", "fees", "profit", "buy_hold_pct"),
)
_TYPES = (np.int64,) * 5 + (np.float64,)


@dataclass(frozen=True, slots=True)
class Job:
    """What every combination has in common. `split_ms`: where the second, unseen part of the time begins; None: there is none."""

    wanted: Wanted
    symbol: Symbol
    timeframe: str
    length: int  # candles in the shared memory
    memory: str  # its name
    split_ms: int | None


class Shared:
    """Candles in shared memory. Made by the parent, who also removes it; opened by the workers."""

    def __init__(self, bars: Bars):
        self.memory = SharedMemory(create=True, size=max(1, sum(c.nbytes for c in bars.columns())))
        for theirs, column in zip(_views(self.memory, len(bars)), bars.columns(), strict=True):
            theirs[:] = column

    def remove(self) -> None:
        self.memory.close()
        self.memory.unlink()


def _views(memory: SharedMemory, length: int) -> list[np.ndarray[Any, Any]]:
    return [np.ndarray((length,), kind, memory.buf, i * 8 * length) for i, kind in enumerate(_TYPES)]


class Tester:
    """Backtests combinations over candles that are there already."""

    def __init__(self, job: Job, bars: Bars):
        self.job, self.bars = job, bars
        self.entry = registry.load(job.wanted.strategies)[job.wanted.strategy]

    def test(self, combination: Mapping[str, Any], exits: frozenset[str]) -> dict[str, Any]:
        """Figures in and out of the sample, or `skipped` (not allowed together) or `error` with the reason. `exits`: names that are no parameters."""
        began = time.perf_counter()
        wanted = self.job.wanted
        params = {**wanted.params, **{name: value for name, value in combination.items() if name not in exits}}
        # 0 turns a way out off, and so does no value at all.
        changed = replace(wanted, params=params, **{name: value for name, value in combination.items() if name in exits})
        try:
            strategy = self.entry.build(params, wanted.kline_limit)
            prepare.configure(changed, strategy, self.job.symbol, self.job.timeframe)
        except InputError as e:
            return {"skipped": str(e)}
        found: dict[str, Any] = {}
        parts = {"in": (wanted.from_ms, self.job.split_ms or wanted.to_ms), "out": (self.job.split_ms, wanted.to_ms)}
        try:
            for name, (from_ms, to_ms) in parts.items():
                if name == "out" and self.job.split_ms is None:
                    continue
                config = prepare.configure(replace(changed, from_ms=from_ms, to_ms=to_ms), strategy, self.job.symbol, self.job.timeframe)
                bars = prepare.trimmed(self.bars, strategy.candles_needed(wanted.kline_limit), from_ms, to_ms)
                figures = metrics.of(engine.run(config, bars, strategy), bars).describe()
                found[name] = {key: figures[key] for key in KEPT}
        except (InputError, NotFound, StrategyError) as e:
            return {"error": str(e)}
        return {**found, "seconds": Decimal(f"{time.perf_counter() - began:.3f}")}


def main(pipe: Connection, job: Job, exits: frozenset[str]) -> None:
    """Take (number, combination) from the pipe until it closes; send (number, figures)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of the terminal's processes; the parent decides
    memory = SharedMemory(job.memory)
    views = _views(memory, job.length)
    bars = Bars(job.wanted.symbol, job.timeframe, *views)  # type: ignore[arg-type]
    del views
    try:
        tester = Tester(job, bars)
        while True:
            number, combination = pipe.recv()
            pipe.send((number, tester.test(combination, exits)))
    except (EOFError, OSError):
        return  # the parent is gone, or has enough
    finally:
        pipe.close()
        del bars
        with contextlib.suppress(BufferError):  # somebody still looks at the columns; the end of the process closes them
            memory.close()
