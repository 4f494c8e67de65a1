"""Who may speak to the page, and what it does with hostile input. Nothing is started, lost, executed."""

from __future__ import annotations

import base64
import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.dash import inputs
from core.dash.gate import split_host
from core.errors import InputError, SettingsError
from core.storage import loads
from dash_yard import DeskExchange, Home, fill, make_app, settings

GOOD = {"name": "BTC Bot", "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 100}


class Page:
    """A client of the application that names the right host unless told otherwise."""

    def __init__(self, home: Path, **env: str):
        self.home = Home(home)
        self.settings = settings(home, **env)
        self.desk = DeskExchange()
        self.now = 1000.0
        self.app = make_app(self.home.files, self.settings, exchange=self.desk, monotonic=lambda: self.now)
        self.keeper = self.app.extensions["board"].supervisor
        self.client = self.app.test_client()
        self.host = f"127.0.0.1:{self.settings.dashboard_port}"

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any) -> Any:
        all_headers = {"Host": self.host, **(headers or {})}
        if body is not None:
            more = {"data": body if isinstance(body, bytes | str) else json.dumps(body), "content_type": "application/json", **more}
        return self.client.open(path, method=method, headers=all_headers, **more)

    def status(self, *args: Any, **more: Any) -> int:
        response = self.send(*args, **more)
        if response.status_code >= 400:
            value = loads(response.data)
            assert value["success"] is False and len(value["error"]) > 10, "every failure says what was wrong"
            assert "Traceback" not in response.text
        return int(response.status_code)

    def bots(self) -> list[Any]:
        return [] if not self.home.files.exists("active_bots.json") else self.home.files.read_any("active_bots.json")


@pytest.fixture
def page(home: Path) -> Page:
    (home / "active_bots.json").write_text("[]")
    return Page(home)


# --- hosts and origins --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/overview", "/healthz", "/static/chart.umd.min.js", "/nowhere"])
def test_a_foreign_host_is_refused_on_every_path(page: Page, path: str) -> None:
    for host in (
        "evil.example",
        f"evil.example:{page.settings.dashboard_port}",
        "127.0.0.1:1",
        "127.0.0.1",
        f"127.0.0.1:{page.settings.dashboard_port}@evil.example",
        "[::1",
        "",
    ):
        assert page.send("GET", path, headers={"Host": host}).status_code == 403


def test_loopback_names_with_the_right_port_are_known(page: Page) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        assert page.status("GET", "/api/overview", headers={"Host": f"{name}:{page.settings.dashboard_port}"}) == 200


def test_hosts_are_split_or_refused() -> None:
    assert split_host("[::1]:5001") == ("::1", 5001)
    assert split_host("a.b:80") == ("a.b", 80)
    for wrong in ("", "a/b", "a@b", "a:x", "a b", "a:99999", "ä:1"):
        assert split_host(wrong) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "SELF"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "SELF"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, 403),
    ],
)
def test_a_change_must_come_from_the_pages_own_origin_or_from_a_script(page: Page, headers: dict[str, str], status: int) -> None:
    bot = page.home.record()
    sent = {k: v.replace("SELF", f"http://{page.host}") for k, v in headers.items()}
    assert page.status("POST", f"/api/bot/{bot}/update", {"name": "New"}, headers=sent) == status
    assert page.bots()[0]["name"] == ("New" if status == 200 else "BTC Bot")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_a_change_goes_as_json_only(page: Page, kind: str) -> None:
    page.home.record()
    for path in ("/api/create-bot", "/api/bot/1/start", "/api/bot/1/update", "/api/stop-all"):
        assert page.status("POST", path, GOOD, content_type=kind) == 415
    assert page.keeper.started == [] and len(page.bots()) == 1


def test_a_change_without_a_body_needs_no_type(page: Page) -> None:
    page.home.record()
    assert page.status("POST", "/api/bot/1/stop") == 200
    assert page.status("DELETE", "/api/bot/1") == 200
    assert page.bots() == []


def test_headers_forbid_frames_sniffing_caching_and_foreign_scripts(page: Page) -> None:
    response = page.send("GET", "/")
    policy = response.headers["Content-Security-Policy"]
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert response.text.count(f'<script nonce="{nonce}"') == 3 and response.text.count("<script") == 3 and "__NONCE__" not in response.text
    assert page.send("GET", "/").headers["Content-Security-Policy"] != policy
    for path in ("/", "/api/overview", "/nowhere"):
        headers = page.send("GET", path).headers
        assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"], headers["Referrer-Policy"], headers["Cache-Control"]) == (
            "DENY",
            "nosniff",
            "no-referrer",
            "no-store",
        )


def test_the_page_has_no_inline_handlers_or_styles(page: Page) -> None:
    text = page.send("GET", "/").text
    markup = text[: text.rindex("<script nonce")]
    import re

    assert not re.search(r"<[^>]+\son\w+\s*=", markup) and not re.search(r"<[^>]+\sstyle\s*=", markup)
    assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "document.write" not in text


def test_only_the_shipped_libraries_are_served(page: Page) -> None:
    assert page.send("GET", "/static/chart.umd.min.js").mimetype == "text/javascript"
    for name in ("README.md", "../board.py", "..%2f..%2f..%2f.env", "%2e%2e/gate.py"):
        assert page.status("GET", f"/static/{name}") == 404


# --- the login ---------------------------------------------------------------------------------


@pytest.fixture
def locked(home: Path) -> Page:
    (home / "active_bots.json").write_text("[]")
    return Page(home, DASHBOARD_PASSWORD="correct horse", DASHBOARD_USER="owner")


def test_without_a_login_a_locked_page_shows_nothing(locked: Page) -> None:
    assert locked.send("GET", "/").headers["Location"] == "/login"
    for method, path in (("GET", "/api/overview"), ("POST", "/api/create-bot"), ("POST", "/api/stop-all"), ("DELETE", "/api/bot/1"), ("GET", "/api/nowhere")):
        assert locked.status(method, path) == 401
    assert locked.send("GET", "/login").status_code == 200 and locked.status("GET", "/healthz") == 503


def test_the_login_opens_the_page_and_the_logout_closes_it(locked: Page) -> None:
    form = {"user": "owner", "password": "correct horse"}
    response = locked.send("POST", "/login", data=form, headers={"Origin": f"http://{locked.host}", "Sec-Fetch-Site": "same-origin"})
    cookie = response.headers["Set-Cookie"]
    assert response.status_code == 303 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    key, value = cookie.split(";")[0].split("=", 1)
    locked.client.set_cookie(key, value, domain="127.0.0.1")
    assert locked.status("GET", "/api/overview") == 200 and "correct horse" not in locked.send("GET", "/").text
    out = locked.send("POST", "/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert out.status_code == 303 and f"{key}=;" in out.headers["Set-Cookie"]


def test_a_login_from_another_site_is_refused(locked: Page) -> None:
    form = {"user": "owner", "password": "correct horse"}
    assert locked.status("POST", "/login", data=form, headers={"Origin": "http://evil.example"}) == 403


def test_a_session_ends_with_its_password(locked: Page, home: Path) -> None:
    cookie = locked.send("POST", "/login", data={"user": "owner", "password": "correct horse"}).headers["Set-Cookie"].split(";")[0]
    value = cookie.split("=", 1)[1]
    other = Page(home, DASHBOARD_PASSWORD="another", DASHBOARD_USER="owner")
    other.client.set_cookie(f"botyard_{other.settings.dashboard_port}", value, domain="127.0.0.1")
    assert other.status("GET", "/api/overview") == 401


def test_scripts_may_use_basic_auth(locked: Page) -> None:
    def header(text: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    assert locked.status("GET", "/api/overview", headers=header("owner:correct horse")) == 200
    for wrong in ("owner:wrong", "other:correct horse", "owner", ""):
        assert locked.status("GET", "/api/overview", headers=header(wrong)) == 401
    assert locked.status("GET", "/api/overview", headers={"Authorization": "Basic ???"}) == 401
    assert locked.status("GET", "/api/overview", headers={"Authorization": "Bearer x"}) == 401


def test_tries_are_limited_and_the_pause_grows_and_ends(locked: Page) -> None:
    def attempt(password: str) -> int:
        return int(locked.send("POST", "/login", data={"user": "owner", "password": password}).status_code)

    assert [attempt("x") for _ in range(5)] == [401] * 5
    assert attempt("correct horse") == 429  # even the right one must wait now
    locked.now += 1.1
    assert attempt("x") == 401
    locked.now += 1.1
    assert attempt("x") == 429
    locked.now += 1.1
    assert attempt("correct horse") == 303
    assert attempt("x") == 401  # counted anew


def test_the_key_of_the_sessions_is_kept_for_the_owner_alone(locked: Page, home: Path) -> None:
    path = home / "data" / "dashboard_secret.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text()
    Page(home)
    assert path.read_text() == key


def test_without_a_password_only_loopback_is_served(home: Path) -> None:
    with pytest.raises(SettingsError, match="DASHBOARD_PASSWORD"):
        Page(home, DASHBOARD_HOST="0.0.0.0")


def test_a_server_open_to_the_network_answers_to_addresses_but_not_to_foreign_names(home: Path) -> None:
    page = Page(home, DASHBOARD_HOST="0.0.0.0", DASHBOARD_PASSWORD="secret-word")
    port = page.settings.dashboard_port
    assert page.send("GET", "/login", headers={"Host": f"192.168.1.7:{port}"}).status_code == 200
    assert page.send("GET", "/login", headers={"Host": f"evil.example:{port}"}).status_code == 403


# --- hostile input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", 'O\'Brien "quoted"; rm -rf /', "$(touch /tmp/x) `id` && |", "🚀 Möwe 日本", "../../etc/passwd", "%s%n{0}", "-rf"]
)
def test_a_strange_name_is_kept_as_it_is(page: Page, name: str) -> None:
    assert page.status("POST", "/api/create-bot", {**GOOD, "name": name}) == 201
    assert page.bots()[0]["name"] == name and page.keeper.started == ["yard"]  # for the paper exchange, no bot
    assert loads(page.send("GET", "/api/overview").data)["bots"][0]["name"] == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "x" * 10_000},
        {"name": ""},
        {"name": "  "},
        {"name": "a\nb"},
        {"name": "a\x00b"},
        {"name": "a\x1b[31m"},
        {"name": 5},
        {"name": None},
        {"name": ["a"]},
        {"name": "a\u202eb"},
        {"name": "\ud800"},
        {"symbol": "NOPEUSDT"},
        {"symbol": "OLDUSDT"},
        {"symbol": "BTCUSDT&x=1"},
        {"symbol": "../x"},
        {"symbol": "B" * 5000},
        {"symbol": 1},
        {"symbol": ""},
        {"strategy": "none_such"},
        {"strategy": "../../x"},
        {"strategy": "__init__"},
        {"strategy": None},
        {"strategy": "x" * 9000},
        {"trade_amount": -5},
        {"trade_amount": 0},
        {"trade_amount": 1},
        {"trade_amount": 9_000_001},
        {"trade_amount": True},
        {"trade_amount": "NaN"},
        {"trade_amount": "Infinity"},
        {"trade_amount": "1e400"},
        {"trade_amount": "abc"},
        {"trade_amount": ""},
        {"trade_amount": None},
        {"trade_amount": [100]},
        {"trade_amount": {"a": 1}},
        {"trade_amount": "100; rm"},
        {"trade_amount": "１００"},
        {"trade_amount": 10**40},
        {"mode": "live"},
        {"mode": "testnet"},
        {"mode": "PAPER"},
        {"mode": 1},
        {"params": {"no_such": 1}},
        {"params": {"rsi_window": "x"}},
        {"params": {"rsi_window": 10**9}},
        {"params": [1]},
        {"params": "x"},
        {"id": 5},
        {"status": "running"},
        {"profit": 100},
        {"unknown": 1},
        {"__proto__": {}},
        {"timeframe": "7m"},
        {"check_interval": 0},
        {"stop_loss_pct": 100},
        {"sizing": "yolo"},
        {"limits": 5},
        {"exchange": "kraken"},
        {"market": "futures"},
        {"account": "second"},
    ],
)
def test_a_wrong_field_is_a_400_and_nothing_is_made(page: Page, wrong: dict[str, Any]) -> None:
    assert page.status("POST", "/api/create-bot", {**GOOD, **wrong}) == 400
    assert page.bots() == [] and not any(u.startswith("bot_") for u in page.keeper.started)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b'"x"',
        b"{",
        b"{'a': 1}",
        b"\xff\xfe",
        b'{"name": "a", "name": "b"}',
        b'{"trade_amount": NaN}',
        b'{"trade_amount": Infinity}',
        b'{"trade_amount": -Infinity}',
        b'{"trade_amount": 1e999999999}',
        b'{"trade_amount": 1e-999999999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 30_000,
        b'{"a":' * 9_000,
        b'{"a":' * 14 + b"1" + b"}" * 14,
    ],
)
def test_a_body_that_is_no_sound_json_object_is_a_400(page: Page, body: bytes) -> None:
    page.home.record()
    for path in ("/api/create-bot", "/api/bot/1/update"):
        assert page.status("POST", path, body) == 400
    assert page.bots()[0]["name"] == "BTC Bot" and len(page.bots()) == 1


def test_a_body_that_is_too_large_is_a_413(page: Page) -> None:
    assert page.status("POST", "/api/create-bot", {**GOOD, "name": "x" * 70_000}) == 413


@pytest.mark.parametrize("raw", ["0", "-1", "1.5", "abc", "1e3", "%00", "01", "１", "99999999999999999999", "1;ls", "..", "$(id)"])
def test_an_id_that_is_none_is_a_4xx(page: Page, raw: str) -> None:
    page.home.record()
    for method, path in (
        ("GET", f"/api/bot/{raw}/details"),
        ("GET", f"/api/bot/{raw}/candles"),
        ("POST", f"/api/bot/{raw}/start"),
        ("POST", f"/api/bot/{raw}/stop"),
        ("DELETE", f"/api/bot/{raw}"),
    ):
        assert page.status(method, path) in (400, 404, 405)
    assert len(page.bots()) == 1 and page.keeper.started == []


def test_an_unknown_bot_route_or_method_is_named(page: Page) -> None:
    page.home.record()
    for method, path, wanted in (
        ("GET", "/api/bot/7/details", 404),
        ("POST", "/api/bot/7/start", 404),
        ("POST", "/api/bot/7/stop", 404),
        ("POST", "/api/bot/7/close", 404),
        ("POST", "/api/bot/7/update", 404),
        ("DELETE", "/api/bot/7", 404),
        ("GET", "/api/nowhere", 404),
        ("GET", "/api/create-bot", 405),
        ("PUT", "/api/bot/1", 405),
        ("POST", "/api/overview", 405),
        ("GET", "/api/bot/1/stop", 405),
        ("GET", "/api/bot/1/details?cursor=-1", 400),
        ("GET", "/api/bot/1/details?cursor=x", 400),
        ("GET", "/api/bot/1/candles?timeframe=9z", 400),
        ("GET", "/api/bot/1/candles?limit=0", 400),
        ("GET", "/api/search-coins?mode=live", 400),
    ):
        assert page.status(method, path, {"name": "a"} if "update" in path else None) == wanted, path


def test_the_smallest_and_the_largest_amount_pass_and_what_lies_beyond_is_told_with_its_bound(page: Page) -> None:
    from core.market.sizing import smallest_entry
    from dash_yard import PRICES, SYMBOLS

    least = smallest_entry(SYMBOLS["BTCUSDT"], PRICES["BTCUSDT"], Decimal(2))
    assert page.status("POST", "/api/create-bot", {**GOOD, "trade_amount": str(least)}) == 201
    assert page.status("POST", "/api/create-bot", {**GOOD, "trade_amount": " 9000000 "}) == 201
    low = page.send("POST", "/api/create-bot", {**GOOD, "trade_amount": str(least - Decimal("0.01"))})
    high = page.send("POST", "/api/create-bot", {**GOOD, "trade_amount": "9000000.01"})
    assert (low.status_code, high.status_code) == (400, 400) and str(least) in low.text and "9000000 USDT" in high.text


def test_an_amount_is_exact_from_the_body_to_the_file(page: Page) -> None:
    assert page.status("POST", "/api/create-bot", b'{"name": "a", "symbol": "btcusdt", "strategy": "volatile", "trade_amount": 100.10000000000000001}') == 201
    assert page.bots()[0]["trade_amount"] == Decimal("100.10000000000000001") and page.bots()[0]["symbol"] == "BTCUSDT"


def test_an_update_is_checked_like_a_new_bot_and_says_what_needs_a_restart(page: Page) -> None:
    bot = page.home.record(amount="100")
    for wrong in (
        {"trade_amount": 1},
        {"trade_amount": True},
        {"trade_amount": "1e9"},
        {"symbol": "NOPE"},
        {"strategy": "nope"},
        {"mode": "live"},
        {},
        {"name": ""},
    ):
        assert page.status("POST", f"/api/bot/{bot}/update", wrong) == 400
    page.keeper.pids[bot] = 7
    page.home.status(bot, pid=7)
    done = loads(page.send("POST", f"/api/bot/{bot}/update", {"trade_amount": 200, "timeframe": "15m"}).data)
    assert done["success"] and done["needs_restart"] == ["timeframe"] and done["bot"]["trade_amount"] == 200
    page.keeper.pids.clear()
    assert loads(page.send("POST", f"/api/bot/{bot}/update", {"timeframe": "1h"}).data)["needs_restart"] == []


def test_a_change_that_rests_on_what_somebody_else_changed_meanwhile_is_refused(page: Page) -> None:
    bot = page.home.record(limits={"trades_per_day": {"soft": 3}, "memory_mb": 500})
    path = f"/api/bot/{bot}/update"
    shown = {"limits": {"trades_per_day": {"soft": 3, "hard": None}, "memory_mb": 500}, "trade_amount": 500.0, "sizing": None}

    def record() -> dict[str, Any]:
        return page.app.extensions["board"].registry.bot(bot)

    assert page.status("POST", path, {"limits": {"trades_per_day": {"soft": 4}}, "before": shown}) == 200
    refused = page.send("POST", path, {"limits": {"trades_per_day": {"soft": 5}}, "before": shown})
    assert refused.status_code == 409 and "limits: was changed by somebody else meanwhile" in loads(refused.data)["error"]
    assert record()["limits"] == {"trades_per_day": {"soft": 4}}
    assert page.status("POST", path, {"trade_amount": 90, "before": {"trade_amount": 500}}) == 200, "only what the change rests on must be as it was"
    assert page.status("POST", path, {"trade_amount": 80, "before": {"trade_amount": 500}}) == 409
    assert page.status("POST", path, {"trade_amount": 80}) == 200, "a script that names nothing is not asked"
    for wrong in ("x", {"nonsense": 1}):
        assert page.status("POST", path, {"trade_amount": 70, "before": wrong}) == 400
    assert page.status("POST", path, {"before": {"trade_amount": 80}}) == 400 and record()["trade_amount"] == 80


def test_a_record_that_changes_between_the_look_and_the_writing_is_not_overwritten(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    bot = page.home.record(name="Old")
    board = page.app.extensions["board"]
    stale = board.registry.bot(bot)
    board.registry.update(bot, {"name": "Theirs"})
    monkeypatch.setattr(board.registry, "bot", lambda _id: stale)
    assert page.status("POST", f"/api/bot/{bot}/update", {"name": "Mine", "before": {"name": "Old"}}) == 409
    monkeypatch.undo()
    assert board.registry.bot(bot)["name"] == "Theirs"


def test_symbol_and_deletion_are_refused_while_a_position_is_open(page: Page) -> None:
    bot = page.home.record()
    page.home.position(bot, [fill(bot, 1, 1, "BUY", "50000", "0.01")])
    assert page.status("POST", f"/api/bot/{bot}/update", {"symbol": "ETHUSDT"}) == 409
    assert page.status("DELETE", f"/api/bot/{bot}") == 409
    assert page.bots()[0]["symbol"] == "BTCUSDT" and page.home.files.exists("bot_1_position.json")


def test_when_the_exchange_is_down_nothing_is_made_and_the_word_is_clear(page: Page) -> None:
    page.desk.down = True
    assert page.status("POST", "/api/create-bot", GOOD) == 503 and page.bots() == []
    assert page.status("GET", "/api/search-coins?q=btc") == 503


def test_a_search_finds_coins_best_first(page: Page) -> None:
    found = loads(page.send("GET", "/api/search-coins?q=eth").data)["coins"]
    assert [c["symbol"] for c in found] == ["ETHUSDT", "ETHBTC"]
    assert loads(page.send("GET", "/api/search-coins?q=%3Cscript%3E").data)["coins"] == []
    assert "OLDUSDT" not in page.send("GET", "/api/search-coins?q=").text
    assert page.home.files.exists("data/paper_wanted") and page.keeper.started == ["yard"]


def test_an_alert_without_a_channel_says_what_to_set_up(page: Page) -> None:
    assert page.status("POST", "/api/send_alert") == 409
    assert "TWILIO_ACCOUNT_SID" in page.send("POST", "/api/send_alert").text


def test_an_alert_goes_into_the_outbox(home: Path) -> None:
    from core.notify import recent

    (home / "active_bots.json").write_text("[]")
    page = Page(home, TELEGRAM_BOT_TOKEN="12345:abc", TELEGRAM_CHAT_ID="1")
    assert page.status("POST", "/api/send_alert", {"message": "hello\nthere"}) == 202
    assert recent(page.home.files)[-1]["text"] == "hello there"


def test_an_unexpected_failure_is_a_500_without_its_trace_or_a_secret(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = Page(home, BINANCE_API_KEY="very-secret-key-1234")

    def broken() -> None:
        raise ZeroDivisionError("very-secret-key-1234")

    page.app.extensions["board"].overview = broken
    response = page.send("GET", "/api/overview")
    assert response.status_code == 500 and "secret" not in response.text and "Zero" not in response.text
    assert "ZeroDivisionError" in caplog.text and "very-secret-key-1234" not in caplog.text


def test_a_start_and_a_stop_change_what_is_wanted(page: Page) -> None:
    bot = page.home.record()
    assert page.status("POST", f"/api/bot/{bot}/start") == 200 and page.bots()[0]["status"] == "running"
    assert page.status("POST", f"/api/bot/{bot}/stop") == 200 and page.bots()[0]["status"] == "stopped"
    page.send("POST", f"/api/bot/{bot}/start")
    assert page.status("POST", "/api/stop-all") == 200 and page.bots()[0]["status"] == "stopped" and page.keeper.pids == {}


def test_params_are_bounded_before_they_are_written_out() -> None:
    for wrong in ({"a": "1e999999999"}, {"a": Decimal("1e-99999")}, {"a": "x" * 300}, {"a": {"b": 1}}):
        with pytest.raises(InputError):
            inputs.params(wrong)
    assert inputs.params({"a": "", "b": None, "c": True, "d": "5"}) == {"c": True, "d": "5"}


def test_strategies_are_listed_with_their_parameters(page: Page) -> None:
    found = loads(page.send("GET", "/api/strategies").data)
    assert "volatile" in [s["key"] for s in found["strategies"]] and isinstance(found["broken"], dict)
    (page.home.files.home / "strategies").mkdir()
    (page.home.files.home / "strategies" / "bad_strategy.py").write_text("class (")
    page.app.extensions["board"]._strategies = None
    assert "bad_strategy.py" in loads(page.send("GET", "/api/strategies").data)["broken"]
