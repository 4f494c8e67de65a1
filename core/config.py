"""Settings from `.env` and the environment, checked once, secrets hidden.

`.env` is read from BOTYARD_HOME, else from the project's root; the environment wins.
Nothing is written back into the environment, so that a child reads the file itself and
an edit counts at its next start. `load()` lists every problem at once.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.errors import SettingsError
from core.model import MODES, Mode

ROOT = Path(__file__).resolve().parent.parent
_PROJECTS_OWN = ROOT / ".env"
TIMEFRAMES = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")


class Secret(str):
    """A string that shows itself only when asked by `reveal()`."""

    def __new__(cls, value: str = "") -> Secret:
        self = super().__new__(cls, "***" if value else "")
        self._value = value
        return self

    _value: str

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __ne__(self, other: object) -> bool:
        return not self == other  # str brings its own, which would compare the asterisks

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self._value else "Secret('')"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Secret, ("",))  # a pickled copy carries nothing


def _text(value: str) -> str:
    return value


def _secret(value: str) -> Secret:
    return Secret(value)


def _switch(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False, "": False}
    try:
        return known[value.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _number(low: str | None = None, high: str | None = None, *, above: str | None = None) -> Callable[[str], Decimal]:
    limits = [f"above {above}" if above is not None else "", f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else ""]
    wanted = " ".join(["a number", *filter(None, limits)])

    def check(value: str) -> Decimal:
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValueError(wanted) from None
        if (
            not number.is_finite()
            or (low is not None and number < Decimal(low))
            or (high is not None and number > Decimal(high))
            or (above is not None and number <= Decimal(above))
        ):
            raise ValueError(wanted)
        return number

    return check


def _whole(low: int, high: int) -> Callable[[str], int]:
    def check(value: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(value)

    return check


def _optional(inner: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda value: inner(value) if value else None


def _one_of(*choices: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return value

    return check


def _url(value: str) -> str:
    if value:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a URL such as https://api.example.com, or empty")
    return value.rstrip("/")


def _prefix(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,20}", value):
        raise ValueError("at most 20 letters, digits, - or _")
    return value


def _tld(value: str) -> str:
    if not re.fullmatch(r"[a-z.]{2,10}", value):
        raise ValueError("com, us or another ending of Binance's host")
    return value


def _host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:\-]{1,253}", value):
        raise ValueError("an address such as 127.0.0.1")
    return value


def market_time(value: str) -> int:
    """`2021-02-10`, `2021-02-10T05:00`, `... Z` or ms since the epoch, as ms (UTC)."""
    from datetime import UTC, datetime

    if re.fullmatch(r"\d{11,14}", value):
        return int(value)
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("a UTC time such as 2024-01-31 or 2024-01-31T12:00, or ms since 1970") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return int(moment.timestamp() * 1000)


def _setting(default: str, check: Callable[[str], Any], help: str) -> Any:  # noqa: A002 - the word that people expect
    return field(default=None, metadata={"default": default, "check": check, "help": help})


@dataclass(frozen=True)
class Settings:
    """Every setting, in lower case, checked. `home` is BOTYARD_HOME."""

    home: Path = ROOT
    trading_mode: Mode = _setting("paper", _one_of(*MODES), "the highest mode any bot may have: paper, testnet or live")
    log_level: str = _setting("INFO", lambda v: _one_of("DEBUG", "INFO", "WARNING", "ERROR")(v.upper()), "DEBUG, INFO, WARNING or ERROR")
    http_timeout: Decimal = _setting("10", _number(above="0", high="120"), "seconds to wait for an exchange's answer")
    recv_window: int = _setting("5000", _whole(1, 60000), "ms for which the exchange may accept a request")
    session_prefix: str = _setting("", _prefix, "put before the screen sessions' names, where two yards share a host")
    dashboard_host: str = _setting("127.0.0.1", _host, "address of the page; another than loopback needs DASHBOARD_PASSWORD")
    dashboard_port: int = _setting("5001", _whole(1, 65535), "port of the page")
    dashboard_user: str = _setting("admin", _text, "name for the page's login")
    dashboard_password: Secret = _setting("", _secret, "password for the page's login; empty: no login (loopback only)")
    binance_api_key: Secret = _setting("", _secret, "Binance key, for live")
    binance_api_secret: Secret = _setting("", _secret, "Binance secret, for live")
    binance_testnet_api_key: Secret = _setting("", _secret, "key from testnet.binance.vision")
    binance_testnet_api_secret: Secret = _setting("", _secret, "secret from testnet.binance.vision")
    binance_tld: str = _setting("com", _tld, "ending of Binance's host: com, us")
    binance_url: str = _setting("", _url, "another address for Binance's REST API; empty: Binance's own")
    binance_testnet_url: str = _setting("", _url, "another address for the testnet; empty: Binance's own")
    check_interval: int = _setting("900", _whole(1, 604800), "seconds between a bot's checks")
    kline_interval: str = _setting("5m", _one_of(*TIMEFRAMES), "timeframe of a bot's candles")
    kline_limit: int = _setting("100", _whole(2, 1000), "candles a strategy is given; its warm-up raises it")
    risk_interval: int = _setting("5", _whole(1, 3600), "seconds between looks at stop and target")
    stop_loss_pct: Decimal = _setting("2", _number(above="0", high="99"), "stop loss, percent below the entry")
    take_profit_pct: Decimal = _setting("5", _number(above="0", high="10000"), "take profit, percent above the entry")
    strict_pots: bool = _setting("false", _switch, "refuse to start a bot when the bots' pots exceed the balance")
    paper_port: int = _setting("8750", _whole(1, 65535), "port of the paper exchange (loopback)")
    paper_market: str = _setting(
        "synthetic", _one_of("synthetic", "replay", "binance"), "where the paper exchange's prices come from: synthetic, replay, binance"
    )
    paper_data: str = _setting("", _text, "folder of candle files, for PAPER_MARKET=replay")
    paper_start: int | None = _setting("", _optional(market_time), "market time at which a new paper market begins, e.g. 2024-01-31")
    paper_speed: Decimal = _setting("1", _number(low="0", high="100000"), "market seconds per second; 1 with PAPER_MARKET=binance")
    paper_seed: int = _setting("1", _whole(0, 2**63 - 1), "seed of the synthetic market")
    paper_balance_usdt: Decimal = _setting("10000", _number(low="0", high="1000000000000"), "USDT in the paper account at its start")
    paper_slippage_pct: Decimal = _setting("0", _number(low="0", high="50"), "percent by which a paper market order fills worse than the last price")
    notify_paper: bool = _setting("false", _switch, "send SMS for paper bots too")
    twilio_account_sid: str = _setting("", _text, "Twilio account, for SMS")
    twilio_auth_token: Secret = _setting("", _secret, "Twilio token")
    twilio_from: str = _setting("", _text, "number that Twilio sends from")
    sms_to: str = _setting("", _text, "your number")
    sms_summary_hours: Decimal = _setting("6", _number(above="0", high="168"), "hours between SMS summaries")
    telegram_bot_token: Secret = _setting("", _secret, "Telegram bot token")
    telegram_chat_id: str = _setting("", _text, "Telegram chat")
    openai_api_key: Secret = _setting("", _secret, "OpenAI key, for the news strategy")
    openai_base_url: str = _setting("", _url, "another address that speaks OpenAI's API, such as a local model")
    openai_model: str = _setting("gpt-4o-mini", _text, "model for the news strategy")
    cryptonews_api_key: Secret = _setting("", _secret, "CryptoNews key, for the news strategy")

    @property
    def paper_url(self) -> str:
        return f"http://127.0.0.1:{self.paper_port}"

    def keys(self, mode: Mode) -> tuple[str, str]:
        """API key and secret of a mode, revealed; for the client that signs with them only."""
        if mode == "paper":
            return "paper", "paper"
        if mode == "testnet":
            return self.binance_testnet_api_key.reveal(), self.binance_testnet_api_secret.reveal()
        return self.binance_api_key.reveal(), self.binance_api_secret.reveal()

    def secrets(self) -> list[str]:
        """Every secret's text, so that logs can cut them out."""
        return [v.reveal() for f in fields(self) if isinstance(v := getattr(self, f.name), Secret) and len(v.reveal()) >= 4]

    @property
    def dashboard_is_local(self) -> bool:
        return is_loopback(self.dashboard_host)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names() -> dict[str, tuple[str, str]]:
    """Every setting's name with its default and help, in order: what .env.example must have."""
    return {f.name.upper(): (f.metadata["default"], f.metadata["help"]) for f in fields(Settings) if f.metadata}


def env_file(home: Path) -> Path:
    """The `.env` that counts: the home's, else the project's. It need not be there."""
    own = home / ".env"
    return own if home != ROOT and own.is_file() else _PROJECTS_OWN


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings, or SettingsError with every problem, each with its name and what would be right."""
    from dotenv import dotenv_values

    env = dict(os.environ if environment is None else environment)
    home_text = env.get("BOTYARD_HOME", "").strip()
    home = Path(home_text).expanduser().resolve() if home_text else ROOT
    problems: list[str] = []
    if not home.is_dir():
        raise SettingsError(f"BOTYARD_HOME: {home} is not a folder; create it, or leave BOTYARD_HOME empty")
    file = env_file(home)
    values: dict[str, str | None] = {}
    if file.is_file():
        try:
            values = dict(dotenv_values(file, interpolate=False))
        except (OSError, UnicodeDecodeError) as e:
            raise SettingsError(f"{file}: can't be read ({e}); it must be a text file that you may read") from e
    found: dict[str, Any] = {}
    for f in fields(Settings):
        if not f.metadata:
            continue
        name = f.name.upper()
        raw = env.get(name)
        if raw is None:
            raw = values.get(name)
        raw = (raw or "").strip()
        check = f.metadata["check"]
        try:
            found[f.name] = check(raw if raw else f.metadata["default"])
        except ValueError as e:
            shown = "its value" if check is _secret else repr(raw[:60])
            problems.append(f"{name}: {shown} is not right; it must be {e}")
    if not problems:
        settings = Settings(home=home, **found)
        problems = _together(settings)
        if not problems:
            return settings
    raise SettingsError(problems)


def _together(s: Settings) -> list[str]:
    """What only shows when settings are seen side by side."""
    problems = []
    if s.paper_market == "binance" and s.paper_speed != 1:
        problems.append("PAPER_SPEED: must be 1 with PAPER_MARKET=binance: the real market's time can't be moved")
    if s.paper_market == "replay" and not s.paper_data:
        problems.append("PAPER_DATA: must name the folder of candle files with PAPER_MARKET=replay")
    if not s.dashboard_is_local and not s.dashboard_password:
        problems.append(f"DASHBOARD_PASSWORD: must be set, because DASHBOARD_HOST is {s.dashboard_host}, which others can reach")
    if s.paper_port == s.dashboard_port:
        problems.append("PAPER_PORT: must differ from DASHBOARD_PORT")
    return problems
