"""A bot's append-only files: `bot_N_fills.jsonl` (a line a fill) and `bot_N_decisions.jsonl`.

The fills are the bot's books: for every asset, wallet = baseline + the sum over all
journals. A fill reaches the journal after the position file lists it as not yet
journaled; a death in between is mended at the next start, by trade id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from core.errors import StateError
from core.model import Fill, Position
from core.storage import Files, loads

SCHEMA = 1
# Only fills that the position file still lists can be missing or doubled; they are among the last.
_LOOK_BACK = 2000


def fills_name(bot_id: int) -> str:
    return f"bot_{bot_id}_fills.jsonl"


def decisions_name(bot_id: int) -> str:
    return f"bot_{bot_id}_decisions.jsonl"


def fill_row(position: Position, fill: Fill) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "bot_id": position.bot_id,
        "venue": asdict(position.venue),
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "client_id": fill.client_id,
        "symbol": fill.symbol,
        "base": position.base,
        "quote_asset": position.quote,
        "side": fill.side,
        "price": fill.price,
        "quantity": fill.quantity,
        "quote": fill.quote,
        "fee": fill.fee,
        "fee_asset": fill.fee_asset,
        "fee_quote": fill.fee_quote,
        "time_ms": fill.time_ms,
        "wall_ms": fill.wall_ms,
        "maker": fill.maker,
        "role": fill.role,
        "tag": fill.tag,
        "trade": fill.trade,
        "strategy": {"key": position.strategy.key, "version": position.strategy.version},
    }


def last_fills(files: Files, bot_id: int) -> set[tuple[str, str]]:
    """(client id, trade id) of a journal's last whole lines. StateError where one can't be read."""
    name = fills_name(bot_id)
    lines, _ = files.tail(name, _LOOK_BACK, limit=4 << 20)
    try:
        return {(str(row["client_id"]), str(row["trade_id"])) for row in map(loads, lines)}
    except (ValueError, KeyError, TypeError) as e:
        remedy = "Restore the file from a backup, or correct that line by hand."
        raise StateError(files.path(name), f"one of its last lines can't be read ({e})", remedy) from e


class Journal:
    def __init__(self, files: Files, bot_id: int):
        self.files, self.bot_id = files, bot_id
        self._there: set[tuple[str, str]] | None = None  # (client id, trade id) of the last lines; None: to be read

    def open(self) -> None:
        """At a start: cut last lines that a death left torn."""
        self.files.cut_torn_line(fills_name(self.bot_id))
        self.files.cut_torn_line(decisions_name(self.bot_id))

    def append_fills(self, position: Position, fills: Iterable[Fill]) -> int:
        """Append the fills that aren't there yet; how many. Told twice (a death, a failed
        write, a restored copy of the position file), a fill is written once."""
        there = self._read() if self._there is None else self._there
        self._there = None  # until it is known how this ends: a write that failed may have left its line, or half of it
        written = 0
        for fill in fills:
            if (fill.client_id, fill.trade_id) not in there:
                self.files.append_line(fills_name(self.bot_id), fill_row(position, fill), durable=True)
                there.add((fill.client_id, fill.trade_id))
                written += 1
        self._there = there
        return written

    def has(self, client_id: str, trade_id: str) -> bool:
        """Whether this fill is among the last lines."""
        if self._there is None:
            self._there = self._read()
        return (client_id, trade_id) in self._there

    def _read(self) -> set[tuple[str, str]]:
        self.files.cut_torn_line(fills_name(self.bot_id))
        return last_fills(self.files, self.bot_id)

    def catch_up(self, position: Position) -> int:
        """Journal the fills that the position lists as missing and that aren't there; how many."""
        return self.append_fills(position, position.unjournaled) if position.unjournaled else 0

    def append_decision(self, row: dict[str, Any]) -> None:
        self.files.append_line(decisions_name(self.bot_id), {"schema": SCHEMA, **row}, durable=False)

    def last_decision(self) -> dict[str, Any] | None:
        lines, _ = self.files.tail(decisions_name(self.bot_id), 1)
        return loads(lines[0]) if lines else None
