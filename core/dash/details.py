"""One bot seen closely: `/api/bot/ID/details` and the candles of its chart. Owns no file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from core.clock import wall_ms
from core.config import TIMEFRAMES, Settings
from core.dash import trades as sums
from core.dash.market import Market, Unreachable
from core.dash.rows import mode_of
from core.dash.watch import BotState, Watch
from core.errors import BotyardError, InputError
from core.market.history import CandleStore
from core.model import Venue

LOG_LINES = 200
TAIL_LINES = 2000
NEWEST = 500  # fills, trades and orders shown
EQUITY_POINTS = 2000
CANDLES = 300


def fills_of(watch: Watch, bot_id: int, state: BotState) -> list[dict[str, Any]]:
    """The journal, and what the position file has that the journal doesn't yet (ARCHITECTURE.md)."""
    journal = watch.fills(bot_id).fills
    position = state.position or {}
    known = {(f.get("symbol"), f.get("trade_id")) for f in journal}
    more = []
    for fill in [*(position.get("fills") or []), *(position.get("unjournaled") or [])]:
        if isinstance(fill, Mapping) and (key := (fill.get("symbol"), fill.get("trade_id"))) not in known:
            known.add(key)
            more.append({"quote_asset": position.get("quote"), "base": position.get("base"), **fill})
    return journal + more if more else journal


def details(watch: Watch, record: Mapping[str, Any], state: BotState, row: Mapping[str, Any], cursor: int | None, only_log: bool) -> dict[str, Any]:
    """See the module. Fills, trades, orders and decisions come newest first, equity and log oldest first."""
    bot_id = int(record["id"])
    lines, after = watch.supervisor.read_log(bot_id, cursor, LOG_LINES if cursor is None else TAIL_LINES)
    answer: dict[str, Any] = {"bot": row, "log": {"lines": lines, "cursor": after}}
    if only_log:
        return answer
    position = state.position or {}
    fills = fills_of(watch, bot_id, state)
    open_trade = position.get("trade") if position.get("position") else None
    made = sums.trades(fills, open_trade)
    answer |= {
        "orders": sums.orders([o for o in position.get("orders") or [] if isinstance(o, Mapping)], fills)[:NEWEST],
        "fills": fills[: -NEWEST - 1 : -1],
        "fills_total": len(fills),
        "fills_unreadable": state.fills.unreadable,
        "trades": made[: -NEWEST - 1 : -1],
        "trades_total": len(made),
        "decisions": watch.decisions(bot_id),
        "equity": sums.equity(made, sums.amount(record.get("trade_amount")))[-EQUITY_POINTS:],
    }
    return answer


def timeframe_of(record: Mapping[str, Any], settings: Settings, declared: str | None, asked: str | None) -> str:
    """Asked for, else the record's, else what the strategy declares, else the setting."""
    if asked is not None and asked not in TIMEFRAMES:
        raise InputError(f"timeframe must be one of {', '.join(TIMEFRAMES)}")
    return asked or record.get("timeframe") or declared or settings.kline_interval


def chart(watch: Watch, market: Market, settings: Settings, record: Mapping[str, Any], state: BotState, timeframe: str, limit: int) -> dict[str, Any]:
    """Candles as [open_ms, open, high, low, close, volume], oldest first, the bot's fills as
    markers, its entry, stop and target as lines. `error` says why candles are missing."""
    bot_id, symbol = int(record["id"]), str(record["symbol"])
    rows: list[Any] = []
    error = None
    mode = mode_of(record)
    if mode in market.modes():
        try:
            rows = list(market.desk(mode).ask(lambda c: c.candles(symbol, timeframe, limit)).rows)
        except (Unreachable, BotyardError) as e:
            error = str(e)
    if not rows:
        rows = stored(watch, state, mode, symbol, timeframe, limit)
    position = state.position or {}
    since = int(rows[0][0]) if rows else 0
    markers = [
        {"at": f.get("time_ms"), "side": f.get("side"), "role": f.get("role"), "tag": f.get("tag"), "price": f.get("price"), "quantity": f.get("quantity")}
        for f in fills_of(watch, bot_id, state)
        if f.get("symbol") == symbol and (f.get("time_ms") or 0) >= since
    ]
    is_open = bool(position.get("position")) and position.get("symbol") == symbol
    return {
        "symbol": symbol,
        "timeframe": timeframe,
        "candles": [[int(r[0]), *(Decimal(str(v)) for v in r[1:6])] for r in rows],
        "markers": markers[-NEWEST:],
        "lines": {k: sums.dec(position.get(k)) if is_open else None for k in ("entry_price", "stop_loss", "take_profit")},
        "error": error if not rows else None,
        "as_of": wall_ms(),
    }


def stored(watch: Watch, state: BotState, mode: str, symbol: str, timeframe: str, limit: int) -> list[Any]:
    """Candles from the shared store, for when the exchange can't be asked."""
    if not watch.files.exists("data/history.db"):
        return []
    told = (state.status or {}).get("venue") or (state.position or {}).get("venue") or {}
    try:
        venue = Venue(**told) if told else Venue(mode=mode)  # type: ignore[arg-type]
        with contextlib.closing(CandleStore(watch.files.path("data/history.db"))) as store:
            return store.read(venue, symbol, timeframe, limit)
    except (TypeError, sqlite3.Error, BotyardError):
        return []
