"""/paper/...: the exchange's own controls: clock, accounts, faults, reset, status.

No key guards them, so no browser may reach them on another site's behalf: a Host that is
not loopback (DNS rebinding) and requests that a page of another origin sent are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from core.config import is_loopback
from core.errors import InputError, NotFound, Unavailable
from core.paper import accounts, private
from core.paper.clock import LAST_MS
from core.paper.jsonio import check_keys, number, read_object
from core.paper.wire import Request, Response
from core.storage import dumps

if TYPE_CHECKING:
    from core.paper.exchange import PaperExchange

log = logging.getLogger(__name__)
VERSION = "1"  # of this exchange's own paths
_JSON = {"Content-Type": "application/json;charset=UTF-8", "Cache-Control": "no-store"}
Handler = Callable[["PaperExchange", Request], Any]


def handle(x: PaperExchange, request: Request) -> Response:
    refusal = _foreign(request)
    if refusal:
        return _answer(403, {"error": refusal})
    methods = _route(request.path.rstrip("/"))
    if not methods:
        return _answer(404, {"error": f"there is no {request.path}; known are /paper/status, clock, accounts, faults, reset"})
    run = methods.get(request.method)
    if run is None:
        response = _answer(405, {"error": f"{request.path} takes {', '.join(sorted(methods))}"})
        response.headers["Allow"] = ", ".join(sorted(methods))
        return response
    try:
        return _answer(200, run(x, request))
    except NotFound as e:
        return _answer(404, {"error": str(e)})
    except InputError as e:
        return _answer(400, {"error": str(e)})


def _answer(status: int, value: Any) -> Response:
    return Response(status, dumps(value).encode(), dict(_JSON))


def _foreign(request: Request) -> str | None:
    """Why this request may not come in, None when it may."""
    host = request.headers.get("host", "")
    if host and not _here(host):
        return f"the Host {host[:80]!r} is not this machine; use 127.0.0.1"
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "a page of another origin may not use the paper exchange's controls"
    site = request.headers.get("sec-fetch-site")
    typed = request.method == "GET" and site == "none"  # a person who typed the address
    if site is not None and site != "same-origin" and not typed:
        return "a page of another site may not use the paper exchange's controls"
    return None


def _here(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # no address at all, such as "["
        return False


def _route(path: str) -> dict[str, Handler]:
    found = _ROUTES.get(path)
    if found is not None:
        return found
    parts = path.split("/")
    if len(parts) == 5 and parts[2] == "accounts" and parts[4] in _OF_AN_ACCOUNT:
        return {"POST": _OF_AN_ACCOUNT[parts[4]]}
    return {}


# --- status and clock --------------------------------------------------------------


def state(x: PaperExchange) -> str:
    return "ended" if x.clock.ended else "stopped" if not x.clock.speed and not x.clock.live else "running"


def status(x: PaperExchange, _: Request) -> Any:
    _catch_up(x)
    return {
        "installation": x.installation,
        "market": x.market.source,
        "state": state(x),
        "market_ms": x.clock.now(),
        "wall_ms": x.wall(),
        "speed": x.clock.speed,
        "end_ms": x.market.end_ms,
        "pid": x.pid,
        "version": VERSION,
        "generation": x.generation,
        "settings_differ": x.differing(),
        "accounts": len(x.accounts.by_name),
        "open_orders": len(x.matching.open),
        "open_lists": len(x.matching.lists),
        "faults": len(x.faults.shown()),
    }


def clock(x: PaperExchange, _: Request | None = None) -> Any:
    return {"market_ms": x.clock.now(), "wall_ms": x.wall(), "speed": x.clock.speed, "source": x.market.source}


def set_clock(x: PaperExchange, request: Request) -> Any:
    value = read_object(request.body)
    check_keys(value, set(), {"speed", "advance_ms", "step_to_ms"})
    if len(value) != 1:
        raise InputError('exactly one of speed, advance_ms and step_to_ms must be given, such as {"advance_ms": 60000}')
    if x.clock.live:
        if value == {"speed": 1}:
            return clock(x)
        raise InputError("the real market's time can't be moved; PAPER_MARKET=synthetic or replay can")
    if "speed" in value:
        speed = number("speed", value["speed"], low=0, high=100_000)
        if speed and speed != round(speed, 6):
            raise InputError("speed: must have at most 6 decimals; 0 stands still")
        _catch_up(x)
        x.set_speed(speed)
        return clock(x)
    now = x.clock.now()
    if "advance_ms" in value:
        target = now + int(number("advance_ms", value["advance_ms"], low=0, high=LAST_MS, whole=True))
    else:
        target = int(number("step_to_ms", value["step_to_ms"], low=0, high=LAST_MS, whole=True))
    try:
        x.clock.step_to(target)
    except ValueError as e:
        raise InputError(f"step_to_ms: {e}; a moment from there on would be right") from e
    _catch_up(x)
    return clock(x)


def _catch_up(x: PaperExchange) -> None:
    """Fill what was reached. Where prices can't be had (the real market, offline) the controls work all the same."""
    try:
        x.matching.catch_up(x.matching.symbols_with_orders(), x.clock.now())
    except Unavailable as e:
        log.warning("prices can't be had for now: %s", e)


def reset(x: PaperExchange, request: Request) -> Any:
    if request.body.strip():
        check_keys(read_object(request.body), set(), set())
    x.reset()
    return {"reset": True, **clock(x)}


# --- accounts ----------------------------------------------------------------------


def list_accounts(x: PaperExchange, _: Request) -> Any:
    _catch_up(x)
    return x.accounts.shown()


def add_account(x: PaperExchange, request: Request) -> Any:
    return accounts.show(x.accounts.add(read_object(request.body), x.clock.now()))


def _named(request: Request) -> str:
    return unquote(request.path.split("/")[3])


def _deposit(x: PaperExchange, request: Request) -> Any:
    _catch_up(x)
    return accounts.show(x.accounts.deposit(_named(request), read_object(request.body), x.clock.now()))


def _withdraw(x: PaperExchange, request: Request) -> Any:
    _catch_up(x)
    return accounts.show(x.accounts.withdraw(_named(request), read_object(request.body), x.clock.now()))


def _bnb_fees(x: PaperExchange, request: Request) -> Any:
    """What was filled before is charged as it was set before."""
    _catch_up(x)
    return accounts.show(x.accounts.set_bnb_fees(_named(request), read_object(request.body), x.clock.now()))


def _restrictions(x: PaperExchange, request: Request) -> Any:
    return private.set_restrictions(x, _named(request), read_object(request.body))


_OF_AN_ACCOUNT: dict[str, Handler] = {"deposit": _deposit, "withdraw": _withdraw, "bnb_fees": _bnb_fees, "restrictions": _restrictions}


# --- faults ------------------------------------------------------------------------


def list_faults(x: PaperExchange, _: Request) -> Any:
    return x.faults.shown()


def add_fault(x: PaperExchange, request: Request) -> Any:
    return x.faults.add(read_object(request.body)).shown()


def clear_faults(x: PaperExchange, _: Request) -> Any:
    return {"cleared": x.faults.clear()}


_ROUTES: dict[str, dict[str, Handler]] = {
    "/paper/status": {"GET": status},
    "/paper/clock": {"GET": clock, "POST": set_clock},
    "/paper/accounts": {"GET": list_accounts, "POST": add_account},
    "/paper/faults": {"GET": list_faults, "POST": add_fault, "DELETE": clear_faults},
    "/paper/reset": {"POST": reset},
}
