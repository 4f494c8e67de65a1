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
from typing import Literal

from core.bot import fold
from core.bot.ids import client_id
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.errors import ClockRefused, ExchangeError, OrderNotFound, OutcomeUnknown, RateLimited, Refused, Unavailable
from core.exchange import Exchange
from core.model import EXPIRED, NEW, REJECTED, SENDING, ZERO, Fill, Order, OrderRequest, Position, Role, Side, Update, plain

log = logging.getLogger("botyard.orders")

LATEST_MS = 2000  # how long after the intent was written its request may still be stamped
GRACE_MS = 2000  # beyond time stamp + recvWindow, before "no such order" may be believed
NOT_FOUND_IN_A_ROW = 8
FORGOTTEN_AFTER_MS = 60_000  # an order that was known: so long the same answer, before it may be given up
ASK_EVERY_MS = 500  # an order whose outcome is unknown
WATCH_EVERY_MS = 2000  # an order that rests at the exchange


@dataclass(frozen=True, slots=True)
class Leg:
    """An order to be sent, before it has an id. Sizes and prices as in OrderRequest."""

    side: Side
    kind: str
    role: Role
    tag: str
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    life: str | None = None

    def request(self, own_id: str, symbol: str) -> OrderRequest:
        return OrderRequest(own_id, symbol, self.side, self.kind, self.quantity, self.quote_quantity, self.price, self.stop_price, self.life)

    def words(self, position: Position) -> str:
        size = f"{plain(self.quantity)} {position.base}" if self.quantity is not None else f"for {plain(self.quote_quantity or ZERO)} {position.quote}"
        stop = f" stop {plain(self.stop_price)}" if self.stop_price is not None else ""
        return f"{self.side} {self.kind} {size}{stop}" + (f" @ {plain(self.price)}" if self.price is not None else "")


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
        after_fills: Callable[[Position, tuple[Fill, ...]], Position],
        on_fills: Callable[[Position, Order, tuple[Fill, ...], Position], None] = lambda *_: None,
        warn: Callable[[str, str, Literal["warning", "risk"]], None] = lambda *_: None,
    ):
        self.exchange, self.store, self.journal, self.installation = exchange, store, journal, installation
        self._wall_ms, self._market_ms = wall_ms, market_ms
        self._after_fills, self._on_fills, self._warn = after_fills, on_fills, warn
        self._not_found: dict[str, tuple[int, int]] = {}  # client id: answers in a row, wall time of the first
        self._asked_wall: dict[str, int] = {}
        self._all_told_ms = 0  # market time: all that is open was asked for since, itself
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

    def send(self, leg: Leg, change: Callable[[Position], Position] = lambda p: p) -> Result:
        """Write the intent, send it once, book what is told. `change` goes into the first write."""
        return self._send((leg,), change, lambda requests, latest: (self.exchange.place(requests[0], latest),))

    def send_pair(self, target: Leg, stop: Leg, change: Callable[[Position], Position] = lambda p: p) -> Result:
        """The same for a target and a stop that the exchange holds as one."""

        def place(requests: tuple[OrderRequest, ...], latest: int) -> tuple[Update, ...]:
            return self.exchange.place_pair(requests[0], requests[1], requests[0].client_id + "L", latest)

        return self._send((target, stop), change, place)

    def _send(
        self,
        legs: tuple[Leg, ...],
        change: Callable[[Position], Position],
        place: Callable[[tuple[OrderRequest, ...], int], tuple[Update, ...]],
    ) -> Result:
        wall = self._wall_ms()
        try:
            now = self.exchange.request_time_ms()
        except RateLimited:
            raise
        except ExchangeError as e:
            return Result("not_sent", f"not sent, the exchange could not be reached: {e}")
        latest = now + LATEST_MS
        final_after = latest + self.exchange.recv_window_ms() + GRACE_MS
        position, requests = self.position, []
        for leg in legs:
            request = leg.request(client_id(self.installation, position.bot_id, position.next_order, wall), position.symbol)
            order = Order(request, leg.role, leg.tag, SENDING, created_ms=self._market_ms(), wall_created_ms=wall, not_found_final_after_ms=final_after)
            position = fold.begin(position, order)
            requests.append(request)
        self.store.save(change(position))
        for leg, request in zip(legs, requests, strict=True):
            log.info("📤 ORDER SENT: %s (%s, %s)", leg.words(position), leg.tag or leg.role, request.client_id)
            self._asked_wall[request.client_id] = self._wall_ms()
        ids = tuple(r.client_id for r in requests)
        try:
            updates = place(tuple(requests), latest)
        except OutcomeUnknown as e:
            log.warning("❓ The answer to order %s was lost (%s): asking the exchange what became of it", ids[0], e)
            for known in ids:
                self._asked_wall.pop(known, None)
            return Result("unknown", str(e), ids[0])
        except (Unavailable, Refused) as e:
            position = self.position
            for known in ids:
                position = fold.drop(position, known)
            if position.protection == "exchange" and not any(o.role == "stop" for o in position.orders):
                position = replace(position, protection="bot")  # the pair never lay there: nobody took it away
            self.store.save(position)
            if isinstance(e, RateLimited):
                log.warning("⛔ ORDER REFUSED: %s", e)
                raise  # the exchange asks for silence: whoever waits must know for how long
            if isinstance(e, Unavailable | ClockRefused):
                log.warning("⚠️ ORDER NOT SENT: %s", e)
                return Result("not_sent", str(e), ids[0])
            log.warning("⛔ ORDER REFUSED: %s", e)
            return Result("refused", str(e), ids[0])
        fills = tuple(f for update in updates for f in self.book(update))
        return Result("done", updates[0].status, ids[0], fills)

    def cancel(self, order: Order) -> Result:
        """Cancel a resting order and book whatever had filled before."""
        if order.role in ("stop", "target") and self.position.protection == "exchange":
            # Ours to take away: a start after a death here must not think that somebody else did.
            self.store.save(replace(self.position, protection="bot"))
        try:
            update = self.exchange.cancel(self.position.symbol, order.client_id)
        except OrderNotFound:
            for known in self.position.orders:  # over already, its pair with it: asking tells how
                self._asked_wall.pop(known.client_id, None)
            self.resolve()
            left = next((o for o in self.position.orders if o.client_id == order.client_id), None)
            if left is not None and left not in self._to_ask():
                self._ask(left)  # its stop has triggered and rests at its limit: that one doesn't tell of this end
            if any(o.client_id == order.client_id for o in self.position.orders):
                return Result("unknown", "it is over, how is not known yet", order.client_id)
            return Result("done", "was over already", order.client_id)
        except OutcomeUnknown as e:
            self._asked_wall.pop(order.client_id, None)
            return Result("unknown", str(e), order.client_id)
        except RateLimited:
            raise
        except (Unavailable, Refused) as e:
            return Result("not_sent" if isinstance(e, Unavailable | ClockRefused) else "refused", str(e), order.client_id)
        log.info("🚫 ORDER CANCELED: %s (%s)", order.client_id, order.tag or order.role)
        self.book(update)
        return Result("done", update.status, order.client_id)

    def _order_path(self, symbol: str, side: str, qty: Decimal) -> Update:
        """`place_market_order` of the client: through here, for this bot's symbol only."""
        if symbol != self.position.symbol:
            raise Refused(f"this bot trades {self.position.symbol}, not {symbol}")
        entering = self.position.direction is None or side == self.position.entry_side
        if not qty.is_finite() or qty <= 0:
            raise Refused(f"{qty} is no quantity; it must be a number above 0")
        if side == "SELL" and not self.exchange.capabilities.shorts and qty > self.position.quantity:
            raise Refused(f"the bot owns {plain(self.position.quantity)} {self.position.base}, it can't sell {plain(qty)}")
        result = self.send(Leg("BUY" if side == "BUY" else "SELL", "MARKET", "entry" if entering else "exit", "by script", quantity=qty))
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
        after = fold.tell(before, replace(update, fills=self.valued(before, update.fills)), self._wall_ms())
        told = next((o for o in after.orders if o.client_id == update.client_id), None)
        if told is not None and fold.lacks_fills(after, told):
            after = self._fetch_fills(after, told)
        if after == before:
            return ()
        news = tuple(f for f in after.unjournaled if f not in before.unjournaled)
        after = self._after_fills(after, news)
        self.store.save(after)
        if news:
            self._journal()
        if news or after.direction != before.direction:
            self._on_fills(before, order, news, after)
        if news or all(o.client_id != order.client_id for o in after.orders):
            for other in after.orders:  # its pair may be over with it
                self._asked_wall.pop(other.client_id, None)
        return news

    def write(self, position: Position) -> None:
        """A position whose new fills no order of ours made: written in one go, then journaled."""
        self.store.save(position)
        self._journal()

    def _journal(self) -> None:
        """What the position file lists as not yet journaled. After an OSError the list stands, and is tried again."""
        self.journal.append_fills(self.position, self.position.unjournaled)
        # Journaled now; the list is dropped by the next write of the file, whenever that is.
        self.store.position = replace(self.position, unjournaled=())

    def _fetch_fills(self, position: Position, order: Order) -> Position:
        try:
            fills = self.exchange.fills(position.symbol, order_id=order.order_id)
        except ExchangeError as e:
            log.warning("⚠️ The fills of order %s can't be read yet: %s", order.client_id, e)
            return position
        own = tuple(f for f in fills if (f.order_id, f.symbol, f.side) == (order.order_id, order.request.symbol, order.side))
        if len(own) < len(fills):
            log.warning("⚠️ The exchange told %d fill(s) of other orders when asked for %s: left aside", len(fills) - len(own), order.client_id)
        return fold.tell(position, Update(order.client_id, order.status, order.order_id, fills=self.valued(position, own)), self._wall_ms())

    def valued(self, position: Position, fills: tuple[Fill, ...]) -> tuple[Fill, ...]:
        """Fills with the worth of a fee in a third coin, which profit needs. Where no price can be had they are booked without."""
        known = {f.trade_id for f in position.fills} | {t for o in position.orders for t in o.past}
        third = {f.fee_asset for f in fills if f.fee and f.trade_id not in known} - {position.base, position.quote}
        prices: dict[str, Decimal] = {}
        for asset in sorted(third):
            try:
                price, why = self.exchange.value(asset, position.quote), "the exchange has no such pair"
            except ExchangeError as e:
                price, why = None, str(e)
            if price is not None:
                prices[asset] = price
                continue
            text = f"A fee in {asset} could not be valued in {position.quote} ({why}): the profit of this trade is told without it"
            self._warn("fee", text, "warning")
        return tuple(replace(f, fee_quote=f.fee * prices[f.fee_asset]) if f.fee_asset in prices and f.trade_id not in known else f for f in fills)

    # --- asking --------------------------------------------------------------------------

    @property
    def unresolved(self) -> bool:
        """An order's outcome or fills are not known, or not in the books: nothing new may be decided upon it."""
        return bool(self.position.unjournaled) or any(o.status == SENDING or fold.lacks_fills(self.position, o) for o in self.position.orders)

    @property
    def doubted(self) -> bool:
        """The exchange says of an order of ours, at this moment, that it knows none such: what lies in
        the wallet may be that order's doing."""
        return any(o.client_id in self._not_found for o in self.position.orders)

    def next_ask_wall_ms(self) -> int | None:
        """Wall time of the next question, None when no order is open."""
        due = [self._asked_wall.get(o.client_id, 0) + self._pause(o) for o in self._to_ask()]
        if self.position.unjournaled:
            due.append(self._wall_ms() + ASK_EVERY_MS)
        return min(due) if due else None

    def _to_ask(self) -> list[Order]:
        """The open orders, but of a resting pair the stop only: it ends with its target, so one
        question (weight 4) tells of both. What the stop's end leaves is asked for at once."""
        stops = {o.wall_created_ms for o in self.position.orders if o.role == "stop" and o.status == NEW}
        return [o for o in self.position.orders if not (o.role == "target" and o.status == NEW and o.wall_created_ms in stops)]

    def _pause(self, order: Order) -> int:
        return ASK_EVERY_MS if order.status == SENDING or fold.lacks_fills(self.position, order) else WATCH_EVERY_MS

    def resolve(self, since_ms: int = 0) -> None:
        """Ask once for every order that is due. Goes by wall time, also while market time stands still.

        `since_ms` (market time, a check's slot): whatever was not asked for since then is due, so that
        what happened before is in the books. Not for outcomes that are unknown: those have their own pace."""
        if self.position.unjournaled:
            self._journal()
        began, anew = self._market_ms(), self._all_told_ms < since_ms
        orders = self._to_ask()
        told = [self._ask(o, anew) for o in orders if anew or self._wall_ms() >= self._asked_wall.get(o.client_id, 0) + self._pause(o)]
        for order in self._to_ask():
            if order.client_id not in self._asked_wall:  # its pair has just ended: the trade is over when this one is, too
                told.append(self._ask(order))
        if all(told) and len(told) >= len(orders):
            self._all_told_ms = began

    def _ask(self, order: Order, anew: bool = False) -> bool:
        """Ask for an order; whether it was told of by itself. `anew`: a look at all open orders is no answer."""
        try:
            if not anew and self._glanced(order):
                return False
            # Read before the question: it was asked after this moment of server time.
            server_ms = self.exchange.time().server_ms if order.status == SENDING else 0
            update = self.exchange.order(order.request.symbol, order.client_id)
        except OrderNotFound:
            self._asked_wall[order.client_id] = self._wall_ms()
            self._unknown_to_them(order, server_ms)
            return False
        except RateLimited:
            self._not_found.pop(order.client_id, None)
            raise
        except ExchangeError as e:
            self._asked_wall[order.client_id] = self._wall_ms()
            self._not_found.pop(order.client_id, None)  # in a row means in a row
            log.warning("⚠️ Order %s can't be asked for: %s", order.client_id, e)
            return False
        self._asked_wall[order.client_id] = self._wall_ms()
        self._not_found.pop(order.client_id, None)
        if update.symbol not in ("", order.request.symbol) or (order.order_id and update.order_id != order.order_id):
            log.warning("⚠️ Asked for order %s, the exchange told of %s (%s): asked again", order.client_id, update.order_id, update.symbol)
            return False
        if order.status == SENDING:
            log.info("🔎 Order %s is known to the exchange: %s, executed %s", order.client_id, update.status, plain(update.executed))
        self.book(replace(update, client_id=order.client_id))
        return True

    def _glanced(self, order: Order) -> bool:
        """A recent look at all open orders lists it, with nothing new executed: that answers the question.

        The next one is due WATCH_EVERY_MS after that look began, so that nothing is booked later for it.
        An order that is asked for out of turn (something happened to it) is asked for itself."""
        if order.status == SENDING or fold.lacks_fills(self.position, order) or order.client_id not in self._asked_wall or self._not_found:
            return False
        seen = self.exchange.glance(order.request.symbol, order.client_id)
        if seen is None:
            return False
        update, age_ms = seen
        if (update.status, update.executed, update.order_id, update.symbol) != (order.status, order.executed, order.order_id, order.request.symbol):
            return False
        self._asked_wall[order.client_id] = self._wall_ms() - age_ms
        return True

    def _unknown_to_them(self, order: Order, server_ms: int) -> None:
        count, since = self._not_found.get(order.client_id, (0, self._wall_ms()))
        count += 1
        self._not_found[order.client_id] = (count, since)
        if count < NOT_FOUND_IN_A_ROW:
            return
        if order.status != SENDING:  # they knew it once: a brief lapse of their memory, or a testnet that was reset
            if self._wall_ms() - since >= FORGOTTEN_AFTER_MS:
                self._give_up(order)
        elif server_ms > order.not_found_final_after_ms:
            log.warning("🔎 Order %s never reached the exchange (%d answers): it is taken back", order.client_id, count)
            self._not_found.pop(order.client_id, None)
            if order.role in ("stop", "target") and self.position.protection == "exchange":
                self.store.save(replace(self.position, protection="bot"))  # it never lay there: nobody took it away
            self.book(Update(order.client_id, REJECTED, reason="never reached the exchange"))

    def _give_up(self, order: Order) -> None:
        """Drop a resting order that the exchange has forgotten, with its pair, if nothing else there tells of it.

        Raises what the exchange raises, and the order stays; the count begins anew after a restart."""
        self._not_found.pop(order.client_id, None)  # whatever comes of it: not asked for at each look
        listed = {u.client_id for u in self.exchange.open_orders(order.request.symbol)}
        pair = [o for o in self.position.orders if {o.role, order.role} == {"stop", "target"} and o.wall_created_ms == order.wall_created_ms]
        for lost in (order, *pair):
            if lost.client_id in listed or fold.lacks_fills(self.position, lost) or self._traded(lost):
                log.warning("⚠️ Order %s can't be asked for, though the exchange still tells of it: kept", lost.client_id)
                continue
            text = f"the exchange no longer knows order {lost.client_id} ({lost.tag or lost.role}); was the testnet reset? It is taken for expired"
            self._warn("forgotten", text[:1].upper() + text[1:], "risk")
            self.book(Update(lost.client_id, EXPIRED, reason="no longer known to the exchange"))

    def _traded(self, order: Order) -> bool:
        """The exchange has fills under this order's number that the position lacks, or can still find the order."""
        try:
            self.exchange.order(order.request.symbol, order.client_id)
            return True
        except OrderNotFound:
            known = {f.trade_id for f in self.position.fills} | set(order.past)
        try:
            return any(f.trade_id not in known for f in self.exchange.fills(order.request.symbol, order_id=order.order_id))
        except OrderNotFound:
            return False
