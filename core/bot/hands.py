"""What a person asks of a running bot: a check, close now, other levels, an entry left out,
coins brought under it, coins that are missing put right (core/bot/commands.py).

Each command is done at most once in effect, also when the process dies between the deed and
the removal of its file: what is booked carries the command's number as its trade id, and
the rest says the same twice. What came of it stands in the status (`last_command`).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from core.account.claims import claims
from core.account.ledger import ADOPTED, RELEASED
from core.bot import catchup, commands, decisions, fold, reconcile
from core.bot.botlog import money
from core.bot.commands import Command
from core.errors import ExchangeError, RateLimited
from core.market import sizing
from core.model import SENDING, ZERO, Decision, Fill, Position, floor_to, plain

if TYPE_CHECKING:
    from core.bot.trader import Trader

log = logging.getLogger("botyard")

WAIT = ("waiting", "")  # not now: the command stays for the next step
Outcome = tuple[str, str]  # done | refused | waiting, and the word for people


class Hands:
    def __init__(self, bot: Trader):
        self.bot = bot

    def obey(self) -> None:
        """Every waiting command, oldest first. Raises what the exchange raises; the command then stays."""
        for command in commands.waiting(self.bot.files, self.bot.config.bot_id):
            outcome, text = self._do(command)
            if outcome != "waiting":
                command.done()
                self.bot.status.write(
                    last_command={
                        "number": command.number,
                        "command": command.name,
                        "by": command.by,
                        "outcome": outcome,
                        "text": text,
                        "wall_ms": self.bot.clock.wall_ms(),
                    }
                )
                if outcome == "refused":
                    log.warning("⌨️ %s, asked for by %s, was not done: %s", command.name, command.by, text)

    def _do(self, command: Command) -> Outcome:
        if command.name == "check":
            if self.bot.guard:
                return "refused", "a guard makes no checks"
            log.info("⌨️ A check was asked for by %s", command.by)
            command.done()  # before: a check that fails is retried by its own schedule
            self.bot.check_now()
            return "done", "the check is made"
        if self.bot.executor.unresolved:
            return WAIT
        log.info("⌨️ %s was asked for by %s", command.name.capitalize(), command.by)
        if command.name == "close":
            return self._close(command.by)
        if command.name == "skip":
            return self._skip(int(command.data.get("entries", 1)))
        if command.name == "levels":
            return self._levels(command)
        behind = catchup.pending(self.bot.files)
        if behind:  # what seems to be nobody's, or missing, may be theirs
            return "refused", f"bot {behind[0]} was restored from a backup and has not caught up with the exchange yet: start it once, then try again"
        if command.name == "adopt":
            return self._adopt(command)
        return self._mend(command)

    # --- close, skip -------------------------------------------------------------------

    def _close(self, by: str) -> Outcome:
        bot = self.bot
        if bot.position.direction is None:
            return "done", "no position is open"
        if bot.clock.wall_ms() < bot.desk.exit_wall:
            return WAIT  # it was refused just now
        price = bot.feed.price(bot.symbol.name)
        decision = decisions.leave(bot.position, "close", f"asked for by {by}")
        why = bot.desk.act(decision, price)
        bot.record_decision(decision, why, price)
        return ("done", "the position is closed") if not why else WAIT

    def _skip(self, entries: int) -> Outcome:
        self.bot.store.save(replace(self.bot.position, skip_entries=entries))
        if not entries:
            return "done", "no entry is left out any more"
        return "done", "the next entry is left out" if entries == 1 else f"the next {entries} entries are left out"

    def left_out(self, decision: Decision, candle: int | None) -> Decision:
        """The decision without the entry that its owner wants left out; the count goes down by one."""
        bot, left = self.bot, self.bot.position.skip_entries
        entering = any(i.action in ("open", "place") and i.role == "entry" for i in decision.intents)
        if not left or not entering or bot.position.direction is not None:
            return decision
        why = "this entry is left out, as its owner asked" + (f" ({left - 1} more after it)" if left > 1 else "")
        log.info("⏭️ %s", why[:1].upper() + why[1:])
        bot.store.save(replace(bot.position, skip_entries=left - 1, last_candle_ms=candle))
        return replace(decision, intents=(), why_not=why)

    # --- stop and target -----------------------------------------------------------------

    def _levels(self, command: Command) -> Outcome:
        bot, p, rules = self.bot, self.bot.position, self.bot.symbol.rules
        if p.direction is None:
            return "refused", "no position is open: there is no stop to move"
        if any(o.role == "exit" for o in p.orders):
            return "refused", "the position is being closed already"
        price = bot.feed.price(bot.symbol.name)
        stop = floor_to(Decimal(command.data["stop_loss"]), rules.tick) if "stop_loss" in command.data else p.stop_loss
        target = p.take_profit
        if "take_profit" in command.data:
            target = None if command.data["take_profit"] is None else floor_to(Decimal(command.data["take_profit"]), rules.tick)
        problem = self._around(p, stop, target, price)
        if problem:
            return "refused", problem
        if not self._take_back():
            return "refused", "the stop at the exchange could not be taken back: it stays as it was, try again"
        if bot.position.direction is None:
            return "refused", "the position was closed just now"
        bot.store.save(replace(bot.position, stop_loss=stop, take_profit=target))
        words = ", ".join(f"{name} {'off' if v is None else '$' + money(v, rules)}" for name, v in (("stop", stop), ("target", target)))
        log.info("🪜 MOVED BY HAND: %s", words)
        self._protect_again()
        return "done", words

    def _around(self, p: Position, stop: Decimal | None, target: Decimal | None, price: Decimal) -> str:
        """Why these levels can't stand around this price; empty where they can."""
        low, high = (stop, target) if p.direction != "SHORT" else (target, stop)
        if stop is not None and stop <= 0:
            return "the stop must lie at one tick at least"
        if low is not None and low >= price:
            return f"{plain(low)} must lie below the price, which is {plain(price)}"
        if high is not None and high <= price:
            return f"{plain(high)} must lie above the price, which is {plain(price)}"
        return ""

    def _take_back(self) -> bool:
        """The pair at the exchange is cancelled; False where it may still lie there."""
        for order in [o for o in self.bot.position.orders if o.role in ("stop", "target")]:
            still = next((o for o in self.bot.position.orders if o.client_id == order.client_id), None)
            if still is not None and self.bot.executor.cancel(still).outcome != "done":
                return False
        return not any(o.role in ("stop", "target") for o in self.bot.position.orders)

    def _protect_again(self) -> None:
        self.bot.guardian.ask_again()
        if self.bot.guardian.due():
            try:
                self.bot.guardian.protect()
            except RateLimited:
                raise
            except ExchangeError as e:  # the loop tries again, and watches meanwhile
                log.warning("⚠️ The stop could not be placed at the exchange yet: %s", e)

    # --- coins ---------------------------------------------------------------------------------

    def _adopt(self, command: Command) -> Outcome:
        """Coins of the account that no bot claims become an entry of this bot, at their owner's
        cost price. The books don't move: the coins lay there before (core/account/ledger.py)."""
        bot, p, symbol = self.bot, self.bot.position, self.bot.symbol
        own_id = f"{ADOPTED}{command.number}"
        if any(f.trade_id == own_id for f in p.fills) or bot.journal.has(own_id, own_id):
            return "done", "the coins are under this bot"
        if p.direction == "SHORT" or any(o.role == "exit" or o.status == SENDING for o in p.orders):
            return "refused", "coins can be brought under a bot that is flat or holds a long position which is not being closed"
        price, quantity = bot.feed.price(symbol.name), Decimal(command.data["quantity"])
        cost = price if command.data.get("price") is None else Decimal(command.data["price"])
        if sizing.sellable(p.quantity + p.dust + quantity, price, symbol.rules) <= 0:
            return "refused", f"{plain(quantity)} {symbol.base} are too few: {symbol.name} would not let them be sold again"
        fill = reconcile.moveless(p, own_id, cost, quantity, bot.clock.market_ms())
        trial = decisions.after_fills(fold.adopt(p, fill, 0), bot.config.plan, symbol.rules, (fill,))
        problem = self._around(trial, trial.stop_loss, trial.take_profit, price)
        if problem:
            return "refused", f"at a cost of {plain(cost)} the levels would be met at once ({problem}): give another price, or none"
        if not self._take_back():
            return "refused", "the stop at the exchange could not be taken back: nothing was changed, try again"
        with bot.files.lock("data/adopt.lock"):  # no two bots take the same coins
            balance = bot.exchange.balances().get(symbol.base)
            mine = [c for c in claims(bot.files, bot.position.venue) if c.asset == symbol.base]
            if any(c.unsettled and c.bot_id != p.bot_id for c in mine):
                return WAIT
            unclaimed = (balance.total if balance else ZERO) - sum((c.amount for c in mine), ZERO)
            if quantity > unclaimed:
                self._protect_again()
                return "refused", f"only {plain(max(unclaimed, ZERO))} {symbol.base} in the account belong to no bot"
            self._book(fold.adopt(bot.position, fill, bot.clock.wall_ms()), (fill,))
        entry = money(bot.position.entry_price or ZERO, symbol.rules)
        log.info("🟢 OPENED POSITION: %s", bot.config.name)
        log.info("   Entry: $%s, %s %s brought under this bot by hand", entry, plain(quantity), symbol.base)
        self._protect_again()
        return "done", f"{plain(quantity)} {symbol.base} at {plain(cost)} are under this bot; its stop is {plain(bot.position.stop_loss or ZERO)}"

    def _mend(self, command: Command) -> Outcome:
        """`book`: what happened to the missing coins goes into the books. `close`: besides, the
        rest of the position goes back to its owner, and the bot is flat."""
        bot, choice = self.bot, command.data["choice"]
        if bot.position.direction == "SHORT":
            return "refused", "a short owns no coins that could be missing"
        # What is as it was asked for is done, also by a life before this one.
        if bot.position.direction is None:
            return "done", "no position is open, nothing of this bot is missing"
        found = reconcile.examine(bot.files, bot.exchange)
        if found.unsettled:
            return WAIT
        todo = [x for x in found.proposals if x.bot_id == bot.position.bot_id]
        if not todo and choice == "book":
            return "done", "nothing of this bot is missing"
        if not self._take_back():
            return "refused", "the stop at the exchange could not be taken back: nothing was changed, try again"
        price = bot.feed.price(bot.symbol.name)
        words = []
        for proposal in todo:
            if bot.position.direction is None:
                break
            fills = reconcile.fills_of(proposal, bot.position)
            self._book(fold.outside(bot.position, fills, bot.clock.wall_ms()), fills, price)
            words.append(proposal.text)
        left = bot.position.quantity
        if choice == "close" and bot.position.direction is not None:
            fill = reconcile.moveless(bot.position, f"{RELEASED}{command.number}", price, left, bot.clock.market_ms())
            self._book(fold.outside(bot.position, (fill,), bot.clock.wall_ms()), (fill,), price)
            words.append(f"{plain(left)} {bot.symbol.base} are yours again, valued at {plain(price)}")
        bot.wallet.ask()
        self._protect_again()
        return "done", "; ".join(words)

    def _book(self, after: Position, news: tuple[Fill, ...], price: Decimal | None = None) -> None:
        """In one write: the fills, what follows from them, and that they are not journaled yet.
        `price` None: they enter; else they leave, and the trade is closed where nothing is left to sell at it."""
        bot = self.bot
        if price is None:
            after = decisions.after_fills(after, bot.config.plan, bot.symbol.rules, news)
        else:  # not by the fills' own prices: what was written off has none
            after = fold.settle(after, price, bot.symbol.rules)
        bot.executor.write(after)
        if after.direction is None:
            log.info("🔴 CLOSED POSITION: %s, by hand", bot.config.name)
