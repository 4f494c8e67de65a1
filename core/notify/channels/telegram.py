"""Telegram by its bot API (https://core.telegram.org/bots/api#sendmessage), with `requests`.

The bot's token is part of the URL, so no exception's text goes further than this file.
The API has no way to read back what a bot has sent: `find` can't.
"""

from __future__ import annotations

from typing import Any

from core.config import Settings
from core.notify.channels import Finding, Outcome, network

BASE = "https://api.telegram.org"
MOST = 4000  # the API takes 4096 characters
WHO = "Telegram"


class Telegram:
    name = "Telegram"

    def __init__(self, settings: Settings, base: str = BASE):
        import requests

        self._requests: Any = requests
        self._url = f"{base}/bot{settings.telegram_bot_token.reveal()}/"
        self._chat, self._timeout = settings.telegram_chat_id, float(settings.http_timeout)

    def send(self, text: str, ref: str) -> Outcome:
        cut = text if len(text) <= MOST else text[:MOST] + "..."
        return self._ask("sendMessage", {"chat_id": self._chat, "text": f"{cut} #{ref}", "disable_web_page_preview": True})

    def find(self, ref: str, since_ms: int) -> Finding:
        return "cannot"

    def probe(self) -> Outcome:
        return self._ask("getMe", {})

    def _ask(self, method: str, body: dict[str, Any]) -> Outcome:
        try:
            response = self._requests.post(self._url + method, json=body, timeout=self._timeout, allow_redirects=False)
        except Exception as e:  # noqa: BLE001 - whatever goes wrong, it is an outcome
            return network(e, WHO)
        try:
            value = response.json()
        except ValueError:
            value = None
        value = value if isinstance(value, dict) else {}
        status = int(response.status_code)
        if status == 200:
            return Outcome("sent") if value.get("ok") is True else Outcome("unknown", f"{WHO}'s answer could not be read")
        why = f"{WHO}: HTTP {status}" + (f": {str(value['description'])[:200]}" if value.get("description") else "")
        if status == 429:
            given = value.get("parameters")
            wait = given.get("retry_after") if isinstance(given, dict) else 0
            return Outcome("later", why, float(min(3600, max(0, wait))) if isinstance(wait, int | float) else 0.0)
        if status >= 500:
            return Outcome("unknown", why)
        if status in (401, 404):  # a wrong token is answered with either
            return Outcome("access", why)
        return Outcome("refused" if status >= 400 else "later", why)
