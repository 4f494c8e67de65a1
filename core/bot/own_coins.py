"""Which of the coins that lie free in the account a bot may sell, where others own the same coin.

Every sale and every order that holds coins asks here first. While the wallet holds what all
bots claim, each may sell all of its own, whatever the others do. Where coins are missing,
core/account/claims.py says who bears it. What can't be told keeps nobody from getting out:
then the free balance alone is the bound, as the exchange sets it. Owns no file.
"""

from __future__ import annotations

import logging
from decimal import Decimal

from core.account.claims import Claim, claims, may_sell
from core.bot.execution import Executor
from core.errors import StateError
from core.model import ZERO, plain

log = logging.getLogger("botyard")

LOOKS = 3  # other bots trade meanwhile: claims and wallet must belong to one moment


def within_reach(executor: Executor, own: Decimal) -> tuple[Decimal, Decimal]:
    """(free coins of the wallet, those of them that are this bot's). Raises what reading the balance raises.

    `own`: what the bot owns beside what its open orders hold, base asset."""
    position = executor.position
    before = _claims(executor)
    free = ZERO
    for _ in range(LOOKS):
        balance = executor.exchange.balances().get(position.base)
        free = balance.free if balance else ZERO
        after = _claims(executor)
        if before is None or after is None:
            break
        if after == before and not any(c.unsettled for c in after if c.bot_id != position.bot_id):
            ours = min(may_sell(after, position.bot_id, own, free), free)
            if ours < min(own, free):
                log.warning("⚠️ %s of the free %s %s are other bots': coins are missing in the account", plain(free - ours), plain(free), position.base)
            return free, max(ours, ZERO)
        before = after
    return free, min(own, free)


def _claims(executor: Executor) -> list[Claim] | None:
    """The claims on this coin; None where a file can't be read (its own bot says so)."""
    position = executor.position
    try:
        return [c for c in claims(executor.store.files, position.venue) if c.asset == position.base]
    except (StateError, OSError):
        return None
