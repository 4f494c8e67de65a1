"""Klines as a table, and back: the two forms in which strategies are shown candles. Touches no file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from core.errors import StrategyError
from core.model import KlineRow, plain, row12

if TYPE_CHECKING:  # a strategy that needs no table must not pay for its import
    import pandas as pd

COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


def frame(rows: Iterable[KlineRow]) -> pd.DataFrame:
    """Rows as a table: open_time (int64, ms), open, high, low, close, volume (float64). Oldest first.

    Raises StrategyError when a row is too short or holds no numbers.
    """
    import numpy as np
    import pandas as pd

    rows = list(rows)
    try:
        times = np.array([int(r[0]) for r in rows], dtype=np.int64)
        values = np.array([[float(r[1]), float(r[2]), float(r[3]), float(r[4]), float(r[5])] for r in rows], dtype=np.float64).reshape(-1, 5)
    except (TypeError, ValueError, IndexError) as e:
        raise StrategyError(f"the candles can't be read as a table ({e}); each row must be [open_ms, open, high, low, close, volume, ...] with numbers") from e
    columns: dict[str, Any] = {"open_time": times}
    columns.update({name: values[:, i] for i, name in enumerate(COLUMNS[1:])})
    return pd.DataFrame(columns)


def rows_of(candles: pd.DataFrame) -> list[KlineRow]:
    """The table as 12-field rows, for strategies that only read those. Close times follow from the spacing."""
    times = [int(t) for t in candles["open_time"]]
    step = min((b - a for a, b in pairwise(times)), default=60_000)
    columns = [candles[name].tolist() for name in COLUMNS[1:]]
    rows = []
    for t, *values in zip(times, *columns, strict=True):
        o, h, low, c, v = (plain(Decimal(repr(float(x)))) if math.isfinite(x) else "0" for x in values)
        rows.append(row12(t, o, h, low, c, v, t + step - 1))
    return rows
