"""The books: wallet = baseline + every fill and fee in every journal; the rest is foreign."""

from __future__ import annotations

from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import toy
from core.account import ledger
from core.errors import NotFound, StateError
from core.model import ZERO, Venue
from core.storage import Files

D = Decimal


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def exchange() -> toy.ToyExchange:
    return toy.ToyExchange(toy.StepClock())


def fill(venue: Venue, side: str, quantity: str, quote: str, fee: str, fee_asset: str, **more: Any) -> dict[str, Any]:
    row = {"venue": asdict(venue), "base": "BTC", "quote_asset": "USD", "side": side, "quantity": D(quantity), "quote": D(quote)}
    return {**row, "fee": D(fee), "fee_asset": fee_asset, **more}


def test_the_baseline_is_written_once_and_never_takes_in_what_comes_later(files: Files, exchange: toy.ToyExchange) -> None:
    assert ledger.books(files, exchange.venue) is None
    assert ledger.compare(files, exchange) == []
    assert ledger.ensure_baseline(files, exchange) == {"USD": 1000}
    exchange.wallet["USD"][0] += 50
    exchange.wallet["DOGE"] = [D(7), ZERO]
    ledger.ensure_baseline(files, exchange)
    found = {d.asset: d.foreign for d in ledger.compare(files, exchange)}
    assert found == {"USD": 50, "DOGE": 7}


def test_fees_in_base_quote_and_a_third_coin_are_each_taken_from_their_own(files: Files, exchange: toy.ToyExchange) -> None:
    exchange.wallet["BNB"] = [D(1), ZERO]
    ledger.ensure_baseline(files, exchange)
    venue = exchange.venue
    files.append_line("bot_1_fills.jsonl", fill(venue, "BUY", "2", "200", "0.002", "BTC"))
    files.append_line("bot_2_fills.jsonl", fill(venue, "SELL", "1", "110", "0.11", "USD"))
    files.append_line("bot_3_fills.jsonl", fill(venue, "BUY", "0.5", "50", "0.0001", "BNB"))
    assert ledger.books(files, venue) == {"USD": D("859.89"), "BTC": D("1.498"), "BNB": D("0.9999")}


def test_deleted_bots_count_and_other_venues_do_not(files: Files, exchange: toy.ToyExchange) -> None:
    ledger.ensure_baseline(files, exchange)
    (files.home / "archive" / "bot_4").mkdir(parents=True)
    files.append_line("archive/bot_4/bot_4_fills.jsonl", fill(exchange.venue, "BUY", "1", "100", "0", "BTC"))
    for other in (replace(exchange.venue, source="another"), replace(exchange.venue, mode="testnet"), replace(exchange.venue, account="second")):
        files.append_line("bot_5_fills.jsonl", fill(other, "BUY", "9", "900", "0", "BTC"))
    assert ledger.books(files, exchange.venue) == {"USD": 900, "BTC": 1}


def test_locked_coins_are_in_the_wallet(files: Files, exchange: toy.ToyExchange) -> None:
    ledger.ensure_baseline(files, exchange)
    exchange.wallet["USD"] = [D(400), D(600)]
    assert ledger.compare(files, exchange) == []


def test_a_lost_baseline_is_made_again_without_what_the_journals_explain(files: Files, exchange: toy.ToyExchange) -> None:
    ledger.ensure_baseline(files, exchange)
    files.append_line("bot_1_fills.jsonl", fill(exchange.venue, "BUY", "1", "100", "0.001", "BTC"))
    exchange.wallet["USD"][0] -= 100
    exchange.wallet["BTC"][0] += D("0.999")
    for name in ("baseline.json", "baseline.json.prev"):
        (files.home / "data" / name).unlink(missing_ok=True)
    assert ledger.ensure_baseline(files, exchange) == {"USD": 1000}
    assert ledger.compare(files, exchange) == []


def test_a_deposit_that_the_owner_acknowledges_is_foreign_no_more(files: Files, exchange: toy.ToyExchange) -> None:
    with pytest.raises(NotFound):
        ledger.acknowledge(files, exchange.venue, "USD", D(50), "test")
    ledger.ensure_baseline(files, exchange)
    exchange.wallet["USD"][0] += 50
    ledger.acknowledge(files, exchange.venue, "USD", D(50), "test")
    assert ledger.compare(files, exchange) == []


def test_a_journal_that_cant_be_read_is_named_and_nothing_is_counted_without_it(files: Files, exchange: toy.ToyExchange) -> None:
    ledger.ensure_baseline(files, exchange)
    (files.home / "bot_1_fills.jsonl").write_text("nonsense\n")
    with pytest.raises(StateError, match="line 1"):
        ledger.compare(files, exchange)
