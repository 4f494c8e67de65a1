"""The base class of strategies, and what they are shown. Touches no file.

A strategy answers one question: buy, sell or hold, seen from closed candles. It may say
so in one of three ways, and the base class gives the others:

- `signals(candles)`: a table in, an array of +1, −1 and 0 out. Quick, also over a year.
- `analyze(data)`: a list of Binance's 12-field rows in, a dict out, for the last row.
- `decide(market, position)`: for one that manages its own position; returns a Decision.

Whatever goes wrong inside a strategy comes out as StrategyError with the strategy's name.
Parameters are in params.py, what an answer must be in answers.py, tables of candles in tables.py.
A strategy keeps nothing between two questions: what it must remember it returns as memo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from core.errors import StrategyError
from core.model import Candles, Decision, KlineRow, Position, SeriesValue, StrategyRef, Symbol
from strategies.answers import CHECKS, SIGNAL_NAMES, guarded, share_of
from strategies.params import Param as Param  # whoever writes a strategy takes both from here
from strategies.params import check_params
from strategies.tables import frame, rows_of

if TYPE_CHECKING:  # a strategy that needs neither must not pay for their import
    import numpy as np
    import pandas as pd

KLINE_LIMIT = 100  # the setting's default, for a strategy that is built without settings
PERCENTS = {"stop_loss_pct": Decimal(99), "take_profit_pct": Decimal(10000)}  # what a strategy may declare beside its signals, at most


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
        for name, check in CHECKS.items():
            if name in cls.__dict__:
                setattr(cls, name, guarded(cls.__dict__[name], check))
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
                answer["size"] = share_of(self.name, sizes[-1])
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
