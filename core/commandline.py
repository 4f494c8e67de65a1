"""What all commands for people share: exit codes, an error in one line, JSON when they fail too, Ctrl-C. Owns no files.

| code | what it says |
|---|---|
| 0 | done, and nothing needs a look |
| 1 | something was found, or not all of it was done; the output says what |
| 2 | wrong arguments or settings, or what they name is not there; nothing was changed |
| 3 | it can't be done now: something doesn't answer, can't be read or written, or stands in the way |
| 4 | the strategy broke (backtest, optimize) |
| 130 | ended by Ctrl-C |

With `--json` a command prints one JSON document on standard output, whatever happens; a failure
is `{"success": false, "error": text}`. A person reads the same text on standard error.
A bot's own codes are another list (core/errors.py).
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from core.errors import BotyardError, Conflict, InputError, SettingsError, StrategyError
from core.model import HIGHEST_ID
from core.storage import dumps

DONE, FOUND, USAGE, NOT_NOW, BROKEN, INTERRUPTED = 0, 1, 2, 3, 4, 130
CODES = (
    "exit codes: 0 done; 1 something was found, or not all of it was done; 2 wrong arguments or settings, nothing was changed; "
    "3 it can't be done now; 130 ended by Ctrl-C"
)
FAILURES = (BotyardError, OSError, sqlite3.Error)  # what a command tells in a line; anything else is a bug


class _Wrong(Exception):
    def __init__(self, prog: str, text: str):
        self.prog, self.text = prog, text


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and with --json as JSON too; ends with 2. Subcommands' parsers are of this class as well."""

    def error(self, message: str) -> NoReturn:
        raise _Wrong(self.prog, message)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        given = list(sys.argv[1:] if args is None else args)
        try:
            return super().parse_args(given, namespace)
        except _Wrong as e:
            if "--json" in given:
                print(dumps({"success": False, "error": e.text}))
            print(f"{e.prog}: {e.text} ({e.prog} --help tells all)", file=sys.stderr)
            raise SystemExit(USAGE) from None


def bot_id(text: str) -> int:
    """A bot's number, for argparse."""
    if not text.isascii() or not text.isdigit() or len(text) > 30 or not 1 <= int(text) <= HIGHEST_ID:
        raise argparse.ArgumentTypeError(f"{text[:30]!r} must be a bot's number, a whole number from 1 to {HIGHEST_ID}")
    return int(text)


def code_of(problem: BaseException) -> int:
    """The exit code that belongs to a failure."""
    if isinstance(problem, Conflict):
        return NOT_NOW  # the input is fine, something stands in the way
    if isinstance(problem, InputError | SettingsError):
        return USAGE
    return BROKEN if isinstance(problem, StrategyError) else NOT_NOW


def text_of(problem: BaseException) -> str:
    """A failure in one line, with what would be right."""
    if isinstance(problem, SettingsError):
        return f"the settings are not right: {'; '.join(problem.problems)}"
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename or 'a file'}: {os.strerror(problem.errno or 0)}. Mend that (the disk, the rights), then try again"
    if isinstance(problem, sqlite3.Error):
        return f"a database can't be used now: {problem}. Try again in a moment"
    return " ".join(str(problem).split()) or type(problem).__name__


def fail(prog: str, problem: BaseException | str, as_json: bool, code: int | None = None, *, secrets: Iterable[str] = ()) -> int:
    """Tell a failure, on standard error and with `as_json` as JSON too; the exit code. `secrets` are cut out of the text."""
    text = problem if isinstance(problem, str) else text_of(problem)
    for secret in secrets:
        text = text.replace(secret, "***")
    if as_json:
        print(dumps({"success": False, "error": text}))
    print(f"{prog}: {text}", file=sys.stderr)
    if code is not None:
        return code
    return NOT_NOW if isinstance(problem, str) else code_of(problem)


def guarded(prog: str, as_json: bool, task: Callable[[], int], *, stopped: str = "") -> int:
    """Run it; its own exit code, or that of what kept it from being done. `stopped`: what to say after Ctrl-C.

    A closed pipe is nobody's failure: BrokenPipeError goes on to the caller."""
    try:
        return task()
    except KeyboardInterrupt:
        return fail(prog, stopped or "ended by Ctrl-C", as_json, INTERRUPTED)
    except BrokenPipeError:
        raise
    except FAILURES as e:
        return fail(prog, e, as_json)
