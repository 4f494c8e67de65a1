"""What a person asks of a running bot by hand: on the toy exchange, in stepped time."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import toy
from bots import Script, run_checks, trader
from core.account import ledger
from core.bot import commands
from core.bot.trader import Trader
from core.errors import InputError
from core.storage import Files, dumps

D = Decimal


def tell(home: Path, name: str, data: dict[str, Any] | None = None, number: str = "1", bot_id: int = 1) -> None:
    folder = home / f"data/commands/bot_{bot_id}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.json").write_text(dumps({"schema": 1, "command": name, "by": "a test", "data": data or {}}))


def told(bot: Trader) -> tuple[str, str]:
    word = bot.status.fields["last_command"]
    return word["outcome"], word["text"]


def begun(home: Path, *signals: str, protected: bool = True, **record: Any) -> tuple[toy.StepClock, toy.ToyExchange, Trader]:
    clock = toy.StepClock()
    exchange = toy.ToyExchange(clock, usd="10000")
    exchange.capabilities = replace(exchange.capabilities, protection=protected)
    exchange.closes = [D(100)] * 5
    bot = trader(home, clock, exchange, Script(signals), {"stop_loss_pct": D(2), "take_profit_pct": D(5), "check_interval": 300, **record})
    assert bot.start()
    return clock, exchange, bot


def open_stops(exchange: toy.ToyExchange) -> list[Decimal]:
    return [r.stop_price for r, u in exchange.orders.values() if u.status == "NEW" and r.stop_price is not None]


def agrees(home: Path, exchange: toy.ToyExchange) -> bool:
    return ledger.compare(Files(home), exchange) == []


# --- stop and target -------------------------------------------------------------------------


def test_a_stop_moved_by_hand_replaces_the_one_at_the_exchange(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    bot.step()
    assert open_stops(exchange) == [D("98.00")]
    tell(tmp_path, "levels", {"stop_loss": D("99.123"), "take_profit": D("110")})
    bot.step()
    assert told(bot) == ("done", "stop $99.12, target $110.00")
    assert open_stops(exchange) == [D("99.12")]
    assert bot.position.protection == "exchange"
    exchange.move("99")
    clock.now += 5000
    bot.step()
    bot.step()  # the target that ended with the stop is asked for
    assert bot.position.direction is None and exchange.trades[-1].price == D("99.12")
    assert agrees(tmp_path, exchange)


def test_a_target_can_be_turned_off_and_a_stop_can_not(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    bot.step()
    tell(tmp_path, "levels", {"take_profit": None})
    bot.step()
    assert told(bot)[0] == "done" and bot.position.take_profit is None and open_stops(exchange) == [D("98.00")]
    with pytest.raises(InputError, match="stop_loss"):
        commands.check("levels", {"stop_loss": None})


@pytest.mark.parametrize(
    ("levels", "word"), [({"stop_loss": D(101)}, "below the price"), ({"take_profit": D(99)}, "above the price"), ({"stop_loss": D("0.001")}, "one tick")]
)
def test_levels_on_the_wrong_side_of_the_price_are_refused_and_the_old_ones_stay(tmp_path: Path, levels: dict[str, Decimal], word: str) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    bot.step()
    sent = len(exchange.sent)
    tell(tmp_path, "levels", levels)
    bot.step()
    assert told(bot)[0] == "refused" and word in told(bot)[1]
    assert open_stops(exchange) == [D("98.00")] and len(exchange.sent) == sent


def test_a_stop_can_not_be_moved_where_nothing_is_open(tmp_path: Path) -> None:
    clock, _, bot = begun(tmp_path)
    run_checks(bot, clock, 1)
    tell(tmp_path, "levels", {"stop_loss": D(90)})
    bot.step()
    assert told(bot) == ("refused", "no position is open: there is no stop to move")


def test_a_death_between_taking_the_stop_back_and_placing_it_anew_ends_with_the_new_stop(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    bot.step()
    tell(tmp_path, "levels", {"stop_loss": D(99)})

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for place in ("store.save", "guardian.protect"):
        owner, name = place.split(".")
        second = trader(tmp_path, clock, exchange, Script(), {"stop_loss_pct": D(2), "take_profit_pct": D(5)})
        assert second.start()
        setattr(getattr(second, owner), name, die)
        with pytest.raises(KeyboardInterrupt):
            second.step()
    third = trader(tmp_path, clock, exchange, Script(), {"stop_loss_pct": D(2), "take_profit_pct": D(5)})
    assert third.start()
    third.step()
    assert told(third)[0] == "done" and open_stops(exchange) == [D("99.00")] and third.position.stop_loss == D(99)


# --- entries left out -----------------------------------------------------------------------------


def test_the_next_entry_is_left_out_once_and_the_one_after_it_is_made(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY", "HOLD", "BUY")
    tell(tmp_path, "skip")
    bot.step()
    assert exchange.sent == [] and bot.position.skip_entries == 0
    assert "left out" in bot.status.fields["last_check"]["why_not"]
    run_checks(bot, clock, 2)
    assert bot.position.direction == "LONG"


def test_entries_to_be_left_out_are_remembered_over_a_restart_and_can_be_taken_back(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path)
    tell(tmp_path, "skip", {"entries": 3})
    bot.step()
    again = trader(tmp_path, clock, exchange, Script(["BUY"]))
    assert again.start() and again.position.skip_entries == 3
    tell(tmp_path, "skip", {"entries": 0})
    run_checks(again, clock, 1)
    assert again.position.direction == "LONG"


# --- coins brought under a bot -----------------------------------------------------------------------


def test_coins_that_lay_in_the_account_are_brought_under_a_bot_and_protected(tmp_path: Path) -> None:
    clock = toy.StepClock()
    exchange = toy.ToyExchange(clock)
    exchange.capabilities = replace(exchange.capabilities, protection=True)
    exchange.wallet["BTC"][0] = D(3)  # before the yard ever saw the account
    exchange.closes = [D(100)] * 5
    bot = trader(tmp_path, clock, exchange, Script(["HOLD", "HOLD", "SELL"]), {"stop_loss_pct": D(2), "take_profit_pct": D(5)})
    assert bot.start()
    tell(tmp_path, "adopt", {"quantity": D(2), "price": None})
    bot.step()
    assert told(bot)[0] == "done"
    p = bot.position
    assert (p.direction, p.quantity, p.entry_price, p.stop_loss, p.protection) == ("LONG", D(2), D(100), D(98), "exchange")
    assert open_stops(exchange) == [D("98.00")] and agrees(tmp_path, exchange)
    exchange.last = D(103)
    run_checks(bot, clock, 3)
    assert bot.position.direction is None and bot.position.totals.profit == D("5.794")  # 206 less 0.1 % less a cost of 200
    assert exchange.wallet["BTC"] == [D(1), D(0)] and agrees(tmp_path, exchange)


def test_coins_are_added_to_an_open_position_at_their_cost(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    exchange.wallet["BTC"][0] = D(2)
    run_checks(bot, clock, 1)
    owned = bot.position.quantity
    tell(tmp_path, "adopt", {"quantity": D(1), "price": D("100.5")})
    bot.step()
    assert told(bot)[0] == "done" and bot.position.quantity == owned + 1
    assert bot.position.entry_price is not None and D(100) < bot.position.entry_price < D("100.5")
    assert bot.position.protection == "exchange" and len(open_stops(exchange)) == 1


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"quantity": D(5)}, "belong to no bot"),
        ({"quantity": D("0.01")}, "too few"),
        ({"quantity": D(1), "price": D(200)}, "met at once"),
        ({"quantity": D(1), "price": D(50)}, "met at once"),
    ],
)
def test_coins_that_can_not_be_brought_under_a_bot_are_refused_with_the_reason(tmp_path: Path, data: dict[str, Any], word: str) -> None:
    _, exchange, bot = begun(tmp_path)
    exchange.wallet["BTC"][0] = D(2)
    tell(tmp_path, "adopt", data)
    bot.step()
    assert told(bot)[0] == "refused" and word in told(bot)[1]
    assert bot.position.direction is None and exchange.sent == []


def test_a_death_after_coins_were_adopted_does_not_adopt_them_twice(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path)
    exchange.wallet["BTC"][0] = D(4)
    tell(tmp_path, "adopt", {"quantity": D(1)})
    bot.step()
    tell(tmp_path, "adopt", {"quantity": D(1)})  # its file outlived the deed
    again = trader(tmp_path, clock, exchange, Script())
    assert again.start()
    again.step()
    assert told(again)[0] == "done" and again.position.quantity == D(1)


def test_two_bots_can_not_take_the_same_coins(tmp_path: Path) -> None:
    clock, exchange, first = begun(tmp_path)
    exchange.wallet["BTC"][0] = D(1)
    second = trader(tmp_path, clock, exchange, Script(), bot_id=2, name="Other")
    assert second.start()
    tell(tmp_path, "adopt", {"quantity": D(1)})
    tell(tmp_path, "adopt", {"quantity": D(1)}, bot_id=2)
    first.step()
    second.step()
    assert told(first)[0] == "done" and told(second)[0] == "refused"


# --- coins that are missing -----------------------------------------------------------------------------


def sold_by_hand(exchange: toy.ToyExchange, quantity: str) -> None:
    from core.model import OrderRequest

    for client_id, (_, update) in list(exchange.orders.items()):
        if update.status == "NEW":
            exchange.cancel("BTC/USD", client_id)
            break
    exchange.place(OrderRequest("by-hand", "BTC/USD", "SELL", "MARKET", D(quantity)))
    exchange.sent.pop()


@pytest.mark.parametrize("choice", ["book", "close"])
@pytest.mark.parametrize("quantity", ["2", "4.995"])
def test_a_sale_by_hand_is_booked_or_the_book_closed_by_the_running_bot(tmp_path: Path, choice: str, quantity: str) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    bot.step()
    sold_by_hand(exchange, quantity)
    run_checks(bot, clock, 1)
    for _ in range(5):
        clock.now += 3000
        bot.step()
    assert any(w["kind"] == "foreign" for w in bot.status.fields["warnings"])
    tell(tmp_path, "mend", {"choice": choice})
    bot.step()
    assert told(bot)[0] == "done", told(bot)
    for _ in range(5):
        clock.now += 3000
        bot.step()
    assert agrees(tmp_path, exchange)
    assert not any(w["kind"] == "foreign" for w in bot.status.fields["warnings"])
    if choice == "close" or quantity == "4.995":
        assert bot.position.direction is None and bot.position.totals.trades == 1 and open_stops(exchange) == []
    else:
        assert bot.position.quantity == D("2.995") and bot.position.protection == "exchange"
    rows = [json.loads(line) for line in (tmp_path / "bot_1_fills.jsonl").read_text().splitlines()]
    assert len({r["trade_id"] for r in rows}) == len(rows)


def test_coins_that_left_without_a_sale_are_written_off_and_the_rest_stays_protected(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY", protected=False)
    run_checks(bot, clock, 1)
    exchange.wallet["BTC"][0] -= D(1)
    tell(tmp_path, "mend", {"choice": "book"})
    bot.step()
    assert told(bot)[0] == "done" and bot.position.quantity == D("3.995") and bot.position.direction == "LONG"
    assert agrees(tmp_path, exchange)


def test_nothing_is_booked_where_nothing_is_missing(tmp_path: Path) -> None:
    clock, _, bot = begun(tmp_path, "BUY")
    run_checks(bot, clock, 1)
    tell(tmp_path, "mend", {"choice": "book"})
    bot.step()
    assert told(bot) == ("done", "nothing of this bot is missing")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("dance", {}),
        ("levels", {}),
        ("levels", {"stop_loss": True}),
        ("levels", {"stop_loss": D("NaN")}),
        ("levels", {"stop_loss": "99"}),
        ("levels", {"stop": 99}),
        ("skip", {"entries": -1}),
        ("skip", {"entries": 1.5}),
        ("adopt", {}),
        ("adopt", {"quantity": 0}),
        ("adopt", {"quantity": D("Infinity")}),
        ("mend", {"choice": "forget"}),
        ("close", {"now": True}),
    ],
)
def test_a_command_that_no_bot_could_follow_is_refused_before_it_is_given_and_dropped_by_the_bot(tmp_path: Path, name: str, data: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        commands.check(name, data)
    tell(tmp_path, name, {k: str(v) if isinstance(v, Decimal) else v for k, v in data.items()})
    assert commands.waiting(Files(tmp_path), 1) == []
    assert list((tmp_path / "data/commands/bot_1").iterdir()) == []


# --- a price that jumps -------------------------------------------------------------------------------


@pytest.mark.parametrize(("coins", "price"), [("499.5", "1"), ("0.004995", "100000")])
def test_a_redenominated_coin_is_not_sold_in_silence_and_its_owner_puts_it_right(tmp_path: Path, coins: str, price: str) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY", *["SELL"] * 5, protected=False)
    run_checks(bot, clock, 1)
    sent = len(exchange.sent)
    exchange.wallet["BTC"][0], exchange.last = D(coins), D(price)
    run_checks(bot, clock, 3)
    for _ in range(30):
        clock.now += 5000
        bot.step()
    assert len(exchange.sent) == sent and bot.position.direction == "LONG"
    assert "redenominated" in next(w["text"] for w in bot.status.fields["warnings"] if w["kind"] == "jump")
    tell(tmp_path, "mend", {"choice": "close"})
    bot.step()
    assert told(bot)[0] == "done" and bot.position.direction is None
    from core.bot import reconcile

    found = reconcile.examine(Files(tmp_path), exchange)
    reconcile.apply(Files(tmp_path), exchange, found.proposals, {}, "a test")
    assert agrees(tmp_path, exchange)
    if coins == "499.5":
        tell(tmp_path, "adopt", {"quantity": D("499.5")})
        bot.step()
        assert told(bot)[0] == "done" and bot.position.entry_price == D(1)
    run_checks(bot, clock, 1)
    assert not any(w["kind"] == "jump" for w in bot.status.fields["warnings"])


def test_a_crash_to_a_tenth_is_a_crash_and_the_stop_is_sold(tmp_path: Path) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY", protected=False)
    run_checks(bot, clock, 1)
    exchange.last = D(10)
    for _ in range(3):
        clock.now += 60_000
        bot.step()
    assert bot.position.direction is None and exchange.trades[-1].price == D(10)
    assert agrees(tmp_path, exchange)


@pytest.mark.parametrize(("name", "data"), [("levels", {"stop_loss": D(99)}), ("adopt", {"quantity": D(1)}), ("mend", {"choice": "close"}), ("close", {})])
def test_on_a_full_disk_a_command_takes_no_stop_away_and_is_done_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: dict[str, Any]
) -> None:
    clock, exchange, bot = begun(tmp_path, "BUY")
    exchange.wallet["BTC"][0] = D(2)
    run_checks(bot, clock, 1)
    bot.step()
    sent = len(exchange.sent)
    write = Files.write_json

    def full(files: Files, file: str, value: Any, **more: Any) -> None:
        if file.endswith("_position.json"):
            raise OSError(28, "No space left on device", file)
        write(files, file, value, **more)

    monkeypatch.setattr(Files, "write_json", full)
    tell(tmp_path, name, data)
    for _ in range(10):
        clock.now += 2000
        bot.step()
    assert open_stops(exchange) == [D("98.00")] and len(exchange.sent) == sent
    assert any(w["kind"] == "disk" for w in bot.status.fields["warnings"])
    assert "last_command" not in bot.status.fields
    monkeypatch.setattr(Files, "write_json", write)
    for _ in range(10):
        clock.now += 2000
        bot.step()
    assert told(bot)[0] == "done"
    assert not any(w["kind"] == "disk" for w in bot.status.fields["warnings"])
