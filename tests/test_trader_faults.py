"""What goes wrong around a bot that holds coins: disks, files, clocks, strategies. None of it may cost any."""

from __future__ import annotations

import decimal
import errno
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest

import toy
from bots import Script, run_checks, settings, trader
from core.account import ledger
from core.bot import setup
from core.bot.journal import Journal, fills_name
from core.bot.trader import Trader
from core.errors import OutcomeUnknown, SettingsError, Unavailable
from core.model import Balance, Decision, Intent, OrderRequest, Update
from core.storage import Files
from strategies.base import Strategy

D = Decimal


def right(home: Path, exchange: toy.ToyExchange) -> None:
    assert ledger.compare(Files(home), exchange) == []
    path = home / fills_name(1)
    told = [json.loads(line)["trade_id"] for line in path.read_text().splitlines()] if path.exists() else []
    assert sorted(told) == sorted(t.trade_id for t in exchange.trades)


def some_steps(bot: Trader, clock: toy.StepClock, count: int = 30) -> None:
    for _ in range(count):
        bot.step()
        clock.wait(*bot.deadlines())


class FullDisk(Files):
    """A disk that takes nothing whose name ends so, while `full` says so."""

    full: tuple[str, ...] = ()
    after = False  # the line is written, and the failure comes with fsync

    def write_json(self, name: str, value: Any, **more: Any) -> None:
        self._refuse(name)
        super().write_json(name, value, **more)

    def append_line(self, name: str, value: Any, *, durable: bool = True) -> None:
        if self.after and name.endswith(self.full):
            super().append_line(name, value)
        self._refuse(name)
        super().append_line(name, value, durable=durable)

    def _refuse(self, name: str) -> None:
        if self.full and name.endswith(self.full):
            raise OSError(errno.ENOSPC, "No space left on device", name)


def on(files: Files, bot: Trader, clock: toy.StepClock) -> Trader:
    return Trader(bot.config, bot.settings, files, bot.exchange, clock, bot.strategy, read_record=bot.read_record)


@pytest.mark.parametrize("full", [("_position.json",), ("_fills.jsonl",), ("_position.json", "_fills.jsonl", "_status.json", "_decisions.jsonl")])
@pytest.mark.parametrize("after", [False, True])
def test_a_full_disk_ends_no_bot_that_holds_coins_and_its_stop_fires_when_there_is_room(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange, full: tuple[str, ...], after: bool
) -> None:
    files = FullDisk(tmp_path)
    bot = on(files, trader(tmp_path, clock, exchange, Script(["BUY"])), clock)
    bot.start()
    run_checks(bot, clock, 1)
    files.full, files.after = full, after
    exchange.move("97")
    some_steps(bot, clock, 60)
    assert not bot.finished
    told = (tmp_path / "data/events.jsonl").read_text().count("can't be written")
    assert told == 1, "told once, not at each try"
    assert len([r for r in exchange.sent if r.side == "SELL"]) <= 1
    files.full = ()
    some_steps(bot, clock, 60)
    assert bot.position.direction is None
    assert len([r for r in exchange.sent if r.side == "SELL"]) == 1
    right(tmp_path, exchange)


def test_heartbeats_and_decisions_that_cant_be_written_end_nothing(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    files = FullDisk(tmp_path)
    bot = on(files, trader(tmp_path, clock, exchange, Script(["BUY", "SELL"])), clock)
    files.full = ("_status.json", "_decisions.jsonl")
    bot.start()
    run_checks(bot, clock, 2)
    assert bot.position.totals.trades == 1
    right(tmp_path, exchange)


def test_a_restored_previous_copy_journals_no_fill_twice(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    assert json.loads((tmp_path / "bot_1_position.json.prev").read_text())["orders"], "the copy that still waits for the order"
    shutil.copy(tmp_path / "bot_1_position.json.prev", tmp_path / "bot_1_position.json")
    bot = trader(tmp_path, clock, exchange, Script())
    bot.start()
    some_steps(bot, clock, 5)
    assert bot.position.quantity == D("4.995")
    right(tmp_path, exchange)


def test_fills_not_yet_journaled_survive_a_change_of_symbol(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL"]))
    bot.start()
    run_checks(bot, clock, 2)
    path, journal = tmp_path / "bot_1_position.json", tmp_path / fills_name(1)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))  # dead between the position file and the journal
    assert len(json.loads(path.read_text())["unjournaled"]) == 1
    record = {"id": 1, "name": "B", "symbol": "ETH/USD", "strategy": "script", "trade_amount": D(500)}
    strategy = Script()
    config = setup.build(settings(tmp_path), 1, "B", "ETH/USD", "script", D(500), record, strategy)
    eth = exchange.symbol("BTC/USD")
    exchange.symbol = lambda name: eth.__class__("ETH/USD", "ETH", "USD", True, eth.rules)  # type: ignore[method-assign]
    other = Trader(config, settings(tmp_path), Files(tmp_path), exchange, clock, strategy)
    other.start()
    assert other.position.symbol == "ETH/USD"
    right(tmp_path, exchange)


def test_a_journal_line_that_cant_be_read_is_a_state_error_not_a_crash(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    from core.errors import StateError

    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    (tmp_path / fills_name(1)).write_text("nonsense\n")
    with pytest.raises(StateError, match="fills"):
        Journal(Files(tmp_path), 1).append_fills(bot.position, bot.position.fills)


def test_strict_pots_never_leave_a_position_unwatched(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    strict = settings(tmp_path, STRICT_POTS="true")

    def again(guard_free: bool) -> Trader:
        return Trader(bot.config, strict, Files(tmp_path), exchange, clock, Script(["SELL"]), needs=lambda _: [("B", D(10**9))])

    held = again(True)
    assert held.start(), "it holds coins: refusing would leave them to nobody"
    run_checks(held, clock, 1)
    assert held.position.direction is None
    with pytest.raises(SettingsError, match="STRICT_POTS"):
        again(False).start()


def test_a_start_that_holds_coins_waits_for_no_word_about_pots_and_is_tried_again_after_a_second(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)

    def away() -> dict[str, Balance]:
        raise Unavailable("the account can't be read")

    monkeypatch.setattr(exchange, "balances", away)
    assert trader(tmp_path, clock, exchange, Script([])).start(), "only the next entries' pots can't be compared"
    exchange.broken = True
    held, flat = trader(tmp_path, clock, exchange, Script([])), trader(tmp_path, clock, exchange, Script([]), bot_id=2)
    assert not held.start() and not flat.start()
    assert (held.attempts.retry_wall["start"] - clock.now, flat.attempts.retry_wall["start"] - clock.now) == (1000, 5000)


def test_a_damaged_status_file_keeps_no_bot_from_starting(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    status = json.loads((tmp_path / "bot_1_status.json").read_text())
    for damage in ({"venue": "x"}, {"day": {"date": 1, "value": "much"}}, {"last_check": {"slot_ms": "x", "candle_ms": []}}):
        (tmp_path / "bot_1_status.json").write_text(json.dumps({**status, **damage}))
        again = trader(tmp_path, clock, exchange, Script())
        assert again.start()
        assert again.position.direction == "LONG"


def test_a_memo_that_cant_be_kept_is_the_strategys_fault_and_does_nothing(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    class Careless(Strategy):
        warmup = 1  # type: ignore[assignment]

        def decide(self, market, position):  # type: ignore[no-untyped-def]
            return Decision(memo={"x": float("nan")} if not position.memo else {"x": {1, 2}})

    bot = trader(tmp_path, clock, exchange, Careless())
    bot.start()
    run_checks(bot, clock, 2)
    assert "strategy" in {w["kind"] for w in bot.status.fields["warnings"]}
    assert exchange.sent == []


def test_a_strategy_that_sets_the_precision_of_numbers_rounds_no_money(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    class Rough(Script):
        def analyze(self, data: Any) -> dict[str, Any]:
            decimal.getcontext().prec = 3
            return super().analyze(data)

    exchange.move("99.37")
    bot = trader(tmp_path, clock, exchange, Rough(["BUY", "SELL"]))
    bot.start()
    run_checks(bot, clock, 2)
    assert bot.position.totals.trades == 1
    right(tmp_path, exchange)


def test_an_open_question_about_an_exit_is_waited_for_without_spinning(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    exchange.lose = "after"
    exchange.hidden = 5
    exchange.move("97")
    some_steps(bot, clock, 3)
    exchange.lose = None
    started, count = clock.now, 0
    while bot.executor.unresolved:
        bot.step()
        clock.wait(*bot.deadlines())
        count += 1
        assert count < 60
    assert clock.now > started
    some_steps(bot, clock, 3)
    assert bot.position.direction is None
    right(tmp_path, exchange)


def test_a_market_time_that_is_set_back_keeps_no_look_waiting(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    clock.now += 3_600_000
    bot.agenda.looked()  # while the clock ran ahead, until the speed was lowered
    clock.now -= 3_600_000
    exchange.move("97")
    before = clock.now
    while bot.position.direction is not None:
        bot.step()
        clock.wait(*bot.deadlines())
        assert clock.now - before < 20_000


@pytest.mark.parametrize("failure", [Unavailable("no line"), OutcomeUnknown("cut before it was read")])
def test_a_sell_signal_whose_order_did_not_happen_is_carried_out_in_the_same_slot(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange, failure: Exception
) -> None:
    class Always(Script):
        def analyze(self, data: Any) -> dict[str, Any]:
            return {"signal": "BUY" if exchange.trades == [] else "SELL", "reasoning": "so"}

    bot = trader(tmp_path, clock, exchange, Always())
    bot.start()
    run_checks(bot, clock, 1)
    real, failed = exchange.place, []

    def place(request: OrderRequest, latest_ms: int | None = None) -> Update:
        if not failed:
            failed.append(request)
            raise failure
        return real(request, latest_ms)

    exchange.place = place  # type: ignore[method-assign]
    run_checks(bot, clock, 1)
    assert len(failed) == 1
    assert bot.position.direction is None
    assert clock.now % 900_000 < 60_000, "not at the next check"
    right(tmp_path, exchange)


# --- a strategy that manages its position has a pot like any other ----------------------------------


def test_a_strategy_that_manages_its_position_can_not_spend_more_than_its_pot(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    class Greedy(Strategy):
        warmup = 1  # type: ignore[assignment]
        rooms: ClassVar[list[Any]] = []

        def decide(self, market, position):  # type: ignore[no-untyped-def]
            self.rooms.append(market.room)
            n = len(self.rooms)
            if n == 1:
                bids = [Intent("place", "BUY", size_quote=D(200), kind="limit", price=D(90), role="entry", tag=f"bid{i}") for i in range(3)]
                return Decision(tuple(bids))
            if n == 2:
                return Decision((Intent("open", "BUY", size_quote=D(101)),))
            if n == 3:
                return Decision((Intent("open", "BUY", size_quote=D(100)),))
            return Decision((Intent("add", "BUY", size_quote=D(50)),))

    bot = trader(tmp_path, clock, exchange, Greedy(), amount="500")
    bot.start()
    for _ in range(5):
        exchange.closes.append(exchange.last)
        run_checks(bot, clock, 1)
    assert sum((o.request.quantity or 0) * D(90) for o in bot.position.orders) <= 400, "two bids of three fit"
    assert bot.position.entry_quote <= 100 and bot.position.direction == "LONG"
    assert Greedy.rooms[0] == 500 and Greedy.rooms[1] < 101 and Greedy.rooms[-1] < 50
    assert "left of this bot's pot" in next(w["text"] for w in bot.status.fields["warnings"] if w["kind"] == "refused")
