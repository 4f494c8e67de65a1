"""The guards over bots that trade: real traders and paper exchange in stepped time, the yard's look beside them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots import Script
from core import notify
from core.account import guard_files, ledger
from core.account.guards import Entry, Guards
from core.bot import journal
from core.bot.trader import Trader
from core.errors import Unavailable
from core.fleet.guarding import scopes_of
from paper_fixed import FILTERS, FixedMarket
from patience import patience
from stepped import World, WorldClock, run_until

D = Decimal
MINUTE = 60_000
ACCOUNT = "paper/main/USDT"
ROOMY = [f for f in FILTERS if f["filterType"] not in ("MAX_NUM_ORDERS", "PERCENT_PRICE_BY_SIDE")] + [
    {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}
]


class Yard:
    """A world whose BTC price is `btc`, minute by minute (the last one stays), its bots, and the yard's look."""

    def __init__(self, home: Path, *btc: str):
        market = FixedMarket([(p, p, p, p) for p in (*["100"] * 10, *btc)], bnb="500", filters=ROOMY)
        self.world = World(home, opener=lambda _: market, RISK_INTERVAL="15", CHECK_INTERVAL="60", KLINE_INTERVAL="1m")
        self.world.step_to(market.first_ms + 9 * MINUTE + 2000)
        self.files = self.world.files
        self.bots: dict[int, Trader] = {}
        self.guards = Guards(self.files, lambda: self.world.wall)
        self.client = self.world.client()
        self.client.connect()
        self.prices: Any = self.client.prices
        self.list: dict[int, dict[str, Any]] = {}

    def bot(self, bot_id: int, *signals: str, symbol: str = "BTCUSDT", **limits: Any) -> Trader:
        """A bot of 1000 USDT that says these signals; the same id again is a restart."""
        levels = {"stop_loss_pct": D(60), "take_profit_pct": D(200), "cooldown_checks": 0, "timeframe": "1m", "check_interval": 60, "offset": 0}
        made = self.world.bot(bot_id, symbol, Script(signals), "1000", limits=limits, **levels)
        self.list[bot_id] = {"id": bot_id, "name": f"Bot {bot_id}", "symbol": symbol, "strategy": "script", "trade_amount": 1000, "limits": limits}
        self.files.write_json("active_bots.json", list(self.list.values()))
        assert made.start()
        self.bots[bot_id] = made
        return made

    def account(self, **limits: Any) -> None:
        guard_files.set_limits(self.files, ACCOUNT, limits)

    def look(self) -> list[str]:
        """What the yard does every few seconds."""
        members = self.guards.members.read(guard_files.bots_of(self.guards.state()))
        scopes = scopes_of(members, self.guards.account_limits())
        try:
            told = {k: (v, self.world.wall) for k, v in self.prices({m.symbol for m in members.values() if m.direction}).items()}
        except Unavailable:
            told = {}
        found, news = self.guards.look(scopes, told, self.world.market_ms())
        for event in news:
            notify.post(self.files, event)
        return [f.key for f in found]

    def minutes(self, count: int = 1) -> None:
        """So many checks of each bot, the yard looking in between."""
        for _ in range(count):
            begin = self.world.market_ms() // MINUTE * MINUTE
            for part in (17_000, 32_000, 47_000, MINUTE):
                run_until(self.world, list(self.bots.values()), begin + part)
                self.settle()
                self.look()

    def settle(self) -> None:
        for _ in range(6):
            self.world.wall += 1000
            for b in self.bots.values():
                b.step()

    def held(self) -> list[int]:
        return [i for i, b in self.bots.items() if b.position.direction is not None]

    def why(self, bot_id: int) -> str:
        rows = [r for r in self.files.read_lines(journal.decisions_name(bot_id)) if r["signal"] == "BUY"]
        return str(rows[-1]["why_not"]) if rows else ""

    def sales(self, bot_id: int) -> list[str]:
        return [r["tag"] for r in self.files.read_lines(journal.fills_name(bot_id)) if r["side"] == "SELL"]

    def told(self) -> list[tuple[str, str]]:
        return [(e["kind"], e["severity"]) for e in notify.recent(self.files, 200) if e["kind"].startswith("guard")]

    def books_are_right(self) -> None:
        assert ledger.compare(self.files, self.client) == []
        assert not [o for o in self.client.open_orders("BTCUSDT")] or self.held()


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Any]:
    made: list[Yard] = []

    def build(*btc: str) -> Yard:
        made.append(Yard(tmp_path, *btc))
        return made[-1]

    yield build
    for y in made:
        y.world.close()


def test_the_accounts_daily_loss_stops_entries_then_sells_everything_of_every_bot(yard):
    y = yard("100", "97", "97", "93", "93")
    y.account(daily_loss_pct={"soft": 1.5, "hard": 3.5})
    for n in (1, 2, 3):
        y.bot(n, "BUY")
    y.bot(4, "BUY", symbol="BNBUSDT")
    y.bot(5, "HOLD", "HOLD", "BUY")
    y.minutes(2)
    assert y.held() == [1, 2, 3, 4]
    y.minutes()
    assert y.held() == [1, 2, 3, 4] and "has tripped: the day's loss is" in y.why(5)
    y.minutes(2)
    assert y.held() == [], "also the bot on the other coin"
    assert [y.sales(n) for n in (1, 2, 3, 4)] == [["guard"]] * 4
    assert [t for t in y.told() if t[0] != "guard_warning"] == [("guard_soft", "warning"), ("guard_hard", "risk")]
    y.books_are_right()
    # Another life of every process: what tripped holds, until somebody resets it.
    y.guards = Guards(y.files, lambda: y.world.wall)
    y.bot(1, *["BUY"] * 9)
    y.minutes(2)
    assert y.held() == [] and "account paper/main/USDT has tripped" in y.why(1)
    y.guards.reset(ACCOUNT, "daily_loss_pct", "test")
    y.minutes(2)
    assert y.held() == [1]
    y.books_are_right()


def test_the_days_profit_is_taken_at_the_hard_level(yard):
    y = yard("100", "104", "106")
    y.bot(1, "BUY", daily_profit_pct={"soft": 3, "hard": 5})
    y.bot(2, "BUY")
    y.minutes(4)
    assert y.sales(1) == ["guard"] and y.held() == [2], "its own limit touches no other bot"


def test_a_drawdown_from_the_peak_sells_though_the_day_is_in_profit(yard):
    y = yard("100", "150", "134", "134")
    y.bot(1, "BUY", "HOLD", "HOLD", "HOLD", "BUY", "BUY", drawdown_pct={"soft": 5, "hard": 10}, daily_loss_pct=1)
    y.minutes(6)
    assert y.sales(1) == ["guard"] and y.held() == []
    assert "the drawdown from the peak is" in y.why(1)
    assert y.bots[1].position.totals.profit > 300


def test_losses_in_a_row_stop_a_bot_until_they_are_reset(yard):
    y = yard("100")  # the fees make each trade a loss
    y.bot(1, "BUY", "SELL", "BUY", "SELL", "BUY", "SELL", "BUY", "BUY", consecutive_losses=2)
    y.minutes(8)
    assert y.bots[1].position.totals.trades == 2 and y.held() == []
    assert "losses in a row: 2, at its limit of 2: no entries" in y.why(1)
    y.bot(1, *["BUY"] * 9, consecutive_losses=2)
    y.minutes()
    assert y.held() == []
    y.guards.reset("bot_1", "all", "test")
    y.minutes()
    assert y.held() == [1]


def test_trades_a_day_are_counted_over_the_accounts_bots(yard):
    y = yard("100")
    y.account(trades_per_day=3)
    for n in (1, 2):
        y.bot(n, "BUY", "SELL", "BUY", "SELL", "BUY")
    y.minutes(6)
    assert sum(b.position.totals.trades for b in y.bots.values()) + len(y.held()) == 3
    assert any("trades today: 3" in y.why(n) or "at most 3 may be" in y.why(n) for n in (1, 2))


def test_places_of_an_account_are_not_overrun_and_come_free_again(yard):
    y = yard("100")
    y.account(open_positions=2)
    y.bot(1, "BUY", "HOLD", "SELL")
    y.bot(2, "BUY")
    y.bot(3, "BUY", "BUY", "HOLD", "BUY", "BUY")
    y.minutes(2)
    assert y.held() == [1, 2] and "2 positions are open or about to be, at most 2 may be" in y.why(3)
    y.minutes(4)
    assert y.held() == [2, 3]


def test_exposure_of_one_coin_is_bounded_and_another_coin_is_free(yard):
    y = yard("100")
    y.account(exposure_pct=50)
    for n in (1, 2, 3):
        y.bot(n, "HOLD", "BUY")
    y.bot(4, "HOLD", "BUY", symbol="BNBUSDT")
    y.minutes(3)
    assert y.held() == [1, 2, 4]
    assert "74.95 % of the capital would be in BTC, the limit is 50 %" in y.why(3)


@pytest.mark.parametrize("bad", ["NaN", "0", "-1", "Infinity", "missing"])
def test_a_guard_is_not_disabled_by_a_bad_price(yard, bad, monkeypatch):
    y = yard("100", "100", "80", "80", "80", "80")
    y.account(daily_loss_pct={"soft": 5, "hard": 9})
    y.bot(1, "BUY")
    y.bot(2, "HOLD", "HOLD", "HOLD", "BUY", symbol="BNBUSDT")
    y.minutes(2)
    assert y.held() == [1]

    def told(symbols: Any) -> dict[str, Decimal]:
        if bad == "missing":
            raise Unavailable("no prices")
        return {s: D(bad) for s in symbols}

    y.prices = told
    monkeypatch.setattr(y.bots[2].exchange, "prices", told)
    y.minutes(3)
    assert y.held() == [1] and "can't be judged" in y.why(2), "nothing is bought, nothing is flattened for it"
    y.prices = y.client.prices
    y.minutes()
    assert y.held() == [] and y.sales(1) == ["guard"], "the loss was not forgotten"
    y.prices = told
    y.minutes()
    assert y.bots[1].limits.block(), "what tripped stays"


def test_a_state_that_cannot_be_read_stops_no_way_out(yard):
    y = yard("100")
    y.account(open_positions=5)
    y.bot(1, "BUY", "HOLD", "SELL", "BUY")
    y.minutes(2)
    assert y.held() == [1]
    y.files.path(guard_files.STATE).write_text("{")
    for _ in range(3):
        run_until(y.world, [y.bots[1]], (y.world.market_ms() // MINUTE + 1) * MINUTE + 3000)
        y.settle()
    assert y.held() == [] and y.sales(1) == ["signal"]
    assert "guards_state.json" in y.why(1) and "cp guards_state.json.prev" in y.why(1)


def test_the_kill_switch_sells_everything_at_the_next_step_and_is_lifted_by_hand(yard):
    y = yard("100")
    for n in (1, 2):
        y.bot(n, "BUY", *["HOLD"], *["BUY"] * 9)
    y.minutes(2)
    assert y.held() == [1, 2]
    guard_files.write_kill(y.files, "flatten", "test", y.world.wall)
    y.settle()
    assert y.held() == [] and [y.sales(n) for n in (1, 2)] == [["kill"]] * 2
    y.books_are_right()
    y.bot(2, *["BUY"] * 9)
    y.minutes(2)
    assert y.held() == [] and "the kill switch is on" in y.why(2)
    guard_files.write_kill(y.files, None, "test", y.world.wall)
    y.minutes(2)
    assert y.held() == [1, 2]


def test_stop_entries_leaves_positions_and_their_exits_alone(yard):
    y = yard("100")
    y.bot(1, "BUY", "HOLD", "SELL")
    y.bot(2, "HOLD", "HOLD", "BUY")
    y.minutes(2)
    guard_files.write_kill(y.files, "entries", "test", y.world.wall)
    y.settle()
    assert y.held() == [1]
    y.minutes(2)
    assert y.held() == [] and y.sales(1) == ["signal"] and "the kill switch is on" in y.why(2)


def test_a_flatten_is_tried_again_until_the_bot_is_flat(yard, monkeypatch):
    y = yard("100")
    bot = y.bot(1, "BUY")
    y.minutes(2)
    real, failing = bot.exchange.place, [2]

    def place(*a: Any, **k: Any) -> Any:
        if failing[0]:
            failing[0] -= 1
            raise Unavailable("the exchange is away")
        return real(*a, **k)

    monkeypatch.setattr(bot.exchange, "place", place)
    guard_files.write_kill(y.files, "flatten", "test", y.world.wall)
    for _ in range(6):
        y.settle()
    assert failing == [0] and y.held() == [] and y.sales(1) == ["kill"]
    y.books_are_right()


def test_a_guard_run_of_a_stopped_bot_obeys_and_ends(yard):
    y = yard("100")
    y.bot(1, "BUY")
    y.minutes(2)
    del y.bots[1]  # its process is gone
    guard_files.write_kill(y.files, "flatten", "test", y.world.wall)
    before = y.world.bot(1, "BTCUSDT", Script(), "1000", stop_loss_pct=D(60), take_profit_pct=D(200), timeframe="1m")
    guard = Trader(before.config, y.world.settings, y.files, y.world.client(), WorldClock(y.world), None)
    assert guard.start()
    y.bots[1] = guard
    y.settle()
    assert y.held() == [] and guard.finished and y.sales(1) == ["kill"]


def _claim(home: Path, bot_id: int, gate: Any, answers: Any) -> None:
    from core.storage import Files

    guards = Guards(Files(home), lambda: 1_800_000_000_000)
    gate.wait()
    verdict, _ = guards.reserve(bot_id, ACCOUNT, {}, Entry("BTCUSDT", "BTC", D(100), 1), {}, 1_700_000_000_000)
    answers.put((bot_id, verdict.text))


def test_of_processes_that_race_for_the_last_place_one_gets_it(tmp_path):
    """Real processes, the real lock."""
    from core.storage import Files

    files = Files(tmp_path)
    guard_files.set_limits(files, ACCOUNT, {"open_positions": 1})
    context = multiprocessing.get_context("fork")
    for _ in range(4):
        files.path(guard_files.STATE).unlink(missing_ok=True)
        files.path(guard_files.STATE + ".prev").unlink(missing_ok=True)
        gate, answers = context.Barrier(5), context.Queue()
        racers = [context.Process(target=_claim, args=(tmp_path, n, gate, answers)) for n in range(1, 6)]
        for r in racers:
            r.start()
        told = [answers.get(timeout=patience(20)) for _ in racers]
        for r in racers:
            r.join(patience(10))
        assert [text for _, text in told].count("") == 1, told
