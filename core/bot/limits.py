"""One bot under the guards: it judges itself, obeys what tripped, and asks before it buys.

The rules are core/account's (limits, guards); this is the bot's hand that does what they say.
An order to flatten, from a guard or from the kill switch, takes back what rests at the exchange
and sells at market, again and again until the bot is flat. What can't be judged keeps the bot
from buying and from nothing else.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core import notify
from core.account import limits as rules
from core.account.guards import Entry, Guards, Order, Prices, Verdict
from core.account.members import account_scope, bot_scope
from core.bot import decisions, schedule
from core.errors import BotyardError, ExchangeError, RateLimited
from core.model import SENDING, ZERO, Decision, Event, Intent

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

LOOK_FLOOR_MS = 1000
FRESH_MS = 1000  # a price that the bot asked for so lately is not asked for again


class GuardedBot:
    def __init__(self, bot: Trader):
        self.bot = bot
        self.guards = Guards(bot.files, bot.clock.wall_ms)
        self._last_ms = 0
        self._last_wall = -LOOK_FLOOR_MS

    @property
    def account(self) -> str:
        venue = self.bot.exchange.venue
        return account_scope(venue.mode, venue.account, self.bot.symbol.quote)

    # --- at each step ------------------------------------------------------------------

    def step(self) -> None:
        """Judge, then obey. Raises what the exchange raises; a file that can't be used is told."""
        self._look()
        bot = self.bot
        order = self.guards.order(bot.config.bot_id, self.account, bot.clock.market_ms())
        if not order.no_entries:
            bot.status.clear("guard")
        elif bot.status.warn("guard", f"Nothing is bought: {order.no_entries}"):
            log.warning("⛔ Nothing is bought: %s", order.no_entries)
        if order.flatten and not bot.position.idle:
            self._flatten(order)
        elif order.withdraw and any(_buys(o.role, o.status) for o in bot.position.orders):
            cancels = tuple(Intent("cancel", tag=o.client_id, reason=order.no_entries) for o in bot.position.orders if _buys(o.role, o.status))
            self._act(Decision(intents=cancels, reasoning=order.no_entries))

    def _flatten(self, order: Order) -> None:
        bot = self.bot
        p = bot.position
        if bot.executor.unresolved or bot.clock.wall_ms() < bot.desk.exit_wall:
            return  # what is on its way comes first; what was refused just now waits a moment
        if any(o.status == SENDING or o.request.kind == "MARKET" for o in p.orders):
            return
        if order.tag == "guard" and p.direction is not None and bot.jump.word(p, self._price()):
            return  # a coin that was redenominated is no loss: its owner chooses (core/bot/wallet.py)
        self._act(decisions.leave(p, order.tag, order.flatten))

    def _act(self, decision: Decision) -> None:
        price = self._price()
        log.warning("⛔ %s", decision.reasoning)
        why = self.bot.desk.act(decision, price)
        self.bot.record_decision(decision, why, price)

    def _price(self) -> Decimal:
        """The price now, or else the last one known: getting out at market doesn't wait for it."""
        feed, p = self.bot.feed, self.bot.position
        try:
            return feed.price(self.bot.symbol.name)
        except RateLimited:
            raise
        except ExchangeError:
            known = feed.last_price or p.entry_price or p.stop_loss
            if known is None:
                raise
            return known

    # --- judging ----------------------------------------------------------------------------

    def _look(self) -> None:
        """Every RISK_INTERVAL: this bot's own limits, by the price that its look at the stop asked for."""
        bot, limits = self.bot, self.bot.config.limits
        market, wall = bot.clock.market_ms(), bot.clock.wall_ms()
        if market < schedule.look_after(min(self._last_ms, market), bot.config.risk_interval_s * 1000):
            return
        if wall - self._last_wall < LOOK_FLOOR_MS and not getattr(bot.clock, "stepped", False):
            return
        self._last_ms, self._last_wall = market, wall
        try:
            if self.guards.account_limits().get(self.account) and not self.guards.known(bot.config.bot_id, self.account, bot.config.plan.trade_amount):
                self.guards.introduce(bot.config.bot_id, self.account, bot.config.plan.trade_amount)
            if limits:
                _, news = self.guards.look({bot_scope(bot.config.bot_id): limits}, self._own_price(limits), market, [bot.config.bot_id])
                self._post(news)
        except RateLimited:
            raise
        except (BotyardError, OSError, ArithmeticError, ValueError, TypeError, KeyError) as e:
            if bot.status.warn("guards_look", f"This bot's limits can't be judged: {e}"):
                log.warning("⚠️ This bot's limits can't be judged: %s", e)
        else:
            bot.status.clear("guards_look")

    def _own_price(self, limits: rules.Limits) -> Prices:
        bot = self.bot
        if bot.position.direction is None or not rules.needs_prices(limits):
            return {}
        feed, now = bot.feed, bot.clock.wall_ms()
        if feed.last_price is None or now - feed.last_wall > FRESH_MS:
            feed.price(bot.symbol.name)
        if feed.last_price is None or bot.jump.word(bot.position, feed.last_price):
            return {}
        return {bot.symbol.name: (feed.last_price, feed.last_wall)}

    def _post(self, news: list[Event]) -> None:
        for event in news:
            log.warning("⛔ %s", event.text)
            try:
                notify.post(self.bot.files, event)
            except OSError as e:
                log.warning("⚠️ A message could not be kept: %s", e)

    # --- before an entry ------------------------------------------------------------------------

    def block(self) -> str:
        """Why nothing may be bought now, as far as the files tell it."""
        return self.guards.order(self.bot.config.bot_id, self.account, self.bot.clock.market_ms()).no_entries

    def reserve(self, intent: Intent, price: Decimal) -> Verdict:
        """Whether this entry may be made; its place is then kept until the position file shows its order."""
        bot, account = self.bot, self.account
        cost = intent.size_quote if intent.size_quote is not None else (intent.size_base or ZERO) * (intent.price or price)
        now = bot.clock.wall_ms()
        prices: dict[str, tuple[Any, int]] = {}
        try:
            wanted = self.guards.wanted_prices(bot.config.bot_id, account)
            if wanted:
                prices = {name: (found, now) for name, found in bot.exchange.prices(wanted).items()}
        except ExchangeError as e:
            log.warning("⚠️ The prices that the account's guards need can't be read: %s", e)
        except (BotyardError, OSError):
            pass  # `reserve` says what is wrong with the files
        if bot.position.direction is not None:
            prices[bot.symbol.name] = (price, now)
        entry = Entry(bot.symbol.name, bot.symbol.base, cost, bot.position.next_order)
        verdict, news = self.guards.reserve(bot.config.bot_id, account, bot.config.limits, entry, prices, bot.clock.market_ms())
        self._post(news)
        return verdict

    def release(self) -> None:
        self.guards.release(self.bot.config.bot_id)


def _buys(role: str, status: str) -> bool:
    return role in ("entry", "safety") and status != SENDING
