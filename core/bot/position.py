"""A bot's position file: `bot_N_position.json`, written by this module alone.

The file is enough to close the position without any other: venue, symbol, fills, open
orders with their exact requests, stop, target, memo. `entry_price`, `quantity` and
`pending_order` in it are views for people and tools; reading computes them anew from the
fills. A file that can't be read stops the bot (StateError, exit 4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

from core.bot.journal import fills_name
from core.errors import StateError
from core.model import (
    MODES,
    NEW,
    PARTIALLY_FILLED,
    SENDING,
    TERMINAL,
    ZERO,
    Fill,
    Order,
    OrderRequest,
    Position,
    Role,
    Side,
    StrategyRef,
    Totals,
    Venue,
    floor_to,
)
from core.storage import Files

SCHEMA = 1
_EIGHT = Decimal("0.00000001")
_MOST = Decimal(10) ** 24  # the coins with the most pieces have 10^15 of them
_HIGHEST = 10**15  # of a count, and of a time in ms (the year 33658)


def name(bot_id: int) -> str:
    return f"bot_{bot_id}_position.json"


def to_json(position: Position) -> dict[str, Any]:
    """The file's object: what is kept, and the views that people and tools read."""
    entry = position.entry_price
    pending = position.pending_order
    return {
        "schema": SCHEMA,
        "bot_id": position.bot_id,
        "venue": asdict(position.venue),
        "symbol": position.symbol,
        "base": position.base,
        "quote": position.quote,
        "position": position.direction,
        "entry_price": None if entry is None else floor_to(entry, _EIGHT),
        "quantity": position.quantity,
        "dust": position.dust,
        "dust_in": position.dust_in,
        "stop_loss": position.stop_loss,
        "take_profit": position.take_profit,
        "has_traded": position.has_traded,
        "initial_investment": position.initial_investment,
        "timestamp": None
        if position.opened_ms is None
        else datetime.fromtimestamp(position.opened_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "opened_ms": position.opened_ms,
        "pending_order": None if pending is None else _order_json(pending),
        "protection": position.protection,
        "fills": [asdict(f) for f in position.fills],
        "orders": [_order_json(o) for o in position.orders],
        "unjournaled": [asdict(f) for f in position.unjournaled],
        "memo": dict(position.memo),
        "strategy": {"key": position.strategy.key, "version": position.strategy.version, "params": dict(position.strategy.params)},
        "next_order": position.next_order,
        "trade": position.trade,
        "totals": asdict(position.totals),
        "cooldown": position.cooldown,
        "last_candle_ms": position.last_candle_ms,
        "skip_entries": position.skip_entries,
    }


def _order_json(order: Order) -> dict[str, Any]:
    return asdict(order)


def from_json(value: dict[str, Any]) -> Position:
    """The position in a file's object; KeyError, TypeError, ValueError or ArithmeticError where it isn't one."""
    venue = Venue(**_read(value["venue"], _VENUE))
    strategy = value.get("strategy") or {}
    totals = value.get("totals") or {}
    symbol = _str(value["symbol"])
    direction = value["position"]
    if direction not in ("LONG", "SHORT", None):
        raise ValueError(f"position is {direction!r}, it must be LONG, SHORT or null")
    protection = value.get("protection", "bot")
    if protection not in ("exchange", "bot", "none"):
        raise ValueError(f"protection is {protection!r}, it must be exchange, bot or none")
    position = Position(
        bot_id=_int(value["bot_id"]),
        venue=venue,
        symbol=symbol,
        base=_str(value["base"]),
        quote=_str(value["quote"]),
        direction=direction,
        fills=tuple(_fill(f, symbol) for f in _list(value["fills"])),
        orders=tuple(_order(o, symbol) for o in _list(value["orders"])),
        dust=_amount(value["dust"]),
        dust_in=_amount(value.get("dust_in", 0)),
        stop_loss=_level(value["stop_loss"]),
        take_profit=_level(value["take_profit"]),
        protection=protection,
        memo=dict(value.get("memo") or {}),
        strategy=StrategyRef(str(strategy.get("key", "")), str(strategy.get("version", "")), dict(strategy.get("params") or {})),
        next_order=_count(value["next_order"]),
        trade=_count(value["trade"]),
        totals=Totals(_money(totals.get("profit", 0)), *(_count(totals.get(k, 0)) for k in ("trades", "wins", "losses"))),
        has_traded=_bool(value["has_traded"]),
        initial_investment=_amount(value["initial_investment"]),
        opened_ms=None if value.get("opened_ms") is None else _count(value["opened_ms"]),
        cooldown=_count(value.get("cooldown", 0)),
        last_candle_ms=None if value.get("last_candle_ms") is None else _count(value["last_candle_ms"]),
        unjournaled=tuple(_fill(f, None) for f in _list(value.get("unjournaled", []))),
        skip_entries=_count(value.get("skip_entries", 0)),
    )
    if direction is None and position.fills:
        raise ValueError(f"position is null, but {len(position.fills)} fills are of an open one: one of them was changed by hand")
    told = _money(value["quantity"])
    if told != position.quantity:
        raise ValueError(f"quantity is {told}, but the fills come to {position.quantity}: one of them was changed by hand")
    return position


def _money(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise TypeError(f"{value!r} is not a number")
    number = Decimal(value)
    if not number.is_finite() or abs(number) > _MOST:
        raise ValueError(f"{number:.3g} is no amount that any exchange has")
    return number


def _amount(value: Any) -> Decimal:
    number = _money(value)
    if number < 0:
        raise ValueError(f"{value!r} is below 0")
    return number


def _maybe(value: Any) -> Decimal | None:
    return None if value is None else _amount(value)


def _level(value: Any) -> Decimal | None:
    level = _maybe(value)
    if level == 0:
        raise ValueError("a stop or target of 0 is none: it must be a price above 0, or null")
    return level


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _count(value: Any) -> int:
    if _int(value) < 0 or value > _HIGHEST:
        raise ValueError(f"{value!r} can't be right, it must lie between 0 and {_HIGHEST}")
    return int(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _str(value: Any) -> str:
    if not _text(value):
        raise TypeError("'' is not a name")
    return str(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _of(*known: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if _text(value) not in known:
            raise ValueError(f"{value!r} must be one of {', '.join(known)}")
        return str(value)

    return read


# How each field of a fill, an order and its request is read; one that is not named here is refused by their types.
_ROLE, _SIDE = _of(*get_args(Role)), _of(*get_args(Side))
_VENUE: dict[str, Callable[[Any], Any]] = {**dict.fromkeys(("exchange", "market", "account"), _str), "mode": _of(*MODES), "source": _text}
_FILL: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("trade_id", "symbol", "fee_asset"), _str),
    **dict.fromkeys(("price", "quantity", "quote"), _amount),
    **dict.fromkeys(("time_ms", "trade", "wall_ms"), _count),
    **{"order_id": _text, "client_id": _text, "tag": _text, "side": _SIDE, "role": _ROLE, "maker": _bool},
    **{"fee": _money, "fee_quote": lambda v: None if v is None else _money(v)},  # a rebate is a fee below 0
}
_REQUEST: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("client_id", "symbol", "kind"), _str),
    **dict.fromkeys(("quantity", "quote_quantity", "price", "stop_price"), _maybe),
    **{"side": _SIDE, "life": lambda v: None if v is None else _str(v)},
}
_ORDER: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("executed", "executed_quote", "past_quantity"), _amount),
    **dict.fromkeys(("created_ms", "wall_created_ms", "not_found_final_after_ms", "trade"), _count),
    **dict.fromkeys(("tag", "order_id", "reason"), _text),
    **{"role": _ROLE, "status": _of(SENDING, NEW, PARTIALLY_FILLED, *sorted(TERMINAL)), "past": lambda v: tuple(_str(t) for t in _list(v))},
}


def _read(what: Mapping[str, Any], how: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    found = {}
    for field, value in what.items():
        try:
            found[field] = how[field](value) if field in how else value
        except (TypeError, ValueError, ArithmeticError) as e:
            raise type(e)(f"{field}: {e}") from e
    return found


def _fill(value: dict[str, Any], symbol: str | None) -> Fill:
    """`symbol` None: any (a fill that is not journaled yet may be of the market before)."""
    fill = Fill(**_read(value, _FILL))
    if symbol is not None and fill.symbol != symbol:
        raise ValueError(f"a fill is of {fill.symbol}, the position of {symbol}")
    return fill


def _order(value: dict[str, Any], symbol: str) -> Order:
    order = Order(**{**_read(value, _ORDER), "request": OrderRequest(**_read(value["request"], _REQUEST))})
    if order.request.symbol != symbol:
        raise ValueError(f"an order is of {order.request.symbol}, the position of {symbol}")
    return order


class PositionStore:
    """One bot's position on disk. `position` is what was last saved or read."""

    def __init__(self, files: Files, bot_id: int):
        self.files, self.bot_id = files, bot_id
        self.position: Position | None = None

    def load(self) -> Position | None:
        """What the file says, None where there is none; StateError when it can't be trusted."""
        path = self.files.path(name(self.bot_id))
        value = self.files.read_json(name(self.bot_id), schema=SCHEMA)
        if value is None:
            journal = self.files.path(fills_name(self.bot_id))
            if journal.exists() and journal.stat().st_size:
                # Never from empty: what these fills left may still be owned.
                remedy = f"Restore {path.name} from a backup; or, if the bot owns nothing any more, move {journal.name} away too."
                raise StateError(path, f"the file is missing, but {journal.name} says that the bot has traded", remedy)
            self.position = None
            return None
        try:
            position = from_json(value)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            what = f"the field {e} is missing" if isinstance(e, KeyError) else str(e)
            raise StateError(path, f"its content can't be right ({what})", self.files.remedy(path)) from e
        if position.bot_id != self.bot_id:
            raise StateError(path, f"it belongs to bot {position.bot_id}", "Put each bot's own file back in its place.")
        self.position = position
        return position

    def save(self, position: Position) -> None:
        """Durably. After an OSError the file is as before, and so is `self.position`."""
        self.files.write_json(name(self.bot_id), to_json(position), durable=True)
        self.position = position

    def adopt(self, bot_id: int, venue: Venue, symbol: str, base: str, quote: str) -> Position:
        """The position to go on with for this venue and symbol.

        A file with an open position or order rules over record and arguments; one of
        another venue is then refused. A flat file of another symbol or venue goes to
        `archive/`, and a new one begins with its next order number.
        """
        found = self.load()
        if found is None:
            self.position = Position(bot_id, venue, symbol, base, quote)
            return self.position
        same_market = found.venue.same_account(venue) and (not found.venue.source or not venue.source or found.venue.source == venue.source)
        if not found.idle and not same_market:
            raise StateError(
                self.files.path(name(bot_id)),
                f"it holds a position or an order of {found.venue.key()}, but the bot is set to {venue.key()}",
                f"Set the bot back to {found.venue.key()} and close the position there first. If that market is gone (a paper exchange "
                f"or a testnet that was reset), move the file away: what it holds is gone with it.",
            )
        if same_market and found.symbol == symbol and (found.base, found.quote) != (base, quote):
            path = self.files.path(name(bot_id))
            raise StateError(path, f"it says that {symbol} is {found.base} in {found.quote}, but it is {base} in {quote}", self.files.remedy(path))
        if found.idle and (not same_market or found.symbol != symbol):
            self.archive(found)
            fresh = Position(bot_id, venue, symbol, base, quote, next_order=found.next_order, trade=found.trade, initial_investment=ZERO)
            if same_market and found.quote == quote:
                fresh = replace(fresh, totals=found.totals, has_traded=found.has_traded, initial_investment=found.initial_investment)
            self.save(fresh)
            return fresh
        if found.venue != venue and same_market:
            found = replace(found, venue=venue)
            self.position = found
        return found

    def archive(self, position: Position) -> None:
        """Keep a flat file aside under a name that says what it was; the journal stays.

        A hard link: the file itself is replaced by the next save, so that a death in
        between leaves the old one in its place."""
        folder = self.files.path("archive")
        folder.mkdir(exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        label = "".join(c if c.isalnum() else "-" for c in f"{position.venue.key()}-{position.symbol}")
        os.link(self.files.path(name(self.bot_id)), folder / f"bot_{self.bot_id}_position.{label}.{stamp}.json")
