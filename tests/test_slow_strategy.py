"""A strategy that takes its time: the bot goes on watching its stop, and a late answer is dropped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import toy
from bots import run_checks, trader
from core.bot import strategist
from core.bot.trader import Trader
from core.model import Decision, Intent
from patience import patience
from processes import Home, until
from strategies.base import Strategy

D = Decimal
SOON = 10.0  # seconds after which a test that waits for a thread has failed


class Slow(Strategy):
    """Answers at once until `hold` is cleared; then each question waits until `let` is called for it."""

    key = "slow"
    warmup = 1  # type: ignore[assignment]

    def __init__(self, *signals: str):
        super().__init__()
        self.left = list(signals)
        self.thinks = False
        self.go, self.asked, self.answered = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)
        self.seen: list[int] = []

    def analyze(self, data: Any) -> dict[str, Any]:
        self.seen.append(int(data[-1][0]))
        signal = self.left.pop(0) if self.left else "HOLD"
        if self.thinks:
            self.asked.release()
            assert self.go.acquire(timeout=SOON)
        return {"signal": signal, "reasoning": "thought through"}


def let(bot: Trader) -> None:
    """The oldest question gets its answer, now."""
    own: Any = bot.strategy
    assert bot.strategist is not None and bot.strategist._question is not None
    own.go.release()
    assert bot.strategist._question._done.wait(SOON)


class PacedClock(toy.StepClock):
    """Time that moves only when somebody waits, but as a market that goes by the wall: strategies are asked in threads."""

    stepped = False


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that blocks is left alone at once; one that doesn't is given all the time a busy machine may need."""

    def start(self: Any, patience_s: float) -> None:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        own = BOT[-1].strategy
        if getattr(own, "thinks", False):
            assert own.asked.acquire(timeout=SOON)  # it runs, and waits
        else:
            thread.join(SOON)

    monkeypatch.setattr(strategist.Question, "start", start)


BOT: list[Trader] = []


@pytest.fixture
def paced() -> PacedClock:
    return PacedClock()


@pytest.fixture
def market(paced: PacedClock) -> toy.ToyExchange:
    found = toy.ToyExchange(paced)
    found.closes = [D(100)] * 120
    return found


@pytest.fixture
def made(tmp_path: Path, paced: PacedClock, market: toy.ToyExchange) -> Iterator[Any]:
    def make(own: Strategy, **record: Any) -> Trader:
        bot = trader(tmp_path, paced, market, own, {"strategy": own.key, **record})
        BOT.append(bot)
        assert bot.start()
        return bot

    yield make
    for bot in BOT:
        own: Any = bot.strategy
        if isinstance(own, Slow):
            own.go.release(100)
    BOT.clear()


def go_on(bot: Trader, clock: PacedClock, seconds: float) -> None:
    """The loop as it runs, for so long."""
    end = clock.now + int(seconds * 1000)
    while clock.now < end:
        bot.step()
        market, wall = bot.deadlines()
        assert min(d for d in (market, wall) if d is not None) >= clock.now - 60_000
        clock.wait(None if market is None else min(market, end), None if wall is None else max(min(wall, end), clock.now + 1))


def rows(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "bot_1_decisions.jsonl").read_text().splitlines()]


def warnings(bot: Trader) -> list[str]:
    return [w["text"] for w in bot.status.fields["warnings"]]


def bought_then_thinking(made: Any, clock: PacedClock, *signals: str, **record: Any) -> tuple[Trader, Slow]:
    own = Slow("BUY", *signals)
    bot = made(own, **record)
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
    own.thinks = True
    while not bot.strategist.asked:
        bot.step()
        clock.wait(*bot.deadlines())
    return bot, own


def test_the_stop_is_sold_while_the_strategy_thinks(made: Any, paced: PacedClock, market: toy.ToyExchange, tmp_path: Path):
    bot, _ = bought_then_thinking(made, paced)
    market.move("97.9")
    passed = paced.now
    go_on(bot, paced, 20)
    assert bot.position.direction is None
    sold = [json.loads(line) for line in (tmp_path / "bot_1_fills.jsonl").read_text().splitlines()]
    assert sold[-1]["tag"] == "stop_loss"
    assert sold[-1]["time_ms"] - passed <= 6000, "within a RISK_INTERVAL and a second"
    assert bot.strategist is not None and bot.strategist.asked and not bot.strategist.answered()
    assert any("has not answered within 10 s; stop and target are watched meanwhile" in w for w in warnings(bot))
    let(bot)
    go_on(bot, paced, 2)
    assert warnings(bot) == []


def test_an_answer_within_its_candle_counts_and_is_priced_when_it_comes(made: Any, paced: PacedClock, market: toy.ToyExchange, tmp_path: Path):
    bot, own = bought_then_thinking(made, paced, "SELL")
    before = bot.status.fields["checks_completed"]
    go_on(bot, paced, 20)
    assert bot.status.fields["checks_completed"] == before and bot.position.direction == "LONG"
    market.move("101")
    let(bot)
    go_on(bot, paced, 1)
    assert bot.status.fields["checks_completed"] == before + 1
    assert bot.position.direction is None
    found = rows(tmp_path)[-1]
    assert (found["signal"], found["reasoning"], found["price"]) == ("SELL", "thought through", 101)
    assert len(own.seen) == 2, "it was asked once for each candle"


def test_an_answer_after_the_next_candle_is_dropped_and_the_check_says_so(made: Any, paced: PacedClock, tmp_path: Path):
    bot, own = bought_then_thinking(made, paced, "SELL", "HOLD", check_interval=300)
    go_on(bot, paced, 310)
    found = rows(tmp_path)[-1]
    assert found["why_not"] == "the strategy is still thinking" and "takes longer than a candle" in found["reasoning"]
    assert found["candle_ms"] == own.seen[-1], "the newest candle is not taken for decided on"
    assert len(own.seen) == 2, "nothing new is asked while it thinks"
    let(bot)
    own.thinks = False
    done = bot.status.fields["checks_completed"]
    go_on(bot, paced, 20)
    assert bot.position.direction == "LONG", "its SELL was about an old candle"
    assert bot.status.fields["checks_completed"] == done, "no check between the slots for an answer that is dropped"
    run_checks(bot, paced, 1)
    assert rows(tmp_path)[-1]["reasoning"] == "thought through" and bot.position.direction == "LONG"
    assert len(own.seen) == 3 and not any("strategy" in w for w in warnings(bot))


def test_a_strategy_that_never_answers_is_told_once_and_in_each_check_and_the_bot_lives_on(
    made: Any, paced: PacedClock, market: toy.ToyExchange, tmp_path: Path
):
    bot, _ = bought_then_thinking(made, paced, check_interval=300)
    go_on(bot, paced, 3000)
    late = [r for r in rows(tmp_path) if r["why_not"] == "the strategy is still thinking"]
    assert len(late) == 11 and len({r["slot_ms"] for r in late}) == 11
    assert len([w for w in warnings(bot) if "takes longer than a candle" in w]) == 1
    assert paced.now - bot.status.fields["heartbeat_wall_ms"] <= 4000
    market.move("97")
    go_on(bot, paced, 7)
    assert bot.position.direction is None


def test_a_strategy_that_raises_or_answers_nonsense_after_a_while_is_named(made: Any, paced: PacedClock, tmp_path: Path):
    bot, _ = bought_then_thinking(made, paced, "PERHAPS")
    let(bot)
    go_on(bot, paced, 1)
    assert rows(tmp_path)[-1]["why_not"] == "the strategy failed"
    assert any("strategy slow: analyze must return" in w for w in warnings(bot))
    assert bot.position.direction == "LONG"


@pytest.mark.parametrize("stepped", [True, False])
def test_a_strategy_that_calls_exit_ends_neither_the_bot_nor_its_watch(made: Any, paced: PacedClock, market: toy.ToyExchange, stepped: bool):
    class Leaves(Slow):
        def analyze(self, data: Any) -> dict[str, Any]:
            if self.seen:
                raise SystemExit(3)
            return super().analyze(data)

    paced.stepped = stepped  # type: ignore[misc]
    bot = made(Leaves("BUY"))
    run_checks(bot, paced, 2)
    assert any("strategy slow broke: SystemExit: 3" in w for w in warnings(bot))
    market.move("97")
    go_on(bot, paced, 7)
    assert bot.position.direction is None


def test_a_decision_about_a_position_that_is_gone_meanwhile_is_not_carried_out(made: Any, paced: PacedClock, market: toy.ToyExchange, tmp_path: Path):
    class Managed(Slow):
        """Buys when flat, and wants to sell half when long."""

        key = "managed"
        manages_position = True

        def decide(self, view: Any, position: Any) -> Decision:
            self.analyze(view.candles.rows)
            if position.direction is None:
                return Decision() if len(self.seen) > 1 else Decision(intents=(Intent("open", side="BUY", size_quote=D(400), role="entry", tag="entry"),))
            return Decision(intents=(Intent("reduce", side="SELL", size_base=D(1), role="exit", tag="half"),))

    own = Managed()
    bot = made(own)
    run_checks(bot, paced, 1)
    own.thinks = True
    while not bot.strategist.asked:
        bot.step()
        paced.wait(*bot.deadlines())
    market.move("97.9")
    go_on(bot, paced, 7)
    assert bot.position.direction is None
    own.thinks = False
    let(bot)
    go_on(bot, paced, 2)
    assert len(own.seen) == 3, "asked again, about the position as it is"
    assert [r.side for r in market.sent] == ["BUY", "SELL"]


def test_in_stepped_time_it_is_asked_in_place(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange):
    class Where(Slow):
        def analyze(self, data: Any) -> dict[str, Any]:
            assert threading.current_thread() is threading.main_thread()
            return super().analyze(data)

    bot = trader(tmp_path, clock, exchange, Where("BUY"))
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"


# --- real processes -----------------------------------------------------------------------

THINKER = '''
import time
from pathlib import Path

NOTE = Path(__file__).with_name("thinking")

class Thinker:
    """Buys at once; the second question takes for ever, or 20 s."""
    key = "thinker"
    warmup = 2
    def analyze(self, data):
        seen = Path(__file__).with_name("seen")
        if not seen.exists():
            seen.touch()
            return {"signal": "BUY", "reasoning": "at once"}
        NOTE.write_text("begun")
        WORK
        NOTE.write_text("over")
        return {"signal": "HOLD", "reasoning": "at last"}
'''


@pytest.mark.parametrize("work", ["time.sleep(20)", "n = 0\n        while True: n += 1"])
def test_a_real_bot_sells_at_its_stop_while_its_strategy_sleeps_or_loops_for_ever(tmp_path: Path, work: str):
    home = Home(tmp_path / "home", PAPER_SPEED="1")
    home.strategy("thinker", THINKER.replace("WORK", work))
    record = {
        "id": 1,
        "name": "BTC Bot",
        "symbol": "BTCUSDT",
        "strategy": "thinker",
        "trade_amount": 500,
        "status": "running",
        "protection": "bot",
        "stop_loss_pct": 0.1,
        "take_profit_pct": 50,
    }
    (home.path / "active_bots.json").write_text(json.dumps([record]))
    try:
        home.paper()
        child = home.bot(strategy="thinker")
        until(lambda: home.position()["position"] == "LONG", "the entry")
        note = home.path / "strategies" / "thinking"
        home.post("/paper/clock", {"advance_ms": 300_000})
        until(note.exists, "the second question")

        def lower() -> bool:
            """Market time goes on in small steps until the price lies below the stop."""
            home.post("/paper/clock", {"advance_ms": 10_000})
            return D(str(home.status()["price"] or 0)) <= D(str(home.position()["stop_loss"] or 0)) or home.position()["position"] is None

        until(lower, "a price below the stop", 18)
        until(lambda: home.position()["position"] is None, "the sale at the stop", 8)
        assert note.read_text() == "begun", "it was sold while the strategy thought"
        until(lambda: home.lines("bot_1_fills.jsonl")[-1]["tag"] == "stop_loss", "its fill in the journal", 5)
        child.terminate()
        assert child.wait(patience(10)) == 0
    finally:
        home.end()
