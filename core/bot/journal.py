"""A bot's append-only files: `bot_N_fills.jsonl` (a line a fill) and `bot_N_decisions.jsonl`.

The fills are the bot's books: for every asset, wallet = baseline + the sum over all
journals. A fill reaches the journal after the position file lists it as not yet
journaled; a death in between is mended at the next start, by trade id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

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
        "time_ms": fill.time_ms,
        "wall_ms": fill.wall_ms,
        "maker": fill.maker,
        "role": fill.role,
        "tag": fill.tag,
        "trade": fill.trade,
        "strategy": {"key": position.strategy.key, "version": position.strategy.version},
    }


class Journal:
    def __init__(self, files: Files, bot_id: int):
        self.files, self.bot_id = files, bot_id

    def open(self) -> None:
        """At a start: cut last lines that a death left torn."""
        self.files.cut_torn_line(fills_name(self.bot_id))
        self.files.cut_torn_line(decisions_name(self.bot_id))

    def append_fills(self, position: Position, fills: Iterable[Fill]) -> None:
        for fill in fills:
            self.files.append_line(fills_name(self.bot_id), fill_row(position, fill), durable=True)

    def catch_up(self, position: Position) -> int:
        """Journal the fills that the position lists as missing and that aren't there; how many."""
        if not position.unjournaled:
            return 0
        lines, _ = self.files.tail(fills_name(self.bot_id), _LOOK_BACK, limit=4 << 20)
        there = {(row["client_id"], row["trade_id"]) for row in map(loads, lines)}
        missing = [f for f in position.unjournaled if (f.client_id, f.trade_id) not in there]
        self.append_fills(position, missing)
        return len(missing)

    def append_decision(self, row: dict[str, Any]) -> None:
        self.files.append_line(decisions_name(self.bot_id), {"schema": SCHEMA, **row}, durable=False)

    def last_decision(self) -> dict[str, Any] | None:
        lines, _ = self.files.tail(decisions_name(self.bot_id), 1)
        return loads(lines[0]) if lines else None
