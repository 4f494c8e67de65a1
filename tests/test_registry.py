"""The list of bots: what it accepts, what it refuses, and that nothing of it is ever lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ROOT
from core.errors import Conflict, InputError, NotFound, StateError
from core.fleet import records
from core.fleet.registry import Registry
from core.storage import Files
from patience import patience

GOOD: dict[str, Any] = {"name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 500}


@pytest.fixture
def registry(home: Path) -> Registry:
    files = Files(home)
    files.write_json("active_bots.json", [])
    return Registry(files)


def raw(registry: Registry) -> Any:
    return registry.files.read_any("active_bots.json")


# --- the file ---------------------------------------------------------------------------------


def test_an_untouched_home_gets_the_bots_as_shipped(home: Path) -> None:
    registry = Registry(Files(home))
    bots = registry.bots()
    assert [(b["id"], b["mode"], b["status"]) for b in bots] == [(1, "paper", "running"), (2, "paper", "running"), (3, "paper", "running")]
    assert len({b["symbol"] for b in bots}) == 3
    assert {b["strategy"] for b in bots} == {"volatile", "simple_profitable"}
    assert json.loads((home / "active_bots.json").read_text()) == json.loads((ROOT / "active_bots.json").read_text())
    assert all((ROOT / "strategies" / f"{file}_strategy.py").is_file() for file in ("volatile_coins", "simple_profitable"))


def test_the_first_act_in_an_untouched_home_may_be_a_creation(home: Path) -> None:
    registry = Registry(Files(home))
    assert registry.create(GOOD)["id"] == 4
    assert [b["id"] for b in registry.bots()] == [1, 2, 3, 4]


def test_where_a_bot_ran_without_a_record_the_shipped_bots_stay_away(home: Path) -> None:
    (home / "bot_7.log").touch()
    assert Registry(Files(home)).bots() == []
    assert not (home / "active_bots.json").exists()


def test_a_list_that_was_there_and_is_missing_is_refused_and_not_begun_anew(registry: Registry) -> None:
    registry.create(GOOD)
    path = registry.files.path("active_bots.json")
    path.unlink()
    with pytest.raises(StateError, match="missing"):
        registry.bots()
    path.with_name("active_bots.json.prev").unlink()
    with pytest.raises(StateError, match="missing though bots were registered"):
        registry.create(GOOD)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "empty"),
        ('[{"id": 1, "name": "A"', "not valid JSON"),
        ('{"bots": []}', "no list of bots"),
        ("[1]", "not an object"),
        ('[{"id": 1, "name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": "500"}]', r"bot 1 \('A'\).*trade_amount.*must be a number"),
        ('[{"id": 1, "name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": NaN}]', "not valid JSON"),
        ('[{"id": true, "name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 5}]', "id: True"),
        ('[{"id": 1, "name": "A", "symbol": "BTCUSDT", "strategy": "volatile"}]', "trade_amount: is missing"),
        ('[{"id": 1, "name": "A", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 5, "status": "on"}]', "status: 'on'"),
        (json.dumps([{**GOOD, "id": 4}, {**GOOD, "id": 4, "name": "Twin"}]), r"bot 4 \('Twin'\).*another record has too"),
    ],
)
def test_a_list_that_can_not_be_trusted_is_refused_by_name_and_left_as_it_is(registry: Registry, content: str, reason: str) -> None:
    path = registry.files.path("active_bots.json")
    path.write_text(content)
    for act in (registry.bots, lambda: registry.create(GOOD), lambda: registry.set_wanted(1, "running"), lambda: registry.delete(1)):
        with pytest.raises(StateError, match=reason) as refused:
            act()
        assert refused.value.remedy
        assert str(path) in str(refused.value)
    assert path.read_text() == content


def test_keys_that_nobody_knows_stay_in_a_record(registry: Registry) -> None:
    registry.files.write_json("active_bots.json", [{**GOOD, "id": 1, "colour": "green", "notes": {"a": [1, Decimal("0.10")]}}])
    registry.update(1, {"name": "New"})
    registry.set_wanted(1, "running")
    assert raw(registry)[0]["colour"] == "green"
    assert raw(registry)[0]["notes"] == {"a": [1, Decimal("0.1")]}
    assert registry.bot(1)["colour"] == "green"


def test_fields_that_were_not_given_stay_null_in_the_file_and_show_their_defaults(registry: Registry) -> None:
    bot = registry.create(GOOD)
    assert (bot["status"], bot["mode"], bot["exchange"], bot["market"], bot["account"]) == ("stopped", "paper", "binance", "spot", "main")
    kept = raw(registry)[0]
    assert all(kept[k] is None for k in ("mode", "exchange", "sizing", "timeframe", "check_interval", "stop_loss_pct", "params", "limits", "offset"))
    assert set(kept) == set(records.FIELDS)


def test_money_goes_in_and_out_without_passing_through_a_float(registry: Registry) -> None:
    bot = registry.create({**GOOD, "trade_amount": "500.10", "stop_loss_pct": "2.30"})
    assert bot["trade_amount"] == Decimal("500.10")
    assert '"trade_amount": 500.1,' in registry.files.path("active_bots.json").read_text()
    assert registry.bot(1)["stop_loss_pct"] == Decimal("2.3")


def test_the_copy_before_the_last_change_is_kept(registry: Registry) -> None:
    registry.create(GOOD)
    registry.create({**GOOD, "name": "Second"})
    assert [b["name"] for b in registry.files.read_any("active_bots.json.prev")] == ["BTC Bot"]


def test_nothing_is_written_where_nothing_changes(registry: Registry) -> None:
    registry.create(GOOD)
    before = registry.files.path("active_bots.json").stat().st_ino
    registry.set_wanted(1, "stopped")
    registry.update(1, {"name": "BTC Bot"})
    registry.note(1, Decimal(0), 0)
    registry.bots()
    assert registry.files.path("active_bots.json").stat().st_ino == before
    registry.note(1, Decimal("1.5"), 3)
    assert (registry.bot(1)["profit"], registry.bot(1)["trades"]) == (Decimal("1.5"), 3)


def test_a_change_of_what_is_wanted_is_in_the_audit_with_its_reason(registry: Registry) -> None:
    registry.create(GOOD)
    registry.set_wanted(1, "running", "start by a test")
    (line,) = registry.files.read_lines("data/audit.jsonl")
    assert (line["what"], line["bot_id"], line["detail"]) == ("wanted running", 1, {"why": "start by a test"})


# --- ids --------------------------------------------------------------------------------------


def test_the_last_number_there_is_used_by_hand_does_not_end_the_counting(registry: Registry) -> None:
    first = registry.create(GOOD)["id"]
    registry.files.path("bot_999999.log").touch()
    registry.files.path("bot_2.log").touch()
    assert [registry.create(GOOD)["id"] for _ in range(2)] == [first + 2, first + 3]


def test_an_id_is_never_used_again_after_a_deletion(registry: Registry) -> None:
    assert [registry.create(GOOD)["id"] for _ in range(3)] == [1, 2, 3]
    registry.delete(3)
    assert registry.create(GOOD)["id"] == 4
    for bot_id in (1, 2, 4):
        registry.delete(bot_id)
    assert registry.bots() == []
    assert registry.create(GOOD)["id"] == 5


@pytest.mark.parametrize("trace", ["bot_41_fills.jsonl", "bot_41.log", "archive/bot_41-20260101T000000Z", "archive/bot_41_position.json"])
def test_an_id_is_not_used_where_only_a_file_tells_of_it(registry: Registry, trace: str) -> None:
    path = registry.files.path(trace)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert registry.create(GOOD)["id"] == 42


def test_an_unknown_bot_is_not_found_and_the_known_ones_are_told(registry: Registry) -> None:
    registry.create(GOOD)
    for act in (registry.bot, registry.delete, lambda i: registry.update(i, {"name": "x"}), lambda i: registry.set_wanted(i, "running")):
        with pytest.raises(NotFound, match="no bot 9; known ids: 1"):
            act(9)


# --- what a record may hold -------------------------------------------------------------------


def test_every_problem_is_listed_at_once(registry: Registry) -> None:
    with pytest.raises(InputError) as refused:
        registry.create({"name": " ", "symbol": "btc usdt", "trade_amount": "much", "lookback": 1, "colour": "green", "id": 5})
    text = str(refused.value)
    for part in ("name:", "symbol:", "strategy: is missing", "trade_amount: 'much'", "lookback: 1", "'colour': no such field", "'id': is kept by Botyard"):
        assert part in text
    assert registry.bots() == []


NO_AMOUNTS = [True, False, float("nan"), float("inf"), Decimal("NaN"), "NaN", "", "1_000", "5 USDT", "٥"]


@pytest.mark.parametrize("amount", [*NO_AMOUNTS, 0, -5, "1e400", Decimal("1e999999"), 10**13, 10**5000, [], {}, None], ids=lambda v: type(v).__name__)
def test_an_amount_that_is_no_amount_is_refused(registry: Registry, amount: Any) -> None:
    with pytest.raises(InputError, match="trade_amount"):
        registry.create({**GOOD, "trade_amount": amount})


@pytest.mark.parametrize(("amount", "kept"), [(500, "500"), ("500.50", "500.50"), (0.1, "0.1"), ("1e3", "1000"), (Decimal("0.00000001"), "0.00000001")])
def test_an_amount_may_be_a_number_or_a_number_in_text(registry: Registry, amount: Any, kept: str) -> None:
    assert registry.create({**GOOD, "trade_amount": amount})["trade_amount"] == Decimal(kept)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        *[("name", v) for v in ("", "  ", "x" * 61, "a\nb", "a\x00b", "\x1b[31m", "\ud800", 5)],
        *[("symbol", v) for v in ("", "btcusdt", "BTC USDT", "BTCUSDT;", "B" * 31, "BTCÜSDT", 5)],
        *[("strategy", v) for v in ("", "Volatile", "../volatile", "a b", 5)],
        *[("mode", v) for v in ("real", "", "PAPER", 1)],
        *[("sizing", v) for v in ("all", True)],
        *[("timeframe", v) for v in ("7m", "5M", 5)],
        *[("lookback", v) for v in (1, 1001, 2.5, True, "many")],
        *[("check_interval", v) for v in (0, 604801, 0.5)],
        *[("offset", v) for v in (-1, "x")],
        *[("stop_loss_pct", v) for v in (0, 99.1, -2)],
        *[("take_profit_pct", v) for v in (0, 10001)],
        *[("cooldown_checks", v) for v in (-1, 1001)],
        *[("params", v) for v in ([], "x", 1)],
        *[("limits", v) for v in ([], "x")],
        ("exchange", "Binance US"),
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(registry: Registry, field: str, bad: Any) -> None:
    with pytest.raises(InputError, match=field):
        registry.create({**GOOD, field: bad})


NAMES = ["\"quotes\" and 'more'", "🤖🚀 bot", "<script>alert(1)</script>", "a;rm -rf /", "$(id) `id`", "Ünïcödé 机器人", "../../etc", "x" * 60]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_any_text_without_control_characters(registry: Registry, name: str) -> None:
    registry.create({**GOOD, "name": f"  {name} "})
    assert registry.bot(1)["name"] == name


@given(st.text(max_size=70))
@settings(max_examples=200, deadline=None)
def test_whatever_text_is_given_as_a_name_is_either_kept_as_it_is_or_refused(name: str) -> None:
    try:
        clean = records.check({**GOOD, "name": name}, complete=True)
    except InputError:
        return
    assert clean["name"] == name.strip()
    assert len(clean["name"].splitlines()) == 1
    assert Files("/").home and clean["name"].encode()


def test_live_needs_the_word_of_a_person(registry: Registry) -> None:
    with pytest.raises(InputError, match="confirm: type LIVE to let this bot trade with real money"):
        registry.create({**GOOD, "mode": "live"})
    assert registry.create({**GOOD, "mode": "testnet"})["mode"] == "testnet"


def test_a_mode_above_the_settings_is_told_with_what_would_be_right() -> None:
    assert records.mode_problem({"mode": "paper"}, "paper") is None
    assert records.mode_problem({"mode": "paper"}, "live") is None
    assert "raise TRADING_MODE" in str(records.mode_problem({"mode": "testnet"}, "paper"))


def test_a_venue_that_is_not_there_yet_is_told_with_what_would_be_right() -> None:
    assert records.mode_problem({"mode": "paper", "exchange": "binance", "market": "spot", "account": "main"}, "paper") is None
    assert "must be spot" in str(records.mode_problem({"mode": "paper", "market": "futures"}, "paper"))


def test_an_offset_must_leave_the_order_near_the_open_of_its_candle(registry: Registry) -> None:
    with pytest.raises(InputError, match="offset: 13 s is too late for 1m candles; it must be below 13"):
        registry.create({**GOOD, "timeframe": "1m", "offset": 13})
    bot = registry.create({**GOOD, "timeframe": "1m", "offset": 12})
    with pytest.raises(InputError, match="offset"):
        registry.update(bot["id"], {"offset": 13})
    registry.update(bot["id"], {"offset": 60, "timeframe": "5m"})


# --- while something is open ----------------------------------------------------------------


def position(registry: Registry, bot_id: int, **fields: Any) -> None:
    value = {"schema": 1, "position": None, "pending_order": None, "orders": [], **fields}
    registry.files.write_json(f"bot_{bot_id}_position.json", value)


OPEN = {
    "a LONG position is open": {"position": "LONG"},
    "an order is open": {"orders": [{"status": "NEW"}]},
    "an order's outcome is not known yet": {"pending_order": {"status": "SENDING"}, "orders": [{"status": "SENDING"}]},
}


@pytest.mark.parametrize("business", OPEN)
def test_symbol_venue_and_strategy_stay_while_business_is_open_and_the_rest_may_change(registry: Registry, business: str) -> None:
    registry.create(GOOD)
    position(registry, 1, **OPEN[business])
    for change in ({"symbol": "ETHUSDT"}, {"strategy": "other"}, {"mode": "testnet"}, {"account": "second"}):
        with pytest.raises(Conflict, match=f"{next(iter(change))} can't change while {business}"):
            registry.update(1, change)
    assert registry.update(1, {"name": "New", "trade_amount": 7, "symbol": "BTCUSDT"})["name"] == "New"
    with pytest.raises(Conflict, match=f"can't be deleted while {business}"):
        registry.delete(1)
    position(registry, 1, orders=[{"status": "FILLED"}])
    assert registry.update(1, {"symbol": "ETHUSDT"})["symbol"] == "ETHUSDT"


def test_a_position_file_that_can_not_be_read_keeps_symbol_and_bot_where_they_are(registry: Registry) -> None:
    registry.create(GOOD)
    registry.files.path("bot_1_position.json").write_text("{")
    for act in (lambda: registry.update(1, {"symbol": "ETHUSDT"}), lambda: registry.delete(1)):
        with pytest.raises(StateError, match=r"bot_1_position\.json"):
            act()
    assert registry.bot(1)["symbol"] == "BTCUSDT"


def test_a_bot_whose_process_runs_is_not_deleted(registry: Registry) -> None:
    registry.create(GOOD)
    code = "import sys; from core.storage import Files; l = Files(sys.argv[1]).lock('bot_1.lock'); l.acquire(); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(registry.files.home)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"running .process {process.pid}"):
            registry.delete(1)
        process.communicate()
    registry.delete(1)
    assert registry.bots() == []


def test_deletion_moves_the_files_of_that_bot_alone_and_keeps_its_record(registry: Registry) -> None:
    for _ in range(10):
        registry.create(GOOD)
    names = ("_position.json", "_position.json.prev", "_status.json", "_fills.jsonl", ".log", ".log.1", ".lock")
    for n in (1, 10):
        for name in names:
            content = '{"schema": 1, "position": null}' if "position" in name else f"of {n}"
            registry.files.path(f"bot_{n}{name}").write_text(content)
    registry.delete(1)
    left = {p.name for p in registry.files.home.glob("bot_*")}
    assert left == {f"bot_10{name}" for name in names}
    (folder,) = registry.files.path("archive").iterdir()
    assert {p.name for p in folder.iterdir()} == {"record.json", *(f"bot_1{name}" for name in names if name != ".lock")}
    assert json.loads((folder / "record.json").read_text())["id"] == 1
    assert (folder / "bot_1_fills.jsonl").read_text() == "of 1"


# --- many at once -----------------------------------------------------------------------------


def test_bots_created_by_several_threads_and_processes_at_once_all_get_ids_of_their_own(registry: Registry) -> None:
    code = (
        "import sys; from core.fleet.registry import Registry; from core.storage import Files; r = Registry(Files(sys.argv[1]))\n"
        "for i in range(8): r.create({'name': sys.argv[2], 'symbol': 'BTCUSDT', 'strategy': 'volatile', 'trade_amount': 5})"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(registry.files.home), f"process {n}"], cwd=ROOT, env=dict(os.environ)) for n in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: registry.create({**GOOD, "name": f"thread {n}"}), range(16)))
    assert [p.wait(patience(30)) for p in others] == [0, 0]
    assert sorted(b["id"] for b in registry.bots()) == list(range(1, 33))
