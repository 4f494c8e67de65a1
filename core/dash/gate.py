"""Who may speak to the page: known hosts, the same origin, a login with limited tries.

Owns `data/dashboard_secret.json` (the key that signs session cookies, 0600).

The check by headers needs no token: browsers tell `Sec-Fetch-Site` and `Origin`
themselves and no page can forge them (Fetch Metadata, W3C; Origin, RFC 6454). The
check of `Host` stops DNS rebinding, where a foreign name is made to point here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from werkzeug.security import check_password_hash, generate_password_hash

from core.config import Settings
from core.storage import Files

SECRET_FILE = "data/dashboard_secret.json"  # noqa: S105 - a name
FREE_TRIES = 5
LONGEST_WAIT_S = 300.0
REMEMBERED = 1000  # addresses
ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 - names of the address, nothing is bound here


class Refusal(Exception):
    """Not let in: an HTTP status and what would be right."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        self.status, self.headers = status, dict(headers or {})
        super().__init__(message)


def secret_key(files: Files) -> str:
    """The key that signs session cookies, made once."""
    with files.lock("data/dashboard_secret.lock"):
        value = files.read_json(SECRET_FILE, schema=1)
        if value is None or not isinstance(value.get("key"), str) or len(value["key"]) < 32:
            value = {"schema": 1, "key": secrets.token_hex(32)}
            files.write_json(SECRET_FILE, value, keep_previous=False)
    return str(value["key"])


def split_host(host: str) -> tuple[str, int | None] | None:
    """(name, port) of a Host header; None when it is none."""
    if not host or any(c in host for c in "/@?#\\ ,") or not host.isascii():
        return None
    try:
        parts = urlsplit("//" + host)
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None


class Gate:
    """Checks of one dashboard. `monotonic` gives seconds, for the pauses between tries."""

    def __init__(self, settings: Settings, key: str, monotonic: Callable[[], float]):
        self.port = settings.dashboard_port
        self.user = settings.dashboard_user
        self.monotonic = monotonic
        names = {"127.0.0.1", "localhost", "::1", settings.dashboard_host.strip("[]").lower()}
        self.any_address = settings.dashboard_host in ANY_ADDRESS
        if self.any_address:
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self.names = names
        password = settings.dashboard_password.reveal()
        self.needs_login = bool(password)
        self._hash = generate_password_hash(password) if password else ""
        # A session names the password it was opened with, so that a new password ends it.
        self.epoch = hmac.new(key.encode(), password.encode(), hashlib.sha256).hexdigest()[:32] if password else ""
        self._accepted_key = secrets.token_bytes(32)
        self._accepted: bytes = b""
        self._tries: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    # --- where a request comes from ---------------------------------------------

    def check_host(self, host: str) -> None:
        parts = split_host(host)
        name, port = parts if parts else ("", None)
        known = name in self.names or (self.any_address and _is_address(name))
        if not known or (port if port is not None else 80) != self.port:
            raise Refusal(403, f"This dashboard does not answer to that host; open http://127.0.0.1:{self.port} or the address in DASHBOARD_HOST")

    def check_origin(self, headers: Mapping[str, str], own: str) -> None:
        """`own` is scheme://host:port as the client asked for it. Neither header: a script, let through."""
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        if site is not None and site not in ("same-origin", "none"):
            raise Refusal(403, "The request comes from another site; use the dashboard's own page")
        if origin is not None and origin != own:
            raise Refusal(403, "The request's Origin is another site's; use the dashboard's own page")

    # --- the login ---------------------------------------------------------------

    def check_password(self, user: str, password: str, address: str) -> bool:
        """True for the right ones. Refusal 429 while this address has to wait."""
        with self._lock:
            count, until = self._tries.get(address, (0, 0.0))
            wait = until - self.monotonic()
            if wait > 0:
                raise Refusal(429, f"Too many tries; wait {int(wait) + 1} s", {"Retry-After": str(int(wait) + 1)})
            # Counted before it is known to be wrong, so that tries side by side don't slip through.
            count += 1
            pause = min(2.0 ** (count - FREE_TRIES), LONGEST_WAIT_S) if count >= FREE_TRIES else 0.0
            self._tries[address] = (count, self.monotonic() + pause)
            while len(self._tries) > REMEMBERED:
                self._tries.pop(next(iter(self._tries)))
        right_user = hmac.compare_digest(user.encode(), self.user.encode())
        right_password = check_password_hash(self._hash, password[:1000])
        if right_user and right_password:
            with self._lock:
                self._tries.pop(address, None)
            return True
        return False

    def check_basic(self, header: str, address: str) -> bool:
        """HTTP Basic, for scripts. The hash is slow on purpose, so what was right once is remembered."""
        kind, _, coded = header.partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            user, colon, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return False
        if not colon:
            return False
        mark = hmac.new(self._accepted_key, f"{user}\0{password}".encode(), hashlib.sha256).digest()
        if self._accepted and hmac.compare_digest(mark, self._accepted):
            return True
        if not self.check_password(user, password, address):
            return False
        self._accepted = mark
        return True

    def check_session(self, epoch: object) -> bool:
        return isinstance(epoch, str) and hmac.compare_digest(epoch, self.epoch)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
