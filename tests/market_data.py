"""Candles for tests: seeded random walks, and real ones from the folder beside the project where it exists."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
COLUMNS = ["open_time", "open", "high", "low", "close", "volume"]
FIVE_MINUTES = 300_000


def shared(name: str) -> Path:
    """A file of the shared market data; the test skips, with the reason, where it is missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared market data has no {name} here")
    return path


def real_candles(name: str, first: int = 0, rows: int | None = None) -> pd.DataFrame:
    """A candle file such as `spot-5m/BTC_USDT-5m` as a strategy's table."""
    data = json.loads(gzip.decompress(shared(name + ".json.gz").read_bytes()))
    table = pd.DataFrame(data[first : None if rows is None else first + rows], columns=COLUMNS).astype(float)
    return table.astype({"open_time": np.int64})


def walk(rows: int, seed: int = 1, move: float = 0.003, start: float = 100.0) -> pd.DataFrame:
    """A random walk; `move` is the standard deviation of a candle's return."""
    random = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(random.normal(0, move, rows)))
    opened = np.concatenate(([start], close[:-1]))
    high = np.maximum(opened, close) * (1 + np.abs(random.normal(0, move / 2, rows)))
    low = np.minimum(opened, close) * (1 - np.abs(random.normal(0, move / 2, rows)))
    return table(close, opened, high, low, random.lognormal(3, 0.6, rows))


def table(close: object, opened: object = None, high: object = None, low: object = None, volume: object = None) -> pd.DataFrame:
    """A table from closes; what isn't given follows from them."""
    c = np.asarray(close, dtype=float)
    o = np.concatenate((c[:1], c[:-1])) if opened is None else np.asarray(opened, dtype=float)
    h = np.maximum(o, c) if high is None else np.asarray(high, dtype=float)
    lo = np.minimum(o, c) if low is None else np.asarray(low, dtype=float)
    v = np.full(len(c), 10.0) if volume is None else np.asarray(volume, dtype=float)
    times = np.arange(len(c), dtype=np.int64) * FIVE_MINUTES + 1_700_000_100_000
    return pd.DataFrame({"open_time": times, "open": o, "high": h, "low": lo, "close": c, "volume": v})


def golden(name: str) -> list[dict[str, str]]:
    """The rows of a golden CSV file."""
    with shared("golden/" + name).open(newline="", encoding="utf-8-sig") as f:
        return list(csv.DictReader(f))
