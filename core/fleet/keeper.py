"""The yard's own eyes at the exchange: the last guard for bots that don't look. Owns no file.

A thread for each mode and account that the list names, so that a client that hangs keeps
nobody else from being looked after. Every LOOK_S of wall time it looks at

- stopped bots whose position file knows of orders: where the exchange says something else
  (gone, executed further, or an outcome never learnt), a guard is run that books it and ends;
- stopped bots that were restored from a backup: one after the other, such a guard catches up
  with what they did since (core/bot/catchup.py), so that the books are whole without a start;
- wanted bots whose stop nobody watches at this moment (no process, or no sign of life): where
  the price has passed it, the bot is brought back at once instead of after the bound;
- the account's guards, where core/fleet/guarding.py has them.

On paper only this yard's own exchange is asked, and it is never started for this alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from core.account import access
from core.bot import catchup, journal
from core.bot import position as position_room
from core.clock import wall_ms
from core.config import Settings
from core.errors import BotyardError, RateLimited, StateError
from core.exchange import Exchange
from core.fleet import records, state
from core.fleet.health import silent
from core.fleet.policy import pause_s
from core.fleet.supervisor import Supervisor
from core.model import SENDING, Position, Update, plain
from core.storage import Files, installation

LOOK_S = 2.0  # a fill is booked within 5 s: this, and a guard's start
BEHIND_AGAIN_S = 60.0  # a restored bot that could not catch up is tried again
FEW_SYMBOLS = 8  # open orders cost weight 6 a symbol, and 80 for all of them
AT_REST = ("ended", "by_hand")  # states of the yard's watch in which nobody is about to start a wanted bot
log = logging.getLogger("botyard.keeper")

Venue = tuple[str, str]  # mode, account


class Helper(Protocol):
    """What the keeper has others do: the yard (core/fleet/yard.py)."""

    def records(self) -> list[dict[str, Any]]: ...

    def state_of(self, bot_id: int) -> str: ...

    def since_of(self, bot_id: int) -> int: ...

    def book(self, bot_id: int, why: str) -> None: ...

    def rescue(self, bot_id: int, why: str) -> None: ...


class Judge(Protocol):
    """The account's guards. `prices`: by symbol, each with the wall time it was read at, ms."""

    def look(self, prices: Mapping[str, tuple[Decimal, int]], venue: Any, market_ms: int) -> None: ...


def to_book(position: Position, listed: Mapping[str, Update]) -> str:
    """What the exchange did that the file doesn't know, "" for nothing. Pure.

    `listed`: the account's open orders by client id, asked for after the file was read."""
    if position.unjournaled:
        return "a fill is not in its journal yet"
    for order in position.orders:
        what = f"order {order.client_id} ({order.tag or order.role})"
        if order.status == SENDING:
            return f"the outcome of {what} was never learnt"
        now = listed.get(order.client_id)
        if now is None:
            return f"{what} is over"
        if now.executed > order.executed:
            return f"{what} has executed {plain(now.executed)}, the file knows of {plain(order.executed)}"
    return ""


def passed(position: Position, price: Decimal) -> bool:
    """Whether the price has reached the position's stop."""
    if position.direction is None or position.stop_loss is None or not price.is_finite() or price <= 0:
        return False
    return price <= position.stop_loss if position.direction == "LONG" else price >= position.stop_loss


@dataclass
class _Kept:
    """A position file as last read, and what came of asking to have it booked."""

    stamp: tuple[int, int, int]
    position: Position | None
    tries: int = 0
    due: float = 0.0


class Keep:
    """One mode and account: `look` once, by hand or by its thread."""

    def __init__(
        self,
        venue: Venue,
        files: Files,
        supervisor: Supervisor,
        helper: Helper,
        settings_now: Callable[[], Settings],
        make_client: Callable[[Settings, str, str], Exchange],
        judge: Judge | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self.mode, self.account = venue
        self.files, self.supervisor, self.helper, self.judge = files, supervisor, helper, judge
        self._settings_now, self._make_client, self._monotonic = settings_now, make_client, monotonic
        self._client: Exchange | None = None
        self._kept: dict[int, _Kept] = {}
        self._behind_due: dict[int, float] = {}
        self._quiet_until = self._judge_at = float("-inf")
        self.looked_wall_ms = 0
        self.problem = ""

    def look(self) -> None:
        """One look. What fails at the exchange is remembered in `problem`, and tried again at the next one."""
        try:
            self._look()
            self.problem = ""
        except RateLimited as e:
            self._quiet_until = self._monotonic() + e.retry_after_s
            self.problem = str(e)
        except (BotyardError, OSError) as e:
            self._client = None  # settings, keys or the paper exchange may be others by now
            if str(e) != self.problem:
                log.warning("the keeper of %s/%s could not look: %s", self.mode, self.account, e)
            self.problem = str(e)
        self.looked_wall_ms = wall_ms()

    def _look(self) -> None:
        if self._monotonic() < self._quiet_until:
            return
        settings = self._settings_now()
        ours = [
            r
            for r in self.helper.records()
            if (r["mode"], r["account"]) == (self.mode, self.account) and records.mode_problem(r, settings.trading_mode, guard=True) is None
        ]
        at_rest = [p for r in ours if (p := self._at_rest(r)) is not None]
        alone = [p for r in ours if (p := self._alone(r)) is not None]
        judging = self.judge is not None and self._monotonic() >= self._judge_at and any(r["status"] == "running" or self._position(r["id"]) for r in ours)
        behind = self._behind(ours)
        if not (at_rest or alone or judging or behind) or (self.mode == "paper" and self.supervisor.unit_pid("paper") is None):
            return
        open_ones = [p for r in ours if (p := self._position(r["id"])) is not None and p.direction is not None] if judging else []
        client = self._connected(settings)
        self._book(client, at_rest)
        for bot_id in behind[:1]:
            self._behind_due[bot_id] = self._monotonic() + BEHIND_AGAIN_S
            self.helper.book(bot_id, "it was restored and has not caught up with the exchange yet")
        prices = self._prices(client, {p.symbol for p in (*alone, *open_ones)})
        for p in alone:
            price = prices.get(p.symbol)
            if price is not None and passed(p, price[0]):
                self.helper.rescue(p.bot_id, f"{p.symbol} stands at {plain(price[0])}, beyond the stop at {plain(p.stop_loss or price[0])}, and nobody looks")
        if self.judge is not None and judging:
            self._judge_at = self._monotonic() + settings.risk_interval
            self.judge.look(prices, client.venue, client.time().market_ms)

    # --- who needs it ------------------------------------------------------------------------

    def _position(self, bot_id: int) -> Position | None:
        """The bot's position, None where there is none or the file can't be trusted. Read only when it has changed."""
        path = self.files.path(position_room.name(bot_id))
        try:
            told = path.stat()
            stamp = (told.st_ino, told.st_mtime_ns, told.st_size)
            kept = self._kept.get(bot_id)
            if kept is None or kept.stamp != stamp:
                value = state.read_position(self.files, bot_id)
                kept = self._kept[bot_id] = _Kept(stamp, None if value is None else position_room.from_json(value))
            return kept.position
        except FileNotFoundError:
            return None
        except (StateError, OSError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            log.debug("bot %s: its position can't be read: %s", bot_id, e)
            return None  # told by the bot's own start and by the page

    def _at_rest(self, record: Mapping[str, Any]) -> Position | None:
        """The position of a bot that nobody runs or is about to run, if its file knows of orders."""
        bot_id = record["id"]
        if record["status"] == "running" and self.helper.state_of(bot_id) not in AT_REST:
            return None
        p = self._position(bot_id)
        if p is None or not (p.orders or p.unjournaled) or self.supervisor.pid(bot_id) is not None:
            return None
        if p.unjournaled:
            # The list is dropped by the file's next write, which may never have come: the journal tells.
            with contextlib.suppress(StateError):  # a journal that can't be read is told by the guard that tries to mend it
                there = journal.last_fills(self.files, bot_id)
                p = self._kept[bot_id].position = replace(p, unjournaled=tuple(f for f in p.unjournaled if (f.client_id, f.trade_id) not in there))
        return p if p.orders or p.unjournaled else None

    def _alone(self, record: Mapping[str, Any]) -> Position | None:
        """The position of a wanted bot whose stop nobody watches now."""
        bot_id = record["id"]
        if record["status"] != "running" or self.helper.state_of(bot_id) in AT_REST:
            return None
        p = self._position(bot_id)
        if p is None or p.direction is None or p.stop_loss is None or _held(p):
            return None
        pid = self.supervisor.pid(bot_id)
        if pid is not None and not silent(state.read_status(self.files, bot_id), pid, self.helper.since_of(bot_id), wall_ms()):
            return None
        return p

    def _behind(self, ours: list[dict[str, Any]]) -> list[int]:
        """Restored bots that nobody runs or is about to run, and that have not caught up yet."""
        try:
            waiting = set(catchup.pending(self.files))
        except StateError:
            return []  # told by each bot's own start
        idle = [r["id"] for r in ours if r["id"] in waiting and not (r["status"] == "running" and self.helper.state_of(r["id"]) not in AT_REST)]
        return [n for n in idle if self._monotonic() >= self._behind_due.get(n, 0.0) and self.supervisor.pid(n) is None]

    # --- what is done ---------------------------------------------------------------------------

    def _book(self, client: Exchange, at_rest: list[Position]) -> None:
        now = self._monotonic()
        due = [p for p in at_rest if now >= self._kept[p.bot_id].due]
        if not due:
            return
        listed = self._open_orders(client, {p.symbol for p in due})
        for p in due:
            why = to_book(p, listed)
            if why:
                kept = self._kept[p.bot_id]
                kept.tries += 1
                kept.due = now + (LOOK_S if kept.tries == 1 else pause_s(kept.tries))
                self.helper.book(p.bot_id, why)

    def _open_orders(self, client: Exchange, symbols: set[str]) -> dict[str, Update]:
        asked: Iterable[str | None] = sorted(symbols) if len(symbols) <= FEW_SYMBOLS else [None]
        return {u.client_id: u for symbol in asked for u in client.open_orders(symbol)}

    def _prices(self, client: Exchange, symbols: set[str]) -> dict[str, tuple[Decimal, int]]:
        if not symbols:
            return {}
        told, now = client.prices(sorted(symbols)), wall_ms()
        return {name: (price, now) for name, price in told.items()}

    def _connected(self, settings: Settings) -> Exchange:
        if self._client is None:
            client = self._make_client(settings, self.mode, self.account)
            client.priority = "exit"
            client.connect(installation(self.files))  # refuses another yard's paper exchange
            self._client = client
        return self._client


def _held(p: Position) -> bool:
    """The stop lies at the exchange, as far as the file knows."""
    return p.protection == "exchange" and any(o.role == "stop" and not o.terminal and o.status != SENDING for o in p.orders)


class Keeper:
    """A thread for each mode and account in the list; `step` begins those that are missing."""

    def __init__(
        self,
        files: Files,
        supervisor: Supervisor,
        helper: Helper,
        settings_now: Callable[[], Settings],
        *,
        make_client: Callable[[Settings, str, str], Exchange] | None = None,
        judge: Callable[[], Judge | None] = lambda: None,
    ):
        self.files, self.supervisor, self.helper = files, supervisor, helper
        self._settings_now, self._make_client, self._judge = settings_now, make_client or _binance, judge
        self._stop = threading.Event()
        self.keeps: dict[Venue, Keep] = {}

    def step(self) -> None:
        for record in self.helper.records():
            venue = (str(record["mode"]), str(record["account"]))
            if venue not in self.keeps and record["exchange"] == "binance":
                keep = Keep(venue, self.files, self.supervisor, self.helper, self._settings_now, self._make_client, self._judge())
                self.keeps[venue] = keep
                threading.Thread(target=self._run, args=(keep,), name=f"keeper {'/'.join(venue)}", daemon=True).start()

    def _run(self, keep: Keep) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                keep.look()
            except Exception:  # one look's trouble must not end the last guard
                log.exception("a look at %s/%s failed; the next one follows", keep.mode, keep.account)

    def close(self) -> None:
        """No further look; one under way ends by itself."""
        self._stop.set()

    def note(self) -> dict[str, Any]:
        """What the yard's status tells: `{"paper/main": {"looked_wall_ms", "problem"}}`."""
        return {"/".join(venue): {"looked_wall_ms": k.looked_wall_ms, "problem": k.problem} for venue, k in sorted(self.keeps.items())}


def _binance(settings: Settings, mode: str, account: str) -> Exchange:
    return access.client(settings, mode, account, priority="exit")  # type: ignore[arg-type]  # it looks after stops
