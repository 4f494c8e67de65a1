"""SMS by Twilio's own client.

Wire facts (https://www.twilio.com/docs/messaging/api/message-resource): a message is made
by POST .../Messages.json and answered with 201 and its `sid`; there is no key that would
keep a repeated POST from sending twice. GET .../Messages.json lists newest first, filtered
by To and DateSent (a day, UTC). Errors are JSON with `code`, `message`, `status`; 429
carries Retry-After.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from core.config import Settings
from core.notify.channels import Finding, Outcome, network
from core.notify.sms_text import fit

MOST_SEGMENTS = 8
LOOK_BACK = 200  # messages read in search of one, newest first
NOT_DELIVERED = ("failed", "undelivered", "canceled")
WHO = "Twilio"


class _Remembers:
    """Twilio's exceptions don't carry an answer's headers; this keeps those of the last one."""

    def __init__(self, inner: Any):
        self.inner = inner
        self.headers: dict[str, Any] = {}

    def request(self, *args: Any, **kwargs: Any) -> Any:
        self.headers = {}
        response = self.inner.request(*args, **kwargs)
        self.headers = {str(k).lower(): v for k, v in dict(response.headers or {}).items()}
        return response


class Sms:
    """`http_client` stands in for Twilio's own (twilio.http.HttpClient), where requests are to go elsewhere."""

    name = "SMS"

    def __init__(self, settings: Settings, http_client: Any = None):
        from twilio.http.http_client import TwilioHttpClient
        from twilio.rest import Client

        silent = logging.getLogger("twilio.silent")
        silent.disabled = True  # it would log numbers and texts
        self._from, self._to, self._sid = settings.twilio_from, settings.sms_to, settings.twilio_account_sid
        # A connection of its own for each request: one kept open that the other side has closed
        # would make an outcome unknown that needn't be.
        own = http_client or TwilioHttpClient(pool_connections=False, timeout=float(settings.http_timeout), logger=silent)
        self._http = _Remembers(own)
        self._client = Client(self._sid, settings.twilio_auth_token.reveal(), http_client=self._http)
        self._messages = self._client.messages  # its modules are loaded now, not when the first alert is due

    def body(self, text: str, ref: str) -> str:
        return fit(text, MOST_SEGMENTS, f" #{ref}")

    def send(self, text: str, ref: str) -> Outcome:
        sender = {"messaging_service_sid": self._from} if self._from.startswith("MG") else {"from_": self._from}
        try:
            made = self._messages.create(to=self._to, body=self.body(text, ref), **sender)
        except Exception as e:  # noqa: BLE001 - whatever goes wrong, it is an outcome
            return self._outcome(e)
        if not made.sid:
            return Outcome("unknown", f"{WHO} answered without naming the message")
        return Outcome("sent", str(made.sid))

    def find(self, ref: str, since_ms: int) -> Finding:
        """DateSent is empty until a message has left Twilio's queue, so the newest are read without that filter too."""
        code = f"#{ref}"
        day = (datetime.fromtimestamp(since_ms / 1000, UTC) - timedelta(days=1)).date()
        since = datetime(day.year, day.month, day.day, tzinfo=UTC)
        try:
            filters: tuple[dict[str, Any], ...] = ({"date_sent_after": since}, {})
            for more in filters:
                for message in self._messages.list(to=self._to, limit=LOOK_BACK, page_size=LOOK_BACK, **more):
                    if str(message.body or "").rstrip().endswith(code) and str(message.status) not in NOT_DELIVERED:
                        return "found"
        except Exception:  # noqa: BLE001 - a look-up that fails is asked again
            return "unknown"
        return "absent"

    def probe(self) -> Outcome:
        try:
            account = self._client.api.accounts(self._sid).fetch()
        except Exception as e:  # noqa: BLE001 - told to a person
            return self._outcome(e)
        return Outcome("sent" if account.status == "active" else "access", f"the account is {account.status or 'of unknown state'}")

    def _outcome(self, e: Exception) -> Outcome:
        from twilio.base.exceptions import TwilioException

        status, code = getattr(e, "status", None), getattr(e, "code", None)
        if not isinstance(e, TwilioException) or not isinstance(status, int):
            return network(e, WHO)
        told = str(getattr(e, "msg", "") or getattr(e, "title", "")).removeprefix("Unable to create record: ")[:200]
        why = f"{WHO}: HTTP {status}{f', error {code}' if code else ''}{f': {told}' if told else ''}"
        if status == 429:
            wait = 0.0
            with contextlib.suppress(ValueError):
                wait = min(3600.0, max(0.0, float(self._http.headers.get("retry-after", 0))))
            return Outcome("later", why, wait)
        if status >= 500 or status == 408:
            return Outcome("unknown", why)
        if status in (401, 403, 404):
            return Outcome("access", why)
        return Outcome("refused" if status >= 400 else "later", why)
