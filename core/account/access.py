"""How processes of a yard reach an exchange: through the common request budget, and bots with shared reads.

Whoever makes a client takes it from here; one that is made elsewhere spends weight that nobody
counts. Owns no file itself (core/account/budget.py and shared.py own theirs).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from core.account import budget, shared
from core.account.shared_exchange import SharedExchange
from core.clock import wall_ms
from core.config import Settings
from core.exchange import Priority
from core.model import Mode
from core.storage import Files

if TYPE_CHECKING:
    from core.binance_client import BinanceClient


def gate(settings: Settings, mode: Mode, account: str = "main") -> budget.Budget:
    """The budget of the host that this mode's requests go to."""
    from core.binance_client import base_url

    return budget.Budget(Files(settings.home).path(budget.FILE), budget.host_of(base_url(settings, mode)), wall_ms, account)


def client(
    settings: Settings,
    mode: Mode = "paper",
    account: str = "main",
    *,
    priority: Priority = "page",
    sleep: Callable[[float], None] = time.sleep,
    public: bool = False,
) -> BinanceClient:
    """A client for the page, a command or the yard. Raises AccessRefused where the keys are missing, unless only `public` data is wanted.

    python-binance is imported here, by the first one who needs it."""
    from core.binance_client import BinanceClient

    made = BinanceClient(settings, mode, account, sleep=sleep, gate=gate(settings, mode, account), public=public)
    made.priority = priority
    return made


def for_bot(settings: Settings, mode: Mode, account: str = "main") -> SharedExchange:
    """A bot's exchange: its requests count, and its reads are shared with the other bots."""
    return SharedExchange(client(settings, mode, account, priority="entry"), shared.Shared(Files(settings.home).path(shared.FILE)))
