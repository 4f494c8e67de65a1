"""The dashboard: routes, and the page as one string. `python3 simple_dash.py` serves it.

What the page shows is computed in core/dash; this file only speaks HTTP. Owns no file.
It works from any folder, alone: the yard (`python3 -m core.fleet`) is started when its
lock is free, and bots, yard and paper exchange go on when the page is closed.

Sections: answers · routes (pages, bots, account, backtests) · the door (hosts, origins, login) · main · login page · page.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

if __name__ == "__main__":
    from core.bootstrap import ensure_packages

    ensure_packages()

import secrets  # noqa: E402 - the packages must be there first

from flask import Flask, Response, g, redirect, request, session  # noqa: E402
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge  # noqa: E402

from core.config import Settings, load  # noqa: E402
from core.dash import account, alert, backtests, hands, inputs  # noqa: E402
from core.dash.board import Board  # noqa: E402
from core.dash.gate import ANY_ADDRESS, Gate, Refusal, secret_key  # noqa: E402
from core.dash.market import MakeClient, Market, Unreachable, binance  # noqa: E402
from core.errors import AlreadyRunning, BotyardError, Conflict, ExchangeError, InputError, NotFound, SettingsError, StateError, StrategyError  # noqa: E402
from core.fleet import control, flattening  # noqa: E402
from core.fleet.supervisor import YARD_LOCK, StopFailed  # noqa: E402
from core.storage import Files, dumps, installation  # noqa: E402

log = logging.getLogger("botyard.dash")

STATIC = ROOT / "core" / "dash" / "static"
LIBRARIES = ("chart.umd.min.js", "lightweight-charts.standalone.production.js")
STOP_TIMEOUT_S = 15
SESSION_HOURS = 12
REVIVE_S = 3.0
# A backtest's report: its own scripts and styles, an origin of its own, no network, no form, and nothing of the page that opened it.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# --- answers -------------------------------------------------------------------------


def answer(value: Any, status: int = 200) -> Response:
    """JSON with exact numbers; never kept by a cache."""
    return Response(dumps(value), status, mimetype="application/json")


def success(told: Mapping[str, Any], status: int = 200) -> Response:
    return answer({"success": True, **told}, status)


def failure(status: int, error: str, **more: Any) -> Response:
    return answer({"success": False, "error": error, **more}, status)


def sent(optional: bool = False) -> dict[str, Any]:
    """The JSON object that was sent; `optional`: no body at all is an empty one. InputError."""
    data = request.get_data()
    return {} if optional and not data else inputs.body(data)


def status_of(e: BotyardError) -> int:
    """An error of ours as an HTTP status: who must act decides."""
    if isinstance(e, NotFound):
        return 404
    if isinstance(e, Conflict | AlreadyRunning):
        return 409
    if isinstance(e, InputError | StrategyError):
        return 400
    if isinstance(e, StopFailed):
        return 504
    if isinstance(e, Unreachable | ExchangeError):
        return 503
    return 500


# --- routes --------------------------------------------------------------------------


def create_app(
    settings: Settings,
    files: Files,
    *,
    supervisor: Any = None,
    make_client: MakeClient | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    paper_wait_s: float = 12.0,
) -> Flask:
    """The WSGI application over one home. `app.extensions["board"]` is its Board; nothing is started here."""
    if not settings.dashboard_is_local and not settings.dashboard_password:
        raise SettingsError(f"DASHBOARD_PASSWORD: must be set, because DASHBOARD_HOST is {settings.dashboard_host}, which others can reach")
    keeper = supervisor or control.make_supervisor(files, settings)

    def bring_up_paper() -> None:
        control.want_paper(files)
        control.ensure_yard(files, settings, keeper)

    market = Market(settings, make_client or binance(settings, files), bring_up_paper, paper_wait_s)
    board = Board(settings, files, keeper, market)
    app = Flask("botyard", static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=inputs.MAX_BODY, PROPAGATE_EXCEPTIONS=False)
    app.extensions["board"] = board
    app.url_map.strict_slashes = False
    _door(app, settings, files, monotonic)
    for routes in (_pages, _bots, _account, _backtests):
        routes(app, board)
    _errors(app, settings)
    return app


def _pages(app: Flask, board: Board) -> None:
    @app.get("/")
    def page() -> Response:
        return html(PAGE.replace("__LOGOUT__", "" if session.get("epoch") else "hidden"))

    @app.get("/static/<name>")
    def static_file(name: str) -> Response:
        if name not in LIBRARIES:
            raise NotFound("There is no such file")
        response = Response((STATIC / name).read_bytes(), mimetype="text/javascript")
        response.headers["Cache-Control"] = "private, max-age=86400"
        return response

    @app.get("/favicon.ico")
    def favicon() -> Response:
        return Response(status=204)

    @app.get("/healthz")
    def healthz() -> Response:
        reason = board.healthy()
        return answer({"ok": True}) if reason is None else failure(503, reason, ok=False)


def _bots(app: Flask, board: Board) -> None:
    files, settings = board.files, board.settings

    @app.get("/api/overview")
    def overview() -> Response:
        return answer(board.overview())

    @app.get("/api/bot/<raw>/details")
    def details(raw: str) -> Response:
        cursor, only_log = inputs.cursor(request.args.get("cursor")), request.args.get("only") == "log"
        found = board.details(inputs.bot_id(raw), cursor, only_log)
        return answer(found if only_log else {**found, "unclaimed": hands.unclaimed(board, found["bot"])})

    @app.get("/api/bot/<raw>/candles")
    def candles(raw: str) -> Response:
        limit = inputs.limit(request.args.get("limit"), 300, 1000)
        return answer(board.candles(inputs.bot_id(raw), request.args.get("timeframe"), limit))

    @app.get("/api/strategies")
    def strategies() -> Response:
        return answer(board.strategies())

    @app.get("/api/search-coins")
    def search() -> Response:
        return success({"coins": board.search(request.args.get("q", ""), request.args.get("mode"))})

    @app.post("/api/create-bot")
    def create() -> Response:
        return success({"bot": board.create(sent())}, 201)

    @app.post("/api/preflight")
    def preflight() -> Response:
        """What must be right before this bot trades with real money; nothing is changed."""
        given = sent()
        chosen = given.pop("id", None)
        return answer(board.preflight(given, None if chosen is None else inputs.bot_id(str(chosen))))

    @app.post("/api/bot/<raw>/update")
    def update(raw: str) -> Response:
        return success(board.update(inputs.bot_id(raw), sent()))

    @app.post("/api/bot/<raw>/start")
    def start(raw: str) -> Response:
        bot_id = inputs.bot_id(raw)
        control.start_bot(files, settings, bot_id, account.BY, board.supervisor)
        return success({"bot": board.row(bot_id)})

    @app.post("/api/bot/<raw>/stop")
    def stop(raw: str) -> Response:
        bot_id = inputs.bot_id(raw)
        done = control.stop_bot(files, settings, bot_id, account.BY, board.supervisor, timeout_s=STOP_TIMEOUT_S)
        row = None
        with contextlib.suppress(StateError):  # it is stopped, also where the list of bots can't be read
            row = board.row(bot_id)
        return success({"bot": row, "note": done["warning"]})

    @app.post("/api/bot/<raw>/close")
    def close(raw: str) -> Response:
        """Its position is sold at market: 202, the bot does it at its next step."""
        bot_id = inputs.bot_id(raw)
        control.close_position(files, settings, bot_id, account.BY, board.supervisor)
        return success({"bot": board.row(bot_id)}, 202)

    @app.post("/api/bot/<raw>/<any(levels, skip, adopt, mend):command>")
    def by_hand(raw: str, command: str) -> Response:
        status, told = hands.command(board, inputs.bot_id(raw), command, sent(optional=True))
        return answer(told, status)

    @app.post("/api/bot/<raw>/pot")
    def pot(raw: str) -> Response:
        return success(account.change_pot(board, inputs.bot_id(raw), sent()))

    @app.delete("/api/bot/<raw>")
    def delete(raw: str) -> Response:
        bot_id = inputs.bot_id(raw)
        control.delete_bot(files, bot_id, account.BY)
        return success({"id": bot_id, "note": "Its files are in archive/."})

    @app.post("/api/stop-all")
    def stop_all() -> Response:
        done = control.stop_all(files, settings, account.BY, board.supervisor)
        failed = {i: r["error"] for i, r in done["bots"].items() if r["error"]}
        if done["error"] or failed:
            words = [done["error"]] if done["error"] else []
            return failure(504 if failed else 500, "; ".join([*words, *(f"bot {i}: {why}" for i, why in failed.items())]), bots=done["bots"])
        return success({"bots": done["bots"]})


def _account(app: Flask, board: Board) -> None:
    @app.get("/api/account")
    def account_and_risk() -> Response:
        return answer(account.account(board, request.args.get("mode", "paper")))

    @app.get("/api/yard")
    def yard() -> Response:
        return answer(account.yard(board))

    @app.get("/api/reconcile")
    def reconcile() -> Response:
        return answer(hands.report(board, request.args.get("mode", "paper")))

    @app.post("/api/reconcile")
    def acknowledge() -> Response:
        return success(hands.acknowledge(board, sent()))

    @app.post("/api/kill-switch")
    def kill_switch() -> Response:
        """Written before the answer; bots sell at their next step, the overview shows how far they are."""
        return success(account.kill(board, sent()))

    @app.post("/api/maintenance")
    def maintenance() -> Response:
        return success(account.set_maintenance(board, sent()))

    @app.post("/api/guards")
    def guards() -> Response:
        return success(account.set_guards(board, sent()))

    @app.post("/api/guards/reset")
    def reset_guard() -> Response:
        return success(account.reset_guard(board, sent()))

    @app.post("/api/cancel-orphan")
    def cancel_orphan() -> Response:
        return success(account.cancel_orphan(board, sent()))

    @app.post("/api/send_alert")
    def send_alert() -> Response:
        return success(alert.send(board, sent(optional=True)), 202)


def _backtests(app: Flask, board: Board) -> None:
    @app.get("/api/bot/<raw>/backtest")
    def backtest_of(raw: str) -> Response:
        """Candles there are, defaults and earlier runs: what a backtest of this bot can be made of."""
        return answer(board.backtest_of(inputs.bot_id(raw)))

    @app.post("/api/bot/<raw>/backtest")
    def run_backtest(raw: str) -> Response:
        """A process of its own begins: 202 with its number; GET /api/backtests/NUMBER says how far it is."""
        return success({"run": board.run_backtest(inputs.bot_id(raw), sent(optional=True))}, 202)

    @app.get("/api/backtests/<raw>")
    def backtest(raw: str) -> Response:
        return answer(board.backtests.look(backtests.run_id(raw)))

    @app.get("/api/backtests/<raw>/<name>")
    def backtest_file(raw: str, name: str) -> Response:
        """The report has scripts of its own: it runs in a sandbox, as nobody's page, and reaches no network."""
        run = backtests.run_id(raw)
        response = Response(board.backtests.file(run, name), mimetype=backtests.FILES[name])
        if name == "report.html":
            g.policy = REPORT_POLICY
        else:
            response.headers["Content-Disposition"] = f'attachment; filename="backtest-{run}-{name}"'
        return response

    @app.delete("/api/backtests/<raw>")
    def end_backtest(raw: str) -> Response:
        """Ends one that runs; removes one that has ended."""
        return success(board.backtests.cancel(backtests.run_id(raw)))


def _errors(app: Flask, settings: Settings) -> None:
    hidden = settings.secrets()

    def clean(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text

    def failed(e: Exception) -> Response:
        if isinstance(e, Refusal):
            response = failure(e.status, str(e))
            response.headers.update(e.headers)
            return response
        if isinstance(e, StateError):
            return failure(500, clean(str(e)), file=e.path, reason=clean(e.reason), remedy=e.remedy)
        if isinstance(e, BotyardError):
            return failure(status_of(e), clean(str(e)))
        if isinstance(e, RequestEntityTooLarge):
            return failure(413, f"The request is larger than {inputs.MAX_BODY // 1024} kB; send a smaller one")
        if isinstance(e, HTTPException):
            words = {404: f"There is no {request.path[:100]}; the dashboard is at /", 405: f"{request.method} can't be used here"}
            code = e.code or 500
            response = failure(code, words.get(code, e.description or e.name))
            if code == 405 and getattr(e, "valid_methods", None):
                response.headers["Allow"] = ", ".join(sorted(e.valid_methods or ()))  # type: ignore[attr-defined]
            return response
        if isinstance(e, OSError):
            log.error("%s %s: %s", request.method, clean(request.path), clean(str(e)))
            return failure(500, clean(f"A file could not be read or written ({e.strerror or type(e).__name__}); look at the disk and the rights of the folder"))
        log.error("%s %s failed: %s", request.method, clean(request.path), clean(_trace(e)))
        return failure(500, "Something in the dashboard went wrong; its log says what. Nothing else was changed.")

    app.register_error_handler(Exception, failed)


def _trace(e: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(e))


# --- the door: hosts, origins, login ----------------------------------------------------


def html(text: str, status: int = 200) -> Response:
    """A page whose scripts and styles carry this answer's own nonce."""
    g.nonce = secrets.token_urlsafe(18)
    return Response(text.replace("__NONCE__", g.nonce), status, mimetype="text/html")


def _door(app: Flask, settings: Settings, files: Files, monotonic: Callable[[], float]) -> None:
    key = secret_key(files)
    gate = Gate(settings, key, monotonic)
    app.secret_key = key
    app.config.update(
        # Cookies are not told apart by port: two yards on one host would log each other out.
        SESSION_COOKIE_NAME=f"botyard_{settings.dashboard_port}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=timedelta(hours=SESSION_HOURS),
    )

    @app.before_request
    def guard() -> Response | None:
        gate.check_host(request.headers.get("Host", ""))
        api = request.path.startswith("/api/")
        if api or request.method not in ("GET", "HEAD"):
            gate.check_origin(dict(request.headers), f"{request.scheme}://{request.headers.get('Host', '')}")
        if gate.needs_login and request.path not in ("/login", "/healthz"):
            refused = _login_needed(gate, api)
            if refused is not None:
                return refused
        if api and request.method not in ("GET", "HEAD", "OPTIONS"):
            return _json_only()
        return None

    @app.after_request
    def headers(response: Response) -> Response:
        nonce = g.get("nonce")
        script = f"'nonce-{nonce}'" if nonce else "'none'"
        policy = (
            f"default-src 'none'; script-src {script}; style-src {script}; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        sandboxed = g.get("policy")
        response.headers["Content-Security-Policy"] = sandboxed or policy
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Under no-referrer a browser sends a form with "Origin: null": the login form could not show its origin.
        response.headers["Referrer-Policy"] = "same-origin" if request.path == "/login" else "no-referrer"
        # A sandboxed answer with an opener policy of its own is refused by browsers; what opens it says noopener.
        response.headers["Cross-Origin-Opener-Policy"] = "unsafe-none" if sandboxed else "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.get("/login")
    def login_page() -> Response:
        if not gate.needs_login or gate.check_session(session.get("epoch")):
            return _redirect("/")
        return html(LOGIN.replace("__MESSAGE__", ""))

    @app.post("/login")
    def login() -> Response:
        if not gate.needs_login:
            return _redirect("/")
        user, password = request.form.get("user", ""), request.form.get("password", "")
        try:
            right = gate.check_password(user, password, request.remote_addr or "")
        except Refusal as e:
            response = html(LOGIN.replace("__MESSAGE__", f"{e}."), e.status)
            response.headers.update(e.headers)
            return response
        if not right:
            return html(LOGIN.replace("__MESSAGE__", "Name or password is wrong."), 401)
        session.clear()
        session.permanent = True
        session["epoch"] = gate.epoch
        return _redirect("/")

    @app.post("/logout")
    def logout() -> Response:
        session.clear()
        return _redirect("/login")


def _redirect(to: str) -> Response:
    response = redirect(to, 303)
    return Response(response.response, 303, response.headers)


def _login_needed(gate: Gate, api: bool) -> Response | None:
    if gate.check_session(session.get("epoch")):
        return None
    header = request.headers.get("Authorization", "")
    if header and gate.check_basic(header, request.remote_addr or ""):
        return None
    if api or request.method not in ("GET", "HEAD"):
        return failure(401, "Log in first, at /login, or send name and password as HTTP Basic")
    return _redirect("/login")


def _json_only() -> Response | None:
    """A change goes as application/json, which a foreign form can't send; without a body, it needs no type."""
    kind = request.headers.get("Content-Type", "")
    has_body = bool(request.content_length) or bool(request.headers.get("Transfer-Encoding"))
    if request.mimetype == "application/json" or (not kind and not has_body):
        return None
    return failure(415, "Send this as application/json (header Content-Type: application/json)")


# --- main ----------------------------------------------------------------------------------


def taken(host: str, port: int) -> str | None:
    """Why this address can't be listened on, None when it can."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        return f"DASHBOARD_HOST: {host} is no address of this machine ({e.strerror})"
    for family, kind, proto, _, address in found:
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as e:
                return (
                    f"Port {port} on {host} can't be used ({e.strerror}). If Botyard's dashboard is running already, open http://{host}:{port}; "
                    f"else set another DASHBOARD_PORT in .env."
                )
    return None


def farewell(board: Board) -> list[str]:
    """What goes on running when the page is closed, and how to stop it."""
    try:
        running = [r["name"] for r in board.overview()["bots"] if r["status"] in ("running", "starting", "stuck")]
    except (BotyardError, OSError) as e:
        running, said = [], [f"Which bots are running could not be read: {e}"]
    else:
        said = []
    if running:
        said.append(f"Still running: {len(running)} bot{'s' if len(running) != 1 else ''} ({', '.join(running[:10])}{', ...' if len(running) > 10 else ''}).")
    if board.yard()["running"]:
        said.append("Still running: the yard, which watches over the bots, and the paper exchange where it is in use.")
    if said:
        said.append(f"To stop everything: python3 {ROOT / 'utils' / 'yard.py'} stop --all")
        return ["The dashboard is closed.", *said]
    return ["The dashboard is closed; nothing of this yard goes on running."]


def revive_yard(files: Files, settings: Settings) -> None:
    """Start the yard again whenever it has died without a last word; one that was stopped stays so."""
    while True:
        time.sleep(REVIVE_S)
        with contextlib.suppress(BotyardError, OSError):  # the page shows that it is gone; the next look tries again
            told = control.yard_status(files)
            if told is not None and told.get("state") == "running" and not files.lock(YARD_LOCK).holder():
                log.warning("the yard has died; it is started again")
                control.ensure_yard(files, settings)


def _on_signal(_number: int, _frame: Any) -> None:
    raise SystemExit(0)


USAGE = """usage: simple_dash.py [-h]

Serves Botyard's page in the foreground. It takes no arguments; its settings (DASHBOARD_HOST,
DASHBOARD_PORT, ...) are in .env. Ctrl-C closes the page; bots go on.

exit codes: 0 ended as asked, 1 the port is taken or the page can't be served, 2 wrong arguments or settings"""


def main(argv: list[str]) -> int:
    """Exit codes as USAGE says."""
    if argv:
        wrong = [a for a in argv if a not in ("-h", "--help")]
        print(USAGE, *([f"\nUnknown: {' '.join(wrong)}"] if wrong else []), sep="\n", file=sys.stderr if wrong else sys.stdout)
        return 2 if wrong else 0
    try:
        settings = load()
    except SettingsError as e:
        print("The settings need mending:", *(f"  {p}" for p in e.problems), sep="\n", file=sys.stderr)
        return 2
    logging.basicConfig(level=getattr(logging, settings.log_level), format="%(asctime)s - %(levelname)s - %(message)s", stream=sys.stderr)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    host, port = settings.dashboard_host, settings.dashboard_port
    problem = taken(host, port)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    files = Files(settings.home)
    try:
        installation(files)
        app = create_app(settings, files)
    except (BotyardError, OSError) as e:
        print(f"The dashboard can't start: {e}", file=sys.stderr)
        return 1
    from waitress.server import create_server

    try:
        # Flask answers 413 itself, as JSON; the server's own bound is only the outer wall.
        server = create_server(app, host=host.strip("[]"), port=port, threads=8, ident="botyard", max_request_body_size=1 << 20, channel_timeout=60)
    except OSError as e:
        print(f"Port {port} on {host} can't be used ({e.strerror}). Set another DASHBOARD_PORT in .env, or end what holds it.", file=sys.stderr)
        return 1
    board: Board = app.extensions["board"]
    board.see_flatten_through = lambda: flattening.begin(files, settings, board.supervisor, account.BY)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        try:
            control.ensure_yard(files, settings)
        except (BotyardError, OSError) as e:
            print(f"The yard could not be started, bots are not watched over: {e}", file=sys.stderr)
        threading.Thread(target=revive_yard, args=(files, settings), name="yard", daemon=True).start()
        with contextlib.suppress(BotyardError, OSError):  # the page tells it; here only the logs' tails are read beforehand
            board.overview()
        shown = "127.0.0.1" if host in ANY_ADDRESS else host
        print(f"Botyard's dashboard: http://{shown}:{port}  (Ctrl-C closes it; bots go on)", flush=True)
        server.run()
    except (KeyboardInterrupt, SystemExit):
        pass
    finally:
        server.close()
        flattening.end(files)
        board.close()
    print("", *farewell(board), sep="\n", flush=True)
    return 0


# --- login page ------------------------------------------------------------------------------

LOGIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Botyard: log in</title>
<style nonce="__NONCE__">
:root{--bg:#f3f5f9;--card:#fff;--ink:#172033;--dim:#5b667d;--line:#dde3ee;--accent:#275fd6;--accent-ink:#fff;--bad:#c02a39}
@media (prefers-color-scheme:dark){:root{--bg:#0d121b;--card:#151c29;--ink:#e6ebf5;--dim:#94a1b9;--line:#273246;--accent:#6c9cff;--accent-ink:#0b1220;--bad:#ff7581}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
form{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:28px;width:min(360px,calc(100vw - 32px));display:grid;gap:14px}
h1{font-size:20px;margin:0}label{display:grid;gap:4px;font-size:14px;color:var(--dim)}p{margin:0;color:var(--bad);min-height:1.5em;font-size:14px}
input{font:inherit;padding:9px 11px;border:1px solid var(--line);border-radius:8px;background:transparent;color:var(--ink)}
button{font:inherit;font-weight:600;padding:10px;border:0;border-radius:8px;background:var(--accent);color:var(--accent-ink);cursor:pointer}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
</style></head><body><form method="post" action="/login"><h1>Botyard</h1>
<label>Name <input name="user" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<p role="alert">__MESSAGE__</p><button>Log in</button></form></body></html>
"""

# --- page --------------------------------------------------------------------------------------

PAGE = r"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Botyard</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='8' fill='%232f6bea'/%3E%3Cpath d='M7 21l6-7 5 4 7-9' stroke='white' stroke-width='3' fill='none' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E">
<style nonce="__NONCE__">
:root{--bg:#f3f5f9;--card:#fff;--raise:#f7f9fc;--ink:#172033;--dim:#5b667d;--line:#dde3ee;--accent:#275fd6;--accent-ink:#fff;--good:#0a7549;--bad:#c02a39;--warn:#955900;--good-bg:#e2f5ec;--bad-bg:#fdeaec;--warn-bg:#fff2da;--info-bg:#e6eefe;--grey-bg:#e9edf4;--shadow:0 1px 2px #1720330d,0 4px 14px #1720330a;--radius:14px}
@media (prefers-color-scheme:dark){:root{--bg:#0d121b;--card:#151c29;--raise:#1a2332;--ink:#e6ebf5;--dim:#94a1b9;--line:#273246;--accent:#6c9cff;--accent-ink:#0b1220;--good:#3ecf8e;--bad:#ff7581;--warn:#f0b54b;--good-bg:#12352a;--bad-bg:#3b1b22;--warn-bg:#3a2c10;--info-bg:#1b2b4d;--grey-bg:#232d3f;--shadow:none}}
*{box-sizing:border-box}
[hidden]{display:none!important}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
h1,h2,h3,p{margin:0}
h2{font-size:17px;letter-spacing:-.01em}
h3{font-size:14px}
a{color:var(--accent)}
button,input,select{font:inherit;color:inherit}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
main:focus{outline:0}
.skip{position:absolute;left:-999px;top:8px;background:var(--card);padding:8px 12px;border-radius:8px;z-index:20}
.skip:focus{left:12px}
.wrap{max-width:1440px;margin:0 auto;padding:0 24px}
header{position:sticky;top:0;z-index:10;background:var(--card);border-bottom:1px solid var(--line)}
.bar{display:flex;align-items:center;gap:12px;min-height:58px;flex-wrap:wrap;padding-top:8px;padding-bottom:8px}
.brand{display:flex;align-items:center;gap:10px;font-weight:700;font-size:18px;letter-spacing:-.02em;color:inherit;text-decoration:none}
.brand svg{width:26px;height:26px;display:block}
.grow{flex:1}
main.wrap{padding-top:20px;padding-bottom:28px;display:grid;gap:20px}
main>*{min-width:0}
.pill{display:inline-flex;align-items:center;gap:6px;border-radius:99px;padding:2px 10px;font-size:12.5px;font-weight:600;white-space:nowrap;background:var(--grey-bg);color:var(--dim)}
.pill::before{content:"";width:7px;height:7px;border-radius:50%;background:currentColor}
.pill.plain::before{display:none}
.pill.good{background:var(--good-bg);color:var(--good)}.pill.bad{background:var(--bad-bg);color:var(--bad)}.pill.warn{background:var(--warn-bg);color:var(--warn)}.pill.info{background:var(--info-bg);color:var(--accent)}
.tag{display:inline-block;border:1px solid var(--line);border-radius:6px;padding:0 6px;font-size:11.5px;font-weight:600;letter-spacing:.03em;text-transform:uppercase;color:var(--dim);white-space:nowrap}
.tag.testnet{color:var(--warn);border-color:currentColor}.tag.live{background:var(--bad);color:var(--card);border-color:var(--bad)}
tr.money{box-shadow:inset 4px 0 0 var(--bad)}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.dim{color:var(--dim)}
.small{font-size:13px}.tiny{font-size:12px}.strong{font-weight:650}.nowrap{white-space:nowrap}.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.btn{border:1px solid var(--line);background:var(--card);border-radius:9px;padding:6px 12px;font-weight:600;font-size:14px;cursor:pointer;white-space:nowrap;display:inline-flex;align-items:center;gap:6px;justify-content:center}
a.btn{text-decoration:none;color:inherit}
.btn[aria-current]{border-color:var(--accent);color:var(--accent)}
.btn:hover{background:var(--raise)}
.btn:disabled{opacity:.5;cursor:default}
.btn.primary{background:var(--accent);border-color:var(--accent);color:var(--accent-ink)}
.btn.primary:hover{filter:brightness(1.06)}
.btn.danger{color:var(--bad)}
.btn.go{color:var(--good)}
.btn.ghost{border-color:transparent;background:transparent}
.btn.ghost:hover{background:var(--grey-bg)}
.btn.quiet{padding:4px 9px;font-size:13px}
.card{background:var(--card);border:1px solid var(--line);border-radius:var(--radius);box-shadow:var(--shadow)}
.pad{padding:18px 20px}
.banner{border-radius:12px;padding:12px 16px;background:var(--bad-bg);color:var(--bad);font-weight:600;overflow-wrap:anywhere}
.banner.warn{background:var(--warn-bg);color:var(--warn)}
.stale .live,.stale #yard{opacity:.45;filter:grayscale(1)}
#totals{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
.sum{display:grid;gap:12px}
.sum .top{display:flex;align-items:center;gap:10px;flex-wrap:wrap}
.figs{display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:12px 18px}
.figs .fig{grid-column:span 2}.figs .fig.big{grid-column:span 3}
.fig{display:grid;gap:1px}
.fig .k{font-size:12px;color:var(--dim)}
.fig .v{font-size:17px;font-weight:650;letter-spacing:-.01em;white-space:nowrap}
.fig.big .v{font-size:24px}
.assets{display:flex;gap:6px 14px;flex-wrap:wrap;font-size:13px;border-top:1px solid var(--line);padding-top:10px;color:var(--dim)}
.assets b{color:var(--ink);font-weight:600}
.head{display:flex;align-items:center;gap:10px;flex-wrap:wrap}
table{border-collapse:collapse;width:100%}
th{font-size:12px;font-weight:600;color:var(--dim);text-align:left;padding:10px 14px;border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:12px 14px;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child td{border-bottom:0}
th.num,td.num{text-align:right}
.bots td:first-child,.bots th:first-child{padding-left:20px}
.bots td:last-child,.bots th:last-child{padding-right:20px;text-align:right}
.bots .name{border:0;background:none;padding:0;font-weight:650;font-size:15px;cursor:pointer;text-align:left;overflow-wrap:anywhere;color:var(--ink)}
.bots .name:hover{text-decoration:underline}
.bots tbody tr:hover{background:var(--raise)}
.filter{display:inline-flex;border:1px solid var(--line);border-radius:9px;overflow:hidden}
.filter button{border:0;background:none;padding:5px 11px;font-size:13px;font-weight:600;color:var(--dim);cursor:pointer;white-space:nowrap}
.filter button+button{border-left:1px solid var(--line)}
.filter button[aria-pressed=true]{background:var(--info-bg);color:var(--accent)}
.filter button:focus-visible{outline-offset:-2px}
.clip{display:-webkit-box;-webkit-line-clamp:2;-webkit-box-orient:vertical;overflow:hidden;overflow-wrap:anywhere}
.c-bot{width:18%;min-width:150px}.c-state{width:13%}.c-sig{width:27%;min-width:170px}.c-pos{width:18%;min-width:185px}
.c-alerts{max-width:150px}
.nw{white-space:nowrap}
.acts{display:inline-flex;gap:6px;flex-wrap:nowrap;justify-content:flex-end}
.meta{display:flex;gap:6px;align-items:center;flex-wrap:wrap;margin-top:3px}
.empty{padding:48px 24px;text-align:center;display:grid;gap:10px;justify-items:center;color:var(--dim)}
.empty h3{font-size:17px;color:var(--ink)}
dialog{border:1px solid var(--line);border-radius:16px;background:var(--card);color:var(--ink);padding:0;width:min(620px,calc(100vw - 24px));max-height:calc(100vh - 32px);box-shadow:0 20px 60px #0005}
dialog::backdrop{background:#0b122088}
::placeholder{color:var(--dim);opacity:1}
dialog form,dialog .body{padding:22px 24px;display:grid;gap:16px}
dialog .foot{display:flex;gap:10px;justify-content:flex-end;flex-wrap:wrap}
#ask{width:min(460px,calc(100vw - 24px))}
.two{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.combo{position:relative}
.field{display:grid;gap:4px;align-content:start;position:relative;min-width:0}
.field label,.label{font-size:13px;font-weight:600}
.field .hint{font-size:12.5px;color:var(--dim)}
.field .wrong{font-size:12.5px;color:var(--bad);font-weight:600}
input:not([type=checkbox]),select{width:100%;padding:8px 11px;border:1px solid var(--line);border-radius:9px;background:var(--card);min-height:38px}
[aria-invalid=true]{border-color:var(--bad)!important}
.check{display:flex;gap:8px;align-items:center;font-size:14px}
.check input{width:17px;height:17px;accent-color:var(--accent)}
.pop{position:absolute;top:100%;left:0;right:0;z-index:5;margin:4px 0 0;padding:4px;list-style:none;background:var(--card);border:1px solid var(--line);border-radius:10px;max-height:230px;overflow:auto;box-shadow:0 10px 30px #0003}
.pop li{padding:7px 10px;border-radius:7px;cursor:pointer;display:flex;justify-content:space-between;gap:10px}
.pop li[aria-selected=true]{background:var(--info-bg)}
fieldset{border:1px solid var(--line);border-radius:10px;padding:12px 14px;margin:0;display:grid;gap:12px;min-width:0}
legend{font-size:13px;font-weight:600;padding:0 6px}
details>summary{cursor:pointer;font-weight:600;font-size:14px}
details[open]>summary{margin-bottom:12px}
#toasts{position:fixed;right:18px;bottom:18px;display:grid;gap:8px;z-index:30;max-width:min(420px,calc(100vw - 36px))}
.toast{background:var(--ink);color:var(--bg);border-radius:10px;padding:10px 14px;font-size:14px;overflow-wrap:anywhere;box-shadow:0 10px 30px #0004}
.toast.err{background:var(--bad);color:#fff}
@media (prefers-color-scheme:dark){.toast.err{color:#1b0a0d}}
.stack{display:grid;gap:20px}
.stack>*{min-width:0}
.grid2{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr);gap:20px}
.chart{height:380px;padding:0 4px 8px 14px;position:relative}
.equity{height:372px;position:relative}
.tabs{display:flex;gap:4px;border-bottom:1px solid var(--line);padding:8px 14px 0;overflow:auto hidden}
.tabs button{border:0;background:none;padding:9px 12px;font-weight:600;font-size:14px;color:var(--dim);cursor:pointer;border-bottom:2px solid transparent;margin-bottom:-1px;white-space:nowrap}
.tabs button[aria-selected=true]{color:var(--ink);border-color:var(--accent)}
.pane{overflow-x:auto;max-height:520px;overflow-y:auto}
.pane table{font-size:13.5px}
.pane td{padding:8px 14px}
.pane th{position:sticky;top:0;background:var(--card);z-index:1}
.pane .reason{min-width:240px;white-space:normal;overflow-wrap:anywhere}
#log{margin:0;padding:14px 18px;font-size:12.5px;line-height:1.55;white-space:pre-wrap;overflow-wrap:anywhere}
.logbox{max-height:520px;overflow:auto}
.l-w{color:var(--warn)}.l-e{color:var(--bad)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:14px 20px}
.facts .fig .v{white-space:normal;overflow-wrap:anywhere;font-size:15.5px}
.facts .fig{align-content:start}.fig .v .tiny{font-weight:400}
.note{border-left:3px solid var(--line);padding:2px 0 2px 12px;color:var(--dim);font-size:14px;overflow-wrap:anywhere}
.note.warn{border-color:var(--warn);color:var(--warn)}.note.bad{border-color:var(--bad);color:var(--bad)}
.hands{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:14px;align-items:start}
.hands fieldset{height:100%;align-content:start}
.missing{display:grid;gap:10px;border-radius:10px;padding:14px 16px;background:var(--warn-bg)}
.choice{display:grid;grid-template-columns:minmax(170px,auto) 1fr;gap:8px 14px;align-items:center}
.row{display:flex;gap:10px;flex-wrap:wrap;align-items:center}
.banner ul{margin:6px 0 0;padding-left:20px;font-weight:400}
.banner .row{margin-top:10px}
.checks{display:grid;gap:8px;margin:0;padding:0;list-style:none}
.checks li{display:grid;grid-template-columns:auto 1fr;gap:2px 10px;align-items:baseline;font-size:14px}
.checks .fix{grid-column:2;color:var(--dim);font-size:13px}
fieldset.real{border-color:var(--bad)}fieldset.real legend{color:var(--bad)}
.over{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:20px}
.over>.card{align-content:start}
.card.alarm{border-color:var(--bad);box-shadow:inset 4px 0 0 var(--bad)}
.btn.stop{background:var(--bad);border-color:var(--bad);color:var(--card)}
.btn.stop:hover{filter:brightness(1.06)}
.btn.large{padding:12px 18px;font-size:15.5px;flex:1 1 190px}
.track{display:block;height:7px;border-radius:99px;background:var(--grey-bg);overflow:hidden;min-width:64px;margin-top:4px}
.track span{display:block;height:100%;border-radius:99px;background:var(--good)}
.track.warn span{background:var(--warn)}.track.bad span{background:var(--bad)}
.sub{display:grid;gap:10px;border-top:1px solid var(--line);padding-top:16px;min-width:0}
.sub:empty{display:none}
.sub h3{font-size:15px}
.fold{font-size:13.5px}
.fold th,.fold td{padding:8px 12px 8px 0}
.fold .sort{border:0;background:none;padding:0;font-weight:600;color:inherit;cursor:pointer}
.fold .sort[aria-pressed=true]{color:var(--ink)}
details p+.levels{margin-top:10px}
.levels{display:grid;grid-template-columns:minmax(120px,1.3fr) 1fr 1fr;gap:8px 12px;align-items:center;font-size:13.5px}
.bt-notes{margin:0;padding-left:28px}
.bt-figures{font-size:13.5px;max-width:640px}
.bt-figures th,.bt-figures td{padding:5px 8px;white-space:normal}
#backtest,#backtest .sum{grid-template-columns:minmax(0,1fr)}
.bt-fields{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,215px),1fr));gap:14px 20px}
#backtest .facts{grid-template-columns:repeat(auto-fit,minmax(125px,1fr))}
#ask-l{margin:0;padding-left:18px;max-height:38vh;overflow:auto;display:grid;gap:4px}
.banner a{color:inherit;margin-left:6px}
#bare a{margin:0}
footer{color:var(--dim);font-size:12.5px;padding-bottom:28px}
footer .wrap{display:flex;gap:10px 24px;align-items:center;flex-wrap:wrap}
footer p{flex:1;min-width:min(100%,320px)}
@media (max-width:1000px){.grid2{grid-template-columns:minmax(0,1fr)}}
@media (max-width:1120px){
.bots thead{position:absolute;left:-9999px}
.bots,.bots tbody,.bots tr,.bots td{display:block}
.bots tr{padding:14px 20px;border-bottom:1px solid var(--line);display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:10px 16px}
.bots tbody tr:last-child{border-bottom:0}
.bots td,.bots td:first-child,.bots td:last-child{padding:0;border:0;text-align:left;min-width:0;width:auto;max-width:none}
.bots td[data-k]:not(:empty)::before{content:attr(data-k);display:block;font-size:11.5px;color:var(--dim);font-weight:600;margin-bottom:1px}
.bots td.c-bot,.bots td.c-act{grid-column:span 2;order:-1}
.bots td.c-act{text-align:right}
.bots td.c-sig{grid-column:1/-1;order:1}
.bots td.c-bot::before,.bots td.c-act::before{display:none!important}
}
@media (max-width:860px){
.wrap{padding-left:14px;padding-right:14px}
main.wrap{padding-top:14px;gap:14px}
.bots tr{padding:14px 16px;grid-template-columns:repeat(2,minmax(0,1fr))}
.bots td.c-bot,.bots td.c-act{grid-column:1/-1}
.bots td.c-act{order:2}
.bots .acts{display:flex}.bots .acts .btn{flex:1;padding:8px}
.head .filter{order:1;width:100%}.filter button{flex:1;padding:7px 4px}
.two,.choice{grid-template-columns:1fr}
.fold thead{position:absolute;left:-9999px}
.fold,.fold tbody,.fold tr,.fold td{display:block}
.fold tr{padding:12px 0;border-bottom:1px solid var(--line);display:grid;grid-template-columns:1fr 1fr;gap:8px 14px}
.fold tbody tr:last-child{border-bottom:0}
.fold td,.fold td.num{padding:0;border:0;text-align:left;min-width:0;overflow-wrap:anywhere}
.fold td.whole{grid-column:1/-1}
.fold td[data-k]:not(:empty)::before{content:attr(data-k);display:block;font-size:11.5px;color:var(--dim);font-weight:600;margin-bottom:1px}
.fold td[data-k=""]::before{display:none!important}
.fold td::before{font-family:system-ui,sans-serif}
.fold.sorts thead{position:static}
.fold.sorts tr{grid-template-columns:1fr 1fr 1fr}
.fold.sorts thead tr{display:flex;gap:16px;padding:0 0 10px}
.fold.sorts th{padding:0;border:0}
.pad{padding:16px}
.chart{height:280px}.equity{height:220px}
.fig.big .v{font-size:21px}
.figs .fig,.figs .fig.big{grid-column:span 3}
}
@media (max-width:480px){
.bar{gap:4px}.brand{font-size:16px;gap:7px}
#yard.good,#count{display:none}
}
@media (prefers-reduced-motion:no-preference){.btn,.name{transition:background .12s,filter .12s}}
</style>
</head>
<body>
<a class="skip" href="#main">Skip to the bots</a>
<header><div class="wrap bar">
<a class="brand" href="#"><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" fill="#2f6bea"/><path d="M7 21l6-7 5 4 7-9" stroke="#fff" stroke-width="3" fill="none" stroke-linecap="round" stroke-linejoin="round"/></svg>Botyard</a>
<span id="yard" class="pill">yard</span>
<span class="grow"></span>
<a class="btn quiet" id="to-yard" href="#yard">Account &amp; risk</a>
<span id="link" class="pill" role="status">connecting</span>
<button class="btn quiet" id="logout" __LOGOUT__>Log out</button>
</div></header>
<main class="wrap" id="main" tabindex="-1">
<div id="gone" class="banner" role="alert" hidden></div>
<div id="broken" class="banner" role="alert" hidden></div>
<div id="killed" class="banner" role="alert" hidden></div>
<div id="bare" class="banner" role="alert" hidden></div>
<div id="paused" class="banner warn" role="status" hidden></div>
<div id="noyard" class="banner warn" role="status" hidden></div>
<div id="unsent" class="banner warn" role="status" hidden></div>
<div id="books" class="stack" hidden></div>
<div id="home" class="live">
<section id="totals" aria-label="Totals"></section>
</div>
<section id="list" class="card live" aria-labelledby="list-h">
<div class="pad head"><h2 id="list-h">Bots</h2><span id="count" class="dim small"></span><span class="grow"></span>
<div id="filter" class="filter" role="group" aria-label="Which bots are shown" hidden></div>
<button class="btn danger" id="stop-all">Stop all</button><button class="btn primary" id="new">New bot</button></div>
<table class="bots" hidden><thead><tr><th scope="col">Bot</th><th scope="col">State</th><th scope="col">Position</th><th scope="col">Last signal</th><th scope="col" class="num">Profit</th><th scope="col">Alerts</th><th scope="col"><span class="dim">Actions</span></th></tr></thead><tbody id="bots"></tbody></table>
<div id="empty" class="empty" hidden><h3>No bots yet</h3><p>A bot watches one coin with one strategy and trades for you. In paper mode it does so with play money.</p><button class="btn primary" id="new2">Create the first bot</button></div>
<div id="nothing" class="empty" role="status" hidden>No bot is like that now.</div>
<div id="loading" class="empty" role="status">Loading…</div>
</section>
<section id="detail" class="live" hidden aria-live="off"></section>
<section id="over" class="live" hidden aria-label="Account and risk"></section>
</main>
<footer><div class="wrap"><p><span id="zone">Times are UTC.</span> Amounts of different modes are never summed; paper and testnet are play money. Price charts: <a href="https://www.tradingview.com/" rel="noopener noreferrer" target="_blank">TradingView Lightweight Charts™</a>, Copyright (c) 2026 TradingView, Inc. Equity: Chart.js.</p><button class="btn quiet" id="alert-test">Send a test alert</button></div></footer>
<dialog id="edit" aria-labelledby="edit-h"><form id="form" novalidate>
<h2 id="edit-h">New bot</h2>
<div class="two">
<div class="field"><label for="f-name">Name</label><input id="f-name" name="name" maxlength="60" autocomplete="off" placeholder="BTC Bot" required><span class="wrong" id="e-name"></span></div>
<div class="field"><label for="f-mode">Mode</label><select id="f-mode" name="mode"></select><span class="hint" id="mode-hint"></span><span class="wrong" id="e-mode"></span></div>
</div>
<div class="two">
<div class="field"><label for="f-symbol">Coin</label><div class="combo"><input id="f-symbol" name="symbol" autocomplete="off" spellcheck="false" role="combobox" aria-expanded="false" aria-controls="coins" aria-autocomplete="list" placeholder="Search, e.g. BTC" required><ul class="pop" id="coins" role="listbox" aria-label="Coins" hidden></ul></div><span class="hint" id="coin-hint" role="status"></span><span class="wrong" id="e-symbol"></span></div>
<div class="field"><label for="f-trade_amount">Amount of the first buy <span class="dim" id="quote-hint"></span></label><input id="f-trade_amount" name="trade_amount" inputmode="decimal" autocomplete="off" placeholder="100" required><span class="hint" id="amount-hint"></span><span class="wrong" id="e-trade_amount"></span></div>
</div>
<div class="field"><label for="f-strategy">Strategy</label><select id="f-strategy" name="strategy" required></select><span class="hint" id="strategy-hint"></span><span class="wrong" id="e-strategy"></span></div>
<details id="params" hidden><summary id="params-h">Parameters</summary><div class="two" id="param-list"></div><span class="wrong" id="e-params"></span></details>
<details><summary>Risk and timing</summary><div class="two">
<div class="field"><label for="f-stop_loss_pct">Stop loss, %</label><input id="f-stop_loss_pct" name="stop_loss_pct" inputmode="decimal" placeholder="default"><span class="wrong" id="e-stop_loss_pct"></span></div>
<div class="field"><label for="f-take_profit_pct">Take profit, %</label><input id="f-take_profit_pct" name="take_profit_pct" inputmode="decimal" placeholder="default"><span class="wrong" id="e-take_profit_pct"></span></div>
<div class="field"><label for="f-timeframe">Candles</label><select id="f-timeframe" name="timeframe"><option value="">default</option></select><span class="wrong" id="e-timeframe"></span></div>
<div class="field"><label for="f-check_interval">Seconds between checks</label><input id="f-check_interval" name="check_interval" inputmode="numeric" placeholder="default"><span class="wrong" id="e-check_interval"></span></div>
<div class="field"><label for="f-sizing">Sizing</label><select id="f-sizing" name="sizing"><option value="">default</option><option value="compound">compound: reinvest its own pot</option><option value="fixed">fixed: the same amount each time</option><option value="all_available">all available: the whole free balance</option><option value="equity">equity: a percentage of the account</option><option value="risk">risk: so much of the account is lost at the stop</option></select><span class="wrong" id="e-sizing"></span></div>
<div class="field"><label for="f-sizing_pct">Entry, % of the account's equity</label><input id="f-sizing_pct" name="sizing_pct" inputmode="decimal" placeholder="with sizing equity"><span class="wrong" id="e-sizing_pct"></span></div>
<div class="field"><label for="f-risk_pct">Loss at the stop, % of the account's equity</label><input id="f-risk_pct" name="risk_pct" inputmode="decimal" placeholder="with sizing risk"><span class="wrong" id="e-risk_pct"></span></div>
<div class="field"><label for="f-max_entry">Largest entry, in the quote asset</label><input id="f-max_entry" name="max_entry" inputmode="decimal" placeholder="no bound of its own"><span class="wrong" id="e-max_entry"></span></div>
<div class="field"><label for="f-cooldown_checks">Checks skipped after a stop-out</label><input id="f-cooldown_checks" name="cooldown_checks" inputmode="numeric" placeholder="default"><span class="wrong" id="e-cooldown_checks"></span></div>
<div class="field"><label for="f-trailing_stop_pct">Trailing stop, %</label><input id="f-trailing_stop_pct" name="trailing_stop_pct" inputmode="decimal" placeholder="off"><span class="hint">The stop follows the price, this far below its top.</span><span class="wrong" id="e-trailing_stop_pct"></span></div>
<div class="field"><label for="f-trailing_activation_pct">Trailing begins at a gain of, %</label><input id="f-trailing_activation_pct" name="trailing_activation_pct" inputmode="decimal" placeholder="at once"><span class="wrong" id="e-trailing_activation_pct"></span></div>
<div class="field"><label for="f-break_even_pct">Stop to the entry at a gain of, %</label><input id="f-break_even_pct" name="break_even_pct" inputmode="decimal" placeholder="off"><span class="wrong" id="e-break_even_pct"></span></div>
<div class="field"><label for="f-time_stop_candles">Close after so many candles</label><input id="f-time_stop_candles" name="time_stop_candles" inputmode="numeric" placeholder="off"><span class="wrong" id="e-time_stop_candles"></span></div>
<div class="field"><label for="f-protection">Where the stop lies</label><select id="f-protection" name="protection"><option value="">default</option><option value="exchange">at the exchange: it works while the bot is off</option><option value="bot">in the bot: it works while the bot runs</option></select><span class="wrong" id="e-protection"></span></div>
<div class="field"><label for="f-max_spread_pct">No entry above a spread of, %</label><input id="f-max_spread_pct" name="max_spread_pct" inputmode="decimal" placeholder="default"><span class="wrong" id="e-max_spread_pct"></span></div>
<div class="field"><label for="f-max_slippage_pct">No entry above a slippage of, %</label><input id="f-max_slippage_pct" name="max_slippage_pct" inputmode="decimal" placeholder="default"><span class="wrong" id="e-max_slippage_pct"></span></div>
</div></details>
<fieldset id="follow" hidden><legend>Coins that the strategy recommends</legend><div class="two">
<div class="field"><label for="f-follow_recommended">While nothing is open</label><select id="f-follow_recommended"></select><span class="wrong" id="e-follow_recommended"></span></div>
<div class="field"><label for="f-symbols">Only to these</label><input id="f-symbols" autocomplete="off" spellcheck="false" placeholder="any with the same quote asset"><span class="hint">Such as BTCUSDT, ETHUSDT</span><span class="wrong" id="e-symbols"></span></div>
</div></fieldset>
<details id="guards-box"><summary>Limits of this bot</summary>
<p class="small dim">Empty: no limit. At the first level it buys nothing more; at the second its position is sold, and it buys nothing until you reset it.</p>
<div class="levels" id="f-limits" role="group" aria-label="Limits of this bot"></div><span class="wrong" id="e-limits"></span></details>
<fieldset class="real" id="real" hidden><legend>Real money</legend>
<p class="small" id="flight-note" role="status"></p>
<ul class="checks" id="flight"></ul>
<div class="field"><label for="f-confirm">Type LIVE to let this bot trade with real money</label><input id="f-confirm" autocomplete="off" spellcheck="false"><span class="wrong" id="e-confirm"></span></div>
</fieldset>
<label class="check" id="start-box"><input type="checkbox" id="f-start" checked> Start it right away</label>
<p class="banner" id="form-error" role="alert" hidden></p>
<div class="foot"><button type="button" class="btn" id="cancel">Cancel</button><button class="btn primary" id="save">Create bot</button></div>
</form></dialog>
<dialog id="ask" aria-labelledby="ask-h" aria-describedby="ask-t"><div class="body"><h2 id="ask-h"></h2><p id="ask-t" class="dim"></p><ul id="ask-l" class="small" hidden></ul><div class="field" id="ask-w" hidden><label for="ask-word" id="ask-say"></label><input id="ask-word" autocomplete="off" spellcheck="false" aria-describedby="ask-wrong"><span class="wrong" id="ask-wrong" role="alert"></span></div><div class="foot"><button class="btn" id="ask-no">Cancel</button><button class="btn primary" id="ask-yes"></button></div></div></dialog>
<dialog id="limits" aria-labelledby="limits-h"><form id="limits-form" novalidate><h2 id="limits-h"></h2>
<p class="small dim">Empty: no limit. At the first level nothing more is bought; at the second everything in this account is sold, and nothing is bought until you reset it. A warning comes at 80 % of each.</p>
<div class="levels" id="limits-list"></div><p class="banner" id="limits-error" role="alert" hidden></p>
<div class="foot"><button type="button" class="btn" id="limits-no">Cancel</button><button class="btn primary" id="limits-save">Save limits</button></div></form></dialog>
<div id="toasts" aria-live="polite" role="status"></div>
<script nonce="__NONCE__" src="/static/lightweight-charts.standalone.production.js"></script>
<script nonce="__NONCE__" src="/static/chart.umd.min.js"></script>
<script nonce="__NONCE__">
"use strict";
// Whatever people or exchanges name goes through textContent: `h` never parses markup.
const $ = id => document.getElementById(id);
function h(tag, props, ...kids) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k === "class") node.className = v;
    else if (k === "on") for (const [e, f] of Object.entries(v)) node.addEventListener(e, f);
    else if (k in node && k !== "list" && k !== "role") node[k] = v;
    else node.setAttribute(k, v);
  }
  for (const kid of kids.flat(9)) if (kid !== null && kid !== undefined && kid !== false) node.append(kid);
  return node;
}
const fill = (node, ...kids) => { node.replaceChildren(...kids.flat(9).filter(k => k !== null && k !== undefined && k !== false)); return node; };
// Only what differs is written, so that focus, selection and screen readers are left in peace.
function cell(node, key, make) { const k = JSON.stringify(key); if (node._key !== k) { node._key = k; fill(node, make()); } }

// --- numbers and times ---------------------------------------------------------------
const isNum = n => typeof n === "number" && isFinite(n);
function num(n, least = 2, most = 2) { return n.toLocaleString("en-US", {minimumFractionDigits: least, maximumFractionDigits: most}); }
function amount(n) {
  if (!isNum(n)) return "–";
  const a = Math.abs(n);
  if (a === 0 || a >= 0.1) return num(n);
  return n.toLocaleString("en-US", {maximumSignificantDigits: 4, maximumFractionDigits: 10});
}
function price(n) {
  if (!isNum(n)) return "–";
  const a = Math.abs(n);
  return a >= 1000 ? num(n) : a >= 1 ? num(n, 2, 4) : n.toLocaleString("en-US", {maximumSignificantDigits: 5, maximumFractionDigits: 12});
}
const quantity = n => isNum(n) ? n.toLocaleString("en-US", {maximumFractionDigits: 8}) : "–";
const signed = n => isNum(n) ? (n > 0 ? "+" : n < 0 ? "−" : "") + amount(Math.abs(n)) : "–";
const percent = (n, sign = true) => isNum(n) ? (sign && n > 0 ? "+" : n < 0 ? "−" : "") + num(Math.abs(n)) + "%" : "";
const result = (n, part, unit) => signed(n) + (unit ? " " + unit : "") + (isNum(part) ? " (" + percent(part) + ")" : "");
const change = n => (n > 0 ? "+" : "−") + quantity(Math.abs(n));
const spoken = name => (name || "").replaceAll("_", " ");
const tone = n => !isNum(n) || n === 0 ? "" : n > 0 ? "good" : "bad";
// Times are shown where the reader is; UTC stands in the hint, and rules wherever days are counted.
const two = n => String(n).padStart(2, "0");
const instant = at => { const d = new Date(at); return at === null || at === undefined || isNaN(d) ? null : d; };
const when = at => { const d = instant(at); return d ? d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate()) + " " + two(d.getHours()) + ":" + two(d.getMinutes()) : "–"; };
const utcDay = ms => new Date(ms).toISOString().slice(0, 10);
function moment(at) { const d = instant(at); return d ? h("time", {dateTime: d.toISOString(), title: d.toISOString().slice(0, 16).replace("T", " ") + " UTC"}, when(at)) : "–"; }
function tellZone() {
  const ahead = -new Date().getTimezoneOffset(), a = Math.abs(ahead);
  if (ahead) $("zone").textContent = "Times are those of " + Intl.DateTimeFormat().resolvedOptions().timeZone.replaceAll("_", " ") + ", now UTC" + (ahead < 0 ? "−" : "+") + Math.floor(a / 60) + (a % 60 ? ":" + two(a % 60) : "") + "; point at one for UTC. Logs, files, messages and the days of limits and backtests are UTC.";
}
tellZone();
function span(s) {
  s = Math.max(0, Math.round(s));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + String(s % 60).padStart(2, "0") + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}
const plural = (n, one, many) => n + " " + (n === 1 ? one : many || one + "s");

// --- talking to the dashboard ----------------------------------------------------------
class ApiError extends Error { constructor(message, status, unreachable) { super(message); this.status = status; this.unreachable = unreachable; } }
async function api(path, {method = "GET", body, timeout = 10000} = {}) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), timeout);
  let response, text;
  try {
    response = await fetch(path, {method, cache: "no-store", signal: stop.signal, headers: method === "GET" ? {} : {"Content-Type": "application/json"}, body: method === "GET" || body === undefined ? undefined : JSON.stringify(body)});
    text = await response.text();
  } catch (e) { throw new ApiError(stop.signal.aborted ? "The dashboard did not answer in time." : "The dashboard can't be reached.", 0, true); }
  finally { clearTimeout(timer); }
  if (response.status === 401) { location.href = "/login"; throw new ApiError("Please log in again.", 401); }
  let value;
  try { value = JSON.parse(text); } catch (e) { throw new ApiError("The dashboard's answer can't be read (HTTP " + response.status + ").", response.status); }
  if (!response.ok || value.success === false) throw new ApiError(value.error || "HTTP " + response.status, response.status);
  return value;
}
const post = (path, body = {}, timeout = 40000) => api(path, {method: "POST", body, timeout});
function toast(text, bad) {
  const node = h("div", {class: "toast" + (bad ? " err" : ""), role: bad ? "alert" : null}, text);
  $("toasts").append(node);
  setTimeout(() => node.remove(), bad ? 12000 : 5000);
}

// --- the state of the page ----------------------------------------------------------------
let view = null, skew = 0, lastGood = 0, failing = "", busy = new Set(), strategies = null, polling = false, timer = 0;
const wall = () => Date.now() + skew;
const STATES = {running: "good", idle: "info", starting: "info", stuck: "warn", crashed: "bad", stopped: ""};

async function poll() {
  clearTimeout(timer);
  if (document.hidden || polling) return;
  polling = true;
  try {
    const asked = Date.now();
    view = await api("/api/overview", {timeout: 8000});
    skew = view.as_of - (asked + Date.now()) / 2;
    lastGood = Date.now(); failing = "";
    $("broken").hidden = true;
    render();
    watchBooks();
    if (detail) await detail.refresh();
    if (over) await over.refresh();
  } catch (e) {
    if (e instanceof ApiError && !e.unreachable) { $("broken").hidden = false; $("broken").textContent = e.message; if (e.status !== 404) failing = "error"; lastGood = lastGood || 0; }
    else failing = e instanceof ApiError ? e.message : "The page failed: " + e.message;
  }
  polling = false;
  if (over && failing) { over.blind(); over.draw(); }
  reach();
  timer = setTimeout(poll, 2000);
}
function reach() {
  const lost = Boolean(failing), link = $("link");
  document.body.classList.toggle("stale", lost);
  $("gone").hidden = !lost || failing === "error";
  if (lost) {
    const age = lastGood ? "What you see is " + span((Date.now() - lastGood) / 1000) + " old and may have changed." : "Nothing has been read yet.";
    if (failing !== "error") $("gone").textContent = failing + " " + age + " The bots don't need this page; it tries again by itself.";
    $("loading").textContent = "Nothing could be read.";
  }
  link.className = "pill " + (lost ? "bad" : lastGood ? "good" : "");
  link.textContent = lost ? "no connection" : lastGood ? "up to date" : "connecting";
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(() => { if (failing) reach(); tick(); }, 1000);

// --- totals ---------------------------------------------------------------------------------
const fig = (k, v, cls, big) => h("div", {class: "fig" + (big ? " big" : "")}, h("span", {class: "k"}, k), h("span", {class: "v " + (cls || "")}, v));
const modeTag = m => h("span", {class: "tag " + (["paper", "testnet", "live"].includes(m) ? m : "")}, m);
function renderTotals() {
  const cards = [];
  const modes = new Set([...Object.keys(view.totals), ...Object.keys(view.balances)]);
  for (const mode of modes) {
    const quotes = Object.entries(view.totals[mode] || {}), b = view.balances[mode];
    const assets = h("div", {class: "assets"});
    if (b) {
      if (b.assets && b.assets.length) {
        assets.append(h("span", {}, "Account"));
        for (const a of b.assets.slice(0, 12)) assets.append(h("span", {class: "nowrap"}, h("b", {}, quantity(a.free + a.locked)), " " + a.asset, a.locked ? h("span", {class: "dim"}, " (" + quantity(a.locked) + " in orders)") : null));
        if (b.assets.length > 12) assets.append(h("span", {}, "and " + (b.assets.length - 12) + " more"));
      } else if (b.assets) assets.append("The account holds nothing.");
      else if (!b.error) assets.append("Asking for the balance…");
      if (b.error) assets.append(h("span", {class: "warn clip", title: b.error}, b.assets ? "Balance of " + when(b.as_of) + "; now: " + b.error : "Balance unknown: " + b.error));
    }
    if (!quotes.length) cards.push(h("div", {class: "card pad sum"}, h("div", {class: "top"}, modeTag(mode), h("span", {class: "dim small"}, "No trades yet")), assets));
    quotes.forEach(([quote, t], i) => cards.push(h("div", {class: "card pad sum"},
      h("div", {class: "top"}, modeTag(mode), h("h2", {}, quote), h("span", {class: "grow"}), h("span", {class: "dim small"}, t.running + " of " + plural(t.bots, "bot") + " running")),
      h("div", {class: "figs"},
        fig("Profit, closed trades", signed(t.profit), tone(t.profit), true),
        fig("Profit, open positions", t.positions ? signed(t.unrealised) : "none", t.positions ? tone(t.unrealised) : "dim", true),
        fig("Value in the market", t.positions ? amount(t.open_value) : "0.00"),
        fig("Bots' pots together", amount(t.pots)),
        fig("Trades", t.trades + (isNum(t.win_rate) ? " · " + Math.round(t.win_rate) + "% won" : ""))),
      i === 0 ? assets : null)));
  }
  cell($("totals"), [view.totals, view.balances], () => cards);
}

// --- the list of bots ---------------------------------------------------------------------------
const rows = new Map();
const signalPill = s => h("span", {class: "pill plain " + (s === "BUY" ? "good" : s === "SELL" ? "bad" : "")}, s);
function statePills(b) {
  const out = [h("span", {class: "pill " + (STATES[b.status] || "")}, b.status)];
  if (b.guarded) out.push(h("span", {class: "pill warn plain", title: "Only its stop and target are watched"}, "guarded"));
  return out;
}
function countdown(b) {
  if (b.status !== "running" || !isNum(b.next_check_wall)) return "";
  const s = (b.next_check_wall - wall()) / 1000;
  return s <= 0 ? "checking…" : s < 3600 ? "next check in " + Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0") : "next check in " + span(s);
}
function positionCell(b) {
  const p = b.position;
  if (!p) return [h("span", {class: "dim"}, b.state_error ? "unknown" : "none"), b.dust ? h("div", {class: "tiny dim"}, quantity(b.dust) + " dust") : null];
  return [
    h("div", {}, h("span", {class: "strong"}, p.side), " ", h("span", {class: "nw"}, quantity(p.quantity)), " ", h("span", {class: "dim nw"}, "@ " + price(p.entry_price))),
    h("div", {class: tone(p.profit)}, isNum(p.profit) ? result(p.profit, p.profit_pct) : "", p.price_stale ? h("span", {class: "warn tiny"}, isNum(p.profit) ? " at an old price" : "price unknown") : null),
    h("div", {class: "tiny dim"}, h("span", {class: "nw"}, isNum(p.stop_loss) ? "stop " + price(p.stop_loss) : "no stop"), " · ", h("span", {class: "nw"}, isNum(p.take_profit) ? "target " + price(p.take_profit) : "no target")),
    p.unwatched ? h("div", {class: "tiny bad strong"}, "nobody watches its stop") : null];
}
// What kept it from trading, unless its signal says so already.
const whyNot = b => b.why_no_trade && b.why_no_trade !== "Its strategy says HOLD." && !(b.last_signal && b.why_no_trade === b.last_signal.reasoning) ? b.why_no_trade : "";
function signalCell(b) {
  const s = b.last_signal, out = [];
  if (s) out.push(h("div", {class: "meta"}, signalPill(s.signal), h("span", {class: "tiny dim"}, moment(s.at))), h("div", {class: "small clip", title: s.reasoning}, s.reasoning));
  if (whyNot(b)) out.push(h("div", {class: "tiny dim clip", title: b.why_no_trade}, s ? "No trade: " + b.why_no_trade : b.why_no_trade));
  return out.length ? out : [h("span", {class: "dim"}, "none yet")];
}
function alertsCell(b) {
  const tip = b.problems.map(p => p.level + ": " + p.text).concat(b.notices).join("\n");
  const out = [];
  if (b.errors) out.push(h("span", {class: "pill bad plain", title: tip}, plural(b.errors, "error")));
  if (b.warnings) out.push(h("span", {class: "pill warn plain", title: tip}, plural(b.warnings, "warning")));
  if (b.missing) out.push(h("button", {class: "pill warn plain btn quiet", title: b.missing, "aria-label": "Coins of " + b.name + " are missing: choose what to do", on: {click: () => { location.hash = "bot/" + b.id; }}}, "coins missing"));
  if (b.guards && b.guards.length) out.push(h("a", {class: "pill plain " + (b.guards[0].level === "hard" ? "bad" : "warn"), href: "#yard", title: b.guards.map(g => g.text).join("\n")}, b.guards[0].level === "hard" ? "guard: sold" : "guard: no entries"));
  if (b.skip_entries) out.push(h("span", {class: "pill plain", title: "As asked for by hand"}, b.skip_entries === 1 ? "skips the next entry" : "skips " + b.skip_entries + " entries"));
  if (b.unresolved) out.push(h("span", {class: "pill warn plain", title: "An order's outcome is being asked for"}, "order unclear"));
  return out.length ? h("div", {class: "meta"}, out) : [];
}
const troubled = b => ["crashed", "stuck"].includes(b.status);
const alive = b => ["running", "idle", "starting", "stuck"].includes(b.status);
const held = () => { const m = view && view.maintenance; return m && m.on ? m.why[0].toUpperCase() + m.why.slice(1) : ""; };
function buttons(b, whole) {
  const waiting = busy.has(b.id), a = t => t + " " + b.name;
  return h("div", {class: "acts"},
    alive(b) || (b.wanted === "running" && b.status !== "stopped") ? h("button", {class: "btn quiet danger", disabled: waiting, "aria-label": a("Stop"), on: {click: () => stopBot(b.id)}}, waiting ? "Wait…" : "Stop") : null,
    !alive(b) ? h("button", {class: "btn quiet go", disabled: waiting || Boolean(held()), title: held(), "aria-label": a("Start") + (held() ? ": " + held() : ""), on: {click: () => startBot(b.id)}}, waiting ? "Wait…" : "Start") : null,
    b.position ? h("button", {class: "btn quiet", disabled: waiting || Boolean(held()), title: held(), "aria-label": a("Close the position of"), on: {click: () => closeBot(b.id)}}, "Close") : null,
    h("button", {class: "btn quiet", disabled: waiting, "aria-label": a("Edit"), on: {click: () => openForm(find(b.id))}}, "Edit"),
    !alive(b) || whole ? h("button", {class: "btn quiet ghost", disabled: waiting || alive(b), title: alive(b) ? "Stop it first" : "", "aria-label": a("Delete"), on: {click: () => deleteBot(b.id)}}, "Delete") : null);
}
const find = id => view && view.bots.find(b => b.id === id);
const FATE = {queued: "tried again", unknown: "may have arrived", refused: "refused", given_up: "may have arrived", expired: "too late", over_limit: "over the daily limit"};
function renderMessages(m) {
  const list = m.unsent || [], wrong = [...(m.problems || []), ...(m.channels || []).filter(c => c.problem).map(c => c.name + ": " + c.problem)];
  $("unsent").hidden = !list.length && !wrong.length;
  cell($("unsent"), [list, wrong], () => [
    h("div", {}, list.length ? plural(list.length, "message") + " could not be sent, or not yet" : "Messages"),
    wrong.map(text => h("div", {class: "small"}, text)),
    list.slice(0, 5).map(x => h("div", {class: "small clip", title: x.text + " – " + x.why}, when(x.wall_ms) + " " + x.channel + ", " + (FATE[x.state] || x.state) + ": " + x.text)),
    list.length > 5 ? h("div", {class: "small"}, "and " + (list.length - 5) + " more in data/outbox_status.json") : null]);
}
// What the list shows; kept over a reload, per tab.
const FILTERS = {all: ["All", () => true], attention: ["Attention", b => b.attention.length > 0], open: ["Open", b => Boolean(b.position)], off: ["Stopped", b => b.status === "stopped"]};
const SMALL_LIST = 6;
let shown = sessionStorage.getItem("shown") || "all";
function renderFilter(list) {
  const counts = Object.entries(FILTERS).map(([k, [, is]]) => [k, list.filter(is).length]);
  if (!FILTERS[shown] || list.length < SMALL_LIST) shown = "all";
  $("filter").hidden = list.length < SMALL_LIST;
  redraw($("filter"), [counts, shown], () => counts.map(([k, n]) => h("button", {id: "show-" + k, type: "button", "aria-pressed": String(shown === k), on: {click: () => { shown = k; sessionStorage.setItem("shown", k); render(); }}}, FILTERS[k][0] + " ", h("span", {class: k === "attention" && n ? "bad" : ""}, n))));
  return FILTERS[shown][1];
}
function newRow() {
  const r = {};
  const td = (name, cls, k) => r[name] = h("td", {class: cls, ...(k ? {"data-k": k} : {})});
  r.node = h("tr", {}, td("bot", "c-bot"), td("state", "c-state", "State"), td("pos", "c-pos", "Position"), td("sig", "c-sig", "Last signal"), td("profit", "num nowrap", "Profit"), td("alerts", "c-alerts", "Alerts"), td("act", "c-act"));
  return r;
}
function render() {
  renderTotals();
  const list = view.bots, yard = view.yard || {}, chosen = list.filter(renderFilter(list));
  cell($("yard"), yard.running, () => yard.running ? "yard running" : "yard stopped");
  $("yard").className = "pill " + (yard.running ? "good" : "warn");
  $("noyard").hidden = Boolean(yard.running);
  $("noyard").textContent = "The yard is not running: crashed bots are not restarted. If it died, this page starts it again within seconds; else start a bot, or the page anew. data/yard.log says more.";
  renderMessages(view.messages || {});
  renderAlarms();
  if (over) over.draw();
  $("loading").hidden = true;
  $("empty").hidden = list.length > 0;
  document.querySelector("table.bots").hidden = chosen.length === 0;
  $("stop-all").disabled = !list.some(b => alive(b) || b.wanted === "running") || busy.has("all");
  $("count").textContent = list.length ? list.filter(b => b.status === "running").length + " of " + list.length + " running" : "";
  const seen = new Set();
  $("nothing").hidden = !list.length || chosen.length > 0;
  chosen.forEach((b, i) => {
    seen.add(b.id);
    let r = rows.get(b.id);
    if (!r) rows.set(b.id, r = newRow());
    if ($("bots").children[i] !== r.node) $("bots").insertBefore(r.node, $("bots").children[i] || null);
    r.node.className = b.mode === "live" ? "money" : "";
    cell(r.bot, [b.name, b.symbol, b.strategy, b.mode, b.id], () => [h("button", {class: "name", on: {click: () => { location.hash = "bot/" + b.id; }}}, b.name), h("div", {class: "meta small dim"}, h("span", {class: "strong"}, b.symbol), "·", h("span", {}, b.strategy), modeTag(b.mode))]);
    cell(r.state, [b.status, b.guarded, b.why], () => { r.count = h("div", {class: "tiny dim"}); return [h("div", {class: "meta"}, statePills(b)), r.count, b.why ? h("div", {class: "tiny clip " + (troubled(b) ? "bad" : "dim"), title: b.why}, b.why) : null]; });
    r.count.textContent = countdown(b);
    cell(r.pos, [b.position && {...b.position, price_wall: 0}, b.dust, b.state_error], () => positionCell(b));
    cell(r.sig, [b.last_signal, b.why_no_trade], () => signalCell(b));
    cell(r.profit, [b.profit, b.profit_pct, b.trades, b.win_rate, b.quote], () => [h("div", {class: "strong " + tone(b.profit)}, signed(b.profit), b.quote ? h("span", {class: "dim tiny"}, " " + b.quote) : null), b.trades ? [h("div", {class: "small " + tone(b.profit)}, percent(b.profit_pct)), h("div", {class: "tiny dim"}, plural(b.trades, "trade") + (isNum(b.win_rate) ? ", " + Math.round(b.win_rate) + "% won" : ""))] : h("div", {class: "tiny dim"}, "no trades yet")]);
    cell(r.alerts, [b.errors, b.warnings, b.problems, b.notices, b.unresolved, b.missing, b.skip_entries, b.guards], () => alertsCell(b));
    cell(r.act, [b.status, b.wanted, b.name, busy.has(b.id), Boolean(b.position), held()], () => buttons(b));
  });
  for (const [id, r] of rows) if (!seen.has(id)) { r.node.remove(); rows.delete(id); }
}
function tick() {
  if (!view || document.hidden) return;
  for (const b of view.bots) { const r = rows.get(b.id); if (r && r.count) r.count.textContent = failing ? "" : countdown(b); }
  if (detail) detail.tick();
  if (over) over.tick();
}

// --- doing things ------------------------------------------------------------------------------------
function ask(title, text, yes, danger, {word, list} = {}) {
  const d = $("ask");
  $("ask-h").textContent = title; $("ask-t").textContent = text;
  $("ask-yes").textContent = yes; $("ask-yes").className = "btn " + (danger ? "danger" : "primary");
  $("ask-l").hidden = !list || !list.length; fill($("ask-l"), (list || []).map(x => h("li", {}, x)));
  $("ask-w").hidden = !word; $("ask-word").value = ""; $("ask-wrong").textContent = ""; $("ask-say").textContent = word ? "Type " + word + " to go on" : "";
  return new Promise(done => {
    d.returnValue = "";
    const yesNow = () => { if (word && $("ask-word").value.trim() !== word) { $("ask-wrong").textContent = "Type " + word + ", in capitals."; $("ask-word").focus(); } else d.close("yes"); };
    $("ask-yes").onclick = yesNow; $("ask-no").onclick = () => d.close("");
    $("ask-word").onkeydown = e => { if (e.key === "Enter") { e.preventDefault(); yesNow(); } };
    d.onclose = () => done(d.returnValue === "yes");
    d.showModal(); (word ? $("ask-word") : $("ask-no")).focus();
  });
}
async function act(key, work, good) {
  busy.add(key); if (view) render(); if (detail) detail.head();
  try { const answer = await work(); if (good) toast(typeof good === "function" ? good(answer) : good); return answer; }
  catch (e) { toast(e.message, true); return null; }
  finally { busy.delete(key); if (view) render(); if (detail) detail.head(); poll(); }
}
async function startBot(id) {
  const b = find(id);
  if (b.mode === "live" && !await ask("Start " + b.name + " with real money?", "It buys and sells " + b.symbol + " on your real account by itself, with " + amount(b.trade_amount) + " " + (b.quote || "") + " at first.", "Start with real money", true)) return null;
  return act(id, () => post("/api/bot/" + id + "/start"), b.name + " has been started.");
}
async function stopBot(id) {
  const b = find(id);
  if (b.position && !await ask("Stop " + b.name + "?", "It holds " + quantity(b.position.quantity) + " of " + b.symbol + ". The position stays open" + (b.position.protection === "exchange" ? "; its stop lies at the exchange." : ", and nobody watches its stop until you start the bot again."), "Stop it", true)) return;
  act(id, () => post("/api/bot/" + id + "/stop"), a => b.name + " has been stopped." + (a.note ? " " + a.note : ""));
}
async function closeBot(id) {
  const b = find(id);
  if (!await ask("Close the position of " + b.name + "?", quantity(b.position.quantity) + " of " + b.symbol + " are sold at the market's price now. Its stop and target are taken back first. The bot itself goes on.", "Sell now", true)) return;
  act(id, () => post("/api/bot/" + id + "/close"), b.name + " sells at its next step.");
}
async function deleteBot(id) {
  const b = find(id);
  if (!await ask("Delete " + b.name + "?", "The bot leaves the list. Its files move to archive/, and its number is not used again.", "Delete it", true)) return;
  const done = await act(id, () => api("/api/bot/" + id, {method: "DELETE", body: {}}), b.name + " has been deleted.");
  if (done && detail && detail.id === id) location.hash = "";
}
$("stop-all").onclick = async () => {
  const holding = view.bots.filter(b => b.position).length;
  if (!await ask("Stop all bots?", holding ? plural(holding, "position stays", "positions stay") + " open. A stop that doesn't lie at the exchange is then watched by nobody." : "No position is open.", "Stop all", true)) return;
  act("all", () => post("/api/stop-all", {}, 120000), "All bots have been stopped.");
};
$("logout").onclick = async () => { await fetch("/logout", {method: "POST", redirect: "manual"}).catch(() => null); location.href = "/login"; };
$("alert-test").onclick = () => act("alert", () => post("/api/send_alert"), a => a.note);

// --- books and account ---------------------------------------------------------------------------------
const books = {}, booksAt = {};
const booksNode = $("books");
async function checkBooks(mode) {
  booksAt[mode] = Date.now();
  try { books[mode] = await api("/api/reconcile?mode=" + encodeURIComponent(mode), {timeout: 30000}); drawBooks(); }
  catch (e) { /* the exchange can't be asked now, or bots trade just now: what was known stays, the next minute asks again */ }
}
function watchBooks() {
  for (const mode of view.settings.modes) {
    const b = view.balances[mode];
    if (view.bots.some(x => x.mode === mode) && b && b.assets && !b.error && Date.now() - (booksAt[mode] || 0) > 60000) checkBooks(mode);
  }
}
function drawBooks() {
  const open = Object.entries(books).filter(([, r]) => !r.agree && r.differences.length);
  booksNode.hidden = !open.length;
  cell(booksNode, open, () => open.map(([mode, r]) => {
    const own = r.proposals.filter(p => p.bot_id), outside = r.proposals.filter(p => p.kind === "acknowledge");
    return h("div", {class: "banner warn", role: "status"},
      "The account (" + mode + ") and the bots' books differ",
      h("ul", {}, r.differences.map(d => h("li", {}, d.asset + ": the account holds " + quantity(d.wallet) + ", the books say " + quantity(d.books) + " (" + change(d.foreign) + ")"))),
      own.length ? h("ul", {}, own.map(p => h("li", {}, p.text, " ", h("a", {href: "#bot/" + p.bot_id}, "Choose what to do")))) : null,
      r.unsettled.length ? h("p", {class: "small"}, "An order of bot " + r.unsettled.join(", ") + " is not booked yet; what to do is told afterwards.") : null,
      outside.length ? h("div", {class: "row"}, h("button", {class: "btn quiet", on: {click: () => takeIn(mode, outside)}}, "Take deposits and withdrawals into the books")) : null);
  }));
}
async function takeIn(mode, list) {
  if (!await ask("Were these yours?", list.map(p => change(p.amount) + " " + p.asset).join(", ") + ": taken into the books of the " + mode + " account as deposits and withdrawals. Do so only when you know where they come from.", "They were mine")) return;
  const done = await act("books", () => post("/api/reconcile", {mode, kinds: ["acknowledge"]}), r => r.agree ? "Books and account agree." : "Taken in; some difference is left.");
  if (done) await checkBooks(mode);
}

// --- the form ----------------------------------------------------------------------------------------
let editing = null, picked = [], marked = -1, searchTimer = 0, searchNo = 0;
const FIELDS = ["name", "mode", "symbol", "trade_amount", "strategy", "stop_loss_pct", "take_profit_pct", "timeframe", "check_interval", "sizing", "cooldown_checks", "protection", "trailing_stop_pct", "trailing_activation_pct", "break_even_pct", "time_stop_candles", "max_spread_pct", "max_slippage_pct", "sizing_pct", "risk_pct", "max_entry"];
for (const t of ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d"]) $("f-timeframe").append(h("option", {value: t}, t));
function wrong(field, text) {
  const e = $("e-" + field), f = $("f-" + field);
  if (!e) return false;
  e.textContent = text;
  if (f) { if (text) { f.setAttribute("aria-invalid", "true"); f.setAttribute("aria-describedby", "e-" + field); const d = f.closest("details"); if (d) d.open = true; } else { f.removeAttribute("aria-invalid"); } }
  else if (text && field === "params") $("params").open = true;
  if (text && field === "limits") $("guards-box").open = true;
  return true;
}
// Limits as a person fills them in: name, words, unit; `one`: a single number instead of two levels.
const GUARDS = [["daily_loss_pct", "Loss of a day", "%"], ["daily_profit_pct", "Profit of a day", "%"], ["drawdown_pct", "Fall from the peak", "%"], ["consecutive_losses", "Losses in a row", ""], ["trades_per_day", "Trades a day", ""]];
const ACCOUNT_GUARDS = [...GUARDS, ["open_positions", "Open positions", ""], ["exposure_pct", "Share of one coin", "%"]];
const USAGE = [["memory_mb", "Memory, MB", "500"], ["cpu_pct", "Processor, %", "90"], ["disk_mb", "Files, MB", "500"]];
function levelFields(prefix, guards, limits, usage) {
  const input = (id, label, value, placeholder) => { const n = h("input", {id, inputMode: "decimal", autocomplete: "off", "aria-label": label, placeholder: placeholder || "", value: isNum(value) ? plainNumber(value) : ""}); n.addEventListener("input", () => n.removeAttribute("aria-invalid")); return n; };
  return [h("span", {class: "label"}, "Limit"), h("span", {class: "label"}, "no entries at"), h("span", {class: "label"}, "all sold at"),
    guards.map(([name, words, unit]) => { const v = limits[name], given = isNum(v) ? {soft: v} : v || {}, text = words + (unit ? ", " + unit : ""); return [h("span", {}, text), input(prefix + name + "-soft", text + ": no entries at", given.soft), input(prefix + name + "-hard", text + ": all sold at", given.hard)]; }),
    usage.length ? [h("span", {class: "label"}, "Use of the machine"), h("span", {class: "label"}, "at most"), h("span", {})] : [],
    usage.map(([name, text, usual]) => [h("span", {}, text), input(prefix + name, text + ": at most", limits[name], usual), h("span", {class: "dim tiny"}, name === "memory_mb" ? "beyond it the bot is started anew" : "beyond it you are told")])];
}
// The limits as filled in; null, and the field marked, where one is no number.
function readLevels(prefix, guards, usage) {
  const found = {};
  let bad = null;
  const take = (id, into, key) => { const n = $(id), v = n.value.trim(); if (v === "") return; if (!/^\d*\.?\d+$/.test(v)) { n.setAttribute("aria-invalid", "true"); bad = bad || n; } else into[key] = v; };
  for (const [name] of guards) { const levels = {}; take(prefix + name + "-soft", levels, "soft"); take(prefix + name + "-hard", levels, "hard"); if (Object.keys(levels).length) found[name] = levels; }
  for (const [name] of usage) { const one = {}; take(prefix + name, one, "at"); if (one.at) found[name] = Number(one.at); }
  if (bad) bad.focus();
  return bad ? null : found;
}
// What the dashboard says of limits, in the words that stand beside the fields.
function limitWords(text) {
  let said = text.replace(/^limits: /, "").replace(/^.*?; in it /s, "");
  for (const [name, words] of [...ACCOUNT_GUARDS, ...USAGE]) said = said.replaceAll(name, words.replace(/, (%|MB)$/, ""));
  return said.replace(/\bsoft\b/g, "“no entries at”").replace(/\bhard\b/g, "“all sold at”");
}
const sameLimits = (a, b) => { const flat = x => Object.entries(x || {}).flatMap(([k, v]) => v !== null && typeof v === "object" ? Object.entries(v).filter(([, y]) => y !== null).map(([l, y]) => k + l + Number(y)) : v === null ? [] : [k + (USAGE.some(u => u[0] === k) ? "" : "soft") + Number(v)]).sort().join(); return flat(a) === flat(b); };
function clearWrong() { for (const f of [...FIELDS, "params", "limits", "confirm", "follow_recommended", "symbols"]) wrong(f, ""); $("form-error").hidden = true; }
function showWrong(message) {
  let first = null;
  const rest = [];
  for (const part of message.split(/; (?=(?:params\.)?[a-z_]+: )/)) {
    const m = /^(?:params\.)?([a-z_]+): (.*)$/s.exec(part), field = m && (part.startsWith("params.") ? "params" : m[1]);
    if (m && $("e-" + field)) { wrong(field, field === "limits" ? limitWords(m[2]) : m[2]); first = first || $("f-" + field); } else rest.push(part);
  }
  if (rest.length) { $("form-error").textContent = rest.join("; "); $("form-error").hidden = false; }
  if (first) first.focus();
}
async function openForm(bot) {
  editing = bot || null;
  $("form").reset(); clearWrong(); hideCoins(); $("coin-hint").textContent = ""; $("quote-hint").textContent = bot && bot.quote ? "in " + bot.quote : "";
  $("edit-h").textContent = bot ? "Edit " + bot.name : "New bot";
  $("save").textContent = bot ? "Save" : "Create bot";
  $("start-box").hidden = Boolean(bot);
  const modes = view && view.settings ? view.settings.modes : ["paper"];
  fill($("f-mode"), [...new Set([...modes, ...(bot ? [bot.mode] : [])])].map(m => h("option", {value: m}, m)));
  $("mode-hint").textContent = modes.length === 1 ? "Play money. Others: TRADING_MODE in .env" : "";
  fill($("f-strategy"), h("option", {value: ""}, "Loading…"));
  if (bot) for (const f of FIELDS) if (f !== "strategy") $("f-" + f).value = bot[f] === null || bot[f] === undefined ? "" : String(bot[f]);
  $("follow").hidden = true; $("follow").dataset.about = ""; $("f-symbols").value = bot && bot.symbols ? bot.symbols.join(", ") : "";
  fill($("f-limits"), levelFields("l-", GUARDS, bot && bot.limits || {}, USAGE));
  $("guards-box").open = Boolean(bot && bot.limits && Object.keys(bot.limits).length);
  $("edit").showModal(); $("f-name").focus();
  modeChosen(); sizingChosen();
  try { strategies = await api("/api/strategies", {timeout: 30000}); }
  catch (e) { $("form-error").textContent = e.message; $("form-error").hidden = false; fill($("f-strategy")); return; }
  fill($("f-strategy"), h("option", {value: ""}, "Choose…"), strategies.strategies.map(s => h("option", {value: s.key}, s.title || s.key)));
  if (bot) {
    if (!strategies.strategies.some(s => s.key === bot.strategy)) $("f-strategy").append(h("option", {value: bot.strategy}, bot.strategy + ((strategies.reading || []).length ? " (still being read)" : " (can't be loaded)")));
    $("f-strategy").value = bot.strategy;
  }
  strategyChosen();
}
// Who may follow what its strategy recommends, and where to: only where the strategy recommends anything.
function followChosen() {
  const s = strategies && strategies.strategies.find(x => x.key === $("f-strategy").value), had = editing && (editing.follow_recommended || editing.symbols), live = $("f-mode").value === "live";
  // Another mode begins with "it stays": who let a paper bot follow has not let it do so with real money.
  const about = (editing ? editing.id : "new") + "/" + live, same = $("follow").dataset.about === about, kept = editing && editing.mode === $("f-mode").value && editing.follow_recommended;
  const now = same ? $("f-follow_recommended").value : kept ? String(kept) : "";
  $("follow").dataset.about = about;
  $("follow").hidden = !(s && s.recommends) && !had;
  fill($("f-follow_recommended"), h("option", {value: ""}, "it stays with its coin"), h("option", {value: live ? "live" : "true"}, live ? "it follows, with real money" : "it follows the strategy to another coin"));
  $("f-follow_recommended").value = now ? live ? "live" : "true" : "";
}
// The two fields as they are sent; nothing where they are hidden or say what the record says.
function readFollow() {
  const sent = {};
  if ($("follow").hidden) return sent;
  const v = $("f-follow_recommended").value, list = $("f-symbols").value.toUpperCase().split(/[\s,;]+/).filter(Boolean);
  if (v !== (editing && editing.follow_recommended ? String(editing.follow_recommended) : "")) sent.follow_recommended = v === "" ? null : v === "true" ? true : v;
  if (list.join() !== (editing && editing.symbols || []).join()) sent.symbols = list.length ? list : null;
  return sent;
}
function strategyChosen() {
  const s = strategies && strategies.strategies.find(x => x.key === $("f-strategy").value);
  const broken = strategies ? Object.entries(strategies.broken || {}) : [];
  $("strategy-hint").textContent = s ? s.description : broken.length ? "Can't be loaded: " + broken.map(([f, why]) => f + " (" + why + ")").join(", ") : "";
  const own = field => { const n = s && s[field]; $("f-" + field).placeholder = isNum(n) ? (n ? plainNumber(n) : "none") + " (the strategy's own)" : "default"; };
  own("stop_loss_pct"); own("take_profit_pct");
  $("f-timeframe").firstElementChild.textContent = s && s.timeframe ? s.timeframe + " (the strategy's own)" : "default";
  if (s && s.symbol && !editing && !$("f-symbol").value.trim()) $("f-symbol").value = s.symbol;
  followChosen();
  const declared = s ? s.params : [], given = editing && editing.strategy === (s && s.key) && editing.params || {};
  $("params").hidden = !declared.length; $("params").open = Object.keys(given).length > 0;
  $("params-h").textContent = "Parameters (" + declared.length + ", each has a default)";
  fill($("param-list"), declared.map(p => {
    const id = "p-" + p.name, value = given[p.name];
    const range = isNum(p.min) && isNum(p.max) ? p.min + " to " + p.max : "", help = [p.help, range].filter(Boolean).join(" · ");
    let input;
    if (p.choices && p.choices.length || p.type === "bool") {
      input = h("select", {id}, h("option", {value: ""}, "default (" + p.default + ")"), (p.type === "bool" ? [true, false] : p.choices).map(c => h("option", {value: String(c)}, String(c))));
      if (value !== undefined && value !== null) input.value = String(value);
    } else input = h("input", {id, inputMode: p.type === "text" ? "text" : "decimal", autocomplete: "off", placeholder: String(p.default), value: value === undefined || value === null ? "" : String(value)});
    input.dataset.param = p.name; input.dataset.type = p.type;
    return h("div", {class: "field"}, h("label", {htmlFor: id}, spoken(p.name)), input, h("span", {class: "hint"}, help));
  }));
}
const SIZINGS = {fixed: "Each buy spends this.", all_available: "Only a reference for percentages: each buy spends what is free.", equity: "Only a reference for percentages: a buy spends a share of the account, see Risk and timing.", risk: "Only a reference for percentages: a buy is as large as the loss at its stop allows, see Risk and timing."};
const sizingChosen = () => { $("amount-hint").textContent = SIZINGS[$("f-sizing").value] || "Later buys reinvest what the bot has made or lost."; };
$("f-sizing").onchange = sizingChosen;
$("f-strategy").onchange = strategyChosen;
function hideCoins() { $("coins").hidden = true; $("f-symbol").setAttribute("aria-expanded", "false"); $("f-symbol").removeAttribute("aria-activedescendant"); marked = -1; }
function mark(i) {
  const items = [...$("coins").children];
  if (!items.length) return;
  marked = (i + items.length) % items.length;
  items.forEach((n, j) => n.setAttribute("aria-selected", String(j === marked)));
  $("f-symbol").setAttribute("aria-activedescendant", items[marked].id);
  items[marked].scrollIntoView({block: "nearest"});
}
function choose(c) { $("f-symbol").value = c.symbol; $("quote-hint").textContent = "in " + c.quote; $("coin-hint").textContent = c.base + " paid in " + c.quote; wrong("symbol", ""); hideCoins(); if (!$("f-name").value) $("f-name").value = c.base + " Bot"; }
async function search() {
  const q = $("f-symbol").value.trim(), no = ++searchNo;
  if (!q) { hideCoins(); $("coin-hint").textContent = ""; return; }
  $("coin-hint").textContent = "Searching…";
  try {
    const found = await api("/api/search-coins?q=" + encodeURIComponent(q) + "&mode=" + encodeURIComponent($("f-mode").value), {timeout: 30000});
    if (no !== searchNo || !$("edit").open) return;
    picked = found.coins;
    fill($("coins"), picked.map((c, i) => h("li", {id: "coin-" + i, role: "option", "aria-selected": "false", on: {mousedown: e => { e.preventDefault(); choose(c); }}}, h("span", {class: "strong"}, c.symbol), h("span", {class: "dim"}, c.base + " / " + c.quote))));
    const open = picked.length > 0 && document.activeElement === $("f-symbol");
    $("coins").hidden = !open; $("f-symbol").setAttribute("aria-expanded", String(open)); marked = -1;
    $("coin-hint").textContent = picked.length ? plural(picked.length, "coin") + " found" : "No coin found for this.";
  } catch (e) { if (no === searchNo) { hideCoins(); $("coin-hint").textContent = e.message; } }
}
$("f-symbol").addEventListener("input", () => { clearTimeout(searchTimer); $("quote-hint").textContent = ""; searchTimer = setTimeout(search, 250); });
$("f-symbol").addEventListener("blur", () => setTimeout(hideCoins, 100));
$("f-symbol").addEventListener("keydown", e => {
  const open = !$("coins").hidden;
  if (e.key === "ArrowDown") { e.preventDefault(); if (open) mark(marked + 1); else search(); }
  else if (e.key === "ArrowUp" && open) { e.preventDefault(); mark(marked - 1); }
  else if (e.key === "Enter" && open && marked >= 0) { e.preventDefault(); choose(picked[marked]); }
  else if (e.key === "Escape" && open) { e.preventDefault(); e.stopPropagation(); hideCoins(); }
});
$("f-mode").addEventListener("change", () => { hideCoins(); modeChosen(); followChosen(); });
let flightNo = 0, flightTimer = 0;
function modeChosen() {
  const real = $("f-mode").value === "live";
  $("real").hidden = !real; flightNo++;
  if (!real) return;
  fill($("flight")); preflight();
}
function chosenParams() {
  const params = {};
  for (const n of document.querySelectorAll("#param-list [data-param]")) { const v = n.value.trim(); if (v !== "") params[n.dataset.param] = n.dataset.type === "bool" ? v === "true" : v; }
  return params;
}
const CHECKS = {ok: ["good", "right"], warn: ["warn", "mind"], fail: ["bad", "not right"]};
async function preflight() {
  const no = ++flightNo, given = editing ? {id: editing.id} : {};
  for (const f of FIELDS) { const v = $("f-" + f).value.trim(); if (v !== "") given[f] = v; }
  const params = chosenParams();
  if (Object.keys(params).length) given.params = params;
  Object.assign(given, readFollow());
  const empty = ["name", "symbol", "trade_amount", "strategy"].filter(f => !given[f]);
  if (empty.length) { fill($("flight")); $("flight-note").textContent = "When name, coin, amount and strategy are filled in, it is looked here whether all is right for real money."; return; }
  $("flight-note").textContent = "Looking whether all is right…";
  try {
    const told = await post("/api/preflight", given);
    if (no !== flightNo) return;
    $("flight-note").textContent = told.ready ? "Before it trades with real money: all that can be checked is right." : "Before it trades with real money, this must be put right:";
    fill($("flight"), told.checks.map(c => { const [cls, word] = CHECKS[c.ok] || CHECKS.warn; return h("li", {}, h("span", {class: "pill plain " + cls}, word), h("span", {}, h("b", {}, spoken(c.name)), ": " + c.text), c.remedy && c.ok !== "ok" ? h("span", {class: "fix"}, c.remedy) : null); }));
  } catch (e) { if (no === flightNo) { $("flight-note").textContent = e.message; fill($("flight")); } }
}
$("form").addEventListener("change", e => { if (!$("real").hidden && e.target.id !== "f-mode" && e.target.id !== "f-confirm") { clearTimeout(flightTimer); flightTimer = setTimeout(preflight, 300); } });
$("new").onclick = $("new2").onclick = () => openForm(null);
$("cancel").onclick = () => $("edit").close();
$("form").onsubmit = async event => {
  event.preventDefault(); clearWrong();
  const sent = {};
  for (const f of FIELDS) {
    const v = $("f-" + f).value.trim();
    if (editing) { const old = editing[f] === null || editing[f] === undefined ? "" : String(editing[f]); if (v !== old) sent[f] = v === "" ? null : v; }
    else if (v !== "") sent[f] = v;
  }
  Object.assign(sent, readFollow());
  const params = chosenParams();
  const before = editing && editing.params || {};
  const same = JSON.stringify(Object.entries(params).map(([k, v]) => [k, String(v)]).sort()) === JSON.stringify(Object.entries(before).map(([k, v]) => [k, String(v)]).sort());
  if (!same && (strategies || Object.keys(params).length)) sent.params = params;
  let missing = null;
  const limits = readLevels("l-", GUARDS, USAGE);
  if (!limits) { wrong("limits", "A limit must be a plain number such as 5 or 2.5."); $("guards-box").open = true; return; }
  if (!sameLimits(limits, editing && editing.limits)) sent.limits = Object.keys(limits).length ? limits : null;
  for (const [f, what] of [["name", "Give it a name."], ["symbol", "Choose a coin."], ["trade_amount", "Say how much it may spend."], ["strategy", "Choose a strategy."]]) if (!$("f-" + f).value.trim()) { wrong(f, what); missing = missing || $("f-" + f); }
  const a = $("f-trade_amount").value.trim();
  if (a && !/^\d+(\.\d+)?$/.test(a)) { wrong("trade_amount", "This must be a plain number such as 100 or 99.5."); missing = missing || $("f-trade_amount"); }
  if ($("f-mode").value === "live" && !(editing && editing.mode === "live") && $("f-confirm").value.trim() !== "LIVE") { wrong("confirm", "Type LIVE, in capitals."); missing = missing || $("f-confirm"); }
  if (missing) { missing.focus(); return; }
  if ($("f-mode").value === "live" && $("f-confirm").value.trim()) { sent.mode = "live"; sent.confirm = $("f-confirm").value.trim(); }
  if (editing && !Object.keys(sent).length) { $("edit").close(); return; }
  if (editing) sent.before = Object.fromEntries(Object.keys(sent).filter(f => f !== "confirm").map(f => [f, editing[f] ?? null]));
  $("save").disabled = true;
  try {
    if (editing) {
      const done = await post("/api/bot/" + editing.id + "/update", sent);
      toast("Saved." + (done.needs_restart.length ? " Stop and start the bot for: " + done.needs_restart.join(", ").replaceAll("_", " ") + "." : ""));
      $("edit").close();
    } else {
      const done = await post("/api/create-bot", sent);
      $("edit").close(); toast(done.bot.name + " has been created.");
      if ($("f-start").checked) { await poll(); view.bots.some(b => b.id === done.bot.id) || view.bots.push(done.bot); startBot(done.bot.id); }
    }
    poll();
  } catch (e) { showWrong(e.message); }
  finally { $("save").disabled = false; }
};

// --- one bot, seen closely -------------------------------------------------------------------------------
let detail = null;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function table(heads, list, make, nothing) {
  if (!list.length) return h("div", {class: "empty"}, nothing);
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map(t => h("th", {scope: "col", class: t.startsWith("#") ? "num" : ""}, t.replace("#", ""))))), h("tbody", {}, list.map(x => h("tr", {}, make(x)))));
}
const td = (v, cls) => h("td", {class: cls || ""}, v);
const sideCell = side => td(side, side === "BUY" ? "good strong" : "bad strong");
const plainNumber = n => !isNum(n) ? "" : /e/.test(String(n)) ? n.toFixed(20).replace(/\.?0+$/, "") : String(n);
// Values over time; `from` and `to` cut what the axis shows of a time.
function curve(canvas, times, datasets, {unit, legend, ticks, from, to}) {
  const dim = css("--dim");
  return new Chart(canvas, {type: "line", data: {labels: times.map(when), datasets}, options: {
    responsive: true, maintainAspectRatio: false, animation: false, interaction: {mode: "index", intersect: false}, layout: {padding: {left: 14, right: 8, bottom: 10}},
    plugins: {legend: {display: legend, labels: {color: dim, boxHeight: 2, boxWidth: 18}}, tooltip: {displayColors: legend, callbacks: {label: c => (legend ? c.dataset.label + ": " : "") + amount(c.parsed.y) + " " + unit}}},
    scales: {
      x: {ticks: {color: dim, maxTicksLimit: ticks, maxRotation: 0, callback: function (v) { return this.getLabelForValue(v).slice(from, to); }}, grid: {display: false}},
      y: {position: "right", ticks: {color: dim, maxTicksLimit: 6}, grid: {color: css("--line")}}}}});
}
const gap = (to, from) => { const x = (to / from - 1) * 100; return percent(x) + " from the price"; };
// What a person does to a position. Built once: what is being typed stays while the bot goes on.
class Hands {
  constructor(id) {
    this.id = id; this.bot = null; this.unclaimed = null;
    const input = (id, label, hint, more) => {
      const node = h("input", {id, inputMode: "decimal", autocomplete: "off", "aria-describedby": id + "-hint " + id + "-wrong", ...more}), told = h("span", {class: "hint", id: id + "-hint"}, hint), bad = h("span", {class: "wrong", id: id + "-wrong", role: "alert"});
      node.addEventListener("input", () => { node.dirty = true; node.removeAttribute("aria-invalid"); bad.textContent = ""; this.hints(); });
      return {node, told, bad, box: h("div", {class: "field"}, h("label", {htmlFor: id}, label), node, told, bad)};
    };
    const button = (id, text, work, cls) => h("button", {id, class: "btn quiet " + (cls || ""), type: "button", on: {click: work}}, text);
    const enter = work => ({keydown: e => { if (e.key === "Enter") { e.preventDefault(); work(); } }});
    this.stop = input("hand-stop", "Stop loss, a price", "");
    this.target = input("hand-target", "Target, a price", "", {placeholder: "no target"});
    this.move = button("hand-move", "Move", () => this.moveLevels());
    this.reset = button("hand-reset", "As they are", () => { this.forget(this.stop, this.target); this.update(this.bot, this.unclaimed); }, "ghost");
    this.levels = h("fieldset", {}, h("legend", {}, "Stop and target"), h("div", {class: "two"}, this.stop.box, this.target.box), h("div", {class: "row"}, this.move, this.reset));
    this.skipText = h("p", {class: "small"});
    this.skip = button("hand-skip", "Skip the next entry", () => this.send("skip", {entries: this.bot.skip_entries + 1}));
    this.back = button("hand-back", "Take it back", () => this.send("skip", {entries: 0}), "ghost");
    this.skips = h("fieldset", {}, h("legend", {}, "Entries"), this.skipText, h("div", {class: "row"}, this.skip, this.back));
    this.count = input("hand-quantity", "How many", "");
    this.cost = input("hand-cost", "What one cost", "Empty: the price now", {placeholder: "price now"});
    this.bring = button("hand-adopt", "Bring under this bot", () => this.adopt());
    this.coinText = h("p", {class: "small"});
    this.coins = h("fieldset", {}, h("legend", {}, "Bring coins under this bot"), this.coinText, h("div", {class: "two"}, this.count.box, this.cost.box), h("div", {class: "row"}, this.bring));
    for (const f of [this.stop, this.target]) f.node.addEventListener("keydown", enter(() => this.moveLevels()).keydown);
    for (const f of [this.count, this.cost]) f.node.addEventListener("keydown", enter(() => this.adopt()).keydown);
    this.potText = h("p", {class: "small"});
    this.potAmount = input("hand-pot", "How much", "");
    this.potIn = button("hand-pot-in", "Top up", () => this.pot(1));
    this.potOut = button("hand-pot-out", "Pay out", () => this.pot(-1));
    this.pots = h("fieldset", {}, h("legend", {}, "Top up or pay out"), this.potText, this.potAmount.box, h("div", {class: "row"}, this.potIn, this.potOut));
    this.missingText = h("p", {class: "small"});
    this.mendStop = button("mend-stop", "Stop the bot", () => stopBot(this.id), "danger");
    this.mendBook = button("mend-book", "Book what happened", () => this.mend("book"));
    this.mendClose = button("mend-close", "Close the book", () => this.mend("close"));
    this.missing = h("div", {class: "missing", role: "group", "aria-label": "Coins are missing"}, h("h3", {class: "warn"}, "Coins of this bot are missing"), this.missingText,
      h("div", {class: "choice small"}, this.mendBook, h("span", {}, "A sale made by hand is booked as a sale of this bot, at its price; coins that left without one are written off as a loss. The bot goes on with what is left."),
        this.mendClose, h("span", {}, "The same, and then the position ends: coins that are left are yours again, valued at the price now. Nothing is sold."),
        this.mendStop, h("span", {}, "Nothing is booked. Choose later, or bring the coins back and start it again.")));
    this.note = h("p", {class: "note small"});
    this.grid = h("div", {class: "hands"}, this.levels, this.skips, this.pots, this.coins);
    this.root = h("section", {class: "card pad sum", "aria-label": "By hand"}, h("h2", {}, "By hand"), this.note, this.grid);
  }
  forget(...fields) { for (const f of fields) { f.node.dirty = false; f.node.removeAttribute("aria-invalid"); f.bad.textContent = ""; } }
  update(b, unclaimed) {
    if (!b) return;
    this.bot = b; this.unclaimed = unclaimed;
    const p = b.position, runs = alive(b), off = !runs || busy.has(b.id), free = unclaimed && unclaimed.amount > 0;
    this.note.hidden = runs; this.note.textContent = "The bot does these things itself: start it first." + (b.missing ? " Only its books can be mended while it is stopped." : "") + (isNum(b.pot) ? " Its pot can be changed either way." : "");
    this.missing.hidden = !b.missing; this.levels.hidden = !p; this.coins.hidden = !free;
    if (this.missingText.textContent !== (b.missing || "")) this.missingText.textContent = b.missing || "";
    if (p) for (const [f, value] of [[this.stop, p.stop_loss], [this.target, p.take_profit]]) if (!f.node.dirty && document.activeElement !== f.node) f.node.value = plainNumber(value);
    const n = b.skip_entries, words = n === 0 ? "It takes its next entry when its strategy says so." : n === 1 ? "Its next entry is left out, as asked for by hand." : "Its next " + n + " entries are left out, as asked for by hand.";
    if (this.skipText.textContent !== words) this.skipText.textContent = words;
    this.skip.textContent = n ? "Skip one more" : "Skip the next entry"; this.back.hidden = !n;
    if (free) { const told = quantity(unclaimed.amount) + " " + unclaimed.asset + " in the account belong to no bot. Brought under this one, they are sold by its stop, its target and its strategy."; if (this.coinText.textContent !== told) this.coinText.textContent = told; }
    this.pots.hidden = !isNum(b.pot);
    if (isNum(b.pot)) { const told = "Its pot is " + amount(b.pot) + " " + (b.quote || "") + (p && isNum(p.invested) ? ", " + amount(p.invested) + " of it in the open position" : "") + ". It counts from its next check, and is neither profit nor loss."; if (this.potText.textContent !== told) this.potText.textContent = told; }
    this.potIn.disabled = this.potOut.disabled = this.potAmount.node.disabled = busy.has(b.id);
    for (const node of [this.move, this.skip, this.back, this.bring, this.stop.node, this.target.node, this.count.node, this.cost.node]) node.disabled = off;
    this.mendBook.disabled = this.mendClose.disabled = busy.has(b.id);
    this.mendStop.disabled = off;
    this.hints();
  }
  hints() {
    const p = this.bot && this.bot.position, n = Number(this.potAmount.node.value.trim() || NaN), q = this.bot && this.bot.quote || "";
    const after = this.bot && isNum(n) && n > 0 && isNum(this.bot.pot) ? "The pot: " + amount(this.bot.pot) + " " + q + " now; topped up " + amount(this.bot.pot + n) + ", paid out " + amount(this.bot.pot - n) : "in " + (q || "the quote asset");
    if (this.potAmount.told.textContent !== after) this.potAmount.told.textContent = after;
    if (!p) return;
    for (const f of [this.stop, this.target]) {
      const v = f.node.value.trim() === "" ? NaN : Number(f.node.value), told = isNum(v) && isNum(p.price) && p.price > 0 ? gap(v, p.price) : f === this.target ? "Empty: no target" : "";
      if (f.told.textContent !== told) f.told.textContent = told;
    }
    this.reset.hidden = !this.stop.node.dirty && !this.target.node.dirty;
  }
  number(f, empty) {
    const v = f.node.value.trim();
    if (v === "" && empty !== undefined) return {value: empty};
    if (/^\d*\.?\d+$/.test(v) && Number(v) > 0) return {value: v};
    f.node.setAttribute("aria-invalid", "true"); f.bad.textContent = "This must be a plain number such as 100 or 99.5."; f.node.focus();
    return null;
  }
  send(command, body) {
    return act(this.id, () => post("/api/bot/" + this.id + "/" + command, body), a => a.outcome === "waiting" ? a.text[0].toUpperCase() + a.text.slice(1) + "." : this.bot.name + ": " + a.text + ".");
  }
  async moveLevels() {
    if (this.move.disabled) return;
    const p = this.bot.position, body = {}, short = p.side === "SHORT";
    const stop = this.number(this.stop), target = stop && this.number(this.target, null);
    if (!stop || !target) return;
    if (Number(stop.value) !== p.stop_loss) body.stop_loss = stop.value;
    if ((target.value === null ? null : Number(target.value)) !== p.take_profit) body.take_profit = target.value;
    if (!Object.keys(body).length) { toast("Stop and target are as you have them already."); return; }
    if (body.stop_loss !== undefined || body.take_profit === null) {
      const at = body.stop_loss === undefined ? p.stop_loss : Number(body.stop_loss), result = (at - p.entry_price) * p.quantity * (short ? -1 : 1), wider = isNum(p.stop_loss) && (short ? at > p.stop_loss : at < p.stop_loss);
      const words = (body.stop_loss !== undefined ? "The stop moves from " + price(p.stop_loss) + " to " + price(at) + (wider ? ": more may be lost than before. " : ". ") : "") + "If the stop fires there, this position ends with about " + signed(result) + " " + (this.bot.quote || "") + ", before fees." + (body.take_profit === null ? " There is no target any more." : "");
      if (!await ask("Move the levels of " + this.bot.name + "?", words, "Move", wider)) return;
    }
    if (await this.send("levels", body)) this.forget(this.stop, this.target);
  }
  async adopt() {
    if (this.bring.disabled) return;
    const count = this.number(this.count), cost = count && this.number(this.cost, null);
    if (!count || !cost) return;
    if (Number(count.value) > this.unclaimed.amount) { this.count.node.setAttribute("aria-invalid", "true"); this.count.bad.textContent = "At most " + quantity(this.unclaimed.amount) + "."; this.count.node.focus(); return; }
    if (!await ask("Bring " + count.value + " " + this.unclaimed.asset + " under " + this.bot.name + "?", "They become part of its position, at " + (cost.value === null ? "the price now" : cost.value + " each") + ". From then on the bot sells them by its own rules.", "Bring them in", true)) return;
    if (await this.send("adopt", {quantity: count.value, price: cost.value})) { this.count.node.value = this.cost.node.value = ""; this.forget(this.count, this.cost); }
  }
  async pot(way) {
    if (this.potIn.disabled) return;
    const n = this.number(this.potAmount);
    if (!n) return;
    const q = this.bot.quote || "", before = this.bot.pot, after = before + way * Number(n.value);
    if (!await ask((way > 0 ? "Top up " : "Pay out of ") + this.bot.name + "?", "Its pot is " + amount(before) + " " + q + " now and " + amount(after) + " " + q + " afterwards. Nothing is moved at the exchange: " + (way > 0 ? "the bot may use that much more of the account." : "what is paid out belongs to no bot any more, and is yours."), way > 0 ? "Top up" : "Pay out", way < 0)) return;
    const done = await act(this.id, () => post("/api/bot/" + this.id + "/pot", {amount: (way < 0 ? "-" : "") + n.value}), a => "The pot of " + this.bot.name + " was " + amount(a.before) + " " + q + " and is " + amount(a.after) + " " + q + "." + (a.warning ? " But " + a.warning + "." : ""));
    if (done) { this.potAmount.node.value = ""; this.forget(this.potAmount); this.hints(); }
  }
  async mend(choice) {
    const title = choice === "book" ? "Book what happened to the coins of " + this.bot.name + "?" : "Close the book of " + this.bot.name + "'s position?";
    if (!await ask(title, choice === "book" ? "Its position gets smaller by what is missing, and its profit changes by what a sale brought." : "Its position ends without a sale; what is left of its coins is yours to look after.", choice === "book" ? "Book it" : "Close the book", true)) return;
    if (await this.send("mend", {choice})) checkBooks(this.bot.mode);
  }
}
const REGIMES = {trend_up: "rising", trend_down: "falling", range: "sideways", high_volatility: "wild"};
class Detail {
  constructor(id) {
    this.id = id; this.tab = "trades"; this.cursor = null; this.data = null; this.frame = ""; this.n = 0;
    this.headNode = h("div", {class: "card pad sum"});
    this.chartBox = h("div", {class: "chart"}); this.chartNote = h("p", {class: "note"}); this.chartNote.hidden = true;
    this.canvas = h("canvas", {role: "img", "aria-label": "Equity after each closed trade"});
    this.equityBox = h("div", {class: "equity"}, this.canvas); this.equityNote = h("div", {class: "empty"}, "The curve begins with the first closed trade."); this.equityNote.hidden = true;
    this.select = h("select", {"aria-label": "Candles of the chart", on: {change: () => { this.frame = this.select.value; this.fitted = false; this.candles(); }}}, h("option", {value: ""}, "bot's"), ["1m", "5m", "15m", "1h", "4h", "1d"].map(t => h("option", {value: t}, t)));
    this.pre = h("pre", {id: "log", class: "mono"}); this.logBox = h("div", {class: "logbox", tabIndex: 0, role: "log", "aria-label": "Log", "aria-live": "off"}, this.pre);
    this.pane = h("div", {class: "pane", id: "pane", role: "tabpanel", tabIndex: 0}, h("div", {class: "empty"}, "Loading…"));
    this.tabs = h("div", {class: "tabs", role: "tablist", "aria-label": "Details"});
    this.root = h("div", {}, h("div", {class: "head"}, h("button", {class: "btn quiet", on: {click: () => { location.hash = ""; }}}, "← All bots")),
      this.headNode, (this.hands = new Hands(id)).missing,
      h("div", {class: "grid2"}, h("section", {class: "card", "aria-label": "Price"}, h("div", {class: "pad head"}, h("h2", {}, "Price"), this.frameNode = h("span", {class: "dim small"}), h("span", {class: "grow"}), h("div", {}, this.select)), this.chartNote, this.chartBox),
        h("section", {class: "card", "aria-label": "Equity"}, h("div", {class: "pad head"}, h("h2", {}, "Equity")), this.equityNote, this.equityBox)),
      this.hands.root, h("section", {class: "card", "aria-label": "Records"}, this.tabs, this.pane), (this.back = new Backtest(id)).root);
    this.root.className = "stack";
    fill($("detail"), this.root);
    this.drawTabs();
  }
  drawTabs() {
    const names = [["trades", "Trades"], ["fills", "Fills"], ["orders", "Orders"], ["decisions", "Decisions"], ["log", "Log"]];
    fill(this.tabs, names.map(([k, t]) => h("button", {role: "tab", id: "tab-" + k, "aria-selected": String(this.tab === k), "aria-controls": "pane", tabIndex: this.tab === k ? 0 : -1, on: {
      click: () => { this.tab = k; this.drawTabs(); this.drawPane(); },
      keydown: e => { const i = names.findIndex(n => n[0] === this.tab), d = e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : 0; if (d) { this.tab = names[(i + d + names.length) % names.length][0]; this.drawTabs(); this.drawPane(); $("tab-" + this.tab).focus(); } }}}, t)));
  }
  async refresh() {
    const full = this.n++ % 3 === 0 || !this.data;
    let d;
    try { d = await api("/api/bot/" + this.id + "/details?" + (this.cursor === null ? "" : "cursor=" + this.cursor + "&") + (full ? "" : "only=log")); }
    catch (e) { if (e.status === 404 || e.status === 400) { toast(e.message, true); location.hash = ""; return; } throw e; }
    if (detail !== this) return;
    if (full) this.data = d;
    this.bot = d.bot;
    if (d.log.cursor < this.cursor) fill(this.pre);
    this.cursor = d.log.cursor;
    this.append(d.log.lines);
    this.head();
    if (full) { this.drawPane(); this.equity(); if ((this.n - 1) % 9 === 0) this.candles(); }
  }
  append(lines) {
    const box = this.logBox, end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    for (const line of lines) this.pre.append(h("span", {class: / - (ERROR|CRITICAL) - /.test(line) ? "l-e" : / - WARNING - /.test(line) ? "l-w" : ""}, line + "\n"));
    while (this.pre.childNodes.length > 2000) this.pre.firstChild.remove();
    if (end || !this.scrolled) { box.scrollTop = box.scrollHeight; this.scrolled = this.tab === "log"; }
  }
  head() {
    const b = find(this.id) || this.bot;
    if (!b) return;
    const p = b.position;
    this.hands.update(b, this.data && this.data.unclaimed);
    cell(this.headNode, [b.name, b.status, b.guarded, b.why, p && {...p, price_wall: 0}, b.profit, b.trades, b.last_signal, b.why_no_trade, b.notices, b.missing, b.problems, busy.has(b.id), b.trade_amount, b.win_rate, held(), b.guards, b.regime], () => [
      h("div", {class: "top"}, h("h2", {class: "clip"}, b.name), modeTag(b.mode), statePills(b), this.count = h("span", {class: "small dim"}), h("span", {class: "grow"}), buttons(b, true)),
      h("div", {class: "small dim"}, b.symbol + " · " + b.strategy + " · " + amount(b.trade_amount) + " " + (b.quote || "") + " a trade at first"),
      b.why ? h("p", {class: "note " + (troubled(b) ? "bad" : "")}, b.why) : null,
      p && p.unwatched ? h("p", {class: "note bad"}, "The bot does not run and its stop does not lie at the exchange: nobody watches this position.") : null,
      b.mode === "live" ? h("p", {class: "note bad strong"}, "This bot trades with real money.") : null,
      (b.guards || []).filter(g => !b.notices.some(n => n.includes(g.text))).map(g => h("p", {class: "note " + (g.level === "hard" ? "bad" : "warn")}, "A guard has tripped: " + g.text + ". ", h("a", {href: "#yard"}, "Account & risk"))),
      b.notices.filter(n => n !== b.missing).map(n => h("p", {class: "note warn"}, n)),
      h("div", {class: "facts"},
        fig("Profit", result(b.profit, b.trades ? b.profit_pct : null, b.quote), tone(b.profit)),
        fig("Trades", b.trades ? b.trades + ", " + Math.round(b.win_rate) + "% won" : "none yet"),
        p ? [fig("Position", p.side + " " + quantity(p.quantity)), fig("Entry", price(p.entry_price)), fig(p.price_stale ? "Last known price" : "Price", price(p.price), p.price_stale ? "warn" : ""), fig("Open profit", result(p.profit, p.profit_pct, b.quote), tone(p.profit)), fig("Stop", price(p.stop_loss)), fig("Target", price(p.take_profit)), fig("Since", moment(p.opened_at))] : fig("Position", "none", "dim"),
        b.regime && REGIMES[b.regime.word] ? fig("Market", [REGIMES[b.regime.word], h("div", {class: "tiny dim"}, "since " + (b.regime.earlier ? "before " : ""), moment(b.regime.since_ms))]) : null),
      b.last_signal ? h("div", {class: "note"}, signalPill(b.last_signal.signal), " ", b.last_signal.reasoning, whyNot(b) ? h("div", {class: "small"}, "No trade: " + whyNot(b)) : null) : b.why_no_trade ? h("p", {class: "note"}, b.why_no_trade) : null,
      b.problems.slice(-3).map(x => h("p", {class: "note small " + (x.level === "WARNING" ? "warn" : "bad")}, moment(x.wall_ms), "  " + x.text))]);
    this.tick();
  }
  tick() { const b = find(this.id); if (b && this.count) this.count.textContent = failing ? "" : countdown(b); }
  drawPane() {
    const d = this.data;
    if (this.tab === "log") { if (this.pane.firstChild !== this.logBox) { this.pane._key = "log"; fill(this.pane, this.pre.childNodes.length ? this.logBox : h("div", {class: "empty"}, "The log is empty. It fills when the bot starts.")); this.logBox.scrollTop = this.logBox.scrollHeight; } return; }
    if (!d) return;
    const q = d.bot.quote || "";
    cell(this.pane, [this.tab, d[this.tab]], () => ({
      trades: () => table(["No.", "#Entry", "Opened", "#Exit", "Closed", "#Quantity", "#Profit", "Why it closed"], d.trades, t => [
        td(t.trade), td(price(t.entry_price), "num"), td(moment(t.entry_at), "nowrap"),
        td(t.open ? "open" : price(t.exit_price), "num"), td(t.open ? "–" : moment(t.exit_at), "nowrap"),
        td(quantity(t.quantity), "num"), td(t.open ? "–" : result(t.profit, t.profit_pct, t.quote || q), "num nowrap " + tone(t.profit)), td(spoken(t.exit_reason))], "No trades yet. A trade appears here when the bot has bought."),
      fills: () => table(["Time", "Side", "#Price", "#Quantity", "#Amount", "#Fee", "Role", "Trade"], d.fills, f => [
        td(moment(f.time_ms), "nowrap"), sideCell(f.side), td(price(f.price), "num"), td(quantity(f.quantity), "num"),
        td(amount(f.quote) + " " + (f.quote_asset || q), "num nowrap"), td(quantity(f.fee) + " " + (f.fee_asset || ""), "num nowrap"), td(spoken(f.tag || f.role)), td(f.trade)], "No fills yet."),
      orders: () => table(["Time", "Side", "Kind", "State", "#Quantity", "#Price", "#Stop", "Role", "Client id"], d.orders, o => [
        td(moment(o.created_at), "nowrap"), sideCell(o.side), td(o.kind || "–"), td(o.status === "SENDING" ? "outcome unknown" : (o.status || "").toLowerCase().replaceAll("_", " "), o.open ? "strong" : "dim"),
        td(quantity(o.quantity), "num"), td(price(o.price), "num"), td(isNum(o.stop_price) ? price(o.stop_price) : "–", "num"), td(spoken(o.tag || o.role)), td(o.client_id || "", "mono tiny")], "No orders yet."),
      decisions: () => table(["Time", "Signal", "Reasoning", "Action", "Why not", "#Price"], d.decisions, x => [
        td(moment(x.market_ms), "nowrap"), td(signalPill(x.signal || "–")), td(x.reasoning || "", "reason"), td(x.action || ""), td(x.why_not || "", "reason dim"), td(price(x.price), "num")], "No decisions yet. The bot writes one at each check."),
    })[this.tab]());
  }
  equity() {
    const points = this.data.equity, key = JSON.stringify(points) + matchMedia("(prefers-color-scheme: dark)").matches;
    if (this.equityKey === key) return;
    this.equityKey = key;
    this.equityBox.hidden = points.length < 2; this.equityNote.hidden = points.length >= 2;
    if (points.length < 2 || !window.Chart) return;
    if (this.plot) this.plot.destroy();
    const up = points[points.length - 1].value >= points[0].value, color = css(up ? "--good" : "--bad");
    this.plot = curve(this.canvas, points.map(p => p.at), [{label: "pot", data: points.map(p => p.value), borderColor: color, backgroundColor: color + "22", fill: true, pointRadius: points.length > 40 ? 0 : 2.5, borderWidth: 2}],
      {unit: this.data.bot.quote || "", legend: false, ticks: 4, from: 5, to: 16});
  }
  async candles() {
    let c;
    try { c = await api("/api/bot/" + this.id + "/candles" + (this.frame ? "?timeframe=" + this.frame : ""), {timeout: 30000}); }
    catch (e) { this.chartNote.hidden = false; this.chartNote.textContent = e.message; return; }
    if (detail !== this) return;
    this.frameNode.textContent = c.symbol + ", " + c.timeframe + " candles";
    this.chartNote.hidden = Boolean(c.candles.length);
    this.chartBox.hidden = !c.candles.length;
    this.chartNote.textContent = c.error ? "No candles: " + c.error : "No candles yet.";
    if (c.candles.length && window.LightweightCharts) this.draw(c);
  }
  draw(c) {
    const L = LightweightCharts, theme = {layout: {background: {color: "transparent"}, textColor: css("--dim"), attributionLogo: false, fontFamily: "system-ui, sans-serif"}, grid: {vertLines: {color: css("--line")}, horzLines: {color: css("--line")}}, rightPriceScale: {borderVisible: false}, timeScale: {borderVisible: false, timeVisible: true, rightOffset: 4}, crosshair: {mode: 0}, localization: {locale: "en-GB"}};
    // The library knows UTC only. One shift for all candles keeps them in order where clocks are changed; the crosshair tells each exactly.
    const ahead = -new Date(c.candles.at(-1)[0]).getTimezoneOffset() * 60, place = ms => ms / 1000 + ahead;
    theme.localization.timeFormatter = t => when((t - ahead) * 1000);
    const low = Math.min(...c.candles.map(x => x[3])), digits = low >= 1000 ? 2 : low >= 1 ? 4 : Math.min(10, 4 - Math.floor(Math.log10(low)));
    if (!this.chart) {
      this.chart = L.createChart(this.chartBox, {...theme, autoSize: true});
      this.series = this.chart.addSeries(L.CandlestickSeries, {});
      this.marks = L.createSeriesMarkers(this.series, []);
      this.prices = [];
    } else this.chart.applyOptions(theme);
    this.series.applyOptions({upColor: css("--good"), downColor: css("--bad"), borderVisible: false, wickUpColor: css("--good"), wickDownColor: css("--bad"), priceFormat: {type: "price", precision: digits, minMove: 10 ** -digits}});
    this.series.setData(c.candles.map(x => ({time: place(x[0]), open: x[1], high: x[2], low: x[3], close: x[4]})));
    const times = c.candles.map(x => x[0]);
    const at = ms => { let lo = 0, hi = times.length - 1; while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (times[mid] <= ms) lo = mid; else hi = mid - 1; } return place(times[lo]); };
    const seen = new Map();
    for (const m of c.markers) { const k = at(m.at) + m.side + (m.tag || m.role); if (!seen.has(k)) seen.set(k, m); }
    this.marks.setMarkers([...seen.values()].map(m => ({time: at(m.at), position: m.side === "BUY" ? "belowBar" : "aboveBar", shape: m.side === "BUY" ? "arrowUp" : "arrowDown", color: css(m.side === "BUY" ? "--accent" : "--warn"), text: m.side === "BUY" ? "buy" : (m.tag || "sell").replaceAll("_", " ")})).sort((a, b) => a.time - b.time));
    for (const l of this.prices) this.series.removePriceLine(l);
    this.prices = [["entry_price", "entry", "--accent"], ["stop_loss", "stop", "--bad"], ["take_profit", "target", "--good"]].filter(([k]) => isNum(c.lines[k])).map(([k, title, color]) => this.series.createPriceLine({price: c.lines[k], color: css(color), lineWidth: 1, lineStyle: 2, axisLabelVisible: true, title}));
    const around = Object.values(c.lines).filter(isNum);
    this.series.applyOptions({autoscaleInfoProvider: make => { const r = make(); if (r && r.priceRange && around.length) { r.priceRange.minValue = Math.min(r.priceRange.minValue, ...around); r.priceRange.maxValue = Math.max(r.priceRange.maxValue, ...around); } return r; }});
    if (!this.fitted) { this.chart.timeScale().setVisibleLogicalRange({from: Math.max(0, times.length - (innerWidth < 700 ? 60 : 140)), to: times.length + 4}); this.fitted = true; }
  }
  close() { if (this.chart) this.chart.remove(); if (this.plot) this.plot.destroy(); this.back.close(); fill($("detail")); }
}
// --- a backtest of one bot ------------------------------------------------------------------------------
const PHASES = {fetching: "Fetching candles", reading: "Reading strategy and candles", running: "Trading through the past", writing: "Writing the report"};
const MARKETS = {paper: "the paper market", testnet: "the testnet", live: "Binance itself"};
const marketWords = v => { const parts = v.split("/"), source = parts.slice(3).join("/"); return (MARKETS[parts[2]] || v) + (source ? " (" + source + ")" : ""); };
class Backtest {
  constructor(id) {
    this.id = id; this.about = null; this.run = null; this.shown = null; this.timer = 0; this.plot = null;
    const field = (key, label, hint, input) => { const n = input || h("input", {inputMode: "decimal", autocomplete: "off"}); n.id = "bt-" + key; n.setAttribute("aria-describedby", "bt-h-" + key + " bt-e-" + key); this[key] = n; n.addEventListener("input", () => this.wrong(key, "")); return h("div", {class: "field"}, h("label", {htmlFor: n.id}, label), n, h("span", {class: "hint", id: "bt-h-" + key}, hint), h("span", {class: "wrong", id: "bt-e-" + key})); };
    const date = () => h("input", {type: "date", min: "2009-01-01", max: "2099-12-31"});
    this.form = h("form", {class: "sum", id: "bt-form", noValidate: true, hidden: true, on: {submit: e => { e.preventDefault(); this.start(); }}},
      h("div", {class: "bt-fields"},
        field("venue", "Candles of", "", h("select", {on: {change: () => this.hints()}})),
        field("from", "From (UTC day)", "", date()), field("to", "Until before", "Empty: the newest candle.", date()),
        field("cash", "Money at the start", ""), field("fee_pct", "Fee of each fill, %", "Binance takes 0.1."), field("slippage_pct", "Slippage, %", "How much worse market orders fill."),
        field("protection", "Stop and target lie", "", h("select", {}, [["", "as this bot has it"], ["exchange", "at the exchange"], ["bot", "in the bot"]].map(([v, t]) => h("option", {value: v}, t)))),
        field("timing", "It decides", "", h("select", {}, [["bot", "when the bot checks"], ["candles", "at each closed candle"]].map(([v, t]) => h("option", {value: v}, t))))),
      h("label", {class: "check"}, this.fetch = h("input", {type: "checkbox", id: "bt-fetch"}), h("span", {}, "Fetch missing candles first")),
      this.problem = h("p", {class: "note bad", role: "alert", hidden: true}),
      h("div", {class: "row"}, this.go = h("button", {class: "btn primary", id: "bt-run"}, "Run"), h("span", {class: "small dim"}, "Strategy, parameters, amount, stop, target and all else are this bot's own. It runs beside the bots, with low priority.")));
    this.open = h("button", {class: "btn quiet", type: "button", id: "bt-open", "aria-expanded": "false", "aria-controls": "bt-form", on: {click: () => this.toggle()}}, "New backtest");
    this.open.hidden = true;  // until it is known what there is
    this.note = h("p", {class: "note", hidden: true}); this.list = h("div", {class: "row"}); this.box = h("div", {class: "sum", role: "region", "aria-label": "Result of the backtest"});
    this.root = h("section", {class: "card pad sum", id: "backtest", "aria-label": "Backtest"}, h("div", {class: "head"}, h("h2", {}, "Backtest"), h("span", {class: "dim small"}, "What these settings would have traded on past candles."), h("span", {class: "grow"}), this.open), this.note, this.form, this.list, this.box);
    this.load(true);
  }
  wrong(key, text) { const e = $("bt-e-" + key); if (!e) return false; e.textContent = text; if (text) this[key].setAttribute("aria-invalid", "true"); else this[key].removeAttribute("aria-invalid"); return true; }
  toggle(on = this.form.hidden) { this.form.hidden = !on; this.open.setAttribute("aria-expanded", String(on)); this.open.textContent = on ? "Close" : "New backtest"; }
  async load(first) {
    let a;
    try { a = await api("/api/bot/" + this.id + "/backtest", {timeout: 30000}); }
    catch (e) { if (!this.closed) { this.note.hidden = false; this.note.textContent = e.message; } return; }
    if (this.closed) return;
    this.about = a;
    this.note.hidden = !a.refused; this.note.textContent = a.refused || ""; this.open.hidden = Boolean(a.refused);
    if (first) {
      fill(this.venue, a.stored.map(s => h("option", {value: s.venue}, marketWords(s.venue))));
      if (a.defaults.venue) this.venue.value = a.defaults.venue;
      this.cash.value = plainNumber(a.defaults.cash); this.fee_pct.value = plainNumber(a.defaults.fee_pct); this.slippage_pct.value = "0";
      this.hints();
      const live = a.runs.find(r => r.state === "running" || r.state === "starting"), last = live || a.runs[0];
      if (last) this.watch(last.run);
    }
    this.runs();
  }
  // What is stored of the chosen market decides what the dates may be, and whether candles must be fetched.
  hints() {
    const s = this.about.stored.find(x => x.venue === this.venue.value);
    $("bt-h-venue").textContent = !s ? "" : s.candles ? num(s.candles, 0, 0) + " candles of " + this.about.timeframe + ", " + utcDay(s.from) + " to " + utcDay(s.to) : "No " + this.about.timeframe + " candles of " + this.about.symbol + " are stored yet.";
    $("bt-h-from").textContent = s && s.candles ? "Empty: all that is stored." : "Empty: the last " + this.about.defaults.days + " days.";
    $("bt-h-cash").textContent = (this.about.quote ? "in " + this.about.quote + "; " : "") + "the bot's amount is " + amount(this.about.defaults.cash);
    if (s) this.fetch.checked = !s.candles;
  }
  asked() {
    const sent = {};
    for (const k of ["venue", "from", "to", "cash", "fee_pct", "slippage_pct", "protection", "timing"]) { const v = this[k].value.trim(); if (v) sent[k] = v; }
    if (this.fetch.checked) sent.fetch = true;
    return sent;
  }
  async start(body) {
    const sent = body || this.asked();
    this.problem.hidden = true; for (const k of ["venue", "from", "to", "cash", "fee_pct", "slippage_pct", "protection", "timing"]) this.wrong(k, "");
    this.go.disabled = true;
    try { const a = await post("/api/bot/" + this.id + "/backtest", sent); this.toggle(false); this.watch(a.run); this.load(); }
    catch (e) {
      const rest = e.message.split(/; (?=[a-z_]+: )/).filter(part => { const m = /^([a-z_]+): (.*)$/s.exec(part); return !(m && m[1] in this && this.wrong(m[1], m[2])); });
      this.problem.hidden = !rest.length; this.problem.textContent = rest.join("; "); this.toggle(true);
    }
    this.go.disabled = false;
  }
  // Follows a run by its number, which the server keeps: a reload of the page finds it again.
  async watch(run) {
    this.run = run; clearTimeout(this.timer);
    let d;
    try { d = await api("/api/backtests/" + run); }
    catch (e) { if (this.closed || this.run !== run) return; if (e.status === 404) { fill(this.box); this.load(); return; } this.timer = setTimeout(() => this.watch(run), 3000); return; }
    if (this.closed || this.run !== run) return;
    const goes = d.state === "running" || d.state === "starting";
    this.draw(d, goes);
    if (goes) this.timer = setTimeout(() => this.watch(run), 1000); else if (this.going) this.load();
    this.going = goes;
  }
  runs() {
    cell(this.list, [this.about.runs, this.run], () => this.about.runs.length < 2 ? [] : [h("span", {class: "small dim"}, "Kept:"), this.about.runs.slice(0, 8).map(r => h("button", {class: "btn quiet", type: "button", "aria-pressed": String(r.run === this.run), on: {click: () => { this.watch(r.run); }}}, "No. " + r.run + " ", h("span", {class: r.brief ? tone(r.brief.return_pct) : "dim"}, r.brief ? percent(r.brief.return_pct) : r.state)))]);
  }
  draw(d, goes) {
    if (this.about) this.runs();
    if (this.plot) { this.plot.destroy(); this.plot = null; }
    this.shown = d;
    const ask = d.asked, day = ms => isNum(ms) ? utcDay(ms) : "", what = "No. " + d.run + ": " + ask.strategy + " on " + ask.symbol + " " + ask.timeframe + ", candles of " + marketWords(ask.venue) + (day(ask.from_ms) ? ", from " + day(ask.from_ms) : "") + (day(ask.to_ms) ? " until " + day(ask.to_ms) : "");
    const top = h("div", {class: "head"}, h("span", {class: "small dim grow"}, what), h("button", {class: "btn quiet" + (goes ? " danger" : " ghost"), type: "button", id: "bt-end", on: {click: () => this.end(d.run, goes)}}, goes ? "Cancel" : "Remove"));
    if (goes) {
      const share = isNum(d.part) ? d.part * 100 : 0, words = (PHASES[d.phase] || "Starting") + "…" + (share >= 1 ? " " + Math.round(share) + " %" : "") + (d.words ? " · " + d.words : "") + (isNum(d.left_s) ? " · about " + span(d.left_s) + " left" : "");
      if (this.follows !== d.run) { this.follows = d.run; fill(this.box, top, this.words = h("p", {class: "small"}), this.track = h("div", {})); }
      this.words.textContent = words;
      const track = bar(share, "", "Progress"); track.setAttribute("role", "progressbar"); fill(this.track, track);
      return;
    }
    this.follows = null;
    if (d.state !== "done" || !d.result) {
      const again = d.kind === "no_candles" && !ask.fetch ? h("div", {class: "row"}, h("button", {class: "btn quiet", type: "button", id: "bt-fetch-run", on: {click: () => this.start({...this.again(ask), fetch: true})}}, "Fetch candles and run")) : null;
      fill(this.box, top, h("p", {class: "note " + (d.state === "cancelled" ? "" : "bad"), role: "status"}, d.state === "cancelled" ? "It was cancelled." : "It could not be done. " + (d.error || "")), again);
      return;
    }
    const r = d.result, m = r.metrics, q = r.settings.quote, p = (v, s) => isNum(v) ? percent(v, s) || "0.00%" : "–", ratio = v => isNum(v) ? num(v) : "–";
    const base = "/api/backtests/" + d.run + "/", link = (name, text, more) => h("a", {class: "btn quiet", href: base + name, ...more}, text);
    const canvas = h("canvas", {role: "img", "aria-label": "Equity of the backtest beside buying and holding"});
    fill(this.box, top,
      h("div", {class: "facts"}, fig("Return", p(m.return_pct, true), tone(m.return_pct)), fig("Buy and hold", p(m.buy_hold_pct, true), tone(m.buy_hold_pct)), fig("Profit", signed(m.profit) + " " + q, tone(m.profit)), fig("Largest fall", p(m.max_drawdown_pct, false)), fig("Fall of buy and hold", p(m.buy_hold_max_drawdown_pct, false)), fig("Trades", num(m.trades, 0, 0) + (isNum(m.win_rate_pct) ? ", " + Math.round(m.win_rate_pct) + "% won" : "")), fig("Profit factor", ratio(m.profit_factor)), fig("Sharpe", ratio(m.sharpe)), fig("Fees", amount(m.fees) + " " + q), fig("Time in the market", p(m.exposure_pct, false))),
      r.warnings.length ? h("ul", {class: "note warn small bt-notes"}, r.warnings.map(t => h("li", {}, t))) : null,
      Object.keys(r.refused).length ? h("p", {class: "note small"}, "Not done: " + Object.entries(r.refused).map(([why, n]) => why + " (" + num(n, 0, 0) + ")").join("; ")) : null,
      h("div", {class: "row"}, d.files.includes("report.html") ? link("report.html", "Full report", {target: "_blank", rel: "noopener noreferrer"}) : null, d.files.includes("trades.csv") ? link("trades.csv", "Trades as CSV", {download: ""}) : null, d.files.includes("result.json") ? link("result.json", "All as JSON", {download: ""}) : null),
      r.equity.length > 1 ? h("div", {class: "equity"}, canvas) : null,
      h("details", {}, h("summary", {}, "All figures"), h("table", {class: "bt-figures"}, h("tbody", {}, r.figures.map(([k, v]) => h("tr", {}, h("th", {scope: "row"}, k.trim()), td(v, "num")))))),
      h("details", {}, h("summary", {}, "Trades (" + num(r.trades_total, 0, 0) + (r.trades_total > r.trades.length ? ", the last " + r.trades.length + " here" : "") + ")"), h("div", {class: "pane", tabIndex: 0, role: "group", "aria-label": "Trades of the backtest"}, table(["Opened", "#Entry", "Closed", "#Exit", "#Quantity", "#Profit", "Why it closed"], [...r.trades].reverse(), t => [td(moment(t.entry_time), "nowrap"), td(price(t.entry_price), "num"), td(moment(t.exit_time), "nowrap"), td(price(t.exit_price), "num"), td(quantity(t.quantity), "num"), td(result(t.profit, t.profit_pct), "num nowrap " + tone(t.profit)), td(spoken(t.exit_reason))], "It made no trade."))));
    if (r.equity.length > 1) this.chart(canvas, r, q);
  }
  again(ask) { const sent = {venue: ask.venue, cash: ask.cash, fee_pct: ask.fee_pct, slippage_pct: ask.slippage_pct, timing: ask.timing}; if (ask.protection) sent.protection = ask.protection; if (isNum(ask.from_ms)) sent.from = ask.from_ms; if (isNum(ask.to_ms)) sent.to = ask.to_ms; return sent; }
  chart(canvas, r, q) {
    if (!window.Chart) return;
    const color = css(r.metrics.return_pct >= 0 ? "--good" : "--bad"), held = r.equity.every(e => isNum(e[2]));
    const sets = [{label: "this backtest", data: r.equity.map(e => e[1]), borderColor: color, backgroundColor: color + "22", fill: true, pointRadius: 0, borderWidth: 2}];
    if (held) sets.push({label: "buy and hold, before fees", data: r.equity.map(e => e[2]), borderColor: css("--dim"), borderDash: [5, 4], pointRadius: 0, borderWidth: 1.5});
    this.plot = curve(canvas, r.equity.map(e => e[0]), sets, {unit: q, legend: true, ticks: innerWidth < 700 ? 3 : 8, from: 0, to: 10});
  }
  async end(run, goes) {
    try { await api("/api/backtests/" + run, {method: "DELETE", timeout: 15000}); }
    catch (e) { if (e.status !== 404) { toast(e.message, true); return; } }
    if (this.closed) return;
    if (goes) { this.going = false; await this.watch(run); } else { clearTimeout(this.timer); if (this.plot) { this.plot.destroy(); this.plot = null; } this.run = this.shown = null; fill(this.box); }
    this.load();
  }
  paint() { if (this.shown && this.plot) this.draw(this.shown, false); }
  close() { this.closed = true; clearTimeout(this.timer); if (this.plot) this.plot.destroy(); }
}
// --- account and risk -----------------------------------------------------------------------------------
let over = null;
const KILLS = {entries: "nothing is bought", flatten: "everything is sold, and nothing is bought", unknown: "it can't be read, so nothing is bought"};
const stillOpen = () => (view ? view.bots : []).filter(b => b.position || b.state_error);
const someone = x => { const told = [x.by ? "by " + x.by : "", isNum(x.wall_ms) && x.wall_ms ? when(x.wall_ms) : ""].filter(Boolean).join(", "); return told ? " (" + told + ")" : ""; };
function renderAlarms() {
  const k = view.kill || {level: "off"}, open = k.level === "flatten" ? stillOpen() : [];
  $("killed").hidden = k.level === "off";
  cell($("killed"), [k, open.length], () => k.level === "off" ? [] : ["The kill switch is on: " + KILLS[k.level] + someone(k) + "." + (k.problem ? " " + k.problem : "") + (k.level === "flatten" ? open.length ? " " + plural(open.length, "position is", "positions are") + " still open." : " Everything is flat." : ""), h("a", {href: "#yard"}, "Account & risk")]);
  const bare = view.bots.filter(b => b.position && b.position.unwatched);
  $("bare").hidden = !bare.length;
  cell($("bare"), bare.map(b => [b.id, b.name]), () => bare.length ? ["Nobody watches the stop of " + plural(bare.length, "open position") + ":", bare.slice(0, 8).map((b, i) => [i ? ", " : " ", h("a", {href: "#bot/" + b.id}, b.name)]), bare.length > 8 ? " and " + (bare.length - 8) + " more" : "", ". Start the bots, or close the positions."] : []);
  const word = held();
  $("paused").hidden = !word;
  cell($("paused"), [word], () => word ? [word + ". No bot starts until it is lifted.", h("a", {href: "#yard"}, "Account & risk")] : []);
}
// As `cell`, but whoever stands on a button in it stays there.
function redraw(node, key, make) { const a = document.activeElement, id = a && node.contains(a) && a.id; cell(node, key, make); if (id && document.activeElement !== a && $(id)) $(id).focus(); }
function fold(heads, list, make) {
  const names = heads.map(t => t.replace("#", ""));
  return h("table", {class: "fold"}, h("thead", {}, h("tr", {}, heads.map((t, i) => h("th", {scope: "col", class: t.startsWith("#") ? "num" : ""}, names[i])))), h("tbody", {}, list.map(x => h("tr", {}, make(x).map((c, i) => { c.dataset.k = i ? names[i] : ""; return c; })))));
}
function bar(share, cls, label) {
  const fillbar = h("span", {}), shown = Math.max(0, Math.min(100, share));
  fillbar.style.width = shown + "%";
  return h("span", {class: "track " + cls, role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(shown))}, fillbar);
}
const heat = share => share >= 100 ? "bad" : share >= 80 ? "warn" : "";
const orUnknown = (n, make = quantity) => n === null || n === undefined ? h("span", {class: "warn"}, "unknown") : make(n);
const megabytes = n => !isNum(n) ? "–" : n >= 10000 ? num(n / 1000, 1, 1) + " GB" : n > 0 && n < 0.95 ? num(n * 1000, 0, 0) + " kB" : num(n, 0, n < 10 ? 1 : 0) + " MB";
const domId = text => text.replace(/[^A-Za-z0-9]+/g, "-");
class Over {
  constructor() {
    this.n = 0; this.asked = 0; this.yard = null; this.accounts = new Map(); this.sort = ["memory_mb", -1];
    this.kill = h("section", {class: "card pad sum", "aria-label": "Kill switch"});
    this.noteInput = h("input", {id: "maint-note", maxLength: 200, autocomplete: "off", placeholder: "e.g. new server"});
    this.maintText = h("p", {class: "small"});
    this.maintOn = h("button", {id: "maint-on", class: "btn", type: "button", on: {click: () => this.pause()}}, "Begin maintenance");
    this.maintOff = h("button", {id: "maint-off", class: "btn primary", type: "button", on: {click: () => act("maint", () => post("/api/maintenance", {on: false}, 60000), "Maintenance is over: bots that are wanted start.")}}, "Lift it");
    this.maintNote = h("div", {class: "field"}, h("label", {htmlFor: "maint-note"}, "Note, for whoever looks here"), this.noteInput);
    this.maint = h("section", {class: "card pad sum", "aria-label": "Maintenance"}, h("h2", {}, "Maintenance"), this.maintText, this.maintNote, h("div", {class: "row"}, this.maintOn, this.maintOff));
    this.list = h("div", {class: "stack"});
    this.machine = h("section", {class: "card pad sum", "aria-label": "Machine"}, h("h2", {}, "Machine"), this.machineBody = h("div", {class: "sum"}, h("p", {class: "dim small"}, "Loading…")));
    this.root = h("div", {class: "stack"}, h("div", {class: "head"}, h("button", {class: "btn quiet", on: {click: () => { location.hash = ""; }}}, "← All bots"), h("h2", {}, "Account & risk")), h("div", {class: "over"}, this.kill, this.maint), this.list, this.machine);
    fill($("over"), this.root);
  }
  close() { fill($("over")); }
  modes() { const used = [...new Set(view.bots.map(b => b.mode))]; return used.length ? used : ["paper"]; }
  async refresh() {
    const turn = this.n++;
    if (turn % 2 === 0) { this.yard = await api("/api/yard"); if (over !== this) return; this.drawMachine(); }
    if (Date.now() - this.asked > 30000) { this.asked = Date.now(); for (const mode of this.modes()) this.ask(mode); }
  }
  async ask(mode) {
    const p = this.part(mode);
    if (p.busy) return;
    p.busy = true;
    try { p.data = await api("/api/account?mode=" + encodeURIComponent(mode), {timeout: 45000}); p.failed = ""; }
    catch (e) { p.failed = e.message; }
    p.busy = false;
    if (over === this) this.drawAccount(mode);
  }
  async blind() { try { this.yard = await api("/api/yard"); if (over === this) { this.drawKill(); this.drawMachine(); } } catch (e) { /* told above already */ } }
  // Also where the list of bots can't be read: then nothing else of it is known, and everything can be stopped all the same.
  draw() { this.drawKill(); if (!view) return; this.drawMaint(); for (const m of this.modes()) this.part(m); for (const [m, p] of this.accounts) p.root.hidden = !this.modes().includes(m); }
  // --- kill switch and maintenance
  drawKill() {
    const k = (view && !failing ? view : this.yard || view || {}).kill || {level: "off"}, open = this.open(), wait = busy.has("kill"), on = k.level !== "off";
    if (k.level !== "flatten") this.most = 0;
    this.most = Math.max(this.most || 0, open.length);
    this.kill.classList.toggle("alarm", on);
    redraw(this.kill, [k, failing, open.map(b => [b.id, b.name, b.position && b.position.quantity, b.state_error, b.unlisted]), wait, this.most], () => [
      h("div", {class: "top"}, h("h2", {}, "Kill switch"), h("span", {class: "pill " + (on ? "bad" : "good")}, on ? k.level === "flatten" ? "sell everything" : k.level === "entries" ? "no entries" : "unclear" : "off")),
      h("p", {class: "small"}, on ? KILLS[k.level][0].toUpperCase() + KILLS[k.level].slice(1) + someone(k) + "." + (k.problem ? " " + k.problem : "") : "All bots trade as their strategies say. Stops and targets are looked after either way."),
      k.level === "flatten" ? [h("p", {class: "strong " + (open.length ? "bad" : "good"), role: "status", id: "kill-left"}, open.length ? plural(open.length, "position is", "positions are") + " still open: " + open.map(b => b.name).slice(0, 8).join(", ") + (open.length > 8 ? ", …" : "") : "Everything is flat."), this.most ? bar(100 - open.length / this.most * 100, open.length ? "warn" : "", "Sold so far") : null] : null,
      h("div", {class: "row"},
        k.level === "off" || k.level === "unknown" ? h("button", {id: "kill-entries", class: "btn danger large", type: "button", disabled: wait, on: {click: () => this.stopEntries()}}, "Stop entries") : null,
        k.level !== "flatten" ? h("button", {id: "kill-flatten", class: "btn stop large", type: "button", disabled: wait, on: {click: () => this.flatten()}}, "Flatten everything") : null,
        on ? h("button", {id: "kill-off", class: "btn large", type: "button", disabled: wait, on: {click: () => this.lift()}}, "Lift it") : null)]);
  }
  // What is open by the list, and what lies beside it: a bot that is not in the list, or all of them where it can't be read.
  open() {
    const blind = !view || Boolean(failing && this.yard), known = blind ? [] : stillOpen(), seen = new Set((blind ? [] : view.bots).map(b => b.id));
    return known.concat((this.yard && this.yard.left || []).filter(s => !seen.has(s.id)).map(s => ({id: s.id, name: s.name, unlisted: s.error || s.open})));
  }
  pull(level, confirm, good) { return act("kill", () => post("/api/kill-switch", confirm ? {level, confirm} : {level}, 60000), a => { const bad = Object.entries(a.errors || {}); if (bad.length) toast("Not reached: " + bad.map(([i, why]) => "bot " + i + " (" + why + ")").join("; "), true); return good; }); }
  async stopEntries() {
    if (await ask("Stop entries of all bots?", "No bot buys anything until you lift it. Open positions go on: their stops, targets and strategies sell as ever.", "Stop entries", true)) this.pull("entries", null, "No bot buys any more.");
  }
  async flatten() {
    const blind = !view || Boolean(failing), open = this.open(), word = blind || open.length || view.bots.some(b => b.mode === "live") ? "FLATTEN" : "", sums = {};
    for (const b of open) if (b.position && isNum(b.position.value)) { const k = b.mode + " " + (b.quote || ""); sums[k] = (sums[k] || 0) + b.position.value; }
    const list = [...open].sort((a, b) => (b.mode === "live") - (a.mode === "live")).map(b => b.unlisted ? b.name + ": " + b.unlisted : b.position ? b.name + " (" + b.mode + "): " + quantity(b.position.quantity) + " of " + b.symbol + (isNum(b.position.value) ? ", about " + amount(b.position.value) + " " + (b.quote || "") : ", worth unknown") : b.name + " (" + b.mode + "): its position can't be read");
    const total = Object.entries(sums).map(([k, v]) => amount(v) + " " + k.split(" ")[1] + " (" + k.split(" ")[0] + ")").join(", ");
    const text = (blind ? "The list of bots can't be read now: whatever is open is sold at the market's price." : open.length ? plural(open.length, "position is", "positions are") + " sold at the market's price now" + (total ? ", worth about " + total : "") + "; what rests at the exchange is taken back." : "No position is open; what is on its way is taken back.") + " Then no bot buys anything until you lift it." + (held() ? " Maintenance mode is on: positions of bots that don't run are not sold before it is lifted." : "");
    if (await ask("Sell everything?", text, "Flatten everything", true, {word, list})) this.pull("flatten", word, open.length ? "Everything is being sold." : "No bot buys any more.");
  }
  async lift() {
    if (await ask("Lift the kill switch?", "Bots buy again when their strategies say so and no guard has tripped.", "Lift it")) this.pull("off", null, "The kill switch is lifted.");
  }
  drawMaint() {
    const m = view.maintenance || {}, on = Boolean(m.on), wait = busy.has("maint");
    const words = wait && !on ? "Bots finish their step and stop…" : on ? held() + "." : "Before you update or move the yard: every bot finishes its step and stops, and none starts until you lift it. What is wanted stays wanted.";
    if (this.maintText.textContent !== words) this.maintText.textContent = words;
    this.maintNote.hidden = on; this.maintOn.hidden = on; this.maintOff.hidden = !on; this.maintOn.disabled = this.maintOff.disabled = this.noteInput.disabled = wait;
  }
  async pause() {
    const bare = view.bots.filter(b => b.position && b.position.protection !== "exchange"), runs = view.bots.filter(alive).length, note = this.noteInput.value.trim();
    if (!await ask("Begin maintenance?", plural(runs, "bot finishes its", "bots finish their") + " step and " + (runs === 1 ? "stops" : "stop") + "; none starts until you lift it." + (bare.length ? " Nobody watches these positions meanwhile, because their stops don't lie at the exchange:" : ""), "Begin", bare.length > 0, {list: bare.map(b => b.name + ": " + quantity(b.position.quantity) + " of " + b.symbol)})) return;
    const done = await act("maint", () => post("/api/maintenance", {on: true, note}, 180000), "Maintenance mode is on.");
    if (done) { this.noteInput.value = ""; for (const [i, r] of Object.entries(done.bots)) if (r.error) toast("Bot " + i + ": " + r.error, true); }
  }
  // --- accounts
  part(mode) {
    let p = this.accounts.get(mode);
    if (p) return p;
    p = {data: null, failed: "", busy: false, state: h("span", {class: "small dim grow", role: "status"}, "Asking the exchange…"), note: h("div", {class: "sum"}), guards: h("div", {class: "sub"}), holdings: h("div", {class: "sub"}), budget: h("div", {class: "sub"})};
    p.root = h("section", {class: "card pad sum", "aria-label": "Account, " + mode}, h("div", {class: "top"}, h("h2", {}, "Account"), modeTag(mode), p.state, h("button", {class: "btn quiet", type: "button", id: "look-" + mode, on: {click: () => this.ask(mode)}}, "Look again")), p.note, p.guards, p.holdings, p.budget);
    this.accounts.set(mode, p);
    this.list.append(p.root);
    return p;
  }
  drawAccount(mode) {
    const p = this.part(mode), d = p.data;
    p.state.textContent = d ? "as of " + new Date(d.as_of).toTimeString().slice(0, 8) : "";
    cell(p.note, [p.failed, d && d.error, d && d.holdings && d.holdings.unknown], () => [p.failed ? h("p", {class: "note warn"}, p.failed) : null, d && d.error ? h("p", {class: "note warn"}, "What the account holds can't be told: " + d.error) : null, d && d.holdings ? d.holdings.unknown.map(t => h("p", {class: "note bad"}, t)) : null]);
    if (!d) return;
    redraw(p.guards, d.guards, () => this.guards(mode, d.guards));
    redraw(p.holdings, [d.holdings && d.holdings.assets, d.holdings && d.holdings.orders, d.holdings && d.holdings.settled], () => d.holdings ? this.holdings(mode, d.holdings) : []);
    p.holdings.hidden = !d.holdings;
    redraw(p.budget, [d.budgets], () => this.budget(d.budgets));
    p.budget.hidden = !d.budgets.length;
    this.tick();
  }
  guards(mode, g) {
    if (g.problem) return [h("h3", {}, "Guards"), h("p", {class: "note bad"}, g.problem + " Until then nothing is bought.")];
    const accounts = g.accounts, short = s => s.scope.split("/").slice(1).join("/").replace("main/", "");
    const level = (l, n) => isNum(n) ? quantity(n) + (l.count ? "" : " %") : "–";
    const state = l => l.tripped ? [h("span", {class: "pill " + (l.tripped.level === "hard" ? "bad" : "warn"), title: l.tripped.text}, l.tripped.level === "hard" ? "tripped: sold" : "tripped: no entries"), h("div", {class: "tiny dim"}, l.tripped.text + " · since ", moment(l.tripped.wall_ms))] : l.unknown ? h("span", {class: "warn small"}, l.unknown + "; nothing is bought until it can") : l.reached ? h("span", {class: "pill warn"}, "no entries now") : isNum(l.percent) && l.percent >= 80 ? h("span", {class: "pill warn plain"}, "near") : h("span", {class: "dim"}, "well below");
    const lines = s => s.lines.map(l => [s, l]);
    const grid = all => fold(["Limit", "Now", "No entries at", "All sold at", "State", ""], all, ([s, l]) => [
      td([h("div", {class: "strong"}, l.words[0].toUpperCase() + l.words.slice(1)), s.bot ? h("a", {href: "#bot/" + s.bot}, s.name) : accounts.length > 1 ? h("span", {class: "dim"}, short(s)) : null], "whole"),
      td(l.value === null ? h("span", {class: "dim"}, "unknown") : [quantity(Math.round(l.value * 100) / 100) + (l.count ? "" : " %") + (l.coin ? " in " + l.coin : ""), isNum(l.percent) ? bar(l.percent, heat(l.percent), l.words + ", percent of its level") : null]),
      td(level(l, l.soft)), td(level(l, l.hard)), td(state(l), l.tripped || l.unknown ? "whole" : ""),
      td(h("button", {id: domId("reset " + s.scope + " " + l.limit), class: "btn quiet", type: "button", "aria-label": "Reset " + l.words + " of " + s.name, on: {click: () => this.reset(mode, s, l)}}, "Reset"), "num")]);
    const some = accounts.filter(s => s.lines.length), bots = g.bots;
    return [h("div", {class: "head"}, h("h3", {}, "Guards"), h("span", {class: "grow"}), accounts.map(s => h("button", {id: domId("edit " + s.scope), class: "btn quiet", type: "button", on: {click: () => this.edit(mode, s, g.names)}}, "Limits of " + short(s)))),
      some.length ? grid(some.flatMap(lines)) : h("p", {class: "small dim"}, accounts.length ? "No limits are set for this account." : "An account shows here when a bot of it has begun."),
      bots.map(s => s.problem ? h("p", {class: "note bad"}, s.name + ": " + s.problem) : null),
      bots.some(s => s.lines.length) ? [h("h3", {}, "Guards of single bots"), grid(bots.flatMap(lines))] : h("p", {class: "small dim"}, "No bot has limits of its own; they are set in a bot's form.")];
  }
  async reset(mode, s, l) {
    if (!await ask("Reset " + l.words + " of " + s.name + "?", "Its measure begins anew from now" + (l.tripped ? ", and entries are allowed again." : "."), "Reset", Boolean(l.tripped))) return;
    if (await act("guards", () => post("/api/guards/reset", s.bot ? {bot: s.bot, limit: l.limit} : {scope: s.scope, limit: l.limit}), "It begins anew.")) this.ask(mode);
  }
  edit(mode, s) {
    const limits = {}, d = $("limits");
    for (const l of s.lines) limits[l.limit] = {soft: l.soft, hard: l.hard};
    $("limits-h").textContent = "Limits of the account " + s.scope;
    fill($("limits-list"), levelFields("a-", ACCOUNT_GUARDS, limits, []));
    $("limits-error").hidden = true;
    $("limits-no").onclick = () => d.close();
    $("limits-form").onsubmit = async e => {
      e.preventDefault();
      const found = readLevels("a-", ACCOUNT_GUARDS, []), failed = text => { $("limits-error").textContent = text; $("limits-error").hidden = false; };
      if (!found) { failed("A limit must be a plain number such as 5 or 2.5."); return; }
      $("limits-save").disabled = true;
      try { await post("/api/guards", {scope: s.scope, limits: found, before: limits}); d.close(); toast("Saved."); this.ask(mode); }
      catch (x) { failed(limitWords(x.message)); }
      finally { $("limits-save").disabled = false; }
    };
    d.showModal(); $("limits-list").querySelector("input").focus();
  }
  holdings(mode, x) {
    const mine = s => h("div", {}, h("a", {href: "#bot/" + s.bot_id}, s.name), " " + quantity(s.quantity) + (s.dust ? " + " + quantity(s.dust) + " dust" : ""), isNum(s.worth) ? h("span", {class: "dim"}, " ≈ " + amount(s.worth) + " " + s.quote) : null, s.unsettled ? h("span", {class: "warn"}, " (an order is under way)") : null);
    const whose = {foreign: "not this yard's", orphan: "this yard's, but no bot knows it", unknown: "unknown: a position file can't be read"};
    return [h("h3", {}, "Holdings"), x.settled ? null : h("p", {class: "note small"}, "Bots are trading just now; some figures are told when their orders are booked."),
      x.assets.length ? fold(["Asset", "#Free", "#Locked", "Bots' coins", "#Pots may spend", "#Nobody's", "#Unexplained"], x.assets, a => [td(a.asset, "strong whole"), td(quantity(a.free), "num"), td(a.locked ? quantity(a.locked) : "–", "num dim"), td(a.shares.length ? [a.shares.slice(0, 8).map(mine), a.shares.length > 8 ? h("div", {class: "dim"}, "and " + (a.shares.length - 8) + " more") : null, a.missing ? h("div", {class: "bad strong"}, quantity(a.missing) + " of them are missing in the account") : null] : "–", "whole"), td(a.pots === 0 ? "–" : orUnknown(a.pots), "num"), td(orUnknown(a.unclaimed), "num"), td(a.unexplained === 0 ? "–" : orUnknown(a.unexplained, n => h("span", {class: "warn strong"}, change(n))), "num")]) : h("p", {class: "small dim"}, "The account holds nothing."),
      x.assets.filter(a => a.pots_word).map(a => h("p", {class: "note warn"}, a.pots_word[0].toUpperCase() + a.pots_word.slice(1) + ".")),
      x.orders && x.orders.length ? [h("h3", {}, "Orders that are no bot's"), h("p", {class: "small dim"}, "They hold coins or money of the account; nothing here touches them."), fold(["Coin", "Side", "Kind", "#Price", "#Quantity", "Whose", "Client id", ""], x.orders, o => [td(o.symbol, "strong whole"), sideCell(o.side), td((o.kind || "").toLowerCase().replaceAll("_", " ")), td(price(isNum(o.price) ? o.price : o.stop_price), "num"), td(quantity(o.quantity) + (o.executed ? ", done " + quantity(o.executed) : ""), "num"), td(whose[o.whose] || o.whose, o.whose === "orphan" ? "warn" : ""), td(o.client_id, "mono tiny whole"), td(o.whose === "orphan" ? h("button", {id: domId("orphan " + o.client_id), class: "btn quiet danger", type: "button", on: {click: () => this.orphan(mode, o)}}, "Take back") : "", "num")])] : null];
  }
  async orphan(mode, o) {
    if (!await ask("Take this order back?", o.side + " " + quantity(o.quantity) + " " + o.symbol + " is cancelled at the exchange. What it had executed shows as unexplained until you take it into the books.", "Take it back", true)) return;
    if (await act("orphan", () => post("/api/cancel-orphan", {mode, client_id: o.client_id}), a => a.text)) this.ask(mode);
  }
  budget(list) {
    const part = (k, used, most) => h("div", {class: "fig"}, h("span", {class: "k"}, k), h("span", {class: "v"}, num(used, 0, 0) + " of " + num(most, 0, 0)), bar(used / most * 100, heat(used / most * 125), k));
    return [h("h3", {}, "Requests to the exchange"), list.map(b => [h("p", {class: "small dim"}, b.host + (b.account === "main" ? "" : ", account " + b.account)), h("p", {class: "note bad strong", "data-until": String(b.banned_until_wall_ms), hidden: !(b.banned_until_wall_ms > wall())}), h("div", {class: "facts"}, part("Weight, this minute", b.used, b.limit), part("Orders, 10 s", b.orders_10s, b.orders_10s_limit), part("Orders, today", b.orders_day, b.orders_day_limit))])];
  }
  // --- machine
  drawMachine() {
    const y = this.yard;
    if (!y) return;
    const m = y.machine || {}, units = Object.entries(y.units || {}), [by, way] = this.sort;
    const value = b => by === "name" ? b.name.toLowerCase() : b.resources && isNum(b.resources[by]) ? b.resources[by] : -1;
    const bots = [...y.bots].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * way);
    const sorter = (key, text) => h("button", {id: "sort-" + key, class: "sort", type: "button", "aria-pressed": String(by === key), on: {click: () => { this.sort = [key, by === key ? -way : key === "name" ? 1 : -1]; this.drawMachine(); }}}, text + (by === key ? way < 0 ? " ↓" : " ↑" : ""));
    const use = (r, limits, key, make) => { const n = r && r[key]; return isNum(n) ? [make(n), limits ? bar(n / limits[key] * 100, heat(n / limits[key] * 100), key.replace("_mb", "").replace("_pct", "") + ", percent of its limit") : null] : "–"; };
    const cores = n => num(n, 0, 1) + " %", names = {yard: "Yard", paper: "Paper exchange", dashboard: "This page"};
    const line = (name, r, limits, id) => h("tr", {}, [td(id ? h("a", {href: "#bot/" + id}, name) : name, "strong whole"), td(use(r, limits, "memory_mb", megabytes)), td(use(r, limits, "cpu_pct", cores)), td(use(r, limits, "disk_mb", megabytes))].map((c, i) => { c.dataset.k = ["", "Memory", "Processor", "Files"][i]; return c; }));
    redraw(this.machineBody, [y.machine, y.units, y.bots, y.warnings, this.sort], () => [
      y.warnings.map(t => h("p", {class: "note warn"}, t + ".")),
      h("div", {class: "facts"}, fig("Free on the disk", megabytes(m.disk_free_mb)), fig("Memory left", megabytes(m.memory_available_mb)), fig("Load", isNum(m.load) ? num(m.load) : "–")),
      units.length || bots.length ? h("table", {class: "fold sorts"}, h("thead", {}, h("tr", {}, [["name", "Process"], ["memory_mb", "Memory"], ["cpu_pct", "Processor"], ["disk_mb", "Files"]].map(([k, t]) => h("th", {scope: "col", "aria-sort": by === k ? way < 0 ? "descending" : "ascending" : "none"}, sorter(k, t))))), h("tbody", {}, units.map(([n, r]) => line(names[n] || n, r, null)), bots.map(b => line(b.name, b.resources, b.limits, b.id)))) : h("p", {class: "small dim"}, "Nothing was measured yet.")]);
  }
  tick() {
    for (const n of this.root.querySelectorAll("[data-until]")) { const s = (Number(n.dataset.until) - wall()) / 1000; n.hidden = s <= 0; if (s > 0) n.textContent = "Banned: nothing is sent to this host for " + span(s) + " more."; }
  }
}
function route() {
  const m = /^#bot\/([1-9]\d{0,8})$/.exec(location.hash);
  const from = detail && detail.id;
  if (detail) { detail.close(); detail = null; }
  if (over) { over.close(); over = null; }
  const one = Boolean(m), yard = location.hash === "#yard";
  $("detail").hidden = !one; $("over").hidden = !yard; $("list").hidden = $("home").hidden = one || yard;
  if (yard) { $("to-yard").setAttribute("aria-current", "page"); over = new Over(); over.draw(); scrollTo(0, 0); } else $("to-yard").removeAttribute("aria-current");
  document.title = "Botyard";
  if (one) { detail = new Detail(Number(m[1])); detail.head(); scrollTo(0, 0); }
  if (!view) return;
  // Whoever uses keyboard or screen reader goes on where the view begins, and comes back to the bot that was left.
  const row = !one && !yard && rows.get(from);
  (row && row.node.isConnected ? row.bot.querySelector("button") : $("main")).focus({preventScroll: !row});
  poll();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (detail && detail.data) { detail.equity(); detail.candles(); detail.back.paint(); } });
addEventListener("hashchange", route);
route();
poll();
</script>
</body>
</html>
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
