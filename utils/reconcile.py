"""Books against the exchange, per account, asset and bot; with --apply the proposed repairs.

    python3 utils/reconcile.py                 what differs, and what could be done about it
    python3 utils/reconcile.py --apply         do it (the bots concerned must be stopped)
    python3 utils/reconcile.py --mode testnet  another account than paper; --json for scripts

Nothing is bought or sold. Exit codes: 0 books and wallet agree (or were made to), 1 they
differ, 2 wrong arguments or settings, 3 it can't be told now (an order is unsettled, the exchange
can't be reached, a bot runs), 130 ended by Ctrl-C.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from core.bootstrap import ensure_packages

if __name__ == "__main__":
    ensure_packages()

import argparse

from core import commandline as words
from core import config
from core.account import access
from core.bot import reconcile
from core.model import plain
from core.storage import Files, dumps, installation


def main(argv: list[str]) -> int:
    parser = words.Parser(prog="reconcile.py", description="Compares the bots' books with the account, and proposes repairs.", epilog=words.CODES)
    parser.add_argument("--mode", choices=("paper", "testnet", "live"), default="paper", help="which account (paper)")
    parser.add_argument("--apply", action="store_true", help="carry the proposals out; the bots concerned must be stopped")
    parser.add_argument("--json", action="store_true", help="for scripts")
    arguments = parser.parse_args(argv)
    return words.guarded("reconcile.py", arguments.json, lambda: work(arguments))


def work(arguments: argparse.Namespace) -> int:
    settings = config.load()
    files = Files(settings.home)
    exchange = access.client(settings, arguments.mode)
    exchange.connect(installation(files))
    found = reconcile.examine(files, exchange)
    if arguments.apply and found.proposals:
        symbols = {p.symbol: exchange.symbol(p.symbol) for p in found.proposals if p.symbol}
        reconcile.apply(files, exchange, found.proposals, symbols, by="utils/reconcile.py")
    after = reconcile.examine(files, exchange) if arguments.apply and found.proposals else found
    if arguments.json:
        print(dumps(reconcile.report(found, after, arguments.apply), indent=1))
    else:
        tell(found, after, arguments.apply)
    if after.unsettled:
        return words.NOT_NOW
    return words.FOUND if after.differences else words.DONE


def tell(found: reconcile.Finding, after: reconcile.Finding, applied: bool) -> None:
    for bot_id in after.unsettled:
        print(f"Bot {bot_id} has an order whose outcome is not booked yet: start it, or wait, then ask again.")
    if not found.differences:
        print("Books and wallet agree, for every asset.")
        return
    print(f"{'asset':<10} {'wallet':>24} {'books':>24} {'difference':>24}")
    for d in found.differences:
        print(f"{d.asset:<10} {plain(d.wallet):>24} {plain(d.books):>24} {plain(d.foreign):>24}")
    for claim in found.claims:
        print(f"Bot {claim.bot_id} claims {plain(claim.amount)} {claim.asset} ({claim.symbol}).")
    print("Done:" if applied else "Proposed (nothing was changed; --apply does it):")
    for proposal in found.proposals:
        print(f"  - {proposal.text}")
    if applied:
        print("Books and wallet agree now." if not after.differences else "Some difference is left; ask again.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
