#!/usr/bin/env python3
"""`python3 utils/test_connection.py`: is this yard ready to trade, and if not, what to do about it.

Looks at the settings, this machine, the exchange of every mode that is in use, and the
bots' symbols. Changes nothing (a file written to see whether the folder takes one is
removed again), sends no order; with `--order` it has one checked by the exchange's
order/test, which executes nothing.

Exit codes: 0 all ok or with warnings, 1 something failed, 2 wrong arguments, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages()

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any

from core import commandline as words
from core import config
from core.account import access
from core.clock import utc_text, wall_ms
from core.errors import AccessRefused, BotyardError, SettingsError, Unavailable
from core.fleet import checks, machine, preflight, services
from core.fleet.checks import MARKS, Check, Outcome
from core.market.sizing import smallest_entry
from core.model import MODES, Mode, OrderRequest, Symbol, plain
from core.storage import Files

if TYPE_CHECKING:
    from core.binance_client import BinanceClient


def guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """What a check found; whatever it raises becomes a line too, so that the others still run."""
    try:
        yield from look()
    except BotyardError as e:
        yield Check(name, "fail", str(e))
    except Exception as e:  # noqa: BLE001 - the report must come to its end
        yield Check(name, "fail", f"this check could not be done: {type(e).__name__}: {e}", "If the other rows are ok, report this as a bug.")


# --- the bots ------------------------------------------------------------------------


def bot_records(files: Files) -> list[dict[str, Any]]:
    """The bots' records as they stand, without creating the file. StateError when it can't be read."""
    value = files.read_any("active_bots.json")
    if value is None and (config.ROOT / "active_bots.json").is_file():
        value = Files(config.ROOT).read_any("active_bots.json")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(b, dict) for b in value):
        raise BotyardError("active_bots.json must hold a list of bots; restore it from active_bots.json.prev or a backup")
    return value


def number(value: Any) -> Decimal | None:
    """A record's number; None where there is none, or it is none."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def bot_mode(record: dict[str, Any]) -> Mode:
    mode = record.get("mode")
    return mode if mode in MODES else "paper"


# --- an exchange ------------------------------------------------------------------------


class ExchangeChecks:
    """The checks of one mode. Later ones are left out where an earlier one makes them pointless."""

    def __init__(self, settings: config.Settings, mode: Mode, bots: Sequence[dict[str, Any]], order: bool):
        self.settings, self.mode, self.order = settings, mode, order
        self.bots = [b for b in bots if bot_mode(b) == mode]
        self.client: BinanceClient | None = None
        self.signed = False

    def rows(self) -> Iterator[Check]:
        yield from guarded(self.name("exchange"), self.reach)
        if self.client is None:
            return
        yield from guarded(self.name("clock"), self.clock)
        yield from guarded(self.name("account"), self.account)
        yield from guarded(self.name("symbols"), self.symbols)
        if self.order and self.signed:
            yield from guarded(self.name("order"), self.try_order)

    def name(self, what: str) -> str:
        return f"{self.mode.capitalize()} {what}"

    def reach(self) -> Iterator[Check]:
        name = self.name("exchange")
        no_keys = checks.missing_keys(self.settings, self.mode)
        if no_keys is not None:
            yield replace(no_keys, name=name)
            return
        client = access.client(self.settings, self.mode, sleep=lambda _: None)
        try:
            installed = Files(self.settings.home).read_json("data/installation.json", schema=1)
            client.connect(str(installed["installation"]) if installed else None)
            reading = client.time()
        except Unavailable as e:
            if self.mode == "paper":
                text = f"the paper exchange doesn't answer on port {self.settings.paper_port}"
                remedy = "It is started with the first paper bot. If one runs already: see its log in data/paper/; another program may hold the port."
                yield Check(name, "warn", text, remedy)
            else:
                yield Check(name, "fail", f"{client.url} doesn't answer: {e}", "Check the network, and whether Binance can be reached from where you are.")
            return
        self.client = client
        text = f"{client.url} answers"
        if self.mode == "paper":
            text += f"; market {client.venue.source or 'unknown'}, market time {utc_text(reading.market_ms)}, speed {reading.speed:g}"
        yield Check(name, "ok", text)

    def clock(self) -> Iterator[Check]:
        assert self.client is not None
        yield replace(checks.clock(self.client), name=self.name("clock"))

    def account(self) -> Iterator[Check]:
        assert self.client is not None
        name = self.name("account")
        try:
            balances = [b for b in self.client.balances().values() if b.total]
        except AccessRefused as e:
            yield replace(checks.refused_keys(e), name=name)
            return
        self.signed = True
        shown = ", ".join(f"{plain(b.total)} {b.asset}" for b in balances[:5])
        if not balances:
            yield Check(name, "warn", "the keys work, the account holds nothing", "Deposit what the bots are to trade with.")
        else:
            more = f" and {len(balances) - 5} more" if len(balances) > 5 else ""
            yield Check(name, "ok", f"the keys work; it holds {shown}{more}")

    def symbols(self) -> Iterator[Check]:
        """Each symbol of the bots: known, open for trading, and the bots' amounts within its limits."""
        by_symbol: dict[str, list[dict[str, Any]]] = {}
        for bot in self.bots:
            by_symbol.setdefault(str(bot.get("symbol")), []).append(bot)
        for name, bots in sorted(by_symbol.items()):
            line = f"{self.name('symbol')} {name}"
            yield from guarded(line, partial(self._symbol, line, name, bots))

    def _symbol(self, line: str, name: str, bots: list[dict[str, Any]]) -> Iterator[Check]:
        assert self.client is not None
        who = ", ".join(f"bot {b.get('id')}" for b in bots)
        found, symbol = checks.symbol(self.client, name)
        if symbol is None:
            yield replace(found, name=line, text=f"{found.text} ({who})")
            return
        price = self.client.price(name)
        wrong = [replace(c, name=line) for bot in bots if (c := self._amount(bot, symbol, price)).ok != "ok"]
        yield from wrong
        if not wrong:
            low = smallest_entry(symbol, price, self._stop(bots[-1]))
            text = f"price {plain(price)} {symbol.quote}, smallest entry {plain(low)}, step {plain(symbol.rules.step)} {symbol.base} ({who})"
            yield Check(line, "ok", text)

    def _stop(self, bot: dict[str, Any]) -> Decimal:
        own = number(bot.get("stop_loss_pct"))
        return self.settings.stop_loss_pct if own is None else own

    def _amount(self, bot: dict[str, Any], symbol: Symbol, price: Decimal) -> Check:
        given = number(bot.get("trade_amount"))
        if given is None:
            return Check("amount", "fail", f"bot {bot.get('id')}: its trade_amount is {bot.get('trade_amount')!r}", "Give it a number.")
        found = checks.amount(symbol, price, given, self._stop(bot))
        return replace(found, text=f"bot {bot.get('id')}: {found.text}")

    def try_order(self) -> Iterator[Check]:
        """order/test: the exchange checks a market buy and executes nothing."""
        assert self.client is not None
        name = str(self.bots[0].get("symbol")) if self.bots else "BTCUSDT"
        symbol = self.client.symbol(name)
        amount = smallest_entry(symbol, self.client.price(name), self.settings.stop_loss_pct)
        request = OrderRequest(f"by-check-{wall_ms()}", name, "BUY", "MARKET", quote_quantity=amount)
        self.client.test_order(request)
        yield Check(self.name("order"), "ok", f"the exchange would take a market buy of {plain(amount)} {symbol.quote} of {name} (nothing was bought)")


def live(settings: config.Settings) -> Iterator[Check]:
    """Whether this yard may trade with real money, as far as no bot is needed to tell; what one needs, its own checks tell when it goes live."""
    needs = []
    if settings.trading_mode != "live":
        needs.append("TRADING_MODE=live")
    if not all(settings.keys("live")):
        needs.append("BINANCE_API_KEY and BINANCE_API_SECRET of a key that may trade spot and not withdraw")
    if needs:
        needs.append("weeks on paper and testnet with results that you understand")
        yield Check("Live", "ok" if settings.trading_mode != "live" else "fail", "no bot can trade with real money. That would need: " + "; ".join(needs))
        return
    for check in preflight.general(settings)[0]:
        if check.ok == "ok" and check.name in ("clock", "account"):
            continue  # said above
        yield replace(check, name=f"Live {check.name}")
    yield Check("Live", "ok", "each bot goes live by itself, on the page or with: python3 utils/yard.py live N")


# --- the report ---------------------------------------------------------------------


def report(order: bool = False, mode: Mode | None = None) -> Iterator[Check]:
    """Every row, in the order in which a person would look. Never raises."""
    yield from guarded("Python", machine.python_version)
    yield from guarded("Packages", machine.packages)
    yield from guarded("screen", machine.screen)
    try:
        settings = config.load()
    except SettingsError as e:
        for problem in e.problems:
            yield Check("Settings", "fail", problem, "Correct it in .env (or in the environment, which wins).")
        return
    except Exception as e:  # noqa: BLE001 - the report must come to its end
        yield Check("Settings", "fail", f"they could not be read: {type(e).__name__}: {e}", "Compare .env with .env.example.")
        return
    yield Check("Settings", "ok", f"TRADING_MODE={settings.trading_mode}, home {settings.home}")
    for row in _with(settings, order, mode):
        yield replace(row, text=_cut(row.text, settings))


def _with(settings: config.Settings, order: bool, mode: Mode | None) -> Iterator[Check]:
    yield from guarded(".env", lambda: machine.env_file(settings.home))
    yield from guarded("Folder", lambda: machine.writable(settings.home))
    yield from guarded("Disk", lambda: machine.disk(settings.home))
    bots: list[dict[str, Any]] = []

    def read_bots() -> Iterator[Check]:
        bots.extend(bot_records(Files(settings.home)))
        yield Check("Bots", "ok", f"{len(bots)} in active_bots.json")

    yield from guarded("Bots", read_bots)
    allowed = MODES[: MODES.index(settings.trading_mode) + 1]
    if mode is not None:
        modes: list[Mode] = [mode]
    else:
        modes = [m for m in allowed if m == settings.trading_mode or any(bot_mode(b) == m for b in bots)]
        for m in MODES:
            above = [str(b.get("id")) for b in bots if bot_mode(b) == m]
            if m not in allowed and above:
                text = f"bot {', '.join(above)}: mode {m} is above TRADING_MODE={settings.trading_mode}, it won't start"
                yield Check("Bots", "warn", text, f"Set TRADING_MODE={m}, or change the bot's mode.")
    for m in modes:
        yield from ExchangeChecks(settings, m, bots, order).rows()
    yield from guarded("Messages", lambda: services.messages(settings))
    yield from guarded("News", lambda: services.news(settings, bots))
    yield from guarded("Live", lambda: live(settings))


def _cut(text: str, settings: config.Settings) -> str:
    for secret in settings.secrets():
        text = text.replace(secret, "***")
    return text


def worst(rows: Iterable[Check]) -> Outcome:
    found = {r.ok for r in rows}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def as_row(check: Check) -> dict[str, str]:
    """A line of the report as --json prints it."""
    return {"check": check.name, "status": check.ok, "text": check.text, "remedy": check.remedy}


def main(arguments: Sequence[str] | None = None) -> int:
    about = "Checks whether this yard is ready to trade, and says what to do where it is not."
    codes = "exit codes: 0 all ok, or with warnings; 1 something failed; 2 wrong arguments; 130 ended by Ctrl-C"
    parser = words.Parser(prog="test_connection.py", description=about, epilog=codes)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--order", action="store_true", help="have an order checked by the exchange too (order/test: nothing is executed)")
    parser.add_argument("--mode", choices=MODES, help="check this mode's exchange only (default: TRADING_MODE and the bots' modes)")
    given = parser.parse_args(arguments)
    return words.guarded("test_connection.py", given.json, lambda: tell(given))


def tell(given: argparse.Namespace) -> int:
    rows: list[Check] = []
    for row in report(given.order, given.mode):
        rows.append(row)
        if not given.json:
            print(f"{MARKS[row.ok]} {row.name:<18} {row.text}", flush=True)
            if row.remedy:
                print(f"   {'':<18} → {row.remedy}", flush=True)
    status = worst(rows)
    if given.json:
        print(json.dumps({"status": status, "rows": [as_row(r) for r in rows]}, ensure_ascii=False, indent=1))
    else:
        print({"ok": "\nAll is well.", "warn": "\nReady, with warnings.", "fail": "\nNot ready: see the lines with ❌."}[status])
    return words.FOUND if status == "fail" else words.DONE


if __name__ == "__main__":
    sys.exit(main())
