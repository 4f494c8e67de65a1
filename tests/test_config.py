"""Settings: every problem at once, the environment first, secrets nowhere."""

from __future__ import annotations

import copy
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import pytest

from core import config
from core.config import Secret, load
from core.errors import SettingsError


def test_every_problem_is_listed_at_once_with_its_name_and_what_would_be_right(home: Path) -> None:
    wrong = {
        "TRADING_MODE": "real",
        "HTTP_TIMEOUT": "NaN",
        "RECV_WINDOW": "5000.5",
        "STOP_LOSS_PCT": "-1",
        "KLINE_INTERVAL": "7m",
        "CHECK_INTERVAL": "0",
        "BINANCE_URL": "ftp://x",
        "STRICT_POTS": "perhaps",
        "PAPER_START": "yesterday",
    }
    with pytest.raises(SettingsError) as e:
        load({"BOTYARD_HOME": str(home), **wrong})
    assert {p.split(":")[0] for p in e.value.problems} == set(wrong)
    assert all("must be" in p for p in e.value.problems)


def test_what_only_shows_side_by_side_is_found(home: Path) -> None:
    with pytest.raises(SettingsError) as e:
        load({"BOTYARD_HOME": str(home), "DASHBOARD_HOST": "0.0.0.0", "PAPER_PORT": "5001", "PAPER_MARKET": "binance", "PAPER_SPEED": "2"})
    assert {p.split(":")[0] for p in e.value.problems} == {"DASHBOARD_PASSWORD", "PAPER_PORT", "PAPER_SPEED"}


def test_the_environment_wins_over_the_file_and_defaults_stand_for_the_rest(home: Path) -> None:
    (home / ".env").write_text("CHECK_INTERVAL=60\nRISK_INTERVAL=7\nBINANCE_API_KEY=$HOME\n")
    before = dict(os.environ)
    settings = load({"BOTYARD_HOME": str(home), "CHECK_INTERVAL": "90"})
    assert (settings.check_interval, settings.risk_interval, settings.kline_limit) == (90, 7, 100)
    assert settings.binance_api_key.reveal() == "$HOME", "nothing in it is expanded"
    assert dict(os.environ) == before, "children read the file themselves"


def test_an_empty_value_is_the_default_and_spaces_are_cut(home: Path) -> None:
    settings = load({"BOTYARD_HOME": str(home), "CHECK_INTERVAL": "", "PAPER_PORT": " 9001 "})
    assert (settings.check_interval, settings.paper_port) == (900, 9001)


def test_a_home_that_is_none_and_a_file_that_is_no_text_are_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(SettingsError, match="BOTYARD_HOME"):
        load({"BOTYARD_HOME": str(tmp_path / "none")})
    (home / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="text file"):
        load({"BOTYARD_HOME": str(home)})


def test_a_secret_shows_itself_nowhere_but_where_it_is_asked(home: Path) -> None:
    settings = load({"BOTYARD_HOME": str(home), "BINANCE_API_SECRET": "hush-hush"})
    secret = settings.binance_api_secret
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{secret!r}", "%s" % secret, "".join([secret]), json.dumps({"s": secret})]  # noqa: UP031
    shown += [repr(settings), str(asdict(settings)), json.dumps(asdict(settings), default=str), repr(pickle.dumps(settings)), repr(copy.deepcopy(settings))]
    shown += [secret + "", secret[:], secret.upper(), repr(secret.encode()), repr({secret: 1}), repr([secret])]
    assert not any("hush" in text.lower() for text in shown)
    assert secret.reveal() == "hush-hush"
    assert settings.secrets() == ["hush-hush"]
    assert settings.keys("live") == ("", "hush-hush")


def test_a_secret_that_is_wrong_is_not_quoted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> Secret:
        raise ValueError("something else")

    field = next(f for f in config.fields(config.Settings) if f.name == "binance_api_key")
    monkeypatch.setattr(config, "_secret", refuse)
    monkeypatch.setattr(field, "metadata", {**field.metadata, "check": refuse})
    with pytest.raises(SettingsError) as e:
        load({"BOTYARD_HOME": str(home), "BINANCE_API_KEY": "hush-hush"})
    assert "hush" not in str(e.value)


def test_secrets_are_equal_by_what_they_hold_and_empty_ones_are_false() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret() and Secret("a")


@pytest.mark.parametrize(
    ("text", "ms"),
    [("2021-02-10", 1612915200000), ("2021-02-10T05:00", 1612933200000), ("2021-02-10T05:00+05:00", 1612915200000), ("1612915200000", 1612915200000)],
)
def test_market_times_are_utc(text: str, ms: int) -> None:
    assert config.market_time(text) == ms
