"""One account, asset by asset: what lies there, which bot claims what, and what nobody claims.

Besides: orders at the exchange that are not a bot's. They hold coins or money, so they are
told; they are never touched from here. A position file that can't be read makes what
depends on it unknown (None), never smaller. Deposits and withdrawals show as what the books
can't explain, and are nobody's profit. Reads only; owns no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from core.account import ledger, pots
from core.account.claims import NAME, POSITION_SCHEMA, Claim, claim_of
from core.errors import ExchangeError, NotFound, RateLimited, StateError
from core.exchange import Exchange
from core.model import ZERO, Update
from core.storage import Files

LOOKS = 3  # bots trade meanwhile: claims and wallet must belong to one moment
Whose = Literal["foreign", "orphan", "unknown"]


@dataclass(frozen=True, slots=True)
class Share:
    """One bot's claim on an asset: `quantity` in its position, `dust` beside it; `worth` in `quote`, None without a price."""

    bot_id: int
    name: str
    symbol: str
    quantity: Decimal
    dust: Decimal
    unsettled: bool
    quote: str
    worth: Decimal | None


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset. `claimed`: all bots' coins; `missing`: how many of them the wallet lacks. `pots`: what running
    bots' pots may still spend of it. `unclaimed`: the owner's own. `unexplained`: wallet less books. None: not known now."""

    asset: str
    free: Decimal
    locked: Decimal
    shares: tuple[Share, ...]
    claimed: Decimal | None
    missing: Decimal | None
    pots: Decimal | None
    unclaimed: Decimal | None
    unexplained: Decimal | None
    pots_word: str = ""

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass(frozen=True, slots=True)
class StrayOrder:
    """An open order that no bot looks after. `whose`: `foreign` (not this yard's), `orphan` (ours by its id, but its
    bot's position file doesn't list it), `unknown` (that file can't be read). Sizes in base asset, prices in quote."""

    symbol: str
    side: str
    kind: str
    price: Decimal | None
    stop_price: Decimal | None
    quantity: Decimal | None
    executed: Decimal
    client_id: str
    order_id: str
    whose: Whose
    bot_id: int | None


@dataclass(frozen=True, slots=True)
class Holdings:
    """`unknown`: in words, what couldn't be read. `settled`: no bot's order was under way while this was read."""

    venue: str
    assets: tuple[Asset, ...]
    orders: tuple[StrayOrder, ...] | None
    unknown: tuple[str, ...]
    settled: bool

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "assets": [{**asdict(a), "total": a.total} for a in self.assets]}


def holdings(
    files: Files,
    exchange: Exchange,
    records: Iterable[Mapping[str, Any]],
    owner_of: Callable[[str], int | None],
    prices: Callable[[Iterable[str]], Mapping[str, Decimal]] = lambda symbols: {},
) -> Holdings:
    """What the account of `exchange` holds. Raises what reading balances and open orders raises.

    `records`: the bots' records; `owner_of`: the bot that a client order id belongs to, None for a
    foreign one; `prices`: last prices by symbol, where worth is asked for."""
    listed = {int(r["id"]): r for r in records}
    before = _positions(files)
    for _ in range(LOOKS):
        wallet = {b.asset: b for b in exchange.balances().values()}
        after = _positions(files)
        if after == before:
            break
        before = after
    files_now, broken = after
    open_now = exchange.open_orders()
    stray = tuple(_stray(open_now, owner_of, [before, after, _positions(files)]))

    found: list[Claim] = []
    unknown = list(broken.values())
    for bot_id, value in files_now.items():
        try:
            claim = claim_of(files, bot_id, value, exchange.venue)
        except StateError as e:
            unknown.append(str(e))
        else:
            found += [claim] if claim is not None else []
    known = not unknown  # a file that can't be read may claim anything
    settled = before == after and not any(c.unsettled for c in found)

    left, words = _pots(exchange, listed, after, {a: b.total for a, b in wallet.items()}, unknown)
    books = ledger.books(files, exchange.venue) if settled and known else None
    told = dict(prices(sorted({c.symbol for c in found}))) if found else {}
    names = {a for a, b in wallet.items() if b.total} | {c.asset for c in found} | set(left or ()) | {a for a, v in (books or {}).items() if v}
    assets = []
    for asset in sorted(names):
        held = wallet.get(asset)
        free, locked = (held.free, held.locked) if held else (ZERO, ZERO)
        shares = tuple(_share(c, listed, told) for c in found if c.asset == asset)
        claimed = sum((s.quantity + s.dust for s in shares), ZERO)
        spendable = left.get(asset, ZERO) if left is not None else None
        assets.append(
            Asset(
                asset,
                free,
                locked,
                shares,
                claimed if known else None,
                max(claimed - free - locked, ZERO) if known and settled else None,
                spendable,
                max(free + locked - claimed - spendable, ZERO) if known and spendable is not None else None,
                free + locked - books.get(asset, ZERO) if books is not None else None,
                words.get(asset, ""),
            )
        )
    return Holdings(exchange.venue.key(), tuple(assets), stray, tuple(unknown), settled)


_Positions = tuple[dict[int, dict[str, Any]], dict[int, str]]


def _positions(files: Files) -> _Positions:
    """Every position file by bot id, and why one can't be read."""
    found: dict[int, dict[str, Any]] = {}
    broken: dict[int, str] = {}
    for path in sorted(files.home.glob("bot_*_position.json")):
        match = NAME.fullmatch(path.name)
        if match:
            try:
                value = files.read_json(path.name, schema=POSITION_SCHEMA)
            except (StateError, OSError) as e:
                broken[int(match[1])] = str(e)
            else:
                if value is not None:
                    found[int(match[1])] = value
    return found, broken


def _stray(open_now: list[Update], owner_of: Callable[[str], int | None], looks: list[_Positions]) -> Iterable[StrayOrder]:
    """The open orders that no position file lists, neither before nor after they were read."""
    listed: set[str] = set()
    broken: set[int] = set()
    for files_then, broken_then in looks:
        broken |= set(broken_then)
        for bot_id, value in files_then.items():
            try:
                listed |= {str(o["request"]["client_id"]) for o in value["orders"]}
            except (KeyError, TypeError):
                broken.add(bot_id)
    for update in open_now:
        if update.client_id in listed:
            continue
        owner = owner_of(update.client_id)
        whose: Whose = "foreign" if owner is None else "unknown" if owner in broken else "orphan"
        asked = update.request
        yield StrayOrder(
            update.symbol,
            asked.side if asked else "",
            asked.kind if asked else "",
            asked.price if asked else None,
            asked.stop_price if asked else None,
            asked.quantity if asked else None,
            update.executed,
            update.client_id,
            update.order_id,
            whose,
            owner,
        )


def _share(claim: Claim, listed: Mapping[int, Mapping[str, Any]], prices: Mapping[str, Decimal]) -> Share:
    price = prices.get(claim.symbol)
    usable = isinstance(price, Decimal) and price.is_finite() and price > 0
    name = str(listed[claim.bot_id]["name"]) if claim.bot_id in listed else f"bot {claim.bot_id} (not in the list)"
    worth = claim.amount * price if usable and price is not None else None
    return Share(claim.bot_id, name, claim.symbol, claim.amount - claim.dust, claim.dust, claim.unsettled, claim.quote, worth)


def _pots(
    exchange: Exchange, listed: Mapping[int, Mapping[str, Any]], read: _Positions, wallet: Mapping[str, Decimal], unknown: list[str]
) -> tuple[dict[str, Decimal] | None, dict[str, str]]:
    """Per quote asset: what the pots of bots that are wanted running may still spend, and a word where they come to
    more than the wallet. None where a bot's quote asset or pot can't be told (`unknown` then says whose)."""
    left: dict[str, Decimal] = {}
    needs: dict[str, list[tuple[str, Decimal]]] = {}
    problem = False
    for bot_id, record in listed.items():
        mine = (record.get("mode") or "paper", record.get("account") or "main") == (exchange.venue.mode, exchange.venue.account)
        if not mine or record.get("status") != "running" or record.get("sizing") in pots.POTLESS:
            continue
        if bot_id in read[1]:
            problem = True  # `unknown` names its file already
            continue
        position = read[0].get(bot_id)
        try:
            quote = str(position["quote"]) if position is not None else exchange.symbol(str(record["symbol"])).quote
            left[quote] = left.get(quote, ZERO) + pots.left_of(record, position)
            needs.setdefault(quote, []).append((str(record["name"]), pots.need_of(record, position)))
        except NotFound:
            continue  # a symbol that is gone: nothing is bought of it
        except RateLimited:
            raise
        except (ExchangeError, KeyError, TypeError, ValueError, ArithmeticError) as e:
            unknown.append(f"the pot of bot {bot_id} can't be told: {e}")
            problem = True
    words = {quote: pots.shortfall(listed_needs, quote, wallet.get(quote, ZERO)) for quote, listed_needs in needs.items()}
    return (None if problem else left), words
