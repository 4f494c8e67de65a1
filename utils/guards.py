"""The guards of bots and accounts: limits, values now, what tripped; set limits, reset what tripped.

    python3 utils/guards.py                                            show everything
    python3 utils/guards.py set --account paper/main/USDT daily_loss_pct --soft 3 --hard 5
    python3 utils/guards.py set --bot 3 trades_per_day --soft 10       neither --soft nor --hard takes the limit away
    python3 utils/guards.py reset --bot 3 --limit drawdown_pct
    python3 utils/guards.py reset --account paper/main/USDT --limit all

Prices are those that the running bots tell. Exit codes: 0 done (show: nothing has tripped), 1 something
has tripped or the kill switch is on, 2 usage, settings or a refusal, 3 a file can't be read or written.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv"))

import argparse
import getpass
from typing import Any

from core import config
from core.account.limits import COUNTS, MOST
from core.errors import BotyardError, InputError, SettingsError
from core.fleet import guarding
from core.model import plain
from core.storage import Files, dumps

DONE, TRIPPED, USAGE, FAILED = 0, 1, 2, 3


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as one JSON object")
    main = argparse.ArgumentParser(prog="guards.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[common])
    commands = main.add_subparsers(dest="command")
    commands.add_parser("show", parents=[common], help="limits, values now and trips (the default)")
    change = commands.add_parser("set", parents=[common], help="set or take away one limit of a bot or an account")
    reset = commands.add_parser("reset", parents=[common], help="take trips back and begin the measure anew")
    for one in (change, reset):
        which = one.add_mutually_exclusive_group(required=True)
        which.add_argument("--bot", type=int, metavar="N", help="the bot's number")
        which.add_argument("--account", metavar="MODE/ACCOUNT/QUOTE", help="such as paper/main/USDT")
    change.add_argument("limit", choices=sorted(MOST))
    change.add_argument("--soft", metavar="LEVEL", help="from here on no entries")
    change.add_argument("--hard", metavar="LEVEL", help="from here on everything is sold")
    reset.add_argument("--limit", default="all", choices=["all", *sorted(MOST)], help="which limit (all)")
    main.set_defaults(json=False)
    return main


def main(argv: list[str]) -> int:
    given = parser().parse_args(argv)
    try:
        settings = config.load()
    except SettingsError as e:
        print("The settings are not right:", *e.problems, sep="\n  ", file=sys.stderr)
        return USAGE
    files = Files(settings.home)
    try:
        if given.command in (None, "show"):
            return show(files, given.json)
        scope = f"bot_{given.bot}" if given.bot is not None else given.account
        if given.command == "set":
            levels = {k: v for k, v in (("soft", given.soft), ("hard", given.hard)) if v is not None}
            now = guarding.set_limits(files, scope, {**guarding.limits_of(files, scope), given.limit: levels}, by())
            print(dumps({"scope": scope, "limits": now}, indent=1) if given.json else f"{scope}: {dumps(now)}")
            return DONE
        gone = guarding.reset(files, scope, given.limit, by())
        text = f"{scope}: {', '.join(gone)} had tripped and no longer holds." if gone else f"{scope}: nothing had tripped; the measure begins anew."
        print(dumps({"scope": scope, "reset": gone}, indent=1) if given.json else text)
        return DONE
    except InputError as e:
        print(f"Nothing was changed: {e}", file=sys.stderr)
        return USAGE
    except (BotyardError, OSError) as e:
        print(f"It can't be done now: {e}", file=sys.stderr)
        return FAILED


def show(files: Files, as_json: bool) -> int:
    found = guarding.view(files)
    if as_json:
        print(dumps(found, indent=1))
    else:
        tell(found)
    if found["error"]:
        return FAILED
    return TRIPPED if found["switch"] or any(s["trips"] for s in found["scopes"]) else DONE


def tell(found: dict[str, Any]) -> None:
    if found["error"]:
        print(f"Nothing is bought: {found['error']}")
    if found["switch"]:
        print(f"The kill switch is on ({found['switch']['what']}), by {found['switch']['by']}.")
    if not found["scopes"] and not found["error"]:
        print("No limits are set. See --help for how to set one.")
    for scope in found["scopes"]:
        print(f"{scope['scope']}" + (f"  ({scope['problem']})" if scope["problem"] else ""))
        for row in scope["rows"]:
            unit = "" if row["limit"] in COUNTS else " %"
            name = row["limit"] + (f" {row['coin']}" if row["coin"] else "")
            value = "not known" if row["value"] is None else plain(row["value"]) + unit
            share = "" if row["percent_of_level"] is None else f"{plain(row['percent_of_level'])} % of it"
            levels = ", ".join(f"{level} {plain(row[level])}{unit}" for level in ("soft", "hard") if row[level] is not None)
            print(f"  {name:<26.26} {value:>14}   {levels:<28} {share:<16} {'' if row['level'] == 'ok' else row['level'].upper()}")
        for trip in scope["trips"]:
            print(f"  TRIPPED {trip['level']}: {trip['text']}")


def by() -> str:
    try:
        return f"{getpass.getuser()}, utils/guards.py"
    except (KeyError, OSError):
        return "utils/guards.py"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
