"""Before real money: what is looked at when a bot goes live, and at each start of a live bot. Owns no file.

Nothing is changed and nothing is ordered here. `run` is the whole of it, for a bot that is to
go live; `short` is what a start asks again; `vet` is what the bot itself asks when it starts.
What is looked at for other modes too is in core/fleet/checks.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from core.account import access, claims, pots
from core.bot import catalogue, ids, setup
from core.bot import position as position_file
from core.clock import wall_ms
from core.config import Settings
from core.errors import AccessRefused, BotyardError, ExchangeError, InputError, NotFound, RateLimited, StateError, StrategyError
from core.exchange import Exchange
from core.fleet import checks
from core.fleet.checks import Check
from core.model import ZERO, Symbol, plain
from core.storage import Files, installation

log = logging.getLogger("botyard")


def make_client(settings: Settings) -> Exchange:
    """A client of the live exchange that doesn't keep people waiting; AccessRefused without keys."""
    quick = dataclasses.replace(settings, http_timeout=min(settings.http_timeout, Decimal(5)))
    return access.client(quick, "live", sleep=lambda _s: None)


def run(
    settings: Settings,
    files: Files,
    record: Mapping[str, Any],
    client: Exchange | None,
    records: Iterable[Mapping[str, Any]],
    *,
    clock_ms: Callable[[], int] = wall_ms,
) -> list[Check]:
    """Everything that is to be known before this bot trades real money.

    `record`: complete, as it would be then (its mode doesn't matter; id None for a new one);
    `client`: of mode live, None to make one; `records`: all bots; `clock_ms`: this machine's clock."""
    found, asked = general(settings, client, clock_ms=clock_ms)
    if asked is None:
        return found
    others = [r for r in records if r.get("mode") == "live" and r.get("id") != record.get("id")]
    check, symbol = checks.symbol(asked, str(record["symbol"]))
    found.append(check)
    if symbol is None:
        return found
    flight = _Flight(settings, files, record, asked, others, symbol)
    for name, look in flight.looks():
        found += _guarded(name, look)
    return found


def general(settings: Settings, client: Exchange | None = None, *, clock_ms: Callable[[], int] = wall_ms) -> tuple[list[Check], Exchange | None]:
    """What needs no bot: settings, keys, their rights, the account, the clock. The client is None where asking on is pointless."""
    found: list[Check] = []
    if settings.trading_mode != "live":
        found.append(Check("settings", "fail", f"TRADING_MODE is {settings.trading_mode}", "Set TRADING_MODE=live in .env, then start the page anew."))
    no_keys = checks.missing_keys(settings, "live")
    if no_keys is not None:
        return [*found, no_keys], None
    if found:
        return found, None  # nobody's keys are tried before live is allowed at all
    try:
        asked = client or make_client(settings)
        told = asked.key_rights()
    except AccessRefused as e:
        return [*found, checks.refused_keys(e)], None
    except BotyardError as e:
        return [*found, Check("exchange", "fail", f"it can't be asked: {e}", "Check the network, and try again.")], None
    found += [Check("keys", "ok", "the exchange accepts them"), *checks.rights(told)]
    found += _guarded("clock", lambda: [checks.clock(asked, clock_ms=clock_ms)])
    return found, asked


def short(settings: Settings, client: Exchange | None, symbol: str, *, clock_ms: Callable[[], int] = wall_ms) -> list[Check]:
    """What each start of a live bot asks again: the keys' rights, the clock, the symbol."""
    found, asked = general(settings, client, clock_ms=clock_ms)
    return found if asked is None else [*found, checks.symbol(asked, symbol)[0]]


def vet(client: Exchange, idle: bool, *, clock_ms: Callable[[], int] = wall_ms) -> str:
    """The bot's own look at its keys when it starts; what to warn of, empty when all is well.

    AccessRefused when the keys are dangerous or can't trade and nothing is open (`idle`). With
    a position open nothing here keeps the bot from guarding it; when idle it waits for an answer."""
    try:
        found = checks.rights(client.key_rights())
        measured = checks.clock(client, clock_ms=clock_ms)
    except (RateLimited, AccessRefused):
        raise
    except ExchangeError as e:
        if idle:
            raise
        return f"The rights of the live keys can't be asked for ({e}); the position is guarded meanwhile"
    if measured.ok != "ok":
        log.warning("⚠️ Clock: %s. %s", measured.text, measured.remedy)
    bad = failures(found)
    if bad and idle:
        raise AccessRefused(f"Live keys are not as they must be: {bad}")
    return f"Live keys are not as they must be, and a position is open, which is guarded on: {bad}" if bad else ""


def failures(found: Iterable[Check], only: Sequence[str] | None = None) -> str:
    """The failed checks with their remedies in one line, empty where none failed; `only`: of these names."""
    return " · ".join(f"{c.name}: {c.text}. {c.remedy}".strip() for c in found if c.ok == "fail" and (only is None or c.name in only))


def insist(found: Iterable[Check]) -> None:
    """InputError that lists each failed check with its remedy."""
    text = failures(found)
    if text:
        raise InputError(f"the bot can't go live, and nothing was changed. {text}")


def as_json(found: Sequence[Check]) -> dict[str, Any]:
    """For page and command: `{"checks": [{"name", "ok", "text", "remedy"}], "ready": bool}`."""
    return {"checks": [dataclasses.asdict(c) for c in found], "ready": not any(c.ok == "fail" for c in found)}


def _guarded(name: str, check: Callable[[], Iterable[Check]]) -> list[Check]:
    """A check's findings; what can't be asked for is a failure with its reason, so that the others are still shown."""
    try:
        return list(check())
    except ExchangeError as e:
        return [Check(name, "fail", f"this could not be asked for: {e}", "Try again in a moment.")]
    except StateError as e:
        return [Check(name, "fail", f"{e.path}: {e.reason}", e.remedy)]


# --- this bot ---------------------------------------------------------------------------------


class _Flight:
    """The checks that are about one bot on one symbol. `others`: the other live bots."""

    def __init__(self, settings: Settings, files: Files, record: Mapping[str, Any], client: Exchange, others: list[Mapping[str, Any]], symbol: Symbol):
        self.settings, self.files, self.record, self.client, self.others, self.symbol = settings, files, record, client, others, symbol
        self._symbols: dict[str, Symbol] | None = None

    def looks(self) -> Iterator[tuple[str, Callable[[], Iterable[Check]]]]:
        yield from (("amount", self.amount), ("balance", self.balance), ("same coin", self.same_coin))
        yield from (("protection", self.protection), ("foreign orders", self.foreign_orders), ("coins", self.coins))

    def _symbol_of(self, record: Mapping[str, Any]) -> Symbol | None:
        """Another bot's symbol, as the exchange tells it; one request, whatever their number."""
        name = str(record.get("symbol"))
        if name == self.symbol.name:
            return self.symbol
        if self._symbols is None:
            names = {str(r.get("symbol")) for r in self.others} - {self.symbol.name}
            self._symbols = {}
            if len(names) > 2:
                self._symbols = {s.name: s for s in self.client.symbols()}
            else:
                for n in names:
                    with contextlib.suppress(NotFound):
                        self._symbols[n] = self.client.symbol(n)
        return self._symbols.get(name)

    def amount(self) -> Iterator[Check]:
        s, amount = self.symbol, Decimal(str(self.record["trade_amount"]))
        stop = setup.stop_loss_of(self.record, self.settings, self.files.home / "strategies")
        yield checks.amount(s, self.client.price(s.name), amount, stop)

    def balance(self) -> Iterator[Check]:
        s, amount = self.symbol, Decimal(str(self.record["trade_amount"]))
        held = self.client.balances().get(s.quote)
        free, total = (held.free, held.total) if held else (ZERO, ZERO)
        if self.record.get("sizing") in pots.POTLESS:  # it spends a share of what is there, whatever its amount
            yield Check("balance", "ok" if free > 0 else "fail", f"{plain(free)} {s.quote} are free", "" if free > 0 else f"Deposit {s.quote}.")
            return
        if free < amount:
            text = f"{plain(free)} {s.quote} are free, the bot is to trade with {plain(amount)}"
            yield Check("balance", "fail", text, f"Deposit {s.quote}, free what other orders hold, or lower trade_amount.")
            return
        needs = [(str(self.record["name"]), pots.need_of(self.record, None))]
        for other in self.others:
            theirs = self._symbol_of(other)
            if other.get("status") == "running" and theirs is not None and theirs.quote == s.quote:
                file = self.files.read_json(position_file.name(other["id"]), schema=position_file.SCHEMA)
                needs.append((str(other["name"]), pots.need_of(other, file)))
        short_of = pots.shortfall(needs, s.quote, total)
        if short_of:
            yield Check("balance", "warn", short_of, f"Deposit {s.quote}, or lower the bots' amounts.")
        else:
            yield Check("balance", "ok", f"{plain(free)} {s.quote} are free, {plain(amount)} are needed")

    def same_coin(self) -> Iterator[Check]:
        sharing = [r for r in self.others if (s := self._symbol_of(r)) is not None and s.base == self.symbol.base]
        if not sharing:
            yield Check("same coin", "ok", f"no other live bot trades {self.symbol.base}")
            return
        names = ", ".join(f"{r['name']} (bot {r['id']}, {r['symbol']})" for r in sharing)
        limit = self.symbol.rules.max_algo_orders
        held = f"; the exchange holds {limit} stop orders a symbol for all of them" if limit else ""
        text = f"{self.symbol.base} is traded by {names} too: each sells only what it bought{held}"
        yield Check("same coin", "warn", text, "Choose another coin, unless you mean it.")

    def protection(self) -> Iterator[Check]:
        """Whether stop and target can lie at the exchange, or only the running bot watches them."""
        s = self.symbol
        why = ""
        if self.record.get("protection") == "bot":
            why = "the bot is set to watch its stop itself"
        elif self._managed():
            why = "its strategy manages the position itself"
        elif not self.client.capabilities.protection or not {"STOP_LOSS", "STOP_LOSS_LIMIT"} & s.order_types or "LIMIT_MAKER" not in s.order_types:
            why = f"{s.name} takes no pair of stop and target"
        if why:
            text = f"{why}: while the bot does not run, nothing sells at the stop loss"
            yield Check("protection", "warn", text, "Keep bot and yard running, or set protection to exchange where it is possible.")
            return
        limit = s.rules.max_algo_orders
        taken = sum(1 for r in self.others if r.get("symbol") == s.name) + len(self._foreign())
        if limit and taken >= limit:
            text = f"{s.name} holds {limit} stop orders an account, and other bots and orders may take all of them: this bot may have to watch its stop itself"
            yield Check("protection", "warn", text, "Cancel orders that aren't needed, or choose another symbol.")
        else:
            yield Check("protection", "ok", "stop and target can lie at the exchange, also while the bot is stopped")

    def _managed(self) -> bool:
        with contextlib.suppress(StrategyError, InputError):
            return bool(catalogue.of(self.files.home / "strategies").build(str(self.record["strategy"]), self.record.get("params") or {})["manages_position"])
        return False  # that it can't be built is told by whoever builds it

    def _foreign(self) -> list[str]:
        own = installation(self.files)
        return [u.client_id for u in self.client.open_orders(self.symbol.name) if ids.owner_of(u.client_id, own) is None]

    def foreign_orders(self) -> Iterator[Check]:
        found = self._foreign()
        if found:
            n = "an order" if len(found) == 1 else f"{len(found)} orders"
            text = f"{n} of {self.symbol.name} on this account came from no bot of this yard; bots leave such orders alone"
            yield Check("foreign orders", "warn", text, "Cancel them if they are forgotten ones: they hold money or coins.")
        else:
            yield Check("foreign orders", "ok", f"no order of others lies on {self.symbol.name}")

    def coins(self) -> Iterator[Check]:
        base = self.symbol.base
        held = self.client.balances().get(base)
        claimed = sum((c.amount for c in claims.claims(self.files, self.client.venue) if c.asset == base), ZERO)
        free = (held.total if held else ZERO) - claimed
        if free > 0:
            yield Check("coins", "warn", f"{plain(free)} {base} in the account belong to no bot; they are left alone, and no bot sells them")
        else:
            yield Check("coins", "ok", f"no {base} beside what bots own")
