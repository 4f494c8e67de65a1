"""Files: whole or as before, readable to the last digit, locked between processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from core import storage
from core.errors import AlreadyRunning, StateError
from core.storage import Files, dumps, installation, loads

D = Decimal
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("step", ["write", "fsync", "link", "replace"])
def test_a_write_that_fails_at_any_step_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    files = Files(tmp_path)
    files.write_json("a.json", {"schema": 1, "n": 1})
    files.write_json("a.json", {"schema": 1, "n": 2})

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, step, full)
    with pytest.raises(OSError, match="No space"):
        files.write_json("a.json", {"schema": 1, "n": 3})
    monkeypatch.undo()
    assert files.read_json("a.json", schema=1) == {"schema": 1, "n": 2}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp") and ".prev" not in p.name) == []
    files.write_json("a.json", {"schema": 1, "n": 4})
    assert loads((tmp_path / "a.json.prev").read_text())["n"] == 2


def test_the_previous_copy_is_the_one_before(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for n in range(3):
        files.write_json("a.json", {"schema": 1, "n": n})
    assert loads((tmp_path / "a.json.prev").read_text())["n"] == 1
    files.write_json("b.json", {}, keep_previous=False)
    files.write_json("b.json", {}, keep_previous=False)
    assert not (tmp_path / "b.json.prev").exists()
    assert (tmp_path / "a.json").stat().st_mode & 0o077 == 0, "nobody else may read it"


def test_two_threads_writing_the_same_file_leave_one_of_both_whole(tmp_path: Path) -> None:
    files, failed = Files(tmp_path), []

    def write(n: int) -> None:
        try:
            for k in range(60):
                files.write_json("s.json", {"schema": 1, "n": n, "pad": "x" * (n * 3000), "k": k}, durable=False, keep_previous=False)
        except OSError as e:
            failed.append(e)

    threads = [threading.Thread(target=write, args=(n,)) for n in (1, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failed == []
    assert files.read_json("s.json", schema=1)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=D("-1e20"), max_value=D("1e20")))
def test_a_decimal_comes_back_to_the_last_digit_and_as_plain_digits(value: Decimal) -> None:
    text = dumps({"v": value})
    assert "e" not in text.lower().replace("v", "")
    assert loads(text)["v"] == value


def test_numbers_are_never_floats_and_those_that_are_none_are_refused() -> None:
    assert isinstance(loads("0.1"), Decimal)
    assert dumps(D("1E-8")) == "0.00000001"
    assert dumps(D("1E+3")) == "1000"
    for bad in (D("NaN"), D("Infinity"), float("nan"), float("inf")):
        with pytest.raises(ValueError):
            dumps({"v": bad})
    for text in ("NaN", "[Infinity]", '{"a": -Infinity}'):
        with pytest.raises(ValueError):
            loads(text)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"),
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ("{}", "no schema"),
        ('{"schema": 2}', "knows 1"),
        ('{"schema": true}', "no schema"),
        ('{"schema": 0}', "no schema"),
        ("\x00" * 40, "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"schema": 1, "v": NaN}', "not valid JSON"),
    ],
)
def test_a_file_that_cant_be_trusted_is_named_with_the_reason_and_a_remedy(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(StateError, match=why) as e:
        Files(tmp_path).read_json("a.json", schema=1)
    assert "a.json" in e.value.path and e.value.remedy
    assert (tmp_path / "a.json").read_text() == content


def test_an_older_schema_is_migrated_and_a_missing_file_with_a_previous_copy_is_an_error(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert files.read_json("none.json", schema=1) is None
    files.write_json("a.json", {"schema": 1})
    assert files.read_json("a.json", schema=2, migrate=lambda v: {**v, "schema": 2}) == {"schema": 2}
    with pytest.raises(StateError, match="migrated"):
        files.read_json("a.json", schema=2)
    files.write_json("a.json", {"schema": 1})
    (tmp_path / "a.json").unlink()
    with pytest.raises(StateError, match="missing though its previous copy"):
        files.read_json("a.json", schema=1)


@pytest.mark.parametrize("kept", range(0, 40, 3))
def test_a_line_torn_anywhere_is_cut_and_the_next_one_is_whole(tmp_path: Path, kept: int) -> None:
    files = Files(tmp_path)
    files.append_line("a.jsonl", {"n": 1})
    whole = (tmp_path / "a.jsonl").read_bytes()
    torn = (dumps({"n": 2, "text": "x" * 60}) + "\n").encode()[:kept]
    (tmp_path / "a.jsonl").write_bytes(whole + torn)
    assert [r["n"] for r in files.read_lines("a.jsonl")] == [1]
    assert files.cut_torn_line("a.jsonl") == kept
    files.append_line("a.jsonl", {"n": 3})
    assert [r["n"] for r in files.read_lines("a.jsonl")] == [1, 3]


def test_a_file_of_one_torn_line_longer_than_a_block_is_cut_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x" * 200_000)
    assert Files(tmp_path).cut_torn_line("a.jsonl") == 200_000
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    assert Files(tmp_path).cut_torn_line("none.jsonl") == 0


def test_a_disk_that_takes_half_a_line_takes_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path)
    files.append_line("a.jsonl", {"n": 1})
    real = os.write
    monkeypatch.setattr(storage.os, "write", lambda fd, data: real(fd, bytes(data)[: len(data) // 2]))
    with pytest.raises(OSError, match="could be written"):
        files.append_line("a.jsonl", {"n": 2})
    monkeypatch.undo()
    files.append_line("a.jsonl", {"n": 3})
    assert [r["n"] for r in files.read_lines("a.jsonl")] == [1, 3]


def test_a_line_in_the_middle_that_cant_be_read_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\nnonsense\n{"n": 3}\n')
    with pytest.raises(StateError, match="line 2"):
        list(Files(tmp_path).read_lines("a.jsonl"))


def test_reading_on_from_a_cursor_gives_each_line_once_and_begins_anew_after_a_truncation(tmp_path: Path) -> None:
    files, path = Files(tmp_path), tmp_path / "a.log"
    path.write_bytes(b"one\ntwo\nthr")
    lines, cursor = files.read_from("a.log", 0)
    assert lines == [b"one", b"two"]
    path.write_bytes(b"one\ntwo\nthree\n")
    assert files.read_from("a.log", cursor) == ([b"three"], 14)
    path.write_bytes(b"new\n")
    assert files.read_from("a.log", 14) == ([b"new"], 4)
    assert files.read_from("none.log", 5) == ([], 0)
    path.write_bytes(b"x" * 100 + b"\nshort\n")
    _, cursor = files.read_from("a.log", 0, limit=50)
    assert cursor == 50, "one line longer than the limit is skipped piece by piece"


def test_a_tail_gives_whole_lines_only(tmp_path: Path) -> None:
    files, path = Files(tmp_path), tmp_path / "a.log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(100)) + b"torn")
    lines, cursor = files.tail("a.log", 2)
    assert lines == [b"line 98", b"line 99"]
    assert cursor == path.stat().st_size - 4
    few, _ = files.tail("a.log", 50, limit=30)
    assert few == [b"line 97", b"line 98", b"line 99"], "the first, cut by the limit, is left out"


HOLD = """
import sys; sys.path.insert(0, {root!r})
from core.storage import Files
lock = Files({home!r}).lock("a.lock"); lock.acquire(); print("held", flush=True); sys.stdin.read()
"""


def test_a_lock_keeps_another_process_out_tells_its_pid_and_ends_with_it(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD.format(root=str(ROOT), home=str(tmp_path))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        lock = Files(tmp_path).lock("a.lock")
        assert lock.holder() == child.pid
        with pytest.raises(AlreadyRunning) as e:
            lock.acquire()
        assert e.value.pid == child.pid
        assert lock.holder() == child.pid, "asking and failing didn't release it"
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe:
                pipe.close()
    assert lock.holder() is None
    lock.acquire()
    assert lock.holder() == os.getpid()
    lock.release()
    assert lock.holder() is None


def test_a_name_for_the_yard_is_made_once(tmp_path: Path) -> None:
    files, names = Files(tmp_path), []
    threads = [threading.Thread(target=lambda: names.append(installation(files))) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(names) == 8 and len(set(names)) == 1
    assert len(names[0]) == 8
