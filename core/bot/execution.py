"""Orders: written, then sent; unknown outcomes asked for until they are known.

Order of writes around an order (DESIGN §4, "Files"):

1. position file with the exact request (SENDING), fsync
2. send
3. outcome and fills known: one write of the position file that clears the request, applies
   the fills and lists them as not yet journaled
4. append to the fills, fsync
5. the next write of the position file drops that list

A death on any line leaves what `start()` mends: it cuts a torn last line, journals what is
missing by trade id, and `resolve()` asks for what is pending. An order is never sent again
to find out what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from core.bot import fold
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.errors import ExchangeError, OrderNotFound, OutcomeUnknown, RateLimited, Refused, Unavailable, Unsupported
from core.exchange import Exchange
from core.market import sizing
from core.model import REJECTED, SENDING, ZERO, Fill, Intent, Order, OrderRequest, Position, Role, Side, Symbol, Update, floor_to, plain

log = logging.getLogger("botyard.orders")

LATEST_MS = 2000  # how long after the intent was written its request may still be stamped
GRACE_MS = 2000  # beyond time stamp + recvWindow, before "no such order" may be believed
NOT_FOUND_IN_A_ROW = 8
ASK_EVERY_MS = 500  # an order whose outcome is unknown
WATCH_EVERY_MS = 2000  # an order that rests at the exchange

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _ALPHABET[rest] + digits
    return digits or "0"


def client_id(installation: str, bot_id: int, number: int, wall_ms: int) -> str:
    """Installation, bot, counter and wall time: attributable, and never the same twice even
    where an old copy of the position file is restored (36 characters at most)."""
    made = f"by{installation}-{bot_id}-{number}-{base36(wall_ms)}"
    if len(made) > 36:
        raise ValueError(f"client order id {made} is longer than 36 characters")
    return made


def owner_of(order_client_id: str, installation: str) -> int | None:
    """The bot of this yard that an order id belongs to, None for a foreign one."""
    parts = order_client_id.split("-")
    if len(parts) == 4 and parts[0] == f"by{installation}" and parts[1].isdigit():
        return int(parts[1])
    return None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an intent: `done` (told by the exchange), `unknown`, `refused` or `not_sent`."""

    outcome: str
    text: str = ""
    client_id: str = ""
    fills: tuple[Fill, ...] = ()


class Executor:
    """The write-ahead path of one bot. `after_fills` adjusts the position (stop, target,
    cool-down, settling) in the same write that books the fills."""

    def __init__(
        self,
        exchange: Exchange,
        store: PositionStore,
        journal: Journal,
        installation: str,
        *,
        wall_ms: Callable[[], int],
        market_ms: Callable[[], int],
        after_fills: Callable[[Position], Position],
        on_fills: Callable[[Position, Order, tuple[Fill, ...], Position], None] = lambda *_: None,
    ):
        self.exchange, self.store, self.journal, self.installation = exchange, store, journal, installation
        self._wall_ms, self._market_ms = wall_ms, market_ms
        self._after_fills, self._on_fills = after_fills, on_fills
        self._not_found: dict[str, int] = {}
        self._asked_wall: dict[str, int] = {}
        exchange.attach_order_path(self._order_path)

    # --- start ---------------------------------------------------------------------

    @property
    def position(self) -> Position:
        if self.store.position is None:
            raise RuntimeError("the executor needs a position that was loaded or adopted first")
        return self.store.position

    def start(self) -> None:
        """Mend what a death may have left: torn lines, fills that the journal lacks."""
        self.journal.open()
        added = self.journal.catch_up(self.position)
        if added:
            log.info("📒 %d fill(s) that the last run had not journaled yet were added", added)
        if self.position.unjournaled:
            self.store.save(replace(self.position, unjournaled=()))

    # --- sending --------------------------------------------------------------------

    def send(
        self,
        side: Side,
        kind: str,
        role: Role,
        tag: str,
        *,
        quantity: Decimal | None = None,
        quote_quantity: Decimal | None = None,
        price: Decimal | None = None,
        life: str | None = None,
        change: Callable[[Position], Position] = lambda p: p,
    ) -> Result:
        """Write the intent, send it once, book what is told. `change` goes into the first write."""
        position = self.position
        wall = self._wall_ms()
        try:
            now = self.exchange.request_time_ms()
        except ExchangeError as e:
            return Result("not_sent", f"not sent, the exchange could not be reached: {e}")
        latest = now + LATEST_MS
        request = OrderRequest(
            client_id=client_id(self.installation, position.bot_id, position.next_order, wall),
            symbol=position.symbol,
            side=side,
            kind=kind,
            quantity=quantity,
            quote_quantity=quote_quantity,
            price=price,
            life=life,
        )
        order = Order(
            request,
            role,
            tag,
            SENDING,
            created_ms=self._market_ms(),
            wall_created_ms=wall,
            not_found_final_after_ms=latest + self.exchange.recv_window_ms() + GRACE_MS,
        )
        self.store.save(change(fold.begin(position, order)))
        size = f"{plain(quantity)} {position.base}" if quantity is not None else f"for {plain(quote_quantity or ZERO)} {position.quote}"
        log.info("📤 ORDER SENT: %s %s %s%s (%s, %s)", side, kind, size, f" @ {plain(price)}" if price is not None else "", tag or role, request.client_id)
        self._asked_wall[request.client_id] = self._wall_ms()
        try:
            update = self.exchange.place(request, latest)
        except OutcomeUnknown as e:
            log.warning("❓ The answer to order %s was lost (%s): asking the exchange what became of it", request.client_id, e)
            self._asked_wall.pop(request.client_id, None)
            return Result("unknown", str(e), request.client_id)
        except (Unavailable, Refused) as e:
            self.store.save(fold.drop(self.position, request.client_id))
            if isinstance(e, Unavailable) and not isinstance(e, RateLimited):
                log.warning("⚠️ ORDER NOT SENT: %s", e)
                return Result("not_sent", str(e), request.client_id)
            log.warning("⛔ ORDER REFUSED: %s", e)
            return Result("refused", str(e), request.client_id)
        fills = self.book(update)
        return Result("done", update.status, request.client_id, fills)

    def cancel(self, order: Order) -> Result:
        """Cancel a resting order and book whatever had filled before."""
        try:
            update = self.exchange.cancel(self.position.symbol, order.client_id)
        except OrderNotFound:
            self._asked_wall.pop(order.client_id, None)  # over already: the next look tells how
            self.resolve()
            return Result("done", "was over already", order.client_id)
        except OutcomeUnknown as e:
            self._asked_wall.pop(order.client_id, None)
            return Result("unknown", str(e), order.client_id)
        except (Unavailable, Refused) as e:
            return Result("refused", str(e), order.client_id)
        log.info("🚫 ORDER CANCELED: %s (%s)", order.client_id, order.tag or order.role)
        self.book(update)
        return Result("done", update.status, order.client_id)

    def _order_path(self, symbol: str, side: str, qty: Decimal) -> Update:
        """`place_market_order` of the client: through here, for this bot's symbol only."""
        if symbol != self.position.symbol:
            raise Refused(f"this bot trades {self.position.symbol}, not {symbol}")
        entering = self.position.direction is None or side == self.position.entry_side
        result = self.send("BUY" if side == "BUY" else "SELL", "MARKET", "entry" if entering else "exit", "by script", quantity=qty)
        if result.outcome == "unknown":
            raise OutcomeUnknown(result.text)
        if result.outcome != "done":
            raise Refused(result.text)
        return Update(result.client_id, result.text, fills=result.fills)

    # --- booking -----------------------------------------------------------------------

    def book(self, update: Update) -> tuple[Fill, ...]:
        """Fold an update into the position, write it, journal its fills; the new ones."""
        before = self.position
        order = next((o for o in before.orders if o.client_id == update.client_id), None)
        if order is None:
            return ()
        after = fold.tell(before, update, self._wall_ms())
        told = next((o for o in after.orders if o.client_id == update.client_id), None)
        if told is not None and fold.lacks_fills(after, told):
            after = self._fetch_fills(after, told)
        if after == before:
            return ()
        news = tuple(f for f in after.unjournaled if f not in before.unjournaled)
        after = self._after_fills(after)
        self.store.save(after)
        if news:
            self.journal.append_fills(after, news)
            # Journaled now; the list is dropped by the next write of the file, whenever that is.
            self.store.position = replace(after, unjournaled=())
            self._on_fills(before, order, news, after)
        return news

    def _fetch_fills(self, position: Position, order: Order) -> Position:
        try:
            fills = self.exchange.fills(position.symbol, order_id=order.order_id)
        except ExchangeError as e:
            log.warning("⚠️ The fills of order %s can't be read yet: %s", order.client_id, e)
            return position
        return fold.tell(position, Update(order.client_id, order.status, order.order_id, fills=tuple(fills)), self._wall_ms())

    # --- asking --------------------------------------------------------------------------

    @property
    def unresolved(self) -> bool:
        """An order's outcome or fills are not known: nothing new may be decided upon it."""
        return any(o.status == SENDING or fold.lacks_fills(self.position, o) for o in self.position.orders)

    def next_ask_wall_ms(self) -> int | None:
        """Wall time of the next question, None when no order is open."""
        due = [self._asked_wall.get(o.client_id, 0) + self._pause(o) for o in self.position.orders]
        return min(due) if due else None

    def _pause(self, order: Order) -> int:
        return ASK_EVERY_MS if order.status == SENDING or fold.lacks_fills(self.position, order) else WATCH_EVERY_MS

    def resolve(self) -> None:
        """Ask once for every order that is due. Goes by wall time, also while market time stands still."""
        for order in self.position.orders:
            if self._wall_ms() >= self._asked_wall.get(order.client_id, 0) + self._pause(order):
                self._ask(order)

    def _ask(self, order: Order) -> None:
        try:
            # Read before the question: it was asked after this moment of server time.
            server_ms = self.exchange.time().server_ms if order.status == SENDING else 0
            update = self.exchange.order(order.request.symbol, order.client_id)
        except OrderNotFound:
            self._asked_wall[order.client_id] = self._wall_ms()
            self._unknown_to_them(order, server_ms)
            return
        except RateLimited:
            raise
        except ExchangeError as e:
            self._asked_wall[order.client_id] = self._wall_ms()
            self._not_found.pop(order.client_id, None)  # in a row means in a row
            log.warning("⚠️ Order %s can't be asked for: %s", order.client_id, e)
            return
        self._asked_wall[order.client_id] = self._wall_ms()
        self._not_found.pop(order.client_id, None)
        if order.status == SENDING:
            log.info("🔎 Order %s is known to the exchange: %s, executed %s", order.client_id, update.status, plain(update.executed))
        self.book(replace(update, client_id=order.client_id))

    def _unknown_to_them(self, order: Order, server_ms: int) -> None:
        count = self._not_found.get(order.client_id, 0) + 1
        self._not_found[order.client_id] = count
        if order.status != SENDING:
            return  # they knew it once: a brief lapse of their memory
        if count >= NOT_FOUND_IN_A_ROW and server_ms > order.not_found_final_after_ms:
            log.warning("🔎 Order %s never reached the exchange (%d answers): it is taken back", order.client_id, count)
            self._not_found.pop(order.client_id, None)
            self.book(Update(order.client_id, REJECTED, reason="never reached the exchange"))

    # --- intents -----------------------------------------------------------------------------

    def carry_out(self, intent: Intent, symbol: Symbol, price: Decimal) -> Result:
        """One intent, or a refusal that names what can't be done."""
        position = self.position
        if intent.action == "none":
            return Result("done")
        if intent.action == "protect":
            return Result("refused", "protect: a stop held at the exchange is not built yet; the bot watches stop and target itself")
        if intent.action == "cancel":
            order = next((o for o in position.orders if intent.tag in (o.tag, o.client_id)), None)
            return self.cancel(order) if order else Result("refused", f"cancel: no open order is tagged {intent.tag!r}")
        kind = intent.kind.upper()
        if kind not in ("MARKET", "LIMIT") or kind not in symbol.order_types:
            return Result("refused", f"{intent.action}: {symbol.name} takes no {intent.kind} orders")
        if kind == "LIMIT" and (intent.price is None or intent.life not in self.exchange.capabilities.lives):
            return Result("refused", f"{intent.action}: a limit order needs a price and a life of {', '.join(sorted(self.exchange.capabilities.lives))}")
        if intent.side is None:
            return Result("refused", f"{intent.action}: the side is missing")
        leaving = intent.action in ("close", "reduce") or intent.role in ("exit", "stop", "target")
        if not leaving and intent.side == "SELL" and not self.exchange.capabilities.shorts:
            return Result("refused", f"{intent.action}: {self.exchange.venue.exchange} {self.exchange.venue.market} has no shorts")
        try:
            quantity, quote = self._size(intent, symbol, price, leaving)
        except Unsupported as e:
            return Result("refused", str(e))
        except ExchangeError as e:
            return Result("not_sent", f"{intent.action}: the balance can't be read: {e}")
        limit = intent.price if kind == "LIMIT" else None
        if limit is not None:
            limit = floor_to(limit, symbol.rules.tick)
        return self.send(
            intent.side,
            kind,
            intent.role,
            intent.tag,
            quantity=quantity,
            quote_quantity=quote,
            price=limit,
            life=intent.life if kind == "LIMIT" else None,
            change=lambda p: (
                replace(p, initial_investment=quote or (quantity or ZERO) * price) if not p.has_traded and not leaving and not p.initial_investment else p
            ),
        )

    def _size(self, intent: Intent, symbol: Symbol, price: Decimal, leaving: bool) -> tuple[Decimal | None, Decimal | None]:
        market = intent.kind == "market"
        at = intent.price if intent.price is not None and not market else price
        if leaving:
            return self._exit_size(intent, symbol, at, market), None
        if intent.size_base is not None:
            wanted = floor_to(intent.size_base, sizing.quantity_step(symbol.rules, market))
            if sizing.sellable(wanted, at, symbol.rules, market) <= 0:
                raise Unsupported(f"{intent.action}: {plain(intent.size_base)} {symbol.base} is below the symbol's minimum")
            return wanted, None
        if intent.size_quote is None:
            raise Unsupported(f"{intent.action}: an entry needs a size in {symbol.quote} or {symbol.base}")
        if market and self.exchange.capabilities.quote_sized:
            return None, floor_to(intent.size_quote, Decimal(1).scaleb(-symbol.quote_precision))
        quantity = sizing.quantity_for(intent.size_quote, at, symbol.rules)
        if sizing.sellable(quantity, at, symbol.rules, market) <= 0:
            raise Unsupported(f"{intent.action}: {plain(intent.size_quote)} {symbol.quote} buys less than the symbol's minimum")
        return quantity, None

    def _exit_size(self, intent: Intent, symbol: Symbol, price: Decimal, market: bool) -> Decimal:
        """Sell what is owned, capped by the free balance, floored to the step (DESIGN §1.4)."""
        position = self.position
        owned = position.quantity if position.direction else ZERO
        wanted = min(owned, intent.size_base) if intent.size_base is not None else owned
        if intent.size_quote is not None:
            wanted = min(owned, intent.size_quote / price)
        if position.direction == "SHORT":
            return floor_to(wanted, sizing.quantity_step(symbol.rules, market))
        balance = self.exchange.balances().get(symbol.base)
        free = balance.free if balance else ZERO
        amount = sizing.sellable(min(wanted, free), price, symbol.rules, market)
        if amount > 0:
            return amount
        if free < wanted and sizing.sellable(wanted, price, symbol.rules, market) > 0:
            raise Unsupported(
                f"{intent.action}: the bot owns {plain(owned)} {symbol.base}, but only {plain(free)} are free: somebody sold, moved or locked them"
            )
        raise Unsupported(f"{intent.action}: {plain(wanted)} {symbol.base} is below what {symbol.name} lets be sold")
