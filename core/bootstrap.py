"""Makes sure that the packages are there before anything heavy is imported.

Standard library only, and in words that an old Python reads too: this is the first thing
that `integrated_trader.py`, `simple_dash.py` and the commands in utils/ import.
"""

from __future__ import annotations

import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV_PYTHON = os.path.join(ROOT, ".venv", "bin", "python")
NEEDED = ("simplejson", "dotenv", "aiohttp", "binance", "flask", "waitress", "pandas", "numpy", "ta", "yaml")
_MARK = "BOTYARD_IN_VENV"  # set for the second try, so that there is never a third


def missing(names: tuple[str, ...] = NEEDED) -> list[str]:
    """Those of the packages that this Python doesn't have (found, not imported)."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def ensure_packages(names: tuple[str, ...] = NEEDED) -> None:
    """Return when the packages are there; else go on under .venv's Python, or say what to do and exit 2."""
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
