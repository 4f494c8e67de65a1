"""What a bot's record may hold. Pure: no file is touched here.

`check` cleans what a person gives; `view` completes what a file holds. Fields that were
not given stay null in the record and are looked up at each start of the bot.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from core.account import limits as guard_limits
from core.config import TIMEFRAMES
from core.errors import InputError
from core.exchange import live_problem, venue_problems
from core.fleet import resources
from core.model import MODES

REQUIRED = ("name", "symbol", "strategy", "trade_amount")
VENUE = ("exchange", "market", "account", "mode")
# May not change while a position or an order is open.
BOUND = ("symbol", "strategy", *VENUE)
DEFAULTS: dict[str, Any] = {"status": "stopped", "profit": Decimal(0), "trades": 0, "exchange": "binance", "market": "spot", "account": "main", "mode": "paper"}
FIELDS = (
    *("id", "name", "symbol", "strategy", "trade_amount", "status", "profit", "trades"),
    *("exchange", "market", "account", "mode", "params", "sizing", "timeframe", "lookback", "check_interval", "offset"),
    *("stop_loss_pct", "take_profit_pct", "cooldown_checks", "limits"),
    *("protection", "trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles"),
    *("max_spread_pct", "max_slippage_pct", "sizing_pct", "risk_pct", "max_entry"),
    *("follow_recommended", "symbols"),
    *("live_since", "pot"),
)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 28 * 86400}
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,2})?", re.ASCII)


def candle_seconds(timeframe: str) -> int:
    """Length of a candle, in seconds (a month: its shortest)."""
    return int(timeframe[:-1]) * SECONDS[timeframe[-1]]


def offset_problem(offset: Decimal, timeframe: str) -> str | None:
    """Why this offset can't be used with this timeframe, None where it can (DESIGN §5 When)."""
    quarter = Decimal(candle_seconds(timeframe)) / 4
    if 2 + offset < quarter:
        return None
    most = quarter - 2
    right = f"below {most:f}" if most > 0 else "left empty"
    return f"offset: {offset:f} s is too late for {timeframe} candles; it must be {right}, so that an order still fills near the candle's open"


def number(value: Any) -> Decimal:
    """A finite Decimal from an int, Decimal, float or number in text; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            raise ValueError
    elif isinstance(value, int) and abs(value) >= 10**30:
        raise ValueError  # str() of an endless int would be slow
    result = Decimal(str(value))
    # Exponents are bounded because plain digits are written: 1e999999 would be a file of a megabyte.
    if not result.is_finite() or (result and not -30 <= result.adjusted() <= 30):
        raise ValueError
    return result


def _decimal(low: str | None, above: str | None, high: str, unit: str) -> Callable[[Any], Decimal]:
    bottom = f"above {above}" if above is not None else f"from {low}"
    wanted = f"a number {bottom} to {high}{unit}"

    def check(value: Any) -> Decimal:
        try:
            found = number(value)
        except ValueError:
            raise ValueError(wanted) from None
        if found > Decimal(high) or (low is not None and found < Decimal(low)) or (above is not None and found <= Decimal(above)):
            raise ValueError(wanted)
        return found

    return check


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        try:
            found = number(value)
        except ValueError:
            found = Decimal("0.5")
        if found != found.to_integral_value() or not low <= found <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(found)

    return check


def _name(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not 1 <= len(text) <= 60 or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise ValueError("text of 1 to 60 characters without control characters")
    return text


def _pattern(pattern: str, wanted: str) -> Callable[[Any], str]:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: Any) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value.strip()):
            raise ValueError(wanted)
        return value.strip()

    return check


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices or not isinstance(value, str):
            raise ValueError("one of " + ", ".join(choices))
        return value

    return check


def _limits(value: Any) -> dict[str, Any]:
    """What a bot may lose and what it may use of the machine; ValueError completes "it must be ..."."""
    whole = _object(value)
    machine = resources.check_limits({k: v for k, v in whole.items() if k in resources.NAMES})
    return {**guard_limits.check({k: v for k, v in whole.items() if k not in resources.NAMES}, beside=resources.NAMES), **machine}


def _follow(value: Any) -> bool | str:
    if not isinstance(value, bool) and value != "live":
        raise ValueError('true, false, or "live" for a bot that trades real money')
    return bool(value) if value != "live" else "live"


def _symbols(value: Any) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= 100:
        raise ValueError("a list of 1 to 100 symbols")
    return [_SYMBOL(v) for v in value]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise ValueError("an object of names and values")
    return dict(value)


_SHORT = _pattern(r"[a-z0-9_\-]{1,30}", "1 to 30 small letters, digits, - or _")
_SYMBOL = _pattern(r"[A-Z0-9/_\-.]{1,30}", "a symbol such as BTCUSDT: 1 to 30 of A-Z, 0-9, / _ - .")
CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": _name,
    "symbol": _SYMBOL,
    "strategy": _pattern(r"[a-z0-9_]{1,60}", "a strategy's key such as volatile: 1 to 60 small letters, digits or _"),
    "trade_amount": _decimal(None, "0", "1000000000000", " in the symbol's quote asset"),
    "exchange": _SHORT,
    "market": _SHORT,
    "account": _SHORT,
    "mode": _one_of("paper", "testnet", "live"),
    "params": _object,
    "sizing": _one_of("compound", "fixed", "all_available", "equity", "risk"),
    "sizing_pct": _decimal(None, "0", "100", " percent of the account's equity"),
    "risk_pct": _decimal(None, "0", "100", " percent of the account's equity"),
    "max_entry": _decimal(None, "0", "1000000000000", " in the symbol's quote asset"),
    "timeframe": _one_of(*TIMEFRAMES),
    "lookback": _whole(2, 1000),
    "check_interval": _whole(1, 604800),
    "offset": _decimal("0", None, "604800", " seconds"),
    "stop_loss_pct": _decimal(None, "0", "99", " percent"),
    "take_profit_pct": _decimal(None, "0", "10000", " percent"),
    "cooldown_checks": _whole(0, 1000),
    "protection": _one_of("exchange", "bot"),
    "trailing_stop_pct": _decimal(None, "0", "99", " percent"),
    "trailing_activation_pct": _decimal("0", None, "10000", " percent"),
    "break_even_pct": _decimal(None, "0", "10000", " percent"),
    "time_stop_candles": _whole(1, 100000),
    "max_spread_pct": _decimal(None, "0", "50", " percent"),
    "max_slippage_pct": _decimal(None, "0", "50", " percent"),
    "limits": _limits,
    "follow_recommended": _follow,
    "symbols": _symbols,
}
# What a person types before a bot trades real money. `confirm` comes with the request and is never kept.
WORD = "LIVE"
UNCONFIRMED = f"confirm: type {WORD} to let this bot trade with real money"


def _shown(value: Any) -> str:
    """A value for an error message: short, and on one line."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    text = repr(value) if not isinstance(value, Decimal) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check(fields: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    """The given fields, cleaned. InputError lists every problem; `complete`: REQUIRED must be there.

    Null clears a field that isn't required. Whether the strategy exists, and whether the
    settings allow the mode, is the caller's to check; `confirm` is `going_live`'s, and left out."""
    problems: list[str] = []
    clean: dict[str, Any] = {}
    for name in REQUIRED:
        if (complete or name in fields) and fields.get(name) is None:
            problems.append(f"{name}: is missing; it must be given")
    for name, value in fields.items():
        if name == "confirm":
            continue
        if name not in CHECKS:
            why = "is kept by Botyard itself and can't be given" if name in FIELDS else f"no such field; known are {', '.join(CHECKS)}"
            problems.append(f"{_shown(name)}: {why}")
        elif value is None:
            clean[name] = None
        else:
            try:
                clean[name] = CHECKS[name](value)
            except ValueError as e:
                problems.append(f"{name}: {_shown(value)} is not right; it must be {e}")
    if problems:
        raise InputError("; ".join(problems))
    return clean


def going_live(given: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether `given` makes a bot live that was not agreed to be; InputError unless its `confirm` is LIVE."""
    if given.get("mode") != "live" or (before is not None and before["mode"] == "live" and live_problem(before) is None):
        return False
    if given.get("confirm") != WORD:
        raise InputError(UNCONFIRMED)
    return True


def together(record: Mapping[str, Any]) -> None:
    """What only shows when a whole record is seen; InputError."""
    if record.get("offset") is not None and record.get("timeframe") is not None:
        problem = offset_problem(number(record["offset"]), record["timeframe"])
        if problem:
            raise InputError(problem)
    if record.get("mode") == "live" and record.get("follow_recommended") is True:
        raise InputError('follow_recommended: a bot that trades real money follows its strategy to other symbols only where this says "live"')
    problem = sizing_problem(record)
    if problem:
        raise InputError(problem)


def sizing_problem(record: Mapping[str, Any]) -> str | None:
    """What a record's sizing lacks, None where it lacks nothing. Whether the settings' stop serves is the set-up's to say."""
    kind = record.get("sizing")
    for wanted, field in (("equity", "sizing_pct"), ("risk", "risk_pct")):
        if kind == wanted and record.get(field) is None:
            return f"{field}: is missing; sizing {wanted} needs it, above 0 to 100 percent"
    if kind == "risk" and record.get("stop_loss_pct") is not None and not record["stop_loss_pct"]:
        return "stop_loss_pct: sizing risk needs a stop; set it above 0, or choose another sizing"
    return None


def mode_problem(record: Mapping[str, Any], highest: str, guard: bool = False) -> str | None:
    """Why a bot of this mode and venue may not run where TRADING_MODE is `highest`, None where it may.

    A guard only gets out: it needs nobody's consent."""
    elsewhere = venue_problems(record)
    if elsewhere:
        return "; ".join(elsewhere)
    if MODES.index(record["mode"]) > MODES.index(highest):  # type: ignore[arg-type]
        return f"mode: {record['mode']} is not allowed while TRADING_MODE is {highest}; raise TRADING_MODE in .env, or change the bot's mode"
    return None if guard else live_problem(record)


def view(raw: Any) -> dict[str, Any]:
    """A record of a file, complete and typed; unknown keys stay. ValueError says what is wrong with it."""
    if not isinstance(raw, dict):
        raise ValueError("it is not an object")
    identity = raw.get("id")
    if isinstance(identity, bool) or not isinstance(identity, int) or identity < 1:
        raise ValueError(f"id: {_shown(identity)} is not right; it must be a whole number from 1")
    result = {**dict.fromkeys(FIELDS), **raw}
    for name, default in DEFAULTS.items():
        if result[name] is None:
            result[name] = default
    for name in REQUIRED:
        if result[name] is None:
            raise ValueError(f"{name}: is missing")
    for name, test in CHECKS.items():
        if result[name] is not None:
            if isinstance(result[name], str) and name in _NUMERIC:
                raise ValueError(f"{name}: {_shown(result[name])} is text; it must be a number")
            try:
                result[name] = test(result[name])
            except ValueError as e:
                raise ValueError(f"{name}: {_shown(result[name])} is not right; it must be {e}") from None
    note = result["pot"]
    if note is not None:
        try:
            result["pot"] = {**note, "since_trade": int(number(note["since_trade"])), **{k: number(note[k]) for k in ("paid_out", "profit", "percent")}}
        except (KeyError, TypeError, ValueError):
            raise ValueError("pot: must hold the numbers paid_out, since_trade, profit and percent") from None
    if result["status"] not in ("running", "stopped"):
        raise ValueError(f"status: {_shown(result['status'])} is not right; it must be running or stopped")
    try:
        if isinstance(result["profit"], str) or isinstance(result["trades"], str):
            raise ValueError
        result["profit"], result["trades"] = number(result["profit"]), int(number(result["trades"]))
    except ValueError:
        raise ValueError("profit and trades: must be numbers") from None
    return result


_NUMERIC = (
    frozenset({"trade_amount", "lookback", "check_interval", "offset", "stop_loss_pct", "take_profit_pct", "cooldown_checks"})
    | frozenset({"trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles", "max_spread_pct", "max_slippage_pct"})
    | frozenset({"sizing_pct", "risk_pct", "max_entry"})
)


def label(raw: Any) -> str:
    """How a message names a record that may be broken."""
    if isinstance(raw, dict):
        return f"bot {_shown(raw.get('id'))} ({_shown(raw.get('name'))})"
    return f"the record {_shown(raw)}"
