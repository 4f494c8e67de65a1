"""A class of anyone's that has no more than `analyze(data)`, made a strategy like the others. Touches no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any

from core.errors import StrategyError
from core.model import KlineRow, SeriesValue
from strategies.answers import failed
from strategies.base import KLINE_LIMIT, Strategy
from strategies.params import check_params, strategy_name


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
            raise failed(self.name, "__init__", e) from e

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
