"""The base class of strategies, their parameters, and what they are shown. Touches no file.

A strategy answers one question: buy, sell or hold, seen from closed candles. It may say
so in one of three ways, and the base class gives the others:

- `signals(candles)`: a table in, an array of +1, −1 and 0 out. Quick, also over a year.
- `analyze(data)`: a list of Binance's 12-field rows in, a dict out, for the last row.
- `decide(market, position)`: for one that manages its own position; returns a Decision.

Whatever goes wrong inside a strategy comes out as StrategyError with the strategy's name.
A strategy keeps nothing between two questions: what it must remember it returns as memo.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from itertools import pairwise
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from core.errors import InputError, StrategyError
from core.model import Candles, Decision, KlineRow, Position, SeriesValue, StrategyRef, Symbol, plain, row12

if TYPE_CHECKING:  # a strategy that needs neither must not pay for their import
    import numpy as np
    import pandas as pd

KLINE_LIMIT = 100  # the setting's default, for a strategy that is built without settings
SIGNAL_NAMES = {1: "BUY", -1: "SELL", 0: "HOLD"}
SIZE_STEP = Decimal("0.01")  # sizes are counted in hundredths: a last binary digit must not make two entries of one
PERCENTS = {"stop_loss_pct": Decimal(99), "take_profit_pct": Decimal(10000)}  # what a strategy may declare beside its signals, at most
COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter: page, checks and optimiser read type, default, range and help from here.

    `type` is int, float, Decimal, bool or str; `low` and `high` belong to the range.
    """

    name: str
    type: type
    default: Any
    low: Any = None
    high: Any = None
    help: str = ""
    choices: tuple[Any, ...] = ()

    def wanted(self) -> str:
        """What would be right, for an error message."""
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        kind = {int: "a whole number", float: "a number", Decimal: "a number", bool: "true or false"}.get(self.type, "a text")
        if self.low is not None and self.high is not None:
            return f"{kind} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{kind} of at least {self.low}"
        if self.high is not None:
            return f"{kind} of at most {self.high}"
        return kind

    def check(self, value: Any) -> Any:
        """The value in the parameter's own type. Text is read as a number where one is wanted.

        Raises ValueError that says what would be right.
        """
        problem = ValueError(f"must be {self.wanted()}, not {str(value)[:60]!r}")
        try:
            found = self._convert(value)
        except (TypeError, ValueError, OverflowError, InvalidOperation):
            raise problem from None
        if self.choices and found not in self.choices:
            raise problem
        if (self.low is not None and found < self.low) or (self.high is not None and found > self.high):
            raise problem
        return found

    def _convert(self, value: Any) -> Any:
        if self.type is bool:
            known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
            if isinstance(value, bool):
                return value
            if str(value).strip().lower() in known:
                return known[str(value).strip().lower()]
            raise ValueError
        if self.type is str:
            if not isinstance(value, str):
                raise ValueError
            return value
        if isinstance(value, bool):
            raise ValueError
        number = Decimal(str(value).strip())
        if not number.is_finite():
            raise ValueError
        if self.type is int:
            if number != number.to_integral_value() or abs(number) > 10**15:
                raise ValueError
            return int(number)
        return number if self.type is Decimal else float(number)

    def describe(self) -> dict[str, Any]:
        """As the page and `/api/strategies` show it."""
        return {
            "name": self.name,
            "type": {int: "int", float: "float", Decimal: "decimal", bool: "bool"}.get(self.type, "text"),
            "default": self.default,
            "min": self.low,
            "max": self.high,
            "help": self.help,
            "choices": list(self.choices),
        }


@dataclass(frozen=True, slots=True)
class MarketView:
    """All that a strategy which manages its own position is shown of the market.

    `price` and the free balances are Decimals in the quote and base asset; `room` is what entries
    may still cost in the quote asset (None: as much as is free), more is refused. `series` holds
    the named series that the strategy declared in `needs`, as they were known at `market_ms`.
    """

    symbol: Symbol
    candles: Candles
    price: Decimal
    market_ms: int
    free_quote: Decimal
    free_base: Decimal
    series: Mapping[str, SeriesValue] = field(default_factory=dict)
    room: Decimal | None = None


def share(size: Any) -> Decimal:
    """The part of its pot that a strategy asks for, to the nearest hundredth, at least one. Bot and backtester both
    multiply by this. Raises ValueError for what is no number above 0 and at most 1."""
    if isinstance(size, bool) or not isinstance(size, int | float | Decimal) or not math.isfinite(size) or not 0 < size <= 1:
        raise ValueError(f"a size must be a number above 0 and at most 1 (the part of the pot), not {str(size)[:40]!r}")
    return max(SIZE_STEP, Decimal(str(size)).quantize(SIZE_STEP, ROUND_HALF_EVEN))


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


class Strategy:
    """What every strategy is. Override `signals`, `analyze` or `decide`, and declare what you need.

    `timeframe`, `stop_loss_pct` and `take_profit_pct` (of 100, 0: none) None mean: whatever the bot's
    record or the settings say; declared, they count where the record is null. `symbol` is what it
    was made for, a proposal. `warmup` is the
    number of closed candles below which it must not be asked; None means KLINE_LIMIT.
    `needs` names the series it reads (such as "fear_greed"). `self.p` holds the parameters.
    """

    key: ClassVar[str] = ""
    title: ClassVar[str] = ""
    description: ClassVar[str] = ""
    params: ClassVar[Sequence[Param]] = ()
    timeframe: str | None = None
    symbol: str | None = None
    stop_loss_pct: Decimal | None = None
    take_profit_pct: Decimal | None = None
    wants_open_candle: bool = False
    needs: tuple[str, ...] = ()
    manages_position: bool = False

    def __init__(self, **params: Any):
        self.values: Mapping[str, Any] = MappingProxyType(check_params(type(self), params))
        self.p = SimpleNamespace(**self.values)
        self.kline_limit = KLINE_LIMIT  # build() puts the setting here
        self.version = ""  # build() puts the file's here
        if type(self).signals is not Strategy.signals:
            # Its table needs pandas: import it now, at the start, not in the middle of a run.
            import pandas  # noqa: F401

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name, guard in _GUARDS.items():
            if name in cls.__dict__:
                setattr(cls, name, guard(cls.__dict__[name]))
        if "decide" in cls.__dict__ and "manages_position" not in cls.__dict__:
            cls.manages_position = True

    @property
    def warmup(self) -> int | None:
        """Closed candles it needs before it may be asked; None: KLINE_LIMIT."""
        return None

    @property
    def name(self) -> str:
        return self.key or type(self).__name__

    @property
    def sizes_entries(self) -> bool:
        """It may spend less than its whole pot on an entry (`size`)."""
        return type(self).size is not Strategy.size

    def ready(self, kline_limit: int | None = None) -> int:
        """Closed candles that must exist before it may be asked."""
        declared = self.warmup
        return (kline_limit or self.kline_limit) if declared is None else declared

    def candles_needed(self, kline_limit: int | None = None) -> int:
        """How many of the last closed candles it is handed (all, where there are fewer)."""
        return max(kline_limit or self.kline_limit, self.warmup or 0)

    def percent(self, name: str) -> Decimal | None:
        """What it declares for `stop_loss_pct` or `take_profit_pct`; None: nothing. StrategyError where that is none."""
        declared, most = getattr(self, name), PERCENTS[name]
        if declared is None:
            return None
        try:
            found: Decimal = Param(name, Decimal, None, Decimal(0), most).check(declared)
        except ValueError as e:
            raise StrategyError(f"strategy {self.name}: {name} {e}") from None
        return found

    def ref(self) -> StrategyRef:
        """What positions and decisions remember of it."""
        return StrategyRef(self.name, self.version, dict(self.values))

    @classmethod
    def problems(cls, values: Mapping[str, Any]) -> list[str]:
        """What is wrong with parameters that are each in range, seen side by side. Override it."""
        return []

    _latest: tuple[Any, Any] | None = None

    def once(self, candles: pd.DataFrame, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, computed once for this very table: `analyze` asks signals and reason in turn.

        A table is not changed after it was handed in; another table is computed anew."""
        if self._latest is None or self._latest[0] is not candles:
            self._latest = (candles, compute())
        return self._latest[1]

    # --- the three ways to answer -----------------------------------------------

    def signals(self, candles: pd.DataFrame) -> np.ndarray:
        """An int8 array of the table's length: +1 buy, −1 sell, 0 hold. Causal.

        The base class asks `analyze` row by row, with the window a bot would hand it.
        """
        import numpy as np

        self._require("analyze")
        rows = rows_of(candles)
        found = np.zeros(len(rows), dtype=np.int8)
        number = {v: k for k, v in SIGNAL_NAMES.items()}
        ready, needed = self.ready(), self.candles_needed()
        for end in range(max(1, ready), len(rows) + 1):
            found[end - 1] = number[self.analyze(rows[max(0, end - needed) : end])["signal"]]
        return found

    def size(self, candles: pd.DataFrame) -> np.ndarray | None:
        """Which part of its pot an entry at each row may spend: a float array of the table's length, 0 < size <= 1
        at every row that buys, causal as the signals are. None: always the whole pot. It scales any sizing;
        an entry that becomes too small to be sold again is not made. Counted in hundredths (`share`)."""
        return None

    def share_of(self, size: Any) -> Decimal:
        """One size, counted (`share`); StrategyError, with the strategy's name, where it is none."""
        try:
            return share(float(size) if getattr(size, "ndim", None) == 0 else size)
        except ValueError as e:
            raise StrategyError(f"strategy {self.name}: {e}") from e

    def reason(self, candles: pd.DataFrame, i: int) -> str:
        """Why row `i` has its signal: a sentence for people, with the values it rests on."""
        return f"close {float(candles['close'].iloc[i]):g}"

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        """The answer for the last row of Binance's klines.

        Returns {'signal': 'BUY'|'SELL'|'HOLD', 'reasoning': str, 'recommended_symbol': str, only if it has one,
        'size': the part of the pot for this entry as a Decimal, only where it isn't the whole}.
        """
        self._require("signals")
        if not len(data):
            return {"signal": "HOLD", "reasoning": "No closed candles yet"}
        table = frame(data)
        last = int(self.signals(table)[-1])
        answer: dict[str, Any] = {"signal": SIGNAL_NAMES[last], "reasoning": self.reason(table, len(table) - 1)}
        if last > 0:
            sizes = self.size(table)
            if sizes is not None:
                answer["size"] = self.share_of(sizes[-1])
        return answer

    def analyze_with(self, data: Sequence[KlineRow], series: Mapping[str, SeriesValue]) -> dict[str, Any]:
        """The same answer for a strategy that declares `needs`: `series` holds each of them as it is known now.

        A value that is None is not known. Bot and backtest ask this; the base class needs the klines only.
        """
        return self.analyze(data)

    def decide(self, market: MarketView, position: Position) -> Decision:
        """The whole decision, for a strategy that manages its own position. The base class has none."""
        raise StrategyError(f"strategy {self.name} doesn't manage its position: ask its signal and let the bot decide")

    def _require(self, method: str) -> None:
        if getattr(type(self), method) is getattr(Strategy, method):
            raise StrategyError(f"strategy {self.name} answers nothing: it must define signals, analyze or decide")


def check_params(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a strategy's class with its value. Raises InputError that lists all problems."""
    declared = {p.name: p for p in getattr(cls, "params", ())}
    problems = []
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            problems.append(f"{name}: {strategy_name(cls)} has no such parameter; it has {known}")
    values: dict[str, Any] = {}
    for name, param in declared.items():
        try:
            values[name] = param.check(given[name]) if given.get(name) is not None else param.default
        except ValueError as e:
            problems.append(f"{name}: {e}")
    together = getattr(cls, "problems", None)
    if not problems and callable(together):
        problems = list(together(values))
    if problems:
        raise InputError("\n".join(problems))
    return values


def strategy_name(cls: type) -> str:
    return str(getattr(cls, "key", "") or cls.__name__)


# --- guards: what comes out of a strategy is checked, what goes wrong is named -------


def _failed(self: Strategy, method: str, error: Exception) -> StrategyError:
    text = re.sub(r"\s+", " ", str(error))[:300]
    return StrategyError(f"strategy {self.name} broke in {method}: {type(error).__name__}: {text}")


def _guard(check: Callable[[Strategy, Any, tuple[Any, ...]], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Strategy, *args: Any, **named: Any) -> Any:
            try:
                found = method(self, *args, **named)
            except StrategyError:
                raise
            except Exception as e:
                raise _failed(self, method.__name__, e) from e
            return check(self, found, (*args, *named.values()))

        return call

    return wrap


def _check_signals(self: Strategy, found: Any, args: tuple[Any, ...]) -> np.ndarray:
    import numpy as np

    array = np.asarray(found)
    size = len(args[0])
    if array.shape != (size,):
        raise StrategyError(f"strategy {self.name}: signals must be one number a candle, {size} here; it returned an array of shape {array.shape}")
    if array.dtype.kind not in "iufb" or not np.isin(array, (-1, 0, 1)).all():
        raise StrategyError(f"strategy {self.name}: signals must be +1, -1 or 0 each; it returned something else")
    return array.astype(np.int8, copy=False)


def _check_sizes(self: Strategy, found: Any, args: tuple[Any, ...]) -> np.ndarray | None:
    import numpy as np

    if found is None:
        return None
    array = np.asarray(found)
    if array.shape != (len(args[0]),) or array.dtype.kind not in "iuf":
        raise StrategyError(f"strategy {self.name}: size must be None or one number a candle, {len(args[0])} here")
    return array.astype(np.float64, copy=False)


def _check_answer(self: Strategy, found: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(found, Mapping) or found.get("signal") not in SIGNAL_NAMES.values():
        raise StrategyError(f"strategy {self.name}: analyze must return {{'signal': 'BUY', 'SELL' or 'HOLD', 'reasoning': text}}, not {str(found)[:80]!r}")
    answer = {"signal": found["signal"], "reasoning": str(found.get("reasoning", ""))}
    if found.get("size") is not None:
        answer["size"] = self.share_of(found["size"])
    if found.get("recommended_symbol"):
        answer["recommended_symbol"] = str(found["recommended_symbol"])
    return answer


def _check_decision(self: Strategy, found: Any, args: tuple[Any, ...]) -> Decision:
    if not isinstance(found, Decision):
        raise StrategyError(f"strategy {self.name}: decide must return a Decision, not {type(found).__name__}")
    return found


def _check_text(self: Strategy, found: Any, args: tuple[Any, ...]) -> str:
    return str(found)


_GUARDS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "signals": _guard(_check_signals),
    "size": _guard(_check_sizes),
    "analyze": _guard(_check_answer),
    "analyze_with": _guard(_check_answer),
    "decide": _guard(_check_decision),
    "reason": _guard(_check_text),
}


class PlainStrategy(Strategy):
    """A class of anyone's that has no more than `analyze(data)`, made to work everywhere."""

    def __init__(self, cls: type, **params: Any):
        # Its own declarations, where it makes them, count as if it were of our kind.
        self.plain = cls
        self.key = strategy_name(cls)  # type: ignore[misc]
        self.values = MappingProxyType(check_params(cls, params))
        self.p = SimpleNamespace(**self.values)
        self.kline_limit, self.version = KLINE_LIMIT, ""
        self.timeframe, self.symbol = getattr(cls, "timeframe", None), getattr(cls, "symbol", None)
        self.stop_loss_pct, self.take_profit_pct = getattr(cls, "stop_loss_pct", None), getattr(cls, "take_profit_pct", None)
        self.wants_open_candle = bool(getattr(cls, "wants_open_candle", False))
        self.needs = tuple(getattr(cls, "needs", ()))
        try:
            self.inner = cls(**self.values)
        except Exception as e:
            raise _failed(self, "__init__", e) from e

    @property
    def warmup(self) -> int | None:
        declared = getattr(self.inner, "warmup", None)
        if declared is None:
            return None
        if not isinstance(declared, int) or isinstance(declared, bool) or declared < 1:
            raise StrategyError(f"strategy {self.name}: warmup must be a whole number of candles from 1, not {declared!r}")
        return declared

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        found: dict[str, Any] = self.inner.analyze(list(data))
        return found

    def analyze_with(self, data: Sequence[KlineRow], series: Mapping[str, SeriesValue]) -> dict[str, Any]:
        own = getattr(self.inner, "analyze_with", None)
        found: dict[str, Any] = own(list(data), series) if callable(own) else self.analyze(data)
        return found
