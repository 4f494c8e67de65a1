"""The bot's log as people and scripts read it: the form of a line, what is cut out of it, rotation under `tail -f`."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.bot import botlog
from dash_yard import until

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d - (DEBUG|INFO|WARNING|ERROR) - .*")


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger of its own with the bot's file handler: `open_log` would take over the tests' stderr."""
    logger = logging.getLogger(f"test.{tmp_path.name}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    file = botlog._File(tmp_path / "bot_1.log", limit=3000)
    file.setFormatter(botlog._Format(["s3cret-key"], colours=False))
    logger.addHandler(file)
    yield logger
    logger.removeHandler(file)


def shown(out: Path, text: str) -> None:
    until(lambda: text in out.read_text())


def test_a_message_stays_on_one_line_of_the_contracts_form(handler: logging.Logger, tmp_path: Path) -> None:
    handler.info("a strategy says\n2024-01-01 00:00:00 - ERROR - \x1b[31mforged\r\x00 %s", "s3cret-key")
    (line,) = (tmp_path / "bot_1.log").read_text().splitlines()
    assert LINE.fullmatch(line) and " - INFO - a strategy says 2024" in line
    assert "\x1b" not in line and "\x00" not in line and line.endswith("***")


def test_the_lines_of_an_exception_stand_indented_below_its_message(handler: logging.Logger, tmp_path: Path) -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        handler.exception("it broke")
    first, *rest = (tmp_path / "bot_1.log").read_text().splitlines()
    assert LINE.fullmatch(first) and rest and all(line.startswith("    ") for line in rest)


def test_a_log_that_somebody_deleted_is_begun_anew(handler: logging.Logger, tmp_path: Path) -> None:
    handler.info("before")
    (tmp_path / "bot_1.log").unlink()
    handler.info("after")
    handler.info("and on")
    assert [line.rpartition(" - ")[2] for line in (tmp_path / "bot_1.log").read_text().splitlines()] == ["after", "and on"]


@pytest.mark.skipif(shutil.which("tail") is None, reason="there is no tail here")
def test_tail_goes_on_through_a_rotation(handler: logging.Logger, tmp_path: Path) -> None:
    path, out = tmp_path / "bot_1.log", tmp_path / "seen"
    with out.open("w") as seen:
        reader = subprocess.Popen(["tail", "-n", "+1", "-f", str(path)], stdout=seen, stderr=subprocess.DEVNULL)
        try:
            number = 0
            while not path.with_name("bot_1.log.2").exists():  # twice
                number += 1
                handler.info("line %d, long enough to fill a file of three thousand bytes before long", number)
                shown(out, f"line {number},")
            shown(out, f"line {number},")
        finally:
            reader.terminate()
            reader.wait()
    assert [f"line {n}," in out.read_text() for n in range(1, number + 1)] == [True] * number
