"""One thing looked at, and what of an exchange is looked at alike by the page, by commands and before real money. Owns no file.

Nothing is changed and nothing is ordered here; each check says what it found and, where something
is to be done, what. core/fleet/preflight.py asks them of a bot that trades live, utils/test_connection.py
of every mode in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from core.clock import wall_ms
from core.config import Settings
from core.errors import AccessRefused, ExchangeError, NotFound
from core.exchange import Exchange, KeyRights
from core.market.sizing import largest_entry, smallest_entry
from core.model import Mode, Symbol, plain

Outcome = Literal["ok", "warn", "fail"]
MARKS: dict[Outcome, str] = {"ok": "✅", "warn": "⚠️ ", "fail": "❌"}
CLOCK_WARN_MS = 1000
CLOCK_FAIL_MS = 5000
TRIP_MOST_MS = 1000  # half a round trip beyond this and the offset isn't known well enough
TRIP_GOOD_MS = 250
CLOCK_TRIES = 3
WHERE_KEYS = "at Binance, under API Management"
WHERE_TEST_KEYS = "at https://testnet.binance.vision"
# Rights that a bot needs none of, by the names of /sapi/v1/account/apiRestrictions.
NEEDLESS = {
    "enableInternalTransfer": "internal transfers",
    "permitsUniversalTransfer": "universal transfers",
    "enableMargin": "margin loans",
    "enableFutures": "futures",
    "enableVanillaOptions": "options",
    "enablePortfolioMarginTrading": "portfolio margin",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `remedy` says what to do, where something is to be done."""

    name: str
    ok: Outcome
    text: str
    remedy: str = ""


# --- keys -----------------------------------------------------------------------------------


def missing_keys(settings: Settings, mode: Mode) -> Check | None:
    """What is to be said where a mode has no keys; None where it has."""
    if mode == "paper" or all(settings.keys(mode)):
        return None
    prefix, where = ("BINANCE_TESTNET", WHERE_TEST_KEYS) if mode == "testnet" else ("BINANCE", f"{WHERE_KEYS}, for spot trading alone")
    return Check("keys", "fail", f"there are no keys for {mode}", f"Make a key {where}, and put {prefix}_API_KEY and {prefix}_API_SECRET into .env.")


def refused_keys(e: AccessRefused) -> Check:
    remedy = f"Check key and secret in .env, and {WHERE_KEYS} that the key is active and this machine's address allowed."
    return Check("keys", "fail", f"the exchange doesn't accept the keys: {e}", remedy)


def rights(told: KeyRights) -> list[Check]:
    """What account and key may do (Binance: canTrade; apiRestrictions)."""
    found = []
    if told.can_trade:
        found.append(Check("account", "ok", "the account may trade"))
    else:
        found.append(Check("account", "fail", "the exchange says that this account may not trade", "Ask the exchange why; until then no order would be taken."))
    r = told.restrictions
    if r is None:
        text = "the exchange doesn't tell what this key may do"
        return [*found, Check("withdrawals", "warn", text, "Make sure by yourself that the key may not withdraw.")]
    if r.get("enableReading") is True and r.get("enableSpotAndMarginTrading") is True:
        found.append(Check("trading", "ok", "the key may read and trade spot"))
    else:
        missing = " and ".join(n for n, on in (("read", r.get("enableReading")), ("trade spot", r.get("enableSpotAndMarginTrading"))) if on is not True)
        found.append(Check("trading", "fail", f"the key may not {missing}", f"Allow reading and spot trading for it {WHERE_KEYS}."))
    if r.get("enableWithdrawals") is False:
        found.append(Check("withdrawals", "ok", "the key may not withdraw"))
    else:
        text = "the key may withdraw: whoever gets hold of it can empty the account"
        found.append(Check("withdrawals", "fail", text, f"Turn withdrawals off for it {WHERE_KEYS}, or make another key."))
    more = [text for name, text in NEEDLESS.items() if r.get(name) is True]
    if more:
        found.append(Check("other rights", "warn", f"the key also allows {', '.join(more)}", f"Turn off what bots don't need {WHERE_KEYS}."))
    if r.get("ipRestrict") is not True:
        found.append(Check("address", "warn", "the key works from any address", f"Restrict it to this machine's address {WHERE_KEYS}."))
    return found


# --- clock, symbol, amount --------------------------------------------------------------------


def clock(client: Exchange, *, clock_ms: Callable[[], int] = wall_ms) -> Check:
    """This machine's clock against the exchange's; half of the round trip is the error that remains."""
    best: tuple[float, float] | None = None
    for _ in range(CLOCK_TRIES):
        before, started = clock_ms(), time.monotonic()
        server = client.time().server_ms
        half = (time.monotonic() - started) * 500
        if best is None or half < best[0]:
            best = (half, before + half - server)
        if half <= TRIP_GOOD_MS:
            break
    assert best is not None
    half, ahead = best
    text = f"this clock is {abs(ahead):.0f} ms {'ahead of' if ahead > 0 else 'behind'} the exchange's (± {half:.0f} ms)"
    if half > TRIP_MOST_MS:
        return Check("clock", "fail", f"{text}: too uncertain", "The connection to the exchange is too slow for trading; mend it.")
    if abs(ahead) > CLOCK_FAIL_MS:
        return Check("clock", "fail", text, "Set the clock: sudo timedatectl set-ntp true")
    if abs(ahead) > CLOCK_WARN_MS:
        return Check("clock", "warn", f"{text}; requests are corrected for it", "Set the clock: sudo timedatectl set-ntp true")
    return Check("clock", "ok", text)


def symbol(client: Exchange, name: str) -> tuple[Check, Symbol | None]:
    """A symbol and what is to be said of it; None where it can't be traded."""
    try:
        found = client.symbol(name)
    except NotFound as e:
        return Check("symbol", "fail", str(e), "Choose a symbol that the exchange has."), None
    except ExchangeError as e:
        return Check("exchange", "fail", f"{name} can't be asked for: {e}", "Try again in a moment."), None
    if not found.tradeable:
        return Check("symbol", "fail", f"{name} can't be traded now, its state is {found.status}", "Wait until it can, or choose another symbol."), None
    return Check("symbol", "ok", f"{name} can be traded"), found


def amount(s: Symbol, price: Decimal, given: Decimal, stop_loss_pct: Decimal) -> Check:
    """A bot's amount, in the quote asset: what it buys must be sellable at its stop, and fit into one order."""
    low, high = smallest_entry(s, price, stop_loss_pct), largest_entry(s)
    if given < low:
        text = f"{plain(given)} {s.quote} is too little for {s.name}: less than {plain(low)} could not be sold at its stop"
        return Check("amount", "fail", text, f"Set trade_amount to at least {plain(low)}.")
    if given > high:
        return Check("amount", "fail", f"{plain(given)} {s.quote} is more than {s.name} takes in one order", f"Set trade_amount to at most {plain(high)}.")
    return Check("amount", "ok", f"{plain(given)} {s.quote}; {s.name} takes {plain(low)} to {plain(high)}")
