"""Checks what people and scripts send, before anything is done. Raises InputError.

What a record may hold is core/fleet/records.py's to say; here is what only the page must
ask: is the body sound JSON, does the mode suit the settings, can the amount be traded.
A number is bounded before it is ever written out: `1e999999` is a finite Decimal whose
plain digits would fill the memory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import simplejson

from core.config import Settings
from core.errors import Conflict, InputError
from core.exchange import venue_problems
from core.fleet import records
from core.market.sizing import largest_entry, smallest_entry
from core.model import MODES, Symbol, plain

MAX_BODY = 64 * 1024
MAX_DEPTH = 12
# Characters that turn the reading direction: a name with them shows as another one.
TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
REQUIRED = records.REQUIRED
SHOWN = Context(prec=15)


def body(data: bytes) -> dict[str, Any]:
    """A request's JSON object; numbers exact and bounded, no name twice, not deep, no NaN."""

    def refuse(name: str) -> Any:
        raise InputError(f"The body has {name}, which is not a number; send a plain number such as 100")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise InputError(f"The body names {name[:40]!r} twice; name each field once")
            found[name] = value
        return found

    try:
        value = simplejson.loads(data.decode("utf-8"), use_decimal=True, parse_constant=refuse, object_pairs_hook=once, allow_nan=True)
    except (ValueError, RecursionError, ArithmeticError):
        raise InputError('The body is not valid JSON; send an object such as {"name": "BTC Bot"}') from None
    if not isinstance(value, dict):
        raise InputError('The body must be a JSON object such as {"name": "BTC Bot"}')
    _sound(value, 1, "")
    return value


def _sound(value: Any, level: int, name: str) -> None:
    if level > MAX_DEPTH:
        raise InputError(f"The body is nested more than {MAX_DEPTH} deep; send a flat object")
    if isinstance(value, dict):
        for key, inner in value.items():
            _sound(inner, level + 1, key[:40])
    elif isinstance(value, list):
        for inner in value:
            _sound(inner, level + 1, name)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        _bounded(Decimal(value), name)
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise InputError(f"{name} holds half a character; send whole Unicode text")


def _bounded(number: Decimal, name: str) -> Decimal:
    if not number.is_finite():
        raise InputError(f"{name} must be a finite number, such as 100")
    if (number and not -30 <= number.adjusted() <= 30) or len(number.as_tuple().digits) > 40:
        raise InputError(f"{name} is too long a number; it must be one such as 100 or 99.5")
    return number


def fields(given: Mapping[str, Any], settings: Settings, *, complete: bool) -> dict[str, Any]:
    """A record's fields, cleaned: all that can be said without asking a strategy or an exchange."""
    given = {k: (None if v == "" else v) for k, v in given.items()}
    if isinstance(given.get("symbol"), str):
        given["symbol"] = given["symbol"].strip().upper()
    clean = records.check(given, complete=complete)
    if any(c in TURNING for c in clean.get("name") or ""):
        raise InputError("name: holds a character that turns the reading direction; leave it out")
    elsewhere = venue_problems(clean)
    if elsewhere:
        raise InputError("; ".join(elsewhere))
    if "mode" in clean:
        clean["mode"] = mode(clean["mode"], settings)
    if clean.get("params") is not None:
        clean["params"] = params(clean["params"])
    for name in ("timeframe", "limits", "sizing"):
        if name in clean and clean[name] == {}:
            clean[name] = None
    return clean


def unchanged(shown: Any, record: Mapping[str, Any]) -> None:
    """What a change rests on: fields as whoever asks was shown them. Conflict names those that are otherwise by now."""
    if not isinstance(shown, Mapping):
        raise InputError('before: must be an object of fields as they were shown, such as {"trade_amount": 100}')
    unknown = sorted(set(shown) - set(records.CHECKS))
    if unknown:
        raise InputError(f"before: a bot has no field {', '.join(k[:40] for k in unknown)}; name the fields that you change")
    now = {**record, "mode": record.get("mode") or "paper"}
    other = [k for k, v in shown.items() if _as_shown(v) != _as_shown(now.get(k))]
    if other:
        raise Conflict("; ".join(f"{k}: was changed by somebody else meanwhile; look at it again, then set yours" for k in other))


def _as_shown(value: Any) -> Any:
    """For a comparison: a browser keeps 15 digits of a number, and a limit that is not set may be named or not."""
    if isinstance(value, Mapping):
        return {k: x for k, v in value.items() if (x := _as_shown(v)) is not None} or None
    if isinstance(value, list | tuple):
        return [_as_shown(v) for v in value]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return SHOWN.create_decimal(value)
    return value


def mode(value: Any, settings: Settings) -> str:
    """A mode that TRADING_MODE allows. Live needs the owner's word and the checks besides (core/dash/board.py)."""
    if value is None:
        return "paper"
    if value not in MODES:
        raise InputError(f"mode: must be one of {', '.join(MODES)}")
    if MODES.index(value) > MODES.index(settings.trading_mode):
        raise InputError(f"mode: {value} is above TRADING_MODE={settings.trading_mode}; set TRADING_MODE={value} in .env and start the dashboard again")
    return str(value)


def params(value: Mapping[str, Any]) -> dict[str, Any]:
    """A strategy's parameters as short values; those left empty are dropped. The strategy checks the rest."""
    found: dict[str, Any] = {}
    for name, given in value.items():
        label = f"params.{name[:40]}"
        if given is None or given == "":
            continue
        if not isinstance(given, bool | int | Decimal | str) or (isinstance(given, str) and len(given) > 200):
            raise InputError(f"{label}: must be a number, a short text, true or false")
        if isinstance(given, str):
            with contextlib.suppress(InvalidOperation):
                _bounded(Decimal(given.strip()), label)
        elif not isinstance(given, bool):
            _bounded(Decimal(given), label)
        found[name] = given
    return found


def trade_amount(value: Decimal, symbol: Symbol, price: Decimal, stop_loss_pct: Decimal) -> Decimal:
    """An amount that buys something which can be sold again, even at its stop."""
    least, most = smallest_entry(symbol, price, stop_loss_pct), largest_entry(symbol)
    if value < least:
        raise InputError(
            f"trade_amount: {plain(value)} {symbol.quote} is too little for {symbol.name}; it must be at least {plain(least)} {symbol.quote}, "
            f"so that what is bought can still be sold at the stop loss"
        )
    if value > most:
        raise InputError(f"trade_amount: {plain(value)} {symbol.quote} is too much for {symbol.name}; it must be at most {plain(most)} {symbol.quote}")
    return value


def bot_id(raw: str) -> int:
    """A bot's id from a path: an integer from 1."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", raw, re.ASCII):
        raise InputError("a bot's id is a whole number from 1, as in /api/bot/1/details")
    return int(raw)


def cursor(raw: str | None) -> int | None:
    """The place in a log from which to read on, None for its end."""
    if raw is None:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", raw, re.ASCII):
        raise InputError("cursor: must be the whole number that log.cursor gave")
    return int(raw)


def limit(raw: str | None, default: int, most: int) -> int:
    if raw is None:
        return default
    if not re.fullmatch(r"[0-9]{1,5}", raw, re.ASCII) or not 1 <= int(raw) <= most:
        raise InputError(f"limit: must be a whole number from 1 to {most}")
    return int(raw)
