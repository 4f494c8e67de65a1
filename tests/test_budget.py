"""All processes of a host share one account of request weight."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
from pathlib import Path

import pytest

from core.account.budget import EXIT_WAIT_MS, MINUTE_MS, ORDER_SHARES, RESUME_MS, SHARES, TEN_SECONDS_MS, TOO_MANY_ORDERS, Budget
from core.binance_limits import orders_in, weight
from core.errors import BudgetSpent, RateLimited
from core.paper.exchange import TABLE
from patience import patience

START = 1_700_000_040_000  # the beginning of a minute


class Wall:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def used_up(budget: Budget, priority: str, weight: int = 20) -> int:
    """Take until it is refused; how much was granted."""
    granted = 0
    try:
        while True:
            budget.take(weight, priority)  # type: ignore[arg-type]
            granted += weight
    except RateLimited:
        return granted


def test_the_page_stops_before_entries_and_entries_before_exits(tmp_path: Path) -> None:
    wall = Wall()
    one, other = (Budget(tmp_path / "b.db", "api.example", wall) for _ in range(2))
    assert used_up(one, "page") == 6000 * SHARES["page"]
    assert used_up(other, "entry") == pytest.approx(6000 * (SHARES["entry"] - SHARES["page"]))
    assert used_up(one, "exit") == pytest.approx(6000 * (SHARES["exit"] - SHARES["entry"]), abs=20)
    with pytest.raises(RateLimited) as refused:
        other.take(1, "entry")
    assert refused.value.retry_after_s == 60
    wall.now += MINUTE_MS
    other.take(1, "entry")


def test_what_the_exchange_says_of_the_used_weight_counts_for_everyone(tmp_path: Path) -> None:
    wall = Wall()
    one, other = (Budget(tmp_path / "b.db", "api.example", wall) for _ in range(2))
    one.take(1, "exit")
    one.told(200, {"X-MBX-USED-WEIGHT-1M": "5900"})
    with pytest.raises(RateLimited):
        other.take(1, "exit")
    assert other.state()["used"] == 5900


def test_a_limit_that_the_exchange_names_counts_and_another_host_has_its_own(tmp_path: Path) -> None:
    wall = Wall()
    one, far = Budget(tmp_path / "b.db", "api.example", wall), Budget(tmp_path / "b.db", "other.example", wall)
    one.learn(100)
    assert used_up(one, "exit", 1) == 95
    far.take(50, "page")
    assert far.state()["limit"] == 6000


@pytest.mark.parametrize("status", [418, 429])
def test_one_ban_silences_everyone_until_its_end_and_then_no_burst_follows(tmp_path: Path, status: int) -> None:
    wall = Wall()
    budgets = [Budget(tmp_path / "b.db", "api.example", wall) for _ in range(10)]
    budgets[0].take(1, "exit")
    budgets[0].told(status, {}, 120.0)
    for budget in budgets:
        with pytest.raises(RateLimited) as refused:
            budget.take(1, "exit")
        assert refused.value.retry_after_s == 120
    wall.now += 120_000
    at_once = sum(used_up(b, "exit", 1) for b in budgets)
    assert 0 < at_once <= 6000 / 60
    wall.now += 1000
    assert sum(used_up(b, "exit", 1) for b in budgets) <= 6000 / 60
    wall.now += RESUME_MS
    assert used_up(budgets[3], "exit", 1) > 1000


def test_a_later_shorter_ban_does_not_shorten_the_first(tmp_path: Path) -> None:
    wall = Wall()
    one = Budget(tmp_path / "b.db", "api.example", wall)
    one.told(418, {}, 300.0)
    one.told(429, {}, 5.0)
    assert one.state()["banned_until_wall_ms"] == START + 300_000


def _many(path: str, seed: int, granted: multiprocessing.Queue[int]) -> None:
    budget, draw = Budget(path, "api.example", lambda: START), random.Random(seed)
    total = 0
    for _ in range(200):
        weight = draw.choice((1, 2, 4, 20))
        try:
            budget.take(weight, "exit")
        except RateLimited:
            continue
        total += weight
    granted.put(total)


def test_many_processes_together_never_take_more_than_the_limit(tmp_path: Path) -> None:
    first = Budget(tmp_path / "b.db", "api.example", lambda: START)
    first.learn(2000)
    context = multiprocessing.get_context("fork")
    granted: multiprocessing.Queue[int] = context.Queue()
    workers = [context.Process(target=_many, args=(str(tmp_path / "b.db"), seed, granted)) for seed in range(6)]
    for worker in workers:
        worker.start()
    total = sum(granted.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(patience(30))
    assert total == first.state()["used"] and 2000 * 0.95 - 20 <= total <= 2000 * 0.95


def test_a_database_that_can_not_be_used_keeps_nobody_from_getting_out(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("this is no database, and far from one" * 100)
    budget = Budget(tmp_path / "b.db", "api.example", Wall())
    for _ in range(3):
        budget.take(20, "exit")
        budget.told(200, {"X-MBX-USED-WEIGHT-1M": "20"})
    assert budget.state() == {}


def test_a_damaged_database_and_one_of_another_version_are_begun_anew(tmp_path: Path) -> None:
    wall, path = Wall(), tmp_path / "b.db"
    path.write_text("this is no database, and far from one" * 100)
    budget = Budget(path, "api.example", wall)
    budget.take(20, "exit")
    wall.now += 10_000
    budget.take(20, "exit")
    assert budget.state()["used"] == 20
    budget.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE hosts DROP COLUMN banned_until")
        db.execute("PRAGMA user_version=1")
    db.close()
    again = Budget(path, "api.example", wall)
    again.take(30, "exit")
    assert again.state()["used"] == 30


# --- what a request costs ------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
def test_a_request_weighs_what_the_exchange_counts_for_it(method: str, path: str) -> None:
    endpoint = TABLE[method, path]
    for query in (
        {},
        {"symbol": "BTCUSDT"},
        {"symbols": '["BTCUSDT","ETHUSDT"]'},
        {"symbols": ",".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ")},
        {"symbol": "BTCUSDT", "orderId": "7"},
        *({"symbol": "BTCUSDT", "limit": str(n)} for n in (100, 101, 1000, 5000)),
    ):
        theirs = endpoint.weight if isinstance(endpoint.weight, int) else endpoint.weight(query)
        assert weight(method, path, query) == theirs, query


def test_what_places_orders_is_counted_by_how_many() -> None:
    paths = ("order", "order/test", "orderList/oco", "orderList/otoco", "order/cancelReplace")
    assert [orders_in("POST", f"/api/v3/{p}") for p in paths] == [1, 0, 2, 3, 1]
    assert orders_in("DELETE", "/api/v3/order") == orders_in("GET", "/api/v3/order") == 0


# --- orders --------------------------------------------------------------------------------


def test_entries_leave_orders_for_exits_and_each_account_has_its_own(tmp_path: Path) -> None:
    wall = Wall()
    one, other = (Budget(tmp_path / "b.db", "api.example", wall, account) for account in ("main", "second"))
    for _ in range(int(100 * ORDER_SHARES["entry"])):
        one.take(1, "entry", orders=1)
    with pytest.raises(BudgetSpent) as refused:
        one.take(1, "entry", orders=1)
    assert refused.value.retry_after_s == TEN_SECONDS_MS / 1000
    used = one.state()["used"]
    one.take(1, "entry")  # what is no order goes on
    one.take(1, "exit", orders=2)
    other.take(1, "entry", orders=2)
    assert one.state()["orders_10s"] == 72 and other.state()["orders_10s"] == 2
    assert one.state()["used"] == used + 3  # what was refused weighed nothing
    wall.now += TEN_SECONDS_MS
    one.take(1, "entry", orders=1)
    assert (one.state()["orders_10s"], one.state()["orders_day"]) == (1, 1)


def test_the_exchanges_own_count_of_orders_rules_and_a_lost_answer_counts(tmp_path: Path) -> None:
    one = Budget(tmp_path / "b.db", "api.example", Wall())
    one.take(1, "exit", orders=1)
    one.take(1, "exit", orders=2)
    one.told(200, {"X-MBX-ORDER-COUNT-10S": "40", "X-MBX-ORDER-COUNT-1D": "900"}, orders=1)
    assert (one.state()["orders_10s"], one.state()["orders_day"]) == (42, 902)  # two are still under way
    one.told(0, {}, orders=2)
    assert (one.state()["orders_10s"], one.state()["orders_day"]) == (42, 902)
    one.take(1, "exit", orders=1)
    one.told(400, {}, orders=1)  # refused: it doesn't count there
    assert one.state()["orders_10s"] == 42


def test_too_many_orders_silences_the_orders_of_the_account_alone(tmp_path: Path) -> None:
    wall = Wall()
    one, page = Budget(tmp_path / "b.db", "api.example", wall), Budget(tmp_path / "b.db", "api.example", wall, "second")
    one.take(1, "exit", orders=1)
    one.told(429, {}, 7.0, orders=1, code=TOO_MANY_ORDERS)
    with pytest.raises(BudgetSpent):
        one.take(1, "exit", orders=1)
    one.take(4, "exit")
    page.take(1, "entry", orders=1)
    wall.now += 7000
    one.take(1, "exit", orders=1)


def test_a_way_out_that_finds_nothing_left_tries_again_soon_and_is_no_ban(tmp_path: Path) -> None:
    one = Budget(tmp_path / "b.db", "api.example", Wall())
    one.learn(100)
    used_up(one, "exit", 1)
    with pytest.raises(BudgetSpent) as refused:
        one.take(1, "exit")
    assert refused.value.retry_after_s == EXIT_WAIT_MS / 1000
    one.told(418, {}, 30.0)
    with pytest.raises(RateLimited) as banned:
        one.take(1, "exit")
    assert not isinstance(banned.value, BudgetSpent)


def test_after_a_ban_what_protects_goes_first(tmp_path: Path) -> None:
    wall = Wall()
    entry, leaving = (Budget(tmp_path / "b.db", "api.example", wall) for _ in range(2))
    entry.take(1, "exit")
    entry.told(418, {}, 10.0)
    wall.now += 10_000
    used_up(entry, "entry", 1)
    assert used_up(leaving, "exit", 1) >= 40


def test_who_was_told_of_a_ban_keeps_it_where_the_database_is_lost(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("this is no database, and far from one" * 100)
    one = Budget(tmp_path / "b.db", "api.example", Wall())
    one.told(418, {}, 30.0)
    with pytest.raises(RateLimited):
        one.take(1, "exit")


def test_a_clock_that_is_set_back_makes_no_new_ban_of_an_old_one(tmp_path: Path) -> None:
    wall = Wall()
    one = Budget(tmp_path / "b.db", "api.example", wall)
    one.take(1, "exit", orders=1)
    one.told(418, {}, 600.0)
    one.told(429, {}, 600.0, orders=1, code=TOO_MANY_ORDERS)
    wall.now -= 3_600_000
    again = Budget(tmp_path / "b.db", "api.example", wall)
    for budget in (one, again):
        for _ in range(3):
            budget.take(1, "exit", orders=1)
    assert again.state()["banned_until_wall_ms"] == 0
