"""What the guards need to know of every bot, read from its own files. Owns no file.

Position files are read again only when they changed, journals of fills from where the last
look ended: a look at a hundred bots costs their `stat`s. What can't be read is named in
`problem`, never guessed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.account import ledger, pots
from core.account.claims import POSITION_SCHEMA
from core.errors import BotyardError
from core.model import TERMINAL, ZERO, Venue
from core.storage import Files, loads

RECORDS = "active_bots.json"
FIRST_READ = 4 << 20  # bytes of a journal's end that a first look reads
KEEP_TRADES = 2000
_ENTERING = ("entry", "safety")


@dataclass(frozen=True, slots=True)
class Trade:
    """A position from its first fill on. `profit` in the quote asset, fees included; `*_wall` is when it was booked (ms)."""

    ident: str
    profit: Decimal
    opened_ms: int
    opened_wall: int
    last_wall: int


@dataclass(frozen=True, slots=True)
class Member:
    """One bot. `ident` says which market and quote asset its numbers belong to; `realised` is the profit of its
    closed trades; `trades` lists the closed ones, `opened` all, oldest first. `problem`: its file can't be read."""

    bot_id: int
    mode: str = "paper"
    account: str = "main"
    quote: str | None = None
    base: str = ""
    symbol: str = ""
    direction: str | None = None
    owned: Decimal = ZERO
    cash: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    entering: bool = False  # an order that buys is on its way or rests
    next_order: int = 1
    amount: Decimal | None = None  # what its owner gave it, less profit that he took out; quote asset
    ident: str = ""
    trades: tuple[Trade, ...] = ()
    opened: tuple[Trade, ...] = ()
    problem: str = ""
    history_problem: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def account_scope(self) -> str | None:
        return account_scope(self.mode, self.account, self.quote) if self.quote else None

    def value(self, price: Decimal | None) -> Decimal | None:
        """Profit since the bot's first trade, open position at `price` included; None where the price is needed and missing."""
        if self.direction is None:
            return self.realised
        return None if price is None else self.realised + self.cash + self.owned * price

    def capital(self, value: Decimal) -> Decimal:
        """The bot's pot: what it was given and what it made; never less than what its open position cost."""
        return max((self.amount if self.amount is not None else self.cost) + value, self.cost)


def account_scope(mode: str, account: str, quote: str) -> str:
    return f"{mode}/{account}/{quote}"


def bot_scope(bot_id: int) -> str:
    return f"bot_{bot_id}"


@dataclass
class _Open:
    """A trade while its fills are being added up."""

    ident: str
    cash: Decimal = ZERO
    opened_ms: int = 0
    opened_wall: int = 0
    last_wall: int = 0
    coins: Decimal = ZERO  # bought so far, and what they cost
    spent: Decimal = ZERO

    def add(self, row: Mapping[str, Any], base: str, quote: str) -> None:
        amount, fee = Decimal(row["quote"]), Decimal(row["fee"])
        if row["side"] == "BUY":
            self.coins, self.spent = self.coins + Decimal(row["quantity"]), self.spent + amount
        elif _written_off(row) and self.coins:
            amount = self.spent / self.coins * Decimal(row["quantity"])
        self.cash += amount if row["side"] == "SELL" else -amount
        if row["fee_asset"] == quote:
            self.cash -= fee
        elif row["fee_asset"] != base and row.get("fee_quote") is not None:
            self.cash -= Decimal(row["fee_quote"])
        when, wall = int(row["time_ms"]), int(row.get("wall_ms") or 0)
        self.opened_ms = when if not self.opened_ms else min(self.opened_ms, when)
        self.opened_wall = wall if not self.opened_wall else min(self.opened_wall, wall)
        self.last_wall = max(self.last_wall, wall)

    def done(self) -> Trade:
        return Trade(self.ident, self.cash, self.opened_ms, self.opened_wall, self.last_wall)


class _Journal:
    """One bot's trades, added up from its journal as it grows."""

    def __init__(self, files: Files, name: str):
        self.files, self.name = files, name
        self._lives = 0
        self._clear()

    @property
    def version(self) -> tuple[int, int]:
        """Another one whenever something else may be told."""
        return self._lives, -1 if self.cursor is None else self.cursor

    def _clear(self) -> None:
        self._lives += 1
        self.cursor: int | None = None
        self.trades: dict[int, _Open] = {}
        self.recent: deque[tuple[str, str]] = deque(maxlen=500)
        self.problem = ""

    def read(self) -> None:
        """Everything new; a line that can't be read is told in `problem` until the file is another."""
        try:
            size = self.files.path(self.name).stat().st_size
        except FileNotFoundError:
            self._clear()
            return
        if self.cursor is not None and size < self.cursor:
            self._clear()
        if self.cursor == size:
            return
        try:
            if self.cursor is None:
                lines, self.cursor = self.files.tail(self.name, 1_000_000, FIRST_READ)
                self._take(lines)
            while self.cursor < size:
                lines, after = self.files.read_from(self.name, self.cursor, FIRST_READ)
                if after == self.cursor:
                    break  # its last line is still being written
                self.cursor = after
                self._take(lines)
        except OSError as e:
            self._clear()
            self.problem = f"{self.name} can't be read ({e.strerror or e})"

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            try:
                row = loads(line)
                self._add(self.trades, row)
                self.recent.append((str(row["client_id"]), str(row["trade_id"])))
            except (ValueError, KeyError, TypeError, ArithmeticError) as e:
                self.problem = f"a line of {self.name} can't be read ({e}): correct it or restore the file from a backup"
        while len(self.trades) > KEEP_TRADES:
            del self.trades[next(iter(self.trades))]

    @staticmethod
    def _add(trades: dict[int, _Open], row: Mapping[str, Any]) -> None:
        number, quote = int(row["trade"]), str(row["quote_asset"])
        ident = _ident(Venue(**row["venue"]), quote)
        if number not in trades:
            trades[number] = _Open(ident)
        trades[number].add(row, str(row["base"]), quote)

    def told(self, position: Mapping[str, Any], ident: str) -> tuple[tuple[Trade, ...], tuple[Trade, ...]]:
        """(closed trades, all trades), with the fills that the position file has and the journal not yet."""
        trades = self.trades
        late = [f for f in position.get("unjournaled") or () if (str(f["client_id"]), str(f["trade_id"])) not in self.recent]
        if late:
            trades = {n: replace(t) for n, t in trades.items()}
            for fill in late:
                self._add(trades, {**fill, "venue": position["venue"], "base": position["base"], "quote_asset": position["quote"]})
        open_now = int(position["trade"]) if position["position"] is not None else None
        mine = [(n, t.done()) for n, t in trades.items() if t.ident == ident]
        return tuple(t for n, t in mine if n != open_now), tuple(t for _, t in mine)


def _ident(venue: Venue, quote: str) -> str:
    return f"{venue.key()}/{quote}"


@dataclass
class _Cached:
    signature: tuple[int, int, int] | None
    value: dict[str, Any] | None = None
    problem: str = ""


class Members:
    """All bots of a home, as their files have them at each `read`. Not shared between threads."""

    def __init__(self, files: Files):
        self.files = files
        self._positions: dict[int, _Cached] = {}
        self._journals: dict[int, _Journal] = {}
        self._records: _Cached | None = None
        self._made: dict[int, tuple[Any, Any, Any, tuple[int, int], Member]] = {}
        self.records_problem = ""

    def read(self, told: Mapping[int, tuple[str, Decimal]] | None = None, only: Iterable[int] | None = None) -> dict[int, Member]:
        """Every bot by id, or those of `only`. `told`: quote asset and amount of bots that have no position file or no record."""
        records = self._read_records()
        ids = set(only) if only is not None else {*records, *self._listed()}
        return {bot_id: self._member(bot_id, records.get(bot_id), (told or {}).get(bot_id)) for bot_id in sorted(ids)}

    def _listed(self) -> set[int]:
        found = set()
        with os.scandir(self.files.home) as entries:
            for entry in entries:
                middle = entry.name[4:-14] if entry.name.startswith("bot_") and entry.name.endswith("_position.json") else ""
                if middle.isascii() and middle.isdigit():
                    found.add(int(middle))
        return found

    def _read_records(self) -> dict[int, Mapping[str, Any]]:
        self._records = self._fresh(RECORDS, self._records, lambda: {"list": self.files.read_any(RECORDS) or []})
        self.records_problem = self._records.problem
        listed = (self._records.value or {}).get("list", [])
        if not isinstance(listed, list):
            self.records_problem = f"{RECORDS} holds no list of bots"
            return {}
        return {r["id"]: r for r in listed if isinstance(r, dict) and isinstance(r.get("id"), int)}

    def _fresh(self, name: str, before: _Cached | None, read: Any) -> _Cached:
        signature = _signature(self.files.path(name))
        if before is not None and before.signature == signature and signature is not None and not before.problem:
            return before
        try:
            return _Cached(signature, read())
        except (BotyardError, OSError) as e:
            return _Cached(signature, None, str(e))

    def _member(self, bot_id: int, record: Mapping[str, Any] | None, told: tuple[str, Decimal] | None) -> Member:
        name = f"bot_{bot_id}_position.json"
        cached = self._positions[bot_id] = self._fresh(name, self._positions.get(bot_id), lambda: self.files.read_json(name, schema=POSITION_SCHEMA))
        given, (quote, amount) = record or {}, told or (None, None)
        known: dict[str, Any] = {
            "mode": str(given.get("mode") or "paper"),
            "account": str(given.get("account") or "main"),
            "symbol": str(given.get("symbol") or ""),
            "quote": quote,
            "limits": given.get("limits") or {},
        }
        try:
            known["amount"] = amount if given.get("trade_amount") is None else Decimal(str(given["trade_amount"]))
            if cached.problem:
                return Member(bot_id, problem=cached.problem, **known)
            if cached.value is None:
                ident = f"{known['mode']}/{known['account']}/{quote}" if quote else ""
                return Member(bot_id, ident=ident, **known)
            journal = self._journals.setdefault(bot_id, _Journal(self.files, f"bot_{bot_id}_fills.jsonl"))
            journal.read()
            made = self._made.get(bot_id)
            # Files that did not change are the same objects as before.
            if made is not None and made[0] is cached.value and made[1] is record and made[2:4] == (told, journal.version):
                return made[4]
            member = _from_position(bot_id, cached.value, journal, {**known, "record": given})
            self._made[bot_id] = (cached.value, record, told, journal.version, member)
            return member
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            return Member(bot_id, problem=f"{name} or the bot's record can't be right ({type(e).__name__}: {e})", **{**known, "amount": None})


def _from_position(bot_id: int, value: Mapping[str, Any], journal: _Journal, known: dict[str, Any]) -> Member:
    venue, base, quote = Venue(**value["venue"]), str(value["base"]), str(value["quote"])
    direction, fills = value["position"], value["fills"]
    owned = cash = cost = bought = spent = ZERO
    enters = "SELL" if direction == "SHORT" else "BUY"
    for f in fills:
        quantity, amount, fee = Decimal(f["quantity"]), Decimal(f["quote"]), Decimal(f["fee"])
        if f["side"] == "BUY":
            bought, spent = bought + quantity, spent + amount
        elif _written_off(f) and bought:
            amount = spent / bought * quantity
        owned += quantity if f["side"] == "BUY" else -quantity
        cash += amount if f["side"] == "SELL" else -amount
        cost += amount if f["side"] == enters else ZERO
        if f["fee_asset"] == base:
            owned -= fee
        elif f["fee_asset"] == quote:
            cash -= fee
        elif f.get("fee_quote") is not None:
            cash -= Decimal(f["fee_quote"])
    realised = Decimal((value.get("totals") or {}).get("profit", 0))
    if not all(n.is_finite() for n in (owned, cash, cost, realised)):
        raise ValueError("a number in it is not finite")
    ident = _ident(venue, quote)
    closed, opened = journal.told(value, ident)
    entering = any(o["role"] in _ENTERING and o["status"] not in TERMINAL for o in value["orders"])
    if known.get("amount") is not None:
        known["amount"] -= pots.paid_out(known["record"], value)
    given = {**{k: v for k, v in known.items() if k != "record"}, "mode": venue.mode, "account": venue.account, "symbol": str(value["symbol"]), "quote": quote}
    return Member(
        bot_id,
        base=base,
        direction=direction,
        owned=owned,
        cash=cash,
        cost=cost if direction is not None else ZERO,
        realised=realised,
        entering=entering,
        next_order=int(value["next_order"]),
        ident=ident,
        trades=closed,
        opened=opened,
        history_problem=journal.problem,
        **given,
    )


def _written_off(row: Mapping[str, Any]) -> bool:
    """Coins that left without a trade (core/bot/reconcile.py): their owner moved them, which is nobody's loss."""
    return str(row["trade_id"]).startswith(ledger.WRITTEN_OFF)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
