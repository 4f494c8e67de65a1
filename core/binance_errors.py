"""What a failed call to Binance means, as core/errors.py's tree: who must act, and whether anything may have happened.

- Unknown is not failed: a time-out, a dropped connection, a 5xx, -1000, -1001, -1006 or -1007
  is OutcomeUnknown on what may have changed something, Unavailable on a read.
- A connection that could not even be opened is Unavailable for both: nothing was sent.

Pure; core/binance_client.py brings the library's exceptions here. Codes: binance-spot-api-docs (errors.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import requests

from core.binance_transport import NotSent, never_connected, short, silence_s
from core.errors import AccessRefused, ClockRefused, ExchangeError, OrderNotFound, OutcomeUnknown, RateLimited, Refused, Unavailable

_UNKNOWN = frozenset({-1000, -1001, -1006, -1007})
_ACCESS = frozenset({-1002, -1022, -2014, -2015})
_NO_SUCH_ORDER = frozenset({-2011, -2013, -2026})
NO_SUCH_SYMBOL = frozenset({-1121, -1100})
_CLOCK = -1021


def refusal(status: int, code: int, text: str, headers: Mapping[str, str], *, order: bool) -> ExchangeError:
    """An answer that says no. `order`: the request may have changed something."""
    unknown = OutcomeUnknown if order else Unavailable
    if status in (418, 429):
        return RateLimited(text, silence_s(headers, text), code, status)
    if status >= 500 or status == 408 or code in _UNKNOWN:
        return unknown(f"HTTP {status}, code {code}: {text}", code, status)
    if code in _NO_SUCH_ORDER and "restrictions" not in text:
        return OrderNotFound(text, code, status)
    if code in _ACCESS:
        return AccessRefused(f"{text} (code {code})", code, status)
    if code == _CLOCK:
        return ClockRefused(text, code, status)
    if status == 403 and not order:
        return Unavailable(f"HTTP 403: {text}", code, status)
    return Refused(f"{text} (code {code})", code, status)


def failure(e: Exception, *, order: bool) -> ExchangeError:
    """A call that ended without an answer, or with one that can't be read. Our own errors are what they are."""
    unknown = OutcomeUnknown if order else Unavailable
    if isinstance(e, ExchangeError):
        return e
    if isinstance(e, NotSent) or (isinstance(e, requests.ConnectionError) and never_connected(e)):
        return Unavailable(f"not sent: {short(e)}")
    if isinstance(e, requests.RequestException):
        return unknown(short(e))
    return unknown(f"an answer that can't be read: {short(e)}")
