"""What an endpoint is: its handler, weight, parameters, and the call it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.model import ZERO
from core.paper.store import Account
from core.paper.wire import Request

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange


def _nobody() -> Account:
    return Account("", "", "", ZERO, ZERO, 0)


@dataclass(slots=True)
class Call:
    """One request on its way: its parameters, market and wall ms (fixed for its whole course), who asks."""

    request: Request
    values: dict[str, str]
    now: int
    wall: int
    account: Account = field(default_factory=_nobody)  # the caller's, on signed endpoints
    headers: dict[str, str] = field(default_factory=dict)  # to be added to the answer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`run` gives what is sent as JSON (bytes are sent as they are). `check` looks at the
    parameters together, in the same step as their formats. `free`: weighs nothing when it succeeds."""

    run: Callable[[PaperExchange, Call], Any]
    weight: int | Callable[[Mapping[str, str]], int] = 1
    signed: bool = False
    needs: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    check: Callable[[Mapping[str, str]], None] | None = None
    free: bool = False
