"""Imports of files that are long, wrong somewhere, of another timeframe, or ended in the middle: the same store, or none of it."""

from __future__ import annotations

import gzip
import json
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from core.errors import InputError
from core.market import candle_files, intake, long_files
from core.market.history import CandleStore
from tests.processes import ROOT, Home
from tests.test_history import LATE, LIVE, MINUTE, T0, row

HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore\n"


def lines(*places: int, micro: bool = False) -> list[str]:
    """Binance's CSV; since 2025 its times are µs."""
    told = []
    for r in (row(i) for i in places):
        if micro:
            r = [r[0] * 1000, *r[1:6], r[6] * 1000 + 999, *r[7:]]
        told.append(",".join(map(str, r)) + "\n")
    return told


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = CandleStore(tmp_path / "history.db")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_files, "PIECE", 700)  # some six lines


def take(store: CandleStore, path: Path, text: str | bytes, **more: Any) -> intake.Taken:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return intake.take(store, path, LIVE.candle_key(), "AAAUSDT", "1m", LATE, **more)


def stored(store: CandleStore) -> list[list[Any]]:
    return list(store.rows(LIVE, "AAAUSDT", "1m"))


@pytest.mark.parametrize("form", ["plain", "gz", "header", "mark", "mark and header", "windows", "micro", "no last end", "blank end"])
def test_a_csv_in_whatever_form_is_taken_to_the_letter_piece_by_piece(store: CandleStore, tmp_path: Path, form: str) -> None:
    text = "".join(lines(*range(100), micro=form == "micro")).encode()
    text = {
        "gz": gzip.compress(text),
        "header": HEADER.encode() + text,
        "mark": b"\xef\xbb\xbf" + text,
        "mark and header": b"\xef\xbb\xbf" + HEADER.encode() + text,
        "windows": text.replace(b"\n", b"\r\n"),
        "no last end": text[:-1],
        "blank end": text + b"\n\n",
    }.get(form, text)
    assert take(store, tmp_path / "a.csv", text) == (100, 0, 0, [])
    assert stored(store) == [row(i) for i in range(100)]
    assert take(store, tmp_path / "a.csv", text) == (0, 100, 0, [])


@pytest.mark.parametrize("at", [3, 17, 52, 99])
def test_one_wrong_line_anywhere_and_nothing_is_taken(store: CandleStore, tmp_path: Path, at: int) -> None:
    good = lines(*range(100))
    for wrong, words in (
        (good[at].replace(str(row(at)[0]), str(row(at)[0] + 1)), "no 1m candle opens at"),
        (good[at - 2], "rows must ascend"),
        (good[at - 1].replace(",0\n", ",1\n").replace(str(row(at - 1)[5]), "9.00000000"), "says something else"),
        ("1,2,3\n", "has 3 columns"),
        (good[at].replace(str(row(at)[4]), "x", 1), "must be a plain number"),
    ):
        with pytest.raises(InputError, match=words) as e:
            take(store, tmp_path / "a.csv", "".join([*good[:at], wrong, *good[at + 1 :]]))
        assert f"line {at + 1}" in str(e.value), e.value
        assert stored(store) == []


def test_rows_told_twice_are_taken_once_also_where_a_piece_ends_between_them(store: CandleStore, tmp_path: Path) -> None:
    told = [line for line in lines(*range(50)) for _ in (1, 2)]
    found = take(store, tmp_path / "a.csv", "".join(told))
    assert found[:3] == (50, 0, 0) and found.notes == ["50 rows that repeat another one were left out"]
    assert stored(store) == [row(i) for i in range(50)]


def test_candles_of_an_hour_are_not_taken_for_minutes_with_gaps(store: CandleStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="less than 1h apart, so they are not 1m; say --timeframe 1h"):
        take(store, tmp_path / "a.csv", "".join(lines(*range(0, 60 * 40, 60))))
    as_json = json.dumps([row(i)[:6] for i in range(0, 60 * 40, 60)])
    for read in (take, lambda s, p, t: candle_files.read(_written(p, t), "AAAUSDT", "1m")):
        with pytest.raises(InputError, match="say --timeframe 1h"):
            read(store, tmp_path / "a.json", as_json)
    with pytest.raises(InputError, match="less than 420 s apart, so they are not 1m; give the file of 1m"):
        take(store, tmp_path / "a.csv", "".join(lines(*range(0, 140, 7))))
    assert take(store, tmp_path / "a.csv", "".join(lines(*range(0, 120, 60), 61, *range(120, 900, 60)))).new == 16, "gaps alone are no sign"


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_what_differs_is_refused_wherever_it_lies_or_replaced_and_the_rest_taken(store: CandleStore, tmp_path: Path) -> None:
    take(store, tmp_path / "a.csv", "".join(lines(*range(40, 80))))
    other = [",".join(map(str, row(i, int(i in (45, 70))))) + "\n" for i in range(100)]
    with pytest.raises(InputError, match=f"contradicts the store on 2 candles, first on that of {T0 + 45 * MINUTE}"):
        take(store, tmp_path / "b.csv", "".join(other))
    assert len(stored(store)) == 40
    assert take(store, tmp_path / "b.csv", "".join(other), replace=True) == (60, 38, 2, [])
    assert [r[:6] for r in stored(store)] == [row(i, int(i in (45, 70)))[:6] for i in range(100)]
    unfinished = [",".join(map(str, row(i, int(i == 99)))) + "\n" for i in range(99, 100)]
    assert "may have been unfinished" in take(store, tmp_path / "c.csv", "".join(unfinished)).notes[0]
    assert stored(store)[-1][:6] == row(99)[:6]


def test_a_store_that_changes_during_the_import_is_not_written_over(store: CandleStore, tmp_path: Path) -> None:
    def meanwhile(looked_at: int, taken: int) -> None:
        if taken and not hit:
            hit.append(taken)
            store.fill(LIVE, "AAAUSDT", "1m", [row(90, 1)], LATE)

    hit: list[int] = []
    with pytest.raises(InputError, match="changed during the import"):
        take(store, tmp_path / "a.csv", "".join(lines(*range(100))), tell=meanwhile)
    assert hit and next(r for r in stored(store) if r[0] == T0 + 90 * MINUTE)[:6] == row(90, 1)[:6]


def test_memory_does_not_grow_with_the_file(store: CandleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_files, "PIECE", 40_000)
    peaks = []
    for n in (2_000, 12_000):
        path = tmp_path / f"{n}.csv"
        path.write_text("".join(lines(*range(n))))
        tracemalloc.start()
        assert intake.take(store, path, LIVE.candle_key(), f"A{n}USDT", "1m", LATE).new == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0], peaks


def command(home: Home, path: Path) -> list[str]:
    return [sys.executable, str(ROOT / "utils/backfill.py"), "AAAUSDT", "--timeframe", "1m", "--mode", "live", "--file", str(path)]


def test_killed_in_the_middle_and_done_again_it_is_the_undisturbed_store(store: CandleStore, tmp_path: Path) -> None:
    home, path = Home(tmp_path / "home"), tmp_path / "a.csv"
    path.write_text("".join(lines(*range(30_000))))
    running = subprocess.Popen(command(home, path), env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    there = CandleStore(home.path / "data/history.db")
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and running.poll() is None and not (home.path / "data/history.db").exists():
            time.sleep(0.01)
        while time.monotonic() < end and running.poll() is None and not there.series():
            time.sleep(0.005)
        running.send_signal(signal.SIGKILL)
        assert running.wait(10) == -signal.SIGKILL, "it was to die in the middle"
        begun = there.series()[0].candles
        assert 0 < begun < 30_000
        again = subprocess.run(command(home, path), env=home.env, capture_output=True, text=True, timeout=100)
        assert f"{30_000 - begun:,} new candles, {begun:,} that were there already" in again.stdout, again.stderr
        assert list(there.rows(LIVE, "AAAUSDT", "1m")) == [row(i) for i in range(30_000)]
    finally:
        there.close()
        if running.poll() is None:
            running.kill()
            running.wait(10)


def test_without_room_on_the_disk_the_store_stays_whole_and_the_remedy_is_told(tmp_path: Path) -> None:
    home, path = Home(tmp_path / "home"), tmp_path / "a.csv"
    path.write_text("".join(lines(*range(20_000))))

    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(command(home, path), env=home.env, capture_output=True, text=True, timeout=100, preexec_fn=narrow)
    assert done.returncode == 3 and "make room on its disk" in done.stderr and "history.db" in done.stderr, done.stderr
    again = subprocess.run(command(home, path), env=home.env, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    there = CandleStore(home.path / "data/history.db")
    assert list(there.rows(LIVE, "AAAUSDT", "1m")) == [row(i) for i in range(20_000)]
    there.close()
