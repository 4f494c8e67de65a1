"""A bot in a backtest: the trader's own class with a memory instead of files, and market time for a wall. Owns no files.

Checks, looks, desk, guardian, executor, decisions and fold are the bot's own, line by line;
what is replaced here is what touches disk, screen or network, and what asks the strategy
candle by candle where one pass over all of them says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, cast, overload

from core.account.equity import Equity
from core.backtest.result import Config
from core.backtest.venue import SimExchange
from core.bot import decisions, series
from core.bot.execution import Executor
from core.bot.feed import Feed
from core.bot.guardian import Guardian
from core.bot.journal import Journal
from core.bot.position import PositionStore
from core.bot.setup import Setup
from core.bot.status import Status
from core.bot.strategist import Strategist
from core.bot.teller import Teller
from core.bot.trader import Trader
from core.bot.wallet import JumpWatch
from core.config import Settings
from core.market.bars import Bars, price_text
from core.model import ZERO, Decision, Fill, Intent, KlineRow, Order, Position, SeriesValue, StrategyRef, Symbol, plain, row12
from core.storage import Files
from strategies.answers import SIGNAL_NAMES, share_of
from strategies.base import Strategy

KEPT_ROWS = 4096  # rows that were written out lately


class Rows(Sequence[KlineRow]):
    """Candles of `bars` as 12-field rows, written out when they are asked for; a slice is a view."""

    def __init__(self, bars: Bars, start: int, stop: int, written: dict[int, KlineRow]):
        self.bars, self.start, self.stop, self._written = bars, start, stop, written

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def __getitem__(self, at: int) -> KlineRow: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> KlineRow | Rows:
        if isinstance(at, slice):
            start, stop, _ = at.indices(len(self))
            return Rows(self.bars, self.start + start, self.start + max(start, stop), self._written)
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        return self._row(self.start + at if at >= 0 else self.stop + at)

    def __iter__(self) -> Iterator[KlineRow]:
        return (self._row(i) for i in range(self.start, self.stop))

    def since(self, ms: int) -> Rows:
        """Those that opened at `ms` or later."""
        first = int(self.bars.open_ms.searchsorted(ms))
        return Rows(self.bars, min(max(first, self.start), self.stop), self.stop, self._written)

    def _row(self, i: int) -> KlineRow:
        found = self._written.get(i)
        if found is None:
            b = self.bars
            opened, volume = int(b.open_ms[i]), plain(Decimal(repr(float(b.volume[i]))))
            o, h, low, c = (price_text(int(column[i])) for column in (b.open, b.high, b.low, b.close))
            found = row12(opened, o, h, low, c, volume, opened + b.length_ms - 1)
            if len(self._written) > KEPT_ROWS:
                self._written.clear()
            self._written[i] = found
        return found


class Clock:
    """Market time as the driver sets it; the wall goes with it, as at speed 1."""

    stepped, speed = True, 1.0

    def __init__(self) -> None:
        self.now = 0

    def market_ms(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.now

    def wait(self, market_deadline: int | None, wall_deadline: int | None) -> None:
        raise RuntimeError("a backtest waits for nobody")

    def wake(self) -> None:
        pass


class NoFiles(Files):
    """There are none: what looks for other bots' files is told that they can't be read."""

    def __init__(self) -> None:
        pass

    @property
    def home(self) -> Path:  # type: ignore[override]
        raise OSError("a backtest has no files")


class Memory(PositionStore):
    """The position file, without a file."""

    def __init__(self, position: Position):
        self.files, self.position = NoFiles(), position

    def save(self, position: Position) -> None:
        self.position = position


class Ledger(Journal):
    """The fills of a run, in the order in which they were booked."""

    def __init__(self) -> None:
        self.fills: list[Fill] = []

    def append_fills(self, position: Position, fills: Iterable[Fill]) -> int:
        self.fills.extend(fills)
        return 0


class Mute(Status):
    """A status that nobody reads."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {"checks_completed": 0, "warnings": [], "mode": "paper"}
        self.before: dict[str, Any] = {}

    def write(self, **changes: Any) -> None:
        pass

    def warn(self, kind: str, text: str) -> bool:
        return False

    def clear(self, *kinds: str) -> None:
        pass


class Notes(Teller):
    """What the bot would tell its owner: each kind of warning once."""

    def __init__(self, warnings: dict[str, str]):
        self.files, self.day, self.warnings = NoFiles(), None, warnings
        self.status: Status = Mute()

    def filled(self, name: str, symbol: Symbol, before: Position, order: Order, news: tuple[Fill, ...], after: Position) -> None:
        pass

    def checked(self, config: Setup, symbol: Symbol, p: Position, decision: Decision, why: str, price: Decimal) -> None:
        pass

    def row(self, config: Setup, version: str, decision: Decision, why: str, price: Decimal, slot: int | None, candle: int | None) -> dict[str, Any]:
        return {}

    def warn(self, kind: str, text: str, config: Setup, symbol: Symbol | None, severity: Literal["warning", "risk"] = "warning") -> None:
        if kind in ("strategy", "protection"):
            self.warnings.setdefault(kind, text)

    def event(self, kind: str, text: str, bot_id: int, symbol: Symbol | None, severity: Literal["info", "warning", "risk"] = "info") -> None:
        pass


class _NoLimits:
    """Guards of accounts are no part of a backtest."""

    def block(self) -> str:
        return ""

    def release(self) -> None:
        pass

    def reserve(self, intent: Intent, price: Decimal) -> Any:
        return _Allowed


class _Allowed:
    text, passing = "", False


class _NoJump(JumpWatch):
    """Candles were asked about before the run (core/backtest/engine.py)."""

    def __init__(self) -> None:
        pass

    def word(self, position: Position, price: Decimal) -> str:
        return ""


class _Candles(Feed):
    """The candles that are closed at the clock's time, at most as many as the bot asks for."""

    def __init__(self, exchange: SimExchange, clock: Clock, bars: Bars):
        super().__init__(exchange, clock, None)
        self.bars = bars
        self._written: dict[int, KlineRow] = {}

    def closed_candles(self, symbol: str, timeframe: str, needed: int) -> list[KlineRow]:
        stop = int(self.bars.open_ms.searchsorted(self.clock.market_ms() - self.bars.length_ms, "right"))
        return cast(list[KlineRow], Rows(self.bars, max(0, stop - needed), stop, self._written))


class Told:
    """A strategy whose signals are all known (int8, one a candle of `bars`): asked for a row, it looks them up."""

    def __init__(self, strategy: Strategy, signals: Any):
        self._strategy, self._signals = strategy, signals
        self._sizes: Any = None  # asked for with the first entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def analyze_with(self, data: Rows, known: Mapping[str, SeriesValue]) -> dict[str, Any]:
        at = data.stop - 1
        answer: dict[str, Any] = {"signal": SIGNAL_NAMES[int(self._signals[at])], "reasoning": ""}
        if answer["signal"] == "BUY" and self._strategy.sizes_entries:
            if self._sizes is None:
                self._sizes = self._strategy.size(data.bars.frame())
            if self._sizes is not None:
                answer["size"] = share_of(self._strategy.name, self._sizes[at])
        return answer


class _Keeper(Guardian):
    """Is handed the candles since the entry only: no stop is moved by others, and a year of them need not be written out."""

    def move_stop(self, rows: list[KlineRow]) -> None:
        opened = self.bot.position.opened_ms
        super().move_stop(rows if opened is None else cast(list[KlineRow], cast(Rows, rows).since(opened)))


class _Asker(Strategist):
    """Sizing by equity asks the account that is in memory."""

    worth: Callable[[], Decimal] = staticmethod(lambda: ZERO)

    def _equity(self, quote: str) -> Equity:
        return Equity(self.worth())


class Player(Trader):
    """One bot on one symbol. `signals`: what its strategy says of every candle, None where it is asked at each check."""

    def __init__(
        self,
        bot_id: int,
        config: Config,
        bars: Bars,
        exchange: SimExchange,
        strategy: Strategy,
        signals: Any = None,
        providers: Mapping[str, series.Provider] | None = None,
        worth: Callable[[], Decimal] = lambda: ZERO,
    ):
        clock = Clock()
        asked = strategy if signals is None else cast(Strategy, Told(strategy, signals))
        super().__init__(_setup(bot_id, config, strategy), cast(Settings, None), NoFiles(), exchange, clock, asked, state=Mute())
        self.now, self.market = clock, exchange
        self.warnings: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.teller = Notes(self.warnings)
        self.ledger = self.journal = Ledger()
        self.feed = _Candles(exchange, clock, bars)
        self.jump = _NoJump()
        self.guardian = _Keeper(self)
        self.limits = cast(Any, _NoLimits())
        asker = self.strategist = _Asker(asked, exchange, clock, self.teller)
        asker.worth, asker.providers = worth, dict(providers or {})  # type: ignore[method-assign]
        symbol = exchange.info
        self.listing.take(symbol)
        # A strategy's parameters are of no use to a position that is never read again.
        self.store = Memory(Position(bot_id, exchange.venue, symbol.name, symbol.base, symbol.quote, strategy=StrategyRef(strategy.name)))
        self._executor_now = Executor(
            exchange,
            self.store,
            self.journal,
            "bt",
            wall_ms=clock.wall_ms,
            market_ms=clock.market_ms,
            after_fills=lambda p, news: decisions.after_fills(p, self.config.plan, self.symbol.rules, news),
        )

    def set_now(self, ms: int) -> None:
        self.now.now = self.market.now_ms = ms

    # --- what the driver calls, the steps of the trader ---------------------------------

    def protect_if_due(self) -> None:
        if self.guardian.due():
            self.guardian.protect()

    def look_now(self) -> None:
        self._look()

    def check_at(self, slot: int) -> None:
        self._check(slot)

    @property
    def beyond(self) -> bool:
        """The last look saw the price beyond a level: the next one may act."""
        return self._looks_beyond > 0

    def next_look(self) -> int:
        """Market time of the next look, retries of a refused exit included."""
        return max(self.agenda.next_look(), self.attempts.retry_wall.get("look", 0))

    def close_all(self, tag: str, reason: str) -> None:
        """Out of whatever is open, at the price now."""
        if not self.position.idle:
            self.desk.act(decisions.leave(self.position, tag, reason), self.feed.price(self.symbol.name))

    def _settle(self, slot: int) -> None:
        pass  # the driver books what the path did before it calls

    # --- what has no place here ------------------------------------------------------------

    def _beat(self, changes: Mapping[str, Any] | None = None) -> None:
        pass

    def _record(self, decision: Decision, why: str, price: Decimal, *, slot: int | None) -> None:
        wanted = decision.intents or (decision.signal == "BUY" and self.position.direction is None)
        if why and wanted:
            reason = " ".join("…" if any(c.isdigit() for c in word) else word for word in why.split())
            self.refused[reason] = self.refused.get(reason, 0) + 1


def _setup(bot_id: int, config: Config, strategy: Strategy) -> Setup:
    return Setup(
        bot_id=bot_id,
        name="backtest",
        symbol=config.symbol.name,
        strategy=strategy.name,
        mode="paper",
        account="main",
        params={},
        plan=config.plan,
        timeframe=config.timeframe,
        kline_limit=config.kline_limit,
        check_interval_s=config.check_interval_s or 1,
        offset_ms=config.offset_ms,
        risk_interval_s=config.risk_interval_s,
    )
