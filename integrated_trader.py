"""One bot: `python3 integrated_trader.py BOT_ID BOT_NAME SYMBOL STRATEGY TRADE_AMOUNT [--guard]`.

What the arguments don't say comes from the bot's record in active_bots.json; a
contradiction between the two ends it. Exit codes: 0 stopped as asked, 2 bad arguments or
settings, 3 already running, 4 state can't be read, 5 refused by the exchange. Nobody sees
an exit code under screen, so its last act is to write code and reason into
bot_N_status.json.

SIGTERM, SIGINT and SIGHUP end it within two seconds wherever it is: the loop when it can,
else a watcher thread that writes the last word and leaves. Every file is safe against that.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages()

import argparse
import contextlib
import logging
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from core import commandline
from core.bot import botlog, status
from core.config import Settings, load
from core.errors import (
    EXIT_ALREADY_RUNNING,
    EXIT_BAD_ARGUMENTS,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_STATE_UNREADABLE,
    AccessRefused,
    AlreadyRunning,
    InputError,
    SettingsError,
    StateError,
    StrategyError,
)
from core.storage import Files, Lock
from strategies import registry as strategy_registry

if TYPE_CHECKING:
    from core.bot.trader import Trader

EXIT_UNEXPECTED = 1
ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 1.6  # of the two seconds that a signal allows
log = logging.getLogger("botyard")

STRATEGIES = strategy_registry.load()
"""Every strategy by key: a view of the registry (`STRATEGIES["volatile"]`, `list(STRATEGIES)`)."""


class BadArguments(SystemExit):
    """Ends the process with code 2; `message` says which argument and what would be right."""

    def __init__(self, message: str):
        self.message = message
        super().__init__(EXIT_BAD_ARGUMENTS)


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise BadArguments(message)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = _Arguments(
        prog="integrated_trader.py",
        description="Runs one bot until it is stopped.",
        epilog="exit codes: 0 stopped as asked, 2 bad arguments or settings, 3 already running, 4 state can't be read, 5 refused by the exchange",
    )
    parser.add_argument("bot_id", type=commandline.bot_id, metavar="BOT_ID", help="the bot's number, from 1")
    parser.add_argument("name", type=_like("name"), metavar="BOT_NAME")
    parser.add_argument("symbol", type=_like("symbol"), metavar="SYMBOL", help="as the exchange writes it, e.g. BTCUSDT")
    parser.add_argument("strategy", metavar="STRATEGY", help="a strategy's key, e.g. volatile")
    parser.add_argument("trade_amount", type=_like("trade_amount"), metavar="TRADE_AMOUNT", help="quote asset for the first entry")
    parser.add_argument("--guard", action="store_true", help="no strategy, no entries: only stop, target and booking, until nothing is open")
    parser.add_argument("--once", action="store_true", help="with --guard: only book what the exchange knows, leave what rests there, and end")
    found = parser.parse_args(argv)
    if found.once and not found.guard:
        parser.error("--once goes with --guard only")
    return found


def _like(field: str) -> Callable[[str], Any]:
    """An argument that follows the same rule as this field of a record."""

    def read(text: str) -> Any:
        from core.fleet import records

        try:
            return records.CHECKS[field](text)
        except ValueError as e:
            raise argparse.ArgumentTypeError(f"{text[:30]!a} must be {e}") from None

    return read


class Signals:
    """Hears TERM, INT and HUP in a thread of its own, so that a main thread that hangs in C,
    in a strategy or on a socket can't keep the bot alive."""

    def __init__(self, state: status.Status):
        self.state = state
        self.heard: str | None = None
        self.trader: Trader | None = None
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        for number in ENDINGS:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGUSR1, self._on_wake)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def _on_signal(self, number: int, _frame: object) -> None:
        self.heard = self.heard or signal.Signals(number).name
        if self.trader is not None:
            self.trader.stop(self.heard)

    def _on_wake(self, _number: int, _frame: object) -> None:
        if self.trader is not None:
            self.trader.clock.wake()

    def _watch(self) -> None:
        while True:
            numbers = [n for n in os.read(self._read, 64) if n in ENDINGS]
            if numbers:
                break
        done = threading.Event()
        # The main thread normally ends the process long before. Maintenance mode gives it longer.
        done.wait(status.grace_s(self.state.files, self.state.bot_id, GRACE_S))
        name = self.heard or signal.Signals(numbers[0]).name
        try:
            log.warning("👋 Stopped by %s in the middle of a step; the next start goes on from the files", name)
            self.state.last_word(EXIT_OK, f"stopped by {name} in the middle of a step", name)
        finally:
            os._exit(EXIT_OK)  # whatever the disk said: who was told to stop must be gone


def all_records(files: Files) -> list[Mapping[str, Any]]:
    from core.fleet.registry import Registry

    return list(Registry(files).bots())


def find_record(files: Files, bot_id: int) -> Mapping[str, Any] | None:
    """The bot's record, None without one; StateError when active_bots.json can't be read."""
    from core.errors import NotFound
    from core.fleet.registry import Registry

    try:
        return Registry(files).bot(bot_id)
    except NotFound:
        return None


def run(arguments: argparse.Namespace, settings: Settings, files: Files, state: status.Status, signals: Signals, lock: Lock) -> None:
    """Build the trader and run it; raises what ends it with a code other than 0. `lock`: held, and kept."""
    from core.bot import setup

    record = find_record(files, arguments.bot_id)
    if record is not None:
        found = setup.contradictions(record, arguments.name, arguments.symbol, arguments.strategy, arguments.trade_amount)
        if found:
            raise SettingsError(found)
    strategy = None
    if not arguments.guard:
        own = strategy_registry.load(files.home / "strategies")
        strategy = own.build(arguments.strategy, (record or {}).get("params") or {}, int((record or {}).get("lookback") or settings.kline_limit))
    config = setup.build(settings, arguments.bot_id, arguments.name, arguments.symbol, arguments.strategy, arguments.trade_amount, record, strategy)

    from core.account import access
    from core.bot.trader import Trader
    from core.clock import RealClock
    from core.market.history import CandleStore

    exchange = access.for_bot(settings, config.mode, config.account)
    clock = RealClock(exchange.time, refresh_s=1.0 if config.mode == "paper" else 60.0)

    def needs(quote: str) -> list[tuple[str, Decimal]]:
        """What the next entries of this account's wanted bots would spend, this one's among them."""
        from core.account import pots
        from core.bot import position

        found = []
        for other in all_records(files):
            mine = other["id"] == arguments.bot_id
            if (mine or other["status"] == "running") and setup.mode_of(other) == config.mode and (other.get("account") or "main") == config.account:
                try:
                    file = files.read_json(position.name(other["id"]), schema=position.SCHEMA)
                except StateError:
                    file = None
                if file is None or file.get("quote") == quote:
                    found.append((str(other["name"]), pots.need_of(other, file)))
        return found

    def read_record() -> Mapping[str, Any] | None:
        try:
            return find_record(files, arguments.bot_id)
        except StateError as e:
            log.warning("⚠️ The bots' list can't be read, this bot goes on as before: %s", e)
            return None

    def vet(idle: bool) -> str:
        """A live bot looks at its keys before it does anything else."""
        if config.mode != "live":
            return ""
        from core.fleet import preflight

        return preflight.vet(exchange, idle)

    def keep_place() -> None:
        """Somebody may take the lock's file for a leftover and delete it: the next start would be a second process."""
        with contextlib.suppress(OSError):  # nothing can be written now: tried again at the next step
            lock.keep()

    trader = Trader(
        config,
        settings,
        files,
        exchange,
        clock,
        strategy,
        candles=CandleStore(files.path("data/history.db")),
        read_record=read_record,
        needs=needs,
        state=state,
        vet=vet,
        once=arguments.once,
        keep_place=keep_place,
    )
    signals.trader = trader
    if signals.heard:
        return
    trader.run()
    if trader.finished:
        log.info("👋 %s", trader.finished)


def main(argv: list[str]) -> int:
    try:
        arguments = parse(argv)
    except BadArguments as e:
        first = next((a for a in argv if not a.startswith("-")), "")
        with contextlib.suppress(argparse.ArgumentTypeError):  # without a number nobody knows whose status it is
            _refuse(_home(), commandline.bot_id(first), e.message)
        raise
    bot_id = arguments.bot_id
    try:
        settings = load()
    except SettingsError as e:
        print("The settings are not right:", *e.problems, sep="\n  ", file=sys.stderr)
        _refuse(_home(), bot_id, str(e))
        return EXIT_BAD_ARGUMENTS
    files = Files(settings.home)
    lock = files.lock(f"bot_{bot_id}.lock")
    # A signal between the lock and the ears for it must not end the bot without a last word.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        lock.acquire()
        # Before any heavy import, so that whatever happens from here on leaves a trace.
        botlog.open_log(files.path(f"bot_{bot_id}.log"), settings.log_level, settings.secrets())
    except AlreadyRunning as e:
        print(f"Bot {bot_id} is already running as process {e.pid or 'unknown'}; nothing was started.", file=sys.stderr)
        return EXIT_ALREADY_RUNNING
    except OSError as e:
        text = f"{e.filename or settings.home} can't be written ({e.strerror or e}). Free the disk or mend the folder's rights, then start again"
        print(f"Bot {bot_id}: {text}; nothing was started.", file=sys.stderr)
        return EXIT_STATE_UNREADABLE
    state = status.Status(files, bot_id)
    signals = Signals(state)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    with contextlib.suppress(OSError):
        state.write()  # from here on the file speaks of this process, not of the last one
    code, reason, heard = EXIT_UNEXPECTED, "ended unexpectedly", None
    try:
        run(arguments, settings, files, state, signals, lock)
        heard = signals.heard
        trader = signals.trader
        code, reason = EXIT_OK, (trader.finished if trader and trader.finished else f"stopped by {heard}")
        log.info("👋 STOPPED BOT: %s (%s)", arguments.name, reason)
    except (SettingsError, InputError, StrategyError) as e:
        code, reason = EXIT_BAD_ARGUMENTS, str(e)
    except AlreadyRunning as e:
        # Its lock's file was deleted, and another process has it now: files and status are that one's.
        log.error("🛑 Bot %d runs as process %s by now; this one ends, and leaves everything to it", bot_id, e.pid or "unknown")
        logging.shutdown()
        return EXIT_ALREADY_RUNNING
    except StateError as e:
        code, reason = EXIT_STATE_UNREADABLE, str(e)
    except AccessRefused as e:
        code, reason = EXIT_REFUSED, str(e)
    except OSError as e:
        # Everything on the network is translated at the exchange's edge: this is a file.
        code, reason = (
            EXIT_STATE_UNREADABLE,
            f"{e.filename or 'a file'} can't be written ({e.strerror or e}). Free the disk or mend the folder's rights, then start again; nothing was lost.",
        )
    except Exception as e:  # noqa: BLE001 - the last word must be written whatever happened
        code, reason = EXIT_UNEXPECTED, f"unexpected {type(e).__name__}: {e}"
        for line in traceback.format_exc().splitlines():
            log.error("%s", line)
    if code not in (EXIT_OK,):
        log.error("🛑 %s", reason)
    state.last_word(code, reason, heard)
    logging.shutdown()
    return code


def _home() -> Files:
    """The home as far as it can be told without settings."""
    return Files(os.path.expanduser(os.environ.get("BOTYARD_HOME", "").strip()) or os.path.dirname(os.path.abspath(__file__)))


def _refuse(files: Files, bot_id: int, reason: str) -> None:
    """The last word where not even arguments or settings could be read; only if no bot is running."""
    if not files.home.is_dir():
        return
    lock = files.lock(f"bot_{bot_id}.lock")
    try:
        lock.acquire()
    except (AlreadyRunning, OSError):
        return
    try:
        botlog.open_log(files.path(f"bot_{bot_id}.log"), "INFO")
        log.error("🛑 %s", reason)
        status.Status(files, bot_id).last_word(EXIT_BAD_ARGUMENTS, reason)
    except OSError:
        pass
    finally:
        lock.release()
        logging.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
