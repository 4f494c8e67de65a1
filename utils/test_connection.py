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
import importlib.metadata
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import commandline as words
from core import config
from core.account import access
from core.clock import utc_text, wall_ms
from core.errors import AccessRefused, BotyardError, NewsError, NotFound, SettingsError, Unavailable
from core.market.sizing import largest_entry, smallest_entry
from core.model import MODES, Mode, OrderRequest, plain
from core.storage import Files

if TYPE_CHECKING:
    from core.binance_client import BinanceClient
    from core.exchange import Exchange

Status = Literal["ok", "warn", "fail"]
MARKS = {"ok": "✅", "warn": "⚠️ ", "fail": "❌"}

LEAST_DISK = 100 << 20  # below this a bot's files may not fit
LITTLE_DISK = 1 << 30
CLOCK_WARN_MS = 500  # Binance refuses a time stamp more than 1000 ms ahead of its own clock


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report. `remedy` says what to do, where something is to be done."""

    check: str
    status: Status
    text: str
    remedy: str = ""


Check = Callable[[], Iterable[Row]]


def guarded(name: str, check: Check) -> Iterator[Row]:
    """A check's rows; whatever it raises becomes a row too, so that the others still run."""
    try:
        yield from check()
    except BotyardError as e:
        yield Row(name, "fail", str(e))
    except Exception as e:  # noqa: BLE001 - the report must come to its end
        yield Row(name, "fail", f"this check could not be done: {type(e).__name__}: {e}", "If the other rows are ok, report this as a bug.")


# --- this machine -----------------------------------------------------------------


def python_version() -> Iterator[Row]:
    # One that is too old doesn't come this far: core/bootstrap.py says so.
    yield Row("Python", "ok", f"{'.'.join(str(n) for n in sys.version_info[:3])} in {sys.prefix}")


def packages(requirements: Path = config.ROOT / "requirements.txt") -> Iterator[Row]:
    """The pinned packages, against those that are installed."""
    missing, other = [], []
    for line in requirements.read_text(encoding="utf-8").splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if not found:
            continue
        try:
            installed = importlib.metadata.version(found[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(found[1])
            continue
        if installed != found[2]:
            other.append(f"{found[1]} {installed} (wanted {found[2]})")
    if missing:
        yield Row("Packages", "fail", f"missing: {', '.join(missing)}", "Run ./start.sh")
    elif other:
        yield Row("Packages", "warn", f"other versions: {', '.join(other)}", "Run ./start.sh")
    else:
        yield Row("Packages", "ok", "all there, in the versions that were tested")


def screen() -> Iterator[Row]:
    path = shutil.which("screen")
    if path is None:
        yield Row("screen", "fail", "not installed: bots run in it", "sudo apt-get install screen (or dnf, pacman -S, apk add, brew install)")
        return
    # Old releases leave with 1 after --version; what they print counts.
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    yield Row("screen", "ok", (said.stdout or said.stderr).strip().splitlines()[0] if said.stdout or said.stderr else path)


def disk(home: Path) -> Iterator[Row]:
    free = shutil.disk_usage(home).free
    text = f"{free / (1 << 30):.1f} GB free in {home}"
    if free < LEAST_DISK:
        yield Row("Disk", "fail", text, "Free some space: a bot that can't write its files stops trading.")
    elif free < LITTLE_DISK:
        yield Row("Disk", "warn", text, "Free some space before it runs out.")
    else:
        yield Row("Disk", "ok", text)


def writable(home: Path) -> Iterator[Row]:
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".botyard-check-") as f:
            f.write(b"x")
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        yield Row("Folder", "fail", f"{home} can't be written: {e.strerror or e}", f"Make it yours: sudo chown -R $USER '{home}'")
    else:
        yield Row("Folder", "ok", f"{home} can be written")


def env_file(home: Path) -> Iterator[Row]:
    """Whether the file with the keys is there, and who may read it."""
    path = home / ".env" if (home / ".env").is_file() else config.ROOT / ".env"
    if not path.is_file():
        yield Row(".env", "warn", "there is none: every setting has its default", f"cp .env.example '{path}' && chmod 600 '{path}'")
        return
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        yield Row(".env", "warn", f"{path} can be read by others on this machine (mode {mode:o})", f"chmod 600 '{path}'")
    else:
        yield Row(".env", "ok", f"{path}, readable by you alone")


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

    def rows(self) -> Iterator[Row]:
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

    def reach(self) -> Iterator[Row]:
        name = self.name("exchange")
        if self.mode != "paper" and not all(self.settings.keys(self.mode)):
            prefix = "BINANCE_TESTNET" if self.mode == "testnet" else "BINANCE"
            where = "make them at https://testnet.binance.vision" if self.mode == "testnet" else "make them at Binance, without the right to withdraw"
            yield Row(name, "fail", f"no keys for {self.mode}", f"Put {prefix}_API_KEY and {prefix}_API_SECRET into .env; {where}")
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
                yield Row(name, "warn", text, remedy)
            else:
                yield Row(name, "fail", f"{client.url} doesn't answer: {e}", "Check the network, and whether Binance can be reached from where you are.")
            return
        self.client = client
        text = f"{client.url} answers"
        if self.mode == "paper":
            text += f"; market {client.venue.source or 'unknown'}, market time {utc_text(reading.market_ms)}, speed {reading.speed:g}"
        yield Row(name, "ok", text)

    def clock(self) -> Iterator[Row]:
        """The difference of the clocks; half of the round trip is the error that remains."""
        assert self.client is not None
        started, before = time.monotonic(), wall_ms()
        server = self.client.server_ms()
        trip = (time.monotonic() - started) * 1000
        ahead = before + trip / 2 - server
        text = f"this clock is {abs(ahead):.0f} ms {'ahead of' if ahead > 0 else 'behind'} the exchange's (± {trip / 2:.0f} ms)"
        if abs(ahead) - trip / 2 > CLOCK_WARN_MS:
            yield Row(self.name("clock"), "warn", text + "; requests are corrected for it", "Set the clock: sudo timedatectl set-ntp true")
        else:
            yield Row(self.name("clock"), "ok", text)

    def account(self) -> Iterator[Row]:
        assert self.client is not None
        name = self.name("account")
        try:
            balances = [b for b in self.client.balances().values() if b.total]
        except AccessRefused as e:
            remedy = "Check key and secret in .env, that the key may trade spot, and that this machine's address is allowed."
            yield Row(name, "fail", f"the keys are not accepted: {e}", remedy)
            return
        self.signed = True
        shown = ", ".join(f"{plain(b.total)} {b.asset}" for b in balances[:5])
        if not balances:
            yield Row(name, "warn", "the keys work, the account holds nothing", "Deposit what the bots are to trade with.")
        else:
            more = f" and {len(balances) - 5} more" if len(balances) > 5 else ""
            yield Row(name, "ok", f"the keys work; it holds {shown}{more}")

    def symbols(self) -> Iterator[Row]:
        """Each symbol of the bots: known, open for trading, and the bots' amounts within its limits."""
        assert self.client is not None
        by_symbol: dict[str, list[dict[str, Any]]] = {}
        for bot in self.bots:
            by_symbol.setdefault(str(bot.get("symbol")), []).append(bot)
        for name, bots in sorted(by_symbol.items()):
            check = f"{self.name('symbol')} {name}"

            def one(name: str = name, bots: list[dict[str, Any]] = bots, check: str = check) -> Iterator[Row]:
                yield from self._symbol(check, name, bots)

            yield from guarded(check, one)

    def _symbol(self, check: str, name: str, bots: list[dict[str, Any]]) -> Iterator[Row]:
        assert self.client is not None
        who = ", ".join(f"bot {b.get('id')}" for b in bots)
        try:
            symbol = self.client.symbol(name)
        except NotFound:
            yield Row(check, "fail", f"the exchange doesn't know it ({who})", "Give the bot another symbol.")
            return
        if not symbol.tradeable:
            yield Row(check, "fail", f"it can't be traded now, its state is {symbol.status} ({who})", "Wait, or give the bot another symbol.")
            return
        price = self.client.price(name)
        high, good = largest_entry(symbol), True
        low = smallest_entry(symbol, price, self.settings.stop_loss_pct)
        for bot in bots:
            amount, stop = number(bot.get("trade_amount")), number(bot.get("stop_loss_pct"))
            low = smallest_entry(symbol, price, self.settings.stop_loss_pct if stop is None else stop)
            if amount is None or not low <= amount <= high:
                good = False
                text = f"bot {bot.get('id')} trades with {bot.get('trade_amount')} {symbol.quote}; allowed are {plain(low)} to {plain(high)}"
                yield Row(check, "fail", text, f"Change its trade_amount to at least {plain(low)}.")
        if good:
            yield Row(check, "ok", f"price {plain(price)} {symbol.quote}, smallest entry {plain(low)}, step {plain(symbol.rules.step)} {symbol.base} ({who})")

    def try_order(self) -> Iterator[Row]:
        """order/test: the exchange checks a market buy and executes nothing."""
        assert self.client is not None
        name = str(self.bots[0].get("symbol")) if self.bots else "BTCUSDT"
        symbol = self.client.symbol(name)
        amount = smallest_entry(symbol, self.client.price(name), self.settings.stop_loss_pct)
        request = OrderRequest(f"by-check-{wall_ms()}", name, "BUY", "MARKET", quote_quantity=amount)
        self.client.test_order(request)
        yield Row(self.name("order"), "ok", f"the exchange would take a market buy of {plain(amount)} {symbol.quote} of {name} (nothing was bought)")


def live(settings: config.Settings, client: Exchange | None = None) -> Iterator[Row]:
    """Whether this yard may trade with real money, as far as no bot is needed to tell; what one needs, its own checks tell when it goes live."""
    needs = []
    if settings.trading_mode != "live":
        needs.append("TRADING_MODE=live")
    if not all(settings.keys("live")):
        needs.append("BINANCE_API_KEY and BINANCE_API_SECRET of a key that may trade spot and not withdraw")
    if needs:
        needs.append("weeks on paper and testnet with results that you understand")
        yield Row("Live", "ok" if settings.trading_mode != "live" else "fail", "no bot can trade with real money. That would need: " + "; ".join(needs))
        return
    from core.fleet import preflight

    for check in preflight.general(settings, client)[0]:
        if check.ok == "ok" and check.name in ("clock", "account"):
            continue  # said above
        yield Row(f"Live {check.name}", check.ok, check.text, check.remedy)
    yield Row("Live", "ok", "each bot goes live by itself, on the page or with: python3 utils/yard.py live N")


# --- messages -----------------------------------------------------------------------


def messages(settings: config.Settings, make: Callable[[config.Settings], Any] | None = None) -> Iterator[Row]:
    """SMS and Telegram: what is missing, and whether the keys are accepted. Sends nothing."""
    from core.notify import channels, rules

    built: Any = None
    for kind in channels.KNOWN:
        missing = kind.ready(settings)
        if missing and kind.begun(settings):
            yield Row(kind.name, "warn", f"only half set up: {', '.join(missing)} missing", "Put it into .env, or empty the others.")
        elif missing:
            yield Row(kind.name, "ok", f"not set up; it would need {', '.join(missing)}")
        else:
            built = built if built is not None else (make or channels.build)(settings)
            outcome = built[kind.name].probe()
            if outcome.result == "sent":
                paper = "" if settings.notify_paper else "; paper bots are told of only with NOTIFY_PAPER=true"
                yield Row(kind.name, "ok", f"the keys are accepted (nothing was sent){paper}")
            else:
                remedy = f"Check {', '.join(kind.needs[:-1])} in .env." if outcome.result in ("access", "refused") else "Check the network; try again later."
                yield Row(kind.name, "fail" if outcome.result in ("access", "refused") else "warn", outcome.why, remedy)
    wrong = rules.read_or_default(Files(settings.home))[1]
    if wrong:
        yield Row("Messages", "warn", f"the default rules hold: {wrong}")


# --- news ---------------------------------------------------------------------------


def news(settings: config.Settings, bots: Sequence[dict[str, Any]], url: str = "") -> Iterator[Row]:
    """The two services of `ticker_news`. Asks the one for one article, the other for its model's name: that costs nothing."""
    from core.news import articles
    from core.news.sentiment import Rater

    wanted = [str(b.get("id")) for b in bots if b.get("strategy") == "ticker_news"]
    limit_s = float(min(settings.http_timeout, Decimal(10)))

    def unset(check: str, name: str) -> Row:
        if wanted:
            return Row(check, "warn", f"{name} is not set: bot {', '.join(wanted)} trades on the technical signal alone", f"Put {name} into .env.")
        return Row(check, "ok", f"not set up ({name}); only the strategy ticker_news uses it")

    def service(check: str, ask: Callable[[], str]) -> Row:
        try:
            return Row(check, "ok", ask())
        except NewsError as e:
            remedy = "Correct it in .env." if e.kind == "key" else "Bots trade on the technical signal alone until it works again."
            return Row(check, "fail" if e.kind == "key" and wanted else "warn", str(e), remedy)

    def ask_news() -> str:
        found = articles.fetch(url or articles.URL, settings.cryptonews_api_key.reveal(), "BTC", 1, limit_s)
        return f"the key works; {len(found)} article of BTC asked for and received" if found else "the key works; it has no article of BTC just now"

    def ask_model() -> str:
        rater = Rater(settings.openai_api_key.reveal(), settings.openai_base_url, settings.openai_model)
        try:
            rater.reach(limit_s)
        finally:
            rater.close()
        return f"{settings.openai_base_url or 'OpenAI'} has the model {settings.openai_model}"

    yield service("CryptoNews", ask_news) if settings.cryptonews_api_key else unset("CryptoNews", "CRYPTONEWS_API_KEY")
    model = settings.openai_api_key or settings.openai_base_url
    yield service("OpenAI", ask_model) if model else unset("OpenAI", "OPENAI_API_KEY")


# --- the report ---------------------------------------------------------------------


def report(order: bool = False, mode: Mode | None = None) -> Iterator[Row]:
    """Every row, in the order in which a person would look. Never raises."""
    yield from guarded("Python", python_version)
    yield from guarded("Packages", packages)
    yield from guarded("screen", screen)
    try:
        settings = config.load()
    except SettingsError as e:
        for problem in e.problems:
            yield Row("Settings", "fail", problem, "Correct it in .env (or in the environment, which wins).")
        return
    except Exception as e:  # noqa: BLE001 - the report must come to its end
        yield Row("Settings", "fail", f"they could not be read: {type(e).__name__}: {e}", "Compare .env with .env.example.")
        return
    yield Row("Settings", "ok", f"TRADING_MODE={settings.trading_mode}, home {settings.home}")
    for row in _with(settings, order, mode):
        yield Row(row.check, row.status, _cut(row.text, settings), row.remedy)


def _with(settings: config.Settings, order: bool, mode: Mode | None) -> Iterator[Row]:
    yield from guarded(".env", lambda: env_file(settings.home))
    yield from guarded("Folder", lambda: writable(settings.home))
    yield from guarded("Disk", lambda: disk(settings.home))
    bots: list[dict[str, Any]] = []

    def read_bots() -> Iterator[Row]:
        bots.extend(bot_records(Files(settings.home)))
        yield Row("Bots", "ok", f"{len(bots)} in active_bots.json")

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
                yield Row("Bots", "warn", text, f"Set TRADING_MODE={m}, or change the bot's mode.")
    for m in modes:
        yield from ExchangeChecks(settings, m, bots, order).rows()
    yield from guarded("Messages", lambda: messages(settings))
    yield from guarded("News", lambda: news(settings, bots))
    yield from guarded("Live", lambda: live(settings))


def _cut(text: str, settings: config.Settings) -> str:
    for secret in settings.secrets():
        text = text.replace(secret, "***")
    return text


def worst(rows: Iterable[Row]) -> Status:
    found = {r.status for r in rows}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


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
    rows: list[Row] = []
    for row in report(given.order, given.mode):
        rows.append(row)
        if not given.json:
            print(f"{MARKS[row.status]} {row.check:<18} {row.text}", flush=True)
            if row.remedy:
                print(f"   {'':<18} → {row.remedy}", flush=True)
    status = worst(rows)
    if given.json:
        print(json.dumps({"status": status, "rows": [asdict(r) for r in rows]}, ensure_ascii=False, indent=1))
    else:
        print({"ok": "\nAll is well.", "warn": "\nReady, with warnings.", "fail": "\nNot ready: see the lines with ❌."}[status])
    return words.FOUND if status == "fail" else words.DONE


if __name__ == "__main__":
    sys.exit(main())
