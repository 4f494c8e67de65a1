"""What an account holds, and whose it is: coins per bot, what nobody claims, pots, orders of others.

    python3 utils/holdings.py                       the table; --mode testnet, --json for scripts
    python3 utils/holdings.py pot 3 +100            top the pot of bot 3 up by 100 of its quote asset
    python3 utils/holdings.py pot 3 -50             pay 50 out of it (profit first)
    python3 utils/holdings.py cancel-orphan ID --yes   take back an order of this yard that no bot knows

Nothing is bought or sold. Exit codes: 0 done (and nothing needs a look), 1 something needs a look (missing
or unexplained coins, pots beyond the balance, orders of others), 2 wrong arguments or settings,
3 it can't be told or done now, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages()

import argparse
from dataclasses import asdict
from decimal import Decimal

from core import commandline as words
from core import config
from core.account import access
from core.account.holdings import Holdings
from core.binance_client import BinanceClient
from core.config import Settings
from core.errors import InputError
from core.fleet import holdings, pot
from core.model import plain
from core.storage import Files, dumps, installation

BY = "utils/holdings.py"


def arguments(argv: list[str]) -> argparse.Namespace:
    common = words.Parser(add_help=False)
    common.add_argument("--mode", choices=("paper", "testnet", "live"), default=argparse.SUPPRESS, help="which account (paper)")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="for scripts")
    parser = words.Parser(prog="holdings.py", description="What an account holds, and whose it is.", epilog=words.CODES, parents=[common])
    parts = parser.add_subparsers(dest="command")
    orphan = parts.add_parser("cancel-orphan", parents=[common], help="take back an order of this yard that no bot knows")
    orphan.add_argument("client_id")
    orphan.add_argument("--yes", action="store_true", help="really do it")
    change = parts.add_parser("pot", parents=[common], help="top a bot's pot up, or pay out of it")
    change.add_argument("bot", type=words.bot_id)
    change.add_argument("amount", help="+100 to top up, -50 to pay out, in the bot's quote asset")
    parser.set_defaults(mode="paper", json=False)
    given: argparse.Namespace = parser.parse_args(argv)
    return given


def main(argv: list[str]) -> int:
    given = arguments(argv)
    return words.guarded("holdings.py", given.json, lambda: work(given))


def work(given: argparse.Namespace) -> int:
    settings = config.load()
    files = Files(settings.home)
    if given.command == "pot":
        return change_pot(files, settings, given)
    if given.command == "cancel-orphan":
        return cancel_orphan(files, settings, given)
    found = holdings.look(files, connect(files, settings, given.mode))
    if given.json:
        print(dumps(found.as_json(), indent=1))
    else:
        tell(found)
    if found.unknown or not found.settled:
        return words.NOT_NOW
    return words.FOUND if found.orders or any(a.missing or a.unexplained or a.pots_word for a in found.assets) else words.DONE


def connect(files: Files, settings: Settings, mode: str) -> BinanceClient:
    exchange = access.client(settings, mode)  # type: ignore[arg-type]
    exchange.connect(installation(files))
    return exchange


def change_pot(files: Files, settings: Settings, given: argparse.Namespace) -> int:
    changed = pot.change_pot(files, settings, given.bot, given.amount, BY)
    if given.json:
        print(dumps(asdict(changed), indent=1))
        return words.DONE
    done = "topped up by" if changed.amount > 0 else "paid out of"
    print(f"Bot {changed.bot_id}: {done} {plain(abs(changed.amount))} {changed.quote}; the pot was {plain(changed.before)}, it is {plain(changed.after)}.")
    if changed.from_profit:
        print(f"  {plain(changed.from_profit)} of it was profit; trade_amount is {plain(changed.trade_amount)}.")
    if changed.warning:
        print(f"  Mind: {changed.warning}.")
    print("  It counts from the bot's next check. Nothing was moved at the exchange.")
    return words.DONE


def cancel_orphan(files: Files, settings: Settings, given: argparse.Namespace) -> int:
    if not given.yes:
        raise InputError(f"this would cancel {given.client_id} at the exchange ({given.mode}); say --yes to do it")
    update = holdings.cancel_orphan(files, connect(files, settings, given.mode), given.client_id, BY)
    print(dumps({"client_id": update.client_id, "symbol": update.symbol, "status": update.status}, indent=1) if given.json else holdings.words(update))
    return words.DONE


def shown(value: Decimal | None) -> str:
    return "unknown" if value is None else plain(value)


def tell(found: Holdings) -> None:
    print(f"Account {found.venue}")
    for text in found.unknown:
        print(f"  Can't be read: {text}")
    if not found.settled:
        print("  A bot's order is just being booked: what is missing or unexplained can't be told now.")
    head = ("asset", "free", "locked", "bots claim", "pots may spend", "nobody claims", "unexplained")
    print(f"\n{head[0]:<10}" + "".join(f"{h:>20}" for h in head[1:]))
    for a in found.assets:
        figures = (shown(a.free), shown(a.locked), shown(a.claimed), shown(a.pots), shown(a.unclaimed), shown(a.unexplained))
        print(f"{a.asset:<10}" + "".join(f"{f:>20}" for f in figures))
        for s in a.shares:
            dust = f", {plain(s.dust)} of it dust" if s.dust else ""
            worth = f", worth {plain(s.worth.quantize(Decimal('0.01')))} {s.quote}" if s.worth is not None else ""
            print(f"    bot {s.bot_id} ({s.name}, {s.symbol}): {plain(s.quantity + s.dust)}{dust}{worth}{', an order is being booked' if s.unsettled else ''}")
        if a.missing:
            print(f"    MISSING: {plain(a.missing)} {a.asset} that bots claim are not in the account; see utils/reconcile.py")
        if a.unexplained:
            print(f"    UNEXPLAINED: {plain(a.unexplained)} {a.asset}, a deposit, withdrawal or trade by hand; see utils/reconcile.py")
        if a.pots_word:
            print(f"    POTS: {a.pots_word}")
    if found.orders is not None and found.orders:
        print("\nOpen orders that no bot looks after (they lock coins or money):")
    for o in found.orders or ():
        whose = {"foreign": "not this yard's", "orphan": f"of bot {o.bot_id}, which doesn't know it", "unknown": f"of bot {o.bot_id}, whose file can't be read"}
        at = f" @ {plain(o.price)}" if o.price is not None else ""
        stop = f" stop {plain(o.stop_price)}" if o.stop_price is not None else ""
        size = shown(o.quantity)
        print(f"    {o.symbol} {o.side} {o.kind} {size}{at}{stop}, executed {plain(o.executed)}: {o.client_id} ({whose[o.whose]})")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
