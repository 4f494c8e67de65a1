"""A flat bot follows the symbol that its strategy recommends, where its record lets it; an open one never."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bots import settings
from core import notify
from core.bot import setup
from core.errors import InputError
from core.fleet import following, records
from core.fleet.yard import Yard
from fleet_help import Yardful, until, yardful
from kept_yard import KeptYard, books_are_right, kept_yard
from stepped import World, run_until
from strategies.base import Strategy

D = Decimal
MINUTE = 60_000


def record(**fields: Any) -> dict[str, Any]:
    return records.view({"id": 1, "name": "B", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": D(500), "status": "running", **fields})


# --- the record --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"follow_recommended": "yes"}, 'follow_recommended.*must be true, false, or "live"'),
        ({"follow_recommended": 1.5}, "follow_recommended"),
        ({"symbols": "ETHUSDT"}, "symbols.*a list of 1 to 100 symbols"),
        ({"symbols": []}, "symbols.*a list of 1 to 100 symbols"),
        ({"symbols": ["ETHUSDT", "eth usdt"]}, "symbols.*a symbol such as BTCUSDT"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(fields: dict[str, Any], says: str):
    with pytest.raises(InputError, match=says):
        records.check(fields, complete=False)


def test_a_live_bot_follows_only_where_its_record_says_live():
    with pytest.raises(InputError, match="follow_recommended: a bot that trades real money"):
        records.together(record(mode="live", follow_recommended=True))
    records.together(record(mode="live", follow_recommended="live"))
    assert not following.allowed(record(mode="live", follow_recommended=True), "ETHUSDT")
    assert following.allowed(record(mode="live", follow_recommended="live"), "ETHUSDT")


@pytest.mark.parametrize(
    ("fields", "told", "found"),
    [
        ({"follow_recommended": True}, "ETHUSDT", "ETHUSDT"),
        ({}, "ETHUSDT", None),
        ({"follow_recommended": False}, "ETHUSDT", None),
        ({"follow_recommended": True}, "BTCUSDT", None),
        ({"follow_recommended": True}, None, None),
        ({"follow_recommended": True, "symbols": ["ETHUSDT", "BNBUSDT"]}, "ETHUSDT", "ETHUSDT"),
        ({"follow_recommended": True, "symbols": ["BNBUSDT"]}, "ETHUSDT", None),
    ],
)
def test_where_a_bot_goes_is_between_its_record_and_what_it_tells(fields: dict[str, Any], told: str | None, found: str | None):
    status: Mapping[str, Any] = {"symbol": "BTCUSDT", "recommended": {"symbol": told} if told else None}
    assert following.target(record(**fields), status) == found


def test_a_move_that_was_cut_off_between_record_and_start_is_finished():
    assert following.target(record(follow_recommended=True, symbol="ETHUSDT"), {"symbol": "BTCUSDT", "recommended": {"symbol": "ETHUSDT"}}) == "ETHUSDT"


# --- what the bot tells ---------------------------------------------------------------------------


class Recommends(Strategy):
    """Holds, and recommends what the test says."""

    key = "recommends"
    warmup = 2  # type: ignore[assignment]
    what = ""

    def analyze(self, data: Any) -> dict[str, Any]:
        return {"signal": "HOLD", "reasoning": "", "recommended_symbol": self.what}


@pytest.mark.parametrize(
    ("what", "follows", "told", "warned"),
    [
        ("ETHUSDT", True, "ETHUSDT", ""),
        ("ETHUSDT", None, None, ""),
        ("BTCUSDT", True, None, ""),
        ("", True, None, ""),
        ("NOSUCHUSDT", True, None, "NOSUCHUSDT is not a symbol of this exchange"),
        ("ETHBTC", True, None, "ETHBTC"),
        ("../../etc", True, None, "is not a symbol"),
    ],
)
def test_a_bot_tells_what_its_strategy_recommends_once_the_exchange_knows_it(tmp_path: Path, what: str, follows: Any, told: str | None, warned: str):
    world = World(tmp_path, PAPER_START="2024-03-01", CHECK_INTERVAL="300")
    try:
        own = Recommends()
        own.what = what
        bot = world.bot(1, "BTCUSDT", own, follow_recommended=follows)
        assert bot.start()
        run_until(world, [bot], world.market_ms() + 6 * MINUTE)
        assert (bot.status.fields.get("recommended") or {}).get("symbol") == told
        texts = [w["text"] for w in bot.status.fields["warnings"] if w["kind"] == "recommended"]
        assert [warned in t for t in texts] == ([True] if warned else [])
        own.what = ""
        run_until(world, [bot], world.market_ms() + 6 * MINUTE)
        assert bot.status.fields.get("recommended") is None
        assert bot.symbol.name == "BTCUSDT", "it changes nothing itself"
    finally:
        world.close()


# --- what the yard does -----------------------------------------------------------------------------


class Hand:
    """A hand-moved monotonic clock."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def y(tmp_path: Path) -> Iterator[Yardful]:
    with yardful(tmp_path / "home") as made:
        yield made


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def yard(y: Yardful, hand: Hand) -> Yard:
    return Yard(y.files, y.settings, y.supervisor, settings_now=lambda: y.settings, monotonic=hand)


def look(yard: Yard) -> None:
    yard.step()
    assert yard.settle(20)


def wishing(y: Yardful, yard: Yard, hand: Hand, symbol: str = "ETHUSDT", **fields: Any) -> int:
    """A running stand-in that tells of `symbol`; its pid."""
    y.bots("Follower", status="running", follow_recommended=True, **fields)
    y.how(1, says={"symbol": "BTCUSDT", "recommended": {"symbol": symbol}})
    hand.now += 1
    look(yard)
    pid = y.beating(1)
    until(lambda: y.status(1).get("recommended"))
    y.how(1, says={"symbol": symbol})
    return pid


def test_a_flat_bot_is_moved_told_of_and_runs_on_the_new_symbol(y: Yardful, yard: Yard, hand: Hand):
    pid = wishing(y, yard, hand)
    y.position(1, None, symbol="BTCUSDT")
    look(yard)
    assert y.registry.bot(1)["symbol"] == "ETHUSDT" and y.registry.bot(1)["status"] == "running"
    assert y.beating(1) != pid and "ETHUSDT" in y.runs(1)[-1]["argv"]
    events = [e for e in notify.recent(y.files) if e["kind"] == "followed"]
    assert [e["text"] for e in events] == ["Follower (bot 1) follows its strategy from BTCUSDT to ETHUSDT."]
    look(yard)
    assert len(y.runs(1)) == 2 and not [e for e in notify.recent(y.files) if e["kind"] in ("bot_crashed", "bot_by_hand")]


@pytest.mark.parametrize("open_", [{"position": "LONG"}, {"position": None, "orders": [{"status": "NEW"}]}, {"position": None, "pending_order": {"a": 1}}])
def test_a_bot_with_anything_open_stays_until_it_is_flat(y: Yardful, yard: Yard, hand: Hand, open_: dict[str, Any]):
    pid = wishing(y, yard, hand)
    y.position(1, open_.pop("position"), symbol="BTCUSDT", **open_)
    look(yard)
    assert y.supervisor.pid(1) == pid and y.registry.bot(1)["symbol"] == "BTCUSDT"
    y.position(1, None, symbol="BTCUSDT")
    look(yard)
    assert y.registry.bot(1)["symbol"] == "ETHUSDT" and y.beating(1) != pid


def test_a_bot_is_not_moved_to_a_symbol_that_its_list_has_not(y: Yardful, yard: Yard, hand: Hand):
    pid = wishing(y, yard, hand, symbols=["BNBUSDT"])
    look(yard)
    assert y.supervisor.pid(1) == pid and y.registry.bot(1)["symbol"] == "BTCUSDT"


def test_a_strategy_that_can_not_make_up_its_mind_moves_its_bot_once_a_minute_at_most(y: Yardful, yard: Yard, hand: Hand):
    wishing(y, yard, hand)
    y.how(1, says={"symbol": "ETHUSDT", "recommended": {"symbol": "BTCUSDT"}})
    look(yard)
    pid = y.beating(1)
    until(lambda: y.status(1).get("recommended"))
    look(yard)
    assert y.supervisor.pid(1) == pid and y.registry.bot(1)["symbol"] == "ETHUSDT"
    hand.now += following.PAUSE_S
    look(yard)
    assert y.registry.bot(1)["symbol"] == "BTCUSDT"


# --- end to end ---------------------------------------------------------------------------------------

GUIDE = '''
class Guide:
    """Trades BTC once, and would rather have ETH."""
    key = "guide"
    warmup = 2
    def analyze(self, data):
        dear = float(data[-1][4]) > 10000
        odd = int(data[-1][0]) // 300000 % 2 == 1
        return {"signal": "BUY" if not dear or odd else "SELL", "reasoning": "by the clock", "recommended_symbol": "ETHUSDT"}
'''


def test_a_real_bot_sells_first_then_trades_the_recommended_symbol_and_the_books_hold(tmp_path: Path):
    with kept_yard(tmp_path / "home", PAPER_MARKET="synthetic", PAPER_DATA="", PAPER_SPEED="150", PAPER_START="2024-03-01") as yard:
        follow(yard)


def follow(y: KeptYard) -> None:
    y.strategy("guide", GUIDE)
    y.bot(1, "guide", follow_recommended=True, symbols=["BTCUSDT", "ETHUSDT"], take_profit_pct=50, stop_loss_pct=20)
    y.begin()
    until(lambda: y.position().get("symbol") == "ETHUSDT" and y.position().get("position") == "LONG", 60)
    fills = list(y.files.read_lines("bot_1_fills.jsonl"))
    of_btc = [f["side"] for f in fills if f["symbol"] == "BTCUSDT"]
    assert of_btc and of_btc == ["BUY", "SELL"] * (len(of_btc) // 2), "nothing was left open behind it"
    assert y.registry.bot(1)["symbol"] == "ETHUSDT"
    assert len({f["client_id"] for f in fills if f["symbol"] == "BTCUSDT"} & {f["client_id"] for f in fills if f["symbol"] == "ETHUSDT"}) == 0
    assert list((y.files.home / "archive").glob("bot_1_position.*BTCUSDT*")), "the flat file is kept"
    until(lambda: books_are_right(y), 10)


def test_settings_of_old_records_stay_as_they_are(tmp_path: Path):
    """A record without the new fields makes the same set-up."""
    own = settings(tmp_path)
    assert record()["follow_recommended"] is None and record()["symbols"] is None
    assert setup.build(own, 1, "B", "BTCUSDT", "volatile", D(500), record(), None).symbol == "BTCUSDT"
