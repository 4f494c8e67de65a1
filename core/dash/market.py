"""What the page knows of exchanges: balances, prices, symbols; fetched in the background.

One desk a mode, each with its own client and thread, so that a testnet that hangs keeps
nobody else waiting. `/api/overview` only reads what is known and says what it would like
to know; it never waits. Nothing is asked while nobody looks at the page. Owns no file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from core.account import access
from core.clock import wall_ms
from core.config import Settings
from core.errors import BotyardError, InputError, NotFound, Unavailable
from core.exchange import Exchange
from core.model import MODES, Mode, Symbol
from core.storage import Files, installation

log = logging.getLogger("botyard.dash")

BALANCES_AGE_S = 30.0
PRICES_AGE_S = 10.0
SYMBOLS_AGE_S = 600.0
RETRY_S = 5.0
PAPER_WAIT_S = 12.0

MakeClient = Callable[[Mode], Exchange]


class Unreachable(BotyardError):
    """The exchange could not be asked (503)."""


def binance(settings: Settings, files: Files) -> MakeClient:
    """Makes clients; python-binance is imported by the first, not by the page's start.

    A client that another yard's paper exchange answers is refused, as a bot refuses it."""

    def make(mode: Mode) -> Exchange:
        # No pause between a read's tries: the desk has its own patience.
        client = access.client(settings, mode, sleep=lambda _s: None)
        client.connect(installation(files))
        return client

    return make


class Desk:
    """One mode's exchange, asked in a thread of its own."""

    def __init__(self, mode: Mode, make: MakeClient, monotonic: Callable[[], float] = time.monotonic):
        self.mode, self._make, self._monotonic = mode, make, monotonic
        self._client: Exchange | None = None
        self._asking = threading.RLock()  # one request at a time over one client
        self._known = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._symbols: dict[str, Symbol] = {}
        self._all: list[Symbol] = []
        self._all_at = -1e12
        self._prices: dict[str, tuple[Decimal, int, float]] = {}
        self._failed: dict[str, float] = {}
        self._want_prices: set[str] = set()
        self._want_symbols: set[str] = set()
        self._balances: dict[str, Any] = {"as_of": None, "error": None, "assets": None}
        self._balances_at = -1e12
        self._want_balances = False

    # --- for the page: never waits ----------------------------------------------

    def wish(self, prices: Iterable[str], symbols: Iterable[str]) -> None:
        """Say what would be good to know; wakes the thread when something is due."""
        now = self._monotonic()
        with self._known:
            self._want_prices = {s for s in prices if self._due(s, now)}
            self._want_symbols = {s for s in symbols if s not in self._symbols and now - self._failed.get(s, -1e12) > RETRY_S * 12}
            self._want_balances = now - self._balances_at > BALANCES_AGE_S
            due = bool(self._want_prices or self._want_symbols or self._want_balances)
        if due and not self._ended:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"desk-{self.mode}", daemon=True)
                self._thread.start()
            self._wake.set()

    def _due(self, symbol: str, now: float) -> bool:
        known = self._prices.get(symbol)
        last = known[2] if known else -1e12
        return now - max(last, self._failed.get("price " + symbol, -1e12)) > PRICES_AGE_S

    def balances(self) -> dict[str, Any]:
        with self._known:
            return dict(self._balances)

    def price(self, symbol: str) -> tuple[Decimal, int] | None:
        with self._known:
            known = self._prices.get(symbol)
        return (known[0], known[1]) if known else None

    def quote(self, symbol: str) -> str | None:
        found = self._symbols.get(symbol)
        return found.quote if found else None

    def base(self, symbol: str) -> str | None:
        found = self._symbols.get(symbol)
        return found.base if found else None

    # --- for routes that must know: waits ----------------------------------------

    def client(self) -> Exchange:
        with self._asking:
            if self._client is None:
                self._client = self._make(self.mode)
            return self._client

    def ask(self, what: Callable[[Exchange], Any]) -> Any:
        """One request. NotFound passes; other failures become Unreachable."""
        with self._asking:
            try:
                return what(self.client())
            except NotFound:
                raise
            except BotyardError as e:
                self._client = None  # made anew: a paper exchange that came back may be another one
                if self.mode == "paper" and isinstance(e, Unavailable) and e.status is None:
                    raise Unreachable("The paper exchange does not answer; it starts with the first paper bot or coin search.") from e
                raise Unreachable(f"The {self.mode} exchange could not be asked: {str(e)[:300]}") from e

    def symbol(self, name: str) -> Symbol:
        found: Symbol = self.ask(lambda c: c.symbol(name))
        self._symbols[name] = found
        return found

    def all_symbols(self) -> list[Symbol]:
        with self._asking:
            if not self._all or self._monotonic() - self._all_at > SYMBOLS_AGE_S:
                self._all = self.ask(lambda c: c.symbols())
                self._all_at = self._monotonic()
                self._symbols.update({s.name: s for s in self._all})
            return self._all

    # --- the thread ----------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ended:
                return
            try:
                self._fetch()
            except Exception as e:  # noqa: BLE001 - a desk that dies would leave the page silent for ever
                log.warning("%s: asking the exchange failed: %s: %s", self.mode, type(e).__name__, e)

    def _fetch(self) -> None:
        with self._known:
            prices, symbols, balances = set(self._want_prices), set(self._want_symbols), self._want_balances
        reached = True
        if balances:
            reached = self._fetch_balances()
        for name in sorted(symbols):
            if not reached or self._ended:
                self._failed[name] = self._monotonic()
                continue
            try:
                self.symbol(name)
            except BotyardError:
                self._failed[name] = self._monotonic()
        if reached and len(prices) > 1 and not self._ended:
            prices -= self._fetch_together(sorted(prices))
        for name in sorted(prices):
            if not reached or self._ended:
                self._failed["price " + name] = self._monotonic()
                continue
            try:
                found = self.ask(lambda c, n=name: c.price(n))  # type: ignore[misc]
            except BotyardError:
                self._failed["price " + name] = self._monotonic()
                continue
            with self._known:
                self._prices[name] = (found, wall_ms(), self._monotonic())

    def _fetch_together(self, names: list[str]) -> set[str]:
        """Several prices by one request, where that goes; those that are known now."""
        try:
            found = self.ask(lambda c: c.prices(names))
        except BotyardError:
            return set()  # one of them may be no symbol any more: each is asked for by itself
        with self._known:
            self._prices.update({name: (price, wall_ms(), self._monotonic()) for name, price in found.items()})
        return set(found)

    def _fetch_balances(self) -> bool:
        try:
            held = self.ask(lambda c: c.balances())
        except BotyardError as e:
            with self._known:
                # What was known stays, with its time, beside the reason why it is old.
                self._balances["error"] = str(e)
                self._balances_at = self._monotonic() - BALANCES_AGE_S + RETRY_S
            return False
        assets = [{"asset": b.asset, "free": b.free, "locked": b.locked} for b in held.values() if b.total]
        assets.sort(key=lambda a: a["asset"])
        with self._known:
            self._balances = {"as_of": wall_ms(), "error": None, "assets": assets}
            self._balances_at = self._monotonic()
        return True

    def close(self) -> None:
        self._ended = True
        self._wake.set()


class Market:
    """All desks of one dashboard.

    `bring_up_paper` asks the yard for the paper exchange; it is called only for what
    needs it: a coin search and the checks of a new paper bot.
    """

    def __init__(self, settings: Settings, make: MakeClient, bring_up_paper: Callable[[], None] | None = None, wait_s: float = PAPER_WAIT_S):
        self.settings = settings
        self._make = make
        self._bring_up = bring_up_paper
        self._wait_s = wait_s
        self._desks: dict[str, Desk] = {}
        self._lock = threading.Lock()

    def modes(self) -> list[Mode]:
        """What may be traded: up to TRADING_MODE."""
        return list(MODES[: MODES.index(self.settings.trading_mode) + 1])

    def desk(self, mode: str) -> Desk:
        if mode not in self.modes():
            raise InputError(f"mode {mode} is not available; there is {', '.join(self.modes())}")
        with self._lock:
            return self._desks.setdefault(mode, Desk(mode, self._make))  # type: ignore[arg-type]

    def ready(self, mode: str) -> Desk:
        """A desk whose exchange answers, or Unreachable. Paper is started and waited for, briefly."""
        desk = self.desk(mode)
        if mode != "paper":
            return desk
        if self._bring_up is not None:
            self._bring_up()
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                desk.ask(lambda c: c.time())
                return desk
            except Unreachable as e:
                if time.monotonic() > deadline:
                    raise Unreachable(
                        f"The paper exchange on port {self.settings.paper_port} does not answer yet; "
                        f"wait a moment and try again, or look into data/paper/ for its log"
                    ) from e
            time.sleep(0.2)

    def close(self) -> None:
        for desk in self._desks.values():
            desk.close()
