"""The guards without bots: what a person may write, what facts come to, what lies on disk."""

from __future__ import annotations

import contextlib
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.account import guard_files
from core.account.guards import Entry, Guards, usable
from core.account.limits import COUNTS, MOST, Facts, check, evaluate
from core.account.members import _Open
from core.bot import journal, position
from core.errors import InputError, StateError, Unavailable
from core.fleet import records
from core.model import Fill, Position, Totals, Venue
from core.storage import Files

D = Decimal
VENUE = Venue("toy", "spot", "main", "paper", "toy")
ACCOUNT = "paper/main/USD"
DAY = 1_700_006_400_000  # 2023-11-15 00:00 UTC
WALL = 1_800_000_000_000


class Yard:
    """A home with position files and journals, written as bots write them."""

    def __init__(self, home: Path):
        self.files, self.wall, self.market = Files(home), WALL, DAY + 3_600_000
        self.guards = Guards(self.files, lambda: self.wall)
        self.list: list[dict[str, Any]] = []
        (home / "data").mkdir(exist_ok=True)

    def bot(self, bot_id: int, amount: str = "1000", profit: str = "0", **limits: Any) -> None:
        record = {"id": bot_id, "name": f"Bot {bot_id}", "symbol": f"C{bot_id}/USD", "strategy": "x", "trade_amount": D(amount), "limits": limits}
        self.list = [r for r in self.list if r["id"] != bot_id] + [record]
        self.files.write_json("active_bots.json", self.list)
        self.save(bot_id, None, profit)

    def save(self, bot_id: int, held: str | None, profit: str = "0", price: str = "100", next_order: int = 1) -> None:
        """Flat, or holding `held` coins bought at `price` without a fee."""
        symbol, fills = f"C{bot_id}/USD", ()
        if held is not None:
            fills = (Fill("1", "1", "a", symbol, "BUY", D(price), D(held), D(price) * D(held), D(0), "USD", self.market, trade=1),)
        value = Position(
            bot_id, VENUE, symbol, f"C{bot_id}", "USD", "LONG" if held else None, fills, totals=Totals(D(profit)), trade=1 if held else 0, next_order=next_order
        )
        self.files.write_json(position.name(bot_id), position.to_json(value))

    def trades(self, bot_id: int, *profits: str, at: int | None = None) -> None:
        """Closed trades in the journal, each with its profit."""
        p = Position(bot_id, VENUE, f"C{bot_id}/USD", f"C{bot_id}", "USD")
        done = len(list(self.files.read_lines(journal.fills_name(bot_id)))) // 2
        for n, profit in enumerate(profits, done + 1):
            self.wall += 1000
            when = self.market if at is None else at
            for side, quote in (("BUY", D(100)), ("SELL", D(100) + D(profit))):
                f = Fill(f"{n}{side}", "1", f"{n}{side}", p.symbol, side, D(100), D(1), quote, D(0), "USD", when, trade=n, wall_ms=self.wall)
                self.files.append_line(journal.fills_name(bot_id), journal.fill_row(p, f))
        self.wall += 1000

    def account(self, **limits: Any) -> None:
        guard_files.set_limits(self.files, ACCOUNT, limits)

    def price(self, **prices: Any) -> dict[str, tuple[Any, int]]:
        return {f"{coin}/USD": (D(p) if isinstance(p, str) else p, self.wall) for coin, p in prices.items()}

    def look(self, scopes: dict[str, Any] | None = None, **prices: Any) -> list[str]:
        """Judge; the keys of what was found."""
        if scopes is None:
            scopes = dict(self.guards.account_limits())
            for r in self.list:
                if r["limits"]:
                    scopes[f"bot_{r['id']}"] = check(r["limits"])
        found, self.news = self.guards.look(scopes, self.price(**prices), self.market)
        return [f.key for f in found]

    def order(self, bot_id: int = 1) -> Any:
        return self.guards.order(bot_id, ACCOUNT, self.market)

    def ask(self, bot_id: int, cost: str = "100", **prices: Any) -> str:
        limits = next((check(r["limits"]) for r in self.list if r["id"] == bot_id), {})
        entry = Entry(f"C{bot_id}/USD", f"C{bot_id}", D(cost), 1)
        verdict, self.news = self.guards.reserve(bot_id, ACCOUNT, limits, entry, self.price(**prices), self.market)
        return str(verdict.text)

    def again(self) -> None:
        """Another process."""
        self.guards = Guards(self.files, lambda: self.wall)


@pytest.fixture
def yard(tmp_path):
    return Yard(tmp_path)


# --- what a person may write ----------------------------------------------------------------


def test_a_number_is_the_soft_level_and_an_object_names_both():
    assert check({"daily_loss_pct": 3, "drawdown_pct": {"soft": "10", "hard": D("15.5")}}) == {
        "daily_loss_pct": {"soft": D(3)},
        "drawdown_pct": {"soft": D(10), "hard": D("15.5")},
    }
    assert check({"daily_loss_pct": None, "drawdown_pct": {}}) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"daily_los_pct": 3}, "'daily_los_pct' is no limit (known are daily_loss_pct"),
        ({"open_positions": 3}, "'open_positions' is a limit for accounts only"),
        ({"daily_loss_pct": {"soft": 5, "hard": 3}}, "hard 3, which must lie above soft 5"),
        ({"daily_loss_pct": {"sof": 5}}, "'sof', it takes soft and hard only"),
        ({"daily_loss_pct": 0}, "soft must be a number of percent above 0 to 100"),
        ({"daily_loss_pct": -3}, "above 0 to 100"),
        ({"daily_loss_pct": float("nan")}, "above 0 to 100"),
        ({"daily_loss_pct": float("inf")}, "above 0 to 100"),
        ({"daily_loss_pct": True}, "above 0 to 100"),
        ({"daily_loss_pct": "many"}, "above 0 to 100"),
        ({"daily_loss_pct": 101}, "above 0 to 100"),
        ({"trades_per_day": 1.5}, "a whole number from 1 to 10000"),
        ([3], "an object of limits such as"),
        ({3: 3}, "an object of limits such as"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said_with_what_would_be_right(given, said):
    with pytest.raises(ValueError) as e:
        check(given)
    assert said in str(e.value)


def test_a_record_takes_limits_of_guards_and_of_the_machine_and_refuses_others():
    clean = records.check({"limits": {"daily_loss_pct": 3, "memory_mb": 300}}, complete=False)
    assert clean == {"limits": {"daily_loss_pct": {"soft": D(3)}, "memory_mb": D(300)}}
    with pytest.raises(InputError, match="'daily_los' is no limit"):
        records.check({"limits": {"daily_los": 3}}, complete=False)


# --- what the facts come to ------------------------------------------------------------------

FULL = Facts(D(1000), D(-30), D(50), D(1000), 2, 4, 3, {"BTC": D(250)})


@pytest.mark.parametrize(
    ("name", "value"),
    [("daily_loss_pct", 3), ("drawdown_pct", 5), ("consecutive_losses", 2), ("trades_per_day", 4), ("open_positions", 3), ("exposure_pct", 25)],
)
def test_a_limit_trips_exactly_at_its_level_and_warns_from_four_fifths_of_it(name, value):
    def level(soft: Any) -> list[str]:
        return [f.level for f in evaluate({name: {"soft": D(soft)}}, FULL)]

    assert level(value) == ["soft"]
    assert "soft" not in level(D(value) + (1 if name in COUNTS else D("0.0001")))
    assert level(D(value) / D("0.8")) == ["warning"]
    assert level(D(value) / D("0.79")) == []
    assert [f.level for f in evaluate({name: {"soft": D(value) / 2, "hard": D(value)}}, FULL)] == ["hard"]
    assert [f.level for f in evaluate({name: {"soft": D(value), "hard": D(value) / D("0.9")}}, FULL)] == ["soft", "warning"]


def test_a_profit_is_no_loss_and_a_loss_no_profit():
    up = Facts(D(1000), D(30), D(0), D(1000), 0, 0)
    assert [f.key for f in evaluate(check({"daily_loss_pct": 1, "daily_profit_pct": 3}), up)] == ["daily_profit_pct:soft"]


def test_a_capital_that_is_used_up_is_beyond_every_level():
    assert [f.level for f in evaluate(check({"daily_loss_pct": {"soft": 50, "hard": 100}}), Facts(D(0), D(-1)))] == ["hard"]


def test_what_is_not_known_is_said_and_never_taken_for_good():
    found = evaluate({name: {"soft": D(1)} for name in MOST}, Facts(coins=None, problem="no price", history_problem="no journal"))
    assert {f.level for f in found} == {"unknown"} and len(found) == len(MOST)
    assert all("no journal" in f.text if f.limit in ("consecutive_losses", "trades_per_day") else "no price" in f.text for f in found)


anything = st.decimals(allow_nan=True, allow_infinity=True) | st.none()
counts = st.integers(0, 10**6) | st.none()
levels = st.fixed_dictionaries({}, optional={"soft": st.decimals("0.01", 50, places=2), "hard": st.decimals("50.01", 100, places=2)})


@given(anything, anything, anything, anything, counts, counts, counts, st.dictionaries(st.sampled_from(["BTC", "ETH"]), anything.filter(bool)), levels)
def test_whatever_the_facts_a_limit_is_judged_or_said_to_be_unknown(capital, profit, drawdown, peak, lost, today, count, coins, level):
    limits = {name: level for name in MOST if level}
    for f in evaluate(limits, Facts(capital, profit, drawdown, peak, lost, today, count, coins)):
        assert f.level == "unknown" or (f.value is not None and f.value.is_finite() and f.at is not None)
        assert (f.level in ("soft", "hard")) == (f.value is not None and f.at is not None and f.value >= f.at)
        assert f.text


@given(st.decimals(0, 2000, places=2), st.decimals("0.1", 90, places=1), st.decimals("0.1", 9, places=1))
def test_the_level_reached_grows_with_the_loss(loss, soft, more):
    limits = {"daily_loss_pct": {"soft": soft, "hard": soft + more}}
    percent = loss / 1000 * 100
    wanted = "hard" if percent >= soft + more else "soft" if percent >= soft else ""
    reached = next((f.level for f in evaluate(limits, Facts(D(1000), -loss)) if f.level != "warning"), "")
    assert reached == wanted


@pytest.mark.parametrize("price", [None, D("NaN"), D("Infinity"), D(0), D(-1), 1.5, math.nan, "100", True])
def test_what_is_no_price_is_not_used(price):
    assert usable((price, WALL), WALL) is None


def test_a_price_older_than_thirty_seconds_is_not_used():
    assert usable((D(100), WALL - 30_000), WALL) == D(100)
    assert usable((D(100), WALL - 30_001), WALL) is None
    assert usable((D(100), WALL + 30_001), WALL) is None and usable(None, WALL) is None


# --- measured over files -----------------------------------------------------------------------


def test_the_days_loss_counts_realised_and_unrealised_of_all_bots_of_the_account(yard):
    yard.bot(1)
    yard.bot(2)
    yard.account(daily_loss_pct={"soft": 3, "hard": 5})
    assert yard.look() == []
    yard.save(1, None, "-30")  # 1.5 % of 2000
    yard.save(2, "5")  # 500 at 100
    assert yard.look(C2="100") == []
    assert yard.look(C2="94.2") == ["daily_loss_pct:warning"]
    assert yard.order().no_entries == ""
    assert yard.look(C2="94") == ["daily_loss_pct:soft"]
    assert "the day's loss is 3.00 %" in yard.order(1).no_entries and yard.order(2).no_entries and not yard.order().flatten
    yard.look(C2="86")
    assert "5.00 %" in yard.order(1).flatten and yard.order(2).flatten
    assert [e.severity for e in yard.news] == ["risk"]


def test_a_soft_trip_of_the_day_ends_with_it_and_a_hard_one_stays(yard):
    yard.bot(1, daily_loss_pct={"soft": 3})
    yard.bot(2, daily_loss_pct={"hard": 3})
    yard.look()
    yard.save(1, None, "-30")
    yard.save(2, None, "-30")
    yard.look()
    assert yard.order(1).no_entries and yard.order(2).flatten
    yard.market += 86_400_000
    assert not yard.order(1).no_entries and yard.order(2).flatten
    assert yard.look() == []
    assert yard.order(2).flatten


def test_money_given_or_taken_out_is_neither_profit_nor_loss(yard):
    yard.bot(1, "1000", daily_loss_pct=1, daily_profit_pct=1, drawdown_pct=1)
    yard.look()
    yard.bot(1, "500", daily_loss_pct=1, daily_profit_pct=1, drawdown_pct=1)
    assert yard.look() == []
    yard.bot(1, "5000", daily_loss_pct=1, daily_profit_pct=1, drawdown_pct=1)
    assert yard.look() == []


def test_coins_that_their_owner_took_away_are_no_loss_of_the_bots():
    row = {"trade_id": "1", "side": "BUY", "quantity": D(2), "quote": D(200), "fee": D("0.2"), "fee_asset": "USDT", "time_ms": 1}
    trade = _Open("x")
    trade.add(row, "BTC", "USDT")
    trade.add({**row, "trade_id": "written-off-5", "side": "SELL", "quantity": D(1), "quote": D(0), "fee": D(0)}, "BTC", "USDT")
    trade.add({**row, "side": "SELL", "quantity": D(1), "quote": D(110), "fee": D(0)}, "BTC", "USDT")
    assert trade.cash == D("9.8"), "the coin that was sold, and the fee"


def test_the_drawdown_is_measured_from_the_peak_and_stays_until_it_is_reset(yard):
    yard.bot(1, drawdown_pct={"soft": 10})
    yard.look()
    yard.save(1, None, "1000")  # the pot is 2000 now
    yard.look()
    yard.save(1, None, "801")
    assert yard.look() == ["drawdown_pct:warning"]
    yard.save(1, None, "800")
    yard.look()
    assert "10.00 %" in yard.order().no_entries
    yard.market += 3 * 86_400_000
    yard.again()
    assert yard.order().no_entries, "a drawdown does not end with the day, nor with the process"
    assert yard.guards.reset("bot_1", "drawdown_pct", "test") == ["drawdown_pct"]
    assert not yard.order().no_entries and yard.look() == []
    assert yard.guards.state()["scopes"]["bot_1"]["resets"][-1]["by"] == "test"


def test_a_peak_between_two_writes_is_not_lost_to_the_process_that_saw_it(yard):
    yard.bot(1, drawdown_pct={"soft": 1})
    yard.save(1, "10")
    yard.look(C1="100")
    stored = yard.files.path(guard_files.STATE).stat().st_mtime_ns
    yard.look(C1="100.05")  # 0.5 of 1000: below a thousandth of the capital
    assert yard.files.path(guard_files.STATE).stat().st_mtime_ns == stored, "not every rise is worth a write"
    assert yard.look(C1="99.05") == ["drawdown_pct:warning"]
    assert yard.look(C1="99.04") == ["drawdown_pct:soft"]


def test_losses_in_a_row_are_counted_over_the_accounts_bots_in_their_order(yard):
    yard.bot(1)
    yard.bot(2)
    yard.account(consecutive_losses=3)
    yard.trades(1, "-1")
    yard.trades(2, "5")
    yard.trades(1, "-1")
    yard.trades(2, "-1")
    assert yard.look() == []
    yard.trades(1, "0")  # without profit is a loss
    assert yard.look() == ["consecutive_losses:soft"]
    assert yard.order(2).no_entries
    assert yard.guards.reset(ACCOUNT, "all", "test") == ["consecutive_losses"]
    assert yard.look() == [] and not yard.order(2).no_entries
    yard.trades(2, "-1", "-1")
    assert yard.look() == []
    yard.trades(1, "-1")
    assert yard.look() == ["consecutive_losses:soft"]


def test_trades_are_counted_by_their_utc_day(yard):
    yard.bot(1, trades_per_day=2)
    yard.trades(1, "1", "1", at=DAY - 1)
    yard.trades(1, "1", at=DAY)
    assert yard.look() == []
    yard.trades(1, "1")
    assert yard.look() == ["trades_per_day:soft"] and yard.order().no_entries
    yard.market += 86_400_000
    assert yard.look() == [] and not yard.order().no_entries


def test_a_fill_that_the_journal_has_not_yet_is_counted_once(yard):
    """A trade whose sale is only in the position file must not look like a total loss."""
    yard.bot(1, consecutive_losses=1)
    p = Position(1, VENUE, "C1/USD", "C1", "USD", trade=1)
    buy = Fill("1", "1", "a", "C1/USD", "BUY", D(100), D(1), D(100), D(0), "USD", yard.market, trade=1, wall_ms=WALL)
    sell = Fill("2", "2", "b", "C1/USD", "SELL", D(105), D(1), D(105), D(0), "USD", yard.market, trade=1, wall_ms=WALL + 1)
    yard.files.append_line(journal.fills_name(1), journal.fill_row(p, buy))
    value = Position(1, VENUE, "C1/USD", "C1", "USD", totals=Totals(D(5), 1, 1), trade=1, unjournaled=(sell,))
    yard.files.write_json(position.name(1), position.to_json(value))
    assert yard.look() == []
    yard.files.append_line(journal.fills_name(1), journal.fill_row(p, sell))
    assert yard.look() == []


def test_a_bot_that_is_deleted_takes_its_loss_of_the_day_not_away(yard):
    yard.bot(1)
    yard.bot(2)
    yard.account(daily_loss_pct=3)
    yard.look()
    yard.save(1, None, "-59")
    assert yard.look() == ["daily_loss_pct:warning"]
    yard.list.pop(0)
    yard.files.write_json("active_bots.json", yard.list)
    yard.files.path(position.name(1)).unlink()
    yard.files.path(position.name(1) + ".prev").unlink()
    assert yard.look() == ["daily_loss_pct:soft"], "59 of the 1000 that are left"


def test_a_warning_is_told_once_a_day_and_a_trip_once(yard):
    yard.bot(1, daily_loss_pct={"soft": 3, "hard": 9})
    yard.look()
    yard.save(1, None, "-25")
    yard.look()
    assert [e.kind for e in yard.news] == ["guard_warning"]
    yard.look()
    assert yard.news == []
    yard.save(1, None, "-40")
    yard.look()
    assert [(e.kind, e.bot_id, e.severity) for e in yard.news] == [("guard_soft", 1, "warning")]
    yard.look()
    assert yard.news == []


def test_clocks_that_differ_around_midnight_do_not_begin_the_day_twice(yard):
    yard.bot(1, daily_loss_pct=3)
    yard.market = DAY + 1
    yard.look()
    yard.save(1, None, "-20")
    yard.look()
    yard.market = DAY - 500
    yard.look()
    yard.market = DAY + 2
    yard.save(1, None, "-30")
    assert yard.look() == ["daily_loss_pct:soft"]


# --- entries ---------------------------------------------------------------------------------------


def test_the_last_free_place_is_given_once(yard):
    for n in (1, 2, 3):
        yard.bot(n)
    yard.account(open_positions=2)
    yard.save(1, "1")
    assert yard.ask(2) == ""
    assert "2 positions are open or about to be, at most 2 may be" in yard.ask(3)
    assert yard.ask(2) == "", "the bot that holds the place may ask again"


def test_a_reserved_place_ends_after_15_seconds_or_with_the_bots_own_order(yard):
    for n in (1, 2):
        yard.bot(n)
    yard.account(open_positions=1)
    assert yard.ask(1) == ""
    assert yard.ask(2) != ""
    yard.wall += 15_000
    assert yard.ask(2) == ""
    yard.save(2, None, next_order=2)  # its order was refused
    assert yard.ask(1) == ""
    yard.guards.release(1)
    assert yard.ask(2) == ""


def test_exposure_is_judged_with_the_entry_and_with_what_others_have_reserved(yard):
    for n in (1, 2, 3, 4):
        yard.bot(n)
    yard.account(exposure_pct=25)
    yard.look()
    coin = {"symbol": "C1/USD", "coin": "C1"}

    def ask(bot_id: int, cost: str) -> str:
        verdict, _ = yard.guards.reserve(bot_id, ACCOUNT, {}, Entry(coin["symbol"], coin["coin"], D(cost), 1), {}, yard.market)
        return str(verdict.text)

    assert "25.01 % of the capital would be in C1, the limit is 25 %" in ask(1, "1000.4")
    assert ask(1, "600") == ""
    assert "25.50 %" in ask(2, "420") and ask(2, "400") == ""
    assert ask(3, "1") != ""


@pytest.mark.parametrize("bad", [None, "NaN", "0", "-5"])
def test_without_a_price_nothing_is_bought_nothing_is_flattened_and_what_tripped_stays(yard, bad):
    yard.bot(1, consecutive_losses={"soft": 50})
    yard.bot(2)
    yard.account(daily_loss_pct={"soft": 3, "hard": 5})
    yard.look()
    yard.save(2, "5")
    prices = {} if bad is None else {"C2": bad}
    assert yard.look(**prices) == ["daily_loss_pct:unknown"]
    assert not yard.order(1).no_entries and not yard.order(2).flatten
    assert "C2/USD is missing, late or not a price" in yard.ask(1, **prices)
    yard.look(C2="80")
    assert yard.order(1).flatten
    yard.look(**prices)
    assert yard.order(1).flatten and "has tripped" in yard.ask(1, C2="100")


def test_a_late_price_judges_nothing(yard):
    yard.bot(1)
    yard.save(1, "5")
    yard.account(daily_loss_pct={"soft": 3, "hard": 5})
    yard.look(C1="100")
    late = {"C1/USD": (D(1), yard.wall - 30_001)}
    found, _ = yard.guards.look(yard.guards.account_limits(), late, yard.market)
    assert [f.level for f in found] == ["unknown"] and not yard.order().flatten


def test_a_position_file_that_cannot_be_read_lets_nobody_of_the_account_buy(yard):
    yard.bot(1)
    yard.bot(2)
    yard.account(open_positions=5)
    assert yard.ask(1) == ""
    yard.files.path(position.name(2)).write_text("{")
    assert "can't be judged" in yard.ask(1) and "bot_2_position.json" in yard.ask(1)


@pytest.mark.parametrize("odd", ["9E+999999", "-9E+999999", "1E-999999"])
def test_a_number_beyond_all_money_in_another_bots_file_keeps_a_bot_from_buying_at_most(yard, odd):
    yard.bot(1)
    yard.bot(2)
    yard.account(daily_loss_pct=3, exposure_pct=50)
    yard.save(2, "1")
    value = yard.files.read_any(position.name(2))
    value["fills"][0]["quantity"] = value["fills"][0]["quote"] = "@"
    text = json.dumps(value, default=str).replace('"@"', odd)
    yard.files.path(position.name(2)).write_text(text)
    said = yard.ask(1, C2="100")
    assert said == "" or "judge" in said
    assert not yard.order(1).flatten


def test_a_journal_line_that_cannot_be_read_lets_nobody_buy_where_trades_are_counted(yard):
    yard.bot(1, trades_per_day=5)
    assert yard.ask(1) == ""
    with yard.files.path(journal.fills_name(1)).open("a") as f:
        f.write("{broken\n")
    assert "can't be judged" in yard.ask(1)


def test_a_state_file_that_cannot_be_read_lets_nobody_buy_and_says_how_to_mend_it(yard):
    yard.bot(1)
    yard.account(open_positions=5)
    assert yard.ask(1) == ""
    path = yard.files.path(guard_files.STATE)
    for broken in ("", "[]", "{", '{"schema": 1}', path.read_text().replace('"schema": 1', '"schema": 2'), path.read_text().replace("100", '"x"')):
        path.write_text(broken)
        order = yard.order()
        assert "guards_state.json" in order.no_entries and not order.flatten and not order.withdraw
        assert "guards_state.json" in yard.ask(1)
        with pytest.raises(StateError):
            yard.look()
    path.unlink()
    path.with_name(path.name + ".prev").write_text("{}")
    assert "missing though its previous copy is there" in yard.order().no_entries, "never from empty"


def test_a_broken_guards_json_lets_nobody_buy(yard):
    yard.bot(1)
    yard.files.path(guard_files.ACCOUNTS).write_text(json.dumps({"schema": 1, "accounts": {ACCOUNT: {"daily_loss": 3}}}))
    assert "'daily_loss' is no limit" in yard.ask(1)
    yard.files.path(guard_files.ACCOUNTS).write_text(json.dumps({"schema": 1, "accounts": {"paper": {}}}))
    assert "is no account" in yard.ask(1)


def test_limits_of_an_account_are_refused_whole_where_one_is_wrong(yard):
    yard.account(open_positions=5)
    with pytest.raises(InputError, match="hard 3, which must lie above soft 5"):
        guard_files.set_limits(yard.files, ACCOUNT, {"open_positions": {"soft": 5, "hard": 3}})
    with pytest.raises(InputError, match="is no account"):
        guard_files.set_limits(yard.files, "USD", {"open_positions": 3})
    assert guard_files.read_accounts(yard.files) == {ACCOUNT: {"open_positions": {"soft": D(5)}}}


def test_a_trip_that_the_disk_does_not_take_holds_in_the_process_until_it_is_written(yard, monkeypatch):
    yard.bot(1, daily_loss_pct={"hard": 3})
    yard.look()
    yard.save(1, None, "-30")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(yard.guards.files, "write_json", full)
        with pytest.raises(OSError):
            yard.look()
        assert yard.order().flatten
    yard.save(1, None, "0")
    yard.look()
    yard.again()
    assert yard.order().flatten


def test_a_lock_that_is_held_makes_an_entry_wait_and_never_hangs(yard, monkeypatch):
    yard.bot(1)
    yard.account(open_positions=5)
    monkeypatch.setattr(guard_files, "LOCK_WAIT_S", 0.05)
    with guard_files.locked(yard.files):
        assert "has been held" in yard.ask(1)
        with pytest.raises(Unavailable):
            yard.guards.reset("bot_1", "all", "test")
    assert yard.ask(1) == ""


@pytest.mark.parametrize("step", range(8))
def test_a_death_at_any_moment_of_a_write_leaves_the_trip_or_the_state_before_it(yard, monkeypatch, step):
    import os

    yard.bot(1, daily_loss_pct={"hard": 3})
    yard.look()
    yard.save(1, None, "-30")
    left = [step]

    class Killed(BaseException):
        pass

    def dying(real: Any) -> Any:
        def call(*a: Any, **k: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*a, **k)

        return call

    with monkeypatch.context() as m:
        for name in ("open", "write", "fsync", "link", "replace"):
            m.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(Killed):
            yard.look()
    yard.again()
    assert yard.guards.state()["scopes"]["bot_1"]["day"]
    yard.look()
    assert yard.order().flatten


# --- the kill switch on disk -----------------------------------------------------------------------


def test_the_kill_switch_works_whatever_became_of_the_other_files(yard):
    yard.files.path(guard_files.STATE).write_text("{")
    yard.files.path(guard_files.KILL).write_text("{")
    assert "can't be read" in yard.order().no_entries and not yard.order().flatten
    guard_files.write_kill(yard.files, "flatten", "test", yard.wall)
    assert yard.order().tag == "kill" and yard.order().flatten and yard.order().no_entries
    guard_files.write_kill(yard.files, "entries", "test", yard.wall)
    assert yard.order().no_entries and not yard.order().flatten and yard.order().withdraw
    yard.files.path(guard_files.STATE).unlink()
    guard_files.write_kill(yard.files, None, "test", yard.wall)
    assert not yard.order().no_entries
    with pytest.raises(InputError, match="one of entries, flatten"):
        guard_files.write_kill(yard.files, "everything", "test", yard.wall)


def test_conditions_leave_no_trip_behind(yard):
    yard.bot(1)
    yard.bot(2)
    yard.account(open_positions=1)
    yard.save(1, "1")
    assert yard.look(C1="100") == ["open_positions:soft"]
    assert yard.ask(2) != "" and not yard.order(2).no_entries
    yard.save(1, None)
    assert yard.ask(2) == ""
