"""Does a strategy look ahead, and how many candles does it really need? Pure but for the strategy's own doing; owns no files.

`lookahead`: its answer at a candle must not change when the candles after it are cut off, nor
when the same instance was shown them before. `warmup`: its answer at a candle from the last n
rows must be that from all rows before; the smallest such n is what it needs.

Both look at moments drawn by a seed: half of them where the strategy signals (a rare signal
would be missed else), half anywhere. What they find is certain; what they don't find was not
there at the moments they looked at. `doubts` is a quick look at a few moments, for every
backtest: its answer in the table that was played must be the one a bot would get.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from core.backtest.prepare import Prepared
from core.backtest.report import utc
from core.errors import InputError, StrategyError
from core.market.bars import price_text
from core.model import ZERO, Candles, KlineRow, Position, Symbol, Venue, plain, row12
from strategies.answers import SIGNAL_NAMES
from strategies.base import MarketView, Strategy

SEGMENT = 20_000  # rows that are looked at as one table; a longer series is looked at in several
SEGMENTS = 4
ROWS_SEGMENT = 3000  # ... of strategies that are asked row by row
QUICK_SEGMENT, QUICK_MOMENTS, QUICK_BLOCK = 10_000, 6, 30  # what `doubts` looks at: rows, moments of each kind, rows asked for at once
SHOWN = 5
DEEP = 4000  # rows that stand for "all of them" where the needed ones are counted
Build = Callable[[], Strategy]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Change:
    """An answer that is not the same: at row `row` of the candles (opened at `open_ms`), asked in the way `way`."""

    way: str
    row: int
    open_ms: int
    with_future: str
    without: str

    def text(self) -> str:
        return f"{self.way}: row {self.row} ({utc(self.open_ms)}): {self.with_future} with the candles after it, {self.without} without them"


@dataclass(frozen=True, slots=True)
class Lookahead:
    """`ways`: how the strategy was asked; `points`: moments looked at; `changes`: every one where the answer changed."""

    strategy: str
    ways: tuple[str, ...]
    points: int
    signals: int  # moments among them at which it signalled
    changes: tuple[Change, ...]

    @property
    def honest(self) -> bool:
        return not self.changes

    def describe(self) -> dict[str, Any]:
        return {"honest": self.honest, **asdict(self)}

    def text(self) -> str:
        asked = f"{self.points} moments ({self.signals} with a signal), asked by {' and '.join(self.ways)}"
        if self.honest:
            rare = "" if self.signals else " It never signalled there, so this shows little: try other candles."
            return f"{self.strategy} does not look ahead: the same answers without the future at {asked}.{rare}"
        more = f"\n  and {len(self.changes) - SHOWN} more" if len(self.changes) > SHOWN else ""
        told = "".join(f"\n  {c.text()}" for c in self.changes[:SHOWN])
        return f"{self.strategy} LOOKS AHEAD: {len(self.changes)} answers changed of {asked}; a backtest of it is worth nothing.{told}{more}"


@dataclass(frozen=True, slots=True)
class Warmup:
    """`needed`: rows from which on every answer was that of the whole table; None: more than `most` rows, the longest tried."""

    strategy: str
    declared: int
    handed: int  # rows that bot and backtest hand it
    needed: int | None
    most: int
    points: int
    signals: int
    example: str  # where an answer differed with one row less, or with the declared number

    @property
    def honest(self) -> bool:
        return self.needed is not None and self.needed <= self.declared

    def describe(self) -> dict[str, Any]:
        return {"honest": self.honest, **asdict(self)}

    def text(self) -> str:
        asked = f"at {self.points} moments ({self.signals} with a signal)"
        if self.needed is None:
            return (
                f"{self.strategy} declares {self.declared} rows, but {self.most} were not enough {asked}: its answers depend on how far back the "
                f"candles reach, so a bot and a backtest can't agree. {self.example}"
            )
        if self.honest:
            return f"{self.strategy} declares {self.declared} rows and needs {self.needed} {asked}."
        return f"{self.strategy} declares {self.declared} rows, but needs {self.needed} {asked}: declare warmup = {self.needed}. {self.example}"


def lookahead(prepared: Prepared, build: Build, *, points: int = 100, seed: int = 1, progress: Progress | None = None) -> Lookahead:
    """Ask with and without the candles after each of `points` moments. InputError where the candles don't suffice."""
    asker = _Asker(prepared, build)
    random = np.random.default_rng(seed)
    done, signals, changes = 0, 0, []
    parts = asker.segments(random, SEGMENT if asker.by_table else ROWS_SEGMENT)
    each = -(-points // len(parts))
    for start, stop in parts:
        # The instance that is shown everything: once as a table, or from the last candle to the first.
        knowing = build()
        whole = asker.table(knowing, start, stop) if asker.by_table else None
        cuts = asker.cuts(random, start, stop, each, whole)
        for k, way in ((k, way) for k in reversed(cuts) for way in asker.ways if way != "signals"):
            asker.ask(knowing, way, asker.window(start, k), k)
        for k in cuts:
            for way in asker.ways:
                first = start if way == "signals" else asker.window(start, k)
                seen = whole is not None and way == "signals"
                with_future = SIGNAL_NAMES[int(whole[k - start])] if seen else asker.ask(knowing, way, first, k)  # type: ignore[index]
                without = asker.ask(build(), way, first, k)
                if with_future != without:
                    changes.append(Change(way, k, int(prepared.bars.open_ms[k]), with_future, without))
                if way == asker.ways[0]:
                    done += 1
                    signals += with_future != "HOLD"
            if progress is not None:
                progress(min(done / points, 1.0))
    changes.sort(key=lambda c: (c.row, c.way))
    return Lookahead(asker.name, asker.ways, done, signals, tuple(changes))


def warmup(prepared: Prepared, build: Build, *, points: int = 100, seed: int = 1, progress: Progress | None = None) -> Warmup:
    """The smallest number of rows that gives the answers of all rows, at `points` moments. InputError where the candles don't suffice."""
    asker = _Asker(prepared, build)
    strategy, total = asker.example, len(prepared.bars)
    declared, handed = strategy.ready(), strategy.candles_needed()
    most = max(min(DEEP, total // 2), min(2 * handed, total - 1))
    if most < 2:
        raise InputError(f"{total} candles are too few to tell what {asker.name} needs; give it some thousands")
    random = np.random.default_rng(seed)
    way = asker.ways[0]
    whole = asker.table(strategy, 0, total) if asker.by_table and total <= 50 * SEGMENT else None
    ends = asker.cuts(random, most, total, points, whole[most:] if whole is not None else None)
    truth = {k: asker.ask(strategy, way, k + 1 - most, k) for k in ends}
    steps = 2 + most.bit_length()
    tried: dict[int, tuple[int, str, str] | None] = {}

    def differs(n: int) -> tuple[int, str, str] | None:
        """The first moment at which n rows give another answer."""
        if n not in tried:
            found = ((k, asker.attempt(strategy, way, k + 1 - n, k)) for k in ends)
            tried[n] = next(((k, told, truth[k]) for k, told in found if told != truth[k]), None)
            if progress is not None:
                progress(min(len(tried) / steps, 1.0))
        return tried[n]

    tested = most * 3 // 4  # most itself equals the truth by definition
    signals = sum(told != "HOLD" for told in truth.values())
    if (wrong := differs(tested)) is not None:
        return Warmup(asker.name, declared, handed, None, tested, len(ends), signals, asker.example_text(tested, wrong))
    low, high = 0, tested  # 0 rows are never enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if differs(middle) is None else (middle, high)
    at = declared if high > declared else low
    shown = differs(at) if at else None
    return Warmup(asker.name, declared, handed, high, tested, len(ends), signals, asker.example_text(at, shown) if shown else "")


def doubts(prepared: Prepared) -> tuple[str, ...]:
    """A sentence where a bot, which hands over its last candles and none after them, would get other answers than this backtest.

    Nothing where all is well at the moments looked at, and of strategies that are asked candle by candle: those get what a bot hands."""
    strategy, total = prepared.strategy, len(prepared.bars)
    needed = strategy.candles_needed(prepared.config.kline_limit)
    by_table = type(strategy).signals is not Strategy.signals
    if not by_table or strategy.manages_position or strategy.needs or total <= needed:
        return ()
    asker = _Asker(prepared, lambda: strategy)
    start = max(0, total - max(QUICK_SEGMENT, 4 * needed))
    whole = asker.table(strategy, start, total)
    cuts = sorted({*_moments(whole, needed), *_suspects(asker, whole, start, needed)})
    wrong = []
    for k in cuts:
        told, bot = SIGNAL_NAMES[int(whole[k])], asker.attempt(strategy, "signals", start + k + 1 - needed, start + k)
        if told != bot:
            wrong.append(f"{utc(int(prepared.bars.open_ms[start + k]))} it said {told}, a bot would hear {bot}")
    if not wrong:
        return ()
    return (
        f"A BOT WOULD NOT TRADE LIKE THIS: at {len(wrong)} of {len(cuts)} moments looked at, the strategy answers otherwise when it is handed "
        f"what a bot hands it, the last {needed} candles and none after them (at {wrong[0]}). It sees the future, or needs more candles than it "
        "declares: utils/backtest.py --check-lookahead --check-warmup tells which.",
    )


def _moments(whole: np.ndarray, needed: int) -> list[int]:
    """Rows of `whole` to ask a bot's question at: where the answer turns, where it signals, and anywhere, each evenly over the time.

    A rare difference is one of when an answer turns; rows in the middle of a long silence never show it."""
    rows = np.arange(needed - 1, len(whole) - 1)  # before, the table is as short as a bot's
    told = whole[rows]
    turns = rows[np.append(True, told[1:] != told[:-1])] if len(rows) else rows
    return [k for some in (turns, rows[told != 0], rows) for k in _evenly(some, QUICK_MOMENTS)]


def _suspects(asker: _Asker, whole: np.ndarray, start: int, needed: int) -> list[int]:
    """Rows that answer otherwise in a table that begins little more than a bot's candles before them: one question for many rows.

    It only says where to look: they are asked as a bot asks."""
    rows = np.arange(needed - 1, len(whole) - QUICK_BLOCK)
    if not len(rows):
        return []
    turns = rows[np.append(True, whole[rows][1:] != whole[rows][:-1])]
    found: list[int] = []
    for k in _evenly(turns - 1, 2 * QUICK_MOMENTS):
        first = max(k + 1 - needed, 0)
        try:
            part = asker.table(asker.example, start + first, start + k + QUICK_BLOCK)[k - first :]
        except StrategyError:
            continue
        found += (np.flatnonzero(part != whole[k : k + QUICK_BLOCK])[:1] + k).tolist()
    return [k for k in found if k >= needed - 1]


def _evenly(rows: np.ndarray, count: int) -> list[int]:
    if len(rows) <= count:
        return [int(k) for k in rows]
    return [int(k) for k in rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]]


class _Asker:
    """Asks a strategy at a row of the candles, in each of the ways that bot and backtest may ask it."""

    def __init__(self, prepared: Prepared, build: Build):
        self.bars, self.symbol, self.build = prepared.bars, prepared.config.symbol, build
        self.example = build()
        self.name = self.example.name
        if self.example.needs:
            raise InputError(f"strategy {self.name} needs {', '.join(self.example.needs)}, which candles don't hold: it can't be checked by candles alone")
        cls = type(self.example)
        signals, analyze = cls.signals is not Strategy.signals, cls.analyze is not Strategy.analyze
        self.by_table = signals
        known = (("signals", signals), ("analyze", analyze), ("decide", self.example.manages_position))
        self.ways = tuple(way for way, own in known if own)
        self._rows: dict[int, KlineRow] = {}
        if len(self.bars) <= self.example.ready():
            raise InputError(f"{len(self.bars)} candles are too few: {self.name} is first asked with {self.example.ready()}; give it more")

    def segments(self, random: np.random.Generator, length: int) -> list[tuple[int, int]]:
        """Stretches of rows (first, behind the last) that are each looked at as one table."""
        total, length = len(self.bars), max(length, 4 * self.example.candles_needed())
        if total <= length:
            return [(0, total)]
        count = min(SEGMENTS, -(-total // length))
        return sorted((int(a), int(a) + length) for a in random.integers(0, total - length, count, endpoint=True))

    def cuts(self, random: np.random.Generator, start: int, stop: int, count: int, whole: np.ndarray | None) -> list[int]:
        """Rows to look at: half where `whole` (signals of start to stop) signals or has just done so, half anywhere."""
        first = max(start, min(self.example.ready() - 1, stop - 1))
        rows = np.arange(first, stop)
        chosen: set[int] = set()
        if whole is not None and len(whole) == stop - start:
            at = np.flatnonzero(whole) + start
            near = np.unique(np.concatenate((at, at - 1, at + 1)))
            near = near[(near >= first) & (near < stop)]
            chosen.update(random.choice(near, min(count // 2, len(near)), replace=False).tolist() if len(near) else [])
        left = min(count - len(chosen), len(rows))
        chosen.update(random.choice(rows, left, replace=False).tolist())
        return sorted(chosen)

    def table(self, strategy: Strategy, start: int, stop: int) -> np.ndarray:
        return strategy.signals(self.bars.cut(start, stop).frame())

    def window(self, start: int, k: int) -> int:
        """The first of the rows that a bot would hand over at row k, where rows begin at `start`."""
        return max(start, k + 1 - self.example.candles_needed())

    def ask(self, strategy: Strategy, way: str, first: int, k: int) -> str:
        """The answer at row k from the rows `first` to k."""
        if way == "signals":
            return SIGNAL_NAMES[int(self.table(strategy, first, k + 1)[-1])]
        rows = [self._row(i) for i in range(first, k + 1)]
        return str(strategy.analyze(rows)["signal"]) if way == "analyze" else self._decision(strategy, rows)

    def attempt(self, strategy: Strategy, way: str, first: int, k: int) -> str:
        """The same where so few rows may break a strategy."""
        try:
            return self.ask(strategy, way, first, k)
        except StrategyError:
            return "an error"

    def _decision(self, strategy: Strategy, rows: list[KlineRow]) -> str:
        price = Decimal(rows[-1][4])
        symbol: Symbol = self.symbol
        free = Decimal(1000)
        flat = Position(1, Venue(), symbol.name, symbol.base, symbol.quote, strategy=strategy.ref())
        view = MarketView(symbol, Candles(symbol.name, self.bars.timeframe, rows), price, int(rows[-1][6]) + 1, free, ZERO, {}, free)
        made = strategy.decide(view, flat)
        intents = [
            " ".join(plain(x) if isinstance(x, Decimal) else str(x) for x in (i.action, i.side, i.kind, i.size_quote, i.size_base, i.price, i.tag) if x)
            for i in made.intents
        ]
        told = ", ".join([made.signal, *intents]) if made.signal != "HOLD" or intents else "HOLD"
        return told + (f" (memo {dict(made.memo)})" if made.memo else "")

    def _row(self, i: int) -> KlineRow:
        found = self._rows.get(i)
        if found is None:
            b = self.bars
            opened = int(b.open_ms[i])
            o, h, low, c = (price_text(int(column[i])) for column in (b.open, b.high, b.low, b.close))
            found = self._rows[i] = row12(opened, o, h, low, c, plain(Decimal(repr(float(b.volume[i])))), opened + b.length_ms - 1)
        return found

    def example_text(self, n: int, found: tuple[int, str, str]) -> str:
        k, told, truth = found
        return f"At {utc(int(self.bars.open_ms[k]))} (row {k}) it says {told} from {n} rows, {truth} from many."
