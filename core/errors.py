"""One exception tree, named by who must act.

Every message says what was wrong and what would be right. The exit codes are
part of the contract with people and supervisors (ARCHITECTURE.md, "Exit codes").
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_BAD_ARGUMENTS = 2
EXIT_ALREADY_RUNNING = 3
EXIT_STATE_UNREADABLE = 4
EXIT_REFUSED = 5


class BotyardError(Exception):
    """The root: anything Botyard raises on purpose."""


# --- the person who set the yard up must act ---------------------------------


class SettingsError(BotyardError):
    """Settings or arguments are wrong; `problems` lists every one of them."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class InputError(BotyardError):
    """A person's or a client's input is wrong; nothing was done."""


class NotFound(InputError):
    """What the input names does not exist."""


class Conflict(InputError):
    """The input is fine, but not now (a position is open, a bot runs, ...)."""


class AlreadyRunning(BotyardError):
    """Another process holds this lock."""

    def __init__(self, message: str, pid: int | None = None):
        self.pid = pid
        super().__init__(message)


class StateError(BotyardError):
    """A file of ours can't be trusted. Nobody trades until a person has mended it.

    `path` is the file, `reason` what is wrong with it, `remedy` the way to mend it.
    """

    def __init__(self, path: object, reason: str, remedy: str):
        self.path, self.reason, self.remedy = str(path), reason, remedy
        super().__init__(f"{path}: {reason}. {remedy}")


# --- the exchange -------------------------------------------------------------


class ExchangeError(BotyardError):
    """Something between us and the exchange. `code` is the exchange's own, if any."""

    def __init__(self, message: str, code: int | None = None, status: int | None = None):
        self.code, self.status = code, status
        super().__init__(message)


class OutcomeUnknown(ExchangeError):
    """The request may or may not have been carried out: ask, never repeat."""


class Unavailable(ExchangeError):
    """A read failed for now (network, timeout, 5xx): try again later."""


class RateLimited(Unavailable):
    """Too many requests. `retry_after_s` is the exchange's word, in seconds."""

    def __init__(self, message: str, retry_after_s: float, code: int | None = None, status: int | None = None):
        self.retry_after_s = retry_after_s
        super().__init__(message, code, status)


class BudgetSpent(RateLimited):
    """Not sent: our own request budget leaves nothing for this kind of request now. More urgent ones may still go."""


class Refused(ExchangeError):
    """The exchange said no for certain: nothing was done, sending again won't help."""


class OrderNotFound(Refused):
    """The exchange knows no such order (yet)."""


class AccessRefused(Refused):
    """Keys, permissions or the address are not accepted: the owner must act (exit 5)."""


class ClockRefused(Refused):
    """The exchange refused the request's time (-1021): nothing was done."""


class Unsupported(Refused):
    """This exchange, market or symbol can't do what was asked; the message names it."""


# --- strategies -----------------------------------------------------------------


class StrategyError(BotyardError):
    """A strategy could not be loaded or broke while it was asked."""


# --- services beside the exchange ----------------------------------------------------


class NewsError(BotyardError):
    """The news or the model's service failed; nobody's trade waits for it.

    `kind` is "key" (the owner must act), "limit" (ask again after `retry_after_s`),
    "down" (try again later) or "answer" (what came can't be used).
    """

    def __init__(self, kind: str, message: str, retry_after_s: float = 0.0):
        self.kind, self.retry_after_s = kind, retry_after_s
        super().__init__(message)
