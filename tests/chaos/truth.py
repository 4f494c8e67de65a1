"""What really happened, by the paper exchange's own database: read beside it, never written, also while it is down."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.bot.ids import owner_of

ZERO = Decimal(0)
STOPS = ("STOP_LOSS", "STOP_LOSS_LIMIT")
_ORDER = "id, symbol, client_id, side, kind, status, quantity, executed, stop_price, list_id"
_FILL = "f.id, f.order_id, f.symbol, f.side, f.price, f.quantity, f.quote, f.fee, f.fee_asset, o.client_id"


@dataclass(frozen=True, slots=True)
class Ordered:
    id: int
    symbol: str
    client_id: str
    side: str
    kind: str
    status: str
    quantity: Decimal
    executed: Decimal
    stop_price: Decimal
    list_id: int


@dataclass(frozen=True, slots=True)
class Filled:
    id: int
    order_id: int
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    quote: Decimal
    fee: Decimal
    fee_asset: str
    client_id: str

    def base_change(self, base: str) -> Decimal:
        change = self.quantity if self.side == "BUY" else -self.quantity
        return change - (self.fee if self.fee_asset == base else ZERO)


@dataclass(slots=True)
class Holding:
    """What a bot owns by the exchange's fills, of the coin of its symbol, and that coin's last price."""

    owned: Decimal = ZERO
    price: Decimal = ZERO

    @property
    def worth(self) -> Decimal:
        return self.owned * self.price


@dataclass
class Truth:
    """`bases` is each symbol's base asset; `installation` the yard's name in client order ids."""

    path: Path
    bases: dict[str, str]
    installation: str
    holdings: dict[int, Holding] = field(default_factory=lambda: defaultdict(Holding))
    _last_fill: int = 0
    _db: sqlite3.Connection | None = None

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows; none while there is no database yet."""
        try:
            if self._db is None:
                if not self.path.exists():
                    return []
                self._db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=5, check_same_thread=False)
            return self._db.execute(sql, tuple(values)).fetchall()
        except sqlite3.OperationalError:
            if self._db is not None:
                self._db.close()
            self._db = None  # just being made, or its shared memory went with its writer: opened anew
            return []

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def orders(self, where: str = "1 = 1") -> list[Ordered]:
        rows = self._rows(f"SELECT {_ORDER} FROM orders WHERE {where} ORDER BY id")
        return [Ordered(r[0], r[1], r[2], r[3], r[4], r[5], Decimal(r[6]), Decimal(r[7]), Decimal(r[8]), r[9]) for r in rows]

    def open_orders(self) -> list[Ordered]:
        return self.orders("status IN ('NEW', 'PARTIALLY_FILLED')")

    def fills(self, after: int = 0) -> list[Filled]:
        rows = self._rows(f"SELECT {_FILL} FROM fills f JOIN orders o ON o.id = f.order_id WHERE f.id > ? ORDER BY f.id", (after,))
        return [Filled(r[0], r[1], r[2], r[3], Decimal(r[4]), Decimal(r[5]), Decimal(r[6]), Decimal(r[7]), r[8], r[9]) for r in rows]

    def follow(self) -> None:
        """Bring `holdings` up to the last fill."""
        for fill in self.fills(self._last_fill):
            self._last_fill = fill.id
            bot = owner_of(fill.client_id, self.installation)
            if bot is not None:
                holding = self.holdings[bot]
                holding.owned += fill.base_change(self.bases[fill.symbol])
                holding.price = fill.price

    def count_orders(self) -> int:
        rows = self._rows("SELECT count(*) FROM orders")
        return int(rows[0][0]) if rows else 0
