"""What the paper exchange tells beside Binance's own API: whose it is, which market, its clock. Owns no file.

`GET /paper/status` and `GET /paper/clock`, asked over the client's own connection, uncounted.
"""

from __future__ import annotations

from typing import Any

import requests

from core.binance_wire import number
from core.errors import AccessRefused, Unavailable
from core.exchange import TimeReading


class PaperSide:
    """The paper exchange behind `session` at `url`. Each question is asked once; Unavailable where it doesn't answer as it should."""

    def __init__(self, session: requests.Session, url: str, timeout_s: float):
        self._session, self._url, self._timeout_s = session, url, timeout_s

    def _ask(self, what: str) -> dict[str, Any]:
        response = self._session.get(f"{self._url}/paper/{what}", timeout=self._timeout_s)
        if response.status_code != 200:
            raise Unavailable(f"the paper exchange answered {response.status_code} to /paper/{what}", status=response.status_code)
        return dict(response.json())

    def status(self) -> dict[str, Any]:
        return self._ask("status")

    def clock(self) -> TimeReading:
        told = self._ask("clock")
        return TimeReading(int(told["wall_ms"]), int(told["market_ms"]), float(number(str(told["speed"]))))


def source_of(status: dict[str, Any], installation: str | None, port: int) -> str:
    """Which market its rows are from, by its status. AccessRefused when it is another yard's than `installation` (None: anyone's)."""
    theirs = status.get("installation")
    if installation and theirs and theirs != installation:
        raise AccessRefused(
            f"The paper exchange on port {port} belongs to another yard ({theirs}, this is {installation}). Give each yard a PAPER_PORT of its own."
        )
    market, generation = str(status.get("market") or ""), int(status.get("generation") or 1)
    # A market that was reset is another one, with another wallet, even from the same seed.
    return market if generation == 1 else f"{market}#{generation}"
