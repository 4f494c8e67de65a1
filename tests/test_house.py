"""The house rules of ARCHITECTURE.md that a machine can check: who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A module imports from its own floor and those below; rooms on one
# floor that must not know each other are told apart in ROOMS_APART.
FLOORS: list[tuple[str, ...]] = [
    ("core.model", "core.errors", "core.clock", "core.storage", "core.config", "core.bootstrap", "core.commandline", "core.exchange"),
    ("core.binance_client", *(f"core.binance_{part}" for part in ("wire", "errors", "clock", "limits", "pages", "transport", "paper"))),
    ("core.market",),
    ("strategies", "core.account", "core.notify", "core.news"),
    ("core.bot",),
    ("core.backtest",),
    ("core.fleet",),
    ("core.dash",),
    ("utils", "simple_dash", "integrated_trader"),
]
PAPER = "core.paper"  # stands beside the house: it uses the market and the floors under it
ROOMS_APART = [
    *[("strategies", room) for room in ("core.account", "core.notify", "core.news")],
    *[(room, "strategies") for room in ("core.account", "core.notify", "core.news")],
]


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = [*ROOT.glob("core/**/*.py"), *ROOT.glob("strategies/**/*.py"), *ROOT.glob("utils/**/*.py"), *ROOT.glob("*.py")]
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


MODULES = modules()


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str) -> Iterator[tuple[str, int]]:
    """What a module imports, in full dotted names, with the lines. Imports inside functions count too."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            # `from core import config` is an import of core.config.
            yield from ((f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base, node.lineno) for a in node.names)


def inside(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def floor(name: str) -> int | None:
    return next((i for i, rooms in enumerate(FLOORS) if any(inside(name, r) for r in rooms)), None)


def ours(name: str) -> bool:
    return any(inside(name, top) for top in ("core", "strategies", "utils", "simple_dash", "integrated_trader"))


def test_every_module_stands_on_a_floor():
    assert [m for m in MODULES if m != "core" and floor(m) is None and not inside(m, PAPER)] == []


def test_imports_go_down_only():
    wrong = []
    for name in MODULES:
        mine = floor(name)
        for target, line in imports(name):
            theirs = floor(target)
            if mine is not None and theirs is not None and theirs > mine:
                wrong.append(f"{name}:{line} imports {target}, which stands above it")
    assert wrong == []


def test_rooms_beside_each_other_do_not_know_each_other():
    wrong = [
        f"{name}:{line} imports {target}"
        for name in MODULES
        for target, line in imports(name)
        for room, other in ROOMS_APART
        if inside(name, room) and inside(target, other)
    ]
    assert wrong == []


def test_the_paper_exchange_uses_the_market_and_the_floors_under_it_only():
    highest = floor("core.market")
    wrong = []
    for name in [m for m in MODULES if inside(m, PAPER)]:
        for target, line in imports(name):
            below = floor(target)
            if ours(target) and not inside(target, PAPER) and target != "core" and (below is None or below > highest):
                wrong.append(f"{name}:{line} imports {target}")
    assert wrong == []


def test_nothing_imports_the_paper_exchange():
    """It is started as a process of its own (`python3 -m core.paper`), never imported."""
    wrong = [f"{n}:{line} imports {t}" for n in MODULES if not inside(n, PAPER) for t, line in imports(n) if inside(t, PAPER)]
    assert wrong == []


def test_only_the_binance_client_imports_python_binance():
    wrong = [f"{n}:{line}" for n in MODULES if n != "core.binance_client" for t, line in imports(n) if inside(t, "binance")]
    assert wrong == []


def test_strategies_see_neither_the_exchange_nor_the_disk():
    forbidden = ("core.exchange", "core.binance_client", "core.storage", "core.config", "core.market.history", "os", "shutil", "socket", "requests")
    wrong = []
    for name in [m for m in MODULES if inside(m, "strategies")]:
        wrong += [f"{name}:{line} imports {target}" for target, line in imports(name) if any(inside(target, f) for f in forbidden)]
    # The registry reads the strategies' own files, nothing else.
    opened = [n for n in MODULES if inside(n, "strategies") for c in ast.walk(tree(n)) if isinstance(c, ast.Call) and getattr(c.func, "id", "") == "open"]
    assert wrong + opened == []


def test_no_room_of_the_core_is_a_box_for_odds_and_ends():
    odd = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [m for m in MODULES if inside(m, "core") and set(m.split(".")) & odd] == []


def test_every_module_says_what_it_is_for():
    assert [m for m in MODULES if m != "core" and not ast.get_docstring(tree(m)) and MODULES[m].read_text(encoding="utf-8").strip()] == []


@pytest.mark.parametrize("package", ["openai", "twilio", "flask", "waitress"])
def test_a_bot_does_not_import_what_only_others_need(package):
    """Each costs memory in every bot; a strategy or a channel that needs it imports it itself, at its start."""
    rooms = ["core.model", "core.exchange", "core.binance_client", "core.market", "core.account", "core.bot"]
    rooms += ["integrated_trader", "strategies.base", "strategies.registry"]
    wrong = [f"{n}:{line}" for n in MODULES if any(inside(n, r) for r in rooms) for t, line in imports(n) if inside(t, package)]
    assert wrong == []
