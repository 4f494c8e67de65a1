"""A local server that speaks Twilio's and Telegram's APIs as far as they are used, and fails on demand.

`faults` is a list of words that is used up from its front by the requests that send; with
none left, `chance` draws one. What was taken stands in `sms` and `telegrams`, whatever the
answer was.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from patience import patience

SID, TOKEN = "AC" + "0" * 32, "twilio-token-5f2c81d97a"
FROM, TO = "+15005550006", "+491700000001"
BOT_TOKEN, CHAT = "7012345:telegram-token-91bd3e", "4711"
SETTINGS = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN, "TWILIO_FROM": FROM, "SMS_TO": TO}
TELEGRAM = {"TELEGRAM_BOT_TOKEN": BOT_TOKEN, "TELEGRAM_CHAT_ID": CHAT}

# What a request may meet: done or not before the answer, and the answer.
PATIENT_S, IMPATIENT_S = 30.0, 0.3  # a client's time-outs
NOT_TAKEN = ("error_400", "wrong_key", "too_many", "error_500", "cut_before", "slow_before")
TAKEN = ("error_503_after", "cut_after", "slow_after", "bad_json")


class MessageServer:
    def __init__(self, slow_s: float = 1.0, now_ms: Callable[[], int] | None = None):
        self.sms: list[dict[str, Any]] = []
        self.telegrams: list[str] = []
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.find_faults: list[str] = []
        self.chance: Callable[[str], str | None] = lambda what: None
        self.on_taken: Callable[[], None] = lambda: None
        self.slow_s, self.now_ms = slow_s, now_ms or (lambda: time.time_ns() // 1_000_000)
        self.released = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                outer._handle(self, "")

            def do_POST(self) -> None:
                outer._handle(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that was killed is no news."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(patience(5))

    def timeout_s(self) -> float:
        """For the client: short where the next answer will not come, so that every other one is waited for."""
        return IMPATIENT_S if self.faults[:1] in (["slow_before"], ["slow_after"]) else PATIENT_S

    def __enter__(self) -> MessageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- answering ------------------------------------------------------------------------

    def _handle(self, h: BaseHTTPRequestHandler, body: str) -> None:
        parts = urlsplit(h.path)
        try:
            if parts.path.startswith("/bot"):
                self._telegram(h, parts.path, body)
            else:
                self._twilio(h, parts.path, parse_qs(parts.query, keep_blank_values=True), body)
        except OSError:
            h.close_connection = True  # the client has gone

    def _draw(self, what: str) -> str | None:
        with self._lock:
            queue = self.faults if what == "send" else self.find_faults
            return queue.pop(0) if queue else self.chance(what)

    def _fault(self, h: BaseHTTPRequestHandler, fault: str | None, take: Callable[[], Any], error: Callable[[int, int, str], bytes]) -> bool:
        """Whether the fault was the answer."""
        if fault in TAKEN:
            take()
        if fault is None:
            return False
        if fault in ("cut_before", "cut_after"):
            h.close_connection = True
            h.connection.close()
        elif fault in ("slow_before", "slow_after"):
            self.released.wait(self.slow_s)
            self._answer(h, 500, error(500, 20500, "too late"))
        elif fault == "bad_json":
            self._answer(h, 201 if "Messages" in h.path else 200, b"<html>it works</html>")
        else:
            status, code, headers = {
                "error_400": (400, 21211, {}),
                "wrong_key": (401, 20003, {}),
                "too_many": (429, 20429, {"Retry-After": "1"}),
                "error_500": (500, 20500, {}),
                "error_503_after": (503, 20503, {}),
            }[fault]
            self._answer(h, status, error(status, code, fault.replace("_", " ")), headers)
        return True

    def _answer(self, h: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        h.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            h.send_header(name, value)
        h.end_headers()
        h.wfile.write(body)

    # --- Twilio -----------------------------------------------------------------------------

    def _twilio(self, h: BaseHTTPRequestHandler, path: str, query: dict[str, list[str]], body: str) -> None:
        def error(status: int, code: int, text: str) -> bytes:
            return json.dumps({"code": code, "message": text, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}).encode()

        right = "Basic " + base64.b64encode(f"{SID}:{TOKEN}".encode()).decode()
        self.requests.append(f"{h.command} {path}")
        if h.headers.get("Authorization") != right:
            return self._answer(h, 401, error(401, 20003, "Authenticate"))
        if path == f"/2010-04-01/Accounts/{SID}.json":
            return self._answer(h, 200, json.dumps({"sid": SID, "status": "active", "type": "Full"}).encode())
        if path != f"/2010-04-01/Accounts/{SID}/Messages.json":
            return self._answer(h, 404, error(404, 20404, "not found"))
        if h.command == "GET":
            if not self._fault(h, self._draw("find"), lambda: None, error):
                self._answer(h, 200, json.dumps(self._listed(query)).encode())
            return None
        form = {k: v[0] for k, v in parse_qs(body).items()}
        assert form["To"] == TO and form["From"] == FROM and len(form["Body"]) <= 1600

        def take() -> dict[str, Any]:
            sent = datetime.fromtimestamp(self.now_ms() / 1000, UTC)
            with self._lock:
                sid = f"SM{len(self.sms):032x}"
                made = {"sid": sid, "body": form["Body"], "to": form["To"], "from": form["From"], "status": "queued", "date_sent": sent}
                self.sms.append(made)
            self.on_taken()
            return made

        if not self._fault(h, self._draw("send"), take, error):
            self._answer(h, 201, json.dumps(_wire(take())).encode())
        return None

    def _listed(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Newest first, by To and day, a page at a time as Twilio's list is."""
        size, page = int(query.get("PageSize", ["50"])[0]), int(query.get("Page", ["0"])[0])
        with self._lock:
            found = [m for m in reversed(self.sms) if m["to"] == query["To"][0]]
        if "DateSent>" in query:
            found = [m for m in found if m["date_sent"].strftime("%Y-%m-%d") >= query["DateSent>"][0]]
        rest = "&".join(f"{k}={v[0]}".replace("+", "%2B").replace(">", "%3E") for k, v in query.items() if k != "Page")
        more = f"/2010-04-01/Accounts/{SID}/Messages.json?{rest}&Page={page + 1}" if len(found) > size * (page + 1) else None
        return {"messages": [_wire(m) for m in found[size * page : size * (page + 1)]], "page": page, "page_size": size, "next_page_uri": more}

    # --- Telegram -----------------------------------------------------------------------------

    def _telegram(self, h: BaseHTTPRequestHandler, path: str, body: str) -> None:
        def error(status: int, code: int, text: str) -> bytes:
            more = {"parameters": {"retry_after": 1}} if status == 429 else {}
            return json.dumps({"ok": False, "error_code": status, "description": text, **more}).encode()

        self.requests.append(f"{h.command} {path.rpartition('/')[2]}")
        if not path.startswith(f"/bot{BOT_TOKEN}/"):
            return self._answer(h, 401, error(401, 401, "Unauthorized"))
        if path.endswith("/getMe"):
            return self._answer(h, 200, b'{"ok": true, "result": {"id": 7012345, "is_bot": true}}')
        value = json.loads(body)
        assert value["chat_id"] == CHAT and len(value["text"]) <= 4096

        def take() -> None:
            with self._lock:
                self.telegrams.append(value["text"])
            self.on_taken()

        if not self._fault(h, self._draw("send"), take, error):
            take()
            self._answer(h, 200, b'{"ok": true, "result": {"message_id": 1}}')
        return None


def _wire(m: dict[str, Any]) -> dict[str, Any]:
    return {**m, "date_sent": m["date_sent"].strftime("%a, %d %b %Y %H:%M:%S +0000"), "account_sid": SID, "num_segments": "1", "direction": "outbound-api"}


def redirected(url: str, timeout_s: float | Callable[[], float] = PATIENT_S) -> Any:
    """Twilio's own HTTP client, led to this server instead of api.twilio.com."""
    from twilio.http.http_client import TwilioHttpClient

    class Redirected(TwilioHttpClient):
        def request(self, method: str, given: str, *args: Any, **more: Any) -> Any:
            more["timeout"] = timeout_s() if callable(timeout_s) else timeout_s
            return super().request(method, re.sub(r"^https://api\.twilio\.com", url, given), *args, **more)

    return Redirected(pool_connections=False)


def make_channels(url: str, timeout_s: float | Callable[[], float] = PATIENT_S) -> Callable[[Any], dict[str, Any]]:
    """As core.notify.channels.build, with both services at `url`."""

    def make(settings: Any) -> dict[str, Any]:
        from core.notify import channels
        from core.notify.channels.sms import Sms
        from core.notify.channels.telegram import Telegram

        ready = channels.names(settings)
        made: dict[str, Any] = {}
        if "SMS" in ready:
            made["SMS"] = Sms(settings, redirected(url, timeout_s))
        if "Telegram" in ready:
            made["Telegram"] = Telegram(settings, url)
        return made

    return make
