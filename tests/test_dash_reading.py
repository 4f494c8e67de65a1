"""What the page shows, and that looking costs only what is new."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.clock import wall_ms
from core.dash import trades
from core.dash.watch import Watch, split_line
from core.model import Totals
from core.storage import loads
from dash_yard import MARKET_MS, MINUTE, DeskExchange, Home, fill, make_app, settings, until


@pytest.fixture
def yard(home: Path) -> Home:
    return Home(home)


def overview(app: Any) -> dict[str, Any]:
    response = app.test_client().get("/api/overview", headers={"Host": f"127.0.0.1:{app.config['PORT']}"})
    assert response.status_code == 200, response.data
    return loads(response.data)


def app_of(yard: Home, pids: dict[int, int] | None = None, exchange: DeskExchange | None = None, **env: str) -> Any:
    chosen = settings(yard.files.home, **env)
    app = make_app(yard.files, chosen, pids, exchange)
    app.config["PORT"] = chosen.dashboard_port
    return app


def get(app: Any, path: str) -> Any:
    return app.test_client().get(path, headers={"Host": f"127.0.0.1:{app.config['PORT']}"})


def details(app: Any, bot: int, query: str = "") -> dict[str, Any]:
    return loads(get(app, f"/api/bot/{bot}/details{query}").data)


def test_a_row_has_every_field_of_the_contract(yard: Home) -> None:
    bot = yard.record(status="running")
    yard.status(bot, pid=7, last_check={"signal": "BUY", "reasoning": "RSI 29", "why_not": "no funds"})
    row = overview(app_of(yard, {bot: 7}))["bots"][0]
    wanted = "id name symbol strategy trade_amount mode "
    wanted += "status profit profit_pct trades win_rate position last_signal why_no_trade last_activity next_check_at warnings errors"
    assert set(wanted.split()) <= set(row)
    assert (row["status"], row["mode"], row["position"]) == ("running", "paper", None)
    assert (row["last_signal"]["signal"], row["last_signal"]["reasoning"], row["why_no_trade"]) == ("BUY", "RSI 29", "no funds")
    assert row["next_check_at"] == MARKET_MS + 2 * MINUTE


def test_a_position_is_valued_with_its_fees_at_the_bots_last_price(yard: Home) -> None:
    bot = yard.record(status="running")
    yard.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01", fee="0.00001", fee_asset="BTC")])
    yard.status(bot, pid=7)
    position = overview(app_of(yard, {bot: 7}))["bots"][0]["position"]
    assert position["profit"] == Decimal("0.00999") * 50500 - 500
    assert position["profit_pct"] == Decimal("0.899")
    assert (position["side"], position["quantity"], position["stop_loss"], position["price_stale"]) == ("LONG", Decimal("0.00999"), 49000, False)


def test_a_position_of_a_stopped_bot_takes_the_exchanges_price_and_is_called_unwatched(yard: Home) -> None:
    bot = yard.record(symbol="ETHUSDT")
    yard.position(bot, [fill(bot, 1, 1, "BUY", "3000", "0.1", symbol="ETHUSDT")], stop="2940", target="3150")
    app = app_of(yard)
    first = overview(app)["bots"][0]["position"]
    assert first["price"] is None and first["price_stale"] and first["unwatched"]
    until(lambda: overview(app)["bots"][0]["position"]["price"] is not None)
    assert overview(app)["bots"][0]["position"]["profit"] == Decimal("1.05")


def test_a_position_that_a_guard_watches_is_not_called_unwatched(yard: Home) -> None:
    bot = yard.record(status="running")
    yard.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    yard.status(bot, pid=7, guard=True)
    row = overview(app_of(yard, {bot: 7}))["bots"][0]
    assert row["guarded"] and not row["position"]["unwatched"] and "unwatched" not in row["attention"]


def test_attention_names_why_a_person_should_look_the_weightiest_first(yard: Home) -> None:
    well, bare, torn = yard.record(status="running"), yard.record(status="running"), yard.record()
    for bot in (well, bare):
        yard.status(bot, pid=7)
    yard.position(bare, [fill(bare, 1, 1, "BUY", "50000", "0.01")])
    yard.files.path(f"bot_{torn}_position.json").write_text("{")
    rows = overview(app_of(yard, {well: 7}))["bots"]
    assert [r["attention"] for r in rows] == [[], ["unwatched", "crashed"], ["unreadable", "errors"]]


def test_numbers_are_exact_in_the_answers_text(yard: Home) -> None:
    bot = yard.record(amount="0.1")
    yard.position(bot, totals=Totals(Decimal("0.30000000000000004"), 3, 1, 2))
    text = get(app_of(yard), "/api/overview").data.decode()
    assert '"trade_amount": 0.1,' in text and '"profit": 0.30000000000000004,' in text and '"win_rate": 33.3333' in text


def test_totals_never_mix_modes_or_quote_assets(yard: Home) -> None:
    for symbol, mode, profit in (("BTCUSDT", "paper", "5"), ("ETHUSDT", "paper", "-2"), ("ETHBTC", "paper", "0.01"), ("BTCUSDT", "testnet", "100")):
        yard.position(yard.record(symbol=symbol, mode=mode), totals=Totals(Decimal(profit), 2, 1, 1))
    app = app_of(yard, TRADING_MODE="testnet", BINANCE_TESTNET_API_KEY="k", BINANCE_TESTNET_API_SECRET="s")
    found = overview(app)["totals"]
    assert {m: {q: t["profit"] for q, t in quotes.items()} for m, quotes in found.items()} == {
        "paper": {"USDT": 3, "BTC": Decimal("0.01")},
        "testnet": {"USDT": 100},
    }
    assert (found["paper"]["USDT"]["trades"], found["paper"]["USDT"]["win_rate"]) == (4, 50)


def test_balances_come_later_and_the_overview_never_waits_for_them(yard: Home) -> None:
    yard.record()
    desk = DeskExchange()
    app = app_of(yard, exchange=desk)
    assert overview(app)["balances"]["paper"]["assets"] is None
    until(lambda: overview(app)["balances"]["paper"]["assets"] is not None)
    asked = desk.asked.count("balances")
    for _ in range(5):
        overview(app)
    assert desk.asked.count("balances") == asked == 1  # kept for 30 s
    assert overview(app)["balances"]["paper"]["assets"][1] == {"asset": "USDT", "free": Decimal("9480.12"), "locked": 0}


def test_an_exchange_that_is_down_is_named_and_the_page_goes_on(yard: Home) -> None:
    yard.record()
    desk = DeskExchange()
    desk.down = True
    app = app_of(yard, exchange=desk)
    until(lambda: bool(overview(app)["balances"]["paper"]["error"]))
    assert "does not answer" in overview(app)["balances"]["paper"]["error"]


def test_a_position_file_that_cant_be_read_is_told_with_its_remedy(yard: Home) -> None:
    bot = yard.record(status="running")
    yard.files.path(f"bot_{bot}_position.json").write_text('{"schema": 1, "posi')
    row = overview(app_of(yard))["bots"][0]
    assert "bot_1_position.json" in row["state_error"] and "Restore" in row["state_error"]
    assert row["errors"] == 1 and "can't be read" in row["why_no_trade"]


def test_a_broken_list_of_bots_is_a_500_that_names_file_reason_and_remedy(yard: Home) -> None:
    yard.record()
    app = app_of(yard)
    for text in ('[{"id": 1, "na', "", "{}", '[{"id": 1}]'):
        yard.files.path("active_bots.json").write_text(text)
        response = get(app, "/api/overview")
        value = loads(response.data)
        assert response.status_code == 500 and value["success"] is False
        assert "active_bots.json" in value["file"] and value["reason"] and value["remedy"]
        assert get(app, "/healthz").status_code == 503
        assert yard.files.path("active_bots.json").read_text() == text  # nothing was lost


def test_warnings_errors_and_activity_come_from_the_log_and_only_from_what_is_new(yard: Home) -> None:
    bot = yard.record()
    yard.log(bot, "2026-01-01 10:00:00 - INFO - 🤖 STARTING BOT: BTC Bot", "2026-01-01 10:00:01 - WARNING - slow", "Traceback (most recent call last):")
    app = app_of(yard)
    row = overview(app)["bots"][0]
    assert (row["warnings"], row["errors"], row["last_activity"]) == (1, 0, "slow")
    yard.log(bot, "2026-01-01 10:00:02 - ERROR - it broke", "2026-01-01 10:00:03 - INFO - the word ERROR in a message is none")
    row = overview(app)["bots"][0]
    assert (row["warnings"], row["errors"]) == (1, 1)
    assert row["problems"][-1]["text"] == "it broke" and row["last_activity_wall"] == 1767261603000


def test_a_torn_last_log_line_counts_once_it_is_whole(yard: Home) -> None:
    bot = yard.record()
    app = app_of(yard)
    yard.log(bot, "2026-01-01 10:00:00 - INFO - fine")
    with yard.files.path("bot_1.log").open("a") as f:
        f.write("2026-01-01 10:00:01 - ERR")
    assert overview(app)["bots"][0]["errors"] == 0
    with yard.files.path("bot_1.log").open("a") as f:
        f.write("OR - broken\n")
    assert overview(app)["bots"][0]["errors"] == 1


def test_a_log_that_was_truncated_by_rotation_is_read_on(yard: Home) -> None:
    bot = yard.record()
    app = app_of(yard)
    yard.log(bot, *["2026-01-01 10:00:00 - ERROR - old"] * 50)
    assert overview(app)["bots"][0]["errors"] == 50
    os.truncate(yard.files.path("bot_1.log"), 0)
    yard.log(bot, "2026-01-01 11:00:00 - ERROR - new")
    assert overview(app)["bots"][0]["errors"] == 51


def test_what_did_not_change_is_not_read_again(yard: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = yard.record(status="running")
    yard.status(bot, pid=7)
    yard.log(bot, *["2026-01-01 10:00:00 - INFO - line"] * 10)
    app = app_of(yard, {bot: 7})
    overview(app)
    keeper = app.extensions["board"].supervisor
    read: list[str] = []
    for name in ("read_state", "read_log"):
        inner = getattr(keeper, name)
        monkeypatch.setattr(keeper, name, lambda *a, _n=name, _i=inner, **k: (read.append(_n), _i(*a, **k))[1])
    overview(app)
    assert read == []
    yard.status(bot, pid=7)
    overview(app)
    assert read == ["read_state"]


def test_the_first_look_at_a_long_log_reads_only_its_tail(yard: Home) -> None:
    bot = yard.record()
    with yard.files.path("bot_1.log").open("w") as f:
        for _ in range(40):
            f.write("2026-01-01 10:00:00 - ERROR - x\n" * 10_000)
    watch = Watch(yard.files, app_of(yard).extensions["board"].supervisor)
    begun = wall_ms()
    state = watch.look(bot)
    assert state.log.errors <= 1000 and wall_ms() - begun < 2000


def test_log_lines_are_told_apart_from_what_only_looks_like_them() -> None:
    assert split_line("2026-01-01 10:00:00 - WARNING - a - b") == ("WARNING", "a - b")
    for other in ("", "Traceback", "  File - x", "2026-01-01 10:00:00 WARNING", "2026-01-01 10:00:00 - - "):
        assert split_line(other) is None or split_line(other)[0] != "ERROR"  # type: ignore[index]


def test_details_put_fills_together_to_trades_orders_and_equity(yard: Home) -> None:
    bot = yard.record(amount="500")
    done = [
        fill(bot, 1, 1, "BUY", "50000", "0.006", fee="0.000006", fee_asset="BTC"),
        fill(bot, 2, 1, "BUY", "50100", "0.004", fee="0.000004", fee_asset="BTC"),
        fill(bot, 3, 1, "SELL", "51000", "0.00999", fee="0.5", tag="take_profit"),
        fill(bot, 4, 2, "BUY", "50000", "0.01"),
    ]
    position = yard.position(bot, [done[3]], trade=2, totals=Totals(Decimal("8.59"), 1, 1, 0))
    yard.journal(position, done)
    found = details(app_of(yard), bot)
    assert set(found) >= {"bot", "orders", "fills", "trades", "decisions", "equity", "log"}
    opened, closed = found["trades"]
    assert (opened["open"], opened["profit"], closed["open"], closed["exit_reason"]) == (True, None, False, "take_profit")
    profit = Decimal("0.00999") * 51000 - Decimal("0.5") - Decimal("500.4")
    assert (
        closed["profit"] == profit
        and closed["entry_price"] == 50040
        and closed["exit_price"] == 51000
        and closed["fees"] == {"BTC": Decimal("0.00001"), "USDT": Decimal("0.5")}
    )
    assert closed["profit_pct"] == trades.pct(profit, Decimal("500.4"))
    assert [p["value"] for p in found["equity"]] == [500, 500 + profit]
    assert found["fills"][0]["trade_id"] == done[3].trade_id  # newest first
    assert len(found["orders"]) == 4


def test_fills_that_the_journal_doesnt_have_yet_are_shown_once(yard: Home) -> None:
    bot = yard.record()
    one = fill(bot, 1, 1, "BUY", "50000", "0.01")
    position = yard.position(bot, [one], unjournaled=(one,))
    app = app_of(yard)
    assert len(details(app, bot)["fills"]) == 1
    yard.journal(position, [one])
    assert len(details(app, bot)["fills"]) == 1


def test_a_torn_last_fill_is_left_until_it_is_whole(yard: Home) -> None:
    bot = yard.record()
    position = yard.position(bot)
    yard.journal(position, [fill(bot, 1, 1, "BUY", "50000", "0.01"), fill(bot, 2, 1, "SELL", "50100", "0.01")])
    path = yard.files.path("bot_1_fills.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    app = app_of(yard)
    assert len(details(app, bot)["fills"]) == 1
    with path.open("ab") as f:
        f.write(whole[-20:])
    found = details(app, bot)
    assert len(found["fills"]) == 2 and found["trades"][0]["profit"] == 1


def test_the_logs_cursor_gives_only_what_came_after(yard: Home) -> None:
    bot = yard.record()
    yard.log(bot, "2026-01-01 10:00:00 - INFO - one")
    app = app_of(yard)
    first = details(app, bot)["log"]
    assert first["lines"] == ["2026-01-01 10:00:00 - INFO - one"]
    yard.log(bot, "2026-01-01 10:00:01 - INFO - two 🟢")
    second = details(app, bot, f"?cursor={first['cursor']}&only=log")
    assert second["log"]["lines"] == ["2026-01-01 10:00:01 - INFO - two 🟢"] and "fills" not in second
    assert details(app, bot, f"?cursor={second['log']['cursor']}")["log"]["lines"] == []


def test_decisions_come_newest_first_and_torn_or_foreign_lines_are_left_out(yard: Home) -> None:
    bot = yard.record()
    for n in range(230):
        yard.decision(bot, n=n)
    with yard.files.path("bot_1_decisions.jsonl").open("a") as f:
        f.write('not json\n["neither"]\n{"signal": "torn')
    found = details(app_of(yard), bot)["decisions"]
    assert len(found) == 198 and found[0]["market_ms"] == MARKET_MS + 229


def test_the_chart_has_candles_markers_and_the_lines_of_the_open_position(yard: Home) -> None:
    bot = yard.record()
    one = fill(bot, 1, 1, "BUY", "50000", "0.01", at=MARKET_MS - 60 * MINUTE)
    yard.position(bot, [one])
    found = loads(get(app_of(yard), f"/api/bot/{bot}/candles?limit=50").data)
    assert len(found["candles"]) == 50 and len(found["candles"][0]) == 6 and found["timeframe"] == "5m"
    assert found["markers"][0]["side"] == "BUY" and found["lines"] == {"entry_price": 50000, "stop_loss": 49000, "take_profit": 52500}


def test_candles_come_from_the_store_when_the_exchange_is_down(yard: Home) -> None:
    from core.market.history import CandleStore

    bot = yard.record()
    position = yard.position(bot)
    desk = DeskExchange()
    rows = list(desk.candles("BTCUSDT", "5m", 20).rows)
    store = CandleStore(yard.files.path("data/history.db"))
    store.save(position.venue, "BTCUSDT", "5m", rows, MARKET_MS)
    store.close()
    desk.down = True
    app = app_of(yard, exchange=desk)
    found = loads(get(app, f"/api/bot/{bot}/candles").data)
    assert len(found["candles"]) == 20 and found["error"] is None
    nothing = loads(get(app, f"/api/bot/{bot}/candles?timeframe=1h").data)
    assert nothing["candles"] == [] and "does not answer" in nothing["error"]


def test_a_guarded_bot_keeps_its_status_and_is_shown_as_guarded(yard: Home) -> None:
    bot = yard.record(status="stopped")
    yard.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    yard.status(bot, pid=7, guard=True)
    row = overview(app_of(yard, {bot: 7}))["bots"][0]
    assert (row["status"], row["guarded"]) == ("stopped", True)


def test_healthz_waits_for_the_yard_to_have_adopted_the_running_bots(yard: Home) -> None:
    yard.record()
    app = app_of(yard)
    board = app.extensions["board"]
    assert get(app, "/healthz").status_code == 503
    told: dict[str, Any] = {"running": True, "holder": 5, "pid": 5, "adopted": False}
    board.yard = lambda: told
    assert "taking over" in loads(get(app, "/healthz").data)["error"]
    told["adopted"] = True
    assert get(app, "/healthz").status_code == 200


def test_what_could_not_be_sent_is_in_the_overview(yard: Home) -> None:
    chosen = settings(yard.files.home)
    yard.record()
    app = make_app(yard.files, chosen)
    app.config["PORT"] = chosen.dashboard_port
    assert overview(app)["messages"] == {}
    shown = {"schema": 1, "unsent": [{"text": "stop", "state": "unknown"}], "problems": [], "channels": [{"name": "SMS", "problem": ""}], "waiting": 1}
    yard.files.write_json("data/outbox_status.json", shown)
    assert overview(app)["messages"] == {k: shown[k] for k in ("unsent", "problems", "channels")}
    yard.files.path("data/outbox_status.json").write_text("{")
    assert overview(app)["messages"] == {}
