"""The loop of one bot, on the toy exchange in stepped time."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

import toy
from bots import Script, run_checks, trader
from core.account import ledger
from core.bot import schedule
from core.errors import StateError
from core.model import Decision, Intent
from core.storage import Files
from strategies.base import Strategy

D = Decimal


def books_match(home: Path, exchange: toy.ToyExchange) -> None:
    assert ledger.compare(Files(home), exchange) == []


def test_a_bot_buys_on_a_signal_holds_and_sells_on_the_next(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "HOLD", "SELL"]))
    assert bot.start()
    run_checks(bot, clock, 1)
    p = bot.position
    assert p.direction == "LONG"
    assert p.quantity == D("4.995")  # 5 coins less 0.1 % taken in the coin
    assert p.stop_loss == D("98.00")
    assert p.take_profit == D("105.00")
    books_match(tmp_path, exchange)
    exchange.move("103")
    run_checks(bot, clock, 2)
    assert bot.position.direction is None
    assert bot.position.totals.trades == 1
    assert bot.position.totals.profit == D("4.995") * 103 * D("0.999") - 500
    books_match(tmp_path, exchange)
    rows = [json.loads(line) for line in (tmp_path / "bot_1_decisions.jsonl").read_text().splitlines()]
    assert [r["signal"] for r in rows] == ["BUY", "HOLD", "SELL"]
    log_lines = json.loads((tmp_path / "bot_1_status.json").read_text())
    assert log_lines["checks_completed"] == 3


def test_the_stop_is_watched_between_checks_and_the_next_check_is_skipped(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "BUY", "BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    exchange.move("97.9")
    clock.wait(*bot.deadlines())
    before = clock.now
    bot.step()
    assert bot.position.direction is None, "sold at the first look"
    assert clock.now == before
    assert bot.position.cooldown == 1
    run_checks(bot, clock, 1)
    assert bot.position.direction is None, "cooling down"
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
    books_match(tmp_path, exchange)


def test_the_target_sells_what_is_owned(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    exchange.move("105")
    clock.wait(*bot.deadlines())
    bot.step()
    assert bot.position.direction is None
    assert exchange.sent[-1].quantity == D("4.995")
    books_match(tmp_path, exchange)


def test_a_candle_is_decided_on_once_also_over_a_restart(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    record = {"check_interval": 60}
    bot = trader(tmp_path, clock, exchange, Script(["HOLD", "BUY"]), record)
    bot.start()
    run_checks(bot, clock, 2)
    row = json.loads((tmp_path / "bot_1_decisions.jsonl").read_text().splitlines()[-1])
    assert row["why_not"] == "no new closed candle since the last check"
    assert bot.position.direction is None
    again = trader(tmp_path, clock, exchange, Script(["BUY"]), record)
    again.start()
    slots = again.agenda.slot_done
    assert slots is not None, "the slot before now was completed: nothing is due at once"
    assert not again._check_due()


def test_an_order_whose_answer_was_lost_is_never_sent_again(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    exchange.lose, exchange.hidden = "after", 5
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "HOLD"]))
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.pending_order is not None
    exchange.lose = None
    run_checks(bot, clock, 1)
    assert len(exchange.sent) == 1
    assert bot.position.direction == "LONG"
    assert bot.position.quantity == D("4.995")
    books_match(tmp_path, exchange)


def test_an_order_that_never_arrived_is_given_up_only_after_eight_answers_and_the_moment(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange
) -> None:
    exchange.lose = "before"
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    sent = clock.now
    pending = bot.position.pending_order
    assert pending is not None
    asked = 0
    while bot.position.pending_order is not None:
        clock.wait(*bot.deadlines())
        bot.step()
        asked += 1
        assert clock.now < sent + 60_000
    assert clock.now > pending.not_found_final_after_ms
    assert pending.not_found_final_after_ms >= sent + 5000 + 2000
    assert asked >= 8
    assert len(exchange.sent) == 1
    assert bot.position.idle
    books_match(tmp_path, exchange)


def test_a_partial_fill_is_booked_and_the_rest_is_sold(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    exchange.partial = D("0.5")
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL", "SELL", "SELL"]))
    bot.start()
    run_checks(bot, clock, 1)
    assert bot.position.quantity == D("2.4975")
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG", "half of it was sold, the rest is still there"
    exchange.partial = None
    run_checks(bot, clock, 1)
    assert bot.position.direction is None
    assert bot.position.dust == D("0.0005")
    books_match(tmp_path, exchange)


def test_dust_goes_into_the_next_position(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    exchange.rules = exchange.rules.__class__(tick=D("0.01"), step=D("0.01"), min_quantity=D("0.01"), max_quantity=D(1000), min_notional=D(5))
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL", "BUY"]))
    bot.start()
    run_checks(bot, clock, 2)
    assert bot.position.dust == D("0.005")
    run_checks(bot, clock, 1)
    assert bot.position.dust == 0
    assert bot.position.dust_in == D("0.005")
    assert bot.position.quantity == bot.position.owned + D("0.005")
    books_match(tmp_path, exchange)


def test_a_bot_without_funds_waits_and_warns(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "BUY"]), amount="2000")
    bot.start()
    run_checks(bot, clock, 1)
    assert exchange.sent == []
    assert [w["kind"] for w in bot.status.fields["warnings"]] == ["funds"]
    exchange.wallet["USD"][0] += 5000
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
    assert bot.status.fields["warnings"] == []


def test_the_pot_is_reinvested_with_what_it_made(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL", "BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    exchange.move("104")
    run_checks(bot, clock, 1)
    profit = bot.position.totals.profit
    assert profit > 0
    run_checks(bot, clock, 1)
    spent = exchange.sent[-1].quantity * 104
    assert 500 + profit - D("0.11") < spent <= 500 + profit


def test_the_fixed_size_spends_the_trade_amount_whatever_was_made(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL", "BUY"]), {"sizing": "fixed"})
    bot.start()
    run_checks(bot, clock, 1)
    exchange.move("104")
    run_checks(bot, clock, 2)
    assert 499 < exchange.sent[-1].quantity * 104 <= 500


def test_the_exchange_failing_is_waited_for(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    exchange.broken = True
    for _ in range(20):
        bot.step()
        clock.wait(*bot.deadlines())
    assert [w["kind"] for w in bot.status.fields["warnings"]] == ["check"]
    exchange.broken = False
    run_checks(bot, clock, 1)
    assert bot.position.direction == "LONG"
    assert bot.status.fields["warnings"] == []


def test_a_broken_strategy_holds_and_says_so(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    class Broken(Strategy):
        warmup = 1  # type: ignore[assignment]

        def analyze(self, data: object) -> dict[str, str]:
            raise ZeroDivisionError("by its author")

    bot = trader(tmp_path, clock, exchange, Broken())
    bot.start()
    run_checks(bot, clock, 1)
    row = json.loads((tmp_path / "bot_1_decisions.jsonl").read_text())
    assert row["why_not"] == "the strategy failed"
    assert "by its author" in row["reasoning"]


def test_a_command_wakes_the_bot_before_its_timer(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    at = clock.now
    Files(tmp_path).write_json("data/commands/bot_1/1.json", {"schema": 1, "command": "close", "by": "test"})
    clock.wake()
    clock.wait(*bot.deadlines())
    bot.step()
    assert clock.now == at
    assert bot.position.direction is None
    fills = [json.loads(line) for line in (tmp_path / "bot_1_fills.jsonl").read_text().splitlines()]
    assert fills[-1]["tag"] == "close"
    assert not list((tmp_path / "data/commands/bot_1").glob("*.json"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', '{"schema": "x"}', "\x00\x00"])
def test_a_position_file_that_cant_be_read_stops_the_bot(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange, content: str) -> None:
    (tmp_path / "bot_1_position.json").write_text(content)
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    with pytest.raises(StateError, match=r"bot_1_position\.json"):
        bot.start()
    assert exchange.sent == []
    assert (tmp_path / "bot_1_position.json").read_text() == content


def test_a_quantity_changed_by_hand_stops_the_bot(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    path = tmp_path / "bot_1_position.json"
    path.write_text(path.read_text().replace('"quantity": 4.995', '"quantity": 49.95', 1))
    with pytest.raises(StateError, match="fills come to"):
        trader(tmp_path, clock, exchange, Script()).start()


def test_a_bot_that_has_traded_never_starts_from_empty(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    for name in ("bot_1_position.json", "bot_1_position.json.prev"):
        (tmp_path / name).unlink()
    with pytest.raises(StateError, match="has traded"):
        trader(tmp_path, clock, exchange, Script(["BUY"])).start()
    assert len(exchange.sent) == 1


def test_guard_mode_enters_nothing_and_ends_when_it_is_flat(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    guard = trader(tmp_path, clock, exchange, None)
    guard.start()
    for _ in range(10):
        guard.step()
        clock.wait(*guard.deadlines())
    assert not guard.finished
    exchange.move("97")
    for _ in range(10):
        guard.step()
        clock.wait(*guard.deadlines())
    assert guard.finished
    assert guard.position.direction is None
    books_match(tmp_path, exchange)


class Grid(Strategy):
    """Three resting bids under the price; what one bought is offered one step higher."""

    key = "grid"
    warmup = 1  # type: ignore[assignment]

    def decide(self, market, position):  # type: ignore[no-untyped-def]
        placed = dict(position.memo)
        intents = []
        if not placed:
            for n in (1, 2, 3):
                bid = market.price * (100 - n) / 100
                placed[f"bid{n}"] = str(bid)
                intents.append(Intent("place", "BUY", size_quote=D(100), kind="limit", price=bid, role="entry", tag=f"bid{n}", reason="grid"))
        open_tags = {o.tag for o in position.orders}
        bought = [n for n in (1, 2, 3) if f"bid{n}" in placed and f"bid{n}" not in open_tags and f"ask{n}" not in placed and position.quantity > 0]
        for n in bought:
            ask = D(placed[f"bid{n}"]) * D("1.01")
            placed[f"ask{n}"] = str(ask)
            own = sum(f.quantity - f.fee for f in position.fills if f.tag == f"bid{n}")
            intents.append(Intent("place", "SELL", size_base=own, kind="limit", price=ask, role="target", tag=f"ask{n}", reason="grid"))
        return Decision(tuple(intents), reasoning=f"{len(open_tags)} orders open", memo=placed)


def test_a_strategy_with_three_resting_orders_a_partial_fill_and_a_memo_survives_a_kill(
    tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange
) -> None:
    record = {"stop_loss_pct": 50, "take_profit_pct": 1000}
    bot = trader(tmp_path, clock, exchange, Grid(), record)
    bot.start()
    run_checks(bot, clock, 1)
    assert sorted(o.tag for o in bot.position.orders) == ["bid1", "bid2", "bid3"]
    exchange.move("98.9", share="0.4")
    # Killed here: nothing was told. The next life learns it from the exchange.
    bot = trader(tmp_path, clock, exchange, Grid(), record)
    bot.start()
    bot.step()
    assert dict(bot.position.memo)["bid2"] == "98"
    assert bot.position.direction == "LONG"
    assert bot.position.quantity == D("0.404") * D("0.999")
    books_match(tmp_path, exchange)
    exchange.move("98.9")
    run_checks(bot, clock, 2)
    assert sorted(o.tag for o in bot.position.orders) == ["ask1", "bid2", "bid3"]
    exchange.move("101")
    run_checks(bot, clock, 1)
    assert bot.position.direction is None
    assert bot.position.totals.trades == 1
    books_match(tmp_path, exchange)


def test_offsets_keep_every_check_in_the_first_quarter_of_its_candle() -> None:
    for timeframe, length in (("1m", 60_000), ("5m", 300_000), ("1h", 3_600_000)):
        for bot_id in range(1, 200):
            assert 2000 + schedule.default_offset_s(bot_id, timeframe) * 1000 < length // 4


def test_a_flat_file_of_another_symbol_goes_to_the_archive_and_keeps_the_numbers(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY", "SELL"]))
    bot.start()
    run_checks(bot, clock, 2)
    profit, number = bot.position.totals.profit, bot.position.next_order
    fresh = bot.store.adopt(1, exchange.venue, "ETH/USD", "ETH", "USD")
    assert fresh.next_order == number
    assert fresh.totals.profit == profit
    assert len(list((tmp_path / "archive").glob("bot_1_position.*.json"))) == 1


def test_a_file_with_a_position_of_another_venue_is_refused(tmp_path: Path, clock: toy.StepClock, exchange: toy.ToyExchange) -> None:
    bot = trader(tmp_path, clock, exchange, Script(["BUY"]))
    bot.start()
    run_checks(bot, clock, 1)
    exchange.venue = exchange.venue.__class__("toy", "spot", "main", "testnet")
    with pytest.raises(StateError, match="paper"):
        trader(tmp_path, clock, exchange, Script()).start()
