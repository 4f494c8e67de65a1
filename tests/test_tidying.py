"""core/fleet/tidying.py: candles that bots left as rows are packed once a day, in spells that let others write."""

from __future__ import annotations

from pathlib import Path

from core.fleet.tidying import EVERY_S, FIRST_S, SPELL_S, Tidying
from core.market.history import CandleStore
from core.model import Venue
from core.storage import Files

LIVE = Venue(mode="live")
MINUTE = 60_000


class Clock:
    def __init__(self) -> None:
        self.now, self.slept = 1000.0, 0

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.now += SPELL_S / 2  # so that a spell holds two transactions


def filled(home: Path, minutes: int) -> Files:
    files = Files(home)
    store = CandleStore(files.path("data/history.db"))
    rows = [[t, "1.10", "1.20", "1.00", "1.15", "12.3", t + MINUTE - 1, "14.1", 3, "6", "7"] for t in range(0, minutes * MINUTE, MINUTE)]
    store.save(LIVE, "BTCUSDT", "1m", rows, minutes * MINUTE)
    store.close()
    return files


def counts(files: Files) -> tuple[int, int]:
    """(rows, candles in chunks)"""
    store = CandleStore(files.path("data/history.db"))
    db = store._open()
    found = db.execute("SELECT (SELECT count(*) FROM candles), (SELECT coalesce(sum(count), 0) FROM chunks)").fetchone()
    store.close()
    return int(found[0]), int(found[1])


def test_what_is_settled_is_packed_in_spells_and_then_a_day_passes(tmp_path: Path) -> None:
    files, clock = filled(tmp_path, 6000), Clock()
    tidying = Tidying(files, monotonic=lambda: clock.now, sleep=clock.sleep)
    tidying.step()
    assert counts(files) == (6000, 0), "not while bots are being brought up"
    clock.now += FIRST_S
    tidying.step()
    assert counts(files) == (4000, 2000), "a spell ends, and another turn goes on"
    for _ in range(5):
        tidying.step()
    rows, packed = counts(files)
    assert rows + packed == 6000 and 1000 <= rows <= 2000, "the last thousand, which bots ask for, stay rows"
    paused = clock.slept
    clock.now += EVERY_S - 60
    tidying.step()
    assert clock.slept == paused, "once a day"


def test_a_store_that_is_held_or_not_there_is_left_for_another_day(tmp_path: Path) -> None:
    clock = Clock()
    nothing = Tidying(Files(tmp_path / "empty"), monotonic=lambda: clock.now, sleep=clock.sleep)
    clock.now += FIRST_S
    nothing.step()
    assert not (tmp_path / "empty").exists()
    files = filled(tmp_path, 4000)
    tidying = Tidying(files, monotonic=lambda: clock.now, sleep=clock.sleep)
    clock.now += FIRST_S
    held = CandleStore(files.path("data/history.db"))._open()
    held.execute("BEGIN IMMEDIATE")
    tidying.step()
    held.rollback()
    held.close()
    assert counts(files) == (4000, 0)
    clock.now += EVERY_S
    tidying.step()
    assert counts(files)[1] > 0
