"""A bot's log: `bot_N.log` and the terminal that `screen -r` shows, the same lines.

Lines are `YYYY-MM-DD HH:MM:SS - LEVEL - message` in UTC wall time; colours on the terminal
only. Rotation copies and truncates, so that `tail -f` goes on. Text from users, strategies
and exchanges loses its control characters; secrets are cut out wherever they turn up.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import shutil
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

from core.model import Rules, plain

MAX_BYTES = 5_000_000
KEEP = 3

_COLOURS = {logging.DEBUG: "\x1b[2m", logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31;1m"}


def clean(text: str) -> str:
    """One line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


class _Format(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self, secrets: list[str], colours: bool):
        super().__init__("%(asctime)s - %(levelname)s - %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets, self._colours = sorted(secrets, key=len, reverse=True), colours

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Before an exception's lines are put below it: a line break in someone's text must not begin a line.
        return clean(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        lines = [clean(part) for part in super().format(record).split("\n")]
        text = "\n    ".join(lines)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if self._colours and (colour := _COLOURS.get(record.levelno)):
            return f"{colour}{text}\x1b[0m"
        return text


class _File(logging.Handler):
    """Appends; past `limit` bytes it copies the file to .1 and truncates it in place."""

    def __init__(self, path: Path, limit: int = MAX_BYTES, keep: int = KEEP):
        super().__init__()
        self.path, self.limit, self.keep = path, limit, keep
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @property
    def fd(self) -> int:
        return self._fd

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Before a line, not after one: whoever follows the file has had time to read the last.
            told = os.fstat(self._fd)
            if not told.st_nlink:
                self._anew()
            elif told.st_size > self.limit:
                self._rotate()
            os.write(self._fd, (self.format(record) + "\n").encode("utf-8", "replace"))
        except OSError:
            pass  # a full disk must not end a bot that guards a position; the terminal still shows the line

    def _anew(self) -> None:
        """Somebody deleted the file: what is written from here on would be lost. Under the same number, which others hold."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with contextlib.suppress(OSError):  # stderr may be closed
            if os.path.sameopenfile(self._fd, 2):
                os.dup2(fd, 2)
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def _rotate(self) -> None:
        for n in range(self.keep - 1, 0, -1):
            old = self.path.with_name(f"{self.path.name}.{n}")
            if old.exists():
                os.replace(old, self.path.with_name(f"{self.path.name}.{n + 1}"))
        shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        os.ftruncate(self._fd, 0)


class _Terminal(logging.Handler):
    """Writes from a thread of its own: a terminal that stands still (flow control, a slow
    line) must not hold up a bot. Lines that find no room are dropped; the file has them."""

    def __init__(self) -> None:
        super().__init__()
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="replace", buffering=1)
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=2000)
        self._thread = threading.Thread(target=self._write, name="terminal", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(self.format(record) + "\n")

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._out.write(line)
            except OSError:
                return  # the terminal is gone

    def close(self) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(0.5)
        super().close()


def open_log(path: Path, level: str, secrets: list[str] | None = None, *, limit: int = MAX_BYTES) -> logging.Logger:
    """The bot's logger, on file and terminal; stderr and faulthandler write into the file too."""
    logger = logging.getLogger("botyard")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(level)
    file = _File(path, limit)
    file.setFormatter(_Format(secrets or [], colours=False))
    logger.addHandler(file)
    terminal = _Terminal()
    terminal.setFormatter(_Format(secrets or [], colours=sys.stdout.isatty()))
    logger.addHandler(terminal)
    faulthandler.enable(file=file.fd)
    with contextlib.suppress(OSError, ValueError):
        # What libraries print to stderr, and a traceback nobody caught, must not vanish with the session.
        os.dup2(file.fd, sys.stderr.fileno())
    return logger


def set_secrets(logger: logging.Logger, secrets: list[str]) -> None:
    for handler in logger.handlers:
        if isinstance(handler.formatter, _Format):
            handler.formatter._secrets = sorted(secrets, key=len, reverse=True)


def money(price: Decimal, rules: Rules | None = None) -> str:
    """A price for people: the tick's decimals, two at least."""
    decimals = max(2, -int(rules.tick.normalize().as_tuple().exponent)) if rules and rules.tick else 2
    return f"{price:.{decimals}f}"


def signed_pct(value: Decimal) -> str:
    return f"{value:+.2f}%"


def amount(value: Decimal) -> str:
    return plain(value)
