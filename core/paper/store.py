"""What the paper exchange must not lose: accounts, balances, orders, order lists, fills. Owns data/paper/paper.db.

SQLite in WAL mode. Every change of one request goes into one transaction, committed
before the answer leaves: after a kill the database holds all that was acknowledged, and
whole requests only. `synchronous=NORMAL` keeps that promise against a killed process;
after a power cut the last moments may be missing, never half of them.

Money is kept as text in plain digits, times as market ms. In memory live the accounts, the
open orders and the open lists only; what is finished is read when asked for. An older
schema is brought up to date at the start.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.errors import StateError
from core.model import ZERO

SCHEMA = 2
OPEN_STATES = ("NEW", "PARTIALLY_FILLED")


@dataclass(slots=True)
class Holding:
    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True)
class Account:
    """One account. `maker` and `taker` are rates (0.001 is 0.1 %), `updated_ms` market time. `bnb_fees`: fees are paid in BNB while it suffices."""

    name: str
    api_key: str
    api_secret: str
    maker: Decimal
    taker: Decimal
    uid: int
    updated_ms: int = 0
    bnb_fees: bool = False
    balances: dict[str, Holding] = field(default_factory=dict)

    def holding(self, asset: str) -> Holding:
        found = self.balances.get(asset)
        if found is None:
            found = self.balances[asset] = Holding()
        return found


@dataclass(slots=True)
class PaperOrder:
    """One order, finished or not. Times are market ms; prices and quantities in quote and base asset.

    `locked` is what it still holds (quote for a buy, base for a sale); of two orders in a
    list one holds it for both. `working_ms` is -1 until a stop has triggered. `fraction`: a
    fault lets its first fill take only this part. `since_ms`: prints up to here can't fill it.
    """

    id: int
    account: str
    symbol: str
    client_id: str
    side: str
    kind: str
    life: str
    price: Decimal
    quantity: Decimal
    quote_quantity: Decimal
    time_ms: int
    update_ms: int
    working_ms: int
    status: str = "NEW"
    executed: Decimal = ZERO
    executed_quote: Decimal = ZERO
    locked: Decimal = ZERO
    stop_price: Decimal = ZERO
    iceberg: Decimal = ZERO
    list_id: int = -1
    strategy_id: int | None = None
    strategy_type: int | None = None
    stp: str = "EXPIRE_MAKER"
    expiry_reason: str | None = None
    fraction: Decimal | None = None
    since_ms: int = 0

    @property
    def open(self) -> bool:
        return self.status in OPEN_STATES

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.executed


@dataclass(slots=True)
class PaperFill:
    """One execution."""

    id: int
    order_id: int
    account: str
    symbol: str
    side: str
    price: Decimal
    quantity: Decimal
    quote: Decimal
    fee: Decimal
    fee_asset: str
    time_ms: int
    maker: bool
    list_id: int = -1


@dataclass(slots=True)
class PaperList:
    """Orders that are one another's end: when one trades or triggers, the other expires. Times are market ms.

    Binance's two states of a list are one here: EXEC_STARTED and EXECUTING until all of it
    is `done`, then ALL_DONE and ALL_DONE.
    """

    id: int
    account: str
    symbol: str
    client_id: str
    time_ms: int
    done: bool = False


_ORDER = [f.name for f in fields(PaperOrder)]
_FILL = [f.name for f in fields(PaperFill)]
_LIST = [f.name for f in fields(PaperList)]
_MONEY = frozenset({"price", "quantity", "quote_quantity", "executed", "executed_quote", "locked", "stop_price", "iceberg", "fraction", "quote", "fee"})
_ORDER_MONEY = [i for i, name in enumerate(_ORDER) if name in _MONEY]
_MAKER = _FILL.index("maker")
_FILL_MONEY = [i for i, name in enumerate(_FILL) if name in _MONEY]
_PUT_ORDER = f"INSERT OR REPLACE INTO orders ({', '.join(_ORDER)}) VALUES ({', '.join('?' * len(_ORDER))})"  # noqa: S608 - the names are ours
_PUT_LIST = f"INSERT OR REPLACE INTO lists ({', '.join(_LIST)}) VALUES ({', '.join('?' * len(_LIST))})"  # noqa: S608
_GET_LIST = f"SELECT {', '.join(_LIST)} FROM lists "  # noqa: S608
_PUT_FILL = f"INSERT INTO fills ({', '.join(_FILL)}) VALUES ({', '.join('?' * len(_FILL))})"  # noqa: S608
_GET_ORDER = f"SELECT {', '.join(_ORDER)} FROM orders "  # noqa: S608
_GET_FILL = f"SELECT {', '.join(_FILL)} FROM fills "  # noqa: S608


def _columns(names: Iterable[str]) -> str:
    whole = {"time_ms", "update_ms", "working_ms", "since_ms", "order_id", "list_id", "strategy_id", "strategy_type", "maker", "done"}
    return ", ".join("id INTEGER PRIMARY KEY" if n == "id" else f"{n} INTEGER" if n in whole else f"{n} TEXT" for n in names)


_LISTS = f"""
CREATE TABLE lists ({_columns(_LIST)});
CREATE INDEX lists_by_client ON lists (account, client_id, id);
CREATE INDEX lists_open ON lists (done) WHERE done = 0;
CREATE INDEX orders_by_list ON orders (list_id) WHERE list_id >= 0;
"""
_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE accounts (name TEXT PRIMARY KEY, api_key TEXT UNIQUE, api_secret TEXT, maker TEXT, taker TEXT, uid INTEGER, updated_ms INTEGER,
                       bnb_fees INTEGER);
CREATE TABLE balances (account TEXT, asset TEXT, free TEXT, locked TEXT, PRIMARY KEY (account, asset)) WITHOUT ROWID;
CREATE TABLE transfers (id INTEGER PRIMARY KEY, account TEXT, asset TEXT, amount TEXT, time_ms INTEGER);
CREATE TABLE orders ({_columns(_ORDER)});
CREATE INDEX orders_by_symbol ON orders (account, symbol, id);
CREATE INDEX orders_by_client ON orders (account, symbol, client_id, id);
CREATE INDEX orders_by_time ON orders (account, symbol, time_ms);
CREATE INDEX orders_open ON orders (status) WHERE status IN ('NEW', 'PARTIALLY_FILLED');
CREATE TABLE fills ({_columns(_FILL)});
CREATE INDEX fills_by_symbol ON fills (account, symbol, id);
CREATE INDEX fills_by_order ON fills (order_id);
CREATE INDEX fills_by_time ON fills (account, symbol, time_ms);
{_LISTS}
"""
# What makes a schema out of the one before it.
_STEPS = {
    1: f"ALTER TABLE accounts ADD COLUMN bnb_fees INTEGER NOT NULL DEFAULT 0; ALTER TABLE fills ADD COLUMN list_id INTEGER NOT NULL DEFAULT -1; {_LISTS}",
}


def _row(item: Any, names: list[str]) -> list[Any]:
    values = [getattr(item, n) for n in names]
    return [format(v, "f") if type(v) is Decimal else int(v) if type(v) is bool else v for v in values]


class Store:
    """The database. Writes gather in one transaction until `commit`; nothing else is told apart."""

    def __init__(self, path: Path | None):
        self.path = path
        try:
            self._db = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None, check_same_thread=False, timeout=2.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise StateError(path, "it is a database, but none of the paper exchange", "Move it away; a new one is made at the next start.")
                self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
            elif version > SCHEMA:
                remedy = "Update Botyard, or move the file away to begin a new market."
                raise StateError(path, f"it is of schema {version}, this Botyard knows {SCHEMA}", remedy)
            for old in range(version or SCHEMA, SCHEMA):
                self._db.executescript(f"BEGIN; {_STEPS[old]} PRAGMA user_version={old + 1}; COMMIT;")
        except sqlite3.Error as e:
            raise StateError(path, f"it can't be read ({e})", "Restore it from a backup, or move it away to begin a new paper market.") from e
        self._writing = False

    # --- transactions ----------------------------------------------------------------

    def write(self, sql: str, values: Iterable[Any] = ()) -> None:
        if not self._writing:
            self._db.execute("BEGIN IMMEDIATE")
            self._writing = True
        self._db.execute(sql, tuple(values))

    @property
    def dirty(self) -> bool:
        return self._writing

    def commit(self) -> None:
        if self._writing:
            self._db.execute("COMMIT")
            self._writing = False

    def rollback(self) -> None:
        if self._writing:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            self._writing = False

    def close(self) -> None:
        self.rollback()
        self._db.close()

    # --- what is written ---------------------------------------------------------------

    def set_meta(self, name: str, value: str) -> None:
        self.write("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def meta(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, value FROM meta"))

    def put_account(self, a: Account) -> None:
        self.write(
            "INSERT OR REPLACE INTO accounts (name, api_key, api_secret, maker, taker, uid, updated_ms, bnb_fees) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (a.name, a.api_key, a.api_secret, format(a.maker, "f"), format(a.taker, "f"), a.uid, a.updated_ms, int(a.bnb_fees)),
        )

    def put_balance(self, account: str, asset: str, h: Holding) -> None:
        values = (account, asset, format(h.free, "f"), format(h.locked, "f"))
        self.write("INSERT OR REPLACE INTO balances (account, asset, free, locked) VALUES (?, ?, ?, ?)", values)

    def put_transfer(self, account: str, asset: str, amount: Decimal, time_ms: int) -> None:
        self.write("INSERT INTO transfers (account, asset, amount, time_ms) VALUES (?, ?, ?, ?)", (account, asset, format(amount, "f"), time_ms))

    def put_order(self, order: PaperOrder) -> None:
        self.write(_PUT_ORDER, _row(order, _ORDER))

    def put_fill(self, fill: PaperFill) -> None:
        self.write(_PUT_FILL, _row(fill, _FILL))

    def put_list(self, order_list: PaperList) -> None:
        self.write(_PUT_LIST, _row(order_list, _LIST))

    def wipe(self) -> None:
        """Everything but the table's shapes, in the transaction of a reset."""
        for table in ("accounts", "balances", "transfers", "orders", "lists", "fills", "meta"):
            self.write(f"DELETE FROM {table}")  # noqa: S608

    # --- what is read ------------------------------------------------------------------

    def accounts(self) -> list[Account]:
        found = {
            row[0]: Account(row[0], row[1], row[2], Decimal(row[3]), Decimal(row[4]), row[5], row[6], bool(row[7]))
            for row in self._db.execute("SELECT name, api_key, api_secret, maker, taker, uid, updated_ms, bnb_fees FROM accounts ORDER BY uid")
        }
        for account, asset, free, locked in self._db.execute("SELECT account, asset, free, locked FROM balances ORDER BY account, asset"):
            found[account].balances[asset] = Holding(Decimal(free), Decimal(locked))
        return list(found.values())

    def orders(self, where: str, values: Iterable[Any] = (), tail: str = "") -> list[PaperOrder]:
        return [_order(row) for row in self._db.execute(f"{_GET_ORDER} WHERE {where} {tail}", tuple(values))]

    def open_orders(self) -> list[PaperOrder]:
        return self.orders("status IN ('NEW', 'PARTIALLY_FILLED')", tail="ORDER BY id")

    def fills(self, where: str, values: Iterable[Any] = (), tail: str = "") -> list[PaperFill]:
        return [_fill(row) for row in self._db.execute(f"{_GET_FILL} WHERE {where} {tail}", tuple(values))]

    def lists(self, where: str, values: Iterable[Any] = (), tail: str = "") -> list[PaperList]:
        rows = self._db.execute(f"{_GET_LIST} WHERE {where} {tail}", tuple(values))
        return [PaperList(number, account, symbol, client_id, time_ms, bool(done)) for number, account, symbol, client_id, time_ms, done in rows]

    def legs(self, list_id: int) -> list[PaperOrder]:
        """The orders of a list, oldest first."""
        return self.orders("list_id = ?", (list_id,), "ORDER BY id")

    def last_ids(self) -> tuple[int, int, int]:
        """The highest id of an order, a fill and a list; 0 for none."""
        order, fill, order_list = (self._db.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0 for table in ("orders", "fills", "lists"))  # noqa: S608
        return order, fill, order_list


def _order(row: tuple[Any, ...]) -> PaperOrder:
    values = list(row)
    for i in _ORDER_MONEY:
        if values[i] is not None:
            values[i] = Decimal(values[i])
    return PaperOrder(*values)


def _fill(row: tuple[Any, ...]) -> PaperFill:
    values = list(row)
    for i in _FILL_MONEY:
        values[i] = Decimal(values[i])
    values[_MAKER] = bool(values[_MAKER])
    return PaperFill(*values)
