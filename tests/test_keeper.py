"""The last guard: what the yard itself sees at the exchange, and does, for bots that don't look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.bot.journal import fill_row, fills_name
from core.bot.position import to_json
from core.errors import Unavailable
from core.fleet import control
from core.fleet.keeper import Keep, Keeper, passed, to_book
from core.model import SENDING, Fill, Order, OrderRequest, Position, Update, Venue
from kept_yard import KeptYard, books_are_right, kept_yard, sold
from patience import patience
from processes import until

D = Decimal
VENUE = Venue("binance", "spot", "main", "paper", "replay:x")


def order(client_id: str = "a", status: str = "NEW", executed: str = "0") -> Order:
    request = OrderRequest(client_id, "BTCUSDT", "SELL", "STOP_LOSS", quantity=D("0.01"), stop_price=D(49000))
    return Order(request, "stop", "stop_loss", status, executed=D(executed))


def position(*orders: Order, **more: Any) -> Position:
    return Position(1, VENUE, "BTCUSDT", "BTC", "USDT", direction="LONG", orders=orders, stop_loss=D(49000), **more)


# --- what is to be booked, and when a stop is passed: pure ---------------------------------------


@pytest.mark.parametrize(
    ("known", "listed", "why"),
    [
        (order(), {"a": Update("a", "NEW")}, ""),
        (order(), {}, "is over"),
        (order(), {"b": Update("b", "NEW")}, "is over"),
        (order(), {"a": Update("a", "PARTIALLY_FILLED", executed=D("0.004"))}, "has executed 0.004"),
        (order(executed="0.004"), {"a": Update("a", "PARTIALLY_FILLED", executed=D("0.004"))}, ""),
        (order(status=SENDING), {"a": Update("a", "NEW")}, "never learnt"),
    ],
)
def test_what_the_exchange_did_and_the_file_does_not_know_is_to_be_booked(known: Order, listed: dict[str, Update], why: str) -> None:
    found = to_book(position(known), listed)
    assert (why in found, bool(found)) == (True, bool(why))


def test_a_position_without_orders_asks_for_no_booking() -> None:
    assert to_book(position(), {}) == ""


def test_a_stop_is_passed_from_its_own_price_on_and_never_by_a_price_that_is_none() -> None:
    long, short = position(), replace(position(), direction="SHORT")
    assert [passed(long, D(p)) for p in ("49000.01", "49000", "1", "0", "-1", "NaN", "Infinity")] == [False, True, True, False, False, False, False]
    assert [passed(short, D(p)) for p in ("48999", "49000", "60000", "NaN")] == [False, True, True, False]
    assert not passed(replace(long, stop_loss=None), D(1))
    assert not passed(replace(long, direction=None), D(1))


# --- with real bots, a real paper exchange and the yard ---------------------------------------------


@pytest.fixture
def y(tmp_path: Path) -> Iterator[KeptYard]:
    with kept_yard(tmp_path / "home") as made:
        yield made


def test_a_stopped_bots_pair_stays_while_it_rests_and_is_booked_within_5_seconds_of_its_fill(y: KeptYard) -> None:
    y.bot(1)
    y.bot(2, symbol="ETHUSDT", status="stopped")
    y.begin()
    y.holds(1)
    told = until(lambda: y.status().get("unprotected_ms"), "the bot's word on its protection")
    print(f"without a stop for {told['last']} ms")
    assert 0 <= told["last"] <= told["max"] < 15_000
    until(lambda: "PROTECTED after" in y.log(), "its word in the log")
    control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    held = y.position()
    assert y.yard is not None and y.yard.keeper is not None
    keep: Any = until(lambda: y.yard.keeper.keeps.get(("paper", "main")), "the keeper")  # type: ignore[union-attr]
    before = until(lambda: keep.looked_wall_ms, "a look")
    until(lambda: keep.looked_wall_ms > before + 4000, "two looks")
    until(lambda: keep.problem == "", "a look without a problem")
    assert (y.supervisor.running(), y.position()) == ({}, held)  # untouched, and nobody was run for it
    y.fall()
    began = time.monotonic()
    y.flat(15)
    took = time.monotonic() - began
    print(f"booked {took:.1f} s after the fill")
    assert took < patience(8)  # 5 s on a machine that does nothing else
    until(lambda: y.supervisor.running() == {}, "the guard's end", 5)
    assert y.status()["exit"]["code"] == 0
    assert y.registry.bot(1)["status"] == "stopped"
    assert sold(y) > 0
    assert books_are_right(y)
    assert "Bot 2" not in y.log(2)  # nothing of it lies at the exchange: left alone
    assert not y.files.exists("bot_2_status.json")


def test_an_order_left_unknown_by_a_bot_that_was_stopped_is_resolved_and_its_position_protected(y: KeptYard) -> None:
    y.bot(1)
    y.begin()
    until(lambda: y.supervisor.unit_pid("paper"), "the paper exchange")
    until(lambda: y.paper("status"), "its answer")
    y.paper("faults", {"method": "POST", "path": "/api/v3/order", "fault": "hang_after", "times": 1, "params": {"seconds": 30}})
    until(lambda: y.position().get("pending_order"), f"the order that hangs: {y.log()}", 30)
    control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor, timeout_s=3)
    until(lambda: y.supervisor.running() == {} and y.position()["position"] == "LONG", f"the booking: {y.log()[-1500:]}", 20)
    p = y.position()
    assert [(o["role"], o["status"]) for o in p["orders"]] == [("target", "NEW"), ("stop", "NEW")]
    assert p["protection"] == "exchange"
    assert {u.client_id for u in y.client().open_orders()} == {o["request"]["client_id"] for o in p["orders"]}
    assert len([f for f in y.files.read_lines("bot_1_fills.jsonl") if f["side"] == "BUY"]) >= 1
    assert books_are_right(y)


def test_a_close_that_reaches_a_guard_that_only_books_is_obeyed(y: KeptYard) -> None:
    y.bot(1)
    y.begin()
    y.holds(1)
    control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    y.end_yard()
    y.files.write_json("data/commands/bot_1/000000000000001-aa.json", {"schema": 1, "command": "close", "by": "a test", "data": {}}, keep_previous=False)
    y.supervisor.start(y.registry.bot(1), guard=True, once=True)
    y.flat(15)
    until(lambda: y.supervisor.running() == {}, "the guard's end", 5)
    assert y.client().open_orders() == []
    assert books_are_right(y)


# --- one look, by hand -----------------------------------------------------------------------------


class Hands:
    """The keeper's view of a yard, and what it asked for."""

    def __init__(self, records: list[dict[str, Any]]):
        self._records = records
        self.asked: list[tuple[str, int]] = []

    def records(self) -> list[dict[str, Any]]:
        return self._records

    def state_of(self, bot_id: int) -> str:
        return "stopped"

    def since_of(self, bot_id: int) -> int:
        return 0

    def book(self, bot_id: int, why: str) -> None:
        self.asked.append(("book", bot_id))

    def rescue(self, bot_id: int, why: str) -> None:
        self.asked.append(("rescue", bot_id))


def test_another_yards_paper_exchange_is_refused_and_none_is_started_for_the_keeper(y: KeptYard, tmp_path: Path) -> None:
    y.bot(1)
    y.begin()
    y.holds(1)
    control.stop_bot(y.files, y.settings, 1, "a test", y.supervisor)
    with kept_yard(tmp_path / "other", PAPER_PORT=str(y.port)) as other:
        other.bot(1, status="stopped")
        other.files.write_json("bot_1_position.json", y.position())
        other.files.path("bot_1_fills.jsonl").write_text(y.files.path("bot_1_fills.jsonl").read_text())
        hands = Hands(other.registry.bots())
        asked: list[str] = []

        def client(settings: Any, mode: str, account: str) -> Any:
            asked.append(mode)
            from core.binance_client import BinanceClient

            return BinanceClient(settings, "paper", account)

        keep = Keep(("paper", "main"), other.files, other.supervisor, hands, lambda: other.settings, client)
        keep.look()
        assert (asked, keep.problem) == ([], "")  # its own is not up: nobody is asked
        other.supervisor.unit_pid = lambda unit: 1 if unit == "paper" else None  # type: ignore[method-assign]
        keep.look()
        assert "belongs to another yard" in keep.problem
        assert hands.asked == []


def test_what_fails_is_told_and_tried_again_with_a_new_client_and_nothing_is_asked_where_nothing_is_open(y: KeptYard, monkeypatch: pytest.MonkeyPatch) -> None:
    y.bot(1, status="stopped")
    made: list[int] = []

    def client(*_: Any) -> Any:
        made.append(1)
        raise Unavailable("the exchange is away")

    monkeypatch.setattr(y.supervisor, "unit_pid", lambda unit: 1 if unit == "paper" else None)
    hands = Hands(y.registry.bots())
    keep = Keep(("paper", "main"), y.files, y.supervisor, hands, lambda: y.settings, client)
    y.files.write_json("bot_1_position.json", to_json(replace(position(), direction=None)))
    keep.look()
    assert (made, keep.problem) == ([], "")
    y.files.write_json("bot_1_position.json", to_json(position(order())))
    keep.look()
    keep.look()
    assert (len(made), keep.problem, hands.asked) == (2, "the exchange is away", [])
    y.files.path("bot_1_position.json").write_text("{")
    keep.look()
    assert (len(made), keep.problem) == (2, "")  # told by the bot's own start and by the page


def test_fills_that_lie_in_the_journal_already_ask_for_no_guard(y: KeptYard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(y.supervisor, "unit_pid", lambda unit: 1 if unit == "paper" else None)
    y.bot(1, status="stopped")
    made, client = [], type("Nobody", (), {"connect": lambda *_: None, "open_orders": lambda *_: []})
    fill = Fill("7", "9", "a", "BTCUSDT", "BUY", D(50000), D("0.01"), D(500), D(0), "BTC", 1)
    listed = replace(position(), fills=(fill,), unjournaled=(fill,))
    y.files.write_json("bot_1_position.json", to_json(listed))
    hands = Hands(y.registry.bots())
    keep = Keep(("paper", "main"), y.files, y.supervisor, hands, lambda: y.settings, lambda *_: made.append(1) or client())  # type: ignore[arg-type,func-returns-value,return-value]
    keep.look()
    assert (len(made), len(hands.asked)) == (1, 1), "the journal lacks it"
    y.files.append_line(fills_name(1), fill_row(listed, fill))
    y.files.write_json("bot_1_position.json", to_json(listed))
    keep.look()
    assert (len(made), len(hands.asked)) == (1, 1), "the journal has it"


def test_a_pass_over_a_hundred_stopped_bots_reads_only_the_files_that_have_changed(y: KeptYard, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(1, 101):
        y.files.write_json(f"bot_{n}_position.json", to_json(replace(position(), bot_id=n, direction=None)))
    y.bot(1, status="stopped")
    records = [{**y.registry.bots()[0], "id": n} for n in range(1, 101)]
    keep = Keep(("paper", "main"), y.files, y.supervisor, Hands(records), lambda: y.settings, lambda *_: None)  # type: ignore[arg-type,return-value]
    keep.look()
    read: list[str] = []
    monkeypatch.setattr("core.fleet.state.read_position", lambda files, bot_id: read.append(bot_id))
    keep.look()
    assert read == []


def test_a_thread_begins_for_each_mode_and_account_and_ends_with_the_yard(y: KeptYard) -> None:
    y.bot(1, status="stopped")
    y.bot(2, status="stopped", mode="testnet")
    keeper = Keeper(y.files, y.supervisor, Hands(y.registry.bots()), lambda: y.settings)
    keeper.step()
    keeper.step()
    assert set(keeper.note()) == {"paper/main", "testnet/main"}
    keeper.close()
