"""The backup's file: what is in it, what is refused, and that nothing is half done."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from core.bot import catchup, position
from core.errors import Conflict, InputError, NotFound
from core.fleet import backup, restore
from core.fleet.registry import Registry
from core.model import Position, Venue
from core.storage import Files, dumps, installation, loads

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A home with two bots, one of them never started, a database in use, and what must not be copied."""
    home = tmp_path / "home"
    home.mkdir()
    made = Files(home)
    own = installation(made)
    (home / ".env").write_text("BINANCE_API_KEY=key-of-mine\n")
    registry = Registry(made, shipped=tmp_path / "none")
    for name in ("One", "Two"):
        registry.create({"name": name, "symbol": "BTCUSDT", "strategy": "volatile", "trade_amount": 100})
    store = position.PositionStore(made, 1)
    flat = Position(1, Venue("binance", "spot", "main", "paper", "synthetic:1"), "BTCUSDT", "BTC", "USDT", next_order=3)
    store.save(flat)
    store.save(flat)
    made.append_line("bot_1_fills.jsonl", {"client_id": f"by{own}-1-2-abc", "trade_id": "1"})
    with (home / "bot_1_fills.jsonl").open("ab") as f:
        f.write(b'{"torn')
    (home / "bot_1.log").write_text("one\n" * 10)
    (home / "bot_1_status.json").write_text(dumps({"schema": 1, "market_ms": 1_600_000_000_000, "mode": "paper"}))
    for name in ("bot_1.lock", "data/yard.lock", "data/shared.db", "data/budget.db", "data/history.db"):
        made.path(name).write_bytes(b"")
    for name in ("data/commands/bot_1/1.json", "data/stop/bot_1.json", "archive/bot_9-x/bot_9_fills.jsonl", "strategies/own_strategy.py", "data/paper/clock"):
        made.path(name).parent.mkdir(parents=True, exist_ok=True)
        made.path(name).write_text("{}\n" if name != "data/paper/clock" else "0000000001 0001600000000000\n")
    for name in ("data/outbox.db", "data/paper/paper.db"):
        with contextlib.closing(sqlite3.connect(made.path(name), isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE t (x)")
            db.execute("INSERT INTO t VALUES (7)")
    return made


def entries(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_it_holds_the_state_and_neither_keys_nor_locks_nor_what_can_be_fetched_again(files: Files, tmp_path: Path) -> None:
    made = backup.create(files)
    assert made.path.parent == files.path("data/backups")
    assert made.path.stat().st_mode & 0o777 == 0o600
    names = [n.removeprefix("home/") for n in entries(made.path)]
    assert names[0] == "manifest.json"
    wanted = {"active_bots.json", "bot_1_position.json", "bot_1_position.json.prev", "bot_1_fills.jsonl", "bot_1.log", "data/ids.json", "data/outbox.db"}
    assert wanted | {"data/installation.json", "archive/bot_9-x/bot_9_fills.jsonl", "strategies/own_strategy.py", "data/paper/paper.db"} <= set(names)
    assert not [
        n for n in names if n.endswith(".lock") or n in (".env", "data/shared.db", "data/budget.db", "data/history.db") or "commands" in n or "stop" in n
    ]
    assert b"key-of-mine" not in gzip.decompress(made.path.read_bytes())
    assert made.manifest["bots"] == {"1": {"since_ms": 1_600_000_000_000 - 60_000}, "2": {"since_ms": 1_600_000_000_000 - 60_000}}
    assert made.manifest["venues"] == ["binance/spot/main/paper/synthetic:1"]
    assert "home/.env" in entries(backup.create(files, tmp_path / "with.tar.gz", secrets=True).path)


def test_what_is_restored_is_what_was_copied_and_each_bot_is_marked_to_catch_up(files: Files, tmp_path: Path) -> None:
    made = backup.create(files, tmp_path)
    home = tmp_path / "other"
    told = restore.restore(made.path, home)
    assert told["bots"] == catchup.pending(Files(home)) == [1, 2]
    assert "must not go on with the same account" in told["next"][0]
    assert (home / "bot_1_position.json").read_bytes() == files.path("bot_1_position.json").read_bytes()
    assert [r["trade_id"] for r in Files(home).read_lines("bot_1_fills.jsonl")] == ["1"]
    assert (home / "bot_1_fills.jsonl").read_bytes().endswith(b"\n")
    with contextlib.closing(sqlite3.connect(home / "data/outbox.db")) as db:
        assert db.execute("SELECT x FROM t").fetchall() == [(7,)]
    assert installation(Files(home)) == installation(files)
    marks = Files(home).read_json(catchup.FILE, schema=1)
    assert marks is not None and marks["backup_wall_ms"] == made.manifest["wall_ms"] and marks["since_ms"]["1"] == 1_599_999_940_000
    assert {p.stat().st_mode & 0o077 for p in home.rglob("*")} == {0}


def test_a_yard_that_was_restored_and_never_caught_up_hands_its_moment_on_to_its_own_backup(files: Files, tmp_path: Path) -> None:
    home = tmp_path / "other"
    restore.restore(backup.create(files, tmp_path / "1.tar.gz").path, home)
    (home / "bot_1_status.json").write_text(dumps({"schema": 1, "market_ms": 1_700_000_000_000, "mode": "paper"}))
    second = backup.create(Files(home), tmp_path / "2.tar.gz")
    assert second.manifest["bots"]["1"]["since_ms"] <= 1_600_000_000_000 - 60_000


def test_a_home_that_holds_anything_is_refused_and_not_touched(files: Files, tmp_path: Path) -> None:
    made = backup.create(files, tmp_path)
    home = tmp_path / "other"
    home.mkdir()
    (home / "mine.txt").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        restore.restore(made.path, home)
    assert [p.name for p in home.iterdir()] == ["mine.txt"]
    (home / "mine.txt").unlink()
    assert restore.restore(made.path, home, dry_run=True)["files"] > 5
    assert list(home.iterdir()) == []
    restore.restore(made.path, home)
    assert (home / "active_bots.json").exists()


def test_a_cut_or_damaged_backup_is_refused_wherever_it_is_cut_or_damaged(files: Files, tmp_path: Path) -> None:
    whole = backup.create(files, tmp_path).path.read_bytes()
    broken, home = tmp_path / "broken.tar.gz", tmp_path / "other"
    damaged = [whole[:n] for n in range(0, len(whole), max(1, len(whole) // 60))]
    for n in range(10, len(whole), max(1, len(whole) // 200)):
        damaged.append(whole[:n] + bytes([whole[n] ^ 0x10]) + whole[n + 1 :])
    damaged += [b"", b"\0" * 3000, b"not a backup", gzip.compress(b""), gzip.compress(b"\0" * 4096), whole[len(whole) // 2 :]]
    content, harmless = gzip.decompress(whole), 0
    for data in damaged:
        broken.write_bytes(data)
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(data) == content:  # a bit that means nothing: which ones, differs from copy to copy
                harmless += 1
                continue
        with pytest.raises(InputError):
            restore.restore(broken, home)
        assert not home.exists()
    assert harmless < len(damaged) // 20
    assert [p.name for p in tmp_path.iterdir() if "restoring" in p.name] == []


def forge(path: Path, change: Callable[[dict[str, Any], list[tarfile.TarInfo]], None], into: Path) -> Path:
    """The same backup with another manifest or other members."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        contents = {m.name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]
    manifest = loads(contents["manifest.json"])
    change(manifest, members)
    text = dumps(manifest).encode()
    with tarfile.open(into, "w:gz", format=tarfile.GNU_FORMAT) as tar:
        for m in members:
            data = text if m.name == "manifest.json" else contents.get(m.name, b"evil")
            m.size = len(data) if m.isreg() else 0
            tar.addfile(m, io.BytesIO(data) if m.isreg() else None)
    return into


def named(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4
    return info


EVIL: dict[str, Callable[[dict[str, Any], list[tarfile.TarInfo]], None]] = {
    "a path upwards": lambda m, t: t.append(named("home/../../evil")),
    "a path upwards in the manifest too": lambda m, t: (m["files"].update({"../evil": {"size": 4, "sha256": "x"}}), t.append(named("home/../evil")))[0],
    "an absolute path": lambda m, t: t.append(named("/evil")),
    "a link": lambda m, t: t.append(named("home/link", tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": lambda m, t: t.append(named("home/link", tarfile.LNKTYPE, "home/active_bots.json")),
    "a link in place of a file": lambda m, t: t.__setitem__(1, named(t[1].name, tarfile.SYMTYPE, "/etc/passwd")),
    "a device": lambda m, t: t.append(named("home/dev", tarfile.CHRTYPE)),
    "a pipe": lambda m, t: t.append(named("home/pipe", tarfile.FIFOTYPE)),
    "a folder": lambda m, t: t.append(named("home/folder", tarfile.DIRTYPE)),
    "a file that nobody announced": lambda m, t: t.append(named("home/evil.py")),
    "a file twice": lambda m, t: t.append(t[1]),
    "a file too few": lambda m, t: t.pop(),
    "no manifest": lambda m, t: t.pop(0) and None,
    "a manifest that comes later": lambda m, t: t.append(t.pop(0)),
    "another program's": lambda m, t: m.update(format="tar"),
    "a newer version": lambda m, t: m.update(version=2),
    "a newer position": lambda m, t: m["schema"].update(position=99),
    "a wrong checksum": lambda m, t: m["files"]["active_bots.json"].update(sha256="0" * 64),
    "a wrong size": lambda m, t: m["files"]["active_bots.json"].update(size=1),
    "a size below zero": lambda m, t: m["files"]["active_bots.json"].update(size=-1),
    "a manifest without bots": lambda m, t: m.pop("bots") and None,
    "a file that is a folder too": lambda m, t: m["files"].update({"active_bots.json/x": {"size": 0, "sha256": ""}}),
}


@pytest.mark.parametrize("what", EVIL)
def test_a_foreign_or_forged_backup_is_refused_and_nothing_is_written(files: Files, tmp_path: Path, what: str) -> None:
    forged = forge(backup.create(files, tmp_path / "made.tar.gz").path, EVIL[what], tmp_path / "forged.tar.gz")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError) as told:
        restore.restore(forged, tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    if "newer" in what:
        assert "update Botyard" in str(told.value)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_before_it_has(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    with gzip.open(bomb, "wb", compresslevel=9) as f:
        info = tarfile.TarInfo("manifest.json")
        info.size = 1 << 33
        f.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            f.write(b"\0" * (1 << 20))
    with pytest.raises(InputError):
        restore.look_through(bomb)


class Died(BaseException):
    pass


def test_a_restore_that_dies_at_any_call_leaves_the_home_as_it_was_and_the_next_one_does_it(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = backup.create(files, tmp_path / "made.tar.gz")
    real = {name: getattr(os, name) for name in ("open", "fsync", "rename", "replace", "mkdir")}
    monkeypatch.setattr(restore.shutil, "rmtree", lambda *a, **k: None)  # who is dead tidies nothing
    deaths = 0
    for n in range(1, 500):
        home = tmp_path / f"home {n}"
        count = iter(range(1, 10_000))

        def mortal(name: str, count: Any = count, n: int = n) -> Callable[..., Any]:
            def call(*args: Any, **named: Any) -> Any:
                if next(count) == n:
                    raise Died(name)
                return real[name](*args, **named)

            return call

        with monkeypatch.context() as m:
            for name in real:
                m.setattr(os, name, mortal(name))
            try:
                restore.restore(made.path, home)
                died = False
            except Died:
                died = True
        if not died:
            assert catchup.pending(Files(home)) == [1, 2]
            break
        deaths += 1
        if home.exists():
            assert catchup.pending(Files(home)) == [1, 2], "the home is whole, or not there"
            with pytest.raises(Conflict):
                restore.restore(made.path, home)
        else:
            assert restore.restore(made.path, home)["bots"] == [1, 2]
        assert (home / "bot_1_position.json").read_bytes() == files.path("bot_1_position.json").read_bytes()
    assert deaths > 30


def test_a_backup_that_fails_leaves_nothing_behind_and_what_a_dead_one_left_is_swept(files: Files, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    left = target / ".botyard-backup-999999999-x"
    left.mkdir()
    files.path("data/outbox.db").write_bytes(b"SQLite format 3\0 and then nonsense" * 40)
    with pytest.raises(Exception, match=r"outbox\.db"):
        backup.create(files, target)
    assert list(target.iterdir()) == []


def test_only_the_newest_are_kept_and_only_this_yards(files: Files, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    (target / "botyard-anothery-20200101T000000000Z.tar.gz").write_bytes(b"theirs")
    (target / "mine.txt").write_text("mine")
    made = [backup.create(files, target, keep=2).path for _ in range(4)]
    assert sorted(p.name for p in target.iterdir()) == sorted(["botyard-anothery-20200101T000000000Z.tar.gz", "mine.txt", made[2].name, made[3].name])
    with pytest.raises(InputError):
        backup.create(files, target, keep=0)
    with pytest.raises(Conflict):
        backup.create(files, made[3])
    with pytest.raises(InputError):
        backup.create(files, tmp_path / "no" / "such" / "folder.tar.gz")
    with pytest.raises(NotFound):
        restore.look_through(tmp_path / "nothing.tar.gz")


def run(home: Path, *argv: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "utils/backup.py", *argv], cwd=ROOT, env={**os.environ, "BOTYARD_HOME": str(home)}, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_creates_checks_and_restores_with_its_exit_codes(files: Files, tmp_path: Path) -> None:
    code, out, err = run(files.home, "create", str(tmp_path / "a.tar.gz"))
    assert code == 0 and "holds no keys" in out and "Packing" in err
    code, out, _ = run(files.home, "create", str(tmp_path / "b.tar.gz"), "--with-secrets", "--without-paper", "--json")
    told = json.loads(out, parse_float=Decimal)
    assert code == 0 and told["with"] == {"secrets": True, "paper": False, "history": False}
    assert run(files.home, "create", str(tmp_path / "a.tar.gz"))[0] == 3
    assert run(files.home, "create", "--keep", "0")[0] == 2
    assert run(files.home, "check", str(tmp_path / "a.tar.gz"))[0] == 0
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:-20])
    assert run(files.home, "check", str(tmp_path / "cut.tar.gz"))[0] == 1
    assert run(files.home, "check", str(tmp_path / "none.tar.gz"))[0] == 2
    code, out, _ = run(files.home, "restore", str(tmp_path / "a.tar.gz"), "--home", str(tmp_path / "new"), "--dry-run")
    assert code == 0 and "Would restore" in out and not (tmp_path / "new").exists()
    code, out, _ = run(files.home, "restore", str(tmp_path / "a.tar.gz"), "--home", str(tmp_path / "new"))
    assert code == 0 and "must not go on with the same account" in out and (tmp_path / "new/active_bots.json").exists()
    assert run(files.home, "restore", str(tmp_path / "a.tar.gz"), "--home", str(tmp_path / "new"))[0] == 3
