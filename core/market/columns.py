"""The store's chunks and rows as one `Bars`, and what is missing in it. Pure; owns no file.

Apart from core/market/history.py because it loads numpy, which bots don't pay for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from core.market import chunks, timeframes
from core.market.bars import Bars
from core.market.chunks import Chunk
from core.market.resample import floors
from core.model import KlineRow


def bars(symbol: str, timeframe: str, packed: Iterable[Chunk], rows: Sequence[KlineRow]) -> Bars:
    """Chunks and rows, both ascending; where both tell a candle, the row counts."""
    loose = Bars.from_rows(rows, symbol, timeframe)
    opens, prices, volumes = [], [], []
    for chunk in packed:
        opened, told, volume = chunks.columns_of(chunk, timeframe)
        if told is None:
            part = Bars.from_rows(chunks.rows_of(chunk, timeframe), symbol, timeframe)
            told = np.stack((part.open, part.high, part.low, part.close))
        opens.append(opened)
        prices.append(told)
        volumes.append(volume)
    if not opens:
        return loose
    opened, told, volume = np.concatenate(opens), np.concatenate(prices, axis=1), np.concatenate(volumes)
    if len(loose):
        own = np.stack((loose.open, loose.high, loose.low, loose.close))
        kept = ~np.isin(opened, loose.open_ms)
        opened = np.concatenate((opened[kept], loose.open_ms))
        order = np.argsort(opened, kind="stable")
        opened, volume = opened[order], np.concatenate((volume[kept], loose.volume))[order]
        told = np.concatenate((told[:, kept], own), axis=1)[:, order]
    o, h, low, c = np.ascontiguousarray(told)
    return Bars(symbol, timeframe, opened, o, h, low, c, volume)


def missing(found: Bars, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
    """Open times of the first and last candle of every stretch that is missing from `from_ms` to before `to_ms`."""
    timeframe = found.timeframe
    first, end = timeframes.ceil(from_ms, timeframe), timeframes.ceil(to_ms, timeframe)
    if first >= end:
        return []
    if timeframe == "1M":
        made: list[tuple[int, int]] = []
        there, at = set(found.open_ms.tolist()), first
        while at < end:
            if at not in there:
                joined = bool(made) and timeframes.next_open(made[-1][1], timeframe) == at
                made[-1:] = [(made[-1][0], at)] if joined else [*made[-1:], (at, at)]
            at = timeframes.next_open(at, timeframe)
        return made
    length = found.length_ms
    there = found.open_ms[floors(found.open_ms, timeframe) == found.open_ms]  # what is off the grid fills no place on it
    edges = np.concatenate(([first - length], there, [end]))
    before = np.flatnonzero(np.diff(edges) > length)
    return [(int(edges[i]) + length, int(edges[i + 1]) - length) for i in before]
