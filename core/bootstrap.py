"""Makes sure that the packages are there before anything heavy is imported.

Standard library only, and in words that an old Python reads too: this is the first thing
that `integrated_trader.py`, `simple_dash.py` and the commands in utils/ import. So it is also the one
place that makes their output last longer than its reader (`| head`).
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV_PYTHON = os.path.join(ROOT, ".venv", "bin", "python")
NEEDED = ("simplejson", "dotenv", "aiohttp", "binance", "flask", "waitress", "pandas", "numpy", "ta", "yaml")
_MARK = "BOTYARD_IN_VENV"  # set for the second try, so that there is never a third


def missing(names: tuple[str, ...] = NEEDED) -> list[str]:
    """Those of the packages that this Python doesn't have (found, not imported)."""
    return [name for name in names if importlib.util.find_spec(name) is None]


class _Lasting(io.FileIO):
    """Standard output that swallows what comes after its reader has gone: what a command does goes on, in silence.

    A BrokenPipeError in the middle would leave bots unsold and a backup half written."""

    gone = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            _Lasting.gone = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def lasting_output() -> None:
    """Have this process's standard output last longer than whoever reads it. What others put in its place is left alone."""
    out: Any = sys.stdout
    own = sys.__stdout__ is not None and sys.stdout is sys.__stdout__
    if not own or isinstance(getattr(getattr(out, "buffer", None), "raw", None), _Lasting):
        return
    try:
        out.flush()
        raw = _Lasting(out.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return
    at_once = bool(getattr(out, "write_through", False))
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(  # type: ignore[misc]
        io.BufferedWriter(raw), encoding=out.encoding, errors=out.errors, line_buffering=out.line_buffering, write_through=at_once
    )


def reader_gone() -> bool:
    """Whether nobody reads this process's standard output any more, as far as it has found out: reason to end for who only shows."""
    return _Lasting.gone


def _told(kind, value, trace):  # type: ignore[no-untyped-def]
    """Ctrl-C while packages are being imported is no bug to be shown; the shell sees 130 all the same."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("ended by Ctrl-C\n")
    else:
        sys.__excepthook__(kind, value, trace)


def ensure_packages(names: tuple[str, ...] = NEEDED) -> None:
    """Return when the packages are there; else go on under .venv's Python, or say what to do and exit 2."""
    lasting_output()
    sys.excepthook = _told
    old = sys.version_info < (3, 11)
    absent = [] if old else missing(names)
    if not old and not absent:
        os.environ.pop(_MARK, None)
        return
    if os.path.exists(VENV_PYTHON) and os.environ.get(_MARK) != "1":
        os.environ[_MARK] = "1"
        arguments = getattr(sys, "orig_argv", None)  # keeps -m and its module; Python 3.10 and newer
        arguments = list(arguments[1:]) if arguments else list(sys.argv)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(VENV_PYTHON, [VENV_PYTHON, *arguments])  # noqa: S606 - no shell is what is wanted
    what = "Python {}.{} is too old, 3.11 or newer is needed".format(*sys.version_info[:2]) if old else "packages are missing: " + ", ".join(absent)
    sys.stderr.write("Botyard can't start: {}. Run {} once, it sets everything up.\n".format(what, os.path.join(ROOT, "start.sh")))
    sys.exit(2)
