"""Ways to reach a person. One small file each; this one says what each must be able to do.

A new channel is a class with the members of `Channel`, and a line in `KNOWN`. It imports
its client library in its constructor: only the process that sends makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from core.config import Settings

# sent: the service has taken it. later: it has not, try again. refused: it has not, and the same
# text or number won't be taken. access: it has not, keys are wrong. unknown: it may have it or not.
Result = Literal["sent", "later", "refused", "access", "unknown"]
# cannot: this service has no way to look a message up.
Finding = Literal["found", "absent", "unknown", "cannot"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `why` is for people and holds no secret; `retry_after_s` is the service's word."""

    result: Result
    why: str = ""
    retry_after_s: float = 0.0


class Channel(Protocol):
    @property
    def name(self) -> str: ...

    def send(self, text: str, ref: str) -> Outcome:
        """Hand a message over. `ref`, its short code, goes out with it, so that `find` can tell it. Never raises."""

    def find(self, ref: str, since_ms: int) -> Finding:
        """Whether the service has a message with this code, first tried at `since_ms` (wall). Changes nothing, never raises."""

    def probe(self) -> Outcome:
        """Whether the keys are accepted; sends nothing, never raises."""


def _sms(settings: Settings) -> Channel:
    from core.notify.channels.sms import Sms

    return Sms(settings)


def _telegram(settings: Settings) -> Channel:
    from core.notify.channels.telegram import Telegram

    return Telegram(settings)


@dataclass(frozen=True, slots=True)
class Kind:
    """A channel before it is made: its name, the settings it needs, how to make it."""

    name: str
    needs: tuple[str, ...]
    make: Callable[[Settings], Channel]

    def ready(self, settings: Settings) -> list[str]:
        """The settings that are missing; empty when it can be used."""
        return [n for n in self.needs if not getattr(settings, n.lower())]

    def begun(self, settings: Settings) -> bool:
        """Some of its settings are there: somebody means to use it."""
        return len(self.ready(settings)) < len(self.needs)


KNOWN: tuple[Kind, ...] = (
    Kind("SMS", ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM", "SMS_TO"), _sms),
    Kind("Telegram", ("TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID"), _telegram),
)


def names(settings: Settings) -> list[str]:
    """The channels that are set up."""
    return [k.name for k in KNOWN if not k.ready(settings)]


def build(settings: Settings) -> Mapping[str, Channel]:
    """Every channel that is set up, by name; this imports their libraries."""
    return {k.name: k.make(settings) for k in KNOWN if not k.ready(settings)}


def network(e: Exception, who: str) -> Outcome:
    """What an exception of `requests` says of an attempt.

    Only a connection that was never made is known to have carried nothing. The exception's
    own text is not passed on: it holds the URL, and some URLs hold keys."""
    from requests.exceptions import ConnectionError as Lost
    from requests.exceptions import ConnectTimeout, ReadTimeout, RequestException
    from urllib3.exceptions import NewConnectionError

    if isinstance(e, ConnectTimeout):
        return Outcome("later", f"{who} could not be reached in time")
    if isinstance(e, ReadTimeout):
        return Outcome("unknown", f"{who} did not answer in time")
    if isinstance(e, Lost):
        inner = e.args[0] if e.args else None
        reason = getattr(inner, "reason", inner)
        reason = getattr(reason, "original_error", reason)  # of a proxy
        if isinstance(reason, NewConnectionError):  # a name that can't be resolved is one of these
            return Outcome("later", f"{who} can't be reached")
        if "CERTIFICATE_VERIFY_FAILED" in repr(reason):
            return Outcome("later", f"{who}'s certificate was not accepted")
        return Outcome("unknown", f"the connection to {who} broke")
    if isinstance(e, RequestException | ValueError):
        return Outcome("unknown", f"{who}'s answer could not be read ({type(e).__name__})")
    return Outcome("unknown", f"{who}: {type(e).__name__}")
