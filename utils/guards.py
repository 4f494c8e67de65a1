"""The guards of bots and accounts: limits, values now, what tripped; set limits, reset what tripped.

    python3 utils/guards.py                                            show everything
    python3 utils/guards.py set --account paper/main/USDT daily_loss_pct --soft 3 --hard 5
    python3 utils/guards.py set --bot 3 trades_per_day --soft 10       neither --soft nor --hard takes the limit away
    python3 utils/guards.py reset --bot 3 --limit drawdown_pct
    python3 utils/guards.py reset --account paper/main/USDT --limit all

Prices are those that the running bots tell. Exit codes: 0 done (show: nothing has tripped), 1 something
has tripped or the kill switch is on, 2 wrong arguments or settings, 3 a file can't be read or written,
130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages(("simplejson", "dotenv"))

import argparse
import contextlib
import getpass
from typing import Any

from core import commandline as words
from core import config
from core.account.limits import COUNTS, MOST
from core.account.members import account_scope
from core.errors import BotyardError, InputError, NotFound
from core.fleet import guarding
from core.model import plain
from core.storage import Files, dumps, installation


def parser() -> argparse.ArgumentParser:
    common = words.Parser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer as one JSON object")
    main = words.Parser(prog="guards.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[common])
    commands = main.add_subparsers(dest="command")
    commands.add_parser("show", parents=[common], help="limits, values now and trips (the default)")
    change = commands.add_parser("set", parents=[common], help="set or take away one limit of a bot or an account")
    reset = commands.add_parser("reset", parents=[common], help="take trips back and begin the measure anew")
    for one in (change, reset):
        which = one.add_mutually_exclusive_group(required=True)
        which.add_argument("--bot", type=words.bot_id, metavar="N", help="the bot's number")
        which.add_argument("--account", metavar="MODE/ACCOUNT/QUOTE", help="such as paper/main/USDT")
    change.add_argument("limit", choices=sorted(MOST))
    change.add_argument("--soft", metavar="LEVEL", help="from here on no entries")
    change.add_argument("--hard", metavar="LEVEL", help="from here on everything is sold")
    change.add_argument("--force", action="store_true", help="also for an account that no bot trades in")
    reset.add_argument("--limit", default="all", choices=["all", *sorted(MOST)], help="which limit (all)")
    main.set_defaults(json=False)
    return main


def main(argv: list[str]) -> int:
    given = parser().parse_args(argv)
    return words.guarded("guards.py", given.json, lambda: work(given))


def work(given: argparse.Namespace) -> int:
    settings = config.load()
    files = Files(settings.home)
    if given.command in (None, "show"):
        return show(files, given.json)
    scope = f"bot_{given.bot}" if given.bot is not None else given.account
    if given.command == "set":
        levels = {k: v for k, v in (("soft", given.soft), ("hard", given.hard)) if v is not None}
        before = guarding.limits_of(files, scope)
        warning = idle(files, settings, scope, given.force) if levels and given.account else ""
        now = guarding.set_limits(files, scope, {**before, given.limit: levels}, by())
        print(dumps({"scope": scope, "limits": now, "warning": warning or None}, indent=1) if given.json else f"{scope}: {dumps(now)}")
        if warning and not given.json:
            print(f"Mind: {warning}.")
        return words.DONE
    gone = guarding.reset(files, scope, given.limit, by())
    text = f"{scope}: {', '.join(gone)} had tripped and no longer holds." if gone else f"{scope}: nothing had tripped; the measure begins anew."
    print(dumps({"scope": scope, "reset": gone}, indent=1) if given.json else text)
    return words.DONE


def idle(files: Files, settings: config.Settings, scope: str, force: bool) -> str:
    """A warning where no bot is known to trade in this account. InputError where none can, unless forced: a limit on it would guard nothing."""
    known, maybe = guarding.traded(files, scope)
    if scope in known:
        return ""
    asked, left = quotes(files, settings, scope, maybe)
    known |= asked
    if scope in known:
        return ""
    if not left and not force:
        there = f"bots trade in {', '.join(sorted(known))}" if known else "there is no bot yet"
        raise InputError(f"no bot trades in {scope}, so a limit there would guard nothing; {there}. Correct it, or add --force")
    bots = f" (bot {', '.join(map(str, left))} may: the exchange can't be asked now)" if left else ""
    return f"no bot is known to trade in {scope}{bots}; until one does, this limit guards nothing"


def quotes(files: Files, settings: config.Settings, scope: str, bots: dict[int, str]) -> tuple[set[str], list[int]]:
    """(the accounts that these bots trade in by their symbols, as the exchange tells; the bots of which it can't tell)."""
    if not bots:
        return set(), []
    ensure_packages()  # only this asks the exchange
    from core.account import access

    mode, account, _ = scope.split("/")
    found: dict[str, str] = {}
    with contextlib.suppress(BotyardError):
        exchange = access.client(settings, mode, public=True, sleep=lambda _: None)  # type: ignore[arg-type]
        exchange.connect(installation(files))
        for name in sorted(set(bots.values())):
            with contextlib.suppress(NotFound):
                found[name] = account_scope(mode, account, exchange.symbol(name).quote)
    return set(found.values()), [i for i, name in bots.items() if name not in found]


def show(files: Files, as_json: bool) -> int:
    found = guarding.view(files)
    if as_json:
        print(dumps(found, indent=1))
    else:
        tell(found)
    if found["error"]:
        return words.NOT_NOW
    return words.FOUND if found["switch"] or any(s["trips"] for s in found["scopes"]) else words.DONE


def tell(found: dict[str, Any]) -> None:
    if found["error"]:
        print(f"The guards can't be told in full: {found['error']}")
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
