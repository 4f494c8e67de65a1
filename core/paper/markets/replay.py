"""A market out of candle files: those of a folder, joined a symbol at a time, gaps kept.

The finest timeframe of a symbol drives its path; coarser candles are made of it, so that
all that is seen agrees, and files of coarser timeframes are left aside. Inside a gap the
last price stands and the symbol is halted. Reads the files (files.py), owns none.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import numpy as np

from core.errors import SettingsError
from core.market import listings, timeframes
from core.market.resample import floors
from core.market.timeframes import DAY
from core.paper.markets import files
from core.paper.markets.tape import SCALE, Bars, Frame, Ints, TapeMarket, decimal, fold

WARM_UP = 1000  # finest candles that lie before a new market's beginning, where there are as many


class ReplayMarket(TapeMarket):
    """The candle files of one folder. SettingsError, with every file that is wrong, when it can't be served.

    `first_ms`: when the youngest symbol has `WARM_UP` candles behind it, or its first
    candle where it has not more than that. `end_ms`: the close of the last candle.
    """

    chunk_ms = 10 * DAY

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder).expanduser().resolve()
        if not folder.is_dir():
            raise SettingsError(f"PAPER_DATA: {folder} is not a folder; it must be one that holds candle files")
        self.source = "replay:" + re.sub(r"[^A-Za-z0-9._-]+", "-", folder.name)
        self._all: dict[str, listings.Figures] = {}
        self._frames: dict[str, Frame] = {}
        self._columns: dict[str, Bars] = {}
        self._longer: dict[tuple[str, str], Bars] = {}
        self._load(folder)
        youngest = max(self._frames, key=lambda s: self._frames[s].first_ms)
        times = self._columns[youngest].t
        self.first_ms = int(times[WARM_UP] if len(times) > WARM_UP else times[0])
        self.end_ms = max(f.end_ms for f in self._frames.values() if f.end_ms is not None)

    def _load(self, folder: Path) -> None:
        problems: list[str] = []
        named: dict[str, list[tuple[Path, files.Name]]] = {}
        for path in sorted(folder.iterdir()):
            try:
                name = files.name_of(path)
            except files.BadFile as e:
                problems.append(f"PAPER_DATA: {e}")
                continue
            if name is not None:
                named.setdefault(name.symbol, []).append((path, name))
        if not named and not problems:
            problems = [f"PAPER_DATA: {folder} holds no candle file; they are named like BTC_USDT-5m.json.gz or BTCUSDT-1m-2023-01.csv.gz"]
        for symbol, found in sorted(named.items()):
            finest = min((name.timeframe for _, name in found), key=timeframes.ALL.index)
            loaded: list[files.Loaded] = []
            for path, name in found:
                if name.timeframe == finest:
                    try:
                        loaded.append(files.load(path, name))
                    except files.BadFile as e:
                        problems.append(f"PAPER_DATA: {e}")
            if loaded and not problems:
                try:
                    self._add(symbol, loaded)
                except files.BadFile as e:
                    problems.append(f"PAPER_DATA: {e}")
        if problems:
            raise SettingsError(problems)

    def _add(self, symbol: str, loaded: list[files.Loaded]) -> None:
        loaded.sort(key=lambda f: int(f.bars.t[0]))
        decimals = min(f.volume_decimals for f in loaded)
        loaded = [_coarser(f, decimals) for f in loaded]
        whole = loaded[0]
        for other in loaded[1:]:
            if (other.name.base, other.name.quote) != (whole.name.base, whole.name.quote):
                raise files.BadFile(f"{other.path}: names other assets than {whole.path} for {symbol}; one of the two must go")
            whole = files.Loaded(other.path, whole.name, files.merged(whole, other), decimals)
        name, bars = whole.name, whole.bars
        end_ms = timeframes.close_ms(int(bars.t[-1]), name.timeframe)
        self._columns[symbol] = bars
        self._frames[symbol] = Frame(name.timeframe, int(bars.t[0]), end_ms, decimals)
        self._all[symbol] = _figures(name, bars, decimals)

    def _figures(self) -> dict[str, listings.Figures]:
        return self._all

    def _frame(self, symbol: str) -> Frame | None:
        return self._frames.get(symbol)

    def _bars(self, symbol: str, from_ms: int, to_ms: int) -> Bars:
        bars = self._columns[symbol]
        start, stop = np.searchsorted(bars.t, (from_ms, to_ms))
        return bars.cut(int(start), int(stop))

    def _whole(self, symbol: str, timeframe: str, from_ms: int | None, to_ms: int, limit: int) -> Bars:
        bars = self._columns[symbol]
        if timeframe != self._frames[symbol].timeframe:
            longer = self._longer.get((symbol, timeframe))
            if longer is None:
                longer = self._longer[symbol, timeframe] = fold(bars, floors(bars.t, timeframe))
            bars = longer
        stop = int(np.searchsorted(bars.t, to_ms, "right"))
        if from_ms is None:
            return bars.cut(max(stop - limit, 0), stop)
        start = int(np.searchsorted(bars.t, from_ms))
        return bars.cut(start, max(min(stop, start + limit), start))

    def _at(self, symbol: str, ms: int) -> tuple[int, int, int, int, int, int] | None:
        bars = self._columns.get(symbol)
        if bars is None:
            return None
        i = int(np.searchsorted(bars.t, ms, "right")) - 1
        if i < 0:
            return None
        open_ms = int(bars.t[i])
        close_ms = timeframes.close_ms(open_ms, self._frames[symbol].timeframe)
        return open_ms, close_ms, int(bars.o[i]), int(bars.h[i]), int(bars.l[i]), int(bars.c[i])


def _coarser(loaded: files.Loaded, decimals: int) -> files.Loaded:
    """The same with volumes of fewer decimals, so that a symbol's files agree."""
    down = 10 ** (loaded.volume_decimals - decimals)
    if down == 1:
        return loaded
    bars = loaded.bars._replace(v=loaded.bars.v // down, bv=loaded.bars.bv // down)
    return files.Loaded(loaded.path, loaded.name, bars, decimals)


def _figures(name: files.Name, bars: Bars, volume_decimals: int) -> listings.Figures:
    """The table's figures where it knows the symbol and the data lie on its tick; else from the data's own decimals."""
    tick = decimal(min(_grid(column) for column in (bars.o, bars.h, bars.l, bars.c)))
    known = listings.known().get(name.symbol)
    if known is not None and (known.base, known.quote) == (name.base, name.quote):
        return known if tick % known.tick == 0 else known._replace(tick=tick)
    step = Decimal(_grid(bars.v)).scaleb(-volume_decimals) if bars.v.any() else decimal(1)
    return listings.figures_from_data(name.symbol, name.base, name.quote, tick, min(step, Decimal(1)))


def _grid(column: Ints) -> int:
    """The largest power of ten, at most 1e8, that divides every number."""
    unit = SCALE
    while unit > 1 and (column % unit).any():
        unit //= 10
    return unit
