"""JSON that people and scripts send to /paper/...: read and checked, every refusal in plain words."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from core.errors import InputError
from core.storage import dumps, loads

# What Decimal itself would take besides, such as digits of other scripts, 1_0 or blanks, is a slip of the sender.
_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", re.ASCII)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body; InputError when there is none."""
    try:
        value = loads(body)
        dumps(value).encode()  # half a surrogate pair could be told to nobody again
    except (ValueError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"the body must be a JSON object; this is not valid JSON ({e})") from e
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object")
    return value


def check_keys(value: dict[str, Any], needed: set[str], optional: set[str]) -> None:
    missing = sorted(needed - set(value))
    unknown = sorted(set(value) - needed - optional)
    if missing:
        raise InputError(f"{', '.join(missing)}: must be given")
    if unknown:
        raise InputError(f"{', '.join(unknown)}: not known here; known are {', '.join(sorted(needed | optional))}")


def number(name: str, value: Any, *, low: int | str | None = None, high: int | str | None = None, above: int | None = None, whole: bool = False) -> Decimal:
    """A JSON number (or its text) as Decimal, within its limits."""
    limits = [f"above {above}" if above is not None else "", f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else ""]
    wanted = " ".join(["a whole number" if whole else "a number", *filter(None, limits)])
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise InputError(f"{name}: must be {wanted}")
    if isinstance(value, str) and not _TEXT.fullmatch(value):
        raise InputError(f"{name}: must be {wanted}")
    found = Decimal(value)
    if (
        not found.is_finite()
        or (low is not None and found < Decimal(low))
        or (high is not None and found > Decimal(high))
        or (above is not None and found <= above)
        or (whole and found != found.to_integral_value())
    ):
        raise InputError(f"{name}: must be {wanted}")
    return found
