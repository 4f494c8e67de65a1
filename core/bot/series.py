"""The named series that strategies declare in `needs`, and who provides them. Owns no file.

A strategy touches neither disk nor network: what it needs beside candles is handed to it,
each value with the time from which it was known. A live bot's provider asks the world; a
backtest's (`Recorded`) gives what a bot wrote down when it decided, and refuses where that
is missing. A new series is one more line in OPENERS.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from core.clock import Clock, utc_text
from core.config import Settings
from core.errors import InputError, StrategyError
from core.model import SeriesValue, Symbol
from core.storage import Files


class Provider(Protocol):
    """One series for one bot. A live one never raises and never waits more than a few seconds."""

    def at(self, market_ms: int) -> SeriesValue: ...

    def close(self) -> None: ...


Opener = Callable[[Settings, Files, Symbol, Clock], Provider]


def _news(settings: Settings, files: Files, symbol: Symbol, clock: Clock) -> Provider:
    from core.news.provider import News  # only a bot that needs news pays for what it imports

    return News(settings, files, symbol.base, market_ms=clock.market_ms, wall_ms=clock.wall_ms)


OPENERS: Mapping[str, Opener] = {"news": _news}


def open_all(needs: Iterable[str], settings: Settings, files: Files, symbol: Symbol, clock: Clock, openers: Mapping[str, Opener]) -> dict[str, Provider]:
    """A provider for each series. Raises StrategyError where nobody provides one."""
    found: dict[str, Provider] = {}
    for name in needs:
        if name not in openers:
            raise StrategyError(f"the strategy needs the series {name!r}, which nobody provides; there are: {', '.join(openers) or 'none'}")
        found[name] = openers[name](settings, files, symbol, clock)
    return found


def read(providers: Mapping[str, Provider], market_ms: int) -> dict[str, SeriesValue]:
    """Every series now. A provider that breaks is a value that is not known: it keeps no bot from deciding."""
    found: dict[str, SeriesValue] = {}
    for name, provider in providers.items():
        try:
            found[name] = provider.at(market_ms)
        except Exception as e:  # noqa: BLE001 - the note tells it; the text of a library's error may quote a key
            found[name] = SeriesValue(None, market_ms, f"the series broke ({type(e).__name__})")
    return found


def as_inputs(values: Mapping[str, SeriesValue]) -> dict[str, Any]:
    """As a decision's row keeps them, and `Recorded` reads them."""
    return {name: {"known_ms": v.known_ms, "note": v.note, "value": v.value} for name, v in values.items()}


class Recorded:
    """A series as a bot's decisions recorded it: for backtests.

    `decisions` are rows of bot_N_decisions.jsonl (`Files.read_lines`). A value counts from
    its slot for `every_ms`, the bot's check interval. Where no decision recorded one, `at`
    raises InputError: no news is something else than not knowing the news. `lateness_ms` is
    by how much the latest value came after its slot (the bot waited so long for it).
    """

    def __init__(self, decisions: Iterable[Mapping[str, Any]], name: str, every_ms: int):
        if every_ms < 1:
            raise InputError(f"every_ms must be the bot's check interval in ms, above 0, not {every_ms}")
        self.name, self.every_ms, self.lateness_ms = name, every_ms, 0
        kept: dict[int, SeriesValue] = {}
        for row in decisions:
            data, slot = row.get("data"), row.get("slot_ms")
            entry = data.get(name) if isinstance(data, Mapping) else None
            if not isinstance(entry, Mapping) or not isinstance(slot, int):
                continue
            known, decided = entry.get("known_ms"), row.get("market_ms")
            if not isinstance(known, int) or not isinstance(decided, int) or known > decided:
                raise InputError(f"the decision of {utc_text(slot)} says that its {name} were known only after it: its file was changed or is damaged")
            kept[slot] = SeriesValue(entry.get("value"), known, str(entry.get("note") or ""))
            self.lateness_ms = max(self.lateness_ms, known - slot)
        self._slots = sorted(kept)
        self._values = [kept[s] for s in self._slots]

    def at(self, market_ms: int) -> SeriesValue:
        i = bisect_right(self._slots, market_ms) - 1
        if i < 0 or market_ms - self._slots[i] >= self.every_ms:
            span = f"from {utc_text(self._slots[0])} to {utc_text(self._slots[-1])}, with gaps" if self._slots else "none at all"
            raise InputError(f"no decision recorded the {self.name} at {utc_text(market_ms)}; recorded are {span}: a test over other times would be invented")
        return self._values[i]

    def close(self) -> None:
        pass
