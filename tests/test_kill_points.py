"""A bot is killed before and after everything it does to disk and exchange, and the next life puts it right.

One entry and one exit on the toy exchange, in stepped time. Each pass kills one life at one
call (or the first life at one and the second at another), with one outcome of the order.
Whatever happened: each intent was executed once at most, the books are the wallet, the
journal has each fill once, and the position says what is owned.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

import toy
from core.account import ledger
from core.bot import execution, heartbeat, setup
from core.bot.trader import Trader
from core.config import load
from core.errors import OutcomeUnknown, Refused, Unavailable
from core.model import KlineRow, OrderRequest, Update
from core.storage import Files, dumps
from strategies.base import Strategy

D = Decimal
START = 1_700_000_000_000
SLOT = 300_000
SELL_FROM = (START // SLOT + 1) * SLOT  # from here on SELL is said: the bot's second check hears it


class Killed(BaseException):
    """The process is gone: nothing in the bot may catch it."""


class Fate:
    """Counts the calls to disk and exchange, before and after each, and kills at one of them."""

    def __init__(self, at: int | None = None):
        self.at, self.count = at, 0
        self.places: list[str] = []

    def point(self, name: str) -> None:
        self.places.append(name)
        self.count += 1
        if self.count == self.at:
            raise Killed(name)

    def around(self, name: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.point(f"before {name}")
        found = call(*args, **named)
        self.point(f"after {name}")
        return found


class MortalFiles(Files):
    def __init__(self, home: Path, fate: Fate):
        super().__init__(home)
        self.fate = fate

    def write_json(self, name: str, value: Any, **more: Any) -> None:
        if name.endswith("_status.json"):
            # No money hangs on it, and deaths around it are deaths around its neighbours.
            self.path(name).write_text(dumps(value))
        else:
            self.fate.around(f"write {name}", super().write_json, name, value, **{**more, "durable": False})

    def append_line(self, name: str, value: Any, *, durable: bool = True) -> None:
        self.fate.around(f"append {name}", super().append_line, name, value, durable=False)

    def cut_torn_line(self, name: str) -> int:
        return int(self.fate.around(f"cut {name}", super().cut_torn_line, name))


class MortalExchange(toy.ToyExchange):
    """The toy, with an outcome for one side's orders and with deaths around each call."""

    fate = Fate()

    def __init__(self, clock: toy.StepClock, side: str, outcome: str):
        super().__init__(clock)
        self.side, self.outcome = side, outcome
        self.struck = False

    def place(self, request: OrderRequest, latest_ms: int | None = None) -> Update:
        return self.fate.around("place", self._place, request, latest_ms)  # type: ignore[no-any-return]

    def _place(self, request: OrderRequest, latest_ms: int | None) -> Update:
        if request.side != self.side or self.struck:
            return super().place(request, latest_ms)
        self.struck = True  # the first order only: what follows is a quiet day
        if self.outcome == "refused":
            raise Refused("the toy doesn't want it")
        if self.outcome == "not sent":
            raise Unavailable("not sent: no line")
        if self.outcome == "not received":
            raise OutcomeUnknown("cut before it was read")
        self.partial = D("0.5") if "partly" in self.outcome else None
        try:
            answer = super().place(request, latest_ms)
        finally:
            self.partial = None
        if "lost" in self.outcome:
            self.hidden = 5
            raise OutcomeUnknown("done, but the answer was cut")
        if "bare" in self.outcome:
            return replace(answer, fills=())  # an answer without its fills: they must be asked for
        return answer

    def place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str, latest_ms: int | None = None) -> tuple[Update, ...]:
        return self.fate.around("place pair", self._place_pair, target, stop, list_id)  # type: ignore[no-any-return]

    def _place_pair(self, target: OrderRequest, stop: OrderRequest, list_id: str) -> tuple[Update, ...]:
        if self.side != "PAIR" or self.struck:
            return super().place_pair(target, stop, list_id)
        self.struck = True
        if self.outcome == "refused":
            raise Refused("the toy doesn't want it")
        if self.outcome == "not sent":
            raise Unavailable("not sent: no line")
        if self.outcome == "not received":
            raise OutcomeUnknown("cut before it was read")
        answer = super().place_pair(target, stop, list_id)
        if "lost" in self.outcome:
            self.hidden = 5
            raise OutcomeUnknown("done, but the answer was cut")
        return answer

    def cancel(self, symbol: str, client_id: str) -> Update:
        return self.fate.around("cancel", self._cancel, symbol, client_id)  # type: ignore[no-any-return]

    def _cancel(self, symbol: str, client_id: str) -> Update:
        answer = super().cancel(symbol, client_id)
        if self.side == "CANCEL" and "lost" in self.outcome and not self.struck:
            self.struck = True
            raise OutcomeUnknown("done, but the answer was cut")
        return answer

    def order(self, symbol: str, client_id: str) -> Update:
        return self.fate.around("order", super().order, symbol, client_id)  # type: ignore[no-any-return]

    def fills(self, *args: Any, **named: Any) -> Any:
        return self.fate.around("fills", super().fills, *args, **named)

    def balances(self) -> Any:
        return self.fate.around("balances", super().balances)


OUTCOMES = ("executed", "executed, answer lost", "executed, bare answer", "partly", "partly, answer lost", "refused", "not sent", "not received")


class ByCandle(Strategy):
    """Says BUY, later SELL, by the candle's time alone: a second life hears the same."""

    key = "by_candle"
    warmup = 1  # type: ignore[assignment]

    def analyze(self, data: Sequence[KlineRow]) -> dict[str, Any]:
        opened = int(data[-1][0])
        signal = "BUY" if opened < SELL_FROM - SLOT else "SELL" if opened >= SELL_FROM - SLOT else "HOLD"
        return {"signal": signal, "reasoning": "by the candle's time"}


class Yard:
    """One home, one account, and life after life of the same bot."""

    def __init__(self, home: Path, side: str, outcome: str):
        home.mkdir()
        (home / ".env").touch()
        self.home, self.clock = home, toy.StepClock(START)
        self.exchange = MortalExchange(self.clock, side, outcome)
        self.exchange.closes = [D(100)] * 120
        self.settings = load({"BOTYARD_HOME": str(home), "CHECK_INTERVAL": "300", "RISK_INTERVAL": "60"})
        self.bot: Trader | None = None

    record: ClassVar[dict[str, Any]] = {"stop_loss_pct": D(50), "take_profit_pct": D(1000)}

    def live(self, fate: Fate, until_ms: int) -> bool:
        """One life until then; False when it was killed."""
        self.exchange.fate = fate
        strategy = ByCandle()
        record = {"symbol": "BTC/USD", "trade_amount": D(500), **self.record}
        config = setup.build(self.settings, 1, "B", "BTC/USD", "by_candle", D(500), record, strategy)
        bot = self.bot = Trader(config, self.settings, MortalFiles(self.home, fate), self.exchange, self.clock, strategy)
        try:
            assert bot.start()
            while self.clock.now < until_ms or bot.executor.unresolved or bot.position.orders:
                self.walk()
                bot.step()
                self.clock.wait(*bot.deadlines())
                assert self.clock.now < until_ms + 3_600_000
        except Killed:
            return False
        return True

    def walk(self) -> None:
        """Where the market goes before a step; here it stays."""

    def right(self) -> None:
        """What must hold after everything is known (DESIGN §1.1 to §1.4)."""
        bot, exchange = self.bot, self.exchange
        exchange.fate = Fate()
        assert bot is not None
        assert ledger.compare(Files(self.home), exchange) == []
        lines = [json.loads(line) for line in (self.home / "bot_1_fills.jsonl").read_text().splitlines()] if exchange.trades else []
        told = [line["trade_id"] for line in lines]
        assert sorted(told) == sorted(t.trade_id for t in exchange.trades), "each fill once"
        position = bot.position
        assert position.orders == ()
        assert position.quantity + position.dust == sum(exchange.wallet["BTC"], D(0))
        assert exchange.wallet["BTC"][1] == exchange.wallet["USD"][1] == 0
        bought = {t.client_id for t in exchange.trades if t.side == "BUY"}
        assert len(bought) <= 1, "one entry was signalled, one may be executed"
        sold = sum((t.quantity for t in exchange.trades if t.side == "SELL"), D(0))
        assert sold <= sum((t.quantity - t.fee for t in exchange.trades if t.side == "BUY"), D(0))
        ids = [r.client_id for r in exchange.sent]
        assert len(ids) == len(set(ids)), "no order is sent twice"


LEFT = SELL_FROM + 2 * SLOT


@pytest.fixture(autouse=True)
def _rare_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps between the calls that matter: a beat, and a look at what rests, each minute."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_MS", 60_000)
    monkeypatch.setattr(execution, "WATCH_EVERY_MS", 60_000)


def killed_once(home: Path, side: str, outcome: str) -> Iterator[tuple[str, Yard]]:
    """Every pass of one outcome: the first life killed at its n-th call, until one is not killed."""
    for n in itertools.count(1):
        yard = Yard(home / str(n), side, outcome)
        first = Fate(n)
        if yard.live(first, LEFT):
            yield "nowhere", yard
            return
        assert yard.live(Fate(), LEFT)
        yield first.places[-1], yard


def killed_twice(home: Path, side: str, outcome: str, most: int) -> Iterator[tuple[str, Yard]]:
    """The first life killed around an order, the second at each of its first `most` calls."""
    whole = Fate()
    assert Yard(home / "whole", side, outcome).live(whole, LEFT)
    around = [n for n, name in enumerate(whole.places, 1) if any(word in name for word in ("position", "place", "fills", "order"))]
    for n, m in itertools.product(around, range(1, most + 1)):
        yard = Yard(home / f"{n}-{m}", side, outcome)
        second = Fate(m)
        assert not yard.live(Fate(n), LEFT)
        if not yard.live(second, LEFT):
            assert yard.live(Fate(), LEFT)
            yield f"{whole.places[n - 1]}, then {second.places[-1]}", yard


def judge(passes: Iterator[tuple[str, Yard]], what: str) -> int:
    """All passes are right; how many deaths there were."""
    deaths = 0
    for where, yard in passes:
        try:
            yard.right()
            assert yard.bot is not None
            assert yard.bot.position.direction is None, "a position was left open after SELL was said"
        except AssertionError as e:
            raise AssertionError(f"{what}, killed {where}: {e}") from e
        deaths += where != "nowhere"
    return deaths


@pytest.mark.parametrize("side", ["BUY", "SELL"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_death_at_any_call_loses_nothing_and_executes_nothing_twice(tmp_path: Path, side: str, outcome: str) -> None:
    assert judge(killed_once(tmp_path, side, outcome), f"{side} {outcome}") > 15


@pytest.mark.parametrize("side", ["BUY", "SELL"])
@pytest.mark.parametrize("outcome", ["executed, answer lost", "partly"])
def test_a_second_death_while_the_first_is_mended_changes_nothing(tmp_path: Path, side: str, outcome: str) -> None:
    assert judge(killed_twice(tmp_path, side, outcome, most=10), f"{side} {outcome}") > 100


# --- stop and target at the exchange ----------------------------------------------------------

PAIR_OUTCOMES = (
    ("PAIR", "executed"),
    ("PAIR", "executed, answer lost"),
    ("PAIR", "refused"),
    ("PAIR", "not sent"),
    ("PAIR", "not received"),
    ("CANCEL", "executed, answer lost"),
)
PRICES = {0: "100", 1: "103", 2: "104", 3: "103.5", 5: "101"}  # by candle: up, the stop follows, down through it


class Protected(Yard):
    """The entry is protected by a pair; the stop trails upwards and is met on the way down."""

    record: ClassVar[dict[str, Any]] = {"stop_loss_pct": D(2), "take_profit_pct": D(50), "trailing_stop_pct": D(1), "offset": 0}

    def __init__(self, home: Path, side: str, outcome: str):
        super().__init__(home, side, outcome)
        self.exchange.capabilities = replace(self.exchange.capabilities, protection=True)

    def walk(self) -> None:
        """The market goes where the clock says; each candle is flat at its price."""
        candle = (self.clock.now - START) // SLOT
        price = PRICES[max(n for n in PRICES if n <= max(candle, 0))]
        if D(price) != self.exchange.last:
            self.exchange.closes.append(self.exchange.last)
            self.exchange.move(price)


@pytest.mark.parametrize(("side", "outcome"), PAIR_OUTCOMES)
def test_a_death_at_any_call_around_the_pair_leaves_the_books_right_and_the_position_out(tmp_path: Path, side: str, outcome: str) -> None:
    deaths = 0
    for n in itertools.count(1):
        yard = Protected(tmp_path / str(n), side, outcome)
        first = Fate(n)
        whole = yard.live(first, START + 8 * SLOT)
        if not whole:
            assert yard.live(Fate(), START + 8 * SLOT)
        where = "nowhere" if whole else first.places[-1]
        try:
            yard.right()
            assert yard.bot is not None
            assert yard.bot.position.direction is None, "the stop was met: the position is out"
            assert yard.bot.position.totals.trades == (1 if yard.exchange.trades else 0)
        except AssertionError as e:
            raise AssertionError(f"{side} {outcome}, killed {where} ({n}): {e}") from e
        if whole:
            break
        deaths += 1
    assert deaths > 30, deaths
