"""After a restore: what the exchange knows and the bot's files don't, before anything is bought.

The files of a backup are older than the account: the bot that they were copied from went on
trading. `CatchUp` asks for all orders of this bot (their ids name it) since shortly before the
copy was made, and folds those that the position doesn't know, in the order in which they
happened: entries, exits, the pair at the exchange, every fill by its trade id. Position, stop,
journal, totals and next order number become what they were on the other machine. What the
exchange never saw (memo, exits' reasons, what an owner booked by hand) is not brought back.

Owns data/restored.json together with core/fleet/restore.py, which writes it first:
`{"schema", "backup_wall_ms", "restored_wall_ms", "bots": {id: "to do"}, "since_ms": {id: market ms|null},
"done": {id: {"wall_ms", "market_ms", "orders", "fills"}}}`. An entry is struck off after the
position file was written, so that a death in between does it again, to the same end. A
position file that is older than its own journal (somebody put an old copy back) is caught up alike.

Afterwards it looks for a twin: another yard of the same installation that still trades. Each
order takes a number that its position file never gives again, so a number that is not ours yet,
or one that two ids carry, is somebody else's doing. Then nothing is bought.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core.bot import decisions
from core.bot.execution import Executor
from core.bot.ids import number_of, owner_of, wall_ms_of
from core.bot.journal import fills_name
from core.bot.position import name as position_name
from core.bot.replay import AfterFills, Said, role_of, steps, take, unknown_orders
from core.errors import AccessRefused, ExchangeError, OrderNotFound, RateLimited, StateError, Unavailable
from core.market import timeframes
from core.model import REJECTED, SENDING, ZERO, Fill, Position, Role, Update
from core.storage import Files, loads

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

FILE = "data/restored.json"
LOCK = "data/restored.lock"
SCHEMA = 1
TO_DO = "to do"
MARGIN_MS = 60_000  # asked for from so long before the copy
BATCH = 400  # fills a write of the position file: a start must find all that it lists among the journal's last lines
TWIN_WATCH_MS = 7 * 86_400_000  # so long after a restore the other yard is looked for
TWIN_EVERY_MS = 300_000

# --- the file ------------------------------------------------------------------------------------


def read(files: Files) -> dict[str, Any]:
    """What a restore left to do; empty where this home was never restored. StateError when it can't be trusted."""
    value = files.read_json(FILE, schema=SCHEMA)
    if value is None:
        return {}
    if not all(isinstance(value.get(k, {}), dict) for k in ("bots", "since_ms", "done")):
        remedy = 'Write {"schema": 1, "bots": {"1": "to do"}} into it, with the number of each bot: each asks the exchange for all its orders then.'
        raise StateError(files.path(FILE), "`bots`, `since_ms` and `done` must be objects", remedy)
    return value


def pending(files: Files) -> list[int]:
    """The bots that were restored and have not caught up with the exchange yet; one that was deleted since has nothing to catch up."""
    waiting = sorted(int(k) for k, v in read(files).get("bots", {}).items() if v == TO_DO and k.isdigit())
    return [n for n in waiting if files.exists(position_name(n)) or n in _listed(files, n)] if waiting else []


def _listed(files: Files, bot_id: int) -> set[int]:
    """The ids in the list of bots; where it can't be read, the one that is asked for."""
    try:
        return {row["id"] for row in files.read_any("active_bots.json") or []}
    except (StateError, TypeError, KeyError):
        return {bot_id}


def _change(files: Files, change: Callable[[dict[str, Any]], None]) -> None:
    with files.lock(LOCK):
        value = read(files) or {"schema": SCHEMA}
        for key in ("bots", "since_ms", "done"):
            value.setdefault(key, {})
        change(value)
        files.write_json(FILE, value)


# --- the bot's hand ---------------------------------------------------------------------------------


class CatchUp:
    """`pending`: the files are behind the exchange; no entry, no new pair until that is mended."""

    def __init__(self, bot: Trader):
        self.bot = bot
        self.pending = False
        self.twin = ""
        self._since: int | None = None
        self._restored = False
        self._watch_ms: int | None = None  # market time from which on every order must be ours
        self._watch_until_wall = self._next_wall = 0
        self._own = ""

    @property
    def _key(self) -> str:
        return str(self.bot.config.bot_id)

    # --- what the trader calls ---

    def at_start(self, own: str, found: Position | None) -> Position | None:
        """Before the file is adopted: catch up if that is due; the position to go on with.

        Raises what the exchange raises while nothing is open: then there is nothing to watch, and
        the start tries again. With a position the bot goes on, watches its stop and tries again."""
        self._own = own
        self._read(found)
        if not self.pending:
            return found
        if found is not None and not _same_market(found, self.bot):
            log.warning("⚠️ The restored file is of %s, this is %s: nothing to catch up with", found.venue.key(), self.bot.exchange.venue.key())
            self._strike(0, 0, self.bot.clock.market_ms())
            return found
        try:
            self._run(found)
        except (AccessRefused, RateLimited):
            raise
        except ExchangeError as e:
            if found is None or found.idle:
                raise
            log.warning("⚠️ Nothing is bought before the books have caught up with the exchange, which failed just now: %s", e)
        return self.bot.store.position or found

    def due(self) -> bool:
        return self.pending or (self._watching() and self.bot.clock.wall_ms() >= self._next_wall)

    def step(self) -> None:
        """The rest of what `at_start` could not do; the look for a twin."""
        if self.pending:
            self._run(self.bot.position, self.bot.executor)
        else:
            self._look_for_twin()

    def block(self) -> str:
        """Why nothing may be bought; asks the exchange for a twin right before an entry."""
        if self.pending:
            return "the books have not caught up with the exchange since they were restored"
        if self._watching() and not self.twin:
            try:
                self._look_for_twin()
            except RateLimited:
                raise
            except ExchangeError as e:
                return f"it can't be asked whether the yard that this one was restored from still trades ({e})"
        return self.twin

    # --- catching up ---

    def _read(self, found: Position | None) -> None:
        told = read(self.bot.files)
        self.pending = self._restored = told.get("bots", {}).get(self._key) == TO_DO
        since = told.get("since_ms", {}).get(self._key)
        self._since = since if isinstance(since, int) else None
        done = told.get("done", {}).get(self._key)
        if isinstance(done, dict) and isinstance(done.get("wall_ms"), int) and isinstance(done.get("market_ms"), int):
            self._watch_ms, self._watch_until_wall = done["market_ms"], done["wall_ms"] + TWIN_WATCH_MS
        if not self.pending and found is not None:
            behind = self._behind_its_journal(found)
            if behind is not None:
                log.warning("⚠️ The position file is older than its own journal: it is caught up with the exchange before anything is bought")
                self.pending, self._since = True, behind or None

    def _behind_its_journal(self, found: Position) -> int | None:
        """Market ms of the last fill that the position knows of (0: of none), None where it knows all that its journal does."""
        lines, _ = self.bot.files.tail(fills_name(found.bot_id), 2000, limit=4 << 20)
        before, behind = 0, False
        try:
            for row in map(loads, lines):
                if owner_of(str(row["client_id"]), self._own) != found.bot_id:
                    continue
                if number_of(str(row["client_id"])) >= found.next_order:
                    behind = True
                else:
                    before = max(before, int(row["time_ms"]) - MARGIN_MS)
        except (ValueError, KeyError, TypeError):
            return None  # the journal itself says so when it is written to
        return max(before, 0) if behind else None

    def _run(self, found: Position | None, running: Executor | None = None) -> None:
        bot, exchange = self.bot, self.bot.exchange
        fresh = found is None
        position = found or Position(bot.config.bot_id, exchange.venue, bot.config.symbol, "", "")
        symbol = exchange.symbol(position.symbol)
        if fresh:
            position = replace(position, base=symbol.base, quote=symbol.quote)
        began = exchange.time().market_ms
        journaled = self._journaled(position)
        told = unknown_orders(position, exchange.orders_since(position.symbol, self._since), self._own, journaled)
        fills = 0

        def after_fills(p: Position, news: tuple[Fill, ...]) -> Position:
            return decisions.after_fills(p, bot.config.plan, symbol.rules, news)

        if told:
            # The market as the file knows it: what is folded in is of the same account.
            bot.store.position = replace(position, venue=exchange.venue)
            executor = running or Executor(
                exchange,
                bot.store,
                bot.journal,
                self._own,
                wall_ms=bot.clock.wall_ms,
                market_ms=bot.clock.market_ms,
                after_fills=after_fills,
                warn=lambda kind, text, severity: bot.teller.warn(kind, text, bot.config, symbol, severity),
            )
            bot.journal.open()
            try:
                fills = self._fold(executor, told, journaled, after_fills)
            except BaseException:
                if bot.store.position is not None and not bot.files.exists(f"bot_{self._key}_position.json"):
                    bot.store.position = None
                raise
        self.pending = False
        if told or self._restored:
            self._strike(len(told), fills, began)
            bot.teller.event(
                "restored", f"{bot.config.name}: caught up with the exchange ({len(told)} orders, {fills} fills since the copy)", bot.config.bot_id, symbol
            )
            log.info("📚 CAUGHT UP with the exchange: %d order(s) and %d fill(s) that the files did not know", len(told), fills)
        bot.status.clear("catchup")

    def _fold(self, executor: Executor, unknown: list[Update], journaled: Said, after_fills: AfterFills) -> int:
        """Into the position, a write for every BATCH of fills; how many fills."""
        position = executor.position
        told = [*self._news_of_known(position, unknown), *unknown]
        fills = self._fills(executor, told)
        others = [u.request for u in unknown if u.request is not None] + [o.request for o in position.orders]
        wall, count = self.bot.clock.wall_ms(), 0
        for step in steps(position, told, fills):
            position = take(position, step, others, journaled, wall, after_fills)
            if len(position.unjournaled) >= BATCH:
                count += len(position.unjournaled)
                executor.write(position)
                position = executor.position
        decided = [u.created_ms for u in unknown if u.request is not None and role_of(position, u.request, others) in ("entry", "exit")]
        if decided:
            # The other machine decided on this candle, at the latest: it is not decided on again.
            frame = self.bot.config.timeframe
            candle = timeframes.floor(timeframes.floor(max(decided), frame) - 1, frame)
            position = replace(position, last_candle_ms=max(candle, position.last_candle_ms or 0))
        count += len(position.unjournaled)
        executor.write(position)
        return count

    def _news_of_known(self, position: Position, unknown: list[Update]) -> list[Update]:
        """What became of the orders that the file has: they and the unknown ones happened in one order."""
        found = []
        for order in position.orders:
            try:
                update = self.bot.exchange.order(position.symbol, order.client_id)
                found.append(replace(update, client_id=order.client_id, created_ms=order.created_ms))
            except OrderNotFound:
                later = [u for u in unknown if number_of(u.client_id) > number_of(order.client_id) and wall_ms_of(u.client_id) != order.wall_created_ms]
                if order.status == SENDING and later and self.bot.exchange.time().server_ms > order.not_found_final_after_ms:
                    # Nothing is sent before an outcome is known: the other machine knew that this one never arrived.
                    found.append(Update(order.client_id, REJECTED, time_ms=later[0].created_ms, created_ms=order.created_ms))
        return found

    def _fills(self, executor: Executor, told: list[Update]) -> dict[str, list[Fill]]:
        """All fills of these orders by client id, with the worth of fees in a third coin. Unavailable while some aren't told."""
        position, exchange = executor.position, self.bot.exchange
        by_order: dict[str, list[Fill]] = defaultdict(list)
        ids = {u.order_id: u.client_id for u in told if u.order_id and u.executed > 0}
        if len(ids) > 5:  # weight 20 for a page of a thousand, 5 for each order alone
            for f in exchange.fills(position.symbol, since_ms=min(u.created_ms for u in told if u.order_id in ids)):
                by_order[f.order_id].append(f)
        sides = {u.client_id: u.request.side for u in told if u.request is not None} | {o.client_id: o.side for o in position.orders}
        found: dict[str, list[Fill]] = {}
        for u in told:
            if u.order_id not in ids:
                continue
            mine = _once(by_order.get(u.order_id, ()), u.order_id, sides[u.client_id])
            if sum((f.quantity for f in mine), ZERO) < u.executed:
                mine = _once(exchange.fills(position.symbol, order_id=u.order_id), u.order_id, sides[u.client_id])
            if sum((f.quantity for f in mine), ZERO) < u.executed:
                raise Unavailable(f"the fills of order {u.client_id} are not all told yet")
            found[u.client_id] = [replace(f, client_id=u.client_id) for f in mine]
        flat = executor.valued(position, tuple(f for fills in found.values() for f in fills))
        worth: dict[tuple[str, str], Decimal | None] = {(f.client_id, f.trade_id): f.fee_quote for f in flat}
        return {own: [replace(f, fee_quote=worth[own, f.trade_id]) for f in fills] for own, fills in found.items()}

    def _journaled(self, position: Position) -> dict[str, tuple[Role, str]]:
        """Role and tag by client id, of every fill that the journal has."""
        rows = self.bot.files.read_lines(fills_name(position.bot_id))
        return {str(r.get("client_id", "")): (r.get("role", "exit"), str(r.get("tag", ""))) for r in rows}

    def _strike(self, orders: int, fills: int, market_ms: int) -> None:
        wall = self.bot.clock.wall_ms()

        def strike(value: dict[str, Any]) -> None:
            value["bots"].pop(self._key, None)
            value["since_ms"].pop(self._key, None)
            value["done"][self._key] = {"wall_ms": wall, "market_ms": market_ms, "orders": orders, "fills": fills}

        self.pending = False
        if self._restored:
            _change(self.bot.files, strike)
            self._watch_ms, self._watch_until_wall, self._next_wall = market_ms, wall + TWIN_WATCH_MS, wall + TWIN_EVERY_MS

    # --- the twin ---

    def _watching(self) -> bool:
        return self._watch_ms is not None and self.bot.clock.wall_ms() < self._watch_until_wall

    def _look_for_twin(self) -> None:
        self._next_wall = self.bot.clock.wall_ms() + TWIN_EVERY_MS
        position = self.bot.position
        seen: dict[int, str] = {}
        foreign = ""
        for u in self.bot.exchange.orders_since(position.symbol, self._watch_ms):
            if owner_of(u.client_id, self._own) != position.bot_id or u.created_ms <= (self._watch_ms or 0):
                continue
            number = number_of(u.client_id)
            if number >= position.next_order or seen.get(number, u.client_id) != u.client_id:
                foreign = u.client_id
            seen[number] = u.client_id
        if not foreign or self.twin:
            return
        self.twin = (
            f"another yard of this installation still trades this account (order {foreign} is not of this bot): "
            "stop that yard for good, then restart this bot, which takes the other's orders into its books"
        )
        self.bot.teller.warn("twin", f"Nothing is bought: {self.twin}", self.bot.config, self.bot.symbol, "risk")

        def again(value: dict[str, Any]) -> None:
            value["bots"][self._key] = TO_DO
            value["since_ms"][self._key] = None if self._watch_ms is None else max(0, self._watch_ms - MARGIN_MS)

        _change(self.bot.files, again)


def _once(fills: Sequence[Fill], order_id: str, side: str) -> list[Fill]:
    """Those of this order, each once."""
    return list({f.trade_id: f for f in fills if (f.order_id, f.side) == (order_id, side)}.values())


def _same_market(found: Position, bot: Trader) -> bool:
    theirs = bot.exchange.venue
    return found.venue.same_account(theirs) and (not found.venue.source or not theirs.source or found.venue.source == theirs.source)
