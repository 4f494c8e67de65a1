"""The outbox with the real clients of Twilio and Telegram, against a local server that speaks their APIs."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import notify
from core.config import ROOT, load
from core.errors import AlreadyRunning, StateError
from core.model import Event
from core.notify import EVENTS, channels, rules
from core.notify.channels.sms import Sms
from core.notify.channels.telegram import Telegram
from core.notify.intake import parse
from core.notify.outbox import STATUS, Outbox
from core.notify.rules import Rules
from core.storage import Files
from message_server import BOT_TOKEN, IMPATIENT_S, NOT_TAKEN, PATIENT_S, SETTINGS, TELEGRAM, TOKEN, MessageServer, make_channels, redirected
from patience import patience

START = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000 + 10 * 3_600_000  # 10:00 UTC
MINUTE, HOUR = 60_000, 3_600_000


class Post:
    """A home with an outbox on an injected clock, and the services it writes to."""

    def __init__(self, home: Path, **settings: str):
        self.home, self.files, self.now = home, Files(home), START
        self.env = {"BOTYARD_HOME": str(home), "HTTP_TIMEOUT": str(PATIENT_S), **(settings or SETTINGS)}
        self.server = MessageServer(slow_s=60, now_ms=lambda: self.now)
        self.boxes: list[Outbox] = []
        self.box = self.open()

    def open(self, **more: Any) -> Outbox:
        box = Outbox(
            self.files,
            load(self.env),
            make=make_channels(self.server.url, self.server.timeout_s),
            clock_ms=lambda: self.now,
            settings_now=lambda: load(self.env),
            **more,
        )
        self.boxes.append(box)
        return box

    def rules(self, **given: Any) -> None:
        self.files.write_json(rules.FILE, {"schema": 1, **given}, keep_previous=False)

    def post(self, kind: str = "stop_hit", text: str = "text", severity: Any = "risk", bot: int | None = 1, **data: Any) -> None:
        notify.post(self.files, Event(kind, text, severity, bot, wall_ms=self.now, data=data))

    def turn(self, minutes: float = 0) -> None:
        self.now += int(minutes * MINUTE)
        self.box.turn()

    def wait(self, minutes: float, step_s: float = 5) -> None:
        end = self.now + int(minutes * MINUTE)
        while self.now < end:
            self.now = min(end, self.now + int(step_s * 1000))
            self.box.turn()

    @property
    def bodies(self) -> list[str]:
        return [m["body"].rpartition(" #")[0] for m in self.server.sms]

    def states(self) -> list[str]:
        assert self.box.store is not None
        return [r[0] for r in self.box.store._do("SELECT state FROM messages ORDER BY id")]

    def shown(self) -> dict[str, Any]:
        return self.files.read_json(STATUS, schema=1) or {}

    def close(self) -> None:
        for box in self.boxes:
            box.close()
        self.server.close()


@pytest.fixture
def post(home: Path) -> Iterator[Post]:
    made = Post(home)
    yield made
    made.close()


# --- what goes out -------------------------------------------------------------------------


def test_an_alert_goes_out_once_and_is_known_by_its_code(post: Post) -> None:
    post.post(text="BTC Bot closed BTCUSDT @ 49000.00 (stop_loss): -10.00 USDT (−2.00%)")
    post.turn()
    assert post.bodies == ["Botyard ALERT: BTC Bot closed BTCUSDT @ 49000.00 (stop_loss): -10.00 USDT (-2.00%)"]
    assert len(post.server.sms[0]["body"].rpartition(" #")[2]) == 6
    post.wait(120, 60)
    assert len(post.server.sms) == 1 and post.states() == ["sent"] and post.shown()["unsent"] == []


def test_both_channels_are_served_and_neither_waits_for_the_other(home: Path) -> None:
    post = Post(home, **SETTINGS, **TELEGRAM)
    try:
        post.server.faults = ["too_many"]  # met by the SMS, which is first
        post.post(text="one")
        post.turn()
        assert post.server.telegrams[0].startswith("Botyard ALERT: one #") and post.bodies == []
        post.wait(1)
        assert post.bodies == ["Botyard ALERT: one"] and len(post.server.telegrams) == 1
    finally:
        post.close()


def test_events_below_the_rules_are_not_sent_and_trades_are_when_wanted(post: Post) -> None:
    def tell() -> None:
        post.post("opened", "opened", "info")
        post.post("bot_by_hand", "ended", "warning")
        post.post("other", "nothing", "info")
        post.post("bot_back", "runs again", "info")
        post.turn()

    tell()
    assert post.bodies == ["Botyard: ended", "Botyard: runs again"]
    post.rules(trades=True, fold_minutes=0)
    tell()
    assert post.bodies[2:] == ["Botyard: opened", "Botyard: ended", "Botyard: runs again"]
    post.rules(least="info", bots={"1": "none"})
    tell()
    assert len(post.bodies) == 5


def test_a_paper_bot_is_told_of_only_where_it_is_wanted(home: Path) -> None:
    for wanted, told in (("false", []), ("true", ["Botyard ALERT (paper): stop"])):
        place = home / wanted
        place.mkdir()
        (place / ".env").touch()
        post = Post(place, **SETTINGS, NOTIFY_PAPER=wanted)
        post.post(text="stop", mode="paper")
        post.turn()
        assert post.bodies == told
        post.close()


def test_repeats_are_folded_and_counted(post: Post) -> None:
    post.post("bot_stuck", "is stuck: 31 s")
    post.turn()
    for n in range(4):
        post.post("bot_stuck", f"is stuck: {40 + n} s")
        post.post("bot_stuck", "another bot", bot=2)
        post.turn(1)
    assert post.bodies == ["Botyard ALERT: is stuck: 31 s", "Botyard ALERT: another bot"]
    post.wait(35, 60)
    assert post.bodies[2:] == ["Botyard ALERT: is stuck: 43 s (4 times)", "Botyard ALERT: another bot (3 times)"]
    post.post("stop_hit", "a")
    post.post("stop_hit", "a second loss is news of its own")
    post.turn()
    assert len(post.bodies) == 6


def test_quiet_hours_hold_back_all_but_risk_and_what_was_asked_for(post: Post) -> None:
    post.rules(quiet_hours=[9, 17], keep_hours=1)
    post.post("bot_by_hand", "ended", "warning")
    post.post("stop_hit", "stop")
    post.post("alert", "test", "warning", None)
    post.turn()
    assert post.bodies == ["Botyard ALERT: stop", "Botyard: test"]
    post.wait(6 * 60 + 59, 600)
    assert len(post.bodies) == 2
    post.turn(1)
    assert post.bodies[2:] == ["Botyard: ended"]


def test_no_more_than_so_many_a_day_and_never_at_the_cost_of_an_alert_about_risk(post: Post) -> None:
    post.rules(per_day=3)
    for n in range(5):
        post.post("alert", f"hello {n}", "warning", None)
    for n in range(5):
        post.post("stop_hit", f"stop {n}")
    post.turn()
    assert sum("hello" in b for b in post.bodies) == 3 and sum("stop" in b for b in post.bodies) == 5
    assert [(u["text"], u["state"]) for u in post.shown()["unsent"]] == [("hello 4", "over_limit"), ("hello 3", "over_limit")]
    post.now += 86_400_000
    post.post("alert", "a new day", "warning", None)
    post.turn()
    assert post.bodies[-1] == "Botyard: a new day"


def test_alerts_about_risk_go_first(post: Post) -> None:
    post.post("alert", "one", "warning", None)
    post.post("stop_hit", "stop")
    post.turn()
    assert post.bodies == ["Botyard ALERT: stop", "Botyard: one"]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"quiet_hours": [25, 3]}, "two hours"),
        ({"least": "loud"}, "info, warning, risk, none"),
        ({"bots": {"x": "risk"}}, "bots"),
        ({"per_day": -1}, "whole number"),
        ({"trades": 1}, "true or false"),
        ({"sound": True}, "no rule"),
    ],
)
def test_rules_that_are_wrong_are_told_and_the_defaults_hold(post: Post, given: dict[str, Any], word: str) -> None:
    post.rules(**given)
    with pytest.raises(StateError, match=word):
        rules.read(post.files)
    post.post(text="stop")
    post.turn()
    assert post.bodies == ["Botyard ALERT: stop"] and word in post.shown()["problems"][0]


def test_quiet_hours_over_midnight_end_in_the_morning() -> None:
    r = Rules(quiet_hours=(22, 7))
    day = START - 10 * HOUR
    assert r.quiet_until(day + 12 * HOUR) is None and r.quiet_until(day + 7 * HOUR) is None
    assert r.quiet_until(day + 23 * HOUR) == day + 31 * HOUR and r.quiet_until(day + 3 * HOUR) == day + 7 * HOUR
    assert Rules().quiet_until(day) is None


# --- outcomes that aren't known --------------------------------------------------------------


@pytest.mark.parametrize("fault", ["error_503_after", "cut_after", "slow_after", "bad_json"])
@pytest.mark.parametrize("severity", ["risk", "warning"])
def test_a_message_that_went_out_though_no_answer_came_is_found_and_not_repeated(post: Post, fault: str, severity: str) -> None:
    post.server.faults = [fault]
    post.post("stop_hit", "stop", severity)
    post.turn()
    assert post.states() == ["unknown"] and post.shown()["unsent"][0]["state"] == "unknown"
    post.wait(2)
    assert len(post.server.sms) == 1 and post.states() == ["sent"] and post.shown()["unsent"] == []


@pytest.mark.parametrize("fault", ["error_500", "cut_before", "slow_before"])
def test_a_message_that_is_not_found_is_repeated_if_it_is_about_risk_and_says_so(post: Post, fault: str) -> None:
    post.server.faults = [fault, fault]
    post.post("stop_hit", "stop", "risk")
    post.turn()
    post.turn(0.1)
    assert post.bodies == []  # looked up, not there yet: patience
    post.post("alert", "hello", "warning", None)
    post.wait(3)
    assert post.bodies == ["Botyard ALERT: (possible repeat) stop"]
    assert post.states() == ["sent", "given_up"] and "not repeated" in post.shown()["unsent"][0]["why"]


def test_look_ups_that_fail_are_asked_again_and_at_last_an_alert_is_repeated_all_the_same(post: Post) -> None:
    post.server.faults, post.server.find_faults = ["cut_after"], ["error_500", "cut_before", "bad_json", "too_many"]
    post.post(text="stop")
    post.turn()
    post.wait(4)
    assert len(post.server.sms) == 1 and post.states() == ["sent"]
    post.server.faults, post.server.chance = ["cut_before"], lambda what: "error_500" if what == "find" else None
    post.post(text="another")
    post.turn()
    post.wait(4)
    assert len(post.server.sms) == 1
    post.wait(6)
    assert post.bodies[1:] == ["Botyard ALERT: (possible repeat) another"]


def test_a_message_that_the_carrier_did_not_deliver_does_not_count_as_found(post: Post) -> None:
    post.server.faults = ["cut_after"]
    post.post(text="stop")
    post.turn()
    post.server.sms[0]["status"] = "undelivered"
    post.wait(1)
    assert post.bodies == ["Botyard ALERT: stop", "Botyard ALERT: (possible repeat) stop"]


def test_telegram_can_not_be_asked_so_only_alerts_about_risk_are_repeated(home: Path) -> None:
    post = Post(home, **TELEGRAM)
    try:
        post.server.faults = ["cut_after"]
        post.post("stop_hit", "stop")
        post.turn()
        post.wait(1)
        post.server.faults = ["cut_after"]
        post.post("alert", "hello", "warning", None)
        post.turn()
        post.wait(3)
        told = [t.rpartition(" #")[0] for t in post.server.telegrams]
        assert told == ["Botyard ALERT: stop", "Botyard ALERT: (possible repeat) stop", "Botyard: hello"]
        assert post.states() == ["sent", "given_up"]
    finally:
        post.close()


# --- outcomes that are known -----------------------------------------------------------------


def test_what_was_certainly_not_sent_is_tried_again_with_pauses_that_grow(post: Post) -> None:
    post.server.chance = lambda what: "too_many" if what == "send" else None
    post.post("alert", "hello", "warning", None)
    post.wait(60)
    tries = sum(r.startswith("POST") for r in post.server.requests)
    assert 10 <= tries <= 25 and post.bodies == []
    post.server.chance = lambda what: None
    post.wait(6)
    assert post.bodies == ["Botyard: hello"] and post.states() == ["sent"]


def test_the_services_own_word_on_waiting_is_heeded(post: Post) -> None:
    class Answer:
        status_code, text, headers = 429, '{"code": 20429, "message": "too many", "status": 429}', {"Retry-After": "90"}

    class Http:
        def request(self, *_: Any, **__: Any) -> Any:
            return Answer()

    outcome = Sms(load(post.env), Http()).send("x", "abc")
    assert (outcome.result, outcome.retry_after_s) == ("later", 90.0)


def test_an_unreachable_service_is_known_not_to_have_it(home: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{s.getsockname()[1]}"
        settings = load({"BOTYARD_HOME": str(home), **SETTINGS, **TELEGRAM})
        for channel in (Sms(settings, redirected(url)), Telegram(settings, url)):
            outcome = channel.send("text", "abcdef")
            assert outcome.result == "later" and "can't be reached" in outcome.why and url not in outcome.why


def test_the_client_as_it_is_in_use_goes_to_twilio_and_an_unreachable_proxy_carries_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load({"BOTYARD_HOME": str(home), **SETTINGS, **TELEGRAM})
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{s.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert {n: c.send("text", "abcdef").result for n, c in channels.build(settings).items()} == {"SMS": "later", "Telegram": "later"}


def test_a_refused_text_is_given_up_and_shown_but_an_alert_about_risk_is_kept(post: Post) -> None:
    post.server.faults = ["error_400", "error_400"]
    post.post("stop_hit", "stop")
    post.post("alert", "hello", "warning", None)
    post.turn()
    assert post.states() == ["queued", "refused"]
    assert [(u["text"], u["why"]) for u in post.shown()["unsent"]] == [(t, "Twilio: HTTP 400, error 21211: error 400") for t in ("hello", "stop")]
    post.wait(3)
    assert post.bodies == ["Botyard ALERT: stop"]


def test_wrong_keys_hold_everything_back_and_new_ones_are_taken_up_without_a_restart(post: Post) -> None:
    right = post.env.pop("TWILIO_AUTH_TOKEN")
    post.env["TWILIO_AUTH_TOKEN"] = "a-wrong-token"
    post.box.close()
    post.box = post.open()
    for n in range(5):
        post.post("alert", f"{n}", "warning", None)
    post.wait(10)
    assert 1 <= len(post.server.requests) <= 5 and "HTTP 401" in post.shown()["channels"][0]["problem"] and "wrong-token" not in str(post.shown())
    post.env["TWILIO_AUTH_TOKEN"] = right
    (post.home / ".env").write_text("# mended\n")
    post.turn()
    assert post.bodies == [f"Botyard: {n}" for n in range(5)]


def test_what_is_too_old_is_not_sent_but_shown(post: Post) -> None:
    post.server.chance = lambda what: "wrong_key"
    post.post("alert", "hello", "warning", None)
    post.post("stop_hit", "stop")
    post.wait(8 * 60, 600)
    assert post.states() == ["expired", "queued"]
    post.server.chance = lambda what: None
    post.wait(60, 600)
    assert post.bodies == ["Botyard ALERT: stop"] and post.shown()["unsent"][0]["state"] == "expired"


def test_every_answer_of_the_real_clients_becomes_an_outcome(home: Path) -> None:
    with MessageServer(slow_s=60) as server:
        found: dict[str, list[str]] = {}
        for fault in (*NOT_TAKEN, "error_503_after", "cut_after", "slow_after", "bad_json"):
            server.faults = [fault]
            wait_s = server.timeout_s()
            settings = load({"BOTYARD_HOME": str(home), "HTTP_TIMEOUT": str(wait_s), **SETTINGS, **TELEGRAM})
            for channel in (Sms(settings, redirected(server.url, wait_s)), Telegram(settings, server.url)):
                server.faults = [fault]
                outcome = channel.send("text", "abcdef")
                found.setdefault(fault, []).append(outcome.result)
                assert TOKEN not in outcome.why and BOT_TOKEN not in outcome.why
        assert found == {
            "error_400": ["refused", "refused"],
            "wrong_key": ["access", "access"],
            "too_many": ["later", "later"],
            **{f: ["unknown", "unknown"] for f in ("error_500", "cut_before", "slow_before", "error_503_after", "cut_after", "slow_after", "bad_json")},
        }
        sms, telegram = Sms(settings, redirected(server.url)), Telegram(settings, server.url)
        assert sms.probe().result == "sent" and telegram.probe().result == "sent"
        assert sms.find("nosuch", 0) == "absent" and sms.find("abcdef", 1_000) == "found"


def test_a_look_up_reads_past_the_first_page(home: Path) -> None:
    settings = load({"BOTYARD_HOME": str(home), **SETTINGS})
    with MessageServer() as server:
        sms = Sms(settings, redirected(server.url))
        for n in range(60):
            sms.send("text", f"code{n:02d}")
        assert sms.find("code00", 1) == "found" and sms.find("code0", 1) == "absent"
        assert all(r.startswith(("GET", "POST")) for r in server.requests)


# --- restarts, files --------------------------------------------------------------------------


def test_events_are_taken_in_once_through_restarts(post: Post) -> None:
    for n in range(5):
        post.post(text=f"stop {n}")
        post.turn()
        post.box.close()
        post.box = post.open()
    post.turn()
    assert post.bodies == [f"Botyard ALERT: stop {n}" for n in range(5)]
    # The events' file is cut and written anew, as after a restore: nothing is told twice.
    kept = (post.home / EVENTS).read_bytes()
    (post.home / EVENTS).write_bytes(b"")
    post.turn()
    (post.home / EVENTS).write_bytes(kept)
    post.turn()
    assert len(post.bodies) == 5


def test_only_one_process_sends(post: Post) -> None:
    post.turn()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from core.storage import Files; Files({str(post.home)!r}).lock('data/outbox.lock').acquire()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(30))
    assert done.returncode == 1 and "AlreadyRunning" in done.stderr


def test_an_outbox_that_another_process_holds_is_waited_for(post: Post) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from core.storage import Files; l = Files({str(post.home)!r}).lock('data/outbox.lock'); l.acquire()"
    other = subprocess.Popen([sys.executable, "-c", code + "; print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"1\n"
        post.post(text="stop")
        with pytest.raises(AlreadyRunning):
            post.turn()
        other.communicate(b"\n", timeout=patience(30))
        post.turn()
        assert post.bodies == ["Botyard ALERT: stop"]
    finally:
        other.kill()
        other.wait()


def test_a_new_outbox_tells_no_history(home: Path) -> None:
    post = Post(home)
    try:
        post.post(text="long ago")
        post.now += 20 * MINUTE
        post.post(text="just now")
        post.turn(5)
        assert post.bodies == ["Botyard ALERT: just now"]
    finally:
        post.close()


def test_a_line_that_a_death_has_torn_costs_no_other_event(post: Post) -> None:
    post.turn()
    with (post.home / EVENTS).open("ab") as f:
        f.write(b'{"schema": 1, "kind": "stop_hit", "sever')
    post.turn()
    post.post(text="whole")
    post.turn()
    assert post.bodies == ["Botyard ALERT: whole"]
    assert parse(b"[]") == parse(b"\xff") == parse(b'{"kind": 1, "text": "x"}') == []


def test_a_damaged_database_is_told_and_not_replaced(post: Post) -> None:
    (post.home / "data").mkdir(exist_ok=True)
    (post.home / "data/outbox.db").write_bytes(b"no database " * 100)
    with pytest.raises(StateError, match=r"outbox\.db"):
        post.turn()
    assert (post.home / "data/outbox.db").read_bytes().startswith(b"no database")


def test_no_secret_reaches_a_file_or_a_log(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="botyard")
    post = Post(home, **SETTINGS, **TELEGRAM, HTTP_TIMEOUT=str(IMPATIENT_S))  # Telegram's; what becomes of a message is not the question here
    try:
        faults = [*NOT_TAKEN, "error_503_after", "cut_after", "slow_after", "bad_json"]
        post.server.faults = faults * 2
        post.post(text=f"the token {TOKEN} and {BOT_TOKEN}")
        for n in range(10):
            post.post("alert", f"{n}", "warning", None)
        post.wait(60)
        assert "***" in "".join(post.bodies)
        (post.home / EVENTS).unlink()  # the event itself was written by this test
        files = b"".join(f.read_bytes() for f in post.home.rglob("*") if f.is_file())
        for secret in (TOKEN, BOT_TOKEN):
            assert secret.encode() not in files and secret not in caplog.text
        assert oct((post.home / "data/outbox.db").stat().st_mode & 0o777) == "0o600"
    finally:
        post.close()


def test_twilio_and_requests_are_loaded_only_where_messages_are_sent(home: Path) -> None:
    code = (
        "import sys; from core import config; from core.fleet import __main__; from core.notify import channels; import core.notify.outbox;"
        "s = config.load({'BOTYARD_HOME': sys.argv[1]}); channels.build(s); print(sorted({'twilio', 'requests', 'flask'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_where_a_channel_can_not_be_made_no_event_is_passed_over(post: Post) -> None:
    right, box = post.box._make, post.box

    def broken(settings: Any) -> Any:
        raise ImportError("no module named twilio")

    box._make = broken
    for _ in range(2):
        post.post(text="stop")
        with pytest.raises(ImportError):
            post.turn()
    box._make = right
    post.turn()
    assert post.bodies == ["Botyard ALERT: stop"] * 2


def test_a_summary_that_can_not_be_made_keeps_no_alert_back(post: Post) -> None:
    def broken(now: int, settings: Any) -> None:
        raise ZeroDivisionError(TOKEN)

    post.box.close()
    post.box = post.open(produce=broken)
    post.post(text="stop")
    post.turn()
    assert post.bodies == ["Botyard ALERT: stop"]


def test_a_channel_says_what_it_misses(home: Path) -> None:
    settings = load({"BOTYARD_HOME": str(home), "TWILIO_ACCOUNT_SID": "AC1", "SMS_TO": "+1"})
    assert {k.name: (k.ready(settings), k.begun(settings)) for k in channels.KNOWN} == {
        "SMS": (["TWILIO_AUTH_TOKEN", "TWILIO_FROM"], True),
        "Telegram": (["TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID"], False),
    }
    assert channels.names(settings) == [] and channels.build(settings) == {}


def test_the_thread_sends_by_itself_and_ends_at_once(home: Path) -> None:
    import threading

    post = Post(home)
    post.box.close()
    post.box = post.open()
    told = threading.Event()
    post.server.on_taken = told.set
    try:
        post.post(text="stop")
        post.box.step()
        assert told.wait(patience(10))
    finally:
        post.close()
    assert json.loads((home / STATUS).read_text())["schema"] == 1
    assert not [t for t in threading.enumerate() if t.name == "outbox"]


def test_the_rules_in_the_readme_are_the_defaults(home: Path) -> None:
    line = next(x for x in (ROOT / "README.md").read_text().splitlines() if x.startswith('{"schema": 1, "least"'))
    (home / rules.FILE).write_text(line)
    assert rules.read(Files(home)) == Rules() == rules.read(Files(home / "nowhere"))
