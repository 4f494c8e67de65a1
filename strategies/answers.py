"""What a strategy may answer: checked as it comes out, and whatever goes wrong inside it is named. Touches no file."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

from core.errors import StrategyError
from core.model import Decision

if TYPE_CHECKING:  # a strategy that needs no arrays must not pay for their import
    import numpy as np

SIGNAL_NAMES = {1: "BUY", -1: "SELL", 0: "HOLD"}
SIZE_STEP = Decimal("0.01")  # sizes are counted in hundredths: a last binary digit must not make two entries of one
Check = Callable[[str, Any, tuple[Any, ...]], Any]  # the strategy's name, its answer, what it was asked


def share(size: Any) -> Decimal:
    """The part of its pot that a strategy asks for, to the nearest hundredth, at least one. Bot and backtester both
    multiply by this. Raises ValueError for what is no number above 0 and at most 1."""
    if isinstance(size, bool) or not isinstance(size, int | float | Decimal) or not math.isfinite(size) or not 0 < size <= 1:
        raise ValueError(f"a size must be a number above 0 and at most 1 (the part of the pot), not {str(size)[:40]!r}")
    return max(SIZE_STEP, Decimal(str(size)).quantize(SIZE_STEP, ROUND_HALF_EVEN))


def share_of(name: str, size: Any) -> Decimal:
    """One size of strategy `name`, counted (`share`); StrategyError where it is none."""
    try:
        return share(float(size) if getattr(size, "ndim", None) == 0 else size)
    except ValueError as e:
        raise StrategyError(f"strategy {name}: {e}") from e


def failed(name: str, method: str, error: Exception) -> StrategyError:
    text = re.sub(r"\s+", " ", str(error))[:300]
    return StrategyError(f"strategy {name} broke in {method}: {type(error).__name__}: {text}")


def guarded(method: Callable[..., Any], check: Check) -> Callable[..., Any]:
    """A strategy's method whose answers pass `check`; whatever it raises comes out as StrategyError."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        try:
            found = method(self, *args, **named)
        except StrategyError:
            raise
        except Exception as e:
            raise failed(self.name, method.__name__, e) from e
        return check(self.name, found, (*args, *named.values()))

    return call


def _check_signals(name: str, found: Any, args: tuple[Any, ...]) -> np.ndarray:
    import numpy as np

    array = np.asarray(found)
    size = len(args[0])
    if array.shape != (size,):
        raise StrategyError(f"strategy {name}: signals must be one number a candle, {size} here; it returned an array of shape {array.shape}")
    if array.dtype.kind not in "iufb" or not np.isin(array, (-1, 0, 1)).all():
        raise StrategyError(f"strategy {name}: signals must be +1, -1 or 0 each; it returned something else")
    return array.astype(np.int8, copy=False)


def _check_sizes(name: str, found: Any, args: tuple[Any, ...]) -> np.ndarray | None:
    import numpy as np

    if found is None:
        return None
    array = np.asarray(found)
    if array.shape != (len(args[0]),) or array.dtype.kind not in "iuf":
        raise StrategyError(f"strategy {name}: size must be None or one number a candle, {len(args[0])} here")
    return array.astype(np.float64, copy=False)


def _check_answer(name: str, found: Any, args: tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(found, Mapping) or found.get("signal") not in SIGNAL_NAMES.values():
        raise StrategyError(f"strategy {name}: analyze must return {{'signal': 'BUY', 'SELL' or 'HOLD', 'reasoning': text}}, not {str(found)[:80]!r}")
    answer = {"signal": found["signal"], "reasoning": str(found.get("reasoning", ""))}
    if found.get("size") is not None:
        answer["size"] = share_of(name, found["size"])
    if found.get("recommended_symbol"):
        answer["recommended_symbol"] = str(found["recommended_symbol"])
    return answer


def _check_decision(name: str, found: Any, args: tuple[Any, ...]) -> Decision:
    if not isinstance(found, Decision):
        raise StrategyError(f"strategy {name}: decide must return a Decision, not {type(found).__name__}")
    return found


def _check_text(name: str, found: Any, args: tuple[Any, ...]) -> str:
    return str(found)


# What of a strategy is guarded, by its method's name.
CHECKS: dict[str, Check] = {
    "signals": _check_signals,
    "size": _check_sizes,
    "analyze": _check_answer,
    "analyze_with": _check_answer,
    "decide": _check_decision,
    "reason": _check_text,
}
